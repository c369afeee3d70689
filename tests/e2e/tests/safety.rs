//! The second half of safety: old primaries, old processes and old volumes come back, copies are missing, the record is
//! gone. No split, no loss, no endless wait: either it goes on, or a condition says what to do and doing it works.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::Node;
use understudy_cluster::command::{run, system, wait_for};
use understudy_e2e::controller;
use understudy_e2e::database::{Database, Instance, POSTGRES_PORT, says, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::ledger::{Ledger, overtaken};
use understudy_e2e::results::Line;
use understudy_e2e::round::{await_failover, await_role_change, noted_ledger, spread_out};
use understudy_e2e::session::Session;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};
use understudy_tests::local::now_ms;

/// How long something old gets to do harm.
const HARM: Duration = Duration::from_secs(5);

/// A database with so many standbys, its ledger, its clients. Each instance is on a node of its own, which may be cut
/// off without another one.
fn begin<'a>(space: &'a Space, replicas: u32) -> (Database<'a>, Arc<Ledger>, Writers) {
    let database = Database::create(space, "orders", &spec(replicas));
    spread_out(&database);
    let ledger = noted_ledger(space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    (database, ledger, writers)
}

/// Full strength, more rows, and both promises kept.
#[track_caller]
fn end(database: &Database<'_>, ledger: &Ledger, writers: Writers) {
    std::thread::sleep(Duration::from_secs(3));
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    let rows = judge(database, ledger);
    let space = database.space;
    let line = Line::new(&space.settings, &space.test, "", 1)
        .count("acknowledged", rows)
        .count("missing", 0)
        .count("in an older term", 0);
    space.keep(&line);
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

/// Cuts nodes off, and mends them when it is dropped at the latest.
struct CutOff<'a> {
    space: &'a Space,
    nodes: Vec<Node>,
}

impl<'a> CutOff<'a> {
    fn now(space: &'a Space, nodes: Vec<Node>) -> CutOff<'a> {
        for node in &nodes {
            space.cluster.cut_off(*node).expect("a link");
        }
        CutOff { space, nodes }
    }

    fn mend(&mut self, node: Node) {
        self.nodes.retain(|other| *other != node);
        self.space.cluster.mend(node).expect("a link");
    }
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Err(error) = self.space.cluster.mend(*node) {
                eprintln!("{node}: {error:#}");
            }
        }
    }
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

/// How long a standby may take to answer.
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

/// Its pod is gone as far as the API server knows, and its processes are not: they wake up when another is primary.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_frozen_processes_of_a_force_deleted_pod_do_no_harm_when_they_wake() {
    let space = Space::share("ghost");
    let (database, ledger, writers) = begin(&space, 2);
    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let mut frozen = Made::make(Fault::ContainerFrozen, &space, victim.clone());
    let deleted = Made::make(Fault::PodForceDeleted, &space, victim);
    // Whether it says nothing or has to go is seen first.
    await_role_change(&database, term);
    writers.wait_for(20);
    std::thread::sleep(HARM);
    frozen.mend();
    std::thread::sleep(HARM);
    drop(deleted);
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

/// Where a folder volume's files are on this machine.
fn folder_of(space: &Space, volume: &str) -> PathBuf {
    let volumes = space.cluster.volumes().expect("the volumes");
    let found = volumes.into_iter().find(|(v, _)| v.name == volume);
    found.expect("a volume of the cluster").0.path
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run(system("cp").arg("-a").arg(from).arg(to)).expect("copied");
}

/// Waits until nobody writes to the volume of an instance that is removed.
#[track_caller]
fn is_gone(space: &Space, instance: &str) {
    let pod = format!("{instance}-0");
    let ask = [
        "get",
        "pod",
        pod.as_str(),
        "--ignore-not-found",
        "-o",
        "name",
    ];
    let gone = wait_for(&format!("{pod} to be gone"), LIMIT, || {
        let found = space.try_kubectl(&ask)?;
        Ok(found.trim().is_empty().then_some(()))
    });
    gone.unwrap_or_else(|error| panic!("{error:#}"));
}

/// The volume of an instance that was removed, as it was some terms ago: it must not count for what it once was.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_old_volume_that_is_put_back_does_not_count_for_what_it_was() {
    let space = Space::enter("old-volume");
    let (database, ledger, writers) = begin(&space, 2);
    let removed = "orders-3".to_owned();
    if database.primary() == removed {
        database.switch_to("orders-1");
    }
    let folder = folder_of(&space, &database.volume(&removed));
    let old = folder.with_extension("old");
    let without = |status: &Value| status["replicas"].as_u64() == Some(1);
    let with = |status: &Value| status["replicas"].as_u64() == Some(2);
    database.scale(1);
    database.wait("one standby is left", LIMIT, without);
    is_gone(&space, &removed);
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
    is_gone(&space, &removed);
    copy_folder(&old, &folder);
    database.scale(2);
    database.wait("it is back", LIMIT, with);
    writers.wait_for(20);
    database.full_strength();
    let _ = std::fs::remove_dir_all(&old);
    end(&database, &ledger, writers);
}
