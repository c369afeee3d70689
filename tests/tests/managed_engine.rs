//! An engine under a supervisor: it obeys its promise, acknowledges only by the set of its own term, refuses to be
//! promoted by hand, and ends when it is deposed (ARCHITECTURE.md, "instance, server, operator").

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::managed::{Managed, set};
use understudy_tests::programs::{ours, run};
use understudy_tests::server::Stop;
use understudy_tests::standby::frozen;

fn wait_writable(engine: &mut Managed) -> Value {
    engine.wait("writable", |s| s["writable"] == true)
}

/// An insert that does not come to its end in a second.
fn assert_hangs(engine: &Managed, sql: &str) {
    let mut client = engine.server.client();
    client.set_read_timeout(Duration::from_secs(1));
    client.send(sql).expect("sent");
    let answer = client.answers();
    assert!(answer.is_err(), "{sql} was answered: {answer:?}");
}

#[test]
fn a_primary_acknowledges_by_its_set_only() {
    let mut engine = Managed::first("i-1", 1, &Value::Null);
    engine.server.launch();
    engine.wait("primary", |s| {
        s["role"] == "primary" && s["in_recovery"] == false
    });
    assert_eq!(engine.status()["writable"], false);
    assert_eq!(engine.status()["set"], Value::Null);
    assert_eq!(engine.http("GET", "/healthz").0, 200);
    assert_eq!(engine.http("GET", "/readyz").0, 503);
    assert_eq!(engine.http("POST", "/obey").0, 404);

    engine.promise(1, false, &set(1, 1, &[], 0));
    let status = engine.obey();
    assert_eq!(status["set"], set(1, 1, &[], 0));
    assert_eq!(status["promised_term"], 1);
    wait_writable(&mut engine);
    assert_eq!(engine.http("GET", "/readyz").0, 200);
    assert!(
        engine
            .http("GET", "/metrics")
            .1
            .contains("understudy_writable 1")
    );
    engine
        .server
        .psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");

    // A set that nobody meets: commits wait, and nobody sees them.
    engine.leave_alone();
    engine.promise(1, false, &set(1, 2, &["i-2"], 1));
    engine.obey();
    assert_hangs(&engine, "INSERT INTO t VALUES (2)");
    assert_eq!(engine.server.psql("SELECT count(*) FROM t"), "1\n");
    assert_eq!(engine.status()["set_caught_up"], false);
    // Never back to an older one.
    engine.promise(1, false, &set(1, 1, &[], 0));
    assert_eq!(engine.obey()["set"]["counter"], 2);
    assert_eq!(engine.server.psql("SELECT count(*) FROM t"), "1\n");
    // Nor by way of none.
    engine.promise(1, false, &Value::Null);
    assert_eq!(engine.obey()["set"], Value::Null);
    engine.promise(1, false, &set(1, 1, &[], 0));
    assert_eq!(engine.obey()["set"], Value::Null);
    // The next one asks nobody, but it was without the one that it needed for too long: it asks whether it still is the
    // primary first.
    engine.promise(1, false, &set(1, 3, &[], 0));
    let held = engine.obey();
    assert!(held["held"].is_u64() && held["writable"] == false, "{held}");
    assert_eq!(engine.server.psql("SELECT count(*) FROM t"), "1\n");
    // That releases what waited.
    let confirmed = engine.confirm(1);
    assert_eq!(confirmed["set_caught_up"], true);
    assert_eq!(engine.server.psql("SELECT count(*) FROM t"), "2\n");
    engine.attend();
    wait_writable(&mut engine);

    // Settings and promotions by hand are the operator's.
    let names = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    let _ = run(&mut engine.server.psql_command(names));
    engine.server.signal(rustix::process::Signal::HUP);
    assert_eq!(engine.server.psql("SHOW synchronous_standby_names"), "\n");
    let promote = run(&mut engine.server.psql_command("SELECT pg_promote()"));
    assert!(
        String::from_utf8_lossy(&promote.stderr).contains("switchover"),
        "{promote:?}"
    );

    // A higher term ends it, instead of an answer.
    engine.promise(2, true, &Value::Null);
    assert_eq!(engine.try_obey(), None);
    assert_eq!(engine.wait_exit(), Some(3));
    // It starts in recovery only.
    engine.server.launch();
    assert_eq!(engine.wait_exit(), Some(1));
    engine.promise(2, false, &Value::Null);
    engine.server.launch();
    assert_eq!(engine.wait_exit(), Some(3));
    engine.promise(2, true, &Value::Null);
    engine.make_standby();
    engine.server.launch();
    let status = engine.wait("sealed", |s| s["consistent"] == true);
    assert_eq!(status["role"], "standby");
    assert_eq!(status["sealed"], true);
    assert_eq!(status["timeline"], 1);
    assert_eq!(status["receiver"]["state"], "stopped");
    // What it may have kept to itself as a primary it does not show.
    assert_eq!(engine.http("GET", "/readyz").0, 503);
    assert_hangs(&engine, "SELECT count(*) FROM t");
}

