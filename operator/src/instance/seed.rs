//! Getting data: an empty database for the very first instance, a base backup for every other.
//!
//! Whom to copy the operator says, which sees who has all and gives the fewest copies: a standby or the primary. It is waited
//! for, but not for long.
//! A seed is built in `seed.tmp`, which is removed first; only a complete one is renamed. A crash leaves a `seed.tmp`.
//! There is one of them, so one seed is built at a time: the next waits until the program of the one before has ended.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Volume;
use super::engine::Passed;
use super::setup::{Origin, Setup};
use super::volume::{bytes_below, system_id_in};
use crate::api::{Promise, SeedSource};
use crate::decide::Seed;
use crate::durable;

/// A seed that has not grown for so long gets nothing any more: its source is frozen, or there is no way to it. Making a
/// large one durable, at its end, has to fit in.
const STALL_LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked whether it grows.
const LOOK: Duration = Duration::from_secs(20);
const COUNT_LIMIT: Duration = Duration::from_secs(1);
/// How long the operator, which first has to hear of this instance, gets to say whom to copy. It may be away, or an older
/// one that says nothing.
const TOLD_LIMIT: Duration = Duration::from_secs(5);
/// What is left to be read of the program's words, once it has ended.
const WORDS_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("could not {0}: {1}")]
    Io(&'static str, #[source] io::Error),
    #[error("{program} failed: {why}")]
    Failed { program: &'static str, why: String },
    #[error("whether to begin with an empty database is not known: {0}")]
    Unjudged(String),
    #[error(
        "{0} has written nothing for {limit} s; look at whom it copies and at the way there",
        limit = STALL_LIMIT.as_secs()
    )]
    Stalled(&'static str),
    #[error(
        "the copy is of another database (system id {found}, not {known}): the address that it was taken from leads to \
         another cluster"
    )]
    Foreign { found: String, known: String },
    #[error("it was given up")]
    GivenUp,
}

impl SeedError {
    /// For ENOSPC and EDQUOT, in the programs' words too.
    pub fn is_for_space(&self) -> bool {
        match self {
            SeedError::Failed { why, .. } => ["No space left on device", "Disk quota exceeded"]
                .iter()
                .any(|words| why.contains(words)),
            SeedError::Io(_, error) => durable::is_full(error),
            SeedError::Unjudged(_)
            | SeedError::Stalled(_)
            | SeedError::Foreign { .. }
            | SeedError::GivenUp => false,
        }
    }
}

pub type Outcome = Result<Seed, SeedError>;

/// Whom to copy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// Whom the operator says; where it says nothing, the primary.
    #[default]
    Asked,
    Primary,
    Standby(SeedSource),
}

/// What a seed is made of.
pub struct Order {
    pub volume: Volume,
    pub setup: Setup,
    pub promise: Promise,
    /// How the primary is reached.
    pub conninfo: String,
    pub choice: Choice,
    /// Still waits to be told whom to copy.
    pub asks: Arc<AtomicBool>,
}

impl Order {
    fn source(&self) -> String {
        match &self.choice {
            Choice::Standby(source) => self.setup.conninfo_of(source),
            Choice::Asked | Choice::Primary => self.conninfo.clone(),
        }
    }
}

/// Makes `seed.tmp` complete and durable, and says how. A volume that had data once never gets an empty database again.
/// `before` is the seed that was given up for this one. When the other end of `stop` goes, this one is given up: it ends
/// when its program has ended.
pub async fn seed(
    order: Order,
    before: Option<JoinHandle<Outcome>>,
    mut stop: oneshot::Receiver<()>,
) -> Outcome {
    if let Some(before) = before {
        // Whatever became of it: it is over.
        let _ = before.await;
    }
    let how = tokio::select! {
        biased;
        _ = &mut stop => return Err(SeedError::GivenUp),
        how = choose(&order) => how?,
    };
    if how == Seed::Backup && order.choice == Choice::Asked {
        // Who is told gives this one up and begins another.
        tokio::select! {
            biased;
            _ = &mut stop => return Err(SeedError::GivenUp),
            () = tokio::time::sleep(TOLD_LIMIT) => {}
        }
    }
    order.asks.store(false, Ordering::Relaxed);
    let target = order.volume.seed();
    match tokio::fs::remove_dir_all(&target).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SeedError::Io("remove an old seed", error));
        }
        _ => {}
    }
    let (program, arguments) = match how {
        Seed::Initdb => ("initdb", initdb(&target, &order.setup)),
        Seed::Backup => (
            "basebackup",
            basebackup(&target, &order.source(), &order.promise),
        ),
    };
    let (mut child, said) = start(&order, program, arguments)?;
    let status = watch(&mut child, program, &target, stop).await?;
    if !status.success() {
        return Err(failure(&said, program, status).await);
    }
    check(&target, how, order.promise.system_id)?;
    Ok(how)
}

