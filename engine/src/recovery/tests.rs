//! Recovery as a whole: crashes, standbys, promotions, checkpoints.
//!
//! The rig has a toy resource manager: a record sets one counter on one page. So a database is a list of counters,
//! and what it must hold after any crash is known.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;
use crate::ids::{
    BlockNumber, Fork, Lsn, Oid, PAGE_SIZE, PageId, RelFile, SystemId, TimelineId, Xid,
};
use crate::io::sim::SimDisk;
use crate::io::{Disk, DiskRef, durable};
use crate::storage::change::{BlockMode, Change};
use crate::storage::page::{self, PageBuf};
use crate::storage::{ClusterState, ControlData, ControlFile, PageFault, Store};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{self, CheckPoint, ParameterChange};
use crate::wal::{ReceivedSegments, Record, RmgrId, StartWriting, Wal, WalConfig};

const SYSTEM: SystemId = SystemId::new(99);
const SEGMENT: u32 = 1 << 20;
const TABLE: RelFile = RelFile::of_database(Oid::new(5), Oid::new(16384));
const PAGES: u32 = 12;

fn set_counter(_info: u8, _block: u8, page: &mut PageBuf, data: &[u8]) -> Result<(), PageFault> {
    if page::is_new(page) {
        page::init(page, 8);
    }
    let bytes = data.get(..8).ok_or(PageFault::new("short data"))?;
    page::special_mut(page).copy_from_slice(bytes);
    Ok(())
}

/// The rooms above, reduced to what the tests look at.
#[derive(Default)]
struct Rooms {
    next_oid: AtomicU32,
    replayed: AtomicU64,
    ended: AtomicBool,
    writing: AtomicBool,
}

impl Participant for Rooms {
    fn at_redo_point(&self, _redo: Lsn) -> CheckpointFields {
        CheckpointFields {
            next_xid: Xid::new(10),
            next_oid: Oid::new(self.next_oid.load(Ordering::SeqCst)),
            oldest_xid: 3,
            oldest_xid_database: Oid::new(1),
            oldest_active_xid: 0,
        }
    }
    fn flush(&self, _redo: Lsn) -> io::Result<()> {
        Ok(())
    }
    fn begin_recovery(&self, checkpoint: &CheckPoint) {
        self.next_oid
            .store(checkpoint.next_oid.raw(), Ordering::SeqCst);
    }
    fn saw_xid(&self, _xid_low: u32) {}
    fn saw_checkpoint(&self, _checkpoint: &CheckPoint, _shutdown: bool) {}
    fn saw_end_of_recovery(&self, _at: Lsn) {}
    fn saw_next_oid(&self, next: Oid) {
        self.next_oid.fetch_max(next.raw(), Ordering::SeqCst);
    }
    fn replayed(&self, replayed: Lsn) {
        self.replayed.store(replayed.raw(), Ordering::SeqCst);
    }
    fn end_recovery(&self, end: Lsn) -> io::Result<()> {
        assert_eq!(
            self.replayed.load(Ordering::SeqCst),
            end.raw(),
            "replay was not told to the end"
        );
        self.ended.store(true, Ordering::SeqCst);
        Ok(())
    }
    fn begin_writing(&self, _end_of_recovery: Lsn) {
        self.writing.store(true, Ordering::SeqCst);
    }
}

struct KeepNothing;
impl Retention for KeepNothing {
    fn keep_from(&self) -> Option<Lsn> {
        None
    }
}

fn checkpoint_settings() -> CheckpointSettings {
    CheckpointSettings {
        timeout: Duration::from_secs(300),
        completion_target: 0.9,
        max_wal_bytes: 64 << 20,
        min_wal_bytes: 2 << 20,
        wal_keep_bytes: 0,
        warning: Duration::ZERO,
        log: false,
    }
}

struct Node {
    disk: SimDisk,
    store: Arc<Store>,
    rooms: Arc<Rooms>,
    state: Arc<RecoveryState>,
    checkpointer: Checkpointer,
}

