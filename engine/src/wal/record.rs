//! Records to be written, and their byte form.
//!
//! ```text
//! header 24:  total length u32 | xid u32 | previous record's LSN u64 | info u8 | rmgr u8 | 0 u16 | CRC32C u32
//! per block:  id u8 | fork and flags u8 | data length u16
//!             with an image:      length u16 | hole offset u16 | image info u8
//!             new relation:       tablespace u32 | database u32 | file number u32
//!             block number u32
//! main data:  255 | length u8   or   254 | length u32          (nothing where the length is 0)
//! then        per block: image without its hole, data; at last the main data
//! ```
//!
//! All numbers are little-endian. The CRC covers everything behind the header and then the header's first 20
//! bytes. Source: PostgreSQL 15, `access/xlogrecord.h`. A block that gets an image carries no data: redo
//! restores the image, which already holds the change.

use std::ops::BitOr;

use crate::ids::{Lsn, PAGE_SIZE, PageId, RelFile, Xid};

use super::rmgr::RmgrId;

pub(super) const HEADER: usize = 24;
/// Offset of the CRC, which is also how much of the header the CRC covers.
pub(super) const CRC_AT: usize = 20;
const PREV_AT: usize = 8;
/// Records are limited as in PostgreSQL, so that its tools can hold one in memory.
pub(super) const MAX_RECORD: usize = 1020 * 1024 * 1024;
pub(super) const MAX_BLOCK_ID: u8 = 32;

pub(super) const FORK_MASK: u8 = 0x0F;
pub(super) const HAS_IMAGE: u8 = 0x10;
pub(super) const HAS_DATA: u8 = 0x20;
pub(super) const WILL_INIT: u8 = 0x40;
pub(super) const SAME_REL: u8 = 0x80;
pub(super) const IMAGE_HAS_HOLE: u8 = 0x01;
pub(super) const IMAGE_APPLY: u8 = 0x02;
pub(super) const IMAGE_COMPRESSED: u8 = 0x04 | 0x08 | 0x10;
pub(super) const ID_DATA_SHORT: u8 = 255;
pub(super) const ID_DATA_LONG: u8 = 254;
pub(super) const ID_ORIGIN: u8 = 253;
pub(super) const ID_TOPLEVEL_XID: u8 = 252;

/// A record to be written. Borrowed parts are copied into the log by `insert`.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub rmgr: RmgrId,
    /// The upper four bits are the owner's; the lower four must be 0.
    pub info: u8,
    pub xid: Xid,
    pub main: &'a [u8],
    /// At most 33, in the order in which redo is to see them.
    pub blocks: &'a [BlockRef<'a>],
}

/// A block that a record changes.
#[derive(Clone, Copy)]
pub struct BlockRef<'a> {
    pub page: PageId,
    pub flags: BlockFlags,
    /// The page's LSN before this change: decides on a full-page image.
    pub lsn_before: Lsn,
    /// The page after the change, for the image if one is needed.
    pub image: &'a [u8; PAGE_SIZE],
    /// Offset and length of the unused middle; `(0, 0)` for none.
    pub hole: (u16, u16),
    pub data: &'a [u8],
}

/// How a block is to be logged. The default takes an image on the first change after a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockFlags(u8);

impl BlockFlags {
    pub const NONE: BlockFlags = BlockFlags(0);
    /// Redo starts from a zero page whatever is there; so no image is needed.
    pub const WILL_INIT: BlockFlags = BlockFlags(1);
    /// Always an image (the record's change cannot be told in data).
    pub const FORCE_IMAGE: BlockFlags = BlockFlags(2);
    /// Never an image (a torn page does no harm, as with the free space map).
    pub const NO_IMAGE: BlockFlags = BlockFlags(4);

    pub const fn contains(self, other: BlockFlags) -> bool {
        self.0 & other.0 == other.0
    }
}
impl BitOr for BlockFlags {
    type Output = BlockFlags;
    fn bitor(self, other: BlockFlags) -> BlockFlags {
        BlockFlags(self.0 | other.0)
    }
}

/// Which blocks get images: those whose page has not been imaged since `redo_point`, where pages are imaged at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ImagePolicy {
    pub redo_point: Lsn,
    pub full_pages: bool,
}

impl ImagePolicy {
    fn takes_image(self, block: &BlockRef<'_>) -> bool {
        if block.flags.contains(BlockFlags::FORCE_IMAGE) {
            return true;
        }
        !block.flags.contains(BlockFlags::WILL_INIT)
            && !block.flags.contains(BlockFlags::NO_IMAGE)
            && self.full_pages
            && block.lsn_before <= self.redo_point
    }
}

/// The bytes of one record, padded with zeroes to the record alignment. Reused from record to record.
#[derive(Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    total: usize,
    body_crc: u32,
}

