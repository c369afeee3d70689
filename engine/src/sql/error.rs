//! The one error that a client sees: PostgreSQL's fields of an ErrorResponse or NoticeResponse.
//!
//! Errors of lower rooms become one here and nowhere else, so the mapping to SQLSTATEs is one file. The
//! parser and the analyzer know byte offsets; [`SqlError::located`] turns them into the character position
//! that the protocol wants, once, where the query string is at hand. It must not know a connection.

use std::fmt;

use crate::catalog::acl::GrantError;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::view::CatalogError;
use crate::index::IndexError;
use crate::storage::StorageError;
use crate::table::TableError;
use crate::txn::interrupt::{Conflict, Interrupt};
use crate::txn::{CommitError, LockError, TxnError};
use crate::types::error::TypeError;

/// Field `S` of the message, and what becomes of the session. Manual, 20.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug,
    Log,
    Info,
    Notice,
    Warning,
    Error,
    /// Ends the session.
    Fatal,
    /// Ends the server.
    Panic,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Log => "LOG",
            Severity::Info => "INFO",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
        }
    }
}

/// SQLSTATEs by PostgreSQL's names. Manual, appendix A.
pub mod state {
    pub const SUCCESSFUL_COMPLETION: &str = "00000";
    pub const WARNING: &str = "01000";
    pub const WARNING_PRIVILEGE_NOT_REVOKED: &str = "01006";
    pub const WARNING_PRIVILEGE_NOT_GRANTED: &str = "01007";
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const TRANSACTION_RESOLUTION_UNKNOWN: &str = "08007";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const INVALID_GRANTOR: &str = "0L000";
    pub const INVALID_GRANT_OPERATION: &str = "0LP01";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const CARDINALITY_VIOLATION: &str = "21000";
    pub const DATA_EXCEPTION: &str = "22000";
    pub const STRING_TOO_LONG: &str = "22001";
    pub const NUMERIC_OUT_OF_RANGE: &str = "22003";
    pub const NULL_NOT_ALLOWED: &str = "22004";
    pub const INVALID_PRECEDING_OR_FOLLOWING_SIZE: &str = "22013";
    pub const INVALID_ARGUMENT_FOR_NTILE: &str = "22014";
    pub const INVALID_ARGUMENT_FOR_NTH_VALUE: &str = "22016";
    pub const INVALID_ROW_COUNT_IN_LIMIT: &str = "2201W";
    pub const INVALID_ROW_COUNT_IN_OFFSET: &str = "2201X";
    pub const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    pub const INVALID_ESCAPE_SEQUENCE: &str = "22025";
    pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    pub const BAD_COPY_FORMAT: &str = "22P04";
    pub const INTEGRITY_VIOLATION: &str = "23000";
    pub const NOT_NULL_VIOLATION: &str = "23502";
    pub const FOREIGN_KEY_VIOLATION: &str = "23503";
    pub const UNIQUE_VIOLATION: &str = "23505";
    pub const CHECK_VIOLATION: &str = "23514";
    pub const ACTIVE_SQL_TRANSACTION: &str = "25001";
    pub const READ_ONLY_SQL_TRANSACTION: &str = "25006";
    pub const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
    pub const IN_FAILED_SQL_TRANSACTION: &str = "25P02";
    pub const INVALID_STATEMENT_NAME: &str = "26000";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const CONFIG_FILE_ERROR: &str = "F0000";
    pub const DEPENDENT_OBJECTS_STILL_EXIST: &str = "2BP01";
    pub const INVALID_CURSOR_NAME: &str = "34000";
    pub const INVALID_CURSOR_DEFINITION: &str = "42P11";
    pub const INVALID_SAVEPOINT: &str = "3B001";
    pub const UNDEFINED_DATABASE: &str = "3D000";
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const DEADLOCK_DETECTED: &str = "40P01";
    pub const SYNTAX_ERROR: &str = "42601";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const CANNOT_COERCE: &str = "42846";
    pub const GROUPING_ERROR: &str = "42803";
    pub const INVALID_RECURSION: &str = "42P19";
    pub const WINDOWING_ERROR: &str = "42P20";
    pub const COLLATION_MISMATCH: &str = "42P21";
    pub const DATATYPE_MISMATCH: &str = "42804";
    pub const WRONG_OBJECT_TYPE: &str = "42809";
    pub const GENERATED_ALWAYS: &str = "428C9";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const DUPLICATE_COLUMN: &str = "42701";
    pub const DUPLICATE_CURSOR: &str = "42P03";
    pub const DUPLICATE_DATABASE: &str = "42P04";
    pub const DUPLICATE_PREPARED_STATEMENT: &str = "42P05";
    pub const DUPLICATE_SCHEMA: &str = "42P06";
    pub const DUPLICATE_TABLE: &str = "42P07";
    pub const DUPLICATE_ALIAS: &str = "42712";
    pub const DUPLICATE_OBJECT: &str = "42710";
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    pub const AMBIGUOUS_FUNCTION: &str = "42725";
    pub const AMBIGUOUS_PARAMETER: &str = "42P08";
    pub const AMBIGUOUS_ALIAS: &str = "42P09";
    pub const INVALID_COLUMN_REFERENCE: &str = "42P10";
    pub const INVALID_FOREIGN_KEY: &str = "42830";
    pub const INVALID_COLUMN_DEFINITION: &str = "42611";
    pub const INVALID_TABLE_DEFINITION: &str = "42P16";
    pub const INVALID_OBJECT_DEFINITION: &str = "42P17";
    pub const INDETERMINATE_DATATYPE: &str = "42P18";
    pub const INVALID_NAME: &str = "42602";
    pub const NAME_TOO_LONG: &str = "42622";
    pub const RESERVED_NAME: &str = "42939";
    pub const DISK_FULL: &str = "53100";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
    pub const TOO_MANY_COLUMNS: &str = "54011";
    pub const TOO_MANY_ARGUMENTS: &str = "54023";
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub const OBJECT_IN_USE: &str = "55006";
    pub const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub const QUERY_CANCELED: &str = "57014";
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const CRASH_SHUTDOWN: &str = "57P02";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
    pub const IO_ERROR: &str = "58030";
    pub const UNDEFINED_FILE: &str = "58P01";
    pub const DUPLICATE_FILE: &str = "58P02";
    pub const INTERNAL_ERROR: &str = "XX000";
    pub const DATA_CORRUPTED: &str = "XX001";
    pub const INDEX_CORRUPTED: &str = "XX002";
}

