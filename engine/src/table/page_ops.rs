//! The page functions of heap records: what each record does to a block, on the forward path and in redo.
//!
//! Owns the layouts of block data. All integers little-endian; a *row* is `xmin u64, cmin u32` (once) and
//! `flags u16, natts u16, bytes behind the header`; a *mark* is what happens to a version that is deleted,
//! replaced or locked.
//!
//! ```text
//! INSERT          block 0: offset u16 | xmin u64 | cmin u32 | flags u16 | natts u16 | rest
//! DELETE, LOCK    block 0: mark
//! UPDATE          block 0: as INSERT (the new version)          block 1: mark (the old one)
//! UPDATE_IN_PAGE  block 0: old u16 | new u16 | xid u64 | cid u32 | old bits u16 | new flags u16 | natts u16
//!                          | prefix u16 | suffix u16 | block u32 | middle: the new version's rest is the old one's first
//!                          `prefix` bytes, the middle, the old one's last `suffix` bytes
//! INSERT_MANY     block 0: xmin u64 | cmin u32 | then each: offset u16 | flags u16 | natts u16 | len u16 | rest
//! PRUNE           block 0: hint u32 | redirects u16 | dead u16 | unused u16 | pairs (from u16, to u16) | offsets
//!                 main: newest removed commit LSN u64
//! FREEZE          block 0: xmin count u16 | xmax count u16 | offsets          main: as PRUNE
//! RECLAIM         block 0: offsets of dead line pointers that become unused
//! OVERWRITE       block 0: offset u16 | place in the row version u16 | bytes that take the place of as many others
//! mark:           offset u16 | xmax u64 | cmax u32 | bits u16 | next block u32 | next offset u16 (0: none)
//! ```
//!
//! Each function checks what it is given; a fault leaves the page in an unknown state, so the caller must not
//! write it.

use smallvec::SmallVec;

use crate::ids::{BlockNumber, CommandId, Lsn, OffsetNumber, Tid, Xid};
use crate::storage::page::{self, ItemState};
use crate::storage::{PageBuf, PageFault, PageFn};
use crate::table::tuple::{HEADER_SIZE, LOCK_ONLY, TupleHeader, XMAX_BITS};

pub const INSERT: u8 = 0x00;
pub const DELETE: u8 = 0x10;
pub const UPDATE_IN_PAGE: u8 = 0x20;
pub const UPDATE: u8 = 0x30;
pub const LOCK: u8 = 0x40;
pub const INSERT_MANY: u8 = 0x50;
pub const PRUNE: u8 = 0x60;
pub const FREEZE: u8 = 0x70;
pub const RECLAIM: u8 = 0x80;
pub const OVERWRITE: u8 = 0x90;

/// Every kind of record that changes heap pages.
pub const WRITTEN: &[(u8, &str)] = &[
    (INSERT, "INSERT"),
    (DELETE, "DELETE"),
    (UPDATE_IN_PAGE, "UPDATE_IN_PAGE"),
    (UPDATE, "UPDATE"),
    (LOCK, "LOCK"),
    (INSERT_MANY, "INSERT_MANY"),
    (PRUNE, "PRUNE"),
    (FREEZE, "FREEZE"),
    (RECLAIM, "RECLAIM"),
    (OVERWRITE, "OVERWRITE"),
];

/// The page function of heap records, for redo.
pub fn page_fn() -> PageFn {
    apply
}

/// What standby queries must not need any more when the record is replayed: snapshots older than this conflict.
pub fn conflict_lsn(info: u8, main: &[u8]) -> Option<Lsn> {
    match info & 0xF0 {
        PRUNE | FREEZE => {
            let raw = u64::from_le_bytes(*main.first_chunk()?);
            (raw != 0).then(|| Lsn::new(raw))
        }
        _ => None,
    }
}

/// Applies one block's part of a heap record.
pub fn apply(info: u8, block: u8, page: &mut PageBuf, data: &[u8]) -> Result<(), PageFault> {
    let mut data = Reader(data);
    match (info & 0xF0, block) {
        (INSERT, 0) | (UPDATE, 0) => insert(page, &mut data),
        (DELETE | LOCK, 0) | (UPDATE, 1) => mark(page, &mut data),
        (UPDATE_IN_PAGE, 0) => update_in_page(page, &mut data),
        (INSERT_MANY, 0) => insert_many(page, &mut data),
        (PRUNE, 0) => prune(page, &mut data),
        (FREEZE, 0) => freeze(page, &mut data),
        (RECLAIM, 0) => reclaim(page, &mut data),
        (OVERWRITE, 0) => overwrite(page, &mut data),
        _ => Err(PageFault::new("unknown heap record")),
    }
}

