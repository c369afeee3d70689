//! Making a checkpoint, and its counterpart on a standby.
//!
//! Order: the redo point is set (from here on first changes log whole pages), everything older is made durable
//! (participants' state, then pages), the record is written and flushed, `pg_control` points to it, and only
//! then is old log let go. A crash anywhere in between leaves the previous checkpoint in force. A restartpoint
//! does the same for a checkpoint record that has been replayed, without writing one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, Xid};
use crate::storage::{ClusterState, Flow, Progress};
use crate::wal::xlog_records::{self, CheckPoint};
use crate::wal::{Record, RmgrId};

use super::checkpointer::{CheckpointSettings, Shared};
use super::error::RecoveryError;
use super::retention;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointKind {
    /// Writes are spread over the interval.
    Spread,
    /// As fast as the disk takes it.
    Immediate,
    /// The last one: nothing is inserted any more.
    Shutdown,
}

/// A checkpoint that is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointDone {
    /// Start of its record.
    pub lsn: Lsn,
    /// End of its record.
    pub end: Lsn,
    pub checkpoint: CheckPoint,
}

/// Figures for the log line.
struct Measured {
    begun: Instant,
    written: usize,
    write: Duration,
}

impl Shared {
    /// `None` where nothing has been logged since the last checkpoint and nobody insists.
    pub(super) fn create_checkpoint(
        &self,
        kind: CheckpointKind,
        force: bool,
        cause: &str,
    ) -> Result<Option<CheckpointDone>, RecoveryError> {
        let wal = &self.store.wal;
        let shutdown = kind == CheckpointKind::Shutdown;
        let idle = wal.end_lsn() == self.state.checkpoint_end();
        if idle && !force && !shutdown {
            return Ok(None);
        }
        let settings = (self.settings)();
        if settings.log {
            tracing::info!("checkpoint starting: {cause}");
        }
        if shutdown {
            self.store
                .control
                .update(|data| data.state = ClusterState::ShuttingDown)?;
        }
        let mut measured = Measured {
            begun: Instant::now(),
            written: 0,
            write: Duration::ZERO,
        };
        let oldest_active_xid = self.participant.oldest_running_xid();
        let mut next_xid = Xid::INVALID;
        let (redo, full_page_writes) =
            wal.begin_checkpoint(|_| next_xid = self.participant.next_xid());
        let next_oid = self.participant.next_oid();
        // Cuts logged below the redo point are made when this returns.
        drop(self.store.cuts.write());
        let before = if shutdown { Lsn::MAX } else { redo };
        self.write_everything(before, redo, kind, &settings, &mut measured)?;
        let timeline = wal.timeline();
        let (oldest_xid, oldest_xid_database) = self.participant.oldest_known_xid();
        let checkpoint = CheckPoint {
            redo,
            timeline,
            previous_timeline: timeline,
            full_page_writes,
            next_xid,
            next_oid,
            oldest_xid,
            oldest_xid_database,
            time_s: xlog_records::now_s(),
            oldest_active_xid: if shutdown { 0 } else { oldest_active_xid },
        };
        let info = if shutdown {
            xlog_records::CHECKPOINT_SHUTDOWN
        } else {
            xlog_records::CHECKPOINT_ONLINE
        };
        let main = checkpoint.encode();
        let record = Record {
            rmgr: RmgrId::XLOG,
            info,
            xid: Xid::INVALID,
            main: &main,
            blocks: &[],
        };
        let inserted = wal.insert(&record);
        wal.flush_blocking(inserted.end);
        if shutdown && inserted.start != redo {
            wal.fail("concurrent write-ahead log activity while database system is shutting down");
        }
        self.store.control.update(|data| {
            data.checkpoint = inserted.start;
            data.checkpoint_copy = checkpoint;
            data.min_recovery_point = Lsn::INVALID;
            data.backup_start = Lsn::INVALID;
            data.backup_end = Lsn::INVALID;
            data.backup_end_required = false;
            data.state = if shutdown {
                ClusterState::ShutDown
            } else {
                ClusterState::InProduction
            };
        })?;
        self.state.set_checkpoint_end(inserted.end);
        self.participant.after_checkpoint(&checkpoint);
        let recycled = self.let_go(redo, inserted.end, &settings)?;
        if settings.log {
            self.log_complete("checkpoint", &measured, recycled);
        }
        Ok(Some(CheckpointDone {
            lsn: inserted.start,
            end: inserted.end,
            checkpoint,
        }))
    }

    /// The newest replayed checkpoint becomes the place where a restart begins. `None` where there is no newer one.
    pub(super) fn create_restartpoint(
        &self,
        kind: CheckpointKind,
        cause: &str,
    ) -> Result<Option<CheckpointDone>, RecoveryError> {
        let Some((lsn, end, checkpoint)) = self.state.last_checkpoint() else {
            return Ok(None);
        };
        let control = self.store.control.get();
        if checkpoint.redo <= control.checkpoint_copy.redo {
            return Ok(None);
        }
        let settings = (self.settings)();
        if settings.log {
            tracing::info!("restartpoint starting: {cause}");
        }
        let mut measured = Measured {
            begun: Instant::now(),
            written: 0,
            write: Duration::ZERO,
        };
        // Whoever is promoted from here on must image what a restart from this redo point could find torn.
        self.store.wal.set_redo_point_to(checkpoint.redo);
        self.write_everything(
            checkpoint.redo,
            checkpoint.redo,
            kind,
            &settings,
            &mut measured,
        )?;
        let mut still_in_recovery = true;
        self.store.control.update(|data| {
            // A promotion that came meanwhile has its own.
            still_in_recovery = data.state == ClusterState::InArchiveRecovery;
            if still_in_recovery {
                data.checkpoint = lsn;
                data.checkpoint_copy = checkpoint;
                if data.min_recovery_point < end {
                    data.min_recovery_point = end;
                    // Its own: replay may be on a newer one by now.
                    data.min_recovery_timeline = checkpoint.timeline;
                }
            }
        })?;
        if !still_in_recovery {
            return Ok(None);
        }
        self.participant.after_checkpoint(&checkpoint);
        let replayed = self.state.replay_lsn().max(self.state.received_lsn());
        let recycled = self.let_go(checkpoint.redo, replayed, &settings)?;
        if settings.log {
            self.log_complete("restartpoint", &measured, recycled);
            tracing::info!("recovery restart point at {}", checkpoint.redo);
        }
        Ok(Some(CheckpointDone {
            lsn,
            end,
            checkpoint,
        }))
    }

