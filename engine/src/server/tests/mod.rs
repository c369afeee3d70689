//! Start-up and the session loop over real sockets, with a fake behind them.
//!
//! The claim that matters most: whatever comes before authentication is done, the answer is FATAL and the end, and no
//! byte of it reaches a session.

mod start_up;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::connection::Connection;
use super::host::{Accepting, Host, NewSession, ReplicationPeer, Statements};
use super::listener::{Listeners, Server};
use crate::catalog::view::{Database, Role};
use crate::config::Settings;
use crate::config::scram::Verifier;
use crate::config::store::LoadOptions;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::session::BindRequest;
use crate::sql::session::backends::{BackendKind, Backends};
use crate::sql::session::output::{CopyInput, Format, Output};
use crate::txn::interrupt::Interrupt;

struct Fake {
    settings: Settings,
    backends: Arc<Backends>,
    accepting: Accepting,
    opened: Arc<AtomicUsize>,
}

struct FakeSession;

fn role(name: &str, password: Option<&str>) -> Role {
    Role {
        oid: Oid::new(10),
        name: name.to_owned(),
        superuser: name == "boss",
        inherit: true,
        create_role: false,
        create_db: false,
        login: name != "nologin",
        replication: false,
        bypass_rls: false,
        connection_limit: if name == "one" { 1 } else { -1 },
        password: password.map(|p| Verifier::of_password(p).to_string()),
        valid_until: (name == "expired").then_some(0),
    }
}

impl Host for Fake {
    type Session = FakeSession;

    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn backends(&self) -> &Arc<Backends> {
        &self.backends
    }
    fn accepting(&self) -> Accepting {
        self.accepting
    }
    fn role(&self, name: &str) -> Result<Option<Role>, SqlError> {
        Ok(match name {
            "ghost" | "ghost_pw" => None,
            "pw" | "expired" => Some(role(name, Some("secret"))),
            _ => Some(role(name, None)),
        })
    }
    fn database(&self, name: &str) -> Result<Option<Database>, SqlError> {
        Ok((name != "none").then(|| Database {
            oid: Oid::new(5),
            name: name.to_owned(),
            owner: Oid::new(10),
            acl: None,
            is_template: false,
            allow_connections: name != "closed",
            connection_limit: -1,
        }))
    }
    fn may_connect(&self, _: &Role, _: &Database) -> Result<bool, SqlError> {
        Ok(true)
    }
    fn is_member(&self, _: &Role, _: &str) -> Result<bool, SqlError> {
        Ok(false)
    }
    fn mock_secret(&self) -> Vec<u8> {
        b"mock".to_vec()
    }
    async fn open(&self, _: NewSession) -> Result<FakeSession, SqlError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(FakeSession)
    }
    async fn replicate(
        &self,
        _: &mut Connection,
        _: NewSession,
        _: ReplicationPeer,
    ) -> Result<(), SqlError> {
        Ok(())
    }
}