async fn choose(order: &Order) -> Outcome {
    match &order.setup.origin {
        _ if order.promise.system_id.is_some() => Ok(Seed::Backup),
        Origin::Told(how) => Ok(*how),
        Origin::Asked(judge) => judge.seed().await.map_err(SeedError::Unjudged),
    }
}

/// What it says is kept here as well: where there is no room for more of the copy there is none for its log.
fn start(
    order: &Order,
    program: &'static str,
    arguments: Vec<String>,
) -> Result<(Child, Arc<Passed>), SeedError> {
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(order.volume.log("seed"))
        .map_err(|e| SeedError::Io("open the seed's log", e))?;
    let piped = |e| SeedError::Io("make a pipe for the seed's log", e);
    let (said, output) = Passed::begin("seed-log", log).map_err(piped)?;
    let errors = output.try_clone().map_err(piped)?;
    let guard = std::env::current_exe().map_err(|e| SeedError::Io("find this program", e))?;
    let child = Command::new(guard)
        .arg("instance-guard")
        .arg(std::process::id().to_string())
        .arg(&order.setup.engine)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| SeedError::Io("run the engine's program", e))?;
    Ok((child, said))
}

/// Until the program has ended by itself, or was ended: because it was given up, or does not get on.
async fn watch(
    child: &mut Child,
    program: &'static str,
    target: &Path,
    mut stop: oneshot::Receiver<()>,
) -> Result<ExitStatus, SeedError> {
    let mut growth = Growth::new();
    let why = loop {
        tokio::select! {
            biased;
            _ = &mut stop => break SeedError::GivenUp,
            status = child.wait() => {
                return status.map_err(|e| SeedError::Io("wait for the engine's program", e));
            }
            () = tokio::time::sleep(LOOK) => {
                growth.look(target).await;
                if growth.since.elapsed() >= STALL_LIMIT {
                    break SeedError::Stalled(program);
                }
            }
        }
    };
    // Without a limit: while it lives nobody else may begin in its place.
    child
        .kill()
        .await
        .map_err(|e| SeedError::Io("end the engine's program", e))?;
    Err(why)
}

/// Whether a folder grows.
struct Growth {
    bytes: u64,
    since: Instant,
    /// A count that takes long is waited for the next time: a volume that hangs keeps nobody waiting.
    count: Option<JoinHandle<io::Result<u64>>>,
}

impl Growth {
    fn new() -> Growth {
        Growth {
            bytes: 0,
            since: Instant::now(),
            count: None,
        }
    }

    async fn look(&mut self, folder: &Path) {
        let count = self.count.get_or_insert_with(|| {
            let folder = folder.to_owned();
            tokio::task::spawn_blocking(move || {
                if folder.exists() {
                    bytes_below(&folder)
                } else {
                    Ok(0)
                }
            })
        });
        let Ok(counted) = tokio::time::timeout(COUNT_LIMIT, count).await else {
            return;
        };
        self.count = None;
        // What can't be counted changes under the count.
        let same = matches!(counted, Ok(Ok(bytes)) if bytes == self.bytes);
        if let Ok(Ok(bytes)) = counted {
            self.bytes = bytes;
        }
        if !same {
            self.since = Instant::now();
        }
    }
}

async fn failure(said: &Passed, program: &'static str, status: ExitStatus) -> SeedError {
    let said = said.end(WORDS_LIMIT).await;
    let said = String::from_utf8_lossy(&said);
    let last = said
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or("no message");
    SeedError::Failed {
        program,
        why: format!("{last} ({status})"),
    }
}

