//! `postgres`: reads options and settings, checks and locks the data directory, and hands over to the node.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pid_file::{OPTIONS_NAME, PidFile};
use super::signals::{self, Events};
use super::{Argument, Options, Programs, Usage, VERSION, os_user};
use crate::config::conf_file::os_message;
use crate::config::error::{Complaint, ConfigError};
use crate::config::registry::registry;
use crate::config::session::Level;
use crate::config::store::{LoadOptions, Settings};
use crate::server::listener::Listeners;
use crate::server::log;
use crate::tls::server::ServerTls;

/// Everything a server starts with. The data directory is locked, the log is set up, signals are listened to, clients
/// can already knock.
pub struct ServerStart {
    pub settings: Arc<Settings>,
    pub pid_file: PidFile,
    pub events: Events,
    pub listeners: Listeners,
    /// `None`: `ssl` is off.
    pub tls: Option<ServerTls>,
}

/// The exit code of a start that was refused.
const REFUSED: u8 = 1;

const HELP: &str = "\
postgres is the PostgreSQL server.

Usage:
  postgres [OPTION]...

Options:
  -B NBUFFERS        number of shared buffers
  -c NAME=VALUE      set run-time parameter
  -C NAME            print value of run-time parameter, then exit
  -D DATADIR         database directory
  -F                 turn fsync off
  -h HOSTNAME        host name or IP address to listen on
  -i                 enable TCP/IP connections
  -k DIRECTORY       Unix-domain socket location
  -N MAX-CONNECT     maximum number of allowed connections
  -p PORT            port number to listen on
  -S WORK-MEM        set amount of memory for sorts (in kB)
  -V, --version      output version information, then exit
  --NAME=VALUE       set run-time parameter
  -?, --help         show this help, then exit
";

struct Command {
    data_directory: Option<String>,
    settings: Vec<(String, String)>,
    print: Option<String>,
}

enum Parsed {
    Run(Command),
    Done(u8),
}

pub fn main(args: &[String], programs: &dyn Programs) -> u8 {
    match parse(args) {
        Ok(Parsed::Run(command)) => run(command, args, programs),
        Ok(Parsed::Done(code)) => code,
        Err(Usage(text)) => {
            eprintln!("{text}");
            REFUSED
        }
    }
}

fn parse(args: &[String]) -> Result<Parsed, Usage> {
    let mut o = Options::new("postgres", args);
    let mut c = Command {
        data_directory: None,
        settings: Vec::new(),
        print: None,
    };
    while let Some(arg) = o.take() {
        let setting = match &arg {
            Argument::Short('D') => {
                c.data_directory = Some(o.value(&arg)?.to_owned());
                continue;
            }
            Argument::Short('C') => {
                c.print = Some(o.value(&arg)?.to_owned());
                continue;
            }
            Argument::Short('c' | '-') => {
                let pair = o.value(&arg)?;
                let Some((name, value)) = pair.split_once('=') else {
                    return Ok(needs_value(&format!("-c {pair}")));
                };
                c.settings.push((name.replace('-', "_"), value.to_owned()));
                continue;
            }
            Argument::Short('B') => "shared_buffers",
            Argument::Short('h') => "listen_addresses",
            Argument::Short('k') => "unix_socket_directories",
            Argument::Short('N') => "max_connections",
            Argument::Short('p') => "port",
            Argument::Short('S') => "work_mem",
            Argument::Short('F') => {
                c.settings.push(("fsync".to_owned(), "off".to_owned()));
                continue;
            }
            Argument::Short('i') => {
                c.settings
                    .push(("listen_addresses".to_owned(), "*".to_owned()));
                continue;
            }
            Argument::Short('V') | Argument::Long("version", None) => {
                println!("postgres (PostgreSQL) {VERSION}");
                return Ok(Parsed::Done(0));
            }
            Argument::Short('?') | Argument::Long("help", None) => {
                print!("{HELP}");
                return Ok(Parsed::Done(0));
            }
            Argument::Long("single" | "boot" | "describe-config", _) => {
                return Err(Usage(
                    "postgres: single-user mode, bootstrap mode and --describe-config are not implemented\nStart a server and connect to it with psql.".to_owned(),
                ));
            }
            Argument::Long(name, Some(value)) => {
                c.settings
                    .push((name.replace('-', "_"), (*value).to_owned()));
                continue;
            }
            Argument::Long(name, None) => {
                return Ok(needs_value(&format!("--{name}")));
            }
            Argument::Short(_) => return Err(o.unknown(&arg)),
            Argument::Plain(word) => {
                return Err(Usage(format!(
                    "postgres: invalid argument: \"{word}\"\nTry \"postgres --help\" for more information."
                )));
            }
        };
        let value = o.value(&arg)?.to_owned();
        c.settings.push((setting.to_owned(), value));
    }
    Ok(Parsed::Run(c))
}

