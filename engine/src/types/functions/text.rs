//! `text`, `varchar`, `char(n)`, `name`: comparison, concatenation, casts, length.

use std::cmp::Ordering;

use super::call::Byte;
use crate::ids::Oid;
use crate::types::codec::{self, cut_name};
use crate::types::compare::unpadded;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::{oids, size};

fn bytes(a: &str, b: &str) -> Ordering {
    a.as_bytes().cmp(b.as_bytes())
}
fn padded(a: &str, b: &str) -> Ordering {
    bytes(unpadded(a), unpadded(b))
}

comparisons! {
    texteq textne text_lt text_le text_gt text_ge bttextcmp: &str, &str, bytes;
    bpchareq bpcharne bpcharlt bpcharle bpchargt bpcharge bpcharcmp: &str, &str, padded;
    nameeq namene namelt namele namegt namege btnamecmp: &str, &str, bytes;
    nameeqtext namenetext namelttext nameletext namegttext namegetext btnametextcmp: &str, &str, bytes;
    texteqname textnename textltname textlename textgtname textgename bttextnamecmp: &str, &str, bytes;
    byteaeq byteane bytealt byteale byteagt byteage byteacmp: &[u8], &[u8], |a: &[u8], b: &[u8]| a.cmp(b);
}
extremes! {
    text_larger text_smaller: oids::TEXT;
}
scalar! {
    // Of equal ones the first, unlike with other types.
    fn bpchar_larger(a: &str, b: &str) -> &str { Ok(if padded(a, b).is_ge() { a } else { b }) }
    fn bpchar_smaller(a: &str, b: &str) -> &str { Ok(if padded(a, b).is_le() { a } else { b }) }
    fn text_pattern_lt(a: &str, b: &str) -> bool { Ok(bytes(a, b).is_lt()) }
    fn text_pattern_le(a: &str, b: &str) -> bool { Ok(bytes(a, b).is_le()) }
    fn text_pattern_ge(a: &str, b: &str) -> bool { Ok(bytes(a, b).is_ge()) }
    fn text_pattern_gt(a: &str, b: &str) -> bool { Ok(bytes(a, b).is_gt()) }
    fn bpchar_pattern_lt(a: &str, b: &str) -> bool { Ok(padded(a, b).is_lt()) }
    fn bpchar_pattern_le(a: &str, b: &str) -> bool { Ok(padded(a, b).is_le()) }
    fn bpchar_pattern_ge(a: &str, b: &str) -> bool { Ok(padded(a, b).is_ge()) }
    fn bpchar_pattern_gt(a: &str, b: &str) -> bool { Ok(padded(a, b).is_gt()) }

    fn textcat(a: &str, b: &str) -> String {
        size::check(a.len() + b.len())?;
        Ok(joined(a, b))
    }
    fn byteacat(a: &[u8], b: &[u8]) -> Vec<u8> {
        size::check(a.len() + b.len())?;
        Ok([a, b].concat())
    }
    fn textlen(a: &str) -> i32 { Ok(char_count(a)) }
    fn bpcharlen(a: &str) -> i32 { Ok(char_count(unpadded(a))) }
    fn textoctetlen(a: &str) -> i32 { Ok(a.len() as i32) }
    fn bpcharoctetlen(a: &str) -> i32 { Ok(a.len() as i32) }
    fn byteaoctetlen(a: &[u8]) -> i32 { Ok(a.len() as i32) }
    fn text_bit_length(a: &str) -> i32 { bits(a.len()) }
    fn bytea_bit_length(a: &[u8]) -> i32 { bits(a.len()) }

    // Casts between the string types. The target's length is applied by length coercion.
    fn rtrim1(a: &str) -> &str { Ok(unpadded(a)) }
    fn name_text(a: &str) -> &str { Ok(a) }
    fn text_name(a: &str) -> &str { Ok(cut_name(a)) }
    fn bpchar_name(a: &str) -> &str { Ok(unpadded(cut_name(a))) }
    fn name_bpchar(a: &str) -> &str { Ok(a) }
    fn char_text(a: Byte) -> String { Ok(char_string(a.0)) }
    fn char_bpchar(a: Byte) -> String { Ok(char_string(a.0)) }
    fn text_char[cx](a: &str) -> Byte {
        let Datum::Char(c) = codec::parse_text(SqlType::plain(oids::CHAR), a, cx)? else { unreachable!("of that type") };
        Ok(Byte(c))
    }
    fn bpchar(a: &Datum, modifier: i32, explicit: bool) -> Datum { coerce(oids::BPCHAR, a, modifier, explicit) }
    fn varchar(a: &Datum, modifier: i32, explicit: bool) -> Datum { coerce(oids::VARCHAR, a, modifier, explicit) }
    fn nameconcatoid(a: &str, b: Oid) -> String {
        let suffix = format!("_{b}");
        let room = 63_usize.saturating_sub(suffix.len());
        Ok(joined(&a[..a.floor_char_boundary(room.min(a.len()))], &suffix))
    }

    fn text_regclass[cx](a: &str) -> Datum { codec::parse_text(SqlType::plain(oids::REGCLASS), a, cx) }
    fn to_regtype[cx](a: &str) -> Datum { or_null(oids::REGTYPE, a, cx) }
    fn to_regclass[cx](a: &str) -> Datum { or_null(oids::REGCLASS, a, cx) }
    fn to_regnamespace[cx](a: &str) -> Datum { or_null(oids::REGNAMESPACE, a, cx) }
    fn to_regrole[cx](a: &str) -> Datum { or_null(oids::REGROLE, a, cx) }
    fn to_regproc[cx](a: &str) -> Datum { or_null(oids::REGPROC, a, cx) }
    fn to_regprocedure[cx](a: &str) -> Datum { or_null(oids::REGPROCEDURE, a, cx) }
    fn to_regoper[cx](a: &str) -> Datum { or_null(oids::REGOPER, a, cx) }
    fn to_regoperator[cx](a: &str) -> Datum { or_null(oids::REGOPERATOR, a, cx) }
}

