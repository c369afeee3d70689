//! How far the log reaches on this instance, in whole records, and which timeline owns the last of them.
//!
//! On a standby what is flushed may be ahead of what is replayed and may end inside a record. Where it matters, when
//! nothing is received any more, the records behind the replayed ones are read (not applied) to the last whole one:
//! exactly what a promotion would replay.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::{Lsn, TimelineId};
use crate::recovery::RecoveryState;
use crate::storage::ControlData;
use crate::wal::timeline::History;
use crate::wal::{FileSource, Wal, WalReader};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub lsn: Lsn,
    pub timeline: TimelineId,
}

/// Finds the end of a standby's log, reading each record once.
pub struct LogEnd {
    wal: Arc<Wal>,
    state: Arc<RecoveryState>,
    /// Whole records end here, by an earlier look at the log of this timeline.
    seen: Mutex<Option<(TimelineId, Lsn)>>,
}

impl LogEnd {
    pub fn new(wal: Arc<Wal>, state: Arc<RecoveryState>) -> LogEnd {
        LogEnd {
            wal,
            state,
            seen: Mutex::new(None),
        }
    }

    /// While nothing is received: to the last whole record in `pg_wal`. `None` before the history is known.
    pub fn at_rest(&self) -> Option<End> {
        let history = self.wal.history()?;
        let mut seen = self.seen.lock();
        let replayed = self.state.replay_lsn();
        let from = match *seen {
            Some((of, end)) if of == history.timeline() => replayed.max(end),
            // Of what was seen of another timeline nothing need be in this one.
            _ => replayed,
        };
        let mut reader = self.reader(history.clone(), from);
        while reader.next().is_ok() {}
        let end = reader.position();
        *seen = Some((history.timeline(), end));
        Some(owned(&history, end))
    }

    /// Whether a whole record begins at `at`, where replay is.
    pub fn has_next(&self, at: Lsn) -> bool {
        let Some(history) = self.wal.history() else {
            return false;
        };
        self.reader(history, at).next().is_ok()
    }

    fn reader(&self, history: History, from: Lsn) -> WalReader<FileSource> {
        let source = FileSource::new(Arc::clone(self.wal.segments()), history.clone());
        let mut reader = WalReader::new(source, self.wal.segment_size(), from)
            .with_system_id(self.wal.system_id());
        reader.set_history(history);
        reader
    }

    /// While the log still grows: what is flushed, whole or not, and the owner of what is replayed.
    pub fn growing(&self) -> Option<End> {
        *self.seen.lock() = None;
        let history = self.wal.history()?;
        let replayed = self.state.replay_lsn();
        Some(End {
            lsn: replayed.max(self.state.received_lsn()),
            timeline: owned(&history, replayed).timeline,
        })
    }
}

fn owned(history: &History, end: Lsn) -> End {
    End {
        lsn: end,
        timeline: history.owner(Lsn::new(end.raw().saturating_sub(1))),
    }
}

/// The newest timeline that `pg_control` knows: a primary's own, and so its term.
pub fn own_timeline(control: &ControlData) -> TimelineId {
    let checkpoint = control.checkpoint_copy.timeline;
    if control.min_recovery_point.is_valid() {
        checkpoint.max(control.min_recovery_timeline)
    } else {
        checkpoint
    }
}

/// Where `timeline` leaves its parent: the parent, and the first byte that is not the parent's.
pub fn fork_of(history: &History, timeline: TimelineId) -> Option<(TimelineId, Lsn)> {
    let parent = history
        .ancestors()
        .iter()
        .rfind(|a| a.timeline < timeline)?;
    Some((parent.timeline, parent.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Xid;
    use crate::txn::testing::World;
    use crate::wal::{Record, RmgrId};

    #[test]
    fn only_a_whole_record_is_something_to_replay() {
        let world = World::new();
        let wal = &world.store.wal;
        let log_end = LogEnd::new(Arc::clone(wal), Arc::default());
        let put = |bytes: usize| {
            let main = vec![7_u8; bytes];
            let inserted = wal.insert(&Record {
                rmgr: RmgrId::CLUSTER,
                info: 0x10,
                xid: Xid::INVALID,
                main: &main,
                blocks: &[],
            });
            wal.flush_blocking(inserted.end);
            inserted.end
        };
        let first = put(10);
        assert!(!log_end.has_next(first));
        let second = put(30_000);
        assert!(log_end.has_next(first));
        assert!(!log_end.has_next(second));
        // As it is where the stream has ended inside it.
        let path = wal
            .segments()
            .path(TimelineId::FIRST, second.segment(wal.segment_size()));
        let path = world.dir.path().join(path);
        let file = std::fs::File::options().write(true).open(path);
        let cut = second.raw() % u64::from(wal.segment_size()) - 100;
        let file = file.expect("the segment is there");
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 100], cut).expect("written");
        assert!(!log_end.has_next(first));
    }

    #[test]
    fn the_last_record_before_a_fork_is_the_parents() {
        let history = History::root(TimelineId::new(1)).fork(
            TimelineId::new(4),
            Lsn::new(0x300_0100),
            "no recovery target specified",
        );
        let timeline = |end| owned(&history, Lsn::new(end)).timeline.raw();
        assert_eq!(timeline(0x300_0100), 1);
        assert_eq!(timeline(0x300_0128), 4);
        let fork = fork_of(&history, TimelineId::new(4));
        assert_eq!(fork, Some((TimelineId::new(1), Lsn::new(0x300_0100))));
        assert_eq!(fork_of(&history, TimelineId::new(1)), None);
    }
}
