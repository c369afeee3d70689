//! The stream is cut at each byte of a record that lies over pages and segments, and goes on: with the standby alive,
//! and with a standby that lost power at that byte.
//!
//! The record begins a little before a segment's end and ends in the second page of the next one, so the cuts fall into
//! its header, into the headers of a page and of a segment, and between any two bytes of its data. `UNDERSTUDY_SOAK`
//! cuts at each byte; the short form at the places where something changes, and at some others drawn by the seed.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What the primary has: its log from `begin` on, and where the long record lies.
struct Sent {
    standby: SimDisk,
    begin: Lsn,
    bytes: Vec<u8>,
    record: std::ops::Range<Lsn>,
    counters: Vec<u64>,
}

impl Sent {
    fn end(&self) -> Lsn {
        self.begin.advance(self.bytes.len() as u64)
    }
    fn between(&self, from: Lsn, upto: Lsn) -> &[u8] {
        let at = |lsn: Lsn| usize::try_from(lsn.raw() - self.begin.raw()).expect("in memory");
        &self.bytes[at(from)..at(upto)]
    }
}

/// As [`Node::set`], in a record with so much data.
fn set_long(node: &Node, block: u32, value: u64, length: usize) -> std::ops::Range<Lsn> {
    let mut data = vec![0; length];
    let mut random = StdRng::seed_from_u64(value);
    random.fill(&mut data[..]);
    data[..8].copy_from_slice(&value.to_le_bytes());
    let pinned = node.store.pool.pin(page_id(block)).expect("it is there");
    let mut page = pinned.write();
    let mut change = Change::new(RmgrId::HEAP, 0, Xid::new(5));
    change.block(&mut page, BlockMode::Update, &data);
    let inserted = change.commit(&node.store.wal, set_counter);
    inserted.start..inserted.end
}

fn sent() -> Sent {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let mut end = Lsn::INVALID;
    for block in 0..PAGES {
        end = primary.set(block, 1);
    }
    let left = |end: Lsn| SEGMENT - end.segment_offset(SEGMENT);
    while left(end) > 100_000 {
        end = set_long(&primary, 0, 2, 50_000).end;
    }
    primary.flush(end);
    primary.checkpoint();
    // The checkpoint's redo point made full pages due again.
    for block in 0..PAGES {
        end = primary.set(block, 3);
    }
    while left(end) > 400 {
        end = primary.set(1, 4);
    }
    primary.flush(end);
    let standby = disk.crash();
    durable::replace(&standby, Path::new("standby.signal"), b"").expect("written");
    let begin = end.segment(SEGMENT).start(SEGMENT);
    let record = set_long(&primary, 2, 5, PAGE_SIZE + 900);
    for block in 3..6 {
        end = primary.set(block, 6);
    }
    primary.flush(end);
    let mut bytes = vec![0; usize::try_from(end.raw() - begin.raw()).expect("in memory")];
    let mut have = 0;
    while have < bytes.len() {
        let at = begin.advance(have as u64);
        let read = primary.store.wal.read_flushed(at, &mut bytes[have..]);
        have += read.expect("it is there");
    }
    let counters = primary.counters();
    primary.abandon();
    let sent = Sent {
        standby,
        begin,
        bytes,
        record,
        counters,
    };
    let (first, last) = (sent.record.start, sent.record.end);
    assert_eq!(first.segment(SEGMENT).next(), last.segment(SEGMENT));
    assert!(last.segment_offset(SEGMENT) > PAGE_SIZE as u32, "{last}");
    sent
}

/// A stream that brings everything up to the first of its cuts, fails, and so on; the last one goes on to the end.
struct Cut {
    sent: Arc<Sent>,
    standby: Arc<Store>,
    state: Arc<RecoveryState>,
    cuts: Mutex<Vec<Lsn>>,
    /// Where each stream was asked to begin.
    asked: Mutex<Vec<Lsn>>,
    now: Mutex<UpstreamState>,
}

impl Upstream for Cut {
    fn is_configured(&self) -> bool {
        true
    }
    fn stream(&self, from: Lsn, timeline: TimelineId) {
        let (for_wal, for_state) = (self.standby.wal.clone(), self.state.clone());
        let mut out = ReceivedSegments::new(
            self.standby.wal.segments().clone(),
            false,
            Box::new(move |timeline, from, upto| {
                for_wal.recovery_advance(timeline, upto);
                for_state.received(timeline, from, upto);
            }),
        );
        let cut = self.cuts.lock().pop();
        let upto = cut.unwrap_or(self.sent.end()).max(from);
        self.asked.lock().push(from);
        out.expect(self.sent.end());
        out.write(timeline, from, self.sent.between(from, upto))
            .expect("written");
        out.sync().expect("synced");
        *self.now.lock() = match cut {
            Some(_) => UpstreamState::Failed,
            None => UpstreamState::Streaming,
        };
        self.state.wake();
    }
    fn stop(&self) {
        *self.now.lock() = UpstreamState::Stopped;
    }
    fn state(&self) -> UpstreamState {
        *self.now.lock()
    }
}

