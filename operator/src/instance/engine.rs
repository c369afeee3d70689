//! The engine as a child process, and the control socket on which it is told things.
//!
//! The engine must not outlive its supervisor. So it is started through `guard`, a sub-command of this program that
//! asks the kernel to kill it when its parent ends and then becomes the engine by `exec`: the request survives that.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use super::Volume;
use super::setup::Setup;
use crate::api::{Confirmation, EngineStatus};
use crate::transport::{self, Address, CallError};

/// A unix socket's path may have 107 bytes.
const SOCKET_PATH_MAX: usize = 100;

/// Where the engine of the instance in `dir` listens: there, or in the system's temporary folder if the path would be
/// too long for a socket.
pub fn control_socket(dir: &Path) -> PathBuf {
    short_socket(&dir.join("engine.sock"))
}

/// `path`, or a short one that stands for it.
pub fn short_socket(path: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return path.to_path_buf();
    }
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("understudy-{user}-{:016x}.sock", hasher.finish()))
}

/// Where the engine's log goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogTo {
    /// A file on the volume.
    File,
    /// This process's standard error, which a container's runtime collects and keeps within bounds.
    Standard,
}

#[derive(Debug)]
pub struct Engine {
    child: Child,
    pid: u32,
    socket: PathBuf,
    said: Said,
    serves_clients: bool,
    /// It did not answer any more and was ended.
    is_given_up: bool,
}

impl Engine {
    /// Starts it; it answers on its socket a little later. One that does not serve clients leaves its port to others until
    /// [`Engine::listen`], and is reached by its sockets only.
    ///
    /// # Errors
    /// Also when another program has taken one of its chosen ports. Whoever starts this supervisor again gives it others.
    pub fn start(volume: &Volume, setup: &Setup, serves_clients: bool) -> io::Result<Engine> {
        for port in &setup.chosen_ports {
            if let Err(error) = std::net::TcpListener::bind(("127.0.0.1", *port)) {
                let text = format!("another program took the engine's port {port}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        }
        let (said, output, errors) = Said::begin(volume, setup.log)?;
        let socket = setup.control_socket.clone();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("instance-guard")
            .arg(std::process::id().to_string())
            .arg(&setup.engine)
            .args(["postgres", "-D"])
            .arg(volume.data())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true);
        if !serves_clients {
            // Not in the files: these may be on a volume that takes nothing any more.
            command.args(["-c", "understudy.listen_late=on"]);
        }
        let child = command.spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("the engine ended at once"))?;
        Ok(Engine {
            child,
            pid,
            socket,
            said,
            serves_clients,
            is_given_up: false,
        })
    }

    /// Another program in its place, which would answer on that socket.
    #[cfg(test)]
    pub fn of_child(child: Child, socket: PathBuf) -> Engine {
        Engine {
            pid: child.id().expect("it runs"),
            child,
            socket,
            said: Said::Passed(Arc::default()),
            serves_clients: true,
            is_given_up: false,
        }
    }

    #[cfg(test)]
    pub fn without_port(self) -> Engine {
        Engine {
            serves_clients: false,
            ..self
        }
    }

    pub fn serves_clients(&self) -> bool {
        self.serves_clients
    }

    /// One that has left its port to others takes it.
    ///
    /// # Errors
    /// When it does not answer, or the port is not to be had.
    pub async fn listen(&mut self, limit: Duration) -> Result<EngineStatus, CallError> {
        let status = self.control().listen(limit).await?;
        self.serves_clients = true;
        Ok(status)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGKILL, and waits until it has ended, for so long.
    ///
    /// # Errors
    /// When it has not ended by then: it hangs in the kernel, on a volume that does not complete its writes.
    pub async fn kill(&mut self, limit: Duration) -> io::Result<()> {
        // One that has ended already can't be killed, and its end is seen below.
        let _ = self.child.start_kill();
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the engine (process {}) was killed and has not ended yet; its volume does not complete writes",
                    self.pid
                ),
            )),
        }
    }

    /// SIGKILL, for one that does not answer any more. [`Engine::exited`] sees its end.
    pub fn give_up(&mut self) {
        // One that has ended already can't be killed.
        let _ = self.child.start_kill();
        self.is_given_up = true;
    }

    /// Fast shutdown.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }
    /// Reads its settings again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended in this moment; its exit is seen elsewhere.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    pub fn control(&self) -> Control {
        Control {
            socket: self.socket.clone(),
        }
    }
}

