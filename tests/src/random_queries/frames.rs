//! Frames of windows: all modes, bounds and exclusions.

use super::maker::Maker;
use super::tree::Ty;
use super::window::Frame;

const OPEN_START: &str = "UNBOUNDED PRECEDING";
const OPEN_END: &str = "UNBOUNDED FOLLOWING";
const CURRENT: &str = "CURRENT ROW";

const COUNTS: &[&str] = &["0", "1", "1", "2", "3", "1 + 1", "(SELECT 1)"];

/// What rows may be apart in RANGE, by the type that they are ordered by.
fn distances(ty: Ty) -> &'static [&'static str] {
    match ty {
        Ty::Int2 | Ty::Int4 | Ty::Int8 => &["0", "1", "2", "5", "1 + 2"],
        Ty::Numeric => &["0.5", "1", "2.25", "10"],
        Ty::Float => &["0.25", "1", "2.5"],
        Ty::Date | Ty::Stamp => &["'1 day'", "interval '1 month'", "'36 hours'", "'60 days'"],
        Ty::Bool | Ty::Text => &[],
    }
}

pub(super) fn is_measured(ty: Ty) -> bool {
    !distances(ty).is_empty()
}

impl Maker {
    /// Of any mode; the order of the window tells the rows apart, or leaves those that are alike.
    pub(super) fn frame(&mut self) -> Frame {
        match self.below(5) {
            0 => self.frame_of("RANGE", &[]),
            1 => self.frame_of("GROUPS", COUNTS),
            _ => self.frame_of("ROWS", COUNTS),
        }
    }

    /// Rows that the order finds alike are in it together.
    pub(super) fn frame_of_peers(&mut self) -> Frame {
        if self.chance(0.3) {
            self.frame_of("RANGE", &[])
        } else {
            self.frame_of("GROUPS", COUNTS)
        }
    }

    /// By how far values are apart; the window has one order.
    pub(super) fn measured_frame(&mut self, ty: Ty) -> Frame {
        self.frame_of("RANGE", distances(ty))
    }

    fn frame_of(&mut self, mode: &'static str, apart: &[&str]) -> Frame {
        // From UNBOUNDED PRECEDING to UNBOUNDED FOLLOWING; no frame ends before the place where it begins.
        let (start, end) = if apart.is_empty() {
            *self.pick(&[(0, 2), (0, 4), (2, 2), (2, 4)])
        } else {
            let start = self.below(4);
            (start, start.max(1 + self.below(4)))
        };
        let exclude = if self.chance(0.3) {
            *self.pick(&[
                " EXCLUDE CURRENT ROW",
                " EXCLUDE GROUP",
                " EXCLUDE TIES",
                " EXCLUDE NO OTHERS",
            ])
        } else {
            ""
        };
        let shortened = end == 2 && start < 3 && self.chance(0.5);
        Frame {
            mode,
            start: self.edge(start, apart),
            end: (!shortened).then(|| self.edge(end, apart)),
            exclude,
        }
    }

    fn edge(&mut self, place: u32, apart: &[&str]) -> String {
        match place {
            0 => OPEN_START.to_owned(),
            1 => format!("{} PRECEDING", self.pick(apart)),
            2 => CURRENT.to_owned(),
            3 => format!("{} FOLLOWING", self.pick(apart)),
            _ => OPEN_END.to_owned(),
        }
    }
}
