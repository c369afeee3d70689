//! Queries: lists, grouping, set operations and orders.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::sources::Named;
use super::tree::{
    Body, Distinct, Grouping, Item, Node, Order, Query, Select, Statement, Total, Ty, With, value,
    words,
};
use super::world::World;

/// The most rows that a join may come to.
const MOST_ROWS: f64 = 2_000.0;
/// The most rows that all runs of a subquery together may read.
const MOST_WORK: f64 = 20_000.0;

/// Longer statements say no more, and take long to make small.
const MOST_CHARACTERS: usize = 4_000;

pub struct Maker {
    pub(super) random: StdRng,
    pub(super) world: World,
    /// WITH queries that may be named here.
    pub(super) ctes: Vec<Named>,
    names: u32,
}

/// Something that a value can be made of.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub node: Node,
    pub ty: Ty,
    /// See [`Ty::limit`]; floats that were rounded have an infinite one, so that no sum is made of them.
    pub bound: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The most rows that its FROM may come to.
    pub rows: f64,
    /// How often it is run.
    pub runs: f64,
    pub nesting: u32,
}

impl Room {
    pub(super) fn outermost() -> Room {
        Room {
            rows: MOST_ROWS,
            runs: 1.0,
            nesting: 0,
        }
    }
}

/// What values may be made of at some place.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub own: Vec<Leaf>,
    /// Columns of the queries around it.
    pub outer: Vec<Leaf>,
    /// What subqueries may name: of a grouped query only keys that are columns.
    pub passed: Vec<Leaf>,
    /// How often a value is computed.
    pub rows: f64,
    pub room: Room,
}

impl Scope {
    pub(super) fn new(own: Vec<Leaf>, outer: &[Leaf], rows: f64, room: Room) -> Scope {
        let passed = own.clone();
        Scope {
            own,
            outer: outer.to_vec(),
            passed,
            rows,
            room,
        }
    }

    /// Of a subquery in a value, if there is room for one.
    pub(super) fn inner_room(&self) -> Option<Room> {
        let runs = self.room.runs * self.rows.max(1.0);
        let rows = MOST_WORK / runs;
        (self.room.nesting < 3 && rows >= 8.0).then_some(Room {
            rows: rows.min(MOST_ROWS),
            runs,
            nesting: self.room.nesting + 1,
        })
    }

    /// What a subquery sees of this query and of those around it.
    pub(super) fn seen_below(&self) -> Vec<Leaf> {
        self.passed.iter().chain(&self.outer).cloned().collect()
    }

    /// Without the queries around: an aggregate of nothing but their columns would be theirs.
    pub(super) fn alone(&self) -> Scope {
        Scope {
            outer: Vec::new(),
            ..self.clone()
        }
    }
}

/// A query and what its columns are.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub query: Query,
    pub columns: Vec<(String, Ty, f64)>,
    pub rows: f64,
}

impl Maker {
    pub fn new(seed: u64, world: World) -> Maker {
        Maker {
            random: StdRng::seed_from_u64(seed),
            world,
            ctes: Vec::new(),
            names: 0,
        }
    }

    /// Mostly a query, now and then a change of a table.
    pub fn statement(&mut self) -> Statement {
        loop {
            self.names = 0;
            self.ctes.clear();
            let statement = if self.chance(0.15) {
                self.change()
            } else {
                Statement::Query(self.outermost_query())
            };
            if statement.sql().len() <= MOST_CHARACTERS {
                return statement;
            }
        }
    }

