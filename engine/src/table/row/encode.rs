//! From values to a row version's bytes, and choosing which values go to the overflow file.

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, PAGE_SIZE, Tid, Xid};
use crate::storage::page;
use crate::table::error::TableError;
use crate::table::tuple::{HAS_NULLS, HAS_OVERFLOW, HEADER_SIZE, TupleHeader};
use crate::types::datum::Datum;

use super::decode::{Attributes, Stored};
use super::value::{self, Class};

/// The largest row version that an empty page takes.
pub(in crate::table) const MAX_TUPLE: usize = PAGE_SIZE - page::HEADER_SIZE - page::ITEM_ID_SIZE;
/// Above this, values move to the overflow file: four rows fit on a page, as with PostgreSQL's TOAST.
const OVERFLOW_THRESHOLD: usize = 2032;
/// Moving a value that is hardly larger than its pointer gains nothing.
const MIN_MOVED: usize = 64;

pub(super) const SHORT_MAX: usize = 0x7F;
pub(super) const MEDIUM_MAX: usize = 0x3FFF;
pub(super) const MEDIUM_TAG: u8 = 0x80;
pub(super) const POINTER_TAG: u8 = 0xC0;
pub(super) const LONG_TAG: u8 = 0xC1;
pub(super) const POINTER_SIZE: usize = 11;

/// Where a value in the overflow file begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::table) struct Pointer {
    pub len: u32,
    pub first: Tid,
}

/// Replaces `out` by the whole row version, all values in line. Its length may exceed [`MAX_TUPLE`].
pub(in crate::table) fn encode_row(
    rel: &Relation,
    row: &[Datum],
    xid: Xid,
    cid: CommandId,
    out: &mut Vec<u8>,
) -> Result<(), TableError> {
    assert_eq!(
        row.len(),
        rel.columns.len(),
        "a row has a value for each column"
    );
    out.clear();
    let has_nulls = rel
        .columns
        .iter()
        .zip(row)
        .any(|(c, v)| c.dropped || v.is_null());
    let flags = if has_nulls { HAS_NULLS } else { 0 };
    let header = TupleHeader::new(xid, cid, flags, row.len() as u16);
    out.resize(header.values_at(), 0);
    header.write(out);
    for (i, (column, value)) in rel.columns.iter().zip(row).enumerate() {
        if column.dropped || value.is_null() {
            out[HEADER_SIZE + i / 8] |= 1 << (i % 8);
            continue;
        }
        let class = Class::of(column.ty.oid);
        if !put_value(class, value, out) {
            return Err(wrong_value(rel, i, value));
        }
    }
    Ok(())
}

/// Appends the bytes of a column's value as they stand in a row version; the column's type is of fixed width.
pub(in crate::table) fn encode_fixed(
    rel: &Relation,
    column: usize,
    value: &Datum,
    out: &mut Vec<u8>,
) -> Result<(), TableError> {
    let class = Class::of(rel.columns[column].ty.oid);
    if class.width().is_none() || !value::put(class, value, out) {
        return Err(wrong_value(rel, column, value));
    }
    Ok(())
}

fn wrong_value(rel: &Relation, column: usize, value: &Datum) -> TableError {
    TableError::WrongValue {
        value: variant(value),
        column: column + 1,
        ty: rel.columns[column].ty.oid,
    }
}

fn put_value(class: Class, value: &Datum, out: &mut Vec<u8>) -> bool {
    if class.width().is_some() {
        return value::put(class, value, out);
    }
    match (class, value) {
        (Class::Text, Datum::Text(v)) => put_bytes(v.as_bytes(), out),
        (Class::Bytea, Datum::Bytea(v)) => put_bytes(v, out),
        _ => {
            let start = out.len();
            if !value::put(class, value, out) {
                return false;
            }
            let len = out.len() - start;
            let mut length = [0; 5];
            let size = length_word(len, &mut length);
            out.resize(start + len + size, 0);
            out.copy_within(start..start + len, start + size);
            out[start..start + size].copy_from_slice(&length[..size]);
        }
    }
    true
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut length = [0; 5];
    let size = length_word(bytes.len(), &mut length);
    out.extend_from_slice(&length[..size]);
    out.extend_from_slice(bytes);
}

fn length_word(len: usize, word: &mut [u8; 5]) -> usize {
    if len <= SHORT_MAX {
        word[0] = len as u8;
        1
    } else if len <= MEDIUM_MAX {
        word[0] = MEDIUM_TAG | (len >> 8) as u8;
        word[1] = len as u8;
        2
    } else {
        word[0] = LONG_TAG;
        let len = u32::try_from(len).expect("values are below 4 GiB");
        word[1..5].copy_from_slice(&len.to_le_bytes());
        5
    }
}

