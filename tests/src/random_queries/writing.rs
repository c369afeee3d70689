//! Statements that write: a change of a table, WITH queries in front of it, and changes in WITH, which the rest of the
//! statement reads or does not.
//!
//! All parts of a statement see the tables as they were before it. No two write to the same table or to tables that
//! refer to one another, so that it does not matter which goes first.

use std::collections::BTreeSet;

use super::changes::{RETURNING, anything};
use super::maker::{Maker, Room};
use super::sources::Named;
use super::tree::{Cte, Node, Statement, Ty, With, words};
use super::world::Table;

/// With names for what RETURNING gives, and what these are.
fn named(node: Node, mut name: impl FnMut() -> String) -> (Node, Vec<(String, Ty, f64)>) {
    let mut columns = Vec::new();
    let Node::Form(form, mut parts) = node else {
        return (node, columns);
    };
    for part in &mut parts {
        let Node::List(list) = part else {
            continue;
        };
        if list.before != RETURNING {
            continue;
        }
        for item in &mut list.items {
            let Node::Value(ty, _) = item else {
                continue;
            };
            let (ty, alias) = (*ty, name());
            columns.push((alias.clone(), ty, anything(ty, 0.0)));
            *item = Node::Form("{0} AS {1}", vec![item.clone(), words(alias)]);
        }
    }
    (Node::Form(form, parts), columns)
}

impl Maker {
    pub(super) fn change(&mut self) -> Statement {
        let mut with = With::default();
        if self.chance(0.25) {
            with = self.some_with(&[], Room::outermost());
        }
        let mut written = BTreeSet::new();
        if self.chance(0.4) {
            for _ in 0..=self.below(2) {
                if let Some(table) = self.unwritten(&written) {
                    written.extend(self.world.related(&table.name));
                    with.parts.push(self.change_in_with(&table));
                }
            }
        }
        let reads = !written.is_empty() && self.chance(0.6);
        let node = match self.unwritten(&written).filter(|_| !reads) {
            Some(table) => {
                let change = self.change_of(&table);
                if with.parts.is_empty() {
                    change
                } else {
                    Node::Under(with, Box::new(change))
                }
            }
            None => {
                let mut query = self.outermost_query();
                with.recursive |= query.with.recursive;
                with.parts.append(&mut query.with.parts);
                query.with = with;
                Node::Query(Box::new(query))
            }
        };
        let tables = self.world.tables.iter();
        Statement::Change {
            tables: tables.map(|table| table.name.clone()).collect(),
            node,
        }
    }

    /// A table that nothing has to do with what is written already.
    fn unwritten(&mut self, written: &BTreeSet<String>) -> Option<Table> {
        let tables = self.world.tables.iter();
        let free: Vec<Table> = tables
            .filter(|table| !written.contains(&table.name))
            .cloned()
            .collect();
        (!free.is_empty()).then(|| self.pick(&free).clone())
    }

    fn change_in_with(&mut self, table: &Table) -> Cte {
        let node = self.change_of(table);
        let (of, columns) = named(node, || self.name('c'));
        let name = self.name('w');
        // Without RETURNING there is nothing to be read.
        if !columns.is_empty() {
            self.ctes.push(Named {
                name: name.clone(),
                columns,
                // Of an INSERT ... SELECT nobody has counted them.
                rows: 150.0,
            });
        }
        Cte {
            name,
            columns: Vec::new(),
            words: "",
            of,
        }
    }
}