/// An error or a notice. Fields are boxed: a `Result` of it stays small.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlError(Box<Fields>);

/// The fields of the protocol's message. Manual, 55.8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    pub severity: Severity,
    pub state: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Characters, from 1, in the client's query string.
    pub position: Option<u32>,
    /// CONTEXT: where it happened, one line for each level.
    pub context: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub datatype: Option<String>,
    pub constraint: Option<String>,
    /// Byte offset in the statement's source, until [`SqlError::located`] makes `position` of it.
    offset: Option<u32>,
}

impl std::ops::Deref for SqlError {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl std::ops::DerefMut for SqlError {
    fn deref_mut(&mut self) -> &mut Fields {
        &mut self.0
    }
}

impl SqlError {
    /// An ERROR.
    pub fn new(state: &'static str, message: impl Into<String>) -> SqlError {
        SqlError::with_severity(Severity::Error, state, message)
    }
    pub fn with_severity(
        severity: Severity,
        state: &'static str,
        message: impl Into<String>,
    ) -> SqlError {
        SqlError(Box::new(Fields {
            severity,
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            datatype: None,
            constraint: None,
            offset: None,
        }))
    }
    /// 0A000. Name the feature in the message and the way round in a hint.
    pub fn unsupported(message: impl Into<String>) -> SqlError {
        SqlError::new(state::FEATURE_NOT_SUPPORTED, message)
    }
    /// 25006 for a command that writes.
    pub fn read_only(command: &str) -> SqlError {
        SqlError::new(
            state::READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {command} in a read-only transaction"),
        )
    }
    pub fn internal(message: impl Into<String>) -> SqlError {
        SqlError::new(state::INTERNAL_ERROR, message)
    }
    pub fn notice(message: impl Into<String>) -> SqlError {
        SqlError::with_severity(Severity::Notice, state::SUCCESSFUL_COMPLETION, message)
    }
    pub fn warning(state: &'static str, message: impl Into<String>) -> SqlError {
        SqlError::with_severity(Severity::Warning, state, message)
    }
    pub fn fatal(state: &'static str, message: impl Into<String>) -> SqlError {
        SqlError::with_severity(Severity::Fatal, state, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.0.detail = Some(detail.into());
        self
    }
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.0.hint = Some(hint.into());
        self
    }
    /// Where it happened, behind what is known of that already.
    pub fn context(mut self, context: impl Into<String>) -> SqlError {
        let context = context.into();
        self.0.context = Some(match self.0.context.take() {
            Some(inner) => format!("{inner}\n{context}"),
            None => context,
        });
        self
    }
    /// `offset` in bytes from the start of the query string; the first one given wins.
    pub fn at(mut self, offset: u32) -> SqlError {
        if self.0.offset.is_none() && self.0.position.is_none() {
            self.0.offset = Some(offset);
        }
        self
    }
    /// Forgets where it was: the text was not the client's (a stored default, for instance).
    pub fn nowhere(mut self) -> SqlError {
        self.0.offset = None;
        self.0.position = None;
        self
    }
    pub fn table(mut self, schema: impl Into<String>, table: impl Into<String>) -> SqlError {
        self.0.schema = Some(schema.into());
        self.0.table = Some(table.into());
        self
    }
    pub fn column(mut self, column: impl Into<String>) -> SqlError {
        self.0.column = Some(column.into());
        self
    }
    pub fn constraint(mut self, constraint: impl Into<String>) -> SqlError {
        self.0.constraint = Some(constraint.into());
        self
    }
    pub fn datatype(mut self, datatype: impl Into<String>) -> SqlError {
        self.0.datatype = Some(datatype.into());
        self
    }
    /// Turns the byte offset into a character position of `source`.
    pub fn located(mut self, source: &str) -> SqlError {
        if let Some(offset) = self.0.offset.take() {
            let upto = (offset as usize).min(source.len());
            let characters = source.as_bytes()[..upto]
                .iter()
                .filter(|b| (**b & 0xC0) != 0x80)
                .count();
            self.0.position = u32::try_from(characters + 1).ok();
        }
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:  {}", self.severity.as_str(), self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL:  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT:  {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self} (position {:?})", self.state, self.position)
    }
}

