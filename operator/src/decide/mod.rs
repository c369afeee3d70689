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
mod force;
mod in_sync;
mod observed;
mod plan;
mod planned;
mod rebuild;
mod report;
mod rollout;
mod running;
mod seeds;
mod standbys;
mod streams;

pub use observed::{Instance, Life, Observed, Past, Upkeep};
pub use plan::{Event, Giver, Outcome, Plan, Renewal, RequestKind, Routes, Seed, Step, Swap};

use crate::crd::Phase;
use crate::ids::Millis;
use crate::validate::ValidatedCluster;

// The times that the manifest can set are in `ValidatedCluster::failover`; these are nobody's choice.

/// How long an operator that has just started waits to hear the instances that are alive.
pub const FIRST_WORD_MS: u64 = 1_000;
/// How long a choice waits for instances that are alive but have not answered, when enough others have.
pub const LATE_ANSWER_MS: u64 = 500;
/// How long a blocked failover waits before the old primary's process is started again for its answer.
pub const OLD_PRIMARY_START_MS: u64 = 2_000;
/// A failover that takes longer than this leads the write Service nowhere in the meantime. Every change of that costs time:
/// kube-proxy lets a second pass between two.
pub const CLOSE_SERVICE_MS: u64 = 1_000;
/// And one whose candidate is still being promoted so long after the cause was seen: it has much to replay.
pub const LONG_PROMOTION_MS: u64 = 3_000;
/// What a primary gets to close writes whose pod was deleted by force: its kubelet kills it after two seconds.
pub const FORCED_HANDOVER_MS: u64 = 1_000;
/// A pod that Kubernetes could not run for so long, and says why, needs somebody to see to it.
pub const TROUBLE_MS: u64 = 10_000;
/// A standby that is so near may join the in-sync set, bytes.
pub const CAUGHT_UP_BYTES: u64 = 8 << 20;

/// What to do now.
pub fn decide(cluster: &ValidatedCluster, observed: &Observed, now: Millis) -> Plan {
    let mut plan = Plan::default();
    if cluster.paused {
        plan.obstacle(
            "Paused",
            "spec.paused is set: the operator watches and changes nothing, and nobody takes over",
        );
        report::fill(cluster, observed, now, &mut plan);
        return plan;
    }
    match &observed.record {
        None => rebuild::begin(cluster, observed, now, &mut plan),
        Some(record) => match record.phase {
            Phase::Creating => rebuild::create(cluster, observed, record, &mut plan),
            Phase::Running => running::tend(cluster, observed, record, now, &mut plan),
            Phase::FailingOver | Phase::SwitchingOver => {
                failover::gather(cluster, observed, record, now, &mut plan);
            }
            Phase::Promoting => failover::promote(cluster, observed, record, now, &mut plan),
        },
    }
    planned::mend(observed, &mut plan);
    planned::end_hung(observed, &mut plan);
    planned::refuse_where_nobody_serves(cluster, &mut plan);
    report::fill(cluster, observed, now, &mut plan);
    plan
}

/// What the manifest's times are if it does not say.
#[cfg(test)]
mod defaults {
    pub const SILENT_MS: u64 = 3_000;
    pub const ENGINE_SILENT_MS: u64 = 3_000;
    pub const RESTART_GRACE_MS: u64 = 1_000;
    pub const MEMBER_LOST_MS: u64 = 5_000;
    pub const STUCK_MS: u64 = 60_000;
    pub const LATE_ANSWER_ASYNC_MS: u64 = 2_000;
    pub const SWITCHOVER_MS: u64 = 10_000;
}
#[cfg(test)]
pub use defaults::*;

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