/// Says what was asked of it; `error` fails, `copy` reads a COPY.
impl Statements for FakeSession {
    async fn simple<O: Output>(&mut self, text: &str, out: &mut O) -> Result<(), SqlError> {
        match text {
            "error" => out.error(&SqlError::new("42601", "no")),
            "fatal" => return Err(SqlError::fatal("57P01", "out")),
            "copy" => {
                out.copy_in(Format::Text, 1);
                out.flush().await.expect("the client listens");
                let mut bytes = 0;
                loop {
                    match out.receive_copy().await? {
                        CopyInput::Data(d) => bytes += d.len(),
                        CopyInput::Done => break,
                        CopyInput::Fail(why) => {
                            out.error(&SqlError::new("57014", why));
                            return Ok(());
                        }
                    }
                }
                out.command_complete(&format!("COPY {bytes}"));
            }
            _ => out.command_complete(text),
        }
        Ok(())
    }
    async fn parse<O: Output>(
        &mut self,
        _: &str,
        text: &str,
        _: Vec<Oid>,
        _: &mut O,
    ) -> Result<(), SqlError> {
        if text == "error" {
            Err(SqlError::new("42601", "no"))
        } else {
            Ok(())
        }
    }
    async fn bind<O: Output>(&mut self, _: BindRequest<'_>, _: &mut O) -> Result<(), SqlError> {
        Ok(())
    }
    async fn describe_statement<O: Output>(
        &mut self,
        _: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        out.no_data();
        Ok(())
    }
    async fn describe_portal<O: Output>(&mut self, _: &str, out: &mut O) -> Result<(), SqlError> {
        out.no_data();
        Ok(())
    }
    async fn execute<O: Output>(
        &mut self,
        _: &str,
        max_rows: u32,
        out: &mut O,
    ) -> Result<(), SqlError> {
        if max_rows > 0 {
            out.portal_suspended()
        } else {
            out.command_complete("DONE")
        }
        Ok(())
    }
    fn close_statement(&mut self, _: &str) {}
    fn close_portal(&mut self, _: &str) {}
    async fn sync<O: Output>(&mut self, _: &mut O) -> Result<(), SqlError> {
        Ok(())
    }
    async fn failed(&mut self, _: bool) {}
    fn status(&self) -> u8 {
        b'I'
    }
    fn has_transaction(&self) -> bool {
        false
    }
    fn report_settings<O: Output>(&mut self, _: &mut O) {}
    fn rests(&mut self) {}
    fn wakes(&mut self) {}
    async fn close(self) {}
}

struct Running {
    socket: std::path::PathBuf,
    backends: Arc<Backends>,
    opened: Arc<AtomicUsize>,
    server: Arc<Server<Fake>>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    _directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const HBA: &str = "\
local replication all trust
local all pw,ghost_pw,expired,nopw scram-sha-256
local all rejected reject
local all nobody_here peer
local all ghost,boss,joe,one,nologin trust
";

fn start(accepting: Accepting, conf: &str) -> Running {
    let d = tempfile::tempdir().expect("a temporary directory");
    let path = d.path().to_owned();
    std::fs::write(path.join("pg_hba.conf"), HBA).expect("writable");
    let base = format!(
        "listen_addresses = ''\nunix_socket_directories = '{}'\nlog_min_messages = panic\n",
        path.display()
    );
    std::fs::write(path.join("postgresql.conf"), base + conf).expect("writable");
    let options = LoadOptions {
        data_directory: path.clone(),
        command_line: Vec::new(),
    };
    let (settings, _) = Settings::load(options).expect("valid settings");
    super::log::configure(&settings.current());
    let listeners = Listeners::bind(&settings.current()).expect("a free socket");
    let backends = Backends::new();
    let opened = Arc::new(AtomicUsize::new(0));
    let host = Fake {
        settings,
        backends: Arc::clone(&backends),
        accepting,
        opened: Arc::clone(&opened),
    };
    let server = Server::new(Arc::new(host), None).expect("a valid pg_hba.conf");
    let task = tokio::spawn(Arc::clone(&server).serve(listeners));
    Running {
        socket: path.join(".s.PGSQL.5432"),
        backends,
        opened,
        server,
        task,
        _directory: d,
    }
}

/// A message from the server.
type Reply = (u8, Vec<u8>);

struct Client(UnixStream);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    out.extend(body);
    out
}

fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for (n, v) in pairs {
        body.extend(n.bytes().chain([0]).chain(v.bytes()).chain([0]));
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4)
        .expect("short")
        .to_be_bytes()
        .to_vec();
    out.extend(body);
    out
}

