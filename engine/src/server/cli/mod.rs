//! The command line: `understudy initdb | pg_ctl | postgres`, or a link of that name, and the programs that PostgreSQL
//! does not have or that an image without a shell lacks. Words and exit codes are PostgreSQL 15's.
//!
//! What the programs do below the command line (making a cluster's catalogs, running a server) comes in through
//! [`Programs`], because it is wired above this room.

pub mod amcheck;
pub mod archive_copy;
pub mod base_backup;
pub mod initdb;
pub mod os_user;
pub mod pg_ctl;
pub mod pid_file;
pub mod postgres;
pub mod process;
pub mod signals;
pub mod sql;
pub mod walstats;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use archive_copy::Direction;

pub use amcheck::{Report, Request as CheckRequest};
pub use initdb::NewCluster;
pub use postgres::ServerStart;
pub use walstats::{KindCount, Request as WalStatsRequest};

pub const VERSION: &str = "15.20 (Understudy 0.1.0)";

/// What is wired above: `node/`.
pub trait Programs {
    /// Fills `global/`, `base/`, `pg_wal/` and the rest of a new cluster, durably. The directories exist.
    fn bootstrap(&self, cluster: &NewCluster) -> Result<(), String>;
    /// Looks for damage in the tables and indexes of a cluster whose server has been stopped.
    fn amcheck(&self, request: &CheckRequest) -> Result<Report, String>;
    /// Reads a cluster's log and counts its records by kind.
    fn walstats(&self, request: &WalStatsRequest) -> Result<Vec<KindCount>, String>;
    /// Runs a server until it is told to stop; gives the exit code of ARCHITECTURE.md, or ends the process with it itself.
    fn serve(&self, start: ServerStart) -> u8;
}

/// Runs the program that the arguments name.
pub fn main(args: Vec<OsString>, programs: &dyn Programs) -> ExitCode {
    let args: Vec<String> = args
        .into_iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let called = args.first().map(String::as_str).unwrap_or("understudy");
    let called = Path::new(called)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned());
    let (name, rest) = match called.as_deref() {
        Some(name @ ("initdb" | "pg_ctl" | "postgres" | "postmaster")) => {
            (name.to_owned(), args.get(1..).unwrap_or(&[]))
        }
        _ => match args.get(1) {
            Some(name) => (name.clone(), &args[2..]),
            None => {
                eprint!("{USAGE}");
                return ExitCode::FAILURE;
            }
        },
    };
    let code = match name.as_str() {
        "amcheck" => amcheck::main(rest, programs),
        "archive-copy" => archive_copy::main(Direction::Archive, rest),
        "restore-copy" => archive_copy::main(Direction::Restore, rest),
        "sql" => sql::main(rest),
        "walstats" => walstats::main(rest, programs),
        "initdb" => initdb::main(rest, programs),
        "pg_ctl" => pg_ctl::main(rest, programs),
        "basebackup" => base_backup::main(rest),
        "postgres" | "postmaster" => postgres::main(rest, programs),
        "--version" | "-V" => {
            println!("understudy (PostgreSQL) {VERSION}");
            0
        }
        "--help" | "-?" | "help" => {
            print!("{USAGE}");
            0
        }
        other => {
            eprintln!("understudy: unknown command \"{other}\"");
            eprintln!("Try \"understudy --help\" for more information.");
            1
        }
    };
    ExitCode::from(code)
}

const USAGE: &str = "\
understudy is a PostgreSQL-compatible database server.

Usage:
  understudy initdb [OPTION]... [DATADIR]
  understudy pg_ctl start|stop|restart|reload|status|promote [OPTION]...
  understudy postgres [OPTION]...
  understudy basebackup -D DATADIR -d CONNINFO [OPTION]...
  understudy sql [OPTION]... [DBNAME [USERNAME]]
  understudy archive-copy SOURCE TARGET
  understudy restore-copy SOURCE TARGET
  understudy amcheck [OPTION]... [DATADIR]
  understudy walstats [OPTION]... [DATADIR]

A link called initdb, pg_ctl or postgres runs that command.
";

