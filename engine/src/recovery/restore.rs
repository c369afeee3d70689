//! `restore_command`: fetching a file from the archive.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

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
        let line = expand(&command, file, &target.to_string_lossy(), oldest_kept);
        let status = Command::new("/bin/sh")
            .arg("-c")
            .arg(&line)
            .current_dir(&self.data_directory)
            .status()?;
        if !status.success() {
            tracing::debug!("could not restore file \"{file}\" from archive: {status}");
            return Ok(false);
        }
        self.data_directory.join(target).try_exists()
    }
}

/// `%f` the file's name, `%p` where it is to go, `%r` the oldest file still needed, `%%` a percent sign.
fn expand(command: &str, file: &str, target: &str, oldest_kept: &str) -> String {
    let mut line = String::with_capacity(command.len() + target.len());
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            line.push(c);
            continue;
        }
        match chars.next() {
            Some('f') => line.push_str(file),
            Some('p') => line.push_str(target),
            Some('r') => line.push_str(oldest_kept),
            Some('%') => line.push('%'),
            Some(other) => line.extend(['%', other]),
            None => line.push('%'),
        }
    }
    line
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_expanded() {
        let line = expand("cp /a/%f \"%p\" # %r 100%% %x %", "F", "pg_wal/T", "R");
        assert_eq!(line, "cp /a/F \"pg_wal/T\" # R 100% %x %");
    }
}
