//! Taking a whole record apart.
//!
//! Trusts nothing: every length is checked before it is used. The CRC has been checked before, so a fault here
//! means a writer's bug or an unknown format, never a torn write.

use smallvec::SmallVec;

use crate::ids::{BlockNumber, Fork, Lsn, Oid, PAGE_SIZE, PageId, RelFile};

use super::page::{le16, le32, le64};
use super::record::{
    CRC_AT, FORK_MASK, HAS_DATA, HAS_IMAGE, HEADER, ID_DATA_LONG, ID_DATA_SHORT, ID_ORIGIN,
    ID_TOPLEVEL_XID, IMAGE_APPLY, IMAGE_COMPRESSED, IMAGE_HAS_HOLE, MAX_BLOCK_ID, SAME_REL,
    WILL_INIT,
};
use super::rmgr::RmgrId;

/// A record as it was found in the log.
#[derive(Debug)]
pub struct Decoded<'a> {
    pub start: Lsn,
    pub end: Lsn,
    /// Start of the record before.
    pub prev: Lsn,
    /// Start of the record that was given up before this one, if the reader came upon it.
    pub overwrites: Option<Lsn>,
    pub rmgr: RmgrId,
    pub info: u8,
    pub xid_low: u32,
    pub main: &'a [u8],
    pub blocks: SmallVec<[DecodedBlock<'a>; 4]>,
}

/// A block that the record changes.
#[derive(Debug)]
pub struct DecodedBlock<'a> {
    /// The number by which the writer registered it.
    pub id: u8,
    pub page: PageId,
    pub will_init: bool,
    pub image: Option<PageImage<'a>>,
    /// The image holds the change and is all that redo needs.
    pub apply_image: bool,
    pub data: &'a [u8],
}

/// A page without its hole.
#[derive(Debug, Clone, Copy)]
pub struct PageImage<'a> {
    bytes: &'a [u8],
    hole: usize,
}

impl PageImage<'_> {
    /// Makes `page` the imaged page; its LSN and checksum are those of before the change.
    pub fn restore(&self, page: &mut [u8; PAGE_SIZE]) {
        let hole_len = PAGE_SIZE - self.bytes.len();
        page[..self.hole].copy_from_slice(&self.bytes[..self.hole]);
        page[self.hole..self.hole + hole_len].fill(0);
        page[self.hole + hole_len..].copy_from_slice(&self.bytes[self.hole..]);
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault(pub String);

fn fault<T>(what: impl Into<String>) -> Result<T, RecordFault> {
    Err(RecordFault(what.into()))
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub total: u32,
    pub xid_low: u32,
    pub prev: Lsn,
    pub info: u8,
    pub rmgr: u8,
    pub crc: u32,
}

impl Header {
    /// `bytes` holds at least the 24 bytes of the header.
    pub fn read(bytes: &[u8]) -> Header {
        Header {
            total: le32(bytes, 0),
            xid_low: le32(bytes, 4),
            prev: Lsn::new(le64(bytes, 8)),
            info: bytes[16],
            rmgr: bytes[17],
            crc: le32(bytes, CRC_AT),
        }
    }
}

/// The CRC that the record's bytes ought to carry.
pub(super) fn crc_of(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[HEADER..]), &record[..CRC_AT])
}

impl<'a> Decoded<'a> {
    /// Takes a record apart that a reader has not seen: its header is believed as if its CRC had been right.
    pub fn of_bytes(bytes: &'a [u8]) -> Result<Decoded<'a>, RecordFault> {
        if bytes.len() < HEADER {
            return fault("record with invalid length");
        }
        decode(bytes, Lsn::INVALID, Lsn::INVALID)
    }
}

/// A cursor over the headers of a record's parts.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], RecordFault> {
        let Some(part) = self.bytes.get(self.at..self.at + n) else {
            return fault("record is shorter than its parts");
        };
        self.at += n;
        Ok(part)
    }
    fn byte(&mut self) -> Result<u8, RecordFault> {
        Ok(self.take(1)?[0])
    }
    fn u16(&mut self) -> Result<u16, RecordFault> {
        Ok(le16(self.take(2)?, 0))
    }
    fn u32(&mut self) -> Result<u32, RecordFault> {
        Ok(le32(self.take(4)?, 0))
    }
}

struct BlockHeader {
    id: u8,
    page: PageId,
    flags: u8,
    data_len: usize,
    image: Option<ImageHeader>,
}

#[derive(Clone, Copy)]
struct ImageHeader {
    len: usize,
    hole: usize,
    apply: bool,
}