/// Options of one program, walked in order: `-D dir`, `-Ddir`, `--pgdata dir`, `--pgdata=dir`.
pub struct Options<'a> {
    program: &'static str,
    args: &'a [String],
    at: usize,
    /// The rest of a cluster of short options.
    cluster: Option<&'a str>,
}

/// One thing on the command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    Short(char),
    /// With the value behind `=`, if there is one.
    Long(&'a str, Option<&'a str>),
    Plain(&'a str),
}

impl<'a> Options<'a> {
    pub fn new(program: &'static str, args: &'a [String]) -> Options<'a> {
        Options {
            program,
            args,
            at: 0,
            cluster: None,
        }
    }

    /// The next argument; `None` at the end.
    pub fn take(&mut self) -> Option<Argument<'a>> {
        if let Some(cluster) = self.cluster.take()
            && let Some(c) = cluster.chars().next()
        {
            self.cluster = Some(&cluster[c.len_utf8()..]);
            return Some(Argument::Short(c));
        }
        let arg = self.args.get(self.at)?;
        self.at += 1;
        if let Some(long) = arg.strip_prefix("--") {
            return Some(match long.split_once('=') {
                Some((name, value)) => Argument::Long(name, Some(value)),
                None => Argument::Long(long, None),
            });
        }
        if arg.len() > 1
            && let Some(short) = arg.strip_prefix('-')
        {
            let c = short.chars().next().expect("longer than the dash");
            self.cluster = Some(&short[c.len_utf8()..]);
            return Some(Argument::Short(c));
        }
        Some(Argument::Plain(arg))
    }

    /// The value of the option that was just taken.
    pub fn value(&mut self, option: &Argument<'a>) -> Result<&'a str, Usage> {
        if let Argument::Long(_, Some(value)) = option {
            return Ok(value);
        }
        if let Some(rest) = self.cluster.take().filter(|r| !r.is_empty()) {
            return Ok(rest);
        }
        let value = self.args.get(self.at);
        self.at += 1;
        value.map(String::as_str).ok_or_else(|| match option {
            Argument::Short(c) => self.usage(&format!("option requires an argument -- '{c}'")),
            Argument::Long(name, _) => {
                self.usage(&format!("option '--{name}' requires an argument"))
            }
            Argument::Plain(_) => unreachable!("plain arguments have no value"),
        })
    }

    /// The option is not known.
    pub fn unknown(&self, option: &Argument<'_>) -> Usage {
        match option {
            Argument::Short(c) => self.usage(&format!("invalid option -- '{c}'")),
            Argument::Long(name, _) => self.usage(&format!("unrecognized option '--{name}'")),
            Argument::Plain(word) => self.usage(&format!(
                "error: too many command-line arguments (first is \"{word}\")"
            )),
        }
    }

    fn usage(&self, what: &str) -> Usage {
        // Each program of PostgreSQL's has its own way of saying so.
        let lead = match self.program {
            "initdb" => "initdb: hint: ",
            _ => "",
        };
        Usage(format!(
            "{0}: {what}\n{lead}Try \"{0} --help\" for more information.",
            self.program
        ))
    }
}

/// A command line that makes no sense; the text goes to stderr and the exit code is 1.
#[derive(Debug)]
pub struct Usage(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_getopt_reads_them() {
        let args: Vec<String> = [
            "-wD",
            "/d",
            "-l/log",
            "--mode=fast",
            "--pgdata",
            "/e",
            "start",
            "-",
        ]
        .map(str::to_owned)
        .into();
        let mut o = Options::new("pg_ctl", &args);
        assert_eq!(o.take(), Some(Argument::Short('w')));
        let d = o.take().expect("more");
        assert_eq!(o.value(&d).expect("a value"), "/d");
        let l = o.take().expect("more");
        assert_eq!(
            (&l, o.value(&l).expect("a value")),
            (&Argument::Short('l'), "/log")
        );
        let m = o.take().expect("more");
        assert_eq!(o.value(&m).expect("a value"), "fast");
        let p = o.take().expect("more");
        assert_eq!(o.value(&p).expect("a value"), "/e");
        assert_eq!(o.take(), Some(Argument::Plain("start")));
        assert_eq!(o.take(), Some(Argument::Plain("-")));
        assert_eq!(o.take(), None);
        assert!(o.value(&Argument::Short('D')).is_err());
    }
}
