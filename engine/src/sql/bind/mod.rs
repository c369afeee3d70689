//! The analyzer: names, types, operators, grouping. Makes [`crate::sql::bound`] of a parsed statement.
//!
//! Meaning is PostgreSQL 15's (manual, chapters 4, 7 and 10), and so are messages, SQLSTATEs and positions.
//! Asks the catalog and the tables of functions; reads no data and takes no lock: the caller locks
//! [`Bound::relations`] and binds again if the catalog moved meanwhile.

use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::{Bound, BoundStatement, Expr, OutputColumn};
use crate::sql::error::SqlError;
use crate::sql::front::ast::{Statement, TypeName};
use crate::types::datum::SqlType;

/// What the analyzer needs to know of the session.
#[derive(Debug, Clone, Copy)]
pub struct BindCx<'a> {
    /// The whole query string that the statement's offsets count in.
    pub source: &'a str,
}

/// Types of `$1..$n` given by the client: 0 (`Oid::INVALID`) or missing ones are inferred.
pub fn bind(
    statement: &Statement,
    catalog: &dyn CatalogView,
    param_types: &[Oid],
    cx: &BindCx<'_>,
) -> Result<Bound, SqlError> {
    let _ = (statement, catalog, param_types, cx);
    unimplemented!("the analyzer lands next")
}

/// Parameter types and result columns, as Describe shows them; no columns: NoData.
pub fn describe(bound: &Bound) -> (&[SqlType], &[OutputColumn]) {
    let columns: &[OutputColumn] = match &bound.statement {
        BoundStatement::Query(q) => &q.output,
        BoundStatement::Insert(i) => i.returning.as_ref().map_or(&[], |r| &r.output),
        BoundStatement::Update(u) => u.returning.as_ref().map_or(&[], |r| &r.output),
        BoundStatement::Delete(d) => d.returning.as_ref().map_or(&[], |r| &r.output),
    };
    (&bound.parameters, columns)
}

/// A stored CHECK: boolean over `relation`'s columns, which are range 0.
pub fn check_expression(
    text: &str,
    relation: &Relation,
    catalog: &dyn CatalogView,
) -> Result<Expr, SqlError> {
    let _ = (text, relation, catalog);
    unimplemented!("the analyzer lands next")
}

/// A stored default, with the assignment cast to `ty`.
pub fn default_expression(
    text: &str,
    column: &str,
    ty: SqlType,
    catalog: &dyn CatalogView,
) -> Result<Expr, SqlError> {
    let _ = (text, column, ty, catalog);
    unimplemented!("the analyzer lands next")
}

/// COPY FROM ... WHERE, and any other boolean over one table's row (range 0).
pub fn row_condition(
    expr: &crate::sql::front::ast::Expr,
    relation: &Relation,
    catalog: &dyn CatalogView,
    cx: &BindCx<'_>,
) -> Result<Expr, SqlError> {
    let _ = (expr, relation, catalog, cx);
    unimplemented!("the analyzer lands next")
}

/// Arguments of EXECUTE: each cast by assignment to the parameter's type.
pub fn execute_arguments(
    args: &[crate::sql::front::ast::Expr],
    statement_name: &str,
    types: &[SqlType],
    catalog: &dyn CatalogView,
    cx: &BindCx<'_>,
) -> Result<Vec<Expr>, SqlError> {
    let _ = (args, statement_name, types, catalog, cx);
    unimplemented!("the analyzer lands next")
}

/// A type as written in DDL, PREPARE or a cast.
pub fn resolve_type(ty: &TypeName, catalog: &dyn CatalogView) -> Result<SqlType, SqlError> {
    let _ = (ty, catalog);
    unimplemented!("the analyzer lands next")
}
