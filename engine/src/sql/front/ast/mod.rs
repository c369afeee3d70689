//! What a parsed statement is made of: PostgreSQL's grammar as values, nothing resolved.
//!
//! Every node that an error may point at carries `at`, the byte offset where PostgreSQL would point. Names
//! are already folded to lower case and cut to 63 bytes; quoted ones are as written.

mod ddl;
mod dml;
mod expr;
mod grant;
mod query;
mod utility;

pub use ddl::*;
pub use dml::*;
pub use expr::*;
pub use grant::*;
pub use query::*;
pub use utility::*;

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    Query(Box<Query>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),

    Transaction(TransactionStatement),
    Set(SetStatement),
    SetConstraints(SetConstraints),
    Show(ShowTarget),
    Reset(ResetTarget),
    Discard(DiscardTarget),
    Listen(Ident),
    Unlisten(Option<Ident>),
    Notify {
        channel: Ident,
        payload: String,
    },
    Prepare(Box<Prepare>),
    Execute(Execute),
    /// `None`: ALL.
    Deallocate(Option<Ident>),
    DeclareCursor(Box<DeclareCursor>),
    Fetch(Fetch),
    /// CLOSE; `None`: ALL.
    CloseCursor(Option<Ident>),
    Explain(Box<Explain>),
    Copy(Box<Copy>),
    Vacuum(Vacuum),
    Checkpoint,
    LockTable(LockTable),
    Reindex(Reindex),
    AlterSystem(AlterSystem),

    CreateTable(Box<CreateTable>),
    CreateTableAs(Box<CreateTableAs>),
    CreateIndex(Box<CreateIndex>),
    CreateSequence(CreateSequence),
    CreateSchema(CreateSchema),
    CreateDatabase(CreateDatabase),
    CreateRole(CreateRole),
    CreateView(Box<CreateView>),
    AlterTable(Box<AlterTable>),
    AlterSequence(AlterSequence),
    AlterRole(AlterRole),
    /// ALTER ROLE ... SET, ALTER DATABASE ... SET
    AlterSetting(AlterSetting),
    AlterDatabase(AlterDatabase),
    Rename(Rename),
    AlterOwner(AlterOwner),
    Drop(Drop),
    DropDatabase(DropDatabase),
    DropRole(DropRole),
    Truncate(Truncate),
    Grant(Box<Grant>),
    GrantRole(GrantRole),
    ReassignOwned(ReassignOwned),
    DropOwned(DropOwned),
    Comment(Comment),
    /// Known to PostgreSQL, not to this version: 0A000 when it is run.
    Unsupported(Unsupported),
}

/// A command that PostgreSQL has and this version has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Its command tag, `CREATE FUNCTION` for instance.
    pub command: &'static str,
    /// What to do instead, if there is something.
    pub hint: Option<&'static str>,
}

impl Statement {
    /// The command tag without counts (`SELECT`, `CREATE TABLE`, ...), as PostgreSQL's `CreateCommandTag`.
    pub fn tag(&self) -> &'static str {
        match self {
            Statement::Query(_) => "SELECT",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Transaction(t) => t.tag(),
            Statement::Set(_) => "SET",
            Statement::SetConstraints(_) => "SET CONSTRAINTS",
            Statement::Show(_) => "SHOW",
            Statement::Reset(_) => "RESET",
            Statement::Discard(d) => d.tag(),
            Statement::Listen(_) => "LISTEN",
            Statement::Unlisten(_) => "UNLISTEN",
            Statement::Notify { .. } => "NOTIFY",
            Statement::Prepare(_) => "PREPARE",
            Statement::Execute(_) => "EXECUTE",
            Statement::Deallocate(Some(_)) => "DEALLOCATE",
            Statement::Deallocate(None) => "DEALLOCATE ALL",
            Statement::DeclareCursor(_) => "DECLARE CURSOR",
            Statement::Fetch(f) => {
                if f.is_move {
                    "MOVE"
                } else {
                    "FETCH"
                }
            }
            Statement::CloseCursor(Some(_)) => "CLOSE CURSOR",
            Statement::CloseCursor(None) => "CLOSE CURSOR ALL",
            Statement::Explain(_) => "EXPLAIN",
            Statement::Copy(_) => "COPY",
            Statement::Vacuum(v) => {
                if v.is_vacuum {
                    "VACUUM"
                } else {
                    "ANALYZE"
                }
            }
            Statement::Checkpoint => "CHECKPOINT",
            Statement::LockTable(_) => "LOCK TABLE",
            Statement::Reindex(_) => "REINDEX",
            Statement::AlterSystem(_) => "ALTER SYSTEM",
            other => other.ddl_tag(),
        }
    }

    fn ddl_tag(&self) -> &'static str {
        match self {
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::CreateTableAs(c) => c.tag(),
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::CreateSequence(_) => "CREATE SEQUENCE",
            Statement::CreateSchema(_) => "CREATE SCHEMA",
            Statement::CreateDatabase(_) => "CREATE DATABASE",
            Statement::CreateRole(_) => "CREATE ROLE",
            Statement::CreateView(_) => "CREATE VIEW",
            Statement::AlterTable(a) => a.kind.alter_tag(),
            Statement::AlterSequence(_) => "ALTER SEQUENCE",
            Statement::AlterRole(_) => "ALTER ROLE",
            Statement::AlterSetting(a) => match a.target {
                SettingOwner::Database(_) => "ALTER DATABASE",
                SettingOwner::Role { .. } => "ALTER ROLE",
            },
            Statement::AlterDatabase(_) => "ALTER DATABASE",
            Statement::Rename(r) => r.kind.alter_tag(),
            Statement::AlterOwner(a) => a.kind.alter_tag(),
            Statement::Drop(d) => d.kind.drop_tag(),
            Statement::DropDatabase(_) => "DROP DATABASE",
            Statement::DropRole(_) => "DROP ROLE",
            Statement::Truncate(_) => "TRUNCATE TABLE",
            Statement::Grant(g) if g.is_grant => "GRANT",
            Statement::Grant(_) => "REVOKE",
            Statement::GrantRole(g) if g.is_grant => "GRANT ROLE",
            Statement::GrantRole(_) => "REVOKE ROLE",
            Statement::ReassignOwned(_) => "REASSIGN OWNED",
            Statement::DropOwned(_) => "DROP OWNED",
            Statement::Comment(_) => "COMMENT",
            Statement::Unsupported(u) => u.command,
            other => unreachable!("{other:?} has its tag in `tag`"),
        }
    }
}