/// PostgreSQL complains of this in its log.
fn needs_value(option: &str) -> Parsed {
    log::fatal(&format!("{option} requires a value"));
    Parsed::Done(REFUSED)
}

fn run(command: Command, args: &[String], programs: &dyn Programs) -> u8 {
    log::install();
    let directory = match data_directory(command.data_directory) {
        Ok(d) => d,
        Err((text, code)) => {
            eprintln!("{text}");
            return code;
        }
    };
    let options = LoadOptions {
        data_directory: directory.clone(),
        command_line: command.settings,
    };
    let (settings, report) = match Settings::load(options) {
        Ok(loaded) => loaded,
        Err(e) => return refused_settings(&e),
    };
    let current = settings.current();
    if let Some(name) = command.print {
        return print_setting(&settings, &name);
    }
    log::configure(&current);
    for note in &report.notes {
        log::complaint(Level::Log, note);
    }
    match prepare(settings, &directory, args) {
        Ok(start) => programs.serve(start),
        Err(c) => {
            log::complaint(Level::Fatal, &c);
            REFUSED
        }
    }
}

/// An absolute path of a directory that exists.
fn data_directory(given: Option<String>) -> Result<PathBuf, (String, u8)> {
    let given = given.or_else(|| std::env::var("PGDATA").ok().filter(|d| !d.is_empty()));
    let given = given.ok_or_else(|| {
        ("postgres does not know where to find the server configuration file.\nYou must specify the --config-file or -D invocation option or set the PGDATA environment variable.".to_owned(), 2)
    })?;
    std::fs::canonicalize(&given).map_err(|e| {
        (format!(
            "postgres: could not access directory \"{given}\": {}\nRun initdb or pg_basebackup to initialize a PostgreSQL data directory.",
            os_message(&e)
        ), 2)
    })
}

fn refused_settings(e: &ConfigError) -> u8 {
    match e {
        ConfigError::NoConfigurationFile { path, source } => {
            eprintln!(
                "postgres: could not access the server configuration file \"{}\": {}",
                path.display(),
                os_message(source)
            );
            2
        }
        ConfigError::Open { path, source } => {
            log::fatal(&format!(
                "could not open configuration file \"{}\": {}",
                path.display(),
                os_message(source)
            ));
            REFUSED
        }
        ConfigError::Refused { complaints, fatal } => {
            let last = complaints.last().filter(|c| c.message == *fatal);
            let others = complaints.len() - usize::from(last.is_some());
            for c in &complaints[..others] {
                log::complaint(Level::Log, c);
            }
            match last {
                Some(c) => log::complaint(Level::Fatal, c),
                None => log::fatal(fatal),
            }
            REFUSED
        }
    }
}

fn print_setting(settings: &Settings, name: &str) -> u8 {
    let Some(d) = registry().find(name) else {
        log::fatal(&format!("unrecognized configuration parameter \"{name}\""));
        return REFUSED;
    };
    println!("{}", d.raw(&settings.current().values.get(d.id).value));
    0
}