/// A name that nothing has is NULL here, not an error.
fn or_null(
    ty: Oid,
    text: &str,
    cx: &crate::types::function::FunctionCx,
) -> Result<Datum, TypeError> {
    if text == "-" || text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Datum::Null);
    }
    match codec::parse_text(SqlType::plain(ty), text, cx) {
        Err(e) if matches!(e.state, "42P01" | "42704" | "42883" | "42725" | "3F000") => {
            Ok(Datum::Null)
        }
        other => other,
    }
}

fn coerce(ty: Oid, value: &Datum, modifier: i32, explicit: bool) -> Result<Datum, TypeError> {
    codec::coerce_length(SqlType { oid: ty, modifier }, value.clone(), explicit)
}

/// `"char"` as text: nothing for zero, an escape beyond ASCII.
fn char_string(c: u8) -> String {
    match c {
        0 => String::new(),
        0x80.. => format!("\\{c:03o}"),
        c => char::from(c).to_string(),
    }
}

/// `bit_length` is `octet_length * 8` in `integer`.
fn bits(bytes: usize) -> Result<i32, TypeError> {
    i32::try_from(bytes * 8).map_err(|_| super::integer::out_of_range("integer"))
}

fn joined(a: &str, b: &str) -> String {
    let mut out = String::with_capacity(a.len() + b.len());
    out.push_str(a);
    out.push_str(b);
    out
}

pub(crate) fn char_count(text: &str) -> i32 {
    if text.is_ascii() {
        text.len() as i32
    } else {
        text.chars().count() as i32
    }
}

/// A value cast to text: only `bool` has a cast that differs from its output function.
fn cast_to_text(ty: Oid, value: &Datum, cx: &FunctionCx) -> Result<String, TypeError> {
    codec::check_text(value, cx)?;
    Ok(match value {
        Datum::Bool(true) => "true".to_owned(),
        Datum::Bool(false) => "false".to_owned(),
        _ => codec::to_text(ty, value, cx),
    })
}

typed! {
    /// `anynonarray || text`
    fn anytextcat[args, types, cx] -> String {
        Ok(joined(&cast_to_text(types.args[0], &args[0], cx)?, &cast_to_text(types.args[1], &args[1], cx)?))
    }
    fn textanycat[args, types, cx] -> String {
        Ok(joined(&cast_to_text(types.args[0], &args[0], cx)?, &cast_to_text(types.args[1], &args[1], cx)?))
    }
}
