//! The statements that foreign keys run, in the words that errors inside of them show.

use std::fmt::Write as _;

use crate::catalog::relation::{ForeignKey, ReferentialAction, Relation};
use crate::ids::Oid;
use crate::types::function::Operator;
use crate::types::functions::quote_identifier;
use crate::types::{oids, registry};

use super::equality::equality;

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The key that a new reference has. Parameters: the reference.
    KeyOfReference,
    /// The same where no row of its table changes any more.
    KeyOfLockedTable {
        newest: bool,
    },
    /// Whether another row has a key that went. Parameters: the key.
    KeyAgain,
    /// References to a key. Parameters: the key.
    References,
    /// CASCADE. Parameters: the key; for an update the new key and then the old one.
    DeleteReferences,
    UpdateReferences,
    /// SET NULL and SET DEFAULT of all columns or, on DELETE, of those that were named. Parameters: the key.
    SetReferences {
        default: bool,
        deleted: bool,
    },
}

impl Purpose {
    /// What is done to references by an action that changes them.
    pub fn of_action(action: ReferentialAction, deleted: bool) -> Option<Purpose> {
        Some(match action {
            ReferentialAction::NoAction | ReferentialAction::Restrict => return None,
            ReferentialAction::Cascade if deleted => Purpose::DeleteReferences,
            ReferentialAction::Cascade => Purpose::UpdateReferences,
            ReferentialAction::SetNull => Purpose::SetReferences {
                default: false,
                deleted,
            },
            ReferentialAction::SetDefault => Purpose::SetReferences {
                default: true,
                deleted,
            },
        })
    }

    /// Whether it reads the table that is referred to; else it is about the one that refers.
    pub fn is_about_keys(self) -> bool {
        matches!(
            self,
            Purpose::KeyOfReference | Purpose::KeyOfLockedTable { .. } | Purpose::KeyAgain
        )
    }

    /// It computes the defaults of columns.
    pub fn sets_defaults(self) -> bool {
        matches!(self, Purpose::SetReferences { default: true, .. })
    }

    /// At most one row is asked for, of several that there may be.
    pub fn one_is_enough(self) -> bool {
        matches!(self, Purpose::References)
    }

    /// Whether rows count that the transaction's own snapshot does not show.
    pub fn sees_newest(self) -> bool {
        !matches!(
            self,
            Purpose::KeyOfReference | Purpose::KeyOfLockedTable { newest: false }
        )
    }
}

/// A statement and the types of its parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    pub sql: String,
    pub parameters: Vec<Oid>,
}

/// A foreign key with both of its tables.
#[derive(Clone, Copy)]
pub struct Both<'a> {
    pub key: &'a ForeignKey,
    pub table: &'a Relation,
    pub referenced: &'a Relation,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn full_name(table: &Relation) -> String {
    format!("{}.{}", quoted(&table.schema_name), quoted(&table.name))
}

/// One side of a comparison, with the cast that its operator asks for.
fn operand(text: &str, ty: Oid, wanted: Oid) -> String {
    if ty == wanted || wanted == oids::ANYARRAY {
        return text.to_owned();
    }
    let name = registry::by_oid(wanted).map_or("text", |t| t.name);
    format!("{text}::pg_catalog.{}", quote_identifier(name))
}

fn compared(left: (&str, Oid), operator: &Operator, right: (&str, Oid)) -> String {
    format!(
        "{} OPERATOR(pg_catalog.{}) {}",
        operand(left.0, left.1, operator.left),
        operator.name,
        operand(right.0, right.1, operator.right)
    )
}

