//! `understudy amcheck`: looks for damage in every table and index of a cluster that was shut down. On a running
//! server the function `understudy_check()` does the same. Exit codes are `pg_amcheck`'s: 0 nothing found, 2 damage
//! found, 1 could not look.

use std::path::PathBuf;

use super::{Argument, Options, Programs, Usage, VERSION};

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub data_directory: PathBuf,
    /// Only this database.
    pub database: Option<String>,
    /// Only the tables and indexes of these names, with or without their schema.
    pub relations: Vec<String>,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub databases: usize,
    pub relations: usize,
    pub findings: Vec<String>,
    /// Files that no relation has: waste that a crash left, no damage.
    pub leftovers: Vec<String>,
}

const CLEAN: u8 = 0;
const FAILED: u8 = 1;
const DAMAGED: u8 = 2;

const HELP: &str = "\
amcheck looks for damage in the tables and indexes of a database cluster that was shut down.

Usage:
  understudy amcheck [OPTION]... [DATADIR]

Options:
 [-D, --pgdata=]DATADIR    data directory
  -d, --database=DBNAME    check this database only
  -t, --table=NAME         check this table or index only; may be repeated
  -q, --quiet              print findings only
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit

Exit code 0: nothing found; 2: damage found; 1: could not be checked.
On a running server use SELECT * FROM understudy_check().
";

enum Parsed {
    Run(Request, bool),
    Done,
}

pub fn main(args: &[String], programs: &dyn Programs) -> u8 {
    let (request, quiet) = match parse(args) {
        Ok(Parsed::Run(request, quiet)) => (request, quiet),
        Ok(Parsed::Done) => return CLEAN,
        Err(Usage(text)) => {
            eprintln!("{text}");
            return FAILED;
        }
    };
    match programs.amcheck(&request) {
        Ok(report) => print(&report, quiet),
        Err(reason) => {
            eprintln!("amcheck: error: {reason}");
            FAILED
        }
    }
}

fn print(report: &Report, quiet: bool) -> u8 {
    for finding in &report.findings {
        println!("{finding}");
    }
    if !quiet {
        for file in &report.leftovers {
            println!("note: file \"{file}\" belongs to no relation");
        }
        println!(
            "{} relations in {} databases checked, {} findings",
            report.relations,
            report.databases,
            report.findings.len()
        );
    }
    if report.findings.is_empty() {
        CLEAN
    } else {
        DAMAGED
    }
}

fn parse(args: &[String]) -> Result<Parsed, Usage> {
    let mut o = Options::new("amcheck", args);
    let mut directory = std::env::var_os("PGDATA").map(PathBuf::from);
    let (mut database, mut relations, mut quiet) = (None, Vec::new(), false);
    while let Some(arg) = o.take() {
        match &arg {
            Argument::Short('D') | Argument::Long("pgdata", _) => {
                directory = Some(PathBuf::from(o.value(&arg)?));
            }
            Argument::Short('d') | Argument::Long("database", _) => {
                database = Some(o.value(&arg)?.to_owned());
            }
            Argument::Short('t') | Argument::Long("table" | "index", _) => {
                relations.push(o.value(&arg)?.to_owned());
            }
            Argument::Short('q') | Argument::Long("quiet", None) => quiet = true,
            Argument::Short('V') | Argument::Long("version", None) => {
                println!("amcheck (PostgreSQL) {VERSION}");
                return Ok(Parsed::Done);
            }
            Argument::Short('?') | Argument::Long("help", None) => {
                print!("{HELP}");
                return Ok(Parsed::Done);
            }
            Argument::Plain(path) => directory = Some(PathBuf::from(path)),
            _ => return Err(o.unknown(&arg)),
        }
    }
    let data_directory = directory.ok_or_else(|| {
        Usage("amcheck: error: no data directory specified\nYou must identify the directory with the -D option or the environment variable PGDATA.".to_owned())
    })?;
    Ok(Parsed::Run(
        Request {
            data_directory,
            database,
            relations,
        },
        quiet,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_to_check() {
        let args: Vec<String> = ["-D", "/d", "--database=app", "-t", "public.t", "-qti"]
            .map(str::to_owned)
            .into();
        let Ok(Parsed::Run(request, quiet)) = parse(&args) else {
            panic!("refused");
        };
        assert!(quiet);
        assert_eq!(request.data_directory, PathBuf::from("/d"));
        assert_eq!(request.database.as_deref(), Some("app"));
        assert_eq!(request.relations, ["public.t", "i"]);
        assert!(parse(&["--nonsense".to_owned()]).is_err());
    }
}