/// The control socket of a running engine.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    pub async fn status(&self, limit: Duration) -> Result<EngineStatus, CallError> {
        transport::call(Address::Unix(&self.socket), "/status", None, None, limit).await
    }
    /// The engine reads the promise again and answers when it has obeyed.
    pub async fn obey(&self, limit: Duration) -> Result<EngineStatus, CallError> {
        self.tell("/obey", limit).await
    }
    async fn listen(&self, limit: Duration) -> Result<EngineStatus, CallError> {
        self.tell("/listen", limit).await
    }
    async fn tell(&self, path: &str, limit: Duration) -> Result<EngineStatus, CallError> {
        let address = Address::Unix(&self.socket);
        transport::call(address, path, None, Some(Vec::new()), limit).await
    }
    /// The record's word for its hold.
    pub async fn confirm(
        &self,
        word: Confirmation,
        limit: Duration,
    ) -> Result<EngineStatus, CallError> {
        let body = serde_json::to_vec(&word)?;
        let address = Address::Unix(&self.socket);
        transport::call(address, "/confirm", None, Some(body), limit).await
    }
}

/// Becomes the engine, tied to the life of `parent`. Returns only if that is impossible.
pub fn guard(parent: u32, program: &Path, arguments: &[String]) -> io::Error {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have ended before the request was in force.
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(now).ok() != Some(parent) {
        return io::Error::other("the supervisor has ended");
    }
    std::process::Command::new(program).args(arguments).exec()
}

/// Why an engine has ended, for people: what it said itself, or else how the system saw it end.
pub fn last_words(engine: Option<&Engine>, status: ExitStatus) -> String {
    if engine.is_some_and(|engine| engine.is_given_up) {
        return "it ran and did not answer any more, so it was ended".to_owned();
    }
    let said = engine.and_then(|engine| engine.said.last_words());
    match status.signal() {
        // Whatever it had said before was about a session, unless it was the cause.
        Some(signal) => said
            .filter(|said| said.contains("PANIC:"))
            .unwrap_or_else(|| killed(signal)),
        None => said.unwrap_or_else(|| format!("it ended without a word ({status})")),
    }
}

fn killed(signal: i32) -> String {
    let mut text = format!("it was ended by signal {signal}");
    if signal == Signal::KILL.as_raw() {
        text.push_str(
            "; where nobody sent it the kernel did, for want of memory: look at the memory limit",
        );
    }
    text
}

/// How much of the end of a log is looked at.
const LOG_END: usize = 8192;
/// What a log's reader gets to come to its end, once the engine has ended.
const READER_LIMIT: Duration = Duration::from_millis(50);
const READER_PAUSE: Duration = Duration::from_millis(5);

/// What the engine has said of late.
#[derive(Debug)]
enum Said {
    /// On from where it stood when the engine began: what others said before is not its reason.
    File {
        log: PathBuf,
        from: u64,
    },
    Passed(Arc<Passed>),
}

/// The end of a log that is passed on, as a program has written it: also where its file takes nothing any more.
#[derive(Debug, Default)]
pub(super) struct Passed {
    end: Mutex<Vec<u8>>,
    is_over: AtomicBool,
}

impl Passed {
    /// With what the program is to write to; all of it goes `into`, as far as that takes it.
    ///
    /// # Errors
    /// When there is no pipe or no thread to be had.
    pub fn begin(
        name: &str,
        into: impl io::Write + Send + 'static,
    ) -> io::Result<(Arc<Passed>, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let passed = Arc::new(Passed::default());
        let kept = Arc::clone(&passed);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || pass_on(reader, into, &kept))?;
        Ok((passed, writer))
    }

    fn keep(&self, more: &[u8]) {
        let mut end = self.end.lock();
        end.extend_from_slice(more);
        let surplus = end.len().saturating_sub(LOG_END);
        end.drain(..surplus);
    }

    /// Once nobody writes any more, or after so long.
    pub async fn end(&self, limit: Duration) -> Vec<u8> {
        let begin = Instant::now();
        while !self.is_over.load(Ordering::Acquire) && begin.elapsed() < limit {
            tokio::time::sleep(READER_PAUSE).await;
        }
        self.end.lock().clone()
    }
}

