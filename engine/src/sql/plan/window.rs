//! Window functions: a node for each window over FROM's or the groups' rows, sorted where they are not in its order yet.
//!
//! Invariants: windows whose orders begin alike stand behind one another, the one with the longer order first, so that
//! rows are sorted once for all of them (`select_active_windows`); keys that are no columns are computed below all windows;
//! a window leaves the order of its rows as it is.

use std::sync::Arc;

use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::{
    Distinct, Exclusion, Expr, FrameBound, FrameMode, Query, Select, Window, WindowCall,
    WindowCallee,
};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test, slot_of};
use crate::sql::plan::build::{key_slot, node, sort_key};
use crate::sql::plan::exprs::{is_volatile, runs_subplan, same};
use crate::sql::plan::path::OrderKey;
use crate::sql::plan::planner::{Planner, Scope};
use crate::sql::plan::query;
use crate::sql::plan::select::{Source, is_in_order};
use crate::sql::plan::sets::project;
use crate::sql::plan::tree::{Cost, KeySlot, NodeKind, PlanNode, SortKey};
use crate::types::compare::comparator;
use crate::types::in_range::{self, InRange};

/// Window functions over one window, whose partitions follow one another in the input, each in the window's order.
#[derive(Debug)]
pub struct WindowNode {
    pub child: Arc<PlanNode>,
    pub partition: Vec<KeySlot>,
    pub order: Vec<SortKey>,
    pub frame: WindowFrame,
    pub calls: Vec<WindowSpec>,
    /// What is kept of a row: keys, what is computed of it here, and what something above reads.
    pub slots: Vec<Slot>,
}

#[derive(Debug)]
pub struct WindowFrame {
    pub mode: FrameMode,
    pub start: WindowBound,
    pub end: WindowBound,
    pub exclude: Exclusion,
}

/// With the offset, and for RANGE what compares with it.
#[derive(Debug)]
pub enum WindowBound {
    UnboundedPreceding,
    Preceding(Scalar, Option<InRange>),
    CurrentRow,
    Following(Scalar, Option<InRange>),
    UnboundedFollowing,
}

