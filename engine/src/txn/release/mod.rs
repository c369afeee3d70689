//! The release of commits: when others may see them.

pub mod policy;

pub use policy::{
    InstanceId, ReleasePolicy, StandbyPosition, StandbyPositions, SyncNames, SyncNamesError,
    SyncState,
};

use tokio::sync::watch;

use crate::ids::Lsn;

/// What a commit waits for: `synchronous_commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommitLevel {
    Off,
    /// Flushed here.
    Local,
    /// And written by the required standbys.
    RemoteWrite,
    /// And flushed by them.
    On,
    /// And replayed by them.
    RemoteApply,
}

/// The queue of commits in LSN order.
#[derive(Debug)]
pub struct Release {}

impl Release {
    /// The log is flushed up to here; called on the flush thread.
    pub fn advance_flush(&self, lsn: Lsn) {
        let _ = lsn;
        unimplemented!("lands next")
    }
    /// The standbys' positions, all of them, whenever one moved, came or went.
    pub fn advance_standbys(&self, standbys: &dyn StandbyPositions) {
        let _ = standbys;
        unimplemented!("lands next")
    }
    /// Refused (false) where an in-sync set is older than the one in effect.
    pub fn set_policy(&self, policy: ReleasePolicy) -> bool {
        let _ = policy;
        unimplemented!("lands next")
    }
    pub fn policy(&self) -> ReleasePolicy {
        unimplemented!("lands next")
    }
    /// Required members of the set in effect have flushed everything that was acknowledged before it.
    pub fn caught_up(&self) -> bool {
        unimplemented!("lands next")
    }
    /// The highest released commit (on a standby: what queries see).
    pub fn released_lsn(&self) -> Lsn {
        unimplemented!("lands next")
    }
    pub fn released_watch(&self) -> watch::Receiver<Lsn> {
        unimplemented!("lands next")
    }
    /// What standbys are told: every commit at or below it is released and is on the required standbys.
    /// The flag says whether standbys are synchronous at all.
    pub fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)> {
        unimplemented!("lands next")
    }
}
