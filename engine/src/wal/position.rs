//! Positions counted in *usable* bytes: everything but page headers.
//!
//! A record's length in usable bytes does not depend on where it stands, so reserving a position is one
//! addition. PostgreSQL's `XLogBytePosToRecPtr` and friends (`xlog.c`).

use crate::ids::{Lsn, PAGE_SIZE};

use super::page::{LONG_HEADER, SHORT_HEADER};

/// Usable bytes of all pages but a segment's first.
const PER_PAGE: u64 = (PAGE_SIZE - SHORT_HEADER) as u64;
const IN_FIRST_PAGE: u64 = (PAGE_SIZE - LONG_HEADER) as u64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    segment_size: u32,
    per_segment: u64,
}

impl Geometry {
    pub fn new(segment_size: u32) -> Geometry {
        let pages = u64::from(segment_size) / PAGE_SIZE as u64;
        let per_segment = pages * PER_PAGE - (LONG_HEADER - SHORT_HEADER) as u64;
        Geometry {
            segment_size,
            per_segment,
        }
    }
    pub fn segment_size(self) -> u32 {
        self.segment_size
    }

    /// Where a record that begins at this position stands: behind the page header if it is first on its page.
    pub fn start_lsn(self, position: u64) -> Lsn {
        self.lsn(position, true)
    }
    /// Where a record that ends at this position ends: before the next page's header.
    pub fn end_lsn(self, position: u64) -> Lsn {
        self.lsn(position, false)
    }

    fn lsn(self, position: u64, start: bool) -> Lsn {
        let (segments, rest) = (position / self.per_segment, position % self.per_segment);
        let header = |rest: u64, header: usize| if rest > 0 || start { header as u64 } else { 0 };
        let offset = if rest < IN_FIRST_PAGE {
            rest + header(rest, LONG_HEADER)
        } else {
            let rest = rest - IN_FIRST_PAGE;
            let (pages, rest) = (rest / PER_PAGE, rest % PER_PAGE);
            (pages + 1) * PAGE_SIZE as u64 + rest + header(rest, SHORT_HEADER)
        };
        Lsn::new(segments * u64::from(self.segment_size) + offset)
    }

    /// The reverse of both; a page's start and the end of its header are the same position.
    pub fn position(self, lsn: Lsn) -> u64 {
        let segment = lsn.segment(self.segment_size).raw();
        let page = u64::from(lsn.segment_offset(self.segment_size)) / PAGE_SIZE as u64;
        let offset = lsn.page_offset() as u64;
        let base = segment * self.per_segment;
        if page == 0 {
            base + offset.saturating_sub(LONG_HEADER as u64)
        } else {
            base + IN_FIRST_PAGE
                + (page - 1) * PER_PAGE
                + offset.saturating_sub(SHORT_HEADER as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn page_edges_are_told_apart() {
        let g = Geometry::new(16 << 20);
        let first = g.position(Lsn::new(0x100_0000));
        assert_eq!(g.start_lsn(first), Lsn::new(0x100_0028));
        assert_eq!(g.end_lsn(first), Lsn::new(0x100_0000));
        let second_page = g.position(Lsn::new(0x100_2000));
        assert_eq!(g.start_lsn(second_page), Lsn::new(0x100_2018));
        assert_eq!(g.end_lsn(second_page), Lsn::new(0x100_2000));
    }

    proptest! {
        #[test]
        fn positions_round_trip(position in 0_u64..1 << 40, shift in 17_u32..26) {
            let g = Geometry::new(1 << shift);
            prop_assert_eq!(g.position(g.start_lsn(position)), position);
            prop_assert_eq!(g.position(g.end_lsn(position)), position);
            prop_assert!(g.start_lsn(position) < g.start_lsn(position + 1));
        }
    }
}
