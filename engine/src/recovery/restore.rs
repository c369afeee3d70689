//! `restore_command`: fetching a file from the archive.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::Signal;

use crate::config::shell_command::ShellCommand;
use crate::io::{Disk, durable};

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

/// Fetches a file into `dir` under its own name, whole and durable; what stood there is replaced only by a file
/// of the right size (`None`: any).
pub(super) fn fetch(
    archive: &dyn ArchiveShell,
    disk: &dyn Disk,
    dir: &Path,
    file: &str,
    size: Option<u64>,
    oldest_kept: &str,
) -> io::Result<bool> {
    let aside = dir.join(if size.is_some() {
        "RECOVERYXLOG"
    } else {
        "RECOVERYHISTORY"
    });
    durable::remove(disk, &aside)?;
    if !archive.restore(file, &aside, oldest_kept)? {
        return Ok(false);
    }
    let restored = disk.open(&aside, crate::io::Access::ReadWrite)?;
    let len = restored.len()?;
    if let Some(expected) = size
        && len != expected
    {
        tracing::warn!("archive file \"{file}\" has wrong size: {len} instead of {expected}");
        return Ok(false);
    }
    restored.sync()?;
    durable::rename(disk, &aside, &dir.join(file))?;
    if size.is_some() {
        tracing::info!("restored log file \"{file}\" from archive");
    }
    Ok(true)
}
