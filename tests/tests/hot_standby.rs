//! Queries on a standby while it replays: who has to give way, when, and what he is told; databases and sequences as a
//! standby and its promotion show them; peers that freeze; what the views say.

use std::fs;
use std::io::Read as _;
use std::time::{Duration, Instant};

use understudy_tests::raw::{End, Raw, bind, execute, frame, parse, query};
use understudy_tests::reference::Reference;
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;
use understudy_tests::standby::{eventually, frozen};
use understudy_tests::wire::Client;

const CANCELED: &str = "canceling statement due to conflict with recovery";

fn primary() -> Server {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 256MB\nautovacuum = off");
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 500) g");
    server
}

fn standby_with(primary: &Server, settings: &str) -> Server {
    let mut standby = primary.standby("reads");
    standby.configure(settings);
    standby.start();
    primary.wait_for_stream("reads");
    primary.wait_for_replay(&standby);
    standby
}

/// A session that runs a query for long, with a snapshot and a lock on `t`.
fn running(standby: &Server) -> Client {
    let mut reader = standby.client();
    reader
        .send("SELECT count(*) FROM t a, t b, t c, t d")
        .expect("sent");
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM t a, %' AND state = 'active'";
    eventually("the query runs", || standby.psql(active).trim() == "1");
    reader
}

/// What the running query is told, within the harness's limit.
fn cancelled(reader: &mut Client, detail: &str) {
    let answers = reader.answers().expect("the session goes on");
    let error = answers.into_iter().find_map(|a| a.error);
    let error = error.expect("the query ends with an error");
    assert_eq!(
        (error.severity.as_str(), error.state.as_str()),
        ("ERROR", "40001"),
        "{error:?}"
    );
    assert_eq!(error.message, CANCELED);
    assert_eq!(error.detail.as_deref(), Some(detail));
    assert_eq!(reader.value("SELECT 1"), "1");
}

const SNAPSHOT: &str = "User query might have needed to see row versions that must be removed.";
const LOCK: &str = "User was holding a relation lock for too long.";

#[test]
fn running_queries_give_way_when_their_time_is_up() {
    for delay_ms in [0_u64, 400] {
        for round in 0..rounds(1, 5) {
            let primary = primary();
            let setting = format!("max_standby_streaming_delay = {delay_ms}");
            let standby = standby_with(&primary, &setting);
            let mut reader = running(&standby);
            primary.psql("DELETE FROM t WHERE a > 100");
            // The time counts from when replay had nothing more to do.
            primary.wait_for_replay(&standby);
            let begun = Instant::now();
            primary.psql("VACUUM t");
            cancelled(&mut reader, SNAPSHOT);
            assert!(begun.elapsed() >= Duration::from_millis(delay_ms));
            primary.wait_for_replay(&standby);
            assert_eq!(standby.psql("SELECT count(*) FROM t").trim(), "100");
            let mut reader = running(&standby);
            primary.psql(match round % 2 {
                0 => "DROP TABLE t",
                _ => "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; ALTER TABLE t RENAME TO gone; COMMIT",
            });
            cancelled(&mut reader, LOCK);
            primary.wait_for_replay(&standby);
            assert_eq!(reader.error("SELECT * FROM t").state, "42P01");
        }
    }
}

/// What a client holds who pauses in the middle of a pipeline, or sits in a failed block that a savepoint keeps, it gives
/// up only by ending: a statement that could be cancelled there is none.
#[test]
fn who_holds_a_lock_and_says_nothing_is_ended() {
    let primary = primary();
    let standby = standby_with(&primary, "max_standby_streaming_delay = 200ms");
    let mut piped = Raw::session(standby.port).expect("it answers");
    let part = [
        parse("", "SELECT a FROM t", &[]),
        bind("", "", 0, &[]),
        execute("", 1),
        frame(b'H', b""),
    ];
    piped.send(&part.concat()).expect("sent");
    let mut said = Vec::new();
    eventually("it has got a part of the rows", || {
        said.extend(piped.rest(Duration::from_millis(200)).0);
        said.iter().any(|reply| reply.tag == b's')
    });
    let mut failed = Raw::session(standby.port).expect("it answers");
    let texts = [
        "BEGIN",
        "SELECT count(*) FROM t",
        "SAVEPOINT s",
        "SELECT 1/0",
    ];
    failed.send(&texts.map(query).concat()).expect("sent");
    let (replies, end) = failed.until_ready(texts.len(), Duration::from_secs(30));
    assert_eq!(end, End::Ready, "{replies:?}");
    primary.psql("ALTER TABLE t ADD COLUMN c int");
    primary.wait_for_replay(&standby);
    for raw in [&mut piped, &mut failed] {
        let (replies, end) = raw.rest(Duration::from_secs(30));
        assert_eq!(end, End::Closed, "{replies:?}");
        let last = replies.last().expect("the reason");
        let told = (last.field(b'S'), last.field(b'C'));
        let wanted = (Some("FATAL".to_owned()), Some("40001".to_owned()));
        assert_eq!(told, wanted, "{replies:?}");
    }
}

