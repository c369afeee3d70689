//! A mixed write load with a ledger: several sessions, each of which knows exactly what of its work was acknowledged.
//!
//! Every transaction of a worker also counts up the worker's own row in `progress`. So after a crash that row tells
//! whether the transaction whose answer never came was committed, and everything else must agree with it: rows,
//! tables, indexes, counters that all workers share, numbers from a sequence. Between crashes a worker goes on from
//! what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use crate::wire::Client;

/// id to (v, length of t).
pub type Rows = BTreeMap<i64, (i64, usize)>;

const IDS_OF_A_WORKER: i64 = 100_000;
const ROWS_OF_A_WORKER: i64 = 250;
const COUNTERS: i64 = 10;
/// Errors that concurrent work may bring; the transaction is rolled back.
const EXPECTED: [&str; 3] = ["40P01", "40001", "55P03"];
/// What a session hears when its server goes away in an orderly manner.
const GOING: [&str; 2] = ["57P01", "57P03"];

/// What one worker has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Transactions.
    pub progress: i64,
    pub shared: Rows,
    pub tables: BTreeMap<String, Rows>,
    pub indexes: BTreeSet<String>,
    pub counted: BTreeMap<i64, i64>,
    pub numbers: BTreeSet<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub told: State,
    /// What the transaction whose COMMIT is under way would make of it.
    pub under_way: Option<State>,
    /// Errors that nothing explains.
    pub unexplained: Vec<String>,
    /// Acknowledged transactions since the beginning, for the record.
    pub acknowledged: u64,
    /// What the server is at for this worker: the first words of a statement; nothing between two.
    pub at: String,
}

pub struct Worker {
    number: i64,
    random: StdRng,
    ledger: Arc<Mutex<Ledger>>,
    made: u32,
}

/// The tables that all workers share.
pub fn prepare(client: &mut Client, workers: i64) {
    for statement in [
        "CREATE TABLE shared (id bigint PRIMARY KEY, v bigint NOT NULL, t text)",
        "CREATE INDEX shared_v ON shared (v)",
        "CREATE TABLE progress (worker bigint PRIMARY KEY, n bigint NOT NULL)",
        "CREATE TABLE counters (id bigint PRIMARY KEY, n bigint NOT NULL)",
        "CREATE SEQUENCE numbers",
        "CREATE TABLE numbered (n bigint PRIMARY KEY, worker bigint NOT NULL)",
    ] {
        client.rows(statement);
    }
    client.rows(&format!(
        "INSERT INTO progress SELECT g, 0 FROM generate_series(1, {workers}) g"
    ));
    client.rows(&format!(
        "INSERT INTO counters SELECT g, 0 FROM generate_series(1, {COUNTERS}) g"
    ));
}

fn text(id: i64, len: usize) -> String {
    let c = char::from(b'a' + (id % 26) as u8);
    format!("{id:0>8}{}", c.to_string().repeat(len.saturating_sub(8)))
}

/// How a transaction ended.
enum End {
    Committed,
    RolledBack,
    /// The connection broke.
    Unknown,
}

impl Worker {
    /// Workers count from 1. No table of an earlier round gets its name again.
    pub fn new(number: i64, seed: u64, round: u32, ledger: Arc<Mutex<Ledger>>) -> Worker {
        let seed = seed.wrapping_mul(31).wrapping_add(number as u64);
        Worker {
            number,
            random: StdRng::seed_from_u64(seed ^ u64::from(round) << 32),
            ledger,
            made: round * 100_000,
        }
    }

    /// Works until it is told to stop or its connection breaks.
    pub fn run(&mut self, port: u16, stop: &AtomicBool) {
        let Ok(mut client) = Client::connect(port) else {
            return;
        };
        while !stop.load(Ordering::Relaxed) {
            if matches!(self.transaction(&mut client), End::Unknown) {
                return;
            }
        }
    }

