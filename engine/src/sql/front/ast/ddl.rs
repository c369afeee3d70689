//! Statements that define things.

use super::expr::{Expr, Ident, ObjectName, TypeName};
use super::query::Query;
use super::utility::{SetValue, UtilityOption};
use crate::catalog::relation::{Identity, ReferentialAction};

/// A piece of the statement's source: byte offsets. Defaults and checks are stored as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceText {
    pub start: u32,
    pub end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    Permanent,
    Unlogged,
    Temporary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCommit {
    PreserveRows,
    DeleteRows,
    Drop,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    pub name: ObjectName,
    pub persistence: Persistence,
    pub if_not_exists: bool,
    pub elements: Vec<TableElement>,
    pub inherits: Vec<ObjectName>,
    /// PARTITION BY, PARTITION OF, OF type: what it was, to be refused by name.
    pub unsupported: Option<&'static str>,
    pub options: Vec<UtilityOption>,
    pub on_commit: Option<OnCommit>,
    pub tablespace: Option<Ident>,
    pub access_method: Option<Ident>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TableElement {
    Column(ColumnDefinition),
    Constraint(TableConstraint),
    Like {
        table: ObjectName,
        /// INCLUDING (true) and EXCLUDING (false), in order; `all` for ALL.
        options: Vec<(bool, String)>,
        at: u32,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    pub name: Ident,
    pub ty: TypeName,
    pub collation: Option<ObjectName>,
    /// STORAGE, COMPRESSION: accepted where it is harmless.
    pub storage: Option<Ident>,
    pub constraints: Vec<ColumnConstraint>,
    /// What is wrong with the marks of its constraints (DEFERRABLE and the like), and where: the grammar takes them in any
    /// order, so only analysis refuses them.
    pub wrong_mark: Option<(String, u32)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnConstraint {
    pub name: Option<Ident>,
    pub kind: ColumnConstraintKind,
    pub timing: ConstraintTiming,
    pub at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConstraintTiming {
    pub deferrable: bool,
    pub initially_deferred: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnConstraintKind {
    NotNull,
    Null,
    Default(Expr, SourceText),
    Check {
        expr: Expr,
        text: SourceText,
        no_inherit: bool,
    },
    Unique {
        nulls_not_distinct: bool,
        options: Vec<UtilityOption>,
    },
    PrimaryKey {
        options: Vec<UtilityOption>,
    },
    Identity {
        identity: Identity,
        options: Vec<SequenceOption>,
    },
    /// GENERATED ALWAYS AS (...) STORED
    Generated(Expr, SourceText),
    References(Box<ForeignKey>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKey {
    pub table: ObjectName,
    /// None: those of its primary key.
    pub columns: Vec<Ident>,
    pub match_full: bool,
    pub on_delete: ReferentialAction,
    /// What ON DELETE SET NULL and SET DEFAULT set; none: all columns.
    pub set_columns: Vec<Ident>,
    pub on_update: ReferentialAction,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TableConstraint {
    pub name: Option<Ident>,
    pub kind: TableConstraintKind,
    pub timing: ConstraintTiming,
    pub not_valid: bool,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TableConstraintKind {
    Check {
        expr: Expr,
        text: SourceText,
        no_inherit: bool,
    },
    /// UNIQUE or PRIMARY KEY.
    Unique {
        primary: bool,
        columns: Vec<Ident>,
        include: Vec<Ident>,
        nulls_not_distinct: bool,
        options: Vec<UtilityOption>,
    },
    UniqueUsingIndex {
        primary: bool,
        index: Ident,
    },
    ForeignKey {
        columns: Vec<Ident>,
        key: Box<ForeignKey>,
    },
    Exclude,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTableAs {
    pub name: ObjectName,
    pub columns: Vec<Ident>,
    pub persistence: Persistence,
    pub if_not_exists: bool,
    pub options: Vec<UtilityOption>,
    pub on_commit: Option<OnCommit>,
    pub query: super::Statement,
    pub with_data: bool,
    /// SELECT ... INTO.
    pub select_into: bool,
    pub materialized_view: bool,
}

impl CreateTableAs {
    pub fn tag(&self) -> &'static str {
        if self.select_into {
            "SELECT INTO"
        } else if self.materialized_view {
            "CREATE MATERIALIZED VIEW"
        } else {
            "CREATE TABLE AS"
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateIndex {
    pub name: Option<Ident>,
    pub table: ObjectName,
    pub only: bool,
    pub unique: bool,
    pub concurrently: bool,
    pub if_not_exists: bool,
    pub method: Option<Ident>,
    pub keys: Vec<IndexElement>,
    pub include: Vec<IndexElement>,
    pub nulls_not_distinct: bool,
    pub options: Vec<UtilityOption>,
    pub tablespace: Option<Ident>,
    pub filter: Option<(Expr, SourceText)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct IndexElement {
    pub key: IndexElementKey,
    pub collation: Option<ObjectName>,
    pub operator_class: Option<ObjectName>,
    pub descending: bool,
    pub nulls_first: Option<bool>,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum IndexElementKey {
    Column(Ident),
    Expression(Expr, SourceText),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateSequence {
    pub name: ObjectName,
    pub persistence: Persistence,
    pub if_not_exists: bool,
    pub options: Vec<SequenceOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlterSequence {
    pub name: ObjectName,
    pub if_exists: bool,
    pub options: Vec<SequenceOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SequenceOption {
    pub kind: SequenceOptionKind,
    pub at: u32,
}

/// Numbers are as written, so that one out of range is refused by the type's own error.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceOptionKind {
    As(TypeName),
    Increment(String),
    /// `None`: NO MINVALUE.
    MinValue(Option<String>),
    MaxValue(Option<String>),
    Start(String),
    /// `None`: at the start value.
    Restart(Option<String>),
    Cache(String),
    Cycle(bool),
    /// `None`: OWNED BY NONE; else table and column as one dotted name.
    OwnedBy(Option<Vec<Ident>>),
    /// SEQUENCE NAME (only inside identity options).
    Name(ObjectName),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateSchema {
    pub name: Option<Ident>,
    pub owner: Option<RoleSpec>,
    pub if_not_exists: bool,
    pub elements: Vec<super::Statement>,
}

/// A role where the grammar takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleSpec {
    Named(Ident),
    CurrentUser(u32),
    CurrentRole(u32),
    SessionUser(u32),
    Public(u32),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateDatabase {
    pub name: Ident,
    pub options: Vec<UtilityOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlterDatabase {
    pub name: Ident,
    pub options: Vec<UtilityOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DropDatabase {
    pub name: Ident,
    pub if_exists: bool,
    pub force: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateRole {
    pub kind: RoleKind,
    pub name: Ident,
    pub options: Vec<RoleOption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    Role,
    User,
    Group,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlterRole {
    pub role: RoleSpec,
    /// ALTER GROUP ... DROP USER: the members among the options go.
    pub drops_members: bool,
    pub options: Vec<RoleOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RoleOption {
    pub kind: RoleOptionKind,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RoleOptionKind {
    Superuser(bool),
    CreateDb(bool),
    CreateRole(bool),
    Inherit(bool),
    Login(bool),
    Replication(bool),
    BypassRls(bool),
    ConnectionLimit(i32),
    /// `None`: PASSWORD NULL.
    Password(Option<String>),
    ValidUntil(String),
    InRole(Vec<RoleSpec>),
    Members(Vec<RoleSpec>),
    Admins(Vec<RoleSpec>),
    SysId(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlterSetting {
    pub target: SettingOwner,
    pub change: SettingChange,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SettingOwner {
    Database(Ident),
    /// `role: None` is ALL.
    Role {
        role: Option<RoleSpec>,
        database: Option<Ident>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum SettingChange {
    /// No values: DEFAULT.
    Set {
        name: String,
        values: Vec<SetValue>,
    },
    FromCurrent {
        name: String,
    },
    Reset(String),
    ResetAll,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub persistence: Persistence,
    pub columns: Vec<Ident>,
    pub options: Vec<UtilityOption>,
    pub query: Query,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlterTable {
    /// What the statement called it: ALTER INDEX and ALTER SEQUENCE share some forms.
    pub kind: ObjectKind,
    pub name: ObjectName,
    pub only: bool,
    pub if_exists: bool,
    pub actions: Vec<AlterTableAction>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AlterTableAction {
    AddColumn {
        column: ColumnDefinition,
        if_not_exists: bool,
    },
    DropColumn {
        name: Ident,
        if_exists: bool,
        cascade: bool,
    },
    SetDefault {
        column: Ident,
        expr: Expr,
        text: SourceText,
    },
    DropDefault {
        column: Ident,
    },
    SetNotNull {
        column: Ident,
    },
    DropNotNull {
        column: Ident,
    },
    AlterType {
        column: Ident,
        ty: TypeName,
        collation: Option<ObjectName>,
        using: Option<(Expr, SourceText)>,
    },
    AddIdentity {
        column: Ident,
        identity: Identity,
        options: Vec<SequenceOption>,
    },
    SetIdentity {
        column: Ident,
        identity: Option<Identity>,
        options: Vec<SequenceOption>,
    },
    DropIdentity {
        column: Ident,
        if_exists: bool,
    },
    SetStatistics {
        column: Ident,
    },
    AddConstraint(TableConstraint),
    DropConstraint {
        name: Ident,
        if_exists: bool,
        cascade: bool,
    },
    ValidateConstraint(Ident),
    AlterConstraint {
        name: Ident,
        timing: ConstraintTiming,
    },
    SetOptions(Vec<UtilityOption>),
    ResetOptions(Vec<UtilityOption>),
    OwnerTo(RoleSpec),
    SetSchema(Ident),
    SetTablespace(Ident),
    /// A form that PostgreSQL has and this version has not.
    Unsupported {
        what: &'static str,
        hint: Option<&'static str>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Table,
    Index,
    Sequence,
    View,
    MaterializedView,
    Schema,
    Database,
    Role,
    Tablespace,
    Type,
    Domain,
    Function,
    Extension,
    ForeignTable,
    Column,
    Constraint,
}

impl ObjectKind {
    /// The word in messages.
    pub const fn word(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::Index => "index",
            ObjectKind::Sequence => "sequence",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::Schema => "schema",
            ObjectKind::Database => "database",
            ObjectKind::Role => "role",
            ObjectKind::Tablespace => "tablespace",
            ObjectKind::Type => "type",
            ObjectKind::Domain => "domain",
            ObjectKind::Function => "function",
            ObjectKind::Extension => "extension",
            ObjectKind::ForeignTable => "foreign table",
            ObjectKind::Column => "column",
            ObjectKind::Constraint => "constraint",
        }
    }
    pub const fn alter_tag(self) -> &'static str {
        match self {
            ObjectKind::Table | ObjectKind::Column | ObjectKind::Constraint => "ALTER TABLE",
            ObjectKind::Index => "ALTER INDEX",
            ObjectKind::Sequence => "ALTER SEQUENCE",
            ObjectKind::View => "ALTER VIEW",
            ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
            ObjectKind::Schema => "ALTER SCHEMA",
            ObjectKind::Database => "ALTER DATABASE",
            ObjectKind::Role => "ALTER ROLE",
            ObjectKind::Tablespace => "ALTER TABLESPACE",
            ObjectKind::Type => "ALTER TYPE",
            ObjectKind::Domain => "ALTER DOMAIN",
            ObjectKind::Function => "ALTER FUNCTION",
            ObjectKind::Extension => "ALTER EXTENSION",
            ObjectKind::ForeignTable => "ALTER FOREIGN TABLE",
        }
    }
    pub const fn drop_tag(self) -> &'static str {
        match self {
            ObjectKind::Table | ObjectKind::Column | ObjectKind::Constraint => "DROP TABLE",
            ObjectKind::Index => "DROP INDEX",
            ObjectKind::Sequence => "DROP SEQUENCE",
            ObjectKind::View => "DROP VIEW",
            ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
            ObjectKind::Schema => "DROP SCHEMA",
            ObjectKind::Database => "DROP DATABASE",
            ObjectKind::Role => "DROP ROLE",
            ObjectKind::Tablespace => "DROP TABLESPACE",
            ObjectKind::Type => "DROP TYPE",
            ObjectKind::Domain => "DROP DOMAIN",
            ObjectKind::Function => "DROP FUNCTION",
            ObjectKind::Extension => "DROP EXTENSION",
            ObjectKind::ForeignTable => "DROP FOREIGN TABLE",
        }
    }
}

/// ALTER ... RENAME TO; for a column or a constraint `name` is its table.
#[derive(Debug, Clone, PartialEq)]
pub struct Rename {
    pub kind: ObjectKind,
    pub what: RenameTarget,
    pub name: ObjectName,
    pub if_exists: bool,
    pub to: Ident,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RenameTarget {
    Itself,
    Column(Ident),
    Constraint(Ident),
}

/// ALTER SCHEMA/DATABASE ... OWNER TO.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterOwner {
    pub kind: ObjectKind,
    pub name: ObjectName,
    pub owner: RoleSpec,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Drop {
    pub kind: ObjectKind,
    pub names: Vec<ObjectName>,
    pub if_exists: bool,
    pub cascade: bool,
    pub concurrently: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DropRole {
    pub roles: Vec<RoleSpec>,
    pub if_exists: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Truncate {
    pub tables: Vec<ObjectName>,
    pub restart_identity: bool,
    pub cascade: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Comment {
    pub kind: ObjectKind,
    /// For a column: its table; for a constraint: its table.
    pub name: ObjectName,
    /// The column or constraint.
    pub member: Option<Ident>,
    /// `None`: IS NULL, which removes it.
    pub text: Option<String>,
}
