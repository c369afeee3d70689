//! Replacing and deleting row versions.
//!
//! An update that changes no indexed column and finds room on the page makes a *heap-only* version: indexes keep
//! pointing to the chain's first line pointer. Values in the overflow file that did not change are handed on.

use smallvec::SmallVec;

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, OffsetNumber, Tid, Xid};
use crate::storage::{BlockMode, Change, PageWrite, Pinned, page};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::overflow;
use crate::table::page_ops::{self, InPage, Mark};
use crate::table::prune;
use crate::table::row::{Attributes, Pointer, Stored, encode_row, move_out};
use crate::table::tuple::{
    HAS_OVERFLOW, HEADER_SIZE, HEAP_ONLY, HOT_UPDATED, TupleHeader, UPDATED, lock_mode_bits,
};
use crate::table::visibility::{self, Access, Holder};
use crate::txn::{RowLockMode, Snapshot};
use crate::types::datum::Datum;
use crate::wal::RmgrId;

use super::insert::{next_offset, page_mode, with_scratch};
use super::lock::{keep_own_lock, refusal};
use super::target::{Search, remember, room};
use super::version::{Modified, heap_page, tuple_at};

/// Replaces the version at `tid`. Whether indexed columns changed (then every index needs an entry for the new
/// version, `same_page` is false) and whether a unique key changed (a stronger lock) is found out here, from the
/// stored bytes.
pub fn update(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    row: &[Datum],
    xid: Xid,
    cid: CommandId,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    with_scratch(|tuple| {
        encode_row(rel, row, xid, cid, tuple)?;
        let update = Update {
            cx,
            rel,
            tid,
            xid,
            cid,
            snapshot,
        };
        update.run(tuple)
    })
}

struct Update<'a> {
    cx: TableCx<'a>,
    rel: &'a Relation,
    tid: Tid,
    xid: Xid,
    cid: CommandId,
    snapshot: &'a Snapshot,
}

/// What the old and the new version differ in.
struct Difference {
    indexed: bool,
    key: bool,
}

type Pointers = SmallVec<[(usize, Pointer); 2]>;

