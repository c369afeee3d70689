//! The end of recovery: the log may be written from here on.
//!
//! After a crash, on the same timeline; after a promotion, on a new one. Order on promotion: history file, first
//! segment, log open, end-of-recovery record flushed, `pg_control` says "in production" on the new timeline, and
//! only then does the file go that asked for recovery. A crash before `pg_control` changes leaves a standby; one
//! after it a primary, or, while the file is still there, a standby on the new timeline. No checkpoint is waited
//! for: the old redo point stays good until the next one, which the caller asks for.

use std::io;
use std::path::Path;

use crate::ids::{Lsn, PAGE_SIZE, TimelineId, Xid};
use crate::io::{Access, Disk, EntryKind, durable};
use crate::storage::{ClusterState, Store, WriteGate, page};
use crate::wal::page::LONG_HEADER;
use crate::wal::timeline::{self, History};
use crate::wal::xlog_records::{self, EndOfRecovery, OverwriteContrecord};
use crate::wal::{AbortedRecord, Record, RmgrId, StartWriting, archive_status};

use super::error::RecoveryError;
use super::replay::{Applier, End};
use super::source::StandbySource;
use super::startup::{Outcome, OutcomeKind, StartupConfig};
use super::state::Phase;

/// Is everything there that must be, now that there is no more log?
pub(super) fn check_end(
    config: &StartupConfig,
    applier: &Applier,
    end: &End,
    archive: bool,
) -> Result<(), RecoveryError> {
    let control = config.store.control.get();
    let behind = end.end < control.min_recovery_point || control.backup_start.is_valid();
    if behind && (archive || control.backup_end_required) {
        return Err(if control.backup_start.is_valid() {
            RecoveryError::EndsBeforeBackupEnd {
                required: control.backup_end_required,
            }
        } else {
            RecoveryError::EndsBeforeConsistency {
                end: end.end,
                wanted: control.min_recovery_point,
            }
        });
    }
    // A transaction that died may have removed its files before it could log that.
    let dead = |file| config.participant.was_made_by_the_dead(file);
    applier.missing.forget_files(&dead);
    applier.missing.check()?;
    if applier.newest_page > end.end {
        return Err(RecoveryError::PageBeyondEnd {
            page: applier.newest_page,
            end: end.end,
        });
    }
    Ok(())
}

/// Nothing to replay: the log goes on behind the shutdown checkpoint.
pub(super) fn begin_clean(
    config: &StartupConfig,
    end: End,
    history: History,
) -> Result<Outcome, RecoveryError> {
    let timeline = history.timeline();
    let at = end.end;
    config
        .store
        .wal
        .set_redo_point_to(config.store.control.get().checkpoint_copy.redo);
    config.state.set_replayed(at, timeline);
    open_log(config, history, at, end.last_record, None)?;
    config
        .store
        .control
        .update(|data| data.state = ClusterState::InProduction)?;
    begin_writing(config, timeline, at, OutcomeKind::Clean)
}

/// After a crash: the same timeline.
pub(super) fn end_crash_recovery(
    config: &StartupConfig,
    end: End,
    history: History,
) -> Result<Outcome, RecoveryError> {
    let timeline = history.timeline();
    end_participant(config, end.end)?;
    let resume = end.aborted.map_or(end.end, |aborted| aborted.missing);
    open_log(config, history, resume, end.last_record, end.aborted)?;
    let record_end = write_end_of_recovery(config, timeline, timeline)?;
    begin_writing(config, timeline, record_end, OutcomeKind::Crash)
}

