//! Statements as they are sent.

use std::fmt::Write as _;

use super::tree::{
    Body, Cte, Distinct, Grouping, Join, List, Node, Order, Query, RowKey, Select, Statement,
    Total, With,
};

/// WITH queries and their columns.
pub type Named = (String, Vec<String>);

/// What is written once, around a node, and referred to in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// Group keys.
    pub keys: &'a [String],
    /// What tells the rows apart that windows are made of.
    pub row: &'a [String],
    pub named: &'a [Named],
}

impl Statement {
    pub fn sql(&self) -> String {
        match self {
            Statement::Query(query) => query.sql(),
            Statement::Change { node, .. } => node.sql(&[]),
        }
    }
}

impl Node {
    pub fn sql(&self, keys: &[String]) -> String {
        self.shown(&Around {
            keys,
            ..Around::default()
        })
    }

    pub fn shown(&self, around: &Around) -> String {
        let mut out = String::new();
        self.write(&mut out, around);
        out
    }

    pub fn write(&self, out: &mut String, around: &Around) {
        match self {
            Node::Words(words) => out.push_str(words),
            Node::Form(form, parts) => write_form(out, form, parts, around),
            Node::Value(_, node)
            | Node::Optional(node)
            | Node::Kept(node)
            | Node::Source(node, _) => node.write(out, around),
            Node::List(list) => list.write(out, around),
            Node::Join(join) => join.write(out, around),
            // A key that was dropped: the servers say that there is no such place.
            Node::Key(_, number) => match around.keys.get(*number) {
                Some(key) => out.push_str(key),
                None => out.push_str("no_such_key"),
            },
            Node::Query(query) => query.write(out, around.named),
            Node::Over(over) => over.write(out, around),
            Node::Under(with, node) => {
                let named = with.write(out, around.named);
                let named = Around {
                    named: &named,
                    ..*around
                };
                node.write(out, &named);
            }
        }
    }

    /// What tells the rows of an item of FROM apart.
    fn row(&self, named: &[Named], row: &mut Vec<String>) {
        match self {
            Node::Source(node, key) => key.columns(node, named, row),
            Node::Join(join) => {
                join.left.row(named, row);
                join.right.row(named, row);
            }
            Node::Form(_, parts) => parts.iter().for_each(|part| part.row(named, row)),
            _ => {}
        }
    }
}

impl RowKey {
    fn columns(&self, node: &Node, named: &[Named], row: &mut Vec<String>) {
        let (alias, names) = match self {
            RowKey::Columns(columns) => return row.extend(columns.iter().cloned()),
            RowKey::Subquery(alias) => (alias, node.subquery().map(Query::names)),
            RowKey::Named { name, alias } => {
                let found = named.iter().rfind(|(known, _)| known == name);
                (alias, found.map(|(_, columns)| columns.clone()))
            }
        };
        let names = names.unwrap_or_default();
        row.extend(names.iter().map(|name| format!("{alias}.{name}")));
    }
}

fn write_form(out: &mut String, form: &str, parts: &[Node], around: &Around) {
    let mut pieces = form.split('{');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (number, rest) = piece.split_once('}').expect("a hole is closed");
        let number: usize = number.parse().expect("a hole has a number");
        parts[number].write(out, around);
        out.push_str(rest);
    }
}

impl List {
    fn write(&self, out: &mut String, around: &Around) {
        if self.items.is_empty() {
            return;
        }
        out.push_str(self.before);
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push_str(self.between);
            }
            item.write(out, around);
        }
        out.push_str(self.after);
    }
}

impl Join {
    fn write(&self, out: &mut String, around: &Around) {
        self.left.write(out, around);
        let _ = write!(out, " {} ", self.word);
        let nested = matches!(self.right, Node::Join(_));
        out.push_str(if nested { "(" } else { "" });
        self.right.write(out, around);
        out.push_str(if nested { ")" } else { "" });
        if let Some(condition) = &self.condition {
            out.push(' ');
            condition.write(out, around);
        }
    }
}

impl With {
    /// All WITH queries that are known behind it.
    fn write(&self, out: &mut String, named: &[Named]) -> Vec<Named> {
        let mut named = named.to_vec();
        let word = if self.recursive {
            "WITH RECURSIVE "
        } else {
            "WITH "
        };
        for (i, part) in self.parts.iter().enumerate() {
            out.push_str(if i == 0 { word } else { ", " });
            part.write(out, &mut named);
        }
        out.push_str(if self.parts.is_empty() { "" } else { " " });
        named
    }
}

impl Cte {
    fn write(&self, out: &mut String, named: &mut Vec<Named>) {
        // One that is recursive names itself.
        named.push((self.name.clone(), self.names()));
        out.push_str(&self.name);
        if !self.columns.is_empty() {
            let _ = write!(out, " ({})", self.columns.join(", "));
        }
        let around = Around {
            named,
            ..Around::default()
        };
        let _ = write!(out, " AS {}({})", self.words, self.of.shown(&around));
    }
}

