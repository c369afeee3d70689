//! What is known of each instance: kept by the tasks that listen to supervisors, read by whoever observes.
//!
//! Times count only while this process itself runs, so an operator that was frozen does not take everyone else for
//! frozen. A supervisor's stream says which life of it there is; the answers of calls only add to a life that is known,
//! and of two statuses of one life the one that was made later stays, in whatever order they are read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::api::SupervisorStatus;
use crate::decide::{Instance, Life, Routes, Upkeep};

/// A longer pause between two looks means that this process was not running.
const STALL: Duration = Duration::from_millis(600);
/// A stream without a heartbeat for so long is opened anew.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(2);
/// Whoever was heard within this time is heard now: a supervisor speaks four times a second.
const LATELY: Duration = Duration::from_secs(1);
/// The pause before a stream is opened anew.
pub(super) const RECONNECT: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Watches {
    known: Mutex<BTreeMap<String, Known>>,
    routes: Mutex<Option<Routes>>,
    changed: Notify,
}

/// An instance, and which life of its supervisor is meant: locally a process id, on Kubernetes a count of containers.
#[derive(Debug)]
pub(super) struct Known {
    pub life: Life,
    pub pid: Option<u32>,
    pub heard_at: Instant,
    /// When it last said something that its loop had made since: another task may tell an old status again and again.
    pub moved_at: Instant,
    pub status: Option<SupervisorStatus>,
    /// What a supervisor that has no volume yet waits for. It can answer for no copy, so it counts as silent.
    pub waits_for: Option<String>,
}

impl Known {
    pub(super) fn unheard(life: Life, pid: Option<u32>) -> Known {
        let now = Instant::now();
        Known {
            life,
            pid,
            heard_at: now,
            moved_at: now,
            status: None,
            waits_for: None,
        }
    }
}

