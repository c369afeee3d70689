//! Which standbys a commit waits for, and when an older set may be dropped.
//!
//! A new set is appended to the record's list first, then told to the primary, and the older ones are dropped
//! only when the primary counts by the new one and enough of its members have all that was acknowledged before.

use super::answers::Answer;
use super::{CAUGHT_UP_BYTES, Instance, Observed};
use crate::api::EngineStatus;
use crate::crd::{Durability, InSyncSet, Member, Record, SetVersion};
use crate::ids::Term;
use crate::validate::ValidatedCluster;

/// Sets that may be listed at once; a change waits beyond that, unless nothing can be acknowledged without it.
const MAX_LISTED: usize = 16;
/// What a record has room for.
pub(super) const MOST_LISTED: usize = 32;

/// Half of the members, rounded up: with the primary's own a majority of the copies.
pub(super) fn quorum_of(members: usize) -> u32 {
    u32::try_from(members.div_ceil(2)).unwrap_or(u32::MAX)
}

/// The set of a primary that has just been created, with nobody behind it yet.
pub(super) fn first(cluster: &ValidatedCluster, owner: Member) -> InSyncSet {
    let required = if cluster.durability == Durability::Strict {
        cluster.replicas
    } else {
        0
    };
    InSyncSet {
        term: Term::FIRST,
        counter: 1,
        owner: Some(owner),
        members: Vec::new(),
        required,
        durability: cluster.durability,
    }
}

/// The set of a candidate: the others that answered and hold nothing that it does not hold.
pub(super) fn of_candidate(
    cluster: &ValidatedCluster,
    record: &Record,
    candidate: &Answer,
    answers: &[Answer],
) -> InSyncSet {
    let follows = |a: &&Answer| {
        let Answer {
            timeline,
            flush,
            fork,
            ..
        } = candidate;
        a.member.id != candidate.member.id
            && super::answers::is_prefix(record, a, *timeline, *flush, *fork)
    };
    let mut members: Vec<Member> = answers
        .iter()
        .filter(follows)
        .map(|a| a.member.clone())
        .collect();
    members.sort();
    let required = match cluster.durability {
        Durability::Quorum => quorum_of(members.len()),
        Durability::Strict => cluster.replicas,
        Durability::Async => 0,
    };
    InSyncSet {
        term: record.term,
        counter: 1,
        owner: Some(candidate.member.clone()),
        members,
        required,
        durability: cluster.durability,
    }
}

/// Whether the primary counts by the newest set and nothing depends on the older ones any more.
pub(super) fn older_are_done(record: &Record, primary: &EngineStatus) -> bool {
    let moved = record.newest_set().is_some_and(|newest| {
        primary
            .set
            .as_ref()
            .is_some_and(|set| set.version() == newest.version())
    });
    record.in_sync.len() > 1 && moved && primary.set_caught_up
}

/// The set to append, if the one in effect should change. `leaving` are those that are about to be removed.
pub(super) fn wanted(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    engine: &EngineStatus,
    leaving: &[String],
) -> Option<InSyncSet> {
    let newest = record.newest_set()?;
    let owner = record.primary.clone()?;
    let mut members = standing_members(cluster, observed, record, engine, leaving);
    members.sort();
    let required = match cluster.durability {
        Durability::Quorum => quorum_of(members.len()),
        Durability::Strict => strict_required(cluster, newest, members.len()),
        Durability::Async => 0,
    };
    let unchanged = newest.members == members
        && newest.required == required
        && newest.durability == cluster.durability
        && newest.owner.as_ref() == Some(&owner);
    let shrinks = members.iter().all(|m| newest.contains(&m.id));
    // A set under which nothing can be acknowledged may change before the older ones are done with.
    let live = newest
        .members
        .iter()
        .filter(|m| engine.stream_of(&m.id, record.term).is_some());
    let stands_still = live.count() < newest.required as usize;
    let settled = record.in_sync.len() == 1 || stands_still;
    let most = if stands_still {
        MOST_LISTED
    } else {
        MAX_LISTED
    };
    if unchanged || !(settled || shrinks) || record.in_sync.len() >= most {
        return None;
    }
    Some(InSyncSet {
        term: record.term,
        counter: next_counter(record.term, newest.version()),
        owner: Some(owner),
        members,
        required,
        durability: cluster.durability,
    })
}

fn next_counter(term: Term, newest: SetVersion) -> u64 {
    if newest.term == term {
        newest.counter + 1
    } else {
        1
    }
}

/// All of `spec.replicas`, but a scale-up asks for more only when they are there.
fn strict_required(cluster: &ValidatedCluster, newest: &InSyncSet, members: usize) -> u32 {
    let growing = newest.durability == Durability::Strict && newest.required < cluster.replicas;
    if growing && members < cluster.replicas as usize {
        newest.required
    } else {
        cluster.replicas
    }
}

fn standing_members(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    engine: &EngineStatus,
    leaving: &[String],
) -> Vec<Member> {
    let newest = record.newest_set();
    let is_member = |m: &Member| newest.is_some_and(|set| set.contains(&m.id));
    let current: Vec<Member> = observed
        .instances
        .iter()
        .filter(|(name, _)| !leaving.contains(name))
        .filter_map(|(name, i)| {
            i.id().map(|id| Member {
                name: name.clone(),
                id: id.clone(),
            })
        })
        .filter(|m| !record.is_primary(&m.id))
        .collect();
    let mut members: Vec<Member> = current
        .iter()
        .filter(|m| {
            let kept =
                is_member(m) && observed.unstreamed(&m.id) < cluster.failover.member_lost_after_ms;
            let answers = observed.instances.get(&m.name);
            kept || (answers.is_some_and(Instance::answers) && is_near(engine, m, record.term))
        })
        .cloned()
        .collect();
    // A copy that nobody holds any more, or that is silent, stays a member for its few seconds; under
    // `strict` until the same instance's next copy has caught up.
    for old in newest.iter().flat_map(|set| &set.members) {
        let present = members.iter().any(|m| m.id == old.id);
        let succeeded = members.iter().any(|m| m.name == old.name);
        let removed = leaving.contains(&old.name) || record.is_primary(&old.id);
        let strict = cluster.durability == Durability::Strict
            && newest.is_some_and(|set| set.durability == Durability::Strict);
        let recent = observed.unstreamed(&old.id) < cluster.failover.member_lost_after_ms;
        let exists = observed.instances.contains_key(&old.name);
        if !present && !succeeded && !removed && (recent || (strict && exists)) {
            members.push(old.clone());
        }
    }
    members
}

/// Streams in this term and is near the end of the primary's log.
fn is_near(engine: &EngineStatus, member: &Member, term: Term) -> bool {
    let end = engine.flush_lsn.unwrap_or_default();
    engine
        .stream_of(&member.id, term)
        .and_then(|s| s.flush_lsn)
        .is_some_and(|flush| end.bytes_since(flush) <= CAUGHT_UP_BYTES)
}
