//! A server without tables: log, store and transaction manager on a temporary directory, for tests of this room
//! and of those above it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ids::{Lsn, Oid, ProcessId, SystemId, TimelineId, Xid};
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::storage::{ClusterState, ControlData, ControlFile, Store};
use crate::txn::interrupt::Interrupts;
use crate::txn::manager::{TxnConfig, TxnManager};
use crate::txn::redo::RecoveryStart;
use crate::txn::release::ReleasePolicy;
use crate::txn::transaction::{Isolation, Transaction, TxnOptions};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{CheckPoint, ParameterChange};
use crate::wal::{FileSource, StartWriting, Wal, WalConfig, WalReader};

pub(crate) const DATABASE: Oid = Oid::new(5);
pub(crate) const SEGMENT: u32 = 1 << 20;
pub(crate) const START: Lsn = Lsn::new(SEGMENT as u64);

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) txns: Arc<TxnManager>,
    /// Last: the files go after those who use them.
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn options() -> TxnOptions {
    TxnOptions {
        isolation: Isolation::ReadCommitted,
        read_only: false,
        deferrable: false,
        database: DATABASE,
    }
}

pub(crate) fn session() -> Arc<Interrupts> {
    static NEXT: AtomicU32 = AtomicU32::new(100);
    let pid = ProcessId::new(NEXT.fetch_add(1, Ordering::Relaxed)).expect("not zero");
    Interrupts::new(pid)
}

pub(crate) fn control_data() -> ControlData {
    ControlData {
        system_id: SystemId::new(7),
        state: ClusterState::InProduction,
        time_s: 0,
        checkpoint: START,
        checkpoint_copy: CheckPoint {
            redo: START,
            timeline: TimelineId::FIRST,
            previous_timeline: TimelineId::FIRST,
            full_page_writes: true,
            next_xid: Xid::FIRST_NORMAL,
            next_oid: Oid::FIRST_NORMAL,
            oldest_xid: 3,
            oldest_xid_database: Oid::new(1),
            time_s: 0,
            oldest_active_xid: 0,
        },
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
    }
}

/// A store in recovery on an empty directory.
pub(crate) fn store_in(dir: &Path, frames: usize) -> Arc<Store> {
    let disk: DiskRef = Arc::new(RealDisk::new(dir));
    for sub in [
        "pg_wal",
        "pg_wal/archive_status",
        "global",
        "base",
        "base/5",
        "pg_xact",
    ] {
        disk.create_dir(Path::new(sub)).expect("an empty directory");
    }
    let wal = Wal::new(
        disk.clone(),
        WalConfig {
            segment_size: SEGMENT,
            ..WalConfig::new(SystemId::new(7))
        },
    );
    let control = ControlFile::create(disk.clone(), control_data()).expect("a control file");
    Arc::new(Store::new(disk, wal, Arc::new(control), frames, true))
}

impl World {
    /// A primary that waits for no standby.
    pub(crate) fn new() -> World {
        World::with_frames(256)
    }

    pub(crate) fn with_frames(frames: usize) -> World {
        let world = World::recovering(frames);
        world
            .store
            .wal
            .begin_writing(StartWriting {
                history: History::root(TimelineId::FIRST),
                end_of_log: START,
                last_record: Lsn::INVALID,
                aborted: None,
            })
            .expect("a new log");
        world.txns.create_commit_log().expect("pg_xact");
        world.txns.release().set_policy(ReleasePolicy::Local);
        world.txns.finish_recovery(START);
        world
    }

    /// In recovery since the beginning of the log.
    pub(crate) fn recovering(frames: usize) -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = store_in(dir.path(), frames);
        let txns = Arc::new(TxnManager::new(store.clone(), TxnConfig::default()));
        txns.begin_recovery(
            RecoveryStart {
                next_xid: Xid::FIRST_NORMAL,
                oldest_active_xid: 0,
                redo: START,
            },
            None,
        );
        World { dir, store, txns }
    }

    pub(crate) fn begin(&self) -> Transaction {
        self.txns.begin(options(), session())
    }

    /// Reads the log of this world from its beginning; all of it has been flushed.
    pub(crate) fn log(&self) -> WalReader<FileSource> {
        let wal = &self.store.wal;
        wal.flush_blocking(wal.insert_lsn());
        let source = FileSource::new(wal.segments().clone(), History::root(TimelineId::FIRST));
        WalReader::new(source, SEGMENT, START)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.store.wal.in_recovery() {
            self.store.wal.stop();
        }
    }
}
