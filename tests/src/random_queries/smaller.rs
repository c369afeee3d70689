//! Every way to leave one thing out of a statement, the largest first where it is cheap to say which is.
//!
//! What comes out need not be valid: PostgreSQL says so, and then it is no difference.

use super::tree::{
    Body, Cte, Distinct, Grouping, Item, Join, List, Node, Order, Query, Select, Statement, Total,
    Ty, value, words,
};

impl Statement {
    pub fn smaller(&self) -> Vec<Statement> {
        match self {
            Statement::Query(query) => {
                let mut all = query.within();
                all.extend(query.smaller());
                all.into_iter().map(Statement::Query).collect()
            }
            Statement::Change { table, node } => {
                let change = |node| Statement::Change {
                    table: table.clone(),
                    node,
                };
                node.smaller().into_iter().map(change).collect()
            }
        }
    }
}

impl Query {
    /// The queries inside, each by itself.
    fn within(&self) -> Vec<Query> {
        let mut found = Vec::new();
        for cte in &self.with {
            found.push(cte.query.clone());
        }
        match &self.body {
            Body::Select(select) => {
                for node in select.nodes() {
                    node.queries(&mut found);
                }
            }
            Body::Set(_, sides) => {
                for side in [&sides.0, &sides.1] {
                    found.push(side.clone());
                    found.extend(side.within());
                }
            }
            Body::Values(rows) => {
                for node in rows.iter().flatten() {
                    node.queries(&mut found);
                }
            }
        }
        found
    }

    pub fn smaller(&self) -> Vec<Query> {
        let mut all = Vec::new();
        if let Body::Set(_, sides) = &self.body {
            for side in [&sides.0, &sides.1] {
                let mut alone = side.clone();
                if alone.order == Order::Open {
                    alone.order = self.order.clone();
                }
                alone.with.extend(self.with.iter().cloned());
                all.push(alone);
            }
        }
        for i in 0..self.with.len() {
            all.push(self.changed(|query| {
                query.with.remove(i);
            }));
        }
        for order in self.order.smaller() {
            all.push(self.changed(|query| query.reorder(order)));
        }
        let width = self.width();
        if width > 1 {
            all.extend((0..width).map(|column| self.changed(|query| query.drop_column(column))));
        }
        let body = |body| Query {
            body,
            ..self.clone()
        };
        all.extend(self.body.smaller().into_iter().map(body));
        for (i, cte) in self.with.iter().enumerate() {
            for query in cte.query.smaller() {
                let cte = Cte {
                    query,
                    ..cte.clone()
                };
                all.push(self.changed(|query| query.with[i] = cte));
            }
        }
        all
    }

    fn changed(&self, change: impl FnOnce(&mut Query)) -> Query {
        let mut query = self.clone();
        change(&mut query);
        query
    }

    /// Which row of those that DISTINCT ON finds alike is kept, only a total order says.
    fn reorder(&mut self, order: Order) {
        let is_total = matches!(order, Order::Total(_));
        self.order = order;
        if let Body::Select(select) = &mut self.body
            && matches!(select.distinct, Distinct::On(_))
            && !is_total
        {
            select.distinct = Distinct::Rows;
        }
    }

    fn drop_column(&mut self, column: usize) {
        match &mut self.body {
            Body::Select(select) => {
                if column < select.items.len() {
                    select.items.remove(column);
                }
                select.distinct = match select.distinct {
                    Distinct::On(columns) if column < columns => match columns - 1 {
                        0 => Distinct::Rows,
                        less => Distinct::On(less),
                    },
                    other => other,
                };
            }
            Body::Set(_, sides) => {
                sides.0.drop_column(column);
                sides.1.drop_column(column);
            }
            Body::Values(rows) => {
                for row in rows.iter_mut().filter(|row| column < row.len()) {
                    row.remove(column);
                }
            }
        }
        match &mut self.order {
            Order::Open => {}
            Order::Partial { by, ties } => {
                by.retain(|(place, _)| *place != column);
                by.iter_mut()
                    .filter(|(place, _)| *place > column)
                    .for_each(|(place, _)| *place -= 1);
                if by.is_empty() {
                    by.extend(ties.is_some().then_some((0, "")));
                }
            }
            Order::Total(total) if total.first > column => total.first -= 1,
            Order::Total(_) => {}
        }
    }
}

impl Order {
    fn smaller(&self) -> Vec<Order> {
        let mut all = Vec::new();
        match self {
            Order::Open => {}
            Order::Partial { by, ties } => {
                all.push(Order::Open);
                if ties.is_some() {
                    all.push(Order::Partial {
                        by: by.clone(),
                        ties: None,
                    });
                }
                for (i, (_, words)) in by.iter().enumerate() {
                    let mut less = by.clone();
                    if words.is_empty() && by.len() > 1 {
                        less.remove(i);
                    } else {
                        less[i].1 = "";
                    }
                    all.push(Order::Partial {
                        by: less,
                        ties: *ties,
                    });
                }
            }
            Order::Total(total) => {
                all.push(Order::Open);
                all.extend(total.smaller().into_iter().map(Order::Total));
            }
        }
        all
    }
}

