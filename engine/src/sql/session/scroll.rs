//! Where a cursor stands, and how it moves: FETCH and MOVE in all directions, and what COMMIT does to a cursor WITH
//! HOLD. The moves are `PortalRunFetch`'s.
//!
//! A cursor that only ever goes forward keeps nothing. One that goes back is run anew with its own snapshot, and keeps
//! its rows from there on; one declared SCROLL keeps them from the start. At COMMIT a cursor WITH HOLD runs to its end.

use std::sync::Arc;

use super::lifecycle::Session;
use super::output::Output;
use super::prepared::{Portal, PortalState};
use super::query::Ready;
use super::services::Services;
use super::sink::{ClientSink, gone};
use super::transaction::in_failed_block;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::kept_rows::KeptRows;
use crate::sql::exec::{Execution, RowSink, RunCx, SinkState, TempSpace};
use crate::sql::front::ast::FetchDirection;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// What a cursor is, beyond a portal.
pub struct Cursor {
    pub may_go_back: bool,
    pub hold: bool,
    /// Its transaction has committed: nothing runs any more, the rows are kept.
    pub held: bool,
    pub function: Arc<FunctionCx>,
    /// How to run it from the beginning; not once it is held.
    pub origin: Option<Origin>,
    pub place: Place,
    pub kept: Option<Kept>,
}

/// What a cursor was begun with.
pub struct Origin {
    pub ready: Ready,
    pub run: RunCx,
}

/// How many rows it has come through; the last of them is the current one unless it stands behind the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    at: usize,
    behind: bool,
}

pub struct Kept {
    rows: KeptRows,
    /// The number of the first row kept.
    from: usize,
}

impl Kept {
    fn end(&self) -> usize {
        self.from + self.rows.count()
    }
}

/// How many rows a move is to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Rows(usize),
    All,
}

impl Count {
    fn of(count: i64) -> Count {
        match count {
            i64::MAX => Count::All,
            n => Count::Rows(usize::try_from(n).unwrap_or(0)),
        }
    }
    fn least(self, there: usize) -> usize {
        match self {
            Count::All => there,
            Count::Rows(n) => n.min(there),
        }
    }
    fn is_more_than(self, passed: usize) -> bool {
        match self {
            Count::All => true,
            Count::Rows(n) => passed < n,
        }
    }
}

pub fn forward_only() -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "cursor can only scan forward",
    )
    .hint("Declare it with SCROLL option to enable backward scan.")
}

/// Rows into the cursor's store.
pub(super) struct Keeper<'a>(pub(super) &'a mut KeptRows);

impl RowSink for Keeper<'_> {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        self.0.push(row)?;
        Ok(SinkState::More)
    }
}

/// Rows that are passed over.
pub(super) struct Skipped;

impl RowSink for Skipped {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, _: &[Datum]) -> Result<SinkState, SqlError> {
        Ok(SinkState::More)
    }
}

impl<S: Services> Session<S> {
    /// One FETCH or MOVE; gives how many rows the tag counts.
    pub(super) async fn move_cursor<O: Output>(
        &mut self,
        portal: &mut Portal,
        direction: FetchDirection,
        silent: bool,
        out: &mut O,
    ) -> Result<usize, SqlError> {
        let mut show = (!silent).then_some(out);
        let (forward, count) = match direction {
            FetchDirection::Forward(n) if n < 0 => (false, n.saturating_neg()),
            FetchDirection::Forward(n) => (true, n),
            FetchDirection::Backward(n) if n < 0 => (true, n.saturating_neg()),
            FetchDirection::Backward(n) => (false, n),
            FetchDirection::Absolute(n) => return self.absolute(portal, n, show).await,
            FetchDirection::Relative(0) => (true, 0),
            FetchDirection::Relative(n) => {
                let forward = n > 0;
                let far = Count::of(n.saturating_abs() - 1);
                self.go(portal, forward, far, None::<&mut O>).await?;
                return self.go(portal, forward, Count::Rows(1), show).await;
            }
        };
        if count != 0 {
            return self.go(portal, forward, Count::of(count), show).await;
        }
        // The current row again, if the cursor is on one.
        let place = portal.place();
        let on_row = place.at > 0 && !place.behind;
        match (show.take(), on_row) {
            (None, on_row) => Ok(usize::from(on_row)),
            (Some(_), false) => Ok(0),
            (show, true) => {
                self.go(portal, false, Count::Rows(1), None::<&mut O>)
                    .await?;
                self.go(portal, true, Count::Rows(1), show).await
            }
        }
    }

