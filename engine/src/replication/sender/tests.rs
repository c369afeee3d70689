//! One stream to a standby by script, over a log that is a file and no more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{StartReplication, Upstream, stream};
use crate::ids::{Lsn, ProcessId, TimelineId};
use crate::replication::messages::{FromPrimary, FromStandby};
use crate::replication::reply::Link;
use crate::replication::slots::Slots;
use crate::replication::standbys::{Peer, Registration, Standbys};
use crate::txn::testing::{SEGMENT, START, World};
use crate::wal::Wal;
use crate::wal::timeline::History;

const LIMIT: Duration = Duration::from_secs(60);

/// A standby that passes on what it has received.
struct Server {
    world: World,
    slots: Arc<Slots>,
    safe: watch::Sender<(Lsn, bool)>,
    stopping: watch::Sender<bool>,
    is_managed_primary: bool,
}

impl Server {
    /// One segment of the first timeline is there, of which so many bytes count.
    fn with_received(bytes: u64) -> Server {
        let world = World::recovering(16);
        let name = START.segment(SEGMENT).file_name(TimelineId::FIRST, SEGMENT);
        let path = world.dir.path().join("pg_wal").join(name);
        std::fs::write(path, vec![7u8; SEGMENT as usize]).expect("written");
        let wal = &world.store.wal;
        wal.set_recovery_history(History::root(TimelineId::FIRST));
        wal.recovery_advance(TimelineId::FIRST, START.advance(bytes));
        Server {
            world,
            slots: Slots::new(1),
            safe: watch::Sender::new((Lsn::INVALID, false)),
            stopping: watch::Sender::new(false),
            is_managed_primary: false,
        }
    }

    fn registration(&self) -> Registration {
        let standbys = Standbys::new(1, Arc::clone(&self.world.txns));
        standbys.register(peer()).expect("a free slot")
    }
}

fn peer() -> Peer {
    Peer {
        process: ProcessId::MIN,
        user_oid: 10,
        user: "postgres".to_owned(),
        application_name: "by script".to_owned(),
        address: None,
        started_at: 0,
        instance: None,
        term: None,
    }
}

impl Upstream for Server {
    fn wal(&self) -> &Arc<Wal> {
        &self.world.store.wal
    }
    fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }
    fn sender_timeout(&self) -> Duration {
        Duration::ZERO
    }
    fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)> {
        self.safe.subscribe()
    }
    fn shutting_down(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
    fn is_managed_primary(&self) -> bool {
        self.is_managed_primary
    }
    fn feedback(&self, _: u64, _: Option<Lsn>) {}
}

/// Takes everything at once, and says what the test has it say.
struct Standby {
    out: BytesMut,
    heard: Arc<Mutex<Vec<u8>>>,
    says: mpsc::UnboundedReceiver<(u8, Bytes)>,
}

impl Link for Standby {
    fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }
    async fn flush(&mut self) -> io::Result<()> {
        self.heard.lock().extend_from_slice(&self.out.split());
        Ok(())
    }
    async fn receive(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        Ok(self.says.recv().await)
    }
}

type Heard = Arc<Mutex<Vec<u8>>>;

fn standby() -> (Standby, Heard, mpsc::UnboundedSender<(u8, Bytes)>) {
    let (say, says) = mpsc::unbounded_channel();
    let heard = Heard::default();
    let standby = Standby {
        out: BytesMut::new(),
        heard: Arc::clone(&heard),
        says,
    };
    (standby, heard, say)
}

fn from_the_start() -> StartReplication {
    StartReplication {
        slot: None,
        start: START,
        timeline: Some(TimelineId::FIRST),
        own_messages: false,
        timeout: None,
    }
}

fn copy_done() -> (u8, Bytes) {
    (b'c', Bytes::new())
}

