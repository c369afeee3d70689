//! The parts below sessions and sockets, opened over a data directory: what `initdb` and a server have in common.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::oids::OidAllocator;
use crate::ids::Oid;
use crate::io::DiskRef;
use crate::node::managed::told::{AtStart, ToldKeeper};
use crate::node::orphans::Orphans;
use crate::node::participant::NodeParticipant;
use crate::recovery::{
    CheckpointSettings, Checkpointer, Participant, RecoveryError, RecoveryState, Retention,
};
use crate::storage::{ControlFile, Store};
use crate::txn::{TxnConfig, TxnManager};
use crate::wal::{Wal, WalConfig};

pub struct CoreConfig {
    /// `shared_buffers`, pages.
    pub frames: usize,
    pub wal: WalConfig,
    pub txn: TxnConfig,
    pub checkpoints: Arc<dyn Fn() -> CheckpointSettings + Send + Sync>,
    pub retention: Arc<dyn Retention>,
    /// What a standby was told may be shown.
    pub told: AtStart,
}

pub struct Core {
    pub store: Arc<Store>,
    pub txns: Arc<TxnManager>,
    pub catalog: Arc<Catalog>,
    pub oids: Arc<OidAllocator>,
    pub orphans: Arc<Orphans>,
    pub state: Arc<RecoveryState>,
    pub told: Arc<ToldKeeper>,
    pub participant: Arc<dyn Participant>,
    pub checkpointer: Arc<Checkpointer>,
}

impl Core {
    /// Opens everything; nothing is replayed yet, the log can't be written.
    pub fn open(
        disk: DiskRef,
        control: ControlFile,
        config: CoreConfig,
    ) -> Result<Core, RecoveryError> {
        let control = Arc::new(control);
        let checksums = control.get().checksums;
        let wal = Wal::new(Arc::clone(&disk), config.wal);
        let store = Arc::new(Store::new(disk, wal, control, config.frames, checksums));
        let txns = Arc::new(TxnManager::new(Arc::clone(&store), config.txn));
        let oids = Arc::new(OidAllocator::new(Oid::FIRST_NORMAL));
        let orphans = Arc::<Orphans>::default();
        let disk = Arc::clone(&store.disk);
        let told = Arc::new(ToldKeeper::new(disk, Arc::clone(&txns), config.told));
        let participant: Arc<dyn Participant> = Arc::new(NodeParticipant {
            txns: Arc::clone(&txns),
            oids: Arc::clone(&oids),
            orphans: Arc::clone(&orphans),
            disk: Arc::clone(&store.disk),
            shown_at_start: config.told.limit,
            told: Arc::clone(&told),
        });
        let state = Arc::new(RecoveryState::default());
        let checkpointer = Checkpointer::start(
            Arc::clone(&store),
            Arc::clone(&state),
            Arc::clone(&participant),
            config.retention,
            config.checkpoints,
        )
        .map_err(|source| RecoveryError::Io {
            operation: "start the checkpointer of",
            path: "the data directory".to_owned(),
            source,
        })?;
        let catalog = Catalog::new(Arc::clone(&store), Arc::clone(&txns));
        let checkpointer = Arc::new(checkpointer);
        Ok(Core {
            store,
            txns,
            catalog,
            oids,
            orphans,
            state,
            told,
            participant,
            checkpointer,
        })
    }
}

/// Nobody needs more of the log than checkpoints do.
pub struct KeepsNothing;

impl Retention for KeepsNothing {
    fn keep_from(&self, _: crate::ids::Lsn) -> Option<crate::ids::Lsn> {
        None
    }
    fn goes_below(&self, _: crate::ids::Lsn) {}
}
