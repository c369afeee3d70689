//! Resource-manager ids: who owns a record's payload.
//!
//! Ids below 128 are PostgreSQL's and are used only for records with PostgreSQL's meaning and layout; ours begin
//! at 128, where `pg_waldump` prints them as `custom128` and checks their framing.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RmgrId(u8);

impl RmgrId {
    pub const XLOG: RmgrId = RmgrId(0);
    pub const TRANSACTION: RmgrId = RmgrId(1);
    pub const STORAGE: RmgrId = RmgrId(2);
    pub const DATABASE: RmgrId = RmgrId(4);
    pub const STANDBY: RmgrId = RmgrId(8);
    pub const HEAP: RmgrId = RmgrId(128);
    pub const BTREE: RmgrId = RmgrId(129);
    pub const SEQUENCE: RmgrId = RmgrId(130);
    pub const COMMITLOG: RmgrId = RmgrId(131);
    pub const CLUSTER: RmgrId = RmgrId(132);

    /// Every manager that writes records here, in order of id.
    pub const ALL: [RmgrId; 10] = [
        RmgrId::XLOG,
        RmgrId::TRANSACTION,
        RmgrId::STORAGE,
        RmgrId::DATABASE,
        RmgrId::STANDBY,
        RmgrId::HEAP,
        RmgrId::BTREE,
        RmgrId::SEQUENCE,
        RmgrId::COMMITLOG,
        RmgrId::CLUSTER,
    ];

    /// The manager with this id, if it is one that writes records here.
    pub fn from_raw(raw: u8) -> Option<RmgrId> {
        let id = RmgrId(raw);
        RmgrId::ALL.contains(&id).then_some(id)
    }
    pub const fn raw(self) -> u8 {
        self.0
    }
    /// As messages and `pg_waldump` name it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "XLOG",
            1 => "Transaction",
            2 => "Storage",
            4 => "Database",
            8 => "Standby",
            128 => "Heap",
            129 => "Btree",
            130 => "Sequence",
            131 => "CommitLog",
            132 => "Cluster",
            _ => "unknown",
        }
    }
}

impl fmt::Display for RmgrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
