//! HTTP and the control socket, on threads of their own, and the little that has to be done beside them.
//!
//! Also here: noticing that recovery is over and that commits can be acknowledged, keeping what a standby was told, and
//! looking at the clock, by which a managed server knows that it stood still (`txn/release/isolation.rs`).
//! Health is judged by a beat that the sessions' threads give: if they do not turn, the server is not healthy.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use serde_json::Value;

use crate::config::ServerSettings;
use crate::ids::Term;
use crate::instance::Instance;
use crate::node::managed::Managed;
use crate::node::managed::position::LogEnd;
use crate::node::managed::report::{Milestones, Reporter};
use crate::node::managed::standstill::Standstill;
use crate::node::managed::told::ToldKeeper;
use crate::recovery::Phase;
use crate::server::http::{self, Confirmation, StatusSource};
use crate::sql::session::Backends;
use crate::txn::TxnManager;
use crate::txn::release::standstill::TICK;

/// How often what was told is made durable.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often replay is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a full disk, say.
const RETRY_SPARES: Duration = Duration::from_secs(60);
/// A promotion or a restart beside healthy standbys takes less.
const TELL_AFTER: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(500);
/// The sessions' threads have not turned for so long: unhealthy.
const STUCK: Duration = Duration::from_secs(20);

const NOT_MANAGED: &str = "this instance is not managed: it has no understudy.promise_file";

pub struct Doors {
    runtime: tokio::runtime::Runtime,
    told: Arc<ToldKeeper>,
    control_socket: Option<PathBuf>,
}

pub struct DoorParts {
    pub instance: Arc<Instance>,
    pub backends: Arc<Backends>,
    pub managed: Option<Arc<Managed>>,
    pub told: Arc<ToldKeeper>,
    /// Where statements run: its turning is the server's health.
    pub sessions: tokio::runtime::Handle,
    pub listen: Listen,
}

/// Opens the TCP/IP sockets, or says why not.
pub type Listen = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

impl Doors {
    /// Binds what is configured and answers from now on.
    pub fn open(parts: DoorParts) -> anyhow::Result<Doors> {
        let current = parts.instance.settings.current();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()?;
        let source = Arc::new(Source::new(&parts));
        spawn_listeners(&runtime, &current, &source)?;
        runtime.spawn(follow_life(
            Arc::clone(&parts.instance),
            parts.managed.clone(),
            Arc::clone(&source.reporter.milestones),
            Arc::clone(&parts.told),
        ));
        runtime.spawn(keep_told(Arc::clone(&parts.told)));
        if parts.managed.is_some() {
            runtime.spawn(keep_looking(Arc::clone(&parts.instance)));
        }
        if parts.instance.receiver.is_some() {
            runtime.spawn(keep_ready(Arc::clone(&parts.instance)));
            runtime.spawn(watch_replay(Arc::clone(&source)));
        }
        runtime.spawn(keep_beat(Arc::clone(&source.beat), parts.sessions));
        Ok(Doors {
            runtime,
            told: parts.told,
            control_socket: control_socket(&current),
        })
    }

