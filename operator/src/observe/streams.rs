//! For how long each copy has not been streaming, as the recorded primary sees it, and for how long its engine has got no
//! further by itself.
//!
//! The first decides who may be waited for, and goes on while an instance is away. The second decides who can't be helped
//! but by a new copy, and begins with each engine: one that was away for hours may stream a moment after it runs. Only where
//! engines of one supervisor end one after the other, and none gets further, it goes on from the first of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::watches::millis;
use crate::api::EngineStatus;
use crate::crd::Record;
use crate::decide::Instance;
use crate::ids::{InstanceId, Lsn, Millis, Term};

/// Milliseconds, by copy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ages {
    pub unstreamed_ms: BTreeMap<InstanceId, u64>,
    /// Only of those that try to stream.
    pub stuck_ms: BTreeMap<InstanceId, u64>,
}

#[derive(Debug, Default)]
pub(super) struct StreamClock {
    streamed: BTreeMap<InstanceId, Instant>,
    tries: BTreeMap<InstanceId, Try>,
    /// The primary and term for which these were counted.
    counted_for: Option<(InstanceId, Term)>,
}

/// An engine that follows and does not stream, and how far it has come.
#[derive(Clone, Copy, Debug)]
struct Try {
    /// When its supervisor began, and which of that one's engines it is: a process id alone can come again.
    engine: (Millis, Option<u32>),
    reached: Reached,
    /// Since when it has got no further.
    since: Instant,
    /// So many engines of this supervisor, it included, have got no further than `furthest`, nor has one of them streamed.
    engines: u32,
    furthest: Reached,
    /// Since when none of them has got further.
    none_since: Instant,
}

/// So many engines of one supervisor that come no further than the first of them are enough: a log or a page that stops one
/// stops the next one too. One or two may have ended for another reason.
const CHANCES: u32 = 3;

/// How far an engine has come, as it said itself.
#[derive(Clone, Copy, Debug)]
struct Reached {
    flushed: Option<Lsn>,
    replayed: Option<Lsn>,
}

impl Reached {
    fn is_beyond(&self, other: &Reached) -> bool {
        self.flushed > other.flushed || self.replayed > other.replayed
    }
}

impl Try {
    /// As the instance is seen `now`; none where it streams, does not try to, or is not heard.
    fn of(instance: &Instance, primary: &EngineStatus, term: Term, now: Instant) -> Option<Try> {
        let status = instance.heard()?;
        let (id, engine) = (status.instance_id.as_ref()?, status.engine.as_ref()?);
        let receiver = engine.receiver.as_ref()?;
        let tries = instance.answers() && instance.follows(term) && receiver.state != "stopped";
        let reached = Reached {
            flushed: engine.flush_lsn,
            replayed: engine.replay_lsn,
        };
        (tries && primary.stream_of(id, term).is_none()).then_some(Try {
            engine: (status.began_at, status.engine_pid),
            reached,
            since: now,
            engines: 1,
            furthest: reached,
            none_since: now,
        })
    }

    /// What is seen now, with what is known from before. An engine that catches up, or has much of its own log to replay
    /// first, gets on; so does one of which its supervisor, or its pod, is another one.
    fn after(self, before: Try) -> Try {
        let is_another = self.engine != before.engine;
        if self.engine.0 != before.engine.0 || self.reached.is_beyond(&before.furthest) {
            self
        } else if is_another {
            Try {
                engines: before.engines.saturating_add(1),
                furthest: before.furthest,
                none_since: before.none_since,
                ..self
            }
        } else if self.reached.is_beyond(&before.reached) {
            Try {
                reached: self.reached,
                since: self.since,
                ..before
            }
        } else {
            before
        }
    }

    /// While its engine has ended, or does not answer: the time of that one is not counted, and what others before it came
    /// to stays known. None where it is not to be waited for: another supervisor, another role, a stream.
    fn while_away(self, instance: &Instance, term: Term, now: Instant) -> Option<Try> {
        let status = instance.heard()?;
        let is_away = status.engine.is_none() || !instance.answers();
        let is_its = status.began_at == self.engine.0 && instance.follows(term);
        (is_away && is_its).then_some(Try { since: now, ..self })
    }

