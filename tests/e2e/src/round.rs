//! A fault from its beginning to full strength again: what the clients saw, what the operator says of it, and whether
//! the two agree. And the end of what was no fault: how long writes paused for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use understudy_cluster::Node;
use understudy_tests::local::now_ms;

use crate::agreement::{Agreement, Stalls};
use crate::controller;
use crate::database::{Database, Event, Instance, spec};
use crate::faults::{Fault, Made, Victim, provide_disks};
use crate::ledger::{Ledger, Way, first_above, first_in, when_longest};
use crate::results::Line;
use crate::settings::{LIMIT, Settings};
use crate::space::Space;
use crate::writers::{Who, Writers, judge};

/// What changes of roles are called in events, and behind `last` in the status.
const FAILOVER: &str = "Failover";
const SWITCHOVER: &str = "Switchover";
/// As comparisons with it are named.
const METRIC: &str = "metric role_change_seconds";
/// How long an old primary gets to do harm, before and after it is woken.
const HARM: Duration = Duration::from_secs(3);

/// What a change that was made on purpose may cost writes, as it is aimed at; seconds.
const PAUSE_GOAL: f64 = 1.0;

/// After so many that failed there is something wrong with all.
const MOST_FAILED: usize = 3;

/// A test's database under a fault, over all its rounds.
struct Scene<'a> {
    fault: Fault,
    space: &'a Space,
    database: &'a Database<'a>,
    ledger: Arc<Ledger>,
    /// The instance whose engine was killed the round before.
    crashed: RefCell<Option<String>>,
}

/// Every round of a fault, each variant that is asked for, on a database of its own.
///
/// # Panics
/// If a promise is broken, or something does not come.
#[track_caller]
pub fn run(fault: Fault) {
    let settings = Settings::from_env();
    if let Some(name) = settings.fault() {
        let is_one = Fault::ALL.iter().any(|fault| fault.name() == name);
        let names = Fault::ALL.map(Fault::name).join(", ");
        assert!(is_one, "FAULT is {name}, which is none of {names}");
    }
    if !settings.wants(fault.name()) {
        println!("{} is not asked for", fault.name());
        return;
    }
    let space = Space::enter(&format!("fault-{}", fault.name()));
    if fault == Fault::DiskFrozen {
        provide_disks(&space);
    }
    let database = Database::create(&space, "orders", &fault.spec());
    spread_out(&database);
    let ledger = noted_ledger(&space);
    let mut agreement = Agreement::default();
    let is_counted = all_rounds(&space, &database, &ledger, fault, &mut agreement);
    metric_was_there(is_counted, &agreement);
    agreement.judge();
}

/// Where an operator has to have counted some change, the metric was held against the report at least once.
#[track_caller]
fn metric_was_there(is_counted: bool, agreement: &Agreement) {
    assert!(
        !is_counted || agreement.has(METRIC),
        "{METRIC}: in no round was there one to compare"
    );
}

