//! `pg_ctl`: start, stop, restart, reload, status, promote, kill.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pid_file::{self, Found, OPTIONS_NAME};
use super::signals::promote_file;
use super::{Argument, Options, Programs, Usage, VERSION, initdb, process};
use crate::config::conf_file::os_message;
use crate::config::recovery_conf::{RECOVERY_CONF, RECOVERY_SIGNAL, STANDBY_SIGNAL};
use crate::config::store::{LoadOptions, Settings};

/// Looked at so often while waiting; a dot each second.
const LOOKS_PER_SECOND: u64 = 20;

const HELP: &str = "\
pg_ctl is a utility to initialize, start, stop, or control a PostgreSQL server.

Usage:
  pg_ctl init[db]   [-D DATADIR] [-s] [-o OPTIONS]
  pg_ctl start      [-D DATADIR] [-l FILENAME] [-W] [-t SECS] [-s] [-o OPTIONS]
  pg_ctl stop       [-D DATADIR] [-m SHUTDOWN-MODE] [-W] [-t SECS] [-s]
  pg_ctl restart    [-D DATADIR] [-m SHUTDOWN-MODE] [-W] [-t SECS] [-s] [-o OPTIONS]
  pg_ctl reload     [-D DATADIR] [-s]
  pg_ctl status     [-D DATADIR]
  pg_ctl promote    [-D DATADIR] [-W] [-t SECS] [-s]
  pg_ctl kill       SIGNALNAME PID

Common options:
  -D, --pgdata=DATADIR   location of the database storage area
  -l, --log=FILENAME     write (or append) server log to FILENAME
  -m, --mode=MODE        MODE can be \"smart\", \"fast\", or \"immediate\"
  -o, --options=OPTIONS  command line options to pass to postgres or initdb
  -s, --silent           only print errors, no informational messages
  -t, --timeout=SECS     seconds to wait when using -w option
  -V, --version          output version information, then exit
  -w, --wait             wait until operation completes (default)
  -W, --no-wait          do not wait until operation completes
  -?, --help             show this help, then exit
";

#[derive(Clone)]
struct Request {
    directory: Option<String>,
    log: Option<String>,
    mode: Signal,
    options: Option<String>,
    silent: bool,
    timeout: Duration,
    wait: bool,
}

/// What ends a command early: a message on stderr and an exit code.
struct Stop(String, u8);

fn stop(text: impl Into<String>) -> Stop {
    Stop(format!("pg_ctl: {}", text.into()), 1)
}

pub fn main(args: &[String], programs: &dyn Programs) -> u8 {
    match parse(args)
        .map_err(|Usage(text)| Stop(text, 1))
        .and_then(|p| match p {
            None => Ok(0),
            Some((action, words, request)) => act(&action, &words, &request, programs),
        }) {
        Ok(code) => code,
        Err(Stop(text, code)) => {
            eprintln!("{text}");
            code
        }
    }
}

type Parsed = Option<(String, Vec<String>, Request)>;

fn parse(args: &[String]) -> Result<Parsed, Usage> {
    let mut o = Options::new("pg_ctl", args);
    let timeout = std::env::var("PGCTLTIMEOUT")
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(60);
    let mut r = Request {
        directory: None,
        log: None,
        mode: Signal::INT,
        options: None,
        silent: false,
        timeout: Duration::from_secs(timeout),
        wait: true,
    };
    let mut words = Vec::new();
    while let Some(arg) = o.take() {
        let name = match &arg {
            Argument::Short(c) => match c {
                'D' => "pgdata",
                'l' => "log",
                'm' => "mode",
                'o' => "options",
                'p' => "path",
                's' => "silent",
                't' => "timeout",
                'w' => "wait",
                'W' => "no-wait",
                'c' => "core-files",
                'V' => "version",
                '?' => "help",
                _ => return Err(o.unknown(&arg)),
            },
            Argument::Long(name, _) => name,
            Argument::Plain(word) => {
                words.push((*word).to_owned());
                continue;
            }
        };
        match name {
            "pgdata" => r.directory = Some(o.value(&arg)?.to_owned()),
            "log" => r.log = Some(o.value(&arg)?.to_owned()),
            "mode" => r.mode = mode(o.value(&arg)?)?,
            // Several -o add up.
            "options" => {
                let more = o.value(&arg)?;
                r.options = Some(match r.options.take() {
                    Some(before) => format!("{before} {more}"),
                    None => more.to_owned(),
                });
            }
            "path" => {
                o.value(&arg)?;
            }
            "silent" => r.silent = true,
            "timeout" => {
                let text = o.value(&arg)?;
                let seconds = text
                    .parse()
                    .map_err(|_| Usage(format!("pg_ctl: invalid timeout \"{text}\"")))?;
                r.timeout = Duration::from_secs(seconds);
            }
            "wait" => r.wait = true,
            "no-wait" => r.wait = false,
            "core-files" => {}
            "version" => {
                println!("pg_ctl (PostgreSQL) {VERSION}");
                return Ok(None);
            }
            "help" => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(o.unknown(&arg)),
        }
    }
    if words.is_empty() {
        return Err(Usage(
            "pg_ctl: no operation specified\nTry \"pg_ctl --help\" for more information.".into(),
        ));
    }
    let action = words.remove(0);
    Ok(Some((action, words, r)))
}