    fn stands_since(&self) -> Instant {
        if self.engines >= CHANCES {
            self.none_since
        } else {
            self.since
        }
    }
}

impl StreamClock {
    pub fn forgive(&mut self, stalled: Duration) {
        let now = Instant::now();
        let later = |at: &mut Instant| *at = (*at + stalled).min(now);
        self.streamed.values_mut().for_each(later);
        for each in self.tries.values_mut() {
            later(&mut each.since);
            later(&mut each.none_since);
        }
    }

    /// As of the look that began `now`: what has passed since then is nobody's.
    pub fn count(
        &mut self,
        record: Option<&Record>,
        instances: &BTreeMap<String, Instance>,
        now: Instant,
    ) -> Ages {
        let primary = record.and_then(|r| r.primary.as_ref());
        let engine = primary
            .and_then(|p| instances.get(&p.name).filter(|i| i.id() == Some(&p.id)))
            .and_then(Instance::engine)
            .filter(|e| !e.in_recovery && record.is_some_and(|r| e.is_primary_of(r.term)));
        let counted = primary.zip(record).map(|(p, r)| (p.id.clone(), r.term));
        if counted != self.counted_for || engine.is_none() {
            // A new primary, or one that does not serve: its standbys' time begins when it does.
            self.counted_for = counted;
            for at in self.streamed.values_mut() {
                *at = now;
            }
            self.tries.clear();
        }
        let serving = engine.zip(record.map(|r| r.term));
        self.count_streams(record, serving, instances, now);
        self.count_tries(serving, instances, now);
        let age = |at: Instant| millis(now.saturating_duration_since(at));
        let streamed = self.streamed.iter();
        let tries = self.tries.iter();
        Ages {
            unstreamed_ms: streamed.map(|(id, at)| (id.clone(), age(*at))).collect(),
            stuck_ms: tries
                .map(|(id, each)| (id.clone(), age(each.stands_since())))
                .collect(),
        }
    }

    fn count_streams(
        &mut self,
        record: Option<&Record>,
        serving: Option<(&EngineStatus, Term)>,
        instances: &BTreeMap<String, Instance>,
        now: Instant,
    ) {
        let members = record
            .iter()
            .flat_map(|r| &r.in_sync)
            .flat_map(|s| &s.members)
            .map(|m| &m.id);
        let known: Vec<InstanceId> = members
            .chain(instances.values().filter_map(Instance::id))
            .cloned()
            .collect();
        self.streamed.retain(|id, _| known.contains(id));
        for id in known {
            let streams = serving.is_some_and(|(e, term)| e.stream_of(&id, term).is_some());
            // A primary lists the stream of a frozen standby long after it was frozen.
            let instance = instances.values().find(|i| i.id() == Some(&id));
            let silence = match instance {
                Some(instance) if !instance.answers() => {
                    Duration::from_millis(instance.silence_ms())
                }
                _ => Duration::ZERO,
            };
            let at = self.streamed.entry(id).or_insert(now);
            if streams {
                *at = (*at).max(now.checked_sub(silence).unwrap_or(*at));
            }
        }
    }

