//! Keys whose bytes compare as their values do.

use crate::catalog::relation::{Index, IndexKey};
use crate::index::error::IndexError;
use crate::types::datum::Datum;

/// Appends the encoding of one value for each of the index's key columns, in their order.
pub fn encode(index: &Index, values: &[Datum], out: &mut Vec<u8>) -> Result<(), IndexError> {
    let _ = (index, values, out);
    unimplemented!("lands next")
}

/// Appends one value's encoding: for bounds over a prefix of the key columns.
pub fn encode_part(key: &IndexKey, value: &Datum, out: &mut Vec<u8>) -> Result<(), IndexError> {
    let _ = (key, value, out);
    unimplemented!("lands next")
}

/// Turns the encoding of a prefix into the least key above all keys that begin with it; false: there is none.
pub fn successor(prefix: &mut Vec<u8>) -> bool {
    let _ = prefix;
    unimplemented!("lands next")
}
