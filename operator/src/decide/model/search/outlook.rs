//! What an operator may do, given the record and the instances as it has read them: the real [`decide`] under every
//! combination of time-outs that may or may not have passed.
//!
//! Times are three facts: which instances have been silent for too long, whether the change under way has lasted too
//! long, and for how long each copy has not streamed. What is read of an instance is cut down to what `decide` looks at;
//! a test holds that this changes no decision.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{MOST, View};
use crate::api::{EngineRole, SupervisorState};
use crate::crd::{Phase, Record};
use crate::decide::model::mutant::Mutant;
use crate::decide::{
    Instance, Life, MEMBER_LOST_MS, Observed, Past, Plan, SILENT_MS, STUCK_MS, SWITCHOVER_MS, Step,
    decide,
};
use crate::ids::{InstanceId, Lsn, Millis, Term};
use crate::names;
use crate::validate::{Requests, ValidatedCluster};

/// Changes of role are detected at this time, always.
const DETECTED_AT: Millis = Millis::new(1_000);
const SOON: u64 = 1;
/// Longer than every time-out of a change of role.
const LATE: u64 = 30_000;

pub(super) const CLUSTER: &str = "m";

/// Which time-outs have passed, and what an administrator asks for.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// A bit for each instance that has not been heard for long.
    pub(super) silent: u8,
    pub(super) late: bool,
    pub(super) unstreamed_ms: BTreeMap<InstanceId, u64>,
    pub(super) switchover: bool,
}

impl Facts {
    /// No time-out has passed and nothing is asked for.
    pub(super) const fn calm() -> Facts {
        Facts {
            silent: 0,
            late: false,
            unstreamed_ms: BTreeMap::new(),
            switchover: false,
        }
    }
}

/// What one decision asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Outlook {
    /// Calls with the number of the instance that they go to.
    pub(super) calls: Vec<(usize, Step)>,
    pub(super) swap: Option<Record>,
    pub(super) licensed: bool,
}

/// What differs between the searches and not within one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breadth {
    pub(super) instances: usize,
    /// Whether the set may change or a switchover look for its target, so that it matters who streams.
    pub(super) streams_matter: bool,
    pub(super) switchovers: bool,
}

pub(super) fn cluster(instances: usize) -> ValidatedCluster {
    ValidatedCluster {
        name: CLUSTER.to_owned(),
        replicas: u32::try_from(instances - 1).expect("few instances"),
        storage_bytes: 1 << 30,
        generation: 1,
        ..ValidatedCluster::default()
    }
}

/// Every combination of facts that `decide` could tell apart in this phase. For how long a copy has not streamed decides
/// whether it stays a member; who becomes one has to stream now. (That a copy has not streamed for so long that it is
/// seeded anew is not among them: [`super::operators`] says why.)
pub(super) fn facts(breadth: Breadth, record: &Record) -> Vec<Facts> {
    let gathers = matches!(record.phase, Phase::FailingOver | Phase::SwitchingOver);
    let running = record.phase == Phase::Running;
    let ids = if running && breadth.streams_matter {
        members(record)
    } else {
        Vec::new()
    };
    let ages = [0, MEMBER_LOST_MS];
    let combinations = ages
        .len()
        .pow(u32::try_from(ids.len()).expect("few copies"));
    let mut all = Vec::new();
    for silent in 0..(1_u8 << breadth.instances) {
        for late in [false, true] {
            for switchover in [false, true] {
                if (late && !gathers) || (switchover && !(running && breadth.switchovers)) {
                    continue;
                }
                for mut combination in 0..combinations {
                    let unstreamed_ms = ids
                        .iter()
                        .map(|id| {
                            let age = ages[combination % ages.len()];
                            combination /= ages.len();
                            (id.clone(), age)
                        })
                        .collect();
                    all.push(Facts {
                        silent,
                        late,
                        unstreamed_ms,
                        switchover,
                    });
                }
            }
        }
    }
    all
}

/// The members of the newest set.
pub(super) fn members(record: &Record) -> Vec<InstanceId> {
    let newest = record.newest_set().into_iter();
    newest
        .flat_map(|set| &set.members)
        .map(|member| member.id.clone())
        .collect()
}

/// The copies beside the primary's that the record or an instance knows.
pub(super) fn copies(record: &Record, views: &[&View]) -> BTreeSet<InstanceId> {
    let members = record
        .in_sync
        .iter()
        .flat_map(|s| &s.members)
        .map(|m| m.id.clone());
    let held = views
        .iter()
        .filter_map(|v| v.status.as_ref().and_then(|s| s.instance_id.clone()));
    members
        .chain(held)
        .filter(|id| !record.is_primary(id))
        .collect()
}