/// Takes integers off the front of block data.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], PageFault> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(PageFault::new("block data is cut short"))?;
        self.0 = rest;
        Ok(*head)
    }
    fn u16(&mut self) -> Result<u16, PageFault> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }
    fn u32(&mut self) -> Result<u32, PageFault> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }
    fn u64(&mut self) -> Result<u64, PageFault> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }
    fn offset(&mut self) -> Result<OffsetNumber, PageFault> {
        OffsetNumber::new(self.u16()?).ok_or(PageFault::new("offset 0 in block data"))
    }
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], PageFault> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or(PageFault::new("block data is cut short"))?;
        self.0 = rest;
        Ok(head)
    }
}

/// Block data in the making.
pub type Data = SmallVec<[u8; 128]>;

fn put16(out: &mut Data, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The data of INSERT (and of UPDATE's block 0) up to the row's bytes, which the caller adds from behind the
/// header of the encoded version.
pub fn insert_head(offset: OffsetNumber, tuple: &[u8]) -> Data {
    let header = TupleHeader::read(tuple).expect("encoded here");
    let mut out = Data::new();
    put16(&mut out, offset.raw());
    out.extend_from_slice(&header.xmin.raw().to_le_bytes());
    out.extend_from_slice(&header.cmin.raw().to_le_bytes());
    put16(&mut out, header.flags);
    put16(&mut out, header.natts);
    out
}

fn put_row(
    page: &mut PageBuf,
    offset: OffsetNumber,
    header: TupleHeader,
    rest: &[u8],
) -> Result<(), PageFault> {
    let item = page::reserve_item_at(page, offset, HEADER_SIZE + rest.len())?;
    header.write(item);
    item[HEADER_SIZE..].copy_from_slice(rest);
    Ok(())
}

fn insert(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    if page::is_new(page) {
        page::init(page, 0);
    }
    let offset = data.offset()?;
    let (xmin, cmin) = (Xid::new(data.u64()?), CommandId::new(data.u32()?));
    let (flags, natts) = (data.u16()?, data.u16()?);
    put_row(
        page,
        offset,
        TupleHeader::new(xmin, cmin, flags, natts),
        data.0,
    )
}

/// Begins the data of INSERT_MANY; rows follow with [`insert_many_row`].
pub fn insert_many_data(xmin: Xid, cmin: CommandId) -> Data {
    let mut out = Data::new();
    out.extend_from_slice(&xmin.raw().to_le_bytes());
    out.extend_from_slice(&cmin.raw().to_le_bytes());
    out
}
pub fn insert_many_row(out: &mut Data, offset: OffsetNumber, tuple: &[u8]) {
    let header = TupleHeader::read(tuple).expect("encoded here");
    put16(out, offset.raw());
    put16(out, header.flags);
    put16(out, header.natts);
    put16(out, (tuple.len() - HEADER_SIZE) as u16);
    out.extend_from_slice(&tuple[HEADER_SIZE..]);
}

fn insert_many(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    if page::is_new(page) {
        page::init(page, 0);
    }
    let (xmin, cmin) = (Xid::new(data.u64()?), CommandId::new(data.u32()?));
    while !data.0.is_empty() {
        let offset = data.offset()?;
        let (flags, natts) = (data.u16()?, data.u16()?);
        let len = usize::from(data.u16()?);
        let rest = data.bytes(len)?;
        put_row(
            page,
            offset,
            TupleHeader::new(xmin, cmin, flags, natts),
            rest,
        )?;
    }
    Ok(())
}

/// What happens to a version that is deleted, replaced or locked.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub offset: OffsetNumber,
    pub xmax: Xid,
    pub cmax: CommandId,
    /// Some of [`XMAX_BITS`].
    pub bits: u16,
    pub next: Option<Tid>,
}

impl Mark {
    pub fn data(&self) -> Data {
        let mut out = Data::new();
        put16(&mut out, self.offset.raw());
        out.extend_from_slice(&self.xmax.raw().to_le_bytes());
        out.extend_from_slice(&self.cmax.raw().to_le_bytes());
        put16(&mut out, self.bits);
        let (block, offset) = self
            .next
            .map_or((0, 0), |t| (t.block.raw(), t.offset.raw()));
        out.extend_from_slice(&block.to_le_bytes());
        put16(&mut out, offset);
        out
    }
}

fn header_of(page: &PageBuf, offset: OffsetNumber) -> Result<TupleHeader, PageFault> {
    page::item(page, offset)
        .and_then(TupleHeader::read)
        .ok_or(PageFault::at(
            "no row version under the line pointer",
            offset.raw(),
        ))
}

fn write_header(
    page: &mut PageBuf,
    offset: OffsetNumber,
    header: &TupleHeader,
) -> Result<(), PageFault> {
    let item = page::item_mut(page, offset).ok_or(PageFault::at(
        "no row version under the line pointer",
        offset.raw(),
    ))?;
    header.write(item);
    Ok(())
}

fn set_xmax(
    page: &mut PageBuf,
    offset: OffsetNumber,
    xmax: Xid,
    cmax: CommandId,
    bits: u16,
    next: Option<Tid>,
) -> Result<(), PageFault> {
    let mut header = header_of(page, offset)?;
    header.xmax = xmax;
    header.cmax = cmax;
    header.flags = (header.flags & !XMAX_BITS) | (bits & XMAX_BITS);
    header.set_next(next);
    write_header(page, offset, &header)?;
    if bits & LOCK_ONLY == 0 && page::prune_hint(page) == 0 {
        page::set_prune_hint(page, xmax.low());
    }
    Ok(())
}

fn mark(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    let offset = data.offset()?;
    let (xmax, cmax) = (Xid::new(data.u64()?), CommandId::new(data.u32()?));
    let bits = data.u16()?;
    let (block, next) = (data.u32()?, data.u16()?);
    let next = OffsetNumber::new(next).map(|o| Tid::new(BlockNumber::new(block), o));
    set_xmax(page, offset, xmax, cmax, bits, next)
}

/// An update that stays on its page.
#[derive(Clone, Copy, Debug)]
pub struct InPage<'a> {
    pub block: BlockNumber,
    pub old: OffsetNumber,
    pub new: OffsetNumber,
    pub old_bits: u16,
    /// The new version, encoded whole.
    pub tuple: &'a [u8],
}