fn open_store(disk: &SimDisk, frames: usize) -> Arc<Store> {
    let shared: DiskRef = Arc::new(disk.clone());
    let control = Arc::new(ControlFile::open(shared.clone()).expect("pg_control"));
    let config = WalConfig {
        segment_size: SEGMENT,
        buffers: 64 * 1024,
        fatal: Arc::new(|reason| panic!("fatal: {reason}")),
        ..WalConfig::new(SYSTEM)
    };
    let wal = Wal::new(shared.clone(), config);
    Arc::new(Store::new(shared, wal, control, frames, true))
}

/// What `initdb` does: directories, the table's pages, the first checkpoint.
fn initialise() -> SimDisk {
    let disk = SimDisk::new();
    for dir in [
        "global",
        "base",
        "base/5",
        "pg_wal",
        "pg_wal/archive_status",
    ] {
        disk.create_dir(Path::new(dir)).expect("new directory");
    }
    let first = Lsn::new(u64::from(SEGMENT) + 40);
    let checkpoint = CheckPoint {
        redo: first,
        timeline: TimelineId::FIRST,
        previous_timeline: TimelineId::FIRST,
        full_page_writes: true,
        next_xid: Xid::FIRST_NORMAL,
        next_oid: Oid::FIRST_NORMAL,
        oldest_xid: 3,
        oldest_xid_database: Oid::new(1),
        time_s: 0,
        oldest_active_xid: 0,
    };
    let data = ControlData {
        system_id: SYSTEM,
        state: ClusterState::ShutDown,
        time_s: 0,
        checkpoint: first,
        checkpoint_copy: checkpoint,
        min_recovery_point: Lsn::INVALID,
        min_recovery_timeline: TimelineId::FIRST,
        backup_start: Lsn::INVALID,
        backup_end: Lsn::INVALID,
        backup_end_required: false,
        parameters: ParameterChange {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level: 1,
            wal_log_hints: false,
            track_commit_timestamp: false,
        },
        wal_segment_size: SEGMENT,
        checksums: true,
        nonce: [0; 32],
    };
    ControlFile::create(Arc::new(disk.clone()), data).expect("written");
    let store = open_store(&disk, 32);
    let start = StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: Lsn::new(u64::from(SEGMENT)),
        last_record: Lsn::INVALID,
        aborted: None,
    };
    store.wal.begin_writing(start).expect("a new log");
    let main = checkpoint.encode();
    let record = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::CHECKPOINT_SHUTDOWN,
        xid: Xid::INVALID,
        main: &main,
        blocks: &[],
    };
    assert_eq!(store.wal.insert(&record).start, first);
    store.wal.stop();
    store
        .files
        .create(TABLE, Fork::Main, false)
        .expect("created");
    for _ in 0..PAGES {
        store.pool.extend(TABLE, Fork::Main).expect("extended");
    }
    store
        .pool
        .write_dirty(Lsn::MAX, &mut |_| crate::storage::Flow::Continue)
        .expect("written");
    for dir in ["", "global", "base", "base/5", "pg_wal"] {
        disk.sync_dir(Path::new(dir)).expect("synced");
    }
    disk
}

struct Wishes {
    mode: Mode,
    request_file: Option<&'static str>,
    upstream: Option<Arc<dyn Upstream>>,
    trigger: Option<Arc<dyn Trigger>>,
    archive: Option<Arc<dyn ArchiveShell>>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            mode: Mode::Primary,
            request_file: None,
            upstream: None,
            trigger: None,
            archive: None,
        }
    }
}

