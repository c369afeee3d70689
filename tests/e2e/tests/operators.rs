//! Operators that die at every step, freeze and wake up later, act two at once; an API server that is away; a machine
//! with every core busy. No harm is done, and what was begun is finished afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use understudy_cluster::command::wait_for;
use understudy_e2e::controller::{self, Absence, HostOperator, HostOptions, mortal_program};
use understudy_e2e::database::{Database, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::ledger::{Ledger, Way, longest_pause};
use understudy_e2e::load::{Bench, Target, fill};
use understudy_e2e::results::Line;
use understudy_e2e::round::{await_failover, noted_ledger, place};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};
use understudy_tests::local::now_ms;
use understudy_tests::programs::ours;

const SETTLE: Duration = Duration::from_secs(3);

/// An operator of the test's own, with the lease of this name.
fn operator(space: &Space, name: &str, lease: &str, die_at: Option<&Path>) -> HostOperator {
    let mortal = mortal_program(&space.settings).expect("the program that was named");
    let program = mortal.map_or_else(|| ours("understudy-operator"), Path::to_owned);
    let options = HostOptions {
        program,
        name: name.to_owned(),
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
    let mortal = mortal_program(&space.settings).expect("the program that was named");
    if mortal.is_none() {
        println!("skipped: UNDERSTUDY_E2E_MORTAL_OPERATOR names no operator with debug assertions");
        return;
    }
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let die_at: PathBuf = space.log_folder().join("die-at");
    std::fs::create_dir_all(&die_at).expect("made");
    let death = die_at.join("operator");
    let start = || operator(&space, "mortal", "e2e", Some(&die_at));
    let mut current = start();
    let rounds = space.settings.rounds(2, 40);
    for round in 0..rounds {
        wait_leading(&space, &current, "e2e");
        database.full_strength();
        // Spread over the steps of a failover, of which there are some forty points; in the middle of each part.
        let points = (2 * round + 1) * 20 / rounds;
        let (term, begin_ms) = (database.term(), now_ms());
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let victim = Victim::of(&database, &database.primary());
        std::fs::write(&death, points.to_string()).expect("written");
        let made = Made::make(Fault::SupervisorKilled, &space, victim);
        let begin = Instant::now();
        let is_done = |status: &Value| {
            status["phase"] == "Running" && status["lastFailover"]["term"].as_u64() > Some(term)
        };
        let mut deaths = 0;
        while !is_done(&database.status()) {
            assert!(begin.elapsed() < LIMIT, "{}", database.history.shown());
            if current.has_ended() {
                deaths += 1;
                current = start();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::fs::remove_file(&death).is_ok() {
            println!("{points} points: the failover was over before");
        } else if current.has_ended() || deaths == 0 {
            current = start();
        }
        drop(made);
        println!("{points} points: {deaths} deaths during the failover");
        settle(
            &database,
            &ledger,
            writers,
            (&format!("{points} points"), round + 1),
            begin_ms,
        );
    }
}

/// What a frozen operator was about to do is refused when it wakes: somebody else has gone on.
fn freezes_at(database: &Database<'_>, ledger: &Arc<Ledger>, phase: &str, round: u32) {
    let space = database.space;
    let (first, second) = (format!("first-{round}"), format!("second-{round}"));
    let lease = format!("e2e-{round}");
    let frozen = operator(space, &first, &lease, None);
    wait_leading(space, &frozen, &lease);
    let _other = operator(space, &second, &lease, None);
    database.full_strength();
    let (term, begin_ms) = (database.term(), now_ms());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let _made = kill_primary(space, database);
    let begin = Instant::now();
    loop {
        let seen = database.history.since(begin_ms);
        let reached = seen.iter().any(|state| {
            let status = &state.object["status"];
            status["term"].as_u64() > Some(term) && status["phase"] == phase
        });
        if reached {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "{phase} was never seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    frozen.stop().expect("it ran");
    println!("the leader stands still in {phase}");
    await_failover(database, term);
    writers.wait_for(20);
    std::thread::sleep(SETTLE);
    database.full_strength();
    let term = database.term();
    let _again = kill_primary(space, database);
    await_failover(database, term);
    frozen.go_on().expect("it stands still");
    std::thread::sleep(Duration::from_secs(5));
    settle(
        database,
        ledger,
        writers,
        (&format!("frozen in {phase}"), round),
        begin_ms,
    );
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_operator_that_freezes_in_a_failover_and_wakes_after_the_next_one_does_no_harm() {
    let space = Space::enter("operator-freezes");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let phases = ["FailingOver", "Promoting", "Running"];
    for round in 0..space.settings.rounds(2, 9) {
        let phase = phases[round as usize % phases.len()];
        freezes_at(&database, &ledger, phase, round + 1);
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn two_operators_that_both_take_themselves_for_the_leader_do_no_harm() {
    let space = Space::share("two-operators");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let _absence = Absence::begin(&space.cluster).expect("nobody else acts");
    let both = ["one", "two"].map(|name| {
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
    }
    drop(both);
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
        let made = kill_primary(&space, &database);
        container.kill().expect("it ran");
        await_failover(&database, term);
        drop(made);
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
    let end_ms = now_ms();
    space.cluster.continue_api_server().expect("continued");
    let pause = longest_pause(&ledger.rows(), (begin_ms, end_ms), Way::is_service);
    println!("writes paused for at most {pause} ms while the API server was away");
    let acknowledged = ledger.count(begin_ms, Way::is_service);
    assert!(acknowledged > 100, "only {acknowledged} rows in a minute");
    std::thread::sleep(Duration::from_secs(10));
    settle(&database, &ledger, writers, ("load", 1), begin_ms);
    assert_eq!(database.term(), term, "the role has moved");
}

/// A primary's death while the API server is away waits for it.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_failover_waits_for_the_api_server_and_loses_nothing() {
    let space = Space::share("api-away-failover");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    // The short form has the harder one only.
    let both: &[bool] = if space.settings.is_long {
        &[true, false]
    } else {
        &[false]
    };
    for (round, away_first) in (1..).zip(both.iter().copied()) {
        database.full_strength();
        let victim = Victim::of(&database, &database.primary());
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let begin_ms = now_ms();
        let made = if away_first {
            space.cluster.stop_api_server().expect("stopped");
            std::thread::sleep(Duration::from_secs(5));
            Made::make(Fault::SupervisorKilled, &space, victim)
        } else {
            // In the middle of it.
            let made = Made::make(Fault::SupervisorKilled, &space, victim);
            std::thread::sleep(Duration::from_millis(150));
            space.cluster.stop_api_server().expect("stopped");
            made
        };
        let is_long = space.settings.is_long && !away_first;
        std::thread::sleep(Duration::from_secs(if is_long { 60 } else { 30 }));
        space.cluster.continue_api_server().expect("continued");
        writers.wait_for(20);
        drop(made);
        let variant = if away_first {
            "away before the death"
        } else {
            "away during the failover"
        };
        settle(&database, &ledger, writers, (variant, round), begin_ms);
    }
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
    let output = Bench::start(&target, 32, seconds).finish();
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