/// One decision.
pub(super) fn outlook(
    cluster: &ValidatedCluster,
    mutant: Mutant,
    record: &Record,
    views: &[&View],
    facts: &Facts,
) -> Outlook {
    let mut observed = observe(mutant, record, views);
    outlook_with(cluster, mutant, &mut observed, record, views, facts)
}

/// One decision on `observed`, which is what [`observe`] makes of this record and these views, with these facts.
pub(super) fn outlook_with(
    cluster: &ValidatedCluster,
    mutant: Mutant,
    observed: &mut Observed,
    record: &Record,
    views: &[&View],
    facts: &Facts,
) -> Outlook {
    let plan = plan(cluster, observed, facts);
    let calls = plan.steps.into_iter().filter_map(call).collect();
    let swap = plan
        .swap
        .map(|swap| canonical(mutant.swap_to_make(Some(record), swap).record));
    let licensed = swap.as_ref().is_none_or(|next| {
        let chooses = next.phase == Phase::Promoting && record.phase != Phase::Promoting;
        !chooses || mutant != Mutant::None || is_licensed(record, next, views, facts.silent)
    });
    Outlook {
        calls,
        swap,
        licensed,
    }
}

/// What an operator has observed, but for the facts.
pub(super) fn observe(mutant: Mutant, record: &Record, views: &[&View]) -> Observed {
    let instances = views.iter().enumerate().map(|(at, view)| {
        let instance = Instance {
            lost_after_ms: crate::decide::SILENT_MS,
            upkeep: crate::decide::Upkeep::default(),
            life: view.life,
            pid: Some(1),
            silent_ms: 0,
            status: view.status.clone(),
        };
        (name(at), instance)
    });
    Observed {
        record: Some(mutant.record_to_decide_on(record.clone())),
        past: Past::default(),
        instances: instances.collect(),
        unstreamed_ms: BTreeMap::new(),
        stuck_ms: BTreeMap::new(),
        routes: None,
        retired: Vec::new(),
        fencing: false,
    }
}

fn plan(cluster: &ValidatedCluster, observed: &mut Observed, facts: &Facts) -> Plan {
    for (name, instance) in &mut observed.instances {
        let silent = position(name).is_some_and(|at| facts.silent & (1 << at) != 0);
        instance.silent_ms = if silent { SILENT_MS } else { 0 };
    }
    observed.unstreamed_ms.clone_from(&facts.unstreamed_ms);
    // Whoever has not streamed for so long may have run all the while.
    let stuck = facts
        .unstreamed_ms
        .iter()
        .filter(|(_, ms)| **ms >= STUCK_MS);
    observed.stuck_ms = stuck.map(|(id, ms)| (id.clone(), *ms)).collect();
    let now = DETECTED_AT.plus(if facts.late { LATE } else { SOON });
    if facts.switchover {
        let asked = ValidatedCluster {
            requests: Requests {
                switchover_to: Some("any".to_owned()),
                ..Requests::default()
            },
            ..cluster.clone()
        };
        return decide(&asked, observed, now);
    }
    decide(cluster, observed, now)
}

/// The calls that instances obey. Starting is a matter of time here, and the Services are not in the model.
fn call(step: Step) -> Option<(usize, Step)> {
    let at = step.instance().and_then(position)?;
    match step {
        Step::Seal { .. }
        | Step::Demote { .. }
        | Step::Promote { .. }
        | Step::Set { .. }
        | Step::Follow { .. } => Some((at, step)),
        Step::Reseed {
            instance, term, id, ..
        } => Some((
            at,
            Step::Reseed {
                instance,
                term,
                id,
                why: String::new(),
            },
        )),
        _ => None,
    }
}

/// The record without what only reports and time-outs read.
pub(super) fn canonical(mut record: Record) -> Record {
    record.record_version = 0;
    if let Some(change) = &mut record.change {
        change.cause = String::new();
        change.detected_at = DETECTED_AT;
        change.deadline = change.deadline.map(|_| DETECTED_AT.plus(SWITCHOVER_MS));
        change.lost_bytes = change.lost_bytes.map(|_| 0);
    }
    record
}

