//! What the rest of the engine sees of a table, an index or a sequence: an immutable description.
//!
//! A description is made from catalog rows, shared by reference and replaced, never changed: a holder of the
//! `Arc` with a lock on the relation may trust it until the lock goes.

use std::sync::Arc;

use crate::catalog::rights::Acl;
use crate::ids::{Oid, RelFile, Xid};
use crate::types::datum::{Datum, SqlType};
use crate::types::opclass::{self, OperatorClass};

pub use crate::txn::LockMode;

/// `pg_class.relkind`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    Table,
    Index,
    Sequence,
    View,
    /// Filled by the code at each scan; has no file.
    Virtual,
}

impl RelationKind {
    /// The letter in `pg_class.relkind`; virtual tables show as views, as PostgreSQL's statistics views do.
    pub const fn letter(self) -> u8 {
        match self {
            RelationKind::Table => b'r',
            RelationKind::Index => b'i',
            RelationKind::Sequence => b'S',
            RelationKind::View | RelationKind::Virtual => b'v',
        }
    }
}

#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: Oid,
    pub name: String,
    pub schema: Oid,
    pub schema_name: String,
    pub kind: RelationKind,
    pub owner: Oid,
    /// What was granted on it; an index has none of its own.
    pub acl: Acl,
    /// Meaningless for `Virtual` and `View`.
    pub file: RelFile,
    /// Holds values too large for a heap tuple; `None` for relations that need none.
    pub overflow: Option<RelFile>,
    /// In attribute order, dropped ones included: `columns[i].attribute == i + 1`.
    pub columns: Vec<Column>,
    /// Indexes on this table, valid or not, by oid.
    pub indexes: Vec<Arc<Index>>,
    pub checks: Vec<Check>,
    /// Its foreign keys, by oid.
    pub foreign_keys: Vec<Arc<ForeignKey>>,
    /// Foreign keys that refer to it, its own ones too, by oid.
    pub referenced_by: Vec<Arc<ForeignKey>>,
    /// Rows and pages as last counted by VACUUM or ANALYZE; -1 rows: never.
    pub estimated_rows: f64,
    pub estimated_pages: u32,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// From 1.
    pub attribute: i16,
    pub ty: SqlType,
    pub not_null: bool,
    /// `ty` stays a type of the same width: rows written before still have the value, which readers skip.
    pub dropped: bool,
    /// SQL text of the default, as `pg_get_expr` shows it; parsed and bound when used.
    pub default: Option<String>,
    pub identity: Identity,
    /// The value of rows that were written before the column was added (`attmissingval`).
    pub missing: Option<Datum>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    No,
    Always,
    ByDefault,
}

/// A CHECK constraint: its name and its SQL text.
#[derive(Debug, Clone)]
pub struct Check {
    pub oid: Oid,
    pub name: String,
    pub expression: String,
}

/// A FOREIGN KEY constraint. Columns are positions (from 0) in their tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub oid: Oid,
    pub name: String,
    /// The table that refers.
    pub table: Oid,
    pub columns: Vec<usize>,
    /// The table referred to, the key there, and the unique index over it.
    pub referenced: Oid,
    pub key: Vec<usize>,
    pub index: Oid,
    /// MATCH FULL
    pub match_full: bool,
    pub on_update: ReferentialAction,
    pub on_delete: ReferentialAction,
    /// What ON DELETE SET NULL and SET DEFAULT set, where that is not all of `columns`.
    pub set_columns: Vec<usize>,
    pub deferrable: bool,
    pub initially_deferred: bool,
}

/// What becomes of the rows that refer to a key that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferentialAction {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

impl ReferentialAction {
    /// `pg_constraint.confupdtype` and `confdeltype`.
    pub const fn letter(self) -> u8 {
        match self {
            ReferentialAction::NoAction => b'a',
            ReferentialAction::Restrict => b'r',
            ReferentialAction::Cascade => b'c',
            ReferentialAction::SetNull => b'n',
            ReferentialAction::SetDefault => b'd',
        }
    }
    pub const fn from_letter(letter: u8) -> Option<ReferentialAction> {
        Some(match letter {
            b'a' => ReferentialAction::NoAction,
            b'r' => ReferentialAction::Restrict,
            b'c' => ReferentialAction::Cascade,
            b'n' => ReferentialAction::SetNull,
            b'd' => ReferentialAction::SetDefault,
            _ => return None,
        })
    }
    /// As it is written; nothing for what holds without a word.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            ReferentialAction::NoAction => None,
            ReferentialAction::Restrict => Some("RESTRICT"),
            ReferentialAction::Cascade => Some("CASCADE"),
            ReferentialAction::SetNull => Some("SET NULL"),
            ReferentialAction::SetDefault => Some("SET DEFAULT"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Index {
    pub oid: Oid,
    pub name: String,
    pub table: Oid,
    pub file: RelFile,
    pub keys: Vec<IndexKey>,
    /// Positions (from 0) of INCLUDE columns in the table.
    pub included: Vec<usize>,
    pub unique: bool,
    pub primary: bool,
    /// NULLS NOT DISTINCT
    pub nulls_not_distinct: bool,
    /// False while it is being built.
    pub valid: bool,
    /// The constraint that owns it, if any.
    pub constraint: Option<(Oid, String)>,
    /// Uniqueness is checked at the end of the statement or the transaction.
    pub deferrable: bool,
    /// Rows that older snapshots see may be missing: only a snapshot that sees this transaction, which made the
    /// index, may be answered from it (`indcheckxmin`).
    pub only_if_sees: Option<Xid>,
}

#[derive(Debug, Clone)]
pub struct IndexKey {
    /// Position (from 0) in the table's columns.
    pub column: usize,
    pub ty: SqlType,
    /// The operator class that it was made with.
    pub class: Oid,
    pub descending: bool,
    pub nulls_first: bool,
}

impl IndexKey {
    /// Its operator class, if that is not the one that the type has anyway.
    pub fn named_class(&self) -> Option<&'static OperatorClass> {
        let own = opclass::by_oid(self.class)?;
        let default = opclass::default_of(self.ty.oid);
        default.is_none_or(|d| d.oid != own.oid).then_some(own)
    }
}

/// The operator class of a type; none for one that has no order.
pub fn default_class(ty: SqlType) -> Oid {
    opclass::default_of(ty.oid).map_or(Oid::INVALID, |class| class.oid)
}

impl Relation {
    /// Position (from 0) of a live column.
    pub fn column_named(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| !c.dropped && c.name == name)
    }
    pub fn live_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, c)| !c.dropped)
    }
    pub fn primary_key(&self) -> Option<&Arc<Index>> {
        self.indexes.iter().find(|i| i.primary)
    }
    pub fn is_shared(&self) -> bool {
        self.file.tablespace == crate::ids::GLOBAL_TABLESPACE
    }
}
