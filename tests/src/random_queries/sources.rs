//! What stands in FROM: tables, subqueries, VALUES, series, WITH queries, and joins of them.

use super::maker::{Leaf, Made, Maker, Room, Scope};
use super::references::REFERRING;
use super::tree::{Join, List, Node, RowKey, Ty, commas, value, words};
use super::world::{KEY_BOUND, Table, bound};

/// A WITH query that may be named.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub name: String,
    pub columns: Vec<(String, Ty, f64)>,
    pub rows: f64,
}

/// An item of FROM, its columns, and how many rows it has at most.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub node: Node,
    pub leaves: Vec<Leaf>,
    pub rows: f64,
}

/// All items of a FROM.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub leaves: Vec<Leaf>,
    pub rows: f64,
}

const JOINS: &[&str] = &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
const NATURAL: &[&str] = &[
    "NATURAL JOIN",
    "NATURAL LEFT JOIN",
    "NATURAL RIGHT JOIN",
    "NATURAL FULL JOIN",
];

impl Source {
    /// `node` names what has these columns as `alias`. Only all of them together tell its rows apart.
    fn of(node: Node, alias: &str, columns: &[(String, Ty, f64)], rows: f64) -> Source {
        let names = columns.iter().map(|c| format!("{alias}.{}", c.0)).collect();
        let leaves = columns
            .iter()
            .map(|(name, ty, bound)| column(alias, name, *ty, *bound))
            .collect();
        Source {
            node: Node::Source(Box::new(node), RowKey::Columns(names)),
            leaves,
            rows,
        }
    }

    fn told_apart_by(self, key: RowKey) -> Source {
        let node = match self.node {
            Node::Source(inner, _) => Node::Source(inner, key),
            other => other,
        };
        Source { node, ..self }
    }

    pub(super) fn of_named(named: &Named, alias: &str) -> Source {
        let node = words(format!("{} AS {alias}", named.name));
        let key = RowKey::Named {
            name: named.name.clone(),
            alias: alias.to_owned(),
        };
        Source::of(node, alias, &named.columns, named.rows).told_apart_by(key)
    }

    fn of_table(table: &Table, node: Node, alias: &str, columns: &[(String, Ty, f64)]) -> Source {
        let source = Source::of(node, alias, columns, table.rows.len() as f64);
        if table.is_numbered() {
            let key = RowKey::Columns(vec![format!("{alias}.{}", columns[0].0)]);
            return source.told_apart_by(key);
        }
        source
    }
}

pub(super) fn column(alias: &str, name: &str, ty: Ty, bound: f64) -> Leaf {
    Leaf {
        node: value(ty, words(format!("{alias}.{name}"))),
        ty,
        bound,
    }
}

pub(super) fn columns_of(table: &Table) -> Vec<(String, Ty, f64)> {
    let of = |c: &super::world::Column| {
        let most = if c.name == "id" || c.name == REFERRING {
            KEY_BOUND
        } else {
            bound(c.ty)
        };
        (c.name.clone(), c.ty, most)
    };
    table.columns.iter().map(of).collect()
}

impl Maker {
    /// The items of a FROM, now and then none.
    pub(super) fn from(&mut self, outer: &[Leaf], room: Room) -> (Vec<Node>, Sources) {
        if self.chance(0.04) {
            let nothing = Sources {
                leaves: Vec::new(),
                rows: 1.0,
            };
            return (Vec::new(), nothing);
        }
        let first = self.joined(outer, room, 2);
        let mut from = vec![first.node];
        let (mut leaves, mut rows) = (first.leaves, first.rows);
        if self.chance(0.1) {
            let lateral = self.chance(0.3) && may_repeat(room, rows);
            let second = self.beside((&leaves, rows), outer, room, lateral);
            if rows * second.rows <= room.rows {
                from.push(second.node);
                leaves.extend(second.leaves);
                rows *= second.rows;
            }
        }
        (from, Sources { leaves, rows })
    }

    /// An item, or a join of some.
    fn joined(&mut self, outer: &[Leaf], room: Room, depth: u32) -> Source {
        if depth == 0 || self.chance(0.55) {
            return self.source(outer, room);
        }
        if self.chance(0.15) {
            return self.joined_by_name();
        }
        let left = self.joined(outer, room, depth - 1);
        let lateral = self.chance(0.15) && may_repeat(room, left.rows);
        let right = if !lateral && self.chance(0.2) {
            self.joined(outer, room, depth - 1)
        } else {
            self.beside((&left.leaves, left.rows), outer, room, lateral)
        };
        let rows = left.rows.max(1.0) * right.rows.max(1.0) + left.rows + right.rows;
        if rows > room.rows {
            return left;
        }
        let word = match self.below(10) {
            0..=3 => "JOIN",
            4..=6 => "LEFT JOIN",
            // A lateral item may only stand on the side that is not made up of NULLs.
            7 if !lateral => "RIGHT JOIN",
            8 if !lateral => "FULL JOIN",
            7 => "INNER JOIN",
            8 => "LEFT OUTER JOIN",
            _ => "CROSS JOIN",
        };
        let condition = self.condition_of_join(word, &left, &right, outer, room);
        let mut leaves = left.leaves;
        leaves.extend(right.leaves);
        let node = Node::Join(Box::new(Join {
            left: left.node,
            word,
            right: right.node,
            condition,
        }));
        Source { node, leaves, rows }
    }

