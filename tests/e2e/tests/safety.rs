//! The second half of safety: old primaries, old processes and old volumes come back, copies are missing, the record is
//! gone. No split, no loss, no endless wait: either it goes on, or a condition says what to do and doing it works.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::command::{run, system, wait_for};
use understudy_cluster::config::Volume;
use understudy_e2e::calls;
use understudy_e2e::controller;
use understudy_e2e::database::{Database, HTTP_PORT, Instance, POSTGRES_PORT, says, spec};
use understudy_e2e::faults::{CutOff, Fault, FrozenNode, Made, Victim, await_awake};
use understudy_e2e::history::sets;
use understudy_e2e::ledger::{Acknowledged, Ledger, Way, overtaken};
use understudy_e2e::results::{Entry, Line};
use understudy_e2e::round::{await_failover, await_role_change, noted_ledger, spread_out};
use understudy_e2e::session::Session;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{TABLE, Who, Writers, judge, judge_into};
use understudy_tests::local::now_ms;

/// How long something old gets to do harm.
const HARM: Duration = Duration::from_secs(5);

/// A database with so many standbys, its ledger, its clients. Each instance is on a node of its own, which may be cut
/// off without another one.
fn begin<'a>(space: &'a Space, replicas: u32) -> (Database<'a>, Arc<Ledger>, Writers) {
    begin_as(space, &spec(replicas))
}

/// The same as a manifest of its own says.
fn begin_as<'a>(space: &'a Space, spec: &Value) -> (Database<'a>, Arc<Ledger>, Writers) {
    let database = Database::create(space, "orders", spec);
    spread_out(&database);
    let ledger = noted_ledger(space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    (database, ledger, writers)
}

/// Full strength, more rows, and both promises kept.
#[track_caller]
fn end(database: &Database<'_>, ledger: &Ledger, writers: Writers) {
    let space = database.space;
    let mut entry = Entry::begin(&space.settings, &space.test, "", 1);
    std::thread::sleep(Duration::from_secs(3));
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    judge_into(database, ledger, &mut entry);
}

/// The primary, a standby whose node can be cut off as well, and one whose node has an operator that goes on.
fn apart(database: &Database<'_>) -> [Instance; 3] {
    for _ in 0..5 {
        let operators = controller::pods(&database.space.cluster).expect("the operator's pods");
        let primary = database.instance(&database.primary());
        let mut standbys = database.instances();
        standbys.retain(|instance| instance.name != primary.name);
        let has_operator = |i: &&Instance| operators.iter().any(|pod| pod.node == i.node);
        if let Some(here) = standbys.iter().find(has_operator).cloned() {
            let away = standbys.into_iter().find(|i| i.name != here.name);
            return [primary, away.expect("two standbys"), here];
        }
        // Both operators are where the primary is.
        database.switch_to(&standbys[0].name);
    }
    panic!("the operators move all the time");
}

/// One of two standbys cannot say whether it holds what the lost primary acknowledged: nobody takes over by guessing.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_blocked_failover_goes_on_when_the_old_primary_returns() {
    let space = Space::share("blocked");
    let (database, ledger, writers) = begin(&space, 2);
    let [primary, away, _] = apart(&database);
    let term = database.term();
    let mut cut = CutOff::now(&space, vec![away.node, primary.node]);
    database.wait("it is blocked and says who is missing", LIMIT, |status| {
        says(status, "FailoverBlocked") && says(status, &away.name)
    });
    let blocked = database.status();
    assert!(says(&blocked, "force-promote"), "no remedy: {blocked:#}");
    let before = ledger.count(0, |_| true);
    std::thread::sleep(HARM);
    let acknowledged = ledger.count(0, |_| true);
    assert_eq!(acknowledged, before, "somebody acknowledges");
    // The old primary comes back, and with its answer enough have answered: it may itself win.
    cut.mend(primary.node);
    writers.wait_for(20);
    assert!(database.term() > term, "the blocked term was given up");
    cut.mend(away.node);
    end(&database, &ledger, writers);
}