#[test]
fn a_promise_that_is_not_for_this_instance_is_not_obeyed() {
    let mut engine = Managed::first("i-1", 3, &Value::Null);
    engine.server.launch();
    // Timeline 1 in a promised term 3.
    assert_eq!(engine.wait_exit(), Some(3));
    engine.promise(1, false, &set(1, 1, &[], 0));
    engine.server.launch();
    wait_writable(&mut engine);
    engine.id = "i-9".to_owned();
    engine.promise(2, true, &Value::Null);
    let (code, body) = engine.try_obey().expect("an answer");
    assert_eq!(code, 409, "{body}");
    wait_writable(&mut engine);
}

/// Waits until the trigger file was set aside as one that is not obeyed.
fn wait_refused(engine: &Managed) {
    let refused = engine.trigger().with_extension("refused");
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !refused.exists() {
        let log = || engine.server.log();
        assert!(std::time::Instant::now() < until, "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(refused).expect("removed");
}

/// A primary `p` with the standby `s` in its set, both streaming.
fn pair() -> (Managed, Managed) {
    let mut primary = Managed::first("p", 1, &set(1, 1, &[], 0));
    primary.server.launch();
    wait_writable(&mut primary);
    primary
        .server
        .psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let mut standby = Managed::standby_of(&primary, "s", 1);
    standby.server.launch();
    standby.wait("streaming", |s| s["receiver"]["state"] == "streaming");
    primary.promise(1, false, &set(1, 2, &["s"], 1));
    primary.obey();
    primary.wait("the set is caught up", |s| s["set_caught_up"] == true);
    (primary, standby)
}

#[test]
fn a_failover_by_hand_of_the_supervisor() {
    let (mut primary, mut standby) = pair();
    standby.leave_alone();
    primary.server.psql("INSERT INTO t VALUES (2)");
    let streams = &primary.status()["standbys"];
    assert_eq!(streams[0]["instance_id"], "s");
    assert_eq!(streams[0]["term"], 1);
    assert_eq!(streams[0]["sync_state"], "quorum");
    standby.wait("shown", |s| s["consistent"] == true);
    assert_eq!(standby.server.psql("SELECT count(*) FROM t"), "2\n");

    // Nobody promotes it but the operator: not SQL, and not a trigger file that names no term.
    let promote = run(&mut standby.server.psql_command("SELECT pg_promote()"));
    let said = String::from_utf8_lossy(&promote.stderr).into_owned();
    assert!(
        !promote.status.success() && said.contains("switchover"),
        "{said}"
    );
    for text in ["", "term=2\n", "cluster_id=another\nterm=1\ncandidate=s\n"] {
        std::fs::write(standby.trigger(), text).expect("written");
        wait_refused(&standby);
    }
    assert_eq!(standby.status()["role"], "standby");

    // Sealed: it receives nothing, so the primary acknowledges nothing.
    standby.promise(2, true, &Value::Null);
    let sealed = standby.obey();
    assert_eq!(sealed["receiver"]["state"], "stopped", "{sealed:#}");
    assert_eq!(sealed["promised_term"], 2);
    assert_eq!(sealed["timeline"], 1);
    assert_hangs(&primary, "INSERT INTO t VALUES (3)");
    assert_eq!(primary.server.psql("SELECT count(*) FROM t"), "2\n");
    let held = standby.status();
    assert_eq!(held["flush_lsn"], sealed["flush_lsn"]);

    // By hand it is not promoted, nor by a trigger of another term, candidate or cluster.
    let ctl = run(std::process::Command::new(ours("understudy"))
        .args(["pg_ctl", "promote", "-D"])
        .arg(standby.server.data()));
    assert!(!ctl.status.success(), "{ctl:?}");
    for (term, candidate) in [(2, "s"), (3, "s"), (2, "p")] {
        // Term 2 for s would be right, were the promise not sealed.
        standby.write_trigger(term, candidate);
        standby.obey();
        wait_refused(&standby);
    }
    assert_eq!(standby.status()["role"], "standby");

    // The operator's word.
    standby.promise(2, false, &set(2, 1, &["p"], 1));
    standby.write_trigger(2, "s");
    standby.obey();
    let promoted = standby.wait("promoted", |s| {
        s["role"] == "primary" && s["in_recovery"] == false
    });
    assert_eq!(promoted["timeline"], 2);
    assert_eq!(promoted["primary_term"], 2);
    assert_eq!(
        promoted["fork"],
        json!({ "timeline": 1, "lsn": sealed["flush_lsn"] })
    );
    assert_eq!(
        promoted["writable"], false,
        "nobody of the set has its end of recovery"
    );
    // An administrator may look all the same, and nobody else with him.
    let mut looks = standby.server.client();
    looks.rows("SET understudy.read_unconfirmed = on");
    assert_eq!(looks.value("SELECT count(*) FROM t"), "2");
    assert_hangs(&standby, "SELECT count(*) FROM t");
    assert_eq!(standby.status()["writable"], false);

    // The old primary is deposed, comes back in recovery, and follows as it is or not at all.
    primary.promise(2, true, &Value::Null);
    assert_eq!(primary.try_obey(), None);
    assert_eq!(primary.wait_exit(), Some(3));
    primary.make_standby();
    primary.follow(standby.server.port);
    primary.server.launch();
    let old = primary.wait("sealed and consistent", |s| s["consistent"] == true);
    assert_eq!(old["timeline"], 1);
    // Its unacknowledged insert stands behind the fork: it is diverged, and says so.
    assert_ne!(old["flush_lsn"], sealed["flush_lsn"]);

    standby.promise(2, false, &set(2, 2, &[], 0));
    standby.obey();
    // For a second and more it was without the one that it needed.
    assert_eq!(standby.status()["writable"], false);
    standby.confirm(2);
    standby.attend();
    let writable = wait_writable(&mut standby);
    assert!(writable["writable_at_ms"].as_u64() >= writable["promoted_at_ms"].as_u64());
    assert_eq!(standby.server.psql("SELECT count(*) FROM t"), "2\n");
    standby.server.psql("INSERT INTO t VALUES (4)");
}

#[test]
fn a_former_primary_that_has_not_diverged_follows_and_counts() {
    let (mut primary, mut standby) = pair();
    primary.server.psql("INSERT INTO t VALUES (2)");
    assert_eq!(primary.server.stop(Stop::Fast).code(), Some(0));
    standby.promise(2, true, &Value::Null);
    standby.obey();
    standby.promise(2, false, &set(2, 1, &["p"], 1));
    standby.write_trigger(2, "s");
    standby.obey();
    standby.wait("promoted", |s| s["primary_term"] == 2);
    primary.promise(2, true, &Value::Null);
    primary.make_standby();
    primary.follow(standby.server.port);
    primary.server.launch();
    primary.wait("sealed", |s| s["consistent"] == true);
    assert_eq!(standby.status()["writable"], false);
    // Told to follow: it streams in the new term, and its word counts.
    primary.promise(2, false, &Value::Null);
    primary.obey();
    wait_writable(&mut standby);
    standby.server.psql("INSERT INTO t VALUES (3)");
    primary.wait("streaming", |s| s["receiver"]["upstream_term"] == 2);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while primary.server.psql("SELECT count(*) FROM t") != "3\n" {
        assert!(
            std::time::Instant::now() < until,
            "{}",
            primary.server.log()
        );
    }
}

/// It was cut off, a failover was blocked, somebody accepted the loss: the standby that comes back first does not know of
/// it, and the primary would go on in a term that is over.
#[test]
fn a_primary_that_was_cut_off_acknowledges_nothing_before_the_word_for_it() {
    let (mut primary, standby) = pair();
    primary.leave_alone();
    let cut = frozen(&standby.server);
    let mut client = primary.server.client();
    client.send("INSERT INTO t VALUES (2)").expect("sent");
    client.set_read_timeout(Duration::from_secs(2));
    assert!(client.answers().is_err(), "there was no standby");
    drop(cut);
    // Now the standby has it, and says so.
    let held = primary.wait("it waits for the word", |s| {
        s["held"].is_u64() && s["standbys"][0]["flush_lsn"] == s["flush_lsn"]
    });
    assert_eq!(held["writable"], false);
    let hold = held["held"].as_u64().expect("a number");
    for (term, hold) in [(2, hold), (1, hold + 7)] {
        let (code, body) = primary.try_confirm(term, hold);
        assert_eq!(code, 409, "{body}");
    }
    client.set_read_timeout(Duration::from_secs(1));
    assert!(client.answers().is_err(), "nobody has said that it may");
    assert_eq!(primary.server.psql("SELECT count(*) FROM t"), "1\n");
    // Where the other calls are open to everybody this one is not there.
    assert_eq!(primary.http("POST", "/confirm").0, 404);
    primary.confirm(1);
    client.set_read_timeout(Duration::from_secs(60));
    let answers = client.answers().expect("released");
    assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
    primary.attend();
    assert_eq!(primary.server.psql("SELECT count(*) FROM t"), "2\n");
    primary.server.psql("INSERT INTO t VALUES (3)");
}

/// Nobody is heard, and nobody missed: it knows by the clock that it was away.
#[test]
fn a_primary_that_acknowledges_alone_and_stood_still_waits_for_the_word_too() {
    let mut primary = Managed::first("p", 1, &set(1, 1, &[], 0));
    primary.server.launch();
    wait_writable(&mut primary);
    primary.server.psql("CREATE TABLE t (a int)");
    primary.leave_alone();
    let mut client = primary.server.client();
    let still = frozen(&primary.server);
    client.send("INSERT INTO t VALUES (1)").expect("sent");
    std::thread::sleep(Duration::from_secs(2));
    drop(still);
    client.set_read_timeout(Duration::from_secs(1));
    assert!(client.answers().is_err(), "nobody has said that it may");
    let held = primary.wait("it waits for the word", |s| s["held"].is_u64());
    assert_eq!(held["writable"], false);
    // Who asks for the local disk alone is no concern of it, and sees no more than is acknowledged.
    let mut hasty = primary.server.client();
    hasty.rows("SET synchronous_commit = local");
    hasty.rows("INSERT INTO t VALUES (2)");
    assert_eq!(primary.server.psql("SELECT a FROM t"), "2\n");
    primary.confirm(1);
    client.set_read_timeout(Duration::from_secs(60));
    let answers = client.answers().expect("released");
    assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
    primary.attend();
    assert_eq!(primary.server.psql("SELECT count(*) FROM t"), "2\n");

    // `durability: async`
    primary.promise(1, false, &set(1, 2, &["s"], 0));
    primary.obey();
    wait_writable(&mut primary);
    primary.leave_alone();
    let still = frozen(&primary.server);
    std::thread::sleep(Duration::from_secs(2));
    drop(still);
    primary.server.psql("INSERT INTO t VALUES (3)");
    assert_eq!(primary.status()["held"], Value::Null);
}

/// Nobody knows for how long it was away.
#[test]
fn a_primary_that_starts_waits_for_the_word_too() {
    let (mut primary, _standby) = pair();
    primary.leave_alone();
    assert_eq!(primary.server.stop(Stop::Kill).code(), None);
    primary.server.launch();
    let held = primary.wait("its standby is there", |s| {
        s["in_recovery"] == false
            && s["held"].is_u64()
            && s["standbys"][0]["flush_lsn"] == s["flush_lsn"]
    });
    assert_eq!(held["writable"], false);
    assert_eq!(primary.http("GET", "/readyz").0, 503);
    assert_hangs(&primary, "SELECT count(*) FROM t");
    primary.confirm(1);
    primary.attend();
    wait_writable(&mut primary);
    assert_eq!(primary.server.psql("SELECT count(*) FROM t"), "1\n");
}

/// By an old address a standby may knock at another one: it would stream, and the primary would never hear of it.
#[test]
fn a_standby_that_follows_serves_no_other_one_of_its_term() {
    let (primary, standby) = pair();
    let mut lost = Managed::standby_of(&primary, "x", 1);
    lost.follow(standby.server.port);
    lost.server.launch();
    lost.wait("refused", |s| {
        let error = s["receiver"]["last_error"].as_str();
        error.is_some_and(|e| e.contains("this is a standby of the primary of term 1"))
    });
    assert_ne!(lost.status()["receiver"]["state"], "streaming");
    lost.follow(primary.server.port);
    lost.server.signal(rustix::process::Signal::HUP);
    lost.wait("streaming", |s| s["receiver"]["state"] == "streaming");
    let streams = primary.status()["standbys"].clone();
    let streams = streams.as_array().expect("a list");
    assert!(
        streams.iter().any(|s| s["instance_id"] == "x"),
        "{streams:?}"
    );
}

/// By that its operator judges a primary that it does not hear itself: by messages, because a connection outlasts its
/// process's standstill.
#[test]
fn a_standby_says_when_it_heard_its_primary_last() {
    let (primary, mut standby) = pair();
    let heard_ms = |status: &Value| status["receiver"]["heard_ms"].as_u64();
    // Nothing is written, and there is a word again and again.
    let (last, words) = (Cell::new(u64::MAX), Cell::new(0));
    standby.wait("it is spoken to", |s| {
        let now = heard_ms(s).unwrap_or(u64::MAX);
        if now < last.replace(now) {
            words.set(words.get() + 1);
        }
        words.get() >= 4
    });
    let silent = frozen(&primary.server);
    standby.wait("it hears nothing", |s| {
        s["receiver"]["state"] == "streaming" && heard_ms(s) >= Some(3_000)
    });
    drop(silent);
    standby.wait("it hears it again", |s| {
        heard_ms(s).is_some_and(|ms| ms < 3_000)
    });
    standby.promise(2, true, &Value::Null);
    let sealed = standby.obey();
    assert_eq!(heard_ms(&sealed), None, "{sealed:#}");
}

#[test]
fn what_a_standby_was_told_holds_after_its_restart() {
    let (primary, mut standby) = pair();
    primary.server.psql("INSERT INTO t VALUES (2)");
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while standby.server.psql("SELECT count(*) FROM t") != "2\n" {
        assert!(
            std::time::Instant::now() < until,
            "{}",
            standby.server.log()
        );
    }
    // The set moves on, to somebody who is not there: what is written now reaches the standby and is not released.
    primary.promise(1, false, &set(1, 3, &["x"], 1));
    primary.obey();
    assert_hangs(&primary, "INSERT INTO t VALUES (3)");
    let written = primary.status()["flush_lsn"].clone();
    standby.wait("replayed", |s| s["replay_lsn"] == written);
    assert_eq!(standby.server.psql("SELECT count(*) FROM t"), "2\n");
    assert_eq!(standby.server.stop(Stop::Fast).code(), Some(0));
    standby.promise(1, true, &Value::Null);
    standby.server.launch();
    standby.wait("replayed again", |s| {
        s["consistent"] == true && s["replay_lsn"] == written
    });
    assert_eq!(standby.server.psql("SELECT count(*) FROM t"), "2\n");
}
