//! While a commit waits for a standby that is not there: nobody sees it, its rows stay locked, commits that ask for less
//! overtake it, and a wait that is given up says that the outcome is unknown.

use std::time::Duration;

use understudy_tests::server::Server;
use understudy_tests::wire::{Answer, Client};

/// Long enough that a commit has come to where it waits.
const A_WHILE: Duration = Duration::from_secs(1);

/// Changes the standbys that commits wait for, in the running server.
fn wait_for_standbys(server: &Server, names: &str) {
    server.configure(&format!("synchronous_standby_names = '{names}'"));
    let mut client = server.client();
    assert_eq!(client.value("SELECT pg_reload_conf()"), "t");
    for _ in 0..500 {
        // A session takes up new settings with its next message.
        if server.client().value("SHOW synchronous_standby_names") == names {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the reload is not heard");
}

fn has_no_answer(client: &mut Client) {
    client.set_read_timeout(A_WHILE);
    let answers = client.answers();
    assert!(answers.is_err(), "it did not wait: {answers:?}");
    client.set_read_timeout(Duration::from_secs(60));
}

fn tag(answers: &[Answer]) -> Option<&str> {
    answers.last().and_then(|a| a.tag.as_deref())
}

fn prepared() -> Server {
    let server = Server::started();
    server.psql("CREATE TABLE t (id int PRIMARY KEY, v int)");
    server.psql("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)");
    server
}

#[test]
fn nobody_sees_a_commit_that_waits_and_its_rows_stay_locked() {
    let server = prepared();
    wait_for_standbys(&server, "nobody");
    let mut writer = server.client();
    writer
        .send("UPDATE t SET v = 1 WHERE id = 1")
        .expect("sent");
    has_no_answer(&mut writer);

    let mut reader = server.client();
    let values = "SELECT v FROM t ORDER BY id";
    let column = |rows: Vec<Vec<Option<String>>>| -> String {
        let values = rows.into_iter().flatten().flatten();
        values.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(column(reader.rows(values)), "0 0 0");
    let locked = reader.error("SELECT v FROM t WHERE id = 1 FOR UPDATE NOWAIT");
    assert_eq!(locked.state, "55P03");
    // Rolled back: a transaction that locks rows has an xid, and its commit would wait as well.
    reader.rows("BEGIN");
    let skipped = reader.rows("SELECT id FROM t ORDER BY id FOR SHARE SKIP LOCKED");
    assert_eq!(column(skipped), "2 3");
    reader.rows("ROLLBACK");

    // Who asks for less overtakes it.
    let mut hasty = server.client();
    hasty.rows("SET synchronous_commit = local");
    hasty.rows("UPDATE t SET v = 1 WHERE id = 2");
    assert_eq!(column(reader.rows(values)), "0 1 0");
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(column(reader.rows(values)), "0 1 0");

    let mut waiter = server.client();
    waiter.rows("SET synchronous_commit = off");
    waiter
        .send("UPDATE t SET v = v + 10 WHERE id = 1 RETURNING v")
        .expect("sent");
    let mut inserter = server.client();
    inserter.send("INSERT INTO t VALUES (1, 5)").expect("sent");
    has_no_answer(&mut waiter);
    has_no_answer(&mut inserter);

    wait_for_standbys(&server, "");
    assert_eq!(tag(&writer.answers().expect("released")), Some("UPDATE 1"));
    let answers = waiter.answers().expect("goes on");
    assert_eq!(tag(&answers), Some("UPDATE 1"));
    assert_eq!(answers[0].rows, [[Some("11".to_owned())]]);
    let refused = inserter.answers().expect("goes on");
    let state = refused[0].error.as_ref().map(|e| e.state.as_str());
    assert_eq!(state, Some("23505"));
    assert_eq!(column(reader.rows(values)), "0 1 0", "a snapshot stays");
    reader.rows("COMMIT");
    assert_eq!(column(reader.rows(values)), "11 1 0");
}

#[test]
fn a_wait_that_is_given_up_leaves_the_outcome_unknown_and_goes_on() {
    let server = prepared();
    wait_for_standbys(&server, "nobody");
    for (id, end) in [(1, "pg_cancel_backend"), (2, "pg_terminate_backend")] {
        let mut writer = server.client();
        let pid = writer.value("SELECT pg_backend_pid()");
        writer
            .send(&format!("UPDATE t SET v = 1 WHERE id = {id}"))
            .expect("sent");
        has_no_answer(&mut writer);
        let mut other = server.client();
        assert_eq!(other.value(&format!("SELECT {end}({pid})")), "t");
        let mut answers = Vec::new();
        let ended = writer.answers_into(&mut answers);
        assert!(ended.is_err(), "{end}: the session goes on");
        let error = answers.into_iter().find_map(|a| a.error);
        let error = error.unwrap_or_else(|| panic!("{end}: nothing was said"));
        assert_eq!(
            (error.severity.as_str(), error.state.as_str()),
            ("FATAL", "08007")
        );
        let value = format!("SELECT v FROM t WHERE id = {id}");
        assert_eq!(other.value(&value), "0", "{end}: not released");
        let locked = other.error(&format!("{value} FOR UPDATE NOWAIT"));
        assert_eq!(locked.state, "55P03", "{end}: its locks stay");
    }
    wait_for_standbys(&server, "");
    for id in [1, 2] {
        // The released commit's locks go a moment later.
        let value = format!("SELECT v FROM t WHERE id = {id} FOR UPDATE");
        assert_eq!(server.client().value(&value), "1");
    }
}
