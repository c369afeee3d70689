//! What EXPLAIN ANALYZE measures at each node.

use std::time::{Duration, Instant};

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::{BoxNode, Node};
use crate::types::datum::Datum;

/// Sums over all loops of one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Instrument {
    pub loops: u64,
    pub rows: u64,
    /// Until the first row of each loop.
    pub startup: Duration,
    pub total: Duration,
    /// Rows that a filter of the node removed.
    pub removed: u64,
}

#[derive(Debug)]
pub struct Instruments {
    nodes: Vec<Instrument>,
}

impl Instruments {
    pub fn new(count: usize) -> Instruments {
        Instruments {
            nodes: vec![Instrument::default(); count],
        }
    }
    pub fn node(&self, id: usize) -> &Instrument {
        &self.nodes[id]
    }
    fn node_mut(&mut self, id: usize) -> &mut Instrument {
        &mut self.nodes[id]
    }
}

impl EvalCx {
    /// Counts a row that the filter of node `id` refused.
    #[inline]
    pub fn refused(&mut self, id: usize) {
        if let Some(all) = &mut self.instruments {
            all.node_mut(id).removed += 1;
        }
    }
}

/// A node with a clock around it.
pub struct Measured {
    id: usize,
    inner: BoxNode,
    started: bool,
    first: bool,
}

impl Measured {
    pub fn new(id: usize, inner: BoxNode) -> Measured {
        Measured {
            id,
            inner,
            started: false,
            first: false,
        }
    }
}

impl Node for Measured {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let begin = Instant::now();
        let step = self.inner.next(frame, cx);
        let took = begin.elapsed();
        if let Some(all) = &mut cx.instruments {
            let own = all.node_mut(self.id);
            if !self.started {
                own.loops += 1;
            }
            own.total += took;
            if !self.first {
                own.startup += took;
            }
            if matches!(step, Ok(Step::Row)) {
                own.rows += 1;
            }
        }
        self.started = true;
        self.first |= !matches!(step, Ok(Step::Yield));
        step
    }
    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.started = false;
        self.first = false;
        self.inner.rewind(cx)
    }
}
