//! LIMIT, OFFSET and WITH TIES.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::eval::Scalar;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{Limit, NodeKind, PlanNode, SortKey};
use crate::types::datum::Datum;

pub struct LimitNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    bounds: Option<Bounds>,
    /// Sort keys of the last row within the limit.
    last: Vec<Datum>,
}

struct Bounds {
    skip: u64,
    left: Option<u64>,
}

impl LimitNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> LimitNode {
        LimitNode {
            spec,
            child,
            bounds: None,
            last: Vec::new(),
        }
    }
}

/// The value of LIMIT: NULL means all. Errors 2201W and 2201X for negative ones.
pub fn row_count(
    value: Option<&Scalar>,
    frame: &[Datum],
    cx: &mut EvalCx,
    offset: bool,
) -> Result<Option<u64>, SqlError> {
    let Some(value) = value else { return Ok(None) };
    match value.eval(frame, cx)? {
        Datum::Null => Ok(None),
        Datum::Int8(n) => u64::try_from(n).map(Some).map_err(|_| {
            if offset {
                SqlError::new(
                    state::INVALID_ROW_COUNT_IN_OFFSET,
                    "OFFSET must not be negative",
                )
            } else {
                SqlError::new(
                    state::INVALID_ROW_COUNT_IN_LIMIT,
                    "LIMIT must not be negative",
                )
            }
        }),
        other => Err(SqlError::internal(format!(
            "LIMIT is not a bigint: {other:?}"
        ))),
    }
}

fn tied(keys: &[SortKey], last: &[Datum], frame: &[Datum]) -> bool {
    keys.iter().zip(last).all(|(key, a)| {
        let b = &frame[key.slot];
        match (a.is_null(), b.is_null()) {
            (true, true) => true,
            (false, false) => (key.compare)(a, b) == Ordering::Equal,
            _ => false,
        }
    })
}

impl Node for LimitNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::Limit(limit) = &self.spec.kind else {
            unreachable!("built from a limit")
        };
        if self.bounds.is_none() {
            let skip = row_count(limit.offset.as_ref(), frame, cx, true)?.unwrap_or(0);
            let left = row_count(limit.limit.as_ref(), frame, cx, false)?;
            self.bounds = Some(Bounds { skip, left });
        }
        let bounds = self.bounds.as_mut().expect("just set");
        loop {
            if bounds.left == Some(0) && (limit.ties.is_none() || self.last.is_empty()) {
                return Ok(Step::Done);
            }
            let step = self.child.next(frame, cx)?;
            if step != Step::Row {
                return Ok(step);
            }
            if bounds.skip > 0 {
                bounds.skip -= 1;
                continue;
            }
            return Ok(after_skipping(limit, bounds, &mut self.last, frame));
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.bounds = None;
        self.last.clear();
        self.child.rewind(cx)
    }
}

fn after_skipping(
    limit: &Limit,
    bounds: &mut Bounds,
    last: &mut Vec<Datum>,
    frame: &[Datum],
) -> Step {
    match (&mut bounds.left, &limit.ties) {
        (None, _) => Step::Row,
        (Some(0), Some(keys)) => {
            if tied(keys, last, frame) {
                return Step::Row;
            }
            last.clear();
            Step::Done
        }
        (Some(left), ties) => {
            *left -= 1;
            if let (0, Some(keys)) = (*left, ties) {
                last.clear();
                last.extend(keys.iter().map(|k| frame[k.slot].clone()));
            }
            Step::Row
        }
    }
}
