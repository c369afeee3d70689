//! A new cluster: the first checkpoint, then the catalogs, through an ordinary start and an ordinary stop.


use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use crate::catalog::bootstrap::{self, Cluster, TEMPLATE1};
use crate::ids::{Lsn, Oid, ProcessId, SystemId, TimelineId, Xid};
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::node::core::{Core, CoreConfig, KeepsNothing};
use crate::node::redo::redo_table;
use crate::recovery::{CheckpointSettings, Mode, RecoverySettings, Startup, StartupConfig};
use crate::server::cli::NewCluster;
use crate::storage::{ClusterState, ControlData, ControlFile};
use crate::txn::{CommitLevel, Interrupts, Isolation, TxnConfig, TxnOptions};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{self, CheckPoint, ParameterChange};
use crate::wal::{Record, RmgrId, StartWriting, Wal, WalConfig};

/// The first byte behind a segment's long page header.
const LONG_PAGE_HEADER: u64 = 40;
/// 16 MiB: the catalogs of a new cluster fit several times.
const FRAMES: usize = 2048;

pub fn bootstrap(new: &NewCluster) -> anyhow::Result<()> {
    let disk: DiskRef = Arc::new(RealDisk::new(&new.data_directory));
    let control = first_checkpoint(&disk, new)?;
    let system_id = control.get().system_id;
    let config = CoreConfig {
        frames: FRAMES,
        wal: wal_config(system_id, new.wal_segment_size),
        txn: TxnConfig::default(),
        checkpoints: Arc::new(|| CHECKPOINTS),
        retention: Arc::new(KeepsNothing),
        told: None,
    };
    let core = Core::open(disk, control, config)?;
    core.txns.create_commit_log().context("create the commit log")?;
    let startup = Startup::new(StartupConfig {
        store: Arc::clone(&core.store),
        redo: redo_table(&core.txns, &core.state, Interrupts::new(ProcessId::MIN), Arc::new(|| None)),
        participant: Arc::clone(&core.participant),
        state: Arc::clone(&core.state),
        mode: Mode::Primary,
        request_file: None,
        settings: RecoverySettings::default(),
        archive: None,
        upstream: None,
        trigger: None,
    });
    startup.run()?;
    core.txns.open_snapshots_anyway();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(&core, new))?;
    core.checkpointer.shutdown()?;
    core.store.wal.stop();
    Ok(())
}

async fn fill(core: &Core, new: &NewCluster) -> anyhow::Result<()> {
    let options = TxnOptions {
        isolation: Isolation::ReadCommitted,
        read_only: false,
        deferrable: false,
        database: TEMPLATE1,
    };
    let mut txn = core.txns.begin(options, Interrupts::new(ProcessId::MIN));
    let cluster = Cluster {
        superuser: new.superuser.clone(),
        password: new.password.clone(),
        locale: new.locale.clone(),
    };
    bootstrap::fill(&core.catalog, &mut txn, &cluster).await?;
    core.txns.commit(txn, CommitLevel::Local).await.map_err(|e| anyhow!("{e}"))?;
    Ok(())
}

const CHECKPOINTS: CheckpointSettings = CheckpointSettings {
    timeout: Duration::from_secs(3600),
    completion_target: 0.9,
    max_wal_bytes: 1 << 40,
    min_wal_bytes: 0,
    wal_keep_bytes: 0,
    warning: Duration::ZERO,
    log: false,
};

fn wal_config(system_id: SystemId, segment_size: u32) -> WalConfig {
    WalConfig { segment_size, ..WalConfig::new(system_id) }
}

/// Writes a log that holds one record, a shutdown checkpoint, and the control file that names it: a cluster that
/// was shut down cleanly before anything happened.
fn first_checkpoint(disk: &DiskRef, new: &NewCluster) -> anyhow::Result<ControlFile> {
    let system_id = draw_system_id();
    let begin = Lsn::new(u64::from(new.wal_segment_size));
    let redo = begin.advance(LONG_PAGE_HEADER);
    let checkpoint = CheckPoint {
        redo,
        timeline: TimelineId::FIRST,
        previous_timeline: TimelineId::FIRST,
        full_page_writes: true,
        next_xid: Xid::FIRST_NORMAL,
        next_oid: Oid::FIRST_NORMAL,
        oldest_xid: Xid::FIRST_NORMAL.low(),
        oldest_xid_database: TEMPLATE1,
        time_s: seconds_since_1970(),
        oldest_active_xid: 0,
    };
    let wal = Wal::new(Arc::clone(disk), wal_config(system_id, new.wal_segment_size));
    wal.begin_writing(StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: begin,
        last_record: Lsn::INVALID,
        aborted: None,
    })?;
    let inserted = wal.insert(&Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::CHECKPOINT_SHUTDOWN,
        xid: Xid::INVALID,
        main: &checkpoint.encode(),
        blocks: &[],
    });
    anyhow::ensure!(inserted.start == redo, "the first record stands at {}", inserted.start);
    wal.flush_blocking(inserted.end);
    wal.stop();
    let data = ControlData {
        system_id,
        state: ClusterState::ShutDown,
        time_s: seconds_since_1970(),
        checkpoint: redo,
        checkpoint_copy: checkpoint,
        min_recovery_point: Lsn::INVALID,
        min_recovery_timeline: TimelineId::FIRST,
        backup_start: Lsn::INVALID,
        backup_end: Lsn::INVALID,
        backup_end_required: false,
        parameters: FIRST_PARAMETERS,
        wal_segment_size: new.wal_segment_size,
        checksums: new.checksums,
        nonce: rand::random(),
    };
    Ok(ControlFile::create(Arc::clone(disk), data)?)
}

/// What `postgresql.conf` says when `initdb` has just written it.
const FIRST_PARAMETERS: ParameterChange = ParameterChange {
    max_connections: 100,
    max_worker_processes: 8,
    max_wal_senders: 10,
    max_prepared_transactions: 0,
    max_locks_per_transaction: 64,
    wal_level: 1,
    wal_log_hints: false,
    track_commit_timestamp: false,
};

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// As PostgreSQL draws it: seconds, then microseconds, then bits of the process id.
fn draw_system_id() -> SystemId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::from(since.subsec_micros());
    SystemId::new((since.as_secs() << 32) | (micros << 12) | u64::from(std::process::id() & 0xFFF))
}