impl Watches {
    /// Something that the next look should see has happened.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn set_routes(&self, routes: Option<Routes>) {
        *self.routes.lock() = routes;
        self.wake();
    }

    pub(super) fn routes(&self) -> Option<Routes> {
        self.routes.lock().clone()
    }

    /// A new life of this instance's supervisor has begun.
    pub(super) fn begun(&self, name: &str, pid: u32) {
        let known = Known::unheard(Life::Alive, Some(pid));
        self.known.lock().insert(name.to_owned(), known);
        self.wake();
    }

    /// The answer of a call: nothing is learned from one that is of another life than is known, or that was read late.
    /// True as with [`Watches::said`].
    pub fn answered(&self, name: &str, pid: u32, status: SupervisorStatus) -> bool {
        let is_of_it = |known: &Known| {
            let unheard = known.pid.is_none() && known.status.is_none();
            known.life == Life::Alive && (unheard || known.pid == Some(pid))
        };
        let is_known = self.known.lock().get(name).is_some_and(is_of_it);
        is_known && self.said(name, pid, status)
    }

    /// A status came from this life of the instance's supervisor. True if it is another life than was known before.
    pub(super) fn said(&self, name: &str, pid: u32, status: SupervisorStatus) -> bool {
        let mut known = self.known.lock();
        let Some(instance) = known.get_mut(name) else {
            return false;
        };
        if instance.life == Life::Ended && instance.pid == Some(pid) {
            return false; // Its last words, read late.
        }
        let another = instance.pid != Some(pid);
        let newest = instance.status.as_ref().filter(|_| !another);
        if newest.is_some_and(|newest| status.is_older_than(newest)) {
            return false;
        }
        let before = instance
            .status
            .as_ref()
            .map(SupervisorStatus::without_positions);
        let news = another || before != Some(status.without_positions());
        let now = Instant::now();
        let is_told_again = newest.is_some_and(|newest| status.is_same_as(newest));
        *instance = Known {
            life: Life::Alive,
            pid: Some(pid),
            heard_at: now,
            moved_at: if is_told_again {
                instance.moved_at
            } else {
                now
            },
            status: Some(status),
            waits_for: None,
        };
        drop(known);
        if news {
            self.wake();
        }
        another
    }

    /// What the supervisor there waits for before it can have a status; none where it has one, or has ended.
    pub(super) fn waits_for(&self, name: &str, what: Option<String>) {
        let mut known = self.known.lock();
        if let Some(instance) = known.get_mut(name)
            && instance.waits_for != what
        {
            instance.waits_for = what;
            drop(known);
            self.wake();
        }
    }

    pub(super) fn ended(&self, name: &str, pid: Option<u32>) {
        let mut known = self.known.lock();
        if let Some(instance) = known.get_mut(name)
            && instance.pid == pid
            && instance.life == Life::Alive
        {
            instance.life = Life::Ended;
            instance.status = None;
            drop(known);
            self.wake();
        }
    }

    /// Nobody runs there now. Whoever is heard there next is taken for somebody new.
    pub(super) fn gone(&self, name: &str) {
        let mut known = self.known.lock();
        if let Some(instance) = known.get_mut(name)
            && instance.life == Life::Alive
        {
            *instance = Known::unheard(Life::Ended, None);
            drop(known);
            self.wake();
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.known.lock().keys().cloned().collect()
    }

    /// Knows of this instance from now on, unless it does already.
    pub(super) fn know(&self, name: &str, first: impl FnOnce() -> Known) {
        self.known
            .lock()
            .entry(name.to_owned())
            .or_insert_with(first);
    }

    pub(super) fn forget(&self, name: &str) {
        self.known.lock().remove(name);
    }

    pub fn has_process(&self, name: &str) -> bool {
        let known = self.known.lock();
        known
            .get(name)
            .is_some_and(|i| i.pid.is_some() && i.life == Life::Alive)
    }

    /// Whether a status has come from the supervisor there within that time.
    pub fn was_heard_within(&self, name: &str, time: Duration) -> bool {
        let known = self.known.lock();
        known.get(name).is_some_and(|instance| {
            let is_there = instance.life == Life::Alive && instance.status.is_some();
            is_there && instance.heard_at.elapsed() < time
        })
    }

    /// Whether the supervisor there runs and had said nothing new for so long `at` that moment, which is that of this look:
    /// whatever has passed since then this process may have stood still. A supervisor's loop goes round several times a
    /// second.
    pub(super) fn stands_still(&self, name: &str, time: Duration, at: Instant) -> bool {
        let known = self.known.lock();
        known.get(name).is_some_and(|instance| {
            let still = at.saturating_duration_since(instance.moved_at);
            instance.life == Life::Alive && still >= time
        })
    }

    /// This process could not ask the supervisor there, or has not understood it: until now nobody knows whether it stands
    /// still.
    pub(super) fn could_not_ask(&self, name: &str) {
        if let Some(instance) = self.known.lock().get_mut(name) {
            instance.moved_at = Instant::now();
        }
    }

    pub fn status_of(&self, name: &str) -> Option<SupervisorStatus> {
        self.known.lock().get(name).and_then(|i| i.status.clone())
    }

    /// Whoever is silent for `lost_after_ms` counts as lost, where silences end `at` the moment of this look: whatever has
    /// passed since then this process may have stood still, and no later look would forgive what was decided by it. What
    /// Kubernetes has to say of them is not in it.
    pub(super) fn instances(&self, lost_after_ms: u64, at: Instant) -> BTreeMap<String, Instance> {
        let known = self.known.lock();
        let view = |known: &Known| Instance {
            life: known.life,
            pid: known.pid,
            silent_ms: millis(at.saturating_duration_since(known.heard_at)),
            status: known.status.clone(),
            lost_after_ms,
            upkeep: Upkeep {
                trouble: known.waits_for.clone(),
                ..Upkeep::default()
            },
        };
        known
            .iter()
            .map(|(name, instance)| (name.clone(), view(instance)))
            .collect()
    }

    /// Whoever is silent is so from now on, and what it said before that says nothing of it any more: a role may have moved
    /// meanwhile, a process ended or begun.
    pub fn begin_silences(&self) {
        for instance in self.known.lock().values_mut() {
            if instance.heard_at.elapsed() < LATELY {
                continue;
            }
            *instance = Known {
                waits_for: instance.waits_for.take(),
                ..Known::unheard(Life::Alive, None)
            };
        }
    }

    /// A word that came after the standstill is no newer for it: its speaker's next silence counts from there.
    pub(super) fn forgive(&self, stalled: Duration) {
        let now = Instant::now();
        for instance in self.known.lock().values_mut() {
            instance.heard_at = (instance.heard_at + stalled).min(now);
            instance.moved_at = (instance.moved_at + stalled).min(now);
        }
    }
}

/// Notices when this process did not run: such a time is nobody's silence.
#[derive(Debug)]
pub(super) struct StallWatch {
    looked_at: Instant,
}

impl StallWatch {
    pub fn new() -> StallWatch {
        StallWatch {
            looked_at: Instant::now(),
        }
    }

    /// At each look: for how long this process stood still since the last one, if it did.
    pub fn look(&mut self) -> Option<Duration> {
        // Asked once: a standstill between two questions would be seen by neither look.
        let now = Instant::now();
        let pause = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        (pause > STALL).then(|| pause.saturating_sub(Duration::from_millis(100)))
    }

