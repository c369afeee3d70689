//! Functions in FROM, one or several side by side (`transformRangeFunction`): a call, ROWS FROM, UNNEST of several arrays.
//! With LATERAL or without it, all of them may name the items to their left.

use super::binder::{Binder, Context};
use super::from::Part;
use super::targets::column_name;
use crate::sql::bound::{Expr, Range, RangeCall, RangeColumn, RangeSource};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Argument, ExprKind, FunctionItem, FunctionsRef};
use crate::types::datum::SqlType;
use crate::types::function::Implementation;
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

/// A call, analyzed.
struct BoundCall {
    call: Expr,
    /// What its only column is called beside other calls.
    name: String,
    /// Where its column definitions begin, if it has any.
    definitions: Option<u32>,
    at: u32,
}

impl Binder<'_> {
    pub(super) fn from_functions(&mut self, from: &FunctionsRef) -> Result<Part> {
        let mut bound = Vec::with_capacity(from.calls.len());
        for item in &from.calls {
            self.bind_function_item(item, &mut bound)?;
        }
        place_definitions(from, &mut bound)?;
        let alias = from.alias.as_ref();
        let shown = alias.map_or_else(|| bound[0].name.clone(), |a| a.name.name.clone());
        let alone = bound.len() == 1;
        let mut calls = Vec::with_capacity(bound.len());
        let mut columns = Vec::new();
        for one in bound {
            // Alone, its only column takes the alias of the range.
            let name = if alone { &shown } else { &one.name };
            let own = columns_of(&one, name)?;
            calls.push(RangeCall {
                call: one.call,
                columns: own.len(),
            });
            columns.extend(own);
        }
        if from.with_ordinality {
            columns.push(RangeColumn {
                name: "ordinality".to_owned(),
                ty: SqlType::plain(oids::INT8),
            });
        }
        let range = self.add_range(Range {
            alias: shown,
            source: RangeSource::Function {
                calls,
                with_ordinality: from.with_ordinality,
            },
            columns,
        });
        self.named_part(range, alias, None)
    }

    fn bind_function_item(&mut self, item: &FunctionItem, into: &mut Vec<BoundCall>) -> Result<()> {
        let at = item.at;
        if let Some(arrays) = several_arrays(item) {
            for array in arrays {
                let array = std::slice::from_ref(&array.value);
                let call = self.beside(|b| {
                    b.within(Context::FunctionInFrom, |b| {
                        b.system_function("unnest", array, at)
                    })
                })?;
                self.check_sets_at_top(&call, at)?;
                into.push(BoundCall {
                    call,
                    name: "unnest".to_owned(),
                    definitions: None,
                    at,
                });
            }
            return Ok(());
        }
        let call = self.beside(|b| b.within(Context::FunctionInFrom, |b| b.bind(&item.call)))?;
        self.check_sets_at_top(&call, at)?;
        into.push(BoundCall {
            call,
            name: column_name(&item.call, None),
            definitions: item.columns.first().map(|(name, _)| name.at),
            at,
        });
        Ok(())
    }
}

/// The arrays of UNNEST of several, which stands for a call of each.
fn several_arrays(item: &FunctionItem) -> Option<&[Argument]> {
    let ExprKind::Call(call) = &item.call.kind else {
        return None;
    };
    let is_unnest = call.name.database.is_none()
        && call.name.schema.is_none()
        && call.name.name.name == "unnest"
        && call.args.len() > 1;
    let decorated = call.star
        || call.variadic
        || call.distinct
        || call.within_group
        || call.over.is_some()
        || call.filter.is_some()
        || !call.order_by.is_empty()
        || !item.columns.is_empty()
        || call.args.iter().any(|a| a.name.is_some());
    (is_unnest && !decorated).then_some(call.args.as_slice())
}

/// Column definitions behind all of it are those of the only call.
fn place_definitions(from: &FunctionsRef, bound: &mut [BoundCall]) -> Result<()> {
    let Some((first, _)) = from.columns.first() else {
        return Ok(());
    };
    let refused = match bound {
        [_] if from.with_ordinality => (
            "WITH ORDINALITY cannot be used with a column definition list",
            "Put the column definition list inside ROWS FROM().",
        ),
        [only] => {
            only.definitions = Some(first.at);
            return Ok(());
        }
        _ if from.rows_from => (
            "ROWS FROM() with multiple functions cannot have a column definition list",
            "Put a separate column definition list for each function inside ROWS FROM().",
        ),
        _ => (
            "UNNEST() with multiple arguments cannot have a column definition list",
            "Use separate UNNEST() calls inside ROWS FROM(), and attach a column definition list to each one.",
        ),
    };
    let (what, hint) = refused;
    Err(SqlError::new(state::SYNTAX_ERROR, what)
        .hint(hint)
        .at(first.at))
}

/// The columns that a call brings; `name` is that of a plain value.
fn columns_of(bound: &BoundCall, name: &str) -> Result<Vec<RangeColumn>> {
    let function = match &bound.call {
        Expr::Call { function, .. } => Some(*function),
        _ => None,
    };
    let out = function.map_or(&[][..], |f| f.out);
    let ty = bound.call.ty();
    let is_record = ty.oid == oids::RECORD;
    if let Some(at) = bound.definitions {
        return Err(match (is_record, out.is_empty()) {
            // No function here leaves the shape of its rows to the caller.
            (true, true) => SqlError::unsupported("column definition lists are not supported"),
            (true, false) => SqlError::new(
                state::SYNTAX_ERROR,
                "a column definition list is redundant for a function with OUT parameters",
            ),
            (false, _) => SqlError::new(
                state::SYNTAX_ERROR,
                "a column definition list is only allowed for functions returning \"record\"",
            ),
        }
        .at(at));
    }
    if !out.is_empty() {
        let column = |(name, ty): &(&str, crate::ids::Oid)| RangeColumn {
            name: (*name).to_owned(),
            ty: SqlType::plain(*ty),
        };
        return Ok(out.iter().map(column).collect());
    }
    if is_record {
        let by_host = function.filter(|f| {
            matches!(
                f.implementation,
                Implementation::Host | Implementation::HostSet
            )
        });
        return Err(match by_host {
            Some(f) => SqlError::unsupported(format!("function {}() is not implemented", f.name)),
            None => SqlError::new(
                state::SYNTAX_ERROR,
                "a column definition list is required for functions returning \"record\"",
            ),
        }
        .at(bound.at));
    }
    Ok(vec![RangeColumn {
        name: name.to_owned(),
        ty,
    }])
}
