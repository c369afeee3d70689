//! Lists with windows, made so that SQL determines what is in them.
//!
//! Functions that tell rows apart which a window's order finds alike (row_number, lag, ROWS frames, what is put into a
//! list) stand over orders that end with what tells the rows of the query apart. Rows that are alike even then are alike
//! in everything that the query can name, and may change places. Others (rank, counts and sums over RANGE and GROUPS)
//! only ask which rows are alike, or are given what the rows are ordered by.

use super::frames::is_measured;
use super::maker::{Leaf, Maker, Scope};
use super::tree::{Node, Select, Ty, words};
use super::values::made;
use super::window::{Over, Place, Window};

/// A function and what it gives.
struct Call {
    leaf: Leaf,
    /// Around the call with its window.
    wrapped: &'static str,
    /// Whether it depends on the order of rows.
    by_row: bool,
    /// Those may have a FILTER.
    aggregate: bool,
}

impl Call {
    fn aggregate(leaf: Leaf) -> Call {
        Call {
            leaf,
            wrapped: "{0}",
            by_row: false,
            aggregate: true,
        }
    }

    fn of_rows(leaf: Leaf) -> Call {
        Call {
            by_row: true,
            aggregate: false,
            ..Call::aggregate(leaf)
        }
    }

    fn of_peers(leaf: Leaf) -> Call {
        Call {
            aggregate: false,
            ..Call::aggregate(leaf)
        }
    }

    fn wrapped(self, wrapped: &'static str) -> Call {
        Call { wrapped, ..self }
    }
}

/// The longest text that rows are put into; an index may have to take it.
const MOST_TEXT: f64 = 1_200.0;

/// A constant of it has a type that any function knows.
fn typed(leaf: Leaf) -> Leaf {
    if leaf.ty == Ty::Text {
        made(leaf.ty, leaf.bound, "({0})::text", vec![leaf.node])
    } else {
        leaf
    }
}

impl Maker {
    /// Whether there is something to make windows of. A grouped query without keys has one row, which says little.
    pub(super) fn wants_windows(&mut self, select: &Select, grouped: bool, scope: &Scope) -> bool {
        let likely = match scope.room.nesting {
            0 => 0.3,
            1 => 0.12,
            _ => 0.05,
        };
        let is_one_row = grouped && select.keys.is_empty();
        !scope.own.is_empty() && !is_one_row && self.chance(likely)
    }

    /// The list, of which one at least is over a window.
    pub(super) fn windowed_list(
        &mut self,
        select: &mut Select,
        types: &[Ty],
        scope: &Scope,
    ) -> Vec<(String, Ty, f64)> {
        select.windows = self.named_windows(scope);
        let named = select.windows.clone();
        let mut with_windows = scope.clone();
        for _ in 0..self.below(3) {
            let ty = if self.chance(0.5) {
                Ty::Int8
            } else {
                *self.pick(types)
            };
            with_windows.own.push(self.over_window(ty, scope, &named));
        }
        if scope.room.nesting == 0 && self.chance(0.3) {
            let ty = *self.pick(&[Ty::Int8, Ty::Int8, Ty::Int4, Ty::Numeric, Ty::Text]);
            let first = self.over_window(ty, scope, &named).node;
            let words = words(self.direction());
            select.ordered_by = Some(Node::Form("{0}{1}", vec![first, words]));
        }
        let certain = self.below(types.len() as u32) as usize;
        let mut columns = Vec::new();
        for (i, ty) in types.iter().enumerate() {
            let leaf = if i == certain || self.chance(0.4) {
                self.over_window(*ty, scope, &named)
            } else {
                self.value(*ty, 2, &with_windows)
            };
            columns.push(self.item(select, leaf));
        }
        columns
    }

