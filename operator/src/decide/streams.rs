//! The primary as its standbys hear it, for a primary that the operator itself does not hear.
//!
//! Where only the way from the operator to the primary is broken, the primary serves, its standbys receive and commits
//! are acknowledged: taking over from it would be safe, and cost its clients their sessions for nothing. Invariants: this
//! only ever puts a failover off, and never licenses one; it counts by messages, not by connections, which the kernel of a
//! frozen process keeps, and by when a message came, not by when it was read; whoever the operator has not heard lately says
//! nothing here, and no age is a difference of two machines' clocks.

use super::{Instance, Observed};
use crate::crd::{Durability, Member, Phase, Record};
use crate::ids::Term;
use crate::validate::FailoverTimes;

/// A primary's walsender speaks twice a second: below this a word that comes a little late would count as none.
const LEAST_LIMIT_MS: u64 = 750;

/// The standbys that commits are acknowledged by, if as many of them as the newest listed set requires still hear the primary
/// `member`; none if they do not, or if it acknowledges alone. Not which of them do: that may change at every look, and what
/// is told of it is written down.
pub(super) fn that_hear<'a>(
    times: FailoverTimes,
    observed: &Observed,
    record: &'a Record,
    member: &Member,
) -> Option<Vec<&'a str>> {
    let set = record.newest_set()?;
    let serves = record.phase == Phase::Running && record.is_primary(&member.id);
    if !serves || set.durability == Durability::Async || set.required == 0 {
        return None;
    }
    let limit_ms = limit_ms(times);
    let instances = set.members.iter().filter_map(|m| observed.by_id(&m.id));
    let hearers = instances.filter(|(_, instance)| hears(instance, record.term, limit_ms));
    let names = set.members.iter().map(|m| m.name.as_str());
    (hearers.count() >= set.required as usize).then(|| names.collect())
}

/// Half of the time after which the silent are lost. A primary that stopped fell silent for everybody at one moment, give
/// or take a heartbeat: by the time the operator misses it, its standbys have missed it for longer than this.
fn limit_ms(times: FailoverTimes) -> u64 {
    (times.lost_after_ms / 2).max(LEAST_LIMIT_MS)
}

/// It is heard now, follows the primary of `term`, and has had a message of it within the limit. What was said of that
/// message is as old as the word of its supervisor, which counts as well.
fn hears(instance: &Instance, term: Term, limit_ms: u64) -> bool {
    let receiver = instance.engine().and_then(|e| e.receiver.as_ref());
    let heard_ms = receiver
        .filter(|r| r.streams_from(term))
        .and_then(|r| r.heard_ms);
    instance.follows(term)
        && heard_ms.is_some_and(|ms| ms.saturating_add(instance.silent_ms) < limit_ms)
}