    fn write_everything(
        &self,
        before: Lsn,
        redo: Lsn,
        kind: CheckpointKind,
        settings: &CheckpointSettings,
        measured: &mut Measured,
    ) -> Result<(), RecoveryError> {
        let state = |source| RecoveryError::State {
            what: "write the commit log",
            source,
        };
        self.participant.flush(redo).map_err(state)?;
        let begun = Instant::now();
        let pace = Pace {
            begun,
            redo,
            settings,
            kind,
        };
        let mut written = 0;
        self.store
            .pool
            .write_dirty(before, &mut |progress: Progress| {
                written = progress.written;
                pace.hold(self, progress);
                Flow::Continue
            })?;
        measured.written = written;
        measured.write = begun.elapsed();
        Ok(())
    }

    /// Recycles or removes what no start, slot or setting needs.
    fn let_go(
        &self,
        redo: Lsn,
        end: Lsn,
        settings: &CheckpointSettings,
    ) -> Result<crate::wal::Recycled, RecoveryError> {
        let size = self.store.wal.segment_size();
        let asked = self.retention.keep_from(end);
        let keep = retention::keep_from(redo, end, settings.wal_keep_bytes, asked, size);
        self.retention.goes_below(keep.start(size));
        let last_redo = Lsn::new(self.last_redo.swap(redo.raw(), Ordering::SeqCst));
        let mut distance = self.distance.lock();
        if last_redo.is_valid() {
            distance.update(redo.saturating_sub(last_redo));
        }
        let to = distance.recycle_to(
            redo,
            settings.min_wal_bytes,
            settings.max_wal_bytes,
            settings.completion_target,
            size,
        );
        Ok(self.store.wal.recycle_before(keep, to)?)
    }

    fn log_complete(&self, what: &str, measured: &Measured, recycled: crate::wal::Recycled) {
        let total = measured.begun.elapsed();
        let frames = self.store.pool.size().max(1);
        tracing::info!(
            "{what} complete: wrote {} buffers ({:.1}%); 0 WAL file(s) added, {} removed, {} recycled; write={:.3} s, total={:.3} s; estimate={:.0} kB",
            measured.written,
            measured.written as f64 * 100.0 / frames as f64,
            recycled.removed,
            recycled.recycled,
            measured.write.as_secs_f64(),
            total.as_secs_f64(),
            self.distance.lock().estimate() / 1024.0,
        );
    }
}

/// Spreads writes: they must be neither ahead of the clock nor of the log.
struct Pace<'a> {
    begun: Instant,
    redo: Lsn,
    settings: &'a CheckpointSettings,
    kind: CheckpointKind,
}

impl Pace<'_> {
    fn hold(&self, shared: &Shared, progress: Progress) {
        if self.kind != CheckpointKind::Spread || progress.total == 0 {
            return;
        }
        let done = progress.written as f64 / progress.total as f64;
        // One nap at most: few pages do not take as long as many (PostgreSQL's `CheckpointWriteDelay`).
        if done < 1.0 && self.is_ahead(shared, done) && !shared.is_hurried() {
            shared.nap(Duration::from_millis(100));
        }
    }

    fn is_ahead(&self, shared: &Shared, done: f64) -> bool {
        let logged = shared.log_end().saturating_sub(self.redo);
        is_ahead(done, logged, self.begun.elapsed(), self.settings)
    }
}

/// Is a checkpoint that has done this part of its work further than clock and log ask for?
fn is_ahead(done: f64, logged: u64, elapsed: Duration, settings: &CheckpointSettings) -> bool {
    let done = done * settings.completion_target;
    let by_log = logged as f64 / settings.trigger_bytes() as f64;
    let by_clock = elapsed.as_secs_f64() / settings.timeout.as_secs_f64();
    done > by_log && done > by_clock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_keep_up_with_the_clock_and_the_log() {
        let settings = CheckpointSettings {
            timeout: Duration::from_secs(100),
            completion_target: 0.5,
            max_wal_bytes: 1500,
            min_wal_bytes: 0,
            wal_keep_bytes: 0,
            warning: Duration::ZERO,
            log: false,
        };
        let ahead =
            |done, logged, seconds| is_ahead(done, logged, Duration::from_secs(seconds), &settings);
        assert!(ahead(0.5, 0, 20), "half done by 25 s is soon enough");
        assert!(!ahead(0.5, 0, 30), "late by the clock");
        assert!(
            !ahead(0.5, 300, 20),
            "late by the log: 1000 bytes begin the next"
        );
        assert!(ahead(1.0, 490, 49));
    }
}
