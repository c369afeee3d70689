//! What keeps tables small and answers right while they change: background vacuum, statistics, indexes that are newer
//! than a snapshot.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use understudy_tests::server::Server;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

/// A server whose background vacuum looks every second.
fn busy_server() -> Server {
    let mut server = Server::initdb();
    server.configure("autovacuum_naptime = 1s");
    server.start();
    server
}

/// Pages of a relation's file in the database `postgres`.
fn pages(server: &Server, client: &mut Client, relation: &str) -> u64 {
    let number = client.value(&format!(
        "SELECT relfilenode FROM pg_class WHERE relname = '{relation}'"
    ));
    let path = server.data().join("base").join("5").join(number);
    std::fs::metadata(path).expect("the file is there").len() / 8192
}

#[test]
fn a_table_under_constant_update_stays_small() {
    let server = busy_server();
    let mut client = server.client();
    client.rows("CREATE TABLE hot (id int PRIMARY KEY, n int, filler text)");
    client.rows("CREATE INDEX hot_n ON hot (n)");
    client.rows("INSERT INTO hot SELECT g, g, repeat('x', 200) FROM generate_series(1, 100) AS g");
    // Every round leaves 100 dead rows and as many dead entries. Without a vacuum each stretch would add as many pages as
    // the first one; with it one soon adds next to nothing, unless the machine gets faster from stretch to stretch.
    let mut round = 0;
    let mut sizes: Vec<(u64, u64)> = Vec::new();
    let stays = |before: u64, after: u64| after <= before * 6 / 5 + 4;
    let settled = (0..4).any(|_| {
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            round += 1;
            client.rows(&format!("UPDATE hot SET n = (id * 7919 + {round}) % 1000"));
        }
        let now = (
            pages(&server, &mut client, "hot"),
            pages(&server, &mut client, "hot_n"),
        );
        let before = sizes.last().copied();
        sizes.push(now);
        before.is_some_and(|before| stays(before.0, now.0) && stays(before.1, now.1))
    });
    assert!(settled, "{round} rounds, pages: {sizes:?}");
    assert_eq!(client.value("SELECT count(*) FROM hot"), "100");
    assert_eq!(client.value("SELECT count(*) FROM hot WHERE n >= 0"), "100");
}

#[test]
fn statistics_follow_the_table() {
    let server = busy_server();
    let mut client = server.client();
    client.rows("CREATE TABLE t (a int, b text)");
    client.rows("INSERT INTO t SELECT g % 10, 'x' FROM generate_series(1, 5000) AS g");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let rows = client.value("SELECT reltuples FROM pg_class WHERE relname = 't'");
        if rows == "5000" {
            break;
        }
        assert!(Instant::now() < until, "reltuples is still {rows}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let plan: Vec<String> = client
        .rows("EXPLAIN SELECT * FROM t WHERE a = 3")
        .into_iter()
        .flat_map(|r| r.into_iter().flatten())
        .collect();
    assert!(plan[0].contains("rows=500 "), "{plan:?}");
}

/// The end of its transaction may take long; the table is free as soon as its tail is cut.
#[test]
fn a_vacuum_whose_commit_waits_lets_readers_in() {
    let server = Server::started();
    let mut client = server.client();
    client.rows("CREATE TABLE tail (a int)");
    client.rows("INSERT INTO tail SELECT g FROM generate_series(1, 20000) AS g");
    client.rows("DELETE FROM tail WHERE a > 10");
    let before = pages(&server, &mut client, "tail");
    server.configure("synchronous_standby_names = 'nobody'");
    server.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        server.psql("SHOW synchronous_standby_names").trim() == "nobody"
    });
    let mut vacuum = server.client();
    vacuum.send("VACUUM tail").expect("sent");
    eventually("its tail is cut", || {
        pages(&server, &mut client, "tail") < before
    });
    client.rows("SET lock_timeout = '20s'");
    assert_eq!(client.value("SELECT count(*) FROM tail"), "10");
    server.configure("synchronous_standby_names = ''");
    server.psql("SELECT pg_reload_conf()");
    let answers = vacuum.answers().expect("it ends now");
    assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
}