impl Said {
    /// With what the engine is to write to.
    fn begin(volume: &Volume, to: LogTo) -> io::Result<(Said, Stdio, Stdio)> {
        match to {
            LogTo::File => {
                let path = volume.log("engine");
                let log = OpenOptions::new().create(true).append(true).open(&path)?;
                let again = log.try_clone()?;
                let from = log.metadata()?.len();
                Ok((Said::File { log: path, from }, log.into(), again.into()))
            }
            LogTo::Standard => {
                let (passed, writer) = Passed::begin("engine-log", io::stderr())?;
                let again = writer.try_clone()?;
                Ok((Said::Passed(passed), writer.into(), again.into()))
            }
        }
    }

    fn last_words(&self) -> Option<String> {
        let text = match self {
            Said::File { log, from } => end_of(log, *from)?,
            Said::Passed(passed) => {
                let mut left = READER_LIMIT;
                while !passed.is_over.load(Ordering::Acquire) && !left.is_zero() {
                    std::thread::sleep(READER_PAUSE);
                    left = left.saturating_sub(READER_PAUSE);
                }
                passed.end.lock().clone()
            }
        };
        let text = String::from_utf8_lossy(&text);
        telling(&text).map(|line| line.chars().take(500).collect())
    }
}

/// From a program to its log, until nobody writes any more.
fn pass_on(mut from: io::PipeReader, mut into: impl io::Write, kept: &Passed) {
    let mut buffer = [0_u8; 4096];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        kept.keep(&buffer[..read]);
        // A log that nobody takes must not stop the program: it is read all the same.
        let _ = into.write_all(&buffer[..read]);
    }
    kept.is_over.store(true, Ordering::Release);
}

fn end_of(log: &Path, from: u64) -> Option<Vec<u8>> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    let end = length.saturating_sub(LOG_END as u64).max(from);
    file.seek(SeekFrom::Start(end)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_END as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn telling(log: &str) -> Option<&str> {
    let marks = ["FATAL:", "PANIC:", "error:"];
    let mut back = log.lines().rev();
    let last = back.find(|l| marks.iter().any(|m| l.contains(m)))?;
    // This one only says that something is wrong; what it is stands above it.
    let general = last.contains("FATAL:  configuration file") && last.ends_with("contains errors");
    let above = back.next().filter(|l| general && l.contains("LOG:"));
    Some(above.unwrap_or(last))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        let fatal = "1 FATAL:  could not bind";
        assert_eq!(
            telling(&format!("1 LOG:  starting\n{fatal}\n1 HINT:  x")),
            Some(fatal)
        );
        let wrong = "1 LOG:  invalid value for parameter \"work_mem\": \"lots\"";
        let general = "1 FATAL:  configuration file \"/d/postgresql.conf\" contains errors";
        assert_eq!(telling(&format!("{wrong}\n{general}\n")), Some(wrong));
        assert_eq!(telling("1 LOG:  database system is shut down"), None);
    }

    #[test]
    fn an_engine_s_reason_is_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = Volume::new(dir.path());
        let log = volume.log("engine");
        std::fs::write(&log, "1 PANIC:  of an earlier life\n").expect("written");
        let (said, ..) = Said::begin(&volume, LogTo::File).expect("begun");
        assert_eq!(said.last_words(), None);
        let mut more = OpenOptions::new().append(true).open(&log).expect("opened");
        writeln!(more, "2 FATAL:  could not bind").expect("written");
        assert_eq!(
            said.last_words().as_deref(),
            Some("2 FATAL:  could not bind")
        );
    }

    #[test]
    fn who_left_no_word_is_described() {
        let ended = |raw: i32| last_words(None, ExitStatus::from_raw(raw));
        assert!(ended(9).contains("signal 9") && ended(9).contains("memory"));
        assert_eq!(ended(15), "it was ended by signal 15");
        assert!(
            ended(1 << 8).contains("exit status: 1"),
            "{}",
            ended(1 << 8)
        );
    }

    #[tokio::test]
    async fn whoever_was_killed_is_waited_for() {
        let child = Command::new("sleep").arg("600").spawn().expect("started");
        let mut engine = Engine::of_child(child, PathBuf::new());
        engine.kill(Duration::from_secs(20)).await.expect("ended");
        assert_eq!(engine.child.id(), None);
        engine
            .kill(Duration::from_secs(20))
            .await
            .expect("as it was");
    }
}
