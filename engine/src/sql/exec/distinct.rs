//! DISTINCT: runs of equal keys in ordered input, or each distinct row once by hash, on disk where memory ends.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::hash_join::partition::{COUNT, Partitions};
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

/// Rows pass as they come, if their keys were not seen before. When what was seen outgrows its memory, rows of other keys go
/// to disk, divided by hash, and pass part by part behind the input. Of a row there is nothing but its keys.
pub struct HashDistinctNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    seen: HashTable<(u64, Box<[Datum]>)>,
    bytes: usize,
    spilled: Option<Partitions>,
    /// The part that is being read, once the input is through.
    partition: Option<usize>,
}

impl HashDistinctNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> HashDistinctNode {
        HashDistinctNode {
            spec,
            child,
            seen: HashTable::new(),
            bytes: 0,
            spilled: None,
            partition: None,
        }
    }

    fn keys(&self) -> &[KeySlot] {
        let NodeKind::HashDistinct { keys, .. } = &self.spec.kind else {
            unreachable!("built from a hashed distinct")
        };
        keys
    }

    /// Whether the row in the frame passes now. Later on it may, if it went to disk.
    fn is_new(
        &mut self,
        frame: &[Datum],
        cx: &mut EvalCx,
        may_spill: bool,
    ) -> Result<bool, SqlError> {
        let keys = self.keys();
        let hash = hash_keys(keys, frame);
        let found = self.seen.find(hash, |(h, kept)| {
            *h == hash && keys_equal(keys, kept, frame)
        });
        if found.is_some() {
            return Ok(false);
        }
        let kept: Box<[Datum]> = keys.iter().map(|k| frame[k.slot].clone()).collect();
        let bytes = kept.iter().map(datum_bytes).sum::<usize>() + 32;
        let full = self.spilled.is_some() || self.bytes + bytes > cx.memory.hash();
        if may_spill && full && !self.seen.is_empty() {
            let partitions = self
                .spilled
                .get_or_insert_with(|| Partitions::new(kept.len()));
            partitions.push(hash, kept.iter(), cx)?;
            return Ok(false);
        }
        cx.memory.take(bytes)?;
        self.bytes += bytes;
        self.seen.insert_unique(hash, (hash, kept), |(h, _)| *h);
        Ok(true)
    }

    fn forget(&mut self, cx: &mut EvalCx) {
        self.seen.clear();
        cx.memory.give_back(self.bytes);
        self.bytes = 0;
    }

    /// The next row of a part into the frame; false at its end.
    fn read(&mut self, number: usize, frame: &mut [Datum]) -> Result<bool, SqlError> {
        let NodeKind::HashDistinct { keys, .. } = &self.spec.kind else {
            unreachable!("built from a hashed distinct")
        };
        let Some(partitions) = &mut self.spilled else {
            return Ok(false);
        };
        partitions.next(number, |n, value| frame[keys[n].slot] = value)
    }
}

impl Node for HashDistinctNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            let Some(number) = self.partition else {
                match self.child.next(frame, cx)? {
                    Step::Row if self.is_new(frame, cx, true)? => return Ok(Step::Row),
                    Step::Row => continue,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => {}
                }
                if self.spilled.is_none() {
                    return Ok(Step::Done);
                }
                self.forget(cx);
                self.partition = Some(0);
                continue;
            };
            if number == COUNT {
                return Ok(Step::Done);
            }
            if cx.spend() {
                return Ok(Step::Yield);
            }
            if !self.read(number, frame)? {
                self.forget(cx);
                self.partition = Some(number + 1);
            } else if self.is_new(frame, cx, false)? {
                return Ok(Step::Row);
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        (self.spilled, self.partition) = (None, None);
        self.child.rewind(cx)
    }
}
