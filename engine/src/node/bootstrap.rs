//! A new cluster: the first checkpoint, then the catalogs, through an ordinary start and an ordinary stop.
//!
//! Nothing is synced here: until `initdb` has synced the whole directory, which is its last step, nobody uses it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use crate::catalog::bootstrap::{self, Cluster, TEMPLATE1};
use crate::ids::{ProcessId, SegmentNumber, SystemId};
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::node::core::{Core, CoreConfig, KeepsNothing};
use crate::node::managed::told::AtStart;
use crate::recovery::{self, CheckpointSettings};
use crate::server::cli::NewCluster;
use crate::storage::ControlFile;
use crate::txn::{CommitLevel, Interrupts, Isolation, ReleasePolicy, TxnConfig, TxnOptions};
use crate::wal::WalConfig;
use crate::wal::xlog_records::ParameterChange;

/// 16 MiB: the catalogs of a new cluster fit several times.
const FRAMES: usize = 2048;

pub fn bootstrap(new: &NewCluster) -> anyhow::Result<()> {
    let disk: DiskRef = Arc::new(RealDisk::unsynced(&new.data_directory));
    let system_id = draw_system_id();
    let wal = WalConfig {
        segment_size: new.wal_segment_size,
        ..WalConfig::new(system_id)
    };
    bootstrap_on(disk, wal, new)
}

/// The same on any disk that has the directories.
pub(super) fn bootstrap_on(disk: DiskRef, wal: WalConfig, new: &NewCluster) -> anyhow::Result<()> {
    let system_id = wal.system_id;
    let data = recovery::control_data(
        system_id,
        new.wal_segment_size,
        new.checksums,
        FIRST_PARAMETERS,
        rand::random(),
    );
    let control = ControlFile::create(Arc::clone(&disk), data)?;
    let config = CoreConfig {
        frames: FRAMES,
        wal,
        txn: TxnConfig::default(),
        checkpoints: Arc::new(|| CHECKPOINTS),
        retention: Arc::new(KeepsNothing),
        told: AtStart::default(),
    };
    let core = Core::open(disk, control, config)?;
    core.txns
        .create_commit_log()
        .context("create the commit log")?;
    core.txns.release().set_policy(ReleasePolicy::Local);
    recovery::begin_new_cluster(&core.store, &core.state)?;
    core.participant
        .begin_recovery(&core.store.control.get().checkpoint_copy);
    core.participant.begin_writing(core.store.wal.flush_lsn());
    core.txns.open_snapshots_anyway();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(fill(&core, new))?;
    core.checkpointer.shutdown()?;
    core.store.wal.stop();
    remove_spare_segments(&core, new)?;
    Ok(())
}

/// The server that starts makes its spare segment itself; here it would only be written and synced.
fn remove_spare_segments(core: &Core, new: &NewCluster) -> anyhow::Result<()> {
    let wal = &core.store.wal;
    let last = wal.flush_lsn().segment(new.wal_segment_size);
    let folder = Path::new("pg_wal");
    for (name, _) in core.store.disk.list(folder)? {
        let number = SegmentNumber::parse_file_name(&name, new.wal_segment_size);
        if number.is_some_and(|(_, number)| number > last) {
            core.store.disk.remove_file(&folder.join(&name))?;
        }
    }
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
    core.txns
        .commit(txn, CommitLevel::Local)
        .await
        .map_err(|e| anyhow!("{e}"))?;
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

/// As PostgreSQL draws it: seconds, then microseconds, then bits of the process id.
fn draw_system_id() -> SystemId {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let micros = u64::from(since.subsec_micros());
    SystemId::new((since.as_secs() << 32) | (micros << 12) | u64::from(std::process::id() & 0xFFF))
}