    /// A value of the type that a window function gives.
    fn over_window(&mut self, ty: Ty, scope: &Scope, named: &[(String, Window)]) -> Leaf {
        // Most of what only windows have is of one type.
        let from_number = match ty {
            Ty::Int4 => Some("({0})::int4"),
            Ty::Numeric => Some("({0})::numeric"),
            Ty::Text => Some("({0})::text"),
            _ => None,
        };
        if let Some(form) = from_number
            && self.chance(0.35)
        {
            let number = self.over_window(Ty::Int8, scope, named);
            if number.bound <= Ty::Int4.limit() {
                let bound = number.bound.max(20.0);
                return made(ty, bound, form, vec![number.node]);
            }
        }
        if self.chance(0.15)
            && let Some(leaf) = self.of_the_order(ty, scope)
        {
            return leaf;
        }
        let call = self.window_call(ty, scope);
        // Without its window it is no value: an aggregate would be one of another kind.
        let mut function = match call.leaf.node {
            Node::Value(_, inner) => *inner,
            other => other,
        };
        if call.aggregate && self.chance(0.25) {
            let filter = vec![self.condition(1, scope).node];
            let filter = Node::Form(" FILTER (WHERE {0})", filter);
            let filter = Node::Optional(Box::new(filter));
            function = Node::Form("{0}{1}", vec![function, filter]);
        }
        let over = Over {
            call: function,
            window: self.place(call.by_row, scope, named),
        };
        let over = Node::Over(Box::new(over));
        made(ty, call.leaf.bound, call.wrapped, vec![over])
    }

    /// The first, the last or another of what the rows of the frame are ordered by: whichever row it is of, it is the
    /// same. Neither it nor the order is made smaller without the other.
    fn of_the_order(&mut self, ty: Ty, scope: &Scope) -> Option<Leaf> {
        let own = scope.own.iter().filter(|leaf| leaf.ty == ty);
        let own: Vec<Leaf> = own.cloned().collect();
        if own.is_empty() {
            return None;
        }
        let leaf = self.pick(&own).clone();
        let node = Node::Kept(Box::new(leaf.node));
        let form = *self.pick(&["first_value({0})", "last_value({0})", "nth_value({0}, 2)"]);
        let mut window = Window {
            partition: self.partition(scope),
            order: vec![(node.clone(), self.window_direction())],
            ..Window::default()
        };
        window.frame = match self.below(3) {
            0 if is_measured(ty) => Some(self.measured_frame(ty)),
            1 => None,
            _ => Some(self.frame_of_peers()),
        };
        let over = Over {
            call: Node::Form(form, vec![node]),
            window: Place::Here(window),
        };
        Some(made(
            ty,
            leaf.bound,
            "{0}",
            vec![Node::Over(Box::new(over))],
        ))
    }

    fn window_call(&mut self, ty: Ty, scope: &Scope) -> Call {
        let by_type = if ty == Ty::Int8 { 0.85 } else { 0.6 };
        let call = if !self.chance(by_type) {
            None
        } else {
            self.call_of_type(ty, scope)
        };
        let fits = |call: &Call| call.leaf.bound <= ty.limit() || ty == Ty::Float;
        match call.filter(fits) {
            Some(call) => call,
            None => self.value_of_row(ty, scope),
        }
    }

