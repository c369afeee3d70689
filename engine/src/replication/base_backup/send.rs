//! Sending a backup: result sets, then one copy with the archive and the manifest, then the end position.
//!
//! Message layout inside CopyData (PostgreSQL 15, 55.4): `n` archive name and location, `d` bytes of the current
//! archive or manifest, `p` bytes done so far, `m` the manifest begins.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::time::Instant;

use crate::ids::{BLOCKS_PER_FILE, BlockNumber, Lsn, PAGE_SIZE, SegmentNumber, TimelineId};
use crate::io::{Access, Disk, DiskRef};
use crate::replication::base_backup::files::{self, Entry};
use crate::replication::base_backup::manifest::{
    ChecksumAlgorithm, FileChecksum, LogRange, Manifest,
};
use crate::replication::base_backup::options::{BackupOptions, ManifestChoice};
use crate::replication::reply::{self, CommandError, Link, ServeError};
use crate::storage::page;
use crate::types::oids;
use crate::wal::timeline::History;
use crate::wal::{Wal, WalError, archive_status};

const TAR_BLOCK: usize = 512;
/// Bytes read and sent at a time.
const CHUNK: usize = 256 << 10;

/// The server's part of a backup: checkpoint, forced page images, label, end record.
pub trait BackupSource: Send + Sync {
    fn disk(&self) -> &DiskRef;
    fn wal(&self) -> &Arc<Wal>;
    /// Begins: full-page images are forced from here until [`Self::stop`] or [`Self::abandon`].
    fn start(
        &self,
        options: &BackupOptions,
    ) -> impl Future<Output = Result<Started, CommandError>> + Send;
    /// Ends: the backup is consistent once replayed to the returned position.
    fn stop(
        &self,
        started: &Started,
        wait_for_archive: bool,
    ) -> impl Future<Output = Result<Stopped, CommandError>> + Send;
    /// The backup is given up.
    fn abandon(&self, started: &Started);
    /// Keeps the log from the beginning on until what is returned is dropped, whether the backup has ended or not.
    fn hold_log(&self, started: &Started) -> impl Send;
}

#[derive(Debug, Clone)]
pub struct Started {
    /// The redo point that replay begins from.
    pub start: Lsn,
    pub timeline: TimelineId,
    /// Contents of `backup_label`.
    pub label_file: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    pub end: Lsn,
    pub timeline: TimelineId,
}

/// Gives up a backup whose sending ended early.
struct Running<'a, S: BackupSource> {
    source: &'a S,
    started: Option<Started>,
}

impl<S: BackupSource> Drop for Running<'_, S> {
    fn drop(&mut self) {
        if let Some(started) = &self.started {
            self.source.abandon(started);
        }
    }
}

/// Serves one `BASE_BACKUP` up to its CommandComplete.
pub async fn send<L: Link, S: BackupSource>(
    link: &mut L,
    source: &S,
    options: &BackupOptions,
) -> Result<(), ServeError> {
    let started = source.start(options).await?;
    let mut running = Running {
        source,
        started: Some(started.clone()),
    };
    // It goes last: a checkpoint that comes before it has gone must leave it there.
    let _log = options.wal.then(|| source.hold_log(&started));
    let entries = files::to_copy(&**source.disk()).map_err(read_error(Path::new("")))?;
    header(link, source, &started, options, &entries).await?;
    let algorithm = match options.manifest {
        ManifestChoice::Yes(algorithm) => Some(algorithm),
        ManifestChoice::No => None,
    };
    let mut archive = Archive::new(link, &**source.disk(), options, algorithm, started.start);
    archive.begin("base.tar").await?;
    archive
        .bytes("backup_label", started.label_file.as_bytes())
        .await?;
    for entry in &entries {
        match entry {
            Entry::Directory(path) => archive.directory(path).await?,
            Entry::File(path) => archive.file(path).await?,
        }
    }
    archive.file(Path::new(files::CONTROL_FILE)).await?;
    let stopped = source.stop(&started, options.wait).await?;
    running.started = None;
    let history = source.wal().history();
    let history = history.unwrap_or_else(|| History::root(stopped.timeline));
    let log = ranges(&history, &started, &stopped)?;
    if options.wal {
        archive
            .log(source.wal(), &history, &started, &stopped)
            .await?;
    }
    archive.end().await?;
    let damaged = archive.damaged_pages;
    if let Some(manifest) = archive.manifest.take() {
        let text = manifest.finish(&log);
        archive.send_manifest(&text).await?;
    }
    let out = link.out();
    reply::copy_done(out);
    position(out, stopped.end, stopped.timeline);
    if damaged > 0 {
        let message = format!("checksum verification failure during base backup: {damaged} pages");
        return Err(CommandError::new("XX001", message).into());
    }
    reply::complete(out, "BASE_BACKUP");
    Ok(())
}

