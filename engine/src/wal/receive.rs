//! Writing a log that comes from elsewhere: what a standby's receiver does with the bytes of its stream.
//!
//! The same rules as for the log's own writer: segments have their full size from the beginning, and one is synced
//! before the first byte of the next is written, so the end of a received log is told from damage as well.

use std::io;
use std::sync::Arc;

use crate::ids::{Lsn, SegmentNumber, TimelineId};
use crate::io::{FileRef, durable};

use super::error::WalError;
use super::segments::Segments;
use super::timeline::{self, History};

/// Told that bytes of a timeline, which began to come at the first position, are durable up to the second.
pub type ReceivedHook = Box<dyn Fn(TimelineId, Lsn, Lsn) + Send>;

/// Told why a sync failed.
pub type FailedHook = Box<dyn Fn(&str) + Send>;

pub struct ReceivedSegments {
    segments: Arc<Segments>,
    open: Option<(TimelineId, SegmentNumber, FileRef)>,
    /// The stream's timeline, its first byte, and how far it is written.
    stream: Option<(TimelineId, Lsn, Lsn)>,
    synced: Lsn,
    /// How far the sender's log goes, as last told.
    upstream_end: Lsn,
    /// `archive_mode = always`: finished segments are archived here too.
    archive_always: bool,
    on_sync: ReceivedHook,
    on_failure: FailedHook,
}

impl ReceivedSegments {
    pub fn new(
        segments: Arc<Segments>,
        archive_always: bool,
        on_sync: ReceivedHook,
    ) -> ReceivedSegments {
        ReceivedSegments {
            segments,
            open: None,
            stream: None,
            synced: Lsn::INVALID,
            upstream_end: Lsn::INVALID,
            archive_always,
            on_sync,
            on_failure: Box::new(|_| {}),
        }
    }

    /// `hook` hears of a sync that failed, and is not expected to return: what was written is perhaps lost, and a second
    /// sync would say that it is not.
    #[must_use]
    pub fn or_fail(self, hook: FailedHook) -> ReceivedSegments {
        ReceivedSegments {
            on_failure: hook,
            ..self
        }
    }

    /// The sender has this much log: what is going to be written.
    pub fn expect(&mut self, upstream_end: Lsn) {
        self.upstream_end = upstream_end;
    }

    /// Writes bytes of `timeline` from `at` on. A position that does not follow the last begins a new stream.
    pub fn write(&mut self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> io::Result<()> {
        match self.stream {
            Some((t, _, upto)) if t == timeline && upto == at => {}
            _ => {
                self.sync()?;
                self.open = None;
                self.stream = Some((timeline, at, at));
                self.synced = at;
            }
        }
        let size = self.segments.size();
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let offset = at.segment_offset(size);
            let n = rest.len().min((size - offset) as usize);
            let file = self.file(timeline, at.segment(size))?;
            file.write_all_at(&rest[..n], u64::from(offset))?;
            (at, rest) = (at.advance(n as u64), &rest[n..]);
            if let Some((_, _, upto)) = &mut self.stream {
                *upto = at;
            }
            if at.segment_offset(size) == 0 {
                self.finish_segment(timeline, at)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, timeline: TimelineId, segment: SegmentNumber) -> io::Result<FileRef> {
        if let Some((t, s, file)) = &self.open
            && (*t, *s) == (timeline, segment)
        {
            return Ok(file.clone());
        }
        let file = if self.upstream_end >= segment.next().start(self.segments.size()) {
            self.segments.open_or_create_bare(timeline, segment)
        } else {
            self.segments.open_or_create(timeline, segment)
        };
        let file = file.map_err(into_io)?;
        // One that was here may have lost its end, which comes again. A promotion must not leave it short: the next start
        // would refuse it.
        let size = u64::from(self.segments.size());
        if file.len()? < size {
            file.set_len(size)?;
        }
        self.open = Some((timeline, segment, file.clone()));
        Ok(file)
    }

    fn finish_segment(&mut self, timeline: TimelineId, end: Lsn) -> io::Result<()> {
        self.sync()?;
        self.open = None;
        let size = self.segments.size();
        let name = end.previous_byte_segment(size).file_name(timeline, size);
        let noted = self.segments.note_received(&name, self.archive_always);
        noted.map_err(into_io)
    }

    /// All that was written is durable when it returns.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some((timeline, from, upto)) = self.stream else {
            return Ok(());
        };
        if upto == self.synced {
            return Ok(());
        }
        if let Some((named, segment, file)) = &self.open
            && let Err(error) = file.sync()
        {
            let path = self.segments.path(*named, *segment);
            let error = WalError::io("fdatasync", path)(error);
            (self.on_failure)(&error.to_string());
            return Err(into_io(error));
        }
        self.synced = upto;
        (self.on_sync)(timeline, from, upto);
        Ok(())
    }

    /// Is the timeline's history here? One that is damaged is wanted anew.
    pub fn has_history(&self, timeline: TimelineId) -> io::Result<bool> {
        match timeline::read(self.segments.disk(), self.segments.dir(), timeline) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.is_damaged_history() => Ok(false),
            Err(error) => Err(into_io(error)),
        }
    }

    /// Stores a timeline history file durably. Text that is no history is refused.
    pub fn put_history(&self, timeline: TimelineId, text: &[u8]) -> io::Result<()> {
        History::parse(timeline, &String::from_utf8_lossy(text)).map_err(into_io)?;
        let path = self.segments.dir().join(timeline.history_file_name());
        durable::replace(self.segments.disk(), &path, text)?;
        if self.archive_always {
            let noted = self
                .segments
                .note_received(&timeline.history_file_name(), true);
            noted.map_err(into_io)?;
        }
        Ok(())
    }
}

