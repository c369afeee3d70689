//! What is computed of a row's place in its partition, and of single rows of it (`windowfuncs.c`). Manual, 9.22.

use super::input::Stop;
use super::{CallState, Run, WindowAggNode};
use crate::sql::bound::{Exclusion, Expr};
use crate::sql::error::{SqlError, state};
use crate::sql::plan::tree::WindowSpec;
use crate::types::datum::Datum;
use crate::types::windows::WindowKind;

/// Which bucket the current row is in; `bucket` 0: nothing was counted yet.
#[derive(Default)]
pub struct Ntile {
    bucket: i32,
    /// Rows of this bucket so far, and how many it gets.
    rows: i64,
    size: i64,
    /// So many buckets get one row more.
    longer: i64,
}

impl Ntile {
    fn step(&mut self, buckets: i32, total: i64) -> i32 {
        if self.bucket == 0 {
            let buckets = i64::from(buckets);
            self.bucket = 1;
            self.size = total / buckets;
            if self.size == 0 {
                self.size = 1;
            } else {
                self.longer = total % buckets;
                self.size += i64::from(self.longer != 0);
            }
        }
        self.rows += 1;
        if self.size < self.rows {
            if self.longer != 0 && i64::from(self.bucket) == self.longer {
                self.longer = 0;
                self.size -= 1;
            }
            self.bucket += 1;
            self.rows = 1;
        }
        self.bucket
    }
}

/// How many rows behind the current one lag and lead look; `None`: nobody knows.
pub fn looks_back(call: &WindowSpec, kind: WindowKind, params: &[Datum]) -> Option<i64> {
    let known = match call.args.get(1).map(|a| a.source()) {
        None => &Datum::Int4(1),
        Some(Expr::Const(value, _)) => value,
        Some(Expr::Param(number, _)) => params.get(*number)?,
        Some(_) => return None,
    };
    let offset = match known {
        Datum::Int4(n) => i64::from(*n),
        Datum::Null => 0,
        _ => return None,
    };
    let ahead = if kind == WindowKind::Lead {
        offset
    } else {
        -offset
    };
    Some((-ahead).max(0))
}

impl WindowAggNode {
    pub(super) fn function(
        &mut self,
        number: usize,
        kind: WindowKind,
        run: &mut Run<'_>,
    ) -> Result<Datum, Stop> {
        let group_head = self.pointers.group_head;
        Ok(match kind {
            WindowKind::RowNumber => Datum::Int8(self.at + 1),
            WindowKind::Rank => Datum::Int8(group_head + 1),
            WindowKind::DenseRank => Datum::Int8(self.pointers.group + 1),
            WindowKind::PercentRank => {
                let total = self.total(run)?;
                Datum::Float8(match total > 1 {
                    true => group_head as f64 / (total - 1) as f64,
                    false => 0.0,
                })
            }
            WindowKind::CumeDist => {
                let total = self.total(run)?;
                self.update_group_tail(run)?;
                Datum::Float8(self.pointers.group_tail as f64 / total as f64)
            }
            WindowKind::Ntile => self.ntile(number, run)?,
            WindowKind::Lag => self.shifted(number, false, run)?,
            WindowKind::Lead => self.shifted(number, true, run)?,
            WindowKind::FirstValue => self.in_frame(number, Seek::Head(0), run)?,
            WindowKind::LastValue => self.in_frame(number, Seek::Tail, run)?,
            WindowKind::NthValue => self.nth_value(number, run)?,
        })
    }

