//! INSERT, UPDATE and DELETE: a source of rows, and what is done with each.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::sql::bind;
use crate::sql::bound::{
    Assignment, ConflictAction, Delete, Disclosure, Expr, FromItem, Insert, OnConflict, Range,
    RangeSource, Returning, SystemColumn, Update,
};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test, slot_expr};
use crate::sql::plan::build::node;
use crate::sql::plan::exprs::{all_of, conjuncts};
use crate::sql::plan::lateral::collect_lateral;
use crate::sql::plan::planner::{Needed, Planner, RangeScope, Scope, Shared, collect_needed};
use crate::sql::plan::query;
use crate::sql::plan::select::{Wish, needed_of_item};
use crate::sql::plan::tree::{
    CheckTest, ConflictPlan, ConflictUpdate, Fetch, Level, Modify, ModifyAction, NodeKind, PlanNode,
};

/// A planned change; its level's output is RETURNING's.
fn finish(
    mut planner: Planner<'_, '_>,
    child: PlanNode,
    modify: impl FnOnce(Arc<PlanNode>) -> Modify,
    output: Vec<Slot>,
) -> Level {
    let cost = child.cost;
    let mut root = node(NodeKind::Modify(Box::new(modify(Arc::new(child)))), cost);
    let needed = output.iter().copied().collect();
    planner.shared.settler.settle(&mut root, &needed);
    planner.slots.shrink_to_fit();
    planner.into_level(root, output).0
}

fn all_columns(relation: &Relation) -> Needed {
    Needed {
        columns: relation.live_columns().map(|(n, _)| n).collect(),
        system: Vec::new(),
    }
}

impl Planner<'_, '_> {
    /// New slots for a whole row: one for each column, dropped ones too.
    fn row_slots(&mut self, relation: &Relation, prefix: &str) -> Vec<Slot> {
        relation
            .columns
            .iter()
            .map(|c| self.new_slot(format!("{prefix}{}", c.name), c.ty))
            .collect()
    }

    fn row_scope(&self, relation: &Relation, slots: &[Slot]) -> RangeScope {
        RangeScope {
            columns: slots
                .iter()
                .zip(&relation.columns)
                .map(|(slot, c)| Some(slot_expr(*slot, c.ty)))
                .collect(),
            fetch: Fetch::default(),
        }
    }

    /// The table's CHECKs over the new row.
    fn checks(&mut self, relation: &Relation, row: &[Slot]) -> Result<Vec<CheckTest>, SqlError> {
        let scope = Scope {
            ranges: vec![self.row_scope(relation, row)],
            ..Scope::default()
        };
        let mut made = Vec::new();
        for check in &relation.checks {
            let bound = bind::check_expression(
                &check.expression,
                relation,
                self.catalog(),
                self.shared.cx.function,
            )?;
            made.push(CheckTest {
                name: check.name.clone(),
                test: Test::new(self.lower(&bound, &scope)?),
            });
        }
        Ok(made)
    }

    fn returning(
        &mut self,
        returning: Option<&Returning>,
        scope: &Scope,
    ) -> Result<(Vec<(Slot, Scalar)>, Vec<Slot>), SqlError> {
        let mut items = Vec::new();
        let mut output = Vec::new();
        let Some(returning) = returning else {
            return Ok((items, output));
        };
        for target in &returning.targets[..returning.output.len()] {
            let lowered = self.lower(&target.expr, scope)?;
            let slot = self.computed_slot(&lowered);
            items.push((slot, Scalar::new(lowered)));
            output.push(slot);
        }
        Ok((items, output))
    }

    fn assignments(
        &mut self,
        assignments: &[Assignment],
        scope: &Scope,
    ) -> Result<Vec<(usize, Scalar)>, SqlError> {
        assignments
            .iter()
            .map(|a| Ok((a.column, Scalar::new(self.lower(&a.value, scope)?))))
            .collect()
    }
}

/// System columns that RETURNING may ask of a new row: its table and its place.
fn returned_system(
    planner: &mut Planner<'_, '_>,
    returning: Option<&Returning>,
    relation: &Relation,
) -> Fetch {
    let mut fetch = Fetch::default();
    let mut needed = vec![Needed::default()];
    if let Some(returning) = returning {
        for target in &returning.targets {
            collect_needed(&target.expr, Some(returning.level), &mut needed);
        }
    }
    for column in &needed[0].system {
        planner.system_slot(&relation.name, &mut fetch, *column);
    }
    fetch
}

