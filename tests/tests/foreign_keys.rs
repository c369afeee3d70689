//! Many sessions write references and keys at once, at both isolation levels, deferred and not, with every action, and the
//! server is killed in the middle. Whatever was refused, no reference is ever left without its key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{rounds, seeded};
use understudy_tests::wire::{Answer, Client};

const SESSIONS: u64 = 16;
const KEYS: i32 = 12;
const PHASE: Duration = Duration::from_secs(2);

const TABLES: &[&str] = &[
    "CREATE TABLE keys (id int PRIMARY KEY, v int DEFAULT 0)",
    "CREATE TABLE plain (a int REFERENCES keys)",
    "CREATE TABLE cascading (a int REFERENCES keys ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE nulled (a int REFERENCES keys ON DELETE SET NULL ON UPDATE SET NULL)",
    "CREATE TABLE deferred (a int REFERENCES keys DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE indexed (a int REFERENCES keys ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE INDEX ON indexed (a)",
    "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE)",
];

/// Table, column, and the table and column that it refers to.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("plain", "a", "keys"),
    ("cascading", "a", "keys"),
    ("nulled", "a", "keys"),
    ("deferred", "a", "keys"),
    ("indexed", "a", "keys"),
    ("tree", "parent", "tree"),
];

/// What a change may be refused with.
const REFUSALS: &[&str] = &["23503", "23505", "40001", "40P01", "25P02"];

fn state(answers: &[Answer]) -> Option<&str> {
    let error = answers.iter().find_map(|a| a.error.as_ref());
    error.map(|e| e.state.as_str())
}

fn change(random: &mut StdRng) -> String {
    let (id, other) = (random.random_range(0..KEYS), random.random_range(0..KEYS));
    let table = REFERENCES[random.random_range(0..5)].0;
    match random.random_range(0..12) {
        0 => format!("DELETE FROM keys WHERE id = {id}"),
        1 => format!("UPDATE keys SET id = {other} WHERE id = {id}"),
        2 => format!("UPDATE keys SET v = v + 1 WHERE id = {id}"),
        3 | 4 => format!("INSERT INTO keys VALUES ({id}) ON CONFLICT (id) DO UPDATE SET v = 1"),
        5 => format!("UPDATE {table} SET a = {other} WHERE a = {id}"),
        6 => format!("DELETE FROM {table} WHERE a = {id}"),
        7 => format!("INSERT INTO tree VALUES ({id}, {other}), ({other}, {id})"),
        8 => format!("DELETE FROM tree WHERE id = {id}"),
        _ => format!("INSERT INTO {table} VALUES ({id}), ({other})"),
    }
}

/// A transaction of a few changes; whether it was committed. `None`: the server is gone.
fn transaction(client: &mut Client, random: &mut StdRng) -> Option<bool> {
    let level = ["READ COMMITTED", "REPEATABLE READ"][random.random_range(0..2)];
    let mut statements = vec![format!("BEGIN ISOLATION LEVEL {level}")];
    for _ in 0..random.random_range(1..4) {
        statements.push(change(random));
        match random.random_range(0..8) {
            0 => {
                statements.push("SAVEPOINT s".to_owned());
                statements.push(change(random));
                statements.push("ROLLBACK TO s".to_owned());
            }
            1 => statements.push("SET CONSTRAINTS ALL IMMEDIATE".to_owned()),
            2 => statements.push("SET CONSTRAINTS ALL DEFERRED".to_owned()),
            _ => {}
        }
    }
    statements.push("COMMIT".to_owned());
    for sql in &statements {
        let answers = client.query(sql).ok()?;
        match state(&answers) {
            None => {}
            // Those of a server that is being ended.
            Some(state) if state.starts_with("57P") => return None,
            Some(state) => {
                assert!(REFUSALS.contains(&state), "{sql}: {answers:?}");
                client.query("ROLLBACK").ok()?;
                return Some(false);
            }
        }
    }
    Some(true)
}

/// Rows that refer to what is not there.
fn orphans(client: &mut Client) -> Vec<String> {
    let mut found = Vec::new();
    for (table, column, referenced) in REFERENCES {
        let count = client.value(&format!(
            "SELECT count(*) FROM {table} t LEFT JOIN {referenced} k ON k.id = t.{column} \
             WHERE k.id IS NULL AND t.{column} IS NOT NULL"
        ));
        if count != "0" {
            found.push(format!("{count} in {table}"));
        }
    }
    found
}

#[test]
fn no_reference_is_left_without_its_key() {
    let (seed, _) = seeded();
    let mut server = Server::started();
    for sql in TABLES {
        server.client().rows(sql);
    }
    for round in 0..rounds(2, 40) {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let port = server.port;
        let sessions = (0..SESSIONS).map(|session| {
            let (stop, committed) = (Arc::clone(&stop), Arc::clone(&committed));
            let seed = seed ^ (u64::from(round) << 32) ^ session;
            std::thread::spawn(move || {
                let mut random = StdRng::seed_from_u64(seed);
                let mut client = Client::connect(port).expect("a session opens");
                client.rows("SET deadlock_timeout = '50ms'");
                while !stop.load(Ordering::Relaxed) {
                    match transaction(&mut client, &mut random) {
                        Some(true) => committed.fetch_add(1, Ordering::Relaxed),
                        Some(false) => 0,
                        None => return,
                    };
                }
            })
        });
        let sessions: Vec<_> = sessions.collect();
        std::thread::sleep(PHASE);
        let crash = round % 2 == 0;
        if crash {
            server.stop(Stop::Kill);
        }
        stop.store(true, Ordering::Relaxed);
        for session in sessions {
            session.join().expect("a session that is as it should be");
        }
        if crash {
            server.start();
        }
        let committed = committed.load(Ordering::Relaxed);
        assert!(committed > 50, "only {committed} transactions");
        let left = orphans(&mut server.client());
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

/// COPY's rows may refer to rows that come later.
#[test]
fn copied_rows_are_looked_at_behind_the_last_one() {
    let server = Server::started();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rows");
    let mut client = server.client();
    client.rows("CREATE TABLE ring (id int PRIMARY KEY, next int REFERENCES ring)");
    let copy = format!("COPY ring FROM '{}'", file.display());
    std::fs::write(&file, "2\t3\n3\t2\n4\t\\N\n").expect("written");
    client.rows(&copy);
    std::fs::write(&file, "5\t6\n6\t7\n").expect("written");
    let error = client.error(&copy);
    assert_eq!(error.state, "23503");
    assert_eq!(
        error.detail.as_deref(),
        Some("Key (next)=(7) is not present in table \"ring\".")
    );
    assert_eq!(client.value("SELECT count(*) FROM ring"), "3");
}
