//! A scripted workload with a ledger: what was acknowledged, and what the transaction under way would make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::engine::{Engine, Speaker};

/// id to (v, length of t).
type Rows = BTreeMap<i64, (i64, usize)>;

/// What the database holds.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct State {
    tables: BTreeMap<String, Rows>,
    indexes: BTreeSet<String>,
    /// Numbers from the sequence that committed rows hold.
    numbers: BTreeSet<i64>,
}

#[derive(Clone, Default, Debug)]
pub struct Ledger {
    pub told: State,
    pub under_way: Option<State>,
}

pub type SharedLedger = Arc<Mutex<Ledger>>;

pub struct Script {
    random: StdRng,
    pub ledger: SharedLedger,
    made: u32,
    /// Done after each statement of a transaction: what goes on beside it.
    pub between: Box<dyn FnMut()>,
}

fn text(id: i64, len: usize) -> String {
    let c = char::from(b'a' + (id % 26) as u8);
    // Not compressible to nothing by whoever would try: the id stands in it.
    format!("{id:0>8}{}", c.to_string().repeat(len.saturating_sub(8)))
}

impl Script {
    pub fn new(seed: u64) -> Script {
        Script {
            random: StdRng::seed_from_u64(seed),
            ledger: SharedLedger::default(),
            made: 0,
            between: Box::new(|| {}),
        }
    }

    /// The tables that every step needs.
    pub fn begin(&mut self, client: &mut Speaker) {
        client.sql("CREATE TABLE kv (id bigint PRIMARY KEY, v bigint NOT NULL, t text)");
        client.sql("CREATE INDEX kv_v ON kv (v)");
        client.sql("CREATE SEQUENCE numbers");
        client.sql("CREATE TABLE numbered (n bigint PRIMARY KEY)");
        let mut ledger = self.ledger.lock();
        ledger.told.tables.insert("kv".to_owned(), Rows::new());
        ledger.told.indexes.insert("kv_v".to_owned());
    }

    /// One transaction of some kind.
    pub fn step(&mut self, client: &mut Speaker) {
        let mut state = self.ledger.lock().told.clone();
        let mut statements = Vec::new();
        let kind = self.random.random_range(0..100);
        match kind {
            0..=49 => self.rows("kv", &mut state, &mut statements),
            50..=54 => {
                client.sql("VACUUM");
                return;
            }
            55..=61 => self.savepoints(&mut state, &mut statements),
            62..=67 => return self.rolled_back(client, &state),
            68..=74 => self.make_table(&mut state, &mut statements),
            75..=80 => self.drop_table(&mut state, &mut statements),
            81..=84 => self.truncate(&mut state, &mut statements),
            85..=91 => self.index(&mut state, &mut statements),
            _ => return self.number(client),
        }
        if statements.is_empty() {
            return;
        }
        let alone = statements.len() == 1 && self.random.random_bool(0.5);
        if !alone {
            client.sql("BEGIN");
        }
        let (last, before) = if alone {
            (statements[0].clone(), &[][..])
        } else {
            ("COMMIT".to_owned(), &statements[..])
        };
        for statement in before {
            client.sql(statement);
            (self.between)();
        }
        self.ledger.lock().under_way = Some(state.clone());
        client.sql(&last);
        *self.ledger.lock() = Ledger {
            told: state,
            under_way: None,
        };
    }

    fn length(&mut self) -> usize {
        match self.random.random_range(0..12) {
            0 => self.random.random_range(2_500..20_000),
            _ => self.random.random_range(8..200),
        }
    }

