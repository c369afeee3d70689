//! Statements as trees that know which of their parts may be left out.
//!
//! Queries have a shape of their own, since their clauses depend on one another: an order that is total names every
//! column of the list, whatever has been dropped from it, and a group key is written down once and referred to. So is
//! what tells the rows of a FROM apart, for windows. Everything else is words with holes.

use super::window::{Over, Window};

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
    /// What the answer's being determined rests on: nothing is taken out of it, and it stays in its list.
    Kept(Box<Node>),
    /// An item of FROM that is no join.
    Source(Box<Node>, RowKey),
    /// A function over a window.
    Over(Box<Over>),
    /// INSERT, UPDATE or DELETE behind a WITH.
    Under(With, Box<Node>),
}

/// The columns of an item of FROM that tell its rows apart, as far as anything does: rows that are alike in all columns
/// may change places.
#[derive(Debug, Clone, PartialEq)]
pub enum RowKey {
    Columns(Vec<String>),
    /// All that the subquery has, by this name.
    Subquery(String),
    /// All that the WITH query has.
    Named {
        name: String,
        alias: String,
    },
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
    pub with: With,
    pub body: Body,
    pub order: Order,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct With {
    pub recursive: bool,
    pub parts: Vec<Cte>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cte {
    pub name: String,
    /// Names of its columns; without them they are those of the query.
    pub columns: Vec<String>,
    /// `MATERIALIZED `, say.
    pub words: &'static str,
    /// A query, or what writes.
    pub of: Node,
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
    /// WINDOW, by name.
    pub windows: Vec<(String, Window)>,
    /// What a total order begins with and the list does not have.
    pub ordered_by: Option<Node>,
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
    /// INSERT, UPDATE or DELETE, or a query with such in its WITH; and the tables that are looked at afterwards.
    Change {
        tables: Vec<String>,
        node: Node,
    },
}

impl Statement {
    /// What is sent to see all that it does, one statement after the other, and how each answer is compared.
    pub fn sent(&self) -> Vec<(String, Comparison)> {
        let sql = self.sql();
        let (tables, node) = match self {
            Statement::Query(query) => return vec![(sql, query.comparison())],
            Statement::Change { tables, node } => (tables, node),
        };
        let comparison = match node {
            Node::Query(query) => query.comparison(),
            _ => Comparison::Bag,
        };
        let bag = |sql: String| (sql, Comparison::Bag);
        let mut sent = vec![bag("BEGIN".to_owned()), (sql, comparison)];
        sent.extend(
            tables
                .iter()
                .map(|table| bag(format!("SELECT * FROM {table}"))),
        );
        // What is deferred would be looked at by COMMIT.
        sent.push(bag("SET CONSTRAINTS ALL IMMEDIATE".to_owned()));
        sent.push(bag("ROLLBACK".to_owned()));
        sent
    }

    /// Of all that is sent.
    pub fn length(&self) -> usize {
        self.sent().iter().map(|(sql, _)| sql.len()).sum()
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

impl Query {
    pub fn plain(body: Body) -> Query {
        Query {
            with: With::default(),
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

    pub fn name_of(&self, column: usize) -> Option<&str> {
        match &self.body {
            Body::Select(select) => select.items.get(column)?.alias.as_deref(),
            Body::Set(_, sides) => sides.0.name_of(column),
            Body::Values(_) => None,
        }
    }

    /// Of its columns, as others see them.
    pub fn names(&self) -> Vec<String> {
        let name = |column| match self.name_of(column) {
            Some(name) => name.to_owned(),
            None => format!("column{}", column + 1),
        };
        (0..self.width()).map(name).collect()
    }
}

impl Select {
    pub fn plain(items: Vec<Item>, from: Vec<Node>, filter: Option<Node>) -> Select {
        Select {
            distinct: Distinct::No,
            items,
            from,
            filter,
            grouping: Grouping::Plain,
            keys: Vec::new(),
            having: None,
            windows: Vec::new(),
            ordered_by: None,
        }
    }
}

impl Cte {
    pub fn names(&self) -> Vec<String> {
        if self.columns.is_empty() {
            self.of.names()
        } else {
            self.columns.clone()
        }
    }
}

impl Node {
    /// Of the columns of a query, or of what RETURNING gives.
    fn names(&self) -> Vec<String> {
        match self {
            Node::Query(query) => query.names(),
            Node::Under(_, node) => node.names(),
            Node::Form(_, parts) => parts.iter().flat_map(Node::returned).collect(),
            _ => Vec::new(),
        }
    }

    fn returned(&self) -> Vec<String> {
        let Node::List(list) = self else {
            return Vec::new();
        };
        let alias = |item: &Node| match item {
            Node::Form(_, parts) => match parts.last() {
                Some(Node::Words(alias)) => Some(alias.clone()),
                _ => None,
            },
            _ => None,
        };
        let is_returning = list.before == super::changes::RETURNING;
        let items = list.items.iter().filter(|_| is_returning);
        items.filter_map(alias).collect()
    }

    /// The query that it is or that stands in it as an item of FROM.
    pub fn subquery(&self) -> Option<&Query> {
        match self {
            Node::Query(query) => Some(query),
            Node::Form(_, parts) => parts.first()?.subquery(),
            _ => None,
        }
    }

    /// Whether it may not be left out.
    pub fn is_kept(&self) -> bool {
        match self {
            Node::Kept(_) => true,
            Node::List(list) => list.items.iter().any(Node::is_kept),
            _ => false,
        }
    }
}
