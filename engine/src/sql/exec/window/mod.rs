//! Window functions over one window: each row of the input goes out with their results for it.
//!
//! The rows of a partition are read no further than a row's results need, so a limit above stops the reading. Where the
//! child hands back control in the middle of a row, the row is computed again later; what was computed of it by then is
//! kept, and what accumulates rows remembers how far it is. Positions count the partition's rows from 0.
//!
//! Which rows a frame has, and what is kept of a partition, is `nodeWindowAgg.c`'s to the row, its exclusions included.

mod aggregate;
mod bounds;
mod functions;
mod input;
mod partition;

use std::sync::Arc;

use aggregate::Running;
use bounds::{Offsets, Pointers};
use functions::Ntile;
use input::{Input, Stop, plan_of};

use crate::sql::bound::{Exclusion, FrameMode, WindowCallee};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::eval::Slot;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{PlanNode, WindowBound, WindowNode, WindowSpec};
use crate::types::datum::Datum;
use crate::types::windows::WindowKind;

/// A frame's slots and the execution: what every computation is given.
struct Run<'r> {
    plan: &'r WindowNode,
    frame: &'r mut [Datum],
    cx: &'r mut EvalCx,
}

/// What a call keeps within a partition.
enum CallState {
    Nothing,
    Ntile(Ntile),
    Aggregate(Box<Running>),
}

enum Phase {
    /// Before the first row of a partition.
    Outside,
    /// The results of the current row are computed.
    Computing,
    /// The current row has gone out.
    Given,
}

pub struct WindowAggNode {
    spec: Arc<PlanNode>,
    input: Input,
    phase: Phase,
    /// The current row: its position and what is kept of it.
    at: i64,
    current: Vec<Datum>,
    pointers: Pointers,
    /// Of the frame; computed once for each run.
    offsets: Option<Offsets>,
    /// Where each sort key stands in a kept row.
    order_places: Vec<usize>,
    /// Where each argument that is a kept value stands in a kept row.
    arg_places: Vec<Vec<Option<usize>>>,
    calls: Vec<CallState>,
    /// Of the current row, as far as they are computed.
    results: Vec<Datum>,
    /// Of one aggregate for one row.
    args: Vec<Datum>,
    reach: Reach,
}

/// How far behind the current row the calls look.
struct Reach {
    /// `None`: to the partition's first row.
    back: Option<i64>,
    /// Some call reads the frame.
    reads_frame: bool,
    /// Some call begins anew at the frame's first row.
    reads_head: bool,
    /// Some call asks where the frame ends.
    reads_tail: bool,
}

impl WindowAggNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode, cx: &EvalCx) -> WindowAggNode {
        let plan = plan_of(&spec);
        let place = |slot: Slot| plan.slots.iter().position(|s| *s == slot);
        let order_places = plan
            .order
            .iter()
            .map(|key| place(key.slot).expect("a window keeps its keys"));
        let arg_places = plan
            .calls
            .iter()
            .map(|call| call.args.iter().map(|a| a.slot().and_then(place)).collect());
        WindowAggNode {
            input: Input::new(plan, child),
            phase: Phase::Outside,
            at: 0,
            current: Vec::new(),
            pointers: Pointers::default(),
            offsets: None,
            order_places: order_places.collect(),
            arg_places: arg_places.collect(),
            calls: plan.calls.iter().map(CallState::new).collect(),
            results: Vec::new(),
            args: Vec::new(),
            reach: Reach::of(plan, &cx.params),
            spec,
        }
    }

    fn advance(&mut self, run: &mut Run<'_>) -> Result<Step, Stop> {
        self.input.resume(run.plan, run.frame, run.cx)?;
        if self.offsets.is_none() {
            self.offsets = Some(Offsets::compute(run)?);
        }
        loop {
            match self.phase {
                Phase::Outside => {
                    if !self.input.begin(run.plan, run.frame, run.cx)? {
                        return Ok(Step::Done);
                    }
                    self.begin_partition(run)?;
                }
                Phase::Computing => return self.give(run),
                Phase::Given => self.step_on(run)?,
            }
        }
    }

    fn begin_partition(&mut self, run: &mut Run<'_>) -> Result<(), Stop> {
        self.at = 0;
        self.pointers = Pointers::default();
        for (state, call) in self.calls.iter_mut().zip(&run.plan.calls) {
            state.give_back(run.cx);
            *state = CallState::new(call);
        }
        self.current.clear();
        self.current.extend_from_slice(self.input.rows.row(0)?);
        self.phase = Phase::Computing;
        Ok(())
    }

    /// To the next row of the partition, or behind its last one.
    fn step_on(&mut self, run: &mut Run<'_>) -> Result<(), Stop> {
        let next = position(self.at + 1);
        if !self.input.has(next, run.plan, run.frame, run.cx)? {
            self.input.end(run.cx);
            self.phase = Phase::Outside;
            return Ok(());
        }
        let row = self.input.rows.row(next)?;
        let is_peer = peers(run.plan, &self.order_places, &self.current, row);
        self.current.clear();
        self.current.extend_from_slice(row);
        self.at += 1;
        self.pointers.step_on(self.at, is_peer);
        self.phase = Phase::Computing;
        self.forget(run.cx);
        Ok(())
    }

    /// Computes what is missing of the current row's results and gives it out.
    fn give(&mut self, run: &mut Run<'_>) -> Result<Step, Stop> {
        let plan = run.plan;
        while self.results.len() < plan.calls.len() {
            let number = self.results.len();
            let result = match plan.calls[number].callee {
                WindowCallee::Function(f) => self.function(number, f.kind, run)?,
                WindowCallee::Aggregate(_) => self.aggregate(number, run)?,
            };
            self.results.push(result);
        }
        self.input.load(position(self.at), plan, run.frame)?;
        for (call, result) in plan.calls.iter().zip(self.results.drain(..)) {
            run.frame[call.slot] = result;
        }
        self.phase = Phase::Given;
        Ok(Step::Row)
    }

    /// Forgets the rows that no row from the current one on looks at.
    fn forget(&mut self, cx: &mut EvalCx) {
        let Some(back) = self.reach.back else { return };
        let mut mark = self.at - back;
        if self.reach.reads_frame {
            if self.reach.reads_tail {
                mark = mark.min(self.pointers.tail - 1);
            }
            if self.reach.reads_head {
                mark = mark.min(self.pointers.head);
            }
            for state in &self.calls {
                if let CallState::Aggregate(running) = state {
                    mark = mark.min(running.next_row());
                }
            }
        }
        self.input.rows.forget_before(position(mark.max(0)), cx);
    }

    /// The value of an argument for the row at `at`.
    fn argument(
        &mut self,
        call: usize,
        arg: usize,
        at: i64,
        run: &mut Run<'_>,
    ) -> Result<Datum, SqlError> {
        if let Some(place) = self.arg_places[call][arg] {
            return Ok(match at == self.at {
                true => self.current[place].clone(),
                false => self.input.rows.row(position(at))?[place].clone(),
            });
        }
        self.input.load(position(at), run.plan, run.frame)?;
        run.plan.calls[call].args[arg].eval(run.frame, run.cx)
    }

    /// Whether the partition has a row there.
    fn has(&mut self, at: i64, run: &mut Run<'_>) -> Result<bool, Stop> {
        if at < 0 {
            return Ok(false);
        }
        self.input.has(position(at), run.plan, run.frame, run.cx)
    }
}

