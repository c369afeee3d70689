//! One frame being planned: its slots, and how bound expressions become expressions over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::sql::bind::own_reads;
use crate::sql::bound::{Expr, SystemColumn};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::{Slot, slot_expr};
use crate::sql::plan::exprs::{SlotSet, children_mut};
use crate::sql::plan::fold::{Folding, fold};
use crate::sql::plan::reads;
use crate::sql::plan::settings::PlanCx;
use crate::sql::plan::settle::Settler;
use crate::sql::plan::statistics::{ColumnFacts, Estimates};
use crate::sql::plan::subquery::Around;
use crate::sql::plan::tree::{Fetch, Level, PlanNode, SlotInfo, SubPlan};
use crate::sql::plan::with::OpenCte;
use crate::types::datum::SqlType;
use crate::types::oids;

/// What all frames of a statement share.
pub struct Shared<'a> {
    pub catalog: &'a dyn CatalogView,
    pub cx: &'a PlanCx<'a>,
    pub subplans: Vec<SubPlan>,
    /// The levels around the one that is being planned, the outermost first; of one whose FROM is being planned, what is to
    /// the left.
    pub around: Vec<Around>,
    /// Numbers of outer values and of init plans' results so far.
    pub numbers: usize,
    /// WITH queries whose names may be read where the planning is, and how they are read.
    pub ctes: Vec<OpenCte>,
    /// How many places so far have a WITH query as their subquery.
    pub inlined: usize,
    /// Working tables of recursive queries so far.
    pub work_tables: usize,
    pub folding: Folding,
    pub settler: Settler,
}

impl<'a> Shared<'a> {
    pub fn new(catalog: &'a dyn CatalogView, cx: &'a PlanCx<'a>) -> Shared<'a> {
        Shared {
            catalog,
            cx,
            subplans: Vec::new(),
            around: Vec::new(),
            numbers: 0,
            ctes: Vec::new(),
            inlined: 0,
            work_tables: 0,
            folding: Folding {
                cx: EvalCx::bare(Arc::clone(cx.function)),
                would_compute: false,
                largest_taken: i32::MAX,
            },
            settler: Settler::default(),
        }
    }
}

pub struct Planner<'s, 'a> {
    pub shared: &'s mut Shared<'a>,
    pub slots: Vec<SlotInfo>,
    pub estimates: Estimates,
    /// WITH queries that run on their own, of the queries in this frame.
    pub ctes: Vec<usize>,
}

/// What the names of one query level mean.
#[derive(Default, Clone)]
pub struct Scope {
    /// By which subqueries refer to it.
    pub level: Option<usize>,
    pub ranges: Vec<RangeScope>,
    /// Slots of group expressions and of aggregates.
    pub groups: Vec<Slot>,
    pub aggregates: Vec<Slot>,
    /// Slots of window functions, once they are planned.
    pub windows: Vec<Option<Slot>>,
}

#[derive(Default, Clone)]
pub struct RangeScope {
    /// A lowered expression for each column; `None` for columns that nobody reads.
    pub columns: Vec<Option<Expr>>,
    pub fetch: Fetch,
}

/// Which columns of each range are read.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    pub columns: BTreeSet<usize>,
    pub system: Vec<SystemColumn>,
}

/// Collects the columns of `level`'s ranges that an expression of that level reads, in its subqueries too.
pub fn collect_needed(expr: &Expr, level: Option<usize>, needed: &mut [Needed]) {
    own_reads(expr, level, &mut |e| note_read(e, needed));
}

/// Notes a column of one of the ranges.
pub fn note_read(column: &Expr, needed: &mut [Needed]) {
    match column {
        Expr::Column(c) => {
            if let Some(range) = needed.get_mut(c.range) {
                range.columns.insert(c.column);
            }
        }
        Expr::SystemColumn { range, column } => {
            if let Some(range) = needed.get_mut(*range)
                && !range.system.contains(column)
            {
                range.system.push(*column);
            }
        }
        _ => {}
    }
}

impl<'s, 'a> Planner<'s, 'a> {
    /// For a frame of its own.
    pub fn new(shared: &'s mut Shared<'a>) -> Planner<'s, 'a> {
        Planner {
            shared,
            slots: Vec::new(),
            estimates: Estimates::default(),
            ctes: Vec::new(),
        }
    }

