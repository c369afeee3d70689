//! Schemas with rows: a few small tables whose columns have names by type, so that any two may be joined by name.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::references::{Reference, refer};
use super::tree::Ty;

/// The most rows of a table.
const MOST_ROWS: usize = 24;

#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub tables: Vec<Table>,
    /// Whether the planners know how many rows there are.
    pub analyzed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// The first column, `id`, is the primary key.
    pub keyed: bool,
    /// Constants as they stand in VALUES.
    pub rows: Vec<Vec<String>>,
    pub indexes: Vec<Index>,
    /// To a key of another table or of its own.
    pub reference: Option<Reference>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub ty: Ty,
    pub not_null: bool,
}

/// What stands behind the table's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    pub unique: bool,
    pub of: String,
}

/// The first letter of columns of a type: whatever has the same name can be compared.
fn letter(ty: Ty) -> char {
    match ty {
        Ty::Bool => 'b',
        Ty::Int2 | Ty::Int4 | Ty::Int8 => 'i',
        Ty::Numeric => 'n',
        Ty::Float => 'f',
        Ty::Text => 's',
        Ty::Date => 'd',
        Ty::Stamp => 'm',
    }
}

/// Constants that rows and statements have in common, so that conditions hold now and then.
pub fn constants(ty: Ty) -> &'static [&'static str] {
    match ty {
        Ty::Bool => &["true", "false"],
        Ty::Int2 | Ty::Int4 | Ty::Int8 => &["0", "1", "2", "3", "4", "5", "7", "10", "-1", "-3"],
        // Some are equal, and must be found so.
        Ty::Numeric => &[
            "0", "1", "1.0", "2.5", "2.50", "1.50", "-0.25", "3", "10.00", "99.99",
        ],
        Ty::Float => &["0", "1", "2.5", "-0.25", "3", "10.75"],
        Ty::Text => &[
            "''", "'a'", "'b'", "'ab'", "'abc'", "'B'", "'a%'", "' a'", "'1'", "'é'",
        ],
        Ty::Date => &[
            "'2024-01-01'",
            "'2024-01-02'",
            "'2024-02-29'",
            "'2023-12-31'",
            "'2024-06-15'",
        ],
        Ty::Stamp => &[
            "'2024-01-01 00:00:00'",
            "'2024-01-02 03:04:05'",
            "'2024-02-29 23:59:59.5'",
            "'2023-12-31 12:00:00'",
        ],
    }
}

/// No constant of the type is larger (see [`Ty::limit`]).
pub fn bound(ty: Ty) -> f64 {
    match ty {
        Ty::Bool => 1.0,
        Ty::Int2 | Ty::Int4 | Ty::Int8 => 10.0,
        Ty::Numeric => 100.0,
        Ty::Float => 11.0,
        Ty::Text => 3.0,
        Ty::Date | Ty::Stamp => 200.0,
    }
}

/// No key is larger.
pub const KEY_BOUND: f64 = 30.0;

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        // One is empty, one has many rows, whatever the seed.
        let rows = [0, MOST_ROWS, 8, 5, random.random_range(1..=12)];
        let mut tables: Vec<Table> = rows
            .iter()
            .enumerate()
            .map(|(i, rows)| Table::new(i, *rows, &mut random))
            .collect();
        refer(&mut tables, &mut random);
        World {
            tables,
            analyzed: random.random_bool(0.7),
        }
    }

    /// Tables with their rows, and what refers to what.
    pub fn tables(&self) -> Vec<String> {
        let mut all: Vec<String> = self.tables.iter().flat_map(Table::sql).collect();
        all.extend(self.tables.iter().filter_map(Table::constraint));
        all
    }

    /// What changes no answer.
    pub fn indexes(&self) -> Vec<String> {
        let mut all: Vec<String> = self.tables.iter().flat_map(Table::indexes).collect();
        if self.analyzed && !self.tables.is_empty() {
            let names: Vec<&str> = self.tables.iter().map(|t| t.name.as_str()).collect();
            // Without names it would be the whole catalog.
            all.push(format!("ANALYZE {}", names.join(", ")));
        }
        all
    }
}