/// One fault after the other on one database, which is the quicker way. After one that fails the rest have a new one.
///
/// # Panics
/// If a promise is broken, or something does not come; names the faults at which that was.
#[track_caller]
pub fn run_in_turn(faults: &[Fault]) {
    let mut failed = Vec::new();
    let mut rest = faults;
    while !rest.is_empty() && failed.len() < MOST_FAILED {
        let done = Cell::new(0);
        let ended = catch_unwind(AssertUnwindSafe(|| turn(rest, &done)));
        if ended.is_ok() {
            rest = &[];
            break;
        }
        // Beyond the last one is the judgement over all.
        let at = done.get();
        failed.push(rest.get(at).map_or("what the operator says", |f| f.name()));
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    assert!(
        failed.is_empty(),
        "failed: {}; not tried any more: {rest:?}",
        failed.join(", ")
    );
}

fn turn(faults: &[Fault], done: &Cell<usize>) {
    let space = Space::share("faults-in-turn");
    let database = Database::create(&space, "orders", &spec(2));
    spread_out(&database);
    let ledger = noted_ledger(&space);
    let (mut agreement, mut is_counted) = (Agreement::default(), false);
    for fault in faults {
        is_counted |= all_rounds(&space, &database, &ledger, *fault, &mut agreement);
        done.set(done.get() + 1);
    }
    metric_was_there(is_counted, &agreement);
    agreement.judge();
}

/// Whether an operator has to have counted the change of roles of at least one of them.
fn all_rounds(
    space: &Space,
    database: &Database<'_>,
    ledger: &Arc<Ledger>,
    fault: Fault,
    agreement: &mut Agreement,
) -> bool {
    let scene = Scene {
        fault,
        space,
        database,
        ledger: Arc::clone(ledger),
        crashed: RefCell::default(),
    };
    let mut is_counted = false;
    for place in places(fault, &space.settings) {
        for round in 1..=space.settings.rounds(1, 5) {
            is_counted |= scene.round(*place, round, agreement);
        }
    }
    is_counted
}

/// Whether the operator's leader has to be on the primary's node. Where that is no matter nobody is moved first.
fn places(fault: Fault, settings: &Settings) -> &'static [Option<bool>] {
    match fault {
        _ if settings.is_long => &[Some(false), Some(true)],
        Fault::NodeCutOff => &[Some(false), Some(true)],
        Fault::NodeDead => &[Some(false)],
        _ => &[None],
    }
}

/// A ledger that is written down if the test fails.
pub fn noted_ledger(space: &Space) -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    let noted = Arc::clone(&ledger);
    space.note("ledger.txt", move || noted.shown());
    ledger
}

/// Whether the operator that leads is on this node.
///
/// # Panics
/// If nobody leads.
#[track_caller]
pub fn leader_is_on(database: &Database<'_>, node: Node) -> bool {
    let leader = controller::leader(&database.space.cluster);
    let leader = leader.unwrap_or_else(|error| panic!("{error:#}"));
    leader.node == node
}

/// Sees to it that the primary is, or is not, on the node of the operator that leads.
///
/// # Panics
/// If no instance is where it would have to be.
#[track_caller]
pub fn place(database: &Database<'_>, leader_there: bool) {
    for _ in 0..5 {
        let leader = controller::leader(&database.space.cluster);
        let leader = leader.unwrap_or_else(|error| panic!("{error:#}"));
        let all = database.instances();
        let primary = database.primary();
        let fits = |name: &str| {
            let mut found = all.iter().filter(|i| i.name == name);
            found.any(|i| (i.node == leader.node) == leader_there)
        };
        if fits(&primary) {
            return;
        }
        let other = all.iter().find(|i| i.name != primary && fits(&i.name));
        let other = other.unwrap_or_else(|| {
            panic!(
                "no instance fits: the leader is on {}, {all:?}",
                leader.node
            )
        });
        database.switch_to(&other.name);
    }
    panic!("the operator's leader moves all the time");
}

/// One instance on each node again: what took the place of one that was given up, or came when there was one more for a
/// while, may be where another is. The loss of that node would be the loss of two, and a drain of it would not end: the
/// second waits for the first, whose volume is there.
///
/// # Panics
/// If they do not spread.
#[track_caller]
pub fn spread_out(database: &Database<'_>) {
    for _ in 0..3 {
        let (all, primary) = (database.instances(), database.primary());
        let is_beside = |one: &Instance| {
            let mut others = all.iter().filter(|other| other.name != one.name);
            others.any(|other| other.node == one.node)
        };
        let surplus = all.iter().find(|i| i.name != primary && is_beside(i));
        let Some(surplus) = surplus else { return };
        let asked_ms = now_ms();
        database.ask_for("replace-instance", &surplus.name);
        database.wait_event("ReplaceCompleted", asked_ms);
        database.full_strength();
    }
    panic!("instances stay together: {:?}", database.instances());
}