fn mode(name: &str) -> Result<Signal, Usage> {
    match name {
        "s" | "smart" => Ok(Signal::TERM),
        "f" | "fast" => Ok(Signal::INT),
        "i" | "immediate" => Ok(Signal::QUIT),
        other => Err(Usage(format!(
            "pg_ctl: unrecognized shutdown mode \"{other}\"\nTry \"pg_ctl --help\" for more information."
        ))),
    }
}

fn act(action: &str, words: &[String], r: &Request, programs: &dyn Programs) -> Result<u8, Stop> {
    if action == "kill" {
        return kill(words);
    }
    if let Some(extra) = words.first() {
        return Err(Stop(
            format!(
                "pg_ctl: too many command-line arguments (first is \"{extra}\")\nTry \"pg_ctl --help\" for more information."
            ),
            1,
        ));
    }
    if matches!(action, "init" | "initdb") {
        let mut args = split_words(r.options.as_deref().unwrap_or(""));
        args.extend(
            r.directory
                .iter()
                .flat_map(|d| ["-D".to_owned(), d.clone()]),
        );
        if initdb::main(&args, programs) != 0 {
            return Err(stop("database system initialization failed"));
        }
        return Ok(0);
    }
    // Scripts tell "no such directory" (4) from "not running" (3) by the status's code; of other commands it is 1.
    let directory = directory(r)
        .map_err(|Stop(text, code)| Stop(text, if action == "status" { code } else { 1 }))?;
    match action {
        "start" => start(&directory, r),
        "stop" => stop_server(&directory, r),
        "restart" => restart(&directory, r),
        "reload" => reload(&directory, r),
        "status" => status(&directory),
        "promote" => promote(&directory, r),
        "logrotate" => Err(stop(
            "the logging collector is not implemented; the log goes to stderr",
        )),
        other => Err(Stop(
            format!(
                "pg_ctl: unrecognized operation mode \"{other}\"\nTry \"pg_ctl --help\" for more information."
            ),
            1,
        )),
    }
}

fn directory(r: &Request) -> Result<PathBuf, Stop> {
    let given = r
        .directory
        .clone()
        .or_else(|| std::env::var("PGDATA").ok().filter(|d| !d.is_empty()))
        .ok_or_else(|| {
            Stop(
                "pg_ctl: no database directory specified and environment variable PGDATA unset\nTry \"pg_ctl --help\" for more information.".into(),
                1,
            )
        })?;
    let path = std::path::absolute(&given).unwrap_or_else(|_| PathBuf::from(&given));
    let path = std::fs::canonicalize(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Stop(format!("pg_ctl: directory \"{given}\" does not exist"), 4)
        }
        _ => Stop(
            format!(
                "pg_ctl: could not access directory \"{given}\": {}",
                os_message(&e)
            ),
            4,
        ),
    })?;
    if !path.join("PG_VERSION").exists() {
        return Err(Stop(
            format!("pg_ctl: directory \"{given}\" is not a database cluster directory"),
            4,
        ));
    }
    Ok(path)
}

/// The server of this directory, if it lives.
fn running(directory: &Path) -> Option<Found> {
    pid_file::read(directory).filter(|f| process::is_alive(f.pid))
}

