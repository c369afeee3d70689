//! WITH in front of queries: queries with names, and those that name themselves, which end because they count or because
//! UNION leaves out what was there before.

use super::changes::anything;
use super::maker::{Leaf, Maker, Room, Scope};
use super::sources::{Named, column};
use super::tree::{Body, Cte, Item, Join, List, Node, Query, Select, Ty, With, words};
use super::values::made;

/// What a recursive query has come to.
struct Rounds {
    query: Query,
    columns: Vec<(String, Ty, f64)>,
    rows: f64,
}

fn inside(items: Vec<Node>) -> Option<Node> {
    let list = List {
        before: "",
        items,
        between: " AND ",
        after: "",
        least: 1,
    };
    (!list.items.is_empty()).then_some(Node::List(list))
}

/// Columns of the rows that the round before has found. They are not computed with: who knows how often.
fn found_before(alias: &str, columns: &[(String, Ty, f64)]) -> Vec<Leaf> {
    let leaf =
        |(name, ty, bound): &(String, Ty, f64)| column(alias, name, *ty, anything(*ty, *bound));
    columns.iter().map(leaf).collect()
}

impl Maker {
    pub(super) fn with(&mut self, outer: &[Leaf], room: Room) -> With {
        let likely = if room.nesting == 0 { 0.25 } else { 0.04 };
        if room.nesting < 2 && self.chance(likely) {
            self.some_with(outer, room)
        } else {
            With::default()
        }
    }

    /// One to three, which may name those before them.
    pub(super) fn some_with(&mut self, outer: &[Leaf], room: Room) -> With {
        let mut with = With::default();
        let inner = Room {
            nesting: room.nesting + 1,
            ..room
        };
        for _ in 0..=self.below(2) {
            let part = if self.chance(0.35) {
                with.recursive = true;
                self.recursive(outer, inner)
            } else {
                self.named_query(outer, inner)
            };
            with.parts.push(part);
        }
        with.recursive |= self.chance(0.05);
        with
    }