    /// The right side of a join or of a comma; a lateral one sees the columns to its left.
    fn beside(
        &mut self,
        (left, runs): (&[Leaf], f64),
        outer: &[Leaf],
        room: Room,
        lateral: bool,
    ) -> Source {
        if !lateral {
            return self.source(outer, room);
        }
        let small: Vec<Leaf> = left.iter().filter(|l| l.ty == Ty::Int4).cloned().collect();
        let alias = self.name('x');
        if !small.is_empty() && self.chance(0.25) {
            let end = self.pick(&small).node.clone();
            let form = "generate_series(1, least({0}, 3)) AS {1}";
            let node = Node::Form(form, vec![end, words(format!("{alias} (g)"))]);
            return Source::of(node, &alias, &[("g".to_owned(), Ty::Int4, 3.0)], 3.0);
        }
        let seen: Vec<Leaf> = left.iter().chain(outer).cloned().collect();
        let repeated = Room {
            rows: room.rows / runs.max(1.0),
            runs: room.runs * runs.max(1.0),
            ..room
        };
        let made = self.query_of_source(&seen, repeated);
        let query = Node::Query(Box::new(made.query));
        let node = Node::Form("LATERAL ({0}) AS {1}", vec![query, words(&alias)]);
        Source::of(node, &alias, &made.columns, made.rows).told_apart_by(RowKey::Subquery(alias))
    }

    fn query_of_source(&mut self, seen: &[Leaf], room: Room) -> Made {
        let types = self.some_types(3);
        let inner = Room {
            rows: (room.rows / 4.0).max(8.0),
            nesting: room.nesting + 1,
            ..room
        };
        self.query(&types, seen, inner)
    }

    /// One item that is no join.
    fn source(&mut self, outer: &[Leaf], room: Room) -> Source {
        let alias = self.name('x');
        if !self.ctes.is_empty() && self.chance(0.45) {
            return Source::of_named(&self.random_cte(), &alias);
        }
        match self.below(20) {
            0..=3 if room.nesting < 2 => {
                let made = self.query_of_source(outer, room);
                let query = Node::Query(Box::new(made.query));
                let node = Node::Form("({0}) AS {1}", vec![query, words(&alias)]);
                Source::of(node, &alias, &made.columns, made.rows)
                    .told_apart_by(RowKey::Subquery(alias))
            }
            4 => self.listed(&alias, outer, room),
            5 => {
                let end = 1 + self.below(6);
                let node = words(format!("generate_series(1, {end}) AS {alias} (g)"));
                let column = ("g".to_owned(), Ty::Int4, f64::from(end));
                Source::of(node, &alias, &[column], f64::from(end))
            }
            _ => self.table(&alias),
        }
    }

    fn random_cte(&mut self) -> Named {
        let number = self.below(self.ctes.len() as u32) as usize;
        self.ctes[number].clone()
    }

    pub(super) fn random_table(&mut self) -> Table {
        let number = self.below(self.world.tables.len() as u32) as usize;
        self.world.tables[number].clone()
    }

    pub(super) fn table(&mut self, alias: &str) -> Source {
        let table = self.random_table();
        let mut columns = columns_of(&table);
        let text = if self.chance(0.1) {
            for (name, _, _) in columns.iter_mut().take(2) {
                *name = self.name('p');
            }
            let renamed: Vec<&str> = columns.iter().take(2).map(|c| c.0.as_str()).collect();
            format!("{} AS {alias} ({})", table.name, renamed.join(", "))
        } else {
            format!("{} AS {alias}", table.name)
        };
        Source::of_table(&table, words(text), alias, &columns)
    }

    /// VALUES with names of its own.
    fn listed(&mut self, alias: &str, outer: &[Leaf], room: Room) -> Source {
        let types = self.some_types(3);
        let scope = Scope::new(Vec::new(), outer, 1.0, room);
        let rows = 1 + self.below(4);
        let mut columns: Vec<(String, Ty, f64)> =
            types.iter().map(|ty| (self.name('v'), *ty, 0.0)).collect();
        let mut items = Vec::new();
        for _ in 0..rows {
            let mut row = Vec::new();
            for (_, ty, bound) in &mut columns {
                let leaf = self.leaf(*ty, &scope);
                *bound = leaf.bound.max(*bound);
                row.push(leaf.node);
            }
            items.push(Node::Form("({0})", vec![commas(row)]));
        }
        let names: Vec<&str> = columns.iter().map(|c| c.0.as_str()).collect();
        let named = words(format!("{alias} ({})", names.join(", ")));
        let node = Node::Form("(VALUES {0}) AS {1}", vec![commas(items), named]);
        Source::of(node, alias, &columns, f64::from(rows))
    }