struct Receiving {
    node: Node,
    stream: Arc<Cut>,
    thread: std::thread::JoinHandle<Result<Outcome, RecoveryError>>,
}

fn receive(sent: &Arc<Sent>, disk: &SimDisk, cuts: Vec<Lsn>) -> Receiving {
    let node = Node::new(disk, 64);
    let stream = Arc::new(Cut {
        sent: sent.clone(),
        standby: node.store.clone(),
        state: node.state.clone(),
        cuts: Mutex::new(cuts),
        asked: Mutex::default(),
        now: Mutex::new(UpstreamState::Stopped),
    });
    let wishes = Wishes {
        mode: Mode::Standby,
        request_file: Some("standby.signal"),
        upstream: Some(stream.clone()),
        ..Wishes::default()
    };
    let startup = startup(&node.store, &node.rooms, &node.state, wishes);
    let thread = std::thread::spawn(move || startup.run());
    Receiving {
        node,
        stream,
        thread,
    }
}

impl Receiving {
    fn wait_asked(&self, times: usize, name: &str) {
        wait_for(&format!("{name}: a stream"), || {
            self.stream.asked.lock().len() >= times
        });
    }
    /// It has everything, asked no later than it had to, and its log is the primary's.
    fn finish(self, sent: &Sent, name: &str) {
        wait_for(&format!("{name}: the rest"), || {
            self.node.state.replay_lsn() >= sent.end()
        });
        assert_eq!(self.node.counters(), sent.counters, "{name}");
        let mut bytes = vec![0; sent.bytes.len()];
        let mut have = 0;
        while have < bytes.len() {
            let at = sent.begin.advance(have as u64);
            let read = self.node.store.wal.segments();
            let n = read.read(TimelineId::FIRST, at, &mut bytes[have..]);
            have += n.expect("it is there").min(SEGMENT as usize);
        }
        assert!(bytes == sent.bytes, "{name}: the log is another");
        self.stop();
    }
    fn stop(self) -> SimDisk {
        self.node.state.request_stop();
        let ended = self.thread.join().expect("no panic");
        assert!(
            matches!(ended, Err(RecoveryError::Interrupted)),
            "{ended:?}"
        );
        self.node.abandon();
        self.node.disk
    }
}

/// One standby that lives on, one that loses power once the bytes before the cut are there.
fn cut_at(sent: &Arc<Sent>, cut: Lsn) {
    let whole = cut >= sent.record.end;
    let name = format!("cut at {cut}");
    let living = receive(sent, &sent.standby.crash(), vec![cut]);
    living.wait_asked(2, &name);
    let again = living.stream.asked.lock()[1];
    let wanted = if whole {
        sent.record.end
    } else {
        sent.record.start
    };
    assert_eq!(again, wanted.page_start(), "{name}: where it goes on");
    living.finish(sent, &name);

    let name = format!("{name} with the power");
    // It asks again, and again, and gets nothing, as from a primary that is down.
    let mut cuts = vec![Lsn::INVALID; 10_000];
    cuts.push(cut);
    let dying = receive(sent, &sent.standby.crash(), cuts);
    dying.wait_asked(2, &name);
    let replayed = dying.node.state.replay_lsn();
    assert_eq!(replayed >= sent.record.end, whole, "{name}: {replayed}");
    let left = dying.node.disk.crash();
    dying.stop();
    let restarted = receive(sent, &left, Vec::new());
    restarted.wait_asked(1, &name);
    restarted.finish(sent, &name);
}

fn cuts(sent: &Sent, all: bool) -> BTreeSet<Lsn> {
    let (first, last) = (sent.record.start, sent.record.end);
    let every = first.raw()..=last.raw();
    if all {
        return every.map(Lsn::new).collect();
    }
    let seed: u64 = rand::random();
    eprintln!("UNDERSTUDY_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let boundary = last.segment(SEGMENT).start(SEGMENT).raw();
    let changes = [
        first.raw(),
        boundary,
        boundary + PAGE_SIZE as u64,
        last.raw(),
    ];
    let near = changes.iter().flat_map(|at| [at - 1, *at, at + 1, at + 24]);
    let others = (0..24).map(|_| random.random_range(every.clone()));
    let chosen: Vec<u64> = near.chain(others).collect();
    let inside = chosen.into_iter().filter(|at| every.contains(at));
    inside.map(Lsn::new).collect()
}

#[test]
fn a_stream_cut_at_each_byte_of_a_record_goes_on_without_a_gap() {
    let sent = Arc::new(sent());
    let soak = std::env::var_os("UNDERSTUDY_SOAK").is_some();
    let cuts: Vec<Lsn> = cuts(&sent, soak).into_iter().collect();
    let next = AtomicUsize::new(0);
    // They mostly wait: for the pause before a stream is tried again.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::SeqCst)) {
                    cut_at(&sent, *cut);
                }
            });
        }
    });
    eprintln!("{} cuts, each with and without power", cuts.len());
}
