//! What the server asks of the rooms below it; `node/` answers, and tests answer with a fake.

use std::future::Future;
use std::sync::Arc;

use super::connection::Connection;
use crate::catalog::view::{Database, Role};
use crate::config::Settings;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::session::BindRequest;
use crate::sql::session::backends::{Backend, Backends};
use crate::sql::session::output::Output;

/// Whether clients may come in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepting {
    /// 57P03 "the database system is starting up"
    StartingUp,
    /// 57P03 on a standby that is not consistent yet, or where `hot_standby` is off.
    NotConsistent {
        hot_standby: bool,
    },
    /// 57P03 "the database system is shutting down"
    ShuttingDown,
    /// Smart shutdown: only those who are here stay.
    Draining,
    Yes,
}

/// A connection that authenticated, before its session exists.
pub struct NewSession {
    pub backend: Arc<Backend>,
    pub role: Role,
    /// `None` for a physical walsender.
    pub database: Option<Database>,
    /// Settings of the start-up packet, in order, options included.
    pub settings: Vec<(String, String)>,
}

/// Who streams: what our own receivers say of themselves in `options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationPeer {
    pub instance_id: Option<String>,
    pub term: Option<u32>,
    /// It asked for the messages of our own.
    pub own_messages: bool,
    /// It asked for them by name: a receiver, which is going to stream, and no base backup.
    pub receives: bool,
    pub application_name: String,
}

/// One statement-processing session, as the protocol drives it. An `Err` is reported to the client by the loop;
/// by then the session has already done to its transaction what the error means.
pub trait Statements: Send + 'static {
    /// A whole simple query. Reports its statements' errors itself; `Err` ends the connection.
    fn simple<O: Output>(
        &mut self,
        text: &str,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    fn parse<O: Output>(
        &mut self,
        name: &str,
        text: &str,
        types: Vec<Oid>,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    fn bind<O: Output>(
        &mut self,
        bind: BindRequest<'_>,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    fn describe_statement<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    fn describe_portal<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    /// `max_rows` 0 is no limit.
    fn execute<O: Output>(
        &mut self,
        portal: &str,
        max_rows: u32,
        out: &mut O,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
    fn close_statement(&mut self, name: &str);
    fn close_portal(&mut self, name: &str);
    /// Sync: the end of an implicit transaction.
    fn sync<O: Output>(&mut self, out: &mut O)
    -> impl Future<Output = Result<(), SqlError>> + Send;
    /// An error of the protocol itself, which the session did not see: ends the implicit transaction or fails the block.
    /// `skips`: everything is passed over now, up to the next Sync.
    fn failed(&mut self, skips: bool) -> impl Future<Output = ()> + Send;
    /// `I`, `T` or `E` for ReadyForQuery.
    fn status(&self) -> u8;
    /// Whether locks or a snapshot of a transaction may be held, be it the implicit one of a pipeline or that of a failed
    /// block with a savepoint.
    fn has_transaction(&self) -> bool;
    /// Says which reported settings have changed since it was asked last.
    fn report_settings<O: Output>(&mut self, out: &mut O);
    /// The wait for the next message begins: idle time-outs, a reload of settings, memory.
    fn rests(&mut self);
    /// ... and has ended.
    fn wakes(&mut self);
    /// The connection ends: whatever runs is rolled back.
    fn close(self) -> impl Future<Output = ()> + Send;
}

pub trait Host: Send + Sync + 'static {
    type Session: Statements;

    fn settings(&self) -> &Settings;
    fn backends(&self) -> &Arc<Backends>;
    fn accepting(&self) -> Accepting;
    fn role(&self, name: &str) -> Result<Option<Role>, SqlError>;
    fn database(&self, name: &str) -> Result<Option<Database>, SqlError>;
    /// Whether the role has CONNECT on it.
    fn may_connect(&self, role: &Role, database: &Database) -> Result<bool, SqlError>;
    /// Whether `role` is a member of the role called `of`, directly or not.
    fn is_member(&self, role: &Role, of: &str) -> Result<bool, SqlError>;
    /// The same for the whole life of a cluster: for verifiers of roles that do not exist.
    fn mock_secret(&self) -> Vec<u8>;
    fn open(&self, new: NewSession)
    -> impl Future<Output = Result<Self::Session, SqlError>> + Send;
    /// Serves a walsender connection from its first ReadyForQuery to its end.
    fn replicate(
        &self,
        connection: &mut Connection,
        new: NewSession,
        peer: ReplicationPeer,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;
}
