//! Every way in which a primary can be lost, with clients that write all the time and keep a ledger: nothing that was
//! acknowledged is missing, nobody acknowledges in an older term once a newer one has, and at the end everything is as
//! strong as before. `FAULT` names one of them, `ROUNDS` says how often. Besides what is no loss of a primary by itself: full
//! disks, and programs that stand still and are woken by nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_cluster::process::run_state;
use understudy_cluster::stop_process;
use understudy_e2e::calls;
use understudy_e2e::database::{Database, HTTP_PORT, Instance, is_true, says, spec};
use understudy_e2e::faults::{Fault, provide_disks};
use understudy_e2e::ledger::{Ledger, Way, longest_pause};
use understudy_e2e::results::Line;
use understudy_e2e::round::{await_failover, noted_ledger, run};
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

/// After something happened to an instance, until what the status says is of the time since.
const SETTLE: Duration = Duration::from_secs(3);
/// A primary that is heard by its standbys all the while is not taken for lost, on a machine that keeps programs waiting;
/// milliseconds.
const PATIENT_MS: u32 = 8_000;

/// A process that stands still, and is woken by nobody.
struct Hanging {
    pid: i32,
    since: Instant,
    begin_ms: u64,
}

impl Hanging {
    #[track_caller]
    fn begin(pid: i32) -> Hanging {
        let (since, begin_ms) = (Instant::now(), now_ms());
        stop_process(pid).unwrap_or_else(|error| panic!("{error:#}"));
        Hanging {
            pid,
            since,
            begin_ms,
        }
    }

    /// Waits until somebody has ended it. Gives how long that took.
    #[track_caller]
    fn await_end(&self, what: &str) -> Duration {
        let has_ended = || Ok((run_state(self.pid) != Some('T')).then_some(()));
        wait_for(&format!("the end of {what}"), 2 * LIMIT, has_ended)
            .unwrap_or_else(|error| panic!("{error:#}"));
        let took = self.since.elapsed();
        println!(
            "{what} was ended {:.1} s after it stood still",
            took.as_secs_f64()
        );
        took
    }

    /// Full strength, more rows, both promises, a line of results. Gives how many copies were seeded anew.
    #[track_caller]
    fn settle(
        &self,
        database: &Database<'_>,
        ledger: &Ledger,
        writers: Writers,
        (variant, round, took): (&str, u32, Duration),
    ) -> usize {
        std::thread::sleep(SETTLE);
        database.full_strength();
        writers.wait_for(20);
        let end_ms = now_ms();
        writers.finish();
        let rows = judge(database, ledger);
        let pause = longest_pause(&ledger.rows(), (self.begin_ms, end_ms), Way::is_service);
        let events = database.events(self.begin_ms);
        let events = events.unwrap_or_else(|error| panic!("{error:#}"));
        let seeded = events.iter().filter(|event| event.reason == "Reseeding");
        let seeded = seeded.count();
        let space = database.space;
        let line = Line::new(&space.settings, &space.test, variant, round)
            .seconds("ended", took.as_secs_f64())
            .seconds("longest pause of writes", pause as f64 / 1000.0)
            .count("seeded anew", seeded)
            .count("acknowledged", rows)
            .count("missing", 0);
        space.keep(&line);
        seeded
    }
}

/// Its supervisor asks it for a minute, and a last time: nobody else would end it. The other standby is enough for a quorum.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_s_engine_that_hangs_is_ended_and_begins_anew() {
    if another_fault_is_asked_for() {
        return;
    }
    let space = Space::enter("standby-engine-hangs");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let (primary, term) = (database.primary(), database.term());
    let standby = database.standbys()[0].clone();
    let engine = database.engine(&standby);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let hanging = Hanging::begin(engine);
    database.wait_event("InSyncSetShrunk", hanging.begin_ms);
    writers.wait_for(20);
    let took = hanging.await_end(&format!("the engine of {standby}"));
    let event = database.wait_told("RestartedInPlace", &standby, hanging.begin_ms);
    println!("{}: {}", event.reason, event.note);
    let seeded = hanging.settle(&database, &ledger, writers, ("", 1, took));
    assert_eq!(seeded, 0, "it has what it had, and had only to connect");
    let now = (database.primary(), database.term());
    assert_eq!(now, (primary, term), "the role has moved");
}

/// The engine goes on: a primary serves as long as its standbys hear it, and is told of. Its kubelet ends the container, and
/// only then a standby takes over.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_supervisor_that_hangs_is_ended_with_its_container() {
    if another_fault_is_asked_for() {
        return;
    }
    let space = Space::enter("supervisor-hangs");
    let mut manifest = spec(2);
    manifest["failover"] = json!({"lostAfterMilliseconds": PATIENT_MS});
    let database = Database::create(&space, "orders", &manifest);
    let ledger = noted_ledger(&space);
    for (round, variant) in (1..).zip(["a standby's", "the primary's"]) {
        let (primary, term) = (database.primary(), database.term());
        let is_primary_s = variant == "the primary's";
        let instance = if is_primary_s {
            primary.clone()
        } else {
            database.standbys()[0].clone()
        };
        let supervisor = database.container(&instance).pid;
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let hanging = Hanging::begin(supervisor);
        if is_primary_s {
            let status = database.wait("it is told of", LIMIT, |status| {
                says(status, "PrimaryUnheard") && says(status, &primary)
            });
            assert_eq!(status["term"].as_u64(), Some(term), "{status:#}");
        } else {
            let event = database.wait_told("InstanceNotReady", &instance, hanging.begin_ms);
            println!("{}: {}", event.reason, event.note);
        }
        writers.wait_for(20);
        let took = hanging.await_end(&format!("the supervisor of {instance}"));
        if is_primary_s {
            await_failover(&database, term);
            assert_ne!(database.primary(), primary, "nobody took over");
        }
        hanging.settle(&database, &ledger, writers, (variant, round, took));
        if !is_primary_s {
            let now = (database.primary(), database.term());
            assert_eq!(now, (primary, term), "the role has moved");
        }
    }
}