fn put_pointer(pointer: Pointer, out: &mut Vec<u8>) {
    out.push(POINTER_TAG);
    out.extend_from_slice(&pointer.len.to_le_bytes());
    out.extend_from_slice(&pointer.first.block.raw().to_le_bytes());
    out.extend_from_slice(&pointer.first.offset.raw().to_le_bytes());
}

/// Brings one column's value to the overflow file.
type StoreValue<'a> = dyn FnMut(usize, &[u8]) -> Result<Pointer, TableError> + 'a;

/// Makes a row version that is too large fit: values are handed to `store` (with their column), largest first,
/// and replaced by pointers, until the rest is small or nothing is left to move.
pub(in crate::table) fn move_out(
    rel: &Relation,
    tuple: &mut Vec<u8>,
    store: &mut StoreValue<'_>,
) -> Result<(), TableError> {
    if tuple.len() <= OVERFLOW_THRESHOLD {
        return Ok(());
    }
    if rel.overflow.is_some() {
        let moved = choose(rel, tuple)?;
        if !moved.is_empty() {
            *tuple = replace(rel, tuple, &moved, store)?;
        }
    }
    if tuple.len() > MAX_TUPLE {
        return Err(TableError::RowTooBig {
            size: tuple.len(),
            max: MAX_TUPLE,
        });
    }
    Ok(())
}

/// The columns to move.
fn choose(rel: &Relation, tuple: &[u8]) -> Result<Vec<usize>, TableError> {
    let mut inline: Vec<(usize, usize)> = Vec::new();
    for attribute in Attributes::of(rel, tuple) {
        let (column, _, stored) = attribute.map_err(|what| damaged(rel, what))?;
        if let Stored::Variable(bytes) = stored
            && bytes.len() > MIN_MOVED
        {
            inline.push((bytes.len(), column));
        }
    }
    inline.sort_unstable_by(|a, b| b.cmp(a));
    let mut size = tuple.len();
    let mut moved = Vec::new();
    for (len, column) in inline {
        if size <= OVERFLOW_THRESHOLD {
            break;
        }
        let mut word = [0; 5];
        size -= len + length_word(len, &mut word) - POINTER_SIZE;
        moved.push(column);
    }
    Ok(moved)
}

fn replace(
    rel: &Relation,
    tuple: &[u8],
    moved: &[usize],
    store: &mut StoreValue<'_>,
) -> Result<Vec<u8>, TableError> {
    let mut header = TupleHeader::read(tuple).expect("encoded here");
    let mut out = Vec::with_capacity(OVERFLOW_THRESHOLD);
    out.extend_from_slice(&tuple[..header.values_at()]);
    for attribute in Attributes::of(rel, tuple) {
        let (column, raw, stored) = attribute.map_err(|what| damaged(rel, what))?;
        match stored {
            Stored::Variable(bytes) if moved.contains(&column) => {
                put_pointer(store(column, bytes)?, &mut out);
            }
            _ => out.extend_from_slice(raw),
        }
    }
    header.flags |= HAS_OVERFLOW;
    header.write(&mut out);
    Ok(out)
}

fn damaged(rel: &Relation, what: &'static str) -> TableError {
    TableError::DamagedRow {
        file: rel.file,
        tid: Tid::new(
            crate::ids::BlockNumber::INVALID,
            crate::ids::OffsetNumber::FIRST,
        ),
        what,
    }
}

fn variant(value: &Datum) -> &'static str {
    match value {
        Datum::Null => "null",
        Datum::Bool(_) => "boolean",
        Datum::Int2(_) => "smallint",
        Datum::Int4(_) => "integer",
        Datum::Int8(_) => "bigint",
        Datum::Float4(_) => "real",
        Datum::Float8(_) => "double precision",
        Datum::Numeric(_) => "numeric",
        Datum::Text(_) => "text",
        Datum::Char(_) => "\"char\"",
        Datum::Bytea(_) => "bytea",
        Datum::Date(_) => "date",
        Datum::Time(_) => "time",
        Datum::TimeTz(..) => "timetz",
        Datum::Timestamp(_) => "timestamp",
        Datum::TimestampTz(_) => "timestamptz",
        Datum::Interval(_) => "interval",
        Datum::Uuid(_) => "uuid",
        Datum::Jsonb(_) => "jsonb",
        Datum::Oid(_) => "oid",
        Datum::Xid(_) => "xid",
        Datum::Xid8(_) => "xid8",
        Datum::Tid(_) => "tid",
        Datum::Lsn(_) => "pg_lsn",
        Datum::AclItem(_) => "aclitem",
        Datum::Array(_) => "array",
        Datum::Record(_) => "record",
        Datum::Void => "void",
    }
}
