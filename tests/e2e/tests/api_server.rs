//! The API server away: databases serve without it, a primary that is started again goes on in its own term, and a change of
//! roles waits for it, however far it has come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use understudy_cluster::command::wait_for;
use understudy_e2e::database::{Database, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::ledger::{Acknowledged, Ledger, Way, first_above, longest_pause};
use understudy_e2e::results::Entry;
use understudy_e2e::round::{await_failover, noted_ledger, place};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge_into};
use understudy_tests::local::now_ms;

const SETTLE: Duration = Duration::from_secs(3);
/// How long an operator gets to do what it must not do.
const TEMPTATION: Duration = Duration::from_secs(15);
/// A database that goes on serving has no longer pause than this, on a machine that is busy: the longest that was ever
/// measured while the API server was away was 0.4 s.
const SERVES_MS: u64 = 5_000;
/// Rows of a second of one that goes on, at least: its two clients wait 5 and 40 ms after each.
const SERVES_ROWS: u64 = 10;
/// In so many percent of all seconds one that goes on acknowledges rows.
const SERVES_PERCENT: u64 = 75;
/// What the API server is asked to see that it is away.
const NODES: [&str; 3] = ["get", "nodes", "--request-timeout=2s"];
/// So often a failover is begun at most to catch one in its middle.
const TRIES: u32 = 5;

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
    let space = database.space;
    let mut entry = Entry::begin(&space.settings, &space.test, variant, round);
    std::thread::sleep(SETTLE);
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    let pause = longest_pause(&ledger.rows(), (since_ms, now_ms()), Way::is_service);
    entry.seconds("longest pause of writes", pause as f64 / 1000.0);
    judge_into(database, ledger, &mut entry);
}

/// In how many of the whole seconds between two moments rows were acknowledged through the Service, and of how many.
fn seconds_with_rows(rows: &[Acknowledged], (from_ms, to_ms): (u64, u64)) -> (u64, u64) {
    let all = (to_ms - from_ms) / 1000;
    let of_service = rows.iter().filter(|row| row.way.is_service());
    let since = of_service.filter_map(|row| row.at_ms.checked_sub(from_ms));
    let seconds: BTreeSet<u64> = since.map(|ms| ms / 1000).filter(|s| *s < all).collect();
    (seconds.len() as u64, all)
}

/// What was written between two moments is what a database writes that goes on all the time: it stands still at no moment
/// for long, and not at many.
#[track_caller]
fn went_on(rows: &[Acknowledged], within: (u64, u64)) {
    let pause = longest_pause(rows, within, Way::is_service);
    let is_within = |row: &&Acknowledged| (within.0..=within.1).contains(&row.at_ms);
    let of_service = rows.iter().filter(|row| row.way.is_service());
    let count = of_service.filter(is_within).count() as u64;
    let (served, seconds) = seconds_with_rows(rows, within);
    println!("{count} rows in {served} of {seconds} seconds; writes paused for at most {pause} ms");
    assert!(
        pause < SERVES_MS,
        "BROKEN PROMISE: writes paused for {pause} ms of {seconds} s"
    );
    assert!(
        count >= SERVES_ROWS * seconds,
        "BROKEN PROMISE: only {count} rows in {seconds} s"
    );
    assert!(
        served * 100 >= seconds * SERVES_PERCENT,
        "BROKEN PROMISE: rows in only {served} of {seconds} s"
    );
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
    went_on(&ledger.rows(), (begin_ms, end_ms));
    std::thread::sleep(Duration::from_secs(10));
    settle(&database, &ledger, writers, ("load", 1), begin_ms);
    assert_eq!(database.term(), term, "BROKEN PROMISE: the role has moved");
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
    assert_eq!(
        early, None,
        "BROKEN PROMISE: somebody took over without the record"
    );
    space.cluster.continue_api_server().expect("continued");
    // Who leads then must not take the primary for lost.
    std::thread::sleep(TEMPTATION);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    let now = (database.primary(), database.term());
    assert_eq!(now, (primary, term), "BROKEN PROMISE: the role has moved");
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
        assert_eq!(
            early, None,
            "BROKEN PROMISE: somebody took over without the record"
        );
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
            "BROKEN PROMISE: a failover was told of while nobody could write it"
        );
    }
    let mut rounds = 1..=TRIES;
    let caught = rounds.any(|n| dies_without_an_api_server(&database, &ledger, (false, away), n));
    assert!(caught, "no failover was caught in its middle");
}

#[test]
fn a_database_that_stands_still_for_most_of_the_time_does_not_go_on() {
    let row = |at_ms: u64| Acknowledged {
        id: 0,
        term: 1,
        sent_ms: at_ms,
        at_ms,
        way: Way::Service,
    };
    let of_seconds = |seconds: std::ops::Range<u64>, apart_ms: usize| -> Vec<Acknowledged> {
        let times = (seconds.start * 1_000..seconds.end * 1_000).step_by(apart_ms);
        times.map(row).collect()
    };
    let is_refused = |rows: &[Acknowledged]| {
        std::panic::catch_unwind(|| went_on(rows, (10_000, 70_000))).is_err()
    };
    assert!(!is_refused(&of_seconds(10..70, 20)));
    assert!(!is_refused(
        &[of_seconds(10..40, 20), of_seconds(43..70, 20)].concat()
    ));
    // A pause that is too long, and many that are not.
    assert!(is_refused(
        &[of_seconds(10..40, 20), of_seconds(46..70, 20)].concat()
    ));
    let now_and_then = (10..70).step_by(4).map(|s| of_seconds(s..s + 1, 10));
    assert!(is_refused(&now_and_then.flatten().collect::<Vec<_>>()));
    assert!(is_refused(&of_seconds(10..70, 500)), "two rows a second");
    let behind = of_seconds(70..130, 20);
    assert!(is_refused(&behind), "of another time");
}