impl Encoded {
    /// Lays the record out under `policy`, all but what only the reservation knows (link and CRC).
    pub fn encode(&mut self, record: &Record<'_>, policy: ImagePolicy) {
        assert!(
            record.blocks.len() <= usize::from(MAX_BLOCK_ID) + 1,
            "too many blocks in a record"
        );
        assert_eq!(
            record.info & 0x0F,
            0,
            "the low bits of info belong to the log"
        );
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        let mut last_file: Option<RelFile> = None;
        for (id, block) in record.blocks.iter().enumerate() {
            self.block_header(id as u8, block, policy.takes_image(block), last_file);
            last_file = Some(block.page.file);
        }
        match record.main.len() {
            0 => {}
            n if n <= 255 => self.bytes.extend_from_slice(&[ID_DATA_SHORT, n as u8]),
            n => {
                let n = u32::try_from(n).expect("record data is limited to 1020 MB");
                self.bytes.push(ID_DATA_LONG);
                self.bytes.extend_from_slice(&n.to_le_bytes());
            }
        }
        for block in record.blocks {
            if policy.takes_image(block) {
                let (hole, len) = hole_of(block);
                self.bytes.extend_from_slice(&block.image[..hole]);
                self.bytes.extend_from_slice(&block.image[hole + len..]);
            } else {
                self.bytes.extend_from_slice(block.data);
            }
        }
        self.bytes.extend_from_slice(record.main);
        self.total = self.bytes.len();
        assert!(
            self.total <= MAX_RECORD,
            "record of {} bytes is too long",
            self.total
        );
        self.body_crc = crc32c::crc32c(&self.bytes[HEADER..]);
        self.bytes[0..4].copy_from_slice(&(self.total as u32).to_le_bytes());
        self.bytes[4..8].copy_from_slice(&record.xid.low().to_le_bytes());
        self.bytes[16] = record.info;
        self.bytes[17] = record.rmgr.raw();
        self.bytes.resize(self.total.next_multiple_of(8), 0);
    }

    fn block_header(&mut self, id: u8, block: &BlockRef<'_>, image: bool, last: Option<RelFile>) {
        let file = block.page.file;
        let data_len = if image { 0 } else { block.data.len() };
        let data_len = u16::try_from(data_len).expect("block data is limited to 64 KiB");
        let mut flags = block.page.fork.number();
        flags |= if image { HAS_IMAGE } else { 0 };
        flags |= if data_len > 0 { HAS_DATA } else { 0 };
        flags |= if block.flags.contains(BlockFlags::WILL_INIT) {
            WILL_INIT
        } else {
            0
        };
        flags |= if last == Some(file) { SAME_REL } else { 0 };
        self.bytes.extend_from_slice(&[id, flags]);
        self.bytes.extend_from_slice(&data_len.to_le_bytes());
        if image {
            let (hole, len) = hole_of(block);
            let info = IMAGE_APPLY | if len > 0 { IMAGE_HAS_HOLE } else { 0 };
            self.bytes
                .extend_from_slice(&((PAGE_SIZE - len) as u16).to_le_bytes());
            self.bytes.extend_from_slice(&(hole as u16).to_le_bytes());
            self.bytes.push(info);
        }
        if last != Some(file) {
            for oid in [file.tablespace, file.database, file.number] {
                self.bytes.extend_from_slice(&oid.raw().to_le_bytes());
            }
        }
        self.bytes
            .extend_from_slice(&block.page.block.raw().to_le_bytes());
    }

    /// Sets the link to the record before; after this the bytes are the record's final ones.
    pub fn seal(&mut self, prev: Lsn) {
        self.bytes[PREV_AT..PREV_AT + 8].copy_from_slice(&prev.raw().to_le_bytes());
        let crc = crc32c::crc32c_append(self.body_crc, &self.bytes[..CRC_AT]);
        self.bytes[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
    }

    /// Without the padding.
    pub fn total(&self) -> usize {
        self.total
    }
    /// With the padding: a multiple of 8 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Keeps no more memory than ordinary records need.
    pub fn shrink(&mut self) {
        const KEEP: usize = 256 * 1024;
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}

/// Would this record, laid out under `old`, need other images under `new`?
pub(super) fn needs_other_images(record: &Record<'_>, old: ImagePolicy, new: ImagePolicy) -> bool {
    old != new
        && record
            .blocks
            .iter()
            .any(|b| !old.takes_image(b) && new.takes_image(b))
}

/// The hole, or none where the caller's values make no sense as one.
fn hole_of(block: &BlockRef<'_>) -> (usize, usize) {
    let (offset, len) = (usize::from(block.hole.0), usize::from(block.hole.1));
    if offset == 0 || len == 0 || offset + len > PAGE_SIZE {
        (0, 0)
    } else {
        (offset, len)
    }
}
