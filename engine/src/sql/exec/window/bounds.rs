//! Where the current row's frame begins and ends, and its group of peers. Both ends only move on within a partition.

use super::input::Stop;
use super::{Run, WindowAggNode, peers, position};
use crate::sql::bound::{Exclusion, FrameMode};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::eval::Scalar;
use crate::sql::plan::tree::WindowBound;
use crate::types::datum::Datum;
use crate::types::in_range::{InRange, Side};

#[derive(Default)]
pub struct Pointers {
    /// The frame's first row, and the row behind its last one. They may be the same, or the wrong way round.
    pub head: i64,
    pub tail: i64,
    head_known: bool,
    tail_known: bool,
    /// The numbers of the groups of peers that `head` and `tail` stand in.
    head_group: i64,
    tail_group: i64,
    /// The group of the current row: its number, its first row, and the row behind its last one.
    pub group: i64,
    pub group_head: i64,
    pub group_tail: i64,
    group_tail_known: bool,
}

impl Pointers {
    pub fn step_on(&mut self, at: i64, is_peer: bool) {
        self.head_known = false;
        self.tail_known = false;
        if !is_peer {
            self.group += 1;
            self.group_head = at;
            self.group_tail_known = false;
        }
    }
}

/// The offsets of the frame's ends, as they are for the whole run.
pub struct Offsets {
    start: Datum,
    end: Datum,
}

impl Offsets {
    pub fn compute(run: &mut Run<'_>) -> Result<Offsets, SqlError> {
        let mode = run.plan.frame.mode;
        Ok(Offsets {
            start: offset(run.plan.frame.start.offset(), "starting", mode, run)?,
            end: offset(run.plan.frame.end.offset(), "ending", mode, run)?,
        })
    }
}

fn offset(
    value: Option<&Scalar>,
    which: &str,
    mode: FrameMode,
    run: &mut Run<'_>,
) -> Result<Datum, SqlError> {
    let Some(value) = value else {
        return Ok(Datum::Null);
    };
    let value = value.eval(run.frame, run.cx)?;
    if value.is_null() {
        return Err(SqlError::new(
            state::NULL_NOT_ALLOWED,
            format!("frame {which} offset must not be null"),
        ));
    }
    // The functions of RANGE look at theirs themselves.
    if mode != FrameMode::Range && rows(&value) < 0 {
        return Err(SqlError::new(
            state::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
            format!("frame {which} offset must not be negative"),
        ));
    }
    Ok(value)
}

fn rows(offset: &Datum) -> i64 {
    match offset {
        Datum::Int8(n) => *n,
        _ => 0,
    }
}

/// Whether a row is in the current row's frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Inside,
    /// It is not, but rows behind it may be.
    Outside,
    /// No row from it on is.
    Behind,
}

impl Place {
    pub fn is_inside(self) -> bool {
        self == Place::Inside
    }
}

/// An end of a frame that is moved on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Head,
    Tail,
}

impl WindowAggNode {
    fn offset_of(&self, end: End) -> Datum {
        let offsets = self.offsets.as_ref().expect("computed before any row");
        match end {
            End::Head => offsets.start.clone(),
            End::Tail => offsets.end.clone(),
        }
    }

    fn is_peer_of_current(&mut self, at: i64, run: &Run<'_>) -> Result<bool, SqlError> {
        let row = self.input.rows.row(position(at))?;
        Ok(peers(run.plan, &self.order_places, &self.current, row))
    }