pub fn insert(shared: &mut Shared<'_>, insert: &Insert, counts: bool) -> Result<Level, SqlError> {
    let mut planner = Planner::new(shared);
    let names = planner.open_ctes(&insert.ctes)?;
    let relation = Arc::clone(&insert.target);
    let source = query::plan_query(&mut planner, &insert.source, None)?;
    let conflict_update = matches!(
        insert.on_conflict,
        Some(OnConflict {
            action: ConflictAction::Update { .. },
            ..
        })
    );
    // Without DO UPDATE the proposed row is the new row.
    let row_slots = if conflict_update {
        planner.row_slots(&relation, "")
    } else {
        source.output.clone()
    };
    let on_conflict = match &insert.on_conflict {
        None => None,
        Some(conflict) => Some(plan_conflict(
            &mut planner,
            &relation,
            conflict,
            &source.output,
        )?),
    };
    let checks = planner.checks(&relation, &row_slots)?;
    let system = returned_system(&mut planner, insert.returning.as_ref(), &relation);
    let mut own = planner.row_scope(&relation, &row_slots);
    own.fetch = system.clone();
    let scope = Scope {
        level: insert.returning.as_ref().map(|r| r.level),
        ranges: vec![own],
        ..Scope::default()
    };
    let (returning, output) = planner.returning(insert.returning.as_ref(), &scope)?;
    let action = ModifyAction::Insert {
        source: source.output,
        on_conflict,
    };
    let made = |child| Modify {
        child,
        relation,
        disclosure: insert.disclosure.clone(),
        action,
        checks,
        row_slots,
        returning,
        system,
        counts,
    };
    planner.close_ctes(names);
    Ok(finish(planner, source.node, made, output))
}

fn plan_conflict(
    planner: &mut Planner<'_, '_>,
    relation: &Arc<Relation>,
    conflict: &OnConflict,
    source: &[Slot],
) -> Result<ConflictPlan, SqlError> {
    let update = match &conflict.action {
        ConflictAction::Nothing => None,
        ConflictAction::Update {
            level,
            assignments,
            filter,
        } => {
            let existing =
                planner.relation_scope(&relation.name, relation, &all_columns(relation), 1.0)?;
            let fetch = existing.fetch.clone();
            let old = old_slots(planner, relation, &fetch);
            let excluded = planner.row_scope(relation, source);
            let scope = Scope {
                level: Some(*level),
                ranges: vec![existing, excluded],
                ..Scope::default()
            };
            Some(ConflictUpdate {
                assignments: planner.assignments(assignments, &scope)?,
                filter: match filter {
                    None => None,
                    Some(filter) => Some(Test::new(planner.lower(filter, &scope)?)),
                },
                old,
                fetch,
            })
        }
    };
    Ok(ConflictPlan {
        arbiters: conflict.arbiters.clone(),
        update,
    })
}

/// A slot for each column: the fetched one, or for a dropped column one that stays NULL.
fn old_slots(planner: &mut Planner<'_, '_>, relation: &Relation, fetch: &Fetch) -> Vec<Slot> {
    relation
        .columns
        .iter()
        .enumerate()
        .map(|(number, column)| {
            let found = fetch.columns.iter().find(|(c, _)| *c == number);
            match found {
                Some((_, slot)) => *slot,
                None => planner.new_slot(String::new(), column.ty),
            }
        })
        .collect()
}

/// The rows that UPDATE and DELETE change, with what their expressions read.
struct Victims {
    node: PlanNode,
    scope: Scope,
    ctid: Slot,
    fetch: Fetch,
    recheck: Option<Test>,
}

struct VictimQuery<'q> {
    level: usize,
    target: &'q Arc<Relation>,
    ranges: &'q [Range],
    from: &'q [FromItem],
    filter: Option<&'q Expr>,
    /// All columns of the target are read.
    whole_row: bool,
}

