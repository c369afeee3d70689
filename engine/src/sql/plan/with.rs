//! WITH queries: put where they are read, or run on their own.
//!
//! One that a single place reads becomes a subquery of that place, unless it is recursive, changes or locks rows, may give
//! other rows each time, or was said to be MATERIALIZED (`SS_process_ctes`). Any other has a plan and a frame of its own, is
//! run as far as somebody reads it, and its rows are kept for all who do. It is planned before the query that it belongs to,
//! with the same levels around it; where it stands in another query's range its levels' numbers are those of the definition,
//! which nothing outside of it reads.
//!
//! Within a recursive query its name is the working table: whoever keeps something of that lists an outer value, which
//! the union sets with each round.

use std::rc::Rc;
use std::sync::Arc;

use crate::sql::bind;
use crate::sql::bound::{BoundStatement, Cte, CteId, CteSource, Range, Recursive};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::eval::{Slot, Test, slot_expr};
use crate::sql::plan::build::{key_slot, node};
use crate::sql::plan::exprs::SlotSet;
use crate::sql::plan::from::{Base, BaseKind};
use crate::sql::plan::modify;
use crate::sql::plan::planner::{Planner, RangeScope, Shared};
use crate::sql::plan::query::{self, PlannedLevel};
use crate::sql::plan::ranges::width_of;
use crate::sql::plan::subquery::locks_in_correlated;
use crate::sql::plan::tree::{Cost, KeySlot, NodeKind, PlanNode, SubPlan, SubPlanKind};

/// The rows of a WITH query that is run on its own, as far as they are read.
#[derive(Debug)]
pub struct CteScan {
    /// The query's place among the plan's subplans.
    pub number: usize,
    pub name: String,
    pub alias: String,
    /// One for each of its columns.
    pub slots: Vec<Slot>,
    pub filter: Option<Test>,
}

/// In the second term of a recursive query: the rows that came last.
#[derive(Debug)]
pub struct WorkTableScan {
    /// Which of the execution's working tables.
    pub table: usize,
    /// An outer value that is set whenever the table holds other rows.
    pub changes: usize,
    pub name: String,
    pub alias: String,
    pub slots: Vec<Slot>,
    pub filter: Option<Test>,
}

/// The rows of the first term, then again and again those that the second term makes of the last ones, until there are none.
#[derive(Debug)]
pub struct RecursiveUnion {
    pub first: Arc<PlanNode>,
    pub step: Arc<PlanNode>,
    /// Both terms write these.
    pub slots: Vec<Slot>,
    /// Of UNION without ALL: each row once.
    pub distinct: Option<Vec<KeySlot>>,
    /// As in [`WorkTableScan`].
    pub table: usize,
    pub changes: usize,
}

/// A WITH query that may be named where the planning is.
pub struct OpenCte {
    id: CteId,
    plan: CtePlan,
}

#[derive(Clone)]
enum CtePlan {
    Inline(Rc<Cte>),
    /// The subplan; `waits`: to read it may mean to wait for another transaction.
    Kept {
        number: usize,
        rows: f64,
        waits: bool,
    },
    /// It is being planned itself.
    Working {
        table: usize,
        changes: usize,
        rows: f64,
    },
}

/// Rounds of a recursive query that are guessed, as PostgreSQL guesses.
const ROUNDS: f64 = 10.0;

/// Places that may have a WITH query as their subquery.
const MAX_INLINED: usize = 2000;

fn is_inline(cte: &Cte) -> bool {
    let CteSource::Query(query) = &cte.source else {
        return false;
    };
    let wanted = match cte.materialized {
        Some(materialized) => !materialized,
        None => cte.references == 1,
    };
    wanted && !bind::query_is_volatile(query)
}

impl Planner<'_, '_> {
    /// Plans what of a WITH clause is run on its own. Gives what closes it again.
    pub fn open_ctes(&mut self, ctes: &[Cte]) -> Result<usize, SqlError> {
        let before = self.shared.ctes.len();
        for cte in ctes {
            let changes = matches!(cte.source, CteSource::Change(_));
            if cte.references == 0 && !changes {
                continue;
            }
            let plan = match is_inline(cte) {
                true => CtePlan::Inline(Rc::new(cte.clone())),
                false => self.keep(cte)?,
            };
            self.shared.ctes.push(OpenCte { id: cte.id, plan });
        }
        Ok(before)
    }

