//! A fault from its beginning to full strength again: what the clients saw, what the operator says of it, and whether
//! the two agree. And the end of what was no fault: how long writes paused for it.
//!
//! A round has a line of results whatever becomes of it: begun before the round, it is written when the round is over or has
//! failed, with all that was measured by then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_cluster::Node;
use understudy_tests::local::now_ms;

use crate::agreement::{Agreement, Stalls, seen_in_order};
use crate::controller;
use crate::database::{Database, Event, Instance, spec};
use crate::faults::{Fault, Made, Victim, provide_disks};
use crate::goals::Goal;
use crate::ledger::{Ledger, Way, first_above, first_in, when_longest};
use crate::results::Entry;
use crate::settings::{LIMIT, Settings};
use crate::space::Space;
use crate::writers::{Who, Writers, judge_into};

/// What changes of roles are called in events, and behind `last` in the status.
const FAILOVER: &str = "Failover";
const SWITCHOVER: &str = "Switchover";
/// As comparisons with it are named.
const METRIC: &str = "metric role_change_seconds";
/// How long an old primary gets to do harm, before and after it is woken.
const HARM: Duration = Duration::from_secs(3);

/// What an engine that is killed gets to be back in place, milliseconds. The usual second (held to in `fields`) is too little
/// for a machine with more to do than it can: what is to be seen is a restart in place, not how long a failover waits for it.
const RESTART_WITHIN_MS: u32 = 30_000;
/// Events of an instance that takes a role over, or is meant to.
const MOVES: [&str; 6] = [
    "FailoverStarted",
    "FailoverRestarted",
    "FailoverCompleted",
    "SwitchoverStarted",
    "SwitchoverCompleted",
    "Promoted",
];

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
    judge_agreement(&space, is_counted, &agreement);
}

/// What the operator said beside what the clients saw, over all rounds. Where an operator has to have counted some change,
/// the metric was held against the report at least once.
#[track_caller]
fn judge_agreement(space: &Space, is_counted: bool, agreement: &Agreement) {
    let mut entry = Entry::begin(&space.settings, &space.test, "all that was said", 1);
    for (what, count, apart) in agreement.counts() {
        entry.count(&format!("{what}: compared"), count);
        entry.count(&format!("{what}: apart"), apart);
    }
    assert!(
        !is_counted || agreement.has(METRIC),
        "{METRIC}: in no round was there one to compare"
    );
    agreement.judge();
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
    judge_agreement(&space, is_counted, &agreement);
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
    if !fault.fails_over() {
        restart_within(database, Some(RESTART_WITHIN_MS));
    }
    for place in places(fault, &space.settings) {
        for round in 1..=space.settings.rounds(1, 5) {
            is_counted |= scene.round(*place, round, agreement);
        }
    }
    if !fault.fails_over() {
        restart_within(database, None);
        database.full_strength();
    }
    is_counted
}