impl Total {
    fn smaller(&self) -> Vec<Total> {
        let mut all = vec![
            Total {
                offset: None,
                ..self.clone()
            },
            Total {
                limit: None,
                ..self.clone()
            },
            Total {
                words: Vec::new(),
                ..self.clone()
            },
        ];
        for i in 0..self.words.len() {
            let mut words = self.words.clone();
            words[i] = "";
            all.push(Total {
                words,
                ..self.clone()
            });
        }
        all
    }
}

impl Body {
    fn smaller(&self) -> Vec<Body> {
        match self {
            Body::Select(select) => {
                let boxed = |select| Body::Select(Box::new(select));
                select.smaller().into_iter().map(boxed).collect()
            }
            Body::Set(word, sides) => {
                let (left, right) = &**sides;
                let set = |left: &Query, right: &Query| {
                    Body::Set(word, Box::new((left.clone(), right.clone())))
                };
                let lefts = left.smaller();
                let rights = right.smaller();
                let mut all: Vec<Body> = lefts.iter().map(|left| set(left, right)).collect();
                all.extend(rights.iter().map(|right| set(left, right)));
                all
            }
            Body::Values(rows) => smaller_rows(rows).into_iter().map(Body::Values).collect(),
        }
    }
}

fn smaller_rows(rows: &[Vec<Node>]) -> Vec<Vec<Vec<Node>>> {
    let mut all = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if rows.len() > 1 {
            let mut less = rows.to_vec();
            less.remove(i);
            all.push(less);
        }
        for (j, node) in row.iter().enumerate() {
            for smaller in node.smaller() {
                let mut less = rows.to_vec();
                less[i][j] = smaller;
                all.push(less);
            }
        }
    }
    all
}

impl Select {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let items = self.items.iter().map(|item| &item.value);
        let keys = self.keys.iter().map(|(_, key)| key);
        items
            .chain(&self.from)
            .chain(&self.filter)
            .chain(keys)
            .chain(&self.having)
    }

    fn changed(&self, change: impl FnOnce(&mut Select)) -> Select {
        let mut select = self.clone();
        change(&mut select);
        select
    }

    fn smaller(&self) -> Vec<Select> {
        let mut all = Vec::new();
        all.extend(
            self.filter
                .iter()
                .map(|_| self.changed(|s| s.filter = None)),
        );
        all.extend(
            self.having
                .iter()
                .map(|_| self.changed(|s| s.having = None)),
        );
        if self.distinct != Distinct::No {
            all.push(self.changed(|s| s.distinct = Distinct::No));
        }
        for i in 0..self.from.len() {
            all.push(self.changed(|s| {
                s.from.remove(i);
            }));
        }
        all.extend(
            self.grouping
                .smaller()
                .into_iter()
                .map(|grouping| self.changed(|s| s.grouping = grouping)),
        );
        for i in 0..self.keys.len() {
            all.push(self.changed(|s| s.drop_key(i)));
        }
        for (i, source) in self.from.iter().enumerate() {
            for node in source.smaller() {
                all.push(self.changed(|s| s.from[i] = node));
            }
        }
        for node in self.filter.iter().flat_map(Node::smaller) {
            all.push(self.changed(|s| s.filter = Some(node)));
        }
        for node in self.having.iter().flat_map(Node::smaller) {
            all.push(self.changed(|s| s.having = Some(node)));
        }
        for (i, (ty, key)) in self.keys.iter().enumerate() {
            for node in key.smaller() {
                all.push(self.changed(|s| s.keys[i] = (*ty, node)));
            }
        }
        for (i, item) in self.items.iter().enumerate() {
            for value in item.value.smaller() {
                let alias = item.alias.clone();
                all.push(self.changed(|s| s.items[i] = Item { value, alias }));
            }
        }
        all
    }

    /// What named it says nothing then.
    fn drop_key(&mut self, key: usize) {
        self.keys.remove(key);
        if let Grouping::Sets(sets) = &mut self.grouping {
            for set in sets {
                set.retain(|number| *number != key);
                set.iter_mut()
                    .filter(|number| **number > key)
                    .for_each(|number| *number -= 1);
            }
        }
        for item in &mut self.items {
            item.value.drop_key(key);
        }
        if let Some(having) = &mut self.having {
            having.drop_key(key);
        }
    }
}

