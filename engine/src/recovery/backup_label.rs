//! `backup_label`: where a copy of the data directory must begin to replay.
//!
//! Written into the copy (or, by an exclusive backup, into the data directory itself), read at the start, then
//! renamed to `backup_label.old`. PostgreSQL's format, line by line.

use std::io;
use std::path::Path;

use crate::ids::{Lsn, SegmentNumber, TimelineId};
use crate::io::{Disk, durable};

use super::error::RecoveryError;

pub const FILE: &str = "backup_label";
pub const OLD_FILE: &str = "backup_label.old";
pub const TABLESPACE_MAP: &str = "tablespace_map";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupLabel {
    /// The redo point of the backup's checkpoint.
    pub start: Lsn,
    pub checkpoint: Lsn,
    /// `BACKUP_END` must be seen (`streamed`); an exclusive backup that a crash ended has none.
    pub streamed: bool,
    pub from_standby: bool,
    /// As it was printed when the backup began.
    pub start_time: String,
    pub label: String,
    pub timeline: TimelineId,
}

impl BackupLabel {
    /// The file's text.
    pub fn to_text(&self, segment_size: u32) -> String {
        let file = self
            .start
            .segment(segment_size)
            .file_name(self.timeline, segment_size);
        format!(
            "START WAL LOCATION: {} (file {file})\nCHECKPOINT LOCATION: {}\nBACKUP METHOD: {}\nBACKUP FROM: {}\nSTART TIME: {}\nLABEL: {}\nSTART TIMELINE: {}\n",
            self.start,
            self.checkpoint,
            if self.streamed {
                "streamed"
            } else {
                "pg_start_backup"
            },
            if self.from_standby {
                "standby"
            } else {
                "primary"
            },
            self.start_time,
            self.label,
            self.timeline,
        )
    }

    pub fn parse(text: &str, segment_size: u32) -> Result<BackupLabel, RecoveryError> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let bad = || RecoveryError::BackupLabel;
        let (start, file) = value("START WAL LOCATION")
            .and_then(|v| v.split_once(" (file "))
            .ok_or_else(bad)?;
        let start: Lsn = start.parse().map_err(|_| bad())?;
        let file = file.strip_suffix(')').ok_or_else(bad)?;
        let (timeline, segment) =
            SegmentNumber::parse_file_name(file, segment_size).ok_or_else(bad)?;
        let checkpoint = value("CHECKPOINT LOCATION")
            .and_then(|v| v.parse().ok())
            .ok_or_else(bad)?;
        // PostgreSQL does without the lines behind these, which old releases did not write. Ours are always there, and a
        // label that was cut in front of one would ask for less than the backup needs.
        let either = |name: &str, yes: &str, no: &str| match value(name) {
            Some(found) if found == yes => Ok(true),
            Some(found) if found == no => Ok(false),
            _ => Err(bad()),
        };
        let streamed = either("BACKUP METHOD", "streamed", "pg_start_backup")?;
        let from_standby = either("BACKUP FROM", "standby", "primary")?;
        let stated = value("START TIMELINE").and_then(|v| v.parse().ok());
        let agrees = stated.map(TimelineId::new) == Some(timeline);
        if !agrees || segment != start.segment(segment_size) || checkpoint < start {
            return Err(bad());
        }
        Ok(BackupLabel {
            start,
            checkpoint,
            streamed,
            from_standby,
            start_time: value("START TIME").unwrap_or("").to_owned(),
            label: value("LABEL").unwrap_or("").to_owned(),
            timeline,
        })
    }
}

/// The data directory's label, if it has one.
pub fn read(disk: &dyn Disk, segment_size: u32) -> Result<Option<BackupLabel>, RecoveryError> {
    match durable::read(disk, Path::new(FILE)) {
        Ok(bytes) => BackupLabel::parse(&String::from_utf8_lossy(&bytes), segment_size).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(RecoveryError::io("read", FILE)(e)),
    }
}

/// A map beside a label must be empty: nothing here has tablespaces, and a copy that lacks them is not whole.
pub fn check_map(disk: &dyn Disk) -> Result<(), RecoveryError> {
    match durable::read(disk, Path::new(TABLESPACE_MAP)) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(()),
        Ok(_) => Err(RecoveryError::TablespaceMap),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(RecoveryError::io("read", TABLESPACE_MAP)(e)),
    }
}

/// `pg_control` says all that the label said: the next start must not begin there again.
pub fn retire(disk: &dyn Disk) -> Result<(), RecoveryError> {
    durable::rename(disk, Path::new(FILE), Path::new(OLD_FILE))
        .map_err(RecoveryError::io("rename", FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip_and_bad_ones_are_refused() {
        let label = BackupLabel {
            start: Lsn::new(0x200_0028),
            checkpoint: Lsn::new(0x200_0060),
            streamed: true,
            from_standby: false,
            start_time: "2026-11-23 23:00:00 UTC".to_owned(),
            label: "initial backup for SR".to_owned(),
            timeline: TimelineId::new(3),
        };
        let text = label.to_text(16 << 20);
        assert!(
            text.starts_with("START WAL LOCATION: 0/2000028 (file 000000030000000000000002)\n")
        );
        assert_eq!(
            BackupLabel::parse(&text, 16 << 20).expect("own text"),
            label
        );
        for bad in [
            "",
            &text.replace("0/2000028", "0/9000028"),
            &text.replace("START TIMELINE: 3", "START TIMELINE: 4"),
            &text.replace("CHECKPOINT LOCATION: 0/2000060", "CHECKPOINT LOCATION: x"),
        ] {
            assert!(
                BackupLabel::parse(bad, 16 << 20).is_err(),
                "accepted {bad:?}"
            );
        }
        // Only the end of the last line may be missing.
        for len in 0..text.trim_end().len() {
            let cut = &text[..len];
            assert!(
                BackupLabel::parse(cut, 16 << 20).is_err(),
                "accepted {cut:?}"
            );
        }
    }
}
