//! Foreign keys of a world: one or two tables refer to another, or to themselves.
//!
//! No table has two, so that what a change comes to does not depend on which of them is looked at first.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::tree::Ty;
use super::world::{Column, Index, Table, World};

/// The column that refers.
pub const REFERRING: &str = "r1";

/// From that column to the key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    pub table: String,
    /// What stands behind it.
    pub words: &'static str,
}

const AT_ONCE: &[&str] = &[
    "",
    " ON UPDATE CASCADE",
    " ON DELETE CASCADE",
    " ON DELETE CASCADE ON UPDATE CASCADE",
    " ON DELETE SET NULL",
    " ON DELETE SET NULL ON UPDATE CASCADE",
    " ON DELETE CASCADE ON UPDATE SET NULL",
    " ON DELETE RESTRICT",
];

const DEFERRED: &[&str] = &[
    " DEFERRABLE INITIALLY DEFERRED",
    " DEFERRABLE INITIALLY DEFERRED",
    " ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
    " ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
];

/// Lets one or two tables refer to tables with a key.
pub fn refer(tables: &mut [Table], random: &mut StdRng) {
    let referred: Vec<(String, usize)> = tables
        .iter()
        .filter(|table| table.keyed && !table.rows.is_empty())
        .map(|table| (table.name.clone(), table.rows.len()))
        .collect();
    let mut numbers: Vec<usize> = (0..tables.len()).collect();
    numbers.shuffle(random);
    let deferred = random.random_bool(0.6);
    for (i, number) in numbers.into_iter().take(2).enumerate() {
        if i == 1 && random.random_bool(0.3) {
            break;
        }
        let Some((name, rows)) = referred.choose(random) else {
            return;
        };
        let table = &mut tables[number];
        let all = if i == 0 && deferred {
            DEFERRED
        } else {
            AT_ONCE
        };
        table.reference = Some(Reference {
            table: name.clone(),
            words: all.choose(random).expect("words"),
        });
        table.columns.push(Column {
            name: REFERRING.to_owned(),
            ty: Ty::Int4,
            not_null: false,
        });
        for row in &mut table.rows {
            row.push(if random.random_bool(0.25) {
                "NULL".to_owned()
            } else {
                random.random_range(1..=*rows).to_string()
            });
        }
        if random.random_bool(0.4) {
            table.indexes.push(Index {
                unique: false,
                of: format!("({REFERRING})"),
            });
        }
    }
}

impl Table {
    /// Once all tables are there.
    pub fn constraint(&self) -> Option<String> {
        let reference = self.reference.as_ref()?;
        let (name, other, words) = (&self.name, &reference.table, reference.words);
        Some(format!(
            "ALTER TABLE {name} ADD FOREIGN KEY ({REFERRING}) REFERENCES {other} (id){words}"
        ))
    }

    /// Without the column, and what needs it.
    pub fn drop_column(&mut self, number: usize) {
        let column = self.columns.remove(number);
        for row in &mut self.rows {
            row.remove(number);
        }
        if column.name == REFERRING {
            self.reference = None;
        }
    }
}

impl World {
    /// Only these tables; what refers to others does so no longer.
    pub fn retain(&mut self, wanted: impl Fn(&Table) -> bool) {
        self.tables.retain(wanted);
        let left: BTreeSet<String> = self.tables.iter().map(|t| t.name.clone()).collect();
        for table in &mut self.tables {
            table.reference = table
                .reference
                .take()
                .filter(|reference| left.contains(&reference.table));
        }
    }

    /// The table, and all that a change of it may reach or look at.
    pub fn related(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([name.to_owned()]);
        loop {
            let before = found.len();
            for table in &self.tables {
                if let Some(reference) = &table.reference
                    && (found.contains(&table.name) || found.contains(&reference.table))
                {
                    found.insert(table.name.clone());
                    found.insert(reference.table.clone());
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }
}
