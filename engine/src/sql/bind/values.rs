//! VALUES as a query of its own (`transformValuesClause`).

use super::binder::{Binder, Context};
use super::query::Bound;
use crate::ids::Oid;
use crate::sql::bound::{Body, Expr, OutputColumn, Values};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, DistinctClause, ExprKind, TableRef};
use crate::sql::front::location;
use crate::types::datum::SqlType;
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    pub(super) fn values_query(
        &mut self,
        query: &ast::Query,
        rows: &[Vec<ast::Expr>],
        settle: bool,
    ) -> Result<Bound> {
        if let Some(lock) = query.locking.first() {
            return Err(SqlError::unsupported(format!(
                "{} cannot be applied to VALUES",
                super::from::lock_name(lock.mode)
            )));
        }
        if sorts_by_expression(&query.order_by, rows[0].len()) {
            return self.select(query, &select_all(query), settle);
        }
        let values = self.values_rows(rows, settle)?;
        let output: Vec<OutputColumn> = values
            .types
            .iter()
            .enumerate()
            .map(|(i, ty)| OutputColumn {
                name: format!("column{}", i + 1),
                ty: *ty,
                table: Oid::INVALID,
                attribute: 0,
            })
            .collect();
        let order_by = self.output_order(&output, &query.order_by, None)?;
        let limits = self.limits(query)?;
        Ok(Bound {
            body: Body::Values(values),
            order_by,
            output,
            locking: Vec::new(),
            limits,
        })
    }

    fn values_rows(&mut self, rows: &[Vec<ast::Expr>], settle: bool) -> Result<Values> {
        let width = rows[0].len();
        let mut columns: Vec<Vec<(Expr, u32)>> = vec![Vec::with_capacity(rows.len()); width];
        for row in rows {
            if row.len() != width {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "VALUES lists must all be the same length",
                )
                .at(location(&row[0])));
            }
            for (column, e) in columns.iter_mut().zip(row) {
                if matches!(e.kind, ExprKind::Default) {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "DEFAULT is not allowed in this context",
                    )
                    .at(e.at));
                }
                column.push(self.within(Context::Values, |b| b.operand(e))?);
            }
        }
        let mut out: Vec<Vec<Expr>> = vec![Vec::with_capacity(width); rows.len()];
        let mut types = Vec::with_capacity(width);
        for column in columns {
            let all_unknown = column.iter().all(|(e, _)| e.ty().oid == oids::UNKNOWN);
            if !settle && all_unknown && column.len() == 1 {
                types.push(SqlType::plain(oids::UNKNOWN));
                for (row, (e, _)) in out.iter_mut().zip(column) {
                    row.push(e);
                }
                continue;
            }
            let (items, ty) = self.unify(column, "VALUES")?;
            types.push(ty);
            for (row, e) in out.iter_mut().zip(items) {
                row.push(e);
            }
        }
        Ok(Values { rows: out, types })
    }
}

/// ORDER BY says more than which columns.
fn sorts_by_expression(items: &[ast::OrderItem], width: usize) -> bool {
    let is_column = |name: &str| (1..=width).any(|n| name == format!("column{n}"));
    items.iter().any(|item| match &item.expr.kind {
        ExprKind::Literal(_) => false,
        ExprKind::Column(parts) => match parts.as_slice() {
            [one] => !is_column(&one.name),
            _ => true,
        },
        _ => true,
    })
}

/// `SELECT * FROM (VALUES ...) AS "*VALUES*"`, for the query around it.
fn select_all(query: &ast::Query) -> ast::Select {
    let at = query.at;
    let values = ast::Query {
        with: None,
        body: query.body.clone(),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        locking: Vec::new(),
        at,
    };
    let name = ast::Ident {
        name: "*VALUES*".to_owned(),
        at,
    };
    ast::Select {
        distinct: DistinctClause::No,
        targets: vec![ast::SelectItem {
            expr: ast::Expr {
                kind: ExprKind::Star(Vec::new()),
                at,
            },
            alias: None,
        }],
        into: None,
        from: vec![TableRef::Subquery {
            query: Box::new(values),
            alias: Some(ast::Alias {
                name,
                columns: Vec::new(),
            }),
            lateral: false,
            at,
        }],
        filter: None,
        group_by: Vec::new(),
        group_distinct: false,
        having: None,
        windows: Vec::new(),
    }
}
