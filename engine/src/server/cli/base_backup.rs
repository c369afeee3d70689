//! `understudy basebackup`: a copy of a running server over the replication protocol, with `pg_basebackup`'s options.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Argument, Options, Usage, VERSION};
use crate::config::conninfo::ConnInfo;
use crate::ids::Term;
use crate::replication::base_backup::{CopyRequest, receive};

const PROGRAM: &str = "basebackup";

const HELP: &str = "\
basebackup takes a copy of a running server.

Usage:
  understudy basebackup [OPTION]...

Options:
  -D, --pgdata=DIRECTORY   receive the copy into this directory, which must be empty or missing
  -d, --dbname=CONNSTR     connection string
  -h, --host=HOSTNAME      server's host or socket directory
  -p, --port=PORT          server's port
  -U, --username=NAME      connect as this user
  -R, --write-recovery-conf
                           write what a standby needs
  -X, --wal-method=none|fetch
                           leave the needed WAL out, or fetch it with the copy (default)
  -c, --checkpoint=fast|spread
                           how fast the server makes its checkpoint
  -l, --label=LABEL        the backup's label
  --no-manifest            do not keep a manifest
  --instance-id=ID --term=TERM
                           ask as this managed instance; a server of a lower term is refused
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit
";

struct Command {
    target: PathBuf,
    conninfo: ConnInfo,
    recovery_conf: bool,
    request: CopyRequest,
}

pub fn main(args: &[String]) -> u8 {
    let command = match parse(args) {
        Ok(Some(command)) => command,
        Ok(None) => return 0,
        Err(Usage(text)) => {
            eprintln!("{text}");
            return 1;
        }
    };
    match run(&command) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{PROGRAM}: error: {why}");
            1
        }
    }
}

fn wrong(text: impl std::fmt::Display) -> Usage {
    Usage(format!(
        "{PROGRAM}: error: {text}\nTry \"understudy {PROGRAM} --help\" for more information."
    ))
}

/// What was given, before it is put together.
#[derive(Default)]
struct Given {
    target: Option<PathBuf>,
    connection: String,
    overrides: Vec<(&'static str, String)>,
    recovery_conf: bool,
    no_wal: bool,
    no_manifest: bool,
    fast: bool,
    label: Option<String>,
    instance_id: Option<String>,
    term: Option<Term>,
}

fn parse(args: &[String]) -> Result<Option<Command>, Usage> {
    let mut o = Options::new(PROGRAM, args);
    let mut g = Given::default();
    while let Some(arg) = o.take() {
        match &arg {
            Argument::Short('?') | Argument::Long("help", None) => {
                print!("{HELP}");
                return Ok(None);
            }
            Argument::Short('V') | Argument::Long("version", None) => {
                println!("{PROGRAM} (PostgreSQL) {VERSION}");
                return Ok(None);
            }
            Argument::Short('R') | Argument::Long("write-recovery-conf", None) => {
                g.recovery_conf = true;
            }
            Argument::Long("no-manifest", None) => g.no_manifest = true,
            Argument::Short('D') | Argument::Long("pgdata", _) => {
                g.target = Some(PathBuf::from(o.value(&arg)?));
            }
            Argument::Short('d') | Argument::Long("dbname", _) => {
                o.value(&arg)?.clone_into(&mut g.connection);
            }
            Argument::Short('h') | Argument::Long("host", _) => {
                g.overrides.push(("host", o.value(&arg)?.to_owned()));
            }
            Argument::Short('p') | Argument::Long("port", _) => {
                g.overrides.push(("port", o.value(&arg)?.to_owned()));
            }
            Argument::Short('U') | Argument::Long("username", _) => {
                g.overrides.push(("user", o.value(&arg)?.to_owned()));
            }
            Argument::Short('X') | Argument::Long("wal-method", _) => {
                g.no_wal = match o.value(&arg)? {
                    "n" | "none" => true,
                    "f" | "fetch" => false,
                    other => {
                        return Err(wrong(format!(
                            "invalid wal-method option \"{other}\", must be \"fetch\" or \"none\""
                        )));
                    }
                }
            }
            Argument::Short('c') | Argument::Long("checkpoint", _) => {
                g.fast = match o.value(&arg)? {
                    "fast" => true,
                    "spread" => false,
                    other => {
                        return Err(wrong(format!(
                            "invalid checkpoint argument \"{other}\", must be \"fast\" or \"spread\""
                        )));
                    }
                }
            }
            Argument::Short('l') | Argument::Long("label", _) => {
                g.label = Some(o.value(&arg)?.to_owned());
            }
            Argument::Long("instance-id", _) => g.instance_id = Some(o.value(&arg)?.to_owned()),
            Argument::Long("term", _) => {
                let text = o.value(&arg)?;
                let number = text
                    .parse()
                    .map_err(|_| wrong(format!("invalid term \"{text}\"")))?;
                g.term = Some(Term::new(number));
            }
            _ => return Err(o.unknown(&arg)),
        }
    }
    command_of(g).map(Some)
}

fn command_of(g: Given) -> Result<Command, Usage> {
    let target = g
        .target
        .ok_or_else(|| wrong("no target directory specified"))?;
    let mut conninfo = ConnInfo::parse(&g.connection).map_err(wrong)?;
    for (keyword, value) in &g.overrides {
        conninfo.set(keyword, value).map_err(wrong)?;
    }
    let instance = match (g.instance_id, g.term) {
        (None, None) => None,
        (Some(id), Some(term)) => Some((id, term)),
        _ => return Err(wrong("--instance-id and --term belong together")),
    };
    Ok(Command {
        target,
        recovery_conf: g.recovery_conf,
        request: CopyRequest {
            conninfo: conninfo.clone(),
            label: g
                .label
                .unwrap_or_else(|| "understudy basebackup base backup".to_owned()),
            fast_checkpoint: g.fast,
            wal: !g.no_wal,
            manifest: !g.no_manifest,
            instance,
        },
        conninfo,
    })
}

fn run(command: &Command) -> Result<(), String> {
    make_target(&command.target)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime
        .block_on(receive(&command.request, &command.target))
        .map_err(|e| e.to_string())?;
    if command.recovery_conf {
        write_recovery_conf(command)
            .map_err(|e| format!("could not write recovery settings: {e}"))?;
    }
    Ok(())
}

fn make_target(target: &Path) -> Result<(), String> {
    let shown = target.display();
    match std::fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(format!("directory \"{shown}\" exists but is not empty")),
        Ok(false) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(target)
                .map_err(|e| format!("could not create directory \"{shown}\": {e}"))?;
        }
        Err(e) => return Err(format!("could not access directory \"{shown}\": {e}")),
    }
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| format!("could not change permissions of directory \"{shown}\": {e}"))
}

/// `standby.signal`, and `primary_conninfo` in `postgresql.auto.conf`, durably.
fn write_recovery_conf(command: &Command) -> std::io::Result<()> {
    let value = command.conninfo.to_string().replace('\'', "''");
    let mut auto = std::fs::File::options()
        .append(true)
        .create(true)
        .open(command.target.join("postgresql.auto.conf"))?;
    writeln!(auto, "primary_conninfo = '{value}'")?;
    auto.sync_all()?;
    std::fs::File::create(command.target.join("standby.signal"))?.sync_all()?;
    std::fs::File::open(&command.target)?.sync_all()
}