    fn rows(&mut self, table: &str, state: &mut State, out: &mut Vec<String>) {
        for _ in 0..self.random.random_range(1..5) {
            let rows = state.tables.get_mut(table).expect("made");
            let id = self.random.random_range(0..150);
            let v = self.random.random_range(0..1000);
            let len = self.length();
            match self.random.random_range(0..5) {
                0 if rows.contains_key(&id) => {
                    out.push(format!("DELETE FROM {table} WHERE id = {id}"));
                    rows.remove(&id);
                }
                1 if rows.contains_key(&id) => {
                    out.push(format!("UPDATE {table} SET v = {v} WHERE id = {id}"));
                    rows.get_mut(&id).expect("there").0 = v;
                }
                2 if rows.contains_key(&id) => {
                    let t = text(id, len);
                    out.push(format!("UPDATE {table} SET t = '{t}' WHERE id = {id}"));
                    rows.get_mut(&id).expect("there").1 = t.len();
                }
                3 => {
                    // Many rows at once, changing their keys: the index grows and splits.
                    let upto = id + 20;
                    out.push(format!(
                        "UPDATE {table} SET v = v + {v} WHERE id >= {id} AND id < {upto}"
                    ));
                    rows.range_mut(id..upto).for_each(|(_, row)| row.0 += v);
                }
                _ => {
                    let t = text(id, len);
                    out.push(format!("INSERT INTO {table} VALUES ({id}, {v}, '{t}') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, t = EXCLUDED.t"));
                    rows.insert(id, (v, t.len()));
                }
            }
        }
    }

    fn savepoints(&mut self, state: &mut State, out: &mut Vec<String>) {
        self.rows("kv", state, out);
        out.push("SAVEPOINT a".to_owned());
        let mut lost = state.clone();
        self.rows("kv", &mut lost, out);
        out.push("ROLLBACK TO a".to_owned());
        self.rows("kv", state, out);
        out.push("SAVEPOINT b".to_owned());
        self.rows("kv", state, out);
        out.push("RELEASE b".to_owned());
    }

    fn rolled_back(&mut self, client: &mut Speaker, state: &State) {
        let mut lost = state.clone();
        let mut statements = Vec::new();
        self.rows("kv", &mut lost, &mut statements);
        if self.random.random_bool(0.5) {
            self.make_table(&mut lost, &mut statements);
        }
        if self.random.random_bool(0.3) {
            self.truncate(&mut lost, &mut statements);
        }
        client.sql("BEGIN");
        for statement in statements {
            client.sql(&statement);
            (self.between)();
        }
        client.sql("ROLLBACK");
    }

