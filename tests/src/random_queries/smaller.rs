//! Every way to leave one thing out of a statement, the largest first where it is cheap to say which is.
//!
//! What comes out need not be valid: PostgreSQL says so, and then it is no difference.

use super::tree::{Body, Cte, Distinct, Node, Order, Query, Statement, Total, With};

impl Statement {
    pub fn smaller(&self) -> Vec<Statement> {
        match self {
            Statement::Query(query) => {
                let mut all = query.within();
                all.extend(query.smaller());
                all.into_iter().map(Statement::Query).collect()
            }
            Statement::Change { tables, node } => smaller_changes(tables, node),
        }
    }
}

/// Queries in it, the changes of its WITH, less of it, and fewer tables to look at.
fn smaller_changes(tables: &[String], node: &Node) -> Vec<Statement> {
    let change = |node| Statement::Change {
        tables: tables.to_vec(),
        node,
    };
    let mut queries = Vec::new();
    let with = match node {
        // With what writes in it, it stays a change.
        Node::Query(query) => {
            queries = query.within();
            let of = |part: &Cte| matches!(part.of, Node::Query(_));
            if query.with.parts.iter().all(of) {
                queries.push((**query).clone());
            }
            Some(&query.with)
        }
        Node::Under(with, inner) => {
            let parts = with.parts.iter().map(|part| &part.of);
            parts.for_each(|of| of.queries(&mut queries));
            inner.queries(&mut queries);
            Some(with)
        }
        other => {
            other.queries(&mut queries);
            None
        }
    };
    let mut all: Vec<Statement> = queries.into_iter().map(Statement::Query).collect();
    let parts = with.into_iter().flat_map(|with| &with.parts);
    let changes = parts.filter(|part| !matches!(part.of, Node::Query(_)));
    all.extend(changes.map(|part| change(part.of.clone())));
    all.extend(node.smaller().into_iter().map(change));
    for i in 0..tables.len() {
        let mut tables = tables.to_vec();
        tables.remove(i);
        let node = node.clone();
        all.push(Statement::Change { tables, node });
    }
    all
}

impl Query {
    /// The queries inside, each by itself.
    pub(super) fn within(&self) -> Vec<Query> {
        let mut found = Vec::new();
        for cte in &self.with.parts {
            cte.of.queries(&mut found);
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
                alone.with.recursive |= self.with.recursive;
                alone.with.parts.extend(self.with.parts.iter().cloned());
                all.push(alone);
            }
        }
        let with = self.with.shorter();
        all.extend(with.map(|with| self.changed(|query| query.with = with)));
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
        let with = self.with.simpler().into_iter();
        all.extend(with.map(|with| self.changed(|query| query.with = with)));
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

    pub(super) fn drop_column(&mut self, column: usize) {
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

impl With {
    fn changed(&self, change: impl FnOnce(&mut With)) -> With {
        let mut with = self.clone();
        change(&mut with);
        with
    }

    /// Without one of its queries, or without RECURSIVE.
    pub(super) fn shorter(&self) -> impl Iterator<Item = With> {
        let parts = (0..self.parts.len()).map(|i| {
            self.changed(|with| {
                with.parts.remove(i);
            })
        });
        let plain = self
            .recursive
            .then(|| self.changed(|w| w.recursive = false));
        parts.chain(plain)
    }

    pub(super) fn simpler(&self) -> Vec<With> {
        let mut all = Vec::new();
        for (i, part) in self.parts.iter().enumerate() {
            for part in part.smaller() {
                all.push(self.changed(|with| with.parts[i] = part));
            }
        }
        all
    }
}

impl Cte {
    fn smaller(&self) -> Vec<Cte> {
        let mut all = Vec::new();
        let unnamed = Cte {
            columns: Vec::new(),
            ..self.clone()
        };
        if !self.words.is_empty() {
            all.push(Cte {
                words: "",
                ..self.clone()
            });
        }
        if !self.columns.is_empty() {
            all.push(unnamed);
        }
        // Where its columns have names, one goes with its name.
        if let Node::Query(query) = &self.of
            && self.columns.len() > 1
        {
            for column in 0..self.columns.len() {
                let (mut query, mut columns) = (query.clone(), self.columns.clone());
                query.drop_column(column);
                columns.remove(column);
                all.push(Cte {
                    columns,
                    of: Node::Query(query),
                    ..self.clone()
                });
            }
        }
        all.extend(
            self.of
                .smaller()
                .into_iter()
                .map(|of| Cte { of, ..self.clone() }),
        );
        all
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
