//! ORDER BY: in memory, in runs on disk above `work_mem`, or only the first rows of a LIMIT.
//!
//! Rows lie side by side in one vector, and what is sorted is their numbers. A run is written in order; at the
//! end the runs and what is left in memory are merged. Rows with equal keys stay in the order in which they came.
//! With a limit the buffer is cut to it whenever it has grown to twice as much, so a row costs no more than one
//! comparison once the limit's last row is known.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::limit::row_count;
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::runs::Runs;
use crate::sql::plan::tree::{NodeKind, PlanNode, Sort, SortKey};
use crate::types::datum::Datum;

pub struct SortNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    /// Where each key stands in a kept row.
    keys: Vec<(usize, SortKey)>,
    buffer: Buffer,
    runs: Runs,
    state: State,
    limit: Option<usize>,
}

enum State {
    New,
    Loading,
    /// The next row of the sorted buffer.
    Memory(usize),
    /// Runs become fewer.
    Reducing,
    /// The least of the runs' heads goes out next.
    Merging,
    Done,
}

/// Rows in memory and their order.
#[derive(Default)]
struct Buffer {
    width: usize,
    values: Vec<Datum>,
    order: Vec<u32>,
    bytes: usize,
}

impl Buffer {
    fn row(&self, number: u32) -> &[Datum] {
        let from = number as usize * self.width;
        &self.values[from..from + self.width]
    }
    fn sort(&mut self, keys: &[(usize, SortKey)]) {
        let (values, width) = (&self.values, self.width);
        let row = |n: u32| &values[n as usize * width..(n as usize + 1) * width];
        self.order
            .sort_unstable_by(|a, b| compare_rows(keys, row(*a), row(*b)).then(a.cmp(b)));
    }
    /// Keeps the first `count` rows.
    fn cut(&mut self, count: usize, keys: &[(usize, SortKey)]) {
        self.sort(keys);
        self.order.truncate(count);
        let mut kept = Vec::with_capacity(self.order.len() * self.width);
        for number in &self.order {
            kept.extend_from_slice(self.row(*number));
        }
        self.values = kept;
        self.order = (0..self.order.len() as u32).collect();
    }
}

/// One key's order, NULLs and direction included.
#[inline]
pub fn compare_key(key: &SortKey, a: &Datum, b: &Datum) -> Ordering {
    let nulls = |null_side: Ordering| {
        if key.nulls_first {
            null_side
        } else {
            null_side.reverse()
        }
    };
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => nulls(Ordering::Less),
        (false, true) => nulls(Ordering::Greater),
        (false, false) => {
            let order = (key.compare)(a, b);
            if key.descending {
                order.reverse()
            } else {
                order
            }
        }
    }
}