    /// How many rows the partition has, once all of it has come.
    fn behind_last(&mut self, run: &mut Run<'_>) -> Result<i64, Stop> {
        let count = self.input.count(run.plan, run.frame, run.cx)?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// `at` if the partition has a row before it, else the position behind its last row.
    fn within_partition(&mut self, at: i64, run: &mut Run<'_>) -> Result<i64, Stop> {
        if at <= 0 {
            return Ok(0);
        }
        match self.has(at - 1, run)? {
            true => Ok(at),
            false => self.behind_last(run),
        }
    }

    pub(super) fn update_head(&mut self, run: &mut Run<'_>) -> Result<(), Stop> {
        if self.pointers.head_known {
            return Ok(());
        }
        let plan = run.plan;
        match (plan.frame.mode, &plan.frame.start) {
            (_, WindowBound::UnboundedPreceding | WindowBound::UnboundedFollowing) => {}
            (FrameMode::Rows, WindowBound::CurrentRow) => self.pointers.head = self.at,
            (FrameMode::Rows, WindowBound::Preceding(..)) => {
                let offset = rows(&self.offset_of(End::Head));
                self.pointers.head = (self.at - offset.min(self.at)).max(0);
            }
            (FrameMode::Rows, WindowBound::Following(..)) => {
                let offset = rows(&self.offset_of(End::Head));
                let at = self.at.saturating_add(offset);
                self.pointers.head = self.within_partition(at, run)?;
            }
            (_, WindowBound::CurrentRow) => self.pointers.head = self.pointers.group_head,
            (FrameMode::Groups, WindowBound::Preceding(..)) => {
                let offset = rows(&self.offset_of(End::Head));
                self.head_to_group(self.pointers.group.saturating_sub(offset), run)?;
            }
            (FrameMode::Groups, WindowBound::Following(..)) => {
                let offset = rows(&self.offset_of(End::Head));
                self.head_to_group(self.pointers.group.saturating_add(offset), run)?;
            }
            (FrameMode::Range, WindowBound::Preceding(_, in_range)) => {
                self.head_in_range(*in_range, true, run)?;
            }
            (FrameMode::Range, WindowBound::Following(_, in_range)) => {
                self.head_in_range(*in_range, false, run)?;
            }
        }
        self.pointers.head_known = true;
        Ok(())
    }

    pub(super) fn update_tail(&mut self, run: &mut Run<'_>) -> Result<(), Stop> {
        if self.pointers.tail_known {
            return Ok(());
        }
        let plan = run.plan;
        match (plan.frame.mode, &plan.frame.end) {
            (_, WindowBound::UnboundedPreceding | WindowBound::UnboundedFollowing) => {
                self.pointers.tail = self.behind_last(run)?;
            }
            (FrameMode::Rows, WindowBound::CurrentRow) => self.pointers.tail = self.at + 1,
            (FrameMode::Rows, WindowBound::Preceding(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                self.pointers.tail = self.at.saturating_sub(offset).saturating_add(1).max(0);
            }
            (FrameMode::Rows, WindowBound::Following(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                let at = self.at.saturating_add(offset).saturating_add(1);
                self.pointers.tail = self.within_partition(at, run)?;
            }
            (_, WindowBound::CurrentRow) => {
                self.update_group_tail(run)?;
                self.pointers.tail = self.pointers.group_tail;
            }
            (FrameMode::Groups, WindowBound::Preceding(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                self.tail_behind_group(self.pointers.group.saturating_sub(offset), run)?;
            }
            (FrameMode::Groups, WindowBound::Following(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                self.tail_behind_group(self.pointers.group.saturating_add(offset), run)?;
            }
            (FrameMode::Range, WindowBound::Preceding(_, in_range)) => {
                self.tail_in_range(*in_range, true, run)?;
            }
            (FrameMode::Range, WindowBound::Following(_, in_range)) => {
                self.tail_in_range(*in_range, false, run)?;
            }
        }
        self.pointers.tail_known = true;
        Ok(())
    }

    /// Behind the current row's last peer.
    pub(super) fn update_group_tail(&mut self, run: &mut Run<'_>) -> Result<(), Stop> {
        if self.pointers.group_tail_known {
            return Ok(());
        }
        if run.plan.order.is_empty() {
            self.pointers.group_tail = self.behind_last(run)?;
        } else {
            let mut at = self.pointers.group_tail.max(self.at + 1);
            while self.has(at, run)? && self.is_peer_of_current(at, run)? {
                at += 1;
                self.pointers.group_tail = at;
            }
            self.pointers.group_tail = at;
        }
        self.pointers.group_tail_known = true;
        Ok(())
    }

    /// Whether the row at `at` and the one behind it are peers; both are there.
    fn is_peer_of_next(&mut self, at: i64, run: &Run<'_>) -> Result<bool, SqlError> {
        let row = self.input.rows.row(position(at))?.to_vec();
        let next = self.input.rows.row(position(at + 1))?;
        Ok(peers(run.plan, &self.order_places, &row, next))
    }

    fn head_to_group(&mut self, group: i64, run: &mut Run<'_>) -> Result<(), Stop> {
        while self.pointers.head_group < group && self.has(self.pointers.head, run)? {
            let at = self.pointers.head;
            let leaves = !self.has(at + 1, run)? || !self.is_peer_of_next(at, run)?;
            self.pointers.head += 1;
            self.pointers.head_group += i64::from(leaves);
        }
        Ok(())
    }

    fn tail_behind_group(&mut self, group: i64, run: &mut Run<'_>) -> Result<(), Stop> {
        while self.pointers.tail_group <= group && self.has(self.pointers.tail, run)? {
            let at = self.pointers.tail;
            let leaves = !self.has(at + 1, run)? || !self.is_peer_of_next(at, run)?;
            self.pointers.tail += 1;
            self.pointers.tail_group += i64::from(leaves);
        }
        Ok(())
    }

    fn head_in_range(
        &mut self,
        in_range: Option<InRange>,
        preceding: bool,
        run: &mut Run<'_>,
    ) -> Result<(), Stop> {
        while self.has(self.pointers.head, run)? {
            if self.ends_range(End::Head, in_range, preceding, run)? {
                break;
            }
            self.pointers.head += 1;
        }
        Ok(())
    }

    fn tail_in_range(
        &mut self,
        in_range: Option<InRange>,
        preceding: bool,
        run: &mut Run<'_>,
    ) -> Result<(), Stop> {
        while self.has(self.pointers.tail, run)? {
            if self.ends_range(End::Tail, in_range, preceding, run)? {
                break;
            }
            self.pointers.tail += 1;
        }
        Ok(())
    }

    /// Whether the row that an end stands at is where it belongs: the first one near enough for the head, the first one
    /// that is too far for the tail. NULLs are near one another and far from everything else.
    fn ends_range(
        &mut self,
        end: End,
        in_range: Option<InRange>,
        preceding: bool,
        run: &mut Run<'_>,
    ) -> Result<bool, Stop> {
        let (Some(key), Some(place)) = (run.plan.order.first(), self.order_places.first().copied())
        else {
            return Err(SqlError::internal("a range without an order").into());
        };
        let at = match end {
            End::Head => self.pointers.head,
            End::Tail => self.pointers.tail,
        };
        let value = self.input.rows.row(position(at))?[place].clone();
        let base = &self.current[place];
        let (is_null, base_is_null) = (value.is_null(), base.is_null());
        if is_null || base_is_null {
            return Ok(match (end, key.nulls_first) {
                (End::Head, true) => !is_null || base_is_null,
                (End::Head, false) => is_null || !base_is_null,
                (End::Tail, true) => !is_null,
                (End::Tail, false) => !base_is_null,
            });
        }
        let Some(in_range) = in_range else {
            return Err(SqlError::internal("a range without a comparison").into());
        };
        let side = Side {
            subtract: preceding != key.descending,
            less: (end == End::Tail) != key.descending,
        };
        let offset = self.offset_of(end);
        let near = in_range(&value, base, &offset, side, &run.cx.function)?;
        Ok(near == (end == End::Head))
    }

    /// `row_is_in_frame`; the row is there.
    pub(super) fn is_in_frame(&mut self, at: i64, run: &mut Run<'_>) -> Result<Place, Stop> {
        self.update_head(run)?;
        if at < self.pointers.head {
            return Ok(Place::Outside);
        }
        let plan = run.plan;
        // No more rows are read than this needs.
        let is_behind = match (plan.frame.mode, &plan.frame.end) {
            (_, WindowBound::UnboundedFollowing | WindowBound::UnboundedPreceding) => false,
            (FrameMode::Rows, WindowBound::CurrentRow) => at > self.at,
            (_, WindowBound::CurrentRow) => at > self.at && !self.is_peer_of_current(at, run)?,
            (FrameMode::Rows, WindowBound::Preceding(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                at > self.at.saturating_sub(offset)
            }
            (FrameMode::Rows, WindowBound::Following(..)) => {
                let offset = rows(&self.offset_of(End::Tail));
                at > self.at.saturating_add(offset)
            }
            _ => {
                self.update_tail(run)?;
                at >= self.pointers.tail
            }
        };
        if is_behind {
            return Ok(Place::Behind);
        }
        let excluded = match plan.frame.exclude {
            Exclusion::NoOthers => false,
            Exclusion::CurrentRow => at == self.at,
            Exclusion::Ties if at == self.at => false,
            Exclusion::Ties | Exclusion::Group => {
                at >= self.pointers.group_head && {
                    self.update_group_tail(run)?;
                    at < self.pointers.group_tail
                }
            }
        };
        Ok(match excluded {
            true => Place::Outside,
            false => Place::Inside,
        })
    }
}