    /// The moment of the last look.
    pub fn looked_at(&self) -> Instant {
        self.looked_at
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a supervisor's `/watch` until it ends, falls silent, or proves to be another's: `said` tells whether a status
/// came from whom it was asked. A stranger's stream might go on for ever.
pub(super) async fn read_stream(
    response: Response<Incoming>,
    mut said: impl FnMut(SupervisorStatus) -> bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut body = response.into_body();
    let mut buffer = Vec::new();
    while let Some(frame) = tokio::time::timeout(STREAM_LIMIT, body.frame()).await? {
        if let Ok(data) = frame?.into_data() {
            buffer.extend_from_slice(&data);
        }
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if !said(serde_json::from_slice(&line)?) {
                return Err("another supervisor answers there".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Millis;

    fn status(serial: u64, port: u16) -> SupervisorStatus {
        serde_json::from_value(serde_json::json!({
            "cluster_id": "c", "name": "orders-1", "promised_term": 1, "sealed": false, "state": "running",
            "supervisor_pid": 1, "crashes": 0, "down_ms": 0, "engine_silent_ms": 0, "began_at": 7,
            "serial": serial, "port": port,
        }))
        .expect("a status")
    }

    fn watches() -> Watches {
        let watches = Watches::default();
        watches.know("orders-1", || Known::unheard(Life::Alive, None));
        watches
    }

    fn port(watches: &Watches) -> Option<u16> {
        watches.status_of("orders-1").map(|status| status.port)
    }

    #[test]
    fn what_is_read_late_takes_nothing_newer_back() {
        let watches = watches();
        assert!(watches.said("orders-1", 4, status(8, 80)));
        watches.answered("orders-1", 4, status(7, 70));
        assert!(!watches.said("orders-1", 4, status(6, 60)));
        assert_eq!(port(&watches), Some(80));
        watches.answered("orders-1", 4, status(9, 90));
        assert_eq!(port(&watches), Some(90));
    }

    #[test]
    fn the_next_life_counts_anew() {
        let watches = watches();
        watches.said("orders-1", 4, status(8, 80));
        assert!(watches.said("orders-1", 5, status(1, 10)));
        assert_eq!(port(&watches), Some(10));
        // The same number for another process: a process id can come again.
        let reborn = SupervisorStatus {
            began_at: Millis::new(9),
            ..status(0, 11)
        };
        watches.said("orders-1", 5, reborn);
        assert_eq!(port(&watches), Some(11));
    }

    #[test]
    fn only_a_stream_says_that_there_is_another_life() {
        let watches = watches();
        watches.answered("orders-1", 4, status(1, 10));
        assert_eq!(port(&watches), Some(10), "nobody was heard before");
        watches.said("orders-1", 5, status(1, 20));
        watches.answered("orders-1", 4, status(99, 30));
        assert_eq!(port(&watches), Some(20));
        watches.gone("orders-1");
        watches.answered("orders-1", 5, status(2, 40));
        assert_eq!(port(&watches), None);
    }

    /// What it says is told; it is as silent as one that says nothing.
    #[test]
    fn who_waits_for_its_volume_is_not_heard_and_its_words_are() {
        let watches = watches();
        let seen = || {
            let mut all = watches.instances(0, Instant::now());
            all.remove("orders-1").expect("known")
        };
        let why = Some("the volume can't be used".to_owned());
        watches.waits_for("orders-1", why.clone());
        let instance = seen();
        assert_eq!((instance.upkeep.trouble, instance.status), (why, None));
        assert_eq!(seen().heard(), None);
        watches.said("orders-1", 4, status(1, 10));
        assert_eq!(seen().upkeep.trouble, None, "it has its volume");
        watches.waits_for("orders-1", Some("something".to_owned()));
        watches.waits_for("orders-1", None);
        assert_eq!(seen().upkeep.trouble, None, "it has ended");
    }

    #[test]
    fn a_word_is_fresh_for_a_while_and_no_longer_than_its_speaker() {
        let (watches, long) = (watches(), Duration::from_secs(3_600));
        assert!(!watches.was_heard_within("orders-1", long), "no word yet");
        watches.said("orders-1", 4, status(1, 10));
        assert!(watches.was_heard_within("orders-1", long));
        assert!(!watches.was_heard_within("orders-1", Duration::ZERO));
        watches.ended("orders-1", Some(3));
        assert!(watches.was_heard_within("orders-1", long), "another life");
        watches.ended("orders-1", Some(4));
        assert!(!watches.was_heard_within("orders-1", long));
        assert!(!watches.was_heard_within("orders-2", long));
    }

    fn ago(long: Duration) -> Instant {
        Instant::now().checked_sub(long).expect("some uptime")
    }

    fn was_heard(watches: &Watches, name: &str, at: Instant) {
        watches.known.lock().get_mut(name).expect("known").heard_at = at;
    }

    /// An old word must not become a new one: by now another may be the primary.
    #[test]
    fn silences_can_be_counted_anew_and_old_words_are_forgotten() {
        let watches = watches();
        let (long, hour) = (Duration::from_secs(20), Duration::from_secs(3_600));
        for name in ["orders-2", "orders-3"] {
            watches.know(name, || Known::unheard(Life::Alive, None));
        }
        watches.said("orders-1", 4, status(1, 10));
        watches.said("orders-2", 5, status(1, 20));
        watches.said("orders-3", 6, status(1, 30));
        watches.gone("orders-3");
        for name in ["orders-1", "orders-3"] {
            was_heard(&watches, name, ago(long));
        }
        // Just now, however slow this machine is.
        was_heard(&watches, "orders-2", Instant::now() + hour);
        watches.waits_for("orders-3", Some("its volume".to_owned()));
        watches.begin_silences();
        let seen = watches.instances(0, Instant::now());
        for name in ["orders-1", "orders-3"] {
            let instance = &seen[name];
            assert_eq!((instance.life, &instance.status), (Life::Alive, &None));
            assert!(instance.silent_ms < 20_000, "{name}");
        }
        assert!(seen["orders-3"].upkeep.trouble.is_some());
        assert!(watches.was_heard_within("orders-2", hour));
        assert!(watches.said("orders-1", 4, status(2, 11)), "as a new one");
        assert_eq!(port(&watches), Some(11));
    }

    /// Else a process that stood still for a minute would notice nobody's death within the next one.
    #[test]
    fn a_standstill_forgives_nothing_that_is_yet_to_come() {
        let (watches, long) = (watches(), Duration::from_secs(20));
        watches.said("orders-1", 4, status(1, 10));
        watches.forgive(Duration::from_secs(3_600));
        let heard_at = |watches: &Watches| watches.known.lock()["orders-1"].heard_at;
        assert!(heard_at(&watches) <= Instant::now());
        let before = ago(long);
        was_heard(&watches, "orders-1", before);
        watches.forgive(long / 2);
        assert_eq!(heard_at(&watches), before + long / 2);
    }

    /// A process that is stopped between its look at the clock and its look at what was heard takes nobody for lost.
    #[test]
    fn a_standstill_in_the_middle_of_a_look_is_nobody_s_silence() {
        let (watches, long) = (watches(), Duration::from_secs(20));
        watches.said("orders-1", 4, status(1, 10));
        let heard_at = ago(long);
        was_heard(&watches, "orders-1", heard_at);
        let silent_ms = |at: Instant| watches.instances(3_000, at)["orders-1"].silent_ms;
        assert_eq!(silent_ms(heard_at), 0, "the look was then");
        assert_eq!(silent_ms(heard_at + long), 20_000);
        let before = heard_at.checked_sub(long).expect("some uptime");
        assert_eq!(silent_ms(before), 0, "it was heard after the look");
    }

    /// Another task than the loop may tell what that said last, again and again.
    #[test]
    fn a_loop_that_makes_nothing_new_stands_still() {
        let watches = watches();
        let (limit, long) = (Duration::from_secs(10), Duration::from_secs(20));
        let stands_at = |at: Instant| watches.stands_still("orders-1", limit, at);
        let stands = || stands_at(Instant::now());
        let was_long_ago = || {
            let mut known = watches.known.lock();
            known.get_mut("orders-1").expect("known").moved_at = ago(long);
        };
        assert!(!stands(), "it was only just begun to be listened to");
        watches.said("orders-1", 4, status(8, 80));
        was_long_ago();
        watches.said("orders-1", 4, status(8, 80));
        assert!(stands());
        assert!(!stands_at(ago(long)), "whatever came after the look");
        watches.could_not_ask("orders-1");
        assert!(!stands(), "nobody knows");
        was_long_ago();
        watches.said("orders-1", 4, status(9, 80));
        assert!(!stands());
        was_long_ago();
        watches.forgive(long);
        assert!(!stands(), "nobody listened");
        watches.said("orders-1", 5, status(0, 80));
        was_long_ago();
        watches.said("orders-1", 5, status(0, 80));
        assert!(!stands(), "it does not count");
        was_long_ago();
        watches.ended("orders-1", Some(5));
        assert!(!stands() && !watches.stands_still("orders-2", limit, Instant::now()));
    }

    #[test]
    fn a_supervisor_that_does_not_count_is_heard_all_the_same() {
        let watches = watches();
        watches.said("orders-1", 4, status(0, 10));
        watches.said("orders-1", 4, status(0, 20));
        assert_eq!(port(&watches), Some(20));
    }
}