    /// What only some types have.
    fn call_of_type(&mut self, ty: Ty, scope: &Scope) -> Option<Call> {
        let rows = scope.rows.max(1.0);
        let plain = |form, bound| made(ty, bound, form, Vec::new());
        let kind = self.below(8);
        match (ty, kind) {
            (Ty::Int8, 0) => Some(Call::of_rows(plain("row_number()", rows))),
            (Ty::Int8, 1) => Some(Call::of_peers(plain("rank()", rows))),
            (Ty::Int8, 2) => Some(Call::of_peers(plain("dense_rank()", rows))),
            (Ty::Int8, 3) => Some(Call::aggregate(plain("count(*)", rows))),
            (Ty::Int8, 4) => {
                let other = *self.pick(&Ty::ALL);
                let of = self.value(other, 1, scope).node;
                Some(Call::aggregate(made(ty, rows, "count({0})", vec![of])))
            }
            (Ty::Int8, 5 | 6) => self.summed(ty, &[Ty::Int2, Ty::Int4], scope),
            (Ty::Int4, 0..=2) => {
                let parts = vec![words(*self.pick(&["1", "2", "3", "5"]))];
                Some(Call::of_rows(made(ty, 5.0, "ntile({0})", parts)))
            }
            (Ty::Numeric, 0..=2) => self.summed(ty, &[Ty::Int8, Ty::Numeric], scope),
            (Ty::Numeric, 3 | 4) => {
                let of = *self.pick(&[Ty::Int2, Ty::Int4, Ty::Int8, Ty::Numeric]);
                let of = self.value(of, 1, scope);
                let leaf = made(ty, of.bound + 1.0, "avg({0})", vec![of.node]);
                Some(Call::aggregate(leaf).wrapped("round({0}, 4)"))
            }
            // They are rounded, and not computed with.
            (Ty::Float, 0..=2) => Some(Call::of_peers(plain("percent_rank()", f64::INFINITY))),
            (Ty::Float, 3 | 4) => Some(Call::of_peers(plain("cume_dist()", f64::INFINITY))),
            (Ty::Bool, _) => {
                let form = *self.pick(&["bool_and({0})", "bool_or({0})", "every({0})"]);
                let of = self.condition(1, scope).node;
                Some(Call::aggregate(made(ty, 1.0, form, vec![of])))
            }
            (Ty::Text, 0..=4) => self.listed_rows(rows, scope),
            _ => {
                let form = *self.pick(&["min({0})", "max({0})"]);
                let of = typed(self.value(ty, 1, scope));
                Some(Call::aggregate(made(ty, of.bound, form, vec![of.node])))
            }
        }
    }

    fn summed(&mut self, ty: Ty, of: &[Ty], scope: &Scope) -> Option<Call> {
        let of = *self.pick(of);
        let of = self.value(of, 1, scope);
        let bound = of.bound * scope.rows.max(1.0);
        let leaf = made(ty, bound, "sum({0})", vec![of.node]);
        Some(Call::aggregate(leaf))
    }

    /// All that rows have, in their order. An array of numerics would show the zeros at their ends.
    fn listed_rows(&mut self, rows: f64, scope: &Scope) -> Option<Call> {
        let of = *self.pick(&[Ty::Text, Ty::Text, Ty::Int4, Ty::Int8, Ty::Date, Ty::Bool]);
        let of = typed(self.value(of, 1, scope));
        // Digits, and quotes in an array.
        let each = if of.ty == Ty::Text {
            2.0 * of.bound + 3.0
        } else {
            21.0
        };
        let bound = rows * each + 2.0;
        if bound > MOST_TEXT {
            return None;
        }
        let call = if of.ty == Ty::Text && self.chance(0.5) {
            Call::aggregate(made(Ty::Text, bound, "string_agg({0}, ',')", vec![of.node]))
        } else {
            let leaf = made(Ty::Text, bound, "array_agg({0})", vec![of.node]);
            Call::aggregate(leaf).wrapped("({0})::text")
        };
        Some(Call {
            by_row: true,
            ..call
        })
    }

    /// Of another row.
    fn value_of_row(&mut self, ty: Ty, scope: &Scope) -> Call {
        let of = typed(self.value(ty, 1, scope));
        let mut bound = of.bound;
        let mut parts = vec![of.node];
        let form = match self.below(9) {
            0 => "lag({0})",
            1 => "lead({0})",
            kind @ 2..=5 => {
                parts.push(if self.chance(0.7) {
                    words(*self.pick(&["0", "1", "2", "3", "-1"]))
                } else {
                    self.leaf(Ty::Int4, scope).node
                });
                let other = typed(self.leaf(ty, scope));
                bound = bound.max(other.bound);
                parts.push(other.node);
                match kind {
                    2 => "lag({0}, {1})",
                    3 => "lead({0}, {1})",
                    4 => "lag({0}, {1}, {2})",
                    _ => "lead({0}, {1}, {2})",
                }
            }
            6 => "first_value({0})",
            7 => "last_value({0})",
            _ => {
                parts.push(words(*self.pick(&["1", "2", "3"])));
                "nth_value({0}, {1})"
            }
        };
        Call::of_rows(made(ty, bound, form, parts))
    }