impl std::error::Error for SqlError {}

/// `aclitem` is the only type here that travels as text alone.
pub fn no_binary_output() -> SqlError {
    SqlError::new(
        state::UNDEFINED_FUNCTION,
        "no binary output function available for type aclitem",
    )
}

/// Of a relation that only others may use so.
pub fn no_right_to(relation: &Relation) -> SqlError {
    let word = match relation.kind {
        RelationKind::View | RelationKind::Virtual => "view",
        RelationKind::Sequence => "sequence",
        RelationKind::Index => "index",
        RelationKind::Table => "table",
    };
    SqlError::new(
        state::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for {word} {}", relation.name),
    )
}

impl From<TypeError> for SqlError {
    fn from(e: TypeError) -> SqlError {
        // An interrupt that a function met in its work, which ends the session.
        let severity = match e.state {
            state::ADMIN_SHUTDOWN | state::CONNECTION_FAILURE | "57P04" => Severity::Fatal,
            _ => Severity::Error,
        };
        let mut out = SqlError::with_severity(severity, e.state, e.message);
        out.detail = e.detail;
        out.hint = e.hint;
        out.0.context = e.context;
        out
    }
}

/// The SQLSTATE of what went wrong with a file.
pub fn state_of_storage(e: &StorageError) -> &'static str {
    match e {
        StorageError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => state::DISK_FULL,
            std::io::ErrorKind::NotFound => state::UNDEFINED_FILE,
            std::io::ErrorKind::PermissionDenied => state::INSUFFICIENT_PRIVILEGE,
            _ => state::IO_ERROR,
        },
        StorageError::Damaged(_) | StorageError::BeyondEnd(_) | StorageError::Partial { .. } => {
            state::DATA_CORRUPTED
        }
        StorageError::TooLarge(_) => state::PROGRAM_LIMIT_EXCEEDED,
        StorageError::NoBuffers => state::OUT_OF_MEMORY,
    }
}