/// A standby becomes a primary: a new timeline begins at the end of the last whole record.
pub(super) fn promote(
    config: &StartupConfig,
    end: End,
    history: History,
    source: &StandbySource,
) -> Result<Outcome, RecoveryError> {
    let store = &config.store;
    let segments = store.wal.segments().clone();
    let size = segments.size();
    let newest = source
        .newest_timeline(history.timeline())?
        .unwrap_or(history.timeline());
    let wanted = end.promotion.and_then(|promotion| promotion.timeline);
    let begun = wanted.and_then(|wanted| begun_before(&history, wanted, newest, &end));
    let fork = begun.as_ref().map_or(end.end, |begun| begun.fork);
    let has_record = begun.as_ref().is_some_and(|begun| begun.has_record);
    let (old, history) = match (wanted, begun) {
        (Some(_), Some(begun)) => (begun.parent, history),
        (Some(wanted), None) if wanted <= newest => {
            return Err(RecoveryError::TimelineTaken { wanted, newest });
        }
        (wanted, _) => {
            let new = wanted.or_else(|| newest.checked_next());
            let new = new.ok_or(RecoveryError::LastTimeline(newest))?;
            let cut = cut_at(&history, end.end);
            let reason = "no recovery target specified";
            (cut.timeline(), cut.fork(new, end.end, reason))
        }
    };
    let new = history.timeline();
    tracing::info!("selected new timeline ID: {new}");
    end_participant(config, end.end)?;
    if end.end.segment_offset(size) > 0 && !has_record {
        let segment = end.end.segment(size);
        let from = segments.holder(&history, segment, old)?;
        segments.fork(from, new, end.end)?;
    }
    timeline::write(segments.disk(), segments.dir(), &history)?;
    if config.settings.archiving {
        segments.note_ready(&new.history_file_name())?;
        segments.note_left(&history)?;
    }
    // A candidate's walsenders serve the new timeline as soon as its log is open, and pass on what it was told till it writes.
    config.participant.follows(&history);
    open_log(config, history, end.end, end.last_record, None)?;
    let record_end = write_end_of_recovery(config, new, if has_record { new } else { old })?;
    finish_request(config)?;
    if let Some(trigger) = &config.trigger {
        trigger.done();
    }
    if config.settings.archiving {
        archive_cut_segment(config, old, fork)?;
    }
    tracing::info!("archive recovery complete");
    let outcome = begin_writing(config, new, record_end, OutcomeKind::Promoted)?;
    if let Err(error) = segments.remove_after_fork(new, fork) {
        tracing::warn!("could not remove segments of the old timeline: {error}");
    }
    Ok(outcome)
}

/// A promotion that a crash cut short after its history file.
struct Begun {
    parent: TimelineId,
    fork: Lsn,
    /// Its end-of-recovery record is there. Nothing else can be: nobody writes before the request is done with.
    has_record: bool,
}

/// A timeline with a number given belongs to one promotion: what is there of it is of this very one, which goes on.
fn begun_before(
    history: &History,
    wanted: TimelineId,
    newest: TimelineId,
    end: &End,
) -> Option<Begun> {
    let last = history.ancestors().last()?;
    if history.timeline() != wanted || newest != wanted {
        return None;
    }
    // The first record stands where the timeline begins, or behind a page header.
    let first = last.end..=last.end.advance(LONG_HEADER as u64);
    let has_record = first.contains(&end.last_record);
    (has_record || last.end == end.end).then_some(Begun {
        parent: last.timeline,
        fork: last.end,
        has_record,
    })
}

/// The part of `history` that has been replayed: timelines of which no record lies before `end` were never reached.
fn cut_at(history: &History, end: Lsn) -> History {
    let mut cut: Option<History> = None;
    for ancestor in history.ancestors() {
        let so_far = match cut {
            None => History::root(ancestor.timeline),
            Some(history) => history,
        };
        if end <= ancestor.end {
            return so_far;
        }
        let next = history
            .ancestors()
            .iter()
            .map(|a| a.timeline)
            .chain([history.timeline()])
            .find(|t| *t > ancestor.timeline)
            .unwrap_or(history.timeline());
        cut = Some(so_far.fork(next, ancestor.end, &ancestor.reason));
    }
    cut.unwrap_or_else(|| History::root(history.timeline()))
}

fn end_participant(config: &StartupConfig, end: Lsn) -> Result<(), RecoveryError> {
    let failed = |source| RecoveryError::State {
        what: "end recovery",
        source,
    };
    config.participant.end_recovery(end).map_err(failed)
}

fn open_log(
    config: &StartupConfig,
    history: History,
    end_of_log: Lsn,
    last_record: Lsn,
    aborted: Option<AbortedRecord>,
) -> Result<(), RecoveryError> {
    let store = &config.store;
    store.wal.begin_writing(StartWriting {
        history,
        end_of_log,
        last_record,
        aborted,
    })?;
    store
        .pool
        .set_gate(store.wal.clone() as std::sync::Arc<dyn WriteGate>);
    if let Some(aborted) = aborted {
        let payload = OverwriteContrecord {
            overwritten: aborted.start,
            time_us: xlog_records::now_us(),
        };
        insert(store, xlog_records::OVERWRITE_CONTRECORD, &payload.encode());
    }
    Ok(())
}

fn insert(store: &Store, info: u8, main: &[u8]) -> Lsn {
    let record = Record {
        rmgr: RmgrId::XLOG,
        info,
        xid: Xid::INVALID,
        main,
        blocks: &[],
    };
    store.wal.insert(&record).end
}

/// The first record of the new life; from when it is durable, so is the fact that recovery is over.
fn write_end_of_recovery(
    config: &StartupConfig,
    timeline: TimelineId,
    previous: TimelineId,
) -> Result<Lsn, RecoveryError> {
    let payload = EndOfRecovery {
        time_us: xlog_records::now_us(),
        timeline,
        previous_timeline: previous,
    };
    let end = insert(
        &config.store,
        xlog_records::END_OF_RECOVERY,
        &payload.encode(),
    );
    config.store.wal.flush_blocking(end);
    config.store.control.update(|data| {
        data.state = ClusterState::InProduction;
        data.min_recovery_point = end;
        data.min_recovery_timeline = timeline;
        data.backup_start = Lsn::INVALID;
        data.backup_end = Lsn::INVALID;
        data.backup_end_required = false;
    })?;
    Ok(end)
}