fn victims(
    planner: &mut Planner<'_, '_>,
    query: &VictimQuery<'_>,
    read: &[&Expr],
) -> Result<Victims, SqlError> {
    let level = Some(query.level);
    let mut needed = vec![Needed::default(); query.ranges.len()];
    if query.whole_row {
        needed[0] = all_columns(query.target);
    }
    needed[0].system.push(SystemColumn::Ctid);
    for expr in read.iter().copied().chain(query.filter) {
        collect_needed(expr, level, &mut needed);
    }
    for item in query.from {
        needed_of_item(item, level, &mut needed);
    }
    collect_lateral(query.ranges, level, &mut needed);
    let mut ranges = planner.open_ranges(level, query.ranges, &needed)?;
    let scope = Scope {
        level,
        ..std::mem::take(&mut ranges.scope)
    };
    // The target itself is joined with FROM's items.
    let mut items = vec![FromItem::Range(0)];
    items.extend_from_slice(query.from);
    let mut list = planner.join_list(&items, &scope)?;
    if let Some(filter) = query.filter {
        conjuncts(planner.lower(filter, &scope)?, &mut list.conditions);
    }
    let recheck = all_of(list.conditions.clone()).map(Test::new);
    let fetch = scope.ranges[0].fetch.clone();
    let source = planner.plan_source(ranges, list, &Wish::default())?;
    Ok(Victims {
        node: source.node,
        ctid: fetch.ctid.expect("asked for with the columns"),
        scope,
        fetch,
        recheck,
    })
}

fn require_table(ranges: &[Range]) -> Result<(), SqlError> {
    match ranges.first().map(|r| &r.source) {
        Some(RangeSource::Table(_)) => Ok(()),
        _ => Err(SqlError::internal(
            "a change of something that is not a table",
        )),
    }
}

pub fn update(shared: &mut Shared<'_>, update: &Update, counts: bool) -> Result<Level, SqlError> {
    require_table(&update.ranges)?;
    let mut planner = Planner::new(shared);
    let names = planner.open_ctes(&update.ctes)?;
    let relation = Arc::clone(&update.target);
    let mut read: Vec<&Expr> = update.assignments.iter().map(|a| &a.value).collect();
    read.extend(
        update
            .returning
            .iter()
            .flat_map(|r| r.targets.iter().map(|t| &t.expr)),
    );
    let found = victims(
        &mut planner,
        &VictimQuery {
            level: update.level,
            target: &relation,
            ranges: &update.ranges,
            from: &update.from,
            filter: update.filter.as_ref(),
            whole_row: true,
        },
        &read,
    )?;
    let assignments = planner.assignments(&update.assignments, &found.scope)?;
    let old = old_slots(&mut planner, &relation, &found.fetch);
    let row_slots = planner.row_slots(&relation, &format!("{}.", relation.name));
    let checks = planner.checks(&relation, &row_slots)?;
    let system = returned_system(&mut planner, update.returning.as_ref(), &relation);
    // RETURNING sees the new row, and FROM's rows as they are.
    let mut scope = found.scope;
    scope.ranges[0] = planner.row_scope(&relation, &row_slots);
    scope.ranges[0].fetch = system.clone();
    let (returning, output) = planner.returning(update.returning.as_ref(), &scope)?;
    let action = ModifyAction::Update {
        ctid: found.ctid,
        fetch: found.fetch,
        assignments,
        old,
        recheck: found.recheck,
    };
    let made = |child| Modify {
        child,
        relation,
        disclosure: update.disclosure.clone(),
        action,
        checks,
        row_slots,
        returning,
        system,
        counts,
    };
    planner.close_ctes(names);
    Ok(finish(planner, found.node, made, output))
}

pub fn delete(shared: &mut Shared<'_>, delete: &Delete, counts: bool) -> Result<Level, SqlError> {
    require_table(&delete.ranges)?;
    let mut planner = Planner::new(shared);
    let names = planner.open_ctes(&delete.ctes)?;
    let relation = Arc::clone(&delete.target);
    let read: Vec<&Expr> = delete
        .returning
        .iter()
        .flat_map(|r| r.targets.iter().map(|t| &t.expr))
        .collect();
    let found = victims(
        &mut planner,
        &VictimQuery {
            level: delete.level,
            target: &relation,
            ranges: &delete.ranges,
            from: &delete.using,
            filter: delete.filter.as_ref(),
            whole_row: false,
        },
        &read,
    )?;
    let (returning, output) = planner.returning(delete.returning.as_ref(), &found.scope)?;
    let action = ModifyAction::Delete {
        ctid: found.ctid,
        fetch: found.fetch,
        recheck: found.recheck,
    };
    let made = |child| Modify {
        child,
        relation,
        disclosure: Disclosure::WholeRow,
        action,
        checks: Vec::new(),
        row_slots: Vec::new(),
        returning,
        system: Fetch::default(),
        counts,
    };
    planner.close_ctes(names);
    Ok(finish(planner, found.node, made, output))
}
