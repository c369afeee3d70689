//! The partition that is being read: rows come from the child as they are asked for.

use std::sync::Arc;

use super::partition::Partition;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::distinct::keys_equal;
use crate::sql::exec::node::BoxNode;
use crate::sql::plan::tree::{NodeKind, PlanNode, WindowNode};
use crate::types::datum::Datum;

/// Why a computation does not go on.
pub enum Stop {
    /// The child hands back control: the same is computed again later, and finds what has come meanwhile.
    Yield,
    Failed(SqlError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<crate::types::error::TypeError> for Stop {
    fn from(error: crate::types::error::TypeError) -> Stop {
        Stop::Failed(error.into())
    }
}

pub struct Input {
    child: BoxNode,
    pub rows: Partition,
    /// Of the partition.
    keys: Vec<Datum>,
    /// Where each of its keys stands in a kept row.
    key_places: Vec<usize>,
    /// The first row of the next partition.
    next: Option<Box<[Datum]>>,
    /// All of the partition has come.
    whole: bool,
    ended: bool,
    /// The child has handed back control and is to be asked again before anything else touches the frame.
    reading: bool,
    /// The row whose values are in the frame.
    loaded: Option<usize>,
    /// The child may find the rest of its last row in the frame: that has to be put back.
    puts_back: bool,
}

impl Input {
    pub fn new(plan: &WindowNode, child: BoxNode) -> Input {
        let place = |slot: usize| {
            let mut slots = plan.slots.iter();
            slots
                .position(|s| *s == slot)
                .expect("a window keeps its keys")
        };
        // These keep their rows themselves.
        let keeps = matches!(plan.child.kind, NodeKind::Sort(_) | NodeKind::Window(_));
        Input {
            child,
            rows: Partition::new(plan.slots.len()),
            keys: Vec::new(),
            key_places: plan.partition.iter().map(|k| place(k.slot)).collect(),
            next: None,
            whole: false,
            ended: false,
            reading: false,
            loaded: None,
            puts_back: !keeps,
        }
    }

    /// Goes on where the child has handed back control.
    pub fn resume(
        &mut self,
        plan: &WindowNode,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<(), Stop> {
        match self.reading {
            true => self.read(plan, frame, cx),
            false => Ok(()),
        }
    }

    /// Nodes above may have put other rows' values into the frame since.
    pub fn unload(&mut self) {
        self.loaded = None;
    }

    /// Begins the next partition; false: there is none.
    pub fn begin(
        &mut self,
        plan: &WindowNode,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<bool, Stop> {
        if self.rows.len() == 0 {
            if let Some(first) = self.next.take() {
                self.set_keys(&first);
                self.rows.push(first, cx)?;
            } else if !self.ended {
                self.read(plan, frame, cx)?;
            }
        }
        Ok(self.rows.len() > 0)
    }

    /// Forgets the partition.
    pub fn end(&mut self, cx: &mut EvalCx) {
        self.rows.clear(cx);
        self.whole = self.ended && self.next.is_none();
        self.loaded = None;
    }

    /// Whether the partition has a row of this number.
    pub fn has(
        &mut self,
        number: usize,
        plan: &WindowNode,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<bool, Stop> {
        while self.rows.len() <= number {
            if self.whole {
                return Ok(false);
            }
            self.read(plan, frame, cx)?;
        }
        Ok(true)
    }

    /// How many rows the partition has.
    pub fn count(
        &mut self,
        plan: &WindowNode,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<usize, Stop> {
        while !self.whole {
            self.read(plan, frame, cx)?;
        }
        Ok(self.rows.len())
    }

    fn set_keys(&mut self, row: &[Datum]) {
        self.keys.clear();
        let places = self.key_places.iter();
        self.keys.extend(places.map(|at| row[*at].clone()));
    }

    /// The next row from the child.
    fn read(
        &mut self,
        plan: &WindowNode,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<(), Stop> {
        if self.puts_back && !self.reading && self.rows.len() > 0 {
            self.load(self.rows.len() - 1, plan, frame)?;
        }
        self.loaded = None;
        self.reading = true;
        match self.child.next(frame, cx)? {
            Step::Yield => return Err(Stop::Yield),
            Step::Done => {
                self.whole = true;
                self.ended = true;
            }
            Step::Row => {
                let row: Box<[Datum]> = plan.slots.iter().map(|s| frame[*s].clone()).collect();
                if self.rows.len() == 0 {
                    self.set_keys(&row);
                    self.whole = false;
                    self.rows.push(row, cx)?;
                } else if keys_equal(&plan.partition, &self.keys, frame) {
                    self.rows.push(row, cx)?;
                } else {
                    self.next = Some(row);
                    self.whole = true;
                }
            }
        }
        self.reading = false;
        Ok(())
    }

    /// Puts a row of the partition into the frame.
    pub fn load(
        &mut self,
        number: usize,
        plan: &WindowNode,
        frame: &mut [Datum],
    ) -> Result<(), SqlError> {
        if self.loaded == Some(number) {
            return Ok(());
        }
        let row = self.rows.row(number)?;
        for (slot, value) in plan.slots.iter().zip(row) {
            frame[*slot] = value.clone();
        }
        self.loaded = Some(number);
        Ok(())
    }

    pub fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.rows.clear(cx);
        self.next = None;
        self.whole = false;
        self.ended = false;
        self.reading = false;
        self.loaded = None;
        self.child.rewind(cx)
    }
}

/// The plan of a window.
pub fn plan_of(plan: &Arc<PlanNode>) -> &WindowNode {
    let NodeKind::Window(window) = &plan.kind else {
        unreachable!("built from a window")
    };
    window
}
