//! What can end a replication connection, on either side.

use std::io;

use crate::ids::{Lsn, SystemId, Term, TimelineId};
use crate::replication::messages::MessageError;

#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    #[error("could not connect to the primary server: {0}")]
    Connect(String),
    /// The upstream answered a command with an error.
    #[error("{severity}:  {message}")]
    Upstream {
        severity: String,
        state: String,
        message: String,
    },
    /// What the upstream said, with its severity, when it was asked for a stream.
    #[error("could not start WAL streaming: {0}")]
    Start(String),
    /// The same in the middle of one.
    #[error("could not receive data from WAL stream: {0}")]
    Stream(String),
    #[error("invalid response from primary server: {0}")]
    Protocol(String),
    #[error("connection to the primary server was lost: {0}")]
    Lost(#[source] io::Error),
    #[error("the primary server closed the connection")]
    Closed,
    #[error("terminating walreceiver due to timeout")]
    Timeout,
    #[error(
        "database system identifier differs between the primary and standby: the primary's identifier \
         is {primary}, the standby's identifier is {standby}"
    )]
    SystemId {
        primary: SystemId,
        standby: SystemId,
    },
    #[error("highest timeline {upstream} of the primary is behind recovery timeline {wanted}")]
    TimelineBehind {
        upstream: TimelineId,
        wanted: TimelineId,
    },
    #[error("the upstream's promised term {upstream} is below this instance's promise {promised}")]
    StaleTerm { upstream: Term, promised: Term },
    #[error("WAL data for {got} arrived where {expected} was expected")]
    OutOfOrder { expected: Lsn, got: Lsn },
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("could not write received WAL: {0}")]
    Write(#[source] io::Error),
}

impl ReplicationError {
    /// The same, in PostgreSQL's words for a stream that was refused.
    pub fn at_start(self) -> ReplicationError {
        match self {
            ReplicationError::Upstream { .. } => ReplicationError::Start(self.to_string()),
            other => other,
        }
    }

    /// The same, in PostgreSQL's words for an error that ends a stream.
    pub fn in_stream(self) -> ReplicationError {
        match self {
            ReplicationError::Upstream { .. } => ReplicationError::Stream(self.to_string()),
            other => other,
        }
    }
}
