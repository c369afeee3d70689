//! Statements made at random from the server's own tables of functions, operators and casts.
//!
//! Our `pg_proc`, `pg_operator` and `pg_cast` say what may be called with what; expressions are made of that, over
//! constants with edge cases and over the columns of small tables, and stand in small queries. The same seed makes the
//! same statements.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::wire::Client;

/// Types that expressions are made of, with constants of each.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false", "NULL"]),
    ("smallint", &["0", "1", "-1", "7", "32767", "'-32768'"]),
    (
        "integer",
        &[
            "0",
            "1",
            "-1",
            "3",
            "42",
            "2147483647",
            "'-2147483648'",
            "NULL",
        ],
    ),
    (
        "bigint",
        &[
            "0",
            "1",
            "-5",
            "9223372036854775807",
            "'-9223372036854775808'",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "1",
            "-1.5",
            "0.001",
            "123456.789",
            "'NaN'",
            "1e10",
            "99.99",
        ],
    ),
    (
        "double precision",
        &[
            "0",
            "1",
            "-2.5",
            "0.1",
            "1e10",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    ("real", &["0", "1", "-2.5", "0.1", "1e10", "'NaN'"]),
    (
        "text",
        &[
            "''",
            "'a'",
            "'abc'",
            "'ABC def'",
            "'12'",
            "'é'",
            "' x '",
            "'%_'",
            "NULL",
        ],
    ),
    ("character varying", &["'a'", "'xyz'", "''"]),
    ("character(4)", &["'a'", "'abcd'", "''"]),
    ("bytea", &["'\\x'", "'\\x00ff'", "'\\x6162'"]),
    (
        "date",
        &[
            "'2024-02-29'",
            "'1999-12-31'",
            "'infinity'",
            "'0044-03-15 BC'",
            "NULL",
        ],
    ),
    (
        "time without time zone",
        &["'00:00'", "'12:34:56.789'", "'24:00'"],
    ),
    (
        "timestamp without time zone",
        &["'2024-02-29 12:34:56.789'", "'1970-01-01'", "'-infinity'"],
    ),
    (
        "timestamp with time zone",
        &[
            "'2024-07-01 12:00Z'",
            "'1999-12-31 23:59:59+05'",
            "'infinity'",
        ],
    ),
    (
        "interval",
        &[
            "'1 day'",
            "'-1 mon 3 days'",
            "'04:05:06.789'",
            "'0'",
            "'1 year 2 mons'",
        ],
    ),
    (
        "uuid",
        &[
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "jsonb",
        &[
            "'{\"a\": [1, null]}'",
            "'[]'",
            "'\"x\"'",
            "'1.50'",
            "'null'",
        ],
    ),
];

/// Functions whose answer depends on more than their arguments, that take long, that are known to differ in the last
/// digit from one C library to another, that are made for the server's own calls, that PostgreSQL 15 computes
/// wrongly (`age` of infinite times), or that take nearly any text for a POSIX zone (`timezone`).
const LEFT_OUT: &[&str] = &[
    "age",
    "bpchar",
    "cbrt",
    "dcbrt",
    "dexp",
    "dpow",
    "exp",
    "factorial",
    "gen_random_uuid",
    "generate_series",
    "interval",
    "lpad",
    "numeric_exp",
    "numeric_fac",
    "numeric_power",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_sleep",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pow",
    "power",
    "random",
    "repeat",
    "rpad",
    "setseed",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_number",
    "to_timestamp",
    "varchar",
    "version",
];

/// Of these only the sign of the answer means something.
fn is_comparison_support(name: &str) -> bool {
    name.ends_with("cmp")
}

#[derive(Debug, Clone)]
struct Callable {
    /// With `{0}` and `{1}` for the arguments.
    form: String,
    arguments: Vec<usize>,
    result: usize,
}

/// What can be called, by the type that it gives.
pub struct Maker {
    callables: Vec<Vec<Callable>>,
    random: StdRng,
    columns: Vec<(String, usize)>,
}

fn type_number(name: &str) -> Option<usize> {
    let name = if name == "character" {
        "character(4)"
    } else {
        name
    };
    TYPES.iter().position(|(n, _)| *n == name)
}

impl Maker {
    /// Reads the tables of a server of ours.
    pub fn new(seed: u64, ours: &mut Client) -> Maker {
        let mut callables: Vec<Vec<Callable>> = vec![Vec::new(); TYPES.len()];
        let mut add = |form: String, arguments: &[&str], result: &str| {
            let arguments: Option<Vec<usize>> =
                arguments.iter().map(|name| type_number(name)).collect();
            if let (Some(arguments), Some(result)) = (arguments, type_number(result)) {
                callables[result].push(Callable {
                    form,
                    arguments,
                    result,
                });
            }
        };
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let operators = "SELECT oprname, oprleft::regtype, oprright::regtype, oprresult::regtype \
                         FROM pg_operator ORDER BY oid";
        for row in ours.rows(operators) {
            let (name, left) = (text(&row[0]), text(&row[1]));
            let (right, result) = (text(&row[2]), text(&row[3]));
            // The cube root, by its other name.
            if name == "||/" {
                continue;
            }
            if left == "-" {
                add(format!("({name} {{0}})"), &[&right], &result);
            } else {
                add(format!("({{0}} {name} {{1}})"), &[&left, &right], &result);
            }
        }
        let functions = "SELECT proname, proargtypes, prorettype::regtype FROM pg_proc \
                         WHERE prokind = 'f' AND NOT proretset AND provolatile = 'i' \
                         AND pronargs BETWEEN 1 AND 3 ORDER BY oid";
        let types: Vec<(String, String)> = ours
            .rows("SELECT oid, oid::regtype FROM pg_type")
            .iter()
            .map(|row| (text(&row[0]), text(&row[1])))
            .collect();
        for row in ours.rows(functions) {
            let name = text(&row[0]);
            if LEFT_OUT.contains(&name.as_str()) || is_comparison_support(&name) {
                continue;
            }
            let shown = text(&row[1]);
            let arguments: Option<Vec<&str>> = shown
                .split_whitespace()
                .map(|oid| {
                    types
                        .iter()
                        .find(|(o, _)| o == oid)
                        .map(|(_, n)| n.as_str())
                })
                .collect();
            let Some(arguments) = arguments else { continue };
            let holes: Vec<String> = (0..arguments.len()).map(|i| format!("{{{i}}}")).collect();
            let form = format!("pg_catalog.\"{name}\"({})", holes.join(", "));
            add(form, &arguments, &text(&row[2]));
        }
        let casts = "SELECT castsource::regtype, casttarget::regtype FROM pg_cast ORDER BY 1, 2";
        for row in ours.rows(casts) {
            let (source, target) = (text(&row[0]), text(&row[1]));
            add(format!("({{0}})::{target}"), &[&source], &target);
        }
        Maker {
            callables,
            random: StdRng::seed_from_u64(seed),
            columns: Vec::new(),
        }
    }

    /// How many signatures were found.
    pub fn signatures(&self) -> usize {
        self.callables.iter().map(Vec::len).sum()
    }

    fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        list.choose(&mut self.random).expect("not empty")
    }

    fn constant(&mut self, ty: usize) -> String {
        let (name, values) = TYPES[ty];
        format!("{}::{name}", self.pick(values))
    }

    fn leaf(&mut self, ty: usize) -> String {
        let fitting: Vec<String> = self
            .columns
            .iter()
            .filter(|(_, t)| *t == ty)
            .map(|(name, _)| name.clone())
            .collect();
        if !fitting.is_empty() && self.random.random_bool(0.6) {
            return self.pick(&fitting).clone();
        }
        self.constant(ty)
    }

    fn expression(&mut self, ty: usize, depth: u32) -> String {
        if depth == 0 || self.callables[ty].is_empty() || self.random.random_bool(0.15) {
            return self.leaf(ty);
        }
        match self.random.random_range(0..12) {
            0 => {
                let condition = self.expression(0, depth - 1);
                let (a, b) = (
                    self.expression(ty, depth - 1),
                    self.expression(ty, depth - 1),
                );
                return format!("(CASE WHEN {condition} THEN {a} ELSE {b} END)");
            }
            1 => {
                let (a, b) = (
                    self.expression(ty, depth - 1),
                    self.expression(ty, depth - 1),
                );
                return format!("coalesce({a}, {b})");
            }
            2 if ty == 0 => {
                let of = self.random.random_range(0..TYPES.len());
                let e = self.expression(of, depth - 1);
                return format!("({e} IS NOT NULL)");
            }
            3 if ty == 0 => {
                let (a, b) = (self.expression(0, depth - 1), self.expression(0, depth - 1));
                let word = self.pick(&["AND", "OR"]);
                return format!("({a} {word} {b})");
            }
            _ => {}
        }
        let number = self.random.random_range(0..self.callables[ty].len());
        let callable = self.callables[ty][number].clone();
        debug_assert_eq!(callable.result, ty);
        let mut made = callable.form;
        for (i, argument) in callable.arguments.iter().enumerate() {
            let value = self.expression(*argument, depth - 1);
            made = made.replacen(&format!("{{{i}}}"), &value, 1);
        }
        made
    }

    /// `SELECT` of one expression over constants.
    pub fn constant_query(&mut self) -> String {
        self.columns.clear();
        let ty = self.random.random_range(0..TYPES.len());
        format!("SELECT {}", self.expression(ty, 3))
    }

    /// Statements that make the tables that [`Self::table_query`] reads.
    pub fn tables(&mut self) -> Vec<String> {
        self.columns.clear();
        let mut made = Vec::new();
        for (table, rows) in [("r1", 12), ("r2", 7)] {
            let columns: Vec<String> = TYPES
                .iter()
                .enumerate()
                .map(|(i, (ty, _))| format!("c{i} {ty}"))
                .collect();
            made.push(format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, {})",
                columns.join(", ")
            ));
            for id in 0..rows {
                let values: Vec<String> = (0..TYPES.len()).map(|ty| self.constant(ty)).collect();
                made.push(format!(
                    "INSERT INTO {table} VALUES ({id}, {})",
                    values.join(", ")
                ));
            }
        }
        made
    }

    /// A small query over one or both tables: filter, join, grouping, order.
    pub fn table_query(&mut self) -> String {
        let both = self.random.random_bool(0.4);
        let tables: &[&str] = if both { &["r1", "r2"] } else { &["r1"] };
        self.columns = tables
            .iter()
            .flat_map(|t| (0..TYPES.len()).map(move |ty| (format!("{t}.c{ty}"), ty)))
            .collect();
        let from = if both {
            let kind = *self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let ty = *self.pick(&[1, 2, 7, 11]);
            format!("r1 {kind} r2 ON r1.c{ty} = r2.c{ty}")
        } else {
            "r1".to_owned()
        };
        let filter = if self.random.random_bool(0.5) {
            format!(" WHERE {}", self.expression(0, 2))
        } else {
            String::new()
        };
        if self.random.random_bool(0.3) {
            return self.grouped(&from, &filter);
        }
        let ty = self.random.random_range(0..TYPES.len());
        let shown = self.expression(ty, 2);
        let ids = if both { "r1.id, r2.id" } else { "r1.id" };
        format!("SELECT {ids}, {shown} FROM {from}{filter} ORDER BY {ids}")
    }

    fn grouped(&mut self, from: &str, filter: &str) -> String {
        let key = *self.pick(&[0, 1, 2, 7, 11]);
        let aggregate = *self.pick(&["sum", "avg", "min", "max", "count", "stddev", "var_pop"]);
        let distinct = *self.pick(&["", "DISTINCT "]);
        // Of equal decimals with unequal scales either may be kept.
        let keeps_one = !distinct.is_empty() || matches!(aggregate, "min" | "max");
        let types: &[usize] = if keeps_one { &[1, 2, 3] } else { &[1, 2, 3, 4] };
        let ty = *self.pick(types);
        let value = self.expression(ty, 1);
        let having = *self.pick(&["", " HAVING count(*) > 1"]);
        format!(
            "SELECT r1.c{key}, count(*), {aggregate}({distinct}{value}) FROM {from}{filter} \
             GROUP BY r1.c{key}{having} ORDER BY r1.c{key}"
        )
    }
}