impl Client {
    async fn connect(socket: &Path) -> Client {
        Client(UnixStream::connect(socket).await.expect("it listens"))
    }
    async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already; what it said is read all the same.
        let _ = self.0.write_all(bytes).await;
    }
    /// One message; `None` at the end.
    async fn reply(&mut self) -> Option<Reply> {
        let mut header = [0; 5];
        let read = tokio::time::timeout(Duration::from_secs(10), self.0.read_exact(&mut header));
        read.await.expect("an answer in time").ok()?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.expect("a whole message");
        Some((header[0], body))
    }
    /// Everything up to ReadyForQuery or the end, as tags.
    async fn tags(&mut self) -> String {
        let mut tags = String::new();
        while let Some((tag, _)) = self.reply().await {
            tags.push(char::from(tag));
            if tag == b'Z' {
                return tags;
            }
        }
        tags + "."
    }
    async fn login(socket: &Path, user: &str) -> Client {
        let mut c = Client::connect(socket).await;
        c.send(&startup(&[("user", user)])).await;
        assert_eq!(c.tags().await, "RKZ");
        c
    }
}

/// Severity, SQLSTATE and message of an error.
fn fields(reply: &Reply) -> (String, String, String) {
    assert_eq!(reply.0, b'E', "not an error: {reply:?}");
    let field = |code: u8| {
        reply
            .1
            .split(|b| *b == 0)
            .find(|f| f.first() == Some(&code))
            .map(|f| String::from_utf8_lossy(&f[1..]).into_owned())
            .unwrap_or_default()
    };
    (field(b'V'), field(b'C'), field(b'M'))
}

/// Sends bytes on a fresh connection and expects one FATAL and the end.
async fn refused(server: &Running, bytes: &[u8]) -> (String, String) {
    let mut c = Client::connect(&server.socket).await;
    c.send(bytes).await;
    c.send(&message(b'Q', b"SELECT 1\0")).await;
    let mut reply = c.reply().await.expect("an error");
    if (reply.0, &reply.1[..]) == (b'R', &[0; 4][..]) {
        // Role, database and settings are looked at after the proof, as in PostgreSQL.
        reply = c.reply().await.expect("an error");
    }
    let error = fields(&reply);
    assert_eq!(error.0, "FATAL");
    assert!(c.reply().await.is_none(), "the connection must end");
    (error.1, error.2)
}