pub(super) fn compare_rows(keys: &[(usize, SortKey)], a: &[Datum], b: &[Datum]) -> Ordering {
    for (at, key) in keys {
        let order = compare_key(key, &a[*at], &b[*at]);
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn spec_of(plan: &PlanNode) -> &Sort {
    let NodeKind::Sort(sort) = &plan.kind else {
        unreachable!("built from a sort")
    };
    sort
}

impl SortNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> SortNode {
        let sort = spec_of(&spec);
        let keys = sort
            .keys
            .iter()
            .map(|key| {
                let at = sort.slots.iter().position(|s| *s == key.slot);
                (at.expect("a sort keeps its keys"), *key)
            })
            .collect();
        let width = sort.slots.len();
        SortNode {
            spec,
            child,
            keys,
            buffer: Buffer {
                width,
                ..Buffer::default()
            },
            runs: Runs::new(width),
            state: State::New,
            limit: None,
        }
    }

    fn begin(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        if let Some(top) = &spec_of(&self.spec).limit {
            let offset = row_count(top.offset.as_ref(), frame, cx, true)?.unwrap_or(0);
            self.limit = row_count(Some(&top.limit), frame, cx, false)?
                .and_then(|n| usize::try_from(n.saturating_add(offset)).ok());
        }
        self.state = State::Loading;
        Ok(())
    }

    fn keep(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        let slots = &spec_of(&self.spec).slots;
        let bytes = slots.iter().map(|s| datum_bytes(&frame[*s])).sum::<usize>() + 4;
        if self.buffer.bytes + bytes > cx.memory.work() && !self.buffer.order.is_empty() {
            self.spill(cx)?;
        }
        let slots = &spec_of(&self.spec).slots;
        cx.memory.take(bytes)?;
        let buffer = &mut self.buffer;
        buffer.bytes += bytes;
        let number = u32::try_from(buffer.order.len())
            .map_err(|_| SqlError::internal("too many rows in one sort run"))?;
        buffer
            .values
            .extend(slots.iter().map(|s| frame[*s].clone()));
        buffer.order.push(number);
        if let Some(limit) = self.limit
            && buffer.order.len() >= 64
            && buffer.order.len() / 2 >= limit.max(1)
        {
            buffer.cut(limit, &self.keys);
            let now = buffer.values.iter().map(datum_bytes).sum::<usize>() + 4 * buffer.order.len();
            cx.memory.give_back(buffer.bytes.saturating_sub(now));
            buffer.bytes = now;
        }
        Ok(())
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.buffer.sort(&self.keys);
        for (count, number) in self.buffer.order.iter().enumerate() {
            self.runs.push(self.buffer.row(*number).iter(), cx)?;
            if count % 1024 == 0 {
                cx.interrupts.check()?;
            }
        }
        self.runs.end_run();
        cx.memory.give_back(self.buffer.bytes);
        self.buffer.values.clear();
        self.buffer.order.clear();
        self.buffer.bytes = 0;
        Ok(())
    }

    fn loaded(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        if self.runs.is_empty() {
            self.buffer.sort(&self.keys);
            self.state = State::Memory(0);
            return Ok(());
        }
        if !self.buffer.order.is_empty() {
            self.spill(cx)?;
        }
        self.state = State::Reducing;
        Ok(())
    }

    fn merge_next(&mut self, frame: &mut [Datum]) -> Result<Step, SqlError> {
        let slots = &spec_of(&self.spec).slots;
        let got = self
            .runs
            .next(&self.keys, |at, value| frame[slots[at]] = value)?;
        if got {
            return Ok(Step::Row);
        }
        self.state = State::Done;
        Ok(Step::Done)
    }
}

impl Node for SortNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            match self.state {
                State::New => self.begin(frame, cx)?,
                State::Loading => match self.child.next(frame, cx)? {
                    Step::Row => self.keep(frame, cx)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.loaded(cx)?,
                },
                State::Reducing => {
                    if !self.runs.reduce(&self.keys, cx)? {
                        return Ok(Step::Yield);
                    }
                    self.runs.begin(&self.keys)?;
                    self.state = State::Merging;
                }
                // Nothing above a sort need ever yield, however many rows come out of it.
                State::Memory(_) | State::Merging if cx.spend() => return Ok(Step::Yield),
                State::Memory(next) => {
                    if next >= self.buffer.order.len() || self.limit.is_some_and(|l| next >= l) {
                        self.state = State::Done;
                        return Ok(Step::Done);
                    }
                    let row = self.buffer.row(self.buffer.order[next]);
                    for (slot, value) in spec_of(&self.spec).slots.iter().zip(row) {
                        frame[*slot] = value.clone();
                    }
                    self.state = State::Memory(next + 1);
                    return Ok(Step::Row);
                }
                State::Merging => return self.merge_next(frame),
                State::Done => return Ok(Step::Done),
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        cx.memory.give_back(self.buffer.bytes);
        self.buffer = Buffer {
            width: self.buffer.width,
            ..Buffer::default()
        };
        self.runs = Runs::new(self.buffer.width);
        self.state = State::New;
        self.child.rewind(cx)
    }
}
