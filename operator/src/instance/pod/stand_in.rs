//! A former primary's pod that is about to go passes clients on to the new primary.
//!
//! kube-proxy lets a second pass between two changes of its rules, whichever Service they are of, and the end of a pod is
//! such a change itself: what moves the write Service comes into force up to a second after it was written. Until then
//! clients are led here, and the role is elsewhere already.
//!
//! Bytes are passed on as they are. TLS, passwords and certificates are between the client and the new primary, and so is
//! every acknowledgement: nothing here can promise anything. Only the address that the new primary sees is this pod's, so
//! where `pg_hba.conf` tells addresses apart nobody is passed on (`render/hba.rs`). Of the protocol this knows nothing but
//! whose turn it is, so that a session ends between two statements when kube-proxy knows better.
//!
//! It has a thread of its own: the supervisor's loop waits for its volume. A crash leaves nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Sessions at once. Each takes two descriptors of the process that has to keep the promise; whoever comes besides is
/// refused, as all are where nobody stands in.
const MOST: usize = 256;
/// Bytes that are passed on at a time.
const CHUNK: usize = 8 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Between two attempts to take a connection, where the system has nothing left for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A server that has said nothing more for so long has answered, and it is its client's turn.
const QUIET: Duration = Duration::from_millis(2);
/// What sessions get to come to the end of a statement.
const EASE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Open,
    /// Nobody new is taken, and whoever is here goes between two statements.
    WindingUp,
    Over,
}

/// Passes clients on for as long as it is kept. The port is free again when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    to: SocketAddr,
    /// Its socket is closed.
    has_left: Arc<AtomicBool>,
    stage: watch::Sender<Stage>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// # Errors
    /// When the port or a thread can't be had.
    pub fn begin(at: SocketAddr, to: SocketAddr) -> io::Result<StandIn> {
        StandIn::behind(std::net::TcpListener::bind(at)?, to)
    }

    fn behind(listener: std::net::TcpListener, to: SocketAddr) -> io::Result<StandIn> {
        listener.set_nonblocking(true)?;
        let (stage, seen) = watch::channel(Stage::Open);
        let has_left = Arc::new(AtomicBool::new(false));
        let leaves = Arc::clone(&has_left);
        let thread = std::thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(move || run(listener, to, seen, &leaves))?;
        Ok(StandIn {
            to,
            has_left,
            stage,
            thread: Some(thread),
        })
    }

    /// Where clients are passed on to.
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    /// Refuses whoever comes from now on, and lets those who are here come to the end of what they are at.
    pub fn wind_up(&self) {
        self.stage.send_if_modified(|stage| {
            let is_new = *stage == Stage::Open;
            if is_new {
                *stage = Stage::WindingUp;
            }
            is_new
        });
    }

    /// Whether another one can have the port: those who are still passed on are connected.
    pub fn has_left_port(&self) -> bool {
        self.has_left.load(Ordering::Acquire) || self.is_over()
    }

    /// Whether nobody is passed on any more.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Over);
        // It waits for nothing but this word.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("whoever passed clients on has panicked");
        }
    }
}

fn run(
    listener: std::net::TcpListener,
    to: SocketAddr,
    stage: watch::Receiver<Stage>,
    has_left: &AtomicBool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime.and_then(|runtime| runtime.block_on(serve(listener, to, stage, has_left)));
    if let Err(error) = done {
        tracing::warn!(%error, "clients can't be passed on; they are refused");
    }
}

