//! INSERT ... SELECT, UPDATE ... FROM and DELETE ... USING, each determined by SQL: where several rows of FROM meet one
//! of the table, nothing is taken from them, and no two rows are inserted or updated of which one has to be refused.

use super::maker::{Leaf, Maker, Room, Scope};
use super::references::REFERRING;
use super::sources::{column, columns_of};
use super::tree::{List, Node, Ty, commas, value, words};
use super::world::{Column, KEY_BOUND, Table, bound};

/// What stands before the values that a change gives.
pub(super) const RETURNING: &str = " RETURNING ";

/// The table's columns by this name, with sizes as `of` says.
fn leaves(table: &Table, alias: &str, of: fn(Ty, f64) -> f64) -> Vec<Leaf> {
    columns_of(table)
        .iter()
        .map(|(name, ty, bound)| column(alias, name, *ty, of(*ty, *bound)))
        .collect()
}

fn stored(_: Ty, bound: f64) -> f64 {
    bound
}

/// What a statement has put there may be anything, and is not computed with.
pub(super) fn anything(ty: Ty, _: f64) -> f64 {
    if ty == Ty::Float {
        f64::INFINITY
    } else {
        ty.limit()
    }
}

fn optional(node: Node) -> Node {
    Node::Optional(Box::new(node))
}

fn kept(node: Node) -> Node {
    Node::Kept(Box::new(node))
}

impl Maker {
    /// A change of the table, and of those that refer to it.
    pub(super) fn change_of(&mut self, table: &Table) -> Node {
        match self.below(22) {
            0..=5 => self.insert_of_keys(table),
            6..=8 => self.insert_of_query(table),
            9..=13 => self.update(table),
            14 | 15 => self.update_by_groups(table),
            16 | 17 => self.update_of_keys(table),
            _ => self.delete(table),
        }
    }

    /// Rows whose keys are made of those of another table, and so are no duplicates.
    fn insert_of_keys(&mut self, table: &Table) -> Node {
        let numbered = self.world.tables.iter().filter(|table| table.is_numbered());
        let numbered: Vec<Table> = numbered.cloned().collect();
        if numbered.is_empty() {
            return self.insert_of_query(table);
        }
        let source = self.pick(&numbered).clone();
        let (target, from) = (self.name('x'), self.name('x'));
        let own = leaves(&source, &from, stored);
        let scope = Scope::new(own, &[], source.rows.len() as f64, Room::outermost());
        // Beyond all keys, or among them.
        let meets = table.is_numbered() && self.chance(0.5);
        let more = if meets { 3 } else { 1_000 };
        let (mut names, mut items) = (
            vec!["id".to_owned()],
            vec![kept(words(format!("{from}.id + {more}")))],
        );
        for column in self.written(table) {
            items.push(self.written_value(table, &column, &scope));
            names.push(column.name);
        }
        let conflict = if meets {
            self.conflict(&names)
        } else {
            words("")
        };
        let filter = self.filter(&scope, Vec::new());
        let parts = vec![
            words(format!("{} AS {target} ({})", table.name, names.join(", "))),
            commas(items),
            words(format!("{} AS {from}", source.name)),
            filter,
            conflict,
            self.returning(&leaves(table, &target, anything)),
        ];
        Node::Form("INSERT INTO {0} SELECT {1} FROM {2}{3}{4}{5}", parts)
    }

    fn conflict(&mut self, names: &[String]) -> Node {
        match (self.below(3), names.get(1)) {
            (0, _) => words(" ON CONFLICT DO NOTHING"),
            (1, _) | (_, None) => words(" ON CONFLICT (id) DO NOTHING"),
            (_, Some(name)) => words(format!(
                " ON CONFLICT (id) DO UPDATE SET {name} = EXCLUDED.{name}"
            )),
        }
    }