impl Grouping {
    fn smaller(&self) -> Vec<Grouping> {
        let mut all = Vec::new();
        if *self != Grouping::Plain {
            all.push(Grouping::Plain);
        }
        if let Grouping::Sets(sets) = self {
            for i in 0..sets.len() {
                let mut less = sets.clone();
                less.remove(i);
                if !less.is_empty() {
                    all.push(Grouping::Sets(less));
                }
            }
        }
        all
    }
}

impl Node {
    /// The parts that may be looked at, in order.
    fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Words(_) | Node::Key(..) | Node::Query(_) | Node::Kept(_) => Vec::new(),
            Node::Form(_, parts) => parts.iter().collect(),
            Node::Value(_, node) | Node::Optional(node) => vec![node],
            Node::List(list) => list.items.iter().collect(),
            Node::Join(join) => {
                let sides = [&join.left, &join.right];
                sides.into_iter().chain(&join.condition).collect()
            }
        }
    }

    /// The same with another node for one of its parts.
    fn with_part(&self, number: usize, part: Node) -> Node {
        let mut node = self.clone();
        match &mut node {
            Node::Words(_) | Node::Key(..) | Node::Query(_) | Node::Kept(_) => {}
            Node::Form(_, parts) => parts[number] = part,
            Node::Value(_, inner) | Node::Optional(inner) => **inner = part,
            Node::List(list) => list.items[number] = part,
            Node::Join(join) => match number {
                0 => join.left = part,
                1 => join.right = part,
                _ => join.condition = Some(part),
            },
        }
        node
    }

    /// The outermost queries in it, and those in them.
    fn queries(&self, found: &mut Vec<Query>) {
        if let Node::Query(query) = self {
            found.push((**query).clone());
            found.extend(query.within());
        }
        for part in self.parts() {
            part.queries(found);
        }
    }

    pub fn smaller(&self) -> Vec<Node> {
        let mut all = Vec::new();
        match self {
            Node::Value(ty, inner) => smaller_values(*ty, inner, &mut all),
            Node::Optional(_) => all.push(words("")),
            Node::Query(query) => {
                let boxed = |query| Node::Query(Box::new(query));
                all.extend(query.smaller().into_iter().map(boxed));
            }
            Node::List(list) => list.shorter(&mut all),
            Node::Join(join) => join.sides(&mut all),
            // Parentheses belong to the join, and go with it.
            Node::Form(_, parts) => {
                if let Some(Node::Join(join)) = parts.first() {
                    all.extend([join.left.clone(), join.right.clone()]);
                }
            }
            Node::Words(_) | Node::Key(..) | Node::Kept(_) => {}
        }
        for (number, part) in self.parts().into_iter().enumerate() {
            let smaller = part.smaller();
            all.extend(smaller.into_iter().map(|part| self.with_part(number, part)));
        }
        all
    }

    /// Values of a type inside, though not in queries.
    fn values(&self, ty: Ty, found: &mut Vec<Node>) {
        if matches!(self, Node::Value(own, _) if *own == ty) {
            found.push(self.clone());
        }
        for part in self.parts() {
            part.values(ty, found);
        }
    }

    fn drop_key(&mut self, key: usize) {
        match self {
            Node::Key(ty, number) if *number == key => *self = words(ty.plainest()),
            Node::Key(_, number) if *number > key => *number -= 1,
            Node::Key(..) | Node::Words(_) | Node::Query(_) => {}
            Node::Form(_, parts) => parts.iter_mut().for_each(|part| part.drop_key(key)),
            Node::Value(_, node) | Node::Optional(node) | Node::Kept(node) => node.drop_key(key),
            Node::List(list) => list.items.iter_mut().for_each(|item| item.drop_key(key)),
            Node::Join(_) => {}
        }
    }
}

/// Constants, and the values of the type in what it is made of.
fn smaller_values(ty: Ty, inner: &Node, all: &mut Vec<Node>) {
    all.push(value(ty, words(ty.plainest())));
    all.push(value(ty, words(format!("NULL::{}", ty.sql()))));
    inner.values(ty, all);
}

impl List {
    fn shorter(&self, all: &mut Vec<Node>) {
        if self.items.len() <= self.least {
            return;
        }
        for i in 0..self.items.len() {
            let mut less = self.clone();
            less.items.remove(i);
            all.push(Node::List(less));
        }
    }
}

impl Join {
    fn sides(&self, all: &mut Vec<Node>) {
        all.push(self.left.clone());
        all.push(self.right.clone());
        // Of what is joined, how is the last question.
        if self.condition.is_some() && self.word != "JOIN" && !self.word.starts_with("NATURAL") {
            let mut inner = self.clone();
            inner.word = "JOIN";
            all.push(Node::Join(Box::new(inner)));
        }
    }
}