fn startup(
    store: &Arc<Store>,
    rooms: &Arc<Rooms>,
    state: &Arc<RecoveryState>,
    wishes: Wishes,
) -> Startup {
    Startup::new(StartupConfig {
        store: store.clone(),
        redo: RedoTable::new().with(RmgrId::HEAP, Handler::pages(set_counter)),
        participant: rooms.clone(),
        state: state.clone(),
        mode: wishes.mode,
        request_file: wishes.request_file,
        settings: RecoverySettings {
            target: TargetTimeline::Latest,
            retry_interval: Duration::from_millis(20),
            hot_standby: true,
            archiving: false,
        },
        archive: wishes.archive,
        upstream: wishes.upstream,
        trigger: wishes.trigger,
    })
}

impl Node {
    fn new(disk: &SimDisk, frames: usize) -> Node {
        let store = open_store(disk, frames);
        let rooms = Arc::new(Rooms::default());
        let state = Arc::new(RecoveryState::default());
        let checkpointer = Checkpointer::start(
            store.clone(),
            state.clone(),
            rooms.clone(),
            Arc::new(KeepNothing),
            Arc::new(checkpoint_settings),
        );
        let checkpointer = checkpointer.expect("thread");
        Node {
            disk: disk.clone(),
            store,
            rooms,
            state,
            checkpointer,
        }
    }

    /// Starts and recovers.
    fn start(disk: &SimDisk, frames: usize) -> Result<(Node, Outcome), RecoveryError> {
        let node = Node::new(disk, frames);
        let outcome = startup(&node.store, &node.rooms, &node.state, Wishes::default()).run();
        match outcome {
            Ok(outcome) => Ok((node, outcome)),
            Err(error) => {
                node.checkpointer.end_thread();
                Err(error)
            }
        }
    }

    fn set(&self, block: u32, value: u64) -> Lsn {
        let id = page_id(block);
        let pinned = self.store.pool.pin(id).expect("the page is there");
        let mut page = pinned.write();
        let mut change = Change::new(RmgrId::HEAP, 0, Xid::new(5));
        change.block(&mut page, BlockMode::Update, &value.to_le_bytes());
        let inserted = change.commit(&self.store.wal, set_counter);
        inserted.end
    }

    fn get(&self, block: u32) -> u64 {
        let pinned = self
            .store
            .pool
            .pin(page_id(block))
            .expect("the page is there");
        let page = pinned.read();
        let mut raw = [0; 8];
        if !page::is_new(&page) {
            raw.copy_from_slice(page::special(&page));
        }
        u64::from_le_bytes(raw)
    }

    fn counters(&self) -> Vec<u64> {
        (0..PAGES).map(|block| self.get(block)).collect()
    }

    fn flush(&self, lsn: Lsn) {
        self.store.wal.flush_blocking(lsn);
    }

    fn checkpoint(&self) -> Option<CheckpointDone> {
        self.checkpointer
            .checkpoint_blocking(CheckpointKind::Immediate)
            .expect("a checkpoint")
    }

    fn shut_down(&self) {
        self.checkpointer.shutdown().expect("a last checkpoint");
        self.store.wal.stop();
    }

    /// Ends its threads as they are.
    fn abandon(&self) {
        self.checkpointer.end_thread();
        self.store.wal.stop();
    }
}

fn page_id(block: u32) -> PageId {
    PageId {
        file: TABLE,
        fork: Fork::Main,
        block: BlockNumber::new(block),
    }
}

#[test]
fn a_clean_stop_needs_no_recovery_and_keeps_everything() {
    let disk = initialise();
    let (node, outcome) = Node::start(&disk, 64).expect("starts");
    assert_eq!(outcome.kind, OutcomeKind::Clean);
    assert!(node.rooms.writing.load(Ordering::SeqCst));
    for i in 0..200 {
        node.set(i as u32 % PAGES, i + 1);
    }
    let expected = node.counters();
    node.shut_down();
    assert_eq!(node.store.control.get().state, ClusterState::ShutDown);
    let (again, outcome) = Node::start(&disk.crash(), 64).expect("starts");
    assert_eq!(outcome.kind, OutcomeKind::Clean);
    assert_eq!(again.counters(), expected);
    assert!(again.checkpoint().is_some(), "CHECKPOINT is always obeyed");
    again.shut_down();
}

