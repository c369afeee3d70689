//! Events: a plan's own, and what the reports newly say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::crd::{
    ConditionStatus, InstanceReport, InstanceRole, LastRoleChange, Phase, ReplicatedClusterStatus,
};
use crate::decide::Plan;
use crate::reconcile::Seen;

/// Somewhere that people read events.
pub trait Tell {
    fn tell(&self, reason: &str, warning: bool, message: &str);
}

/// A trouble that lasts is told again after this time.
const AGAIN: Duration = Duration::from_secs(600);
/// Troubles of one thing that are told within that time: steps are tried many times a second, and their errors may
/// take turns, or count.
const MOST_TROUBLES: usize = 8;

/// Attempts at a copy of the data, of which the first may have come too early.
const SEED_ATTEMPTS: u32 = 3;

/// What was told before: the same trouble is told once in a while.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The crashes of each instance's engine, and the life of the supervisor that counted them.
    crashes: Mutex<HashMap<String, (Option<u32>, u32)>>,
    /// By reason and what they are of: the troubles, and when each was told.
    troubles: Mutex<HashMap<String, Vec<(String, Instant)>>>,
    settings: Mutex<Option<Settings>>,
    /// Those that had the primary's role and do not follow yet.
    former: Mutex<BTreeSet<String>>,
    /// How many standbys there were when there were as many as asked for.
    standbys: Mutex<Option<u32>>,
}

/// What the manifest gives engines to read, and who reads it.
#[derive(Debug)]
struct Settings {
    parameters: BTreeMap<String, String>,
    hba: Vec<String>,
    /// The generation that they came with; none if that was before this process looked.
    since: Option<i64>,
    /// The instances that go by them, as far as that was told.
    told: BTreeSet<String>,
}

impl Told {
    pub fn trouble(&self, to: &impl Tell, reason: &str, of: &str, why: &str) {
        // What one step fails for again and again, in ever new words, hides no other trouble of the same thing.
        let what = format!("{reason} {of}");
        if self.is_news(&what, why, Instant::now()) {
            to.tell(reason, true, &format!("{of}: {why}"));
        }
    }

    fn is_news(&self, what: &str, why: &str, now: Instant) -> bool {
        let mut all = self.troubles.lock();
        let told = all.entry(what.to_owned()).or_default();
        told.retain(|(_, at)| now.saturating_duration_since(*at) < AGAIN);
        let is_news = told.len() < MOST_TROUBLES && told.iter().all(|(known, _)| known != why);
        if is_news {
            told.push((why.to_owned(), now));
        }
        is_news
    }

    /// An engine that a supervisor restarts in place is worth an event, though nothing has to be decided.
    pub fn crashes(&self, to: &impl Tell, seen: &Seen) {
        for (name, instance) in &seen.observed.instances {
            let Some(status) = &instance.status else {
                continue;
            };
            let now = (instance.pid, status.crashes);
            let old = self.crashes.lock().insert(name.clone(), now);
            let before = match old {
                Some((pid, count)) if pid == now.0 => count,
                // Another operator has told of those that are over.
                None if status.down_ms == 0 => status.crashes,
                Some(_) | None => 0,
            };
            if status.crashes > before {
                let why = status.message.as_deref().unwrap_or("it left no message");
                let message =
                    format!("the engine of {name} has crashed and is restarted in place: {why}");
                to.tell("RestartedInPlace", true, &message);
            }
        }
    }

    /// An instance that gets no copy of the data goes on trying, and nothing has to be decided: whoever waits for it learns
    /// here what is in the way.
    pub fn seeds(&self, to: &impl Tell, seen: &Seen) {
        for (name, instance) in &seen.observed.instances {
            let seeding = instance.heard().and_then(|status| status.seeding.as_ref());
            let lasting = seeding.filter(|seeding| seeding.attempts >= SEED_ATTEMPTS);
            if let Some(error) = lasting.and_then(|seeding| seeding.error.as_ref()) {
                let why = format!("it gets no copy of the data, and tries again: {error}");
                self.trouble(to, "SeedFailed", name, &why);
            }
        }
    }

