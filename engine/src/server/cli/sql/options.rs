//! The command line of `understudy sql`, and which server, database and user it comes to.

use std::path::Path;

use super::PROGRAM;
use super::session::eprint_all;
use super::table::{Format, Layout};
use crate::config::conninfo::ConnInfo;
use crate::config::value::parse_bool;
use crate::server::cli::{Argument, Options, Usage, VERSION, os_user};

/// Where an instance in a pod has its socket. Whoever comes from there is the superuser (`pg_hba.conf` of the pod).
const POD_SOCKET_DIRECTORY: &str = "/run/understudy";

const HELP: &str = "\
understudy sql is a small client, for where there is no psql.

Usage:
  understudy sql [OPTION]... [DBNAME [USERNAME]]

General options:
  -c, --command=COMMAND    run one command, SQL or backslash, and end
  -f, --file=FILE          run the commands of a file and end; - is standard input
  -v, --set, --variable=ON_ERROR_STOP=on
                           stop at the first error of a script, with exit code 3
  -1, --single-transaction
                           run the commands of -c and -f as one transaction
  -X, --no-psqlrc          for psql's users: there never is a start-up file
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit

Output options:
  -A, --no-align           unaligned output
      --csv                CSV output
  -F, --field-separator=STRING
                           between unaligned fields (\"|\" by default)
  -q, --quiet              results only
  -t, --tuples-only        rows only
  -x, --expanded           a line for each field

Connection options:
  -d, --dbname=DBNAME      database, connection string or postgresql:// address
  -h, --host=HOSTNAME      host or socket directory
  -p, --port=PORT          port
  -U, --username=NAME      user
  -w, --no-password        for psql's users: passwords are never asked for

Without -h and PGHOST it connects to the socket in /run/understudy, where there is
one, as postgres; else as psql does. Passwords come from PGPASSWORD, PGPASSFILE or
~/.pgpass. PGPORT, PGUSER and PGDATABASE are heeded.
";

/// One `-c` or `-f`.
pub enum Action {
    Command(String),
    File(String),
}

/// What was asked for.
#[derive(Default)]
pub struct Given {
    pub actions: Vec<Action>,
    pub format: Format,
    pub is_quiet: bool,
    pub on_error_stop: bool,
    pub single_transaction: bool,
    pub database: Option<String>,
    pub host: Option<String>,
    pub port: Option<String>,
    pub user: Option<String>,
}

fn wrong(text: impl std::fmt::Display) -> Usage {
    Usage(format!(
        "{PROGRAM}: error: {text}\nTry \"{PROGRAM} --help\" for more information."
    ))
}

/// `None` where there is nothing more to do.
pub fn parse(args: &[String]) -> Result<Option<Given>, Usage> {
    let mut o = Options::new(PROGRAM, args);
    let mut g = Given::default();
    let mut plain = Vec::new();
    while let Some(arg) = o.take() {
        match &arg {
            Argument::Short('?') | Argument::Long("help", None) => {
                return done(HELP);
            }
            Argument::Short('V') | Argument::Long("version", None) => {
                return done(&format!("{PROGRAM} (PostgreSQL) {VERSION}\n"));
            }
            Argument::Short('c') | Argument::Long("command", _) => {
                g.actions.push(Action::Command(o.value(&arg)?.to_owned()));
            }
            Argument::Short('f') | Argument::Long("file", _) => {
                g.actions.push(Action::File(o.value(&arg)?.to_owned()));
            }
            Argument::Short('v') | Argument::Long("set" | "variable", _) => {
                g.on_error_stop = on_error_stop(o.value(&arg)?)?;
            }
            Argument::Short('1') | Argument::Long("single-transaction", None) => {
                g.single_transaction = true;
            }
            Argument::Short('A') | Argument::Long("no-align", None) => {
                g.format.layout = Layout::Unaligned;
            }
            Argument::Long("csv", None) => g.format.layout = Layout::Csv,
            Argument::Short('F') | Argument::Long("field-separator", _) => {
                o.value(&arg)?.clone_into(&mut g.format.separator);
            }
            Argument::Short('q') | Argument::Long("quiet", None) => g.is_quiet = true,
            Argument::Short('t') | Argument::Long("tuples-only", None) => g.format.is_bare = true,
            Argument::Short('x') | Argument::Long("expanded", None) => g.format.is_expanded = true,
            Argument::Short('X' | 'w') | Argument::Long("no-psqlrc" | "no-password", None) => {}
            Argument::Short('W') | Argument::Long("password", None) => {
                return Err(wrong(
                    "passwords are not asked for: set PGPASSWORD, or PGPASSFILE to a password file, or use psql",
                ));
            }
            Argument::Short('d') | Argument::Long("dbname", _) => {
                g.database = Some(o.value(&arg)?.to_owned());
            }
            Argument::Short('h') | Argument::Long("host", _) => {
                g.host = Some(o.value(&arg)?.to_owned());
            }
            Argument::Short('p') | Argument::Long("port", _) => {
                g.port = Some(o.value(&arg)?.to_owned());
            }
            Argument::Short('U') | Argument::Long("username", _) => {
                g.user = Some(o.value(&arg)?.to_owned());
            }
            Argument::Plain(word) => plain.push((*word).to_owned()),
            _ => return Err(o.unknown(&arg)),
        }
    }
    place_words(&mut g, plain);
    if g.single_transaction && g.actions.is_empty() {
        return Err(wrong("-1 can only be used in non-interactive mode"));
    }
    Ok(Some(g))
}

fn done(text: &str) -> Result<Option<Given>, Usage> {
    print!("{text}");
    Ok(None)
}

fn on_error_stop(setting: &str) -> Result<bool, Usage> {
    let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
    match parse_bool(value) {
        Some(is_on) if name == "ON_ERROR_STOP" => Ok(is_on),
        None if name == "ON_ERROR_STOP" => Err(wrong(format!(
            "unrecognized value \"{value}\" for \"ON_ERROR_STOP\": Boolean expected"
        ))),
        _ => Err(wrong(format!(
            "variable \"{name}\" is not known here, only ON_ERROR_STOP is; psql has variables"
        ))),
    }
}

/// The database and the user where they stand without an option.
fn place_words(g: &mut Given, words: Vec<String>) {
    let mut words = words.into_iter();
    for place in [&mut g.database, &mut g.user] {
        if place.is_none() {
            *place = words.next();
        }
    }
    for word in words {
        eprint_all(&format!(
            "{PROGRAM}: warning: extra command-line argument \"{word}\" ignored\n"
        ));
    }
}

/// Where to go, and to which database.
pub struct Target {
    pub conninfo: ConnInfo,
    pub database: String,
    pub user: String,
}

impl Given {
    /// # Errors
    /// If the connection string, or a part of it, cannot be read.
    pub fn target(&self) -> Result<Target, String> {
        let text = self.database.as_deref().unwrap_or_default();
        let is_conninfo = text.contains('=') || text.starts_with("postgres");
        let is_conninfo = is_conninfo && (text.contains('=') || text.contains("://"));
        let mut conninfo = ConnInfo::parse(if is_conninfo { text } else { "" })
            .map_err(|error| error.to_string())?;
        let name = Some(text).filter(|name| !is_conninfo && !name.is_empty());
        let in_pod = Path::new(POD_SOCKET_DIRECTORY).is_dir();
        for (keyword, value, variable) in [
            ("host", self.host.as_deref(), "PGHOST"),
            ("port", self.port.as_deref(), "PGPORT"),
            ("user", self.user.as_deref(), "PGUSER"),
            ("dbname", name, "PGDATABASE"),
        ] {
            let of_environment = || std::env::var(variable).ok().filter(|v| !v.is_empty());
            let value = match value {
                // A connection string has the last word, as in libpq.
                _ if conninfo.get(keyword).is_some() => None,
                Some(value) => Some(value.to_owned()),
                None => of_environment().or_else(|| match keyword {
                    "host" if in_pod && conninfo.get("hostaddr").is_none() => {
                        Some(POD_SOCKET_DIRECTORY.to_owned())
                    }
                    "user" if in_pod => Some("postgres".to_owned()),
                    "user" => Some(os_user::current_name()),
                    _ => None,
                }),
            };
            if let Some(value) = value {
                conninfo
                    .set(keyword, &value)
                    .map_err(|error| error.to_string())?;
            }
        }
        conninfo.endpoints().map_err(|error| error.to_string())?;
        let user = conninfo.user().unwrap_or("postgres").to_owned();
        Ok(Target {
            database: conninfo.dbname().unwrap_or(&user).to_owned(),
            user,
            conninfo,
        })
    }
}
