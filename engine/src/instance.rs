//! The running parts that a session, a walsender or an administrator's function needs, in one struct.
//!
//! Made once by `node`, shared by reference, never changed: what changes has its own lock or watch inside.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::oids::OidAllocator;
use crate::config::Settings;
use crate::ids::SystemId;
use crate::recovery::{Backups, Checkpointer, RecoveryState};
use crate::replication::receiver::Receiver;
use crate::replication::slots::Slots;
use crate::replication::standbys::Standbys;
use crate::storage::Store;
use crate::table::TableChanges;
use crate::table::sequence::Sequences;
use crate::txn::TxnManager;

pub struct Instance {
    pub settings: Arc<Settings>,
    pub store: Arc<Store>,
    pub txns: Arc<TxnManager>,
    pub catalog: Arc<Catalog>,
    pub oids: Arc<OidAllocator>,
    pub state: Arc<RecoveryState>,
    pub checkpointer: Arc<Checkpointer>,
    pub backups: Arc<Backups>,
    pub standbys: Arc<Standbys>,
    pub slots: Arc<Slots>,
    pub sequences: Arc<Sequences>,
    /// For the background vacuum.
    pub changes: Arc<TableChanges>,
    /// The walreceiver of a server that began as a standby.
    pub receiver: Option<Arc<Receiver>>,
    pub system_id: SystemId,
    /// Microseconds since 2000-01-01 UTC.
    pub started_at: i64,
}