    pub fn close_ctes(&mut self, before: usize) {
        self.shared.ctes.truncate(before);
    }

    fn keep(&mut self, cte: &Cte) -> Result<CtePlan, SqlError> {
        let PlannedLevel {
            level,
            locks,
            reads,
        } = match &cte.source {
            CteSource::Query(query) => query::plan_level(self.shared, query, false)?,
            CteSource::Recursive(recursive) => recursive_level(self.shared, cte, recursive)?,
            CteSource::Change(statement) => change_level(self.shared, statement)?,
        };
        if locks && !reads.is_empty() && self.is_in_expression() {
            return Err(locks_in_correlated());
        }
        let rows = level.root.cost.rows;
        let number = self.shared.subplans.len();
        self.shared.subplans.push(SubPlan {
            level,
            kind: SubPlanKind::Cte {
                changes: matches!(cte.source, CteSource::Change(_)),
            },
            eager: false,
            reads: reads.iter().collect(),
            returns: None,
            name: cte.name.clone(),
        });
        self.ctes.push(number);
        Ok(CtePlan::Kept {
            number,
            rows,
            waits: locks,
        })
    }

    /// A range that names a WITH query.
    pub(super) fn open_cte(
        &mut self,
        range: &Range,
        (id, name): (CteId, &str),
        locks: &mut bool,
    ) -> Result<(Base, Option<PlanNode>), SqlError> {
        let mut open = self.shared.ctes.iter().rev();
        let found = open.find(|c| c.id == id).map(|c| c.plan.clone());
        let plan = found.ok_or_else(|| SqlError::internal("a WITH query is not known"))?;
        let (number, rows) = match plan {
            CtePlan::Inline(cte) => {
                let CteSource::Query(query) = &cte.source else {
                    return Err(SqlError::internal("a WITH query is not a query"));
                };
                self.count_inlined()?;
                let planned = query::plan_query(self, query, None)?;
                *locks |= planned.locks;
                return Ok(self.open_planned(&range.alias, planned, Vec::new()));
            }
            CtePlan::Working {
                table,
                changes,
                rows,
            } => {
                let slots = self.columns_of(range);
                let kind = NodeKind::WorkTableScan(WorkTableScan {
                    table,
                    changes,
                    name: name.to_owned(),
                    alias: range.alias.clone(),
                    slots: slots.clone(),
                    filter: None,
                });
                return Ok(self.computed_base(range, slots, rows, kind));
            }
            CtePlan::Kept {
                number,
                rows,
                waits,
            } => {
                self.note_wait(number, waits, locks)?;
                (number, rows)
            }
        };
        let slots = self.columns_of(range);
        let kind = NodeKind::CteScan(CteScan {
            number,
            name: name.to_owned(),
            alias: range.alias.clone(),
            slots: slots.clone(),
            filter: None,
        });
        Ok(self.computed_base(range, slots, rows, kind))
    }

    /// Queries that each read the one before twice are as many as they are read, if none may be kept.
    fn count_inlined(&mut self) -> Result<(), SqlError> {
        self.shared.inlined += 1;
        if self.shared.inlined <= MAX_INLINED {
            return Ok(());
        }
        let message = "WITH queries are read in too many places to be planned in each of them";
        Err(SqlError::new(state::STATEMENT_TOO_COMPLEX, message)
            .hint("Leave out NOT MATERIALIZED where a query is read more than once."))
    }

    /// An expression cannot wait: what its subqueries read has to be there before.
    fn note_wait(&mut self, number: usize, waits: bool, locks: &mut bool) -> Result<(), SqlError> {
        if !waits {
            return Ok(());
        }
        if !self.is_in_expression() {
            *locks = true;
            return Ok(());
        }
        let subplan = &mut self.shared.subplans[number];
        if !subplan.reads.is_empty() {
            return Err(locks_in_correlated());
        }
        subplan.eager = true;
        Ok(())
    }

    /// Whether what is being planned is run for an expression.
    fn is_in_expression(&self) -> bool {
        self.shared.around.iter().any(|a| !a.is_of_range())
    }