    fn transaction(&mut self, client: &mut Client) -> End {
        let mut state = self.ledger.lock().told.clone();
        let mut statements = Vec::new();
        let mut number = false;
        match self.random.random_range(0..100) {
            0..=49 => self.rows(&mut state, &mut statements),
            50..=57 => self.savepoints(&mut state, &mut statements),
            58..=67 => self.count(&mut state, &mut statements),
            68..=74 => self.make_table(&mut state, &mut statements),
            75..=80 => self.drop_table(&mut state, &mut statements),
            81..=85 => self.truncate(&mut state, &mut statements),
            86..=91 => self.index(&mut state, &mut statements),
            _ => number = true,
        }
        let rolled_back = self.random.random_bool(0.12);
        match self.play(client, &statements, number, &mut state, rolled_back) {
            Ok(end) => end,
            Err(_) => End::Unknown,
        }
    }

    fn play(
        &mut self,
        client: &mut Client,
        statements: &[String],
        number: bool,
        state: &mut State,
        rolled_back: bool,
    ) -> io::Result<End> {
        let mut all = vec![
            "BEGIN".to_owned(),
            format!(
                "UPDATE progress SET n = n + 1 WHERE worker = {}",
                self.number
            ),
        ];
        all.extend_from_slice(statements);
        state.progress += 1;
        for statement in &all {
            if let Some(end) = self.say(client, statement)? {
                return Ok(end);
            }
        }
        if number {
            let answers = client.query("SELECT nextval('numbers')")?;
            let row = answers.first().and_then(|a| a.rows.first());
            let Some(Some(n)) = row.and_then(|r| r.first()) else {
                return self.refused("SELECT nextval('numbers')", client, &answers);
            };
            let n = n.parse().map_err(io::Error::other)?;
            state.numbers.insert(n);
            let insert = format!("INSERT INTO numbered VALUES ({n}, {})", self.number);
            if let Some(end) = self.say(client, &insert)? {
                return Ok(end);
            }
        }
        if rolled_back {
            client.query("ROLLBACK")?;
            return Ok(End::RolledBack);
        }
        self.ledger.lock().under_way = Some(state.clone());
        if let Some(end) = self.say(client, "COMMIT")? {
            return Ok(end);
        }
        let mut ledger = self.ledger.lock();
        ledger.told = state.clone();
        ledger.under_way = None;
        ledger.acknowledged += 1;
        Ok(End::Committed)
    }

    /// `Some`: it failed, and the transaction is over.
    fn say(&mut self, client: &mut Client, statement: &str) -> io::Result<Option<End>> {
        self.ledger.lock().at = kind_of(statement);
        let answers = client.query(statement)?;
        self.ledger.lock().at.clear();
        if answers.iter().all(|a| a.error.is_none()) {
            return Ok(None);
        }
        self.refused(statement, client, &answers).map(Some)
    }

    fn refused(
        &mut self,
        statement: &str,
        client: &mut Client,
        answers: &[crate::wire::Answer],
    ) -> io::Result<End> {
        let error = answers
            .iter()
            .find_map(|a| a.error.clone())
            .unwrap_or_default();
        if GOING.contains(&error.state.as_str()) || error.state == "08007" {
            return Ok(End::Unknown);
        }
        if !EXPECTED.contains(&error.state.as_str()) {
            let shown: String = statement.chars().take(200).collect();
            let line = format!("{shown}: {} {}", error.state, error.message);
            self.ledger.lock().unexplained.push(line);
        }
        client.query("ROLLBACK")?;
        self.ledger.lock().under_way = None;
        Ok(End::RolledBack)
    }

    fn length(&mut self) -> usize {
        match self.random.random_range(0..12) {
            0 => self.random.random_range(2_500..30_000),
            _ => self.random.random_range(8..300),
        }
    }