impl From<StorageError> for SqlError {
    fn from(e: StorageError) -> SqlError {
        let out = SqlError::new(state_of_storage(&e), e.to_string());
        match e {
            _ if out.state == state::DISK_FULL => out.hint("Check free disk space."),
            StorageError::Partial { .. } => {
                out.hint("Restore the file from a backup, or make this instance anew from another.")
            }
            _ => out,
        }
    }
}

impl From<GrantError> for SqlError {
    fn from(e: GrantError) -> SqlError {
        let message = e.to_string();
        match e {
            GrantError::OptionToPublic | GrantError::Circular => {
                SqlError::new(state::INVALID_GRANT_OPERATION, message)
            }
            GrantError::Dependent => SqlError::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .hint("Use CASCADE to revoke them too."),
            GrantError::Catalog(e) => e.into(),
        }
    }
}

impl From<CatalogError> for SqlError {
    fn from(e: CatalogError) -> SqlError {
        match e {
            CatalogError::ClosedSchema(_) => {
                SqlError::new(state::INSUFFICIENT_PRIVILEGE, e.to_string())
            }
            CatalogError::NoSchema(_) => SqlError::new(state::INVALID_SCHEMA_NAME, e.to_string()),
            CatalogError::OtherDatabase(_) => SqlError::unsupported(e.to_string()),
            CatalogError::Storage(s) => s.into(),
            CatalogError::Damaged { .. } => SqlError::new(state::DATA_CORRUPTED, e.to_string()),
            CatalogError::Table(t) => t.into(),
            CatalogError::Index(i) => i.into(),
            CatalogError::Txn(t) => t.into(),
            CatalogError::Lock(l) => l.into(),
            CatalogError::Duplicate { .. } => SqlError::new("23505", e.to_string()),
            CatalogError::ConcurrentUpdate(_) => SqlError::internal(e.to_string()),
            CatalogError::OidsExhausted(_) => {
                SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, e.to_string())
            }
        }
    }
}

impl From<Interrupt> for SqlError {
    fn from(e: Interrupt) -> SqlError {
        let code = match &e {
            Interrupt::Terminate => state::ADMIN_SHUTDOWN,
            Interrupt::ClientGone => state::CONNECTION_FAILURE,
            Interrupt::IdleInTransaction => "25P03",
            Interrupt::IdleSession => state::IDLE_SESSION_TIMEOUT,
            Interrupt::RecoveryConflict(Conflict::Database) => "57P04",
            Interrupt::RecoveryConflict(_) => state::SERIALIZATION_FAILURE,
            Interrupt::LockTimeout => state::LOCK_NOT_AVAILABLE,
            Interrupt::StatementTimeout | Interrupt::Cancel => state::QUERY_CANCELED,
        };
        let severity = if e.ends_session() {
            Severity::Fatal
        } else {
            Severity::Error
        };
        let mut out = SqlError::with_severity(severity, code, e.to_string());
        if let Interrupt::RecoveryConflict(conflict) = e {
            out.detail = Some(conflict.detail().to_owned());
            if e.ends_session() {
                out.ends_by_recovery();
            }
        }
        out
    }
}

