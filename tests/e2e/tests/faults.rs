//! Every way in which a primary can be lost, with clients that write all the time and keep a ledger: nothing that was
//! acknowledged is missing, nobody acknowledges in an older term once a newer one has, and at the end everything is as
//! strong as before. `FAULT` names one of them, `ROUNDS` says how often.

use understudy_cluster::command::wait_for;
use understudy_e2e::database::{Database, is_true, says};
use understudy_e2e::faults::{Fault, provide_disks};
use understudy_e2e::round::{noted_ledger, run};
use understudy_e2e::settings::{LIMIT, Settings};
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};

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

/// A standby's disk would be as full: nothing is gained by moving the role. Reads go on, and removing data is possible.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_full_disk_is_a_condition_that_stops_writes_and_moves_no_role() {
    if let Some(fault) = Settings::from_env().fault() {
        println!("only {fault} is asked for");
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