impl WindowBound {
    pub fn offset(&self) -> Option<&Scalar> {
        match self {
            WindowBound::Preceding(offset, _) | WindowBound::Following(offset, _) => Some(offset),
            _ => None,
        }
    }
    pub fn offset_mut(&mut self) -> Option<&mut Scalar> {
        match self {
            WindowBound::Preceding(offset, _) | WindowBound::Following(offset, _) => Some(offset),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct WindowSpec {
    /// Its place among the level's window functions.
    pub number: usize,
    pub callee: WindowCallee,
    pub args: Vec<Scalar>,
    pub arg_types: Vec<Oid>,
    pub filter: Option<Test>,
    /// A row gives it the same whenever it is asked, so that what it gave may be taken back.
    pub steady: bool,
    pub slot: Slot,
}

/// A window's keys, over the level's slots.
struct Keyed {
    /// Its place among the bound ones.
    number: usize,
    partition: Vec<Slot>,
    order: Vec<SortKey>,
    /// By which its rows are sorted: each slot once.
    sort: Vec<SortKey>,
}

/// All windows of a level, in the order in which they are computed.
pub struct Windows {
    keyed: Vec<Keyed>,
    /// Keys that are no columns.
    computed: Vec<(Slot, Scalar)>,
    /// What they were computed of.
    exprs: Vec<(Expr, Slot)>,
}

impl Windows {
    /// The order in which the first window would have its rows, if FROM can give it.
    pub fn wanted_order(&self) -> Vec<OrderKey> {
        match self.keyed.first() {
            Some(first) if self.computed.is_empty() => query::order_of(&first.sort),
            _ => Vec::new(),
        }
    }

    /// Keys that are no columns, and where their values are.
    pub fn take_keys(&mut self) -> Vec<(Expr, Slot)> {
        std::mem::take(&mut self.exprs)
    }

    /// The slot of a key that is this expression.
    fn computed_key(&self, expr: &Expr) -> Option<Slot> {
        let mut keys = self.exprs.iter();
        keys.find(|(known, _)| same(known, expr)).map(|(_, s)| *s)
    }
}

/// Lowers the keys of all windows; the scope has what they read.
pub fn keys(
    planner: &mut Planner<'_, '_>,
    select: &Select,
    query: &Query,
    scope: &Scope,
) -> Result<Windows, SqlError> {
    let mut made = Windows {
        keyed: Vec::new(),
        computed: Vec::new(),
        exprs: Vec::new(),
    };
    // What the rest of the query orders, groups and tells rows apart by was numbered before.
    let mut ranks: Vec<Slot> = Vec::new();
    for item in &query.order_by {
        let target = &select.targets[item.target].expr;
        ranks.extend(made.key_like(planner, (select, target), scope)?);
    }
    ranks.extend_from_slice(&scope.groups);
    let distinct: Vec<usize> = match &select.distinct {
        Distinct::No => Vec::new(),
        Distinct::All => (0..query.output.len()).collect(),
        Distinct::On(targets) => targets.clone(),
    };
    for number in distinct {
        let target = &select.targets[number].expr;
        ranks.extend(made.key_like(planner, (select, target), scope)?);
    }
    for (number, window) in select.windows.windows.iter().enumerate() {
        let keyed = made.keyed(planner, (number, window), scope)?;
        ranks.extend(keyed.order.iter().map(|k| k.slot));
        ranks.extend_from_slice(&keyed.partition);
        made.keyed.push(keyed);
    }
    let rank = |slot: Slot| ranks.iter().position(|s| *s == slot).unwrap_or(ranks.len());
    made.keyed.sort_by(|a, b| {
        for (a, b) in a.sort.iter().zip(&b.sort) {
            let order = rank(b.slot)
                .cmp(&rank(a.slot))
                .then(b.descending.cmp(&a.descending))
                .then(b.nulls_first.cmp(&a.nulls_first));
            if order.is_ne() {
                return order;
            }
        }
        b.sort.len().cmp(&a.sort.len())
    });
    Ok(made)
}

/// A window's key expressions, in the order in which they are numbered.
fn expressions(window: &Window) -> impl Iterator<Item = &Expr> {
    let order = window.order_by.iter().map(|o| &o.expr);
    order.chain(&window.partition_by)
}

impl Windows {
    /// The slot of the windows' key that is the same as a target, if there is one.
    fn key_like(
        &mut self,
        planner: &mut Planner<'_, '_>,
        (select, target): (&Select, &Expr),
        scope: &Scope,
    ) -> Result<Option<Slot>, SqlError> {
        let mut keys = select.windows.windows.iter().flat_map(expressions);
        match keys.find(|key| bind::same(key, target)) {
            Some(key) => self.slot(planner, key, scope).map(Some),
            None => Ok(None),
        }
    }

    /// Where a key's value will be.
    fn slot(
        &mut self,
        planner: &mut Planner<'_, '_>,
        expr: &Expr,
        scope: &Scope,
    ) -> Result<Slot, SqlError> {
        let lowered = planner.lower(expr, scope)?;
        if let Some(slot) = slot_of(&lowered).or_else(|| self.computed_key(&lowered)) {
            return Ok(slot);
        }
        let slot = planner.computed_slot(&lowered);
        self.computed.push((slot, Scalar::new(lowered.clone())));
        self.exprs.push((lowered, slot));
        Ok(slot)
    }

    fn keyed(
        &mut self,
        planner: &mut Planner<'_, '_>,
        (number, window): (usize, &Window),
        scope: &Scope,
    ) -> Result<Keyed, SqlError> {
        let mut order: Vec<SortKey> = Vec::new();
        for item in &window.order_by {
            let slot = self.slot(planner, &item.expr, scope)?;
            let key = sort_key(slot, item.expr.ty(), item.descending, item.nulls_first)?;
            if !order.iter().any(|k| k.slot == slot) {
                order.push(key);
            }
        }
        let mut partition: Vec<Slot> = Vec::new();
        let mut sort: Vec<SortKey> = Vec::new();
        for expr in &window.partition_by {
            let slot = self.slot(planner, expr, scope)?;
            if partition.contains(&slot) {
                continue;
            }
            partition.push(slot);
            // A column that the window orders by as well is sorted that way.
            sort.push(match order.iter().find(|k| k.slot == slot) {
                Some(key) => *key,
                None => {
                    sortable(expr)?;
                    sort_key(slot, expr.ty(), false, false)?
                }
            });
        }
        for key in &order {
            if !partition.contains(&key.slot) {
                sort.push(*key);
            }
        }
        Ok(Keyed {
            number,
            partition,
            order,
            sort,
        })
    }
}

fn sortable(expr: &Expr) -> Result<(), SqlError> {
    match comparator(expr.ty().oid) {
        Some(_) => Ok(()),
        None => Err(
            SqlError::unsupported("could not implement window PARTITION BY")
                .detail("Window partitioning columns must be of sortable datatypes."),
        ),
    }
}

/// The windows' nodes over `source`; the scope gets their functions' slots.
pub fn plan(
    planner: &mut Planner<'_, '_>,
    select: &Select,
    scope: &mut Scope,
    mut windows: Windows,
    mut source: Source,
) -> Result<Source, SqlError> {
    let calls = &select.windows.calls;
    scope.windows = vec![None; calls.len()];
    let computed = std::mem::take(&mut windows.computed);
    source.node = project(planner, source.node, computed);
    for keyed in &windows.keyed {
        let wanted = query::order_of(&keyed.sort);
        if !is_in_order(&source, &wanted) {
            source.node = query::sort(planner, source.node, keyed.sort.clone(), None);
            source.order = wanted;
        }
        let window = &select.windows.windows[keyed.number];
        let mut specs = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            if call.window == keyed.number {
                let slot = planner.new_slot(String::new(), call.ty);
                planner.slots[slot].computed = Some(Expr::Window(slot, call.ty));
                specs.push(window_spec(planner, scope, call, slot, number)?);
            }
        }
        for spec in &specs {
            scope.windows[spec.number] = Some(spec.slot);
        }
        source.node = window_node(planner, scope, source.node, (keyed, window), specs)?;
    }
    Ok(source)
}

fn window_spec(
    planner: &mut Planner<'_, '_>,
    scope: &Scope,
    call: &WindowCall,
    slot: Slot,
    number: usize,
) -> Result<WindowSpec, SqlError> {
    let mut args = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        args.push(Scalar::new(planner.lower(arg, scope)?));
    }
    let filter = match &call.filter {
        None => None,
        Some(filter) => Some(Test::new(planner.lower(filter, scope)?)),
    };
    let sources = args.iter().map(Scalar::source);
    let mut sources = sources.chain(filter.iter().map(Test::source));
    let steady = !sources.any(|e| is_volatile(e) || runs_subplan(e));
    Ok(WindowSpec {
        number,
        callee: call.callee,
        arg_types: call.args.iter().map(|a| a.ty().oid).collect(),
        args,
        filter,
        steady,
        slot,
    })
}

fn window_node(
    planner: &mut Planner<'_, '_>,
    scope: &Scope,
    child: PlanNode,
    (keyed, window): (&Keyed, &Window),
    calls: Vec<WindowSpec>,
) -> Result<PlanNode, SqlError> {
    let mut partition = Vec::with_capacity(keyed.partition.len());
    for slot in &keyed.partition {
        partition.push(key_slot(*slot, planner.slots[*slot].ty)?);
    }
    let input = child.cost;
    let s = planner.shared.cx.settings;
    let per_row = s.cpu_operator_cost * (calls.len() + keyed.sort.len()) as f64 + s.cpu_tuple_cost;
    // Aggregates of a whole partition have to wait for it; of one that has no parts, for all rows.
    let waits = keyed.sort.is_empty() || calls.iter().any(WindowSpec::waits_for_partition);
    let total = input.total + input.rows * per_row;
    let cost = Cost {
        startup: if waits && keyed.partition.is_empty() {
            total
        } else {
            input.startup
        },
        total,
        rows: input.rows,
        width: input.width + 8.0 * calls.len() as f64,
    };
    let frame = WindowFrame {
        mode: window.frame.mode,
        start: frame_bound(planner, &window.frame.start, window, scope)?,
        end: frame_bound(planner, &window.frame.end, window, scope)?,
        exclude: window.frame.exclude,
    };
    let kind = NodeKind::Window(Box::new(WindowNode {
        child: Arc::new(child),
        partition,
        order: keyed.order.clone(),
        frame,
        calls,
        slots: Vec::new(),
    }));
    Ok(node(kind, cost))
}

fn frame_bound(
    planner: &mut Planner<'_, '_>,
    bound: &FrameBound,
    window: &Window,
    scope: &Scope,
) -> Result<WindowBound, SqlError> {
    let mut offset =
        |e: &Expr| -> Result<Scalar, SqlError> { Ok(Scalar::new(planner.lower(e, scope)?)) };
    let in_range = |e: &Expr| {
        let key = window.order_by.first().map(|o| o.expr.ty().oid);
        let known = key.map_or(&[][..], in_range::offsets);
        let mut known = known.iter();
        known.find(|(ty, _)| *ty == e.ty().oid).map(|(_, f)| *f)
    };
    Ok(match bound {
        FrameBound::UnboundedPreceding => WindowBound::UnboundedPreceding,
        FrameBound::CurrentRow => WindowBound::CurrentRow,
        FrameBound::UnboundedFollowing => WindowBound::UnboundedFollowing,
        FrameBound::Preceding(e) => WindowBound::Preceding(offset(e)?, in_range(e)),
        FrameBound::Following(e) => WindowBound::Following(offset(e)?, in_range(e)),
    })
}

impl WindowSpec {
    /// It needs to know how many rows the partition has.
    fn waits_for_partition(&self) -> bool {
        use crate::types::windows::WindowKind;
        matches!(
            self.callee,
            WindowCallee::Function(f)
                if matches!(f.kind, WindowKind::PercentRank | WindowKind::CumeDist | WindowKind::Ntile)
        )
    }
}