#[test]
fn nothing_flushed_is_lost_at_any_crash() {
    let disk = initialise();
    // Fewer frames than pages would be evicted in any order; the pool's least is more than ours, so checkpoints
    // alone write pages here.
    let (node, _) = Node::start(&disk, 16).expect("starts");
    let flushed = Arc::new(AtomicU64::new(0));
    let frozen = Arc::new(Mutex::new(Vec::new()));
    let (at_flush, keep) = (flushed.clone(), frozen.clone());
    disk.on_sync(move |state| {
        keep.lock()
            .push((state.clone(), at_flush.load(Ordering::SeqCst)))
    });
    for i in 1..=60_u64 {
        let end = node.set((i * 5 % u64::from(PAGES)) as u32, i);
        if i % 4 == 0 {
            node.flush(end);
            flushed.store(i, Ordering::SeqCst);
        }
        if i % 20 == 0 {
            node.checkpoint();
        }
    }
    disk.clear_on_sync();
    node.abandon();
    let mut images = 0;
    for (state, flushed) in &*frozen.lock() {
        for image in state.images(3).step_by(7) {
            images += 1;
            let started = Node::start(&image.disk, 16);
            let (node, _) = started.unwrap_or_else(|error| panic!("{}: {error}", image.name));
            check_counters(&node.counters(), *flushed, &image.name);
            node.abandon();
        }
    }
    assert!(images > 100, "only {images} images");
}

/// The counters must be those after the first n changes, n at least what was flushed.
fn check_counters(found: &[u64], flushed: u64, name: &str) {
    let newest = found.iter().copied().max().unwrap_or(0);
    assert!(
        newest >= flushed,
        "{name}: {newest} of {flushed} flushed changes"
    );
    let mut expected = vec![0; found.len()];
    for i in 1..=newest {
        expected[(i * 5 % u64::from(PAGES)) as usize] = i;
    }
    assert_eq!(found, expected, "{name}");
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    for i in 1..=50_u64 {
        node.set((i * 5 % u64::from(PAGES)) as u32, i);
    }
    node.flush(node.store.wal.end_lsn());
    let crashed = disk.crash();
    node.abandon();
    let frozen = Arc::new(Mutex::new(Vec::new()));
    let keep = frozen.clone();
    crashed.on_sync(move |state| keep.lock().push(state.clone()));
    let (node, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(outcome.kind, OutcomeKind::Crash);
    node.checkpoint();
    crashed.clear_on_sync();
    node.abandon();
    for state in &*frozen.lock() {
        for image in state.images(5).step_by(11) {
            let (node, _) = Node::start(&image.disk, 64).expect("recovers again");
            check_counters(&node.counters(), 50, &image.name);
            node.abandon();
        }
    }
}

#[test]
fn damage_in_the_middle_stops_the_start_and_names_the_place() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let begin = node.store.wal.insert_lsn();
    let mut middle = Lsn::INVALID;
    while node.store.wal.insert_lsn().raw() < 4 * u64::from(SEGMENT) {
        let end = node.set(1, 1);
        // Whole pages, so that the log grows.
        node.store.wal.set_redo_point(|_| {});
        if !middle.is_valid() && end.raw() > 2 * u64::from(SEGMENT) {
            middle = end.advance(200);
        }
    }
    node.flush(node.store.wal.end_lsn());
    let crashed = disk.crash();
    node.abandon();
    assert!(begin < middle);
    let path = node
        .store
        .wal
        .segments()
        .path(TimelineId::FIRST, middle.segment(SEGMENT));
    let file = crashed
        .open(&path, crate::io::Access::ReadWrite)
        .expect("there");
    file.write_all_at(&[0xAA; 64], u64::from(middle.segment_offset(SEGMENT)))
        .expect("written");
    let error = Node::start(&crashed, 64).err().expect("damage");
    assert!(matches!(error, RecoveryError::Damaged { .. }), "{error}");
}

