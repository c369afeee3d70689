//! One- and more-dimensional arrays.

use crate::ids::Oid;
use crate::types::datum::Datum;

/// An array value: element type, (length, lower bound) of each dimension, items in row-major order.
#[derive(Clone, Debug)]
pub struct Array {
    pub element: Oid,
    pub dimensions: Vec<(usize, i32)>,
    pub items: Vec<Datum>,
}