impl Query {
    pub fn sql(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &[]);
        out
    }

    fn write(&self, out: &mut String, named: &[Named]) {
        let named = self.with.write(out, named);
        match &self.body {
            Body::Select(select) => select.write(out, &named),
            Body::Set(word, sides) => {
                sides.0.write_branch(out, &named);
                let _ = write!(out, " {word} ");
                sides.1.write_branch(out, &named);
            }
            Body::Values(rows) => write_values(out, rows, &named),
        }
        self.write_order(out, &named);
    }

    /// As an operand of UNION and the like.
    fn write_branch(&self, out: &mut String, named: &[Named]) {
        let bare = self.with.parts.is_empty()
            && self.order == Order::Open
            && matches!(self.body, Body::Select(_) | Body::Values(_));
        out.push_str(if bare { "" } else { "(" });
        self.write(out, named);
        out.push_str(if bare { "" } else { ")" });
    }

    fn write_order(&self, out: &mut String, named: &[Named]) {
        match &self.order {
            Order::Open => {}
            Order::Partial { by, ties } => {
                for (i, (column, words)) in by.iter().enumerate() {
                    let before = if i == 0 { " ORDER BY " } else { ", " };
                    let _ = write!(out, "{before}{}{words}", column + 1);
                }
                if let Some(rows) = ties {
                    let _ = write!(out, " FETCH FIRST {rows} ROWS WITH TIES");
                }
            }
            Order::Total(total) => self.write_total(out, total, named),
        }
    }

    fn write_total(&self, out: &mut String, total: &Total, named: &[Named]) {
        let width = self.width();
        out.push_str(" ORDER BY ");
        self.write_first(out, named);
        for i in 0..width {
            let column = (total.first + i) % width;
            out.push_str(if i == 0 { "" } else { ", " });
            match self.name_of(column).filter(|_| total.by_name) {
                Some(name) => out.push_str(name),
                None => {
                    let _ = write!(out, "{}", column + 1);
                }
            }
            out.push_str(total.words.get(i % total.words.len().max(1)).unwrap_or(&""));
        }
        if let Some(limit) = total.limit {
            let _ = write!(out, " LIMIT {limit}");
        }
        if let Some(offset) = total.offset {
            let _ = write!(out, " OFFSET {offset}");
        }
    }

    /// DISTINCT would have it in the list.
    fn write_first(&self, out: &mut String, named: &[Named]) {
        if let Body::Select(select) = &self.body
            && select.distinct == Distinct::No
            && let Some(first) = &select.ordered_by
        {
            let (keys, row) = select.written_once(named);
            let around = Around {
                keys: &keys,
                row: &row,
                named,
            };
            let _ = write!(out, "{}, ", first.shown(&around));
        }
    }
}

fn write_values(out: &mut String, rows: &[Vec<Node>], named: &[Named]) {
    let around = Around {
        named,
        ..Around::default()
    };
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i == 0 { "VALUES (" } else { ", (" });
        for (j, node) in row.iter().enumerate() {
            out.push_str(if j == 0 { "" } else { ", " });
            node.write(out, &around);
        }
        out.push(')');
    }
}

impl Select {
    /// The group keys, and what tells the rows apart: of a grouped query these keys, of others something of each item
    /// of FROM.
    fn written_once(&self, named: &[Named]) -> (Vec<String>, Vec<String>) {
        let around = Around {
            named,
            ..Around::default()
        };
        let keys: Vec<String> = self.keys.iter().map(|key| key.1.shown(&around)).collect();
        let mut row = keys.clone();
        if keys.is_empty() && self.having.is_none() {
            self.from.iter().for_each(|item| item.row(named, &mut row));
        }
        if !keys.is_empty() && self.grouping != Grouping::Plain {
            row.push(format!("grouping({})", keys.join(", ")));
        }
        (keys, row)
    }

    fn write(&self, out: &mut String, named: &[Named]) {
        let (keys, row) = self.written_once(named);
        let around = Around {
            keys: &keys,
            row: &row,
            named,
        };
        let bare = Around {
            named,
            ..Around::default()
        };
        self.write_list(out, &around);
        for (i, source) in self.from.iter().enumerate() {
            out.push_str(if i == 0 { " FROM " } else { ", " });
            source.write(out, &bare);
        }
        if let Some(filter) = &self.filter {
            out.push_str(" WHERE ");
            filter.write(out, &bare);
        }
        if !keys.is_empty() {
            out.push_str(" GROUP BY ");
            out.push_str(&self.grouping.sql(&keys));
        }
        if let Some(having) = &self.having {
            out.push_str(" HAVING ");
            having.write(out, &around);
        }
        for (i, (name, window)) in self.windows.iter().enumerate() {
            let before = if i == 0 { " WINDOW" } else { "," };
            let _ = write!(out, "{before} {name} AS ");
            window.write(out, &around);
        }
    }

    fn write_list(&self, out: &mut String, around: &Around) {
        out.push_str("SELECT ");
        match self.distinct {
            Distinct::No => {}
            Distinct::Rows => out.push_str("DISTINCT "),
            Distinct::On(columns) => {
                let places: Vec<String> = (1..=columns).map(|c| c.to_string()).collect();
                let _ = write!(out, "DISTINCT ON ({}) ", places.join(", "));
            }
        }
        for (i, item) in self.items.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { ", " });
            item.value.write(out, around);
            if let Some(alias) = &item.alias {
                let _ = write!(out, " AS {alias}");
            }
        }
    }
}

impl Grouping {
    fn sql(&self, keys: &[String]) -> String {
        match self {
            Grouping::Plain => keys.join(", "),
            Grouping::Rollup => format!("ROLLUP ({})", keys.join(", ")),
            Grouping::Cube => format!("CUBE ({})", keys.join(", ")),
            Grouping::Mixed if keys.len() > 1 => {
                format!("{}, ROLLUP ({})", keys[0], keys[1..].join(", "))
            }
            Grouping::Mixed => keys.join(", "),
            Grouping::Sets(sets) => {
                let set = |set: &Vec<usize>| {
                    let named: Vec<&str> = set.iter().map(|key| keys[*key].as_str()).collect();
                    format!("({})", named.join(", "))
                };
                let sets: Vec<String> = sets.iter().map(set).collect();
                format!("GROUPING SETS ({})", sets.join(", "))
            }
        }
    }
}
