//! The header of a row version.
//!
//! ```text
//!    0 xmin     u64   the transaction that wrote it
//!    8 xmax     u64   the transaction that deleted, updated or locked it; 0 for none
//!   16 cmin     u32   xmin's command
//!   20 cmax     u32   xmax's command
//!   24 next     u32 block, u16 offset: the version that replaced it (flag UPDATED)
//!   30 flags    u16
//!   32 natts    u16   columns stored; later ones have their missing value
//!   34 nulls    one bit a column, set for NULL, if flag HAS_NULLS; ceil(natts / 8) bytes
//!      values   in column order, unaligned (see row.rs)
//! ```
//!
//! All integers are little-endian. Knows nothing of values or pages.

use crate::ids::{BlockNumber, CommandId, OffsetNumber, Tid, Xid};
use crate::txn::RowLockMode;

pub const HEADER_SIZE: usize = 34;

/// Some column is NULL, so there is a bitmap.
pub const HAS_NULLS: u16 = 1;
/// Some value is in the overflow file.
pub const HAS_OVERFLOW: u16 = 1 << 1;
/// `xmax` only locks.
pub const LOCK_ONLY: u16 = 1 << 2;
/// How strongly `xmax` locks, deletes or updates: a [`RowLockMode`] in two bits.
const LOCK_MODE_SHIFT: u32 = 3;
const LOCK_MODE_MASK: u16 = 3 << LOCK_MODE_SHIFT;
/// `xmax` made a newer version; `next` says where.
pub const UPDATED: u16 = 1 << 5;
/// The newer version is on the same page and has no index entries of its own.
pub const HOT_UPDATED: u16 = 1 << 6;
/// This version has no index entries: it is reached from an older one on its page.
pub const HEAP_ONLY: u16 = 1 << 7;
/// The bits that belong to `xmax` and go when it goes.
pub const XMAX_BITS: u16 = LOCK_ONLY | LOCK_MODE_MASK | UPDATED | HOT_UPDATED;
/// The bits that the row's encoding sets.
pub const ROW_BITS: u16 = HAS_NULLS | HAS_OVERFLOW;

/// The header, decoded. Cheap: 34 bytes loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleHeader {
    pub xmin: Xid,
    pub xmax: Xid,
    pub cmin: CommandId,
    pub cmax: CommandId,
    next_block: u32,
    next_offset: u16,
    pub flags: u16,
    pub natts: u16,
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | (u64::from(u32_at(b, at + 4)) << 32)
}

pub const fn lock_mode_bits(mode: RowLockMode) -> u16 {
    (mode as u16) << LOCK_MODE_SHIFT
}

impl TupleHeader {
    /// A fresh version.
    pub fn new(xmin: Xid, cmin: CommandId, flags: u16, natts: u16) -> TupleHeader {
        TupleHeader {
            xmin,
            xmax: Xid::INVALID,
            cmin,
            cmax: CommandId::FIRST,
            next_block: 0,
            next_offset: 0,
            flags,
            natts,
        }
    }
    /// `None` if the item is too short to be a row version.
    #[inline]
    pub fn read(item: &[u8]) -> Option<TupleHeader> {
        let b: &[u8; HEADER_SIZE] = item.first_chunk()?;
        Some(TupleHeader {
            xmin: Xid::new(u64_at(b, 0)),
            xmax: Xid::new(u64_at(b, 8)),
            cmin: CommandId::new(u32_at(b, 16)),
            cmax: CommandId::new(u32_at(b, 20)),
            next_block: u32_at(b, 24),
            next_offset: u16_at(b, 28),
            flags: u16_at(b, 30),
            natts: u16_at(b, 32),
        })
    }
    /// Overwrites the header of an item. Panics if the item is shorter than a header.
    pub fn write(&self, item: &mut [u8]) {
        item[0..8].copy_from_slice(&self.xmin.raw().to_le_bytes());
        item[8..16].copy_from_slice(&self.xmax.raw().to_le_bytes());
        item[16..20].copy_from_slice(&self.cmin.raw().to_le_bytes());
        item[20..24].copy_from_slice(&self.cmax.raw().to_le_bytes());
        item[24..28].copy_from_slice(&self.next_block.to_le_bytes());
        item[28..30].copy_from_slice(&self.next_offset.to_le_bytes());
        item[30..32].copy_from_slice(&self.flags.to_le_bytes());
        item[32..34].copy_from_slice(&self.natts.to_le_bytes());
    }
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
    /// How strongly `xmax` holds the row; means something only if `xmax` is set.
    pub const fn lock_mode(&self) -> RowLockMode {
        match (self.flags & LOCK_MODE_MASK) >> LOCK_MODE_SHIFT {
            0 => RowLockMode::KeyShare,
            1 => RowLockMode::Share,
            2 => RowLockMode::NoKeyExclusive,
            _ => RowLockMode::Exclusive,
        }
    }
    /// The version that replaced this one.
    pub fn next(&self) -> Option<Tid> {
        if !self.has(UPDATED) {
            return None;
        }
        let offset = OffsetNumber::new(self.next_offset)?;
        Some(Tid::new(BlockNumber::new(self.next_block), offset))
    }
    pub fn set_next(&mut self, next: Option<Tid>) {
        (self.next_block, self.next_offset) =
            next.map_or((0, 0), |t| (t.block.raw(), t.offset.raw()));
    }
    /// Where the values begin.
    pub const fn values_at(&self) -> usize {
        if self.has(HAS_NULLS) {
            HEADER_SIZE + (self.natts as usize).div_ceil(8)
        } else {
            HEADER_SIZE
        }
    }
}