#[test]
fn without_a_limit_replay_waits_for_the_query() {
    let primary = primary();
    let standby = standby_with(&primary, "max_standby_streaming_delay = -1");
    let mut reader = standby.client();
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    primary.psql("DELETE FROM t WHERE a > 100");
    primary.psql("VACUUM t");
    primary.psql("INSERT INTO t VALUES (1000, 'behind')");
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let received = format!(
        "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '{}') >= 0",
        end.trim()
    );
    eventually("it is received", || standby.psql(&received).trim() == "t");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    assert_eq!(
        standby.psql("SELECT count(*) FROM t WHERE a = 1000").trim(),
        "0"
    );
    reader.rows("COMMIT");
    primary.wait_for_replay(&standby);
    assert_eq!(reader.value("SELECT count(*) FROM t"), "101");
}

#[test]
fn a_primary_that_is_told_keeps_what_a_standby_reads() {
    let primary = primary();
    let standby = standby_with(
        &primary,
        "max_standby_streaming_delay = 0\nhot_standby_feedback = on\nwal_receiver_status_interval = 1s",
    );
    let mut reader = standby.client();
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    // It is told at least once a second.
    std::thread::sleep(Duration::from_secs(5));
    primary.psql("DELETE FROM t WHERE a > 100");
    primary.psql("VACUUM t");
    primary.psql("INSERT INTO t VALUES (1000, 'behind')");
    primary.wait_for_replay(&standby);
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    reader.rows("COMMIT");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "101");
}

fn ending(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    let _ = client.raw().read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn databases_come_and_go_and_their_sessions_with_them() {
    let primary = primary();
    let standby = standby_with(&primary, "max_standby_streaming_delay = -1");
    for round in 0..rounds(2, 20) {
        primary.psql("CREATE DATABASE other");
        let mut there = Client::connect_as(primary.port, "postgres", "other").expect("made");
        there.rows("CREATE TABLE own (a int)");
        there.rows("INSERT INTO own SELECT g FROM generate_series(1, 1000) g");
        drop(there);
        primary.wait_for_replay(&standby);
        let connect = || Client::connect_as(standby.port, "postgres", "other");
        let mut idle = connect().expect("it is there");
        assert_eq!(idle.value("SELECT sum(a) FROM own"), "500500");
        let mut busy = connect().expect("it is there");
        busy.send("SELECT count(*) FROM own a, own b, own c, own d")
            .expect("sent");
        let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM own a, %' AND state = 'active'";
        eventually("the query runs", || standby.psql(active).trim() == "1");
        let sql = if round % 2 == 0 {
            "DROP DATABASE other"
        } else {
            "DROP DATABASE other WITH (FORCE)"
        };
        primary.psql(sql);
        // Whoever is there has no time at all, whatever the delay.
        primary.wait_for_replay(&standby);
        for client in [&mut idle, &mut busy] {
            let said = ending(client);
            for part in [
                "SFATAL\0",
                "C57P04\0",
                "Mterminating connection due to conflict with recovery\0",
                "DUser was connected to a database that must be dropped.\0",
            ] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        eventually("nobody gets in", || {
            connect().is_err_and(|e| e.to_string().contains("3D000"))
        });
    }
    assert_eq!(
        standby
            .psql("SELECT count(*) FROM pg_database WHERE datname = 'other'")
            .trim(),
        "0"
    );
}

/// Whoever was given a number has it alone, though the server that gave it is lost.
#[test]
fn a_promoted_standby_gives_out_no_number_twice() {
    let mut primary = primary();
    primary.psql("CREATE SEQUENCE s; CREATE TABLE ids (id bigserial, who text)");
    let mut standby = standby_with(&primary, "");
    primary.configure("synchronous_standby_names = 'reads'");
    primary.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        primary.psql("SHOW synchronous_standby_names").trim() == "reads"
    });
    // The commands of a standby: reading goes, taking does not.
    let mut reader = standby.client();
    assert_eq!(reader.error("SELECT nextval('s')").state, "25006");
    for round in 0..rounds(2, 10) {
        let mut last = 0;
        let mut client = primary.client();
        for _ in 0..100 {
            last = client
                .value("SELECT nextval('s')")
                .parse::<i64>()
                .expect("a number");
        }
        let id: i64 = client
            .value("INSERT INTO ids (who) VALUES ('x') RETURNING id")
            .parse()
            .expect("a number");
        // A rolled back transaction's number was given out as well.
        client.rows("BEGIN");
        let seen: i64 = client
            .value("SELECT nextval('s')")
            .parse()
            .expect("a number");
        client.rows("ROLLBACK");
        // With nobody to keep it, a number that is not yet reserved is not given out.
        let stopped = frozen(&standby);
        let mut waiter = primary.client();
        waiter.set_read_timeout(Duration::from_millis(500));
        waiter
            .send("SELECT max(nextval('s')) FROM generate_series(1, 100)")
            .expect("sent");
        assert!(waiter.answers().is_err(), "round {round}: it was given out");
        drop(stopped);
        waiter.set_read_timeout(Duration::from_secs(60));
        let answers = waiter.answers().expect("it comes now");
        let taken = answers[0].rows[0][0].as_deref().expect("a number");
        let taken: i64 = taken.parse().expect("a number");
        primary.stop(Stop::Kill);
        // A copy of a primary that waited for standbys has none of its own yet.
        standby.configure("synchronous_standby_names = ''");
        standby.psql("SELECT pg_reload_conf()");
        assert_eq!(standby.psql("SELECT pg_promote()").trim(), "t");
        let mut client = standby.client();
        let next: i64 = client
            .value("SELECT nextval('s')")
            .parse()
            .expect("a number");
        assert!(
            next > taken && next > last && next > seen,
            "{next} after {last} {seen} {taken}"
        );
        let next: i64 = client
            .value("INSERT INTO ids (who) VALUES ('y') RETURNING id")
            .parse()
            .expect("a number");
        assert!(next > id, "{next} after {id}");
        // The next round, the other way round.
        let follower = standby_of(&standby);
        (primary, standby) = (standby, follower);
    }
}

