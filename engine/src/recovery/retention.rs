//! Which segments a checkpoint may take away.

use crate::ids::{Lsn, SegmentNumber};

/// Asked at each checkpoint; implemented over slots and running exclusive backups.
pub trait Retention: Send + Sync + 'static {
    /// WAL from here on must stay, whatever checkpoints say. `end`: how far the log goes.
    fn keep_from(&self, end: Lsn) -> Option<Lsn>;

    /// Asked next: everything below `from` is about to go. Whoever still wanted it was asking for too much.
    fn goes_below(&self, from: Lsn);
}

/// The first segment to keep: the redo point's, `wal_keep_size` behind the end, and what others ask for.
pub(super) fn keep_from(
    redo: Lsn,
    end: Lsn,
    wal_keep_bytes: u64,
    asked: Option<Lsn>,
    segment_size: u32,
) -> SegmentNumber {
    let mut keep = redo.segment(segment_size);
    let kept_segments = wal_keep_bytes / u64::from(segment_size);
    if kept_segments > 0 {
        let current = end.segment(segment_size).raw();
        keep = keep.min(SegmentNumber::new(
            current.saturating_sub(kept_segments).max(1),
        ));
    }
    asked.map_or(keep, |lsn| keep.min(lsn.segment(segment_size)))
}

/// How much log a checkpoint cycle makes, smoothed: it rises at once and falls slowly.
#[derive(Default)]
pub(super) struct Distance {
    estimate: f64,
}

impl Distance {
    pub fn update(&mut self, bytes: u64) {
        let bytes = bytes as f64;
        self.estimate = if self.estimate < bytes {
            bytes
        } else {
            0.90 * self.estimate + 0.10 * bytes
        };
    }
    pub fn estimate(&self) -> f64 {
        self.estimate
    }

    /// Up to which segment old ones are given new names: enough for the coming cycle, within `min_wal_size` and
    /// `max_wal_size` (PostgreSQL's `XLOGfileslop`).
    pub fn recycle_to(
        &self,
        redo: Lsn,
        min_bytes: u64,
        max_bytes: u64,
        completion_target: f64,
        segment_size: u32,
    ) -> SegmentNumber {
        let size = u64::from(segment_size);
        let last = redo.segment(segment_size).raw();
        let least = last + (min_bytes / size).saturating_sub(1);
        let most = last + (max_bytes / size).saturating_sub(1);
        let wanted = (1.0 + completion_target) * self.estimate * 1.10;
        let wanted = (redo.raw() as f64 + wanted) / size as f64;
        SegmentNumber::new((wanted.ceil() as u64).clamp(least, most.max(least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 16 << 20;

    #[test]
    fn the_lowest_wish_wins() {
        let (redo, end) = (Lsn::new(0x1000_0000), Lsn::new(0x1800_0000));
        let keep = |bytes, asked| keep_from(redo, end, bytes, asked, SIZE).raw();
        assert_eq!(keep(0, None), 0x10);
        assert_eq!(keep(32 << 20, None), 0x10);
        assert_eq!(keep(320 << 20, None), 0x18 - 20);
        assert_eq!(keep(1 << 40, None), 1);
        assert_eq!(keep(0, Some(Lsn::new(0x300_0000))), 3);
    }

    #[test]
    fn recycling_stays_within_the_limits() {
        let mut distance = Distance::default();
        let redo = Lsn::new(0x1000_0000);
        let to = |d: &Distance| d.recycle_to(redo, 80 << 20, 1 << 30, 0.9, SIZE).raw();
        assert_eq!(to(&distance), 0x10 + 4);
        distance.update(10 << 30);
        assert_eq!(to(&distance), 0x10 + 63);
        distance.update(0);
        assert!(distance.estimate() > 8e9);
    }
}