#[test]
fn checkpoints_free_the_log_and_shorten_recovery() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    for round in 0..6_u64 {
        while node.store.wal.insert_lsn().raw() < (3 + round) * u64::from(SEGMENT) {
            node.set((round % 12) as u32, round + 1);
            node.store.wal.set_redo_point(|_| {});
        }
        let done = node.checkpoint().expect("something was logged");
        assert!(done.checkpoint.redo <= done.lsn);
        let first = node.store.wal.segments().list().expect("listed")[0].1;
        assert_eq!(first, done.checkpoint.redo.segment(SEGMENT));
        assert_eq!(node.store.control.get().checkpoint, done.lsn);
    }
    let expected = node.counters();
    let crashed = disk.crash();
    node.abandon();
    let (again, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(outcome.kind, OutcomeKind::Crash);
    assert_eq!(again.counters(), expected);
    again.shut_down();
}

/// A stream from a primary in the same process.
struct Pipe {
    primary: Mutex<Option<Arc<Store>>>,
    standby: Arc<Store>,
    state: Arc<RecoveryState>,
    worker: Mutex<Option<(Arc<AtomicBool>, std::thread::JoinHandle<()>)>>,
    now: Arc<Mutex<UpstreamState>>,
}

impl Pipe {
    fn new(primary: &Arc<Store>, standby: &Node) -> Arc<Pipe> {
        Arc::new(Pipe {
            primary: Mutex::new(Some(primary.clone())),
            standby: standby.store.clone(),
            state: standby.state.clone(),
            worker: Mutex::new(None),
            now: Arc::new(Mutex::new(UpstreamState::Stopped)),
        })
    }
    fn connect(&self, primary: &Arc<Store>) {
        *self.primary.lock() = Some(primary.clone());
    }
}

impl Upstream for Pipe {
    fn is_configured(&self) -> bool {
        true
    }
    fn stream(&self, from: Lsn, timeline: TimelineId) {
        self.stop();
        *self.now.lock() = UpstreamState::Connecting;
        let Some(primary) = self.primary.lock().clone() else {
            *self.now.lock() = UpstreamState::Failed;
            return;
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, now) = (stop.clone(), self.now.clone());
        let (standby, state) = (self.standby.clone(), self.state.clone());
        let thread = std::thread::spawn(move || {
            let outcome = feed(&primary, &standby, &state, from, timeline, &stopped);
            *now.lock() = outcome;
            state.wake();
        });
        *self.worker.lock() = Some((stop, thread));
    }
    fn stop(&self) {
        if let Some((stop, thread)) = self.worker.lock().take() {
            stop.store(true, Ordering::SeqCst);
            thread.join().expect("the stream ended");
        }
        *self.now.lock() = UpstreamState::Stopped;
    }
    fn state(&self) -> UpstreamState {
        *self.now.lock()
    }
}

fn feed(
    primary: &Arc<Store>,
    standby: &Arc<Store>,
    state: &Arc<RecoveryState>,
    from: Lsn,
    timeline: TimelineId,
    stop: &AtomicBool,
) -> UpstreamState {
    let (for_wal, for_state) = (standby.wal.clone(), state.clone());
    let mut out = ReceivedSegments::new(
        standby.wal.segments().clone(),
        false,
        Box::new(move |timeline, from, upto| {
            for_wal.recovery_advance(timeline, upto);
            for_state.received(timeline, from, upto);
        }),
    );
    let history = primary.wal.history().expect("a primary");
    for ancestor in history.ancestors() {
        let timeline = ancestor.timeline;
        assert!(timeline < history.timeline());
    }
    if history.timeline() > TimelineId::FIRST {
        out.put_history(history.timeline(), history.to_text().as_bytes())
            .expect("stored");
    }
    let end = history.end_of(timeline).unwrap_or(Lsn::MAX);
    let mut at = from;
    let mut buf = vec![0; 10_000];
    while !stop.load(Ordering::SeqCst) {
        if at >= end {
            return UpstreamState::EndOfTimeline;
        }
        let upto = primary.wal.flush_lsn().min(end);
        let n = (upto.saturating_sub(at) as usize).min(buf.len());
        if n == 0 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let n = primary
            .wal
            .read_flushed(at, &mut buf[..n])
            .expect("readable");
        out.write(timeline, at, &buf[..n]).expect("written");
        out.sync().expect("synced");
        at = at.advance(n as u64);
    }
    UpstreamState::Failed
}

