//! Payloads of the log's own records, which are PostgreSQL's to the byte.
//!
//! Source: PostgreSQL 15, `catalog/pg_control.h` and `access/xlog_internal.h`. Times in checkpoints are seconds
//! since 1970; times elsewhere are microseconds since 2000-01-01 (`TimestampTz`).

use crate::ids::{Lsn, Oid, TimelineId, Xid};

use super::page::{le32, le64};

pub const CHECKPOINT_SHUTDOWN: u8 = 0x00;
pub const CHECKPOINT_ONLINE: u8 = 0x10;
pub const NOOP: u8 = 0x20;
pub const NEXT_OID: u8 = 0x30;
pub const SWITCH: u8 = 0x40;
pub const BACKUP_END: u8 = 0x50;
pub const PARAMETER_CHANGE: u8 = 0x60;
pub const RESTORE_POINT: u8 = 0x70;
pub const FPW_CHANGE: u8 = 0x80;
pub const END_OF_RECOVERY: u8 = 0x90;
pub const FPI_FOR_HINT: u8 = 0xA0;
pub const FPI: u8 = 0xB0;
pub const OVERWRITE_CONTRECORD: u8 = 0xD0;

/// The kinds that this program writes, as `pg_waldump` names them.
pub const WRITTEN: &[(u8, &str)] = &[
    (CHECKPOINT_SHUTDOWN, "CHECKPOINT_SHUTDOWN"),
    (CHECKPOINT_ONLINE, "CHECKPOINT_ONLINE"),
    (NEXT_OID, "NEXTOID"),
    (SWITCH, "SWITCH"),
    (BACKUP_END, "BACKUP_END"),
    (PARAMETER_CHANGE, "PARAMETER_CHANGE"),
    (END_OF_RECOVERY, "END_OF_RECOVERY"),
    (FPI, "FPI"),
    (OVERWRITE_CONTRECORD, "OVERWRITE_CONTRECORD"),
];

/// Seconds from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_S: i64 = 946_684_800;

/// Now, as `TimestampTz`.
pub fn now_us() -> i64 {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
    since_1970 - POSTGRES_EPOCH_S * 1_000_000
}
/// Now, as `pg_time_t`.
pub fn now_s() -> i64 {
    now_us().div_euclid(1_000_000) + POSTGRES_EPOCH_S
}

/// A checkpoint, as its record and `pg_control` carry it.
///
/// ```text
/// redo u64 | timeline u32 | previous timeline u32 | full_page_writes u8 +7 | next xid u64 | next oid u32
/// next multi u32 | next multi offset u32 | oldest xid u32 | its db u32 | oldest multi u32 | its db u32 +4
/// time i64 | oldest commit ts xid u32 | newest u32 | oldest active xid u32 +4
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckPoint {
    /// Where crash recovery begins.
    pub redo: Lsn,
    pub timeline: TimelineId,
    /// Another one where this checkpoint begins a timeline.
    pub previous_timeline: TimelineId,
    pub full_page_writes: bool,
    pub next_xid: Xid,
    pub next_oid: Oid,
    /// Low half of the oldest xid that the commit log still knows.
    pub oldest_xid: u32,
    pub oldest_xid_database: Oid,
    /// Seconds since 1970.
    pub time_s: i64,
    /// Low half of the oldest xid that was running (online checkpoints); 0 for none.
    pub oldest_active_xid: u32,
}

impl CheckPoint {
    pub const SIZE: usize = 88;

    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.redo.raw().to_le_bytes());
        put(8, &self.timeline.raw().to_le_bytes());
        put(12, &self.previous_timeline.raw().to_le_bytes());
        put(16, &[u8::from(self.full_page_writes)]);
        put(24, &self.next_xid.raw().to_le_bytes());
        put(32, &self.next_oid.raw().to_le_bytes());
        // There are no multixacts here: shared row locks leave no trace on disk.
        put(36, &1_u32.to_le_bytes());
        put(44, &self.oldest_xid.to_le_bytes());
        put(48, &self.oldest_xid_database.raw().to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &self.oldest_xid_database.raw().to_le_bytes());
        put(64, &self.time_s.to_le_bytes());
        put(80, &self.oldest_active_xid.to_le_bytes());
        out
    }

    /// `None` where there are fewer than 88 bytes.
    pub fn decode(bytes: &[u8]) -> Option<CheckPoint> {
        if bytes.len() < Self::SIZE {
            return None;
        }
        Some(CheckPoint {
            redo: Lsn::new(le64(bytes, 0)),
            timeline: TimelineId::new(le32(bytes, 8)),
            previous_timeline: TimelineId::new(le32(bytes, 12)),
            full_page_writes: bytes[16] != 0,
            next_xid: Xid::new(le64(bytes, 24)),
            next_oid: Oid::new(le32(bytes, 32)),
            oldest_xid: le32(bytes, 44),
            oldest_xid_database: Oid::new(le32(bytes, 48)),
            time_s: le64(bytes, 64) as i64,
            oldest_active_xid: le32(bytes, 80),
        })
    }
}

/// The first record of a promotion that did not wait for a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfRecovery {
    pub time_us: i64,
    pub timeline: TimelineId,
    pub previous_timeline: TimelineId,
}

