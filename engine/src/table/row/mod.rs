//! Rows as bytes: which bytes a value has on disk, and getting single attributes out without reading the rest.
//!
//! ```text
//! fixed-width types   their bytes, little-endian, unaligned
//! others              0xxxxxxx                            length 0-127, bytes
//!                     10xxxxxx xxxxxxxx                   length 0-16383 (high bits first), bytes
//!                     11000001 u32                        length, bytes
//!                     11000000 u32 len, tid (u32, u16)    in the overflow file: first piece
//! ```
//!
//! A NULL has no bytes, only its bit. Values are written in column order; a row written before a column was
//! added has fewer attributes, and the column's missing value stands in. Dropped columns are written as NULL.
//! Knows types by their storage class only; no pages.

mod decode;
mod encode;
mod value;

#[cfg(test)]
mod tests;

pub use decode::RowDecoder;
pub(in crate::table) use decode::{Attributes, Stored};
pub(in crate::table) use encode::{MAX_TUPLE, Pointer, encode_fixed, encode_row, move_out};
pub use value::{Class, decode_tagged, encode_tagged};
