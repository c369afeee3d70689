//! From a row version's bytes to values.

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, OffsetNumber, RelFile, Tid};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::heap::RowVersion;
use crate::table::overflow;
use crate::table::tuple::{HAS_NULLS, HEADER_SIZE, TupleHeader};
use crate::types::datum::Datum;

use super::encode::{LONG_TAG, MEDIUM_TAG, POINTER_SIZE, POINTER_TAG, Pointer};
use super::value::{self, Class};

/// One attribute as it lies in a row version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::table) enum Stored<'a> {
    Null,
    Fixed(&'a [u8]),
    Variable(&'a [u8]),
    Overflow(Pointer),
}

#[inline]
fn is_null(tuple: &[u8], header: &TupleHeader, column: usize) -> bool {
    header.has(HAS_NULLS) && tuple[HEADER_SIZE + column / 8] & (1 << (column % 8)) != 0
}

/// `len` bytes behind `skip` others.
#[inline]
fn take<'a>(rest: &mut &'a [u8], skip: usize, len: usize) -> Result<&'a [u8], &'static str> {
    let (head, tail) = rest
        .split_at_checked(skip + len)
        .ok_or("attribute is cut short")?;
    *rest = tail;
    Ok(&head[skip..])
}

/// The attribute at the front of `rest`, which is moved past it.
#[inline]
fn next_stored<'a>(class: Class, rest: &mut &'a [u8]) -> Result<Stored<'a>, &'static str> {
    if let Some(width) = class.width() {
        return take(rest, 0, width).map(Stored::Fixed);
    }
    match **rest {
        [short, ..] if short < MEDIUM_TAG => {
            take(rest, 1, usize::from(short)).map(Stored::Variable)
        }
        [medium, low, ..] if medium < POINTER_TAG => {
            let len = (usize::from(medium & 0x3F) << 8) | usize::from(low);
            take(rest, 2, len).map(Stored::Variable)
        }
        [LONG_TAG, a, b, c, d, ..] => {
            let len = u32::from_le_bytes([a, b, c, d]) as usize;
            take(rest, 5, len).map(Stored::Variable)
        }
        [POINTER_TAG, ..] => pointer(take(rest, 1, POINTER_SIZE - 1)?).map(Stored::Overflow),
        _ => Err("attribute has a damaged length word"),
    }
}

fn pointer(b: &[u8]) -> Result<Pointer, &'static str> {
    let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let offset = OffsetNumber::new(u16::from_le_bytes([b[8], b[9]]));
    Ok(Pointer {
        len: word(0),
        first: Tid::new(
            BlockNumber::new(word(4)),
            offset.ok_or("overflow pointer has offset 0")?,
        ),
    })
}

/// Walks all stored attributes: position, raw bytes (length word included), meaning.
pub(in crate::table) struct Attributes<'a> {
    rel: &'a Relation,
    tuple: &'a [u8],
    header: Option<TupleHeader>,
    rest: &'a [u8],
    column: usize,
}