impl Table {
    fn new(number: usize, rows: usize, random: &mut StdRng) -> Table {
        // One is always keyed, so that there is something to refer to.
        let keyed = random.random_bool(0.6) || number == 2;
        // Without key, but without duplicates.
        let unique = random.random_bool(0.3);
        let columns = columns(keyed, random);
        let numbered = keyed || unique;
        let rows = (1..=rows)
            .map(|id| row(&columns, id, numbered, random))
            .collect();
        let mut table = Table {
            name: format!("t{}", ["a", "b", "c", "d", "e"][number]),
            columns,
            keyed,
            rows,
            indexes: Vec::new(),
            reference: None,
        };
        if unique && !keyed {
            table.indexes.push(Index {
                unique: true,
                of: "(id)".to_owned(),
            });
        }
        for _ in 0..random.random_range(0..=3) {
            let index = table.index(random);
            table.indexes.push(index);
        }
        table
    }

    fn index(&self, random: &mut StdRng) -> Index {
        let column = self.columns.choose(random).expect("columns");
        let second = self.columns.choose(random).expect("columns");
        let (name, other) = (&column.name, &second.name);
        let is_number = matches!(column.ty, Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Numeric);
        let of = match random.random_range(0..10) {
            0 => format!("({name} DESC)"),
            1 => format!("({name} NULLS FIRST)"),
            2 | 3 if name != other => format!("({name}, {other})"),
            4 if name != other => format!("({name}, {other} DESC NULLS LAST)"),
            5 if column.ty == Ty::Text => format!("(lower({name}))"),
            5 if is_number => format!("(({name} + 1))"),
            6 if name != other => format!("({name}) INCLUDE ({other})"),
            7 => format!("({name}) WHERE {other} IS NOT NULL"),
            _ => format!("({name})"),
        };
        Index { unique: false, of }
    }

    pub fn sql(&self) -> Vec<String> {
        let shown = |column: &Column| {
            let mut text = format!("{} {}", column.name, column.ty.sql());
            if self.keyed && column.name == "id" {
                text.push_str(" PRIMARY KEY");
            } else if column.not_null {
                text.push_str(" NOT NULL");
            }
            text
        };
        let columns: Vec<String> = self.columns.iter().map(shown).collect();
        let name = &self.name;
        let mut all = vec![format!("CREATE TABLE {name} ({})", columns.join(", "))];
        if !self.rows.is_empty() {
            let shown = |row: &Vec<String>| format!("({})", row.join(", "));
            let rows: Vec<String> = self.rows.iter().map(shown).collect();
            all.push(format!("INSERT INTO {name} VALUES {}", rows.join(", ")));
        }
        all
    }

    fn indexes(&self) -> Vec<String> {
        let shown = |index: &Index| {
            let unique = if index.unique { "UNIQUE " } else { "" };
            format!("CREATE {unique}INDEX ON {} {}", self.name, index.of)
        };
        self.indexes.iter().map(shown).collect()
    }

    /// Whether no two rows have the same `id`.
    pub fn is_numbered(&self) -> bool {
        self.keyed || self.indexes.iter().any(|index| index.unique)
    }
}

fn columns(keyed: bool, random: &mut StdRng) -> Vec<Column> {
    let mut columns = vec![Column {
        name: "id".to_owned(),
        ty: Ty::Int4,
        not_null: keyed,
    }];
    for _ in 0..random.random_range(3..=7) {
        let ty = *Ty::ALL.choose(random).expect("types");
        let name = format!("{}{}", letter(ty), random.random_range(1..=2));
        if columns.iter().all(|column| column.name != name) {
            columns.push(Column {
                name,
                ty,
                not_null: random.random_bool(0.25),
            });
        }
    }
    columns
}

fn row(columns: &[Column], id: usize, numbered: bool, random: &mut StdRng) -> Vec<String> {
    let mut row = Vec::with_capacity(columns.len());
    for column in columns {
        let text = if column.name == "id" && numbered {
            id.to_string()
        } else if !column.not_null && random.random_bool(0.25) {
            "NULL".to_owned()
        } else {
            let all = constants(column.ty);
            (*all.choose(random).expect("constants")).to_owned()
        };
        row.push(text);
    }
    row
}
