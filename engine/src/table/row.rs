//! Rows as bytes (being written).

use crate::catalog::relation::Relation;
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::heap::RowVersion;
use crate::types::datum::Datum;

/// Made once for a plan: which attributes of a table are wanted. Attributes behind the last wanted one are never
/// looked at.
#[derive(Debug, Clone)]
pub struct RowDecoder {}

impl RowDecoder {
    /// `wanted`: positions (from 0) in the table's columns, ascending.
    pub fn new(_relation: &Relation, _wanted: &[usize]) -> RowDecoder {
        unimplemented!("row decoder")
    }
    /// Every live column.
    pub fn all(_relation: &Relation) -> RowDecoder {
        unimplemented!("row decoder")
    }
    /// Fills `out[i]` for the wanted positions `i`; the others are left alone. `out` has one place for each column
    /// of the table.
    pub fn decode(
        &self,
        _cx: TableCx<'_>,
        _row: RowVersion<'_>,
        _out: &mut [Datum],
    ) -> Result<(), TableError> {
        unimplemented!("row decoder")
    }
    /// The same, with the wanted values one after another: `out[k]` is `wanted[k]`.
    pub fn decode_packed(
        &self,
        _cx: TableCx<'_>,
        _row: RowVersion<'_>,
        _out: &mut [Datum],
    ) -> Result<(), TableError> {
        unimplemented!("row decoder")
    }
}