    fn rows(&mut self, state: &mut State, out: &mut Vec<String>) {
        for _ in 0..self.random.random_range(1..6) {
            let base = self.number * IDS_OF_A_WORKER;
            let id = base + self.random.random_range(0..ROWS_OF_A_WORKER);
            let v = self.random.random_range(0..10_000);
            let t = text(id, self.length());
            let rows = &mut state.shared;
            match self.random.random_range(0..6) {
                0 if rows.contains_key(&id) => {
                    out.push(format!("DELETE FROM shared WHERE id = {id}"));
                    rows.remove(&id);
                }
                1 if rows.contains_key(&id) => {
                    out.push(format!("UPDATE shared SET v = {v} WHERE id = {id}"));
                    rows.get_mut(&id).expect("there").0 = v;
                }
                2 if rows.contains_key(&id) => {
                    out.push(format!("UPDATE shared SET t = '{t}' WHERE id = {id}"));
                    rows.get_mut(&id).expect("there").1 = t.len();
                }
                3 => {
                    // Many rows at once, with other keys: indexes grow and split.
                    let upto = id + 20;
                    out.push(format!(
                        "UPDATE shared SET v = v + {v} WHERE id >= {id} AND id < {upto}"
                    ));
                    rows.range_mut(id..upto).for_each(|(_, row)| row.0 += v);
                }
                4 if !rows.contains_key(&id) => {
                    out.push(format!("INSERT INTO shared VALUES ({id}, {v}, '{t}')"));
                    rows.insert(id, (v, t.len()));
                }
                _ => {
                    out.push(format!("INSERT INTO shared VALUES ({id}, {v}, '{t}') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, t = EXCLUDED.t"));
                    rows.insert(id, (v, t.len()));
                }
            }
        }
    }

    fn savepoints(&mut self, state: &mut State, out: &mut Vec<String>) {
        self.rows(state, out);
        out.push("SAVEPOINT a".to_owned());
        let mut lost = state.clone();
        self.rows(&mut lost, out);
        if self.random.random_bool(0.3) {
            self.make_table(&mut lost, out);
        }
        out.push("ROLLBACK TO a".to_owned());
        self.rows(state, out);
        out.push("SAVEPOINT b".to_owned());
        self.rows(state, out);
        out.push("RELEASE b".to_owned());
    }

    /// Rows that all workers fight for.
    fn count(&mut self, state: &mut State, out: &mut Vec<String>) {
        for _ in 0..self.random.random_range(1..3) {
            let counter = self.random.random_range(1..=COUNTERS);
            out.push(format!(
                "UPDATE counters SET n = n + 1 WHERE id = {counter}"
            ));
            *state.counted.entry(counter).or_default() += 1;
        }
    }

    fn make_table(&mut self, state: &mut State, out: &mut Vec<String>) {
        self.made += 1;
        let name = format!("w{}_{}", self.number, self.made);
        out.push(format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, v bigint, t text)"
        ));
        let count = self.random.random_range(0..500_i64);
        let mut rows = Rows::new();
        if count > 0 {
            out.push(format!(
                "INSERT INTO {name} SELECT g, g * 7, '0123456789' FROM generate_series(1, {count}) g"
            ));
            rows.extend((1..=count).map(|g| (g, (g * 7, 10))));
        }
        state.tables.insert(name, rows);
    }

    fn own_table(&mut self, state: &State) -> Option<String> {
        state.tables.keys().choose(&mut self.random).cloned()
    }

    fn drop_table(&mut self, state: &mut State, out: &mut Vec<String>) {
        if let Some(name) = self.own_table(state) {
            out.push(format!("DROP TABLE {name}"));
            state.indexes.remove(&format!("{name}_v"));
            state.tables.remove(&name);
        }
    }

    fn truncate(&mut self, state: &mut State, out: &mut Vec<String>) {
        if let Some(name) = self.own_table(state) {
            out.push(format!("TRUNCATE {name}"));
            state.tables.insert(name.clone(), Rows::new());
            if self.random.random_bool(0.7) {
                out.push(format!("INSERT INTO {name} VALUES (1, 1, 'again')"));
                state.tables.insert(name, [(1, (1, 5))].into());
            }
        }
    }

    fn index(&mut self, state: &mut State, out: &mut Vec<String>) {
        let Some(name) = self.own_table(state) else {
            return;
        };
        let index = format!("{name}_v");
        if state.indexes.remove(&index) {
            out.push(format!("DROP INDEX {index}"));
        } else {
            out.push(format!("CREATE INDEX {index} ON {name} (v DESC)"));
            state.indexes.insert(index);
        }
    }
}