    async fn absolute<O: Output>(
        &mut self,
        portal: &mut Portal,
        n: i64,
        show: Option<&mut O>,
    ) -> Result<usize, SqlError> {
        if n == 0 {
            self.rewind_cursor(portal)?;
            return Ok(0);
        }
        let one = Count::Rows(1);
        if n < 0 {
            self.go(portal, true, Count::All, None::<&mut O>).await?;
            let far = Count::of(n.saturating_neg() - 1);
            self.go(portal, false, far, None::<&mut O>).await?;
            return self.go(portal, false, one, show).await;
        }
        let wanted = usize::try_from(n).unwrap_or(usize::MAX);
        let at = portal.place().at;
        if wanted - 1 <= at / 2 {
            self.rewind_cursor(portal)?;
            self.go(portal, true, Count::Rows(wanted - 1), None::<&mut O>)
                .await?;
        } else {
            let at = at + usize::from(portal.place().behind);
            if wanted <= at {
                let far = Count::Rows(at + 1 - wanted);
                self.go(portal, false, far, None::<&mut O>).await?;
            } else if wanted > at + 1 {
                let far = Count::Rows(wanted - at - 1);
                self.go(portal, true, far, None::<&mut O>).await?;
            }
        }
        self.go(portal, true, one, show).await
    }

    fn rewind_cursor(&mut self, portal: &mut Portal) -> Result<(), SqlError> {
        if portal.place() == Place::default() {
            return Ok(());
        }
        self.turn(portal)?;
        portal.stands(Place::default());
        Ok(())
    }

    async fn go<O: Output>(
        &mut self,
        portal: &mut Portal,
        forward: bool,
        count: Count,
        show: Option<&mut O>,
    ) -> Result<usize, SqlError> {
        if forward {
            self.go_forward(portal, count, show).await
        } else {
            self.go_back(portal, count, show).await
        }
    }

    async fn go_forward<O: Output>(
        &mut self,
        portal: &mut Portal,
        count: Count,
        show: Option<&mut O>,
    ) -> Result<usize, SqlError> {
        let mut place = portal.place();
        if place.behind || count == Count::Rows(0) {
            return Ok(0);
        }
        let passed = if portal.keeps() {
            let upto = match count {
                Count::All => usize::MAX,
                Count::Rows(n) => place.at.saturating_add(n),
            };
            self.keep_until(portal, upto).await?;
            let passed = count.least(portal.kept_end().saturating_sub(place.at));
            self.show(portal, &mut (place.at..place.at + passed), show)
                .await?;
            passed
        } else {
            self.stream(portal, count, show).await?
        };
        place.at += passed;
        place.behind = count.is_more_than(passed);
        portal.stands(place);
        Ok(passed)
    }

    async fn go_back<O: Output>(
        &mut self,
        portal: &mut Portal,
        count: Count,
        show: Option<&mut O>,
    ) -> Result<usize, SqlError> {
        if !portal.may_go_back() {
            return Err(forward_only());
        }
        let mut place = portal.place();
        if place.at == 0 || count == Count::Rows(0) {
            return Ok(0);
        }
        self.turn(portal)?;
        let from = place.at - usize::from(!place.behind);
        self.keep_until(portal, from).await?;
        let passed = count.least(from);
        self.show(portal, &mut (from - passed..from).rev(), show)
            .await?;
        if passed > 0 && place.behind {
            place = Place {
                at: place.at + 1,
                behind: false,
            };
        }
        place.at = if count.is_more_than(passed) {
            0
        } else {
            place.at - passed
        };
        portal.stands(place);
        Ok(passed)
    }

