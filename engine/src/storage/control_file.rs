//! `global/pg_control`, to the byte as PostgreSQL 15 has it, so that `pg_controldata` reads it.
//!
//! Owns the file's layout and the one copy of its contents in memory. The file is replaced by rename, so a crash
//! leaves the old or the new one, and a copy of a live directory never a torn one. On a full disk, where a checkpoint
//! is what frees log, its one sector that counts is overwritten in place, as PostgreSQL always does: a crash leaves it
//! old or new too. The catalog version is our own: PostgreSQL's server refuses our directory by it, and we refuse
//! PostgreSQL's.
//!
//! ```text
//!   0 system id u64 | 8 pg_control version u32 | 12 catalog version u32 | 16 state u32 +4 | 24 time i64
//!  32 checkpoint LSN u64 | 40 checkpoint copy (88) | 128 unlogged LSN u64
//! 136 minimum recovery point u64 | 144 its timeline u32 +4 | 152 backup start u64 | 160 backup end u64
//! 168 backup end required u8 +3 | 172 wal_level i32 | 176 wal_log_hints u8 +3 | 180 max_connections i32
//! 184 max_worker_processes | 188 max_wal_senders | 192 max_prepared_xacts | 196 max_locks_per_xact
//! 200 track_commit_timestamp u8 +3 | 204 max align u32 | 208 float check f64 | 216 block size u32
//! 220 blocks per file | 224 WAL block size | 228 WAL segment size | 232 name length | 236 index columns
//! 240 toast chunk | 244 large object chunk | 248 float8 by value u8 +3 | 252 checksum version u32
//! 256 nonce (32) | 288 CRC32C u32 of all before
//! ```

use std::io;
use std::path::Path;

use parking_lot::Mutex;

use crate::ids::{BLOCKS_PER_FILE, Lsn, PAGE_SIZE, SystemId, TimelineId};
use crate::io::{DiskRef, durable};
use crate::wal::xlog_records::{self, CheckPoint, ParameterChange};

pub const PATH: &str = "global/pg_control";
/// The file's size; what counts are the first 292 bytes.
const FILE_SIZE: usize = 8192;
const CRC_AT: usize = 288;
const _: () = assert!(CRC_AT + 4 <= durable::SECTOR);
const PG_CONTROL_VERSION: u32 = 1300;
/// Of our catalog; no PostgreSQL release has it.
pub const CATALOG_VERSION: u32 = 902_026_113;
const FLOAT_CHECK: f64 = 1_234_567.0;

/// What the server was doing when it last said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl ClusterState {
    const ALL: [ClusterState; 7] = [
        ClusterState::StartingUp,
        ClusterState::ShutDown,
        ClusterState::ShutDownInRecovery,
        ClusterState::ShuttingDown,
        ClusterState::InCrashRecovery,
        ClusterState::InArchiveRecovery,
        ClusterState::InProduction,
    ];
    fn number(self) -> u32 {
        self as u32
    }
    fn from_number(n: u32) -> Option<ClusterState> {
        ClusterState::ALL.get(n as usize).copied()
    }
    /// As `pg_controldata` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            ClusterState::StartingUp => "starting up",
            ClusterState::ShutDown => "shut down",
            ClusterState::ShutDownInRecovery => "shut down in recovery",
            ClusterState::ShuttingDown => "shutting down",
            ClusterState::InCrashRecovery => "in crash recovery",
            ClusterState::InArchiveRecovery => "in archive recovery",
            ClusterState::InProduction => "in production",
        }
    }
}