fn standby_of(primary: &Server) -> Server {
    primary.configure("synchronous_standby_names = 'reads'");
    primary.psql("SELECT pg_reload_conf()");
    let standby = standby_with(primary, "");
    eventually("the setting is in force", || {
        primary.psql("SHOW synchronous_standby_names").trim() == "reads"
    });
    standby
}

#[test]
fn a_peer_that_freezes_is_given_up_in_time() {
    let primary = primary();
    primary.configure("wal_sender_timeout = 1s");
    primary.psql("SELECT pg_reload_conf()");
    let standby = standby_with(
        &primary,
        "wal_receiver_timeout = 1s\nwal_retrieve_retry_interval = 100ms",
    );
    for _ in 0..rounds(1, 5) {
        let stopped = frozen(&standby);
        let streams = "SELECT count(*) FROM pg_stat_replication";
        eventually("the sender gives up", || {
            primary.psql(streams).trim() == "0"
        });
        let log = primary.log();
        let line = "terminating walsender process due to replication timeout";
        assert!(log.contains(line), "{log}");
        drop(stopped);
        primary.wait_for_stream("reads");
        let stopped = frozen(&primary);
        let receiving = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        eventually("the receiver gives up", || {
            standby.psql(receiving).trim() == "0"
        });
        let log = standby.log();
        assert!(
            log.contains("terminating walreceiver due to timeout"),
            "{log}"
        );
        drop(stopped);
        primary.wait_for_stream("reads");
        primary.psql("INSERT INTO t SELECT max(a) + 1, 'y' FROM t");
        primary.wait_for_replay(&standby);
    }
}

#[test]
fn a_server_that_never_recovered_has_replayed_nothing() {
    let mut server = primary();
    server.stop(Stop::Fast);
    server.start();
    let positions = "SELECT pg_last_wal_replay_lsn() IS NULL, pg_last_wal_receive_lsn() IS NULL, pg_last_xact_replay_timestamp() IS NULL";
    assert_eq!(server.psql(positions).trim(), "t|t|t");
    let reference = Reference::started();
    let theirs = reference.client().rows(positions);
    assert_eq!(
        theirs,
        [[
            Some("t".to_owned()),
            Some("t".to_owned()),
            Some("t".to_owned())
        ]]
    );
    // After a crash both say how far replay came.
    server.psql("INSERT INTO t VALUES (-1, 'x')");
    server.stop(Stop::Kill);
    server.start();
    assert_eq!(server.psql(positions).trim(), "f|t|f");
}