/// The end of a change that was made on purpose: full strength, both promises, and how long writes paused for it.
///
/// # Panics
/// If a promise is broken, or full strength does not come.
#[track_caller]
pub fn settle(
    database: &Database<'_>,
    ledger: &Ledger,
    writers: Writers,
    (variant, round): (&str, u32),
    begin_ms: u64,
) {
    database.full_strength();
    writers.wait_for(20);
    let end_ms = now_ms();
    writers.finish();
    let rows = judge(database, ledger);
    let (from_ms, to_ms) = when_longest(&ledger.rows(), (begin_ms, end_ms), Way::is_service);
    let pause = (to_ms - from_ms) as f64 / 1000.0;
    let space = database.space;
    let line = Line::new(&space.settings, &space.test, variant, round)
        .seconds("took", (end_ms - begin_ms) as f64 / 1000.0)
        .seconds("longest pause of writes", pause)
        .count("acknowledged", rows)
        .count("missing", 0)
        .count("goal missed", usize::from(pause >= PAUSE_GOAL));
    space.keep(&line);
    if pause >= PAUSE_GOAL {
        space.keep_miss(&missed((from_ms, to_ms), PAUSE_GOAL));
    }
}

/// What is said of a pause that is longer than its goal.
fn missed((from_ms, to_ms): (u64, u64), goal: f64) -> String {
    let pause = (to_ms - from_ms) as f64 / 1000.0;
    format!(
        "writes paused for {pause:.3} s, from {from_ms} to {to_ms} ms since 1970; the goal is {goal} s"
    )
}

/// The metric of changes of roles of one kind, by the operator's pod: how many, and how long they took together.
struct RoleChanges {
    count: BTreeMap<String, f64>,
    seconds: BTreeMap<String, f64>,
}

/// None where one of the operator's pods does not answer.
fn role_changes(scene: &Scene<'_>, change: &str) -> Option<RoleChanges> {
    let kind = change.to_lowercase();
    let labels = [
        ("namespace", scene.space.name.as_str()),
        ("cluster", scene.database.name.as_str()),
        ("kind", kind.as_str()),
    ];
    let of = |what: &str| {
        let name = format!("understudy_role_change_seconds_{what}");
        controller::metric_by_pod(&scene.space.cluster, &name, &labels).ok()
    };
    Some(RoleChanges {
        count: of("count")?,
        seconds: of("sum")?,
    })
}