impl<'a> Attributes<'a> {
    pub(in crate::table) fn of(rel: &'a Relation, tuple: &'a [u8]) -> Attributes<'a> {
        let header = TupleHeader::read(tuple);
        let rest = header
            .and_then(|h| tuple.get(h.values_at()..))
            .unwrap_or(&[]);
        Attributes {
            rel,
            tuple,
            header,
            rest,
            column: 0,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(usize, &'a [u8], Stored<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(header) = &self.header else {
            // Said once.
            self.header = Some(TupleHeader::new(
                crate::ids::Xid::INVALID,
                crate::ids::CommandId::FIRST,
                0,
                0,
            ));
            return Some(Err("row version is shorter than its header"));
        };
        let column = self.column;
        if column >= usize::from(header.natts) {
            return None;
        }
        let Some(description) = self.rel.columns.get(column) else {
            self.column = usize::from(header.natts);
            return Some(Err("row version has more attributes than its table"));
        };
        self.column += 1;
        if is_null(self.tuple, header, column) {
            return Some(Ok((column, &[], Stored::Null)));
        }
        let before = self.rest;
        match next_stored(Class::of(description.ty.oid), &mut self.rest) {
            Ok(stored) => Some(Ok((
                column,
                &before[..before.len() - self.rest.len()],
                stored,
            ))),
            Err(what) => {
                self.column = usize::from(header.natts);
                Some(Err(what))
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Step {
    class: Class,
    /// The place in the packed output.
    wanted: Option<u32>,
    missing: Datum,
}

/// Made once for a plan: which attributes of a table are wanted. Attributes behind the last wanted one are never
/// looked at.
#[derive(Debug, Clone)]
pub struct RowDecoder {
    overflow: Option<RelFile>,
    steps: Vec<Step>,
}

impl RowDecoder {
    /// `wanted`: positions (from 0) in the table's columns, in any order, each once.
    pub fn new(rel: &Relation, wanted: &[usize]) -> RowDecoder {
        let last = wanted.iter().max().map_or(0, |last| last + 1);
        let steps = rel.columns[..last]
            .iter()
            .enumerate()
            .map(|(i, column)| Step {
                class: Class::of(column.ty.oid),
                wanted: wanted.iter().position(|w| *w == i).map(|k| k as u32),
                missing: column.missing.clone().unwrap_or(Datum::Null),
            })
            .collect();
        RowDecoder {
            overflow: rel.overflow,
            steps,
        }
    }
    /// Every live column.
    pub fn all(rel: &Relation) -> RowDecoder {
        let wanted: Vec<usize> = rel.live_columns().map(|(i, _)| i).collect();
        RowDecoder::new(rel, &wanted)
    }

    /// Fills `out[i]` for the wanted positions `i`; the others are left alone. `out` has one place for each
    /// column of the table.
    pub fn decode(
        &self,
        cx: TableCx<'_>,
        row: RowVersion<'_>,
        out: &mut [Datum],
    ) -> Result<(), TableError> {
        self.walk(cx, row, |column, _, value| out[column] = value)
    }

    /// The same with the wanted values one after another: `out[k]` is the value of `wanted[k]`.
    pub fn decode_packed(
        &self,
        cx: TableCx<'_>,
        row: RowVersion<'_>,
        out: &mut [Datum],
    ) -> Result<(), TableError> {
        self.walk(cx, row, |_, place, value| out[place] = value)
    }

    #[inline]
    fn walk(
        &self,
        cx: TableCx<'_>,
        row: RowVersion<'_>,
        mut give: impl FnMut(usize, usize, Datum),
    ) -> Result<(), TableError> {
        let tuple = row.bytes;
        let header = row.header();
        let natts = usize::from(header.natts);
        let damaged = |what| TableError::DamagedRow {
            file: row.file,
            tid: row.tid,
            what,
        };
        let mut rest = tuple
            .get(header.values_at()..)
            .ok_or_else(|| damaged("row version is shorter than its bitmap of NULLs"))?;
        for (column, step) in self.steps.iter().enumerate() {
            let place = step.wanted;
            if column >= natts {
                if let Some(place) = place {
                    give(column, place as usize, step.missing.clone());
                }
                continue;
            }
            if is_null(tuple, &header, column) {
                if let Some(place) = place {
                    give(column, place as usize, Datum::Null);
                }
                continue;
            }
            let stored = next_stored(step.class, &mut rest).map_err(damaged)?;
            let Some(place) = place else {
                continue;
            };
            let value = match stored {
                Stored::Fixed(bytes) | Stored::Variable(bytes) => {
                    value::get(step.class, bytes).map_err(damaged)?
                }
                Stored::Overflow(pointer) => {
                    let file = self.overflow.ok_or_else(|| {
                        damaged("overflow value in a table without overflow file")
                    })?;
                    let bytes = overflow::read(cx, file, pointer)?;
                    value::get(step.class, &bytes).map_err(damaged)?
                }
                Stored::Null => Datum::Null,
            };
            give(column, place as usize, value);
        }
        Ok(())
    }
}
