//! `initdb`'s command line, checked.

use std::path::PathBuf;

use crate::config::scram::Verifier;
use crate::server::cli::{Argument, Options, Usage, VERSION, os_user};

/// What the catalogs of a new cluster are made from.
#[derive(Debug, Clone)]
pub struct NewCluster {
    pub data_directory: PathBuf,
    pub superuser: String,
    /// The verifier of the superuser's password.
    pub password: Option<String>,
    pub checksums: bool,
    /// Bytes.
    pub wal_segment_size: u32,
    /// `C`, `POSIX` or `C.UTF-8`, for `datcollate` and `datctype`.
    pub locale: String,
}

pub(super) struct Plan {
    pub cluster: NewCluster,
    pub auth_local: String,
    pub auth_host: String,
    pub wal_directory: Option<PathBuf>,
    pub encoding_given: bool,
    pub sync: bool,
    pub clean: bool,
    pub instructions: bool,
    pub warn_about_trust: bool,
    /// What `postgresql.conf` sets `timezone` and `log_timezone` to.
    pub time_zone: String,
}

pub(super) enum Outcome {
    Make(Box<Plan>),
    Done,
}

const HELP: &str = "\
initdb initializes a PostgreSQL database cluster.

Usage:
  initdb [OPTION]... [DATADIR]

Options:
  -A, --auth=METHOD         default authentication method for local connections
      --auth-host=METHOD    default authentication method for local TCP/IP connections
      --auth-local=METHOD   default authentication method for local-socket connections
 [-D, --pgdata=]DATADIR     location for this database cluster
  -E, --encoding=ENCODING   set default encoding for new databases (UTF8)
      --locale=LOCALE       set default locale for new databases (C, POSIX or C.UTF-8)
      --no-locale           equivalent to --locale=C
      --pwfile=FILE         read password for the new superuser from file
  -U, --username=NAME       database superuser name
  -X, --waldir=WALDIR       location for the write-ahead log directory
      --wal-segsize=SIZE    size of WAL segments, in megabytes
  -k, --data-checksums      use data page checksums (the default)
      --no-data-checksums   do not use data page checksums
  -n, --no-clean            do not clean up after errors
  -N, --no-sync             do not wait for changes to be written safely to disk
      --no-instructions     do not print instructions for next steps
  -V, --version             output version information, then exit
  -?, --help                show this help, then exit
";

#[derive(Default)]
struct Raw {
    directory: Option<String>,
    auth_local: Option<String>,
    auth_host: Option<String>,
    encoding: Option<String>,
    locale: Option<String>,
    password_file: Option<String>,
    user: Option<String>,
    wal_directory: Option<String>,
    segment_mb: Option<String>,
    no_checksums: bool,
    no_sync: bool,
    no_clean: bool,
    no_instructions: bool,
}

fn error(text: impl std::fmt::Display) -> Usage {
    Usage(format!("initdb: error: {text}"))
}

fn with_hint(text: impl std::fmt::Display, hint: &str) -> Usage {
    Usage(format!("initdb: error: {text}\ninitdb: hint: {hint}"))
}

pub(super) fn parse(args: &[String]) -> Result<Outcome, Usage> {
    let mut o = Options::new("initdb", args);
    let mut raw = Raw::default();
    while let Some(arg) = o.take() {
        let name = match &arg {
            Argument::Short(c) => match c {
                'A' => "auth",
                'D' => "pgdata",
                'E' => "encoding",
                'U' => "username",
                'X' => "waldir",
                'k' => "data-checksums",
                'n' => "no-clean",
                'N' => "no-sync",
                'W' => "pwprompt",
                'V' => "version",
                '?' => "help",
                _ => return Err(o.unknown(&arg)),
            },
            Argument::Long(name, _) => name,
            Argument::Plain(word) if raw.directory.is_none() => {
                raw.directory = Some((*word).to_owned());
                continue;
            }
            Argument::Plain(_) => return Err(o.unknown(&arg)),
        };
        match name {
            "auth" => {
                let method = o.value(&arg)?.to_owned();
                raw.auth_local = Some(method.clone());
                raw.auth_host = Some(method);
            }
            "auth-local" => raw.auth_local = Some(o.value(&arg)?.to_owned()),
            "auth-host" => raw.auth_host = Some(o.value(&arg)?.to_owned()),
            "pgdata" => raw.directory = Some(o.value(&arg)?.to_owned()),
            "encoding" => raw.encoding = Some(o.value(&arg)?.to_owned()),
            "locale" | "lc-collate" | "lc-ctype" => raw.locale = Some(o.value(&arg)?.to_owned()),
            "lc-messages" | "lc-monetary" | "lc-numeric" | "lc-time" | "locale-provider" => {
                check_locale(o.value(&arg)?, name)?;
            }
            "no-locale" => raw.locale = Some("C".to_owned()),
            "pwfile" => raw.password_file = Some(o.value(&arg)?.to_owned()),
            "username" => raw.user = Some(o.value(&arg)?.to_owned()),
            "waldir" => raw.wal_directory = Some(o.value(&arg)?.to_owned()),
            "wal-segsize" => raw.segment_mb = Some(o.value(&arg)?.to_owned()),
            "data-checksums" => raw.no_checksums = false,
            "no-data-checksums" => raw.no_checksums = true,
            "no-clean" | "noclean" => raw.no_clean = true,
            "no-sync" | "nosync" => raw.no_sync = true,
            "no-instructions" => raw.no_instructions = true,
            "pwprompt" => {
                return Err(with_hint(
                    "asking for the password (-W) is not implemented",
                    "Put the password into a file and name it with --pwfile.",
                ));
            }
            "version" => {
                println!("initdb (PostgreSQL) {VERSION}");
                return Ok(Outcome::Done);
            }
            "help" => {
                print!("{HELP}");
                return Ok(Outcome::Done);
            }
            _ => return Err(o.unknown(&arg)),
        }
    }
    check(raw).map(|p| Outcome::Make(Box::new(p)))
}

