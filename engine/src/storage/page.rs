//! The layout of a data page: PostgreSQL's header, line pointers and checksum.
//!
//! Source: PostgreSQL 15 manual, 73.6 (Database Page Layout). All integers are little-endian.
//!
//! ```text
//!    0 pd_lsn              high u32, low u32: end of the last record that changed the page
//!    8 pd_checksum         u16
//!   10 pd_flags            u16
//!   12 pd_lower            u16: end of the line pointers
//!   14 pd_upper            u16: start of the items
//!   16 pd_special          u16: start of the owner's own area at the end
//!   18 pd_pagesize_version u16: 8192 | 4
//!   20 pd_prune_xid        u32: for the page's owner
//!   24 line pointers       u32 each: bits 0-14 offset, 15-16 state, 17-31 length
//!      ... free space ...  items, packed against pd_special, unaligned ...  special
//! ```
//!
//! Owns every byte offset of the above. Knows nothing of what items mean. A page of zeroes is *new*: valid,
//! without items and without free space until [`init`].
//!
//! Invariant: the bytes between `pd_lower` and `pd_upper` are zero, because page images leave them out and pages
//! of two instances are compared byte for byte.
//!
//! Functions that take bytes from a log record check them and answer with a [`PageFault`]; those that merely
//! read assume a page whose header was verified when it came into the pool.

use crate::ids::{BlockNumber, Lsn, OffsetNumber, PAGE_SIZE};
pub use crate::storage::error::PageFault;

pub type PageBuf = [u8; PAGE_SIZE];

pub const HEADER_SIZE: usize = 24;
pub const ITEM_ID_SIZE: usize = 4;
const LAYOUT: u16 = PAGE_SIZE as u16 | 4;

/// `pd_flags`: there may be unused line pointers.
pub const HAS_FREE_LINES: u16 = 1;
/// `pd_flags`: an update found no room here; a hint to prune.
pub const PAGE_FULL: u16 = 2;
const VALID_FLAGS: u16 = 7;

/// What a line pointer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemState {
    Unused,
    Normal {
        offset: u16,
        len: u16,
    },
    Redirect(OffsetNumber),
    /// The item is gone but an index may still point here.
    Dead,
}

const STATE_UNUSED: u32 = 0;
const STATE_NORMAL: u32 = 1;
const STATE_REDIRECT: u32 = 2;
const STATE_DEAD: u32 = 3;

