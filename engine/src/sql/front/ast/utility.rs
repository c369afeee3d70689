//! Statements that do not go through the planner, except for a query inside them.

use super::Statement;
use super::expr::{Expr, Ident, ObjectName, TypeName};
use super::query::Query;
use crate::catalog::relation::LockMode;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatement {
    /// BEGIN, or START TRANSACTION.
    Begin {
        start: bool,
        modes: Vec<TransactionMode>,
    },
    /// COMMIT, END.
    Commit {
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        chain: bool,
    },
    Savepoint(Ident),
    Release(Ident),
    RollbackTo(Ident),
    PrepareTransaction(String),
    CommitPrepared(String),
    RollbackPrepared(String),
}

impl TransactionStatement {
    pub fn tag(&self) -> &'static str {
        match self {
            TransactionStatement::Begin { start: false, .. } => "BEGIN",
            TransactionStatement::Begin { start: true, .. } => "START TRANSACTION",
            TransactionStatement::Commit { .. } => "COMMIT",
            TransactionStatement::Rollback { .. } | TransactionStatement::RollbackTo(_) => {
                "ROLLBACK"
            }
            TransactionStatement::Savepoint(_) => "SAVEPOINT",
            TransactionStatement::Release(_) => "RELEASE",
            TransactionStatement::PrepareTransaction(_) => "PREPARE TRANSACTION",
            TransactionStatement::CommitPrepared(_) => "COMMIT PREPARED",
            TransactionStatement::RollbackPrepared(_) => "ROLLBACK PREPARED",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionMode {
    Isolation(IsolationLevel),
    ReadOnly(bool),
    Deferrable(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SetConstraints {
    /// None: ALL.
    pub names: Vec<ObjectName>,
    pub deferred: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SetStatement {
    /// SET LOCAL
    pub local: bool,
    pub what: SetTarget,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SetTarget {
    /// SET TIME ZONE is `timezone`, SET NAMES `client_encoding`, SET SCHEMA `search_path`, SET ROLE `role`,
    /// SET SESSION AUTHORIZATION `session_authorization`. An empty list is DEFAULT.
    Setting { name: String, values: Vec<SetValue> },
    /// FROM CURRENT: only in ALTER ... SET.
    FromCurrent { name: String },
    /// SET TRANSACTION
    Transaction(Vec<TransactionMode>),
    /// SET SESSION CHARACTERISTICS AS TRANSACTION
    Characteristics(Vec<TransactionMode>),
    /// SET TRANSACTION SNAPSHOT
    Snapshot(String),
}

/// One value of a setting. Lists are joined by `, ` with each item quoted where it has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum SetValue {
    Text(String),
    /// As written, sign included.
    Number(String),
    /// `SET TIME ZONE INTERVAL '1' HOUR TO MINUTE`: the literal's text.
    Interval(String),
}

impl SetValue {
    pub fn as_str(&self) -> &str {
        match self {
            SetValue::Text(s) | SetValue::Number(s) | SetValue::Interval(s) => s,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShowTarget {
    All,
    /// Lower case; SHOW TIME ZONE is `timezone`, SHOW TRANSACTION ISOLATION LEVEL `transaction_isolation`.
    Setting(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetTarget {
    All,
    Setting(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardTarget {
    All,
    Plans,
    Sequences,
    Temp,
}

impl DiscardTarget {
    pub fn tag(self) -> &'static str {
        match self {
            DiscardTarget::All => "DISCARD ALL",
            DiscardTarget::Plans => "DISCARD PLANS",
            DiscardTarget::Sequences => "DISCARD SEQUENCES",
            DiscardTarget::Temp => "DISCARD TEMP",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Prepare {
    pub name: Ident,
    pub types: Vec<TypeName>,
    pub statement: Statement,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    pub name: Ident,
    pub args: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeclareCursor {
    pub name: Ident,
    pub binary: bool,
    pub insensitive: Option<bool>,
    /// SCROLL, NO SCROLL.
    pub scroll: Option<bool>,
    /// Options that exclude each other; told when the statement's turn comes.
    pub clash: Option<&'static str>,
    pub hold: bool,
    pub query: Query,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub is_move: bool,
    pub direction: FetchDirection,
    pub cursor: Ident,
}

/// Counts may be negative (FORWARD -1 is BACKWARD 1); `i64::MAX` is ALL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchDirection {
    Forward(i64),
    Backward(i64),
    Absolute(i64),
    Relative(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    pub options: Vec<UtilityOption>,
    pub statement: Statement,
    pub at: u32,
}

/// `name [value]` in a parenthesised list.
#[derive(Debug, Clone, PartialEq)]
pub struct UtilityOption {
    pub name: String,
    pub value: Option<OptionValue>,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// A word or a string; ON, TRUE, FALSE arrive as `on`, `true`, `false`.
    Text(String),
    Number(String),
    Star,
    List(Vec<String>),
}

impl UtilityOption {
    /// A boolean option as `defGetBoolean` reads it: no value is true.
    pub fn boolean(&self) -> Option<bool> {
        match &self.value {
            None => Some(true),
            Some(OptionValue::Number(n)) => match n.as_str() {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            },
            Some(OptionValue::Text(t)) => match t.to_ascii_lowercase().as_str() {
                "true" | "on" => Some(true),
                "false" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
    /// The value as text, if it is a word, a string or a number.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Some(OptionValue::Text(t) | OptionValue::Number(t)) => Some(t),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    pub source: CopySource,
    pub direction: CopyDirection,
    pub end: CopyEnd,
    /// The old spelling's options are here too, under their modern names.
    pub options: Vec<UtilityOption>,
    /// COPY FROM ... WHERE
    pub filter: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum CopySource {
    Table {
        name: ObjectName,
        columns: Vec<Ident>,
    },
    Query(Box<Statement>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    From,
    To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEnd {
    /// STDIN or STDOUT.
    Client,
    File(String),
    Program(String),
}

/// VACUUM or ANALYZE.
#[derive(Debug, Clone, PartialEq)]
pub struct Vacuum {
    pub is_vacuum: bool,
    /// The old spelling's words are here too (`full`, `freeze`, `verbose`, `analyze`).
    pub options: Vec<UtilityOption>,
    /// Empty: every table.
    pub tables: Vec<VacuumTable>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VacuumTable {
    pub name: ObjectName,
    pub columns: Vec<Ident>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LockTable {
    pub tables: Vec<ObjectName>,
    pub mode: LockMode,
    pub no_wait: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reindex {
    pub what: ReindexTarget,
    pub concurrently: bool,
    pub options: Vec<UtilityOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ReindexTarget {
    Index(ObjectName),
    Table(ObjectName),
    Schema(Ident),
    Database(Option<Ident>),
    System(Option<Ident>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum AlterSystem {
    /// No values: DEFAULT, which removes the line.
    Set {
        name: String,
        values: Vec<SetValue>,
    },
    Reset(String),
    ResetAll,
}