    fn total(&mut self, run: &mut Run<'_>) -> Result<i64, Stop> {
        let count = self.input.count(run.plan, run.frame, run.cx)?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn ntile(&mut self, number: usize, run: &mut Run<'_>) -> Result<Datum, Stop> {
        let total = self.total(run)?;
        let begun = matches!(&self.calls[number], CallState::Ntile(n) if n.bucket != 0);
        let mut buckets = 0;
        if !begun {
            match self.argument(number, 0, self.at, run)? {
                Datum::Int4(n) if n > 0 => buckets = n,
                Datum::Int4(_) => {
                    return Err(Stop::Failed(SqlError::new(
                        state::INVALID_ARGUMENT_FOR_NTILE,
                        "argument of ntile must be greater than zero",
                    )));
                }
                _ => return Ok(Datum::Null),
            }
        }
        let CallState::Ntile(ntile) = &mut self.calls[number] else {
            unreachable!("made for ntile")
        };
        Ok(Datum::Int4(ntile.step(buckets, total)))
    }

    /// lag and lead.
    fn shifted(&mut self, number: usize, ahead: bool, run: &mut Run<'_>) -> Result<Datum, Stop> {
        let args = run.plan.calls[number].args.len();
        let mut offset = 1;
        if args > 1 {
            match self.argument(number, 1, self.at, run)? {
                Datum::Int4(n) => offset = i64::from(n),
                _ => return Ok(Datum::Null),
            }
        }
        let wanted = if ahead {
            self.at + offset
        } else {
            self.at - offset
        };
        if self.has(wanted, run)? {
            return Ok(self.argument(number, 0, wanted, run)?);
        }
        match args > 2 {
            true => Ok(self.argument(number, 2, self.at, run)?),
            false => Ok(Datum::Null),
        }
    }

    fn nth_value(&mut self, number: usize, run: &mut Run<'_>) -> Result<Datum, Stop> {
        match self.argument(number, 1, self.at, run)? {
            Datum::Int4(n) if n > 0 => self.in_frame(number, Seek::Head(i64::from(n) - 1), run),
            Datum::Int4(_) => Err(Stop::Failed(SqlError::new(
                state::INVALID_ARGUMENT_FOR_NTH_VALUE,
                "argument of nth_value must be greater than zero",
            ))),
            _ => Ok(Datum::Null),
        }
    }

    /// The first argument for a row of the frame (`WinGetFuncArgInFrame`); NULL if there is none.
    fn in_frame(&mut self, number: usize, seek: Seek, run: &mut Run<'_>) -> Result<Datum, Stop> {
        let found = match seek {
            Seek::Head(behind) => Some(self.seek_head(behind, run)?),
            Seek::Tail => self.seek_tail(run)?,
        };
        let Some(at) = found else {
            return Ok(Datum::Null);
        };
        if !self.has(at, run)? || !self.is_in_frame(at, run)?.is_inside() {
            return Ok(Datum::Null);
        }
        Ok(self.argument(number, 0, at, run)?)
    }

    fn seek_head(&mut self, behind: i64, run: &mut Run<'_>) -> Result<i64, Stop> {
        self.update_head(run)?;
        let head = self.pointers.head;
        let at = head + behind;
        let exclude = run.plan.frame.exclude;
        match exclude {
            Exclusion::NoOthers => return Ok(at),
            Exclusion::CurrentRow => {
                let passes = at >= self.at && self.at >= head;
                return Ok(at + i64::from(passes));
            }
            Exclusion::Group | Exclusion::Ties => self.update_group_tail(run)?,
        }
        let (group_head, group_tail) = (self.pointers.group_head, self.pointers.group_tail);
        if at < group_head || group_tail <= head {
            return Ok(at);
        }
        let overlap = group_head.max(head);
        Ok(match exclude {
            Exclusion::Ties if at == overlap => self.at,
            Exclusion::Ties => at + group_tail - overlap - 1,
            _ => at + group_tail - overlap,
        })
    }

    fn seek_tail(&mut self, run: &mut Run<'_>) -> Result<Option<i64>, Stop> {
        self.update_tail(run)?;
        let tail = self.pointers.tail;
        let mut at = tail - 1;
        let exclude = run.plan.frame.exclude;
        match exclude {
            Exclusion::NoOthers => return Ok(Some(at)),
            Exclusion::CurrentRow => {
                if at <= self.at && self.at < tail {
                    at -= 1;
                }
            }
            Exclusion::Group | Exclusion::Ties => {
                self.update_group_tail(run)?;
                let (group_head, group_tail) = (self.pointers.group_head, self.pointers.group_tail);
                if at < group_tail && group_head < tail {
                    let overlap = group_tail.min(tail);
                    at = match exclude {
                        Exclusion::Ties if at == overlap - 1 => self.at,
                        Exclusion::Ties => at - (overlap - 1 - group_head),
                        _ => at - (overlap - group_head),
                    };
                }
            }
        }
        self.update_head(run)?;
        Ok((at >= self.pointers.head).then_some(at))
    }
}

/// Which row of the frame.
enum Seek {
    /// So many behind its first one.
    Head(i64),
    /// The last one.
    Tail,
}
