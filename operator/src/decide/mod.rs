//! From what is wanted and what is seen to what is to be done. Pure: no async, no client, no clock.
//!
//! Invariants, which the property tests and the model check of this room hold:
//! - a missing observation never licenses a promotion: only answers that were given do;
//! - a term has one candidate for ever;
//! - every group that could have acknowledged under a listed set meets every group that licenses a promotion;
//! - every step may be taken twice, late, or by two operators: what makes it safe is the term, the copy's id and
//!   the version that it carries, which whoever obeys it checks.
//!
//! A crash of the operator between any two steps leaves the record and the promises; the next call of [`decide`]
//! goes on from these.

mod answers;
mod failover;
mod in_sync;
mod observed;
mod plan;
mod rebuild;
mod report;
mod running;
mod standbys;

pub use observed::{Instance, Life, Observed, Past};
pub use plan::{Event, Outcome, Plan, RequestKind, Routes, Seed, Step, Swap};

use crate::crd::Phase;
use crate::ids::Millis;
use crate::validate::ValidatedCluster;

/// A supervisor that has not been heard for so long counts as lost; heartbeats come four times a second.
pub const SILENT_MS: u64 = 3_000;
/// An engine that does not answer its supervisor for so long counts as lost.
pub const ENGINE_SILENT_MS: u64 = 3_000;
/// How long an operator that has just started waits to hear the instances that are alive.
pub const FIRST_WORD_MS: u64 = 1_000;
/// What a supervisor gets to restart its engine in place.
pub const RESTART_GRACE_MS: u64 = 1_000;
/// A member that has not streamed for so long leaves the in-sync set.
pub const MEMBER_LOST_MS: u64 = 5_000;
/// A standby that has not streamed for so long, though its engine runs, is seeded anew.
pub const STUCK_MS: u64 = 60_000;
/// How long a choice waits for instances that are alive but have not answered, when enough others have.
pub const LATE_ANSWER_MS: u64 = 500;
/// The same with `async`, where every answer may save commits.
pub const LATE_ANSWER_ASYNC_MS: u64 = 2_000;
/// How long a blocked failover waits before the old primary's process is started again for its answer.
pub const OLD_PRIMARY_START_MS: u64 = 2_000;
/// What a switchover gets to finish before the old primary reopens.
pub const SWITCHOVER_MS: u64 = 10_000;
/// A standby that is so near may join the in-sync set, bytes.
pub const CAUGHT_UP_BYTES: u64 = 8 << 20;

/// What to do now.
pub fn decide(cluster: &ValidatedCluster, observed: &Observed, now: Millis) -> Plan {
    let mut plan = Plan::default();
    match &observed.record {
        None => rebuild::begin(cluster, observed, now, &mut plan),
        Some(record) => match record.phase {
            Phase::Creating => rebuild::create(cluster, observed, record, &mut plan),
            Phase::Running => running::tend(cluster, observed, record, now, &mut plan),
            Phase::FailingOver | Phase::SwitchingOver => {
                failover::gather(cluster, observed, record, now, &mut plan);
            }
            Phase::Promoting => failover::promote(observed, record, now, &mut plan),
        },
    }
    report::fill(cluster, observed, &mut plan);
    plan
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
