//! For how long each copy has not been streaming, as the recorded primary sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::watches::millis;
use crate::crd::Record;
use crate::decide::Instance;
use crate::ids::{InstanceId, Term};

#[derive(Debug, Default)]
pub(super) struct StreamClock {
    streamed: BTreeMap<InstanceId, Instant>,
    /// The primary and term for which `streamed` was counted.
    counted_for: Option<(InstanceId, Term)>,
}

impl StreamClock {
    pub fn forgive(&mut self, stalled: Duration) {
        let now = Instant::now();
        for at in self.streamed.values_mut() {
            *at = (*at + stalled).min(now);
        }
    }

    /// Milliseconds since each copy was last seen streaming.
    pub fn count(
        &mut self,
        record: Option<&Record>,
        instances: &BTreeMap<String, Instance>,
    ) -> BTreeMap<InstanceId, u64> {
        let now = Instant::now();
        let primary = record.and_then(|r| r.primary.as_ref());
        let engine = primary
            .and_then(|p| instances.get(&p.name).filter(|i| i.id() == Some(&p.id)))
            .and_then(Instance::engine)
            .filter(|e| record.is_some_and(|r| e.is_primary_of(r.term)));
        let counted = primary.zip(record).map(|(p, r)| (p.id.clone(), r.term));
        if counted != self.counted_for || engine.is_none() {
            // A new primary, or one that does not serve: its standbys' time begins when it does.
            self.counted_for = counted;
            for at in self.streamed.values_mut() {
                *at = now;
            }
        }
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
            let streams = engine
                .zip(record)
                .is_some_and(|(e, r)| e.stream_of(&id, r.term).is_some());
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
        self.streamed
            .iter()
            .map(|(id, at)| (id.clone(), millis(now.duration_since(*at))))
            .collect()
    }
}
