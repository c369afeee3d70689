//! OVER and WINDOW: windows and their frames.

use super::Result;
use super::cursor::Parser;
use crate::sql::bound::{Exclusion, FrameMode};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Frame, FrameBound, Ident, Over, Window};
use crate::sql::front::keywords::Kw;

fn frame_error(message: &str, at: u32) -> SqlError {
    SqlError::new(state::WINDOWING_ERROR, message).at(at)
}

impl Parser<'_> {
    /// What follows OVER.
    pub(super) fn over(&mut self) -> Result<Over> {
        if self.is_char(b'(') {
            return Ok(Over::Window(Box::new(self.window()?)));
        }
        self.col_id().map(Over::Name)
    }

    pub(super) fn window_clause(&mut self) -> Result<Vec<(Ident, Window)>> {
        if !self.eat(Kw::Window) {
            return Ok(Vec::new());
        }
        self.list(|p| {
            let name = p.col_id()?;
            p.expect(Kw::As)?;
            Ok((name, p.window()?))
        })
    }

    /// gram.y's window_specification.
    fn window(&mut self) -> Result<Window> {
        let at = self.at();
        self.expect_char(b'(')?;
        // These words begin a clause here, though they may be names.
        let begins_clause = self.is_any(&[Kw::Partition, Kw::Range, Kw::Rows, Kw::Groups]);
        let base = match begins_clause {
            true => None,
            false => self.try_col_id()?,
        };
        let partition_by = match self.is(Kw::Partition) {
            true => {
                self.expect_all(&[Kw::Partition, Kw::By])?;
                self.list(Parser::expr)?
            }
            false => Vec::new(),
        };
        let order_by = match self.is(Kw::Order) {
            true => self.order_by()?,
            false => Vec::new(),
        };
        let frame = self.frame()?;
        self.expect_char(b')')?;
        Ok(Window {
            base,
            partition_by,
            order_by,
            frame,
            at,
        })
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let mode = if self.eat(Kw::Range) {
            FrameMode::Range
        } else if self.eat(Kw::Rows) {
            FrameMode::Rows
        } else if self.eat(Kw::Groups) {
            FrameMode::Groups
        } else {
            return Ok(None);
        };
        let (start, end) = match self.eat(Kw::Between) {
            true => self.both_bounds()?,
            false => (self.only_bound()?, FrameBound::CurrentRow),
        };
        let exclude = self.exclusion()?;
        Ok(Some(Frame {
            mode,
            start,
            end,
            exclude,
        }))
    }

    fn only_bound(&mut self) -> Result<FrameBound> {
        let at = self.at();
        let start = self.frame_bound()?;
        match start {
            FrameBound::UnboundedFollowing => {
                Err(frame_error("frame start cannot be UNBOUNDED FOLLOWING", at))
            }
            FrameBound::Following(_) => Err(frame_error(
                "frame starting from following row cannot end with current row",
                at,
            )),
            _ => Ok(start),
        }
    }

    fn both_bounds(&mut self) -> Result<(FrameBound, FrameBound)> {
        let start_at = self.at();
        let start = self.frame_bound()?;
        self.expect(Kw::And)?;
        let end_at = self.at();
        let end = self.frame_bound()?;
        let refused = match (&start, &end) {
            (FrameBound::UnboundedFollowing, _) => {
                Some(("frame start cannot be UNBOUNDED FOLLOWING", start_at))
            }
            (_, FrameBound::UnboundedPreceding) => {
                Some(("frame end cannot be UNBOUNDED PRECEDING", end_at))
            }
            (FrameBound::CurrentRow, FrameBound::Preceding(_)) => Some((
                "frame starting from current row cannot have preceding rows",
                end_at,
            )),
            (FrameBound::Following(_), FrameBound::Preceding(_) | FrameBound::CurrentRow) => {
                Some((
                    "frame starting from following row cannot have preceding rows",
                    end_at,
                ))
            }
            _ => None,
        };
        match refused {
            Some((message, at)) => Err(frame_error(message, at)),
            None => Ok((start, end)),
        }
    }

    fn frame_bound(&mut self) -> Result<FrameBound> {
        if self.is(Kw::Unbounded) && self.is_at(1, Kw::Preceding) {
            self.bump();
            self.bump();
            return Ok(FrameBound::UnboundedPreceding);
        }
        if self.is(Kw::Unbounded) && self.is_at(1, Kw::Following) {
            self.bump();
            self.bump();
            return Ok(FrameBound::UnboundedFollowing);
        }
        if self.is(Kw::Current) && self.is_at(1, Kw::Row) {
            self.bump();
            self.bump();
            return Ok(FrameBound::CurrentRow);
        }
        let offset = self.expr()?;
        if self.eat(Kw::Preceding) {
            return Ok(FrameBound::Preceding(offset));
        }
        self.expect(Kw::Following)?;
        Ok(FrameBound::Following(offset))
    }

    fn exclusion(&mut self) -> Result<Exclusion> {
        if !self.eat(Kw::Exclude) {
            return Ok(Exclusion::NoOthers);
        }
        if self.eat_all(&[Kw::Current, Kw::Row]) {
            return Ok(Exclusion::CurrentRow);
        }
        if self.eat(Kw::Group) {
            return Ok(Exclusion::Group);
        }
        if self.eat(Kw::Ties) {
            return Ok(Exclusion::Ties);
        }
        self.expect_all(&[Kw::No, Kw::Others])?;
        Ok(Exclusion::NoOthers)
    }
}