    /// The end of the server: nobody is answered any more.
    pub fn close(self) {
        if let Err(error) = self.told.keep() {
            tracing::warn!("could not keep what this standby was told: {error}");
        }
        self.runtime.shutdown_background();
        if let Some(path) = &self.control_socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A relative path begins in the data directory.
fn control_socket(current: &ServerSettings) -> Option<PathBuf> {
    let path = current.control_socket.as_ref()?;
    Some(current.data_directory.join(path))
}

fn spawn_listeners(
    runtime: &tokio::runtime::Runtime,
    current: &ServerSettings,
    source: &Arc<Source>,
) -> anyhow::Result<()> {
    if let Some(address) = &current.http_listen {
        let listener = http::bind(address)
            .with_context(|| format!("could not listen on http_listen {address}"))?;
        runtime.spawn(http::serve(listener, Arc::clone(source)));
    }
    if let Some(path) = control_socket(current) {
        let listener = http::bind_control(&path).with_context(|| {
            format!("could not listen on control socket \"{}\"", path.display())
        })?;
        runtime.spawn(http::serve_control(listener, Arc::clone(source)));
    }
    Ok(())
}

/// From recovery to service: tells `managed` what the instance has become and notes when.
async fn follow_life(
    instance: Arc<Instance>,
    managed: Option<Arc<Managed>>,
    milestones: Arc<Milestones>,
    told: Arc<ToldKeeper>,
) {
    let began_in_recovery = instance.receiver.is_some();
    let mut phase = instance.state.phase_watch();
    if phase.wait_for(|p| *p == Phase::Writing).await.is_err() {
        return;
    }
    if began_in_recovery {
        milestones.promoted();
    }
    if let Some(managed) = &managed {
        managed.is_primary(Term::new(instance.store.wal.timeline().raw()));
    }
    if let Err(error) = told.forget() {
        tracing::warn!("could not remove what this standby was told: {error}");
    }
    until_confirmed(&instance.txns).await;
    milestones.writable();
}

/// What a standby lacks could be lost, so nobody is shown it yet; who waits for that ought to find out why.
async fn until_confirmed(txns: &TxnManager) {
    let wait = txns.wait_for_first_snapshot();
    tokio::pin!(wait);
    if tokio::time::timeout(TELL_AFTER, &mut wait).await.is_ok() {
        return;
    }
    tracing::info!(
        "statements wait until {} has what this server recovered; a superuser may look at it before that \
         with understudy.read_unconfirmed = on",
        txns.release().policy()
    );
    wait.await;
    tracing::info!("standbys have what this server recovered: statements go on");
}

/// Asks the sessions' threads for a beat, again and again; where they do not turn, the one that was asked for is waited
/// for. The clock is on these threads: with a timer of its own every wait of a session's thread for its clients would set
/// and take back one in the kernel.
async fn keep_beat(beat: Arc<Mutex<Instant>>, sessions: tokio::runtime::Handle) {
    loop {
        let beat = Arc::clone(&beat);
        let given = sessions.spawn(async move { *beat.lock() = Instant::now() });
        if given.await.is_err() {
            // The sessions' threads have come to their end.
            return;
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// On these threads, as sessions that keep theirs busy are no standstill.
async fn keep_looking(instance: Arc<Instance>) {
    loop {
        instance.txns.release().watch();
        tokio::time::sleep(TICK).await;
    }
}

async fn keep_told(told: Arc<ToldKeeper>) {
    loop {
        tokio::time::sleep(KEEP_INTERVAL).await;
        let told = Arc::clone(&told);
        let kept = tokio::task::spawn_blocking(move || told.keep()).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!("could not keep what this standby was told: {error}");
        }
    }
}

/// A standby has the first two segments of its own timeline ready, as files of zeroes: a promotion and the first
/// write after it then wait for no 16 MB.
async fn keep_ready(instance: Arc<Instance>) {
    while instance.state.in_recovery() {
        let wal = Arc::clone(&instance.store.wal);
        let kept = tokio::task::spawn_blocking(move || wal.segments().keep_spares(2)).await;
        let pause = match kept {
            Ok(Err(error)) => {
                tracing::warn!("could not keep a segment ready: {error}");
                RETRY_SPARES
            }
            _ => KEEP_INTERVAL,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Until recovery ends.
async fn watch_replay(source: Arc<Source>) {
    while source.reporter.instance.state.in_recovery() {
        let source = Arc::clone(&source);
        // A volume that hangs holds up this look alone.
        let look = tokio::task::spawn_blocking(move || source.reporter.look_at_replay());
        if let Err(error) = look.await {
            tracing::warn!(%error, "the look at replay failed");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What the doors answer.
struct Source {
    reporter: Reporter,
    managed: Option<Arc<Managed>>,
    beat: Arc<Mutex<Instant>>,
    /// One obedience at a time.
    obeying: tokio::sync::Mutex<()>,
    listen: Listen,
}

impl Source {
    fn new(parts: &DoorParts) -> Source {
        let instance = &parts.instance;
        let log_end = LogEnd::new(Arc::clone(&instance.store.wal), Arc::clone(&instance.state));
        Source {
            reporter: Reporter {
                instance: Arc::clone(instance),
                backends: Arc::clone(&parts.backends),
                managed: parts.managed.clone(),
                milestones: Arc::default(),
                log_end,
                standstill: Standstill::default(),
            },
            managed: parts.managed.clone(),
            beat: Arc::new(Mutex::new(Instant::now())),
            obeying: tokio::sync::Mutex::new(()),
            listen: Arc::clone(&parts.listen),
        }
    }

    async fn obey_promise(&self) -> Result<Value, String> {
        let managed = self.managed.as_ref().ok_or(NOT_MANAGED)?;
        let _one = self.obeying.lock().await;
        let stream_ends = managed.reread().map_err(|e| e.to_string())?;
        let instance = &self.reporter.instance;
        if stream_ends && let Some(receiver) = &instance.receiver {
            receiver.stop().await;
        }
        // A trigger file may be there, or an upstream to try at once.
        instance.state.nudge();
        Ok(self.reporter.status())
    }
}

impl StatusSource for Source {
    fn healthy(&self) -> Result<(), String> {
        let since = self.beat.lock().elapsed();
        if since < STUCK {
            Ok(())
        } else {
            Err(format!(
                "no session's thread has turned for {} s",
                since.as_secs()
            ))
        }
    }

    fn ready(&self) -> Result<(), String> {
        let instance = &self.reporter.instance;
        match instance.state.phase() {
            Phase::Starting => Err("the database system is starting up".to_owned()),
            Phase::Replaying => Err("recovery has not reached a consistent state".to_owned()),
            Phase::Consistent if !instance.txns.snapshots_open() => {
                Err("what may be shown is older than what is here".to_owned())
            }
            Phase::Consistent => self.reporter.stuck_at().map_or(Ok(()), |at| {
                Err(format!(
                    "replay stands still at {at} although there is more to replay"
                ))
            }),
            Phase::Writing if instance.txns.snapshots_open() => Ok(()),
            Phase::Writing if instance.txns.release().held().is_some() => {
                Err("waiting for the supervisor's word that this still is the primary".to_owned())
            }
            Phase::Writing => {
                let end = instance.state.end_of_recovery();
                Err(format!(
                    "waiting until the required standbys have flushed the end of recovery, {end}"
                ))
            }
        }
    }

    fn status(&self) -> Value {
        self.reporter.status()
    }

    fn metrics(&self) -> String {
        self.reporter.metrics()
    }

    fn obey(&self) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>> {
        Box::pin(self.obey_promise())
    }

    fn confirm(&self, word: Confirmation) -> Result<Value, String> {
        let managed = self.managed.as_ref().ok_or(NOT_MANAGED)?;
        managed.confirm(Term::new(word.term), word.hold)?;
        Ok(self.reporter.status())
    }

    fn listen(&self) -> Result<Value, String> {
        (self.listen)()?;
        Ok(self.reporter.status())
    }
}