/// The rule of a failover, written down a second time: every listed set has the answer of its own primary or of
/// n - W + 1 members, as they were *read*, and nobody who answered is ahead of the candidate.
fn is_licensed(record: &Record, next: &Record, views: &[&View], silent: u8) -> bool {
    let answers: BTreeMap<&InstanceId, (Term, Option<Lsn>)> = views
        .iter()
        .enumerate()
        .filter(|(at, view)| silent & (1 << at) == 0 && view.life == Life::Alive)
        .filter_map(|(_, view)| view.status.as_ref())
        .filter(|s| s.sealed && s.promised_term == record.term)
        .filter_map(|s| Some((s.instance_id.as_ref()?, s.engine.as_ref()?)))
        .filter(|(_, e)| e.sealed && e.role == EngineRole::Standby)
        .map(|(id, e)| (id, (e.timeline, e.flush_lsn)))
        .collect();
    let satisfied = record.in_sync.iter().all(|set| {
        let owner = set
            .owner
            .as_ref()
            .is_some_and(|o| answers.contains_key(&o.id));
        let answered = set
            .members
            .iter()
            .filter(|m| answers.contains_key(&m.id))
            .count();
        owner || answered + set.required as usize > set.members.len()
    });
    let best = next
        .candidate
        .as_ref()
        .and_then(|c| answers.get(&c.id))
        .is_some_and(|own| answers.values().all(|other| other <= own));
    satisfied && best
}

/// What `decide` looks at, in the phases of these searches: where a copy ends matters once it is sealed; of the streams
/// only that they are there, and not even that where sets stay as they are.
pub(super) fn cut_down(mut view: View, breadth: Breadth) -> View {
    let Some(status) = &mut view.status else {
        return view;
    };
    let sealed = status.sealed;
    if let Some(engine) = &mut status.engine {
        engine.insert_lsn = None;
        engine.write_lsn = None;
        if engine.role == EngineRole::Standby {
            engine.standbys.clear();
            if !sealed {
                engine.flush_lsn = None;
                engine.replay_lsn = None;
                engine.timeline = Term::default();
                engine.fork = None;
            }
        } else {
            engine.replay_lsn = None;
        }
        if !breadth.streams_matter {
            engine.standbys.clear();
        }
        if !breadth.switchovers {
            for stream in &mut engine.standbys {
                stream.flush_lsn = Some(Lsn::new(1));
            }
        }
    }
    view
}

/// A view by which the set can't be changed: nobody streams.
pub(super) fn without_streams(mut view: View) -> View {
    let engine = view.status.as_mut().and_then(|s| s.engine.as_mut());
    if let Some(engine) = engine {
        engine.standbys.clear();
    }
    view
}

/// A view from before the term of the present record, for whoever decides on an older one: calls alone can come of that,
/// and no call depends on who streams from a primary or on whether it may write.
pub(super) fn past(mut view: View, term: Term) -> View {
    let Some(status) = &mut view.status else {
        return view;
    };
    if status.promised_term >= term {
        return view;
    }
    if let Some(engine) = &mut status.engine {
        engine.standbys.clear();
        engine.writable = false;
        engine.set_caught_up = false;
    }
    view
}

/// A view from before the term of the record that its operator has read. Whatever that instance was, it has not
/// answered, does not follow and is not the primary in this term: it makes no difference any more what it was. (A view
/// of the primary that is so old would have it told its set again, which the promotion does as well.)
pub(super) fn outdated(mut view: View, term: Term) -> View {
    let Some(status) = &mut view.status else {
        return view;
    };
    if status.promised_term >= term {
        return view;
    }
    status.promised_term = Term::default();
    status.sealed = true;
    status.set = None;
    if let Some(engine) = &mut status.engine {
        engine.role = EngineRole::Standby;
        engine.in_recovery = true;
        engine.writable = false;
        engine.timeline = Term::default();
        engine.promised_term = Some(Term::default());
        engine.sealed = true;
        engine.flush_lsn = None;
        engine.replay_lsn = None;
        engine.primary_term = None;
        engine.set = None;
        engine.set_caught_up = false;
        engine.standbys.clear();
        engine.fork = None;
    } else if status.state == SupervisorState::Waiting {
        status.state = SupervisorState::Seeding;
    }
    view
}

pub(super) fn name(at: usize) -> String {
    names::instance(CLUSTER, u32::try_from(at + 1).expect("few instances"))
}

fn position(name: &str) -> Option<usize> {
    (0..MOST).find(|at| self::name(*at) == name)
}