    pub(super) fn chance(&mut self, likely: f64) -> bool {
        self.random.random_bool(likely)
    }

    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.random.random_range(0..end)
    }

    pub(super) fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        list.choose(&mut self.random).expect("not empty")
    }

    pub(super) fn name(&mut self, letter: char) -> String {
        self.names += 1;
        format!("{letter}{}", self.names)
    }

    pub(super) fn some_types(&mut self, most: u32) -> Vec<Ty> {
        let count = 1 + self.below(most);
        (0..count).map(|_| *self.pick(&Ty::ALL)).collect()
    }

    pub(super) fn outermost_query(&mut self) -> Query {
        let types = self.some_types(4);
        let mut made = self.query(&types, &[], Room::outermost());
        if self.chance(0.06) {
            self.show_all(&mut made.query);
        } else if made.query.order == Order::Open {
            made.query.order = self.outermost_order(&made.query);
        }
        if self.chance(0.3)
            && let Body::Select(select) = &mut made.query.body
        {
            // Whether the server finds the same names.
            let position = self.random.random_range(0..select.items.len());
            select.items[position].alias = None;
        }
        made.query
    }

    /// `*`, whose columns nobody here knows.
    fn show_all(&mut self, query: &mut Query) {
        if let Body::Select(select) = &mut query.body
            && select.keys.is_empty()
            && select.having.is_none()
            && select.distinct == Distinct::No
            && select.windows.is_empty()
            && !select.from.is_empty()
        {
            query.order = Order::Open;
            select.items = vec![Item {
                value: words("*"),
                alias: None,
            }];
        }
    }

    fn outermost_order(&mut self, query: &Query) -> Order {
        let width = query.width();
        match self.below(10) {
            0..=2 => Order::Open,
            3 | 4 => Order::Partial {
                by: self.some_columns(width),
                ties: None,
            },
            5 => Order::Partial {
                by: self.some_columns(width),
                ties: Some(self.below(8)),
            },
            _ => self.total(width),
        }
    }

    fn some_columns(&mut self, width: usize) -> Vec<(usize, &'static str)> {
        let count = self.random.random_range(1..=width.min(2));
        let first = self.random.random_range(0..width);
        (0..count)
            .map(|i| ((first + i) % width, self.direction()))
            .collect()
    }

    pub(super) fn direction(&mut self) -> &'static str {
        self.pick::<&str>(&[
            "",
            "",
            " DESC",
            " ASC",
            " NULLS FIRST",
            " DESC NULLS LAST",
            " USING <",
        ])
    }

    fn total(&mut self, width: usize) -> Order {
        let limited = self.chance(0.6);
        let from_later = self.chance(0.25);
        Order::Total(Total {
            first: self.random.random_range(0..width),
            by_name: self.chance(0.3),
            words: (0..width).map(|_| self.direction()).collect(),
            limit: limited.then(|| self.below(12)),
            offset: from_later.then(|| self.below(5)),
        })
    }

    /// A query of columns of these types.
    pub(super) fn query(&mut self, types: &[Ty], outer: &[Leaf], room: Room) -> Made {
        let named = self.ctes.len();
        let with = self.with(outer, room);
        let mut made = match self.below(100) {
            0..12 if room.nesting < 3 => self.set_operation(types, outer, room),
            12..16 => self.values_query(types, outer, room),
            _ => self.select(types, outer, room),
        };
        made.query.with = with;
        self.ctes.truncate(named);
        if made.query.order == Order::Open && room.nesting > 0 && self.chance(0.15) {
            made.query.order = self.total(types.len());
        }
        made
    }

    fn set_operation(&mut self, types: &[Ty], outer: &[Leaf], room: Room) -> Made {
        let inner = Room {
            nesting: room.nesting + 1,
            ..room
        };
        let left = self.query(types, outer, inner);
        // A narrower integer on one side is made as wide as the other's.
        let mut narrower = types.to_vec();
        if self.chance(0.2) {
            for ty in &mut narrower {
                if matches!(ty, Ty::Int4 | Ty::Int8) {
                    *ty = Ty::Int2;
                }
            }
        }
        let right = self.query(&narrower, outer, inner);
        let word = *self.pick(&[
            "UNION",
            "UNION",
            "UNION ALL",
            "UNION ALL",
            "INTERSECT",
            "INTERSECT ALL",
            "EXCEPT",
            "EXCEPT ALL",
        ]);
        let columns = left.columns.iter().zip(&right.columns);
        let columns = columns.map(|(left, right)| (left.0.clone(), left.1, left.2.max(right.2)));
        Made {
            columns: columns.collect(),
            rows: left.rows + right.rows,
            query: Query::plain(Body::Set(word, Box::new((left.query, right.query)))),
        }
    }

    /// VALUES; its columns are `column1` and so on.
    fn values_query(&mut self, types: &[Ty], outer: &[Leaf], room: Room) -> Made {
        let scope = Scope::new(Vec::new(), outer, 1.0, room);
        let mut bounds = vec![0.0; types.len()];
        let mut rows = Vec::new();
        for _ in 0..=self.below(4) {
            let mut row = Vec::new();
            for (ty, bound) in types.iter().zip(&mut bounds) {
                let leaf = self.value(*ty, 1, &scope);
                *bound = leaf.bound.max(*bound);
                row.push(leaf.node);
            }
            rows.push(row);
        }
        let column =
            |(i, (ty, bound)): (usize, (&Ty, &f64))| (format!("column{}", i + 1), *ty, *bound);
        Made {
            columns: types.iter().zip(&bounds).enumerate().map(column).collect(),
            rows: rows.len() as f64,
            query: Query::plain(Body::Values(rows)),
        }
    }

    fn select(&mut self, types: &[Ty], outer: &[Leaf], room: Room) -> Made {
        let (from, sources) = self.from(outer, room);
        let rows = sources.rows;
        let ungrouped = Scope::new(sources.leaves, outer, rows, room);
        let depth = if room.nesting == 0 { 3 } else { 2 };
        let filter = self
            .chance(0.65)
            .then(|| self.condition(depth, &ungrouped).node);
        let mut select = Select::plain(Vec::new(), from, filter);
        let grouped = !ungrouped.own.is_empty() && self.chance(0.3);
        let scope = if grouped {
            self.group(&mut select, &ungrouped)
        } else {
            ungrouped
        };
        let columns = if self.wants_windows(&select, grouped, &scope) {
            self.windowed_list(&mut select, types, &scope)
        } else {
            self.list(&mut select, types, &scope)
        };
        if grouped && !is_grouped(&select, &scope) {
            select.having = Some(words("count(*) >= 0"));
        }
        let mut order = Order::Open;
        match self.below(20) {
            0..=1 => select.distinct = Distinct::Rows,
            2 => (select.distinct, order) = self.distinct_on(types.len()),
            _ => {}
        }
        Made {
            query: Query {
                with: With::default(),
                body: Body::Select(Box::new(select)),
                order,
            },
            columns,
            rows: scope.rows,
        }
    }

    fn list(&mut self, select: &mut Select, types: &[Ty], scope: &Scope) -> Vec<(String, Ty, f64)> {
        let mut columns = Vec::new();
        for ty in types {
            let leaf = self.value(*ty, 2, scope);
            columns.push(self.item(select, leaf));
        }
        columns
    }

    /// One more in the list, with a name.
    pub(super) fn item(&mut self, select: &mut Select, leaf: Leaf) -> (String, Ty, f64) {
        let alias = self.name('c');
        select.items.push(Item {
            value: leaf.node,
            alias: Some(alias.clone()),
        });
        (alias, leaf.ty, leaf.bound)
    }

    /// The rows of each are told apart by the order, which begins with what they are distinct on.
    fn distinct_on(&mut self, width: usize) -> (Distinct, Order) {
        let mut order = self.total(width);
        if let Order::Total(total) = &mut order {
            total.first = 0;
        }
        (
            Distinct::On(self.random.random_range(1..=width.min(2))),
            order,
        )
    }

    /// Adds keys, aggregates and HAVING; what the list may be made of then.
    fn group(&mut self, select: &mut Select, scope: &Scope) -> Scope {
        let alone = scope.alone();
        let mut leaves: Vec<Leaf> = Vec::new();
        let mut passed = Vec::new();
        for number in 0..self.below(4) as usize {
            let leaf = self.group_key(&alone);
            if let Node::Value(_, inner) = &leaf.node
                && matches!(**inner, Node::Words(_))
            {
                passed.push(leaf.clone());
            }
            leaves.push(Leaf {
                node: value(leaf.ty, Node::Key(leaf.ty, number)),
                ..leaf
            });
            select.keys.push((leaf.ty, leaf.node));
        }
        let mut rows = if select.keys.is_empty() {
            1.0
        } else {
            scope.rows
        };
        if !select.keys.is_empty() && self.chance(0.07) {
            select.grouping = self.grouping(select.keys.len());
            rows *= 8.0;
            for (number, (ty, _)) in select.keys.iter().enumerate() {
                leaves.push(Leaf {
                    node: value(
                        Ty::Int4,
                        Node::Form("grouping({0})", vec![Node::Key(*ty, number)]),
                    ),
                    ty: Ty::Int4,
                    bound: 1.0,
                });
            }
        }
        // Without a key it is the aggregates that make it a grouped query.
        let least = u32::from(select.keys.is_empty());
        for _ in 0..(least + self.below(4)) {
            leaves.push(self.aggregate(&alone));
        }
        let grouped = Scope {
            own: leaves,
            outer: scope.outer.clone(),
            passed,
            rows,
            room: scope.room,
        };
        if !select.keys.is_empty() && self.chance(0.3) {
            select.having = Some(self.condition(2, &grouped).node);
        }
        grouped
    }

    fn grouping(&mut self, keys: usize) -> Grouping {
        match self.below(4) {
            0 => Grouping::Rollup,
            1 => Grouping::Cube,
            2 => Grouping::Mixed,
            _ => {
                let mut sets: Vec<Vec<usize>> = vec![(0..keys).collect()];
                for _ in 0..=self.below(2) {
                    sets.push((0..keys).filter(|_| self.chance(0.5)).collect());
                }
                Grouping::Sets(sets)
            }
        }
    }
}

/// Without keys and without an aggregate in its list a query is not a grouped one, and may have any number of rows.
fn is_grouped(select: &Select, scope: &Scope) -> bool {
    let has = |leaf: &Leaf| {
        let aggregate = leaf.node.sql(&[]);
        // That one may as well stand in a subquery.
        let is_unique = aggregate != "count(*)";
        is_unique
            && select
                .items
                .iter()
                .any(|item| item.value.sql(&[]).contains(&aggregate))
    };
    !select.keys.is_empty() || scope.own.iter().any(has)
}
