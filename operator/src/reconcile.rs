//! The loop: observe, validate, decide, act. The same for local processes and for Kubernetes.
//!
//! It keeps nothing that matters: killed between any two steps and started again, it goes on from the record.
//! An API that refuses or does not hear is written to less and less often; looking, deciding and the steps go on meanwhile.
//! So they do while the manifest makes no sense (`held.rs`), whatever this process has known of it before.

mod held;
mod judged;

use std::time::{Duration, Instant};

use crate::crd::ReplicatedCluster;
use crate::decide::{self, Observed, Plan, Step};
use crate::ids::Millis;
use crate::validate::{Invalid, ValidatedCluster};
use held::GoneBy;
use judged::Judged;

/// How long the loop sleeps when nothing is reported: the resolution of every time-out.
const TICK: Duration = Duration::from_millis(100);
/// After the first failure; twice as long after each further one.
const RETRY: Duration = Duration::from_millis(100);
/// So long at most: an API that is back is written to within that time.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
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
    /// Applies what the spec says of instances that exist. Until it is called no spec that made sense is known: steps then
    /// make what they make as it is made already.
    fn configure(&self, cluster: &ValidatedCluster);
    /// Swaps the record if the plan says so, and writes the reports.
    fn write(&self, seen: &Seen, plan: &Plan)
    -> impl Future<Output = Result<Written, Self::Error>>;
    /// A round has ended, after so long.
    fn measured(&self, _took: Duration, _well: bool) {}
    /// The spec makes no sense: say so. What is there goes on.
    fn refuse(
        &self,
        seen: &Seen,
        findings: &[Invalid],
    ) -> impl Future<Output = Result<(), Self::Error>>;
}

/// How often something failed in a row, and when it is tried again.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    fn waits(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// One more failure. True if it is worth a line in the log: the first, second, fourth, eighth ... are.
    fn failed(&mut self, now: Instant) -> bool {
        let pause = RETRY.saturating_mul(1_u32 << self.failures.min(8));
        self.until = Some(now + pause.min(LONGEST_RETRY));
        self.failures = self.failures.saturating_add(1);
        self.failures.is_power_of_two()
    }
}

/// Apart, so that whatever keeps reports from being written does not hold up the next failover.
#[derive(Debug, Default)]
struct Writes {
    records: Backoff,
    reports: Backoff,
}

impl Writes {
    fn of(&mut self, plan: &Plan) -> &mut Backoff {
        if plan.swap.is_some() {
            &mut self.records
        } else {
            &mut self.reports
        }
    }
}

