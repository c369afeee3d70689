//! Conditions: comparisons, lists, patterns, rows, subqueries, and what joins conditions.

use super::maker::{Leaf, Maker, Scope};
use super::tree::{List, Node, Ty, commas, value, words};
use super::values::made;

const COMPARISONS: &[&str] = &["=", "=", "<>", "<", "<=", ">", ">="];

/// Types whose values compare with one another.
const COMPARED: &[&[Ty]] = &[
    &[Ty::Bool],
    &[Ty::Int2, Ty::Int4, Ty::Int8],
    &[Ty::Int4],
    &[Ty::Int4, Ty::Numeric],
    &[Ty::Numeric],
    &[Ty::Float],
    &[Ty::Float, Ty::Int4],
    &[Ty::Text],
    &[Ty::Text],
    &[Ty::Date],
    &[Ty::Stamp, Ty::Date],
];

const PATTERNS: &[&str] = &["'a%'", "'%b'", "'_'", "'%'", "'a_c'", "'%a%'", "''", "'A%'"];

/// Constants that compare with the type and that it does not have, or has at its ends.
fn edges(ty: Ty) -> &'static [&'static str] {
    match ty {
        Ty::Int2 => &["40000", "-40000", "32767", "1.5"],
        Ty::Int4 => &["3000000000", "-3000000000", "2147483647", "2.5", "1e20"],
        Ty::Int8 => &["1e20", "-1e20", "9223372036854775807", "2.0"],
        Ty::Numeric => &["'NaN'::numeric", "'Infinity'::numeric", "1e-20", "2"],
        Ty::Float => &["'-Infinity'::float8", "'NaN'::float8", "2.5", "3"],
        Ty::Date => &["'infinity'::date", "'2024-01-01 12:00'::timestamp"],
        Ty::Stamp => &["'-infinity'::timestamp", "'2024-01-02'::date"],
        Ty::Text => &["'a '", "'~'"],
        Ty::Bool => &[],
    }
}

fn holds(form: &'static str, parts: Vec<Node>) -> Leaf {
    made(Ty::Bool, 1.0, form, parts)
}

impl Maker {
    pub(super) fn condition(&mut self, depth: u32, scope: &Scope) -> Leaf {
        if depth == 0 {
            return if self.chance(0.3) {
                self.leaf(Ty::Bool, scope)
            } else {
                self.comparison(0, scope)
            };
        }
        match self.below(40) {
            0..=6 => self.comparison(depth - 1, scope),
            7..=11 => self.against_constant(scope),
            12..=18 => self.several(depth, scope),
            19 | 20 => {
                let of = self.condition(depth - 1, scope);
                holds("(NOT {0})", vec![of.node])
            }
            21..=23 => self.of_one(depth, scope),
            24 | 25 => self.between(depth, scope),
            26 => self.like(depth, scope),
            27 | 28 => self.in_list(depth, scope),
            29 | 30 => self.rows_compared(depth, scope),
            31 => self.leaf(Ty::Bool, scope),
            32 => {
                let parts = vec![
                    self.condition(depth - 1, scope).node,
                    self.condition(depth - 1, scope).node,
                    self.condition(depth - 1, scope).node,
                ];
                holds("CASE WHEN {0} THEN {1} ELSE {2} END", parts)
            }
            _ => match self.by_subquery(depth, scope) {
                Some(leaf) => leaf,
                None => self.comparison(depth - 1, scope),
            },
        }
    }

    /// Two types that compare.
    fn two_types(&mut self) -> (Ty, Ty) {
        let class = *self.pick(COMPARED);
        (*self.pick(class), *self.pick(class))
    }

    fn comparison(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let (left, right) = self.two_types();
        // Conditions within comparisons grow fast.
        let depth = if left == Ty::Bool { 0 } else { depth };
        let left = self.value_or_leaf(left, depth, scope).node;
        let right = self.value_or_leaf(right, depth, scope).node;
        let operator = words(*self.pick(COMPARISONS));
        holds("({0} {1} {2})", vec![left, operator, right])
    }

    /// What an index may answer: a column beside a constant, of its own type or of one that only compares with it.
    fn against_constant(&mut self, scope: &Scope) -> Leaf {
        if scope.own.is_empty() {
            return self.comparison(0, scope);
        }
        let column = self.pick(&scope.own).clone();
        let edges = edges(column.ty);
        if !edges.is_empty() && self.chance(0.2) {
            let edge = words(*self.pick(edges));
            let operator = words(*self.pick(COMPARISONS));
            return holds("({0} {1} {2})", vec![column.node, operator, edge]);
        }
        let constant = self.constant(column.ty).node;
        match self.below(6) {
            0 => holds("({0} IS NULL)", vec![column.node]),
            1 => {
                let other = self.constant(column.ty).node;
                let parts = vec![column.node, constant, other];
                holds("({0} >= {1} AND {0} < {2})", parts)
            }
            2 => {
                let operator = words(*self.pick(COMPARISONS));
                holds("({1} {2} {0})", vec![column.node, constant, operator])
            }
            _ => {
                let operator = words(*self.pick(COMPARISONS));
                holds("({0} {2} {1})", vec![column.node, constant, operator])
            }
        }
    }