/// A standby's replay in a thread of its own.
struct Standby {
    node: Node,
    pipe: Arc<Pipe>,
    thread: std::thread::JoinHandle<Result<Outcome, RecoveryError>>,
}

fn start_standby(disk: &SimDisk, primary: &Arc<Store>) -> Standby {
    let node = Node::new(disk, 64);
    let pipe = Pipe::new(primary, &node);
    let wishes = Wishes {
        mode: Mode::Standby,
        request_file: Some("standby.signal"),
        upstream: Some(pipe.clone()),
        ..Wishes::default()
    };
    let startup = startup(&node.store, &node.rooms, &node.state, wishes);
    let thread = std::thread::spawn(move || startup.run());
    Standby { node, pipe, thread }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{what} did not happen"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Standby {
    fn wait_replayed(&self, lsn: Lsn) {
        wait_for(&format!("replay of {lsn}"), || {
            self.node.state.replay_lsn() >= lsn
        });
    }
    fn stop(self) -> Node {
        self.node.state.request_stop();
        let ended = self.thread.join().expect("no panic");
        assert!(
            matches!(ended, Err(RecoveryError::Interrupted)),
            "{ended:?}"
        );
        self.pipe.stop();
        self.node
    }
    fn promote(self) -> (Node, Outcome) {
        self.node.state.request_promotion();
        let outcome = self.thread.join().expect("no panic").expect("promoted");
        (self.node, outcome)
    }
}

fn copy_for_standby(disk: &SimDisk) -> SimDisk {
    let copy = disk.crash();
    durable::replace(&copy, Path::new("standby.signal"), b"").expect("written");
    copy
}

#[test]
fn a_standby_follows_is_promoted_and_is_followed_over_the_switch() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let (one, two) = (copy_for_standby(&disk), copy_for_standby(&disk));
    let first = start_standby(&one, &primary.store);
    let second = start_standby(&two, &primary.store);
    let mut end = Lsn::INVALID;
    for i in 1..=300_u64 {
        end = primary.set((i % u64::from(PAGES)) as u32, i);
        if i % 50 == 0 {
            primary.store.wal.set_redo_point(|_| {});
        }
    }
    primary.flush(end);
    first.wait_replayed(end);
    second.wait_replayed(end);
    assert_eq!(first.node.counters(), primary.counters());
    assert_eq!(first.node.state.phase(), Phase::Consistent);
    assert!(
        first.node.store.wal.flush_lsn() >= end,
        "what is received can be sent on"
    );
    let expected = primary.counters();
    primary.abandon();
    let (promoted, outcome) = first.promote();
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Promoted, TimelineId::new(2))
    );
    assert!(
        !promoted
            .disk
            .exists(Path::new("standby.signal"))
            .expect("asked")
    );
    assert_eq!(promoted.counters(), expected);
    let history = durable::read(&promoted.disk, Path::new("pg_wal/00000002.history"));
    let history = String::from_utf8(history.expect("written")).expect("text");
    assert_eq!(history, format!("1\t{end}\tno recovery target specified\n"));
    second.pipe.stop();
    second.pipe.connect(&promoted.store);
    *second.pipe.now.lock() = UpstreamState::Failed;
    let after = promoted.set(3, 4242);
    promoted.flush(after);
    second.wait_replayed(after);
    assert_eq!(second.node.counters(), promoted.counters());
    assert_eq!(second.node.state.replay_timeline(), TimelineId::new(2));
    let control = promoted.store.control.get();
    assert_eq!(control.state, ClusterState::InProduction);
    // Restarts of both at once, the promoted one by a crash before its first checkpoint.
    let crashed = promoted.disk.crash();
    let counters = promoted.counters();
    promoted.abandon();
    let (again, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Crash, TimelineId::new(2))
    );
    assert_eq!(again.counters(), counters);
    let node = second.stop();
    node.checkpointer.end_thread();
    let restarted = start_standby(&two, &again.store);
    let after = again.set(5, 77);
    again.flush(after);
    restarted.wait_replayed(after);
    assert_eq!(restarted.node.counters(), again.counters());
    restarted.stop().checkpointer.end_thread();
    again.abandon();
}

