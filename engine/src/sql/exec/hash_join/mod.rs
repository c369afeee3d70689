//! Hash join: the inner side in a table by its keys, the outer side looked up row by row.
//!
//! If the inner side outgrows `work_mem`, both sides are divided by hash into partitions on disk, and then each
//! pair of partitions is joined as if it were a small join of its own.

pub(super) mod partition;
mod table;

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::eval::{Scalar, Slot};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{HashJoin, JoinType, NodeKind, PlanNode};
use crate::types::datum::Datum;
use partition::Partitions;
use table::{NONE, Table, hash_of};

enum State {
    Building,
    /// Too much for memory: the outer side goes to disk too.
    Dividing,
    NeedOuter,
    /// The outer row is in the frame; the next inner row to try.
    Probing(u32),
    /// Inner rows without partner, from this one on.
    Leftovers(u32),
    Done,
}

pub struct HashJoinNode {
    spec: Arc<PlanNode>,
    outer: BoxNode,
    inner: BoxNode,
    table: Table,
    divided: Option<Divided>,
    state: State,
    keys: Vec<Datum>,
    matched: bool,
}

struct Divided {
    inner: Partitions,
    outer: Partitions,
    current: usize,
}

fn spec_of(plan: &PlanNode) -> &HashJoin {
    let NodeKind::HashJoin(join) = &plan.kind else {
        unreachable!("built from a hash join")
    };
    join
}