#[tokio::test]
async fn a_stream_with_much_to_send_gives_way_after_each_piece() {
    let server = Server::with_received(u64::from(SEGMENT));
    let registration = server.registration();
    let (mut link, heard, say) = standby();
    let streaming = stream(&mut link, &server, &registration, 1, from_the_start());
    let beside_it = async {
        let mut turns = 0;
        while heard.lock().len() < SEGMENT as usize {
            turns += 1;
            tokio::task::yield_now().await;
        }
        say.send(copy_done()).expect("it listens");
        turns
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, turns) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    done.expect("the standby ended it");
    assert!(turns >= 4, "{turns} turns while the segment was sent");
}

/// Whoever is believed that he has what is still to come acknowledges commits that nobody has.
#[tokio::test]
async fn what_was_not_sent_nobody_has() {
    let server = Server::with_received(8000);
    let standbys = Standbys::new(1, Arc::clone(&server.world.txns));
    let registration = standbys.register(peer()).expect("a free slot");
    let created = server.slots.create("kept", ProcessId::MIN, None);
    created.expect("free");
    let (mut link, heard, say) = standby();
    let request = StartReplication {
        slot: Some("kept".to_owned()),
        ..from_the_start()
    };
    let streaming = stream(&mut link, &server, &registration, 1, request);
    let beside_it = async {
        let pause = || tokio::time::sleep(Duration::from_millis(5));
        while heard.lock().len() < 8000 {
            pause().await;
        }
        let mut status = BytesMut::new();
        let everything = FromStandby::Status {
            write: Lsn::MAX,
            flush: Lsn::MAX,
            apply: Lsn::MAX,
            sent_at: 0,
            reply_requested: false,
        };
        everything.encode(&mut status);
        say.send((b'd', status.freeze())).expect("it listens");
        while !standbys.rows()[0].flush.is_valid() {
            pause().await;
        }
        let row = standbys.rows().remove(0);
        let end = START.advance(8000);
        assert_eq!((row.write, row.flush, row.apply), (end, end, end));
        let slot = server.slots.get("kept").expect("it lives");
        assert_eq!(slot.restart, end);
        say.send(copy_done()).expect("it listens");
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    done.expect("the standby ended it");
}

/// Half a record was passed on, and then the server was promoted, or followed one that was.
#[tokio::test]
async fn a_stream_ends_where_its_timeline_does_though_more_was_sent() {
    let server = Server::with_received(8000);
    let registration = server.registration();
    let (mut link, heard, say) = standby();
    let streaming = stream(&mut link, &server, &registration, 1, from_the_start());
    let beside_it = async {
        let pause = || tokio::time::sleep(Duration::from_millis(5));
        while heard.lock().len() < 8000 {
            pause().await;
        }
        let root = History::root(TimelineId::FIRST);
        let history = root.fork(TimelineId::new(2), START.advance(5000), "promoted");
        server.world.store.wal.set_recovery_history(history);
        assert_eq!(server.world.store.wal.flush_lsn(), START.advance(5000));
        while !heard.lock().ends_with(b"c\0\0\0\x04") {
            pause().await;
        }
        say.send(copy_done()).expect("it listens");
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    done.expect("a good end");
    // What follows the stream goes out together with what follows the command.
    heard.lock().extend_from_slice(&link.out);
    let heard = heard.lock();
    let text = String::from_utf8_lossy(&heard);
    let fork = START.advance(5000).to_string();
    assert!(text.contains(&fork), "where the next timeline begins");
}

#[tokio::test]
async fn a_timeline_that_is_followed_no_more_is_a_stranger() {
    let server = Server::with_received(8000);
    let registration = server.registration();
    let root = History::root(TimelineId::FIRST);
    let third = root.fork(TimelineId::new(3), START.advance(4000), "elsewhere");
    server.world.store.wal.set_recovery_history(third);
    let (mut link, _heard, _say) = standby();
    let request = StartReplication {
        timeline: Some(TimelineId::new(2)),
        ..from_the_start()
    };
    let refused = stream(&mut link, &server, &registration, 1, request).await;
    let why = refused.expect_err("nobody knows it").to_string();
    assert!(why.contains("is not in this server's history"), "{why}");
}

/// Behind its end another timeline has other commits: what is released of those says nothing of this one's.
#[tokio::test]
async fn what_is_released_is_told_up_to_the_end_of_the_timeline() {
    let server = Server::with_received(8000);
    let fork = START.advance(5000);
    let root = History::root(TimelineId::FIRST);
    let history = root.fork(TimelineId::new(2), fork, "promoted");
    server.world.store.wal.set_recovery_history(history);
    server.safe.send_replace((START.advance(7000), true));
    let registration = server.registration();
    let (mut link, heard, say) = standby();
    let request = StartReplication {
        own_messages: true,
        ..from_the_start()
    };
    let streaming = stream(&mut link, &server, &registration, 1, request);
    let beside_it = async {
        while !heard.lock().ends_with(b"c\0\0\0\x04") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say.send(copy_done()).expect("it listens");
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    done.expect("a good end");
    let mut told = BytesMut::new();
    let released = FromPrimary::Released {
        released: fork,
        synchronous: true,
    };
    released.encode(&mut told);
    let heard = heard.lock();
    assert!(heard.windows(told.len()).any(|said| *said == *told));
}

/// The server has none here: only what the client asked for when it connected ends a silent stream.
#[tokio::test]
async fn a_client_may_have_a_timeout_of_its_own() {
    let server = Server::with_received(8000);
    let registration = server.registration();
    let (mut link, _heard, _say) = standby();
    let request = StartReplication {
        timeout: Some(Duration::from_millis(50)),
        ..from_the_start()
    };
    let streaming = stream(&mut link, &server, &registration, 1, request);
    let ended = tokio::time::timeout(LIMIT, streaming).await;
    let why = ended.expect("in time").expect_err("nobody answered");
    assert!(why.to_string().contains("replication timeout"), "{why}");
}

/// How often a standby that has everything was spoken to: as soon as that was twice, or after so long.
async fn words_when_idle(is_managed_primary: bool, own_messages: bool, within: Duration) -> usize {
    let mut server = Server::with_received(8000);
    server.is_managed_primary = is_managed_primary;
    let registration = server.registration();
    let (mut link, heard, say) = standby();
    let request = StartReplication {
        own_messages,
        ..from_the_start()
    };
    let streaming = stream(&mut link, &server, &registration, 1, request);
    let beside_it = async {
        let began = tokio::time::Instant::now();
        let keepalives = || {
            let heard = heard.lock();
            let begins = |message: &&[u8]| **message == *b"d\0\0\0\x16k";
            heard.windows(6).filter(begins).count()
        };
        while keepalives() < 2 && began.elapsed() < within {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say.send(copy_done()).expect("it listens");
        keepalives()
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, words) = tokio::time::timeout(2 * LIMIT, both)
        .await
        .expect("in time");
    done.expect("the standby ended it");
    words
}

/// Standbys are asked when they heard their primary last: it is never silent for long, and nobody else speaks for it.
#[tokio::test]
async fn a_managed_primary_speaks_also_when_there_is_nothing_to_send() {
    let a_while = Duration::from_secs(2);
    let (managed, another, stranger) = tokio::join!(
        words_when_idle(true, true, LIMIT),
        words_when_idle(false, true, a_while),
        words_when_idle(true, false, a_while),
    );
    assert!(managed >= 2, "{managed}");
    assert_eq!((another, stranger), (0, 0));
}

/// By silence it knows that it is cut off: one that has nothing to say is asked for a word.
#[tokio::test]
async fn a_managed_primary_asks_a_standby_that_says_nothing() {
    let mut server = Server::with_received(8000);
    server.is_managed_primary = true;
    let registration = server.registration();
    let (mut link, heard, say) = standby();
    let request = StartReplication {
        own_messages: true,
        ..from_the_start()
    };
    let streaming = stream(&mut link, &server, &registration, 1, request);
    let beside_it = async {
        let asked = || {
            let heard = heard.lock();
            let asks = |message: &&[u8]| message.starts_with(b"d\0\0\0\x16k") && message[22] == 1;
            heard.windows(23).filter(asks).count()
        };
        while asked() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say.send(copy_done()).expect("it listens");
    };
    let both = async { tokio::join!(streaming, beside_it) };
    let (done, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    done.expect("the standby ended it");
}
