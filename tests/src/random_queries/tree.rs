//! Statements as trees that know which of their parts may be left out.
//!
//! Queries have a shape of their own, since their clauses depend on one another: an order that is total names every
//! column of the list, whatever has been dropped from it, and a group key is written down once and referred to.
//! Everything else is words with holes.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ty {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float,
    Text,
    Date,
    Stamp,
}

impl Ty {
    pub const ALL: [Ty; 9] = [
        Ty::Bool,
        Ty::Int2,
        Ty::Int4,
        Ty::Int8,
        Ty::Numeric,
        Ty::Float,
        Ty::Text,
        Ty::Date,
        Ty::Stamp,
    ];

    pub fn sql(self) -> &'static str {
        match self {
            Ty::Bool => "bool",
            Ty::Int2 => "int2",
            Ty::Int4 => "int4",
            Ty::Int8 => "int8",
            Ty::Numeric => "numeric",
            Ty::Float => "float8",
            Ty::Text => "text",
            Ty::Date => "date",
            Ty::Stamp => "timestamp",
        }
    }

    /// A constant that says nothing, for what the difference does not need.
    pub fn plainest(self) -> &'static str {
        match self {
            Ty::Bool => "true",
            Ty::Int2 => "0::int2",
            Ty::Int4 => "0",
            Ty::Int8 => "0::int8",
            Ty::Numeric => "0.0",
            Ty::Float => "0::float8",
            Ty::Text => "''::text",
            Ty::Date => "'2024-1-1'::date",
            Ty::Stamp => "'2024-1-1'::timestamp",
        }
    }

    /// Up to where values of it are computed with. What a value is bounded by is its size: of numbers the absolute
    /// value, of texts the length, of moments the days from the middle of the constants.
    pub fn limit(self) -> f64 {
        match self {
            Ty::Bool => 1.0,
            Ty::Int2 => 32_000.0,
            Ty::Int4 => 2e9,
            Ty::Int8 => 9e15,
            Ty::Numeric => 1e25,
            Ty::Float => 1e12,
            Ty::Text => 5_000.0,
            Ty::Date | Ty::Stamp => 100_000.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Words(String),
    /// `{0}`, `{1}` ... stand for the parts, each as often as it is named.
    Form(&'static str, Vec<Node>),
    /// A value: another of its type may stand there instead.
    Value(Ty, Box<Node>),
    Optional(Box<Node>),
    List(List),
    Join(Box<Join>),
    /// A group key of the select whose list or HAVING this is.
    Key(Ty, usize),
    Query(Box<Query>),
    /// What the answer's being determined rests on: nothing is taken out of it.
    Kept(Box<Node>),
}

/// Without items it says nothing, not even what stands before them.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    pub before: &'static str,
    pub items: Vec<Node>,
    pub between: &'static str,
    pub after: &'static str,
    pub least: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    pub left: Node,
    pub word: &'static str,
    pub right: Node,
    /// `ON`, `USING`, or nothing.
    pub condition: Option<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub with: Vec<Cte>,
    pub body: Body,
    pub order: Order,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cte {
    pub name: String,
    /// `MATERIALIZED `, say.
    pub words: &'static str,
    pub query: Query,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Select(Box<Select>),
    Set(&'static str, Box<(Query, Query)>),
    Values(Vec<Vec<Node>>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    pub distinct: Distinct,
    pub items: Vec<Item>,
    pub from: Vec<Node>,
    pub filter: Option<Node>,
    pub grouping: Grouping,
    pub keys: Vec<(Ty, Node)>,
    pub having: Option<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub value: Node,
    pub alias: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinct {
    No,
    Rows,
    /// On so many of the first columns; the order is total and begins with them.
    On(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    Plain,
    Rollup,
    Cube,
    /// The first key, and the others in ROLLUP.
    Mixed,
    Sets(Vec<Vec<usize>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Open,
    /// By some of the columns: what these have, in order, is determined.
    Partial {
        by: Vec<(usize, &'static str)>,
        /// FETCH FIRST so many rows WITH TIES.
        ties: Option<u32>,
    },
    Total(Total),
}

/// By all columns, from `first` on and around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    pub first: usize,
    pub by_name: bool,
    /// ASC, DESC and so on, taken in turn.
    pub words: Vec<&'static str>,
    pub limit: Option<u32>,
    pub offset: Option<u32>,
}

/// How far SQL determines the rows of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    Sequence,
    /// A bag, but these columns come in one order.
    Ordered(Vec<usize>),
    Bag,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    Query(Query),
    /// INSERT, UPDATE or DELETE of this table.
    Change {
        table: String,
        node: Node,
    },
}

impl Statement {
    pub fn sql(&self) -> String {
        match self {
            Statement::Query(query) => query.sql(),
            Statement::Change { node, .. } => node.sql(&[]),
        }
    }

    /// What is sent to see all that it does, one statement after the other, and how each answer is compared.
    pub fn sent(&self) -> Vec<(String, Comparison)> {
        let sql = self.sql();
        match self {
            Statement::Query(query) => vec![(sql, query.comparison())],
            Statement::Change { table, .. } => [
                "BEGIN".to_owned(),
                sql,
                format!("SELECT * FROM {table}"),
                "ROLLBACK".to_owned(),
            ]
            .map(|sql| (sql, Comparison::Bag))
            .into(),
        }
    }
}

pub fn words(text: impl Into<String>) -> Node {
    Node::Words(text.into())
}

pub fn value(ty: Ty, node: Node) -> Node {
    Node::Value(ty, Box::new(node))
}

/// Items with commas between them; at least one stays.
pub fn commas(items: Vec<Node>) -> Node {
    Node::List(List {
        before: "",
        items,
        between: ", ",
        after: "",
        least: 1,
    })
}

impl Node {
    pub fn sql(&self, keys: &[String]) -> String {
        let mut out = String::new();
        self.write(&mut out, keys);
        out
    }

    fn write(&self, out: &mut String, keys: &[String]) {
        match self {
            Node::Words(words) => out.push_str(words),
            Node::Form(form, parts) => write_form(out, form, parts, keys),
            Node::Value(_, node) | Node::Optional(node) | Node::Kept(node) => node.write(out, keys),
            Node::List(list) => list.write(out, keys),
            Node::Join(join) => join.write(out, keys),
            // A key that was dropped: the servers say that there is no such place.
            Node::Key(_, number) => match keys.get(*number) {
                Some(key) => out.push_str(key),
                None => out.push_str("no_such_key"),
            },
            Node::Query(query) => out.push_str(&query.sql()),
        }
    }
}

fn write_form(out: &mut String, form: &str, parts: &[Node], keys: &[String]) {
    let mut pieces = form.split('{');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (number, rest) = piece.split_once('}').expect("a hole is closed");
        let number: usize = number.parse().expect("a hole has a number");
        parts[number].write(out, keys);
        out.push_str(rest);
    }
}

impl List {
    fn write(&self, out: &mut String, keys: &[String]) {
        if self.items.is_empty() {
            return;
        }
        out.push_str(self.before);
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push_str(self.between);
            }
            item.write(out, keys);
        }
        out.push_str(self.after);
    }
}

impl Join {
    fn write(&self, out: &mut String, keys: &[String]) {
        self.left.write(out, keys);
        let _ = write!(out, " {} ", self.word);
        let nested = matches!(self.right, Node::Join(_));
        out.push_str(if nested { "(" } else { "" });
        self.right.write(out, keys);
        out.push_str(if nested { ")" } else { "" });
        if let Some(condition) = &self.condition {
            out.push(' ');
            condition.write(out, keys);
        }
    }
}

impl Query {
    pub fn plain(body: Body) -> Query {
        Query {
            with: Vec::new(),
            body,
            order: Order::Open,
        }
    }

    pub fn width(&self) -> usize {
        match &self.body {
            Body::Select(select) => select.items.len(),
            Body::Set(_, sides) => sides.0.width(),
            Body::Values(rows) => rows.first().map_or(0, Vec::len),
        }
    }

    pub fn comparison(&self) -> Comparison {
        match &self.order {
            Order::Open => Comparison::Bag,
            Order::Partial { by, .. } => {
                Comparison::Ordered(by.iter().map(|(column, _)| *column).collect())
            }
            Order::Total(_) => Comparison::Sequence,
        }
    }

    pub fn sql(&self) -> String {
        let mut out = String::new();
        for (i, cte) in self.with.iter().enumerate() {
            out.push_str(if i == 0 { "WITH " } else { ", " });
            let _ = write!(out, "{} AS {}({})", cte.name, cte.words, cte.query.sql());
        }
        out.push_str(if self.with.is_empty() { "" } else { " " });
        match &self.body {
            Body::Select(select) => select.write(&mut out),
            Body::Set(word, sides) => {
                let _ = write!(out, "{} {word} {}", sides.0.branch(), sides.1.branch());
            }
            Body::Values(rows) => write_values(&mut out, rows),
        }
        self.write_order(&mut out);
        out
    }

    /// As an operand of UNION and the like.
    fn branch(&self) -> String {
        let bare = self.with.is_empty()
            && self.order == Order::Open
            && matches!(self.body, Body::Select(_) | Body::Values(_));
        if bare {
            self.sql()
        } else {
            format!("({})", self.sql())
        }
    }

    fn write_order(&self, out: &mut String) {
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
            Order::Total(total) => self.write_total(out, total),
        }
    }

    fn write_total(&self, out: &mut String, total: &Total) {
        let width = self.width();
        for i in 0..width {
            let column = (total.first + i) % width;
            out.push_str(if i == 0 { " ORDER BY " } else { ", " });
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

    fn name_of(&self, column: usize) -> Option<&str> {
        match &self.body {
            Body::Select(select) => select.items.get(column)?.alias.as_deref(),
            Body::Set(_, sides) => sides.0.name_of(column),
            Body::Values(_) => None,
        }
    }
}

fn write_values(out: &mut String, rows: &[Vec<Node>]) {
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i == 0 { "VALUES (" } else { ", (" });
        for (j, node) in row.iter().enumerate() {
            out.push_str(if j == 0 { "" } else { ", " });
            node.write(out, &[]);
        }
        out.push(')');
    }
}

impl Select {
    fn write(&self, out: &mut String) {
        let keys: Vec<String> = self.keys.iter().map(|(_, key)| key.sql(&[])).collect();
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
            item.value.write(out, &keys);
            if let Some(alias) = &item.alias {
                let _ = write!(out, " AS {alias}");
            }
        }
        for (i, source) in self.from.iter().enumerate() {
            out.push_str(if i == 0 { " FROM " } else { ", " });
            source.write(out, &[]);
        }
        if let Some(filter) = &self.filter {
            out.push_str(" WHERE ");
            filter.write(out, &[]);
        }
        if !keys.is_empty() {
            out.push_str(" GROUP BY ");
            out.push_str(&self.grouping.sql(&keys));
        }
        if let Some(having) = &self.having {
            out.push_str(" HAVING ");
            having.write(out, &keys);
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