impl SqlError {
    /// The session, not only its statement, gives way to replay.
    pub fn ends_by_recovery(&mut self) {
        self.severity = Severity::Fatal;
        "terminating connection due to conflict with recovery".clone_into(&mut self.message);
        let hint =
            "In a moment you should be able to reconnect to the database and repeat your command.";
        self.hint = Some(hint.to_owned());
    }
}

impl From<TxnError> for SqlError {
    fn from(e: TxnError) -> SqlError {
        let code = match e {
            TxnError::Interrupted(i) => return i.into(),
            TxnError::InRecovery => state::READ_ONLY_SQL_TRANSACTION,
            TxnError::DiskFull => {
                return SqlError::new(state::DISK_FULL, e.to_string()).hint(
                    "Enlarge the volume, or remove data: a superuser's session may write after \
                     SET understudy.write_on_full_disk = on.",
                );
            }
            TxnError::Log(ref e) if e.is_out_of_space() => state::DISK_FULL,
            TxnError::Log(_) => state::IO_ERROR,
            TxnError::CommitLog { ref source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => state::DISK_FULL,
                _ => state::IO_ERROR,
            },
            TxnError::TooManyCommands => state::PROGRAM_LIMIT_EXCEEDED,
            TxnError::NoSavepoint(_) => state::INVALID_SAVEPOINT,
        };
        SqlError::new(code, e.to_string())
    }
}

/// 08007 where nobody can say whether it is committed.
impl From<CommitError> for SqlError {
    fn from(e: CommitError) -> SqlError {
        match e {
            CommitError::OutcomeUnknown { .. } => {
                SqlError::fatal(state::TRANSACTION_RESOLUTION_UNKNOWN, e.to_string()).detail(
                    "The transaction has been written to the log and may become visible later.",
                )
            }
            CommitError::Aborted(e) => e.into(),
        }
    }
}

impl From<LockError> for SqlError {
    fn from(e: LockError) -> SqlError {
        match e {
            LockError::NotAvailable(_) => SqlError::new(state::LOCK_NOT_AVAILABLE, e.to_string()),
            LockError::Deadlock { ref detail, .. } => {
                SqlError::new(state::DEADLOCK_DETECTED, e.to_string())
                    .detail(detail.clone())
                    .hint("See server log for query details.")
            }
            LockError::TableFull => SqlError::new(state::OUT_OF_MEMORY, e.to_string())
                .hint("You might need to increase max_locks_per_transaction."),
            LockError::InRecovery(_) => SqlError::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, e.to_string()).hint(
                "Only RowExclusiveLock or less can be acquired on database objects during recovery.",
            ),
            LockError::Interrupted(i) => i.into(),
            LockError::Transaction(t) => t.into(),
        }
    }
}

impl From<IndexError> for SqlError {
    fn from(e: IndexError) -> SqlError {
        let code = match e {
            IndexError::Storage(s) => return s.into(),
            IndexError::Row(table) => return (*table).into(),
            IndexError::KeyTooLong { .. } => {
                return SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, e.to_string()).hint(
                    "Values larger than 1/3 of a buffer page cannot be indexed.\n\
                     Consider a function index of an MD5 hash of the value, or use full text indexing.",
                );
            }
            IndexError::Damaged { .. } => state::INDEX_CORRUPTED,
            IndexError::UnsupportedType(_) => state::FEATURE_NOT_SUPPORTED,
        };
        SqlError::new(code, e.to_string())
    }
}

impl From<TableError> for SqlError {
    fn from(e: TableError) -> SqlError {
        let code = match e {
            TableError::Storage(s) => return s.into(),
            TableError::Lock(l) => return l.into(),
            TableError::RowTooBig { .. } => state::PROGRAM_LIMIT_EXCEEDED,
            TableError::DamagedRow { .. } | TableError::DamagedValue { .. } => {
                state::DATA_CORRUPTED
            }
            TableError::UnsupportedType(_) => state::FEATURE_NOT_SUPPORTED,
            TableError::WrongValue { .. } => state::INTERNAL_ERROR,
        };
        SqlError::new(code, e.to_string())
    }
}
