//! FROM and WHERE: which relations there are, which conditions go where, outer joins.
//!
//! Inner joins and commas are one list, searched for the best order (`joins.rs`). An outer join is a unit of that
//! list with two lists of its own; it becomes an inner join where a condition above it refuses the NULLs that
//! it would make. A condition goes down as far as the rows it reads allow. Relations that read others to their left
//! (`lateral.rs`) come behind those, on whatever side of an outer join they stand.

use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::relation::{Index, Relation};
use crate::sql::bound::Expr;
use crate::sql::exec::eval::Slot;
use crate::sql::exec::eval::{Comparison, slot_of};
use crate::sql::plan::access;
use crate::sql::plan::exprs::{SlotSet, is_volatile, rejects_nulls, same, slots_of};
use crate::sql::plan::joins::{self, Candidate};
use crate::sql::plan::lateral::Recheck;
use crate::sql::plan::path::{OrderKey, Path, PathKind};
use crate::sql::plan::planner::RangeScope;
use crate::sql::plan::settings::PlannerSettings;
use crate::sql::plan::statistics::{Estimates, comparison};
use crate::sql::plan::tree::{Cost, JoinType};
use crate::types::function::FunctionCx;

/// One relation of the level.
pub struct Base {
    pub alias: String,
    pub kind: BaseKind,
    pub scope: RangeScope,
    pub slots: SlotSet,
    pub rows: f64,
    pub pages: f64,
    pub width: f64,
    /// The order that a subquery's rows come in.
    pub order: Vec<OrderKey>,
    /// Outer values that it reads, and the slots of relations to its left that they are.
    pub passed: Vec<(usize, Slot)>,
    /// Of a simple subquery that may be given any, itself or as a part of one that is.
    pub recheck: Option<Recheck>,
}

pub enum BaseKind {
    Table(Arc<Relation>),
    /// Virtual tables, functions, VALUES.
    Computed,
    Subquery(Cost),
}

impl Base {
    /// The slots of relations to its left whose values it is read with.
    pub fn sources(&self) -> SlotSet {
        self.passed.iter().map(|(_, slot)| *slot).collect()
    }

    /// The slot of a table's column, if the query reads it.
    pub fn column_slot(&self, column: usize) -> Option<Slot> {
        self.scope
            .fetch
            .columns
            .iter()
            .find(|(c, _)| *c == column)
            .map(|(_, slot)| *slot)
    }
}

/// What the search reads.
pub struct FromPlanner<'p> {
    pub bases: &'p [Base],
    pub estimates: &'p Estimates,
    pub settings: &'p PlannerSettings,
    pub function: &'p FunctionCx,
    pub may_use: Option<&'p dyn Fn(&Index) -> bool>,
    /// Somebody above could use an order.
    pub wants_order: bool,
}

/// Relations joined by inner joins, with the conditions among them.
#[derive(Debug, Clone, Default)]
pub struct JoinList {
    pub items: Vec<JoinItem>,
    pub conditions: Vec<Expr>,
}

#[derive(Debug, Clone)]
pub enum JoinItem {
    Base(usize),
    /// Left or Full; a right join has its sides exchanged.
    Outer {
        join: JoinType,
        left: Box<JoinList>,
        right: Box<JoinList>,
        on: Vec<Expr>,
    },
}

fn item_slots(bases: &[Base], item: &JoinItem) -> SlotSet {
    match item {
        JoinItem::Base(number) => bases[*number].slots.clone(),
        JoinItem::Outer { left, right, .. } => {
            list_slots(bases, left).union(&list_slots(bases, right))
        }
    }
}

fn list_slots(bases: &[Base], list: &JoinList) -> SlotSet {
    let mut all = SlotSet::default();
    for item in &list.items {
        all.add(&item_slots(bases, item));
    }
    all
}

/// Relations whose rows an outer join may leave NULL.
pub fn nullable_bases(bases: &[Base], list: &JoinList) -> Vec<usize> {
    let mut list = list.clone();
    reduce(bases, &mut list);
    let mut found = Vec::new();
    for item in list.items {
        let JoinItem::Outer {
            join,
            mut left,
            right,
            ..
        } = item
        else {
            continue;
        };
        right.collect_bases(&mut found);
        if join == JoinType::Full {
            left.collect_bases(&mut found);
            continue;
        }
        let slots = list_slots(bases, &left);
        let goes_down = |c: &&Expr| slots_of(c).is_subset(&slots);
        let above = list.conditions.iter().filter(goes_down).cloned();
        left.conditions.extend(above);
        found.extend(nullable_bases(bases, &left));
    }
    found
}

impl JoinList {
    /// The numbers of all relations in it.
    pub fn collect_bases(&self, into: &mut Vec<usize>) {
        for item in &self.items {
            match item {
                JoinItem::Base(number) => into.push(*number),
                JoinItem::Outer { left, right, .. } => {
                    left.collect_bases(into);
                    right.collect_bases(into);
                }
            }
        }
    }
}