fn parse(text: &str) -> Vec<u8> {
    message(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"].concat())
}

#[tokio::test]
async fn a_pipeline_skips_from_an_error_to_its_sync() {
    let s = start(Accepting::Yes, "");
    let mut c = Client::login(&s.socket, "joe").await;
    let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
    let execute = |n: u8| message(b'E', &[0, 0, 0, 0, n]);
    let sync = message(b'S', b"");
    let good = [parse("x"), bind.clone(), message(b'D', b"P\0"), execute(0)].concat();
    c.send(
        &[
            &good[..],
            &parse("error"),
            &good,
            &sync,
            &good,
            &execute(5),
            &sync,
        ]
        .concat(),
    )
    .await;
    assert_eq!(c.tags().await, "12nCEZ");
    assert_eq!(c.tags().await, "12nCsZ");
    // A malformed message of a known type is an error of its own; the stream stays in step.
    c.send(
        &[
            &message(b'B', b"\0"),
            &good[..],
            &sync,
            &message(b'Q', b"ok\0"),
        ]
        .concat(),
    )
    .await;
    assert_eq!(c.tags().await, "EZ");
    assert_eq!(c.tags().await, "CZ");
    c.send(&[message(b'Q', b"error\0"), message(b'F', b"\0\0\0\0")].concat())
        .await;
    assert_eq!(c.tags().await, "EZ");
    assert_eq!(c.tags().await, "EZ");
    c.send(&[message(b'C', b"Sx\0"), message(b'H', b"")].concat())
        .await;
    assert_eq!(c.reply().await.expect("flushed").0, b'3');
    c.send(&message(b'z', b"")).await;
    let e = fields(&c.reply().await.expect("an error"));
    assert_eq!(
        (e.0.as_str(), e.2.as_str()),
        ("FATAL", "invalid frontend message type 122")
    );
    assert!(c.reply().await.is_none());
}

#[tokio::test]
async fn copy_in_ends_well_or_with_the_client_s_reason() {
    let s = start(Accepting::Yes, "");
    let mut c = Client::login(&s.socket, "joe").await;
    let copy = message(b'Q', b"copy\0");
    let data = message(b'd', b"12345");
    c.send(
        &[
            &copy[..],
            &data,
            &message(b'H', b""),
            &data,
            &message(b'c', b""),
        ]
        .concat(),
    )
    .await;
    assert_eq!(c.reply().await.expect("an answer").0, b'G');
    let (tag, body) = c.reply().await.expect("an answer");
    assert_eq!((tag, &body[..]), (b'C', &b"COPY 10\0"[..]));
    assert_eq!(c.tags().await, "Z");
    c.send(&[&copy[..], &data, &message(b'f', b"why\0")].concat())
        .await;
    assert_eq!(c.reply().await.expect("an answer").0, b'G');
    assert_eq!(fields(&c.reply().await.expect("an error")).2, "why");
    assert_eq!(c.tags().await, "Z");
}

#[tokio::test]
async fn the_server_speaks_first_when_a_session_is_ended() {
    let s = start(Accepting::Yes, "");
    let mut c = Client::login(&s.socket, "joe").await;
    let mut other = Client::login(&s.socket, "joe").await;
    s.backends.all()[0].interrupts.raise(Interrupt::Cancel);
    c.send(&message(b'Q', b"still here\0")).await;
    assert_eq!(c.tags().await, "CZ");
    s.backends
        .raise_all(BackendKind::Client, Interrupt::Terminate);
    for c in [&mut c, &mut other] {
        let e = fields(&c.reply().await.expect("an error"));
        assert_eq!((e.0.as_str(), e.1.as_str()), ("FATAL", "57P01"));
        assert!(c.reply().await.is_none());
    }
}

/// Random bytes on a logged-in connection: an error or silence, and the server goes on.
#[tokio::test]
async fn garbage_after_login_hurts_nobody_else() {
    let s = start(Accepting::Yes, "");
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = seed | 1;
    for _ in 0..200 {
        let mut c = Client::login(&s.socket, "joe").await;
        let bytes: Vec<u8> = (0..64)
            .map(|i| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let byte = (random >> 56) as u8;
                // Every other connection begins with a known type and a short length.
                match i {
                    0 if random & 2 == 0 => b"QPBDECSHFdcfXp"[usize::from(byte) % 14],
                    1..4 => 0,
                    _ => byte,
                }
            })
            .collect();
        c.send(&bytes).await;
    }
    let mut c = Client::login(&s.socket, "joe").await;
    c.send(&message(b'Q', b"ok\0")).await;
    assert_eq!(c.tags().await, "CZ");
}

