//! The answers of sealed instances: which count, whether they are enough, and who is the best.

use std::cmp::Reverse;

use super::{Instance, Observed};
use crate::api::{EngineStatus, Fork};
use crate::crd::{Durability, InSyncSet, Member, Record, TimelineFork};
use crate::ids::{InstanceId, Lsn, Term};

/// What a sealed instance holds. It can't change while the promise stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub member: Member,
    /// The timeline that owns the last whole record flushed there.
    pub timeline: Term,
    pub flush: Lsn,
    pub replay: Lsn,
    pub fork: Option<Fork>,
}

/// What `instance` has answered to the seal of `term`; none if it has not, or its answer can't count.
pub(super) fn answer(
    name: &str,
    instance: &Instance,
    term: Term,
    system_id: Option<&str>,
) -> Option<Answer> {
    let status = instance.heard()?;
    let engine = status.engine.as_ref()?;
    let id = status.instance_id.as_ref()?;
    let sealed = status.promised_term == term
        && status.sealed
        && engine.promised_term == Some(term)
        && engine.sealed;
    let same = engine.instance_id.as_ref() == Some(id)
        && system_id.is_none_or(|known| engine.system_id == known);
    (sealed && same && engine.in_recovery && engine.consistent).then(|| Answer {
        member: Member {
            name: name.to_owned(),
            id: id.clone(),
        },
        timeline: engine.timeline,
        flush: engine.flush_lsn.unwrap_or_default(),
        replay: engine.replay_lsn.unwrap_or_default(),
        fork: engine.fork,
    })
}

pub(super) fn all(observed: &Observed, record: &Record) -> Vec<Answer> {
    let system_id = record.system_id.as_deref();
    observed
        .instances
        .iter()
        .filter_map(|(name, instance)| answer(name, instance, record.term, system_id))
        .collect()
}

/// Whether every listed set is satisfied, so that one of the answers holds all that was acknowledged and
/// nobody can acknowledge any more in an older term.
pub(super) fn enough(record: &Record, answers: &[Answer]) -> bool {
    !answers.is_empty() && record.in_sync.iter().all(|set| satisfied(set, answers))
}

/// Whether it would be enough if these answered as well.
pub(super) fn enough_with(record: &Record, answers: &[Answer], more: &[&Member]) -> bool {
    let ids: Vec<&InstanceId> = answers
        .iter()
        .map(|a| &a.member.id)
        .chain(more.iter().map(|m| &m.id))
        .collect();
    !ids.is_empty() && record.in_sync.iter().all(|set| satisfied_by(set, &ids))
}

fn satisfied(set: &InSyncSet, answers: &[Answer]) -> bool {
    let ids: Vec<&InstanceId> = answers.iter().map(|a| &a.member.id).collect();
    satisfied_by(set, &ids)
}

/// The rule of a failover: a set's own primary, or n - W + 1 of its members.
fn satisfied_by(set: &InSyncSet, answered: &[&InstanceId]) -> bool {
    let by_owner = set
        .owner
        .as_ref()
        .is_some_and(|owner| answered.contains(&&owner.id));
    let members = set
        .members
        .iter()
        .filter(|m| answered.contains(&&m.id))
        .count();
    by_owner || members >= set.answers_needed() || set.durability == Durability::Async
}

/// Whether a failover could still satisfy every listed set if this copy never answered again: others that count are
/// heard, and hold what was acknowledged. A diverged copy that is spare may be given up.
pub(super) fn is_spare(observed: &Observed, record: &Record, id: &InstanceId) -> bool {
    let heard = |m: &&Member| {
        m.id != *id
            && observed
                .by_id(&m.id)
                .is_some_and(|(_, i)| i.heard().is_some())
    };
    record.in_sync.iter().all(|set| {
        let counted = set.contains(id) || set.owner.as_ref().is_some_and(|o| o.id == *id);
        let others = set.members.iter().filter(heard).count();
        let owner = set.owner.as_ref().is_some_and(|o| heard(&o));
        let is_async = set.durability == Durability::Async;
        !counted || owner || others >= set.answers_needed() || is_async
    })
}

/// Whose answers would help: the unsatisfied sets' primaries and members that have not answered.
pub(super) fn missing(record: &Record, answers: &[Answer]) -> Vec<Member> {
    let mut missing: Vec<Member> = record
        .in_sync
        .iter()
        .filter(|set| !satisfied(set, answers))
        .flat_map(|set| set.members.iter().chain(set.owner.as_ref()))
        .filter(|m| answers.iter().all(|a| a.member.id != m.id))
        .cloned()
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Who wins among equals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Preference<'a> {
    /// Any before these: the old primary, and candidates that were lost before.
    AnyBut(&'a [&'a InstanceId]),
    Name(Option<&'a str>),
}