#[test]
fn restartpoints_move_the_place_where_a_standby_begins_again() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let copy = copy_for_standby(&disk);
    let standby = start_standby(&copy, &primary.store);
    for i in 1..=100_u64 {
        primary.set((i % u64::from(PAGES)) as u32, i);
    }
    let done = primary.checkpoint().expect("made");
    standby.wait_replayed(done.end);
    let before = standby.node.store.control.get();
    let made = standby.node.checkpoint().expect("a restartpoint");
    assert_eq!(made.lsn, done.lsn);
    let after = standby.node.store.control.get();
    assert!(after.checkpoint > before.checkpoint);
    assert!(after.min_recovery_point >= done.end);
    assert_eq!(after.state, ClusterState::InArchiveRecovery);
    assert!(
        standby.node.checkpoint().is_none(),
        "there is no newer checkpoint"
    );
    let crashed = copy.crash();
    standby.stop().checkpointer.end_thread();
    let again = start_standby(&crashed, &primary.store);
    let end = primary.set(1, 999);
    primary.flush(end);
    again.wait_replayed(end);
    assert_eq!(again.node.counters(), primary.counters());
    again.stop().checkpointer.end_thread();
    primary.abandon();
}

/// An archive in memory.
#[derive(Default)]
struct MemoryArchive {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    disk: Mutex<Option<SimDisk>>,
    asked: Mutex<Vec<String>>,
}

impl ArchiveShell for MemoryArchive {
    fn restore(&self, file: &str, target: &Path, _oldest_kept: &str) -> io::Result<bool> {
        self.asked.lock().push(file.to_owned());
        let Some(bytes) = self.files.lock().get(file).cloned() else {
            return Ok(false);
        };
        let disk = self.disk.lock().clone().expect("a disk is set");
        durable::replace(&disk, target, &bytes)?;
        Ok(true)
    }
}

fn archive_of(node: &Node) -> MemoryArchive {
    let archive = MemoryArchive::default();
    for (timeline, segment) in node.store.wal.segments().list().expect("listed") {
        let path = node.store.wal.segments().path(timeline, segment);
        let bytes = durable::read(&node.disk, &path).expect("read");
        archive
            .files
            .lock()
            .insert(segment.file_name(timeline, SEGMENT), bytes);
    }
    archive
}