async fn serve(
    listener: std::net::TcpListener,
    to: SocketAddr,
    mut stage: watch::Receiver<Stage>,
    has_left: &AtomicBool,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut sessions = JoinSet::new();
    let of_sessions = stage.clone();
    loop {
        tokio::select! {
            () = has_come(&mut stage, Stage::WindingUp) => break,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if sessions.len() < MOST => {
                    sessions.spawn(session(client, to, of_sessions.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    drop(listener);
    has_left.store(true, Ordering::Release);
    let all_end = async { while sessions.join_next().await.is_some() {} };
    tokio::select! {
        () = has_come(&mut stage, Stage::Over) => {}
        () = all_end => {}
    }
    Ok(())
}

/// Until it is so far. Where nobody is left to say so, it is.
async fn has_come(stage: &mut watch::Receiver<Stage>, least: Stage) {
    let _ = stage.wait_for(|now| *now >= least).await;
}

/// Who has spoken last, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaker {
    Client,
    Server,
}

#[derive(Debug)]
struct Turn {
    last: Speaker,
    at: Instant,
}

fn is_client_s(turn: &Mutex<Turn>) -> bool {
    let turn = turn.lock();
    turn.last == Speaker::Server && turn.at.elapsed() >= QUIET
}

/// One client's, until either side ends it or it has to go.
async fn session(mut client: TcpStream, to: SocketAddr, mut stage: watch::Receiver<Stage>) {
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(to)).await;
    let Ok(Ok(mut server)) = connected else {
        return;
    };
    let at_once = client.set_nodelay(true).and(server.set_nodelay(true));
    if at_once.is_err() {
        return;
    }
    let turn = Mutex::new(Turn {
        last: Speaker::Client,
        at: Instant::now(),
    });
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // Both ways at once: whoever writes much before it reads must not wait for ever for whoever does the same.
    tokio::select! {
        _ = pass(Speaker::Client, from_client, to_server, &turn) => {}
        _ = pass(Speaker::Server, from_server, to_client, &turn) => {}
        () = has_to_go(&mut stage, &turn) => {}
    }
}

/// Until `of` says no more, or nobody listens to it.
async fn pass(
    of: Speaker,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    turn: &Mutex<Turn>,
) -> io::Result<()> {
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        *turn.lock() = Turn {
            last: of,
            at: Instant::now(),
        };
        to.write_all(&buffer[..read]).await?;
    }
}

/// Once everybody has to, at the end of what is under way; or when that lasts.
async fn has_to_go(stage: &mut watch::Receiver<Stage>, turn: &Mutex<Turn>) {
    has_come(stage, Stage::WindingUp).await;
    let begin = Instant::now();
    while !is_client_s(turn) && begin.elapsed() < EASE {
        tokio::time::sleep(QUIET / 2).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn somewhere() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let at = listener.local_addr().expect("bound");
        (listener, at)
    }

    /// Answers every question with itself; one client after the other.
    fn server() -> SocketAddr {
        let (listener, at) = somewhere();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("taken");
                let mut question = [0_u8; 64];
                while let Ok(read @ 1..) = client.read(&mut question) {
                    if client.write_all(&question[..read]).is_err() {
                        break;
                    }
                }
            }
        });
        at
    }

    fn client(at: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(at).expect("connected");
        client.set_read_timeout(Some(LIMIT)).expect("set");
        client
    }

    fn ask(client: &mut TcpStream, question: &[u8]) {
        client.write_all(question).expect("sent");
        let mut answer = vec![0_u8; question.len()];
        client.read_exact(&mut answer).expect("answered");
        assert_eq!(answer, question);
    }

    /// Whichever way a connection ends, it does so before the limit.
    fn ends(client: &mut TcpStream) {
        match client.read(&mut [0_u8; 1]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    #[test]
    fn clients_are_passed_on_until_it_is_wound_up() {
        let (listener, at) = somewhere();
        let to = server();
        let stand_in = StandIn::behind(listener, to).expect("begun");
        assert_eq!(stand_in.to(), to);
        let mut kept = client(at);
        for question in [&b"one"[..], b"two"] {
            ask(&mut kept, question);
        }
        assert!(!stand_in.is_over());
        stand_in.wind_up();
        ends(&mut kept);
        let begin = Instant::now();
        while !stand_in.is_over() {
            assert!(begin.elapsed() < LIMIT, "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        let refused = TcpStream::connect(at).expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        stand_in.wind_up();
        assert!(stand_in.is_over());
    }

    #[test]
    fn the_port_is_free_when_it_is_dropped() {
        let (listener, at) = somewhere();
        let stand_in = StandIn::behind(listener, server()).expect("begun");
        let mut kept = client(at);
        ask(&mut kept, b"one");
        assert!(StandIn::begin(at, at).is_err(), "the port is taken");
        drop(stand_in);
        let again = StandIn::begin(at, server()).expect("the port is free");
        ends(&mut kept);
        ask(&mut client(at), b"two");
        drop(again);
    }

    #[test]
    fn who_leads_nowhere_sends_clients_away() {
        let (gone, to) = somewhere();
        drop(gone);
        let (listener, at) = somewhere();
        let stand_in = StandIn::behind(listener, to).expect("begun");
        ends(&mut client(at));
        drop(stand_in);
    }

    #[test]
    fn a_statement_under_way_is_not_cut() {
        let turn = |last: Speaker, at: Instant| Mutex::new(Turn { last, at });
        let long_ago = Instant::now();
        std::thread::sleep(QUIET);
        assert!(is_client_s(&turn(Speaker::Server, long_ago)));
        assert!(!is_client_s(&turn(Speaker::Client, long_ago)));
        let later = Instant::now() + LIMIT;
        assert!(!is_client_s(&turn(Speaker::Server, later)), "more may come");
    }
}