/// The log that replay of the backup needs, newest timeline first. A standby may have followed its upstream to another
/// timeline meanwhile; where that is no continuation of the one that the backup began on, what was copied does not belong
/// together.
fn ranges(
    history: &History,
    started: &Started,
    stopped: &Stopped,
) -> Result<Vec<LogRange>, CommandError> {
    let ancestors = history.ancestors().iter().rev().map(|a| a.timeline);
    let newest_first = std::iter::once(history.timeline()).chain(ancestors);
    let mut ranges = Vec::new();
    let mut end = stopped.end;
    for timeline in newest_first.skip_while(|t| *t != stopped.timeline) {
        let is_first = timeline == started.timeline;
        let start = if is_first {
            started.start
        } else {
            history.begin_of(timeline).unwrap_or(Lsn::INVALID)
        };
        if start > end {
            break;
        }
        // Of a timeline that has only just begun nothing is needed yet.
        if is_first || start < end {
            ranges.push(LogRange {
                timeline,
                start,
                end,
            });
        }
        if is_first {
            return Ok(ranges);
        }
        end = start;
    }
    let message = format!(
        "the backup began at {} on timeline {}, which does not lead to {} on timeline {}, where it ended",
        started.start, started.timeline, stopped.end, stopped.timeline
    );
    Err(CommandError::new("55000", message).hint(
        "This means that the backup being taken is corrupt and should not be used. Try taking another online backup.",
    ))
}

/// Reads the beginning of a segment under the name of the newest timeline that has it, up to that of the backup's end:
/// the copy knows no newer one.
fn read_first(
    wal: &Wal,
    history: &History,
    segment: SegmentNumber,
    upto: TimelineId,
    chunk: &mut [u8],
) -> Result<(TimelineId, usize), WalError> {
    let size = wal.segment_size();
    let mut missing = None;
    for timeline in history.candidates(segment, size).filter(|t| *t <= upto) {
        match wal.segments().read(timeline, segment.start(size), chunk) {
            Err(WalError::SegmentRemoved(name)) => {
                missing.get_or_insert(name);
            }
            other => return other.map(|n| (timeline, n)),
        }
    }
    let name = missing.unwrap_or_else(|| segment.file_name(upto, size));
    Err(WalError::SegmentRemoved(name))
}

fn position(out: &mut BytesMut, lsn: Lsn, timeline: TimelineId) {
    reply::columns(out, &[("recptr", oids::TEXT), ("tli", oids::INT8)]);
    reply::row(out, &[Some(&lsn.to_string()), Some(&timeline.to_string())]);
    reply::complete(out, "SELECT");
}

async fn header<L: Link, S: BackupSource>(
    link: &mut L,
    source: &S,
    started: &Started,
    options: &BackupOptions,
    entries: &[Entry],
) -> Result<(), ServeError> {
    let size = options
        .progress
        .then(|| (total_size(&**source.disk(), entries) / 1024).to_string());
    let out = link.out();
    position(out, started.start, started.timeline);
    reply::columns(
        out,
        &[
            ("spcoid", oids::OID),
            ("spclocation", oids::TEXT),
            ("size", oids::INT8),
        ],
    );
    reply::row(out, &[None, None, size.as_deref()]);
    reply::complete(out, "SELECT");
    reply::copy_response(out, b'H');
    Ok(link.flush().await?)
}

/// An estimate for the progress display; files that went meanwhile count nothing.
fn total_size(disk: &dyn Disk, entries: &[Entry]) -> u64 {
    let size = |entry: &Entry| match entry {
        Entry::File(path) => disk
            .open(path, Access::Read)
            .and_then(|f| f.len())
            .unwrap_or(0),
        Entry::Directory(_) => 0,
    };
    entries.iter().map(size).sum()
}

/// One tar archive on its way out.
struct Archive<'a, L: Link> {
    link: &'a mut L,
    disk: &'a dyn Disk,
    manifest: Option<Manifest>,
    verify: bool,
    discard: bool,
    progress: bool,
    /// Pages with a newer LSN may be torn in the copy; the log heals them.
    start: Lsn,
    throttle: Option<Throttle>,
    done: u64,
    reported: Instant,
    damaged_pages: u64,
    chunk: Vec<u8>,
}