/// What a crashed engine gets to be back in place; none is what it gets where a manifest says nothing.
#[track_caller]
fn restart_within(database: &Database<'_>, ms: Option<u32>) {
    database.patch_spec(&json!({"failover": {"restartWithinMilliseconds": ms}}));
    // Not as it was seen last, which may be before the change.
    let object = database.space.get(&["rcl", &database.name]);
    let generation = &object["metadata"]["generation"];
    database.wait("the operator has read it", LIMIT, |status| {
        status["observedGeneration"] == *generation
    });
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
/// If a promise is broken, full strength does not come, or writes paused for far longer than is aimed at.
#[track_caller]
pub fn settle(
    database: &Database<'_>,
    ledger: &Ledger,
    writers: Writers,
    (variant, round): (&str, u32),
    begin_ms: u64,
) {
    let space = database.space;
    let mut entry = Entry::begin(&space.settings, &space.test, variant, round);
    database.full_strength();
    writers.wait_for(20);
    let end_ms = now_ms();
    writers.finish();
    let pause = when_longest(&ledger.rows(), (begin_ms, end_ms), Way::is_service);
    entry.seconds("took", seconds(begin_ms, end_ms));
    entry.seconds("longest pause of writes", seconds(pause.0, pause.1));
    entry.count("goal missed", usize::from(Goal::PLANNED.is_missed(pause)));
    judge_into(database, ledger, &mut entry);
    Goal::PLANNED.hold(space, pause);
}

/// From one moment to another, both milliseconds since 1970.
fn seconds(from_ms: u64, to_ms: u64) -> f64 {
    (to_ms as f64 - from_ms as f64) / 1000.0
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
        let (settings, variant) = (&self.space.settings, variant(leader_there));
        let mut entry = Entry::begin(settings, fault.name(), variant, round);
        let before = self.prepared(leader_there);
        let metrics_before = [FAILOVER, SWITCHOVER].map(|change| role_changes(self, change));
        let victim = Victim::of(database, &database.primary());
        let (lost, was) = (victim.clone(), Processes::of(database, &victim.instance));
        let writers = Writers::start(database, &self.ledger, Who::Everybody);
        let term = before["term"].as_u64().expect("a term");
        let name = fault.name();
        println!(
            "{name}: {} on {} is primary in term {term} {variant}",
            lost.instance, lost.node
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
        let after = after["term"].as_u64().expect("a term");
        let times = Times {
            term,
            terms: after.checked_sub(term).expect("a term never falls"),
            fault_ms,
            whole_ms,
        };
        let goal = Goal::of(fault, leader_there == Some(true));
        let pause = self.measure(&times, &said, goal, &mut entry);
        judge_into(database, &self.ledger, &mut entry);
        let events = database.events(fault_ms);
        let events = events.unwrap_or_else(|error| panic!("{error:#}"));
        if fault.fails_over() {
            self.assert_one_change(times.terms, &events);
            let before = &metrics_before[usize::from(change == SWITCHOVER)];
            self.compare_moments((&times, change), (&said, &events), &stalls, agreement);
            if self.spares_the_leader(leader_there) && times.terms == 1 {
                self.compare_metric(change, &said, before.as_ref(), agreement);
            }
        } else {
            self.assert_restarted(&lost.instance, &was, &times, &events);
            *self.crashed.borrow_mut() = Some(lost.instance.clone());
        }
        goal.hold(self.space, pause);
        // A fault ends with whatever was begun because of it: the next one must not meet that.
        database.full_strength();
        if fault == Fault::NodeDead {
            spread_out(database);
        }
        // What it has counted may go with its node.
        fault.fails_over() && !fault.is_node_loss() && times.terms == 1
    }

    /// Full strength, with nothing left of the round before, and the operator's leader where it is wanted.
    #[track_caller]
    fn prepared(&self, leader_there: Option<bool>) -> Value {
        self.database.full_strength();
        if let Some(crashed) = self.crashed.take() {
            self.forget_crash(&crashed);
        }
        if let Some(leader_there) = leader_there {
            place(self.database, leader_there);
        }
        self.reuse_volumes();
        self.database.full_strength()
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

    /// What was seen, for the line of results. Gives the longest pause of writes, from when to when.
    fn measure(&self, times: &Times, said: &Value, goal: Goal, entry: &mut Entry) -> (u64, u64) {
        let rows = self.ledger.rows();
        let pod = first_above(&rows, times.term, |way| !way.is_service());
        let service = first_above(&rows, times.term, |way| way.is_service());
        let within = (times.fault_ms, times.whole_ms);
        let pause = when_longest(&rows, within, Way::is_service);
        for (name, at) in [
            ("1 detected", said["detectedAt"].as_u64()),
            ("2 promoted", said["promotedAt"].as_u64()),
            ("3 writable", said["writableAt"].as_u64()),
            ("4 first write by pod", pod),
            ("5 first write by Service", service),
        ] {
            // Less than nothing where it is said to have been before the fault.
            if let Some(at) = at.filter(|_| self.fault.fails_over()) {
                entry.seconds(name, seconds(times.fault_ms, at));
            }
        }
        entry.seconds("6 longest pause of writes", seconds(pause.0, pause.1));
        entry.seconds("7 full strength", seconds(times.fault_ms, times.whole_ms));
        let terms = usize::try_from(times.terms).unwrap_or(usize::MAX);
        entry.count("terms", terms);
        let acknowledged = self.ledger.count(times.fault_ms, |_| true);
        entry.count("acknowledged after the fault", acknowledged);
        entry.count("goal missed", usize::from(goal.is_missed(pause)));
        pause
    }

    #[track_caller]
    fn assert_one_change(&self, terms: u64, events: &[Event]) {
        let moves = told_of(events, &MOVES);
        let most = most_terms(self.fault, &moves);
        assert!(
            (1..=most).contains(&terms),
            "one fault, and the term rose by {terms}: {moves:#?}"
        );
    }

    /// What the operator says beside what the clients saw of the same term.
    #[track_caller]
    fn compare_moments(
        &self,
        (times, change): (&Times, &str),
        (said, events): (&Value, &[Event]),
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
        if let Some((detected, first)) = detected.zip(first) {
            seen_in_order(times.fault_ms, detected, first);
        }
        // A handover that does not work out becomes a failover, under the same detection.
        let began = |change: &str| told(events, &format!("{change}Started"), None);
        let started = [FAILOVER, SWITCHOVER].into_iter().filter_map(began);
        let started = started.reduce(f64::min);
        let completed = told(events, &format!("{change}Completed"), term);
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

    /// In place: by the same supervisor, in the same container, and in the same term. Nobody else began to take over.
    #[track_caller]
    fn assert_restarted(&self, instance: &str, was: &Processes, times: &Times, events: &[Event]) {
        let moves = told_of(events, &MOVES);
        assert!(
            moves.is_empty() && times.terms == 0,
            "the engine of {instance} was killed, and somebody took over: the term rose by {}, {moves:#?}",
            times.terms
        );
        let newer = first_above(&self.ledger.rows(), times.term, |_| true);
        assert_eq!(newer, None, "somebody took over, in a newer term");
        let primary = self.database.primary();
        assert_eq!(primary, instance, "somebody took over in the same term");
        let event = self
            .database
            .wait_told("RestartedInPlace", instance, times.fault_ms);
        println!("{}: {}", event.reason, event.note);
        let now = Processes::of(self.database, instance);
        assert_eq!(now.supervisor, was.supervisor, "not in place");
        assert_ne!(now.engine, was.engine, "it was not killed at all");
    }
}

/// What runs an instance, as the machine numbers it. A restart in place changes the engine and nothing else.
struct Processes {
    supervisor: i32,
    engine: i32,
}

impl Processes {
    #[track_caller]
    fn of(database: &Database<'_>, instance: &str) -> Processes {
        Processes {
            supervisor: database.container(instance).pid,
            engine: database.engine(instance),
        }
    }
}

/// One fault is one change of roles, and that is one new term. None of them touches an instance that may take over, be the
/// operator's leader on the lost node or not: a candidate that is given up for another one in a further term, and a successor
/// that is, were taken for lost without a reason.
///
/// A pod that is deleted by force may cost two: its role is on the way to a standby when the pod, which its kubelet gives two
/// seconds, has to take it back, and goes over as it ends. Both are told then.
fn most_terms(fault: Fault, moves: &[&Event]) -> u64 {
    let has = |reason: &str| moves.iter().any(|event| event.reason == reason);
    let took_two = has("SwitchoverStarted") && has("FailoverStarted");
    if fault.may_hand_over() && took_two {
        2
    } else {
        1
    }
}

/// Those of these reasons.
fn told_of<'a>(events: &'a [Event], reasons: &[&str]) -> Vec<&'a Event> {
    let all = events.iter();
    all.filter(|event| reasons.contains(&event.reason.as_str()))
        .collect()
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

    #[test]
    fn only_a_handover_that_became_a_failover_may_cost_a_second_term() {
        let event = |reason: &&str| Event {
            reason: (*reason).to_owned(),
            note: String::new(),
            at_ms: 1,
        };
        for fault in Fault::ALL {
            for (reasons, most) in [
                (&["FailoverStarted", "FailoverRestarted"][..], 1),
                (&["SwitchoverStarted", "SwitchoverCompleted"][..], 1),
                (
                    &["SwitchoverStarted", "FailoverStarted"][..],
                    if fault == Fault::PodForceDeleted {
                        2
                    } else {
                        1
                    },
                ),
            ] {
                let events: Vec<Event> = reasons.iter().map(event).collect();
                let moves = told_of(&events, &MOVES);
                assert_eq!(moves.len(), reasons.len());
                assert_eq!(most_terms(fault, &moves), most, "{fault:?} {reasons:?}");
            }
        }
        let other = [event(&"RestartedInPlace")];
        assert!(told_of(&other, &MOVES).is_empty());
    }
}
