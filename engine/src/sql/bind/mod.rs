//! The analyzer: names, types, operators, grouping. Makes [`crate::sql::bound`] of a parsed statement.
//!
//! Meaning is PostgreSQL 15's (manual, chapters 4, 7 and 10), and so are messages, SQLSTATEs and positions.
//! Asks the catalog and the tables of functions; reads no data and takes no lock: the caller locks
//! [`Bound::relations`] and binds again if the catalog moved meanwhile.

mod aggregate;
mod binder;
mod call;
mod catalog_literal;
mod coerce;
mod conflict;
mod dml;
mod expr;
mod from;
mod from_functions;
mod grouping;
mod names;
mod operator;
mod query;
mod recursion;
mod resolve;
mod row_query;
mod targets;
mod types;
mod values;
mod walk;
mod window;
mod with;
mod written;

#[cfg(test)]
mod tests;

use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::{Bound, BoundStatement, Expr, OutputColumn};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, Statement, TypeName};
use crate::types::datum::SqlType;
use crate::types::function::FunctionCx;

use binder::{Binder, Context};

pub use binder::Moment;
pub use from::lock_name;
pub use names::{qualified_names, system_column};
pub use types::{is_serial, type_text};
pub use walk::{
    of_windows, own_reads, parts, parts_mut, query_is_volatile, query_reads, reads_columns, same,
};
pub use written::{check_as_written, default_as_written};

/// What the analyzer needs to know of the session.
#[derive(Clone, Copy)]
pub struct BindCx<'a> {
    /// The whole query string that the statement's offsets count in.
    pub source: &'a str,
    /// Literals are read under these settings, as PostgreSQL reads them when it analyzes.
    pub functions: &'a FunctionCx,
}

/// Types of `$1..$n` given by the client: 0 (`Oid::INVALID`) or missing ones are inferred.
pub fn bind(
    statement: &Statement,
    catalog: &dyn CatalogView,
    param_types: &[Oid],
    cx: &BindCx<'_>,
) -> Result<Bound, SqlError> {
    bind_inner(statement, catalog, param_types, cx).map_err(|e| e.located(cx.source))
}

