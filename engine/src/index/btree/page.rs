//! The layout of an index page, and the page function.
//!
//! ```text
//! block 0        meta page: item 1 is magic u32, version u32, root u32, root's level u32
//! other blocks   item 1    the high key, unless the page is the last of its level
//!                then      entries in order. Leaf: key bytes, block u32 and offset u16 big-endian (the tid).
//!                          Inner: child u32 little-endian, separator bytes; the first one's separator is empty
//!                          and counts as below everything
//! special area   left u32, right u32 (0xFFFFFFFF: none), level u16 (0: leaf), flags u16, 12 bytes 0
//! ```
//!
//! The data of a record's block begins with an operation and is all that [`apply`] looks at, so the same
//! operations make up different records:
//!
//! ```text
//! FILL       left u32, right u32, level u16, flags u16, then each item as length u16 and bytes
//! CUT        right u32, keep u16, place u16 (0xFFFF: none), then high key and new item as length u16 and bytes:
//!            keep so many entries, put the new one at its place among them, set the link, mark as incomplete
//! LINK_LEFT  left u32
//! COMPLETE   nothing: takes the mark away
//! INSERT     offset u16, then the item
//! META       root u32, level u32
//! DELETE     offsets u16, ascending
//! ```

use crate::ids::{BlockNumber, OffsetNumber, PAGE_SIZE, Tid};
use crate::storage::PageFault;
use crate::storage::page::{self, PageBuf, get_u16, get_u32, put_u16, put_u32};

pub(crate) const SPECIAL: usize = 24;
/// Bytes for items and their line pointers.
pub(crate) const CAPACITY: usize = PAGE_SIZE - 24 - SPECIAL;
/// What an item costs beyond its bytes.
pub(crate) const LINE: usize = 4;
pub(crate) const TID: usize = 6;

const MAGIC: u32 = 0x5542_5431;
const VERSION: u32 = 1;
const NONE: u32 = u32::MAX;

/// The right neighbour has no entry in the parent yet.
pub(crate) const INCOMPLETE: u16 = 1;
const META_PAGE: u16 = 2;

// Records.
pub(crate) const INSERT_ENTRY: u8 = 0x00;
pub(crate) const SPLIT: u8 = 0x10;
pub(crate) const NEW_ROOT: u8 = 0x20;
pub(crate) const REMOVE: u8 = 0x30;
pub(crate) const CREATE: u8 = 0x40;
pub(crate) const BUILD: u8 = 0x50;
pub const WRITTEN: &[(u8, &str)] = &[
    (INSERT_ENTRY, "INSERT_ENTRY"),
    (SPLIT, "SPLIT"),
    (NEW_ROOT, "NEW_ROOT"),
    (REMOVE, "REMOVE"),
    (CREATE, "CREATE"),
    (BUILD, "BUILD"),
];

// Operations on a block.
const FILL: u8 = 1;
const CUT: u8 = 2;
const LINK_LEFT: u8 = 3;
const COMPLETE: u8 = 4;
const INSERT: u8 = 5;
const SET_META: u8 = 6;
const DELETE: u8 = 7;
const NO_PLACE: u16 = u16::MAX;

fn link(raw: u32) -> Option<BlockNumber> {
    (raw != NONE).then(|| BlockNumber::new(raw))
}
fn raw(link: Option<BlockNumber>) -> u32 {
    link.map_or(NONE, BlockNumber::raw)
}

pub(crate) fn left(p: &PageBuf) -> Option<BlockNumber> {
    link(get_u32(page::special(p), 0))
}
pub(crate) fn right(p: &PageBuf) -> Option<BlockNumber> {
    link(get_u32(page::special(p), 4))
}
pub(crate) fn level(p: &PageBuf) -> u16 {
    get_u16(page::special(p), 8)
}
pub(crate) fn flags(p: &PageBuf) -> u16 {
    get_u16(page::special(p), 10)
}
pub(crate) fn is_incomplete(p: &PageBuf) -> bool {
    flags(p) & INCOMPLETE != 0
}

/// Whether it is a page of the tree (not zeroes, not the meta page, not something else).
pub(crate) fn is_node(p: &PageBuf) -> bool {
    !page::is_new(p)
        && usize::from(page::special_start(p)) == PAGE_SIZE - SPECIAL
        && flags(p) & META_PAGE == 0
}

