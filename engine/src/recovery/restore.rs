//! `restore_command`: fetching a file from the archive.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::shell_command::ShellCommand;
use crate::ids::{SegmentNumber, TimelineId};
use crate::io::{Access, Disk, durable};
use crate::wal::timeline::History;
use crate::wal::{Segments, WalError};

/// How often it is looked whether a command has ended: soon at first, then after ever longer pauses up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// What a command has to end after SIGTERM.
const TO_END: Duration = Duration::from_secs(1);

/// Where WAL and history files are kept beside `pg_wal`.
pub trait ArchiveShell: Send + Sync {
    /// Tries to bring the file to `target` (a path in the data directory). `false`: the archive does not have it.
    /// `oldest_kept` is the segment with the redo point of the last restartpoint: older ones will not be asked for.
    /// Fails with [`io::ErrorKind::Interrupted`] where the server is to stop and does not wait for the answer.
    fn restore(&self, file: &str, target: &Path, oldest_kept: &str) -> io::Result<bool>;
}

/// Runs the setting `restore_command`, which is read anew each time.
pub struct CommandArchive {
    data_directory: PathBuf,
    command: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    is_stopping: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl CommandArchive {
    /// `is_stopping`: a command that runs is ended, because it may hang.
    pub fn new(
        data_directory: PathBuf,
        command: Arc<dyn Fn() -> Option<String> + Send + Sync>,
        is_stopping: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> CommandArchive {
        CommandArchive {
            data_directory,
            command,
            is_stopping,
        }
    }

    fn wait_for(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if (self.is_stopping)() {
                end(child);
                return Err(io::ErrorKind::Interrupted.into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// With all that it has started. One that hangs in the system can't be waited for; it has nobody to report to any more.
fn end(child: &mut Child) {
    let group = Pid::from_child(child);
    // That it has just ended is no error.
    let _ = kill_process_group(group, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < TO_END {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LONGEST_PAUSE);
    }
    let _ = kill_process_group(group, Signal::KILL);
}

impl ArchiveShell for CommandArchive {
    fn restore(&self, file: &str, target: &Path, oldest_kept: &str) -> io::Result<bool> {
        let Some(command) = (self.command)().filter(|c| !c.is_empty()) else {
            return Ok(false);
        };
        let path = target.to_string_lossy();
        let mut child = ShellCommand::parse(&command)
            .to_run(&[('f', file), ('p', &path), ('r', oldest_kept)])
            .current_dir(&self.data_directory)
            // What a shell has started would outlive it, and write what the next start asks for.
            .process_group(0)
            .spawn()?;
        let status = self.wait_for(&mut child)?;
        if !status.success() {
            tracing::debug!("could not restore file \"{file}\" from archive: {status}");
            return if is_broken(status) {
                let text = format!("could not restore file \"{file}\" from archive: {status}");
                Err(io::Error::other(text))
            } else {
                Ok(false)
            };
        }
        self.data_directory.join(target).try_exists()
    }
}

/// Whether the command itself went wrong, as against an archive that does not have the file: it was not found, could not
/// run, or was ended by a signal (manual, 26.3.4). What it would have given is unknown, so recovery does not go on as if
/// the archive ended here. SIGTERM is how a shutdown reaches it.
fn is_broken(status: ExitStatus) -> bool {
    let by_signal = status
        .signal()
        .is_some_and(|signal| signal != Signal::TERM.as_raw());
    by_signal || status.code().is_some_and(|code| code > 125)
}

/// Fetches a segment into `pg_wal` under its own name, whole and durable. What stood there may be the only copy of what
/// was acknowledged: it is replaced only by a file of the right size that begins as this segment of this log does.
pub(super) fn fetch_segment(
    archive: &dyn ArchiveShell,
    segments: &Segments,
    timeline: TimelineId,
    segment: SegmentNumber,
    oldest_kept: &str,
) -> io::Result<bool> {
    let (disk, dir) = (segments.disk(), segments.dir());
    let file = segments.name(timeline, segment);
    let aside = dir.join("RECOVERYXLOG");
    durable::remove(disk, &aside)?;
    if !archive.restore(&file, &aside, oldest_kept)? {
        return Ok(false);
    }
    let restored = disk.open(&aside, Access::ReadWrite)?;
    let (len, size) = (restored.len()?, u64::from(segments.size()));
    if len != size {
        tracing::warn!("archive file \"{file}\" has wrong size: {len} instead of {size}");
        durable::remove(disk, &aside)?;
        return Ok(false);
    }
    if let Some(reason) = segments.objection(&restored, timeline, segment)? {
        tracing::warn!("archive file \"{file}\" is not that segment: {reason}");
        durable::remove(disk, &aside)?;
        return Ok(false);
    }
    restored.sync()?;
    durable::rename(disk, &aside, &dir.join(&file))?;
    tracing::info!("restored log file \"{file}\" from archive");
    Ok(true)
}

/// What the archive has of a timeline's history.
#[derive(Debug)]
pub(super) enum ArchivedHistory {
    Nothing,
    /// It is in the directory now.
    Restored,
    /// A file that is no history, or not the whole of one: it may be on its way into the archive. It is not kept.
    Damaged(WalError),
}

/// Fetches a timeline's history into `dir`, whole and durable; what stood there is replaced only by a history.
pub(super) fn fetch_history(
    archive: &dyn ArchiveShell,
    disk: &dyn Disk,
    dir: &Path,
    timeline: TimelineId,
    oldest_kept: &str,
) -> io::Result<ArchivedHistory> {
    let name = timeline.history_file_name();
    let aside = dir.join("RECOVERYHISTORY");
    durable::remove(disk, &aside)?;
    if !archive.restore(&name, &aside, oldest_kept)? {
        return Ok(ArchivedHistory::Nothing);
    }
    let text = durable::read(disk, &aside)?;
    if let Err(error) = History::parse(timeline, &String::from_utf8_lossy(&text)) {
        durable::remove(disk, &aside)?;
        return Ok(ArchivedHistory::Damaged(error));
    }
    disk.open(&aside, Access::ReadWrite)?.sync()?;
    durable::rename(disk, &aside, &dir.join(name))?;
    Ok(ArchivedHistory::Restored)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::ids::SystemId;
    use crate::io::sim::SimDisk;
    use crate::wal::page::{LongHeader, PageHeader};

    const SIZE: u32 = 64 << 10;

    /// Has one file, of which so much has arrived so far.
    struct Arriving<'a> {
        disk: &'a SimDisk,
        text: Mutex<&'a [u8]>,
    }

    impl ArchiveShell for Arriving<'_> {
        fn restore(&self, _file: &str, target: &Path, _oldest_kept: &str) -> io::Result<bool> {
            durable::replace(self.disk, target, *self.text.lock())?;
            Ok(true)
        }
    }

    #[test]
    fn a_history_that_is_still_being_archived_is_not_kept() {
        let disk = SimDisk::new();
        let dir = Path::new("pg_wal");
        disk.create_dir(dir).expect("new");
        let timeline = TimelineId::new(2);
        let kept = dir.join(timeline.history_file_name());
        let whole = b"1\t0/3000100\tno recovery target specified\n";
        let archive = Arriving {
            disk: &disk,
            text: Mutex::new(&whole[..0]),
        };
        for len in 0..whole.len() {
            *archive.text.lock() = &whole[..len];
            let fetched = fetch_history(&archive, &disk, dir, timeline, "").expect("asked");
            assert!(
                matches!(fetched, ArchivedHistory::Damaged(_)),
                "{len}: {fetched:?}"
            );
            assert!(!disk.exists(&kept).expect("asked"), "{len}");
        }
        *archive.text.lock() = whole;
        let fetched = fetch_history(&archive, &disk, dir, timeline, "").expect("asked");
        assert!(matches!(fetched, ArchivedHistory::Restored), "{fetched:?}");
        assert_eq!(durable::read(&disk, &kept).expect("there"), whole);
    }

    /// What stands in `pg_wal` was streamed, and may be acknowledged.
    #[test]
    fn what_is_no_such_segment_takes_nothings_place() {
        let disk = SimDisk::new();
        for dir in ["pg_wal", "pg_wal/archive_status"] {
            disk.create_dir(Path::new(dir)).expect("new");
        }
        let log = |system| {
            let disk = Arc::new(disk.clone());
            Segments::new(disk, "pg_wal".into(), SIZE, SystemId::new(system))
        };
        let ours = log(7);
        let (one, segment) = (TimelineId::FIRST, SegmentNumber::new(3));
        let streamed = vec![1; SIZE as usize];
        durable::replace(&disk, &ours.path(one, segment), &streamed).expect("written");
        let first_page = |system, segment: SegmentNumber| {
            let header = PageHeader {
                info: 0,
                timeline: one,
                address: segment.start(SIZE),
                remaining: 0,
                long: Some(LongHeader {
                    system_id: SystemId::new(system),
                    segment_size: SIZE,
                }),
            };
            let (bytes, len) = header.encode();
            let mut file = bytes[..len].to_vec();
            file.resize(SIZE as usize, 2);
            file
        };
        let right = first_page(7, segment);
        for (given, taken) in [
            (&vec![0xA5; SIZE as usize], false),
            (&right[..SIZE as usize - 1].to_vec(), false),
            (&first_page(8, segment), false),
            (&first_page(7, segment.next()), false),
            (&right, true),
        ] {
            let archive = Arriving {
                disk: &disk,
                text: Mutex::new(given.as_slice()),
            };
            let fetched = fetch_segment(&archive, &ours, one, segment, "").expect("asked");
            assert_eq!(fetched, taken);
            let there = durable::read(&disk, &ours.path(one, segment)).expect("there");
            let expected = if taken { given } else { &streamed };
            assert!(there == *expected);
            let left = disk.exists(Path::new("pg_wal/RECOVERYXLOG"));
            assert!(!left.expect("asked"));
        }
    }

    #[test]
    fn a_server_that_stops_waits_for_no_restore_command() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let stopping =
            |answer: bool| -> Arc<dyn Fn() -> bool + Send + Sync> { Arc::new(move || answer) };
        let archive = |command: &'static str, is_stopping| {
            let command = Arc::new(move || Some(command.to_owned()));
            CommandArchive::new(dir.path().to_owned(), command, is_stopping)
        };
        let asked = archive("sleep 1000", stopping(true)).restore("x", Path::new("x"), "");
        let error = asked.expect_err("it is not waited for");
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let asked = archive("false", stopping(false)).restore("x", Path::new("x"), "");
        assert!(!asked.expect("the archive has none"));
        let asked = archive("cp /dev/null %p", stopping(false)).restore("x", Path::new("x"), "");
        assert!(asked.expect("it has one"));
    }

    #[test]
    fn what_a_restore_command_has_started_ends_with_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let begun = dir.path().join("begun");
        let started = move || {
            let number = std::fs::read_to_string(&begun).unwrap_or_default();
            number.strip_suffix('\n').map(str::to_owned)
        };
        let has_begun = started.clone();
        let archive = CommandArchive::new(
            dir.path().to_owned(),
            Arc::new(|| Some("sleep 1000 & echo $! > begun; wait".to_owned())),
            Arc::new(move || has_begun().is_some()),
        );
        let asked = archive.restore("x", Path::new("x"), "");
        assert!(asked.is_err(), "it is not waited for");
        let number = started().expect("it has begun");
        // One that has ended has none, whoever waits for it or does not.
        let command_line = Path::new("/proc").join(number).join("cmdline");
        let until = Instant::now() + Duration::from_secs(60);
        while std::fs::read(&command_line).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < until, "it still runs");
            std::thread::sleep(LONGEST_PAUSE);
        }
    }
}