/// What was added meanwhile; none if an operator that had counted is gone, or has begun anew: it took its numbers with it.
fn gained(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Option<f64> {
    let goes_on = |(pod, value): (&String, &f64)| {
        let now = now.get(pod).copied();
        *value == 0.0 || now >= Some(*value)
    };
    let sum = |all: &BTreeMap<String, f64>| all.values().sum::<f64>();
    let all_go_on = before.iter().all(goes_on);
    all_go_on.then(|| sum(now) - sum(before))
}

/// When this was told first of the term, or first at all where its words name none.
fn told(events: &[Event], reason: &str, term: Option<u64>) -> Option<f64> {
    let words = term.map_or_else(String::new, |term| format!(" in term {term},"));
    let mut all = events.iter();
    let found = all.find(|event| event.reason == reason && event.note.contains(&words));
    found.map(|event| event.at_ms as f64)
}

impl Scene<'_> {
    /// Gives whether an operator that is still there has to have counted the change of roles, as one.
    fn round(&self, leader_there: Option<bool>, round: u32, agreement: &mut Agreement) -> bool {
        let (database, fault) = (self.database, self.fault);
        database.full_strength();
        if let Some(crashed) = self.crashed.take() {
            self.forget_crash(&crashed);
        }
        if let Some(leader_there) = leader_there {
            place(database, leader_there);
        }
        self.reuse_volumes();
        let before = database.full_strength();
        let metrics_before = [FAILOVER, SWITCHOVER].map(|change| role_changes(self, change));
        let victim = Victim::of(database, &database.primary());
        let lost = victim.clone();
        let writers = Writers::start(database, &self.ledger, Who::Everybody);
        let term = before["term"].as_u64().expect("a term");
        println!(
            "{}: {} on {} is primary in term {term} {}",
            fault.name(),
            lost.instance,
            lost.node,
            variant(leader_there)
        );
        self.assert_placed(leader_there, lost.node);
        let stalls = Stalls::watch();
        let fault_ms = now_ms();
        let mut made = Made::make(fault, self.space, victim);
        let (change, said) = self.await_change(term);
        writers.wait_for(20);
        std::thread::sleep(HARM);
        if fault == Fault::NodeDead {
            self.replace(&lost);
        }
        made.mend();
        std::thread::sleep(HARM);
        let after = database.whole();
        let whole_ms = now_ms();
        writers.wait_for(20);
        writers.finish();
        judge(database, &self.ledger);
        let terms = after["term"].as_u64().unwrap_or_default() - term;
        let times = Times {
            term,
            terms,
            fault_ms,
            whole_ms,
        };
        self.report(leader_there, round, &times, &said);
        if fault.fails_over() {
            let before = &metrics_before[usize::from(change == SWITCHOVER)];
            self.compare_moments((&times, change), &said, &stalls, agreement);
            if self.spares_the_leader(leader_there) && times.terms == 1 {
                self.compare_metric(change, &said, before.as_ref(), agreement);
            }
        } else {
            self.assert_restarted(fault_ms);
            *self.crashed.borrow_mut() = Some(lost.instance.clone());
        }
        // A fault ends with whatever was begun because of it: the next one must not meet that.
        database.full_strength();
        if fault == Fault::NodeDead {
            spread_out(database);
        }
        // What it has counted may go with its node.
        fault.fails_over() && !fault.is_node_loss() && times.terms == 1
    }

    /// The change of roles that the fault brings, as it is told first: what follows may be told over it.
    #[track_caller]
    fn await_change(&self, term: u64) -> (&'static str, Value) {
        if self.fault.may_hand_over() {
            await_role_change(self.database, term)
        } else if self.fault.fails_over() {
            let status = await_failover(self.database, term);
            (FAILOVER, status["lastFailover"].clone())
        } else {
            (FAILOVER, Value::Null)
        }
    }

    /// The operator's leader is still where the round wants it.
    #[track_caller]
    fn assert_placed(&self, leader_there: Option<bool>, node: Node) {
        if let Some(wanted) = leader_there {
            let is_there = leader_is_on(self.database, node);
            assert_eq!(is_there, wanted, "the operator's leader has moved");
        }
    }

    /// Whether the operator that sees the fault is the one that counts it in the end.
    fn spares_the_leader(&self, leader_there: Option<bool>) -> bool {
        leader_there != Some(true) || !self.fault.is_node_loss()
    }

    /// Each loss of a node for good gives up the volumes of two instances, and a node has no more than it was made with:
    /// without any left on one the instances could not spread again. What was given up last may take two seconds to end.
    fn reuse_volumes(&self) {
        if self.fault != Fault::NodeDead {
            return;
        }
        std::thread::sleep(HARM);
        let reused = self.space.cluster.recycle_volumes();
        let reused = reused.unwrap_or_else(|error| panic!("{error:#}"));
        println!("volumes that can be claimed again: {reused:?}");
    }

    /// The administrator gives up the instance of a node that does not come back: a copy on another node takes its
    /// place.
    fn replace(&self, lost: &Victim) {
        let cluster = &self.space.cluster;
        let seen = cluster.wait_ready(lost.node, false, LIMIT);
        seen.unwrap_or_else(|error| panic!("{error:#}"));
        let asked_ms = now_ms();
        self.database.ask_for("replace-instance", &lost.instance);
        self.database.wait_event("ReplaceCompleted", asked_ms);
        self.database.full_strength();
        // Not by its name: the next one gets the lowest that is free.
        let all = self.database.instances();
        let is_there = all.iter().any(|now| now.node == lost.node);
        assert!(!is_there, "on the dead node again: {all:?}");
        let took = now_ms() - asked_ms;
        println!("{} was replaced in {took} ms", lost.instance);
    }

    fn report(&self, leader_there: Option<bool>, round: u32, times: &Times, said: &Value) {
        let rows = self.ledger.rows();
        let since = |at_ms: u64| at_ms.saturating_sub(times.fault_ms) as f64 / 1000.0;
        let settings = &self.space.settings;
        let mut line = Line::new(settings, self.fault.name(), variant(leader_there), round);
        let pod = first_above(&rows, times.term, |way| !way.is_service());
        let service = first_above(&rows, times.term, |way| way.is_service());
        let within = (times.fault_ms, times.whole_ms);
        let (from_ms, to_ms) = when_longest(&rows, within, Way::is_service);
        for (name, at) in [
            ("1 detected", said["detectedAt"].as_u64()),
            ("2 promoted", said["promotedAt"].as_u64()),
            ("3 writable", said["writableAt"].as_u64()),
            ("4 first write by pod", pod),
            ("5 first write by Service", service),
        ] {
            if let Some(at) = at.filter(|at| self.fault.fails_over() && *at >= times.fault_ms) {
                line = line.seconds(name, since(at));
            }
        }
        let pause = (to_ms - from_ms) as f64 / 1000.0;
        line = line.seconds("6 longest pause of writes", pause);
        line = line.seconds("7 full strength", since(times.whole_ms));
        let terms = usize::try_from(times.terms).unwrap_or(usize::MAX);
        line = line.count("terms", terms);
        let acknowledged = self.ledger.count(times.fault_ms, |_| true);
        line = line.count("acknowledged after the fault", acknowledged);
        line = line.count("missing", 0).count("in an older term", 0);
        let goal = self.fault.goal_seconds(leader_there == Some(true));
        line = line.count("goal missed", usize::from(pause >= goal));
        self.space.keep(&line);
        if pause >= goal {
            self.space.keep_miss(&missed((from_ms, to_ms), goal));
        }
    }

    /// What the operator says beside what the clients saw of the same term.
    fn compare_moments(
        &self,
        (times, change): (&Times, &str),
        said: &Value,
        stalls: &Stalls,
        agreement: &mut Agreement,
    ) {
        let at = |key: &str| said[key].as_u64().map(|at| at as f64);
        let (detected, promoted) = (at("detectedAt"), at("promotedAt"));
        let writable = at("writableAt");
        assert!(
            detected.is_some() && detected <= promoted && promoted <= writable,
            "in no order: {said:#}"
        );
        let term = said["term"].as_u64();
        let first = term.and_then(|term| first_in(&self.ledger.rows(), term, |_| true));
        let first = first.map(|at| at as f64);
        let events = self.database.events(times.fault_ms);
        let events = events.unwrap_or_else(|error| panic!("{error:#}"));
        // A handover that does not work out becomes a failover, under the same detection.
        let began = |change: &str| told(&events, &format!("{change}Started"), None);
        let started = [FAILOVER, SWITCHOVER].into_iter().filter_map(began);
        let started = started.reduce(f64::min);
        let completed = told(&events, &format!("{change}Completed"), term);
        let reasons: Vec<&str> = events.iter().map(|e| e.reason.as_str()).collect();
        assert!(
            started.is_some() && completed.is_some(),
            "{change}: not both its beginning and its end are told, only {reasons:?}"
        );
        agreement.moments("status.writableAt", (writable, first), stalls);
        agreement.moments("event Started", (started, detected), stalls);
        agreement.moments("event Completed", (completed, first), stalls);
    }

    /// The metric beside the report, which are of one change.
    fn compare_metric(
        &self,
        change: &str,
        said: &Value,
        before: Option<&RoleChanges>,
        agreement: &mut Agreement,
    ) {
        let Some((before, now)) = before.zip(role_changes(self, change)) else {
            println!("metrics: an operator does not answer");
            return;
        };
        let Some(count) = gained(&before.count, &now.count) else {
            println!("metrics: an operator has begun anew");
            return;
        };
        assert_eq!(
            count, 1.0,
            "{change}: {:?}, before {:?}",
            now.count, before.count
        );
        let seconds = gained(&before.seconds, &now.seconds);
        let told = said["seconds"].as_f64();
        let ms = |seconds: f64| seconds * 1000.0;
        agreement.numbers(METRIC, (seconds.map(ms), told.map(ms)));
    }

    /// A second crash of one engine within five minutes is a reason to fail over: the supervisor that has counted the first
    /// one is replaced, as that of a standby.
    fn forget_crash(&self, instance: &str) {
        let database = self.database;
        if database.primary() == instance {
            let standby = database.standbys().into_iter().next();
            database.switch_to(&standby.expect("a standby"));
        }
        let killed = database.container(instance).kill();
        killed.unwrap_or_else(|error| panic!("{instance}: {error:#}"));
        // What was reported before its death must not be taken for the state after it.
        std::thread::sleep(HARM);
        database.full_strength();
    }

    /// In place, or, where that took longer than a failover waits for it, by a failover.
    fn assert_restarted(&self, fault_ms: u64) {
        let events = self.database.events(fault_ms).unwrap_or_default();
        let has = |reason: &str| events.iter().any(|event| event.reason == reason);
        assert!(
            has("RestartedInPlace") || has("FailoverCompleted"),
            "nobody tells of the crash: {events:#?}"
        );
        let how = if has("FailoverCompleted") {
            "a failover came first"
        } else {
            "it was restarted in place"
        };
        println!("{}: {how}", self.fault.name());
    }
}

