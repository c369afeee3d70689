//! Segment files: creating, filling, reading, recycling.
//!
//! A segment gets its name only when it has its full size on disk, so a file with a segment's name never grows
//! and writing it meets no `ENOSPC`. A crash leaves at most a temporary file (`xlogtemp.*`), removed at the next
//! start. A name is durable before the first byte of log goes into the file: naming and syncing the directory
//! are one step under one lock. Recycling keeps the old bytes in a file; their page addresses are wrong under
//! the new name, which is how readers know them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber, SystemId, TimelineId};
use crate::io::{Access, Disk, DiskRef, EntryKind, FileRef, durable};

use super::archive_status;
use super::error::WalError;
use super::page::{LONG_HEADER, LongHeader, PageHeader};
use super::timeline::History;

/// What [`Segments::recycle_before`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recycled {
    pub removed: u32,
    pub recycled: u32,
}

/// What is to become of old files that are not archived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unarchived {
    /// Nothing is archived here: they may go.
    Go,
    /// A standby that archives nothing: what somebody has asked for stays until a promotion; nothing else is asked for,
    /// because who wrote it archives it.
    StayIfAskedFor,
    /// They stay.
    Stay,
}

type NoteHook = Box<dyn Fn() + Send + Sync>;

/// How temporary files in `pg_wal` begin.
const TEMPORARY: &str = "xlogtemp.";

pub struct Segments {
    disk: DiskRef,
    dir: PathBuf,
    size: u32,
    system_id: SystemId,
    /// Held while a name appears or goes.
    names: Mutex<()>,
    /// Segments up to this one may be gone; looked at after a read, because a file can be renamed under a reader.
    removed_upto: AtomicU64,
    open: Mutex<Option<(TimelineId, SegmentNumber, FileRef)>>,
    temporary: AtomicU64,
    /// How the names of this object's temporary files begin: no leftover has such a name, not even one of a process
    /// that had the same number.
    temporary_prefix: String,
    /// Files of full size, all zeroes, durable, without a name.
    spares: Mutex<Vec<PathBuf>>,
    note_hooks: RwLock<Vec<NoteHook>>,
}

impl Segments {
    pub fn new(disk: DiskRef, dir: PathBuf, size: u32, system_id: SystemId) -> Segments {
        assert!(
            size.is_power_of_two() && size as usize >= 2 * PAGE_SIZE,
            "bad segment size {size}"
        );
        Segments {
            disk,
            dir,
            size,
            system_id,
            names: Mutex::new(()),
            removed_upto: AtomicU64::new(0),
            open: Mutex::new(None),
            temporary: AtomicU64::new(0),
            temporary_prefix: format!(
                "{TEMPORARY}{}.{:08x}.",
                std::process::id(),
                rand::random::<u32>()
            ),
            spares: Mutex::default(),
            note_hooks: RwLock::default(),
        }
    }
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Bytes in a segment.
    pub fn size(&self) -> u32 {
        self.size
    }
    pub fn name(&self, timeline: TimelineId, segment: SegmentNumber) -> String {
        segment.file_name(timeline, self.size)
    }
    pub fn path(&self, timeline: TimelineId, segment: SegmentNumber) -> PathBuf {
        self.dir.join(self.name(timeline, segment))
    }
    pub fn exists(&self, timeline: TimelineId, segment: SegmentNumber) -> Result<bool, WalError> {
        let path = self.path(timeline, segment);
        self.disk.exists(&path).map_err(WalError::io("stat", path))
    }
    /// The newest segment that may have been removed since the start.
    pub fn removed_upto(&self) -> SegmentNumber {
        SegmentNumber::new(self.removed_upto.load(Ordering::SeqCst))
    }

    /// `hook` is called each time that a file is ready to be archived; it must be short.
    pub fn on_note(&self, hook: NoteHook) {
        self.note_hooks.write().push(hook);
    }

    /// Marks a file of the directory as ready to be archived, and tells the archiver.
    pub fn note_ready(&self, name: &str) -> Result<(), WalError> {
        archive_status::notify(self.disk(), &self.dir, name)?;
        for hook in &*self.note_hooks.read() {
            hook();
        }
        Ok(())
    }

    /// A file that came by stream or from an archive is whole. With `archive_too` it is archived here as well, but only
    /// once; without, it never is.
    pub fn note_received(&self, name: &str, archive_too: bool) -> Result<(), WalError> {
        if !archive_too {
            return archive_status::set_done(self.disk(), &self.dir, name);
        }
        if archive_status::has_done_note(self.disk(), &self.dir, name)? {
            return Ok(());
        }
        self.note_ready(name)
    }