/// The newest timeline, then the longest log, then the furthest replay, then preference, then the name.
pub(super) fn best<'a>(answers: &'a [Answer], preference: Preference<'_>) -> Option<&'a Answer> {
    let preferred = |a: &Answer| match preference {
        Preference::AnyBut(tired) => !tired.contains(&&a.member.id),
        Preference::Name(name) => name.is_none_or(|name| name == a.member.name),
    };
    // A switchover's target may be behind in replay, which costs time only; never in what is durable.
    let asked = matches!(preference, Preference::Name(_));
    answers.iter().max_by_key(|a| {
        let replay = if asked { Lsn::default() } else { a.replay };
        (
            a.timeline,
            a.flush,
            replay,
            preferred(a),
            Reverse(a.member.name.clone()),
        )
    })
}

/// Whether all that `answer` has flushed is also in the log of one who stands at `timeline`, `flush`.
pub(super) fn is_prefix(
    record: &Record,
    answer: &Answer,
    timeline: Term,
    flush: Lsn,
    fork: Option<Fork>,
) -> bool {
    if answer.timeline == timeline {
        return answer.flush <= flush;
    }
    // The record has the older forks; the newest may not be in it yet.
    let own = fork
        .filter(|f| f.timeline == answer.timeline)
        .map(|f| f.lsn);
    let shared = own.or_else(|| record.shared_until(timeline, answer.timeline));
    shared.is_some_and(|lsn| answer.flush <= lsn)
}

/// The same against a running primary.
pub(super) fn can_follow(record: &Record, answer: &Answer, primary: &EngineStatus) -> bool {
    let flush = primary.flush_lsn.unwrap_or_default();
    is_prefix(record, answer, primary.timeline, flush, primary.fork)
}

/// What a copy has that can't follow a running primary, and that one never had: the range, where it is known.
pub(super) fn diverged(record: &Record, answer: &Answer, primary: &EngineStatus) -> String {
    let (own, end, newest) = (answer.timeline, answer.flush, primary.timeline);
    let begin = if own == newest {
        primary.flush_lsn
    } else {
        let mut lines = Lines::new(record, primary);
        lines.add(own, answer.fork);
        lines.parted_at(own, newest)
    };
    match begin.filter(|begin| *begin < end) {
        Some(begin) => {
            format!("its log from {begin} to {end} on timeline {own} is not in timeline {newest}")
        }
        None => format!(
            "its log ends at {end} on timeline {own}, which timeline {newest} does not contain"
        ),
    }
}

/// How timelines descend from each other, as far as the record and the primary know.
pub(super) struct Lines {
    forks: Vec<TimelineFork>,
}

impl Lines {
    pub fn new(record: &Record, primary: &EngineStatus) -> Lines {
        let mut lines = Lines {
            forks: record.forks.clone(),
        };
        lines.add(primary.timeline, primary.fork);
        lines
    }

    fn add(&mut self, timeline: Term, fork: Option<Fork>) {
        if let Some(Fork {
            timeline: parent,
            lsn,
        }) = fork
        {
            self.forks.push(TimelineFork {
                timeline,
                parent,
                lsn,
            });
        }
    }

    fn fork_of(&self, timeline: Term) -> Option<&TimelineFork> {
        // A parent is always older, so that every line ends.
        self.forks
            .iter()
            .find(|fork| fork.timeline == timeline && fork.parent < timeline)
    }

    /// A timeline and its ancestors, the newest first, each with the end of what is shared with it.
    fn of(&self, timeline: Term) -> Vec<(Term, Lsn)> {
        let (mut at, mut until) = (timeline, Lsn::new(u64::MAX));
        let mut line = vec![(at, until)];
        while let Some(fork) = self.fork_of(at) {
            (at, until) = (fork.parent, until.min(fork.lsn));
            line.push((at, until));
        }
        line
    }

    /// Whether `timeline` is, or descends from, `ancestor`.
    pub fn contains(&self, timeline: Term, ancestor: Term) -> bool {
        self.of(timeline).iter().any(|(at, _)| *at == ancestor)
    }

    /// The log that a copy whose log ends at `flush` on `timeline` has and the timeline `term` never had; none if nobody
    /// knows where the two parted.
    fn bytes_beyond(&self, timeline: Term, flush: Lsn, term: Term) -> Option<u64> {
        if self.contains(timeline, term) {
            return Some(0); // It has followed.
        }
        Some(flush.bytes_since(self.parted_at(timeline, term)?))
    }

    /// Where the logs of two timelines part; none if nobody knows.
    fn parted_at(&self, timeline: Term, term: Term) -> Option<Lsn> {
        let other = self.of(term);
        let (own, shared) = self.of(timeline).into_iter().find_map(|(at, until)| {
            let (_, shared) = other.iter().find(|(of, _)| *of == at)?;
            Some((until, *shared))
        })?;
        Some(own.min(shared))
    }

    /// What the copy that has answered lost when `term` began without it.
    pub fn lost(mut self, answer: &Answer, term: Term) -> Option<u64> {
        self.add(answer.timeline, answer.fork);
        self.bytes_beyond(answer.timeline, answer.flush, term)
    }

    /// The same of a copy that has become the primary of `now` since: its log ended where that began.
    pub fn lost_by_primary(&self, now: Term, term: Term) -> Option<u64> {
        if self.contains(now, term) {
            return Some(0);
        }
        let fork = self.fork_of(now)?;
        self.bytes_beyond(fork.parent, fork.lsn, term)
    }
}