/// Takes the record apart. `bytes` is the whole record without padding.
pub(super) fn decode(bytes: &[u8], start: Lsn, end: Lsn) -> Result<Decoded<'_>, RecordFault> {
    let header = Header::read(bytes);
    let Some(rmgr) = RmgrId::from_raw(header.rmgr) else {
        return fault(format!("invalid resource manager ID {}", header.rmgr));
    };
    let mut cursor = Cursor { bytes, at: HEADER };
    let mut headers: SmallVec<[BlockHeader; 4]> = SmallVec::new();
    let mut main_len = 0;
    let mut promised = 0;
    while bytes.len() - cursor.at > promised {
        match cursor.byte()? {
            ID_DATA_SHORT => {
                main_len = usize::from(cursor.byte()?);
                promised += main_len;
                break;
            }
            ID_DATA_LONG => {
                main_len = cursor.u32()? as usize;
                promised += main_len;
                break;
            }
            ID_ORIGIN => {
                cursor.u16()?;
            }
            ID_TOPLEVEL_XID => {
                cursor.u32()?;
            }
            id if id <= MAX_BLOCK_ID => {
                if headers.last().is_some_and(|last| id <= last.id) {
                    return fault(format!("out-of-order block_id {id}"));
                }
                let last = headers.last().map(|h| h.page.file);
                let block = block_header(&mut cursor, id, last)?;
                promised += block.data_len + block.image.map_or(0, |i| i.len);
                headers.push(block);
            }
            id => return fault(format!("invalid block_id {id}")),
        }
    }
    if bytes.len() - cursor.at != promised {
        return fault("record with invalid length");
    }
    let mut blocks = SmallVec::with_capacity(headers.len());
    for header in &headers {
        blocks.push(block(header, &mut cursor)?);
    }
    let main = cursor.take(main_len)?;
    let Header {
        prev,
        info,
        xid_low,
        ..
    } = header;
    Ok(Decoded {
        start,
        end,
        prev,
        overwrites: None,
        rmgr,
        info: info & 0xF0,
        xid_low,
        main,
        blocks,
    })
}

fn block<'a>(
    header: &BlockHeader,
    cursor: &mut Cursor<'a>,
) -> Result<DecodedBlock<'a>, RecordFault> {
    let image = match header.image {
        Some(image) => Some(PageImage {
            bytes: cursor.take(image.len)?,
            hole: image.hole,
        }),
        None => None,
    };
    Ok(DecodedBlock {
        id: header.id,
        page: header.page,
        will_init: header.flags & WILL_INIT != 0,
        image,
        apply_image: header.image.is_some_and(|i| i.apply),
        data: cursor.take(header.data_len)?,
    })
}

fn block_header(
    cursor: &mut Cursor<'_>,
    id: u8,
    last: Option<RelFile>,
) -> Result<BlockHeader, RecordFault> {
    let flags = cursor.byte()?;
    let data_len = usize::from(cursor.u16()?);
    if (flags & HAS_DATA != 0) != (data_len > 0) {
        return fault("block data flag and length disagree");
    }
    let image = if flags & HAS_IMAGE != 0 {
        Some(image_header(cursor)?)
    } else {
        None
    };
    let file = if flags & SAME_REL != 0 {
        match last {
            Some(file) => file,
            None => return fault("BKPBLOCK_SAME_REL set but no previous rel"),
        }
    } else {
        let mut oid = || cursor.u32().map(Oid::new);
        RelFile {
            tablespace: oid()?,
            database: oid()?,
            number: oid()?,
        }
    };
    let Some(fork) = Fork::from_number(flags & FORK_MASK) else {
        return fault(format!("invalid fork number {}", flags & FORK_MASK));
    };
    let block = BlockNumber::new(cursor.u32()?);
    Ok(BlockHeader {
        id,
        page: PageId { file, fork, block },
        flags,
        data_len,
        image,
    })
}

fn image_header(cursor: &mut Cursor<'_>) -> Result<ImageHeader, RecordFault> {
    let len = usize::from(cursor.u16()?);
    let hole = usize::from(cursor.u16()?);
    let info = cursor.byte()?;
    if info & IMAGE_COMPRESSED != 0 {
        return fault("compressed page images are not written here");
    }
    let has_hole = info & IMAGE_HAS_HOLE != 0;
    let right = if has_hole {
        hole > 0 && len < PAGE_SIZE && hole <= len
    } else {
        hole == 0 && len == PAGE_SIZE
    };
    if !right {
        return fault(format!("page image of {len} bytes with hole at {hole}"));
    }
    Ok(ImageHeader {
        len,
        hole,
        apply: info & IMAGE_APPLY != 0,
    })
}