/// It tries again for five seconds, as PostgreSQL does; an interrupt ends that.
#[test]
fn a_vacuum_waits_a_moment_for_the_reader_of_a_table_whose_tail_is_empty() {
    let mut server = Server::initdb();
    server.configure("autovacuum = off");
    server.start();
    let (mut client, mut reader) = (server.client(), server.client());
    client.rows("CREATE TABLE tail (a int)");
    client.rows("INSERT INTO tail SELECT g FROM generate_series(1, 20000) AS g");
    client.rows("DELETE FROM tail WHERE a > 10");
    let before = pages(&server, &mut client, "tail");
    let read = |reader: &mut Client| {
        reader.rows("BEGIN");
        reader.rows("SELECT count(*) FROM tail");
    };
    read(&mut reader);
    client.rows("SET statement_timeout = '1s'");
    let ended = client.error("VACUUM tail");
    assert_eq!(ended.state, "57014", "{ended:?}");
    client.rows("SET statement_timeout = 0");
    reader.rows("COMMIT");
    let mut vacuum = server.client();
    // A machine that stands still for seconds may make one of them give up.
    let is_cut = (0..5).any(|_| {
        read(&mut reader);
        vacuum.send("VACUUM tail").expect("sent");
        std::thread::sleep(Duration::from_secs(1));
        reader.rows("COMMIT");
        let answers = vacuum.answers().expect("it ends");
        assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
        pages(&server, &mut client, "tail") < before
    });
    assert!(is_cut, "still {before} pages");
}

/// As in PostgreSQL: what a rolled back CREATE INDEX leaves in `pg_class` goes with the next vacuum.
#[test]
fn a_vacuum_notes_that_there_is_no_index() {
    let server = Server::started();
    let mut client = server.client();
    let has_index = "SELECT relhasindex FROM pg_class WHERE relname = 't'";
    client.rows("CREATE TABLE t (a int)");
    client.rows("BEGIN");
    client.rows("CREATE INDEX ON t (a)");
    client.rows("ROLLBACK");
    assert_eq!(client.value(has_index), "t");
    client.rows("VACUUM t");
    assert_eq!(client.value(has_index), "f");
    client.rows("CREATE INDEX ON t (a)");
    client.rows("VACUUM t");
    assert_eq!(client.value(has_index), "t");
}

