//! Values too large for a row: chains of pieces in the relation's overflow file.
//!
//! ```text
//! piece   row version header (34), natts 0, then  next block u32 | next offset u16 (0: last) | bytes
//! ```
//!
//! The overflow file is a heap of pieces. A piece is written by the transaction that writes the row and deleted by
//! the one that deletes the last row version that points to it (an update that leaves the value alone hands the
//! pointer on), so a piece is dead to everyone when, and only when, every row version that needs it is. Vacuum
//! therefore cleans the file like any heap without indexes. Readers do not ask for a piece's visibility: a row
//! that they see has its values.
//!
//! A crash or abort between pieces and row leaves pieces of an aborted transaction, which vacuum removes.

use crate::ids::{BlockNumber, CommandId, Fork, OffsetNumber, PageId, RelFile, Tid, Xid};
use crate::storage::{BlockMode, Change, page};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::heap::insert_tuple;
use crate::table::page_ops::{self, Mark};
use crate::table::row::{MAX_TUPLE, Pointer};
use crate::table::tuple::{HEADER_SIZE, TupleHeader, lock_mode_bits};
use crate::txn::RowLockMode;
use crate::wal::RmgrId;

const LINK: usize = 6;
/// Bytes of a value on one page.
const PIECE: usize = MAX_TUPLE - HEADER_SIZE - LINK;

/// Stores a value; the last piece is written first, so that each can name the next.
pub(in crate::table) fn write(
    cx: TableCx<'_>,
    file: RelFile,
    value: &[u8],
    xid: Xid,
    cid: CommandId,
) -> Result<Pointer, TableError> {
    let len = u32::try_from(value.len()).expect("values are below 4 GiB");
    let mut tuple = Vec::with_capacity(HEADER_SIZE + LINK + value.len().min(PIECE));
    let mut next: Option<Tid> = None;
    for piece in value.chunks(PIECE).rev() {
        tuple.clear();
        tuple.resize(HEADER_SIZE, 0);
        TupleHeader::new(xid, cid, 0, 0).write(&mut tuple);
        let (block, offset) = next.map_or((0, 0), |t| (t.block.raw(), t.offset.raw()));
        tuple.extend_from_slice(&block.to_le_bytes());
        tuple.extend_from_slice(&offset.to_le_bytes());
        tuple.extend_from_slice(piece);
        next = Some(insert_tuple(cx, file, &tuple, xid)?);
    }
    let first = next.expect("only values of some length are moved out");
    Ok(Pointer { len, first })
}

fn page_of(file: RelFile, block: BlockNumber) -> PageId {
    PageId {
        file,
        fork: Fork::Main,
        block,
    }
}

fn damaged(file: RelFile, tid: Tid, len: u32, what: &'static str) -> TableError {
    TableError::DamagedValue {
        file,
        tid,
        len,
        what,
    }
}

/// Calls `each` with every piece, in order, until it answers false. Its length is checked against the pointer's.
fn pieces(
    cx: TableCx<'_>,
    file: RelFile,
    pointer: Pointer,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), TableError> {
    let mut at = Some(pointer.first);
    let mut left = pointer.len as usize;
    while let Some(tid) = at {
        let bad = |what| damaged(file, tid, pointer.len, what);
        let pin = cx.store.pool.pin(page_of(file, tid.block))?;
        let page = pin.read();
        let item = page::item(&page, tid.offset).ok_or_else(|| bad("missing piece"))?;
        let (next, bytes) = split(item).ok_or_else(|| bad("piece is cut short"))?;
        left = left
            .checked_sub(bytes.len())
            .ok_or_else(|| bad("pieces are too long"))?;
        if bytes.is_empty() {
            return Err(bad("empty piece"));
        }
        if !each(bytes) {
            return Ok(());
        }
        at = next;
    }
    if left == 0 {
        Ok(())
    } else {
        Err(damaged(
            file,
            pointer.first,
            pointer.len,
            "pieces are too short",
        ))
    }
}

fn split(item: &[u8]) -> Option<(Option<Tid>, &[u8])> {
    let (link, bytes) = item.get(HEADER_SIZE..)?.split_first_chunk::<LINK>()?;
    let block = u32::from_le_bytes([link[0], link[1], link[2], link[3]]);
    let offset = OffsetNumber::new(u16::from_le_bytes([link[4], link[5]]));
    Some((offset.map(|o| Tid::new(BlockNumber::new(block), o)), bytes))
}

/// The value's bytes.
pub(in crate::table) fn read(
    cx: TableCx<'_>,
    file: RelFile,
    pointer: Pointer,
) -> Result<Vec<u8>, TableError> {
    // A damaged length must not ask for memory that no piece backs: grow as pieces come.
    let mut value = Vec::with_capacity((pointer.len as usize).min(1 << 20));
    pieces(cx, file, pointer, &mut |bytes| {
        value.extend_from_slice(bytes);
        true
    })?;
    Ok(value)
}

/// Whether the stored value is `value`.
pub(in crate::table) fn equals(
    cx: TableCx<'_>,
    file: RelFile,
    pointer: Pointer,
    value: &[u8],
) -> Result<bool, TableError> {
    if pointer.len as usize != value.len() {
        return Ok(false);
    }
    let (mut at, mut same) = (0, true);
    pieces(cx, file, pointer, &mut |bytes| {
        same = value[at..at + bytes.len()] == *bytes;
        at += bytes.len();
        same
    })?;
    Ok(same)
}

/// Marks all pieces as deleted by `xid`.
pub(in crate::table) fn delete(
    cx: TableCx<'_>,
    file: RelFile,
    pointer: Pointer,
    xid: Xid,
    cid: CommandId,
) -> Result<(), TableError> {
    let mut at = Some(pointer.first);
    while let Some(tid) = at {
        let bad = |what| damaged(file, tid, pointer.len, what);
        let pin = cx.store.pool.pin(page_of(file, tid.block))?;
        let mut page = pin.write();
        let item = page::item(&page, tid.offset).ok_or_else(|| bad("missing piece"))?;
        let (next, _) = split(item).ok_or_else(|| bad("piece is cut short"))?;
        let mark = Mark {
            offset: tid.offset,
            xmax: xid,
            cmax: cid,
            bits: lock_mode_bits(RowLockMode::Exclusive),
            next: None,
        };
        let mut change = Change::new(RmgrId::HEAP, page_ops::DELETE, xid);
        change.block(&mut page, BlockMode::Update, &mark.data());
        change.commit(&cx.store.wal, page_ops::apply);
        at = next;
    }
    Ok(())
}
