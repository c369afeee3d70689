//! GROUP BY and aggregates.
//!
//! Each input row's arguments are computed once into a flat row of *inputs*; a group then takes them. So the rows
//! that a hashed aggregation puts on disk, when its groups outgrow `work_mem`, are the inputs and not the frame.

mod group;
mod hashed;
mod sorted;

use std::sync::Arc;

pub(super) use sorted::is_long;

use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{AggregateNode, Grouping, NodeKind, PlanNode};

pub fn build(spec: Arc<PlanNode>, child: BoxNode) -> Box<dyn Node> {
    match spec_of(&spec).grouping {
        Grouping::Hashed => Box::new(hashed::HashAggregateNode::new(spec, child)),
        Grouping::Plain | Grouping::Sorted => {
            Box::new(sorted::SortedAggregateNode::new(spec, child))
        }
    }
}

fn spec_of(plan: &PlanNode) -> &AggregateNode {
    let NodeKind::Aggregate(aggregate) = &plan.kind else {
        unreachable!("built from an aggregation")
    };
    aggregate
}
