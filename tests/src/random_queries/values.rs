//! Values of a wanted type, made so that none of them fails: sizes are known beforehand, nothing is divided by what
//! may be zero, no text is cast to what it may not be.

use super::maker::{Leaf, Maker, Room, Scope};
use super::tree::{Body, Item, Node, Order, Query, Select, Total, Ty, value, words};
use super::world::{self, bound};

/// What `{0}` of the one is computed from for the other, with the size that adds.
type Conversion = (Ty, Ty, &'static str, f64);

const CONVERSIONS: &[Conversion] = &[
    (Ty::Int2, Ty::Int4, "({0})::int2", 0.0),
    (Ty::Int4, Ty::Int2, "({0})::int4", 0.0),
    (Ty::Int4, Ty::Int8, "CAST({0} AS integer)", 0.0),
    (Ty::Int4, Ty::Numeric, "({0})::int4", 1.0),
    (Ty::Int4, Ty::Bool, "({0})::int4", 0.0),
    (Ty::Int4, Ty::Text, "length({0})", 0.0),
    (Ty::Int4, Ty::Text, "strpos({0}, 'a')", 0.0),
    (Ty::Int4, Ty::Date, "extract(day FROM {0})::int4", 31.0),
    (Ty::Int4, Ty::Date, "({0} - '2024-01-10'::date)", 10.0),
    (Ty::Int4, Ty::Float, "({0})::int4", 1.0),
    (Ty::Int8, Ty::Int4, "({0})::int8", 0.0),
    (Ty::Int8, Ty::Int2, "CAST({0} AS bigint)", 0.0),
    (Ty::Int8, Ty::Numeric, "round({0})::int8", 1.0),
    (Ty::Numeric, Ty::Int4, "({0})::numeric", 0.0),
    (Ty::Numeric, Ty::Int8, "({0} + 0.5)", 1.0),
    (Ty::Numeric, Ty::Stamp, "extract(hour FROM {0})", 24.0),
    (Ty::Float, Ty::Int4, "({0})::float8", 0.0),
    (Ty::Float, Ty::Int2, "({0})::float8", 0.0),
    (Ty::Text, Ty::Int4, "({0})::text", 11.0),
    (Ty::Text, Ty::Int8, "({0})::text", 20.0),
    (Ty::Text, Ty::Bool, "({0})::text", 5.0),
    (Ty::Text, Ty::Date, "({0})::text", 13.0),
    (Ty::Text, Ty::Stamp, "CAST({0} AS text)", 30.0),
    (Ty::Date, Ty::Stamp, "({0})::date", 0.0),
    (Ty::Stamp, Ty::Date, "({0})::timestamp", 0.0),
];

impl Maker {
    /// A value of the type; the deeper, the larger.
    pub(super) fn value(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Leaf {
        if ty == Ty::Bool {
            return self.condition(depth, scope);
        }
        if depth == 0 || self.chance(0.35) {
            return self.leaf(ty, scope);
        }
        let made = match self.below(12) {
            0..=4 => self.computed(ty, depth, scope),
            5 | 6 => self.converted(ty, depth, scope),
            7..=9 => self.chosen(ty, depth, scope),
            10 => self.scalar_subquery(ty, scope),
            _ => None,
        };
        made.filter(|leaf| leaf.bound <= ty.limit() || ty == Ty::Float)
            .unwrap_or_else(|| self.leaf(ty, scope))
    }

    /// A column, key or aggregate, or a constant.
    pub(super) fn leaf(&mut self, ty: Ty, scope: &Scope) -> Leaf {
        let of = |leaves: &[Leaf]| -> Vec<Leaf> {
            leaves
                .iter()
                .filter(|leaf| leaf.ty == ty)
                .cloned()
                .collect()
        };
        let (own, outer) = (of(&scope.own), of(&scope.outer));
        if !outer.is_empty() && self.chance(0.3) {
            return self.pick(&outer).clone();
        }
        if !own.is_empty() && self.chance(0.8) {
            return self.pick(&own).clone();
        }
        // Rather another column, made the wanted type, than a constant.
        if ty != Ty::Bool
            && self.chance(0.5)
            && let Some(leaf) = self.converted(ty, 0, scope)
            && leaf.bound <= ty.limit()
        {
            return leaf;
        }
        self.constant(ty)
    }

    pub(super) fn constant(&mut self, ty: Ty) -> Leaf {
        let text = *self.pick(world::constants(ty));
        let is_null = self.chance(0.08);
        let plainly = self.chance(0.5);
        let text = match ty {
            _ if is_null => format!("NULL::{}", ty.sql()),
            Ty::Int4 | Ty::Numeric if text.starts_with('-') => format!("({text})"),
            // Without a point it would be an integer.
            Ty::Numeric if !text.contains('.') => format!("{text}.0"),
            Ty::Int4 | Ty::Bool | Ty::Numeric => text.to_owned(),
            Ty::Text if plainly => text.to_owned(),
            Ty::Date | Ty::Stamp if plainly => format!("{} {text}", ty.sql()),
            _ => format!("({text})::{}", ty.sql()),
        };
        Leaf {
            node: value(ty, words(text)),
            ty,
            bound: bound(ty),
        }
    }

    /// By an operator or a function of the type itself.
    fn computed(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Option<Leaf> {
        match ty {
            Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Numeric | Ty::Float => {
                self.arithmetic(ty, depth, scope)
            }
            Ty::Text => Some(self.text(depth, scope)),
            Ty::Date | Ty::Stamp => Some(self.moment(ty, depth, scope)),
            Ty::Bool => None,
        }
    }

    fn arithmetic(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Option<Leaf> {
        let left = self.value(ty, depth - 1, scope);
        if !left.bound.is_finite() {
            return None;
        }
        let form = match (self.below(8), ty) {
            // None of these gives a negative zero.
            (0, Ty::Float) => Some("abs({0})"),
            (0, Ty::Int2) => Some("({0} % 3::int2)"),
            (0, Ty::Numeric) => Some("round({0} / 3, 4)"),
            (0, _) => Some("({0} / 3)"),
            (1, Ty::Int4 | Ty::Int8 | Ty::Numeric) => Some("({0} % 4)"),
            (1, Ty::Int2) => Some("abs({0})"),
            (2, Ty::Int2 | Ty::Int4 | Ty::Int8) => Some("(- {0})"),
            (2, Ty::Numeric) => Some("floor({0})"),
            _ => None,
        };
        if let Some(form) = form {
            return Some(made(ty, left.bound + 1.0, form, vec![left.node]));
        }
        let narrower: &[Ty] = match ty {
            Ty::Int4 => &[Ty::Int4, Ty::Int2],
            Ty::Int8 => &[Ty::Int8, Ty::Int4, Ty::Int2],
            Ty::Numeric => &[Ty::Numeric, Ty::Int4, Ty::Int8],
            Ty::Float => &[Ty::Float, Ty::Int4],
            _ => &[ty],
        };
        let other = *self.pick(narrower);
        let right = self.value(other, depth - 1, scope);
        let (bound, form) = match self.below(3) {
            0 if ty != Ty::Float => (left.bound * right.bound, "({0} * {1})"),
            1 => (left.bound + right.bound, "({0} - {1})"),
            _ => (left.bound + right.bound, "({0} + {1})"),
        };
        if !right.bound.is_finite() || bound > ty.limit() {
            return Some(left);
        }
        Some(made(ty, bound, form, vec![left.node, right.node]))
    }

    fn text(&mut self, depth: u32, scope: &Scope) -> Leaf {
        let left = self.value(Ty::Text, depth - 1, scope);
        if self.chance(0.3) {
            let right = self.value(Ty::Text, depth - 1, scope);
            let bound = left.bound + right.bound;
            if bound > Ty::Text.limit() {
                return left;
            }
            return made(Ty::Text, bound, "({0} || {1})", vec![left.node, right.node]);
        }
        let form = *self.pick(&[
            "upper({0})",
            "lower({0})",
            "substr({0}, 2)",
            "substring({0} FROM 1 FOR 2)",
            "left({0}, 1)",
            "right({0}, 2)",
            "replace({0}, 'a', 'x')",
            "trim({0})",
            "reverse({0})",
        ]);
        made(Ty::Text, left.bound, form, vec![left.node])
    }

    fn moment(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Leaf {
        let of = self.value(ty, depth - 1, scope);
        let forms: &[&'static str] = if ty == Ty::Date {
            &["({0} + 1)", "({0} - 7)", "(3 + {0})"]
        } else {
            &[
                "({0} + interval '1 hour')",
                "({0} - interval '1 month')",
                "date_trunc('month', {0})",
                "date_trunc('hour', {0})",
            ]
        };
        let form = *self.pick(forms);
        if of.bound + 32.0 > ty.limit() {
            return of;
        }
        made(ty, of.bound + 32.0, form, vec![of.node])
    }

    fn converted(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Option<Leaf> {
        let fitting: Vec<&Conversion> = CONVERSIONS.iter().filter(|c| c.0 == ty).collect();
        let (_, source, form, more) = **self.pick(&fitting);
        let of = if depth == 0 {
            let own: Vec<Leaf> = scope
                .own
                .iter()
                .filter(|l| l.ty == source)
                .cloned()
                .collect();
            if own.is_empty() {
                return None;
            }
            self.pick(&own).clone()
        } else {
            self.value(source, depth - 1, scope)
        };
        of.bound
            .is_finite()
            .then(|| made(ty, of.bound + more, form, vec![of.node]))
    }

    /// One of several values of the type.
    fn chosen(&mut self, ty: Ty, depth: u32, scope: &Scope) -> Option<Leaf> {
        let first = self.value(ty, depth - 1, scope);
        let second = self.value(ty, depth - 1, scope);
        let bound = first.bound.max(second.bound);
        let mut parts = vec![first.node, second.node];
        let form = match self.below(7) {
            0 => "coalesce({0}, {1})",
            1 => "nullif({0}, {1})",
            2 => "greatest({0}, {1})",
            3 => "least({0}, {1})",
            4 => {
                parts.push(self.condition(depth - 1, scope).node);
                "CASE WHEN {2} THEN {0} END"
            }
            5 => {
                let other = *self.pick(&Ty::ALL);
                parts.push(self.value(other, depth - 1, scope).node);
                parts.push(self.value(other, depth - 1, scope).node);
                "CASE {2} WHEN {3} THEN {0} ELSE {1} END"
            }
            _ => {
                parts.push(self.condition(depth - 1, scope).node);
                "CASE WHEN {2} THEN {0} ELSE {1} END"
            }
        };
        Some(made(ty, bound, form, parts))
    }

    /// A subquery of one row at most: an aggregate, or the first of an order.
    fn scalar_subquery(&mut self, ty: Ty, scope: &Scope) -> Option<Leaf> {
        let room = scope.inner_room()?;
        let outer = scope.seen_below();
        let made_query = if self.chance(0.5) {
            let mut inner = self.query(&[ty], &outer, room);
            inner.query.order = Order::Total(Total {
                first: 0,
                by_name: false,
                words: vec![*self.pick(&["", " DESC", " NULLS FIRST"])],
                limit: Some(1),
                offset: None,
            });
            (inner.query, inner.columns[0].2)
        } else {
            self.aggregated(ty, &outer, room)?
        };
        let (query, bound) = made_query;
        Some(made(ty, bound, "({0})", vec![Node::Query(Box::new(query))]))
    }

    /// `SELECT` of nothing but an aggregate of the type.
    fn aggregated(&mut self, ty: Ty, outer: &[Leaf], room: Room) -> Option<(Query, f64)> {
        let (from, sources) = self.from(outer, room);
        let scope = Scope::new(sources.leaves, outer, sources.rows, room);
        let filter = self.chance(0.8).then(|| self.condition(2, &scope).node);
        let of: &[Ty] = match ty {
            Ty::Int8 => &[Ty::Int4, Ty::Int2, Ty::Int8],
            Ty::Numeric => &[Ty::Numeric, Ty::Int4, Ty::Int8],
            _ => &[ty],
        };
        let aggregate = (0..6)
            .map(|_| {
                let of = *self.pick(of);
                self.aggregate_of(of, &scope.alone())
            })
            .find(|leaf| leaf.ty == ty)?;
        let item = Item {
            value: aggregate.node,
            alias: None,
        };
        let select = Select::plain(vec![item], from, filter);
        let query = Query::plain(Body::Select(Box::new(select)));
        Some((query, aggregate.bound))
    }

    /// A key is a column or is made of one.
    pub(super) fn group_key(&mut self, scope: &Scope) -> Leaf {
        let leaf = self.pick(&scope.own).clone();
        let form = match leaf.ty {
            _ if self.chance(0.6) => return leaf,
            Ty::Int2 => "({0} % 3::int2)",
            Ty::Int4 | Ty::Int8 => "({0} % 3)",
            Ty::Numeric => "floor({0})",
            Ty::Text => "upper({0})",
            Ty::Date => "({0} + 1)",
            Ty::Stamp => "date_trunc('month', {0})",
            Ty::Bool => "({0} IS TRUE)",
            Ty::Float => return leaf,
        };
        made(leaf.ty, leaf.bound + 32.0, form, vec![leaf.node])
    }

    /// An aggregate over the rows of this query and of no other.
    pub(super) fn aggregate(&mut self, scope: &Scope) -> Leaf {
        let rows = scope.rows.max(1.0);
        if self.chance(0.2) {
            return self.filtered(made(Ty::Int8, rows, "count(*)", Vec::new()), scope);
        }
        let ty = *self.pick(&Ty::ALL);
        self.aggregate_of(ty, scope)
    }

    fn aggregate_of(&mut self, ty: Ty, scope: &Scope) -> Leaf {
        let of = self.value(ty, 1, scope);
        let kind = self.below(10);
        let (result, bound, form) = match (kind, ty) {
            (8, _) => (Ty::Int8, scope.rows, "count(DISTINCT {0})"),
            (9, _) => (Ty::Int8, scope.rows, "count({0})"),
            (_, Ty::Bool) => (
                Ty::Bool,
                1.0,
                *self.pick(&["bool_and({0})", "bool_or({0})", "every({0})"]),
            ),
            _ => match gathered(kind, ty, of.bound, scope.rows.max(1.0)) {
                Some(gathered) => gathered,
                None => (ty, of.bound, *self.pick(&["min({0})", "max({0})"])),
            },
        };
        let leaf = made(result, bound, form, vec![of.node]);
        // FILTER goes behind the aggregate itself.
        if form.starts_with("round") || form.starts_with('(') {
            return leaf;
        }
        self.filtered(leaf, scope)
    }

    fn filtered(&mut self, leaf: Leaf, scope: &Scope) -> Leaf {
        if !self.chance(0.2) {
            return leaf;
        }
        let condition = self.condition(1, scope).node;
        let filter = Node::Form(" FILTER (WHERE {0})", vec![condition]);
        let Node::Value(_, inner) = leaf.node else {
            return leaf;
        };
        let parts = vec![*inner, Node::Optional(Box::new(filter))];
        made(leaf.ty, leaf.bound, "{0}{1}", parts)
    }
}

/// An aggregate that adds up what it is given, if what comes out has a size that the type can have. Of floats that were
/// rounded a sum would depend on the order; of what is put into a list, the order is said.
fn gathered(kind: u32, ty: Ty, bound: f64, rows: f64) -> Option<(Ty, f64, &'static str)> {
    let summed = bound * rows;
    let total = match ty {
        Ty::Int2 | Ty::Int4 => Ty::Int8,
        Ty::Int8 => Ty::Numeric,
        other => other,
    };
    let listed = summed + 2.0 * rows;
    match ty {
        Ty::Text if listed <= Ty::Text.limit() => match kind {
            0..=2 => Some((ty, listed, "string_agg({0}, '; ' ORDER BY {0})")),
            3 => Some((
                ty,
                listed,
                "string_agg(DISTINCT ({0})::text, ',' ORDER BY ({0})::text)",
            )),
            _ => None,
        },
        Ty::Date if rows < 200.0 && kind < 2 => Some((
            Ty::Text,
            rows * 14.0 + 2.0,
            "(array_agg({0} ORDER BY {0} DESC NULLS LAST))::text",
        )),
        Ty::Bool | Ty::Text | Ty::Date | Ty::Stamp => None,
        _ if summed > total.limit() => None,
        _ => match (kind, ty) {
            (0..=2, _) => Some((total, summed, "sum({0})")),
            (3, _) => Some((total, summed, "sum(DISTINCT {0})")),
            (4, Ty::Float) => Some((Ty::Float, f64::INFINITY, "avg({0})")),
            (4, _) => Some((Ty::Numeric, bound + 1.0, "round(avg({0}), 4)")),
            (5, Ty::Int2 | Ty::Int4) => {
                Some((Ty::Numeric, bound * bound + 1.0, "round(var_pop({0}), 4)"))
            }
            _ => None,
        },
    }
}

pub(super) fn made(ty: Ty, bound: f64, form: &'static str, parts: Vec<Node>) -> Leaf {
    Leaf {
        node: value(ty, Node::Form(form, parts)),
        ty,
        bound,
    }
}
