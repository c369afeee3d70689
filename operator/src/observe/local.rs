//! Observing local instances: each supervisor's `/watch` stream, its process, and the object's file.
//!
//! Nothing is polled: a changed status comes by the stream, the end of a process by its descriptor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::streams::StreamClock;
use super::watches::{Known, RECONNECT, STREAM_LIMIT, StallWatch, Watches, read_stream};
use crate::api::SupervisorStatus;
use crate::decide::{Life, Observed, Past};
use crate::durable::FileLock;
use crate::instance::{Volume, read_config};
use crate::local::{ClusterFolder, ObjectError, ObjectStore, Process, supervisor_of};
use crate::reconcile::{Observe, Seen};
use crate::transport::{self, CallError};
use crate::validate::failover_times;

/// A supervisor that runs and has said nothing new for so long hangs for good. In a pod the kubelet waits as long.
const HANGS: Duration = Duration::from_secs(60);

impl Watches {
    /// A process was started for this instance; it is watched from now on.
    pub fn started(self: &Arc<Watches>, volume: &Volume, name: &str, pid: u32) {
        self.begun(name, pid);
        self.watch_process(volume, name, pid);
    }

    /// A status came from the instance's own supervisor.
    pub fn heard(self: &Arc<Watches>, volume: &Volume, name: &str, status: SupervisorStatus) {
        let pid = status.supervisor_pid;
        if self.said(name, pid, status) {
            self.watch_process(volume, name, pid);
        }
    }

    /// As `heard`, for the answer of a call.
    pub fn told(self: &Arc<Watches>, volume: &Volume, name: &str, status: SupervisorStatus) {
        let pid = status.supervisor_pid;
        if self.answered(name, pid, status) {
            self.watch_process(volume, name, pid);
        }
    }

    /// Reports the end of this very process at once.
    fn watch_process(self: &Arc<Watches>, volume: &Volume, name: &str, pid: u32) {
        let (watches, name) = (Arc::clone(self), name.to_owned());
        let proof = volume.dir().to_string_lossy().into_owned();
        tokio::spawn(async move {
            // Between fork and exec the child still has its parent's command line.
            for _ in 0..50 {
                if let Some(process) = Process::find(pid, &proof) {
                    process.ended().await;
                    break;
                }
                if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            watches.ended(&name, Some(pid));
        });
    }
}

pub struct LocalObserver {
    folder: ClusterFolder,
    store: ObjectStore,
    watches: Arc<Watches>,
    fencing: bool,
    tasks: BTreeMap<String, JoinHandle<()>>,
    stalls: StallWatch,
    streams: StreamClock,
}

impl LocalObserver {
    pub fn new(folder: ClusterFolder, watches: Arc<Watches>, fencing: bool) -> LocalObserver {
        LocalObserver {
            store: ObjectStore::new(&folder),
            folder,
            watches,
            fencing,
            tasks: BTreeMap::new(),
            stalls: StallWatch::new(),
            streams: StreamClock::default(),
        }
    }

    /// Watches every volume that there is, and no other.
    fn follow_volumes(&mut self) -> std::io::Result<()> {
        let volumes = self.folder.volumes()?;
        let gone: Vec<String> = self
            .tasks
            .keys()
            .filter(|name| !volumes.contains(name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(task) = self.tasks.remove(&name) {
                task.abort();
            }
            self.watches.forget(&name);
        }
        for name in volumes {
            if !self.tasks.contains_key(&name) {
                let volume = self.folder.volume(&name);
                let mut found = None;
                self.watches.know(&name, || {
                    let first = first_look(&volume);
                    found = first.pid;
                    first
                });
                if let Some(pid) = found {
                    self.watches.watch_process(&volume, &name, pid);
                }
                let task = watch_instance(Arc::clone(&self.watches), volume, name.clone());
                self.tasks.insert(name, tokio::spawn(task));
            }
        }
        Ok(())
    }
}

impl Observe for LocalObserver {
    type Error = ObjectError;

