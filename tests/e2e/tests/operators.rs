//! Operators that die at every step, freeze at every step and wake up later, act two at once, are told to leave a cluster
//! alone; a machine with every core busy. No harm is done, and what was begun is finished afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_e2e::controller::{self, Absence, HostOperator, HostOptions, mortal_program};
use understudy_e2e::database::{Database, says, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::history::sets;
use understudy_e2e::ledger::{Ledger, Way, first_above, longest_pause};
use understudy_e2e::load::{Bench, Target, fill};
use understudy_e2e::results::{self, Entry};
use understudy_e2e::round::{await_failover, noted_ledger};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge_into};
use understudy_tests::local::now_ms;

const SETTLE: Duration = Duration::from_secs(3);
/// How long an operator gets to do what it must not do.
const TEMPTATION: Duration = Duration::from_secs(15);
/// A machine of which less is used is not busy.
const BUSY_PERCENT: usize = 70;
/// What befalls nobody only because the machine is busy.
const ALARMS: [&str; 6] = [
    "FailoverStarted",
    "SwitchoverStarted",
    "InSyncSetShrunk",
    "RestartedInPlace",
    "Reseeding",
    "Fenced",
];
/// So often an operator is sent to one point of a failover at most.
const TRIES_OF_A_POINT: u32 = 3;
/// More points than a failover passes at which an operator can be told to die or to stand still.
const BEYOND: u32 = 1_000_000;
/// Among the counts of results: an operator has met its fate at this point, in the middle of a failover.
const MET: &str = "met";
/// As results name the points of operators that stand still.
const FROZEN: &str = "frozen, ";
/// Whoever counts its points down may be about to write the number, and has emptied the file for it.
const WRITES: Duration = Duration::from_millis(200);

/// An operator of the test's own, with the lease of this name. Its own name is no other run's, whose lease may be there yet.
fn operator(space: &Space, name: &str, lease: &str, die_at: Option<&Path>) -> HostOperator {
    let program = mortal_program(&space.settings);
    let options = HostOptions {
        program: program
            .unwrap_or_else(|error| panic!("{error:#}"))
            .to_owned(),
        name: format!("{name}-{}", std::process::id()),
        lease: lease.to_owned(),
        die_at: die_at.map(Path::to_owned),
    };
    HostOperator::start(space, &options)
}

/// Waits until this operator holds the lease.
fn wait_leading(space: &Space, operator: &HostOperator, lease: &str) {
    let prefix = format!("{}_", operator.name);
    let what = format!("{} to lead", operator.name);
    wait_for(&what, LIMIT, || {
        let found = space.try_get(&["lease", lease]).unwrap_or(Value::Null);
        let holder = found["spec"]["holderIdentity"].as_str().unwrap_or_default();
        Ok(holder.starts_with(&prefix).then_some(()))
    })
    .expect("it leads");
}

fn kill_primary<'a>(space: &'a Space, database: &Database<'_>) -> Made<'a> {
    let victim = Victim::of(database, &database.primary());
    Made::make(Fault::SupervisorKilled, space, victim)
}

/// As results name it; a point has no other name than its number.
fn point_named(how: &str, points: u32) -> String {
    if points == BEYOND {
        format!("{how}after all points")
    } else {
        format!("{how}after {points} points")
    }
}

/// What became of an operator that was sent to a point of a failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It has met it there, before the failover was over.
    Met,
    /// The failover was over before, after so many points.
    Missed(u32),
}

/// So many points of all, those first that were met least often so far.
fn in_turn(met: &[u32], rounds: u32) -> Vec<u32> {
    let mut met: Vec<(u32, u32)> = met.iter().copied().zip(0..).collect();
    let next = |_| {
        let (times, point) = met.iter_mut().min()?;
        *times += 1;
        Some(*point)
    };
    (0..rounds).filter_map(next).collect()
}

/// How often an operator has met its fate at each point, by what runs of this commit have left in the results file.
fn met_so_far(space: &Space, how: &str, all: u32) -> Vec<u32> {
    let settings = &space.settings;
    // A file that is not there yet has nothing.
    let lines = results::read(&settings.results).unwrap_or_default();
    let times = |point: u32| {
        let variant = point_named(how, point);
        let of_this = lines.iter().filter(|line| {
            (&line.commit, &line.test) == (&settings.commit, &space.test)
                && line.variant == variant
                && line.counts.get(MET).is_some_and(|n| *n > 0)
        });
        u32::try_from(of_this.count()).unwrap_or(u32::MAX)
    };
    (0..all).map(times).collect()
}