    /// What has come to its end: a former primary that follows, and a number of standbys that was asked for. `wanted` is
    /// the manifest's.
    pub fn ends(
        &self,
        to: &impl Tell,
        before: &ReplicatedClusterStatus,
        after: &ReplicatedClusterStatus,
        wanted: u32,
    ) {
        let mut former = self.former.lock();
        for (old, new) in [
            (&before.last_failover, &after.last_failover),
            (&before.last_switchover, &after.last_switchover),
        ] {
            let term = |change: &Option<LastRoleChange>| change.as_ref().map(|change| change.term);
            if term(old) != term(new) {
                former.extend(new.as_ref().and_then(|change| change.old.clone()));
            }
        }
        for instance in after.instances.iter().filter(|i| i.ready) {
            let was_primary = former.remove(&instance.name);
            if was_primary && instance.role == InstanceRole::Standby {
                let name = &instance.name;
                let message = format!("{name}, a former primary, follows as a standby again");
                to.tell("Rejoined", false, &message);
            }
        }
        drop(former);
        // Before there is a primary all of them count as standbys, and while the role moves nothing has come to its end.
        if after.current_primary.is_none() || after.replicas != wanted {
            return;
        }
        let known = self.standbys.lock().replace(wanted);
        if let Some(known) = known.filter(|known| *known != wanted) {
            let message = format!("the cluster has {wanted} standbys now; it had {known}");
            to.tell("Scaled", false, &message);
        }
    }

    /// Supervisors take settings up by themselves: whoever has changed them learns here who goes by them.
    pub fn settings(&self, to: &impl Tell, seen: &Seen) {
        let spec = &seen.cluster.spec;
        let mut known = self.settings.lock();
        let is_same = known
            .as_ref()
            .is_some_and(|known| known.parameters == spec.parameters && known.hba == spec.pg_hba);
        if !is_same {
            let generation = seen.cluster.metadata.generation;
            *known = Some(Settings {
                since: generation.filter(|_| known.is_some()),
                parameters: spec.parameters.clone(),
                hba: spec.pg_hba.clone(),
                told: BTreeSet::new(),
            });
        }
        let Some(Settings {
            since: Some(since),
            told,
            ..
        }) = known.as_mut()
        else {
            return;
        };
        for (name, instance) in &seen.observed.instances {
            let Some(status) = &instance.status else {
                continue;
            };
            let goes_by_them = status.engine_pid.is_some() && status.generation >= *since;
            if !goes_by_them || !told.insert(name.clone()) {
                continue;
            }
            let rest = if status.pending_restart {
                ", except for those that need a restart, which follows"
            } else {
                ""
            };
            let message = format!("{name} goes by the settings of generation {since}{rest}");
            to.tell("ConfigReloaded", false, &message);
        }
    }
}

/// After the plan's writing.
pub(super) fn tell_changes(
    to: &impl Tell,
    before: &ReplicatedClusterStatus,
    after: &ReplicatedClusterStatus,
    plan: &Plan,
) {
    let outcomes = plan.outcomes.iter().map(|o| &o.event);
    for event in plan.events.iter().chain(outcomes) {
        to.tell(event.reason, event.warning, &event.message);
    }
    let record = plan.swap.as_ref().map(|swap| &swap.record);
    let phase = record.map_or(before.phase, |record| Some(record.phase));
    for instance in &after.instances {
        let old = before.instances.iter().find(|i| i.name == instance.name);
        let was_ready = old.is_some_and(|o| o.ready);
        let role = format!("{:?}", instance.role).to_lowercase();
        let has_copied =
            old.is_some_and(|o| o.role == InstanceRole::Seeding && o.id == instance.id);
        if has_copied && !matches!(instance.role, InstanceRole::Seeding | InstanceRole::Lost) {
            let message = format!("{} has its copy of the data", instance.name);
            to.tell("Seeded", false, &message);
        }
        if instance.ready && !was_ready {
            let message = format!("{} is ready as {role}", instance.name);
            to.tell("InstanceReady", false, &message);
        } else if was_ready && !instance.ready && !waits_for_primary(phase, plan, instance) {
            let why = instance.message.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let message = format!("{} is not ready ({role}){why}", instance.name);
            let is_warning = !plan.on_purpose.contains(&instance.name);
            to.tell("InstanceNotReady", is_warning, &message);
        }
    }
    let state = |s: &ReplicatedClusterStatus| {
        s.conditions
            .iter()
            .find(|c| c.type_ == "Degraded")
            .map(|c| (c.status, c.reason.clone()))
    };
    let degraded = after.conditions.iter().find(|c| c.type_ == "Degraded");
    if let Some(condition) = degraded
        && condition.status == ConditionStatus::True
        && condition.reason != "InstancesNotReady"
        && state(before) != state(after)
    {
        to.tell(condition.reason.as_str(), true, &condition.message);
    }
}