impl InPage<'_> {
    /// Only what differs from the old version is logged.
    pub fn data(&self, old_tuple: &[u8]) -> Data {
        let header = TupleHeader::read(self.tuple).expect("encoded here");
        let (old, new) = (&old_tuple[HEADER_SIZE..], &self.tuple[HEADER_SIZE..]);
        let prefix = common_prefix(old, new);
        let suffix = common_suffix(&old[prefix..], &new[prefix..]);
        let mut out = Data::new();
        put16(&mut out, self.old.raw());
        put16(&mut out, self.new.raw());
        out.extend_from_slice(&header.xmin.raw().to_le_bytes());
        out.extend_from_slice(&header.cmin.raw().to_le_bytes());
        put16(&mut out, self.old_bits);
        put16(&mut out, header.flags);
        put16(&mut out, header.natts);
        put16(&mut out, prefix as u16);
        put16(&mut out, suffix as u16);
        // Redo has only the block's own number of the next pointer to know: the page is the same.
        out.extend_from_slice(&self.block.raw().to_le_bytes());
        out.extend_from_slice(&new[prefix..new.len() - suffix]);
        out
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let whole = a
        .chunks_exact(8)
        .zip(b.chunks_exact(8))
        .take_while(|(x, y)| x == y)
        .count()
        * 8;
    whole
        + a[whole..]
            .iter()
            .zip(&b[whole..])
            .take_while(|(x, y)| x == y)
            .count()
}
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let whole = a
        .rchunks_exact(8)
        .zip(b.rchunks_exact(8))
        .take_while(|(x, y)| x == y)
        .count()
        * 8;
    let (a, b) = (&a[..a.len() - whole], &b[..b.len() - whole]);
    whole
        + a.iter()
            .rev()
            .zip(b.iter().rev())
            .take_while(|(x, y)| x == y)
            .count()
}

fn update_in_page(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    let (old, new) = (data.offset()?, data.offset()?);
    let (xid, cid) = (Xid::new(data.u64()?), CommandId::new(data.u32()?));
    let (old_bits, flags, natts) = (data.u16()?, data.u16()?, data.u16()?);
    let (prefix, suffix) = (usize::from(data.u16()?), usize::from(data.u16()?));
    let block = BlockNumber::new(data.u32()?);
    let middle = data.0;
    let short = PageFault::at(
        "old row version is shorter than what is kept of it",
        old.raw(),
    );
    let ItemState::Normal { offset: at, len } = page::item_state(page, old) else {
        return Err(PageFault::at(
            "no row version under the line pointer",
            old.raw(),
        ));
    };
    let rest_len = usize::from(len).checked_sub(HEADER_SIZE).ok_or(short)?;
    if prefix + suffix > rest_len {
        return Err(short);
    }
    let old_rest = usize::from(at) + HEADER_SIZE;
    let new_len = HEADER_SIZE + prefix + middle.len() + suffix;
    page::reserve_item_at(page, new, new_len)?;
    let ItemState::Normal { offset: new_at, .. } = page::item_state(page, new) else {
        return Err(PageFault::at(
            "no row version under the line pointer",
            new.raw(),
        ));
    };
    // Both lie on this page, so the kept parts are copied within it.
    let new_rest = usize::from(new_at) + HEADER_SIZE;
    page.copy_within(old_rest..old_rest + prefix, new_rest);
    page[new_rest + prefix..new_rest + prefix + middle.len()].copy_from_slice(middle);
    page.copy_within(
        old_rest + rest_len - suffix..old_rest + rest_len,
        new_rest + prefix + middle.len(),
    );
    write_header(page, new, &TupleHeader::new(xid, cid, flags, natts))?;
    set_xmax(page, old, xid, cid, old_bits, Some(Tid::new(block, new)))
}