    async fn observe(&mut self) -> Result<Seen, ObjectError> {
        if let Some(stalled) = self.stalls.look() {
            self.watches.forgive(stalled);
            self.streams.forgive(stalled);
        }
        let at = self.stalls.looked_at();
        self.follow_volumes().map_err(|source| ObjectError::Io {
            path: self.folder.instances(),
            source,
        })?;
        let cluster = self.store.read()?.ok_or(ObjectError::Missing)?;
        let status = cluster.status.clone().unwrap_or_default();
        let record = status.record();
        let lost_after_ms = failover_times(&cluster.spec).lost_after_ms;
        let mut instances = self.watches.instances(lost_after_ms, at);
        for (name, instance) in &mut instances {
            instance.upkeep.hangs = self.watches.stands_still(name, HANGS, at);
        }
        let ages = self.streams.count(record.as_ref(), &instances, at);
        let observed = Observed {
            record,
            past: Past {
                conditions: status.conditions,
                last_failover: status.last_failover,
                last_switchover: status.last_switchover,
                instances: status.instances,
            },
            instances,
            unstreamed_ms: ages.unstreamed_ms,
            stuck_ms: ages.stuck_ms,
            routes: self.watches.routes(),
            retired: Vec::new(),
            fencing: self.fencing,
        };
        Ok(Seen { cluster, observed })
    }

    async fn changed(&self) {
        self.watches.changed().await;
    }
}

impl Drop for LocalObserver {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

/// One that hangs says nothing: who it is its command line tells.
fn first_look(volume: &Volume) -> Known {
    if is_held(volume) {
        let pid = supervisor_of(&volume.dir().to_string_lossy());
        Known::unheard(Life::Alive, pid)
    } else {
        Known::unheard(Life::Ended, None)
    }
}

/// Whether some supervisor holds the volume. When in doubt it does.
fn is_held(volume: &Volume) -> bool {
    !matches!(FileLock::try_acquire(&volume.lock()), Ok(Some(_)))
}

/// Reads the supervisor's stream, over and over.
async fn watch_instance(watches: Arc<Watches>, volume: Volume, name: String) {
    loop {
        if let Err(error) = listen(&watches, &volume, &name).await {
            tracing::debug!(instance = %name, %error, "the status stream ended");
            if !is_silence(&*error) {
                watches.could_not_ask(&name);
            }
        }
        if !watches.has_process(&name) && !is_held(&volume) {
            watches.ended(&name, None);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Whether a supervisor may be at fault that is not heard. What keeps this process from asking it (no descriptor is to be had,
/// a file can't be read) says nothing of it, and one whose words are not understood does not hang.
fn is_silence(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<CallError>() {
        return error.is_silence();
    }
    !error.is::<std::io::Error>() && !error.is::<serde_json::Error>()
}

async fn listen(
    watches: &Arc<Watches>,
    volume: &Volume,
    name: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let port = read_config(&volume.config())?.control_port;
    let connect = async {
        let stream = transport::connect_local(port).await?;
        transport::send(stream, "/watch", None, None).await
    };
    let response = tokio::time::timeout(STREAM_LIMIT, connect).await??;
    // The port was free when it was chosen. Whoever took it since, another cluster's supervisor of the same name
    // perhaps, is not the one who runs on this volume; ours ends and gets another port.
    let mut known = None;
    read_stream(response, |status| {
        let pid = status.supervisor_pid;
        let ours = known == Some(pid) || (status.name == name && runs_on(volume, pid));
        if ours {
            known = Some(pid);
            watches.heard(volume, name, status);
        }
        ours
    })
    .await
}

/// Whether this process was started on this volume.
fn runs_on(volume: &Volume, pid: u32) -> bool {
    Process::find(pid, &volume.dir().to_string_lossy()).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::{Child, Command};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::decide::Seed;
    use crate::ids::Term;
    use crate::instance::{InstanceConfig, empty_status, write_config};

    /// Answers `/watch` once, in the name of this process, and then holds the connection open.
    async fn speaker(pid: u32) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let status = SupervisorStatus {
            name: "orders-1".to_owned(),
            supervisor_pid: pid,
            ..empty_status()
        };
        let line = serde_json::to_string(&status).expect("written");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = [0; 1024];
            let asked = stream.read(&mut request).await.expect("read");
            assert!(asked > 0);
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{line}\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
            std::future::pending::<()>().await;
        });
        port
    }

    fn volume(dir: &std::path::Path, control_port: u16) -> Volume {
        let volume = Volume::new(&dir.join("orders-1"));
        std::fs::create_dir(volume.dir()).expect("created");
        let config = InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: "c".to_owned(),
            name: "orders-1".to_owned(),
            control_port,
            port: 2,
            http_port: 3,
            service_port: 4,
            token_file: dir.join("token"),
            engine: dir.join("understudy"),
            seed: Seed::Initdb,
            term: Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: BTreeMap::new(),
        };
        write_config(&volume.config(), &config).expect("written");
        volume
    }

    /// A process that has the volume in its command line, as a supervisor has.
    fn runner(volume: &Volume) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "read _; exit", "sh"]).arg(volume.dir());
        command.stdin(std::process::Stdio::piped());
        command.spawn().expect("started")
    }