fn prepare(
    settings: Settings,
    directory: &Path,
    args: &[String],
) -> Result<ServerStart, Complaint> {
    check_directory(directory)?;
    let current = settings.current();
    let pid_file = PidFile::take(directory, current.port)?;
    let tls = current
        .values
        .bool("ssl")
        .then(|| ServerTls::load(&current))
        .transpose()?;
    let io = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| Complaint::new(format!("could not {what}: {}", os_message(&e)))
    };
    let options = format!("{}\n", command_text(args));
    std::fs::write(directory.join(OPTIONS_NAME), options)
        .map_err(io(&format!("create file \"{OPTIONS_NAME}\"")))?;
    let events = signals::listen().map_err(io("listen to signals"))?;
    log::log(&format!("starting Understudy, PostgreSQL {VERSION}"));
    if os_user::is_root() {
        log::warning("running as root is not advised: use a user of its own");
    }
    let listeners = Listeners::bind(&current)?;
    let (socket, address) = listeners.first_places(&current);
    pid_file.set_places(&socket, &address);
    if let Some(path) = &current.external_pid_file
        && let Err(e) = std::fs::write(path, format!("{}\n", std::process::id()))
    {
        log::log(&format!(
            "could not write external PID file \"{}\": {}",
            path.display(),
            os_message(&e)
        ));
    }
    Ok(ServerStart {
        settings: Arc::new(settings),
        pid_file,
        events,
        listeners,
        tls,
    })
}

/// What `postmaster.opts` holds: the program and its arguments, each quoted.
fn command_text(args: &[String]) -> String {
    let program =
        std::env::current_exe().map_or("postgres".to_owned(), |p| p.display().to_string());
    let mut text = format!("{program} \"postgres\"");
    for a in args {
        text.push_str(&format!(" \"{a}\""));
    }
    text
}

/// It must be ours, closed to others, and of this version.
fn check_directory(directory: &Path) -> Result<(), Complaint> {
    let shown = directory.display();
    let meta = std::fs::metadata(directory).map_err(|e| {
        Complaint::new(format!(
            "could not read permissions of directory \"{shown}\": {}",
            os_message(&e)
        ))
    })?;
    if !meta.is_dir() {
        return Err(Complaint::new(format!(
            "specified data directory \"{shown}\" is not a directory"
        )));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Complaint {
            hint: Some(
                "The server must be started by the user that owns the data directory.".into(),
            ),
            ..Complaint::new(format!("data directory \"{shown}\" has wrong ownership"))
        });
    }
    if meta.permissions().mode() & 0o027 != 0 {
        return Err(Complaint {
            detail: Some("Permissions should be u=rwx (0700) or u=rwx,g=rx (0750).".into()),
            ..Complaint::new(format!(
                "data directory \"{shown}\" has invalid permissions"
            ))
        });
    }
    let path = directory.join("PG_VERSION");
    let invalid = |detail: String| Complaint {
        detail: Some(detail),
        hint: None,
        ..Complaint::new(format!("\"{shown}\" is not a valid data directory"))
    };
    let version = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => invalid(format!("File \"{}\" is missing.", path.display())),
        _ => Complaint::new(format!(
            "could not open file \"{}\": {}",
            path.display(),
            os_message(&e)
        )),
    })?;
    match version.trim() {
        "15" => Ok(()),
        v if v.parse::<f32>().is_ok() => Err(Complaint {
            detail: Some(format!(
                "The data directory was initialized by PostgreSQL version {v}, which is not compatible with this version {VERSION}."
            )),
            ..Complaint::new("database files are incompatible with server")
        }),
        _ => Err(Complaint {
            hint: Some("You might need to initdb.".into()),
            ..invalid(format!(
                "File \"{}\" does not contain valid data.",
                path.display()
            ))
        }),
    }
}
