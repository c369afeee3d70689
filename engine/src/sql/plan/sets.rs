//! Projections, and the set-returning functions in them (`split_pathtarget_at_srfs`): such calls are nodes of their own
//! below the rest. Those of one depth run side by side, the inner ones of nested calls below the outer ones.

use std::sync::Arc;

use crate::sql::bound::Expr;
use crate::sql::exec::eval::{Scalar, Slot, slot_expr};
use crate::sql::plan::build::node;
use crate::sql::plan::exprs::{children_mut, walk};
use crate::sql::plan::planner::Planner;
use crate::sql::plan::ranges::COMPUTED_ROWS;
use crate::sql::plan::tree::{Cost, NodeKind, PlanNode, SetCall};

pub fn returns_sets(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| {
        if let Expr::Call { function, .. } = e {
            found |= function.returns_set();
        }
    });
    found
}

/// Computes `items` for the rows of `child`, or for as many as the sets in them make of each.
pub fn project(
    planner: &mut Planner<'_, '_>,
    mut child: PlanNode,
    mut items: Vec<(Slot, Scalar)>,
) -> PlanNode {
    if items.is_empty() {
        return child;
    }
    let mut levels = Vec::new();
    for (_, value) in &mut items {
        if returns_sets(value.source()) {
            let mut expr = value.source().clone();
            lift(planner, &mut expr, &mut levels);
            *value = Scalar::new(expr);
        }
    }
    for calls in levels {
        let rows = child.cost.rows * COMPUTED_ROWS;
        let cost = Cost {
            total: child.cost.total + rows * planner.shared.cx.settings.cpu_tuple_cost * 0.5,
            rows,
            ..child.cost
        };
        let below = Arc::new(child);
        child = node(
            NodeKind::ProjectSet {
                child: below,
                calls,
            },
            cost,
        );
    }
    let cost = child.cost;
    node(
        NodeKind::Project {
            child: Arc::new(child),
            items,
        },
        cost,
    )
}

/// Takes the set-returning calls out of `expr`, which reads their slots then. Gives how deep they are nested.
fn lift(planner: &mut Planner<'_, '_>, expr: &mut Expr, levels: &mut Vec<Vec<SetCall>>) -> usize {
    let mut depth = 0;
    children_mut(expr, &mut |part| {
        depth = depth.max(lift(planner, part, levels));
    });
    let is_set = matches!(&*expr, Expr::Call { function, .. } if function.returns_set());
    if !is_set {
        return depth;
    }
    let slot = planner.computed_slot(expr);
    let ty = expr.ty();
    let Expr::Call { function, args, .. } = std::mem::replace(expr, slot_expr(slot, ty)) else {
        unreachable!("it was looked at")
    };
    if levels.len() == depth {
        levels.push(Vec::new());
    }
    levels[depth].push(SetCall {
        function,
        arg_types: args.iter().map(|arg| arg.ty().oid).collect(),
        args: args.into_iter().map(Scalar::new).collect(),
        result: ty.oid,
        slot,
    });
    depth + 1
}