    fn columns_of(&mut self, range: &Range) -> Vec<Slot> {
        let columns = range.columns.iter();
        columns
            .map(|c| self.new_slot(format!("{}.{}", range.alias, c.name), c.ty))
            .collect()
    }

    fn computed_base(
        &self,
        range: &Range,
        slots: Vec<Slot>,
        rows: f64,
        kind: NodeKind,
    ) -> (Base, Option<PlanNode>) {
        let columns = slots.iter().zip(&range.columns);
        let base = Base {
            alias: range.alias.clone(),
            kind: BaseKind::Computed,
            scope: RangeScope {
                columns: columns.map(|(s, c)| Some(slot_expr(*s, c.ty))).collect(),
                ..RangeScope::default()
            },
            slots: slots.iter().copied().collect(),
            rows: rows.max(1.0),
            pages: 0.0,
            width: width_of(range.columns.iter().map(|c| c.ty)),
            order: Vec::new(),
            passed: Vec::new(),
            recheck: None,
        };
        (base, Some(node(kind, Cost::default())))
    }
}

fn change_level(
    shared: &mut Shared<'_>,
    statement: &BoundStatement,
) -> Result<PlannedLevel, SqlError> {
    let level = match statement {
        BoundStatement::Insert(insert) => modify::insert(shared, insert, false)?,
        BoundStatement::Update(update) => modify::update(shared, update, false)?,
        BoundStatement::Delete(delete) => modify::delete(shared, delete, false)?,
        BoundStatement::Query(_) => return Err(SqlError::internal("a query changes no rows")),
    };
    Ok(PlannedLevel {
        level,
        locks: true,
        reads: SlotSet::default(),
    })
}

fn recursive_level(
    shared: &mut Shared<'_>,
    cte: &Cte,
    recursive: &Recursive,
) -> Result<PlannedLevel, SqlError> {
    let mut planner = Planner::new(shared);
    let names = planner.open_ctes(&recursive.ctes)?;
    let columns = cte.columns.iter();
    let output: Vec<Slot> = columns
        .map(|c| planner.new_slot(format!("{}.{}", cte.name, c.name), c.ty))
        .collect();
    let first = query::plan_query(&mut planner, &recursive.first, Some(&output))?;
    let (table, changes) = (planner.shared.work_tables, planner.shared.numbers);
    planner.shared.work_tables += 1;
    planner.shared.numbers += 1;
    planner.shared.ctes.push(OpenCte {
        id: cte.id,
        plan: CtePlan::Working {
            table,
            changes,
            rows: first.node.cost.rows * ROUNDS,
        },
    });
    let step = query::plan_query(&mut planner, &recursive.step, Some(&output))?;
    planner.close_ctes(names);
    let distinct = match recursive.all {
        true => None,
        false => Some(distinct_keys(&planner, &output)?),
    };
    let (f, s) = (first.node.cost, step.node.cost);
    let rows = f.rows + ROUNDS * s.rows;
    let cost = Cost {
        startup: f.startup,
        total: f.total + ROUNDS * s.total + rows * planner.shared.cx.settings.cpu_tuple_cost,
        rows,
        width: f.width.max(s.width),
    };
    let kind = NodeKind::RecursiveUnion(RecursiveUnion {
        first: Arc::new(first.node),
        step: Arc::new(step.node),
        slots: output.clone(),
        distinct,
        table,
        changes,
    });
    let mut root = node(kind, cost);
    let needed: SlotSet = output.iter().copied().collect();
    planner.shared.settler.settle(&mut root, &needed);
    let (level, reads) = planner.into_level(root, output);
    Ok(PlannedLevel {
        level,
        locks: first.locks || step.locks,
        reads,
    })
}

fn distinct_keys(planner: &Planner<'_, '_>, slots: &[Slot]) -> Result<Vec<KeySlot>, SqlError> {
    let keys = slots
        .iter()
        .map(|slot| key_slot(*slot, planner.slots[*slot].ty))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.iter().any(|k| k.hash.is_none()) {
        return Err(SqlError::unsupported("could not implement recursive UNION")
            .detail("All column datatypes must be hashable."));
    }
    Ok(keys)
}