    fn count_tries(
        &mut self,
        serving: Option<(&EngineStatus, Term)>,
        instances: &BTreeMap<String, Instance>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.tries);
        let Some((primary, term)) = serving else {
            return;
        };
        for instance in instances.values() {
            let Some(id) = instance.id() else {
                continue;
            };
            let seen = Try::of(instance, primary, term, now);
            let next = match (seen, before.remove(id)) {
                (Some(seen), Some(known)) => Some(seen.after(known)),
                (Some(seen), None) => Some(seen),
                (None, known) => known.and_then(|known| known.while_away(instance, term, now)),
            };
            if let Some(next) = next {
                self.tries.insert(id.clone(), next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::SupervisorStatus;
    use crate::decide::{Life, SILENT_MS, Upkeep};

    const SECOND: Duration = Duration::from_secs(1);

    fn record() -> Record {
        serde_json::from_value(json!({
            "recordVersion": 5, "term": 3, "phase": "Running", "primary": {"name": "orders-1", "id": "id1"},
            "inSync": [],
        }))
        .expect("a record")
    }

    fn instance(number: u32, engine_pid: u32, engine: Value) -> Instance {
        Instance {
            life: Life::Alive,
            pid: Some(number),
            silent_ms: 0,
            status: Some(SupervisorStatus {
                instance_id: Some(InstanceId::new(format!("id{number}"))),
                promised_term: Term::new(3),
                engine_pid: Some(engine_pid),
                engine: Some(serde_json::from_value(engine).expect("an engine's status")),
                ..crate::instance::empty_status()
            }),
            lost_after_ms: SILENT_MS,
            upkeep: Upkeep::default(),
        }
    }

    /// orders-1, with or without a stream of orders-2.
    fn primary(has_stream: bool) -> Instance {
        let stream = json!({"instance_id": "id2", "term": 3, "state": "streaming"});
        let streams = if has_stream { vec![stream] } else { Vec::new() };
        let engine =
            json!({"system_id": "1", "role": "primary", "timeline": 3, "standbys": streams});
        instance(1, 7, engine)
    }

    /// orders-2, which has received so much.
    fn connecting(engine_pid: u32, flushed: &str) -> Instance {
        let engine = json!({"system_id": "1", "role": "standby", "timeline": 3, "flush_lsn": flushed,
                            "replay_lsn": "0/100", "receiver": {"state": "connecting"}});
        instance(2, engine_pid, engine)
    }

    /// Its milliseconds without a stream, and of those that count against its engine.
    fn count(
        clock: &mut StreamClock,
        primary: Instance,
        standby: Instance,
        at: Instant,
    ) -> (u64, Option<u64>) {
        let both = [("orders-1", primary), ("orders-2", standby)];
        let instances = BTreeMap::from(both.map(|(name, i)| (name.to_owned(), i)));
        let ages = clock.count(Some(&record()), &instances, at);
        let id = InstanceId::new("id2");
        (ages.unstreamed_ms[&id], ages.stuck_ms.get(&id).copied())
    }

    #[test]
    fn an_engine_that_was_away_has_only_begun_when_it_runs_again() {
        let (mut clock, begin) = (StreamClock::default(), Instant::now());
        let mut look = |has_stream: bool, standby: Instance, after: u32| {
            let at = begin + SECOND * after;
            count(&mut clock, primary(has_stream), standby, at)
        };
        assert_eq!(look(true, connecting(8, "0/100"), 0), (0, None));
        let away = Instance {
            silent_ms: SILENT_MS,
            ..connecting(8, "0/100")
        };
        assert_eq!(look(false, away.clone(), 60), (60_000, None));
        assert_eq!(look(false, away, 120), (120_000, None));
        let back = || connecting(9, "0/100");
        assert_eq!(look(false, back(), 121), (121_000, Some(0)));
        assert_eq!(look(false, back(), 181), (181_000, Some(60_000)));
        let next = || connecting(10, "0/100");
        assert_eq!(look(false, next(), 182), (182_000, Some(0)), "another one");
        assert_eq!(look(false, next(), 192), (192_000, Some(10_000)));
        assert_eq!(look(true, next(), 193), (0, None));
    }

    /// Nobody can stream from it, however long that takes.
    #[test]
    fn a_primary_that_replays_its_log_is_waited_for() {
        let (mut clock, begin) = (StreamClock::default(), Instant::now());
        let recovering = || {
            let engine =
                json!({"system_id": "1", "role": "primary", "timeline": 3, "in_recovery": true});
            instance(1, 7, engine)
        };
        let mut look = |primary: Instance, after: u32| {
            let standby = connecting(8, "0/100");
            count(&mut clock, primary, standby, begin + SECOND * after)
        };
        assert_eq!(look(primary(true), 0), (0, None));
        assert_eq!(look(recovering(), 10), (0, None));
        assert_eq!(look(recovering(), 600), (0, None));
        assert_eq!(look(primary(false), 601), (1_000, Some(0)));
    }

    #[test]
    fn whoever_gets_on_is_not_stuck_and_who_is_not_to_stream_neither() {
        let (mut clock, begin) = (StreamClock::default(), Instant::now());
        let mut stuck = |standby: Instance, after: u32| {
            count(&mut clock, primary(false), standby, begin + SECOND * after).1
        };
        assert_eq!(stuck(connecting(8, "0/100"), 0), Some(0));
        assert_eq!(stuck(connecting(8, "0/100"), 50), Some(50_000));
        assert_eq!(stuck(connecting(8, "0/200"), 51), Some(0), "it receives");
        assert_eq!(stuck(connecting(8, "0/200"), 60), Some(9_000));
        let mut replays = connecting(8, "0/200");
        let engine = |of: &mut Instance| {
            let status = of.status.as_mut().expect("heard");
            status.engine.take().expect("it runs")
        };
        let mut further = engine(&mut replays);
        further.replay_lsn = Some(Lsn::new(0x180));
        replays.status.as_mut().expect("heard").engine = Some(further);
        assert_eq!(stuck(replays, 61), Some(0), "it replays");
        let mut sealed = connecting(8, "0/200");
        sealed.status.as_mut().expect("heard").sealed = true;
        assert_eq!(stuck(sealed, 62), None);
    }

    /// Its pod runs, and its engine does not.
    fn down() -> Instance {
        let mut instance = connecting(8, "0/100");
        let status = instance.status.as_mut().expect("heard");
        (status.engine, status.engine_pid) = (None, None);
        instance
    }

    #[test]
    fn engines_that_end_one_after_the_other_where_the_first_did_are_stuck_together() {
        let (mut clock, begin) = (StreamClock::default(), Instant::now());
        let mut stuck = |standby: Instance, after: u32| {
            count(&mut clock, primary(false), standby, begin + SECOND * after).1
        };
        assert_eq!(stuck(connecting(8, "0/200"), 0), Some(0));
        assert_eq!(stuck(down(), 25), Some(0));
        assert_eq!(stuck(connecting(9, "0/180"), 30), Some(0), "its own log");
        assert_eq!(stuck(connecting(9, "0/180"), 40), Some(10_000));
        assert_eq!(stuck(connecting(9, "0/200"), 55), Some(0), "it gets on");
        assert_eq!(stuck(down(), 58), Some(0));
        assert_eq!(stuck(connecting(10, "0/180"), 60), Some(60_000));
        assert_eq!(stuck(connecting(10, "0/200"), 65), Some(65_000));
        assert_eq!(stuck(down(), 66), Some(66_000));
        assert_eq!(stuck(connecting(11, "0/280"), 70), Some(0), "further");
        assert_eq!(stuck(connecting(12, "0/200"), 80), Some(0));
        let mut frozen = connecting(12, "0/200");
        frozen.status.as_mut().expect("heard").engine_silent_ms = SILENT_MS;
        assert_eq!(stuck(frozen, 130), Some(0));
        assert_eq!(stuck(connecting(12, "0/200"), 131), Some(1_000));
        // Another pod of it, which has not seen what became of the others.
        let mut anew = connecting(13, "0/200");
        anew.status.as_mut().expect("heard").began_at = Millis::new(7);
        assert_eq!(stuck(anew, 150), Some(0));
    }

    #[test]
    fn neither_a_primary_that_does_not_serve_nor_a_standstill_counts() {
        let (mut clock, begin) = (StreamClock::default(), Instant::now());
        let standby = || connecting(8, "0/100");
        let at = |after: u32| begin + SECOND * after;
        count(&mut clock, primary(false), standby(), at(0));
        let silent = Instance {
            silent_ms: SILENT_MS,
            ..primary(false)
        };
        assert_eq!(count(&mut clock, silent, standby(), at(50)), (0, None));
        assert_eq!(
            count(&mut clock, primary(false), standby(), at(51)),
            (1_000, Some(0))
        );
        let long_ago = Instant::now().checked_sub(SECOND * 20);
        let long_ago = long_ago.expect("some uptime");
        for each in clock.tries.values_mut() {
            (each.since, each.none_since) = (long_ago, long_ago);
        }
        clock.forgive(SECOND * 5);
        let since = |each: &Try| (each.since, each.none_since);
        let since: Vec<_> = clock.tries.values().map(since).collect();
        let later = long_ago + SECOND * 5;
        assert_eq!(since, [(later, later)]);
    }
}