#[test]
fn a_backup_is_completed_from_the_archive() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    primary.store.wal.force_full_page_writes(true);
    let start = primary.checkpoint().expect("made");
    for i in 1..=40_u64 {
        primary.set((i % u64::from(PAGES)) as u32, i);
    }
    // The copy is taken while pages go to disk, and has pg_control from before.
    let copy = disk.crash();
    let label = backup_label::BackupLabel {
        start: start.checkpoint.redo,
        checkpoint: start.lsn,
        streamed: true,
        from_standby: false,
        start_time: "now".to_owned(),
        label: "test".to_owned(),
        timeline: TimelineId::FIRST,
    };
    durable::replace(
        &copy,
        Path::new("backup_label"),
        label.to_text(SEGMENT).as_bytes(),
    )
    .expect("written");
    durable::replace(&copy, Path::new("recovery.conf"), b"").expect("written");
    let main = xlog_records::encode_backup_end(start.checkpoint.redo);
    let record = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::BACKUP_END,
        xid: Xid::INVALID,
        main: &main,
        blocks: &[],
    };
    let before_end = archive_of(&primary);
    primary.store.wal.insert(&record);
    primary.set(2, 1000);
    primary.store.wal.switch_segment();
    primary.flush(primary.store.wal.end_lsn());
    let expected = primary.counters();
    let archive = Arc::new(archive_of(&primary));
    primary.abandon();
    remove_segments(&copy);
    let incomplete = copy.crash();
    let failed = recover_from_archive(&incomplete, Arc::new(before_end));
    assert!(matches!(
        failed,
        Err(RecoveryError::EndsBeforeBackupEnd { required: true })
    ));
    let (node, outcome) = recover_from_archive(&copy, archive).expect("recovers");
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Promoted, TimelineId::new(2))
    );
    assert_eq!(node.counters(), expected);
    for (name, wanted) in [
        ("backup_label", false),
        ("backup_label.old", true),
        ("recovery.conf", false),
        ("recovery.done", true),
    ] {
        assert_eq!(
            copy.exists(Path::new(name)).expect("asked"),
            wanted,
            "{name}"
        );
    }
    node.abandon();
}

fn remove_segments(disk: &SimDisk) {
    for (name, _) in disk.list(Path::new("pg_wal")).expect("listed") {
        if name.len() == 24 {
            durable::remove(disk, &Path::new("pg_wal").join(name)).expect("removed");
        }
    }
}

fn recover_from_archive(
    disk: &SimDisk,
    archive: Arc<MemoryArchive>,
) -> Result<(Node, Outcome), RecoveryError> {
    *archive.disk.lock() = Some(disk.clone());
    let node = Node::new(disk, 64);
    let wishes = Wishes {
        mode: Mode::Archive,
        request_file: Some("recovery.conf"),
        archive: Some(archive),
        ..Wishes::default()
    };
    match startup(&node.store, &node.rooms, &node.state, wishes).run() {
        Ok(outcome) => Ok((node, outcome)),
        Err(error) => {
            node.checkpointer.end_thread();
            Err(error)
        }
    }
}

#[test]
fn pages_of_files_that_are_gone_matter_only_at_the_end() {
    let missing = MissingPages::default();
    missing.remember(page_id(3));
    missing.remember(page_id(8));
    assert!(missing.check().is_err());
    missing.forget_beyond(TABLE, Fork::Main, 5);
    assert!(matches!(
        missing.check(),
        Err(RecoveryError::InvalidPages { count: 1, .. })
    ));
    missing.forget_file(TABLE);
    missing.check().expect("nothing is missing");
}

#[test]
fn a_log_that_lacks_a_file_is_refused() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    // No image and no such file: as if the file had been lost.
    let image = [0; PAGE_SIZE];
    let lost = PageId {
        block: BlockNumber::new(500),
        ..page_id(0)
    };
    let block = crate::wal::BlockRef {
        page: lost,
        flags: crate::wal::BlockFlags::NO_IMAGE,
        lsn_before: Lsn::INVALID,
        image: &image,
        hole: (0, 0),
        data: &[1; 8],
    };
    let record = Record {
        rmgr: RmgrId::HEAP,
        info: 0,
        xid: Xid::new(5),
        main: &[],
        blocks: &[block],
    };
    let end = node.store.wal.insert(&record).end;
    node.flush(end);
    let crashed = disk.crash();
    node.abandon();
    let error = Node::start(&crashed, 64).err().expect("refused");
    assert!(
        matches!(error, RecoveryError::InvalidPages { count: 1, .. }),
        "{error}"
    );
}
