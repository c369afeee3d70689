//! The release of commits: when others may see them.
//!
//! [`queue::Release`] is the queue of commits in LSN order, [`policy`] says whose positions count, [`isolation`] when a
//! primary must ask before it goes on, [`standstill`] when what was decided must be asked again before a client hears it.

pub mod isolation;
pub mod policy;
pub mod queue;
pub mod standstill;

#[cfg(test)]
mod tests;

pub use policy::{
    InstanceId, ReleasePolicy, StandbyPosition, StandbyPositions, SyncNames, SyncNamesError,
    SyncState,
};
pub use queue::Release;

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
