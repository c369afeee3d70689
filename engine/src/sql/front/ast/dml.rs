//! INSERT, UPDATE, DELETE.

use super::expr::{Expr, Ident, ObjectName, Subscript};
use super::query::{Query, SelectItem, TableRef, With};

#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    pub with: Option<With>,
    pub table: ObjectName,
    pub alias: Option<Ident>,
    pub columns: Vec<ColumnTarget>,
    pub overriding: Option<Overriding>,
    /// `None`: DEFAULT VALUES.
    pub source: Option<Query>,
    pub on_conflict: Option<OnConflict>,
    pub returning: Vec<SelectItem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overriding {
    User,
    System,
}

/// A column that gets a value, perhaps only a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnTarget {
    pub name: Ident,
    pub indirection: Vec<Indirection>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Indirection {
    Field(Ident),
    Subscript(Subscript),
}

#[derive(Debug, Clone, PartialEq)]
pub struct OnConflict {
    pub target: Option<ConflictTarget>,
    pub action: ConflictDo,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConflictTarget {
    Columns {
        keys: Vec<ConflictKey>,
        filter: Option<Expr>,
        at: u32,
    },
    Constraint(Ident),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConflictKey {
    pub expr: Expr,
    pub collation: Option<ObjectName>,
    pub operator_class: Option<ObjectName>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConflictDo {
    Nothing,
    Update {
        set: Vec<SetClause>,
        filter: Option<Expr>,
    },
}

/// `a = x` or `(a, b) = x`.
#[derive(Debug, Clone, PartialEq)]
pub struct SetClause {
    pub targets: Vec<ColumnTarget>,
    /// It was written with parentheses.
    pub multiple: bool,
    pub value: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub with: Option<With>,
    pub table: ObjectName,
    pub only: bool,
    pub alias: Option<Ident>,
    pub set: Vec<SetClause>,
    pub from: Vec<TableRef>,
    pub filter: Option<Expr>,
    /// WHERE CURRENT OF
    pub current_of: Option<Ident>,
    pub returning: Vec<SelectItem>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    pub with: Option<With>,
    pub table: ObjectName,
    pub only: bool,
    pub alias: Option<Ident>,
    pub using: Vec<TableRef>,
    pub filter: Option<Expr>,
    /// WHERE CURRENT OF
    pub current_of: Option<Ident>,
    pub returning: Vec<SelectItem>,
}
