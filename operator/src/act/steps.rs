//! Steps under way, and what a step says to a supervisor.
//!
//! Each step is a task of its own, so that an instance that does not answer keeps nobody waiting; a step that is
//! being taken is not begun again, and one that failed waits a moment.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::api::{
    DemoteRequest, FollowRequest, PromoteRequest, ReseedRequest, RestartRequest, SealRequest,
    SeedSource, SetRequest, Upstream,
};
use crate::decide::{Renewal, Seed, Step};

/// How long a supervisor may take to answer.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(30);
/// So long at most is waited before the API server is asked for the same again.
const LONGEST_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Steps {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_flight: HashSet<String>,
    not_before: HashMap<String, Instant>,
    /// By [`name`]: how often in a row the API server has not done it, and until when it is not asked.
    failed: HashMap<String, (u32, Instant)>,
}

impl Steps {
    /// The step's key, if it may begin now.
    pub fn begin(&self, step: &Step) -> Option<String> {
        let (key, now) = (key(step), Instant::now());
        let mut taken = self.taken.lock();
        let failed = taken.failed.get(&name(step));
        let waits = failed.is_some_and(|(_, until)| now < *until)
            || taken.not_before.get(&key).is_some_and(|at| now < *at);
        (!waits && taken.in_flight.insert(key.clone())).then_some(key)
    }

    /// Whether the API server did what the step of this name asks of it. What it does not is asked less and less often;
    /// other steps of the same instance do not wait for that.
    pub fn api_did(&self, name: &str, well: bool, now: Instant) {
        let mut taken = self.taken.lock();
        if well {
            taken.failed.remove(name);
            return;
        }
        let (times, until) = taken.failed.entry(name.to_owned()).or_insert((0, now));
        let pause = RETRY.saturating_mul(1_u32 << (*times).min(8));
        *until = now + pause.min(LONGEST_RETRY);
        *times = times.saturating_add(1);
    }

    pub fn end(&self, key: &str, well: bool) {
        let mut taken = self.taken.lock();
        taken.in_flight.remove(key);
        if well {
            taken.not_before.remove(key);
        } else {
            taken
                .not_before
                .insert(key.to_owned(), Instant::now() + RETRY);
        }
    }
}

/// Steps with the same key wait for each other. Fencing waits for nobody.
fn key(step: &Step) -> String {
    match (step, step.instance()) {
        (Step::Fence { .. }, Some(name)) => format!("fence {name}"),
        (_, Some(name)) => format!("instance {name}"),
        (_, None) => "services".to_owned(),
    }
}

/// What a step is, and whom it is about: the same for whatever is tried again. Leading the Services to a new primary does
/// not wait because leading them to the old one has failed.
pub(super) fn name(step: &Step) -> String {
    let of = match step {
        Step::Route(routes) => routes.primary.as_deref(),
        _ => step.instance(),
    };
    format!("{} {}", step.kind(), of.unwrap_or("nowhere"))
}

/// A call to a supervisor: the path and its JSON body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub path: &'static str,
    pub body: Vec<u8>,
}

/// The call that a step is, if it is one. `upstream` is where the primary is, `source` where the standby is that is to be
/// copied, as far as these are known.
pub(super) fn call_of(
    step: &Step,
    upstream: Option<Upstream>,
    source: Option<SeedSource>,
) -> Option<Call> {
    Some(match step {
        Step::Seal { term, .. } => call("/seal", &SealRequest { term: *term }),
        Step::Demote {
            term, within_ms, ..
        } => call(
            "/demote",
            &DemoteRequest {
                term: *term,
                within_ms: *within_ms,
            },
        ),
        Step::Promote {
            term,
            candidate,
            set,
            ..
        } => call(
            "/promote",
            &PromoteRequest {
                term: *term,
                candidate: candidate.clone(),
                set: set.clone(),
            },
        ),
        Step::Set { term, id, set, .. } => call(
            "/set",
            &SetRequest {
                term: *term,
                id: id.clone(),
                set: set.clone(),
            },
        ),
        Step::Follow { term, id, .. } => call(
            "/follow",
            &FollowRequest {
                term: *term,
                id: id.clone(),
                upstream,
                source,
            },
        ),
        Step::Reseed { term, id, .. } => call(
            "/reseed",
            &ReseedRequest {
                term: *term,
                id: id.clone(),
            },
        ),
        Step::Renew {
            how: Renewal::Engine { term, id },
            ..
        } => call(
            "/restart",
            &RestartRequest {
                term: *term,
                id: id.clone(),
            },
        ),
        Step::Create { .. }
        | Step::Start { .. }
        | Step::Replace { .. }
        | Step::Renew { .. }
        | Step::Fence { .. }
        | Step::Remove { .. }
        | Step::Route(_) => return None,
    })
}

