//! Every way in which a primary can be lost, with clients that write all the time and keep a ledger: nothing that was
//! acknowledged is missing, nobody acknowledges in an older term once a newer one has, and at the end everything is as
//! strong as before. `FAULT` names one of them, `ROUNDS` says how often.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use understudy_cluster::command::wait_for;
use understudy_e2e::calls;
use understudy_e2e::database::{Database, HTTP_PORT, Instance, is_true, says};
use understudy_e2e::faults::{Fault, provide_disks};
use understudy_e2e::ledger::{Way, longest_pause};
use understudy_e2e::results::Line;
use understudy_e2e::round::{noted_ledger, run};
use understudy_e2e::settings::{LIMIT, Settings};
use understudy_e2e::space::Space;
use understudy_e2e::writers::{TABLE, Who, Writers, judge, no_write_failed};
use understudy_tests::local::now_ms;

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_container_dies() {
    run(Fault::SupervisorKilled);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_pod_is_force_deleted() {
    run(Fault::PodForceDeleted);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_engine_that_dies_is_restarted_in_place() {
    run(Fault::EngineKilled);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_engine_stands_still_and_wakes_up_later() {
    run(Fault::EngineStopped);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_whole_container_stands_still_and_wakes_up_later() {
    run(Fault::ContainerFrozen);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_node_is_cut_off_and_the_old_primary_acknowledges_nothing() {
    run(Fault::NodeCutOff);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_node_that_never_comes_back_costs_an_instance_until_it_is_replaced() {
    run(Fault::NodeDead);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_disk_completes_no_write() {
    run(Fault::DiskFrozen);
}

/// Left free on a disk that is full: less than what the operator keeps back of it (a twentieth of the file system), and more
/// than the next segment of the log, which may be begun before anybody has looked.
const LEFT: u64 = 32 << 20;
/// No room for another segment of the log.
const NEXT_TO_NOTHING: u64 = 1 << 20;
/// So many segments are begun to see a standby get no further. Those that keep up have room for all of them.
const SEGMENTS: u32 = 10;
/// How long it is left like that: longer than a member of the in-sync set may be silent, shorter than it takes to seed it
/// anew.
const FULL_FOR: Duration = Duration::from_secs(10);

/// A disk without room, until this is dropped.
struct Full<'a>(&'a Space, String);

impl Drop for Full<'_> {
    fn drop(&mut self) {
        let Full(space, volume) = self;
        if let Err(error) = space.cluster.empty_disk(volume) {
            eprintln!("{error:#}");
        }
    }
}

/// These have no name for `FAULT`.
fn another_fault_is_asked_for() -> bool {
    let settings = Settings::from_env();
    let Some(fault) = settings.fault() else {
        return false;
    };
    println!("only {fault} is asked for");
    true
}

/// A standby's disk would be as full: nothing is gained by moving the role. Reads go on, and removing data is possible.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_full_disk_is_a_condition_that_stops_writes_and_moves_no_role() {
    if another_fault_is_asked_for() {
        return;
    }
    let space = Space::enter("disk-full");
    provide_disks(&space);
    let database = Database::create(&space, "orders", &Fault::DiskFrozen.spec());
    let ledger = noted_ledger(&space);
    let (primary, term) = (database.primary(), database.term());
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    writers.wait_for(20);
    let volume = database.volume(&primary);
    space.cluster.fill_disk(&volume, LEFT).expect("filled");
    let full = Full(&space, volume);
    let status = database.wait("the full volume is told of", LIMIT, |status| {
        says(status, "VolumeFull") && says(status, &primary)
    });
    assert!(is_true(&status, "Degraded"), "{status:#}");
    // The condition is the supervisor's word; the engine reads it a moment later.
    wait_for("the engine to go by it", LIMIT, || {
        let said = database.sql_in(&primary, "SHOW understudy.disk_full");
        let is_on = said.is_ok_and(|said| said.trim() == "on");
        Ok(is_on.then_some(()))
    })
    .expect("it reads its settings");
    let refused = database.sql_in(&primary, "CREATE TABLE more (n int)");
    let words = format!("{:#}", refused.expect_err("there is no room"));
    assert!(words.contains("understudy.write_on_full_disk"), "{words}");
    assert_eq!(database.value("SELECT 1"), "1", "reads go on");
    let rescue =
        "SET understudy.write_on_full_disk = on; CREATE TABLE less (n int); DROP TABLE less";
    let rescued = database.sql_in(&primary, rescue);
    rescued.expect("a superuser can remove data");
    drop(full);
    writers.wait_for(20);
    database.full_strength();
    writers.finish();
    println!("{} rows", judge(&database, &ledger));
    assert_eq!(
        (database.primary(), database.term()),
        (primary, term),
        "the role has moved"
    );
}

/// Why a standby gets no further for want of room, in its own words; none while it does.
fn is_out_of_room(standby: &Instance) -> Option<String> {
    let to = SocketAddr::new(standby.address, HTTP_PORT);
    let answer = match calls::peek(to, "/status") {
        Ok(answer) => answer,
        // Its engine may have ended by it.
        Err(error) => return Some(format!("{error:#}")),
    };
    let status: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let said = status["receiver"]["last_error"].as_str();
    said.filter(|said| said.contains("No space"))
        .map(str::to_owned)
}

/// The other standby is enough for a quorum. The disk of this one has little room first, and then none.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_with_a_full_disk_is_told_of_holds_up_no_write_and_catches_up() {
    if another_fault_is_asked_for() {
        return;
    }
    let space = Space::enter("standby-disk-full");
    provide_disks(&space);
    let database = Database::create(&space, "orders", &Fault::DiskFrozen.spec());
    let ledger = noted_ledger(&space);
    let (primary, term) = (database.primary(), database.term());
    let standby = database.instance(&database.standbys()[0]);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    writers.wait_for(20);
    let begin_ms = now_ms();
    let volume = database.volume(&standby.name);
    space.cluster.fill_disk(&volume, LEFT).expect("filled");
    let full = Full(&space, volume.clone());
    let words = format!("{}: the volume is full", standby.name);
    let told = |status: &Value| is_true(status, "Degraded") && says(status, &words);
    database.wait("the full volume is told of", LIMIT, told);
    let filled = space.cluster.fill_disk(&volume, NEXT_TO_NOTHING);
    filled.expect("filled");
    let out_of_room = (0..SEGMENTS).find_map(|_| {
        let switched = database.sql_in(&primary, "SELECT pg_switch_wal()");
        switched.unwrap_or_else(|error| panic!("{error:#}"));
        writers.wait_for(20);
        is_out_of_room(&standby)
    });
    println!("{} gets no further: {out_of_room:?}", standby.name);
    std::thread::sleep(FULL_FOR);
    database.wait("it is still told of", LIMIT, told);
    writers.wait_for(20);
    drop(full);
    database.wait("it is told of no more", LIMIT, |status| {
        !says(status, &words)
    });
    database.full_strength();
    writers.wait_for(20);
    let end_ms = now_ms();
    writers.finish();
    no_write_failed(&ledger, begin_ms);
    let rows = judge(&database, &ledger);
    let count = format!("SELECT count(*) FROM {TABLE}");
    let wanted = database.value(&count);
    let has_all = || {
        let said = database.sql_in(&standby.name, &count);
        Ok(said.is_ok_and(|said| said.trim() == wanted).then_some(()))
    };
    wait_for("the standby to have every row", LIMIT, has_all)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let pause = longest_pause(&ledger.rows(), (begin_ms, end_ms), Way::is_service);
    let line = Line::new(&space.settings, &space.test, "", 1)
        .seconds("longest pause of writes", pause as f64 / 1000.0)
        .count("acknowledged", rows)
        .count("missing", 0);
    space.keep(&line);
    assert_eq!(
        (database.primary(), database.term()),
        (primary, term),
        "the role has moved"
    );
}