/// What was made is what is wanted, and stays. The programs sync what they write; the folder's entry in its parent is
/// synced with its renaming.
fn check(target: &Path, how: Seed, known: Option<String>) -> Result<(), SeedError> {
    let found = system_id_in(target).map_err(|e| SeedError::Io("read the new copy", e))?;
    if let Some(known) = known.filter(|known| *known != found) {
        return Err(SeedError::Foreign { found, known });
    }
    let durable = |e| SeedError::Io("make the seed durable", e);
    let signal = target.join("standby.signal");
    if how == Seed::Backup && !signal.exists() {
        // Whatever the copied directory says.
        durable::replace(&signal, b"").map_err(durable)?;
    }
    durable::sync_dir(target).map_err(durable)
}

fn initdb(target: &Path, setup: &Setup) -> Vec<String> {
    let target = target.to_string_lossy().into_owned();
    let usual = [
        "-D",
        &target,
        "-U",
        "postgres",
        "--no-locale",
        "--encoding=UTF8",
        "-k",
    ];
    usual
        .map(str::to_owned)
        .into_iter()
        .chain(setup.initdb.iter().cloned())
        .collect()
}

/// The one place that chooses how a base backup is taken: the engine's own client, with `pg_basebackup`'s options.
/// With id and term it refuses a source of a lower term.
fn basebackup(target: &Path, source: &str, promise: &Promise) -> Vec<String> {
    let target = target.to_string_lossy().into_owned();
    let term = promise.promised_term.to_string();
    [
        "-D",
        &target,
        "-d",
        source,
        "-X",
        "fetch",
        "-R",
        "-c",
        "fast",
        "--instance-id",
        promise.instance_id.as_str(),
        "--term",
        &term,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path, system_id: u64) -> std::path::PathBuf {
        let target = dir.join("seed.tmp");
        std::fs::create_dir_all(target.join("global")).expect("created");
        let control = target.join("global/pg_control");
        std::fs::write(control, system_id.to_le_bytes()).expect("written");
        target
    }

    #[test]
    fn a_copy_of_another_database_is_not_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = made(dir.path(), 7);
        let known = |id: &str| Some(id.to_owned());
        let refused = check(&target, Seed::Backup, known("8")).expect_err("another one");
        let said = refused.to_string();
        assert!(said.contains("system id 7, not 8"), "{said}");
        check(&target, Seed::Backup, known("7")).expect("the same");
        assert!(target.join("standby.signal").exists());
        std::fs::remove_file(target.join("global/pg_control")).expect("removed");
        let refused = check(&target, Seed::Backup, None).expect_err("no database");
        assert!(refused.to_string().contains("pg_control"), "{refused}");
    }

    /// Its log is on the volume that has no room.
    #[tokio::test]
    async fn what_a_program_says_on_a_full_volume_is_heard() {
        use std::io::Write as _;
        use std::os::unix::process::ExitStatusExt as _;
        let full = OpenOptions::new().write(true).open("/dev/full");
        let (said, mut output) = Passed::begin("seed-log", full.expect("opened")).expect("begun");
        output
            .write_all(b"basebackup: error: could not write: No space left on device\n")
            .expect("a pipe");
        drop(output);
        let error = failure(&said, "basebackup", ExitStatus::from_raw(1 << 8)).await;
        assert!(error.is_for_space(), "{error}");
        assert!(error.to_string().contains("could not write"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_grows_or_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("seed.tmp");
        let mut growth = Growth::new();
        let begin = growth.since;
        growth.look(&target).await;
        assert_eq!(growth.since, begin, "it is not even there");
        std::fs::create_dir(&target).expect("created");
        std::fs::write(target.join("file"), [1; 64 << 10]).expect("written");
        while growth.since == begin {
            assert!(begin.elapsed() < Duration::from_secs(60));
            growth.look(&target).await;
        }
        let grown = growth.since;
        while growth.count.is_some() {
            growth.look(&target).await;
        }
        growth.look(&target).await;
        assert_eq!(growth.since, grown, "nothing more has come");
    }

    #[tokio::test]
    async fn who_is_given_up_has_ended_its_program() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("sleep")
            .arg("600")
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let (stop, stopped) = oneshot::channel();
        drop(stop);
        let ended = watch(&mut child, "basebackup", dir.path(), stopped).await;
        assert!(matches!(ended, Err(SeedError::GivenUp)));
        assert_eq!(child.id(), None, "it was waited for");
    }
}