/// Whom the file names, alive or not; the kill finds that out.
fn named(directory: &Path) -> Result<Found, Stop> {
    let file = directory.join(pid_file::FILE_NAME);
    let shown = file.display();
    if let Some(found) = pid_file::read(directory) {
        return Ok(found);
    }
    match std::fs::metadata(&file) {
        Ok(m) if m.len() == 0 => Err(stop(format!("the PID file \"{shown}\" is empty"))),
        Ok(_) => Err(stop(format!("invalid data in PID file \"{shown}\""))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(stop(format!(
            "PID file \"{shown}\" does not exist\nIs server running?"
        ))),
        Err(e) => Err(stop(format!(
            "could not open PID file \"{shown}\": {}",
            os_message(&e)
        ))),
    }
}

fn say(r: &Request, text: &str) {
    if !r.silent {
        print!("{text}");
        // Progress that cannot be shown is no failure.
        let _ = std::io::stdout().flush();
    }
}

/// Waits with dots until `done` says so; false at the time-out.
fn wait_until(r: &Request, mut done: impl FnMut() -> Option<bool>) -> bool {
    let end = Instant::now() + r.timeout;
    let mut looks = 0u64;
    loop {
        if let Some(result) = done() {
            return result;
        }
        if Instant::now() >= end {
            return false;
        }
        if looks.is_multiple_of(LOOKS_PER_SECOND) {
            say(r, ".");
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(1000 / LOOKS_PER_SECOND));
    }
}

fn start(directory: &Path, r: &Request) -> Result<u8, Stop> {
    if running(directory).is_some() {
        eprintln!("pg_ctl: another server might be running; trying to start server anyway");
    }
    let options = split_words(r.options.as_deref().unwrap_or(""));
    launch(directory, &options, r)
}

fn launch(directory: &Path, options: &[String], r: &Request) -> Result<u8, Stop> {
    let began = process::unix_seconds();
    let mut child = spawn(directory, options, r)
        .map_err(|e| stop(format!("could not start server: {}", os_message(&e))))?;
    if !r.wait {
        say(r, "server starting\n");
        return Ok(0);
    }
    say(r, "waiting for server to start...");
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let mut died = false;
    let ready = wait_until(r, || {
        if child.try_wait().ok().flatten().is_some() {
            died = true;
            return Some(false);
        }
        let found = pid_file::read(directory)?;
        let ours = found.pid == pid && found.started + 2 >= began;
        (ours && matches!(found.state.as_deref(), Some("ready" | "standby"))).then_some(true)
    });
    if ready {
        say(r, " done\nserver started\n");
        return Ok(0);
    }
    say(r, " stopped waiting\n");
    if died {
        return Err(Stop(
            "pg_ctl: could not start server\nExamine the log output.".to_owned(),
            1,
        ));
    }
    Err(Stop("pg_ctl: server did not start in time".to_owned(), 1))
}

/// Our own program, in a process group of its own, so that the terminal's signals do not reach it.
fn spawn(directory: &Path, options: &[String], r: &Request) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("postgres")
        .arg("-D")
        .arg(directory)
        .args(options);
    command.stdin(Stdio::null()).process_group(0);
    if let Some(path) = &r.log {
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    command.spawn()
}

fn signal(pid: i32, what: Signal, name: &str) -> Result<(), Stop> {
    process::signal(pid, what).map_err(|e| {
        stop(format!(
            "could not send {name} signal (PID: {pid}): {}",
            os_message(&e)
        ))
    })
}

/// Tells the server to stop and, if asked to, waits until it is gone. False: the time ran out.
fn shut_down(directory: &Path, found: &Found, r: &Request) -> Result<bool, Stop> {
    signal(found.pid, r.mode, "stop")?;
    if !r.wait {
        say(r, "server shutting down\n");
        return Ok(true);
    }
    say(r, "waiting for server to shut down...");
    let gone = wait_until(r, || {
        (!process::is_alive(found.pid) || running(directory).is_none()).then_some(true)
    });
    if gone {
        say(r, " done\nserver stopped\n");
    } else {
        say(r, " failed\n");
    }
    Ok(gone)
}

fn stop_server(directory: &Path, r: &Request) -> Result<u8, Stop> {
    let found = named(directory)?;
    if shut_down(directory, &found, r)? {
        return Ok(0);
    }
    let mut text = "pg_ctl: server does not shut down".to_owned();
    if r.mode == Signal::TERM {
        text.push_str("\nHINT: The \"-m fast\" option immediately disconnects sessions rather than\nwaiting for session-initiated disconnection.");
    }
    Err(Stop(text, 1))
}

fn restart(directory: &Path, r: &Request) -> Result<u8, Stop> {
    let options = match &r.options {
        Some(o) => split_words(o),
        None => stored_options(directory),
    };
    match running(directory) {
        Some(found) => {
            let waiting = Request {
                wait: true,
                ..r.clone()
            };
            if !shut_down(directory, &found, &waiting)? {
                return Err(stop("server does not shut down"));
            }
        }
        None => {
            let file = directory.join(pid_file::FILE_NAME);
            eprintln!(
                "pg_ctl: PID file \"{}\" does not exist\nIs server running?\ntrying to start server anyway",
                file.display()
            );
        }
    }
    launch(directory, &options, r)
}

/// The options of the last start, without the program and the data directory.
fn stored_options(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join(OPTIONS_NAME)).unwrap_or_default();
    let mut words = split_words(text.trim()).into_iter().skip(1);
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-D" => {
                words.next();
            }
            "postgres" => {}
            _ => out.push(word),
        }
    }
    out
}

