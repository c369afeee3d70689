//! `understudy walstats`: counts the records of a cluster's log by kind, those that never occur included. It only reads,
//! so the server may run.

use std::path::PathBuf;

use super::{Argument, Options, Programs, Usage, VERSION};
use crate::ids::Lsn;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub data_directory: PathBuf,
    /// A record's beginning; without it the last checkpoint's redo point.
    pub start: Option<Lsn>,
    /// Records that begin here or later are not read; without it everything to the end of the log.
    pub end: Option<Lsn>,
}

/// One kind of record, by resource manager and operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindCount {
    /// As `pg_waldump` shows it; above 128 it says only the number.
    pub manager: &'static str,
    pub manager_id: u8,
    pub operation: u8,
    pub name: &'static str,
    pub count: u64,
}

const HELP: &str = "\
walstats counts the records in a database cluster's log by kind.

Usage:
  understudy walstats [OPTION]... [DATADIR]

Options:
 [-D, --pgdata=]DATADIR    data directory
  -s, --start=LSN          begin at the record there (default: the last checkpoint's redo point)
  -e, --end=LSN            stop there (default: the end of the log)
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit

Each line has the manager's name and number, the operation in hexadecimal, its name, and how many there are.
";

enum Parsed {
    Run(Request),
    Done,
}

pub fn main(args: &[String], programs: &dyn Programs) -> u8 {
    let request = match parse(args) {
        Ok(Parsed::Run(request)) => request,
        Ok(Parsed::Done) => return 0,
        Err(Usage(text)) => {
            eprintln!("{text}");
            return 1;
        }
    };
    match programs.walstats(&request) {
        Ok(kinds) => {
            for k in kinds {
                println!(
                    "{}\t{}\t{:02X}\t{}\t{}",
                    k.manager, k.manager_id, k.operation, k.name, k.count
                );
            }
            0
        }
        Err(reason) => {
            eprintln!("walstats: error: {reason}");
            1
        }
    }
}

fn parse(args: &[String]) -> Result<Parsed, Usage> {
    let mut o = Options::new("walstats", args);
    let mut directory = std::env::var_os("PGDATA").map(PathBuf::from);
    let (mut start, mut end) = (None, None);
    let lsn = |text: &str| {
        let problem = || {
            Usage(format!(
                "walstats: error: could not parse WAL location \"{text}\""
            ))
        };
        text.parse::<Lsn>().map(Some).map_err(|_| problem())
    };
    while let Some(arg) = o.take() {
        match &arg {
            Argument::Short('D') | Argument::Long("pgdata", _) => {
                directory = Some(PathBuf::from(o.value(&arg)?));
            }
            Argument::Short('s') | Argument::Long("start", _) => start = lsn(o.value(&arg)?)?,
            Argument::Short('e') | Argument::Long("end", _) => end = lsn(o.value(&arg)?)?,
            Argument::Short('V') | Argument::Long("version", None) => {
                println!("walstats (PostgreSQL) {VERSION}");
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
        Usage("walstats: error: no data directory specified\nYou must identify the directory with the -D option or the environment variable PGDATA.".to_owned())
    })?;
    Ok(Parsed::Run(Request {
        data_directory,
        start,
        end,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_to_read() {
        let args: Vec<String> = ["-s", "0/1000028", "--end=1/0", "/d"]
            .map(str::to_owned)
            .into();
        let Ok(Parsed::Run(request)) = parse(&args) else {
            panic!("refused");
        };
        assert_eq!(request.data_directory, PathBuf::from("/d"));
        assert_eq!(request.start, Some(Lsn::new(0x0100_0028)));
        assert_eq!(request.end, Some(Lsn::new(1 << 32)));
        assert!(parse(&["-s".to_owned(), "x".to_owned()]).is_err());
    }
}