/// Runs until the future is dropped.
pub async fn reconcile<O: Observe, A: Act>(mut observer: O, actor: A) {
    let (mut judged, mut gone_by) = (Judged::default(), None::<GoneBy>);
    let (mut looks, mut writes) = (Backoff::default(), Writes::default());
    // Of their own: a failover must not wait for a word about a typo either.
    let mut refusals = Backoff::default();
    loop {
        let began = Instant::now();
        let seen = match observer.observe().await {
            Ok(seen) => seen,
            Err(error) => {
                if looks.failed(began) {
                    tracing::error!(%error, "could not observe; trying again");
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        looks = Backoff::default();
        // A failover must not wait for a typo.
        let (now, findings) = match judged.verdict(&seen.cluster) {
            Ok(cluster) => (Some(GoneBy::whole(cluster)), Vec::new()),
            Err(findings) => (GoneBy::held(gone_by.take(), &seen), findings),
        };
        gone_by = now;
        let written = match &gone_by {
            Some(gone_by) => round(gone_by, &seen, &actor, &mut writes).await,
            None => Ok(Written::Settled),
        };
        // After what is decided: the reports of this round would take its words away again.
        if !findings.is_empty() && !refusals.waits(began) {
            refuse(&actor, &seen, &findings, &mut refusals).await;
        }
        actor.measured(began.elapsed(), written.is_ok());
        match written {
            Ok(Written::Moved) => continue,
            Ok(Written::Conflict) => {
                tokio::time::sleep(CONFLICT_PAUSE).await;
                continue;
            }
            Ok(Written::Settled) | Err(_) => {}
        }
        let _ = tokio::time::timeout(TICK, observer.changed()).await;
    }
}

async fn refuse<A: Act>(actor: &A, seen: &Seen, findings: &[Invalid], refusals: &mut Backoff) {
    match actor.refuse(seen, findings).await {
        Ok(()) => *refusals = Backoff::default(),
        Err(error) => {
            if refusals.failed(Instant::now()) {
                tracing::error!(%error, "could not write what is wrong with the spec; trying again");
            }
        }
    }
}

async fn round<A: Act>(
    gone_by: &GoneBy,
    seen: &Seen,
    actor: &A,
    writes: &mut Writes,
) -> Result<Written, A::Error> {
    let GoneBy { cluster, is_whole } = gone_by;
    // Paused, nothing is changed: the objects of the manifest neither. Of one that is not known there are none.
    if *is_whole && !cluster.paused {
        actor.configure(cluster);
    }
    let plan = decide::decide(cluster, &seen.observed, Millis::now());
    for step in &plan.steps {
        actor.take(step);
    }
    if writes.of(&plan).waits(Instant::now()) {
        return Ok(Written::Settled);
    }
    let written = actor.write(seen, &plan).await;
    match &written {
        Ok(_) => *writes = Writes::default(),
        Err(error) => {
            let backoff = writes.of(&plan);
            if backoff.failed(Instant::now()) {
                let times = backoff.failures;
                tracing::error!(%error, times, "could not write the status; trying again");
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::held::tests::running;
    use super::*;
    use crate::crd::Phase;
    use crate::decide::Life;
    use crate::validate::validate;

    const LIMIT: Duration = Duration::from_secs(60);

    #[derive(Clone, Copy, Debug, Default)]
    struct Done {
        looks: u32,
        configured: u32,
        writes: u32,
        failovers: u32,
        refusals: u32,
    }

    /// Sees the first manifest once, and then the second.
    struct Sees {
        first: ReplicatedCluster,
        then: ReplicatedCluster,
        observed: Observed,
        done: Arc<Mutex<Done>>,
    }

    impl Observe for Sees {
        type Error = Infallible;

        async fn observe(&mut self) -> Result<Seen, Infallible> {
            let mut done = self.done.lock();
            done.looks += 1;
            let now = if done.looks == 1 {
                &self.first
            } else {
                &self.then
            };
            Ok(Seen {
                cluster: now.clone(),
                observed: self.observed.clone(),
            })
        }

        async fn changed(&self) {
            std::future::pending().await
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the API is away")]
    struct Away;

    /// What does not get through to the API.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Fails {
        Nothing,
        Refusals,
        Everything,
    }

    struct Counts {
        fails: Fails,
        done: Arc<Mutex<Done>>,
    }

    fn answer<T>(fails: bool, answer: T) -> Result<T, Away> {
        if fails { Err(Away) } else { Ok(answer) }
    }

    impl Act for Counts {
        type Error = Away;

        fn take(&self, _step: &Step) {}

        fn configure(&self, _cluster: &ValidatedCluster) {
            self.done.lock().configured += 1;
        }

        async fn write(&self, _seen: &Seen, plan: &Plan) -> Result<Written, Away> {
            let swap = plan.swap.as_ref();
            let begins = swap.is_some_and(|swap| swap.record.phase == Phase::FailingOver);
            let mut done = self.done.lock();
            done.writes += 1;
            done.failovers += u32::from(begins);
            drop(done);
            answer(self.fails == Fails::Everything, Written::Settled)
        }

        async fn refuse(&self, _seen: &Seen, _findings: &[Invalid]) -> Result<(), Away> {
            self.done.lock().refusals += 1;
            answer(self.fails != Fails::Nothing, ())
        }
    }

    fn manifest(spec: &str) -> ReplicatedCluster {
        let text = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\n\
             spec: {{storage: {{size: 1Gi}}, {spec}}}\n"
        );
        serde_norway::from_str(&text).expect("a manifest of this test parses")
    }

    /// Runs until that is so, with nothing to see but the manifests.
    async fn run_until(specs: [&str; 2], fails: Fails, is_so: impl Fn(Done) -> bool) -> Done {
        run_seeing(Observed::default(), specs, fails, is_so).await
    }

    async fn run_seeing(
        observed: Observed,
        [first, then]: [&str; 2],
        fails: Fails,
        is_so: impl Fn(Done) -> bool,
    ) -> Done {
        let done = Arc::new(Mutex::new(Done::default()));
        let observer = Sees {
            first: manifest(first),
            then: manifest(then),
            observed,
            done: Arc::clone(&done),
        };
        let actor = Counts {
            fails,
            done: Arc::clone(&done),
        };
        let enough = async {
            loop {
                let now = *done.lock();
                if is_so(now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let run = async {
            tokio::select! {
                () = reconcile(observer, actor) => unreachable!("it runs for ever"),
                now = enough => now,
            }
        };
        let ended = tokio::time::timeout(LIMIT, run).await;
        ended.expect("it becomes so")
    }

    #[tokio::test]
    async fn a_paused_cluster_s_objects_are_left_alone() {
        let usual = run_until([""; 2], Fails::Nothing, |done| done.writes > 2).await;
        assert!(usual.configured > 0);
        let paused = run_until(["paused: true"; 2], Fails::Nothing, |done| done.writes > 2).await;
        assert_eq!(paused.configured, 0);
    }

    #[tokio::test]
    async fn a_typo_is_refused_and_the_last_spec_that_made_sense_goes_on() {
        let typo = "parameters: {port: '1'}";
        let goes_on = |done: Done| done.refusals > 1 && done.writes >= done.refusals;
        run_until(["", typo], Fails::Nothing, goes_on).await;
        let none_before = run_until([typo; 2], Fails::Nothing, |done| done.refusals > 1).await;
        assert_eq!(none_before.writes, 0);
    }

    /// After an upgrade, say, whose rules are stricter than those that the object was stored under.
    #[tokio::test]
    async fn an_operator_that_has_known_no_spec_that_made_sense_fails_over_all_the_same() {
        let mut observed = running(3, "quorum", 1);
        let primary = observed.instances.get_mut("orders-1");
        primary.expect("it is there").life = Life::Ended;
        let specs = ["parameters: {port: '1'}"; 2];
        let both = |done: Done| done.failovers > 0 && done.refusals > 0;
        let done = run_seeing(observed.clone(), specs, Fails::Nothing, both).await;
        assert_eq!(done.configured, 0, "nobody knows what would be applied");
        let paused = ["paused: true, parameters: {port: '1'}"; 2];
        let looks = |done: Done| done.writes > 2;
        let done = run_seeing(observed, paused, Fails::Nothing, looks).await;
        assert_eq!(done.failovers, 0);
    }

    #[tokio::test]
    async fn a_refusal_that_can_not_be_written_holds_nothing_up() {
        let typo = "parameters: {port: '1'}";
        let goes_on = |done: Done| done.refusals > 2 && done.writes > 4;
        run_until(["", typo], Fails::Refusals, goes_on).await;
    }

    /// Silences are counted and instances are called while the API is away.
    #[tokio::test]
    async fn an_api_that_is_away_is_written_to_less_often_than_it_is_looked() {
        run_until([""; 2], Fails::Everything, |done| {
            done.looks > done.writes + 3
        })
        .await;
    }

    /// Annotations that can't be taken off, say: the record can be written all the same.
    #[test]
    fn reports_that_can_not_be_written_hold_no_failover_up() {
        let cluster = validate(&manifest("")).expect("it makes sense");
        let creates = decide::decide(&cluster, &Observed::default(), Millis::now());
        assert!(creates.swap.is_some());
        let (mut writes, now) = (Writes::default(), Instant::now());
        assert!(writes.of(&Plan::default()).failed(now));
        assert!(writes.of(&Plan::default()).waits(now));
        assert!(!writes.of(&creates).waits(now));
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        assert!(!backoff.waits(now));
        let (mut pauses, mut lines) = (Vec::new(), 0);
        for _ in 0..9 {
            lines += u32::from(backoff.failed(now));
            let until = backoff.until.expect("it waits");
            assert!(backoff.waits(now) && !backoff.waits(until));
            pauses.push(until.duration_since(now).as_millis());
            now = until;
        }
        assert_eq!(pauses[..5], [100, 200, 400, 800, 1_000]);
        assert_eq!((pauses[8], lines), (1_000, 4));
    }
}
