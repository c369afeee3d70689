//! Recovery as a whole: crashes, standbys, promotions, checkpoints.
//!
//! The rig has a toy resource manager: a record sets one counter on one page. So a database is a list of counters,
//! and what it must hold after any crash is known.

mod backup;
mod crash;
mod promotion;
mod rooms;
mod standby;
mod stream_cut;

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
    /// The newest timeline of each history, in the order in which they were followed.
    followed: Mutex<Vec<TimelineId>>,
    ended: AtomicBool,
    writing: AtomicBool,
    /// What happens once while a checkpoint makes everything durable.
    at_flush: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Participant for Rooms {
    fn oldest_running_xid(&self) -> u32 {
        0
    }
    fn next_xid(&self) -> Xid {
        Xid::new(10)
    }
    fn next_oid(&self) -> Oid {
        Oid::new(self.next_oid.load(Ordering::SeqCst))
    }
    fn flush(&self, _redo: Lsn) -> io::Result<()> {
        let meanwhile = self.at_flush.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        Ok(())
    }
    fn begin_recovery(&self, checkpoint: &CheckPoint) {
        self.next_oid
            .store(checkpoint.next_oid.raw(), Ordering::SeqCst);
    }
    fn follows(&self, history: &History) {
        self.followed.lock().push(history.timeline());
    }
    fn saw_xid(&self, _xid_low: u32) {}
    fn saw_checkpoint(&self, _checkpoint: &CheckPoint, _shutdown: bool) {}
    fn saw_end_of_recovery(&self, _at: Lsn) {}
    fn saw_next_oid(&self, next: Oid) {
        self.next_oid.fetch_max(next.raw(), Ordering::SeqCst);
    }
    fn replayed(&self, replayed: Lsn) {
        let knows = !self.followed.lock().is_empty();
        assert!(knows, "replayed before it was said what is followed");
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
    fn keep_from(&self, _: Lsn) -> Option<Lsn> {
        None
    }
    fn goes_below(&self, _: Lsn) {}
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
    checkpointer: Arc<Checkpointer>,
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
        "pg_xact",
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
            parameters: None,
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
        let checkpointer = Arc::new(checkpointer.expect("thread"));
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