    fn named_query(&mut self, outer: &[Leaf], room: Room) -> Cte {
        let types = self.some_types(3);
        let mut made = self.query(&types, outer, room);
        let mut columns = Vec::new();
        if self.chance(0.2) {
            for column in &mut made.columns {
                column.0 = self.name('c');
                columns.push(column.0.clone());
            }
        }
        let name = self.name('w');
        self.ctes.push(Named {
            name: name.clone(),
            columns: made.columns,
            rows: made.rows,
        });
        Cte {
            name,
            columns,
            words: self.pick::<&str>(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]),
            of: Node::Query(Box::new(made.query)),
        }
    }

    fn recursive(&mut self, outer: &[Leaf], room: Room) -> Cte {
        let name = self.name('w');
        let rounds = if self.chance(0.6) {
            self.counting(&name, outer, room)
        } else {
            self.walk(&name, outer, room)
        };
        let columns = if self.chance(0.5) {
            rounds.columns.iter().map(|c| c.0.clone()).collect()
        } else {
            Vec::new()
        };
        self.ctes.push(Named {
            name: name.clone(),
            columns: rounds.columns,
            rows: rounds.rows,
        });
        Cte {
            name,
            columns,
            words: self.pick::<&str>(&["", "", "", "MATERIALIZED ", "NOT MATERIALIZED "]),
            of: Node::Query(Box::new(rounds.query)),
        }
    }

    /// Its first column counts the rounds, up to a limit; nothing of that is ever taken out.
    fn counting(&mut self, name: &str, outer: &[Leaf], room: Room) -> Rounds {
        let (mut first, start) = self.beginning(outer, room);
        let counter = Leaf {
            node: Node::Kept(Box::new(words("0"))),
            ty: Ty::Int4,
            bound: 6.0,
        };
        let mut columns = vec![self.item(&mut first, counter)];
        for ty in self.some_types(2) {
            let leaf = self.value(ty, 1, &start);
            columns.push(self.item(&mut first, leaf));
        }
        let alias = self.name('x');
        let before = found_before(&alias, &columns);
        let (from, beside, rounds, rows) = self.beside_rounds(name, &alias, (&start, room));
        let scope = Scope::new(beside, outer, rows, room);
        let number = columns[0].0.clone();
        let mut next = Select::plain(Vec::new(), from, None);
        next.items.push(Item {
            value: Node::Kept(Box::new(words(format!("{alias}.{number} + 1")))),
            alias: None,
        });
        let mut both = scope.clone();
        both.own.extend(before.iter().cloned());
        both.passed = both.own.clone();
        for (column, old) in columns.iter_mut().zip(&before).skip(1) {
            let old = Leaf {
                bound: column.2,
                ..old.clone()
            };
            let leaf = self.of_round(&old, rounds, &scope, &both);
            column.2 = leaf.bound;
            next.items.push(Item {
                value: leaf.node,
                alias: None,
            });
        }
        let end = words(format!("{alias}.{number} < {rounds}"));
        let mut conditions = vec![Node::Kept(Box::new(end))];
        if self.chance(0.4) {
            conditions.push(self.condition(1, &both).node);
        }
        next.filter = inside(conditions);
        let word = *self.pick(&["UNION ALL", "UNION ALL", "UNION"]);
        let plain = |select| Query::plain(Body::Select(Box::new(select)));
        Rounds {
            query: Query::plain(Body::Set(word, Box::new((plain(first), plain(next))))),
            columns,
            rows: rows * f64::from(rounds + 1),
        }
    }

    /// The query that is asked first, without a list: of one row, or of those of a table.
    fn beginning(&mut self, outer: &[Leaf], room: Room) -> (Select, Scope) {
        if self.chance(0.6) {
            let scope = Scope::new(Vec::new(), outer, 1.0, room);
            return (Select::plain(Vec::new(), Vec::new(), None), scope);
        }
        let alias = self.name('x');
        let table = self.table(&alias);
        let scope = Scope::new(table.leaves, outer, table.rows, room);
        let conditions = vec![self.condition(1, &scope).node];
        let select = Select::plain(Vec::new(), vec![table.node], inside(conditions));
        (select, scope)
    }

    /// The query itself in FROM, and now and then a table beside it; how many rounds there are then, and how many rows
    /// in the last at most.
    fn beside_rounds(
        &mut self,
        name: &str,
        alias: &str,
        (start, room): (&Scope, Room),
    ) -> (Vec<Node>, Vec<Leaf>, u32, f64) {
        let itself = words(format!("{name} AS {alias}"));
        let first = start.rows.max(1.0);
        let other = self.name('x');
        let table = self.table(&other);
        // Each row meets all rows of the table, twice.
        let rows = first * table.rows.max(1.0) * table.rows.max(1.0);
        if rows > room.rows || self.chance(0.5) {
            let rounds = 2 + self.below(5);
            return (vec![itself], Vec::new(), rounds, first);
        }
        let word = *self.pick(&["JOIN", "LEFT JOIN", "CROSS JOIN"]);
        let scope = Scope::new(table.leaves.clone(), &[], rows, room);
        let condition = (word != "CROSS JOIN")
            .then(|| Node::Form("ON {0}", vec![self.condition(1, &scope).node]));
        let join = Node::Join(Box::new(Join {
            left: itself,
            word,
            right: table.node,
            condition,
        }));
        (vec![join], table.leaves, 2, rows)
    }

    /// What a column becomes from one round to the next. Its size is that of the last.
    fn of_round(&mut self, old: &Leaf, rounds: u32, scope: &Scope, both: &Scope) -> Leaf {
        let ty = old.ty;
        let new = self.leaf(ty, scope);
        let most = old.bound.max(new.bound);
        let sum = old.bound + f64::from(rounds) * new.bound;
        let parts = vec![old.node.clone(), new.node.clone()];
        match self.below(6) {
            0 => old.clone(),
            1 => new,
            2 | 3 => match ty {
                // Of floats it might be rounded.
                Ty::Bool | Ty::Float => old.clone(),
                Ty::Date => made(ty, old.bound + 6.0, "({0} + 1)", parts),
                Ty::Stamp => made(ty, old.bound + 6.0, "({0} + interval '1 day')", parts),
                _ if sum > ty.limit() => old.clone(),
                Ty::Text => made(ty, sum, "({0} || {1})", parts),
                _ => made(ty, sum, "({0} + {1})", parts),
            },
            4 => made(ty, most, "coalesce({1}, {0})", parts),
            _ => {
                let mut parts = parts;
                parts.push(self.condition(1, both).node);
                made(ty, most, "CASE WHEN {2} THEN {0} ELSE {1} END", parts)
            }
        }
    }

    /// From rows of a table to others of it. All that is found is made of a row of the table alone, so that there is an
    /// end.
    fn walk(&mut self, name: &str, outer: &[Leaf], room: Room) -> Rounds {
        let (start, alias, next) = (self.name('x'), self.name('x'), self.name('x'));
        let from = self.table(&start);
        let scope = Scope::new(from.leaves, outer, from.rows, room);
        let conditions = vec![self.condition(1, &scope).node];
        let mut first = Select::plain(Vec::new(), vec![from.node], inside(conditions));
        let mut columns = Vec::new();
        for _ in 0..=self.below(3) {
            let leaf = self.pick(&scope.own).clone();
            columns.push(self.item(&mut first, leaf));
        }
        let table = self.table(&next);
        let own = Scope::new(table.leaves.clone(), outer, table.rows, room);
        let before = found_before(&alias, &columns);
        let mut conditions: Vec<Node> = self.equality(&before, &table.leaves).into_iter().collect();
        let mut both = own.clone();
        both.own.extend(before);
        both.passed = both.own.clone();
        if conditions.is_empty() || self.chance(0.3) {
            conditions.push(self.condition(1, &both).node);
        }
        let itself = words(format!("{name} AS {alias}"));
        let mut second = Select::plain(Vec::new(), vec![itself, table.node], inside(conditions));
        for column in &mut columns {
            let leaf = self.value(column.1, 1, &own);
            column.2 = column.2.max(leaf.bound);
            second.items.push(Item {
                value: leaf.node,
                alias: None,
            });
        }
        let plain = |select| Query::plain(Body::Select(Box::new(select)));
        Rounds {
            query: Query::plain(Body::Set("UNION", Box::new((plain(first), plain(second))))),
            columns,
            rows: from.rows + table.rows,
        }
    }
}
