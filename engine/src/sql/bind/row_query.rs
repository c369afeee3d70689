//! Subqueries that stand for a row: `(a, b) = (SELECT x, y ...)`, `SET (a, b) = (SELECT ...)`.
//!
//! Each column is read by a subquery of its own. All of them see the same snapshot, so they find the same row; only
//! a subquery that calls something volatile could tell, and is refused.

use super::binder::Binder;
use super::walk::query_is_volatile;
use crate::ids::Oid;
use crate::sql::bound::{
    Body, ColumnRef, Distinct, Expr, FromItem, OutputColumn, Query, Range, RangeColumn,
    RangeSource, Select, SubqueryExpr, SubqueryKind, Target,
};
use crate::sql::error::SqlError;
use crate::sql::front::ast;

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    /// The columns of the one row, or NULLs.
    pub(super) fn columns_of_query(&mut self, query: &ast::Query, at: u32) -> Result<Vec<Expr>> {
        self.check_subquery(at)?;
        let bound = self.bind_subquery(query)?;
        if query_is_volatile(&bound) {
            return Err(SqlError::unsupported(
                "a subquery with a volatile function cannot stand for a row of several columns",
            )
            .hint("Use FROM with the subquery.")
            .at(at));
        }
        let column = |i: usize| {
            Expr::Subquery(Box::new(SubqueryExpr {
                kind: SubqueryKind::Scalar,
                ty: bound.output[i].ty,
                query: only(bound.clone(), i),
            }))
        };
        Ok((0..bound.output.len()).map(column).collect())
    }
}

/// `SELECT column FROM (query)`
fn only(query: Query, column: usize) -> Query {
    let shown = &query.output[column];
    let (name, ty) = (shown.name.clone(), shown.ty);
    let columns = query
        .output
        .iter()
        .map(|o| RangeColumn {
            name: o.name.clone(),
            ty: o.ty,
        })
        .collect();
    let range = Range {
        alias: "subquery".to_owned(),
        source: RangeSource::Subquery(Box::new(query)),
        columns,
    };
    let target = Target {
        expr: Expr::Column(ColumnRef {
            range: 0,
            column,
            ty,
        }),
        name: name.clone(),
    };
    Query {
        body: Body::Select(Box::new(Select {
            level: None,
            ranges: vec![range],
            from: vec![FromItem::Range(0)],
            filter: None,
            group_by: Vec::new(),
            having: None,
            aggregates: Vec::new(),
            windows: crate::sql::bound::Windowing::default(),
            targets: vec![target],
            distinct: Distinct::No,
        })),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        ctes: Vec::new(),
        with_ties: false,
        locking: Vec::new(),
        output: vec![OutputColumn {
            name,
            ty,
            table: Oid::INVALID,
            attribute: 0,
        }],
    }
}