/// Sends operators to points of failovers, one for each, by `meet`, which is told the point and the round. The first
/// round's operator meets nothing, and tells how many points there are. In the short form the others are sent into the
/// middle of each of some parts of a failover. In the long form to each point in turn, from where runs of this commit have
/// come to so far, and once more to one that was missed.
fn go_through(space: &Space, how: &str, mut meet: impl FnMut(u32, u32) -> Fate) {
    let Fate::Missed(all) = meet(BEYOND, 0) else {
        panic!("no failover has {BEYOND} points");
    };
    assert!(all > 0, "a failover has no points");
    if !space.settings.is_long {
        let rounds = space.settings.rounds(2, 0);
        some_points(all, rounds, meet);
        return;
    }
    let chosen = in_turn(&met_so_far(space, how, all), space.settings.rounds(0, all));
    let (mut round, mut missed) = (0, Vec::new());
    for point in &chosen {
        let is_met = (0..TRIES_OF_A_POINT).any(|_| {
            round += 1;
            let fate = meet(*point, round);
            if let Fate::Missed(passed) = fate {
                println!(
                    "NOT MET: {}: the failover was over after {passed}",
                    point_named(how, *point)
                );
            }
            fate == Fate::Met
        });
        if !is_met {
            missed.push(*point);
        }
    }
    let so_far = met_so_far(space, how, all);
    let known = so_far.iter().filter(|times| **times > 0).count();
    let (tried, met) = (chosen.len(), chosen.len() - missed.len());
    println!(
        "{how}{met} of {tried} points were met: {chosen:?} without {missed:?}; all runs of this commit have met \
         {known} of the {all} points of a failover"
    );
    assert!(
        met * 3 >= tried * 2,
        "only {met} of {tried} points were met: {chosen:?} without {missed:?}"
    );
}

fn some_points(all: u32, rounds: u32, mut meet: impl FnMut(u32, u32) -> Fate) {
    let (mut most, mut met) = (all, 0);
    for round in 1..=rounds {
        match meet((2 * round - 1) * most / (2 * rounds), round) {
            Fate::Missed(passed) => most = passed.min(most),
            Fate::Met => met += 1,
        }
    }
    println!("in {met} of {rounds} rounds an operator met its fate in the middle of a failover");
    assert!(
        met * 3 >= rounds,
        "operators have hardly ever met their fate in the middle: {met} of {rounds}"
    );
}

/// An order to an operator's points, given before the fault that begins a failover.
struct Order {
    file: PathBuf,
    points: u32,
}

impl Order {
    fn give(file: &Path, how: &str, points: u32) -> Order {
        std::fs::write(file, format!("{how}{points}")).expect("written");
        Order {
            file: file.to_owned(),
            points,
        }
    }