/// A standby is not ready because nobody is primary: that has its own events.
fn waits_for_primary(phase: Option<Phase>, plan: &Plan, instance: &InstanceReport) -> bool {
    matches!(instance.role, InstanceRole::Standby | InstanceRole::Sealed)
        && (phase != Some(Phase::Running) || !plan.serves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Instance, Life, Observed, SILENT_MS, Upkeep};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Tell for Heard {
        fn tell(&self, reason: &str, _warning: bool, message: &str) {
            self.0.lock().push(format!("{reason}: {message}"));
        }
    }

    /// A manifest, and how far an instance has read it.
    fn seen(generation: i64, spec: &str, read: i64, pending_restart: bool) -> Seen {
        let manifest = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: orders, generation: {generation}}}\nspec: {{storage: {{size: 1Gi}}{spec}}}\n"
        );
        let instance = Instance {
            life: Life::Alive,
            pid: None,
            silent_ms: 0,
            status: Some(crate::api::SupervisorStatus {
                engine_pid: Some(7),
                generation: read,
                pending_restart,
                ..crate::instance::empty_status()
            }),
            lost_after_ms: SILENT_MS,
            upkeep: Upkeep::default(),
        };
        let mut observed = Observed::default();
        observed.instances.insert("orders-1".to_owned(), instance);
        Seen {
            cluster: serde_norway::from_str(&manifest).expect("a manifest"),
            observed,
        }
    }

    /// An operator that takes over sees crashes that are over, and told of.
    #[test]
    fn a_crash_is_told_by_who_saw_it() {
        let crashed = |crashes: u32, down_ms: u64| {
            let mut seen = seen(1, "", 1, false);
            let instance = seen.observed.instances.get_mut("orders-1");
            let status = instance.and_then(|instance| instance.status.as_mut());
            let status = status.expect("it is heard");
            (status.crashes, status.down_ms) = (crashes, down_ms);
            seen
        };
        let told = |looks: &[(u32, u64)]| {
            let (told, heard) = (Told::default(), Heard::default());
            for (crashes, down_ms) in looks {
                told.crashes(&heard, &crashed(*crashes, *down_ms));
            }
            heard.0.into_inner().len()
        };
        assert_eq!(told(&[(0, 0), (1, 5), (1, 0)]), 1);
        assert_eq!(told(&[(0, 0), (1, 0)]), 1, "it was back before the look");
        assert_eq!(told(&[(1, 0), (1, 0)]), 0);
        assert_eq!(told(&[(1, 5), (1, 0), (2, 0)]), 2);
    }

    #[test]
    fn a_seed_that_fails_again_and_again_is_told_once() {
        let (told, heard) = (Told::default(), Heard::default());
        let failed = |attempts: u32, error: Option<&str>| {
            let mut seen = seen(1, "", 1, false);
            let instance = seen.observed.instances.get_mut("orders-1");
            let status = instance.and_then(|instance| instance.status.as_mut());
            status.expect("it is heard").seeding = Some(crate::api::SeedingReport {
                attempts,
                error: error.map(str::to_owned),
                asks: false,
                source: None,
            });
            seen
        };
        let full = Some("No space left on device");
        for (attempts, error) in [(1, None), (1, full), (2, full), (3, None)] {
            told.seeds(&heard, &failed(attempts, error));
        }
        assert_eq!(*heard.0.lock(), [""; 0], "it may succeed yet");
        for attempts in 3..9 {
            told.seeds(&heard, &failed(attempts, full));
        }
        assert_eq!(
            *heard.0.lock(),
            [
                "SeedFailed: orders-1: it gets no copy of the data, and tries again: No space left on device"
            ]
        );
    }

    #[test]
    fn what_has_come_to_its_end_is_told_once() {
        let (told, heard) = (Told::default(), Heard::default());
        let look = |status: serde_json::Value| -> ReplicatedClusterStatus {
            serde_json::from_value(status).expect("a status")
        };
        let is = |name: &str, role: &str, ready: bool| serde_json::json!({"name": name, "role": role, "ready": ready, "inSync": ready});
        let served = |replicas: u32| {
            look(serde_json::json!({"currentPrimary": "orders-1", "replicas": replicas}))
        };
        // A new cluster grows, and has what was asked for.
        for replicas in [0, 1, 2, 2] {
            told.ends(&heard, &served(0), &served(replicas), 2);
        }
        assert_eq!(*heard.0.lock(), [""; 0]);
        told.ends(&heard, &served(2), &served(3), 4);
        told.ends(&heard, &served(3), &served(4), 4);
        told.ends(&heard, &served(4), &served(4), 4);
        let scaled = "Scaled: the cluster has 4 standbys now; it had 2";
        assert_eq!(*heard.0.lock(), [scaled]);
        heard.0.lock().clear();
        // Nobody is primary for a moment.
        told.ends(
            &heard,
            &served(4),
            &look(serde_json::json!({"replicas": 5})),
            5,
        );
        let changed = |role: &str, ready: bool| {
            let change = serde_json::json!({
                "cause": "x", "old": "orders-1", "new": "orders-2", "term": 4, "detectedAt": 1, "promotedAt": 2,
                "writableAt": 3, "seconds": 0.1,
            });
            look(serde_json::json!({
                "currentPrimary": "orders-2", "replicas": 4, "lastFailover": change,
                "instances": [is("orders-1", role, ready), is("orders-2", "Primary", true)],
            }))
        };
        told.ends(&heard, &served(4), &changed("Lost", false), 4);
        let lost = changed("Lost", false);
        for now in [("Standby", false), ("Standby", true), ("Standby", true)] {
            told.ends(&heard, &lost, &changed(now.0, now.1), 4);
        }
        let rejoined = "Rejoined: orders-1, a former primary, follows as a standby again";
        assert_eq!(*heard.0.lock(), [rejoined]);
    }

    /// In a drain or a rolling update, say.
    #[test]
    fn who_goes_and_comes_back_is_told_of_once_each() {
        let look = |role: &str, ready: bool, message: Option<&str>| -> ReplicatedClusterStatus {
            let instance = serde_json::json!({"name": "orders-2", "role": role, "ready": ready, "inSync": true,
                                              "message": message});
            let status = serde_json::json!({"phase": "Running", "instances": [instance]});
            serde_json::from_value(status).expect("a status")
        };
        let looks = [
            look("Standby", true, None),
            look("Standby", false, Some("its pod is ending")),
            look("Lost", false, Some("its pod is ending")),
            look("Starting", false, None),
            look("Standby", false, None),
            look("Standby", true, None),
        ];
        let told = |serves: bool| {
            let heard = Heard::default();
            let mut plan = Plan::default();
            plan.serves = serves;
            for pair in looks.windows(2) {
                tell_changes(&heard, &pair[0], &pair[1], &plan);
            }
            heard.0.into_inner()
        };
        let goes = "InstanceNotReady: orders-2 is not ready (standby): its pod is ending";
        let comes = "InstanceReady: orders-2 is ready as standby";
        assert_eq!(told(true), [goes, comes]);
        assert_eq!(told(false), [comes], "nobody is primary");
    }

    /// Warnings are for what somebody should look at.
    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Tell for Warned {
        fn tell(&self, reason: &str, warning: bool, _message: &str) {
            if warning {
                self.0.lock().push(reason.to_owned());
            }
        }
    }

    #[test]
    fn who_is_away_on_purpose_is_told_of_without_a_warning() {
        let look = |ready: bool| -> ReplicatedClusterStatus {
            let instance = serde_json::json!({"name": "orders-2", "role": "Standby", "ready": ready, "inSync": true});
            let status = serde_json::json!({"phase": "Running", "instances": [instance]});
            serde_json::from_value(status).expect("a status")
        };
        let warned = |on_purpose: &[&str]| {
            let warned = Warned::default();
            let mut plan = Plan::default();
            plan.serves = true;
            plan.on_purpose = on_purpose.iter().map(|name| (*name).to_owned()).collect();
            tell_changes(&warned, &look(true), &look(false), &plan);
            warned.0.into_inner()
        };
        assert_eq!(warned(&["orders-2"]), [""; 0]);
        assert_eq!(warned(&["orders-1"]), ["InstanceNotReady"]);
    }

    #[test]
    fn whoever_changes_settings_is_told_who_goes_by_them() {
        let (told, heard) = (Told::default(), Heard::default());
        let first = ", parameters: {work_mem: 8MB}";
        told.settings(&heard, &seen(3, first, 3, false));
        // Another part of the manifest is no setting.
        told.settings(&heard, &seen(4, &format!("{first}, replicas: 1"), 4, false));
        let second = ", parameters: {work_mem: 9MB}, replicas: 1";
        told.settings(&heard, &seen(5, second, 4, false));
        assert_eq!(*heard.0.lock(), [""; 0], "it was not read yet");
        for _ in 0..2 {
            told.settings(&heard, &seen(5, second, 5, false));
        }
        let by_address = format!("{second}, pgHba: [host all all samenet md5]");
        told.settings(&heard, &seen(6, &by_address, 6, true));
        assert_eq!(
            *heard.0.lock(),
            [
                "ConfigReloaded: orders-1 goes by the settings of generation 5",
                "ConfigReloaded: orders-1 goes by the settings of generation 6, except for those that need a restart, \
                 which follows"
            ]
        );
    }

    #[test]
    fn a_trouble_is_told_once_in_a_while_and_turns_are_no_news() {
        let told = Told::default();
        let now = Instant::now();
        assert!(told.is_news("orders-1", "a", now) && told.is_news("orders-1", "b", now));
        assert!(!told.is_news("orders-1", "a", now) && !told.is_news("orders-1", "b", now));
        assert!(told.is_news("orders-2", "a", now));
        assert!(told.is_news("orders-1", "a", now + AGAIN));
    }

    #[test]
    fn troubles_that_count_are_not_told_for_ever() {
        let told = Told::default();
        let now = Instant::now();
        let told =
            (0..100).filter(|number| told.is_news("orders-1", &format!("try {number}"), now));
        assert_eq!(told.count(), MOST_TROUBLES);
    }

    #[test]
    fn troubles_that_count_hide_no_other_trouble_of_the_same_instance() {
        let (told, heard) = (Told::default(), Heard::default());
        for number in 0..100 {
            let why = format!("{number} bytes are left");
            told.trouble(&heard, "SeedFailed", "orders-2", &why);
        }
        assert_eq!(heard.0.lock().len(), MOST_TROUBLES);
        heard.0.lock().clear();
        told.trouble(&heard, "StepFailed", "orders-2", "exceeded quota");
        let step = "StepFailed: orders-2: exceeded quota";
        assert_eq!(*heard.0.lock(), [step]);
    }
}