impl Update<'_> {
    fn run(&self, tuple: &mut Vec<u8>) -> Result<Modified, TableError> {
        let (cx, rel, tid) = (self.cx, self.rel, self.tid);
        let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
        let mut page = pin.write();
        let Some((header, old)) = tuple_at(&page, rel.file, tid)? else {
            return Ok(Modified::Invisible);
        };
        let difference = compare(rel, tid, old, tuple)?;
        let mode = if difference.key {
            RowLockMode::Exclusive
        } else {
            RowLockMode::NoKeyExclusive
        };
        let own = self.snapshot.own();
        let access = visibility::access(&header, own, self.snapshot.command_id(), cx.txns, mode);
        if let Some(refused) = refusal(access, mode) {
            return Ok(refused);
        }
        if let Some(other) = cx.txns.locks().row_locker_against(rel.file, tid, mode, own) {
            return Ok(Modified::Wait { xid: other, mode });
        }
        let mut held = mode;
        if let Access::Free(holder) = access {
            keep_own_lock(cx, rel.file, tid, holder, self.xid)?;
            // A stronger lock that this transaction took before stays as strong.
            if let Holder::Own(_, before) = holder {
                held = mode.max(before);
            }
        }
        let dropped = self.move_values(&header, old, tuple)?;
        let done = if room(&page) >= tuple.len() || self.make_room(&mut page, tuple.len())? {
            self.in_page(&mut page, tuple, !difference.indexed, held)?
        } else {
            self.to_other_page(&mut page, tuple, held)?
        };
        drop(page);
        drop_values(cx, rel, &dropped, self.xid, self.cid)?;
        Ok(done)
    }

    /// Brings large values of the new version to the overflow file, or to where the old version has them already.
    /// What only the old version needs is returned.
    fn move_values(
        &self,
        header: &TupleHeader,
        old: &[u8],
        tuple: &mut Vec<u8>,
    ) -> Result<Pointers, TableError> {
        let (cx, rel) = (self.cx, self.rel);
        let mut stored = if header.has(HAS_OVERFLOW) {
            pointers(rel, self.tid, old)?
        } else {
            Pointers::new()
        };
        move_out(rel, tuple, &mut |column, value| {
            let file = rel
                .overflow
                .expect("only asked where there is an overflow file");
            if let Some(at) = stored.iter().position(|(c, _)| *c == column)
                && overflow::equals(cx, file, stored[at].1, value)?
            {
                return Ok(stored.remove(at).1);
            }
            overflow::write(cx, file, value, self.xid, self.cid)
        })?;
        Ok(stored)
    }

    /// Prunes the page if that may give `len` bytes.
    fn make_room(&self, page: &mut PageWrite<'_>, len: usize) -> Result<bool, TableError> {
        Ok(prune::prune_for_update(self.cx, page)? && room(page) >= len)
    }

    fn in_page(
        &self,
        page: &mut PageWrite<'_>,
        tuple: &mut [u8],
        hot: bool,
        mode: RowLockMode,
    ) -> Result<Modified, TableError> {
        let offset = page::next_free_offset(page);
        let new = Tid::new(self.tid.block, offset);
        self.cx
            .txns
            .locks()
            .inherit_row_lockers(self.rel.file, self.tid, new)?;
        let mut bits = UPDATED | lock_mode_bits(mode);
        if hot {
            bits |= HOT_UPDATED;
            set_flag(tuple, HEAP_ONLY);
        }
        let in_page = InPage {
            block: self.tid.block,
            old: self.tid.offset,
            new: offset,
            old_bits: bits,
            tuple,
        };
        let old = page::item(page, self.tid.offset).expect("looked at under this latch");
        let data = in_page.data(old);
        let mut change = Change::new(RmgrId::HEAP, page_ops::UPDATE_IN_PAGE, self.xid);
        change.block(page, BlockMode::Update, &data);
        change.commit(&self.cx.store.wal, page_ops::apply);
        Ok(Modified::Done {
            tid: new,
            same_page: hot,
        })
    }

    fn to_other_page(
        &self,
        page: &mut PageWrite<'_>,
        tuple: &[u8],
        mode: RowLockMode,
    ) -> Result<Modified, TableError> {
        let file = self.rel.file;
        let mut search = Search::new(self.cx, file, tuple.len()).except(self.tid.block);
        loop {
            let pin = search.next(None)?;
            let block = pin.id().block;
            let Some(mut other) = self.latch_other(&pin) else {
                continue;
            };
            let free = room(&other);
            if free < tuple.len() {
                drop(other);
                search.reject(block, free)?;
                continue;
            }
            let offset = next_offset(&other);
            self.log_move(page, &mut other, offset, tuple, mode)?;
            remember(file, block);
            return Ok(Modified::Done {
                tid: Tid::new(block, offset),
                same_page: false,
            });
        }
    }

    /// Pages of one heap are latched in ascending order; a lower one is only tried.
    fn latch_other<'p>(&self, pin: &'p Pinned) -> Option<PageWrite<'p>> {
        if pin.id().block > self.tid.block {
            Some(pin.write())
        } else {
            pin.try_write()
        }
    }

    fn log_move(
        &self,
        page: &mut PageWrite<'_>,
        other: &mut PageWrite<'_>,
        offset: OffsetNumber,
        tuple: &[u8],
        mode: RowLockMode,
    ) -> Result<(), TableError> {
        let new = Tid::new(other.id().block, offset);
        self.cx
            .txns
            .locks()
            .inherit_row_lockers(self.rel.file, self.tid, new)?;
        let mark = Mark {
            offset: self.tid.offset,
            xmax: self.xid,
            cmax: self.cid,
            bits: UPDATED | lock_mode_bits(mode),
            next: Some(new),
        };
        let other_mode = page_mode(other);
        let mut change = Change::new(RmgrId::HEAP, page_ops::UPDATE, self.xid);
        change
            .block(other, other_mode, &page_ops::insert_head(offset, tuple))
            .more(&tuple[HEADER_SIZE..])
            .block(page, BlockMode::Update, &mark.data());
        change.commit(&self.cx.store.wal, page_ops::apply);
        Ok(())
    }
}

fn set_flag(tuple: &mut [u8], flag: u16) {
    let mut header = TupleHeader::read(tuple).expect("encoded here");
    header.flags |= flag;
    header.write(tuple);
}