/// Computes the keys; true if none is NULL.
fn compute(
    keys: &[Scalar],
    into: &mut Vec<Datum>,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<bool, SqlError> {
    into.clear();
    let mut whole = true;
    for key in keys {
        let value = key.eval(frame, cx)?;
        whole &= !value.is_null();
        into.push(value);
    }
    Ok(whole)
}

fn set_null(slots: &[Slot], frame: &mut [Datum]) {
    for slot in slots {
        frame[*slot] = Datum::Null;
    }
}

fn filtered(join: &HashJoin, frame: &[Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
    match &join.filter {
        None => Ok(true),
        Some(test) => test.passes(frame, cx),
    }
}

/// Inner rows that find no partner come out.
fn keeps_inner(join: JoinType) -> bool {
    matches!(join, JoinType::Right | JoinType::Full)
}

/// Outer rows that find no partner come out.
fn keeps_outer(join: JoinType) -> bool {
    matches!(join, JoinType::Left | JoinType::Full | JoinType::Anti)
}

impl HashJoinNode {
    pub fn new(spec: Arc<PlanNode>, outer: BoxNode, inner: BoxNode) -> HashJoinNode {
        let join = spec_of(&spec);
        let table = Table::new(join.inner_keys.len(), join.inner_slots.len());
        HashJoinNode {
            spec,
            outer,
            inner,
            table,
            divided: None,
            state: State::Building,
            keys: Vec::new(),
            matched: false,
        }
    }

    /// One inner row, from the child, into the table or a partition.
    fn keep_inner(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        let whole = compute(&join.inner_keys, &mut self.keys, frame, cx)?;
        if !whole && !keeps_inner(join.join) {
            return Ok(());
        }
        let hash = hash_of(&join.key_order, &self.keys);
        if self.divided.is_none() {
            let bytes = self.table.cost(&self.keys, &join.inner_slots, frame);
            if self.table.bytes() + bytes <= cx.memory.hash() || self.table.is_empty() {
                let row = join.inner_slots.iter().map(|s| frame[*s].clone());
                return self
                    .table
                    .add(&join.key_order, hash, whole, &self.keys, row, bytes, cx);
            }
            self.divide(cx)?;
        }
        let join = spec_of(&self.spec);
        let divided = self.divided.as_mut().expect("just made");
        let row = self
            .keys
            .iter()
            .chain(join.inner_slots.iter().map(|s| &frame[*s]));
        divided.inner.push(hash, row, cx)
    }

    fn divide(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        let mut inner = Partitions::new(join.inner_keys.len() + join.inner_slots.len());
        self.table.drain_into(&join.key_order, &mut inner, cx)?;
        self.divided = Some(Divided {
            inner,
            outer: Partitions::new(join.outer_slots.len()),
            current: 0,
        });
        Ok(())
    }

    fn built(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        self.state = if self.divided.is_some() {
            State::Dividing
        } else if self.table.is_empty() && !keeps_outer(join.join) {
            State::Done
        } else {
            State::NeedOuter
        };
        cx.check_interrupts()
    }

    /// An outer row goes to its partition. One with a NULL key finds no partner in any.
    fn divide_outer(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        let whole = compute(&join.outer_keys, &mut self.keys, frame, cx)?;
        if !whole && !keeps_outer(join.join) {
            return Ok(());
        }
        let hash = hash_of(&join.probe_order, &self.keys);
        let divided = self.divided.as_mut().expect("dividing");
        divided
            .outer
            .push(hash, join.outer_slots.iter().map(|s| &frame[*s]), cx)
    }

    /// Loads the inner rows of the current partition.
    fn load(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        let divided = self.divided.as_mut().expect("dividing");
        self.table.clear(cx);
        let width = join.inner_keys.len();
        let (table, keys) = (&mut self.table, &mut self.keys);
        let mut count = 0_u32;
        divided.inner.each(divided.current, &mut |row| {
            count = count.wrapping_add(1);
            if count.is_multiple_of(1024) {
                cx.check_interrupts()?;
            }
            keys.clear();
            keys.extend(row.drain(..width));
            let whole = keys.iter().all(|k| !k.is_null());
            let bytes = table.cost_of(keys, row);
            let hash = hash_of(&join.key_order, keys);
            table.add(&join.key_order, hash, whole, keys, row.drain(..), bytes, cx)
        })
    }

    /// The next outer row, from the child or from the current partition, in the frame.
    fn next_outer(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let Some(divided) = &mut self.divided else {
            return self.outer.next(frame, cx);
        };
        if cx.spend() {
            return Ok(Step::Yield);
        }
        let slots = &spec_of(&self.spec).outer_slots;
        let got = divided
            .outer
            .next(divided.current, |i, value| frame[slots[i]] = value)?;
        Ok(if got { Step::Row } else { Step::Done })
    }

    fn probe(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        let join = spec_of(&self.spec);
        self.matched = false;
        let whole = compute(&join.outer_keys, &mut self.keys, frame, cx)?;
        let first = if whole {
            let hash = hash_of(&join.probe_order, &self.keys);
            self.table.find(&join.key_order, hash, &self.keys)
        } else {
            NONE
        };
        self.state = State::Probing(first);
        Ok(())
    }

    /// Tries inner row `at`; true: a joined row is in the frame.
    fn try_row(&mut self, at: u32, frame: &mut [Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
        let join = spec_of(&self.spec);
        for (slot, value) in join.inner_slots.iter().zip(self.table.row(at)) {
            frame[*slot] = value.clone();
        }
        self.state = State::Probing(self.table.next(at));
        if let Some(residual) = &join.residual
            && !residual.passes(frame, cx)?
        {
            return Ok(false);
        }
        self.matched = true;
        self.table.mark(at);
        match join.join {
            JoinType::Anti => {
                self.state = State::NeedOuter;
                return Ok(false);
            }
            JoinType::Semi => self.state = State::NeedOuter,
            _ => {}
        }
        filtered(join, frame, cx)
    }

    /// The outer row's partners are through.
    fn outer_through(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
        let join = spec_of(&self.spec);
        self.state = State::NeedOuter;
        if self.matched || !keeps_outer(join.join) {
            return Ok(false);
        }
        if join.join != JoinType::Anti {
            set_null(&join.inner_slots, frame);
        }
        filtered(join, frame, cx)
    }

    /// The next inner row without partner, from `at` on.
    fn leftover(
        &mut self,
        at: u32,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<bool, SqlError> {
        let join = spec_of(&self.spec);
        let Some(found) = self.table.unmarked(at) else {
            return self.partition_through(cx);
        };
        self.state = State::Leftovers(found + 1);
        set_null(&join.outer_slots, frame);
        for (slot, value) in join.inner_slots.iter().zip(self.table.row(found)) {
            frame[*slot] = value.clone();
        }
        filtered(join, frame, cx)
    }

    fn outer_ended(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        if keeps_inner(spec_of(&self.spec).join) {
            self.state = State::Leftovers(0);
            return Ok(());
        }
        self.partition_through(cx).map(|_| ())
    }

    /// On to the next pair of partitions; always false.
    fn partition_through(&mut self, cx: &mut EvalCx) -> Result<bool, SqlError> {
        self.state = State::Done;
        if let Some(divided) = &mut self.divided
            && divided.current + 1 < partition::COUNT
        {
            divided.current += 1;
            self.state = State::NeedOuter;
            self.load(cx)?;
        }
        Ok(false)
    }
}

impl Node for HashJoinNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            match self.state {
                State::Building => match self.inner.next(frame, cx)? {
                    Step::Row => self.keep_inner(frame, cx)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.built(cx)?,
                },
                State::Dividing => match self.outer.next(frame, cx)? {
                    Step::Row => self.divide_outer(frame, cx)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => {
                        self.load(cx)?;
                        self.state = State::NeedOuter;
                    }
                },
                State::NeedOuter => match self.next_outer(frame, cx)? {
                    Step::Row => self.probe(frame, cx)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.outer_ended(cx)?,
                },
                State::Probing(NONE) => {
                    if self.outer_through(frame, cx)? {
                        return Ok(Step::Row);
                    }
                }
                State::Probing(at) => {
                    // One key may have as many partners as there are rows.
                    if cx.spend() {
                        return Ok(Step::Yield);
                    }
                    if self.try_row(at, frame, cx)? {
                        return Ok(Step::Row);
                    }
                }
                State::Leftovers(at) => {
                    if self.leftover(at, frame, cx)? {
                        return Ok(Step::Row);
                    }
                    if cx.spend() {
                        return Ok(Step::Yield);
                    }
                }
                State::Done => return Ok(Step::Done),
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.table.clear(cx);
        self.divided = None;
        self.state = State::Building;
        self.inner.rewind(cx)?;
        self.outer.rewind(cx)
    }
}