/// Everything in the file that can differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlData {
    pub system_id: SystemId,
    pub state: ClusterState,
    /// Last change, seconds since 1970; set by every write.
    pub time_s: i64,
    /// Start of the last checkpoint's record.
    pub checkpoint: Lsn,
    pub checkpoint_copy: CheckPoint,
    /// A standby is consistent from here on; invalid outside of archive recovery.
    pub min_recovery_point: Lsn,
    pub min_recovery_timeline: TimelineId,
    /// Redo point of the backup that is being recovered from; invalid where there is none.
    pub backup_start: Lsn,
    /// Where a backup from a standby ended.
    pub backup_end: Lsn,
    /// The backup's end record must still be seen.
    pub backup_end_required: bool,
    pub parameters: ParameterChange,
    pub wal_segment_size: u32,
    pub checksums: bool,
    /// For SCRAM's pretended salts of users that do not exist.
    pub nonce: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("could not {operation} file \"global/pg_control\": {source}")]
    Io {
        operation: &'static str,
        source: io::Error,
    },
    #[error("could not read file \"global/pg_control\": read {read} of {CRC_AT}")]
    TooShort { read: usize },
    #[error("incorrect checksum in control file")]
    Checksum,
    #[error(
        "database files are incompatible with server: the database cluster was initialized with PG_CONTROL_VERSION {0}, but the server was compiled with PG_CONTROL_VERSION {PG_CONTROL_VERSION}"
    )]
    Version(u32),
    #[error(
        "database files are incompatible with server: the database cluster was initialized with CATALOG_VERSION_NO {0}, but the server was compiled with CATALOG_VERSION_NO {CATALOG_VERSION}"
    )]
    Catalog(u32),
    #[error(
        "database files are incompatible with server: {field} is {found}, the server expects {expected}"
    )]
    Layout {
        field: &'static str,
        found: u32,
        expected: u32,
    },
    #[error("control file contains invalid {field}: {found}")]
    Value { field: &'static str, found: u32 },
}

/// Compiled-in sizes that a directory must have been made with: offset, name, value.
const LAYOUT: [(usize, &str, u32); 9] = [
    (204, "MAXALIGN", 8),
    (216, "BLCKSZ", PAGE_SIZE as u32),
    (220, "RELSEG_SIZE", BLOCKS_PER_FILE),
    (224, "XLOG_BLCKSZ", PAGE_SIZE as u32),
    (232, "NAMEDATALEN", 64),
    (236, "INDEX_MAX_KEYS", 32),
    (240, "TOAST_MAX_CHUNK_SIZE", 1996),
    (244, "LOBLKSIZE", 2048),
    (248, "FLOAT8PASSBYVAL", 1),
];