/// Whether it is the only page of this level. So it is the root: one level more is there only once the highest has two
/// pages, and no page leaves the tree.
pub(crate) fn is_alone(p: &PageBuf, at: u16) -> bool {
    is_node(p) && level(p) == at && left(p).is_none() && right(p).is_none()
}

/// Above all entries of the page; `None`: it is the last of its level.
pub(crate) fn high_key(p: &PageBuf) -> Option<&[u8]> {
    right(p)?;
    page::item(p, OffsetNumber::FIRST)
}

fn first(p: &PageBuf) -> usize {
    usize::from(right(p).is_some())
}

/// Entries on the page.
pub(crate) fn count(p: &PageBuf) -> usize {
    usize::from(page::item_count(p)) - first(p).min(usize::from(page::item_count(p)))
}

/// The line pointer of entry `i`, from 0.
pub(crate) fn offset(p: &PageBuf, i: usize) -> OffsetNumber {
    offset_behind(first(p), i)
}

fn offset_behind(first: usize, i: usize) -> OffsetNumber {
    let raw = u16::try_from(first + i + 1).expect("a page has few line pointers");
    OffsetNumber::new(raw).expect("one more than an index is not zero")
}

/// Entry `i` as it stands; empty where the page is damaged (nothing compares with that by mistake for long: the
/// searcher's checks of levels and children fail).
pub(crate) fn entry(p: &PageBuf, i: usize) -> &[u8] {
    page::item(p, offset(p, i)).unwrap_or(&[])
}

/// What entry `i` compares by.
pub(crate) fn sort_key(p: &PageBuf, i: usize) -> &[u8] {
    let entry = entry(p, i);
    if level(p) == 0 {
        entry
    } else {
        entry.get(4..).unwrap_or(&[])
    }
}

pub(crate) fn child(p: &PageBuf, i: usize) -> Option<BlockNumber> {
    let bytes = entry(p, i).first_chunk::<4>()?;
    Some(BlockNumber::new(u32::from_le_bytes(*bytes)))
}

/// The key of a leaf entry.
pub(crate) fn key_of(entry: &[u8]) -> &[u8] {
    &entry[..entry.len().saturating_sub(TID)]
}

pub(crate) fn tid_of(entry: &[u8]) -> Option<Tid> {
    let bytes = entry.last_chunk::<TID>()?;
    let block = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let offset = OffsetNumber::new(u16::from_be_bytes([bytes[4], bytes[5]]))?;
    Some(Tid::new(BlockNumber::new(block), offset))
}

pub(crate) fn leaf_entry(key: &[u8], tid: Tid) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + TID);
    entry.extend_from_slice(key);
    entry.extend_from_slice(&tid.block.raw().to_be_bytes());
    entry.extend_from_slice(&tid.offset.raw().to_be_bytes());
    entry
}

pub(crate) fn inner_entry(child: BlockNumber, separator: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(4 + separator.len());
    entry.extend_from_slice(&child.raw().to_le_bytes());
    entry.extend_from_slice(separator);
    entry
}

