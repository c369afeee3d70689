//! What is gone by while the manifest makes no sense. Pure.
//!
//! What runs must go on then: whoever decides needs no more than numbers, times and names. The numbers it takes from the
//! manifest where these are accepted, else from the last manifest that made sense, else from the record and the instances
//! that there are; a time that is refused is the nearest that is not. An operator that began when the manifest was refused
//! already knows nothing else, so it applies nothing: each instance stays as it was made, and new ones are made as the
//! others are.

use super::Seen;
use crate::crd::{Durability, InSyncSet};
use crate::decide::{Instance, Observed};
use crate::validate::{Essentials, ValidatedCluster, essentials};

/// What the loop goes by.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct GoneBy {
    pub cluster: ValidatedCluster,
    /// The rest is known as well, from the newest manifest that made sense. If not, only what is decided by is: nothing
    /// else may be made of it.
    pub is_whole: bool,
}

impl GoneBy {
    pub fn whole(cluster: ValidatedCluster) -> GoneBy {
        GoneBy {
            cluster,
            is_whole: true,
        }
    }

    /// While what is seen makes no sense: `before`, with what can be taken from it. None if nothing is there that could go
    /// on.
    pub fn held(before: Option<GoneBy>, seen: &Seen) -> Option<GoneBy> {
        let (given, observed) = (essentials(&seen.cluster), &seen.observed);
        // What was only counted says not of how many volumes a record has to be rebuilt.
        let before = before.filter(|before| before.is_whole || observed.record.is_some());
        let GoneBy { cluster, is_whole } = match before {
            Some(before) => before,
            None => found(&given, observed)?,
        };
        let generation = if is_whole {
            cluster.generation
        } else {
            newest_read(observed).unwrap_or(given.generation)
        };
        let (replicas, durability) = match given.counts {
            Some(counts) => counts,
            None if is_whole => (cluster.replicas, cluster.durability),
            // Whoever was not seen at first must not be one too many.
            None => {
                let now = counted(observed).map_or(0, |(standbys, _)| standbys);
                (cluster.replicas.max(now), cluster.durability)
            }
        };
        let cluster = ValidatedCluster {
            replicas,
            durability,
            failover: given.failover,
            paused: given.paused,
            generation,
            // What is asked for by annotation is asked for now: an old request must not be acted on again and again.
            requests: given.requests,
            ..cluster
        };
        Some(GoneBy { cluster, is_whole })
    }
}

/// A cluster that nobody has known with a manifest that made sense. One that has no data yet, or whose record has to be
/// rebuilt from nobody knows how many volumes, waits.
fn found(given: &Essentials, observed: &Observed) -> Option<GoneBy> {
    let (replicas, durability) = match (&observed.record, given.counts) {
        (Some(record), Some(counts)) => record.newest_set().map(|_| counts)?,
        (Some(_), None) => counted(observed)?,
        (None, Some(counts)) if !observed.instances.is_empty() => counts,
        (None, _) => return None,
    };
    let cluster = ValidatedCluster {
        name: given.name.clone(),
        namespace: given.namespace.clone(),
        replicas,
        durability,
        ..ValidatedCluster::default()
    };
    let is_whole = false;
    (!cluster.name.is_empty()).then_some(GoneBy { cluster, is_whole })
}

/// What the record and the instances tell of it. Of a record that is being rebuilt they tell nothing: all volumes stand in
/// its only set, which nobody commits under.
fn counted(observed: &Observed) -> Option<(u32, Durability)> {
    let newest = observed.record.as_ref()?.newest_set();
    let set = newest.filter(|set| set.owner.is_some())?;
    Some((standbys(observed, set), set.durability))
}

/// As many as there are: nobody is removed and nobody is added. `strict` promises each that it waits for.
fn standbys(observed: &Observed, set: &InSyncSet) -> u32 {
    let instances = observed.instances.len().saturating_sub(1);
    let all = instances.max(set.members.len());
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    match set.durability {
        Durability::Strict => all.max(set.required),
        Durability::Quorum | Durability::Async => all,
    }
}

