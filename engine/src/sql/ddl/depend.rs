//! `pg_depend`: what goes when something else goes. Manual, 52.18.
//!
//! Only what no other system table says, or by no index, is recorded: which column owns a sequence, which defaults use
//! one, and what foreign keys refer to. Indexes and other constraints follow their table by `pg_index` and
//! `pg_constraint`.

use crate::catalog::rows::{AttrdefRow, CatalogRow, ClassRow, DependRow};
use crate::ids::Oid;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by};

/// An owned sequence goes with its column; an identity's cannot go without it.
pub const AUTO: u8 = b'a';
pub const INTERNAL: u8 = b'i';
pub const NORMAL: u8 = b'n';

pub struct Owned {
    pub sequence: Oid,
    pub attribute: i16,
    pub kind: u8,
}

impl DdlCx<'_> {
    /// Column `attribute` of `table` owns `sequence`.
    pub async fn own_sequence(
        &mut self,
        sequence: Oid,
        table: Oid,
        attribute: i16,
        kind: u8,
    ) -> Result<()> {
        self.insert(&DependRow {
            classid: ClassRow::TABLE,
            objid: sequence,
            objsubid: 0,
            refclassid: ClassRow::TABLE,
            refobjid: table,
            refobjsubid: i32::from(attribute),
            deptype: kind,
        })
        .await
    }

    /// The default in `attrdef` uses `sequence`.
    pub async fn default_uses(&mut self, attrdef: Oid, sequence: Oid) -> Result<()> {
        self.insert(&DependRow {
            classid: AttrdefRow::TABLE,
            objid: attrdef,
            objsubid: 0,
            refclassid: ClassRow::TABLE,
            refobjid: sequence,
            refobjsubid: 0,
            deptype: NORMAL,
        })
        .await
    }

    /// Sequences that columns of `table` own.
    pub fn owned_sequences(&self, table: Oid) -> Result<Vec<Owned>> {
        let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(table)];
        let rows = self.find::<DependRow>(by::DEPEND_REFERENCE, &key)?;
        Ok(rows
            .into_iter()
            .filter(|(_, d)| {
                d.classid == ClassRow::TABLE
                    && d.refobjsubid > 0
                    && matches!(d.deptype, AUTO | INTERNAL)
            })
            .map(|(_, d)| Owned {
                sequence: d.objid,
                attribute: i16::try_from(d.refobjsubid).unwrap_or(0),
                kind: d.deptype,
            })
            .collect())
    }

    /// Table and attribute that own `sequence`, and how.
    pub fn owner_of(&self, sequence: Oid) -> Result<Option<(Oid, i16, u8)>> {
        let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(sequence)];
        let rows = self.find::<DependRow>(by::DEPEND_DEPENDER, &key)?;
        Ok(rows
            .into_iter()
            .find(|(_, d)| d.refclassid == ClassRow::TABLE && matches!(d.deptype, AUTO | INTERNAL))
            .map(|(_, d)| {
                (
                    d.refobjid,
                    i16::try_from(d.refobjsubid).unwrap_or(0),
                    d.deptype,
                )
            }))
    }

    /// Default rows (by oid) that use `sequence`.
    pub fn defaults_using(&self, sequence: Oid) -> Result<Vec<Oid>> {
        let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(sequence)];
        let rows = self.find::<DependRow>(by::DEPEND_REFERENCE, &key)?;
        Ok(rows
            .into_iter()
            .filter(|(_, d)| d.classid == AttrdefRow::TABLE)
            .map(|(_, d)| d.objid)
            .collect())
    }

    /// Whatever `class`, `object` depends on, and what depends on it, is forgotten.
    pub async fn forget_dependencies(&mut self, class: Oid, object: Oid) -> Result<()> {
        let key = [Datum::Oid(class), Datum::Oid(object)];
        self.delete_all::<DependRow>(by::DEPEND_DEPENDER, &key)
            .await?;
        self.step()?;
        self.delete_all::<DependRow>(by::DEPEND_REFERENCE, &key)
            .await
    }
}