fn reload(directory: &Path, r: &Request) -> Result<u8, Stop> {
    let found = named(directory)?;
    signal(found.pid, Signal::HUP, "reload")?;
    say(r, "server signaled\n");
    Ok(0)
}

fn status(directory: &Path) -> Result<u8, Stop> {
    let file = directory.join(pid_file::FILE_NAME);
    if file.exists() && process::is_alive(named(directory)?.pid) {
        println!("pg_ctl: server is running (PID: {})", named(directory)?.pid);
        if let Ok(options) = std::fs::read_to_string(directory.join(OPTIONS_NAME)) {
            print!("{options}");
        }
        return Ok(0);
    }
    println!("pg_ctl: no server running");
    Ok(3)
}

/// A server whose settings can't be read is not ours to judge: it refuses by itself what it must.
fn is_managed(directory: &Path) -> bool {
    let options = LoadOptions {
        data_directory: directory.to_owned(),
        command_line: Vec::new(),
    };
    Settings::load(options).is_ok_and(|(s, _)| s.current().promise_file.is_some())
}

fn promote(directory: &Path, r: &Request) -> Result<u8, Stop> {
    let found = named(directory)?;
    if !in_recovery(directory) {
        return Err(stop("cannot promote server; server is not in standby mode"));
    }
    if is_managed(directory) {
        return Err(stop(
            "cannot promote server; an operator manages it\nUse \"understudy-operator local switchover\" to move the primary's role.",
        ));
    }
    let file = promote_file(directory);
    std::fs::write(&file, "").map_err(|e| {
        stop(format!(
            "could not create promote signal file \"{}\": {}",
            file.display(),
            os_message(&e)
        ))
    })?;
    if let Err(e) = signal(found.pid, Signal::USR1, "promote") {
        // Left behind, it would promote the server at some later time.
        let _ = std::fs::remove_file(&file);
        return Err(e);
    }
    if !r.wait {
        say(r, "server promoting\n");
        return Ok(0);
    }
    say(r, "waiting for server to promote...");
    let promoted = wait_until(r, || {
        if running(directory).is_none() {
            return Some(false);
        }
        (!in_recovery(directory)).then_some(true)
    });
    if promoted {
        say(r, " done\nserver promoted\n");
        return Ok(0);
    }
    say(r, " stopped waiting\n");
    Err(stop("server did not promote in time"))
}

/// Promotion renames `recovery.conf` or removes the signal file, and a running standby has one of them.
fn in_recovery(directory: &Path) -> bool {
    [RECOVERY_CONF, STANDBY_SIGNAL, RECOVERY_SIGNAL]
        .iter()
        .any(|f| directory.join(f).exists())
}

fn kill(words: &[String]) -> Result<u8, Stop> {
    let [name, pid] = words else {
        return Err(Stop(
            "pg_ctl: missing arguments for kill mode\nTry \"pg_ctl --help\" for more information."
                .into(),
            1,
        ));
    };
    let what = match name.trim_start_matches("SIG") {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "ABRT" => Signal::ABORT,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => {
            return Err(stop(format!(
                "unrecognized signal name \"{name}\"\nTry \"pg_ctl --help\" for more information."
            )));
        }
    };
    let pid: i32 = pid
        .parse()
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| stop(format!("invalid process ID \"{pid}\"")))?;
    process::signal(pid, what).map_err(|e| {
        stop(format!(
            "could not send signal {} (PID: {pid}): {}",
            what.as_raw(),
            os_message(&e)
        ))
    })?;
    Ok(0)
}

/// Words as a shell splits them: white space, both kinds of quotes, backslash.
fn split_words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_ascii_whitespace() => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(
            split_words(r#"-p 5433  -c "log_line_prefix=%m [%p] " -k '' a\ b"#),
            [
                "-p",
                "5433",
                "-c",
                "log_line_prefix=%m [%p] ",
                "-k",
                "",
                "a b"
            ]
        );
        assert!(split_words("  ").is_empty());
    }

    #[test]
    fn a_restart_keeps_the_options() {
        let d = tempfile::tempdir().expect("a temporary directory");
        let text = "/bin/understudy \"postgres\" \"-D\" \"/data dir\" \"-c\" \"port=5433\"\n";
        std::fs::write(d.path().join(OPTIONS_NAME), text).expect("writable");
        assert_eq!(stored_options(d.path()), ["-c", "port=5433"]);
    }
}