/// Columns in order with their types. `inet` does not exist here yet: addresses are text, shown the same.
#[test]
fn the_views_have_postgresqls_columns() {
    let (server, reference) = (Server::started(), Reference::started());
    for view in [
        "pg_stat_replication",
        "pg_stat_wal_receiver",
        "pg_replication_slots",
        "pg_stat_activity",
    ] {
        let columns = format!(
            "SELECT attname, CASE WHEN attname = 'client_addr' THEN 'address' ELSE format_type(atttypid, atttypmod) END \
             FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0 ORDER BY attnum"
        );
        let theirs = reference.client().rows(&columns);
        assert!(theirs.len() > 10, "{view}");
        assert_eq!(server.client().rows(&columns), theirs, "{view}");
    }
}

/// Everything that a session wrote with `remote_apply` it reads on the standby at once, under load too.
#[test]
fn what_was_applied_remotely_is_read_there() {
    let primary = primary();
    let standby = standby_of(&primary);
    primary.psql("CREATE TABLE counters (who int PRIMARY KEY, n int)");
    primary.psql("INSERT INTO counters SELECT g, 0 FROM generate_series(1, 4) g");
    primary.wait_for_replay(&standby);
    std::thread::scope(|scope| {
        for who in 1..=4 {
            let (primary, standby) = (&primary, &standby);
            scope.spawn(move || {
                let (mut writer, mut reader) = (primary.client(), standby.client());
                writer.rows("SET synchronous_commit = remote_apply");
                for n in 1..=rounds(40, 1000) {
                    writer.rows(&format!("UPDATE counters SET n = {n} WHERE who = {who}"));
                    let seen = reader.value(&format!("SELECT n FROM counters WHERE who = {who}"));
                    assert_eq!(seen, n.to_string(), "writer {who}");
                }
            });
        }
    });
    assert!(fs::metadata(standby.data().join("standby.signal")).is_ok());
}

/// Replay comes before the primary's word that the commit may be seen: between the two a standby has the new file and may
/// not show its rows.
#[test]
fn a_table_that_is_emptied_and_filled_in_one_transaction_is_never_seen_empty() {
    let again =
        "BEGIN; TRUNCATE t; INSERT INTO t SELECT g, 'x' FROM generate_series(1, 500) g; COMMIT";
    let count = "SELECT count(*) FROM t";
    let primary = primary();
    // Replay that is far behind is no reason to end a query here.
    let standby = standby_with(&primary, "max_standby_streaming_delay = -1");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = primary.client();
            for _ in 0..rounds(100, 3000) {
                client.rows(again);
            }
        });
        let mut reader = standby.client();
        while !writer.is_finished() {
            assert_eq!(reader.value(count), "500");
            assert_eq!(reader.value("SELECT max(a) FROM t"), "500");
        }
    });
    // However late the word comes: with somebody else who is waited for, and who says nothing.
    let other = primary.started_standby("other");
    primary.configure("synchronous_standby_names = 'other'");
    primary.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        primary.psql("SHOW synchronous_standby_names").trim() == "other"
    });
    primary.psql("INSERT INTO t VALUES (501, 'x')");
    eventually("it is shown", || standby.psql(count).trim() == "501");
    let stopped = frozen(&other);
    let (mut writer, mut reader) = (primary.client(), standby.client());
    for (client, sql) in [(&mut writer, again), (&mut reader, count)] {
        // Long enough that the transaction has come to its commit.
        client.set_read_timeout(Duration::from_secs(2));
        client.send(sql).expect("sent");
        let early = client.answers();
        assert!(early.is_err(), "{sql}: {early:?}");
        // The commit, which waits, is replayed before it is asked for.
        primary.wait_for_replay(&standby);
    }
    drop(stopped);
    for client in [&writer, &reader] {
        client.set_read_timeout(Duration::from_secs(60));
    }
    let done = writer.answers().expect("it comes now");
    assert!(done.iter().all(|a| a.error.is_none()), "{done:?}");
    let answers = reader.answers().expect("it comes now");
    assert_eq!(answers[0].rows[0][0].as_deref(), Some("500"), "{answers:?}");
}