    /// One that the select has named, as it is or extended, or one of its own.
    fn place(&mut self, by_row: bool, scope: &Scope, named: &[(String, Window)]) -> Place {
        if named.is_empty() || self.chance(0.4) {
            return Place::Here(self.window(by_row, scope));
        }
        let (name, window) = self.pick(named).clone();
        let extended = Window {
            base: Some(name.clone()),
            ..Window::default()
        };
        // Those with an order, their own or another's, have one of all that tells rows apart; none has a frame without.
        if window.key.is_none() && window.frame.is_none() {
            if !by_row && self.chance(0.5) {
                return Place::Named(name);
            }
            return Place::Here(Window {
                partition: Vec::new(),
                base: extended.base,
                ..self.window_by_row(scope)
            });
        }
        if window.frame.is_none() && self.chance(0.4) {
            return Place::Here(Window {
                frame: self.chance(0.8).then(|| self.frame()),
                ..extended
            });
        }
        Place::Named(name)
    }

    /// None, one or two, of which the second may extend the first.
    fn named_windows(&mut self, scope: &Scope) -> Vec<(String, Window)> {
        let mut named = Vec::new();
        if !self.chance(0.4) {
            return named;
        }
        let first = if self.chance(0.4) {
            Window {
                partition: self.partition(scope),
                ..Window::default()
            }
        } else {
            self.window_by_row(scope)
        };
        let name = self.name('o');
        named.push((name.clone(), first.clone()));
        if !self.chance(0.4) {
            return named;
        }
        let mut second = self.window_by_row(scope);
        if first.frame.is_none() && self.chance(0.7) {
            second.base = Some(name);
            second.partition.clear();
            if first.key.is_some() {
                // With the words of the other, since it has the order of the other.
                second.order.clear();
                second.key = None;
                second.frame = Some(self.frame());
                let other = self.name('o');
                named.push((other, second));
                return named;
            }
        }
        let other = self.name('o');
        named.push((other, second));
        named
    }

    fn partition(&mut self, scope: &Scope) -> Vec<Node> {
        let most = if self.chance(0.6) { 2 } else { 0 };
        (0..most)
            .take(1 + self.below(2) as usize)
            .map(|_| self.window_item(scope))
            .collect()
    }

    /// What rows are parted or ordered by: like a group key, now and then anything.
    fn window_item(&mut self, scope: &Scope) -> Node {
        if self.chance(0.8) {
            return self.group_key(scope).node;
        }
        let ty = *self.pick(&Ty::ALL);
        typed(self.value(ty, 1, scope)).node
    }

    fn window_direction(&mut self) -> &'static str {
        self.pick::<&str>(&["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
    }

    fn window_by_row(&mut self, scope: &Scope) -> Window {
        let order = (0..self.below(3))
            .map(|_| (self.window_item(scope), self.window_direction()))
            .collect();
        Window {
            base: None,
            partition: self.partition(scope),
            order,
            key: Some(*self.pick(&["", "", " DESC"])),
            frame: self.chance(0.6).then(|| self.frame()),
        }
    }

    fn window(&mut self, by_row: bool, scope: &Scope) -> Window {
        let kind = self.below(10);
        if by_row || kind >= 8 {
            return self.window_by_row(scope);
        }
        let mut window = Window {
            partition: self.partition(scope),
            ..Window::default()
        };
        if kind < 2 {
            return window;
        }
        let measured = scope.own.iter().filter(|leaf| is_measured(leaf.ty));
        let measured: Vec<Leaf> = measured.cloned().collect();
        if kind >= 6 && !measured.is_empty() {
            let leaf = self.pick(&measured).clone();
            window.order = vec![(leaf.node, self.window_direction())];
            window.frame = Some(self.measured_frame(leaf.ty));
            return window;
        }
        window.order = (0..=self.below(2))
            .map(|_| (self.window_item(scope), self.window_direction()))
            .collect();
        window.frame = (kind >= 4).then(|| self.frame_of_peers());
        window
    }
}
