//! Operators that die at every step, freeze and wake up later, act two at once, are told to leave a cluster alone; an API
//! server that is away; a machine with every core busy. No harm is done, and what was begun is finished afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_e2e::controller::{self, Absence, HostOperator, HostOptions, mortal_program};
use understudy_e2e::database::{Database, says, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::ledger::{Ledger, Way, first_above, longest_pause};
use understudy_e2e::load::{Bench, Target, fill};
use understudy_e2e::results::Line;
use understudy_e2e::round::{await_failover, noted_ledger, place};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};
use understudy_tests::local::now_ms;

const SETTLE: Duration = Duration::from_secs(3);
/// How long an operator gets to do what it must not do.
const TEMPTATION: Duration = Duration::from_secs(15);
/// A database that goes on serving has no longer pause than this, on a machine that is busy.
const SERVES_MS: u64 = 20_000;
/// What the API server is asked to see that it is away.
const NODES: [&str; 3] = ["get", "nodes", "--request-timeout=2s"];
/// So often a failover is begun at most to catch one in its middle.
const TRIES: u32 = 5;
/// More points than a failover passes at which an operator can be told to die or to stand still.
const BEYOND: u32 = 1_000_000;
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

/// How many points are passed before this round's operator meets its fate, where a failover has so many: in the middle of
/// each part of it. The first round's meets none, and tells how many there are.
fn points_of(round: u32, rounds: u32, of: u32) -> u32 {
    if round == 0 {
        return BEYOND;
    }
    (2 * round - 1) * of / (2 * rounds)
}