    fn condition_of_join(
        &mut self,
        word: &str,
        left: &Source,
        right: &Source,
        outer: &[Leaf],
        room: Room,
    ) -> Option<Node> {
        if word == "CROSS JOIN" {
            return None;
        }
        let mut both = left.leaves.clone();
        both.extend(right.leaves.iter().cloned());
        let scope = Scope::new(both, outer, left.rows.max(1.0) * right.rows.max(1.0), room);
        let equality = self.equality(&left.leaves, &right.leaves);
        let mut items: Vec<Node> = equality.into_iter().collect();
        // A full join is made by equalities; PostgreSQL refuses others.
        let is_full = word == "FULL JOIN";
        if is_full && items.is_empty() {
            let sides = (left.leaves.first(), right.leaves.first());
            if let (Some(left), Some(right)) = sides {
                let parts = vec![left.node.clone(), right.node.clone()];
                let form = Node::Form("({0} IS NULL) = ({1} IS NULL)", parts);
                items.push(value(Ty::Bool, form));
            }
        }
        if items.is_empty() || (!is_full && self.chance(0.3)) {
            items.push(self.condition(2, &scope).node);
        }
        let list = Node::List(List {
            before: "",
            items,
            between: " AND ",
            after: "",
            least: 1,
        });
        Some(Node::Form("ON {0}", vec![list]))
    }

    /// Of a column of each side, where two have types that can be equal.
    pub(super) fn equality(&mut self, left: &[Leaf], right: &[Leaf]) -> Option<Node> {
        let class = |ty: Ty| match ty {
            Ty::Int2 | Ty::Int4 | Ty::Int8 => Ty::Int4,
            other => other,
        };
        let mut pairs = Vec::new();
        for l in left {
            for r in right.iter().filter(|r| class(r.ty) == class(l.ty)) {
                pairs.push((l.node.clone(), r.node.clone()));
            }
        }
        if pairs.is_empty() || self.chance(0.1) {
            return None;
        }
        let (l, r) = self.pick(&pairs).clone();
        Some(value(Ty::Bool, Node::Form("{0} = {1}", vec![l, r])))
    }

    /// Two tables by the columns that have the same names: NATURAL or USING.
    fn joined_by_name(&mut self) -> Source {
        let (left, right) = (self.random_table(), self.random_table());
        let (a, b) = (self.name('x'), self.name('x'));
        let (ours, theirs) = (columns_of(&left), columns_of(&right));
        let rows = joined_rows(&left, &right);
        let mut common: Vec<(String, Ty, f64)> = ours
            .iter()
            .filter(|l| theirs.iter().any(|r| r.0 == l.0))
            .cloned()
            .collect();
        let natural = self.chance(0.5);
        let all_common = common.clone();
        let (word, condition) = if natural {
            (*self.pick(NATURAL), String::new())
        } else {
            let first = self.below(common.len() as u32) as usize;
            common = common.split_off(first);
            common.truncate(2);
            let names: Vec<&str> = common.iter().map(|c| c.0.as_str()).collect();
            (*self.pick(JOINS), format!("USING ({})", names.join(", ")))
        };
        // Of which type a merged column is, where the two differ, is for the servers to know.
        let same = |c: &(String, Ty, f64)| theirs.iter().any(|r| r.0 == c.0 && r.1 == c.1);
        let merged: Vec<_> = common.iter().filter(|c| same(c)).cloned().collect();
        let named = |table: &Table, alias: &str| words(format!("{} AS {alias}", table.name));
        let left = Source::of_table(&left, named(&left, &a), &a, &ours);
        let right = Source::of_table(&right, named(&right, &b), &b, &theirs);
        let mut sides = left.leaves;
        sides.extend(right.leaves);
        let join = Node::Join(Box::new(Join {
            left: left.node,
            word,
            right: right.node,
            condition: (!natural).then(|| words(condition)),
        }));
        match self.below(3) {
            0 => {
                let alias = self.name('j');
                let alone = |c: &&(String, Ty, f64)| all_common.iter().all(|x| x.0 != c.0);
                let mut columns = merged;
                columns.extend(ours.iter().filter(alone).cloned());
                columns.extend(theirs.iter().filter(alone).cloned());
                let node = Node::Form("({0}) AS {1}", vec![join, words(&alias)]);
                Source::of(node, &alias, &columns, rows)
            }
            1 if !natural => {
                let alias = self.name('u');
                sides.extend(Source::of(words(""), &alias, &merged, rows).leaves);
                Source {
                    node: Node::Form("({0} AS {1})", vec![join, words(alias)]),
                    leaves: sides,
                    rows,
                }
            }
            _ => Source {
                node: Node::Form("({0})", vec![join]),
                leaves: sides,
                rows,
            },
        }
    }
}

/// Whether there is room for something that is run anew for each row of what stands before it.
fn may_repeat(room: Room, rows: f64) -> bool {
    room.nesting < 2 && room.runs * rows <= 1_000.0
}

/// Of a join of any kind.
fn joined_rows(left: &Table, right: &Table) -> f64 {
    let (left, right) = (left.rows.len() as f64, right.rows.len() as f64);
    left.max(1.0) * right.max(1.0) + left + right
}