/// `CREATE INDEX`, `UPDATE`, ...
fn kind_of(statement: &str) -> String {
    let mut words = statement.split(' ');
    let first = words.next().unwrap_or_default();
    match (first, words.next()) {
        ("CREATE" | "DROP", Some(second)) => format!("{first} {second}"),
        _ => first.to_owned(),
    }
}

/// In the middle of what a server was struck down, and how often.
#[derive(Default)]
pub struct Moments {
    counts: BTreeMap<String, u32>,
}

impl Moments {
    pub fn hit(&mut self, what: &str) {
        if !what.is_empty() {
            *self.counts.entry(what.to_owned()).or_default() += 1;
        }
    }
    /// What the workers' sessions are at.
    pub fn of_workers(&mut self, ledgers: &[Arc<Mutex<Ledger>>]) {
        for ledger in ledgers {
            let at = ledger.lock().at.clone();
            self.hit(&at);
        }
    }
    pub fn count(&self, what: &str) -> u32 {
        self.counts.get(what).copied().unwrap_or(0)
    }
    pub fn all(&self, what: &[&str]) -> bool {
        what.iter().all(|what| self.count(what) > 0)
    }
}

impl std::fmt::Display for Moments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self
            .counts
            .iter()
            .map(|(k, n)| format!("{k} {n}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Reads the database and compares it with all ledgers; each is set to what was found. The differences, as lines.
pub fn settle(client: &mut Client, ledgers: &[Arc<Mutex<Ledger>>]) -> Vec<String> {
    let progress = pairs(client, "SELECT worker, n FROM progress");
    for (number, ledger) in (1_i64..).zip(ledgers) {
        let mut ledger = ledger.lock();
        let found = progress.get(&number).copied();
        // The transaction whose answer never came is known by the worker's own count.
        if let Some(state) = ledger.under_way.take()
            && Some(state.progress) == found
        {
            ledger.told = state;
        }
    }
    let mut wrong = compare(client, ledgers);
    let numbers = ledgers
        .iter()
        .filter_map(|ledger| ledger.lock().told.numbers.last().copied());
    let highest = numbers.max().unwrap_or(0);
    let next = client.value("SELECT nextval('numbers')").parse::<i64>();
    if next.as_ref().is_ok_and(|n| *n <= highest) {
        wrong.push(format!("number {next:?} comes after {highest}"));
    }
    wrong
}

/// Reads the database, which nobody changes, and compares it with what the ledgers were told.
pub fn compare(client: &mut Client, ledgers: &[Arc<Mutex<Ledger>>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let progress = pairs(client, "SELECT worker, n FROM progress");
    let shared = rows_of(client, "shared", &mut wrong);
    let numbers = pairs(client, "SELECT n, worker FROM numbered");
    let counters = pairs(client, "SELECT id, n FROM counters");
    let mut counted: BTreeMap<i64, i64> = BTreeMap::new();
    for (number, ledger) in (1_i64..).zip(ledgers) {
        let mut ledger = ledger.lock();
        let found = progress.get(&number).copied();
        let expected = &ledger.told;
        if found != Some(expected.progress) {
            wrong.push(format!(
                "worker {number}: {found:?} transactions are there, {} were acknowledged",
                expected.progress
            ));
        }
        compare_worker(client, number, expected, &shared, &numbers, &mut wrong);
        for (counter, n) in &expected.counted {
            *counted.entry(*counter).or_default() += n;
        }
        wrong.append(&mut ledger.unexplained);
    }
    for (id, n) in counters {
        let expected = counted.get(&id).copied().unwrap_or(0);
        if n != expected {
            wrong.push(format!("counter {id} is {n}, acknowledged {expected}"));
        }
    }
    wrong
}

fn compare_worker(
    client: &mut Client,
    number: i64,
    expected: &State,
    shared: &Rows,
    numbers: &BTreeMap<i64, i64>,
    wrong: &mut Vec<String>,
) {
    let base = number * IDS_OF_A_WORKER;
    let own: Rows = shared
        .range(base..base + IDS_OF_A_WORKER)
        .map(|(id, row)| (*id, *row))
        .collect();
    compare_rows(
        &format!("worker {number}, shared"),
        &own,
        &expected.shared,
        wrong,
    );
    let own: BTreeSet<i64> = numbers
        .iter()
        .filter(|(_, worker)| **worker == number)
        .map(|(n, _)| *n)
        .collect();
    if own != expected.numbers {
        wrong.push(format!(
            "worker {number}: other numbers than were acknowledged"
        ));
    }
    let like = format!("w{number}\\_%");
    let names = |kind: &str, client: &mut Client| -> BTreeSet<String> {
        let sql = format!(
            "SELECT relname FROM pg_class WHERE relkind = '{kind}' AND relname LIKE '{like}' AND relname NOT LIKE '%_pkey'"
        );
        let rows = client.rows(&sql);
        rows.into_iter()
            .filter_map(|r| r.into_iter().next().flatten())
            .collect()
    };
    let tables = names("r", client);
    let known: BTreeSet<String> = expected.tables.keys().cloned().collect();
    if tables != known {
        wrong.push(format!(
            "worker {number}: tables {tables:?}, acknowledged {known:?}"
        ));
    }
    let indexes = names("i", client);
    if indexes != expected.indexes {
        wrong.push(format!(
            "worker {number}: indexes {indexes:?}, acknowledged {:?}",
            expected.indexes
        ));
    }
    for (name, rows) in &expected.tables {
        if tables.contains(name) {
            let found = rows_of(client, name, wrong);
            compare_rows(name, &found, rows, wrong);
        }
    }
}

fn compare_rows(what: &str, found: &Rows, expected: &Rows, wrong: &mut Vec<String>) {
    if found == expected {
        return;
    }
    let ids: BTreeSet<&i64> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = ids
        .into_iter()
        .filter(|id| found.get(id) != expected.get(id))
        .collect();
    let mut line = format!("{what}: {} rows differ", differing.len());
    for id in differing.iter().take(5) {
        let _ = write!(
            line,
            "; {id}: {:?}, acknowledged {:?}",
            found.get(id),
            expected.get(id)
        );
    }
    wrong.push(line);
}

fn pairs(client: &mut Client, sql: &str) -> BTreeMap<i64, i64> {
    let number = |v: &Option<String>| v.as_ref().and_then(|v| v.parse().ok()).unwrap_or(i64::MIN);
    let rows = client.rows(sql);
    rows.iter()
        .map(|r| (number(&r[0]), number(&r[1])))
        .collect()
}

/// The table's rows; what cannot be is reported.
fn rows_of(client: &mut Client, table: &str, wrong: &mut Vec<String>) -> Rows {
    let mut found = Rows::new();
    let sql = format!("SELECT id, v, length(t), substr(t, 1, 8) FROM {table}");
    for row in client.rows(&sql) {
        let number = |i: usize| row[i].as_ref().and_then(|v: &String| v.parse::<i64>().ok());
        let (Some(id), Some(v), Some(len)) = (number(0), number(1), number(2)) else {
            wrong.push(format!("{table}: row {row:?}"));
            continue;
        };
        if len > 10 && row[3].as_deref() != Some(&format!("{id:0>8}")) {
            wrong.push(format!("{table}: row {id} has another's text"));
        }
        if found.insert(id, (v, len as usize)).is_some() {
            wrong.push(format!("{table}: row {id} is there twice"));
        }
    }
    found
}
