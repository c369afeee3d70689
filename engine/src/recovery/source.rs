//! Where a standby's WAL comes from: the archive, `pg_wal`, the stream, and the archive again.
//!
//! A state machine like PostgreSQL's `WaitForWALToBecomeAvailable`. Files first: each segment from the archive,
//! else from `pg_wal`; when both have no more (or what they have is no record), the stream, from
//! the page in which the log ends here (from the segment's beginning where there is no such segment yet); when the stream fails, files again, after `wal_retrieve_retry_interval`. Nothing here waits:
//! `read_page` answers `NotYet`, and the replay loop calls [`StandbySource::advance`] until that changes.
//! Invariant: bytes behind a timeline's end are never given out as that timeline's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber, TimelineId};
use crate::io::{Access, EntryKind, FileRef};
use crate::wal::timeline::{self, History};
use crate::wal::{PageBytes, PageRequest, Segments, WalBytes, WalError};

use super::restore::{self, ArchiveShell, ArchivedHistory};
use super::state::RecoveryState;

/// Damaged histories in a row after which the archive is asked for no other: one that answers everything with garbage
/// would be asked for ever.
const MOST_DAMAGED: u32 = 3;

/// How the stream is, as far as recovery cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamState {
    Stopped,
    Connecting,
    Streaming,
    /// The upstream has no more on the timeline that was asked for.
    EndOfTimeline,
    Failed,
}

/// The walreceiver, as recovery drives it. What it has synced it reports to [`RecoveryState::received`].
pub trait Upstream: Send + Sync {
    /// Is there an upstream to ask at all (`primary_conninfo`)?
    fn is_configured(&self) -> bool;
    /// Asks for WAL of `timeline` from `from` (the beginning of a page); replaces an earlier request.
    fn stream(&self, from: Lsn, timeline: TimelineId);
    /// Ends the stream; nothing more is written or reported when it returns.
    fn stop(&self);
    /// Of the newest request: never an earlier one's outcome.
    fn state(&self) -> UpstreamState;
}

/// Which timeline to follow: `recovery_target_timeline`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TargetTimeline {
    #[default]
    Latest,
    Current,
    Number(TimelineId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Files,
    /// Files have no more.
    FilesExhausted,
    Stream {
        timeline: TimelineId,
        from: Lsn,
        /// What it was asked for, and when.
        position: Lsn,
        since: Instant,
    },
}

/// The first wait after a stream that failed; it doubles up to `wal_retrieve_retry_interval`.
const FIRST_RETRY: Duration = Duration::from_millis(50);

struct Open {
    timeline: TimelineId,
    segment: SegmentNumber,
    file: FileRef,
}

pub(super) struct StandbySource {
    pub segments: Arc<Segments>,
    pub state: Arc<RecoveryState>,
    pub archive: Option<Arc<dyn ArchiveShell>>,
    pub upstream: Option<Arc<dyn Upstream>>,
    /// False in archive recovery without standby mode: the archive's end is the end.
    pub standby: bool,
    pub target: TargetTimeline,
    pub retry_interval: Duration,
    /// Name of the oldest segment that a restart would need.
    pub oldest_kept: String,
    /// `archive_mode = always`: what comes from the archive goes into this server's own.
    pub archive_too: bool,
    history: History,
    history_changed: bool,
    from: From,
    open: Option<Open>,
    /// Not before then is the same tried again.
    retry_at: Instant,
    /// Attempts to stream in a row that brought nothing.
    failures: u32,
    finishing: bool,
    /// Where the last record was that was none.
    refused: Lsn,
    /// Of the last timeline whose history was found damaged: said once, looked at again and again.
    damaged_history: Option<TimelineId>,
}

pub(super) struct SourceParts {
    pub segments: Arc<Segments>,
    pub state: Arc<RecoveryState>,
    pub archive: Option<Arc<dyn ArchiveShell>>,
    pub upstream: Option<Arc<dyn Upstream>>,
    pub standby: bool,
    pub target: TargetTimeline,
    pub retry_interval: Duration,
    pub oldest_kept: String,
    pub archive_too: bool,
    pub history: History,
}