/// As results name it.
fn point_named(points: u32) -> String {
    if points == BEYOND {
        "after all points".to_owned()
    } else {
        format!("after {points} points")
    }
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
        let passed = self.points - left;
        println!(
            "{} points: the failover was over before, after {passed}",
            self.points
        );
        Some(passed)
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

/// Waits until the record is so, and gives the status as it was then.
#[track_caller]
fn reached(
    database: &Database<'_>,
    since_ms: u64,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Value {
    let begin = Instant::now();
    loop {
        let seen = database.history.since(since_ms);
        let mut all = seen.iter().map(|state| &state.object["status"]);
        if let Some(status) = all.find(|status| is(status)) {
            return status.clone();
        }
        assert!(begin.elapsed() < LIMIT, "{what}: was never seen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A round's end: full strength, both promises, a line of results.
fn settle(
    database: &Database<'_>,
    ledger: &Ledger,
    writers: Writers,
    (variant, round): (&str, u32),
    since_ms: u64,
) {
    std::thread::sleep(SETTLE);
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    let rows = judge(database, ledger);
    let pause = longest_pause(&ledger.rows(), (since_ms, now_ms()), Way::is_service);
    let space = database.space;
    let line = Line::new(&space.settings, &space.test, variant, round)
        .seconds("longest pause of writes", pause as f64 / 1000.0)
        .count("acknowledged", rows)
        .count("missing", 0);
    space.keep(&line);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_operator_that_dies_at_any_step_of_a_failover_is_followed_by_one_that_finishes_it() {
    let space = Space::share("operator-deaths");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let die_at: PathBuf = space.log_folder().join("die-at");
    std::fs::create_dir_all(&die_at).expect("made");
    let death = die_at.join("operator");
    // Each with a name of its own: the lease may be a dead one's yet.
    let mut started = 0;
    let mut start = || {
        started += 1;
        let name = format!("mortal-{started}");
        operator(&space, &name, "e2e", Some(&die_at))
    };
    let mut current = start();
    let rounds = space.settings.rounds(2, 30);
    let (mut most, mut cut_short) = (BEYOND, 0);
    for round in 0..=rounds {
        wait_leading(&space, &current, "e2e");
        database.full_strength();
        let points = points_of(round, rounds, most);
        let (term, begin_ms) = (database.term(), now_ms());
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let victim = Victim::of(&database, &database.primary());
        let order = Order::give(&death, "", points);
        let made = Made::make(Fault::SupervisorKilled, &space, victim);
        let begin = Instant::now();
        let (mut deaths, mut since_ms) = (0, u64::MAX);
        while !is_over(&database, &ledger, (term, since_ms)) {
            assert!(begin.elapsed() < LIMIT, "{}", database.history.shown());
            if current.has_ended() {
                deaths += 1;
                since_ms = now_ms();
                current = start();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(passed) = order.take_back() {
            most = passed.min(most);
        } else if current.has_ended() || deaths == 0 {
            current = start();
        }
        drop(made);
        println!("{points} points: {deaths} deaths during the failover");
        cut_short += u32::from(deaths > 0);
        let variant = point_named(points);
        settle(&database, &ledger, writers, (&variant, round), begin_ms);
    }
    println!("in {cut_short} of {rounds} rounds an operator died in the middle of a failover");
    assert!(
        cut_short * 3 >= rounds,
        "operators have hardly ever died in the middle: {cut_short} of {rounds}"
    );
}

/// What a frozen operator was about to do is refused when it wakes: somebody else has gone on. Gives the number of points
/// of a failover in which it was not frozen.
fn freezes_at(
    database: &Database<'_>,
    ledger: &Arc<Ledger>,
    points: u32,
    round: u32,
) -> Option<u32> {
    let space = database.space;
    let (first, second) = (format!("first-{round}"), format!("second-{round}"));
    let lease = format!("e2e-{round}");
    let orders = space.log_folder().join("stop-at");
    std::fs::create_dir_all(&orders).expect("made");
    let file = orders.join("operator");
    let frozen = operator(space, &first, &lease, Some(&orders));
    wait_leading(space, &frozen, &lease);
    let other = operator(space, &second, &lease, None);
    database.full_strength();
    let (term, begin_ms) = (database.term(), now_ms());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let victim = Victim::of(database, &database.primary());
    let order = Order::give(&file, "stop ", points);
    let _made = Made::make(Fault::SupervisorKilled, space, victim);
    let begin = Instant::now();
    while !frozen.stands_still() && !is_over(database, ledger, (term, u64::MAX)) {
        assert!(begin.elapsed() < LIMIT, "{}", database.history.shown());
        std::thread::sleep(Duration::from_millis(2));
    }
    let passed = order.take_back();
    // Where it was over before, and where it has only just been told to stand still.
    frozen.stop().expect("it ran");
    let status = database.status();
    println!(
        "the leader stands still after {points} points: {} in term {}",
        status["phase"], status["term"]
    );
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
    let variant = format!("frozen, {}", point_named(points));
    settle(database, ledger, writers, (&variant, round), begin_ms);
    passed
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_operator_that_freezes_in_a_failover_and_wakes_after_the_next_one_does_no_harm() {
    let space = Space::enter("operator-freezes");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let rounds = space.settings.rounds(2, 20);
    let (mut most, mut in_the_middle) = (BEYOND, 0);
    for round in 0..=rounds {
        let points = points_of(round, rounds, most);
        match freezes_at(&database, &ledger, points, round) {
            Some(passed) => most = passed.min(most),
            None => in_the_middle += 1,
        }
    }
    println!("in {in_the_middle} of {rounds} rounds an operator froze in the middle of a failover");
    assert!(
        in_the_middle * 3 >= rounds,
        "operators have hardly ever frozen in the middle: {in_the_middle} of {rounds}"
    );
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

/// Databases need the API server for a change of role, and for nothing else.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn writes_go_on_while_the_api_server_is_away() {
    let space = Space::share("api-away");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    place(&database, false);
    database.full_strength();
    let term = database.term();
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let begin_ms = now_ms();
    space.cluster.stop_api_server().expect("stopped");
    std::thread::sleep(Duration::from_secs(60));
    let asked = space.try_kubectl(&NODES);
    assert!(asked.is_err(), "the API server answers: {asked:?}");
    let end_ms = now_ms();
    space.cluster.continue_api_server().expect("continued");
    let pause = longest_pause(&ledger.rows(), (begin_ms, end_ms), Way::is_service);
    println!("writes paused for at most {pause} ms while the API server was away");
    assert!(
        pause < SERVES_MS,
        "writes paused for {pause} ms of the minute"
    );
    let acknowledged = ledger.count(begin_ms, Way::is_service);
    assert!(acknowledged > 100, "only {acknowledged} rows in a minute");
    std::thread::sleep(Duration::from_secs(10));
    settle(&database, &ledger, writers, ("load", 1), begin_ms);
    assert_eq!(database.term(), term, "the role has moved");
}

/// A container that dies is started again by its kubelet, whether there is an API server or not. Nobody can say then who is
/// primary, and nobody can have become it: it goes on in its own term when the members that a commit waits for confirm that.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_primary_that_is_started_again_while_the_api_server_is_away_goes_on_in_its_own_term() {
    let space = Space::share("api-away-restart");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    place(&database, false);
    database.full_strength();
    let (primary, term) = (database.primary(), database.term());
    let (victim, before) = (Victim::of(&database, &primary), database.generations());
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let begin_ms = now_ms();
    space.cluster.stop_api_server().expect("stopped");
    // Until no operator acts any more that leads.
    std::thread::sleep(Duration::from_secs(5));
    let killed_ms = now_ms();
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    // Rows that were on their way tell nothing of whoever comes back.
    std::thread::sleep(SETTLE);
    writers.wait_for(20);
    println!(
        "writes went on within {} ms of the death",
        now_ms() - killed_ms
    );
    let asked = space.try_kubectl(&NODES);
    assert!(asked.is_err(), "the API server answers: {asked:?}");
    let early = first_above(&ledger.rows(), term, |_| true);
    assert_eq!(early, None, "somebody took over without the record");
    space.cluster.continue_api_server().expect("continued");
    // Who leads then must not take the primary for lost.
    std::thread::sleep(TEMPTATION);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    let now = (database.primary(), database.term());
    assert_eq!(now, (primary, term), "the role has moved");
    // The kubelet says so when it has an API server again.
    let is_another = || Ok((database.generations() != before).then_some(()));
    wait_for(
        "its container to have been started again",
        LIMIT,
        is_another,
    )
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// A primary's death with the API server away, for so long. Whether the failover was not over when it went: one that was
/// tells nothing.
fn dies_without_an_api_server(
    database: &Database<'_>,
    ledger: &Arc<Ledger>,
    (away_first, away): (bool, Duration),
    round: u32,
) -> bool {
    let space = database.space;
    database.full_strength();
    let term = database.term();
    let victim = Victim::of(database, &database.primary());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let begin_ms = now_ms();
    let made = if away_first {
        space.cluster.stop_api_server().expect("stopped");
        std::thread::sleep(Duration::from_secs(5));
        // Something that lasts: a container that dies is started again by its kubelet, and its primary goes on in its own
        // term.
        Made::make(Fault::ContainerFrozen, space, victim)
    } else {
        let made = Made::make(Fault::SupervisorKilled, space, victim);
        let newer = |status: &Value| status["term"].as_u64() > Some(term);
        let begun = reached(database, begin_ms, "a failover", newer);
        space.cluster.stop_api_server().expect("stopped");
        println!("seen first: {}", begun["phase"]);
        made
    };
    // What it has sent before it went is heard by then.
    std::thread::sleep(SETTLE);
    let heard = database.status();
    println!("heard last: {}", heard["phase"]);
    let in_time = heard["lastFailover"]["term"].as_u64().unwrap_or_default() <= term;
    if in_time {
        std::thread::sleep(away);
        let asked = space.try_kubectl(&NODES);
        assert!(asked.is_err(), "the API server answers: {asked:?}");
    }
    if away_first {
        let early = first_above(&ledger.rows(), term, |_| true);
        assert_eq!(early, None, "somebody took over without the record");
    }
    space.cluster.continue_api_server().expect("continued");
    writers.wait_for(20);
    await_failover(database, term);
    drop(made);
    let variant = match (away_first, in_time) {
        (true, _) => "away before the death",
        (false, true) => "away during the failover",
        (false, false) => "away after the failover",
    };
    settle(database, ledger, writers, (variant, round), begin_ms);
    in_time
}

/// A primary's death while the API server is away waits for it.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_failover_waits_for_the_api_server_and_loses_nothing() {
    let space = Space::share("api-away-failover");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let half_a_minute = Duration::from_secs(30);
    let mut away = half_a_minute;
    // The short form has the harder one only.
    if space.settings.is_long {
        away *= 2;
        let first = (true, half_a_minute);
        let in_time = dies_without_an_api_server(&database, &ledger, first, 1);
        assert!(
            in_time,
            "a failover was told of while nobody could write it"
        );
    }
    let mut rounds = 1..=TRIES;
    let caught = rounds.any(|n| dies_without_an_api_server(&database, &ledger, (false, away), n));
    assert!(caught, "no failover was caught in its middle");
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
            "{what}"
        );
        assert_eq!(database.generations(), before, "{what}");
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
    assert_eq!(early, None, "somebody took over");
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

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_machine_with_every_core_busy_is_no_reason_to_fail_over() {
    let space = Space::enter("busy");
    let database = Database::create(&space, "orders", &spec(2));
    let target = Target::of(&database);
    fill(&target, 5);
    database.full_strength();
    let term = database.term();
    let seconds = if space.settings.is_long { 600 } else { 60 };
    let before = processor_time();
    let output = Bench::start(&target, 64, seconds).finish();
    let after = processor_time();
    let (used, all) = (after.0 - before.0, after.1 - before.1);
    let busy = usize::try_from(used * 100 / all.max(1)).unwrap_or_default();
    println!("processors were busy for {busy} percent of the time");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("number of failed transactions: 0 "), "{text}");
    assert_eq!(database.term(), term, "{}", database.history.shown());
    database.full_strength();
    let tps = text.lines().find_map(|line| {
        let rest = line.strip_prefix("tps = ")?;
        rest.split(['.', ' ']).next()?.parse::<usize>().ok()
    });
    let line = Line::new(&space.settings, "busy", "", 1)
        .seconds("load", seconds as f64)
        .count("transactions per second", tps.unwrap_or_default())
        .count("percent of processors", busy)
        .count("failovers", 0);
    space.keep(&line);
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
        .expect_err("refused");
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
        assert!(refused.exists(), "it was not refused but obeyed");
        let _ = std::fs::remove_file(refused);
    }
    let said = database.sql_in(&standby, "SELECT pg_is_in_recovery()");
    assert_eq!(said.expect("it answers").trim(), "t");
    database.full_strength();
    assert_eq!(database.term(), term);
}