impl EndOfRecovery {
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[0..8].copy_from_slice(&self.time_us.to_le_bytes());
        out[8..12].copy_from_slice(&self.timeline.raw().to_le_bytes());
        out[12..16].copy_from_slice(&self.previous_timeline.raw().to_le_bytes());
        out
    }
    pub fn decode(bytes: &[u8]) -> Option<EndOfRecovery> {
        (bytes.len() >= 16).then(|| EndOfRecovery {
            time_us: le64(bytes, 0) as i64,
            timeline: TimelineId::new(le32(bytes, 8)),
            previous_timeline: TimelineId::new(le32(bytes, 12)),
        })
    }
}

/// Says that the record which started at `overwritten` was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverwriteContrecord {
    pub overwritten: Lsn,
    pub time_us: i64,
}

impl OverwriteContrecord {
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[0..8].copy_from_slice(&self.overwritten.raw().to_le_bytes());
        out[8..16].copy_from_slice(&self.time_us.to_le_bytes());
        out
    }
    pub fn decode(bytes: &[u8]) -> Option<OverwriteContrecord> {
        (bytes.len() >= 16).then(|| OverwriteContrecord {
            overwritten: Lsn::new(le64(bytes, 0)),
            time_us: le64(bytes, 8) as i64,
        })
    }
}

/// Settings of the primary that a standby must not be below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParameterChange {
    pub max_connections: i32,
    pub max_worker_processes: i32,
    pub max_wal_senders: i32,
    pub max_prepared_transactions: i32,
    pub max_locks_per_transaction: i32,
    /// 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    pub wal_log_hints: bool,
    pub track_commit_timestamp: bool,
}

impl ParameterChange {
    pub fn encode(&self) -> [u8; 28] {
        let mut out = [0; 28];
        let numbers = [
            self.max_connections,
            self.max_worker_processes,
            self.max_wal_senders,
            self.max_prepared_transactions,
            self.max_locks_per_transaction,
            self.wal_level,
        ];
        for (chunk, number) in out.chunks_exact_mut(4).zip(numbers) {
            chunk.copy_from_slice(&number.to_le_bytes());
        }
        out[24] = u8::from(self.wal_log_hints);
        out[25] = u8::from(self.track_commit_timestamp);
        out
    }
    pub fn decode(bytes: &[u8]) -> Option<ParameterChange> {
        if bytes.len() < 26 {
            return None;
        }
        let number = |i: usize| le32(bytes, i * 4) as i32;
        Some(ParameterChange {
            max_connections: number(0),
            max_worker_processes: number(1),
            max_wal_senders: number(2),
            max_prepared_transactions: number(3),
            max_locks_per_transaction: number(4),
            wal_level: number(5),
            wal_log_hints: bytes[24] != 0,
            track_commit_timestamp: bytes[25] != 0,
        })
    }
}

/// A named place in the log (`pg_create_restore_point`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestorePoint {
    pub time_us: i64,
    /// At most 63 bytes.
    pub name: String,
}

impl RestorePoint {
    pub fn encode(&self) -> [u8; 72] {
        let mut out = [0; 72];
        out[0..8].copy_from_slice(&self.time_us.to_le_bytes());
        let n = self.name.len().min(63);
        out[8..8 + n].copy_from_slice(&self.name.as_bytes()[..n]);
        out
    }
    pub fn decode(bytes: &[u8]) -> Option<RestorePoint> {
        if bytes.len() < 72 {
            return None;
        }
        let name: Vec<u8> = bytes[8..72]
            .iter()
            .copied()
            .take_while(|b| *b != 0)
            .collect();
        Some(RestorePoint {
            time_us: le64(bytes, 0) as i64,
            name: String::from_utf8_lossy(&name).into_owned(),
        })
    }
}

/// [`BACKUP_END`]: the redo point of the backup that ended.
pub fn encode_backup_end(start: Lsn) -> [u8; 8] {
    start.raw().to_le_bytes()
}
pub fn decode_backup_end(bytes: &[u8]) -> Option<Lsn> {
    (bytes.len() >= 8).then(|| Lsn::new(le64(bytes, 0)))
}
/// [`NEXT_OID`]: object ids below this one may have been given out.
pub fn encode_next_oid(next: Oid) -> [u8; 4] {
    next.raw().to_le_bytes()
}
pub fn decode_next_oid(bytes: &[u8]) -> Option<Oid> {
    (bytes.len() >= 4).then(|| Oid::new(le32(bytes, 0)))
}
/// [`FPW_CHANGE`]: the new value of `full_page_writes`.
pub fn encode_fpw_change(on: bool) -> [u8; 1] {
    [u8::from(on)]
}
pub fn decode_fpw_change(bytes: &[u8]) -> Option<bool> {
    bytes.first().map(|b| *b != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip() {
        let checkpoint = CheckPoint {
            redo: Lsn::new(0x100_0028),
            timeline: TimelineId::new(3),
            previous_timeline: TimelineId::new(2),
            full_page_writes: true,
            next_xid: Xid::new(0x1_0000_0005),
            next_oid: Oid::new(16384),
            oldest_xid: 3,
            oldest_xid_database: Oid::new(1),
            time_s: 1_790_000_000,
            oldest_active_xid: 7,
        };
        assert_eq!(CheckPoint::decode(&checkpoint.encode()), Some(checkpoint));
        assert_eq!(CheckPoint::decode(&[0; 87]), None);
        let parameters = ParameterChange {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level: 1,
            wal_log_hints: false,
            track_commit_timestamp: true,
        };
        assert_eq!(
            ParameterChange::decode(&parameters.encode()),
            Some(parameters)
        );
        let point = RestorePoint {
            time_us: -5,
            name: "before".to_owned(),
        };
        assert_eq!(RestorePoint::decode(&point.encode()), Some(point));
    }
}
