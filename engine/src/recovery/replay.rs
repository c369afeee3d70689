//! The replay loop: record after record, from wherever they come, until the end.
//!
//! One thread applies; nothing else changes pages meanwhile. Crash recovery reads files to the end of the log.
//! A standby waits for more, follows timelines, becomes consistent, and ends when it is promoted: then everything
//! that has been received is replayed first. Invariant: what `replayed` says has been applied completely.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, TimelineId};
use crate::storage::Store;
use crate::wal::timeline::History;
use crate::wal::xlog_records::{
    self, CheckPoint, EndOfRecovery, OverwriteContrecord, ParameterChange,
};
use crate::wal::{AbortedRecord, Decoded, ReadError, RmgrId, WalReader};

use super::error::{RecoveryError, RedoError};
use super::missing::MissingPages;
use super::participant::Participant;
use super::redo::{self, RedoCx, RedoTable};
use super::source::StandbySource;
use super::startup::{Promotion, Trigger};
use super::state::{Phase, RecoveryState};

/// How long a trigger file may go unseen.
const TRIGGER_INTERVAL: Duration = Duration::from_millis(50);
/// Readers and feedback hear of progress at least this often while replay is behind, in bytes of log.
const PUBLISH_BYTES: u64 = 128 * 1024;

/// Applies records and keeps track of what follows from them.
pub(super) struct Applier {
    pub store: Arc<Store>,
    pub redo: RedoTable,
    pub participant: Arc<dyn Participant>,
    pub state: Arc<RecoveryState>,
    pub missing: MissingPages,
    /// Recovery from a backup, archive or stream: consistency is a question.
    pub archive: bool,
    pub hot_standby: bool,
    pub history: History,
    pub consistent: bool,
    /// Highest LSN of a page met so far: a log that ends before it is not whole.
    pub newest_page: Lsn,
    published: Lsn,
    /// The timeline being replayed and where it ends.
    timeline: (TimelineId, Lsn),
}

/// Where and how replay ended.
pub(super) struct End {
    pub end: Lsn,
    pub last_record: Lsn,
    pub aborted: Option<AbortedRecord>,
    pub promotion: Option<Promotion>,
}

pub(super) struct ApplierParts {
    pub store: Arc<Store>,
    pub redo: RedoTable,
    pub participant: Arc<dyn Participant>,
    pub state: Arc<RecoveryState>,
    pub archive: bool,
    pub hot_standby: bool,
    pub history: History,
}

impl Applier {
    pub fn new(parts: ApplierParts) -> Applier {
        let ApplierParts {
            store,
            redo,
            participant,
            state,
            archive,
            hot_standby,
            history,
        } = parts;
        Applier {
            store,
            redo,
            participant,
            state,
            missing: MissingPages::default(),
            archive,
            hot_standby,
            history,
            consistent: false,
            newest_page: Lsn::INVALID,
            published: Lsn::INVALID,
            timeline: (TimelineId::FIRST, Lsn::INVALID),
        }
    }

    /// Replay begins here.
    pub fn start_at(&mut self, redo: Lsn) {
        let owner = self.history.owner(redo);
        self.participant.follows(&self.history);
        self.store.wal.set_recovery_history(self.history.clone());
        self.state.set_recovering();
        self.state.set_replayed(redo, owner);
        self.publish();
    }

    pub fn apply(&mut self, record: &Decoded<'_>) -> Result<(), RecoveryError> {
        if record.start >= self.timeline.1 {
            let owner = self.history.owner(record.start);
            self.timeline = (owner, self.history.end_of(owner).unwrap_or(Lsn::MAX));
        }
        self.state.set_applying(record.end);
        if record.xid_low != 0 {
            self.participant.saw_xid(record.xid_low);
        }
        let cx = RedoCx {
            store: &self.store,
            missing: &self.missing,
            standby: self.hot_standby,
        };
        let applied = self
            .redo
            .apply(&cx, record)
            .map_err(|source| match source {
                RedoError::Stopped => RecoveryError::Interrupted,
                source => RecoveryError::Redo {
                    lsn: record.start,
                    rmgr: record.rmgr,
                    info: record.info,
                    source,
                },
            })?;
        self.newest_page = self.newest_page.max(applied);
        if record.rmgr == RmgrId::XLOG {
            self.apply_xlog(record)?;
        }
        self.state.set_replayed(record.end, self.timeline.0);
        if self.archive && !self.consistent {
            self.check_consistency(record.end)?;
        }
        if record.end.saturating_sub(self.published) >= PUBLISH_BYTES {
            self.publish();
        }
        Ok(())
    }