/// The first entry at or above `target` (`None`: above everything).
pub(crate) fn lower_bound(p: &PageBuf, target: Option<&[u8]>) -> usize {
    let Some(target) = target else {
        return count(p);
    };
    let head = head_of(target);
    // What does not change from entry to entry is looked at once.
    let (skip, first) = (if level(p) == 0 { 0 } else { 4 }, first(p));
    let (mut low, mut high) = (0, count(p));
    while low < high {
        let middle = (low + high) / 2;
        let entry = page::item(p, offset_behind(first, middle)).unwrap_or(&[]);
        let key = entry.get(skip..).unwrap_or(&[]);
        let is_below = match key.first_chunk::<8>() {
            Some(bytes) if u64::from_be_bytes(*bytes) != head => u64::from_be_bytes(*bytes) < head,
            _ => key < target,
        };
        if is_below {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The first eight bytes, with zeroes behind a shorter key. Where those of two keys differ they are in the keys' order.
fn head_of(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let length = key.len().min(8);
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

/// The entry of an inner page under which `target` is.
pub(crate) fn child_index(p: &PageBuf, target: Option<&[u8]>) -> usize {
    let at = lower_bound(p, target);
    let exact = target.is_some_and(|t| at < count(p) && at > 0 && sort_key(p, at) == t);
    if exact { at } else { at.saturating_sub(1) }
}

/// Whether `target` is to be looked for further right.
pub(crate) fn is_beyond(p: &PageBuf, target: Option<&[u8]>) -> bool {
    match (high_key(p), target) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(high), Some(target)) => target >= high,
    }
}

/// Root and its level.
pub(crate) fn root(meta: &PageBuf) -> Option<(BlockNumber, u16)> {
    let item = page::item(meta, OffsetNumber::FIRST)?;
    if item.len() != 16 || get_u32(item, 0) != MAGIC || get_u32(item, 4) != VERSION {
        return None;
    }
    let level = u16::try_from(get_u32(item, 12)).ok()?;
    Some((BlockNumber::new(get_u32(item, 8)), level))
}

/// What the special area holds.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) left: Option<BlockNumber>,
    pub(crate) right: Option<BlockNumber>,
    pub(crate) level: u16,
    pub(crate) flags: u16,
}

// Data of blocks.

pub(crate) fn fill_data<'i>(header: Header, items: impl Iterator<Item = &'i [u8]>) -> Vec<u8> {
    let mut data = Vec::with_capacity(PAGE_SIZE);
    data.push(FILL);
    data.extend_from_slice(&raw(header.left).to_le_bytes());
    data.extend_from_slice(&raw(header.right).to_le_bytes());
    data.extend_from_slice(&header.level.to_le_bytes());
    data.extend_from_slice(&header.flags.to_le_bytes());
    for item in items {
        push_item(&mut data, item);
    }
    data
}

pub(crate) fn cut_data(
    right: BlockNumber,
    keep: usize,
    high_key: &[u8],
    new: Option<(usize, &[u8])>,
) -> Vec<u8> {
    let mut data = vec![CUT];
    data.extend_from_slice(&right.raw().to_le_bytes());
    data.extend_from_slice(&(keep as u16).to_le_bytes());
    let place = new.map_or(NO_PLACE, |(place, _)| place as u16);
    data.extend_from_slice(&place.to_le_bytes());
    push_item(&mut data, high_key);
    if let Some((_, item)) = new {
        push_item(&mut data, item);
    }
    data
}

pub(crate) fn link_left_data(left: BlockNumber) -> [u8; 5] {
    let l = left.raw().to_le_bytes();
    [LINK_LEFT, l[0], l[1], l[2], l[3]]
}

pub(crate) const COMPLETE_DATA: &[u8] = &[COMPLETE];

/// The item itself follows.
pub(crate) fn insert_data(offset: OffsetNumber) -> [u8; 3] {
    let o = offset.raw().to_le_bytes();
    [INSERT, o[0], o[1]]
}

pub(crate) fn meta_data(root: BlockNumber, level: u16) -> Vec<u8> {
    let mut data = vec![SET_META];
    data.extend_from_slice(&root.raw().to_le_bytes());
    data.extend_from_slice(&u32::from(level).to_le_bytes());
    data
}

pub(crate) fn delete_data(offsets: &[OffsetNumber]) -> Vec<u8> {
    let mut data = vec![DELETE];
    offsets
        .iter()
        .for_each(|o| data.extend_from_slice(&o.raw().to_le_bytes()));
    data
}

fn push_item(data: &mut Vec<u8>, item: &[u8]) {
    data.extend_from_slice(&(item.len() as u16).to_le_bytes());
    data.extend_from_slice(item);
}

// The page function.

const SHORT: PageFault = PageFault::new("index record is too short");

fn take<'d>(data: &mut &'d [u8], n: usize) -> Result<&'d [u8], PageFault> {
    let (head, rest) = data.split_at_checked(n).ok_or(SHORT)?;
    *data = rest;
    Ok(head)
}
fn take_u16(data: &mut &[u8]) -> Result<u16, PageFault> {
    take(data, 2).map(|b| get_u16(b, 0))
}
fn take_u32(data: &mut &[u8]) -> Result<u32, PageFault> {
    take(data, 4).map(|b| get_u32(b, 0))
}
fn take_item<'d>(data: &mut &'d [u8]) -> Result<&'d [u8], PageFault> {
    let len = take_u16(data)?;
    take(data, usize::from(len))
}
fn take_offset(data: &mut &[u8]) -> Result<OffsetNumber, PageFault> {
    OffsetNumber::new(take_u16(data)?).ok_or(PageFault::new("offset 0 in index record"))
}