/// The newest generation that some instance goes by. They judge the manifest by their own rules, which may be older.
fn newest_read(observed: &Observed) -> Option<i64> {
    let heard = observed.instances.values().filter_map(Instance::heard);
    let newest = heard.map(|status| status.generation).max();
    newest.filter(|generation| *generation > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{REPLACE_INSTANCE, Record, ReplicatedCluster};
    use crate::decide::{Life, Upkeep};
    use crate::ids::{InstanceId, Term};
    use crate::instance::empty_status;
    use crate::validate::validate;

    /// What no operator of today accepts.
    const REFUSED: &str = "parameters: {port: '1'}";

    fn manifest(spec: &str) -> ReplicatedCluster {
        let text = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders, generation: 7}}\n\
             spec: {{storage: {{size: 1Gi}}, {spec}}}\n"
        );
        serde_norway::from_str(&text).expect("a manifest of this test parses")
    }

    fn member(number: usize) -> Value {
        json!({"name": format!("orders-{number}"), "id": format!("id{number}")})
    }

    /// orders-1 is the primary of so many instances, all of which are heard.
    pub fn running(instances: usize, durability: &str, required: u32) -> Observed {
        let members: Vec<Value> = (2..=instances).map(member).collect();
        let set = json!({"term": 3, "counter": 1, "owner": member(1), "members": members, "required": required,
                         "durability": durability});
        let record: Record = serde_json::from_value(json!({
            "recordVersion": 5, "term": 3, "phase": "Running", "primary": member(1), "inSync": [set],
        }))
        .expect("a record");
        let instance = |number: usize| {
            let name = format!("orders-{number}");
            let status = crate::api::SupervisorStatus {
                name: name.clone(),
                instance_id: Some(InstanceId::new(format!("id{number}"))),
                promised_term: Term::new(3),
                generation: 4,
                ..empty_status()
            };
            let instance = Instance {
                life: Life::Alive,
                pid: None,
                silent_ms: 0,
                status: Some(status),
                lost_after_ms: 3_000,
                upkeep: Upkeep::default(),
            };
            (name, instance)
        };
        Observed {
            record: Some(record),
            instances: (1..=instances).map(instance).collect(),
            ..Observed::default()
        }
    }

    fn seen(spec: &str, observed: &Observed) -> Seen {
        let cluster = manifest(spec);
        assert!(validate(&cluster).is_err(), "{spec}");
        Seen {
            cluster,
            observed: observed.clone(),
        }
    }

    fn held(spec: &str, observed: &Observed) -> Option<ValidatedCluster> {
        let held = GoneBy::held(None, &seen(spec, observed))?;
        assert!(!held.is_whole);
        Some(held.cluster)
    }

    #[test]
    fn what_is_accepted_is_gone_by_whatever_else_is_refused() {
        let spec = format!(
            "replicas: 4, durability: strict, paused: true, failover: {{lostAfterMilliseconds: 0}}, {REFUSED}"
        );
        let held = held(&spec, &running(3, "quorum", 1)).expect("it goes on");
        assert_eq!(
            (held.name.as_str(), held.namespace.as_str()),
            ("orders", "default")
        );
        let counts = (held.replicas, held.durability, held.paused);
        assert_eq!(counts, (4, Durability::Strict, true));
        // Nobody is lost because of a typo.
        assert_eq!(held.failover.lost_after_ms, 1_000);
        assert_eq!(held.generation, 4, "as far as anybody has read");
        assert!(held.parameters.is_empty());
    }

    #[test]
    fn numbers_that_are_refused_are_those_of_what_there_is() {
        let counts = |spec: &str, observed: &Observed| {
            let held = held(spec, observed).expect("it goes on");
            (held.replicas, held.durability)
        };
        let (quorum, strict) = (Durability::Quorum, Durability::Strict);
        let many = "replicas: 40";
        assert_eq!(counts(many, &running(3, "quorum", 1)), (2, quorum));
        let mut one_is_away = running(3, "quorum", 1);
        one_is_away.instances.remove("orders-3");
        assert_eq!(counts(many, &one_is_away), (2, quorum));
        let nobody = "replicas: 0, durability: strict";
        assert_eq!(
            counts(nobody, &running(3, "async", 0)),
            (2, Durability::Async)
        );
        assert_eq!(counts(nobody, &running(2, "strict", 2)), (2, strict));
        // More than could be made today are not taken away either.
        assert_eq!(counts(many, &running(21, "quorum", 10)), (20, quorum));
    }

    #[test]
    fn numbers_that_are_refused_stay_while_an_instance_is_made_anew() {
        let mut observed = running(3, "quorum", 1);
        let spec = "replicas: 40";
        let first = GoneBy::held(None, &seen(spec, &observed));
        observed.instances.remove("orders-3");
        let set = observed.record.as_mut().and_then(|r| r.in_sync.last_mut());
        set.expect("a set").members.truncate(1);
        let then = GoneBy::held(first, &seen(spec, &observed)).expect("it goes on");
        assert_eq!((then.cluster.replicas, then.is_whole), (2, false));
    }

    /// They would be removed, with all that they hold.
    #[test]
    fn who_is_seen_later_is_not_one_too_many() {
        let spec = "replicas: 40";
        let first = GoneBy::held(None, &seen(spec, &running(3, "quorum", 1)));
        let then = GoneBy::held(first, &seen(spec, &running(5, "quorum", 2)));
        assert_eq!(then.map(|held| held.cluster.replicas), Some(4));
    }

    #[test]
    fn the_last_manifest_that_made_sense_is_gone_by_where_the_newest_makes_none() {
        let whole = validate(&manifest("replicas: 3, parameters: {work_mem: 8MB}"));
        let mut whole = whole.expect("it makes sense");
        whole.generation = 6;
        let mut now = seen("replicas: 40, paused: true", &running(4, "quorum", 2));
        let asked = (REPLACE_INSTANCE.to_owned(), "orders-2".to_owned());
        now.cluster.metadata.annotations = Some([asked].into());
        let held = GoneBy::held(Some(GoneBy::whole(whole)), &now).expect("it goes on");
        assert!(held.is_whole);
        let cluster = held.cluster;
        assert_eq!((cluster.replicas, cluster.generation), (3, 6));
        assert_eq!(cluster.parameters["work_mem"], "8MB");
        assert!(cluster.paused);
        let asked = cluster.requests.replacement("orders");
        assert_eq!(asked, Ok(Some("orders-2".to_owned())));
    }

    #[test]
    fn where_there_is_nothing_yet_nothing_goes_on() {
        assert_eq!(held(REFUSED, &Observed::default()), None);
        let mut begun = running(1, "quorum", 0);
        let record = begun.record.as_mut().expect("a record");
        record.in_sync.clear();
        record.phase = crate::crd::Phase::Creating;
        assert_eq!(held(REFUSED, &begun), None);
        // Volumes without a record: it is rebuilt from all of them, if anybody knows how many that is.
        let mut lost = running(3, "quorum", 1);
        lost.record = None;
        let replicas = |spec: &str| held(spec, &lost).map(|held| held.replicas);
        assert_eq!(replicas(&format!("replicas: 4, {REFUSED}")), Some(4));
        assert_eq!(replicas("replicas: 40"), None);
        // Nor is it known of what was counted while there was one.
        let known = GoneBy::held(None, &seen("replicas: 40", &running(3, "quorum", 1)));
        assert!(known.is_some());
        assert_eq!(GoneBy::held(known, &seen("replicas: 40", &lost)), None);
    }

    /// Its one set is of all volumes, and of no durability that anybody has chosen.
    #[test]
    fn a_record_that_is_being_rebuilt_tells_no_numbers() {
        let mut rebuilt = running(3, "quorum", 1);
        let set = rebuilt.record.as_mut().and_then(|r| r.in_sync.last_mut());
        set.expect("a set").owner = None;
        assert_eq!(held("replicas: 40", &rebuilt), None);
        let spec = format!("replicas: 2, durability: strict, {REFUSED}");
        let held = held(&spec, &rebuilt).expect("it goes on");
        assert_eq!((held.replicas, held.durability), (2, Durability::Strict));
    }
}
