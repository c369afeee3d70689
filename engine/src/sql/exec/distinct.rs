//! DISTINCT: runs of equal keys in ordered input, or each distinct row once by hash.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::hashed::{hash_keys, same};
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{KeySlot, NodeKind, PlanNode};
use crate::types::datum::Datum;

/// The first row of each run of equal keys.
pub struct UniqueNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    last: Option<Vec<Datum>>,
}

impl UniqueNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> UniqueNode {
        UniqueNode {
            spec,
            child,
            last: None,
        }
    }
}

pub fn keys_equal(keys: &[KeySlot], kept: &[Datum], frame: &[Datum]) -> bool {
    keys.iter()
        .zip(kept)
        .all(|(key, value)| same(key.compare, value, &frame[key.slot]))
}

impl Node for UniqueNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::Unique { keys, .. } = &self.spec.kind else {
            unreachable!("built from a unique node")
        };
        loop {
            let step = self.child.next(frame, cx)?;
            if step != Step::Row {
                return Ok(step);
            }
            if let Some(last) = &self.last
                && keys_equal(keys, last, frame)
            {
                continue;
            }
            self.last = Some(keys.iter().map(|k| frame[k.slot].clone()).collect());
            return Ok(Step::Row);
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.last = None;
        self.child.rewind(cx)
    }
}

/// Rows pass as they come, if their keys were not seen before.
pub struct HashDistinctNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    seen: HashTable<(u64, Box<[Datum]>)>,
    bytes: usize,
}

impl HashDistinctNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> HashDistinctNode {
        HashDistinctNode {
            spec,
            child,
            seen: HashTable::new(),
            bytes: 0,
        }
    }
}

impl Node for HashDistinctNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::HashDistinct { keys, .. } = &self.spec.kind else {
            unreachable!("built from a hashed distinct")
        };
        loop {
            let step = self.child.next(frame, cx)?;
            if step != Step::Row {
                return Ok(step);
            }
            let hash = hash_keys(keys, frame);
            if self
                .seen
                .find(hash, |(h, kept)| {
                    *h == hash && keys_equal(keys, kept, frame)
                })
                .is_some()
            {
                continue;
            }
            let kept: Box<[Datum]> = keys.iter().map(|k| frame[k.slot].clone()).collect();
            let bytes = kept.iter().map(datum_bytes).sum::<usize>() + 32;
            cx.memory.take(bytes)?;
            self.bytes += bytes;
            self.seen.insert_unique(hash, (hash, kept), |(h, _)| *h);
            return Ok(Step::Row);
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.seen.clear();
        cx.memory.give_back(self.bytes);
        self.bytes = 0;
        self.child.rewind(cx)
    }
}
