//! The door: a bound statement in, a plan out.

use std::sync::Arc;

use crate::catalog::relation::LockMode;
use crate::catalog::view::CatalogView;
use crate::sql::bind;
use crate::sql::bound::{Bound, BoundStatement};
use crate::sql::error::SqlError;
use crate::sql::plan::planner::Shared;
use crate::sql::plan::settings::PlanCx;
use crate::sql::plan::tree::{Command, Plan, SubPlan};
use crate::sql::plan::{modify, point, query};

/// Plans a bound statement. The caller holds the locks of [`Bound::relations`].
pub fn plan(bound: &Bound, catalog: &dyn CatalogView, cx: &PlanCx<'_>) -> Result<Plan, SqlError> {
    let mut shared = Shared::new(catalog, cx);
    let (command, level, locks) = match &bound.statement {
        BoundStatement::Query(q) => {
            let planned = query::plan_level(&mut shared, q, false)?;
            (Command::Select, planned.level, planned.locks)
        }
        BoundStatement::Insert(i) => (Command::Insert, modify::insert(&mut shared, i, true)?, true),
        BoundStatement::Update(u) => (Command::Update, modify::update(&mut shared, u, true)?, true),
        BoundStatement::Delete(d) => (Command::Delete, modify::delete(&mut shared, d, true)?, true),
    };
    let (_, output) = bind::describe(bound);
    let changes_in_with = shared.subplans.iter().any(SubPlan::changes);
    let locks = locks || changes_in_with || shared.subplans.iter().any(|s| s.eager);
    debug_assert!(
        !locks
            || bound
                .relations
                .iter()
                .any(|(_, mode)| *mode >= LockMode::RowShare),
        "a statement that changes rows locks its table"
    );
    let mut plan = Plan {
        command,
        output: output.into(),
        parameters: bound.parameters.clone(),
        relations: bound.relations.clone(),
        generation: bound.generation,
        uncacheable: bound.uncacheable,
        computes_parameters: shared.folding.would_compute,
        largest_taken: shared.folding.largest_taken,
        writes: locks,
        changes_in_with,
        work_tables: shared.work_tables,
        main: level,
        nodes: shared.settler.nodes,
        function: Arc::clone(cx.function),
        outer_values: shared.numbers,
        subplans: shared.subplans,
        repeatable: false,
    };
    plan.repeatable = point::is_repeatable(&plan);
    Ok(plan)
}