    /// Whatever a query gives, in some of the columns; a primary key would be NULL.
    fn insert_of_query(&mut self, table: &Table) -> Node {
        let target = self.name('x');
        let mut columns = self.written(table);
        columns.retain(|column| column.name != REFERRING);
        if columns.is_empty() || table.keyed {
            return self.delete(table);
        }
        let types: Vec<Ty> = columns.iter().map(|column| column.ty).collect();
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let made = self.query(&types, &[], Room::outermost());
        let parts = vec![
            words(format!("{} AS {target} ({})", table.name, names.join(", "))),
            Node::Query(Box::new(made.query)),
            self.returning(&leaves(table, &target, anything)),
        ];
        Node::Form("INSERT INTO {0} {1}{2}", parts)
    }

    /// Some columns other than the key; of those that take no NULL, all.
    fn written(&mut self, table: &Table) -> Vec<Column> {
        let mut columns: Vec<Column> = table.columns[1..].to_vec();
        columns.retain(|column| column.not_null || self.chance(0.6));
        columns
    }

    fn written_value(&mut self, table: &Table, column: &Column, scope: &Scope) -> Node {
        if column.name == REFERRING
            && let Some(key) = self.referred_key(table)
        {
            return key;
        }
        let of = self.value(column.ty, 2, scope).node;
        if !column.not_null {
            return of;
        }
        let plainest = words(column.ty.plainest());
        value(
            column.ty,
            Node::Form("coalesce({0}, {1})", vec![of, kept(plainest)]),
        )
    }

    /// Mostly one that is there, or else most changes would be refused; now and then none, or anything.
    fn referred_key(&mut self, table: &Table) -> Option<Node> {
        let reference = table.reference.as_ref()?;
        let mut tables = self.world.tables.iter();
        let other = tables.find(|other| other.name == reference.table)?;
        let rows = other.rows.len() as u32;
        if rows == 0 || self.chance(0.1) {
            return None;
        }
        let key = if self.chance(0.15) {
            "NULL::int4".to_owned()
        } else {
            (1 + self.below(rows)).to_string()
        };
        Some(value(Ty::Int4, words(key)))
    }

    /// Keys beyond all others: rows that refer to them follow, or are in the way.
    fn update_of_keys(&mut self, table: &Table) -> Node {
        let target = self.name('x');
        let own = leaves(table, &target, stored);
        let alone = Scope::new(own, &[], table.rows.len() as f64, Room::outermost());
        let set = kept(words(format!("id = {target}.id + 1000")));
        let parts = vec![
            words(format!("{} AS {target}", table.name)),
            set,
            self.filter(&alone, Vec::new()),
            self.returning(&leaves(table, &target, anything)),
        ];
        Node::Form("UPDATE {0} SET {1}{2}{3}", parts)
    }

    fn update(&mut self, table: &Table) -> Node {
        let target = self.name('x');
        let own = leaves(table, &target, stored);
        let rows = table.rows.len() as f64;
        let alone = Scope::new(own, &[], rows, Room::outermost());
        let sets = self.sets(table, &alone);
        let (from, filter) = self.beside_target(" FROM ", &alone);
        let parts = vec![
            words(format!("{} AS {target}", table.name)),
            sets,
            from,
            filter,
            self.returning(&leaves(table, &target, anything)),
        ];
        Node::Form("UPDATE {0} SET {1}{2}{3}{4}", parts)
    }

    fn sets(&mut self, table: &Table, scope: &Scope) -> Node {
        let mut columns = self.written(table);
        if columns.is_empty() {
            columns.push(table.columns[1].clone());
        }
        let set = |maker: &mut Maker, column: &Column| {
            let to = maker.written_value(table, column, scope);
            Node::Form("{0} = {1}", vec![words(&column.name), to])
        };
        commas(columns.iter().map(|column| set(self, column)).collect())
    }

