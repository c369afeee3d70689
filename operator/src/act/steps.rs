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
    SetRequest, Upstream,
};
use crate::decide::{Renewal, Step};

/// How long a supervisor may take to answer.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(30);

#[derive(Debug, Default)]
pub(super) struct Steps {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_flight: HashSet<String>,
    not_before: HashMap<String, Instant>,
}

impl Steps {
    /// The step's key, if it may begin now.
    pub fn begin(&self, step: &Step) -> Option<String> {
        let key = key(step);
        let mut taken = self.taken.lock();
        let waits = taken
            .not_before
            .get(&key)
            .is_some_and(|at| Instant::now() < *at);
        (!waits && taken.in_flight.insert(key.clone())).then_some(key)
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

/// A call to a supervisor: the path and its JSON body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub path: &'static str,
    pub body: Vec<u8>,
}

/// The call that a step is, if it is one. `upstream` is where the primary is, as far as that is known.
pub(super) fn call_of(step: &Step, upstream: Option<Upstream>) -> Option<Call> {
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

/// What is told when a copy is given up.
pub(super) fn reseeding(instance: &str, why: &str) -> String {
    format!("{instance} gives up its copy (kept aside for 24 hours) and is seeded anew: {why}")
}