fn variant(leader_there: Option<bool>) -> &'static str {
    match leader_there {
        Some(true) => "with the operator's leader",
        Some(false) => "without the operator's leader",
        None => "",
    }
}

/// Moments of a round, milliseconds since 1970, and the term before it.
struct Times {
    term: u64,
    /// So many were added to it.
    terms: u64,
    fault_ms: u64,
    whole_ms: u64,
}

/// Waits until a failover in a term above `term` is reported.
///
/// # Panics
/// If none is.
#[track_caller]
pub fn await_failover(database: &Database<'_>, term: u64) -> Value {
    database.wait("the failover is reported", LIMIT, |status| {
        status["phase"] == "Running"
            && status["term"].as_u64() > Some(term)
            && status["lastFailover"]["term"].as_u64() > Some(term)
    })
}

/// The same for a role that was taken over or handed over, whichever it was, and what is said of it.
#[track_caller]
pub fn await_role_change(database: &Database<'_>, term: u64) -> (&'static str, Value) {
    let newer = |status: &Value| {
        [FAILOVER, SWITCHOVER].into_iter().find_map(|change| {
            let said = &status[format!("last{change}")];
            (said["term"].as_u64() > Some(term)).then(|| (change, said.clone()))
        })
    };
    let status = database.wait("the change of roles is reported", LIMIT, |status| {
        status["phase"] == "Running"
            && status["term"].as_u64() > Some(term)
            && newer(status).is_some()
    });
    newer(&status).expect("it was there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gained_is_known_while_nobody_begins_anew() {
        let of = |all: &[(&str, f64)]| -> BTreeMap<String, f64> {
            all.iter().map(|(pod, n)| ((*pod).to_owned(), *n)).collect()
        };
        let before = of(&[("a", 2.0), ("b", 0.0)]);
        assert_eq!(gained(&before, &of(&[("a", 2.0), ("b", 1.0)])), Some(1.0));
        assert_eq!(gained(&before, &of(&[("a", 3.0), ("c", 0.0)])), Some(1.0));
        assert_eq!(gained(&before, &of(&[("a", 0.0), ("b", 1.0)])), None);
        assert_eq!(gained(&before, &of(&[("b", 1.0)])), None);
    }

    #[test]
    fn an_event_is_the_first_of_its_term() {
        let event = |at_ms: u64, note: &str| Event {
            reason: "FailoverCompleted".to_owned(),
            note: note.to_owned(),
            at_ms,
        };
        let of = |term: u32| {
            format!(
                "failover completed: a-1 accepts writes in term {term}, 0.1 s after the cause was seen"
            )
        };
        let events = [event(1, &of(70)), event(2, &of(7)), event(3, &of(7))];
        assert_eq!(told(&events, "FailoverCompleted", Some(7)), Some(2.0));
        assert_eq!(told(&events, "FailoverCompleted", None), Some(1.0));
        assert_eq!(told(&events, "FailoverCompleted", Some(8)), None);
        assert_eq!(told(&events, "FailoverStarted", None), None);
    }
}