    async fn heard_from(pid: u32, volume: &Volume, own: u32) -> Option<u32> {
        let watches = Arc::new(Watches::default());
        watches.know("orders-1", || Known::unheard(Life::Alive, Some(own)));
        let ends = listen(&watches, volume, "orders-1").await;
        ends.expect_err("this stream ends by an error only");
        let known = watches.instances(1000, std::time::Instant::now());
        let instance = known.get("orders-1").expect("known");
        assert_eq!(instance.pid, Some(own));
        instance.status.is_some().then_some(pid)
    }

    #[tokio::test]
    async fn a_stranger_who_took_the_control_port_is_not_listened_to() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let stranger = std::process::id();
        let volume = volume(dir.path(), speaker(stranger).await);
        let mut own = runner(&volume);
        let began = std::time::Instant::now();
        assert_eq!(heard_from(stranger, &volume, own.id()).await, None);
        // At once, not when its stream has been silent for long enough: a real one never is.
        assert!(began.elapsed() < STREAM_LIMIT);
        own.kill().and_then(|()| own.wait()).expect("ended");
    }

    /// One that hung when this operator began could be ended by nobody else.
    #[test]
    fn who_holds_a_volume_and_says_nothing_is_known_by_its_process() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = volume(dir.path(), 1);
        // Its command line is a supervisor's, as far as it is looked at.
        std::fs::write(dir.path().join("instance"), "read _\n").expect("written");
        let mut command = Command::new("sh");
        command.args(["instance", "--dir"]).arg(volume.dir());
        command.current_dir(dir.path());
        command.stdin(std::process::Stdio::piped());
        let mut own = command.spawn().expect("started");
        let held = FileLock::try_acquire(&volume.lock()).expect("looked at");
        assert!(held.is_some());
        let begin = std::time::Instant::now();
        // A process has been started before its command line can be read.
        while first_look(&volume).pid.is_none() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it is found");
            std::thread::sleep(Duration::from_millis(5));
        }
        let first = first_look(&volume);
        assert_eq!((first.life, first.pid), (Life::Alive, Some(own.id())));
        drop(held);
        // What another test is about to begin may have the lock for as long as it has this process's files.
        let begin = std::time::Instant::now();
        while first_look(&volume).life == Life::Alive {
            assert!(begin.elapsed() < Duration::from_secs(60), "it is let go");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(first_look(&volume).pid, None);
        own.kill().and_then(|()| own.wait()).expect("ended");
    }

    /// Else an operator that has no descriptor left would end everybody.
    #[test]
    fn who_was_not_asked_is_not_silent() {
        let connect = |errno: i32| CallError::Connect(std::io::Error::from_raw_os_error(errno));
        let is_silent = |errno: i32| is_silence(&connect(errno));
        // ECONNREFUSED, ETIMEDOUT; EMFILE, ENFILE, EADDRNOTAVAIL.
        assert_eq!([111, 110].map(is_silent), [true; 2]);
        assert_eq!([24, 23, 99].map(is_silent), [false; 3]);
        let unread = std::io::Error::other("instance.json is damaged");
        assert!(!is_silence(&unread));
        let not_json = serde_json::from_str::<u32>("x").expect_err("no number");
        assert!(!is_silence(&not_json));
        assert!(is_silence(&CallError::TimedOut(STREAM_LIMIT)));
    }

    #[tokio::test]
    async fn whoever_runs_on_the_volume_is_listened_to() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = volume(dir.path(), 1);
        let mut own = runner(&volume);
        let mut config = read_config(&volume.config()).expect("read");
        config.control_port = speaker(own.id()).await;
        write_config(&volume.config(), &config).expect("written");
        assert_eq!(
            heard_from(own.id(), &volume, own.id()).await,
            Some(own.id())
        );
        own.kill().and_then(|()| own.wait()).expect("ended");
    }
}