/// After a loss that was accepted: what was acknowledged may be gone, but is nowhere else either. One history, with one
/// primary; how many bytes of log are lost is recorded.
#[track_caller]
fn lost_in_one_history(database: &Database<'_>, ledger: &Ledger, writers: Writers) -> u64 {
    writers.wait_for(20);
    writers.finish();
    let late = overtaken(&ledger.rows()).len();
    assert_eq!(late, 0, "acknowledged in an older term");
    let lost = |status: &Value| status["lastFailover"]["lostBytes"].as_u64();
    let status = database.wait("the gap is recorded", LIMIT, |status| {
        lost(status).is_some()
    });
    lost(&status).expect("as was waited for")
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_administrator_accepts_the_loss_and_the_copy_that_is_named_takes_over() {
    let space = Space::enter("forced");
    let (database, ledger, writers) = begin(&space, 2);
    let [primary, away, here] = apart(&database);
    let here = here.name;
    let mut cut = CutOff::now(&space, vec![away.node, primary.node]);
    database.wait("it is blocked", LIMIT, |status| {
        says(status, "FailoverBlocked")
    });
    let term = database.term();
    let asked_ms = now_ms();
    // For another term it is refused.
    database.ask_for("force-promote", &format!("{here}@{}", term + 7));
    database.wait_event("ForcePromoteRefused", asked_ms);
    database.ask_for("force-promote", &format!("{here}@{term}"));
    database.wait_event("ForcePromoted", asked_ms);
    let status = await_failover(&database, term - 1);
    assert_eq!(status["lastFailover"]["forced"], true);
    assert_eq!(database.primary(), here);
    for node in [away.node, primary.node] {
        cut.mend(node);
    }
    std::thread::sleep(HARM);
    database.full_strength();
    println!(
        "lost bytes: {}",
        lost_in_one_history(&database, &ledger, writers)
    );
}

/// The standby was away when the primary was lost, which acknowledged alone by then: nobody goes on with the older copy but
/// by an administrator's word. What that costs is recorded, and the lost one comes back as a copy of the new one.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_copy_that_lacks_commits_takes_over_when_their_loss_is_accepted() {
    let space = Space::enter("forced-alone");
    let (database, ledger, writers) = begin(&space, 1);
    let standby = database.instance(&database.standbys()[0]);
    let (primary, lost_ms) = (database.primary(), now_ms());
    let mut cut = CutOff::now(&space, vec![standby.node]);
    database.wait("it says that it is not protected", LIMIT, |status| {
        says(status, "AcknowledgesAlone")
    });
    writers.wait_for(20);
    let victim = Victim::of(&database, &primary);
    let mut frozen = Made::make(Fault::ContainerFrozen, &space, victim);
    cut.mend(standby.node);
    let remedy = format!("force-promote {}@", standby.name);
    let status = database.wait("it is blocked, with a remedy", LIMIT, |status| {
        says(status, "PrimaryLost") && says(status, &remedy)
    });
    let term = status["term"].as_u64().expect("a term");
    database.ask_for("force-promote", &format!("{}@{term}", standby.name));
    for (reason, name) in [
        ("ForcePromoteAccepted", &standby.name),
        ("ForcePromoted", &standby.name),
        ("Fenced", &primary),
    ] {
        let event = database.wait_told(reason, name, lost_ms);
        println!("{reason}: {}", event.note);
    }
    let status = await_failover(&database, term);
    assert_eq!(status["lastFailover"]["forced"], true, "{status:#}");
    assert_eq!(database.primary(), standby.name);
    frozen.mend();
    std::thread::sleep(HARM);
    database.full_strength();
    let lost = lost_in_one_history(&database, &ledger, writers);
    assert!(lost > 0, "commits were lost: {:#}", database.status());
}