    /// At a promotion: the timelines before the one that it leaves were left by others, who archive as `*.partial` what
    /// was cut of the segments in which they did. Without a note it would pass for whole here, and be archived as that.
    pub fn note_left(&self, history: &History) -> Result<(), WalError> {
        let Some((_, earlier)) = history.ancestors().split_last() else {
            return Ok(());
        };
        for left in earlier {
            let segment = left.end.segment(self.size);
            let is_cut = left.end.segment_offset(self.size) > 0;
            if !is_cut || !self.exists(left.timeline, segment)? {
                continue;
            }
            let name = self.name(left.timeline, segment);
            if !archive_status::is_ready(self.disk(), &self.dir, &name)? {
                archive_status::set_done(self.disk(), &self.dir, &name)?;
            }
        }
        Ok(())
    }

    /// What speaks against giving a file of full size the name of this segment, in PostgreSQL's words; `None`: nothing.
    pub fn objection(
        &self,
        file: &FileRef,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> io::Result<Option<String>> {
        let mut header = [0; LONG_HEADER];
        let n = file.read_at(&mut header, 0)?;
        let start = segment.start(self.size);
        let page = PageHeader::decode(&header[..n], start, self.size, Some(self.system_id));
        Ok(match page {
            Err(reason) => Some(reason),
            Ok(page) if page.timeline > timeline => Some(format!(
                "unexpected timeline ID {} in log segment at {start}, offset 0",
                page.timeline
            )),
            Ok(_) => None,
        })
    }

    /// All segments, in order of number, then timeline.
    pub fn list(&self) -> Result<Vec<(TimelineId, SegmentNumber)>, WalError> {
        let entries = self
            .disk
            .list(&self.dir)
            .map_err(WalError::io("read directory", &self.dir))?;
        let mut found: Vec<_> = entries
            .iter()
            .filter(|(_, kind)| *kind == EntryKind::File)
            .filter_map(|(name, _)| SegmentNumber::parse_file_name(name, self.size))
            .collect();
        found.sort_by_key(|(timeline, segment)| (*segment, *timeline));
        Ok(found)
    }

    /// For writing. A segment that is missing is made first.
    pub fn open_or_create(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Result<FileRef, WalError> {
        self.prepare(timeline, segment)?;
        let path = self.path(timeline, segment);
        self.disk
            .open(&path, Access::ReadWrite)
            .map_err(WalError::io("open", path))
    }

    /// Makes sure that the segment is there in full size.
    pub fn prepare(&self, timeline: TimelineId, segment: SegmentNumber) -> Result<(), WalError> {
        self.make(timeline, segment, |header| self.fill_temporary(header))
    }

    /// As [`Self::open_or_create`] for a segment all of whose bytes are about to be written: a new one is not filled
    /// with zeroes first, so that a log that is received in bulk goes to disk once instead of twice. What is not
    /// written yet reads as zeroes all the same.
    pub fn open_or_create_bare(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Result<FileRef, WalError> {
        self.make(timeline, segment, |header| {
            self.new_temporary(|file| {
                file.write_all_at(header, 0)?;
                file.set_len(u64::from(self.size))
            })
        })?;
        let path = self.path(timeline, segment);
        self.disk
            .open(&path, Access::ReadWrite)
            .map_err(WalError::io("open", path))
    }

    fn make(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
        temporary: impl FnOnce(&[u8]) -> Result<PathBuf, WalError>,
    ) -> Result<(), WalError> {
        let _names = self.names.lock();
        if self.exists(timeline, segment)? {
            return Ok(());
        }
        // Like a recycled segment, a new one begins with a header of another address: pg_waldump takes the segment
        // size from whichever file it finds first.
        let long = LongHeader {
            system_id: self.system_id,
            segment_size: self.size,
        };
        let nowhere = PageHeader {
            info: 0,
            timeline,
            address: Lsn::INVALID,
            remaining: 0,
            long: Some(long),
        };
        let (header, len) = nowhere.encode();
        let temporary = temporary(&header[..len])?;
        self.give_name(&temporary, &self.path(timeline, segment))
    }

    /// Has so many files of zeroes ready, so that a promotion does not have to fill them.
    pub fn keep_spares(&self, wanted: usize) -> Result<(), WalError> {
        while self.spares.lock().len() < wanted {
            let spare = self.new_zeroed(&[])?;
            self.spares.lock().push(spare);
        }
        Ok(())
    }

    /// A file of full size: `beginning`, then zeroes. Durable but for its name.
    fn fill_temporary(&self, beginning: &[u8]) -> Result<PathBuf, WalError> {
        let Some(spare) = self.spares.lock().pop() else {
            return self.new_zeroed(beginning);
        };
        let fill = || -> io::Result<()> {
            let file = self.disk.open(&spare, Access::ReadWrite)?;
            file.write_all_at(beginning, 0)?;
            file.sync()
        };
        if beginning.is_empty() {
            return Ok(spare);
        }
        fill().map_err(WalError::io("write to", &spare))?;
        Ok(spare)
    }

    fn new_zeroed(&self, beginning: &[u8]) -> Result<PathBuf, WalError> {
        self.new_temporary(|file| {
            file.write_all_at(beginning, 0)?;
            let done = beginning.len() as u64;
            file.allocate(done, u64::from(self.size) - done)
        })
    }

    /// A new file, filled and synced.
    fn new_temporary(
        &self,
        contents: impl FnOnce(&FileRef) -> io::Result<()>,
    ) -> Result<PathBuf, WalError> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{}{number}", self.temporary_prefix));
        let fill = || -> io::Result<()> {
            let file = self.disk.open(&path, Access::Truncate)?;
            contents(&file)?;
            file.sync()
        };
        fill().map_err(|error| {
            // The half-filled file takes room that is wanted.
            let _ = self.disk.remove_file(&path);
            WalError::io("write to", &path)(error)
        })?;
        Ok(path)
    }

    fn give_name(&self, from: &Path, to: &Path) -> Result<(), WalError> {
        durable::rename(&*self.disk, from, to).map_err(WalError::io("rename", from))
    }

    /// Bytes from `lsn` on, up to the end of the segment.
    pub fn read(&self, timeline: TimelineId, lsn: Lsn, buf: &mut [u8]) -> Result<usize, WalError> {
        let segment = lsn.segment(self.size);
        let path = self.path(timeline, segment);
        let file = self.open_to_read(timeline, segment)?;
        let offset = lsn.segment_offset(self.size);
        let n = buf.len().min((self.size - offset) as usize);
        let n = file
            .read_at(&mut buf[..n], u64::from(offset))
            .map_err(WalError::io("read", path))?;
        if self.removed_upto.load(Ordering::SeqCst) >= segment.raw()
            && !self.exists(timeline, segment)?
        {
            return Err(WalError::SegmentRemoved(self.name(timeline, segment)));
        }
        Ok(n)
    }

    /// As [`Self::read`], from the newest timeline of `history` that has the segment; says which.
    pub fn read_on(
        &self,
        history: &History,
        lsn: Lsn,
        buf: &mut [u8],
    ) -> Result<(TimelineId, usize), WalError> {
        let mut newest = None;
        for timeline in history.candidates(lsn.segment(self.size), self.size) {
            match self.read(timeline, lsn, buf) {
                Err(WalError::SegmentRemoved(name)) => {
                    newest.get_or_insert(name);
                }
                other => return other.map(|n| (timeline, n)),
            }
        }
        let name = newest.unwrap_or_else(|| self.name(history.timeline(), lsn.segment(self.size)));
        Err(WalError::SegmentRemoved(name))
    }

    fn open_to_read(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Result<FileRef, WalError> {
        let mut open = self.open.lock();
        if let Some((t, s, file)) = &*open
            && (*t, *s) == (timeline, segment)
            && self.removed_upto.load(Ordering::SeqCst) < segment.raw()
        {
            return Ok(file.clone());
        }
        let path = self.path(timeline, segment);
        let file = self
            .disk
            .open(&path, Access::Read)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => WalError::SegmentRemoved(self.name(timeline, segment)),
                _ => WalError::io("open", path)(error),
            })?;
        *open = Some((timeline, segment, file.clone()));
        Ok(file)
    }

    /// Zeroes what stands behind the end of the log in its segment: bytes of records that were lost in a crash
    /// could otherwise be taken for the continuation of what is written from here on, if a later crash cuts the
    /// log just where they begin. (No later segment can hold such bytes: it is begun only when this is durable.)
    pub fn clear_after(&self, timeline: TimelineId, end: Lsn) -> Result<(), WalError> {
        let segment = end.segment(self.size);
        if !self.exists(timeline, segment)? {
            return Ok(());
        }
        let path = self.path(timeline, segment);
        let clear = || -> io::Result<()> {
            let file = self.disk.open(&path, Access::ReadWrite)?;
            let zeroes = vec![0; 128 * PAGE_SIZE];
            let mut buf = zeroes.clone();
            let mut offset = u64::from(end.segment_offset(self.size));
            let mut changed = false;
            while offset < u64::from(self.size) {
                let n = file.read_at(&mut buf, offset)?;
                if n == 0 {
                    break;
                }
                if buf[..n] == zeroes[..n] {
                    offset += n as u64;
                    continue;
                }
                let first = buf[..n].iter().position(|b| *b != 0);
                let last = buf[..n].iter().rposition(|b| *b != 0);
                if let (Some(first), Some(last)) = (first, last) {
                    buf[first..=last].fill(0);
                    file.write_all_at(&buf[first..=last], offset + first as u64)?;
                    changed = true;
                }
                offset += n as u64;
            }
            if changed { file.sync() } else { Ok(()) }
        };
        clear().map_err(WalError::io("write to", &path))
    }

    /// Does the segment begin with a page that belongs there?
    pub fn begins_right(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Result<bool, WalError> {
        let mut header = [0; super::page::LONG_HEADER];
        let start = segment.start(self.size);
        match self.read(timeline, start, &mut header) {
            Ok(n) => Ok(PageHeader::decode(&header[..n], start, self.size, None).is_ok()),
            Err(WalError::SegmentRemoved(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// A promotion's first segment: what the old timeline's segment holds before `end`, then zeroes.
    pub fn fork(&self, from: TimelineId, to: TimelineId, end: Lsn) -> Result<(), WalError> {
        let segment = end.segment(self.size);
        let mut beginning = vec![0; end.segment_offset(self.size) as usize];
        if !beginning.is_empty() {
            let n = self.read(from, segment.start(self.size), &mut beginning)?;
            beginning.truncate(n);
        }
        let _names = self.names.lock();
        let temporary = self.fill_temporary(&beginning)?;
        self.give_name(&temporary, &self.path(to, segment))
    }

    /// Under whose name a segment's bytes lie here: `wanted`, else the newest timeline of `history` that has a file.
    pub fn holder(
        &self,
        history: &History,
        segment: SegmentNumber,
        wanted: TimelineId,
    ) -> Result<TimelineId, WalError> {
        for timeline in std::iter::once(wanted).chain(history.candidates(segment, self.size)) {
            if self.exists(timeline, segment)? {
                return Ok(timeline);
            }
        }
        Err(WalError::SegmentRemoved(self.name(wanted, segment)))
    }

    /// Gives the segment in which the old timeline was cut the name `*.partial`, so that its archived form never
    /// stands in the way of the whole one.
    pub fn mark_partial(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Result<String, WalError> {
        let name = format!("{}.partial", self.name(timeline, segment));
        let _names = self.names.lock();
        self.give_name(&self.path(timeline, segment), &self.dir.join(&name))?;
        Ok(name)
    }

    /// At the start: removes what a crash left half made, and syncs every segment, because replay writes pages
    /// that rely on log which so far only the operating system may have.
    pub fn clean_up_and_sync(&self) -> Result<(), WalError> {
        let entries = self
            .disk
            .list(&self.dir)
            .map_err(WalError::io("read directory", &self.dir))?;
        for (name, kind) in entries {
            // A spare may be in the making at this moment: what this object names is not a leftover.
            let leftover = name.starts_with(TEMPORARY) && !name.starts_with(&self.temporary_prefix);
            if kind == EntryKind::File && leftover {
                let path = self.dir.join(name);
                self.disk
                    .remove_file(&path)
                    .map_err(WalError::io("remove", path))?;
            }
        }
        for (timeline, segment) in self.list()? {
            let path = self.path(timeline, segment);
            let file = self
                .disk
                .open(&path, Access::ReadWrite)
                .map_err(WalError::io("open", &path))?;
            file.sync().map_err(WalError::io("fsync", path))?;
        }
        self.disk
            .sync_dir(&self.dir)
            .map_err(WalError::io("fsync", &self.dir))
    }

    /// Has every segment from `from` on its full size? It had before it got its name.
    pub fn check_sizes(&self, from: SegmentNumber) -> Result<(), WalError> {
        let expected = u64::from(self.size);
        for (timeline, segment) in self.list()? {
            if segment < from {
                continue;
            }
            let path = self.path(timeline, segment);
            let opened = self.disk.open(&path, Access::Read);
            let len = opened.and_then(|file| file.len());
            let len = len.map_err(WalError::io("open", &path))?;
            if len != expected {
                return Err(WalError::SegmentSize {
                    path: path.display().to_string(),
                    len,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// Removes segments (of any timeline) numbered below `keep_from`, or gives them names from `first_new` to
    /// `recycle_to` on `timeline`; those that are not archived, as `unarchived` says.
    pub fn recycle_before(
        &self,
        keep_from: SegmentNumber,
        timeline: TimelineId,
        first_new: SegmentNumber,
        recycle_to: SegmentNumber,
        unarchived: Unarchived,
    ) -> Result<Recycled, WalError> {
        let mut done = Recycled::default();
        let mut free = first_new;
        for (t, segment) in self.list()? {
            if segment >= keep_from {
                break;
            }
            let name = self.name(t, segment);
            if !self.may_go(&name, unarchived)? {
                continue;
            }
            let _names = self.names.lock();
            self.removed_upto.fetch_max(segment.raw(), Ordering::SeqCst);
            while free <= recycle_to && self.exists(timeline, free)? {
                free = free.next();
            }
            let path = self.dir.join(&name);
            let full_size = self
                .disk
                .open(&path, Access::Read)
                .and_then(|file| file.len());
            let full_size = full_size.map_err(WalError::io("open", &path))?;
            if free <= recycle_to && full_size == u64::from(self.size) {
                self.give_name(&path, &self.path(timeline, free))?;
                done.recycled += 1;
            } else {
                durable::remove(self.disk(), &path).map_err(WalError::io("remove", &path))?;
                done.removed += 1;
            }
            archive_status::forget(self.disk(), &self.dir, &name)?;
        }
        Ok(done)
    }

    fn may_go(&self, name: &str, unarchived: Unarchived) -> Result<bool, WalError> {
        match unarchived {
            Unarchived::Go => Ok(true),
            Unarchived::StayIfAskedFor => {
                Ok(!archive_status::is_ready(self.disk(), &self.dir, name)?)
            }
            Unarchived::Stay => archive_status::is_done(self.disk(), &self.dir, name),
        }
    }

    /// Removes what was made for the archive beside the segments before `keep_from`, and is read by nobody here: what
    /// promotions cut off (`*.partial`), and the histories of backups (`*.backup`).
    pub fn remove_beside(
        &self,
        keep_from: SegmentNumber,
        unarchived: Unarchived,
    ) -> Result<(), WalError> {
        let entries = self
            .disk
            .list(&self.dir)
            .map_err(WalError::io("read directory", &self.dir))?;
        for (name, kind) in entries {
            let beside = self.beside(&name).filter(|_| kind == EntryKind::File);
            let is_old = beside.is_some_and(|segment| segment < keep_from);
            if !is_old || !self.may_go(&name, unarchived)? {
                continue;
            }
            let path = self.dir.join(&name);
            durable::remove(self.disk(), &path).map_err(WalError::io("remove", &path))?;
            archive_status::forget(self.disk(), &self.dir, &name)?;
        }
        Ok(())
    }

    /// The segment beside which a file of such a name lies.
    fn beside(&self, name: &str) -> Option<SegmentNumber> {
        let (segment, rest) = name.split_once('.')?;
        let (_, segment) = SegmentNumber::parse_file_name(segment, self.size)?;
        (rest == "partial" || rest.ends_with(".backup")).then_some(segment)
    }

    /// After a promotion: removes segments of the timelines before that lie behind the fork, which nobody may
    /// take for log. Those waiting to be archived stay.
    pub fn remove_after_fork(
        &self,
        new_timeline: TimelineId,
        fork: Lsn,
    ) -> Result<Recycled, WalError> {
        let mut done = Recycled::default();
        let last_used = fork.previous_byte_segment(self.size);
        for (t, segment) in self.list()? {
            if t >= new_timeline || segment <= last_used {
                continue;
            }
            let name = self.name(t, segment);
            if archive_status::is_ready(self.disk(), &self.dir, &name)? {
                continue;
            }
            let _names = self.names.lock();
            let path = self.dir.join(&name);
            durable::remove(self.disk(), &path).map_err(WalError::io("remove", &path))?;
            archive_status::forget(self.disk(), &self.dir, &name)?;
            done.removed += 1;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
