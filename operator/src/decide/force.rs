//! `understudy.dev/force-promote`: an administrator accepts that commits are lost, because who may hold them never comes
//! back.
//!
//! It names a copy and the very term, so that a word that is late forces nothing. It is done only where a failover can't go
//! on by itself; where enough copies answer after all it is refused, and the best one takes over without loss. What was
//! given up is recorded as far as anybody ever saw it ([`LsnGap`]): once the others are gone nobody can tell any more.

use super::answers::{self, Answer};
use super::failover::know_fork;
use super::running::{self, Health};
use super::{Event, Observed, Outcome, Plan, RequestKind, in_sync};
use crate::crd::{LsnGap, Member, Phase, Record, RoleChange};
use crate::ids::Millis;
use crate::validate::ValidatedCluster;

/// An administrator's word that the loss is accepted: `NAME@TERM`, for this very term. What it names, unless it was
/// refused.
pub(super) fn asked<'a>(
    cluster: &'a ValidatedCluster,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) -> Option<(&'a str, &'a str)> {
    let text = cluster.requests.force_promote.as_deref()?;
    let wanted = text.rsplit_once('@');
    let Some((name, term)) = wanted.and_then(|(n, t)| Some((n, t.parse::<u32>().ok()?))) else {
        let message = format!("\"{text}\" is not of the form NAME@TERM");
        refuse(plan, text, message);
        return None;
    };
    if term != record.term.number() {
        let message = format!(
            "{text}: the term is {} now; look at the condition again",
            record.term
        );
        refuse(plan, text, message);
        return None;
    }
    if !observed.instances.contains_key(name) {
        let message = format!("{text}: there is no instance {name}");
        refuse(plan, text, message);
        return None;
    }
    Some((text, name))
}

/// A copy that could become primary by force.
pub(super) fn candidate<'a>(observed: &'a Observed, primary: &Member) -> Option<&'a str> {
    observed
        .instances
        .iter()
        .find(|(name, i)| **name != primary.name && i.engine().is_some_and(|e| e.consistent))
        .map(|(name, _)| name.as_str())
}

/// The primary may never come back, and an administrator has named the copy to go on with: the term is raised, which
/// seals everybody, and the record says what was asked.
pub(super) fn begin(
    observed: &Observed,
    record: &Record,
    primary: &Member,
    (text, name): (&str, &str),
    cause: String,
    now: Millis,
    plan: &mut Plan,
) {
    running::start_failover(observed, record, primary, cause, now, plan);
    if let Some(change) = plan
        .swap
        .as_mut()
        .and_then(|swap| swap.record.change.as_mut())
    {
        change.target = Some(name.to_owned());
        change.forced = true;
    }
    plan.outcomes.push(Outcome {
        request: RequestKind::ForcePromote,
        text: text.to_owned(),
        event: Event {
            reason: "ForcePromoteAccepted",
            warning: true,
            message: format!("{text}: {name} is promoted as soon as it has answered"),
        },
    });
}

/// Does what was asked by force once the named instance has answered: in this term, or when the term before was still the
/// primary's, which then is in the record. Either ends where enough have answered after all; only a word of this very term
/// holds where the best of them was to become primary and could not.
pub(super) fn choose(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    change: &RoleChange,
    answers: &[Answer],
    plan: &mut Plan,
) -> bool {
    let asked = asked(cluster, observed, record, plan);
    let enough = answers::enough(record, answers);
    if enough && change.lost_candidates == 0 {
        if let Some((text, _)) = asked {
            let why = format!("{text}: enough copies answer; the failover goes on without loss");
            refuse(plan, text, why);
        }
        return false;
    }
    let kept = change
        .target
        .as_deref()
        .filter(|_| change.forced && !enough);
    let Some(name) = asked.map(|(_, name)| name).or(kept) else {
        return false;
    };
    let Some(chosen) = answers.iter().find(|a| a.member.name == name) else {
        return false; // It may still answer; the request stands.
    };
    let mut next = record.clone();
    next.phase = Phase::Promoting;
    next.candidate = Some(chosen.member.clone());
    next.in_sync = vec![in_sync::of_candidate(cluster, record, chosen, answers)];
    let gap = gap(observed, chosen);
    let message = format!(
        "term {}: {name} is promoted by force, with a log that ends at {}; commits may be lost. {}",
        record.term,
        chosen.flush,
        beyond(&gap)
    );
    next.change = Some(RoleChange {
        forced: true,
        target: None,
        gap: Some(gap),
        ..change.clone()
    });
    know_fork(&mut next, chosen);
    match asked {
        Some((text, _)) => plan.outcomes.push(Outcome {
            request: RequestKind::ForcePromote,
            text: text.to_owned(),
            event: Event {
                reason: "ForcePromoted",
                warning: true,
                message,
            },
        }),
        None => plan.warn("ForcePromoted", message),
    }
    plan.swap(Some(record), next);
    true
}

/// How far anybody else was ever seen, by this operator or whoever has written the status.
fn gap(observed: &Observed, chosen: &Answer) -> LsnGap {
    let here = observed.instances.iter().filter_map(|(name, instance)| {
        let engine = instance.status.as_ref()?.engine.as_ref()?;
        Some((engine.flush_lsn?, name))
    });
    let past = observed.past.instances.iter();
    let past = past.filter_map(|report| Some((report.flush_lsn?, &report.name)));
    let others = here
        .chain(past)
        .filter(|(_, name)| **name != chosen.member.name);
    let farthest = others.max();
    LsnGap {
        promoted_lsn: chosen.flush,
        last_seen_lsn: farthest.map(|(lsn, _)| lsn),
        last_seen_of: farthest.map(|(_, name)| name.clone()),
    }
}

fn beyond(gap: &LsnGap) -> String {
    match (gap.last_seen_lsn, &gap.last_seen_of) {
        (Some(seen), Some(name)) if seen > gap.promoted_lsn => format!(
            "{name} was last seen at {seen}, {} bytes further; what it had after that nobody knows",
            seen.bytes_since(gap.promoted_lsn)
        ),
        (Some(seen), Some(name)) => {
            format!("Nobody was seen further ({name} at {seen} when that was last looked at)")
        }
        _ => "Nobody knows how far the others were".to_owned(),
    }
}

pub(super) fn refuse(plan: &mut Plan, text: &str, message: String) {
    plan.outcomes.push(Outcome {
        request: RequestKind::ForcePromote,
        text: text.to_owned(),
        event: Event {
            reason: "ForcePromoteRefused",
            warning: true,
            message,
        },
    });
}

/// Nothing is forced where nothing stands in the way; said is what helps instead.
pub(super) fn refuse_needless(
    cluster: &ValidatedCluster,
    record: &Record,
    primary: &Member,
    health: &Health,
    plan: &mut Plan,
) {
    let Some(text) = &cluster.requests.force_promote else {
        return;
    };
    let (name, term) = (&primary.name, record.term);
    let why = match health {
        Health::Good => {
            format!("no failover is blocked, term {term} has its primary; use a switchover")
        }
        // A switchover would have to be told to the very one that does not hear it.
        Health::Grace("PrimaryUnheard", _) => format!(
            "no failover is blocked: {name} serves in term {term}, though the operator does not hear it. End {name} (delete \
             its pod, by force if its node does not answer), and a standby takes over without loss"
        ),
        Health::Grace(..) => format!(
            "no failover is blocked: {name} is given a moment to come back in term {term}; look at the condition again"
        ),
        Health::Lost(_) => "a failover begins by itself; should it be blocked, its condition says \
                            how to go on"
            .to_owned(),
    };
    refuse(plan, text, format!("{text}: {why}"));
}