/// Who is in replay's way may wait himself for what has been replayed already, if replay did not tell so before it waits.
#[test]
fn replay_that_waits_for_a_query_does_not_keep_it_waiting() {
    let primary = primary();
    primary.psql("CREATE TABLE u (a int)");
    let standby = standby_with(&primary, "max_standby_streaming_delay = -1");
    let mut reader = standby.client();
    reader.rows("BEGIN");
    assert_eq!(reader.value("SELECT count(*) FROM u"), "0");
    // Both come at once, so that replay goes from one to the other without a pause.
    let stopped = frozen(&standby);
    primary.psql("TRUNCATE t");
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    primary.psql("TRUNCATE u");
    drop(stopped);
    let replayed = format!(
        "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') >= 0",
        end.trim()
    );
    eventually("the first is replayed", || {
        standby.psql(&replayed).trim() == "t"
    });
    reader.set_read_timeout(Duration::from_secs(10));
    assert_eq!(reader.value("SELECT count(*) FROM t"), "0");
    reader.rows("COMMIT");
    primary.wait_for_replay(&standby);
}

/// A standby that begins to replay behind the record of a lock (a new copy, a restart) hears of it from the checkpoint.
#[test]
fn a_standby_that_begins_later_knows_of_locks_taken_before() {
    let primary = primary();
    let mut writer = primary.client();
    writer.rows("BEGIN");
    writer.rows("TRUNCATE t");
    let mut standby = standby_with(&primary, "");
    let count = "SELECT count(*) FROM t";
    for how in ["a copy", "a restart"] {
        let mut reader = standby.client();
        reader.rows("SET lock_timeout = '500ms'");
        assert_eq!(reader.error(count).state, "55P03", "{how}");
        drop(reader);
        primary.psql("CHECKPOINT");
        primary.wait_for_replay(&standby);
        standby.psql("CHECKPOINT");
        standby.stop(Stop::Fast);
        standby.start();
        primary.wait_for_stream("reads");
        primary.wait_for_replay(&standby);
    }
    writer.rows("COMMIT");
    primary.wait_for_replay(&standby);
    assert_eq!(standby.psql(count).trim(), "0");
}

/// Replay waits for a query that waits for replay: no limit of time is needed to see that it leads nowhere.
#[test]
fn a_query_in_a_ring_with_replay_is_cancelled_though_replay_has_time() {
    let primary = primary();
    primary.psql("CREATE TABLE u (a int)");
    let standby = standby_with(&primary, "max_standby_streaming_delay = -1");
    for replay_is_first in [true, false] {
        let mut reader = standby.client();
        reader.rows("BEGIN");
        assert_eq!(reader.value("SELECT count(*) FROM u"), "0");
        let mut writer = primary.client();
        writer.rows("BEGIN");
        writer.rows("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
        // Its record is flushed with the next commit.
        primary.psql("CREATE TABLE IF NOT EXISTS v (a int)");
        primary.psql("INSERT INTO v VALUES (1)");
        primary.wait_for_replay(&standby);
        let ask = "SELECT count(*) FROM t";
        if !replay_is_first {
            reader.send(ask).expect("sent");
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            eventually("it waits", || standby.psql(waits).trim() == "1");
            // It has looked, and found nothing.
            std::thread::sleep(Duration::from_millis(1500));
        }
        writer.rows("LOCK TABLE u IN ACCESS EXCLUSIVE MODE");
        primary.psql("INSERT INTO v VALUES (2)");
        if replay_is_first {
            // What is there and is not replayed: whether replay waits already or is about to, the ring is the same.
            let behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
            eventually("replay waits", || standby.psql(behind).trim() == "t");
            reader.send(ask).expect("sent");
        }
        let answers = reader.answers().expect("the session goes on");
        let error = answers.into_iter().find_map(|a| a.error);
        let error = error.expect("the query ends with an error");
        assert_eq!(error.state, "40P01", "{error:?}");
        reader.rows("ROLLBACK");
        writer.rows("COMMIT");
        primary.wait_for_replay(&standby);
        assert_eq!(standby.psql(ask).trim(), "500");
    }
}

/// A log that ends where a page does has nothing to send to a standby that has all of it.
#[test]
fn a_standby_that_has_everything_says_so_at_once() {
    let primary = primary();
    let mut standby = standby_with(&primary, "wal_receiver_status_interval = 0");
    primary.psql("SELECT pg_switch_wal()");
    primary.wait_for_replay(&standby);
    standby.stop(Stop::Fast);
    standby.start();
    // It is asked for a word after half of `wal_sender_timeout`, 30 s.
    let begun = Instant::now();
    let asked =
        "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn = pg_current_wal_flush_lsn()";
    eventually("it has said so", || primary.psql(asked).trim() == "1");
    assert!(begun.elapsed() < Duration::from_secs(15));
}