/// Keeps the system's error recognisable.
fn into_io(error: WalError) -> io::Error {
    match error {
        WalError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::ids::SystemId;
    use crate::io::sim::{Fault, Operation, SimDisk};
    use crate::io::{Access, Disk as _};

    const SIZE: u32 = 64 << 10;
    const ONE: TimelineId = TimelineId::FIRST;

    fn segments(disk: &SimDisk) -> Arc<Segments> {
        let disk = Arc::new(disk.clone());
        let dir = Path::new("pg_wal").to_owned();
        Arc::new(Segments::new(disk, dir, SIZE, SystemId::new(7)))
    }

    fn byte(position: u64) -> u8 {
        (position * 31 % 251) as u8
    }

    /// Receives two and a half segments of a log that ends at `upstream_end`, syncs at two and a quarter, crashes.
    fn received(upstream_end: Lsn) -> (Arc<Segments>, Lsn) {
        let disk = SimDisk::new();
        for dir in ["pg_wal", "pg_wal/archive_status"] {
            disk.create_dir(Path::new(dir)).expect("new");
        }
        for dir in ["", "pg_wal"] {
            disk.sync_dir(Path::new(dir)).expect("synced");
        }
        let mut log = ReceivedSegments::new(segments(&disk), false, Box::new(|_, _, _| {}));
        log.expect(upstream_end);
        let size = u64::from(SIZE);
        let mut at = Lsn::new(size);
        let piece = size / 16;
        for n in 0..40 {
            let bytes: Vec<u8> = (at.raw()..at.raw() + piece).map(byte).collect();
            log.write(ONE, at, &bytes).expect("room");
            at = at.advance(piece);
            if n == 35 {
                log.sync().expect("synced");
            }
        }
        (segments(&disk.crash()), Lsn::new(size + 36 * piece))
    }

    #[test]
    fn what_was_synced_survives_whether_it_came_in_bulk_or_not() {
        let size = u64::from(SIZE);
        for upstream_end in [Lsn::INVALID, Lsn::new(3 * size), Lsn::new(9 * size)] {
            let (segments, synced) = received(upstream_end);
            for number in 1..4 {
                let start = Lsn::new(number * size);
                let mut bytes = vec![0; SIZE as usize];
                let n = segments.read(ONE, start, &mut bytes).expect("it is there");
                assert_eq!(n, SIZE as usize, "segment {number} has its full size");
                let durable = synced.saturating_sub(start).min(size) as usize;
                let wanted: Vec<u8> = (start.raw()..).map(byte).take(durable).collect();
                assert_eq!(bytes[..durable], wanted, "segment {number}");
            }
        }
    }

    #[test]
    fn a_segment_that_lost_its_end_has_its_full_size_again() {
        let disk = SimDisk::new();
        for dir in ["pg_wal", "pg_wal/archive_status"] {
            disk.create_dir(Path::new(dir)).expect("new");
        }
        let begin = Lsn::new(u64::from(SIZE));
        let all = segments(&disk);
        let receive = |at: Lsn, bytes: &[u8]| {
            let mut log = ReceivedSegments::new(all.clone(), false, Box::new(|_, _, _| {}));
            log.write(ONE, at, bytes).expect("room");
        };
        receive(begin, &[1; 100]);
        let path = all.path(ONE, begin.segment(SIZE));
        let file = disk.open(&path, Access::ReadWrite).expect("there");
        file.set_len(50).expect("cut");
        assert!(all.check_sizes(SegmentNumber::new(0)).is_err());
        receive(begin.advance(100), &[2; 100]);
        assert_eq!(file.len().expect("asked"), u64::from(SIZE));
        assert!(all.check_sizes(SegmentNumber::new(0)).is_ok());
    }

    /// After its error the system says of a second sync that all is well, and has forgotten the bytes.
    #[test]
    fn a_sync_that_fails_is_told_and_not_taken_for_done() {
        let disk = SimDisk::new();
        for dir in ["pg_wal", "pg_wal/archive_status"] {
            disk.create_dir(Path::new(dir)).expect("new");
        }
        let failed = Arc::new(AtomicBool::new(false));
        let seen = failed.clone();
        let mut log = ReceivedSegments::new(segments(&disk), false, Box::new(|_, _, _| {}))
            .or_fail(Box::new(move |_: &str| seen.store(true, Ordering::SeqCst)));
        let begin = Lsn::new(u64::from(SIZE));
        log.write(ONE, begin, &[1; 100]).expect("room");
        log.sync().expect("synced");
        assert!(!failed.load(Ordering::SeqCst));
        disk.inject(Fault {
            operation: Operation::Sync,
            path_contains: "pg_wal/0000".to_owned(),
            after: 0,
            error: io::ErrorKind::Other,
            stays: false,
        });
        log.write(ONE, begin.advance(100), &[2; 100]).expect("room");
        assert!(log.sync().is_err());
        assert!(failed.load(Ordering::SeqCst));
    }
}