    fn value_or_leaf(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Leaf {
        if ty == Ty::Bool {
            self.leaf(ty, scope)
        } else {
            self.value(ty, depth, scope)
        }
    }

    fn several(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let items = (0..self.random_count())
            .map(|_| self.condition(depth - 1, scope).node)
            .collect();
        let list = Node::List(List {
            before: "(",
            items,
            between: if self.chance(0.6) { " AND " } else { " OR " },
            after: ")",
            least: 1,
        });
        Leaf {
            node: value(Ty::Bool, list),
            ty: Ty::Bool,
            bound: 1.0,
        }
    }

    fn random_count(&mut self) -> u32 {
        2 + self.below(2)
    }

    fn of_one(&mut self, depth: u32, scope: &Scope) -> Leaf {
        if self.chance(0.3) {
            let of = self.condition(depth - 1, scope).node;
            let form = *self.pick(&[
                "({0} IS TRUE)",
                "({0} IS NOT TRUE)",
                "({0} IS FALSE)",
                "({0} IS NOT FALSE)",
                "({0} IS UNKNOWN)",
                "({0} IS NOT UNKNOWN)",
            ]);
            return holds(form, vec![of]);
        }
        let ty = *self.pick(&Ty::ALL);
        let first = self.value(ty, depth - 1, scope).node;
        match self.below(4) {
            0 => holds("({0} IS NULL)", vec![first]),
            1 => holds("({0} IS NOT NULL)", vec![first]),
            2 => {
                let second = self.value(ty, depth - 1, scope).node;
                holds("({0} IS DISTINCT FROM {1})", vec![first, second])
            }
            _ => {
                let second = self.value(ty, depth - 1, scope).node;
                holds("({0} IS NOT DISTINCT FROM {1})", vec![first, second])
            }
        }
    }

    fn between(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let (ty, other) = self.two_types();
        let parts = vec![
            self.value_or_leaf(ty, depth - 1, scope).node,
            self.value_or_leaf(other, depth - 1, scope).node,
            self.value_or_leaf(other, depth - 1, scope).node,
        ];
        let form = *self.pick(&[
            "({0} BETWEEN {1} AND {2})",
            "({0} NOT BETWEEN {1} AND {2})",
            "({0} BETWEEN SYMMETRIC {1} AND {2})",
        ]);
        holds(form, parts)
    }

    fn like(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let of = self.value(Ty::Text, depth - 1, scope).node;
        let pattern = if self.chance(0.8) {
            words(*self.pick(PATTERNS))
        } else {
            self.leaf(Ty::Text, scope).node
        };
        let form = *self.pick(&[
            "({0} LIKE {1})",
            "({0} LIKE {1})",
            "({0} NOT LIKE {1})",
            "({0} ILIKE {1})",
        ]);
        holds(form, vec![of, pattern])
    }

    fn in_list(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let (ty, other) = self.two_types();
        let of = self.value_or_leaf(ty, depth - 1, scope).node;
        let count = 1 + self.below(4);
        let constant = self.chance(0.6);
        let items = (0..count)
            .map(|_| {
                if constant {
                    self.constant(other).node
                } else {
                    self.value_or_leaf(other, depth - 1, scope).node
                }
            })
            .collect();
        let list = commas(items);
        match self.below(4) {
            0 => holds("({0} NOT IN ({1}))", vec![of, list]),
            1 if ty == other => {
                let operator = words(*self.pick(COMPARISONS));
                let form =
                    *self.pick(&["({0} {2} ANY (ARRAY[{1}]))", "({0} {2} ALL (ARRAY[{1}]))"]);
                holds(form, vec![of, list, operator])
            }
            _ => holds("({0} IN ({1}))", vec![of, list]),
        }
    }

    fn rows_compared(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let (a, b) = (self.two_types(), self.two_types());
        let mut parts = Vec::new();
        for ty in [a.0, b.0, a.1, b.1] {
            parts.push(self.value_or_leaf(ty, depth - 1, scope).node);
        }
        match self.below(4) {
            0 => holds("(({0}, {1}) IS NOT DISTINCT FROM ({2}, {3}))", parts),
            1 => {
                parts.push(self.constant(a.0).node);
                parts.push(self.constant(b.0).node);
                holds("(({0}, {1}) IN (({2}, {3}), ({4}, {5})))", parts)
            }
            _ => {
                parts.push(words(*self.pick(COMPARISONS)));
                holds("(({0}, {1}) {4} ({2}, {3}))", parts)
            }
        }
    }

    /// EXISTS, IN, ANY, ALL.
    fn by_subquery(&mut self, depth: u32, scope: &Scope) -> Option<Leaf> {
        let room = scope.inner_room()?;
        let seen = scope.seen_below();
        let query = |maker: &mut Maker, types: &[Ty]| {
            let made = maker.query(types, &seen, room);
            Node::Query(Box::new(made.query))
        };
        let kind = self.below(8);
        if kind < 3 {
            let types = self.some_types(2);
            let parts = vec![query(self, &types)];
            let form = *self.pick(&["EXISTS ({0})", "EXISTS ({0})", "(NOT EXISTS ({0}))"]);
            return Some(holds(form, parts));
        }
        let (ty, other) = self.two_types();
        let of = self.value_or_leaf(ty, depth - 1, scope).node;
        if kind == 3 {
            let (second, its) = self.two_types();
            let second = self.value_or_leaf(second, depth - 1, scope).node;
            let parts = vec![of, second, query(self, &[other, its])];
            let form = *self.pick(&[
                "(({0}, {1}) IN ({2}))",
                "(({0}, {1}) NOT IN ({2}))",
                "(({0}, {1}) = ANY ({2}))",
            ]);
            return Some(holds(form, parts));
        }
        let inner = query(self, &[other]);
        if kind < 7 {
            let form = *self.pick(&["({0} IN ({1}))", "({0} IN ({1}))", "({0} NOT IN ({1}))"]);
            return Some(holds(form, vec![of, inner]));
        }
        let operator = words(*self.pick(COMPARISONS));
        let form = *self.pick(&["({0} {2} ANY ({1}))", "({0} {2} ALL ({1}))"]);
        Some(holds(form, vec![of, inner, operator]))
    }
}
