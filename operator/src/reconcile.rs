//! The loop: observe, validate, decide, act. The same for local processes and, next, for Kubernetes.
//!
//! It keeps nothing that matters: killed between any two steps and started again, it goes on from the record.

use std::time::{Duration, Instant};

use crate::crd::ReplicatedCluster;
use crate::decide::{self, Observed, Plan, Step};
use crate::ids::Millis;
use crate::validate::{Invalid, ValidatedCluster, asked, validate};

/// How long the loop sleeps when nothing is reported: the resolution of every time-out.
const TICK: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(100);
/// Before the next look when somebody else was faster: what that was may not be seen here yet.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// What one look gave.
#[derive(Clone, Debug)]
pub struct Seen {
    pub cluster: ReplicatedCluster,
    pub observed: Observed,
}

/// What became of a plan's writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// The record has changed: look again at once.
    Moved,
    Settled,
    /// Somebody else changed the record first; nothing was written.
    Conflict,
}

/// Reads only.
pub trait Observe {
    type Error: std::error::Error;
    fn observe(&mut self) -> impl Future<Output = Result<Seen, Self::Error>>;
    /// Resolves when there is something new to see.
    fn changed(&self) -> impl Future<Output = ()>;
}

/// Writes only.
pub trait Act {
    type Error: std::error::Error;
    /// Begins a step, unless it is being taken already.
    fn take(&self, step: &Step);
    /// Applies what the spec says of instances that exist.
    fn configure(&self, cluster: &ValidatedCluster);
    /// Swaps the record if the plan says so, and writes the reports.
    fn write(&self, seen: &Seen, plan: &Plan)
    -> impl Future<Output = Result<Written, Self::Error>>;
    /// A round has ended, after so long.
    fn measured(&self, _took: Duration, _well: bool) {}
    /// The spec makes no sense: say so, and change nothing else.
    fn refuse(
        &self,
        seen: &Seen,
        findings: &[Invalid],
    ) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Runs until the future is dropped.
pub async fn reconcile<O: Observe, A: Act>(mut observer: O, actor: A) {
    let mut valid: Option<ValidatedCluster> = None;
    loop {
        let began = Instant::now();
        let seen = match observer.observe().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(%error, "could not observe; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        match validate(&seen.cluster) {
            Ok(cluster) => valid = Some(cluster),
            Err(findings) => {
                // What is asked for by annotation is asked for now: an old request must not be acted on again and again.
                if let Some(cluster) = &mut valid {
                    cluster.requests = asked(&seen.cluster);
                }
                if let Err(error) = actor.refuse(&seen, &findings).await {
                    tracing::error!(%error, "could not write the status");
                }
            }
        }
        // With a spec that makes no sense the last one that did goes on: a failover must not wait for a typo.
        let written = match &valid {
            Some(cluster) => {
                actor.configure(cluster);
                round(cluster, &seen, &actor).await
            }
            None => Ok(Written::Settled),
        };
        actor.measured(began.elapsed(), written.is_ok());
        match written {
            Ok(Written::Moved) => continue,
            Ok(Written::Conflict) => {
                tokio::time::sleep(CONFLICT_PAUSE).await;
                continue;
            }
            Ok(Written::Settled) => {}
            Err(error) => tracing::error!(%error, "could not write the record; trying again"),
        }
        let _ = tokio::time::timeout(TICK, observer.changed()).await;
    }
}

async fn round<A: Act>(
    cluster: &ValidatedCluster,
    seen: &Seen,
    actor: &A,
) -> Result<Written, A::Error> {
    let plan = decide::decide(cluster, &seen.observed, Millis::now());
    for step in &plan.steps {
        actor.take(step);
    }
    actor.write(seen, &plan).await
}