impl StandbySource {
    pub fn new(parts: SourceParts) -> StandbySource {
        let SourceParts {
            segments,
            state,
            archive,
            upstream,
            standby,
            target,
            retry_interval,
            oldest_kept,
            archive_too,
            history,
        } = parts;
        StandbySource {
            segments,
            state,
            archive,
            upstream,
            standby,
            target,
            retry_interval,
            oldest_kept,
            archive_too,
            history,
            history_changed: false,
            from: From::Files,
            open: None,
            retry_at: Instant::now(),
            failures: 0,
            finishing: false,
            refused: Lsn::INVALID,
            damaged_history: None,
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }
    pub fn set_history(&mut self, history: History) {
        self.history = history;
    }
    /// The history, if it is another one since the last call.
    pub fn take_changed_history(&mut self) -> Option<History> {
        std::mem::take(&mut self.history_changed).then(|| self.history.clone())
    }

    pub fn is_streaming(&self) -> bool {
        matches!(self.from, From::Stream { .. })
    }

    /// No more waiting: what is here is all there will be.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.stop_stream();
        self.open = None;
        self.from = From::Files;
    }
    pub fn stop_stream(&self) {
        if let Some(upstream) = &self.upstream {
            upstream.stop();
        }
    }

    /// What was given out for the record at `position` is no record: look elsewhere.
    pub fn refuse(&mut self, position: Lsn, reason: &str) {
        self.open = None;
        // The same place is looked at again and again while nothing new comes.
        if self.refused != position {
            self.refused = position;
            tracing::info!("{reason}");
        }
        match self.from {
            From::Files => self.from = From::FilesExhausted,
            From::FilesExhausted => {}
            From::Stream { .. } => {
                self.stop_stream();
                self.from = From::Files;
                self.retry_at = Instant::now() + self.retry_interval;
            }
        }
    }

    /// After `NotYet` for the record at `position`: goes to the next source if it is time. True if it is worth
    /// asking for the page again at once.
    pub fn advance(&mut self, position: Lsn) -> Result<bool, WalError> {
        match self.from {
            From::Files => Ok(true),
            From::FilesExhausted => {
                let asked = self.state.take_retry_source();
                if Instant::now() < self.retry_at && !asked {
                    return Ok(false);
                }
                let configured = self.upstream.as_ref().filter(|u| u.is_configured());
                let Some(upstream) = configured else {
                    self.retry_at = Instant::now() + self.retry_interval;
                    self.rescan_timelines()?;
                    self.from = From::Files;
                    return Ok(true);
                };
                let size = self.segments.size();
                let timeline = self.history.owner(position);
                self.carry_over(timeline, position)?;
                // A segment that is here was written from its beginning, and what has been replayed was read from it.
                let segment = position.segment(size);
                let from = if self.segments.exists(timeline, segment)? {
                    position.page_start()
                } else {
                    segment.start(size)
                };
                upstream.stream(from, timeline);
                // Now that the earlier stream has said its last word.
                self.state.receives_anew(timeline, from);
                self.from = From::Stream {
                    timeline,
                    from,
                    position,
                    since: Instant::now(),
                };
                Ok(false)
            }
            From::Stream {
                timeline,
                position: asked_for,
                since,
                ..
            } => {
                let state = self
                    .upstream
                    .as_ref()
                    .map_or(UpstreamState::Failed, |u| u.state());
                match state {
                    // Somebody else has ended it, to have it begun anew under other rules.
                    UpstreamState::Stopped => self.retry_at = Instant::now(),
                    UpstreamState::Failed => {
                        let was_good =
                            position > asked_for || since.elapsed() > self.retry_interval;
                        self.retry_at = Instant::now() + self.next_pause(was_good);
                        self.rescan_timelines()?;
                    }
                    UpstreamState::EndOfTimeline => {
                        let more = self.history.owner(position) != timeline;
                        if !self.rescan_timelines()? && !more {
                            self.retry_at = Instant::now() + self.next_pause(position > asked_for);
                        }
                    }
                    _ => return Ok(false),
                }
                self.open = None;
                self.from = From::Files;
                Ok(true)
            }
        }
    }

    /// A segment in which `timeline` begins is streamed from the segment's first byte, into a file of its own name,
    /// which is what replay reads from then on. Until that has caught up it must not hold less than what is here
    /// under the parent's name: it begins as a copy.
    fn carry_over(&self, timeline: TimelineId, position: Lsn) -> Result<(), WalError> {
        let size = self.segments.size();
        let segment = position.segment(size);
        let begin = self.history.begin_of(timeline).unwrap_or(Lsn::INVALID);
        let inside = begin.segment(size) == segment && begin.segment_offset(size) > 0;
        if !inside || self.segments.exists(timeline, segment)? {
            return Ok(());
        }
        for older in self.history.candidates(segment, size) {
            if older < timeline && self.segments.exists(older, segment)? {
                return self.segments.fork(older, timeline, begin);
            }
        }
        Ok(())
    }

