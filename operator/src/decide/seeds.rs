//! Whom an instance without data copies: of the standbys that have what the primary has, the one that gives the fewest
//! copies; else the primary.
//!
//! A copy of a standby costs the primary nothing. It is asked for only while the primary serves in the record's term, so
//! never during a failover. No safety rests on it: whatever a copy was taken of, it follows the primary of the newest term,
//! and is seeded anew where its log is not that primary's.

use super::standbys::Scene;
use super::{CAUGHT_UP_BYTES, Giver, Instance, Life, Plan, Step};
use crate::api::{EngineRole, SupervisorState, SupervisorStatus};
use crate::ids::{InstanceId, Lsn};

/// Whom to copy is told when an instance asks, and again when whom it copies answers no more: the copy would wait for a
/// process that is frozen, or for a node that is gone. One that an operator that has just started has not heard yet is not
/// lost: what was copied of it would be thrown away.
pub(super) fn tend(
    scene: &Scene<'_>,
    name: &str,
    status: &SupervisorStatus,
    id: &InstanceId,
    plan: &mut Plan,
) {
    let Some(seeding) = &status.seeding else {
        return;
    };
    let is_lost = |giver: &String| {
        let giver = scene.observed.instances.get(giver);
        giver.is_none_or(|i| i.life == Life::Ended || i.silence_ms() >= i.lost_after_ms)
    };
    let is_due = seeding.asks || seeding.source.as_ref().is_some_and(is_lost);
    if is_due && status.promised_term == scene.record.term {
        follow(scene, name, status, id, plan);
    }
}

/// Tells one without data to follow, and whom to copy first.
pub(super) fn follow(
    scene: &Scene<'_>,
    name: &str,
    status: &SupervisorStatus,
    id: &InstanceId,
    plan: &mut Plan,
) {
    let giver = status.seeding.as_ref().map(|_| giver(scene, name, plan));
    plan.step(Step::Follow {
        instance: name.to_owned(),
        term: scene.record.term,
        id: id.clone(),
        giver,
    });
}

fn giver(scene: &Scene<'_>, taker: &str, plan: &Plan) -> Giver {
    let least = scene
        .observed
        .instances
        .iter()
        .filter(|(name, instance)| *name != taker && can_give(scene, name, instance))
        .min_by_key(|(name, instance)| load(scene, name, instance, plan));
    match least {
        Some((name, _)) => Giver::Standby(name.clone()),
        None => Giver::Primary,
    }
}

/// A standby that has what the primary has, and stays. It keeps log for those who copy it, so it has to have room.
fn can_give(scene: &Scene<'_>, name: &str, instance: &Instance) -> bool {
    let (Some(status), Some(id), Some(engine)) =
        (instance.heard(), instance.id(), instance.engine())
    else {
        return false;
    };
    let upkeep = &instance.upkeep;
    let goes = upkeep.going
        || upkeep.outdated
        || upkeep.renewing
        || upkeep.forced
        || status.leaving
        || status.gave_way
        || scene.leaving.iter().any(|leaving| leaving == name);
    let end = scene.primary.flush_lsn.unwrap_or_default();
    let is_near = |lsn: Option<Lsn>| lsn.is_some_and(|lsn| end.bytes_since(lsn) <= CAUGHT_UP_BYTES);
    let term = scene.record.term;
    let stream = scene.primary.stream_of(id, term);
    !goes
        && instance.follows(term)
        && instance.answers()
        && status.state == SupervisorState::Running
        && engine.role == EngineRole::Standby
        && engine.consistent
        && !engine.replay_stuck
        && status.volume_full.is_none()
        && is_near(engine.replay_lsn)
        && stream.is_some_and(|stream| is_near(stream.flush_lsn))
}

/// Copies that are being taken of it, whether it says so or those who take them, and those that this plan adds.
fn load(scene: &Scene<'_>, name: &str, instance: &Instance, plan: &Plan) -> usize {
    let given = instance.engine().map_or(0, |engine| {
        let copies = engine.standbys.iter().filter(|s| s.state == "backup");
        copies.count()
    });
    let copies_it = |taker: &&Instance| {
        let seeding = taker.heard().and_then(|status| status.seeding.as_ref());
        seeding.is_some_and(|seeding| seeding.source.as_deref() == Some(name))
    };
    let taken = scene.observed.instances.values().filter(copies_it).count();
    let added = plan.steps.iter().filter(|step| step.giver() == Some(name));
    given.max(taken) + added.count()
}