fn check(raw: Raw) -> Result<Plan, Usage> {
    let directory = raw
        .directory
        .or_else(|| std::env::var("PGDATA").ok().filter(|d| !d.is_empty()))
        .ok_or_else(|| {
            with_hint(
                "no data directory specified",
                "You must identify the directory where the data for this database system will reside.  Do this with either the invocation option -D or the environment variable PGDATA.",
            )
        })?;
    let directory = std::path::absolute(&directory).unwrap_or_else(|_| PathBuf::from(&directory));
    if let Some(e) = &raw.encoding
        && !matches!(
            e.to_ascii_lowercase().replace('-', "").as_str(),
            "utf8" | "unicode"
        )
    {
        return Err(with_hint(
            format!("encoding \"{e}\" is not implemented"),
            "Use --encoding=UTF8.",
        ));
    }
    let locale = match &raw.locale {
        Some(l) => check_locale(l, "locale")?,
        None => locale_of_environment(),
    };
    let user = raw.user.unwrap_or_else(os_user::current_name);
    if user.starts_with("pg_") {
        return Err(error(format!(
            "superuser name \"{user}\" is disallowed; role names cannot begin with \"pg_\""
        )));
    }
    let warn_about_trust = raw.auth_local.is_none() || raw.auth_host.is_none();
    let auth_local = check_auth(raw.auth_local.as_deref(), "local")?;
    let auth_host = check_auth(raw.auth_host.as_deref(), "host")?;
    let password = raw
        .password_file
        .as_deref()
        .map(read_password)
        .transpose()?;
    let wants_password = |m: &str| matches!(m, "scram-sha-256" | "md5");
    if password.is_none() && (wants_password(&auth_local) || wants_password(&auth_host)) {
        return Err(error(
            "must specify a password for the superuser to enable password authentication",
        ));
    }
    let wal_directory = raw.wal_directory.map(PathBuf::from);
    if wal_directory.as_ref().is_some_and(|d| !d.is_absolute()) {
        return Err(error("WAL directory location must be an absolute path"));
    }
    Ok(Plan {
        encoding_given: raw.encoding.is_some(),
        cluster: NewCluster {
            data_directory: directory,
            superuser: user,
            password: password.map(|p| Verifier::of_password(&p).to_string()),
            checksums: !raw.no_checksums,
            wal_segment_size: segment_size(raw.segment_mb.as_deref())?,
            locale,
        },
        auth_local,
        auth_host,
        wal_directory,
        sync: !raw.no_sync,
        clean: !raw.no_clean,
        instructions: !raw.no_instructions,
        warn_about_trust,
        time_zone: time_zone(),
    })
}

fn segment_size(megabytes: Option<&str>) -> Result<u32, Usage> {
    let Some(text) = megabytes else {
        return Ok(16 << 20);
    };
    let n: u32 = text
        .parse()
        .map_err(|_| error("argument of --wal-segsize must be a number"))?;
    if !n.is_power_of_two() || n > 1024 {
        return Err(error(
            "argument of --wal-segsize must be a power of 2 between 1 and 1024",
        ));
    }
    Ok(n << 20)
}

fn canonical_locale(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "c" => Some("C"),
        "posix" => Some("POSIX"),
        "c.utf-8" | "c.utf8" => Some("C.UTF-8"),
        _ => None,
    }
}

fn check_locale(name: &str, option: &str) -> Result<String, Usage> {
    if option == "locale-provider" {
        return match name {
            "libc" => Ok(name.to_owned()),
            _ => Err(with_hint(
                format!("locale provider \"{name}\" is not implemented"),
                "Use --locale-provider=libc.",
            )),
        };
    }
    canonical_locale(name).map(str::to_owned).ok_or_else(|| {
        with_hint(
            format!("locale \"{name}\" is not implemented"),
            "Use --no-locale, or --locale=C.UTF-8 for case conversion of all letters.",
        )
    })
}

/// An unusable locale of the environment is no reason to fail: nobody asked for it here.
fn locale_of_environment() -> String {
    let name = ["LC_ALL", "LC_COLLATE", "LANG"]
        .iter()
        .find_map(|v| std::env::var(v).ok().filter(|v| !v.is_empty()))
        .unwrap_or_else(|| "C".to_owned());
    match canonical_locale(&name) {
        Some(l) => l.to_owned(),
        None => {
            eprintln!(
                "initdb: warning: locale \"{name}\" of the environment is not implemented, using \"C\""
            );
            "C".to_owned()
        }
    }
}

fn check_auth(method: Option<&str>, kind: &str) -> Result<String, Usage> {
    let method = method.unwrap_or("trust");
    let known = match method {
        "trust" | "reject" | "scram-sha-256" | "md5" => true,
        "peer" => kind == "local",
        _ => false,
    };
    if known {
        Ok(method.to_owned())
    } else {
        Err(with_hint(
            format!("invalid authentication method \"{method}\" for \"{kind}\" connections"),
            "Available methods: trust, reject, scram-sha-256, md5, and peer for local connections.",
        ))
    }
}

fn read_password(path: &str) -> Result<String, Usage> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        error(format!(
            "could not open file \"{path}\" for reading: {}",
            crate::config::conf_file::os_message(&e)
        ))
    })?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(error(format!("password file \"{path}\" is empty"))),
    }
}

fn time_zone() -> String {
    jiff::tz::TimeZone::system()
        .iana_name()
        .unwrap_or("Etc/UTC")
        .to_owned()
}