/// Does to a page what a record's block says. Pure; the same in service and in redo.
pub(crate) fn apply(
    _info: u8,
    _block: u8,
    p: &mut PageBuf,
    mut data: &[u8],
) -> Result<(), PageFault> {
    let operation = take(&mut data, 1)?[0];
    if operation != FILL && operation != SET_META && !is_node(p) {
        return Err(PageFault::new("not a page of an index"));
    }
    match operation {
        FILL => fill(p, data),
        CUT => cut(p, data),
        LINK_LEFT => {
            let left = take_u32(&mut data)?;
            put_u32(page::special_mut(p), 0, left);
            Ok(())
        }
        COMPLETE => {
            let flags = flags(p) & !INCOMPLETE;
            put_u16(page::special_mut(p), 10, flags);
            Ok(())
        }
        INSERT => {
            let offset = take_offset(&mut data)?;
            page::insert_item_at(p, offset, data)
        }
        SET_META => set_meta(p, data),
        DELETE => {
            let mut offsets = Vec::new();
            while !data.is_empty() {
                offsets.push(take_offset(&mut data)?);
            }
            for offset in offsets.into_iter().rev() {
                page::remove_item_at(p, offset)?;
            }
            page::compact(p)
        }
        _ => Err(PageFault::new("unknown operation in index record")),
    }
}

fn set_header(p: &mut PageBuf, header: Header) {
    let special = page::special_mut(p);
    put_u32(special, 0, raw(header.left));
    put_u32(special, 4, raw(header.right));
    put_u16(special, 8, header.level);
    put_u16(special, 10, header.flags);
}

fn append(p: &mut PageBuf, item: &[u8]) -> Result<(), PageFault> {
    let next = OffsetNumber::new(page::item_count(p) + 1).expect("one more is not zero");
    page::put_item_at(p, next, item)
}

fn fill(p: &mut PageBuf, mut data: &[u8]) -> Result<(), PageFault> {
    let header = Header {
        left: link(take_u32(&mut data)?),
        right: link(take_u32(&mut data)?),
        level: take_u16(&mut data)?,
        flags: take_u16(&mut data)?,
    };
    page::init(p, SPECIAL);
    set_header(p, header);
    while !data.is_empty() {
        append(p, take_item(&mut data)?)?;
    }
    Ok(())
}

fn cut(p: &mut PageBuf, mut data: &[u8]) -> Result<(), PageFault> {
    let right = take_u32(&mut data)?;
    let keep = usize::from(take_u16(&mut data)?);
    let place = take_u16(&mut data)?;
    let high_key = take_item(&mut data)?;
    let new = match place {
        NO_PLACE => None,
        _ => Some((usize::from(place), take_item(&mut data)?)),
    };
    if keep > count(p) {
        return Err(PageFault::new("index split keeps more than there is"));
    }
    let old = *p;
    let header = Header {
        left: left(&old),
        right: link(right),
        level: level(&old),
        flags: flags(&old) | INCOMPLETE,
    };
    p.fill(0);
    page::init(p, SPECIAL);
    set_header(p, header);
    append(p, high_key)?;
    for i in 0..=keep {
        if let Some((place, item)) = new
            && place == i
        {
            append(p, item)?;
        }
        if i < keep {
            append(p, entry(&old, i))?;
        }
    }
    Ok(())
}

fn set_meta(p: &mut PageBuf, mut data: &[u8]) -> Result<(), PageFault> {
    let (root, level) = (take_u32(&mut data)?, take_u32(&mut data)?);
    p.fill(0);
    page::init(p, SPECIAL);
    let header = Header {
        left: None,
        right: None,
        level: 0,
        flags: META_PAGE,
    };
    set_header(p, header);
    let mut item = [0; 16];
    put_u32(&mut item, 0, MAGIC);
    put_u32(&mut item, 4, VERSION);
    put_u32(&mut item, 8, root);
    put_u32(&mut item, 12, level);
    append(p, &item)
}
