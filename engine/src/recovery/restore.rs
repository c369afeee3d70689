//! `restore_command`: fetching a file from the archive.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::Signal;

use crate::config::shell_command::ShellCommand;
use crate::ids::TimelineId;
use crate::io::{Access, Disk, durable};
use crate::wal::WalError;
use crate::wal::timeline::History;

/// Where WAL and history files are kept beside `pg_wal`.
pub trait ArchiveShell: Send + Sync {
    /// Tries to bring the file to `target` (a path in the data directory). `false`: the archive does not have it.
    /// `oldest_kept` is the segment with the redo point of the last restartpoint: older ones will not be asked for.
    fn restore(&self, file: &str, target: &Path, oldest_kept: &str) -> io::Result<bool>;
}

/// Runs the setting `restore_command`, which is read anew each time.
pub struct CommandArchive {
    data_directory: PathBuf,
    command: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl CommandArchive {
    pub fn new(
        data_directory: PathBuf,
        command: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    ) -> CommandArchive {
        CommandArchive {
            data_directory,
            command,
        }
    }
}

impl ArchiveShell for CommandArchive {
    fn restore(&self, file: &str, target: &Path, oldest_kept: &str) -> io::Result<bool> {
        let Some(command) = (self.command)().filter(|c| !c.is_empty()) else {
            return Ok(false);
        };
        let path = target.to_string_lossy();
        let status = ShellCommand::parse(&command)
            .to_run(&[('f', file), ('p', &path), ('r', oldest_kept)])
            .current_dir(&self.data_directory)
            .status()?;
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

/// Fetches a segment into `dir` under its own name, whole and durable; what stood there is replaced only by a file
/// of the right size.
pub(super) fn fetch_segment(
    archive: &dyn ArchiveShell,
    disk: &dyn Disk,
    dir: &Path,
    file: &str,
    size: u64,
    oldest_kept: &str,
) -> io::Result<bool> {
    let aside = dir.join("RECOVERYXLOG");
    durable::remove(disk, &aside)?;
    if !archive.restore(file, &aside, oldest_kept)? {
        return Ok(false);
    }
    let restored = disk.open(&aside, Access::ReadWrite)?;
    let len = restored.len()?;
    if len != size {
        tracing::warn!("archive file \"{file}\" has wrong size: {len} instead of {size}");
        return Ok(false);
    }
    restored.sync()?;
    durable::rename(disk, &aside, &dir.join(file))?;
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
    use crate::io::sim::SimDisk;

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
}