    fn make_table(&mut self, state: &mut State, out: &mut Vec<String>) {
        self.made += 1;
        let name = format!("extra{}", self.made);
        out.push(format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, v bigint, t text)"
        ));
        let mut rows = Rows::new();
        let count = self.random.random_range(0..300_i64);
        if count > 0 {
            out.push(format!(
                "INSERT INTO {name} SELECT g, g * 7, '0123456789' FROM generate_series(1, {count}) g"
            ));
            rows.extend((1..=count).map(|g| (g, (g * 7, 10))));
        }
        state.tables.insert(name, rows);
    }

    fn extra(&mut self, state: &State) -> Option<String> {
        let extras = state.tables.keys().filter(|n| n.starts_with("extra"));
        extras.choose(&mut self.random).cloned()
    }

    fn drop_table(&mut self, state: &mut State, out: &mut Vec<String>) {
        if let Some(name) = self.extra(state) {
            out.push(format!("DROP TABLE {name}"));
            state.indexes.remove(&format!("{name}_v"));
            state.tables.remove(&name);
        }
    }

    fn truncate(&mut self, state: &mut State, out: &mut Vec<String>) {
        if let Some(name) = self.extra(state) {
            out.push(format!("TRUNCATE {name}"));
            state.tables.insert(name.clone(), Rows::new());
            if self.random.random_bool(0.7) {
                out.push(format!("INSERT INTO {name} VALUES (1, 1, 'again')"));
                state.tables.insert(name, [(1, (1, 5))].into());
            }
        }
    }

    fn index(&mut self, state: &mut State, out: &mut Vec<String>) {
        let Some(name) = self.extra(state) else {
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

    /// Takes a number; what a rolled back transaction took is lost, what a committed one has never comes again.
    fn number(&mut self, client: &mut Speaker) {
        let kept = self.random.random_bool(0.7);
        client.sql("BEGIN");
        let number = client.sql("SELECT nextval('numbers')")[0].parse::<i64>();
        let number = number.expect("a number");
        client.sql(&format!("INSERT INTO numbered VALUES ({number})"));
        if !kept {
            client.sql("ROLLBACK");
            return;
        }
        let mut state = self.ledger.lock().told.clone();
        assert!(state.numbers.insert(number), "{number} was given out twice");
        self.ledger.lock().under_way = Some(state.clone());
        client.sql("COMMIT");
        *self.ledger.lock() = Ledger {
            told: state,
            under_way: None,
        };
    }
}

fn numbers_of(line: &str) -> Vec<i64> {
    line.split('|')
        .map(|n| n.parse().expect("a number"))
        .collect()
}

/// What the engine holds, read back.
pub fn read(client: &mut Speaker) -> State {
    let mut state = State::default();
    let tables = client.sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND (relname = 'kv' OR relname LIKE 'extra%')");
    for table in tables {
        let rows = client.sql(&format!("SELECT id, v, length(t) FROM {table}"));
        let mut found = Rows::new();
        for row in rows {
            let row = numbers_of(&row);
            let again = found.insert(row[0], (row[1], row[2] as usize));
            assert_eq!(again, None, "row {} of {table} twice", row[0]);
        }
        let wrong = client.sql(&format!("SELECT count(*) FROM {table} WHERE length(t) > 10 AND substr(t, 1, 8) <> lpad(id::text, 8, '0')"));
        assert_eq!(wrong, ["0"], "mangled texts in {table}");
        state.tables.insert(table, found);
    }
    let indexes =
        client.sql("SELECT relname FROM pg_class WHERE relkind = 'i' AND relname LIKE '%\\_v'");
    state.indexes.extend(indexes);
    let numbers = client.sql("SELECT n FROM numbered");
    state
        .numbers
        .extend(numbers.iter().map(|n| n.parse::<i64>().expect("a number")));
    state
}

/// The engine must hold what was acknowledged, or that and the transaction under way; and be sound, and work.
pub fn check(engine: &Engine, ledger: &Ledger, name: &str) {
    let mut client = engine.session();
    let found = read(&mut client);
    assert!(
        found == ledger.told || ledger.under_way.as_ref() == Some(&found),
        "{name}: holds something else than was acknowledged\n{}",
        difference(&found, ledger)
    );
    let damage = engine.damage();
    assert!(damage.is_empty(), "{name}: {damage:#?}");
    let next = client.sql("SELECT nextval('numbers')")[0].parse::<i64>();
    let next = next.expect("a number");
    // A number that only the lost transaction had may come again: nobody was told of it.
    let known = match &ledger.under_way {
        Some(under_way) if *under_way == found => under_way,
        _ => &ledger.told,
    };
    let newest = known.numbers.last().copied().unwrap_or(0);
    assert!(next > newest, "{name}: number {next} after {newest}");
    client.sql("CREATE TABLE afterwards (id bigint PRIMARY KEY, t text)");
    client.sql("INSERT INTO afterwards SELECT g, 'x' FROM generate_series(1, 50) g");
    client.sql("UPDATE kv SET v = v + 1 WHERE id < 20");
    client.sql("DROP TABLE afterwards");
    client.close();
}

fn difference(found: &State, ledger: &Ledger) -> String {
    let mut lines = Vec::new();
    let told = &ledger.told;
    for table in found
        .tables
        .keys()
        .chain(told.tables.keys())
        .collect::<BTreeSet<_>>()
    {
        match (found.tables.get(table), told.tables.get(table)) {
            (Some(f), Some(t)) if f == t => {}
            (Some(f), Some(t)) => {
                let ids: BTreeSet<_> = f.keys().chain(t.keys()).collect();
                for id in ids.into_iter().filter(|id| f.get(id) != t.get(id)) {
                    lines.push(format!(
                        "{table} {id}: {:?}, told {:?}",
                        f.get(id),
                        t.get(id)
                    ));
                }
            }
            (f, t) => lines.push(format!(
                "{table}: there {}, told {}",
                f.is_some(),
                t.is_some()
            )),
        }
    }
    lines.push(format!(
        "indexes {:?}, told {:?}",
        found.indexes, told.indexes
    ));
    lines.push(format!(
        "numbers {:?}, told {:?}",
        found.numbers, told.numbers
    ));
    lines.push(format!("under way: {}", ledger.under_way.is_some()));
    lines.join("\n")
}
