//! Text and binary wire forms of every type, found by the type's oid.

use bytes::BytesMut;

use crate::ids::Oid;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;

/// The value that `text` means as a `ty`, cut or refused by its modifier as assignment does.
pub fn parse_text(_ty: SqlType, _text: &str, _cx: &FunctionCx) -> Result<Datum, TypeError> {
    unimplemented!("codec::parse_text")
}

/// Appends the text form. `value` is not NULL.
pub fn write_text(_ty: Oid, _value: &Datum, _out: &mut BytesMut, _cx: &FunctionCx) {
    unimplemented!("codec::write_text")
}

/// The text form as a string.
pub fn to_text(_ty: Oid, _value: &Datum, _cx: &FunctionCx) -> String {
    unimplemented!("codec::to_text")
}

/// The value that a client sent in binary form.
pub fn decode_binary(_ty: SqlType, _bytes: &[u8], _cx: &FunctionCx) -> Result<Datum, TypeError> {
    unimplemented!("codec::decode_binary")
}

/// Appends the binary form, without a length word. `value` is not NULL.
pub fn encode_binary(_ty: Oid, _value: &Datum, _out: &mut BytesMut) {
    unimplemented!("codec::encode_binary")
}

/// Length coercion: what `varchar(n)`, `char(n)`, `numeric(p,s)`, `timestamp(p)` and so on do to a value of their
/// own type. An explicit cast cuts strings where an assignment refuses (22001).
pub fn coerce_length(_ty: SqlType, _value: Datum, _explicit: bool) -> Result<Datum, TypeError> {
    unimplemented!("codec::coerce_length")
}
