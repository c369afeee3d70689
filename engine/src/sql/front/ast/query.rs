//! SELECT, VALUES, set operations, FROM.

use super::expr::{Expr, Ident, ObjectName, TypeName, Window};
use crate::sql::bound::{LockWait, RowLockMode, SetOp};

/// A whole query expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub with: Option<With>,
    pub body: QueryBody,
    pub order_by: Vec<OrderItem>,
    pub limit: Option<Limit>,
    pub offset: Option<Expr>,
    pub locking: Vec<LockingClause>,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct With {
    pub recursive: bool,
    pub ctes: Vec<Cte>,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cte {
    pub name: Ident,
    pub columns: Vec<Ident>,
    /// MATERIALIZED, NOT MATERIALIZED.
    pub materialized: Option<bool>,
    pub statement: super::Statement,
}

#[derive(Debug, Clone, PartialEq)]
pub enum QueryBody {
    Select(Box<Select>),
    /// At least one row; each with at least one expression.
    Values(Vec<Vec<Expr>>),
    SetOperation {
        op: SetOp,
        all: bool,
        left: Box<Query>,
        right: Box<Query>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    pub distinct: DistinctClause,
    pub targets: Vec<SelectItem>,
    pub into: Option<IntoClause>,
    pub from: Vec<TableRef>,
    pub filter: Option<Expr>,
    pub group_by: Vec<GroupItem>,
    pub group_distinct: bool,
    pub having: Option<Expr>,
    /// The WINDOW clause.
    pub windows: Vec<(Ident, Window)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DistinctClause {
    No,
    All,
    On(Vec<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SelectItem {
    pub expr: Expr,
    pub alias: Option<Ident>,
}

/// SELECT ... INTO.
#[derive(Debug, Clone, PartialEq)]
pub struct IntoClause {
    pub name: ObjectName,
    pub persistence: super::Persistence,
}

#[derive(Debug, Clone, PartialEq)]
pub enum GroupItem {
    Expr(Expr),
    /// GROUPING SETS, ROLLUP, CUBE, `()`.
    Set {
        what: &'static str,
        at: u32,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct OrderItem {
    pub expr: Expr,
    pub descending: bool,
    /// As written; the default is last for ascending, first for descending.
    pub nulls_first: Option<bool>,
    /// USING operator.
    pub using: Option<(super::OperatorName, u32)>,
}

impl OrderItem {
    pub fn nulls_first(&self) -> bool {
        self.nulls_first.unwrap_or(self.descending)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// `None`: LIMIT ALL.
    pub count: Option<Expr>,
    pub with_ties: bool,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LockingClause {
    pub mode: RowLockMode,
    /// FOR UPDATE OF ...; empty: all.
    pub tables: Vec<ObjectName>,
    pub wait: LockWait,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub name: Ident,
    pub columns: Vec<Ident>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TableRef {
    Table {
        name: ObjectName,
        only: bool,
        alias: Option<Alias>,
        sampled: bool,
    },
    Subquery {
        query: Box<Query>,
        alias: Option<Alias>,
        lateral: bool,
        at: u32,
    },
    Functions(Box<FunctionsRef>),
    Join(Box<JoinRef>),
    /// XMLTABLE
    Unsupported {
        what: &'static str,
        at: u32,
    },
}

/// `f(...)` or `ROWS FROM (f(...), g(...))`. LATERAL says nothing here: functions see what is to their left without it.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionsRef {
    pub calls: Vec<FunctionItem>,
    pub rows_from: bool,
    pub with_ordinality: bool,
    pub alias: Option<Alias>,
    /// `AS (a int, b text)` behind all of it.
    pub columns: Vec<(Ident, TypeName)>,
}

/// One of them, in ROWS FROM perhaps with column definitions of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionItem {
    pub call: Expr,
    pub columns: Vec<(Ident, TypeName)>,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinRef {
    pub kind: JoinType,
    pub left: TableRef,
    pub right: TableRef,
    pub condition: JoinCondition,
    /// `(a JOIN b ...) AS alias`
    pub alias: Option<Alias>,
    pub at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    Cross,
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JoinCondition {
    None,
    On(Expr),
    Using {
        columns: Vec<Ident>,
        alias: Option<Ident>,
    },
    Natural,
}
