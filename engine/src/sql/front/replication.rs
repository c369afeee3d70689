//! The commands of a replication connection. Manual, 55.4.

use crate::ids::{Lsn, TimelineId};
use crate::sql::error::SqlError;
use crate::sql::front::ast::UtilityOption;

#[derive(Debug, Clone, PartialEq)]
pub enum ReplicationCommand {
    IdentifySystem,
    /// The setting's name, lower case.
    Show(String),
    /// Options under their modern names, lower case.
    BaseBackup(Vec<UtilityOption>),
    StartReplication {
        slot: Option<String>,
        start: Lsn,
        timeline: Option<TimelineId>,
    },
    /// Logical decoding: known, refused by whoever runs it.
    StartLogicalReplication {
        slot: String,
        start: Lsn,
    },
    TimelineHistory(TimelineId),
    CreateSlot(CreateSlot),
    DropSlot {
        name: String,
        wait: bool,
    },
    ReadSlot(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateSlot {
    pub name: String,
    pub temporary: bool,
    pub kind: SlotKind,
    pub options: Vec<UtilityOption>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotKind {
    Physical,
    Logical { plugin: String },
}

/// `None` if the text is not a replication command: a walsender with a database then takes it for SQL, one
/// without refuses it.
pub fn parse(text: &str) -> Result<Option<ReplicationCommand>, SqlError> {
    let _ = text;
    unimplemented!("the parser lands next")
}