fn bind_inner(
    statement: &Statement,
    catalog: &dyn CatalogView,
    param_types: &[Oid],
    cx: &BindCx<'_>,
) -> Result<Bound, SqlError> {
    // Taken first: if the catalog changes while names are resolved, the answer counts as older.
    let generation = catalog.generation();
    let mut b = Binder::new(catalog, cx.functions, Some(param_types));
    let statement = match statement {
        Statement::Query(q) => {
            b.top_level = 1;
            BoundStatement::Query(Box::new(b.bind_query(q, true)?))
        }
        Statement::Insert(i) => b.bind_insert(i)?,
        Statement::Update(u) => b.bind_update(u)?,
        Statement::Delete(d) => b.bind_delete(d)?,
        other => {
            return Err(SqlError::internal(format!(
                "{} is not a statement for the analyzer",
                other.tag()
            )));
        }
    };
    Ok(Bound {
        statement,
        parameters: b.parameter_types()?,
        relations: b.relations,
        rights: b.rights,
        generation,
        uncacheable: false,
    })
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

/// An expression as it is being defined, and what its literals of dates and times mean now.
pub struct Defined {
    pub expr: Expr,
    pub moments: Vec<Moment>,
}

/// Binds one expression over `relation`'s columns (range 0), or over nothing.
fn bind_alone(
    expr: &ast::Expr,
    relation: Option<&Relation>,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
    context: Context,
    finish: impl FnOnce(&mut Binder<'_>, Expr, u32) -> Result<Expr, SqlError>,
) -> Result<Defined, SqlError> {
    let mut b = Binder::new(catalog, functions, None);
    b.moments = Some(Vec::new());
    if let Some(relation) = relation {
        b.row_of(relation);
    }
    let expr = b.within(context, |b| {
        let bound = b.bind(expr)?;
        finish(b, bound, crate::sql::front::location(expr))
    })?;
    Ok(Defined {
        expr,
        moments: b.moments.take().unwrap_or_default(),
    })
}

/// A stored CHECK: boolean over `relation`'s columns, which are range 0.
pub fn check_expression(
    text: &str,
    relation: &Relation,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Expr, SqlError> {
    let parsed = crate::sql::front::parse_expression(text).map_err(SqlError::nowhere)?;
    match check_condition(&parsed, relation, catalog, functions) {
        Ok(defined) => Ok(defined.expr),
        Err(error) => Err(error.nowhere()),
    }
}

/// A CHECK as it is being defined.
pub fn check_condition(
    expr: &ast::Expr,
    relation: &Relation,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Defined, SqlError> {
    bind_alone(
        expr,
        Some(relation),
        catalog,
        functions,
        Context::Check,
        |b, e, at| b.boolean(e, "CHECK", at),
    )
}

/// A stored default, with the assignment cast to `ty`.
pub fn default_expression(
    text: &str,
    column: &str,
    ty: SqlType,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Expr, SqlError> {
    Binder::new(catalog, functions, None).stored_default(text, column, ty)
}

/// The value that a column of `relation` gets where nothing is given: default, identity or NULL.
pub fn column_default(
    relation: &Relation,
    column: usize,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Expr, SqlError> {
    Binder::new(catalog, functions, None).default_of(relation, column)
}

/// A DEFAULT as it is being defined: `cookDefault`'s errors.
pub fn new_default(
    expr: &ast::Expr,
    column: &str,
    ty: SqlType,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Defined, SqlError> {
    bind_alone(
        expr,
        None,
        catalog,
        functions,
        Context::Default,
        |b, e, at| {
            let source = e.ty();
            match b.cast(e, ty, crate::types::function::CastContext::Assignment, at)? {
                Some(e) => Ok(e),
                None => Err(SqlError::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "column \"{column}\" is of type {} but default expression is of type {}",
                        type_text(SqlType::plain(ty.oid)),
                        type_text(SqlType::plain(source.oid))
                    ),
                )
                .hint("You will need to rewrite or cast the expression.")),
            }
        },
    )
}

/// COPY FROM ... WHERE: a boolean over one table's row (range 0).
pub fn row_condition(
    expr: &ast::Expr,
    relation: &Relation,
    catalog: &dyn CatalogView,
    cx: &BindCx<'_>,
) -> Result<Expr, SqlError> {
    bind_alone(
        expr,
        Some(relation),
        catalog,
        cx.functions,
        Context::CopyWhere,
        |b, e, at| b.boolean(e, "WHERE", at),
    )
    .map(|defined| defined.expr)
    .map_err(|e| e.located(cx.source))
}

/// Arguments of EXECUTE: each cast by assignment to the parameter's type.
pub fn execute_arguments(
    args: &[ast::Expr],
    statement_name: &str,
    types: &[SqlType],
    catalog: &dyn CatalogView,
    cx: &BindCx<'_>,
) -> Result<Vec<Expr>, SqlError> {
    if args.len() != types.len() {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!("wrong number of parameters for prepared statement \"{statement_name}\""),
        )
        .detail(format!(
            "Expected {} parameters but got {}.",
            types.len(),
            args.len()
        )));
    }
    let mut b = Binder::new(catalog, cx.functions, None);
    let mut out = Vec::with_capacity(args.len());
    for (i, (arg, ty)) in args.iter().zip(types).enumerate() {
        let bound = b.within(Context::Execute, |b| {
            let (e, at) = b.operand(arg)?;
            let source = e.ty();
            match b.cast(e, *ty, crate::types::function::CastContext::Assignment, at)? {
                Some(e) => Ok(e),
                None => Err(SqlError::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "parameter ${} of type {} cannot be coerced to the expected type {}",
                        i + 1,
                        type_text(source),
                        type_text(*ty)
                    ),
                )
                .hint("You will need to rewrite or cast the expression.")
                .at(at)),
            }
        });
        out.push(bound.map_err(|e| e.located(cx.source))?);
    }
    Ok(out)
}

/// A type as written in DDL, PREPARE or a cast. The error's position is an offset: see [`SqlError::located`].
pub fn resolve_type(ty: &TypeName, catalog: &dyn CatalogView) -> Result<SqlType, SqlError> {
    types::resolve_type(ty, catalog)
}

/// 42704 for a collation that does not exist; all that exist order by bytes.
pub fn check_collation(collation: &ast::ObjectName) -> Result<(), SqlError> {
    expr::check_collation(collation, collation.at())
}