impl Node for WindowAggNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        // A window over rows that it keeps reads no page.
        if cx.spend() {
            return Ok(Step::Yield);
        }
        let spec = Arc::clone(&self.spec);
        self.input.unload();
        let mut run = Run {
            plan: plan_of(&spec),
            frame,
            cx,
        };
        match self.advance(&mut run) {
            Ok(step) => Ok(step),
            Err(Stop::Yield) => Ok(Step::Yield),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.phase = Phase::Outside;
        self.offsets = None;
        self.results.clear();
        for (state, call) in self.calls.iter_mut().zip(&plan_of(&self.spec).calls) {
            state.give_back(cx);
            *state = CallState::new(call);
        }
        self.input.rewind(cx)
    }
}

impl CallState {
    fn new(call: &WindowSpec) -> CallState {
        match call.callee {
            WindowCallee::Aggregate(aggregate) => {
                CallState::Aggregate(Box::new(Running::new(aggregate, &call.arg_types)))
            }
            WindowCallee::Function(f) if f.kind == WindowKind::Ntile => {
                CallState::Ntile(Ntile::default())
            }
            WindowCallee::Function(_) => CallState::Nothing,
        }
    }

    fn give_back(&mut self, cx: &mut EvalCx) {
        if let CallState::Aggregate(running) = self {
            running.give_back(cx);
        }
    }
}

impl Reach {
    fn of(plan: &WindowNode, params: &[Datum]) -> Reach {
        let excludes = plan.frame.exclude != Exclusion::NoOthers;
        let moves = !matches!(plan.frame.start, WindowBound::UnboundedPreceding);
        let searched = plan.frame.mode != FrameMode::Rows && plan.frame.end.offset().is_some();
        let mut reach = Reach {
            back: Some(0),
            reads_frame: false,
            reads_head: excludes || moves,
            reads_tail: searched,
        };
        for call in &plan.calls {
            let WindowCallee::Function(f) = call.callee else {
                reach.reads_frame = true;
                continue;
            };
            match f.kind {
                WindowKind::FirstValue | WindowKind::NthValue => {
                    (reach.reads_frame, reach.reads_head) = (true, true);
                }
                WindowKind::LastValue => (reach.reads_frame, reach.reads_tail) = (true, true),
                WindowKind::Lag | WindowKind::Lead => {
                    let back = functions::looks_back(call, f.kind, params);
                    reach.back = reach.back.zip(back).map(|(a, b)| a.max(b));
                }
                _ => {}
            }
        }
        reach
    }
}

/// A position that is not negative.
fn position(at: i64) -> usize {
    usize::try_from(at).expect("positions count from 0")
}

/// Whether two rows stand alike in the window's order; without one all do.
fn peers(plan: &WindowNode, places: &[usize], a: &[Datum], b: &[Datum]) -> bool {
    plan.order.iter().zip(places).all(|(key, at)| {
        let (a, b) = (&a[*at], &b[*at]);
        match (a.is_null(), b.is_null()) {
            (false, false) => (key.compare)(a, b).is_eq(),
            (a, b) => a == b,
        }
    })
}