/// What pruning does to a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Line pointers that lead on to another one, and where.
    pub redirects: Vec<(OffsetNumber, OffsetNumber)>,
    /// Line pointers that indexes may still point to.
    pub dead: Vec<OffsetNumber>,
    pub unused: Vec<OffsetNumber>,
    /// The page's new prune hint.
    pub hint: u32,
}

impl Prune {
    pub fn is_empty(&self) -> bool {
        self.redirects.is_empty() && self.dead.is_empty() && self.unused.is_empty()
    }
    pub fn data(&self) -> Data {
        let mut out = Data::new();
        out.extend_from_slice(&self.hint.to_le_bytes());
        put16(&mut out, self.redirects.len() as u16);
        put16(&mut out, self.dead.len() as u16);
        put16(&mut out, self.unused.len() as u16);
        for (from, to) in &self.redirects {
            put16(&mut out, from.raw());
            put16(&mut out, to.raw());
        }
        for offset in self.dead.iter().chain(&self.unused) {
            put16(&mut out, offset.raw());
        }
        out
    }
}

fn prune(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    let hint = data.u32()?;
    let (redirects, dead, unused) = (data.u16()?, data.u16()?, data.u16()?);
    for _ in 0..redirects {
        let (from, to) = (data.offset()?, data.offset()?);
        page::set_redirect(page, from, to)?;
    }
    for _ in 0..dead {
        page::set_dead(page, data.offset()?)?;
    }
    for _ in 0..unused {
        page::set_unused(page, data.offset()?)?;
    }
    page::set_prune_hint(page, hint);
    page::compact(page)
}

/// The data of FREEZE: versions whose `xmin` everyone sees, and versions whose `xmax` means nothing any more.
pub fn freeze_data(xmin: &[OffsetNumber], xmax: &[OffsetNumber]) -> Data {
    let mut out = Data::new();
    put16(&mut out, xmin.len() as u16);
    put16(&mut out, xmax.len() as u16);
    for offset in xmin.iter().chain(xmax) {
        put16(&mut out, offset.raw());
    }
    out
}

fn freeze(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    let (xmin, xmax) = (data.u16()?, data.u16()?);
    for _ in 0..xmin {
        let offset = data.offset()?;
        let mut header = header_of(page, offset)?;
        header.xmin = Xid::FROZEN;
        header.cmin = CommandId::FIRST;
        write_header(page, offset, &header)?;
    }
    for _ in 0..xmax {
        let offset = data.offset()?;
        let mut header = header_of(page, offset)?;
        header.xmax = Xid::INVALID;
        header.cmax = CommandId::FIRST;
        header.flags &= !XMAX_BITS;
        header.set_next(None);
        write_header(page, offset, &header)?;
    }
    Ok(())
}

pub fn reclaim_data(offsets: &[OffsetNumber]) -> Data {
    let mut out = Data::new();
    for offset in offsets {
        put16(&mut out, offset.raw());
    }
    out
}

fn reclaim(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    while !data.0.is_empty() {
        let offset = data.offset()?;
        if page::item_state(page, offset) != ItemState::Dead {
            return Err(PageFault::at(
                "line pointer to reclaim is not dead",
                offset.raw(),
            ));
        }
        page::set_unused(page, offset)?;
    }
    page::compact(page)
}

/// The data of OVERWRITE: `bytes` stand at `at` of the row version, header included, from then on.
pub fn overwrite_data(offset: OffsetNumber, at: usize, bytes: &[u8]) -> Data {
    let mut out = Data::new();
    put16(&mut out, offset.raw());
    put16(&mut out, at as u16);
    out.extend_from_slice(bytes);
    out
}

fn overwrite(page: &mut PageBuf, data: &mut Reader<'_>) -> Result<(), PageFault> {
    let (offset, at) = (data.offset()?, usize::from(data.u16()?));
    let bytes = data.0;
    let item = page::item_mut(page, offset).ok_or(PageFault::at(
        "no row version under the line pointer",
        offset.raw(),
    ))?;
    let inside = at >= HEADER_SIZE && at + bytes.len() <= item.len();
    if !inside {
        return Err(PageFault::at(
            "bytes to overwrite are not all in the row version",
            offset.raw(),
        ));
    }
    item[at..at + bytes.len()].copy_from_slice(bytes);
    Ok(())
}