impl Both<'_> {
    /// Name and type of each column of the key.
    fn keys(&self) -> impl Iterator<Item = (String, Oid)> {
        let columns = &self.referenced.columns;
        let key = self.key.key.iter();
        key.map(move |n| (quoted(&columns[*n].name), columns[*n].ty.oid))
    }

    fn references(&self) -> impl Iterator<Item = (String, Oid)> {
        let columns = &self.table.columns;
        let own = self.key.columns.iter();
        own.map(move |n| (quoted(&columns[*n].name), columns[*n].ty.oid))
    }

    fn key_types(&self) -> Vec<Oid> {
        self.keys().map(|(_, ty)| ty).collect()
    }

    /// ` WHERE $1 = "a" AND ...`: references to the key in the parameters from `first` on.
    fn refers_to(&self, first: usize) -> Option<String> {
        let mut text = String::new();
        for (at, ((_, key), (column, reference))) in self.keys().zip(self.references()).enumerate()
        {
            let equal = equality(key, reference)?;
            let parameter = format!("${}", first + at);
            let sign = if at == 0 { "WHERE" } else { "AND" };
            let test = compared((&parameter, key), equal.across, (&column, reference));
            let _ = write!(text, " {sign} {test}");
        }
        Some(text)
    }

    /// ` WHERE "id" = $1 AND ...`: the key's columns, with parameters of the key's or the reference's types.
    fn is_key(&self, by_reference: bool) -> Option<String> {
        let mut text = String::new();
        for (at, ((column, key), (_, reference))) in self.keys().zip(self.references()).enumerate()
        {
            let equal = equality(key, reference)?;
            let (operator, given) = match by_reference {
                true => (equal.across, reference),
                false => (equal.keys, key),
            };
            let parameter = format!("${}", at + 1);
            let sign = if at == 0 { "WHERE" } else { "AND" };
            let test = compared((&column, key), operator, (&parameter, given));
            let _ = write!(text, " {sign} {test}");
        }
        Some(text)
    }

    fn assigned(&self, columns: &[usize], value: impl Fn(usize) -> String) -> String {
        let set = columns.iter().enumerate().map(|(at, n)| {
            let name = quoted(&self.table.columns[*n].name);
            format!("{name} = {}", value(at))
        });
        set.collect::<Vec<_>>().join(", ")
    }

    /// `None`: the types of the columns cannot be compared, which was asked when the constraint was made.
    pub fn text(&self, purpose: Purpose) -> Option<Text> {
        let (table, referenced) = (full_name(self.table), full_name(self.referenced));
        let key_types = self.key_types();
        Some(match purpose {
            Purpose::KeyOfReference => Text {
                sql: format!(
                    "SELECT 1 FROM ONLY {referenced} x{} FOR KEY SHARE OF x",
                    self.is_key(true)?
                ),
                parameters: self.references().map(|(_, ty)| ty).collect(),
            },
            Purpose::KeyOfLockedTable { .. } => Text {
                sql: format!("SELECT 1 FROM ONLY {referenced} x{}", self.is_key(true)?),
                parameters: self.references().map(|(_, ty)| ty).collect(),
            },
            Purpose::KeyAgain => Text {
                sql: format!(
                    "SELECT 1 FROM ONLY {referenced} x{} FOR KEY SHARE OF x",
                    self.is_key(false)?
                ),
                parameters: key_types,
            },
            Purpose::References => Text {
                sql: format!(
                    "SELECT 1 FROM ONLY {table} x{} FOR KEY SHARE OF x",
                    self.refers_to(1)?
                ),
                parameters: key_types,
            },
            Purpose::DeleteReferences => Text {
                sql: format!("DELETE FROM ONLY {table}{}", self.refers_to(1)?),
                parameters: key_types,
            },
            Purpose::UpdateReferences => {
                let set = self.assigned(&self.key.columns, |at| format!("${}", at + 1));
                let old = self.refers_to(key_types.len() + 1)?;
                Text {
                    sql: format!("UPDATE ONLY {table} SET {set}{old}"),
                    parameters: [key_types.as_slice(), &key_types].concat(),
                }
            }
            Purpose::SetReferences { default, deleted } => {
                let columns = match &self.key.set_columns {
                    named if deleted && !named.is_empty() => named,
                    _ => &self.key.columns,
                };
                let value = if default { "DEFAULT" } else { "NULL" };
                let set = self.assigned(columns, |_| value.to_owned());
                Text {
                    sql: format!("UPDATE ONLY {table} SET {set}{}", self.refers_to(1)?),
                    parameters: key_types,
                }
            }
        })
    }

    /// The references without a key: what a constraint that is added to a table with rows asks (`RI_Initial_Check`).
    pub fn text_of_orphans(&self) -> Option<String> {
        let mut wanted = Vec::new();
        let mut joined = String::new();
        for (at, ((key, key_type), (column, reference))) in
            self.keys().zip(self.references()).enumerate()
        {
            let equal = equality(key_type, reference)?;
            let (left, right) = (format!("pk.{key}"), format!("fk.{column}"));
            let test = compared((&left, key_type), equal.across, (&right, reference));
            let sign = if at == 0 { "(" } else { " AND " };
            let _ = write!(joined, "{sign}{test}");
            wanted.push(right);
        }
        let there = if self.key.match_full { " OR " } else { " AND " };
        let given: Vec<String> = wanted.iter().map(|c| format!("{c} IS NOT NULL")).collect();
        let (first, _) = self.keys().next()?;
        Some(format!(
            "SELECT {} FROM ONLY {} fk LEFT OUTER JOIN ONLY {} pk ON {joined}) WHERE pk.{first} IS NULL AND ({})",
            wanted.join(", "),
            full_name(self.table),
            full_name(self.referenced),
            given.join(there)
        ))
    }
}