/// A commit is released, the process stands still, and then the session writes: nothing reaches the client until the
/// standby has a record written after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_before_a_standstill_is_confirmed_before_it_is_told() {
    use crate::ids::{Lsn, Term};
    use crate::txn::release::{ReleasePolicy, StandbyPosition, SyncNames};
    use crate::txn::testing::{World, options, session};
    use crate::txn::{CommitLevel, Interrupts};

    let world = World::new();
    let names = SyncNames::parse("s").expect("valid").expect("not empty");
    let release = world.txns.release();
    release.set_policy(ReleasePolicy::Names(names));
    let says = |at: Lsn| {
        let report = StandbyPosition {
            application_name: "s".to_owned(),
            instance: None,
            term: Term::new(0),
            write: at,
            flush: at,
            apply: at,
        };
        release.advance_standbys(&vec![report]);
    };
    let commit = async |session: &Arc<Interrupts>| {
        let mut txn = world.txns.begin(options(), Arc::clone(session));
        world.txns.xid(&mut txn).expect("an xid");
        let standby = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                says(world.store.wal.flush_lsn());
            }
        };
        tokio::select! {
            done = world.txns.commit(txn, CommitLevel::On) => done.expect("committed").expect("it wrote"),
            () = standby => unreachable!("it goes on for ever"),
        }
    };
    let (ours, mut client) = UnixStream::pair().expect("a pair of sockets");
    let mut connection = Connection::unix(ours);
    let session = session();
    connection.interrupts = Some(Arc::clone(&session));
    let mut seen = [0; 16];

    let now = std::time::Instant::now;
    release.standstills.look(now());
    commit(&session).await;
    connection.output.extend_from_slice(b"first");
    connection.flush_unless_ended().await.expect("sent");
    assert_eq!(client.read(&mut seen).await.expect("read"), 5);

    release.standstills.look(now());
    let lsn = commit(&session).await;
    release.standstills.look(now() + Duration::from_secs(2));
    connection.output.extend_from_slice(b"second");
    let quiet = Duration::from_millis(200);
    let waits = tokio::time::timeout(quiet, connection.flush_unless_ended()).await;
    assert!(waits.is_err(), "{waits:?}");
    assert!(client.try_read(&mut seen).is_err(), "it was told too early");
    says(lsn);
    let waits = tokio::time::timeout(quiet, connection.flush_unless_ended()).await;
    assert!(waits.is_err(), "an old report says nothing: {waits:?}");
    // Again and again: what is confirmed may not be flushed yet the first time.
    let standby = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            says(world.store.wal.flush_lsn());
        }
    };
    tokio::select! {
        sent = connection.flush_unless_ended() => sent.expect("sent"),
        () = standby => unreachable!("it goes on for ever"),
    }
    assert_eq!(client.read(&mut seen).await.expect("read"), 6);

    // Its standby has gone and is waited for no longer: what is owed is told, though nobody looks at the clock.
    release.standstills.look(now());
    commit(&session).await;
    release.standstills.look(now() + Duration::from_secs(3));
    connection.output.extend_from_slice(b"alone");
    let waits = tokio::time::timeout(quiet, connection.flush_unless_ended()).await;
    assert!(waits.is_err(), "{waits:?}");
    release.set_policy(ReleasePolicy::Local);
    let sent = tokio::time::timeout(quiet * 50, connection.flush_unless_ended()).await;
    sent.expect("in time").expect("sent");
    assert_eq!(client.read(&mut seen).await.expect("read"), 5);

    // Nothing is owed now: who stood still may say other things at once.
    release.standstills.look(now() + Duration::from_secs(9));
    connection.output.extend_from_slice(b"third");
    connection.flush_unless_ended().await.expect("sent");
    assert_eq!(client.read(&mut seen).await.expect("read"), 5);
}

/// Who has the port until then does not keep the server from its start, and the server can be asked as often as it takes.
#[tokio::test]
async fn a_server_that_listens_late_takes_its_port_when_it_is_told() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = other.local_addr().expect("bound");
    let conf = format!(
        "listen_addresses = '127.0.0.1'\nport = {}\nunderstudy.listen_late = on\n",
        at.port()
    );
    let running = start(Accepting::Yes, &conf);
    let mut client = Client::connect(
        &running
            .socket
            .with_file_name(format!(".s.PGSQL.{}", at.port())),
    )
    .await;
    client
        .send(&startup(&[("user", "joe"), ("database", "postgres")]))
        .await;
    assert!(client.tags().await.ends_with('Z'), "its own socket answers");

    let refused = running.server.listen().expect_err("another has it");
    assert_eq!(refused.message, "could not create any TCP/IP sockets");
    drop(other);
    for _ in 0..2 {
        running.server.listen().expect("it is free");
    }
    let mut stream = tokio::net::TcpStream::connect(at)
        .await
        .expect("it listens");
    // Refused by pg_hba.conf, and that is an answer.
    stream
        .write_all(&startup(&[("user", "joe")]))
        .await
        .expect("sent");
    let mut tag = [0];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut tag));
    read.await.expect("in time").expect("an answer");
    assert_eq!(tag, *b"E");
}