    pub fn catalog(&self) -> &'a dyn CatalogView {
        self.shared.catalog
    }

    pub fn new_slot(&mut self, name: String, ty: SqlType) -> Slot {
        self.slots.push(SlotInfo {
            name,
            ty,
            computed: None,
        });
        self.slots.len() - 1
    }

    /// A slot for a computed value.
    pub fn computed_slot(&mut self, expr: &Expr) -> Slot {
        self.slots.push(SlotInfo {
            name: String::new(),
            ty: expr.ty(),
            computed: Some(expr.clone()),
        });
        self.slots.len() - 1
    }

    /// Slots for the needed columns of a relation, in the order that rows are decoded in.
    pub fn relation_scope(
        &mut self,
        alias: &str,
        relation: &Arc<Relation>,
        needed: &Needed,
        rows: f64,
    ) -> Result<RangeScope, SqlError> {
        let mut scope = RangeScope {
            columns: vec![None; relation.columns.len()],
            fetch: Fetch::default(),
        };
        for number in &needed.columns {
            let column = &relation.columns[*number];
            let slot = self.new_slot(format!("{alias}.{}", column.name), column.ty);
            scope.columns[*number] = Some(slot_expr(slot, column.ty));
            scope.fetch.columns.push((*number, slot));
            let unique = relation
                .indexes
                .iter()
                .any(|i| i.unique && i.valid && i.keys.len() == 1 && i.keys[0].column == *number);
            let statistics = self
                .catalog()
                .column_statistics(relation.oid, column.attribute)?;
            self.estimates.columns.insert(
                slot,
                ColumnFacts {
                    rows,
                    unique,
                    statistics,
                },
            );
        }
        for column in &needed.system {
            self.system_slot(alias, &mut scope.fetch, *column);
        }
        Ok(scope)
    }

    /// The slot of a system column, made if need be.
    pub fn system_slot(&mut self, alias: &str, fetch: &mut Fetch, column: SystemColumn) -> Slot {
        let (place, name, ty) = match column {
            SystemColumn::TableOid => (&mut fetch.tableoid, "tableoid", oids::OID),
            SystemColumn::Ctid => (&mut fetch.ctid, "ctid", oids::TID),
            SystemColumn::Xmin => (&mut fetch.xmin, "xmin", oids::XID),
            SystemColumn::Xmax => (&mut fetch.xmax, "xmax", oids::XID),
            SystemColumn::Cmin => (&mut fetch.cmin, "cmin", oids::CID),
            SystemColumn::Cmax => (&mut fetch.cmax, "cmax", oids::CID),
        };
        if let Some(slot) = place {
            return *slot;
        }
        self.slots.push(SlotInfo {
            name: format!("{alias}.{name}"),
            ty: SqlType::plain(ty),
            computed: None,
        });
        let slot = self.slots.len() - 1;
        *place = Some(slot);
        slot
    }

    /// The expression over slots, constants computed, subqueries planned that are left then.
    pub fn lower(&mut self, expr: &Expr, scope: &Scope) -> Result<Expr, SqlError> {
        let mut made = expr.clone();
        fold(&mut made, &mut self.shared.folding)?;
        self.lower_in_place(&mut made, scope)?;
        Ok(made)
    }

    pub(super) fn lower_in_place(
        &mut self,
        expr: &mut Expr,
        scope: &Scope,
    ) -> Result<(), SqlError> {
        let unknown = |what: &str| SqlError::internal(format!("{what} is not known in this place"));
        match expr {
            Expr::Column(c) => {
                let found = scope
                    .ranges
                    .get(c.range)
                    .and_then(|r| r.columns.get(c.column))
                    .and_then(Option::as_ref);
                *expr = found.ok_or_else(|| unknown("column"))?.clone();
                Ok(())
            }
            Expr::SystemColumn { range, column } => {
                let fetch = &scope
                    .ranges
                    .get(*range)
                    .ok_or_else(|| unknown("range"))?
                    .fetch;
                let slot = match column {
                    SystemColumn::TableOid => fetch.tableoid,
                    SystemColumn::Ctid => fetch.ctid,
                    SystemColumn::Xmin => fetch.xmin,
                    SystemColumn::Xmax => fetch.xmax,
                    SystemColumn::Cmin => fetch.cmin,
                    SystemColumn::Cmax => fetch.cmax,
                };
                let ty = expr.ty();
                *expr = slot_expr(slot.ok_or_else(|| unknown("system column"))?, ty);
                Ok(())
            }
            Expr::Group(number, ty) => {
                let slot = scope.groups.get(*number).ok_or_else(|| unknown("group"))?;
                *expr = slot_expr(*slot, *ty);
                Ok(())
            }
            Expr::Aggregate(number, ty) => {
                let slot = scope
                    .aggregates
                    .get(*number)
                    .ok_or_else(|| unknown("aggregate"))?;
                *expr = slot_expr(*slot, *ty);
                Ok(())
            }
            Expr::Window(number, ty) => {
                let slot = scope.windows.get(*number).copied().flatten();
                *expr = slot_expr(slot.ok_or_else(|| unknown("window function"))?, *ty);
                Ok(())
            }
            Expr::Subquery(sub) => {
                *expr = self.lower_subquery(sub, scope)?;
                Ok(())
            }
            Expr::Outer(outer) => {
                *expr = self.outer_value(outer)?;
                Ok(())
            }
            other => {
                let mut result = Ok(());
                children_mut(other, &mut |part| {
                    if result.is_ok() {
                        result = self.lower_in_place(part, scope);
                    }
                });
                result
            }
        }
    }

    /// The frame is complete. Gives the outer values that it reads as well.
    pub fn into_level(self, mut root: PlanNode, output: Vec<Slot>) -> (Level, SlotSet) {
        let reads = reads::settle(&mut root, &self.shared.subplans);
        let first = output.first().copied();
        let contiguous = first.filter(|f| output.iter().enumerate().all(|(i, s)| *s == f + i));
        let level = Level {
            root: Arc::new(root),
            slots: self.slots,
            output,
            contiguous,
            ctes: self.ctes,
        };
        (level, reads)
    }
}