fn begin_writing(
    config: &StartupConfig,
    timeline: TimelineId,
    end_of_recovery: Lsn,
    kind: OutcomeKind,
) -> Result<Outcome, RecoveryError> {
    config.state.set_end_of_recovery(end_of_recovery);
    config.participant.begin_writing(end_of_recovery);
    report_parameters(config)?;
    if !config.store.wal.full_page_writes() {
        insert(
            &config.store,
            xlog_records::FPW_CHANGE,
            &xlog_records::encode_fpw_change(false),
        );
    }
    config.state.publish_replayed();
    config.state.set_phase(Phase::Writing);
    Ok(Outcome {
        timeline,
        end_of_recovery,
        kind,
    })
}

/// Standbys and `pg_controldata` hear of settings that changed since the last start.
fn report_parameters(config: &StartupConfig) -> Result<(), RecoveryError> {
    let Some(parameters) = config.settings.parameters else {
        return Ok(());
    };
    let store = &config.store;
    if store.control.get().parameters != parameters {
        let end = insert(store, xlog_records::PARAMETER_CHANGE, &parameters.encode());
        store.wal.flush_blocking(end);
        store.control.update(|data| data.parameters = parameters)?;
    }
    Ok(())
}

/// `recovery.conf` becomes `recovery.done`; signal files go.
fn finish_request(config: &StartupConfig) -> Result<(), RecoveryError> {
    let Some(name) = config.request_file else {
        return Ok(());
    };
    let disk = &*config.store.disk;
    let path = Path::new(name);
    if name == "recovery.conf" {
        durable::rename(disk, path, Path::new("recovery.done"))
            .map_err(RecoveryError::io("rename", path))
    } else {
        durable::remove(disk, path).map_err(RecoveryError::io("remove", path))
    }
}

/// The old timeline's last segment is not whole: it is archived under another name, unless it has been archived.
fn archive_cut_segment(
    config: &StartupConfig,
    old: TimelineId,
    end: Lsn,
) -> Result<(), RecoveryError> {
    let segments = config.store.wal.segments();
    let (disk, dir) = (segments.disk(), segments.dir());
    let segment = end.segment(segments.size());
    let name = segments.name(old, segment);
    let noted = archive_status::is_ready(disk, dir, &name)?
        || archive_status::has_done_note(disk, dir, &name)?;
    let whole = end.segment_offset(segments.size()) == 0;
    if whole || noted || !segments.exists(old, segment)? {
        return Ok(());
    }
    let partial = segments.mark_partial(old, segment)?;
    Ok(segments.note_ready(&partial)?)
}

/// Refuses a copied directory in which a page is newer than its log: a copy without all the WAL it needs, started
/// by itself. (With a standby file the rest of the log would be fetched.)
pub(super) fn check_no_page_beyond(store: &Store, end: Lsn) -> Result<(), RecoveryError> {
    let disk = &*store.disk;
    let mut newest = scan_dir(disk, Path::new("global"))?;
    let databases = disk
        .list(Path::new("base"))
        .map_err(RecoveryError::io("read directory", "base"))?;
    for (name, kind) in databases {
        if kind == EntryKind::Directory {
            newest = newest.max(scan_dir(disk, &Path::new("base").join(name))?);
        }
    }
    if newest > end {
        return Err(RecoveryError::PageBeyondEnd { page: newest, end });
    }
    Ok(())
}

fn scan_dir(disk: &dyn Disk, dir: &Path) -> Result<Lsn, RecoveryError> {
    let mut newest = Lsn::INVALID;
    for (name, kind) in disk
        .list(dir)
        .map_err(RecoveryError::io("read directory", dir))?
    {
        if kind == EntryKind::File && name.starts_with(|c: char| c.is_ascii_digit()) {
            let path = dir.join(name);
            newest = newest.max(scan_file(disk, &path).map_err(RecoveryError::io("read", &path))?);
        }
    }
    Ok(newest)
}

fn scan_file(disk: &dyn Disk, path: &Path) -> io::Result<Lsn> {
    let file = disk.open(path, Access::Read)?;
    let mut buf = vec![0; 64 * PAGE_SIZE];
    let (mut offset, mut newest) = (0, Lsn::INVALID);
    loop {
        let n = file.read_at(&mut buf, offset)?;
        for bytes in buf[..n].as_chunks::<PAGE_SIZE>().0 {
            newest = newest.max(page::lsn(bytes));
        }
        if n < buf.len() {
            return Ok(newest);
        }
        offset += n as u64;
    }
}