/// How long an instance may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A session on a standby that replay waits for, as long as it lasts: it reads a table that was emptied on the primary since.
#[track_caller]
fn holds_replay_up(database: &Database<'_>, standby: &Instance) -> Session {
    const READ: &str = "SELECT n FROM held";
    database.rows("CREATE TABLE IF NOT EXISTS held (n integer)");
    let to = SocketAddr::new(standby.address, POSTGRES_PORT);
    let mut session = Session::open(&database.access(), to, ANSWER).expect("standbys are read");
    // It may be replayed a moment later.
    wait_for("the table on the standby", LIMIT, || {
        let answer = session.query(READ)?;
        Ok(answer.error.is_none().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    for sql in ["BEGIN", READ] {
        let answer = session.query(sql).expect("an answer");
        assert_eq!(answer.error, None, "{sql}");
    }
    database.rows("TRUNCATE held");
    session
}

/// A candidate can't be promoted as long as replay waits, and dies in that time: the failover begins again, in a term above.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_candidate_that_dies_while_it_is_promoted_is_followed_in_another_term() {
    let space = Space::enter("candidate-lost");
    let mut manifest = spec(1);
    manifest["parameters"] = json!({"max_standby_streaming_delay": "-1"});
    let database = Database::create(&space, "orders", &manifest);
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let standby = database.instance(&database.standbys()[0]);
    let session = holds_replay_up(&database, &standby);
    let (term, begin_ms) = (database.term(), now_ms());
    let candidate = database.container(&standby.name);
    let victim = Victim::of(&database, &database.primary());
    let mut frozen = Made::make(Fault::ContainerFrozen, &space, victim);
    database.wait("the standby is being promoted", LIMIT, |status| {
        status["phase"] == "Promoting" && status["candidate"]["name"] == standby.name.as_str()
    });
    std::thread::sleep(HARM);
    let status = database.status();
    assert_eq!(status["phase"], "Promoting", "replay waits: {status:#}");
    candidate.kill().expect("it ran");
    let event = database.wait_told("FailoverRestarted", &standby.name, begin_ms);
    println!("{}: {}", event.reason, event.note);
    // Whichever is there first: the candidate again, or the old primary, whose frozen pod has been made anew. Nobody has
    // written in the term between them.
    await_failover(&database, term + 1);
    writers.wait_for(20);
    drop(session);
    frozen.mend();
    end(&database, &ledger, writers);
}

/// Both standbys stand still while rows are written that they have not: nothing of that is acknowledged, and they take
/// over when they have what was.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn standbys_that_are_both_behind_take_over_without_a_loss() {
    let space = Space::share("both-behind");
    let (database, ledger, writers) = begin(&space, 2);
    let term = database.term();
    let primary = database.primary();
    let victim = Victim::of(&database, &primary);
    let engines: Vec<i32> = database
        .standbys()
        .iter()
        .map(|name| database.engine(name))
        .collect();
    for pid in &engines {
        understudy_cluster::stop_process(*pid).expect("stopped");
    }
    // What was acknowledged before is heard and written down by then, on a machine that is busy.
    std::thread::sleep(Duration::from_millis(500));
    let behind_ms = now_ms();
    std::thread::sleep(Duration::from_secs(1));
    let early = ledger.count(behind_ms, |_| true);
    assert_eq!(early, 0, "acknowledged without a standby that has it");
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    for pid in &engines {
        // Its supervisor may have ended it by now, as one that does not answer.
        let _ = understudy_cluster::continue_process(*pid);
    }
    await_failover(&database, term);
    writers.wait_for(20);
    end(&database, &ledger, writers);
}

/// How long a standby stays in the in-sync set that is not there: milliseconds.
const NEVER_MS: u32 = 600_000;

/// Both standbys are in the set, and the word of one of them is enough for a commit.
fn asks_one_of_two(status: &Value) -> bool {
    let all: Vec<&Value> = sets(status).collect();
    let members = |set: &Value| set["members"].as_array().map_or(0, Vec::len);
    matches!(all[..], [set] if members(set) == 2 && set["required"] == 1)
}

/// One standby is cut off for a while, and all that is acknowledged in that time is on the other one alone. Then the primary
/// is lost for good, and both are asked: neither's name, nor that it is heard, makes the one that is behind as good.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn of_two_standbys_the_one_with_more_takes_over() {
    let space = Space::enter("one-behind");
    let mut manifest = spec(2);
    manifest["failover"] = json!({"memberLostAfterMilliseconds": NEVER_MS});
    let (database, ledger, writers) = begin_as(&space, &manifest);
    let term = database.term();
    let primary = database.instance(&database.primary());
    let mut standbys = database.instances();
    standbys.retain(|instance| instance.name != primary.name);
    // Among equals the first name wins: it is the other one's that has to.
    standbys.sort_by(|one, other| one.name.cmp(&other.name));
    let [behind, ahead] = &standbys[..] else {
        panic!("two standbys: {standbys:?}");
    };
    let mut away = CutOff::now(&space, vec![behind.node]);
    let away_ms = now_ms();
    std::thread::sleep(Duration::from_millis(500));
    writers.wait_for(100);
    let status = database.status();
    assert!(asks_one_of_two(&status), "it has left: {status:#}");
    let mut lost = CutOff::now(&space, vec![primary.node]);
    let rows = ledger.rows();
    let only_ahead = rows.iter().filter(|row| row.sent_ms > away_ms).count();
    println!("{only_ahead} rows are on {} alone", ahead.name);
    assert!(only_ahead > 0, "nothing tells the two from each other");
    away.mend(behind.node);
    await_failover(&database, term);
    let seen = database.history.since(away_ms);
    let mut candidates = seen.iter().map(|seen| &seen.object["status"]["candidate"]);
    assert!(
        candidates.all(|candidate| candidate["name"] != behind.name.as_str()),
        "BROKEN PROMISE: {} was to take over, which lacks {only_ahead} acknowledged rows\n{}",
        behind.name,
        database.history.shown()
    );
    assert_eq!(database.primary(), ahead.name, "BROKEN PROMISE: taken over");
    writers.wait_for(20);
    lost.mend(primary.node);
    end(&database, &ledger, writers);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_only_standby_takes_over() {
    let space = Space::enter("one-standby");
    let (database, ledger, writers) = begin(&space, 1);
    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    await_failover(&database, term);
    end(&database, &ledger, writers);
}

/// The standby is lost first: writes pause until the set is empty, then the primary goes on alone and says so; nobody
/// takes over from it, it comes back itself.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_primary_that_is_alone_comes_back_itself() {
    let space = Space::enter("no-standby");
    let (database, ledger, writers) = begin(&space, 1);
    let standby = database.instance(&database.standbys()[0]);
    let primary = database.primary();
    let mut cut = CutOff::now(&space, vec![standby.node]);
    database.wait("it says that it is not protected", LIMIT, |status| {
        says(status, "AcknowledgesAlone")
    });
    writers.wait_for(20);
    let victim = Victim::of(&database, &primary);
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    writers.wait_for(20);
    assert_eq!(database.primary(), primary, "nobody else has everything");
    cut.mend(standby.node);
    end(&database, &ledger, writers);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instance_without_standbys_is_restarted_with_everything() {
    let space = Space::enter("no-replicas");
    let (database, ledger, writers) = begin(&space, 0);
    let (primary, before) = (database.primary(), database.generations());
    let victim = Victim::of(&database, &primary);
    let _made = Made::make(Fault::PodForceDeleted, &space, victim);
    // The old one writes on for up to two seconds: its rows must not be taken for the new one's.
    wait_for("another pod in its place", LIMIT, || {
        let now = database.generations();
        let mut pods = now.iter().filter(|(name, _)| name.starts_with("pods/"));
        let is_another = pods.any(|(name, told)| before.get(name) != Some(told));
        Ok(is_another.then_some(()))
    })
    .expect("it is made");
    // Where its engine runs the old one has let go of the volume.
    database.engine(&primary);
    writers.wait_for(20);
    end(&database, &ledger, writers);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn two_failovers_in_a_row_lose_nothing() {
    let space = Space::share("twice");
    let (database, ledger, writers) = begin(&space, 2);
    let mut made = Vec::new();
    for _ in 0..2 {
        let term = database.term();
        let victim = Victim::of(&database, &database.primary());
        made.push(Made::make(Fault::SupervisorKilled, &space, victim));
        // At once after the first: the former primary may not even be back.
        await_failover(&database, term);
    }
    writers.wait_for(20);
    end(&database, &ledger, writers);
}

/// Sends a row to an instance that stands still, by a session of before: it is read when that wakes. What is acknowledged
/// then is in the ledger, and true is given.
fn sends_a_row(mut session: Session, to: &Instance, ledger: &Arc<Ledger>) -> JoinHandle<bool> {
    let (ledger, way) = (Arc::clone(ledger), Way::Own(to.name.as_str().into()));
    let (id, sent_ms) = (ledger.next_id(), now_ms());
    let sql = format!(
        "INSERT INTO {TABLE} VALUES ({id}) RETURNING substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    );
    std::thread::spawn(move || {
        let answer = session.query(&sql);
        println!("{way:?}: what was sent while it stood still: {answer:?}");
        let Ok(answer) = answer else { return false };
        let row = answer.rows.first().and_then(|row| row.first()?.as_deref());
        let term = row.and_then(|name| u32::from_str_radix(name, 16).ok());
        let Some(term) = term.filter(|_| answer.error.is_none()) else {
            return false;
        };
        let at_ms = now_ms();
        ledger.acknowledge(Acknowledged {
            id,
            term,
            sent_ms,
            at_ms,
            way,
        });
        true
    })
}

/// Its pod is gone as far as the API server knows, and its processes are not: its whole node stands still, kubelet and all.
/// They wake up when another is primary, and before anybody there can end them, with a session that has sent them a row.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_frozen_processes_of_a_force_deleted_pod_do_no_harm_when_they_wake() {
    let space = Space::share("ghost");
    let (database, ledger, writers) = begin(&space, 2);
    let term = database.term();
    let old = database.instance(&database.primary());
    let victim = Victim::of(&database, &old.name);
    let to = SocketAddr::new(old.address, POSTGRES_PORT);
    let session = Session::open(&database.access(), to, ANSWER).expect("the primary answers");
    session.set_limit(LIMIT).expect("it is open");
    let mut node = FrozenNode::now(&space, old.node);
    let sent = sends_a_row(session, &old, &ledger);
    let _deleted = Made::make(Fault::PodForceDeleted, &space, victim.clone());
    // Whether it says nothing or has to go is seen first.
    await_role_change(&database, term);
    writers.wait_for(20);
    std::thread::sleep(HARM);
    let sleepers = victim.sleepers();
    assert!(!sent.is_finished(), "the session is over before it wakes");
    let woken_ms = now_ms();
    node.wake_pods();
    await_awake(&sleepers);
    std::thread::sleep(HARM);
    let said = calls::peek(SocketAddr::new(old.address, HTTP_PORT), "/status");
    println!("{} says when it was woken: {said:?}", old.name);
    let own = Way::Own(old.name.as_str().into());
    let acknowledged = ledger.count(woken_ms, |way| *way == own);
    assert_eq!(
        acknowledged, 0,
        "BROKEN PROMISE: {} acknowledges after another took over from it",
        old.name
    );
    node.mend();
    database.full_strength();
    // Its process is gone by now, and with it the session.
    let acknowledged = sent.join().expect("a client does not panic");
    assert!(
        !acknowledged,
        "BROKEN PROMISE: a row of before was acknowledged"
    );
    end(&database, &ledger, writers);
}

/// Its primary would hand its role over for as long as this, if there were anybody to take it: milliseconds.
const HANDOVER_MS: u64 = 240_000;
/// When all pods are gone at the latest, on a machine that is busy.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// With clients that write to the end. The primary of a cluster that is no more waits for nobody; and whoever applies it
/// again may ask for more.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_cluster_that_is_deleted_ends_at_once_and_has_its_data_when_it_is_applied_again() {
    let space = Space::enter("applied-again");
    let mut manifest = spec(2);
    manifest["failover"] = json!({"switchoverWithinMilliseconds": HANDOVER_MS});
    let database = Database::create(&space, "orders", &manifest);
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let before = database.status();
    drop(database);
    let begin = Instant::now();
    space.kubectl(&["delete", "rcl", "orders", "--timeout=120s"]);
    wait_for("its pods to be gone", LIMIT, || {
        let pods = space.try_get(&["pods", "-l", "understudy.dev/cluster=orders"])?;
        let none = pods["items"].as_array().is_none_or(Vec::is_empty);
        Ok(none.then_some(()))
    })
    .expect("gone");
    let gone = begin.elapsed();
    writers.finish();
    let line = Line::new(&space.settings, &space.test, "", 1);
    space.keep(&line.seconds("pods gone", gone.as_secs_f64()));
    assert!(gone < GONE_WITHIN, "pods stayed for {gone:?}");
    let claims = space.get(&["pvc", "-l", "understudy.dev/cluster=orders"]);
    assert_eq!(claims["items"].as_array().map(Vec::len), Some(3));

    let mut manifest = spec(2);
    manifest["durability"] = json!("strict");
    let database = Database::create(&space, "orders", &manifest);
    let after = database.status();
    assert_eq!(after["systemId"], before["systemId"], "another database");
    assert!(after["term"].as_u64() > before["term"].as_u64(), "{after}");
    assert_eq!(after["inSync"][0]["required"], 2, "{after:#}");
    judge(&database, &ledger);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    end(&database, &ledger, writers);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_status_that_is_wiped_is_rebuilt_from_the_volumes() {
    let space = Space::share("status-wiped");
    let (database, ledger, writers) = begin(&space, 2);
    let before = database.status();
    let wiped_ms = now_ms();
    space.patch(
        "rcl/orders",
        &json!({"status": null}),
        &["--subresource=status"],
    );
    database.wait_event("RecordRebuilt", wiped_ms);
    writers.wait_for(20);
    let after = database.full_strength();
    assert_eq!(after["systemId"], before["systemId"]);
    assert!(after["term"].as_u64() > before["term"].as_u64(), "{after}");
    end(&database, &ledger, writers);
}

/// With a claim missing nobody knows whether the others have everything.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_missing_claim_blocks_the_rebuilding_and_is_named() {
    let space = Space::enter("claim-missing");
    let (database, ledger, writers) = begin(&space, 2);
    let lost = "orders-3".to_owned();
    if database.primary() == lost {
        database.switch_to("orders-1");
    }
    writers.finish();
    drop(database);
    space.kubectl(&["delete", "rcl", "orders", "--timeout=120s"]);
    let claim = format!("data-{lost}-0");
    space.kubectl(&["delete", "pvc", claim.as_str(), "--timeout=120s"]);
    let database = Database::apply(&space, "orders", &spec(2));
    database.wait("the condition names it", LIMIT, |status| {
        says(status, "VolumeMissing") && says(status, &lost)
    });
    // The remedy that it gives.
    database.patch_spec(&json!({"replicas": 1}));
    database.full_strength();
    database.patch_spec(&json!({"replicas": 2}));
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    end(&database, &ledger, writers);
}

/// A folder volume, with where its files are on this machine.
fn volume_of(database: &Database<'_>, instance: &str) -> Volume {
    let name = database.volume(instance);
    let volumes = database.space.cluster.volumes().expect("the volumes");
    let found = volumes.into_iter().find(|(v, _)| v.name == name);
    found.expect("a volume of the cluster").0
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run(system("cp").arg("-a").arg(from).arg(to)).expect("copied");
}

/// Waits until an instance has a pod, or, once it was removed, none any more that writes to its volume.
#[track_caller]
fn has_pod(space: &Space, instance: &str, wanted: bool) {
    let pod = format!("{instance}-0");
    let ask = ["get", "pod", &pod, "--ignore-not-found", "-o", "name"];
    let what = if wanted { "there" } else { "gone" };
    let waited = wait_for(&format!("{pod} to be {what}"), LIMIT, || {
        let is_there = !space.try_kubectl(&ask)?.trim().is_empty();
        Ok((is_there == wanted).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}"));
}

/// An instance whose volume is an older one, and both that have everything.
struct PutBack<'a> {
    database: &'a Database<'a>,
    name: String,
    volume: Volume,
    primary: Instance,
    other: Instance,
}

impl<'a> PutBack<'a> {
    /// It has no pod yet.
    #[track_caller]
    fn of(database: &'a Database<'a>, name: &str) -> PutBack<'a> {
        let (primary, standbys) = (database.primary(), database.standbys());
        assert_eq!(standbys.len(), 1, "one is left: {standbys:?}");
        let volume = volume_of(database, name);
        let [primary, other] = [&primary, &standbys[0]].map(|name| database.instance(name));
        let is_apart = primary.node != volume.node && other.node != volume.node;
        assert!(is_apart, "beside another: {primary:?}, {other:?}");
        PutBack {
            database,
            name: name.to_owned(),
            volume,
            primary,
            other,
        }
    }

    /// `cordon` or `uncordon`: when its pod may begin.
    #[track_caller]
    fn mark_node(&self, how: &str) {
        let cluster = &self.database.space.cluster;
        let marked = cluster.kubectl(&[how, &self.volume.node.name()]);
        marked.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What its engine says, once that is so.
    #[track_caller]
    fn says(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{}: {what}", self.name);
        let said = wait_for(&what, LIMIT, || {
            let all = self.database.try_instances()?;
            let Some(found) = all.iter().find(|instance| instance.name == self.name) else {
                return Ok(None);
            };
            let answer = calls::peek(SocketAddr::new(found.address, HTTP_PORT), "/status");
            let said = answer.map(|answer| serde_json::from_str::<Value>(&answer.body));
            Ok(said.ok().and_then(Result::ok).filter(&done))
        });
        said.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Whether it was to take over, or counted for the lost primary.
    fn took_part(&self, status: &Value) -> bool {
        let is_it = |member: &Value| member["name"] == self.name.as_str();
        let is_before = status["candidate"].is_null()
            && status["primary"]["name"] == self.primary.name.as_str();
        let mut members =
            sets(status).flat_map(|set| set["members"].as_array().into_iter().flatten());
        is_it(&status["primary"])
            || is_it(&status["candidate"])
            || (is_before && members.any(is_it))
    }

    /// The primary is cut off and the other standby stands still when it begins: it is the only copy that answers, and nobody
    /// takes over. Then the other one answers as well, and does. The primary is still away after that.
    #[track_caller]
    fn is_passed_over(&self) -> CutOff<'a> {
        let (database, space) = (self.database, self.database.space);
        let term = database.term();
        let victim = Victim::of(database, &self.other.name);
        self.mark_node("cordon");
        database.scale(2);
        has_pod(space, &self.name, true);
        let lost_ms = now_ms();
        let cut = CutOff::now(space, vec![self.primary.node]);
        // Heard for longer than the primary, so that a failover begins.
        std::thread::sleep(Duration::from_secs(1));
        let mut still = Made::make(Fault::ContainerFrozen, space, victim);
        self.mark_node("uncordon");
        database.wait("nobody takes over", LIMIT, |status| {
            says(status, "FailoverBlocked") || says(status, "PrimaryLost")
        });
        let said = self.says("its copy can be read", |said| said["consistent"] == true);
        let is_behind = said["timeline"].as_u64().is_some_and(|own| own < term);
        assert!(is_behind, "it lacks nothing of term {term}: {said:#}");
        std::thread::sleep(HARM);
        let seen = database.history.since(lost_ms);
        let mut states = seen.iter().map(|seen| &seen.object["status"]);
        let wrong = states.find(|status| self.took_part(status));
        assert_eq!(wrong, None, "BROKEN PROMISE: {} counts", self.name);
        still.mend();
        await_failover(database, term);
        assert_eq!(
            database.primary(),
            self.other.name,
            "BROKEN PROMISE: taken over without what was acknowledged"
        );
        cut
    }

    /// It has followed since, and a commit waits for its word alone: so it has everything when the other one is lost as well.
    #[track_caller]
    fn takes_over_with_everything(&self, writers: &Writers) {
        let database = self.database;
        let only_it = |status: &Value| {
            let all: Vec<&Value> = sets(status).collect();
            let is_it = |set: &Value| {
                let members = set["members"].as_array();
                members.is_some_and(
                    |all| matches!(&all[..], [one] if one["name"] == self.name.as_str()),
                )
            };
            matches!(all[..], [set] if is_it(set) && set["required"] == 1)
        };
        let status = database.wait("a commit waits for it", LIMIT, only_it);
        writers.wait_for(20);
        let said = self.says("an answer", |_| true);
        let id = &status["inSync"][0]["members"][0]["id"];
        assert_eq!(said["instance_id"], *id, "another copy counts: {said:#}");
        let of_term = "BROKEN PROMISE: it counts, and has nothing of the term that it counts in";
        assert_eq!(said["timeline"], status["term"], "{of_term}: {said:#}");
        let term = database.term();
        let victim = Victim::of(database, &self.other.name);
        let mut lost = Made::make(Fault::ContainerFrozen, database.space, victim);
        await_failover(database, term);
        assert_eq!(database.primary(), self.name, "nobody else has everything");
        writers.wait_for(20);
        lost.mend();
    }
}

/// The volume of an instance that was removed, as it was some terms ago: it must not count for what it once was. Once it has
/// followed it counts for what it has.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_old_volume_that_is_put_back_does_not_count_for_what_it_was() {
    let space = Space::enter("old-volume");
    let (database, ledger, writers) = begin(&space, 2);
    let removed = "orders-3".to_owned();
    if database.primary() == removed {
        database.switch_to("orders-1");
    }
    let folder = volume_of(&database, &removed).path;
    let old = folder.with_extension("old");
    let without = |status: &Value| status["replicas"].as_u64() == Some(1);
    let with = |status: &Value| status["replicas"].as_u64() == Some(2);
    database.scale(1);
    database.wait("one standby is left", LIMIT, without);
    has_pod(&space, &removed, false);
    copy_folder(&folder, &old);
    // Back, so that it gets a newer promise and more rows; then a term that the old copy never heard of.
    database.scale(2);
    database.wait("it is back", LIMIT, with);
    database.full_strength();
    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    await_failover(&database, term);
    std::thread::sleep(Duration::from_secs(3));
    database.full_strength();
    if database.primary() == removed {
        database.switch_to("orders-1");
    }
    database.scale(1);
    database.wait("one standby is left", LIMIT, without);
    has_pod(&space, &removed, false);
    copy_folder(&old, &folder);
    let _ = std::fs::remove_dir_all(&old);
    writers.wait_for(20);
    database.full_strength();
    let put_back = PutBack::of(&database, &removed);
    let mut cut = put_back.is_passed_over();
    put_back.takes_over_with_everything(&writers);
    cut.mend(put_back.primary.node);
    end(&database, &ledger, writers);
}