    /// Makes a cursor that has kept nothing begin anew and keep its rows; it stands where it stood.
    fn turn(&mut self, portal: &mut Portal) -> Result<(), SqlError> {
        if !portal.may_go_back() {
            return Err(forward_only());
        }
        if portal.keeps() {
            return Ok(());
        }
        let Some(cursor) = &mut portal.cursor else {
            return Err(forward_only());
        };
        let Some(origin) = &cursor.origin else {
            return Err(SqlError::internal("a cursor has lost its beginning"));
        };
        let run = RunCx {
            snapshot: Arc::clone(&origin.run.snapshot),
            isolation: origin.run.isolation,
            function: Arc::clone(&origin.run.function),
        };
        let execution = self.start_at(&origin.ready, &portal.parameters, false, run);
        cursor.kept = Some(self.store(&portal.columns, origin.ready.settings.work_mem, 0));
        let function = Arc::clone(&cursor.function);
        portal.state = PortalState::Suspended(Box::new(execution), function);
        Ok(())
    }

    pub(super) fn store(&self, columns: &[OutputColumn], work: usize, from: usize) -> Kept {
        let disk = Arc::clone(&self.services.store().disk);
        let temp = TempSpace::new(disk, self.facts.backend.pid);
        Kept {
            rows: KeptRows::new(columns.len(), work, temp),
            from,
        }
    }

    /// Runs until rows up to this number are kept, or there are no more.
    async fn keep_until(&mut self, portal: &mut Portal, upto: usize) -> Result<(), SqlError> {
        let PortalState::Suspended(execution, _) = &mut portal.state else {
            return Ok(());
        };
        let kept = portal.cursor.as_mut().and_then(|c| c.kept.as_mut());
        let Some(kept) = kept.filter(|k| k.end() < upto) else {
            return Ok(());
        };
        let limit = (upto != usize::MAX).then(|| (upto - kept.end()) as u64);
        let complete = self
            .run_into(execution, &mut Keeper(&mut kept.rows), limit)
            .await?
            .0;
        if complete {
            portal.state = PortalState::Done;
        }
        Ok(())
    }

    /// Makes a change whole before the first of its rows goes out: they are kept for a client that takes them in parts.
    pub(super) async fn keep_change(
        &mut self,
        portal: &mut Portal,
        execution: &mut Execution,
        function: Arc<FunctionCx>,
        work: usize,
    ) -> Result<(), SqlError> {
        let mut kept = self.store(&portal.columns, work, 0);
        self.run_now(execution, &mut Keeper(&mut kept.rows), None)
            .await?;
        portal.cursor = Some(Cursor {
            may_go_back: false,
            hold: false,
            held: false,
            function,
            origin: None,
            place: Place::default(),
            kept: Some(kept),
        });
        Ok(())
    }

    /// Whether it came to its end, and how many rows there were.
    async fn run_into(
        &mut self,
        execution: &mut Execution,
        sink: &mut dyn RowSink,
        limit: Option<u64>,
    ) -> Result<(bool, usize), SqlError> {
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let _own = self.facts.own_catalog(self.services.txns(), &r.txn);
        let progress = execution.run(&mut r.txn, sink, limit).await?;
        let rows = usize::try_from(progress.rows).unwrap_or(usize::MAX);
        Ok((progress.complete, rows))
    }

    /// Rows straight from the execution to the client, or to nobody.
    async fn stream<O: Output>(
        &mut self,
        portal: &mut Portal,
        count: Count,
        show: Option<&mut O>,
    ) -> Result<usize, SqlError> {
        let PortalState::Suspended(execution, function) = &mut portal.state else {
            return Ok(0);
        };
        let limit = match count {
            Count::All => None,
            Count::Rows(n) => Some(n as u64),
        };
        let (complete, rows) = match show {
            None => self.run_into(execution, &mut Skipped, limit).await?,
            Some(out) => {
                let types = Arc::clone(&portal.types);
                let function = Arc::clone(function);
                let progress = self
                    .run(
                        execution,
                        types,
                        &portal.formats,
                        &function,
                        false,
                        limit,
                        out,
                    )
                    .await?;
                let rows = usize::try_from(progress.rows).unwrap_or(usize::MAX);
                (progress.complete, rows)
            }
        };
        if complete {
            portal.state = PortalState::Done;
        }
        Ok(rows)
    }

