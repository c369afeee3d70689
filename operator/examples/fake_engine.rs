//! A stand-in for the engine, for tests of the supervisor and of local mode only.
//!
//! It keeps a log of lines `TERM VALUE`, replicates it over TCP in a protocol of its own, and speaks the control
//! socket, the promise file, the trigger file and the exit codes of ARCHITECTURE.md. One byte of its "log" is one line, so
//! that positions are line counts. Nothing in the product refers to it.
//!
//! On its port: `WRITE v` answers `OK n` when released; `READ` gives the log; `SEED` gives the log as a base backup;
//! `STREAM id term from` gives lines, takes `ACK n`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use operator::api::{EngineRole, EngineStatus, Fork, Promise, Receiver, StandbyStream};
use operator::ids::{InstanceId, Lsn, Millis, Term};
use operator::transport;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Notify;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments
            .iter()
            .position(|a| a == name)
            .expect("the option is given");
        arguments[at + 1].clone()
    };
    let data = PathBuf::from(option("-D"));
    match arguments[0].as_str() {
        "initdb" => lay_out(&data, &format!("{}", rand::random::<u64>()), "1 init\n"),
        "basebackup" => {
            let port = option("-d")
                .split(' ')
                .find_map(|p| p.strip_prefix("port=").map(str::to_owned));
            seed(
                &data,
                port.expect("conninfo has a port").parse().expect("a port"),
            )
            .await;
        }
        "postgres" => Engine::run(data).await,
        other => panic!("{other}"),
    }
}

fn lay_out(data: &Path, system_id: &str, log: &str) {
    std::fs::create_dir_all(data.join("global")).expect("created");
    let id: u64 = system_id.parse().expect("a number");
    std::fs::write(data.join("global/pg_control"), id.to_le_bytes()).expect("written");
    std::fs::write(data.join("log"), log).expect("written");
    std::fs::write(data.join("postgresql.conf"), "").expect("written");
}

async fn seed(data: &Path, port: u16) {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the Service answers");
    let mut stream = BufReader::new(stream);
    stream.write_all(b"SEED\n").await.expect("sent");
    let mut system_id = String::new();
    stream.read_line(&mut system_id).await.expect("read");
    let mut log = String::new();
    let mut line = String::new();
    while stream.read_line(&mut line).await.expect("read") > 0 && line != ".\n" {
        log.push_str(&line);
        line.clear();
    }
    assert_eq!(line, ".\n", "the backup broke off");
    lay_out(data, system_id.trim(), &log);
    std::fs::write(data.join("standby.signal"), "").expect("written");
}

struct State {
    log: Vec<(Term, String)>,
    promise: Promise,
    standby: bool,
    /// The term of its own promotion.
    primary_term: Option<Term>,
    fork: Option<Fork>,
    end_of_recovery: usize,
    promoted_at: Option<Millis>,
    writable_at: Option<Millis>,
    streams: BTreeMap<InstanceId, (Term, usize)>,
    upstream: Option<Term>,
    receiving: bool,
}

struct Engine {
    data: PathBuf,
    settings: BTreeMap<String, String>,
    state: Mutex<State>,
    moved: Notify,
}