    /// Tells everyone how far replay is.
    pub fn publish(&mut self) {
        let replayed = self.state.replay_lsn();
        if replayed == self.published || !replayed.is_valid() {
            return;
        }
        self.published = replayed;
        self.store.wal.recovery_advance(self.timeline.0, replayed);
        self.participant.replayed(replayed);
        self.state.publish_replayed();
    }

    fn apply_xlog(&mut self, record: &Decoded<'_>) -> Result<(), RecoveryError> {
        let damaged = |reason: &str| RecoveryError::Damaged {
            lsn: record.start,
            reason: reason.to_owned(),
        };
        match record.info {
            xlog_records::CHECKPOINT_SHUTDOWN | xlog_records::CHECKPOINT_ONLINE => {
                let checkpoint =
                    CheckPoint::decode(record.main).ok_or_else(|| damaged("short checkpoint"))?;
                let shutdown = record.info == xlog_records::CHECKPOINT_SHUTDOWN;
                self.participant.saw_checkpoint(&checkpoint, shutdown);
                // A restart there would forget what is still missing now.
                if self.missing.is_empty() {
                    self.state
                        .set_checkpoint(record.start, record.end, checkpoint);
                }
            }
            xlog_records::NEXT_OID => {
                let next = xlog_records::decode_next_oid(record.main);
                self.participant
                    .saw_next_oid(next.ok_or_else(|| damaged("short next oid"))?);
            }
            xlog_records::END_OF_RECOVERY => {
                let end = EndOfRecovery::decode(record.main);
                let end = end.ok_or_else(|| damaged("short end of recovery"))?;
                if end.timeline != self.timeline.0 {
                    return Err(damaged("unexpected timeline ID in end-of-recovery record"));
                }
                self.participant.saw_end_of_recovery(record.end);
            }
            xlog_records::PARAMETER_CHANGE => {
                let parameters = ParameterChange::decode(record.main);
                let parameters = parameters.ok_or_else(|| damaged("short parameter change"))?;
                self.store
                    .control
                    .update(|data| data.parameters = parameters)?;
                self.participant.saw_parameters(&parameters);
            }
            xlog_records::FPW_CHANGE => {
                let on = xlog_records::decode_fpw_change(record.main);
                if !on.ok_or_else(|| damaged("short change of full_page_writes"))? {
                    self.state.set_images_off(record.start);
                }
            }
            xlog_records::BACKUP_END => {
                let start = xlog_records::decode_backup_end(record.main);
                if start.is_some() && start == Some(self.store.control.get().backup_start) {
                    self.end_backup(record.end)?;
                }
            }
            xlog_records::OVERWRITE_CONTRECORD => {
                let payload = OverwriteContrecord::decode(record.main);
                let says = payload.map(|p| p.overwritten);
                // After a jump to this very page the reader has not seen what was given up.
                if record.overwrites.is_some() && says != record.overwrites {
                    return Err(damaged("mismatching overwritten LSN"));
                }
                tracing::info!(
                    "successfully skipped missing contrecord at {}",
                    says.unwrap_or(Lsn::INVALID)
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// The backup's own end: from here on its files are consistent.
    fn end_backup(&self, end: Lsn) -> Result<(), RecoveryError> {
        let timeline = self.timeline.0;
        self.store.control.update(|data| {
            if data.min_recovery_point < end {
                data.min_recovery_point = end;
                data.min_recovery_timeline = timeline;
            }
            data.backup_start = Lsn::INVALID;
            data.backup_end = Lsn::INVALID;
            data.backup_end_required = false;
        })?;
        Ok(())
    }

    pub fn check_consistency(&mut self, replayed: Lsn) -> Result<(), RecoveryError> {
        let control = self.store.control.get();
        if control.backup_end.is_valid() && control.backup_end <= replayed {
            self.end_backup(control.backup_end)?;
        }
        let control = self.store.control.get();
        if control.backup_start.is_valid() || control.min_recovery_point > replayed {
            return Ok(());
        }
        self.missing.check()?;
        self.consistent = true;
        tracing::info!("consistent recovery state reached at {replayed}");
        self.publish();
        self.participant.consistent(replayed);
        if self.hot_standby {
            self.state.set_phase(Phase::Consistent);
        }
        Ok(())
    }
}

/// Standby and archive recovery.
pub(super) struct Follower {
    pub reader: WalReader<StandbySource>,
    pub applier: Applier,
    pub trigger: Option<Arc<dyn Trigger>>,
    pub standby: bool,
    pub promotion: Option<Promotion>,
    pub looked_for_trigger: Instant,
}

impl Follower {
    /// Replays until promotion (or, without standby mode, until the archive's end).
    pub fn run(&mut self) -> Result<End, RecoveryError> {
        let mut count = 0_u32;
        loop {
            count = count.wrapping_add(1);
            if count.is_multiple_of(64) {
                self.look_for_wishes()?;
            }
            let seen = self.applier.state.wakeups();
            let outcome = match self.reader.next() {
                Ok(record) => {
                    self.applier.apply(&record)?;
                    continue;
                }
                Err(outcome) => outcome,
            };
            self.applier.publish();
            if let Some(end) = self.no_record(outcome, seen)? {
                return Ok(end);
            }
        }
    }

    /// There is no next record now: waits, looks elsewhere, or ends.
    fn no_record(&mut self, outcome: ReadError, seen: u64) -> Result<Option<End>, RecoveryError> {
        self.look_for_wishes()?;
        let over = self.promotion.is_some() || !self.standby;
        match outcome {
            ReadError::WouldBlock(_) => {
                let position = self.reader.position();
                let again = self.reader.source().advance(position)?;
                if let Some(history) = self.reader.source().take_changed_history() {
                    self.follow(history);
                }
                if again {
                    self.reader.forget_page();
                } else {
                    self.applier.state.wait(seen, TRIGGER_INTERVAL);
                }
                let streaming = self.reader.source().is_streaming();
                self.applier.state.note_receipt(streaming);
                Ok(None)
            }
            ReadError::EndOfLog { reason, .. } if over => {
                tracing::info!("{reason}");
                Ok(Some(self.end()))
            }
            ReadError::Damaged { lsn, reason } if over => {
                Err(RecoveryError::Damaged { lsn, reason })
            }
            ReadError::EndOfLog { reason, .. } | ReadError::Damaged { reason, .. } => {
                let position = self.reader.position();
                self.reader.source().refuse(position, &reason);
                self.reader.forget_page();
                Ok(None)
            }
            ReadError::Io(error) => Err(error.into()),
        }
    }

    pub fn follow(&mut self, history: History) {
        self.reader.set_history(history.clone());
        // Before walsenders serve the new timeline: they would pass on what was told of the old one.
        self.applier.participant.follows(&history);
        self.applier.store.wal.set_recovery_history(history.clone());
        self.applier.history = history;
        self.applier.timeline.1 = Lsn::INVALID;
    }

    fn look_for_wishes(&mut self) -> Result<(), RecoveryError> {
        let state = &self.applier.state;
        if state.stop_requested() {
            self.reader.source().stop_stream();
            self.applier.publish();
            return Err(RecoveryError::Interrupted);
        }
        let now = Instant::now();
        let due = now.duration_since(self.looked_for_trigger) >= TRIGGER_INTERVAL
            || state.take_look_for_trigger();
        if self.promotion.is_some() || !self.standby || !(due || state.promotion_requested()) {
            return Ok(());
        }
        self.looked_for_trigger = now;
        let promotion = if state.promotion_requested() {
            tracing::info!("received promote request");
            Some(Promotion::default())
        } else {
            self.trigger.as_ref().and_then(|trigger| trigger.poll())
        };
        if let Some(promotion) = promotion {
            self.promotion = Some(promotion);
            self.reader.source().finish();
            self.reader.forget_page();
        }
        Ok(())
    }

    fn end(&mut self) -> End {
        End {
            end: self.reader.position(),
            last_record: self.reader.last_record().unwrap_or(Lsn::INVALID),
            // What a promotion leaves behind is cut off with the old timeline.
            aborted: None,
            promotion: Some(self.promotion.unwrap_or_default()),
        }
    }
}

/// A checkpoint record's payload, or why it is none.
pub(super) fn checkpoint_of(record: &Decoded<'_>) -> Result<CheckPoint, String> {
    if !redo::is_checkpoint(record) {
        return Err(format!("record at {} is no checkpoint", record.start));
    }
    CheckPoint::decode(record.main).ok_or_else(|| "checkpoint record is too short".to_owned())
}