fn call<T: Serialize>(path: &'static str, request: &T) -> Call {
    let body = serde_json::to_vec(request).expect("a request has string keys only");
    Call { path, body }
}

/// What is told when a call was obeyed: the event's reason, whether it is a warning, and its words. `source` is what the
/// instance was told to copy.
pub(super) fn told_of(step: &Step, source: Option<&str>) -> Option<(&'static str, bool, String)> {
    match step {
        Step::Reseed { instance, why, .. } => {
            let message = format!(
                "{instance} gives up its copy (kept aside for 24 hours) and is seeded anew: {why}"
            );
            Some(("Reseeding", true, message))
        }
        Step::Follow {
            instance,
            giver: Some(_),
            ..
        } => {
            let of = source.map_or("the primary".to_owned(), |name| {
                format!("{name}, a standby")
            });
            let message = format!("{instance} takes its base backup of {of}");
            Some(("Seeding", false, message))
        }
        _ => None,
    }
}

/// What is told when an instance was made; whom it copies is told when it is told.
pub(super) fn made(instance: &str, seed: Seed) -> String {
    let how = match seed {
        Seed::Initdb => "an empty database",
        Seed::Backup => "a base backup",
    };
    format!("{instance} begins with {how}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Giver, Routes};
    use crate::ids::{InstanceId, Term};

    #[test]
    fn what_the_api_server_does_not_do_is_asked_less_often_and_holds_nothing_else_up() {
        let instance = "orders-2".to_owned();
        let renew = Step::Renew {
            instance: instance.clone(),
            how: Renewal::Pod,
        };
        let (steps, remove) = (Steps::default(), Step::Remove { instance });
        let later = Instant::now() + Duration::from_secs(3_600);
        steps.api_did(&name(&renew), false, later);
        assert_eq!(steps.begin(&renew), None);
        let key = steps.begin(&remove).expect("another step");
        steps.end(&key, true);
        steps.api_did(&name(&renew), true, later);
        assert!(steps.begin(&renew).is_some());
        assert_eq!(name(&renew), "Renew orders-2");
    }

    #[test]
    fn the_services_are_led_to_a_new_primary_though_the_old_one_was_refused() {
        let to = |primary: Option<&str>| {
            Step::Route(Routes {
                primary: primary.map(str::to_owned),
                ..Routes::default()
            })
        };
        let (steps, old, new) = (Steps::default(), to(Some("orders-1")), to(Some("orders-2")));
        let later = Instant::now() + Duration::from_secs(3_600);
        steps.api_did(&name(&old), false, later);
        assert_eq!(steps.begin(&old), None);
        assert!(steps.begin(&new).is_some());
        assert_eq!(
            (name(&new), name(&to(None))),
            ("Route orders-2".to_owned(), "Route nowhere".to_owned())
        );
    }

    /// The pod of a standby that was decided on may have gone since: then it is the primary, and that is told.
    #[test]
    fn whom_an_instance_copies_is_told_as_it_is() {
        let follow = |giver: Option<Giver>| Step::Follow {
            instance: "orders-4".to_owned(),
            term: Term::FIRST,
            id: InstanceId::new("i"),
            giver,
        };
        let source = SeedSource {
            instance: "orders-3".to_owned(),
            host: "127.0.0.1".to_owned(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 5433,
        };
        let step = follow(Some(Giver::Standby("orders-3".to_owned())));
        let told = |step: &Step, source: Option<&SeedSource>| {
            let call = call_of(step, None, source.cloned()).expect("a call");
            let body: FollowRequest = serde_json::from_slice(&call.body).expect("reads");
            assert_eq!(body.source.as_ref(), source);
            let name = source.map(|source| source.instance.as_str());
            told_of(step, name).map(|(_, _, message)| message)
        };
        assert_eq!(
            told(&step, Some(&source)).as_deref(),
            Some("orders-4 takes its base backup of orders-3, a standby")
        );
        let of_primary = Some("orders-4 takes its base backup of the primary");
        assert_eq!(told(&step, None).as_deref(), of_primary);
        assert_eq!(
            told(&follow(Some(Giver::Primary)), None).as_deref(),
            of_primary
        );
        assert_eq!(told(&follow(None), None), None, "it has data");
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let (steps, now) = (Steps::default(), Instant::now());
        let pauses: Vec<u128> = (0..8)
            .map(|_| {
                steps.api_did("Renew orders-2", false, now);
                let (_, until) = steps.taken.lock().failed["Renew orders-2"];
                until.duration_since(now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1_000, 1_000]);
    }
}