    /// Sends rows that are kept.
    async fn show<O: Output>(
        &mut self,
        portal: &mut Portal,
        numbers: &mut (dyn Iterator<Item = usize> + Send),
        show: Option<&mut O>,
    ) -> Result<(), SqlError> {
        let Some(out) = show else {
            return Ok(());
        };
        let types = Arc::clone(&portal.types);
        let Some(cursor) = &mut portal.cursor else {
            return Ok(());
        };
        let function = Arc::clone(&cursor.function);
        let Some(kept) = &mut cursor.kept else {
            return Ok(());
        };
        for number in numbers {
            let row = kept.rows.row(number - kept.from)?;
            let mut sink =
                ClientSink::new(out, Arc::clone(&types), &portal.formats, &function, false);
            if sink.row(row)? == SinkState::Full {
                self.facts.backend.interrupts.check()?;
                out.flush().await.map_err(|_| gone())?;
            }
        }
        Ok(())
    }

    /// Before a commit: cursors WITH HOLD run to their end, and keep what is left of their rows.
    pub(super) async fn hold_cursors(&mut self) -> Result<(), SqlError> {
        let waiting = |p: &Portal| p.cursor.as_ref().is_some_and(|c| c.hold && !c.held);
        let names: Vec<Box<str>> = self
            .portals
            .iter()
            .filter(|(_, p)| waiting(p))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(mut portal) = self.portals.remove(&name) else {
                continue;
            };
            if matches!(portal.state, PortalState::Failed) {
                continue;
            }
            self.hold(&mut portal).await?;
            self.portals.insert(name, portal);
        }
        Ok(())
    }

    async fn hold(&mut self, portal: &mut Portal) -> Result<(), SqlError> {
        if portal.may_go_back() {
            self.turn(portal)?;
        } else if let Some(cursor) = &mut portal.cursor
            && let Some(origin) = &cursor.origin
        {
            let work = origin.ready.settings.work_mem;
            cursor.kept = Some(self.store(&portal.columns, work, cursor.place.at));
        }
        self.keep_until(portal, usize::MAX).await?;
        portal.level = 0;
        portal.reads = None;
        if let Some(cursor) = &mut portal.cursor {
            cursor.held = true;
            cursor.origin = None;
        }
        Ok(())
    }
}

impl Portal {
    /// Whether FETCH and MOVE can move it. A query of the protocol that has given some rows goes on forward.
    pub(super) fn moves(&mut self) -> bool {
        if self.cursor.is_some() {
            return true;
        }
        let PortalState::Suspended(_, function) = &self.state else {
            return false;
        };
        self.cursor = Some(Cursor {
            may_go_back: false,
            hold: false,
            held: false,
            function: Arc::clone(function),
            origin: None,
            place: Place::default(),
            kept: None,
        });
        true
    }

    fn place(&self) -> Place {
        self.cursor.as_ref().map_or(Place::default(), |c| c.place)
    }
    fn stands(&mut self, place: Place) {
        if let Some(cursor) = &mut self.cursor {
            cursor.place = place;
        }
    }
    fn may_go_back(&self) -> bool {
        self.cursor.as_ref().is_some_and(|c| c.may_go_back)
    }
    fn keeps(&self) -> bool {
        self.cursor.as_ref().is_some_and(|c| c.kept.is_some())
    }
    fn kept_end(&self) -> usize {
        let kept = self.cursor.as_ref().and_then(|c| c.kept.as_ref());
        kept.map_or(0, Kept::end)
    }
    /// Behind its last row.
    pub(super) fn is_behind(&self) -> bool {
        self.place().behind
    }
    /// It has more to give, or does not know yet that it has not.
    pub(super) fn is_suspended(&self) -> bool {
        match &self.cursor {
            Some(cursor) => !cursor.place.behind,
            None => matches!(
                self.state,
                PortalState::Suspended(..) | PortalState::Rows(_)
            ),
        }
    }
    /// It outlives the transaction that made it.
    pub(super) fn is_held(&self) -> bool {
        self.cursor.as_ref().is_some_and(|c| c.held)
    }
}