    /// How long not to stream after an attempt that has ended: short at first, so that a primary that restarts, or
    /// one that takes over, is found at once.
    fn next_pause(&mut self, was_good: bool) -> Duration {
        self.failures = if was_good { 0 } else { self.failures + 1 };
        let doubled = FIRST_RETRY * 2_u32.saturating_pow(self.failures.min(16));
        doubled.min(self.retry_interval)
    }

    /// With `recovery_target_timeline = latest`: is there a newer timeline that goes on from where we are?
    fn rescan_timelines(&mut self) -> Result<bool, WalError> {
        if self.target != TargetTimeline::Latest {
            return Ok(false);
        }
        let current = self.history.timeline();
        let Some(newest) = self.newest_timeline(current)? else {
            return Ok(false);
        };
        let history = match self.read_history(newest) {
            Ok(Some(history)) => history,
            Ok(None) => return Ok(false),
            // It may be on its way into the archive. Nothing is lost by staying on this timeline until it is whole.
            Err(error) if error.is_damaged_history() => {
                if self.damaged_history != Some(newest) {
                    self.damaged_history = Some(newest);
                    tracing::warn!("{error}");
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let replayed = self.state.replay_lsn();
        let Some(fork) = history.end_of(self.past(replayed)) else {
            tracing::info!(
                "new timeline {newest} is not a child of database system timeline {current}"
            );
            return Ok(false);
        };
        if fork < replayed {
            tracing::info!(
                "new timeline {newest} forked off current database system timeline {current} before current recovery point {replayed}"
            );
            return Ok(false);
        }
        tracing::info!("new target timeline is {newest}");
        self.history = history;
        self.history_changed = true;
        self.open = None;
        Ok(true)
    }

    /// The timeline that any newer one must come from: the one that is followed. But where that has only just begun and
    /// nothing of it was replayed, the one before it: a promotion that a crash cut short leaves such a timeline behind.
    fn past(&self, replayed: Lsn) -> TimelineId {
        let current = self.history.timeline();
        if self.history.begin_of(current) == Some(replayed) {
            self.history
                .owner(Lsn::new(replayed.raw().saturating_sub(1)))
        } else {
            current
        }
    }

    /// The highest timeline above `current` with a history file in `pg_wal` or the archive, whatever is in it: its
    /// number is taken.
    pub fn newest_timeline(&self, current: TimelineId) -> Result<Option<TimelineId>, WalError> {
        let dir = self.segments.dir();
        let entries = self
            .segments
            .disk()
            .list(dir)
            .map_err(WalError::io("read directory", dir))?;
        let here = entries
            .iter()
            .filter(|(_, kind)| *kind == EntryKind::File)
            .filter_map(|(name, _)| {
                let number = name.strip_suffix(".history").filter(|n| n.len() == 8)?;
                u32::from_str_radix(number, 16).ok().map(TimelineId::new)
            })
            .filter(|t| *t > current)
            .max();
        let mut newest = here;
        let mut damaged = 0;
        while let Some(next) = newest.unwrap_or(current).checked_next() {
            match self.fetch_history(next)? {
                ArchivedHistory::Nothing => break,
                ArchivedHistory::Restored => damaged = 0,
                // Half of one, left by a server that died, does not hide those behind it.
                ArchivedHistory::Damaged(_) => damaged += 1,
            }
            newest = Some(next);
            if damaged == MOST_DAMAGED {
                break;
            }
        }
        Ok(newest)
    }

    fn fetch_history(&self, timeline: TimelineId) -> Result<ArchivedHistory, WalError> {
        let Some(archive) = &self.archive else {
            return Ok(ArchivedHistory::Nothing);
        };
        let (disk, dir) = (self.segments.disk(), self.segments.dir());
        let name = timeline.history_file_name();
        let fetched = restore::fetch_history(&**archive, disk, dir, timeline, &self.oldest_kept)
            .map_err(WalError::io("restore", &name))?;
        if self.archive_too && matches!(fetched, ArchivedHistory::Restored) {
            self.segments.note_received(&name, true)?;
        }
        Ok(fetched)
    }

    /// The timeline's history from `pg_wal`, else (also where that one is damaged) from the archive.
    pub fn read_history(&self, wanted: TimelineId) -> Result<Option<History>, WalError> {
        let (disk, dir) = (self.segments.disk(), self.segments.dir());
        let here = timeline::read(disk, dir, wanted);
        if matches!(here, Ok(Some(_))) {
            return here;
        }
        match self.fetch_history(wanted)? {
            ArchivedHistory::Nothing => here,
            ArchivedHistory::Restored => timeline::read(disk, dir, wanted),
            ArchivedHistory::Damaged(error) => here.and(Err(error)),
        }
    }

    /// Opens the segment: from the archive if it has it, else as it is in `pg_wal`; under the newest timeline first.
    fn open_file(&mut self, segment: SegmentNumber, page: Lsn) -> Result<bool, WalError> {
        let ends_before = |timeline| self.history.end_of(timeline).is_some_and(|end| end <= page);
        if let Some(open) = &self.open
            && open.segment == segment
            && !ends_before(open.timeline)
        {
            return Ok(true);
        }
        let size = self.segments.size();
        let candidates: Vec<TimelineId> = self
            .history
            .candidates(segment, size)
            .filter(|timeline| !ends_before(*timeline))
            .collect();
        self.open = None;
        let (disk, dir) = (self.segments.disk(), self.segments.dir());
        for restoring in [true, false] {
            for timeline in &candidates {
                let name = segment.file_name(*timeline, size);
                if restoring {
                    let Some(archive) = &self.archive else {
                        continue;
                    };
                    let (log, kept) = (&*self.segments, &self.oldest_kept);
                    let got = restore::fetch_segment(&**archive, log, *timeline, segment, kept);
                    if !got.map_err(WalError::io("restore", &name))? {
                        continue;
                    }
                    log.note_received(&name, self.archive_too)?;
                }
                let path = dir.join(&name);
                match disk.open(&path, Access::Read) {
                    Ok(file) => {
                        self.open = Some(Open {
                            timeline: *timeline,
                            segment,
                            file,
                        });
                        return Ok(true);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(e) => return Err(WalError::io("open", path)(e)),
                }
            }
        }
        Ok(false)
    }

    fn read_file(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
        limit: Lsn,
    ) -> Result<PageBytes, WalError> {
        let size = self.segments.size();
        let Some(open) = &self.open else {
            return Ok(PageBytes::NotYet);
        };
        let end = self
            .history
            .end_of(open.timeline)
            .unwrap_or(Lsn::MAX)
            .min(limit);
        let owned = usize::try_from(end.saturating_sub(request.page)).unwrap_or(PAGE_SIZE);
        let have = owned.min(PAGE_SIZE);
        if have < request.need {
            return Ok(PageBytes::NotYet);
        }
        let offset = u64::from(request.page.segment_offset(size));
        let path = self.segments.path(open.timeline, open.segment);
        let n = open
            .file
            .read_at(&mut buf[..], offset)
            .map_err(WalError::io("read", path))?;
        Ok(if n.min(have) < request.need {
            PageBytes::NotYet
        } else {
            PageBytes::Have(n.min(have))
        })
    }

    fn read_streamed(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
        timeline: TimelineId,
        from: Lsn,
    ) -> Result<PageBytes, WalError> {
        let Some((t, begin, upto)) = self.state.received_range() else {
            return Ok(PageBytes::NotYet);
        };
        if t != timeline || begin > request.page.max(from) || upto <= request.page {
            return Ok(PageBytes::NotYet);
        }
        let segment = request.page.segment(self.segments.size());
        let is_open = self
            .open
            .as_ref()
            .is_some_and(|o| o.timeline == timeline && o.segment == segment);
        if !is_open {
            let path = self.segments.path(timeline, segment);
            let file = self.segments.disk().open(&path, Access::Read);
            let file = file.map_err(WalError::io("open", path))?;
            self.open = Some(Open {
                timeline,
                segment,
                file,
            });
        }
        self.read_file(request, buf, upto)
    }
}

impl WalBytes for StandbySource {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError> {
        let answer = match self.from {
            From::Files => {
                let segment = request.page.segment(self.segments.size());
                if self.open_file(segment, request.page)? {
                    self.read_file(request, buf, Lsn::MAX)?
                } else {
                    PageBytes::NotYet
                }
            }
            From::FilesExhausted => PageBytes::NotYet,
            From::Stream { timeline, from, .. } => {
                return self.read_streamed(request, buf, timeline, from);
            }
        };
        if answer == PageBytes::NotYet {
            if self.finishing || !self.standby {
                return Ok(PageBytes::Missing);
            }
            self.from = From::FilesExhausted;
        }
        Ok(answer)
    }

    fn goes_on_after(&mut self, segment: SegmentNumber) -> Result<bool, WalError> {
        for (timeline, later) in self.segments.list()? {
            let own = self.history.contains(timeline)
                && self
                    .history
                    .end_of(timeline)
                    .is_none_or(|end| later.start(self.segments.size()) < end);
            if later > segment && own && self.segments.begins_right(timeline, later)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
