//! Who has to have a commit before it is released.

use std::sync::Arc;

use crate::ids::{Lsn, Term};

/// The identity of one data directory of a managed cluster; a new seed is a new id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    pub fn new(id: &str) -> InstanceId {
        InstanceId(Arc::from(id))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleasePolicy {
    /// The local flush is enough.
    Local,
    /// `synchronous_standby_names`
    Names(SyncNames),
    /// A managed primary.
    InSyncSet {
        term: Term,
        counter: u64,
        members: Vec<InstanceId>,
        required: usize,
    },
    /// Nothing is acknowledged.
    Closed,
}

/// A parsed `synchronous_standby_names`. Manual, 20.6.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncNames {
    pub(crate) any: bool,
    pub(crate) count: usize,
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncNamesError {
    #[error("syntax error at or near \"{0}\"")]
    Syntax(String),
    #[error("number of synchronous standbys ({0}) must be greater than zero")]
    CountNotPositive(i64),
}

impl SyncNames {
    /// `None` for an empty setting: nobody is waited for.
    pub fn parse(text: &str) -> Result<Option<SyncNames>, SyncNamesError> {
        let _ = text;
        unimplemented!("lands next")
    }
    /// `sync_priority` and `sync_state` of each standby, for `pg_stat_replication`.
    pub fn states(&self, standbys: &[StandbyPosition]) -> Vec<(u32, SyncState)> {
        let _ = standbys;
        unimplemented!("lands next")
    }
}

/// `pg_stat_replication.sync_state`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    Async,
    Potential,
    Sync,
    Quorum,
}

/// What a connected, streaming standby has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyPosition {
    pub application_name: String,
    /// Only for an authenticated stream of a member, in this primary's own term.
    pub instance: Option<InstanceId>,
    pub write: Lsn,
    pub flush: Lsn,
    pub apply: Lsn,
}

/// The walsenders, as the release queue asks for them. In the order of their slots.
pub trait StandbyPositions {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition));
}

impl StandbyPositions for [StandbyPosition] {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition)) {
        self.iter().for_each(visit);
    }
}

impl StandbyPositions for Vec<StandbyPosition> {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition)) {
        self.iter().for_each(visit);
    }
}