#[inline]
pub fn get_u16(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}
#[inline]
pub fn put_u16(page: &mut [u8], at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
#[inline]
pub fn get_u32(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}
#[inline]
pub fn put_u32(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn lsn(page: &PageBuf) -> Lsn {
    Lsn::new((u64::from(get_u32(page, 0)) << 32) | u64::from(get_u32(page, 4)))
}
pub fn set_lsn(page: &mut PageBuf, lsn: Lsn) {
    put_u32(page, 0, (lsn.raw() >> 32) as u32);
    put_u32(page, 4, lsn.raw() as u32);
}
pub fn flags(page: &PageBuf) -> u16 {
    get_u16(page, 10)
}
pub fn set_flags(page: &mut PageBuf, flags: u16) {
    put_u16(page, 10, flags);
}
pub fn lower(page: &PageBuf) -> u16 {
    get_u16(page, 12)
}
pub fn upper(page: &PageBuf) -> u16 {
    get_u16(page, 14)
}
/// Where the special area begins.
pub fn special_start(page: &PageBuf) -> u16 {
    get_u16(page, 16)
}
/// The owner's own area at the end of the page.
pub fn special(page: &PageBuf) -> &[u8] {
    &page[usize::from(special_start(page)).min(PAGE_SIZE)..]
}
pub fn special_mut(page: &mut PageBuf) -> &mut [u8] {
    let at = usize::from(special_start(page)).min(PAGE_SIZE);
    &mut page[at..]
}
pub fn prune_hint(page: &PageBuf) -> u32 {
    get_u32(page, 20)
}
pub fn set_prune_hint(page: &mut PageBuf, hint: u32) {
    put_u32(page, 20, hint);
}
fn set_lower(page: &mut PageBuf, value: u16) {
    put_u16(page, 12, value);
}
fn set_upper(page: &mut PageBuf, value: u16) {
    put_u16(page, 14, value);
}

/// Never initialised: zeroes as `extend` left them.
pub fn is_new(page: &PageBuf) -> bool {
    upper(page) == 0
}

/// Makes an empty page. `special_size` is rounded up to 8, as PostgreSQL's tools expect.
pub fn init(page: &mut PageBuf, special_size: usize) {
    let special = PAGE_SIZE - special_size.next_multiple_of(8);
    assert!(
        special > HEADER_SIZE,
        "special area leaves no room for a page"
    );
    page.fill(0);
    set_lower(page, HEADER_SIZE as u16);
    set_upper(page, special as u16);
    put_u16(page, 16, special as u16);
    put_u16(page, 18, LAYOUT);
}

/// Header fields are in order; a new page must be all zeroes.
pub fn header_is_valid(page: &PageBuf) -> bool {
    if is_new(page) {
        return page.iter().all(|b| *b == 0);
    }
    let (lower, upper, special) = (lower(page), upper(page), special_start(page));
    get_u16(page, 18) == LAYOUT
        && flags(page) & !VALID_FLAGS == 0
        && usize::from(lower) >= HEADER_SIZE
        && (usize::from(lower) - HEADER_SIZE).is_multiple_of(ITEM_ID_SIZE)
        && lower <= upper
        && upper <= special
        && usize::from(special) <= PAGE_SIZE
        && special.is_multiple_of(8)
}

// ---- checksum ----

const LANES: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
/// Starting values of the 32 lanes; part of the on-disk format (`storage/checksum_impl.h`).
const LANE_START: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

#[inline]
fn mix(sum: u32, value: u32) -> u32 {
    let t = sum ^ value;
    t.wrapping_mul(FNV_PRIME) ^ (t >> 17)
}

/// PostgreSQL's `pg_checksum_page`: 32 interleaved FNV-1a lanes, the checksum field counted as zero.
pub fn checksum_of(page: &PageBuf, block: BlockNumber) -> u16 {
    let mut lanes = LANE_START;
    for (row, chunk) in page.chunks_exact(4 * LANES).enumerate() {
        for (lane, word) in chunk.chunks_exact(4).enumerate() {
            let mut value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && lane == 2 {
                value &= 0xFFFF_0000;
            }
            lanes[lane] = mix(lanes[lane], value);
        }
    }
    let mut folded = 0;
    for lane in lanes {
        folded ^= mix(mix(lane, 0), 0);
    }
    ((folded ^ block.raw()) % 65_535 + 1) as u16
}
pub fn stored_checksum(page: &PageBuf) -> u16 {
    get_u16(page, 8)
}
/// Stamps the checksum; a new page keeps its zeroes.
pub fn set_checksum(page: &mut PageBuf, block: BlockNumber) {
    if !is_new(page) {
        let sum = checksum_of(page, block);
        put_u16(page, 8, sum);
    }
}

// ---- line pointers ----

#[inline]
fn item_id_at(offset: OffsetNumber) -> usize {
    HEADER_SIZE + (usize::from(offset.raw()) - 1) * ITEM_ID_SIZE
}
#[inline]
fn encode_item_id(offset: u16, state: u32, len: u16) -> u32 {
    u32::from(offset) | (state << 15) | (u32::from(len) << 17)
}

/// Line pointers in use or not: offsets 1 to this number exist.
#[inline]
pub fn item_count(page: &PageBuf) -> u16 {
    (lower(page).saturating_sub(HEADER_SIZE as u16)) / ITEM_ID_SIZE as u16
}

/// All offsets of the page, in order.
pub fn offsets(page: &PageBuf) -> impl DoubleEndedIterator<Item = OffsetNumber> + use<> {
    (1..=item_count(page)).filter_map(OffsetNumber::new)
}

/// `Unused` for an offset beyond the end.
#[inline]
pub fn item_state(page: &PageBuf, offset: OffsetNumber) -> ItemState {
    if offset.raw() > item_count(page) {
        return ItemState::Unused;
    }
    let id = get_u32(page, item_id_at(offset));
    let start = (id & 0x7FFF) as u16;
    match (id >> 15) & 3 {
        STATE_NORMAL => ItemState::Normal {
            offset: start,
            len: (id >> 17) as u16,
        },
        STATE_REDIRECT => OffsetNumber::new(start).map_or(ItemState::Unused, ItemState::Redirect),
        STATE_DEAD => ItemState::Dead,
        _ => ItemState::Unused,
    }
}

/// The item's bytes; `None` unless the line pointer is normal and stays inside the page.
#[inline]
pub fn item(page: &PageBuf, offset: OffsetNumber) -> Option<&[u8]> {
    match item_state(page, offset) {
        ItemState::Normal { offset, len } => {
            page.get(usize::from(offset)..usize::from(offset) + usize::from(len))
        }
        _ => None,
    }
}
#[inline]
pub fn item_mut(page: &mut PageBuf, offset: OffsetNumber) -> Option<&mut [u8]> {
    match item_state(page, offset) {
        ItemState::Normal { offset, len } => {
            page.get_mut(usize::from(offset)..usize::from(offset) + usize::from(len))
        }
        _ => None,
    }
}

/// Bytes between the line pointers and the items.
#[inline]
pub fn gap(page: &PageBuf) -> usize {
    usize::from(upper(page).saturating_sub(lower(page)))
}
/// Bytes that one more item may have, its new line pointer already taken off.
#[inline]
pub fn free_space(page: &PageBuf) -> usize {
    gap(page).saturating_sub(ITEM_ID_SIZE)
}
/// Offset and length of the unused middle, which page images leave out; (0, 0) for none.
pub fn hole(page: &PageBuf) -> (u16, u16) {
    let (lower, upper) = (lower(page), upper(page));
    if usize::from(lower) >= HEADER_SIZE && lower < upper && usize::from(upper) <= PAGE_SIZE {
        (lower, upper - lower)
    } else {
        (0, 0)
    }
}

/// The first unused line pointer, or the next new one.
pub fn next_free_offset(page: &PageBuf) -> OffsetNumber {
    if flags(page) & HAS_FREE_LINES != 0 {
        let unused = offsets(page).find(|o| item_state(page, *o) == ItemState::Unused);
        if let Some(offset) = unused {
            return offset;
        }
    }
    OffsetNumber::new(item_count(page) + 1).expect("one more than a count is not zero")
}

/// Puts an item where [`next_free_offset`] says; `None` if there is no room.
pub fn add_item(page: &mut PageBuf, bytes: &[u8]) -> Option<OffsetNumber> {
    let offset = next_free_offset(page);
    put_item_at(page, offset, bytes).ok().map(|()| offset)
}

/// Stores an item under an unused line pointer or under the next new one.
pub fn put_item_at(
    page: &mut PageBuf,
    offset: OffsetNumber,
    bytes: &[u8],
) -> Result<(), PageFault> {
    reserve_item_at(page, offset, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

/// Makes an item of `len` bytes under an unused line pointer or under the next new one; the caller fills it.
pub fn reserve_item_at(
    page: &mut PageBuf,
    offset: OffsetNumber,
    len: usize,
) -> Result<&mut [u8], PageFault> {
    let count = item_count(page);
    let new_line = offset.raw() == count + 1;
    if offset.raw() > count + 1 || item_state(page, offset) != ItemState::Unused {
        return Err(PageFault::at(
            "line pointer is in use or out of order",
            offset.raw(),
        ));
    }
    let needed = len + if new_line { ITEM_ID_SIZE } else { 0 };
    if gap(page) < needed {
        return Err(PageFault::at(
            "no room on the page for the item",
            offset.raw(),
        ));
    }
    let start = usize::from(upper(page)) - len;
    set_upper(page, start as u16);
    if new_line {
        let lower = lower(page) + ITEM_ID_SIZE as u16;
        set_lower(page, lower);
    }
    put_u32(
        page,
        item_id_at(offset),
        encode_item_id(start as u16, STATE_NORMAL, len as u16),
    );
    Ok(&mut page[start..start + len])
}

/// Inserts an item before `offset`, moving that line pointer and those after it up by one: for pages whose
/// items are in key order.
pub fn insert_item_at(
    page: &mut PageBuf,
    offset: OffsetNumber,
    bytes: &[u8],
) -> Result<(), PageFault> {
    let count = item_count(page);
    if offset.raw() > count + 1 {
        return Err(PageFault::at("line pointer is out of order", offset.raw()));
    }
    if gap(page) < bytes.len() + ITEM_ID_SIZE {
        return Err(PageFault::at(
            "no room on the page for the item",
            offset.raw(),
        ));
    }
    let start = usize::from(upper(page)) - bytes.len();
    page[start..start + bytes.len()].copy_from_slice(bytes);
    let (at, end) = (item_id_at(offset), usize::from(lower(page)));
    page.copy_within(at..end, at + ITEM_ID_SIZE);
    put_u32(
        page,
        at,
        encode_item_id(start as u16, STATE_NORMAL, bytes.len() as u16),
    );
    set_upper(page, start as u16);
    set_lower(page, (end + ITEM_ID_SIZE) as u16);
    Ok(())
}

/// Removes a line pointer and closes the gap in their array; the item's bytes stay until [`compact`].
pub fn remove_item_at(page: &mut PageBuf, offset: OffsetNumber) -> Result<(), PageFault> {
    if offset.raw() > item_count(page) {
        return Err(PageFault::at("no such line pointer", offset.raw()));
    }
    let (at, end) = (item_id_at(offset), usize::from(lower(page)));
    page.copy_within(at + ITEM_ID_SIZE..end, at);
    page[end - ITEM_ID_SIZE..end].fill(0);
    set_lower(page, (end - ITEM_ID_SIZE) as u16);
    Ok(())
}

/// Cuts the line pointer array to `count` entries.
pub fn truncate_items(page: &mut PageBuf, count: u16) {
    if count < item_count(page) {
        let (end, old_end) = (
            HEADER_SIZE + usize::from(count) * ITEM_ID_SIZE,
            usize::from(lower(page)),
        );
        page[end..old_end].fill(0);
        set_lower(page, end as u16);
    }
}

/// Replaces the bytes of a normal item. Where the length grows the old bytes become a hole that only
/// [`compact`] closes.
pub fn replace_item(
    page: &mut PageBuf,
    offset: OffsetNumber,
    bytes: &[u8],
) -> Result<(), PageFault> {
    let ItemState::Normal { offset: start, len } = item_state(page, offset) else {
        return Err(PageFault::at("line pointer has no item", offset.raw()));
    };
    let start = if bytes.len() <= usize::from(len) {
        usize::from(start)
    } else {
        if gap(page) < bytes.len() {
            return Err(PageFault::at(
                "no room on the page for the item",
                offset.raw(),
            ));
        }
        let start = usize::from(upper(page)) - bytes.len();
        set_upper(page, start as u16);
        start
    };
    page[start..start + bytes.len()].copy_from_slice(bytes);
    put_u32(
        page,
        item_id_at(offset),
        encode_item_id(start as u16, STATE_NORMAL, bytes.len() as u16),
    );
    Ok(())
}

fn put_state(page: &mut PageBuf, offset: OffsetNumber, id: u32) -> Result<(), PageFault> {
    if offset.raw() > item_count(page) {
        return Err(PageFault::at("no such line pointer", offset.raw()));
    }
    put_u32(page, item_id_at(offset), id);
    Ok(())
}
pub fn set_dead(page: &mut PageBuf, offset: OffsetNumber) -> Result<(), PageFault> {
    put_state(page, offset, encode_item_id(0, STATE_DEAD, 0))
}
pub fn set_redirect(
    page: &mut PageBuf,
    offset: OffsetNumber,
    to: OffsetNumber,
) -> Result<(), PageFault> {
    put_state(page, offset, encode_item_id(to.raw(), STATE_REDIRECT, 0))
}
pub fn set_unused(page: &mut PageBuf, offset: OffsetNumber) -> Result<(), PageFault> {
    put_state(page, offset, encode_item_id(0, STATE_UNUSED, 0))?;
    let flags = flags(page) | HAS_FREE_LINES;
    set_flags(page, flags);
    Ok(())
}

/// Packs the items against the special area, so that all free bytes are in the gap, and gives back unused
/// line pointers at the end of their array. Item order and offsets do not change. The result depends only on
/// the page's line pointers and items, not on how they came to lie there.
pub fn compact(page: &mut PageBuf) -> Result<(), PageFault> {
    let mut count = item_count(page);
    while let Some(last) = OffsetNumber::new(count) {
        if item_state(page, last) != ItemState::Unused {
            break;
        }
        count -= 1;
    }
    truncate_items(page, count);
    let special = usize::from(special_start(page));
    let old: PageBuf = *page;
    let mut top = special;
    let mut free_lines = false;
    for offset in offsets(&old).take(usize::from(count)) {
        match item_state(&old, offset) {
            ItemState::Normal { offset: start, len } => {
                let (start, len) = (usize::from(start), usize::from(len));
                let room = top - (HEADER_SIZE + usize::from(count) * ITEM_ID_SIZE);
                let bytes = old
                    .get(start..start + len)
                    .filter(|_| len <= room)
                    .ok_or(PageFault::at("item lies outside of the page", offset.raw()))?;
                top -= len;
                page[top..top + len].copy_from_slice(bytes);
                let id = encode_item_id(top as u16, STATE_NORMAL, len as u16);
                put_u32(page, item_id_at(offset), id);
            }
            ItemState::Unused => free_lines = true,
            ItemState::Redirect(_) | ItemState::Dead => {}
        }
    }
    set_upper(page, top as u16);
    // Bytes of the gap are not part of page images: zero them, so that pages compare equal byte for byte.
    let low = usize::from(lower(page));
    page[low..top].fill(0);
    let flags = if free_lines {
        flags(page) | HAS_FREE_LINES
    } else {
        flags(page) & !HAS_FREE_LINES
    };
    set_flags(page, flags & !PAGE_FULL);
    Ok(())
}

#[cfg(test)]
mod tests;