/// Outer joins whose NULLs a condition of the list refuses become inner joins, until none is left.
fn reduce(bases: &[Base], list: &mut JoinList) {
    let mut at = 0;
    while at < list.items.len() {
        let JoinItem::Outer {
            join, left, right, ..
        } = &mut list.items[at]
        else {
            at += 1;
            continue;
        };
        let refuses = |side: &JoinList| {
            let slots = list_slots(bases, side);
            list.conditions.iter().any(|c| rejects_nulls(c, &slots))
        };
        let (no_left_nulls, no_right_nulls) = (refuses(left), refuses(right));
        match join {
            JoinType::Full if no_left_nulls => *join = JoinType::Left,
            JoinType::Full if no_right_nulls => {
                std::mem::swap(left, right);
                *join = JoinType::Left;
            }
            JoinType::Left if no_right_nulls => {
                let JoinItem::Outer {
                    left, right, on, ..
                } = list.items.remove(at)
                else {
                    unreachable!("just matched")
                };
                for side in [*left, *right] {
                    list.items.extend(side.items);
                    list.conditions.extend(side.conditions);
                }
                list.conditions.extend(on);
                // The new conditions may reduce items before this one.
                at = 0;
            }
            _ => at += 1,
        }
    }
}

impl FromPlanner<'_> {
    /// The best ways to join everything in the list. `joins`: conditions of a join above, for keys from outside.
    pub fn plan_list(&self, mut list: JoinList, joins: &[Expr]) -> Candidate {
        reduce(self.bases, &mut list);
        add_implied(&mut list.conditions);
        let slots: Vec<SlotSet> = list
            .items
            .iter()
            .map(|i| item_slots(self.bases, i))
            .collect();
        let mut pushed: Vec<Vec<Expr>> = vec![Vec::new(); list.items.len()];
        let mut among = Vec::new();
        for condition in list.conditions {
            let used = slots_of(&condition);
            match slots.iter().position(|s| used.is_subset(s)) {
                Some(at) if !used.is_empty() => pushed[at].push(condition),
                _ => among.push(condition),
            }
        }
        let single = list.items.len() == 1;
        let units: Vec<Candidate> = list
            .items
            .into_iter()
            .zip(pushed)
            .map(|(item, conditions)| {
                let keys = if single { joins } else { &among };
                self.plan_item(item, conditions, keys)
            })
            .collect();
        joins::search(self, units, &among)
    }

    fn plan_item(&self, item: JoinItem, conditions: Vec<Expr>, joins: &[Expr]) -> Candidate {
        match item {
            JoinItem::Base(number) => {
                let base = &self.bases[number];
                Candidate {
                    slots: base.slots.clone(),
                    needs: base.sources(),
                    rows: access::filtered_rows(self, base, &conditions),
                    paths: access::base_paths(self, number, &conditions, joins),
                }
            }
            JoinItem::Outer {
                join,
                left,
                right,
                on,
            } => self.plan_outer(join, *left, *right, on, conditions),
        }
    }

    fn plan_outer(
        &self,
        join: JoinType,
        mut left: JoinList,
        mut right: JoinList,
        on: Vec<Expr>,
        above: Vec<Expr>,
    ) -> Candidate {
        let left_slots = list_slots(self.bases, &left);
        let right_slots = list_slots(self.bases, &right);
        let mut filter = Vec::new();
        for condition in above {
            if join == JoinType::Left && slots_of(&condition).is_subset(&left_slots) {
                left.conditions.push(condition);
            } else {
                filter.push(condition);
            }
        }
        let mut conditions = Vec::new();
        for condition in on {
            let used = slots_of(&condition);
            if join == JoinType::Left && !used.is_empty() && used.is_subset(&right_slots) {
                right.conditions.push(condition);
            } else {
                conditions.push(condition);
            }
        }
        let left = self.plan_list(left, &[]);
        let keys: &[Expr] = if join == JoinType::Left {
            &conditions
        } else {
            &[]
        };
        let right = self.plan_list(right, keys);
        joins::outer(self, join, &left, &right, &conditions, filter)
    }
}

/// Where `a = b` and `a = 5` hold, `b = 5` does.
fn add_implied(conditions: &mut Vec<Expr>) {
    let mut made = Vec::new();
    for known in conditions.iter() {
        let Some((slot, Comparison::Equal, value)) = comparison(known) else {
            continue;
        };
        // It would be another value for the other column.
        if is_volatile(value) {
            continue;
        }
        let Expr::Call { function, ty, .. } = known else {
            continue;
        };
        if function.args[0] != function.args[1] {
            continue;
        }
        for other in conditions.iter() {
            let Expr::Call {
                function: join,
                args,
                ..
            } = other
            else {
                continue;
            };
            let [a, b] = args.as_slice() else { continue };
            if join.oid != function.oid {
                continue;
            }
            let partner = match (slot_of(a), slot_of(b)) {
                (Some(x), Some(y)) if x == slot && y != slot => b,
                (Some(x), Some(y)) if y == slot && x != slot => a,
                _ => continue,
            };
            made.push(Expr::Call {
                function,
                args: vec![partner.clone(), value.clone()],
                ty: *ty,
            });
        }
    }
    for new in made {
        if !conditions.iter().any(|c| same(c, &new)) {
            conditions.push(new);
        }
    }
}

/// A condition on top of a path.
pub fn filter_path(from: &FromPlanner<'_>, child: &Rc<Path>, filter: Vec<Expr>) -> Rc<Path> {
    if filter.is_empty() {
        return Rc::clone(child);
    }
    let kept = from.estimates.selectivity(&filter, from.function);
    let mut path = child.as_ref().clone();
    path.total += child.rows * from.settings.cpu_operator_cost * filter.len() as f64;
    path.rows = (child.rows * kept).max(1.0).round();
    path.kind = PathKind::Filter {
        child: Rc::clone(child),
        filter,
    };
    Rc::new(path)
}