/// Compares the attributes that indexes have, byte by byte.
fn compare(rel: &Relation, tid: Tid, old: &[u8], new: &[u8]) -> Result<Difference, TableError> {
    let mut difference = Difference {
        indexed: false,
        key: false,
    };
    if rel.indexes.is_empty() {
        return Ok(difference);
    }
    let last = rel
        .indexes
        .iter()
        .flat_map(|i| {
            i.keys
                .iter()
                .map(|k| k.column)
                .chain(i.included.iter().copied())
        })
        .max()
        .unwrap_or(0);
    let damaged = |what| TableError::DamagedRow {
        file: rel.file,
        tid,
        what,
    };
    let mut olds = Attributes::of(rel, old);
    let mut news = Attributes::of(rel, new);
    for column in 0..=last {
        let before = olds
            .next()
            .transpose()
            .map_err(damaged)?
            .map(|(_, _, stored)| stored);
        let after = news
            .next()
            .transpose()
            .map_err(damaged)?
            .map(|(_, _, stored)| stored);
        if before == after {
            continue;
        }
        for index in &rel.indexes {
            let key = index.keys.iter().any(|k| k.column == column);
            difference.indexed |= key || index.included.contains(&column);
            difference.key |= key && index.unique;
        }
    }
    Ok(difference)
}

/// The values that a version has in the overflow file, by column.
fn pointers(rel: &Relation, tid: Tid, tuple: &[u8]) -> Result<Pointers, TableError> {
    let mut found = Pointers::new();
    for attribute in Attributes::of(rel, tuple) {
        let (column, _, stored) = attribute.map_err(|what| TableError::DamagedRow {
            file: rel.file,
            tid,
            what,
        })?;
        if let Stored::Overflow(pointer) = stored {
            found.push((column, pointer));
        }
    }
    Ok(found)
}

fn drop_values(
    cx: TableCx<'_>,
    rel: &Relation,
    values: &Pointers,
    xid: Xid,
    cid: CommandId,
) -> Result<(), TableError> {
    let Some(file) = rel.overflow else {
        return Ok(());
    };
    for (_, pointer) in values {
        overflow::delete(cx, file, *pointer, xid, cid)?;
    }
    Ok(())
}

/// Deletes the version at `tid` and its large values.
pub fn delete(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    xid: Xid,
    cid: CommandId,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    let mode = RowLockMode::Exclusive;
    let own = snapshot.own();
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let mut page = pin.write();
    let Some((header, old)) = tuple_at(&page, rel.file, tid)? else {
        return Ok(Modified::Invisible);
    };
    let access = visibility::access(&header, own, snapshot.command_id(), cx.txns, mode);
    if let Some(refused) = refusal(access, mode) {
        return Ok(refused);
    }
    if let Some(other) = cx.txns.locks().row_locker_against(rel.file, tid, mode, own) {
        return Ok(Modified::Wait { xid: other, mode });
    }
    if let Access::Free(holder) = access {
        keep_own_lock(cx, rel.file, tid, holder, xid)?;
    }
    let dropped = if header.has(HAS_OVERFLOW) {
        pointers(rel, tid, old)?
    } else {
        Pointers::new()
    };
    log_delete(cx, &mut page, tid, xid, cid);
    drop(page);
    drop_values(cx, rel, &dropped, xid, cid)?;
    Ok(Modified::Done {
        tid,
        same_page: true,
    })
}

/// Undoes the own insert of `tid` by the same command: ON CONFLICT lost a race. Nobody will ever see the row: it
/// was deleted by the very command that wrote it, which `liveness` tells others at once, so that nobody waits for this
/// transaction because of it.
pub fn undo_insert(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    xid: Xid,
    cid: CommandId,
) -> Result<(), TableError> {
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let mut page = pin.write();
    let dropped = match tuple_at(&page, rel.file, tid)? {
        Some((header, tuple)) if header.xmin == xid && !header.xmax.is_valid() => {
            pointers(rel, tid, tuple)?
        }
        _ => {
            return Err(TableError::DamagedRow {
                file: rel.file,
                tid,
                what: "row version to undo is not the one that was inserted",
            });
        }
    };
    log_delete(cx, &mut page, tid, xid, cid);
    drop(page);
    drop_values(cx, rel, &dropped, xid, cid)
}

fn log_delete(cx: TableCx<'_>, page: &mut PageWrite<'_>, tid: Tid, xid: Xid, cid: CommandId) {
    let mark = Mark {
        offset: tid.offset,
        xmax: xid,
        cmax: cid,
        bits: lock_mode_bits(RowLockMode::Exclusive),
        next: None,
    };
    let mut change = Change::new(RmgrId::HEAP, page_ops::DELETE, xid);
    change.block(page, BlockMode::Update, &mark.data());
    change.commit(&cx.store.wal, page_ops::apply);
}