impl ControlData {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; FILE_SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.system_id.raw().to_le_bytes());
        put(8, &PG_CONTROL_VERSION.to_le_bytes());
        put(12, &CATALOG_VERSION.to_le_bytes());
        put(16, &self.state.number().to_le_bytes());
        put(24, &self.time_s.to_le_bytes());
        put(32, &self.checkpoint.raw().to_le_bytes());
        put(40, &self.checkpoint_copy.encode());
        // Unlogged relations are not there; PostgreSQL's first value keeps the field sensible.
        put(128, &1000_u64.to_le_bytes());
        put(136, &self.min_recovery_point.raw().to_le_bytes());
        let has_minimum = self.min_recovery_point.is_valid();
        let timeline = if has_minimum {
            self.min_recovery_timeline.raw()
        } else {
            0
        };
        put(144, &timeline.to_le_bytes());
        put(152, &self.backup_start.raw().to_le_bytes());
        put(160, &self.backup_end.raw().to_le_bytes());
        put(168, &[u8::from(self.backup_end_required)]);
        let p = &self.parameters;
        put(172, &p.wal_level.to_le_bytes());
        put(176, &[u8::from(p.wal_log_hints)]);
        put(180, &p.max_connections.to_le_bytes());
        put(184, &p.max_worker_processes.to_le_bytes());
        put(188, &p.max_wal_senders.to_le_bytes());
        put(192, &p.max_prepared_transactions.to_le_bytes());
        put(196, &p.max_locks_per_transaction.to_le_bytes());
        put(200, &[u8::from(p.track_commit_timestamp)]);
        for (at, _, value) in LAYOUT {
            put(at, &value.to_le_bytes());
        }
        put(208, &FLOAT_CHECK.to_le_bytes());
        put(228, &self.wal_segment_size.to_le_bytes());
        put(252, &u32::from(self.checksums).to_le_bytes());
        put(256, &self.nonce);
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<ControlData, ControlError> {
        if bytes.len() < CRC_AT + 4 {
            return Err(ControlError::TooShort { read: bytes.len() });
        }
        let u32_at = |at: usize| u32::from_le_bytes(array(bytes, at));
        let i32_at = |at: usize| i32::from_le_bytes(array(bytes, at));
        let lsn_at = |at: usize| Lsn::new(u64::from_le_bytes(array(bytes, at)));
        if u32_at(8) != PG_CONTROL_VERSION {
            return Err(ControlError::Version(u32_at(8)));
        }
        if u32_at(CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(ControlError::Checksum);
        }
        if u32_at(12) != CATALOG_VERSION {
            return Err(ControlError::Catalog(u32_at(12)));
        }
        for (at, field, expected) in LAYOUT {
            let found = u32_at(at);
            if found != expected {
                return Err(ControlError::Layout {
                    field,
                    found,
                    expected,
                });
            }
        }
        let state = ClusterState::from_number(u32_at(16)).ok_or(ControlError::Value {
            field: "cluster state",
            found: u32_at(16),
        })?;
        let wal_segment_size = u32_at(228);
        if !wal_segment_size.is_power_of_two() || !(1 << 20..=1 << 30).contains(&wal_segment_size) {
            return Err(ControlError::Value {
                field: "WAL segment size",
                found: wal_segment_size,
            });
        }
        let checkpoint_copy =
            CheckPoint::decode(&bytes[40..128]).expect("the slice is as long as a checkpoint");
        Ok(ControlData {
            system_id: SystemId::new(lsn_at(0).raw()),
            state,
            time_s: i64::from_le_bytes(array(bytes, 24)),
            checkpoint: lsn_at(32),
            checkpoint_copy,
            min_recovery_point: lsn_at(136),
            min_recovery_timeline: TimelineId::new(u32_at(144)),
            backup_start: lsn_at(152),
            backup_end: lsn_at(160),
            backup_end_required: bytes[168] != 0,
            parameters: ParameterChange {
                wal_level: i32_at(172),
                wal_log_hints: bytes[176] != 0,
                max_connections: i32_at(180),
                max_worker_processes: i32_at(184),
                max_wal_senders: i32_at(188),
                max_prepared_transactions: i32_at(192),
                max_locks_per_transaction: i32_at(196),
                track_commit_timestamp: bytes[200] != 0,
            },
            wal_segment_size,
            checksums: u32_at(252) != 0,
            nonce: array(bytes, 256),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The file and its contents in memory.
pub struct ControlFile {
    disk: DiskRef,
    data: Mutex<ControlData>,
}

impl ControlFile {
    /// Reads the file of an existing cluster.
    pub fn open(disk: DiskRef) -> Result<ControlFile, ControlError> {
        let bytes = durable::read(&*disk, Path::new(PATH)).map_err(|source| ControlError::Io {
            operation: "open",
            source,
        })?;
        let data = Mutex::new(ControlData::decode(&bytes)?);
        Ok(ControlFile { disk, data })
    }

    /// Writes the file of a new cluster.
    pub fn create(disk: DiskRef, data: ControlData) -> Result<ControlFile, ControlError> {
        let file = ControlFile {
            disk,
            data: Mutex::new(data),
        };
        file.update(|_| {})?;
        Ok(file)
    }

    /// A copy of the contents.
    pub fn get(&self) -> ControlData {
        self.data.lock().clone()
    }

    /// Changes the contents; durable when it returns. Where it fails, memory keeps the old contents.
    pub fn update(&self, change: impl FnOnce(&mut ControlData)) -> Result<(), ControlError> {
        let mut data = self.data.lock();
        let mut new = data.clone();
        change(&mut new);
        new.time_s = xlog_records::now_s();
        durable::replace_sector(&*self.disk, Path::new(PATH), &new.encode()).map_err(|source| {
            ControlError::Io {
                operation: "write to",
                source,
            }
        })?;
        *data = new;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::ids::{Oid, Xid};
    use crate::io::Disk;
    use crate::io::real::RealDisk;
    use crate::io::sim::{Fault, Operation, SimDisk};

    fn sample() -> ControlData {
        ControlData {
            system_id: SystemId::new(7_400_000_000_000_000_001),
            state: ClusterState::InProduction,
            time_s: 1_790_000_000,
            checkpoint: Lsn::new(0x100_0028),
            checkpoint_copy: CheckPoint {
                redo: Lsn::new(0x100_0028),
                timeline: TimelineId::new(5),
                previous_timeline: TimelineId::new(4),
                full_page_writes: true,
                next_xid: Xid::new(0x1_0000_0003),
                next_oid: Oid::new(16384),
                oldest_xid: 3,
                oldest_xid_database: Oid::new(1),
                time_s: 1_790_000_000,
                oldest_active_xid: 0,
            },
            min_recovery_point: Lsn::new(0x200_0000),
            min_recovery_timeline: TimelineId::new(5),
            backup_start: Lsn::INVALID,
            backup_end: Lsn::INVALID,
            backup_end_required: false,
            parameters: ParameterChange {
                max_connections: 100,
                max_worker_processes: 8,
                max_wal_senders: 5,
                max_prepared_transactions: 0,
                max_locks_per_transaction: 64,
                wal_level: 1,
                wal_log_hints: false,
                track_commit_timestamp: false,
            },
            wal_segment_size: 16 << 20,
            checksums: true,
            nonce: [7; 32],
        }
    }

    #[test]
    fn contents_round_trip_and_damage_is_seen() {
        let bytes = sample().encode();
        assert_eq!(ControlData::decode(&bytes).expect("own bytes"), sample());
        for at in [0, 20, 60, 170, 260, 287, 290] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(
                ControlData::decode(&damaged).is_err(),
                "byte {at} changed unseen"
            );
        }
        assert!(matches!(
            ControlData::decode(&bytes[..200]),
            Err(ControlError::TooShort { .. })
        ));
    }

    fn simulated() -> (SimDisk, ControlFile) {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("global")).expect("new");
        disk.sync_dir(Path::new("")).expect("synced");
        let file = ControlFile::create(Arc::new(disk.clone()), sample()).expect("written");
        (disk, file)
    }

    fn state_on(disk: SimDisk) -> ClusterState {
        let file = ControlFile::open(Arc::new(disk)).expect("old or new, and whole");
        file.get().state
    }

    /// A checkpoint is what frees log, so it must not need room itself.
    #[test]
    fn a_full_disk_is_overwritten_and_a_crash_leaves_the_old_or_the_new() {
        let (disk, file) = simulated();
        disk.set_capacity(Some(disk.used()));
        let seen = Arc::new(Mutex::new((0, 0)));
        let counter = Arc::clone(&seen);
        disk.on_sync(move |frozen| {
            for image in frozen.images(11) {
                let mut seen = counter.lock();
                match state_on(image.disk) {
                    ClusterState::InProduction => seen.0 += 1,
                    ClusterState::ShutDown => seen.1 += 1,
                    other => panic!("{}: {other:?}", image.name),
                }
            }
        });
        file.update(|data| data.state = ClusterState::ShutDown)
            .expect("it needs no room");
        disk.clear_on_sync();
        let (old, new) = *seen.lock();
        assert!(old > 0 && new > 0, "{old} old and {new} new ones");
        assert_eq!(state_on(disk.crash()), ClusterState::ShutDown);
        let left = disk.exists(Path::new("global/pg_control.tmp"));
        assert!(!left.expect("asked"), "it takes room");
        disk.set_capacity(None);
        file.update(|data| data.state = ClusterState::InProduction)
            .expect("written");
        assert_eq!(state_on(disk.crash()), ClusterState::InProduction);
    }

    /// However far the second file came before there was no more room.
    #[test]
    fn no_room_at_any_step_is_no_obstacle() {
        for operation in [
            Operation::Open,
            Operation::Write,
            Operation::Sync,
            Operation::Rename,
        ] {
            let (disk, file) = simulated();
            disk.inject(Fault {
                operation,
                path_contains: "pg_control.tmp".to_owned(),
                after: 0,
                error: io::ErrorKind::StorageFull,
                stays: true,
            });
            file.update(|data| data.state = ClusterState::ShuttingDown)
                .unwrap_or_else(|e| panic!("{operation:?}: {e}"));
            assert_eq!(state_on(disk.crash()), ClusterState::ShuttingDown);
        }
    }

    #[test]
    fn another_fault_is_an_error_and_leaves_the_old_contents() {
        let (disk, file) = simulated();
        disk.inject(Fault {
            operation: Operation::Sync,
            path_contains: "pg_control.tmp".to_owned(),
            after: 0,
            error: io::ErrorKind::Other,
            stays: false,
        });
        let failed = file.update(|data| data.state = ClusterState::ShutDown);
        assert!(matches!(failed, Err(ControlError::Io { .. })));
        assert_eq!(file.get().state, ClusterState::InProduction);
        assert_eq!(state_on(disk.crash()), ClusterState::InProduction);
        // Where there is no file yet there is nothing to overwrite.
        let empty = SimDisk::new();
        empty.create_dir(Path::new("global")).expect("new");
        empty.set_capacity(Some(100));
        let refused = ControlFile::create(Arc::new(empty), sample()).err();
        let Some(ControlError::Io { source, .. }) = refused else {
            panic!("made without room: {refused:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn pg_controldata_reads_it() {
        let program = "/usr/lib/postgresql/15/bin/pg_controldata";
        if !Path::new(program).exists() {
            eprintln!("skipped: {program} is not installed");
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let disk = Arc::new(RealDisk::new(dir.path()));
        disk.create_dir(Path::new("global")).expect("new");
        ControlFile::create(disk, sample()).expect("written");
        let output = Command::new(program)
            .env("LC_ALL", "C")
            .arg(dir.path())
            .output();
        let output = output.expect("pg_controldata runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && !text.contains("WARNING"),
            "{text}"
        );
        for (field, value) in [
            ("pg_control version number", "1300"),
            ("Catalog version number", "902026113"),
            ("Database system identifier", "7400000000000000001"),
            ("Database cluster state", "in production"),
            ("Latest checkpoint location", "0/1000028"),
            (
                "Latest checkpoint's REDO WAL file",
                "000000050000000000000001",
            ),
            ("Latest checkpoint's PrevTimeLineID", "4"),
            ("Latest checkpoint's NextXID", "1:3"),
            ("Minimum recovery ending location", "0/2000000"),
            ("Min recovery ending loc's timeline", "5"),
            ("wal_level setting", "replica"),
            ("max_wal_senders setting", "5"),
            ("Bytes per WAL segment", "16777216"),
            ("Date/time type storage", "64-bit integers"),
            ("Float8 argument passing", "by value"),
            ("Data page checksum version", "1"),
            ("Mock authentication nonce", "0707070707"),
        ] {
            let line = text.lines().find(|l| l.starts_with(&format!("{field}:")));
            let found = line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim());
            assert!(
                found.is_some_and(|v| v.starts_with(value)),
                "{field}: {found:?}"
            );
        }
    }
}
