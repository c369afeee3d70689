//! The beginning of a record: the first instance of a new cluster, or volumes whose record is gone.

use super::{Instance, Life, Observed, Plan, Renewal, Seed, Step, in_sync};
use crate::api::{EngineRole, SupervisorState};
use crate::crd::{ChangeKind, Durability, InSyncSet, Member, Phase, Record, RoleChange};
use crate::ids::{Millis, Term};
use crate::names;
use crate::validate::ValidatedCluster;

/// No record: a new cluster if there is no volume, else the record is rebuilt from all of them.
pub(super) fn begin(cluster: &ValidatedCluster, observed: &Observed, now: Millis, plan: &mut Plan) {
    if observed.instances.is_empty() && !observed.retired.is_empty() {
        // There was a database, and an empty one must not take its place without a word.
        plan.obstacle(
            "VolumeMissing",
            format!(
                "there is no volume of this cluster but those of removed instances: {}. Bring back those that it had last. To \
                 go on with what a removed one held, take the annotation understudy.dev/retired off its claim; to begin with \
                 an empty database, delete these claims",
                observed.retired.join(", ")
            ),
        );
        return;
    }
    if observed.instances.is_empty() {
        let record = Record {
            record_version: 0,
            term: Term::FIRST,
            phase: Phase::Creating,
            primary: None,
            candidate: None,
            in_sync: Vec::new(),
            system_id: None,
            forks: Vec::new(),
            change: None,
        };
        plan.event(
            "Creating",
            format!(
                "creating {} with {} standbys",
                cluster.name, cluster.replicas
            ),
        );
        plan.swap(None, record);
        return;
    }
    let missing = missing(cluster, observed);
    if !missing.is_empty() {
        let found: Vec<&str> = observed.instances.keys().map(String::as_str).collect();
        let kept = if observed.retired.is_empty() {
            String::new()
        } else {
            let retired = observed.retired.join(", ");
            format!(" (volumes of removed instances are kept and not counted: {retired})")
        };
        plan.obstacle(
            "VolumeMissing",
            format!(
                "the record is gone and must be rebuilt from all {} volumes; found: {}; missing: {}, or others in their \
                 place{kept}. Bring them back, or lower spec.replicas if they never existed",
                cluster.replicas + 1,
                found.join(", "),
                missing.join(", ")
            ),
        );
        return;
    }
    rebuild(observed, now, plan);
}

/// As many as there are too few, by the lowest free numbers. Instances need not be numbered in turn: one that broke may
/// have been removed before one with a higher number. Which ones there were only the record knew.
fn missing(cluster: &ValidatedCluster, observed: &Observed) -> Vec<String> {
    let wanted = cluster.replicas as usize + 1;
    let short = wanted.saturating_sub(observed.instances.len());
    (1..)
        .map(|number| names::instance(&cluster.name, number))
        .filter(|name| !observed.instances.contains_key(name))
        .take(short)
        .collect()
}