impl Engine {
    async fn run(data: PathBuf) {
        let text = std::fs::read_to_string(data.join("understudy.conf")).expect("configured");
        let settings: BTreeMap<String, String> = text
            .lines()
            .filter_map(|l| l.split_once(" = "))
            .map(|(k, v)| (k.to_owned(), v.trim_matches('\'').to_owned()))
            .collect();
        let promise = read_promise(&settings);
        let log: Vec<(Term, String)> = std::fs::read_to_string(data.join("log"))
            .expect("a log")
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|(t, v)| (Term::new(t.parse().expect("a term")), v.to_owned()))
            .collect();
        let standby = data.join("standby.signal").exists();
        assert!(standby || !promise.sealed, "sealed and not a standby");
        let timeline = log.last().expect("never empty").0;
        let state = State {
            end_of_recovery: log.len(),
            primary_term: (!standby).then_some(timeline),
            fork: fork_of(&log),
            log,
            promise,
            standby,
            promoted_at: None,
            writable_at: None,
            streams: BTreeMap::new(),
            upstream: None,
            receiving: false,
        };
        let engine = Arc::new(Engine {
            data,
            settings,
            state: Mutex::new(state),
            moved: Notify::new(),
        });
        engine.serve().await;
    }

    async fn serve(self: Arc<Engine>) {
        let port: u16 = self.settings["port"].parse().expect("a port");
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("the port is free");
        let socket = PathBuf::from(&self.settings["understudy.control_socket"]);
        let _ = std::fs::remove_file(&socket);
        let control = UnixListener::bind(&socket).expect("bound");
        tokio::spawn(Arc::clone(&self).receive());
        let mut interrupt =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
                .expect("a handler");
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                Ok((client, _)) = listener.accept() => {
                    let engine = Arc::clone(&self);
                    tokio::spawn(async move { let _ = engine.session(client).await; });
                }
                Ok((stream, _)) = control.accept() => {
                    let engine = Arc::clone(&self);
                    tokio::spawn(transport::serve(stream, move |request| {
                        if request.method() == hyper::Method::POST { engine.obey(); }
                        let status = engine.status();
                        std::future::ready(transport::json(hyper::StatusCode::OK, &status))
                    }));
                }
                _ = tick.tick() => self.look_for_trigger(),
                _ = interrupt.recv() => { self.ship_all().await; std::process::exit(0); }
            }
        }
    }

    /// Fast shutdown ends when the streaming standbys have everything.
    async fn ship_all(&self) {
        for _ in 0..200 {
            let done = {
                let state = self.state.lock();
                state.standby
                    || state
                        .streams
                        .values()
                        .all(|(_, flushed)| *flushed >= state.log.len())
            };
            if done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn obey(&self) {
        let promise = read_promise(&self.settings);
        let mut state = self.state.lock();
        if state
            .primary_term
            .is_some_and(|term| promise.promised_term > term)
        {
            std::process::exit(3);
        }
        state.promise = promise;
        drop(state);
        self.look_for_trigger();
        self.release();
        self.moved.notify_waiters();
    }

    fn look_for_trigger(&self) {
        let path = PathBuf::from(&self.settings["promote_trigger_file"]);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return;
        };
        std::fs::remove_file(&path).expect("removed");
        let mut state = self.state.lock();
        let expected = format!(
            "cluster_id={}\nterm={}\ncandidate={}\n",
            state.promise.cluster_id, state.promise.promised_term, state.promise.instance_id
        );
        if text != expected || !state.standby {
            eprintln!("LOG:  trigger file refused: {text:?}");
            return;
        }
        let term = state.promise.promised_term;
        let last = state.log.last().expect("never empty").0;
        state.fork = Some(Fork {
            timeline: last,
            lsn: Lsn::new(state.log.len() as u64),
        });
        state.standby = false;
        state.primary_term = Some(term);
        state.promoted_at = Some(Millis::now());
        self.append(&mut state, term, "promoted");
        state.end_of_recovery = state.log.len();
        std::fs::remove_file(self.data.join("standby.signal")).expect("it was a standby");
        drop(state);
        self.release();
        self.moved.notify_waiters();
    }

    fn append(&self, state: &mut State, term: Term, value: &str) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(self.data.join("log"))
            .expect("a log");
        file.write_all(format!("{term} {value}\n").as_bytes())
            .expect("written");
        state.log.push((term, value.to_owned()));
    }

    /// How far commits are acknowledged.
    fn released(state: &State) -> usize {
        let Some(term) = state.primary_term else {
            return 0;
        };
        let Some(set) = state.promise.set.as_ref().filter(|s| s.term == term) else {
            return 0;
        };
        let mut flushed: Vec<usize> = set
            .members
            .iter()
            .map(|id| {
                state
                    .streams
                    .get(id)
                    .filter(|(t, _)| *t == term)
                    .map_or(0, |(_, f)| *f)
            })
            .collect();
        flushed.sort_unstable();
        let required = set.required as usize;
        if required == 0 {
            return state.log.len();
        }
        if required > flushed.len() {
            return 0;
        }
        flushed[flushed.len() - required]
    }

    fn release(&self) {
        let mut state = self.state.lock();
        if state.writable_at.is_none()
            && !state.standby
            && Self::released(&state) >= state.end_of_recovery
        {
            state.writable_at = Some(Millis::now());
        }
        drop(state);
        self.moved.notify_waiters();
    }

    fn status(&self) -> EngineStatus {
        let state = self.state.lock();
        let end = Some(Lsn::new(state.log.len() as u64));
        let released = Self::released(&state);
        EngineStatus {
            system_id: u64::from_le_bytes(
                std::fs::read(self.data.join("global/pg_control")).expect("read")[..8]
                    .try_into()
                    .expect("8 bytes"),
            )
            .to_string(),
            instance_id: Some(state.promise.instance_id.clone()),
            role: if state.standby {
                EngineRole::Standby
            } else {
                EngineRole::Primary
            },
            in_recovery: state.standby,
            consistent: true,
            writable: state.writable_at.is_some(),
            timeline: state.log.last().expect("never empty").0,
            insert_lsn: end,
            write_lsn: end,
            flush_lsn: end,
            replay_lsn: end,
            released_lsn: Some(Lsn::new(released as u64)),
            end_of_recovery_lsn: None,
            promised_term: Some(state.promise.promised_term),
            sealed: state.promise.sealed,
            primary_term: state.primary_term,
            set: state.promise.set.clone().filter(|_| !state.standby),
            set_caught_up: released >= state.end_of_recovery,
            promoted_at_ms: state.promoted_at,
            writable_at_ms: state.writable_at,
            receiver: Some(Receiver {
                state: if state.receiving {
                    "streaming"
                } else {
                    "connecting"
                }
                .to_owned(),
                upstream_term: state.upstream,
            }),
            standbys: state
                .streams
                .iter()
                .map(|(id, (term, flushed))| StandbyStream {
                    instance_id: Some(id.clone()),
                    term: Some(*term),
                    state: "streaming".to_owned(),
                    flush_lsn: Some(Lsn::new(*flushed as u64)),
                    ..StandbyStream::default()
                })
                .collect(),
            fork: state.fork,
        }
    }

    async fn session(&self, client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut client = BufReader::new(client);
        let mut line = String::new();
        while client.read_line(&mut line).await? > 0 {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            line.clear();
            match words
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .as_slice()
            {
                ["WRITE", value] => self.write(&mut client, value).await?,
                ["READ"] => self.send_log(&mut client, false).await?,
                ["SEED"] => self.send_log(&mut client, true).await?,
                ["STREAM", id, term, from] => {
                    let term = Term::new(term.parse().expect("a term"));
                    let from = from.parse().expect("a position");
                    return self.stream(client, InstanceId::new(*id), term, from).await;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn write(&self, client: &mut BufReader<TcpStream>, value: &str) -> std::io::Result<()> {
        let position = {
            let mut state = self.state.lock();
            state.primary_term.map(|term| {
                self.append(&mut state, term, value);
                state.log.len()
            })
        };
        let Some(position) = position else {
            return client.write_all(b"READONLY\n").await;
        };
        self.moved.notify_waiters();
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if Self::released(&self.state.lock()) >= position {
                break;
            }
            moved.await;
        }
        client
            .write_all(format!("OK {position}\n").as_bytes())
            .await
    }

    async fn send_log(&self, client: &mut BufReader<TcpStream>, seed: bool) -> std::io::Result<()> {
        let mut text = if seed {
            format!("{}\n", self.status().system_id)
        } else {
            String::new()
        };
        for (term, value) in &self.state.lock().log {
            text.push_str(&format!("{term} {value}\n"));
        }
        text.push_str(".\n");
        client.write_all(text.as_bytes()).await
    }

    async fn stream(
        &self,
        client: BufReader<TcpStream>,
        id: InstanceId,
        term: Term,
        mut from: usize,
    ) -> std::io::Result<()> {
        let (read, mut write) = tokio::io::split(client);
        let mine = self.state.lock().promise.promised_term;
        write.write_all(format!("TERM {mine}\n").as_bytes()).await?;
        if term > mine {
            return Ok(());
        }
        let mut acks = BufReader::new(read).lines();
        self.state.lock().streams.insert(id.clone(), (term, from));
        let result = loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let lines: Vec<String> = {
                let state = self.state.lock();
                state.log[from.min(state.log.len())..]
                    .iter()
                    .map(|(t, v)| format!("LINE {t} {v}\n"))
                    .collect()
            };
            from += lines.len();
            if let Err(error) = write.write_all(lines.concat().as_bytes()).await {
                break Err(error);
            }
            tokio::select! {
                read = acks.next_line() => {
                    let Ok(Some(line)) = read else { break Ok(()) };
                    if let Some(flushed) = line.trim().strip_prefix("ACK ") {
                        let flushed = flushed.parse().expect("a position");
                        self.state.lock().streams.insert(id.clone(), (term, flushed));
                        self.release();
                    }
                }
                () = &mut moved => {}
            }
        };
        self.state.lock().streams.remove(&id);
        result
    }

    /// The receiver: follows the Service whenever it may.
    async fn receive(self: Arc<Engine>) {
        loop {
            let may = {
                let state = self.state.lock();
                state.standby && !state.promise.sealed
            };
            if may {
                let _ = self.receive_once().await;
                let mut state = self.state.lock();
                state.receiving = false;
                state.upstream = None;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), self.moved.notified()).await;
        }
    }

    async fn receive_once(&self) -> std::io::Result<()> {
        let conninfo = &self.settings["primary_conninfo"];
        let port = conninfo
            .split(' ')
            .find_map(|p| p.strip_prefix("port="))
            .expect("a port");
        let port: u16 = port.parse().expect("a port");
        let (id, term, from) = {
            let state = self.state.lock();
            (
                state.promise.instance_id.clone(),
                state.promise.promised_term,
                state.log.len(),
            )
        };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(format!("STREAM {id} {term} {from}\n").as_bytes())
            .await?;
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        loop {
            let moved = self.moved.notified();
            let line = tokio::select! {
                read = lines.next_line() => match read? { Some(line) => line, None => return Ok(()) },
                () = moved => {
                    let state = self.state.lock();
                    if state.promise.sealed || !state.standby || state.promise.promised_term != term { return Ok(()); }
                    continue;
                }
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["TERM", upstream] => {
                    let upstream = Term::new(upstream.parse().expect("a term"));
                    if upstream < term {
                        return Ok(());
                    }
                    let mut state = self.state.lock();
                    state.upstream = Some(upstream);
                    state.receiving = true;
                }
                ["LINE", t, value] => {
                    let flushed = {
                        let mut state = self.state.lock();
                        if state.promise.sealed || !state.standby {
                            return Ok(());
                        }
                        let t = Term::new(t.parse().expect("a term"));
                        self.append(&mut state, t, value);
                        state.fork = fork_of(&state.log);
                        state.log.len()
                    };
                    write
                        .write_all(format!("ACK {flushed}\n").as_bytes())
                        .await?;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn fork_of(log: &[(Term, String)]) -> Option<Fork> {
    let last = log.last()?.0;
    let first = log.iter().position(|(t, _)| *t == last)?;
    let before = log.get(first.checked_sub(1)?)?;
    Some(Fork {
        timeline: before.0,
        lsn: Lsn::new(first as u64),
    })
}

fn read_promise(settings: &BTreeMap<String, String>) -> Promise {
    let bytes = std::fs::read(&settings["understudy.promise_file"]).expect("a promise");
    serde_json::from_slice(&bytes).expect("a promise parses")
}