    /// Other tables, of which it only counts whether there is a row.
    fn beside_target(&mut self, word: &'static str, alone: &Scope) -> (Node, Node) {
        if self.chance(0.4) {
            return (words(""), self.filter(alone, Vec::new()));
        }
        let room = Room {
            rows: 80.0,
            ..Room::outermost()
        };
        let (items, sources) = self.from(&[], room);
        let equality = self.equality(&alone.own, &sources.leaves);
        let mut both = alone.own.clone();
        both.extend(sources.leaves);
        let rows = alone.rows.max(1.0) * sources.rows.max(1.0);
        let scope = Scope::new(both, &[], rows, Room::outermost());
        let filter = self.filter(&scope, equality.into_iter().collect());
        let from = Node::List(List {
            before: word,
            items,
            between: ", ",
            after: "",
            least: 0,
        });
        (from, filter)
    }

    fn filter(&mut self, scope: &Scope, mut items: Vec<Node>) -> Node {
        if self.chance(0.6) {
            items.push(self.condition(2, scope).node);
        }
        Node::List(List {
            before: " WHERE ",
            items,
            between: " AND ",
            after: "",
            least: 0,
        })
    }

    /// From a grouped subquery with a row for each key at most: both sides' values may be used.
    fn update_by_groups(&mut self, table: &Table) -> Node {
        let source = self.random_table();
        let shared = |c: &&Column| source.columns.iter().any(|s| s.ty == c.ty);
        let Some(key) = table.columns.iter().find(shared) else {
            return self.update(table);
        };
        let its = source.columns.iter().find(|s| s.ty == key.ty);
        let its = its.map_or("id", |column| column.name.as_str());
        let (target, from, group) = (self.name('x'), self.name('x'), self.name('x'));
        let inner = Scope::new(
            leaves(&source, &from, stored),
            &[],
            source.rows.len() as f64,
            Room::outermost(),
        );
        let aggregate = self.aggregate(&inner);
        let mut own = leaves(table, &target, stored);
        own.push(column(&group, "k", key.ty, bound(key.ty).max(KEY_BOUND)));
        own.push(column(&group, "v", aggregate.ty, aggregate.bound));
        let scope = Scope::new(own, &[], table.rows.len() as f64, Room::outermost());
        let sets = self.sets(table, &scope);
        let (name, its_name) = (&key.name, &source.name);
        let subquery = Node::Form(
            "{1} AS k, {0} AS v FROM {2} GROUP BY {1}",
            vec![
                aggregate.node,
                words(format!("{from}.{its}")),
                words(format!("{its_name} AS {from}")),
            ],
        );
        let first = kept(words(format!("{target}.{name} = {group}.k")));
        let more = optional(Node::Form(" AND {0}", vec![self.condition(1, &scope).node]));
        let mut shown = leaves(table, &target, anything);
        shown.push(column(
            &group,
            "v",
            aggregate.ty,
            anything(aggregate.ty, 0.0),
        ));
        let parts = vec![
            words(format!("{} AS {target}", table.name)),
            sets,
            subquery,
            words(&group),
            first,
            more,
            self.returning(&shown),
        ];
        Node::Form(
            "UPDATE {0} SET {1} FROM (SELECT {2}) AS {3} WHERE {4}{5}{6}",
            parts,
        )
    }

    fn delete(&mut self, table: &Table) -> Node {
        let target = self.name('x');
        let own = leaves(table, &target, stored);
        let alone = Scope::new(own, &[], table.rows.len() as f64, Room::outermost());
        let (using, filter) = self.beside_target(" USING ", &alone);
        let parts = vec![
            words(format!("{} AS {target}", table.name)),
            using,
            filter,
            self.returning(&alone.own),
        ];
        Node::Form("DELETE FROM {0}{1}{2}{3}", parts)
    }

    fn returning(&mut self, own: &[Leaf]) -> Node {
        if self.chance(0.2) {
            return words("");
        }
        let scope = Scope::new(own.to_vec(), &[], 24.0, Room::outermost());
        let types = self.some_types(3);
        let mut items: Vec<Node> = types
            .iter()
            .map(|ty| self.value(*ty, 1, &scope).node)
            .collect();
        items.push(self.pick(own).node.clone());
        Node::List(List {
            before: RETURNING,
            items,
            between: ", ",
            after: "",
            least: 0,
        })
    }
}