    /// Takes it back. How many points were passed since, where nobody has met it.
    fn take_back(&self) -> Option<u32> {
        let taken = self.file.with_extension("taken");
        std::fs::rename(&self.file, &taken).ok()?;
        std::thread::sleep(WRITES);
        let left: u32 = wait_for("the number of points", LIMIT, || {
            let text = std::fs::read_to_string(&taken)?;
            Ok(text.rsplit(' ').next().and_then(|left| left.parse().ok()))
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
        Some(self.points - left)
    }
}

/// Whether the failover is over that began with a death in `term`; or the primary serves again in its own term, because
/// whoever would have begun one met its fate before.
fn is_over(database: &Database<'_>, ledger: &Ledger, (term, since_ms): (u64, u64)) -> bool {
    let status = database.status();
    let is_running = status["phase"] == "Running";
    let is_reported = status["lastFailover"]["term"].as_u64() > Some(term);
    let is_back =
        || status["term"].as_u64() == Some(term) && ledger.count(since_ms, Way::is_service) >= 20;
    is_running && (is_reported || is_back())
}

/// A round's end: full strength, both promises, a line of results.
fn settle(
    database: &Database<'_>,
    ledger: &Ledger,
    writers: Writers,
    (variant, round): (&str, u32),
    since_ms: u64,
) {
    let space = database.space;
    let mut entry = Entry::begin(&space.settings, &space.test, variant, round);
    settle_into(database, ledger, writers, &mut entry, since_ms);
}

/// The same, for a line that was begun with the round.
fn settle_into(
    database: &Database<'_>,
    ledger: &Ledger,
    writers: Writers,
    entry: &mut Entry,
    since_ms: u64,
) {
    std::thread::sleep(SETTLE);
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    let pause = longest_pause(&ledger.rows(), (since_ms, now_ms()), Way::is_service);
    entry.seconds("longest pause of writes", pause as f64 / 1000.0);
    judge_into(database, ledger, entry);
}

fn phase_of(status: &Value) -> String {
    status["phase"].as_str().unwrap_or("nothing").to_owned()
}

/// Operators one after the other, each in the place of one that has died.
struct Mortals<'a> {
    space: &'a Space,
    orders: PathBuf,
    started: u32,
    current: HostOperator,
}

impl<'a> Mortals<'a> {
    fn begin(space: &'a Space) -> Mortals<'a> {
        let orders = space.log_folder().join("die-at");
        std::fs::create_dir_all(&orders).expect("made");
        let current = operator(space, "mortal-1", "e2e", Some(&orders));
        Mortals {
            space,
            orders,
            started: 1,
            current,
        }
    }

    /// Another one; with a name of its own, because the lease may be the dead one's yet.
    fn replace(&mut self) {
        self.started += 1;
        let name = format!("mortal-{}", self.started);
        self.current = operator(self.space, &name, "e2e", Some(&self.orders));
    }
}

/// A failover whose operator dies at this point of it.
fn dies_at(
    (database, ledger): (&Database<'_>, &Arc<Ledger>),
    operators: &mut Mortals<'_>,
    points: u32,
    round: u32,
) -> Fate {
    let space = database.space;
    wait_leading(space, &operators.current, "e2e");
    database.full_strength();
    let variant = point_named("", points);
    let mut entry = Entry::begin(&space.settings, &space.test, &variant, round);
    let (term, begin_ms) = (database.term(), now_ms());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let victim = Victim::of(database, &database.primary());
    let order = Order::give(&operators.orders.join("operator"), "", points);
    let made = Made::make(Fault::SupervisorKilled, space, victim);
    let begin = Instant::now();
    let (mut phase, mut since_ms) = (None, u64::MAX);
    while !is_over(database, ledger, (term, since_ms)) {
        let shown = || database.history.shown();
        assert!(
            begin.elapsed() < LIMIT,
            "the failover has not come to its end:\n{}",
            shown()
        );
        if operators.current.has_ended() {
            since_ms = now_ms();
            phase = Some(phase_of(&database.status()));
            operators.replace();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let passed = order.take_back();
    if passed.is_none() && (operators.current.has_ended() || phase.is_none()) {
        operators.replace();
    }
    drop(made);
    if let Some(phase) = &phase {
        println!("{points} points: the operator died while the record said {phase}");
        entry.count(&format!("died while the record said {phase}"), 1);
    }
    entry.count(MET, usize::from(phase.is_some()));
    settle_into(database, ledger, writers, &mut entry, begin_ms);
    if phase.is_some() {
        Fate::Met
    } else {
        Fate::Missed(passed.unwrap_or(points))
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_operator_that_dies_at_any_step_of_a_failover_is_followed_by_one_that_finishes_it() {
    let space = Space::share("operator-deaths");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let mut operators = Mortals::begin(&space);
    go_through(&space, "", |points, round| {
        dies_at((&database, &ledger), &mut operators, points, round)
    });
}

/// What a frozen operator was about to do is refused when it wakes: somebody else has gone on.
fn freezes_at(database: &Database<'_>, ledger: &Arc<Ledger>, points: u32, round: u32) -> Fate {
    let space = database.space;
    let (first, second) = (format!("first-{round}"), format!("second-{round}"));
    let lease = format!("e2e-{round}");
    let orders = space.log_folder().join("stop-at");
    std::fs::create_dir_all(&orders).expect("made");
    let frozen = operator(space, &first, &lease, Some(&orders));
    wait_leading(space, &frozen, &lease);
    let other = operator(space, &second, &lease, None);
    database.full_strength();
    let variant = point_named(FROZEN, points);
    let mut entry = Entry::begin(&space.settings, &space.test, &variant, round);
    let (term, begin_ms) = (database.term(), now_ms());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let victim = Victim::of(database, &database.primary());
    let order = Order::give(&orders.join("operator"), "stop ", points);
    let _made = Made::make(Fault::SupervisorKilled, space, victim);
    let begin = Instant::now();
    let is_met = loop {
        if frozen.stands_still() {
            break true;
        }
        if is_over(database, ledger, (term, u64::MAX)) {
            break false;
        }
        let shown = || database.history.shown();
        assert!(
            begin.elapsed() < LIMIT,
            "the failover has not come to its end:\n{}",
            shown()
        );
        std::thread::sleep(Duration::from_millis(2));
    };
    let passed = order.take_back();
    // Where it was over before, and where it has only just been told to stand still.
    frozen.stop().expect("it ran");
    let status = database.status();
    let phase = phase_of(&status);
    println!(
        "the leader stands still after {points} points: {phase} in term {}",
        status["term"]
    );
    if is_met {
        entry.count(&format!("stood still while the record said {phase}"), 1);
    }
    entry.count(MET, usize::from(is_met));
    writers.wait_for(20);
    // The lease is taken over: the next failover is not this one's.
    wait_leading(space, &other, &lease);
    std::thread::sleep(SETTLE);
    database.full_strength();
    let term = database.term();
    let _again = kill_primary(space, database);
    await_failover(database, term);
    frozen.go_on().expect("it stands still");
    std::thread::sleep(Duration::from_secs(5));
    settle_into(database, ledger, writers, &mut entry, begin_ms);
    if is_met {
        Fate::Met
    } else {
        Fate::Missed(passed.unwrap_or(points))
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_operator_that_freezes_in_a_failover_and_wakes_after_the_next_one_does_no_harm() {
    let space = Space::enter("operator-freezes");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    go_through(&space, FROZEN, |points, round| {
        freezes_at(&database, &ledger, points, round)
    });
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn two_operators_that_both_take_themselves_for_the_leader_do_no_harm() {
    let space = Space::share("two-operators");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let mut both = ["one", "two"].map(|name| {
        let operator = operator(&space, name, &format!("lease-of-{name}"), None);
        wait_leading(&space, &operator, &format!("lease-of-{name}"));
        operator
    });
    for round in 0..space.settings.rounds(2, 5) {
        database.full_strength();
        let (term, begin_ms) = (database.term(), now_ms());
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let _made = kill_primary(&space, &database);
        await_failover(&database, term);
        settle(&database, &ledger, writers, ("", round + 1), begin_ms);
        for (operator, name) in both.iter_mut().zip(["one", "two"]) {
            assert!(!operator.has_ended(), "{} has ended", operator.name);
            wait_leading(&space, operator, &format!("lease-of-{name}"));
        }
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_leader_that_is_deleted_with_the_primary_is_followed_by_the_other_replica() {
    let space = Space::share("leader-deleted");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    for round in 0..space.settings.rounds(1, 5) {
        database.full_strength();
        let (term, begin_ms) = (database.term(), now_ms());
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let leader = controller::leader(&space.cluster).expect("a leader");
        let container = space
            .cluster
            .container(controller::NAMESPACE, &leader.name, None)
            .expect("its container");
        let victim = Victim::of(&database, &database.primary());
        // Something that lasts: a container that dies is started again by its kubelet before the other operator leads, and
        // its primary goes on in its own term.
        let mut made = Made::make(Fault::ContainerFrozen, &space, victim);
        container.kill().expect("it ran");
        await_failover(&database, term);
        made.mend();
        settle(&database, &ledger, writers, ("", round + 1), begin_ms);
    }
}

/// While a cluster is paused nobody does anything about it, whatever is asked for and whatever happens; afterwards all of
/// it is done.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_paused_cluster_is_left_alone_until_it_is_paused_no_more() {
    const REQUEST: &str = "understudy.dev/switchover-to";
    let space = Space::enter("paused");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let (term, primary) = (database.term(), database.primary());
    let (begin_ms, before) = (now_ms(), database.generations());
    let left_alone = |what: &str| {
        std::thread::sleep(TEMPTATION);
        let status = database.status();
        assert!(says(&status, "Paused"), "{what}: {status:#}");
        assert_eq!(status["phase"], "Running", "{what}");
        assert_eq!(
            (database.term(), database.primary()),
            (term, primary.clone()),
            "BROKEN PROMISE: {what}: the role has moved"
        );
        assert_eq!(
            database.generations(),
            before,
            "BROKEN PROMISE: {what}: an instance was touched"
        );
    };
    database.patch_spec(&json!({"paused": true}));
    database.wait("it says that it is paused", LIMIT, |status| {
        says(status, "Paused") && says(status, "spec.paused")
    });
    // What is asked for waits, and the database serves.
    database.patch_spec(&json!({"replicas": 3}));
    database.ask_for("switchover-to", "any");
    left_alone("a request");
    writers.wait_for(20);
    let annotations = database.object()["metadata"]["annotations"].clone();
    assert_eq!(annotations[REQUEST], "any", "{annotations}");
    // Nobody takes over.
    let victim = Victim::of(&database, &primary);
    let made = Made::make(Fault::ContainerFrozen, &space, victim);
    left_alone("a primary that stands still");
    let early = first_above(&ledger.rows(), term, |_| true);
    assert_eq!(early, None, "BROKEN PROMISE: somebody took over");
    database.patch_spec(&json!({"paused": null}));
    await_failover(&database, term);
    writers.wait_for(20);
    drop(made);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    let status = database.status();
    assert!(!says(&status, "Paused"), "{status:#}");
    assert_eq!(status["readyInstances"], 4, "{status:#}");
    let is_answered = || {
        let object = database.object();
        let annotation = object["metadata"]["annotations"].get(REQUEST);
        Ok(annotation.is_none().then_some(()))
    };
    wait_for("the request to be answered", LIMIT, is_answered)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// What was used of all processors' time, and all of it; in the kernel's ticks.
fn processor_time() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").expect("the kernel's account");
    let line = text.lines().next().unwrap_or_default();
    let ticks = line
        .split_whitespace()
        .skip(1)
        .map_while(|n| n.parse().ok());
    // What guests used, behind these, is counted in the first two already.
    let ticks: Vec<u64> = ticks.take(8).collect();
    // The fourth and the fifth were idle: without anything to wait for, and waiting for a disk.
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// The engine of every instance.
fn engines(database: &Database<'_>) -> BTreeMap<String, i32> {
    let names = database.instances().into_iter().map(|i| i.name);
    names
        .map(|name| {
            let engine = database.engine(&name);
            (name, engine)
        })
        .collect()
}

/// The first state of the record that is of another term, or with fewer members in one of its sets.
fn first_disturbed(
    states: impl IntoIterator<Item = Value>,
    term: u64,
    members: usize,
) -> Option<Value> {
    let is_disturbed = |status: &Value| {
        let count = |set: &Value| set["members"].as_array().map_or(0, Vec::len);
        status["term"].as_u64() != Some(term) || sets(status).any(|set| count(set) < members)
    };
    states.into_iter().find(is_disturbed)
}

/// Since that moment nobody was taken for lost: in every state that the record went through there were the same term and
/// the whole set, no event tells of anything else, and the engines are those that ran before.
#[track_caller]
fn undisturbed(
    database: &Database<'_>,
    (term, before): (u64, &BTreeMap<String, i32>),
    since_ms: u64,
) {
    let seen = database.history.since(since_ms).into_iter();
    let states = seen.map(|state| state.object["status"].clone());
    let disturbed = first_disturbed(states, term, before.len() - 1);
    assert_eq!(
        disturbed,
        None,
        "BROKEN PROMISE: another term, or a smaller set\n{}",
        database.history.shown()
    );
    let events = database.events(since_ms);
    let mut events = events.unwrap_or_else(|error| panic!("{error:#}"));
    events.retain(|event| ALARMS.contains(&event.reason.as_str()));
    assert!(events.is_empty(), "BROKEN PROMISE: {events:#?}");
    assert_eq!(
        engines(database),
        *before,
        "BROKEN PROMISE: an engine was restarted"
    );
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_machine_with_every_core_busy_is_no_reason_to_fail_over() {
    let space = Space::enter("busy");
    let database = Database::create(&space, "orders", &spec(2));
    let target = Target::of(&database);
    fill(&target, 5);
    database.full_strength();
    let mut entry = Entry::begin(&space.settings, "busy", "", 1);
    let (term, before, begin_ms) = (database.term(), engines(&database), now_ms());
    let seconds = if space.settings.is_long { 600 } else { 60 };
    let used_before = processor_time();
    let output = Bench::start(&target, 64, seconds).finish();
    let used_after = processor_time();
    let (used, all) = (used_after.0 - used_before.0, used_after.1 - used_before.1);
    let busy = usize::try_from(used * 100 / all.max(1)).unwrap_or_default();
    println!("processors were busy for {busy} percent of the time");
    entry.seconds("load", seconds as f64);
    entry.count("percent of processors", busy);
    undisturbed(&database, (term, &before), begin_ms);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("number of failed transactions: 0 "), "{text}");
    let tps = text.lines().find_map(|line| {
        let rest = line.strip_prefix("tps = ")?;
        rest.split(['.', ' ']).next()?.parse::<usize>().ok()
    });
    entry.count("transactions per second", tps.unwrap_or_default());
    database.full_strength();
    // What came of it a moment late.
    undisturbed(&database, (term, &before), begin_ms);
    entry.count("failovers", 0);
    assert!(
        busy >= BUSY_PERCENT,
        "the processors were busy for {busy} percent of the time only, which shows nothing"
    );
}

/// Only the operator promotes: a standby that somebody promotes by hand would be a second primary.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_promotion_by_hand_is_refused() {
    let space = Space::share("by-hand");
    let database = Database::create(&space, "orders", &spec(2));
    let term = database.term();
    let standby = database.standbys()[0].clone();
    let error = database
        .sql_in(&standby, "SELECT pg_promote()")
        .expect_err("BROKEN PROMISE: it was not refused");
    let text = format!("{error:#}");
    assert!(text.contains("pg_promote() cannot be used"), "{text}");

    let volumes = space.cluster.volumes().expect("the volumes");
    let name = database.volume(&standby);
    let (volume, _) = volumes
        .iter()
        .find(|(volume, _)| volume.name == name)
        .expect("a volume of the cluster");
    let trigger = volume.path.join("trigger");
    for text in ["", "cluster_id = x\nterm = 99\ncandidate = y\n"] {
        std::fs::write(&trigger, text).expect("written");
        wait_for("the trigger file to be put aside", LIMIT, || {
            Ok((!trigger.exists()).then_some(()))
        })
        .expect("it is refused");
        let refused = volume.path.join("trigger.refused");
        assert!(
            refused.exists(),
            "BROKEN PROMISE: it was not refused but obeyed"
        );
        let _ = std::fs::remove_file(refused);
    }
    let said = database.sql_in(&standby, "SELECT pg_is_in_recovery()");
    let said = said.expect("it answers");
    assert_eq!(
        said.trim(),
        "t",
        "BROKEN PROMISE: it is no standby any more"
    );
    database.full_strength();
    assert_eq!(database.term(), term, "BROKEN PROMISE: the role has moved");
}

#[test]
fn points_are_gone_through_in_turn_and_those_come_first_that_were_met_least() {
    assert_eq!(in_turn(&[0, 0, 0], 3), [0, 1, 2]);
    assert_eq!(in_turn(&[0, 0, 0], 5), [0, 1, 2, 0, 1]);
    // Another run goes on where the one before came to, and first to what that one missed.
    assert_eq!(in_turn(&[1, 0, 1, 0], 1), [1]);
    assert_eq!(in_turn(&[1, 0, 1, 0], 3), [1, 3, 0]);
    assert!(in_turn(&[], 3).is_empty());
}

#[test]
fn another_term_and_a_smaller_set_are_found_among_states() {
    let status = |term: u64, sizes: &[usize]| {
        let set = |size: &usize| json!({"members": vec![json!({}); *size]});
        json!({"term": term, "inSync": sizes.iter().map(set).collect::<Vec<_>>()})
    };
    let calm = [status(3, &[2]), status(3, &[2, 2])];
    assert_eq!(first_disturbed(calm.clone(), 3, 2), None);
    for other in [status(4, &[2]), status(3, &[1]), status(3, &[2, 1])] {
        let states = [calm[0].clone(), other.clone(), calm[1].clone()];
        assert_eq!(first_disturbed(states, 3, 2), Some(other));
    }
}
