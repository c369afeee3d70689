//! From a stored row version to the slots of a frame.

use crate::catalog::relation::Relation;
use crate::sql::error::SqlError;
use crate::sql::exec::access::Storage;
use crate::sql::exec::eval::Slot;
use crate::sql::plan::tree::Fetch;
use crate::table::heap::RowVersion;
use crate::types::datum::Datum;

/// Decodes versions of one relation into the slots that a [`Fetch`] names.
#[derive(Default)]
pub struct RowLoader {
    scratch: Vec<Datum>,
}

impl RowLoader {
    /// Values of the wanted columns, and the system columns that are wanted.
    #[inline]
    pub fn load(
        &mut self,
        fetch: &Fetch,
        relation: &Relation,
        row: RowVersion<'_>,
        storage: &Storage,
        frame: &mut [Datum],
    ) -> Result<(), SqlError> {
        if let Some(decoder) = &fetch.decoder {
            match fetch.direct {
                Some(first) => {
                    let out = &mut frame[first..first + fetch.columns.len()];
                    decoder.decode_packed(storage.table(), row, out)?;
                }
                None => {
                    self.scratch.resize(fetch.columns.len(), Datum::Null);
                    decoder.decode_packed(storage.table(), row, &mut self.scratch)?;
                    for ((_, slot), value) in fetch.columns.iter().zip(&mut self.scratch) {
                        frame[*slot] = std::mem::replace(value, Datum::Null);
                    }
                }
            }
        }
        if let Some(slot) = fetch.ctid {
            frame[slot] = Datum::Tid(row.tid);
        }
        if fetch.has_header_columns() {
            load_header(fetch, relation, row, frame);
        }
        Ok(())
    }
}

fn load_header(fetch: &Fetch, relation: &Relation, row: RowVersion<'_>, frame: &mut [Datum]) {
    let header = row.header();
    let mut put = |slot: Option<Slot>, value: Datum| {
        if let Some(slot) = slot {
            frame[slot] = value;
        }
    };
    put(fetch.tableoid, Datum::Oid(relation.oid));
    put(fetch.xmin, Datum::Xid(header.xmin.low()));
    put(fetch.xmax, Datum::Xid(header.xmax.low()));
    put(fetch.cmin, Datum::Xid(header.cmin.raw()));
    put(fetch.cmax, Datum::Xid(header.cmax.raw()));
}
