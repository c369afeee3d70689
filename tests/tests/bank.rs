//! Many sessions move money between few accounts, at every isolation and commit level, with savepoints that are rolled
//! back and transactions that give up. In every snapshot that anybody takes the sum is the same, and at the end each
//! account has what its acknowledged transfers left it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::is_soak;
use understudy_tests::wire::{Answer, Client};

const SESSIONS: u64 = 64;
const ACCOUNTS: u64 = 100;
const EACH: i64 = 1000;

#[derive(Default)]
struct Counts {
    transfers: AtomicU64,
    refused: AtomicU64,
    sums: AtomicU64,
}

struct Teller {
    client: Client,
    random: StdRng,
    /// What acknowledged transfers did to each account.
    moved: Vec<i64>,
    counts: Arc<Counts>,
}

/// The first error's SQLSTATE.
fn state(answers: &[Answer]) -> Option<&str> {
    let error = answers.iter().find_map(|a| a.error.as_ref());
    error.map(|e| e.state.as_str())
}

impl Teller {
    fn new(port: u16, seed: u64, counts: Arc<Counts>) -> Teller {
        Teller {
            client: Client::connect(port).expect("a session opens"),
            random: StdRng::seed_from_u64(seed),
            moved: vec![0; ACCOUNTS as usize],
            counts,
        }
    }

    fn run(&mut self, sql: &str) -> Vec<Answer> {
        self.client
            .query(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    fn work(&mut self) {
        match self.random.random_range(0..10) {
            0 => self.sum_at_once(),
            1 => self.sum_twice(),
            _ => self.transfer(),
        }
    }

    fn expect_sum(&mut self, answers: &[Answer], sql: &str) {
        assert_eq!(state(answers), None, "{sql}");
        let rows = &answers.last().expect("an answer").rows;
        let expected = [
            Some(ACCOUNTS.to_string()),
            Some((ACCOUNTS as i64 * EACH).to_string()),
        ];
        assert_eq!(rows.as_slice(), [expected.to_vec()], "{sql}");
        self.counts.sums.fetch_add(1, Ordering::Relaxed);
    }

    fn sum_at_once(&mut self) {
        let sql = "SELECT count(*), sum(balance) FROM accounts";
        let answers = self.run(sql);
        self.expect_sum(&answers, sql);
    }

    /// One snapshot for a scan and for the index, with a pause between them.
    fn sum_twice(&mut self) {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
        let sql = "SELECT count(*), sum(balance) FROM accounts";
        let answers = self.run(sql);
        self.expect_sum(&answers, sql);
        let mut total = 0;
        for account in 0..ACCOUNTS {
            let sql = format!("SELECT balance FROM accounts WHERE id = {account}");
            let rows = self.client.rows(&sql);
            assert_eq!(rows.len(), 1, "{sql}");
            let balance = rows[0][0].as_ref().and_then(|b| b.parse::<i64>().ok());
            total += balance.unwrap_or_else(|| panic!("{sql} gave {rows:?}"));
        }
        assert_eq!(total, ACCOUNTS as i64 * EACH, "account by account");
        let answers = self.run(sql);
        self.expect_sum(&answers, sql);
        self.run("COMMIT");
    }

    fn transfer(&mut self) {
        let level = ["READ COMMITTED", "REPEATABLE READ"][self.random.random_range(0..2)];
        let durable = ["off", "local", "on"][self.random.random_range(0..3)];
        let mut from = self.random.random_range(0..ACCOUNTS);
        let mut to = (from + self.random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        // Most go by number; the others make deadlocks.
        if from > to && self.random.random_range(0..8) != 0 {
            std::mem::swap(&mut from, &mut to);
        }
        let amount: i64 = self.random.random_range(1..50);
        let detour = self.random.random_range(0..4) == 0;
        let gives_up = self.random.random_range(0..8) == 0;
        let mut sql = vec![
            format!("BEGIN ISOLATION LEVEL {level}"),
            format!("SET LOCAL synchronous_commit = {durable}"),
        ];
        let change = |account, by| {
            format!("UPDATE accounts SET balance = balance + {by} WHERE id = {account}")
        };
        sql.push(change(from, -amount));
        if detour {
            sql.push("SAVEPOINT detour".to_owned());
            sql.push(change(to, 7 * amount));
            sql.push(change(from, 1));
            sql.push("ROLLBACK TO detour".to_owned());
        }
        sql.push(change(to, amount));
        sql.push(if gives_up { "ROLLBACK" } else { "COMMIT" }.to_owned());
        for statement in &sql {
            let answers = self.run(statement);
            match state(&answers) {
                None => {}
                Some("40001" | "40P01") => {
                    self.run("ROLLBACK");
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Some(other) => panic!("{statement}: {other}"),
            }
        }
        if !gives_up {
            self.moved[from as usize] -= amount;
            self.moved[to as usize] += amount;
            self.counts.transfers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_sum_is_the_same_in_every_snapshot() {
    let soak = is_soak();
    let time = Duration::from_secs(if soak { 120 } else { 6 });
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut server = Server::initdb();
    server.configure("deadlock_timeout = '20ms'");
    server.start();
    server.psql("CREATE TABLE accounts (id int PRIMARY KEY, balance bigint)");
    let mut setup = server.client();
    for account in 0..ACCOUNTS {
        setup.rows(&format!("INSERT INTO accounts VALUES ({account}, {EACH})"));
    }
    let counts = Arc::new(Counts::default());
    let failed = AtomicBool::new(false);
    let until = Instant::now() + time;
    let moved: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let (counts, failed, port) = (Arc::clone(&counts), &failed, server.port);
                scope.spawn(move || {
                    let mut teller = Teller::new(port, seed.wrapping_add(number), counts);
                    while Instant::now() < until && !failed.load(Ordering::Relaxed) {
                        let work = std::panic::AssertUnwindSafe(|| teller.work());
                        if let Err(panic) = std::panic::catch_unwind(work) {
                            failed.store(true, Ordering::Relaxed);
                            std::panic::resume_unwind(panic);
                        }
                    }
                    teller.moved
                })
            })
            .collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        };
        tellers.into_iter().map(join).collect()
    });
    let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
    println!(
        "{} transfers, {} refused, {} sums",
        count(&counts.transfers),
        count(&counts.refused),
        count(&counts.sums)
    );
    assert!(count(&counts.transfers) > 50 && count(&counts.sums) > 20);
    check_accounts(&server, &moved);
    // The last commits may have asked for nothing; a clean stop keeps them.
    server.stop(Stop::Fast);
    server.start();
    check_accounts(&server, &moved);
}

fn check_accounts(server: &Server, moved: &[Vec<i64>]) {
    let rows = server
        .client()
        .rows("SELECT balance FROM accounts ORDER BY id");
    let found: Vec<i64> = rows
        .iter()
        .map(|r| r[0].as_deref().and_then(|b| b.parse().ok()).expect("a sum"))
        .collect();
    let expected: Vec<i64> = (0..ACCOUNTS as usize)
        .map(|account| EACH + moved.iter().map(|m| m[account]).sum::<i64>())
        .collect();
    assert_eq!(found, expected);
}