/// The files of relations in the database `postgres`, without their other forks.
fn relation_files(server: &Server) -> BTreeSet<String> {
    let folder = server.data().join("base").join("5");
    let entries = std::fs::read_dir(folder).expect("it is there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .collect()
}

/// Wherever in it that is: no file and no row of the catalog, and what was there before answers as before.
#[test]
fn an_index_whose_build_is_interrupted_leaves_nothing() {
    let mut server = Server::initdb();
    server.configure("autovacuum = off");
    server.start();
    let mut client = server.client();
    client.rows("CREATE TABLE wide (a int, b text)");
    client.rows("INSERT INTO wide SELECT g, 'x' || g FROM generate_series(1, 60000) AS g");
    client.rows("CREATE UNIQUE INDEX wide_a ON wide (a)");
    let mut before = relation_files(&server);
    let mut interrupted = 0;
    for statement in [
        "CREATE UNIQUE INDEX wide_b ON wide (b)",
        "REINDEX TABLE wide",
    ] {
        for milliseconds in [1, 4, 16, 64, 256] {
            client.rows(&format!("SET statement_timeout = {milliseconds}"));
            let answers = client.query(statement).expect("answered");
            // It may run out of the same time.
            let mut reset = || client.query("RESET statement_timeout").expect("answered");
            while reset().iter().any(|answer| answer.error.is_some()) {}
            match answers.iter().find_map(|answer| answer.error.as_ref()) {
                Some(error) => {
                    assert_eq!(error.state, "57014", "{error:?}");
                    interrupted += 1;
                    assert_eq!(relation_files(&server), before, "{statement}");
                }
                None if statement.starts_with("CREATE") => {
                    client.rows("DROP INDEX wide_b");
                }
                None => before = relation_files(&server),
            }
            let indexes = "SELECT count(*) FROM pg_class WHERE relname LIKE 'wide\\__'";
            assert_eq!(client.value(indexes), "1");
            assert_eq!(client.value("SELECT b FROM wide WHERE a = 54321"), "x54321");
            let twice = client.error("INSERT INTO wide VALUES (54321, 'again')");
            assert_eq!(twice.state, "23505");
        }
    }
    assert!(interrupted > 0, "every build took less than a millisecond");
}

/// A row whose version is older than the index, in a chain on one page that has got another key since.
#[test]
fn an_index_newer_than_the_snapshot_hides_no_row() {
    let server = Server::started();
    let (mut old, mut new) = (server.client(), server.client());
    new.rows("CREATE TABLE t (id int PRIMARY KEY, k int)");
    new.rows("INSERT INTO t SELECT g, 1 FROM generate_series(1, 10) AS g");
    old.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(old.value("SELECT count(*) FROM t"), "10");
    new.rows("UPDATE t SET k = 2");
    new.rows("CREATE INDEX t_k ON t (k)");
    for client in [&mut old, &mut new] {
        client.rows("SET enable_seqscan = off");
    }
    let by_key = |client: &mut Client, k: u32| {
        client.value(&format!("SELECT count(*) FROM t WHERE k = {k}"))
    };
    assert_eq!(
        by_key(&mut old, 1),
        "10",
        "the old snapshot sees the old key"
    );
    assert_eq!(by_key(&mut old, 2), "0");
    assert_eq!(by_key(&mut new, 1), "0");
    assert_eq!(by_key(&mut new, 2), "10");
    old.rows("COMMIT");
    assert_eq!(by_key(&mut old, 2), "10");
    let plan = old.rows("EXPLAIN SELECT * FROM t WHERE k = 2");
    let first = plan[0][0].clone().unwrap_or_default();
    assert!(
        first.contains("t_k"),
        "new snapshots use the index: {first}"
    );
}

#[test]
fn a_transaction_that_makes_the_index_does_not_trust_it() {
    let server = Server::started();
    let mut client = server.client();
    client.rows("CREATE TABLE t (id int PRIMARY KEY, k int)");
    client.rows("INSERT INTO t VALUES (1, 1)");
    client.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(client.value("SELECT count(*) FROM t"), "1");
    let mut other = server.client();
    other.rows("UPDATE t SET k = 2");
    client.rows("CREATE INDEX t_k ON t (k)");
    client.rows("SET enable_seqscan = off");
    assert_eq!(client.value("SELECT count(*) FROM t WHERE k = 1"), "1");
    client.rows("COMMIT");
    assert_eq!(client.value("SELECT count(*) FROM t WHERE k = 2"), "1");
}

#[test]
fn background_vacuums_are_told_from_a_time_on() {
    let mut server = Server::initdb();
    server.configure("autovacuum_naptime = 1s\nlog_autovacuum_min_duration = -1");
    server.start();
    let mut client = server.client();
    client.rows("CREATE TABLE t (a int)");
    // Rows come and go, and with the vacuum their pages.
    let round = |client: &mut Client| {
        client.rows("INSERT INTO t SELECT g FROM generate_series(1, 5000) AS g");
        client.rows("DELETE FROM t");
        eventually("the table is vacuumed", || pages(&server, client, "t") == 0);
    };
    let told = || server.log().contains("LOG:  automatic ");
    round(&mut client);
    assert!(!told(), "{}", server.log());
    let set = |value: &str| {
        server.configure(&format!("log_autovacuum_min_duration = {value}"));
        server.psql("SELECT pg_reload_conf()");
        eventually("the setting is in force", || {
            server.psql("SHOW log_autovacuum_min_duration").trim() == value
        });
    };
    // None takes that long.
    set("1d");
    round(&mut client);
    assert!(!told(), "{}", server.log());
    set("0");
    let line = "LOG:  automatic vacuum of table \"postgres.public.t\": index scans: ";
    eventually("it is told", || {
        round(&mut client);
        server.log().contains(line)
    });
}

/// `checkpoint_warning`: only those that the log's volume brings about speak of `max_wal_size`.
#[test]
fn checkpoints_that_come_too_often_are_told() {
    let mut server = Server::initdb();
    server.configure(
        "max_wal_size = 32MB\nmin_wal_size = 32MB\ncheckpoint_completion_target = 0\n\
         checkpoint_warning = 1h\nautovacuum = off",
    );
    server.start();
    server.psql("CREATE TABLE t (a int)");
    let count = |line: &str| server.log().matches(line).count();
    let fill = || {
        for _ in 0..4 {
            server.psql("INSERT INTO t VALUES (1)");
            server.psql("SELECT pg_switch_wal()");
        }
    };
    let (told, begun) = (
        "LOG:  checkpoints are occurring too frequently (",
        "LOG:  checkpoint starting: wal",
    );
    server.psql("CHECKPOINT");
    server.psql("CHECKPOINT");
    assert_eq!(count(told), 0, "{}", server.log());
    fill();
    eventually("it is told", || count(told) > 0);
    let hint = "HINT:  Consider increasing the configuration parameter \"max_wal_size\".";
    eventually("what to do is told", || count(hint) > 0);
    server.configure("checkpoint_warning = 0");
    server.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        server.psql("SHOW checkpoint_warning").trim() == "0"
    });
    // One that had just begun to be told is told by now.
    server.psql("CHECKPOINT");
    let before = (count(told), count(begun));
    eventually("there is another one", || {
        fill();
        count(begun) > before.1
    });
    assert_eq!(count(told), before.0, "{}", server.log());
}
