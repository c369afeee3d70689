//! What a changed row gives the queue of events to look at, and what cannot break a constraint and is left out
//! (`RI_FKey_fk_upd_check_required` and its neighbour).

use crate::catalog::relation::{ForeignKey, ReferentialAction, Relation};
use crate::ids::{Oid, Tid};
use crate::sql::error::SqlError;
use crate::txn::{RowChange, RowEvent};
use crate::types::compare;
use crate::types::datum::Datum;
use crate::types::oids;

/// Whether changes of its rows concern a foreign key.
#[inline]
pub fn concerns(relation: &Relation) -> bool {
    !relation.foreign_keys.is_empty() || !relation.referenced_by.is_empty()
}

/// NULLs in a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    None,
    Some,
    All,
}

pub fn nulls<'d>(values: impl Iterator<Item = &'d Datum>) -> Nulls {
    let (mut null, mut given) = (false, false);
    for value in values {
        null |= value.is_null();
        given |= !value.is_null();
    }
    match (null, given) {
        (false, _) => Nulls::None,
        (true, true) => Nulls::Some,
        (true, false) => Nulls::All,
    }
}

fn refers(key: &ForeignKey, row: &[Datum]) -> Nulls {
    nulls(key.columns.iter().map(|n| &row[*n]))
}

/// Nothing has to be there for it: NULL in all columns, or in some where MATCH is SIMPLE.
fn refers_to_nothing(key: &ForeignKey, nulls: Nulls) -> bool {
    match nulls {
        Nulls::None => false,
        Nulls::Some => !key.match_full,
        Nulls::All => true,
    }
}

fn written(key: &ForeignKey, new: Tid) -> RowEvent {
    RowEvent {
        constraint: key.oid,
        relation: key.table,
        change: RowChange::Written { new },
        deferrable: key.deferrable,
        initially_deferred: key.initially_deferred,
    }
}

/// Of the side that is referred to. Only the check of NO ACTION can be put off.
fn key_changed(key: &ForeignKey, action: ReferentialAction, change: RowChange) -> RowEvent {
    let waits = action == ReferentialAction::NoAction;
    RowEvent {
        constraint: key.oid,
        relation: key.referenced,
        change,
        deferrable: key.deferrable && waits,
        initially_deferred: key.initially_deferred && waits,
    }
}

pub fn inserted(relation: &Relation, row: &[Datum], new: Tid, out: &mut Vec<RowEvent>) {
    for key in &relation.foreign_keys {
        if !refers_to_nothing(key, refers(key, row)) {
            out.push(written(key, new));
        }
    }
}

pub fn deleted(relation: &Relation, old: Tid, out: &mut Vec<RowEvent>) {
    let keys = relation.referenced_by.iter();
    out.extend(keys.map(|key| key_changed(key, key.on_delete, RowChange::Removed { old })));
}

/// An update of a row, and both of its versions.
pub struct Updated<'r> {
    pub relation: &'r Relation,
    /// A value for each column.
    pub new: &'r [Datum],
    /// Old values in a frame, a slot for each column.
    pub frame: &'r [Datum],
    pub slots: &'r [usize],
    pub old_tid: Tid,
    pub new_tid: Tid,
}

impl Updated<'_> {
    fn old(&self, column: usize) -> &Datum {
        &self.frame[self.slots[column]]
    }

    /// `is_own`: whether the old version was written by the same transaction.
    pub fn events(
        &self,
        is_own: &mut dyn FnMut() -> Result<bool, SqlError>,
        out: &mut Vec<RowEvent>,
    ) -> Result<(), SqlError> {
        for key in &self.relation.referenced_by {
            if self.rekeys(key) {
                let change = RowChange::Rekeyed {
                    old: self.old_tid,
                    new: self.new_tid,
                };
                out.push(key_changed(key, key.on_update, change));
            }
        }
        for key in &self.relation.foreign_keys {
            let nulls = refers(key, self.new);
            if refers_to_nothing(key, nulls) {
                continue;
            }
            // The event of the insert will find its version gone and leave it to this one.
            if nulls == Nulls::Some || !self.refers_to_the_same(key) || is_own()? {
                out.push(written(key, self.new_tid));
            }
        }
        Ok(())
    }

    /// The key was one that can be referred to, and looks different now.
    fn rekeys(&self, key: &ForeignKey) -> bool {
        let columns = || key.key.iter().copied();
        let complete = columns().all(|n| !self.old(n).is_null());
        let kept = columns().all(|n| {
            let ty = self.relation.columns[n].ty.oid;
            looks_the_same(ty, self.old(n), &self.new[n])
        });
        complete && !kept
    }

    /// By the equality of the type: a reference to 1.0 is one to 1.00.
    fn refers_to_the_same(&self, key: &ForeignKey) -> bool {
        key.columns.iter().all(|n| {
            let (old, new) = (self.old(*n), &self.new[*n]);
            equal(self.relation.columns[*n].ty.oid, old, new)
        })
    }
}

fn equal(ty: Oid, a: &Datum, b: &Datum) -> bool {
    let comparator = compare::equality(ty);
    !a.is_null() && !b.is_null() && comparator.is_some_and(|compare| compare(a, b).is_eq())
}

/// The same to the last digit: CASCADE hands on what only looks different (`datum_image_eq`).
fn looks_the_same(ty: Oid, a: &Datum, b: &Datum) -> bool {
    if !equal(ty, a, b) {
        return false;
    }
    let one_form = matches!(
        ty,
        oids::BOOL
            | oids::INT2
            | oids::INT4
            | oids::INT8
            | oids::OID
            | oids::TEXT
            | oids::VARCHAR
            | oids::NAME
            | oids::UUID
            | oids::DATE
            | oids::TIMESTAMP
            | oids::TIMESTAMPTZ
            | oids::BYTEA
    );
    one_form || format!("{a:?}") == format!("{b:?}")
}