impl<'a, L: Link> Archive<'a, L> {
    fn new(
        link: &'a mut L,
        disk: &'a dyn Disk,
        options: &BackupOptions,
        algorithm: Option<ChecksumAlgorithm>,
        start: Lsn,
    ) -> Self {
        Archive {
            link,
            disk,
            manifest: algorithm.map(Manifest::new),
            verify: options.verify_checksums,
            discard: options.discard,
            progress: options.progress,
            start,
            throttle: options.max_rate.map(Throttle::new),
            done: 0,
            reported: Instant::now(),
            damaged_pages: 0,
            chunk: vec![0; CHUNK],
        }
    }

    async fn begin(&mut self, name: &str) -> Result<(), ServeError> {
        reply::copy_data(self.link.out(), |out| {
            out.put_u8(b'n');
            out.put_slice(name.as_bytes());
            out.put_slice(b"\0\0");
        });
        Ok(self.link.flush().await?)
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<(), ServeError> {
        self.done += bytes.len() as u64;
        if !self.discard {
            reply::copy_data(self.link.out(), |out| {
                out.put_u8(b'd');
                out.put_slice(bytes);
            });
        }
        if self.progress && self.reported.elapsed() >= Duration::from_secs(1) {
            self.report_progress();
        }
        if self.link.out().len() >= CHUNK {
            self.link.flush().await?;
        }
        if let Some(pause) = self
            .throttle
            .as_mut()
            .and_then(|t| t.spent(bytes.len() as u64))
        {
            self.link.flush().await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn report_progress(&mut self) {
        let done = self.done;
        reply::copy_data(self.link.out(), |out| {
            out.put_u8(b'p');
            out.put_u64(done);
        });
        self.reported = Instant::now();
    }

    async fn tar_header(
        &mut self,
        path: &Path,
        size: u64,
        directory: bool,
    ) -> Result<(), ServeError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).map_err(read_error(path))?;
        header.set_size(size);
        header.set_mode(if directory { 0o700 } else { 0o600 });
        header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default());
        header.set_entry_type(if directory {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_cksum();
        self.data(header.as_bytes()).await
    }

    async fn padding(&mut self, size: u64) -> Result<(), ServeError> {
        let over = usize::try_from(size % TAR_BLOCK as u64).expect("below 512");
        if over == 0 {
            Ok(())
        } else {
            self.data(&[0; TAR_BLOCK][over..]).await
        }
    }

    async fn directory(&mut self, path: &Path) -> Result<(), ServeError> {
        self.tar_header(path, 0, true).await
    }

    /// A file whose contents are made here.
    async fn bytes(&mut self, path: &str, contents: &[u8]) -> Result<(), ServeError> {
        self.tar_header(Path::new(path), contents.len() as u64, false)
            .await?;
        self.data(contents).await?;
        self.padding(contents.len() as u64).await?;
        if let Some(manifest) = &mut self.manifest {
            let mut sum = manifest.checksum();
            sum.update(contents);
            manifest.add_file(path, contents.len() as u64, jiff::Timestamp::now(), sum);
        }
        Ok(())
    }

    /// A file as it is on disk. One that went meanwhile is left out; one that shrinks is filled with zeroes, one
    /// that grows is cut: the log tells the rest.
    async fn file(&mut self, path: &Path) -> Result<(), ServeError> {
        let file = match self.disk.open(path, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(read_error(path))?,
        };
        let size = file.len().map_err(read_error(path))?;
        self.tar_header(path, size, false).await?;
        let verify = self.verify && files::has_page_checksums(path);
        let mut sum = self
            .manifest
            .as_ref()
            .map_or(FileChecksum::None, Manifest::checksum);
        let mut at = 0;
        while at < size {
            let mut chunk = std::mem::take(&mut self.chunk);
            let want = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            let got = file
                .read_at(&mut chunk[..want], at)
                .map_err(read_error(path))?;
            chunk[got..want].fill(0);
            if verify {
                self.verify_pages(path, &*file, &mut chunk[..got], at)?;
            }
            sum.update(&chunk[..want]);
            let sent = self.data(&chunk[..want]).await;
            self.chunk = chunk;
            sent?;
            at += want as u64;
            let_others_speak().await;
        }
        self.padding(size).await?;
        if let (Some(manifest), Some(name)) = (&mut self.manifest, path.to_str()) {
            manifest.add_file(name, size, jiff::Timestamp::now(), sum);
        }
        Ok(())
    }

    /// Checks pages that were not changed since the backup began. A page that fails is read once more: the
    /// first read may have met a write half done.
    fn verify_pages(
        &mut self,
        path: &Path,
        file: &dyn crate::io::DiskFile,
        chunk: &mut [u8],
        at: u64,
    ) -> Result<(), ServeError> {
        let first = first_block(path, at);
        for (n, bytes) in chunk.chunks_exact_mut(PAGE_SIZE).enumerate() {
            let block = BlockNumber::new(first + u32::try_from(n).expect("few pages in a chunk"));
            let bytes: &mut [u8; PAGE_SIZE] = bytes.try_into().expect("a whole page");
            if self.is_fine(bytes, block) {
                continue;
            }
            file.read_at(bytes, at + (n * PAGE_SIZE) as u64)
                .map_err(read_error(path))?;
            if !self.is_fine(bytes, block) {
                self.damaged_pages += 1;
                tracing::warn!(
                    "checksum verification failed in file \"{}\", block {block}",
                    path.display()
                );
            }
        }
        Ok(())
    }

    fn is_fine(&self, bytes: &[u8; PAGE_SIZE], block: BlockNumber) -> bool {
        page::is_new(bytes)
            || page::lsn(bytes) >= self.start
            || page::stored_checksum(bytes) == page::checksum_of(bytes, block)
    }

    /// The segments that replay of the backup needs, and the history of the timeline.
    async fn log(
        &mut self,
        wal: &Wal,
        history: &History,
        started: &Started,
        stopped: &Stopped,
    ) -> Result<(), ServeError> {
        let size = wal.segment_size();
        let (mut segment, last) = (
            started.start.segment(size),
            stopped.end.previous_byte_segment(size),
        );
        while segment <= last {
            self.segment(wal, history, segment, stopped.timeline)
                .await?;
            segment = segment.next();
        }
        if stopped.timeline != TimelineId::FIRST {
            self.history(history, stopped.timeline).await?;
        }
        Ok(())
    }

    async fn segment(
        &mut self,
        wal: &Wal,
        history: &History,
        segment: SegmentNumber,
        upto: TimelineId,
    ) -> Result<(), ServeError> {
        let size = wal.segment_size();
        let mut at = segment.start(size);
        let end = segment.next().start(size);
        // Of the last one of a standby more may come.
        let is_whole = wal.flush_lsn() >= end;
        let mut found = None;
        while at < end {
            let mut chunk = std::mem::take(&mut self.chunk);
            let read = match found {
                None => read_first(wal, history, segment, upto, &mut chunk),
                Some(t) => wal.segments().read(t, at, &mut chunk).map(|n| (t, n)),
            };
            let (timeline, n) = read.map_err(|e| CommandError::new("58P01", e.to_string()))?;
            let name = segment.file_name(timeline, size);
            if n == 0 {
                let message = format!("WAL file \"{name}\" is shorter than it should be");
                return Err(CommandError::new("XX001", message).into());
            }
            if found.is_none() {
                found = Some(timeline);
                self.tar_header(&Path::new("pg_wal").join(name), u64::from(size), false)
                    .await?;
            }
            let sent = self.data(&chunk[..n]).await;
            self.chunk = chunk;
            sent?;
            at = at.advance(n as u64);
            let_others_speak().await;
        }
        match found {
            Some(timeline) if is_whole => self.archived(&segment.file_name(timeline, size)).await,
            _ => Ok(()),
        }
    }

    /// Archiving the file is this server's duty. Without the note a copy would do it once more when it is promoted, and
    /// a command that does not overwrite would fail there for ever.
    async fn archived(&mut self, name: &str) -> Result<(), ServeError> {
        let note = Path::new("pg_wal").join(archive_status::DIR);
        self.tar_header(&note.join(format!("{name}.done")), 0, false)
            .await
    }

    /// The timeline's history file, without which the copy cannot tell what it has.
    async fn history(&mut self, history: &History, timeline: TimelineId) -> Result<(), ServeError> {
        let name = timeline.history_file_name();
        let path = Path::new("pg_wal").join(&name);
        let exists = self.disk.exists(&path).map_err(read_error(&path))?;
        // So little is known of the timeline here, too. An empty file would be taken for a damaged one.
        if !exists && history.timeline() == timeline && history.ancestors().is_empty() {
            return Ok(());
        }
        // The log is no part of the manifest's list of files.
        let kept = self.manifest.take();
        let done = if exists {
            self.file(&path).await
        } else if history.timeline() == timeline {
            let text = history.to_text();
            self.bytes(&format!("pg_wal/{name}"), text.as_bytes()).await
        } else {
            let message = format!("could not open file \"pg_wal/{name}\"");
            Err(CommandError::new("58P01", message).into())
        };
        self.manifest = kept;
        done?;
        self.archived(&name).await
    }

    async fn end(&mut self) -> Result<(), ServeError> {
        self.data(&[0; 2 * TAR_BLOCK]).await?;
        if self.progress {
            self.report_progress();
        }
        Ok(self.link.flush().await?)
    }

    async fn send_manifest(&mut self, text: &str) -> Result<(), ServeError> {
        reply::copy_data(self.link.out(), |out| out.put_u8(b'm'));
        for piece in text.as_bytes().chunks(CHUNK) {
            self.data(piece).await?;
        }
        Ok(self.link.flush().await?)
    }
}

/// A client that takes everything at once never makes a backup wait, and who races it (a shutdown, a cancel) is heard
/// only while it waits.
async fn let_others_speak() {
    tokio::task::yield_now().await;
}

/// The number of the block that begins at `offset` of the file, counted over the fork's 1 GiB files.
fn first_block(path: &Path, offset: u64) -> u32 {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .and_then(|e| e.parse::<u32>().ok());
    let in_file = u32::try_from(offset / PAGE_SIZE as u64).expect("a file has 131072 blocks");
    extension.unwrap_or(0) * BLOCKS_PER_FILE + in_file
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> CommandError {
    let path = path.display().to_string();
    move |error| CommandError::new("58030", format!("could not read file \"{path}\": {error}"))
}

/// Keeps an average rate, measured over slices of an eighth of a second.
struct Throttle {
    rate: u64,
    began: Instant,
    spent: u64,
}

impl Throttle {
    fn new(rate: u64) -> Throttle {
        Throttle {
            rate,
            began: Instant::now(),
            spent: 0,
        }
    }

    /// How long to pause after so many more bytes.
    fn spent(&mut self, bytes: u64) -> Option<Duration> {
        self.spent += bytes;
        let due = Duration::from_micros(self.spent.saturating_mul(1_000_000) / self.rate);
        due.checked_sub(self.began.elapsed())
            .filter(|pause| *pause >= Duration::from_millis(125))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_backup_may_cross_timelines_but_not_leave_them() {
        let (one, two, four) = (TimelineId::FIRST, TimelineId::new(2), TimelineId::new(4));
        let at = Lsn::new;
        let history =
            History::root(one)
                .fork(two, at(0x300), "promoted")
                .fork(four, at(0x500), "promoted");
        type Found = Result<Vec<(TimelineId, u64, u64)>, &'static str>;
        let of = |from: (TimelineId, u64), to: (TimelineId, u64)| -> Found {
            let started = Started {
                start: at(from.1),
                timeline: from.0,
                label_file: String::new(),
            };
            let stopped = Stopped {
                end: at(to.1),
                timeline: to.0,
            };
            let found = ranges(&history, &started, &stopped).map_err(|e| e.state)?;
            let shown = found
                .iter()
                .map(|r| (r.timeline, r.start.raw(), r.end.raw()));
            Ok(shown.collect::<Vec<_>>())
        };
        assert_eq!(
            of((four, 0x600), (four, 0x700)),
            Ok(vec![(four, 0x600, 0x700)])
        );
        assert_eq!(
            of((one, 0x200), (two, 0x400)),
            Ok(vec![(two, 0x300, 0x400), (one, 0x200, 0x300)])
        );
        assert_eq!(
            of((one, 0x200), (one, 0x250)),
            Ok(vec![(one, 0x200, 0x250)])
        );
        // It began where its timeline had been left, on a stranger, or ended on one.
        for (from, to) in [
            ((one, 0x380), (two, 0x400)),
            ((TimelineId::new(3), 0x300), (four, 0x600)),
            ((one, 0x200), (TimelineId::new(3), 0x400)),
        ] {
            assert_eq!(of(from, to), Err("55000"));
        }
    }

    #[test]
    fn blocks_are_counted_over_the_files_of_a_fork() {
        assert_eq!(first_block(Path::new("base/5/16384"), 3 * 8192), 3);
        assert_eq!(
            first_block(Path::new("base/5/16384.2"), 8192),
            2 * BLOCKS_PER_FILE + 1
        );
    }

    #[test]
    fn a_throttle_pauses_only_when_ahead_of_its_rate() {
        let mut throttle = Throttle::new(1_000_000);
        assert_eq!(throttle.spent(1_000), None);
        let pause = throttle
            .spent(10_000_000)
            .expect("ten seconds' worth at once");
        assert!(pause > Duration::from_secs(9), "{pause:?}");
    }
}