fn rebuild(observed: &Observed, now: Millis, plan: &mut Plan) {
    let mut members = Vec::new();
    let mut system_ids = Vec::new();
    let mut newest = Term::default();
    let mut unheard = Vec::new();
    for (name, instance) in &observed.instances {
        if instance.life == Life::Ended {
            plan.step(Step::Start {
                instance: name.clone(),
            });
        }
        let known = instance
            .heard()
            .and_then(|s| Some((s, s.instance_id.clone()?, s.system_id.clone())));
        match known {
            // What is being copied is no copy yet, though it has a name: it could never answer.
            Some((status, _, Some(_))) if status.state == SupervisorState::Seeding => {
                newest = newest.max(status.promised_term);
            }
            Some((status, id, Some(system_id))) => {
                newest = newest.max(status.promised_term);
                let timeline = status
                    .engine
                    .as_ref()
                    .map(|e| e.timeline)
                    .unwrap_or_default();
                newest = newest.max(timeline);
                members.push(Member {
                    name: name.clone(),
                    id,
                });
                system_ids.push(system_id);
            }
            // A volume that was never seeded holds nothing.
            Some((status, _, None)) => newest = newest.max(status.promised_term),
            None => unheard.push(name.clone()),
        }
    }
    if !unheard.is_empty() {
        plan.obstacle(
            "RebuildingRecord",
            format!("waiting for {}", unheard.join(", ")),
        );
        return;
    }
    if members.is_empty() {
        plan.obstacle(
            "VolumeMissing",
            "no volume of this cluster holds a database. Bring back those that do; or, to begin with an empty one, delete \
             the cluster and its claims and apply it again",
        );
        return;
    }
    system_ids.sort();
    system_ids.dedup();
    let [system_id] = system_ids.as_slice() else {
        plan.obstacle(
            "ForeignData",
            "the volumes do not hold one and the same database; move the foreign ones away",
        );
        return;
    };
    let term = newest.next();
    plan.warn(
        "RebuildingRecord",
        format!("the record is rebuilt from {} volumes", members.len()),
    );
    plan.swap(
        None,
        Record {
            record_version: 0,
            term,
            phase: Phase::FailingOver,
            primary: None,
            candidate: None,
            // One required of all of them: every single one has to answer.
            in_sync: vec![InSyncSet {
                term: newest,
                counter: 0,
                owner: None,
                members,
                required: 1,
                durability: Durability::Quorum,
            }],
            system_id: Some(system_id.clone()),
            forks: Vec::new(),
            change: Some(RoleChange {
                gap: None,
                lost_candidates: 0,
                lost_candidate_at: None,
                kind: ChangeKind::Rebuild,
                cause: "the record was gone".to_owned(),
                old: None,
                target: None,
                detected_at: now,
                deadline: None,
                lost_bytes: None,
                forced: false,
            }),
        },
    );
}

/// The first instance is initialised; when its engine runs, it becomes the primary of the first term.
pub(super) fn create(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) {
    let name = names::instance(&cluster.name, 1);
    let Some(instance) = observed.instances.get(&name) else {
        plan.step(Step::Create {
            instance: name,
            seed: Seed::Initdb,
            term: record.term,
        });
        return;
    };
    let ready = instance
        .heard()
        .zip(instance.engine())
        .filter(|(status, engine)| {
            let same = engine.instance_id == status.instance_id;
            same && engine.role == EngineRole::Primary && engine.timeline == record.term
        });
    let Some((status, engine)) = ready else {
        bring_up(&name, instance, plan);
        return;
    };
    let Some(id) = status.instance_id.clone() else {
        return;
    };
    let member = Member { name, id };
    let mut next = record.clone();
    next.phase = Phase::Running;
    next.in_sync = vec![in_sync::first(cluster, member.clone())];
    next.system_id = Some(engine.system_id.clone());
    plan.event(
        "Created",
        format!("{} is the primary of a new database", member.name),
    );
    next.primary = Some(member);
    plan.swap(Some(record), next);
}

/// The first instance is not there yet. Nothing is lost by making it anew: what the first manifest had wrong is
/// corrected by the next one.
fn bring_up(name: &str, instance: &Instance, plan: &mut Plan) {
    if instance.upkeep.outdated {
        plan.step(Step::Renew {
            instance: name.to_owned(),
            how: Renewal::Pod,
        });
        let message = format!("{name} is made anew, as the manifest is now");
        plan.obstacle("Creating", message);
        return;
    }
    if instance.life == Life::Ended {
        plan.step(Step::Start {
            instance: name.to_owned(),
        });
    }
    let said = instance.heard().and_then(|status| status.message.as_ref());
    let trouble = instance.upkeep.trouble.as_ref();
    match (said, trouble) {
        (Some(why), _) => plan.obstacle("Creating", format!("{name} does not start: {why}")),
        (None, Some(why)) if instance.cannot_run() => {
            let remedy = "correct the manifest, or provide what it asks for";
            plan.obstacle("PodNotRunning", format!("{name}: {why}; {remedy}"));
        }
        (None, Some(why)) => plan.obstacle("Creating", format!("{name} waits: {why}")),
        (None, None) => plan.obstacle("Creating", format!("{name} is being initialised")),
    }
}
