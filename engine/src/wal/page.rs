//! Headers of log pages.
//!
//! ```text
//! every page, 24:        magic u16 | info u16 | timeline u32 | page address u64 | remaining length u32 | 0 u32
//! a segment's first, 40: the same | system identifier u64 | segment size u32 | page size u32
//! ```
//!
//! Source: PostgreSQL 15, `access/xlog_internal.h`.

use crate::ids::{Lsn, PAGE_SIZE, SystemId, TimelineId};

pub const MAGIC: u16 = 0xD110;
pub const SHORT_HEADER: usize = 24;
pub const LONG_HEADER: usize = 40;

/// The page begins with the rest of a record that began before it.
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG: u16 = 0x0002;
/// No backup is running, so archivers may drop full-page images from here on.
pub const BKP_REMOVABLE: u16 = 0x0004;
/// The record that was to go on here never will: the page begins with a record that says so.
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageHeader {
    pub info: u16,
    pub timeline: TimelineId,
    pub address: Lsn,
    /// Bytes of the record that goes on here, from here on.
    pub remaining: u32,
    /// On a segment's first page.
    pub long: Option<LongHeader>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongHeader {
    pub system_id: SystemId,
    pub segment_size: u32,
}

/// Bytes of header on the page that starts at `page`.
pub fn header_size(page: Lsn, segment_size: u32) -> usize {
    if page.segment_offset(segment_size) == 0 {
        LONG_HEADER
    } else {
        SHORT_HEADER
    }
}

impl PageHeader {
    /// The header's bytes and how many of them count.
    pub fn encode(&self) -> ([u8; LONG_HEADER], usize) {
        let mut out = [0; LONG_HEADER];
        let info = self.info | if self.long.is_some() { LONG } else { 0 };
        out[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        out[2..4].copy_from_slice(&info.to_le_bytes());
        out[4..8].copy_from_slice(&self.timeline.raw().to_le_bytes());
        out[8..16].copy_from_slice(&self.address.raw().to_le_bytes());
        out[16..20].copy_from_slice(&self.remaining.to_le_bytes());
        let Some(long) = self.long else {
            return (out, SHORT_HEADER);
        };
        out[24..32].copy_from_slice(&long.system_id.raw().to_le_bytes());
        out[32..36].copy_from_slice(&long.segment_size.to_le_bytes());
        out[36..40].copy_from_slice(&(PAGE_SIZE as u32).to_le_bytes());
        (out, LONG_HEADER)
    }

    /// Reads and checks the header of the page that must start at `address`. `bytes` holds the page's beginning.
    /// The system identifier is checked where the caller knows it. The error is PostgreSQL's wording.
    pub fn decode(
        bytes: &[u8],
        address: Lsn,
        segment_size: u32,
        system_id: Option<SystemId>,
    ) -> Result<PageHeader, String> {
        let offset = address.segment_offset(segment_size);
        let at = |what: &str| format!("{what} in log segment at {address}, offset {offset}");
        if bytes.len() < header_size(address, segment_size) {
            return Err(at("incomplete page header"));
        }
        let magic = le16(bytes, 0);
        if magic != MAGIC {
            return Err(at(&format!("invalid magic number {magic:04X}")));
        }
        let info = le16(bytes, 2);
        if info & !ALL_FLAGS != 0 {
            return Err(at(&format!("invalid info bits {info:04X}")));
        }
        let is_long = info & LONG != 0;
        if is_long != (offset == 0) {
            return Err(at(&format!("invalid info bits {info:04X}")));
        }
        let long = if is_long {
            Some(Self::decode_long(bytes, segment_size, system_id)?)
        } else {
            None
        };
        let found = Lsn::new(le64(bytes, 8));
        if found != address {
            return Err(at(&format!("unexpected pageaddr {found}")));
        }
        Ok(PageHeader {
            info: info & !LONG,
            timeline: TimelineId::new(le32(bytes, 4)),
            address,
            remaining: le32(bytes, 16),
            long,
        })
    }

    fn decode_long(
        bytes: &[u8],
        segment_size: u32,
        system_id: Option<SystemId>,
    ) -> Result<LongHeader, String> {
        let long = LongHeader {
            system_id: SystemId::new(le64(bytes, 24)),
            segment_size: le32(bytes, 32),
        };
        if let Some(expected) = system_id
            && long.system_id != expected
        {
            return Err(format!(
                "WAL file is from different database system: WAL file database system identifier is {}, pg_control database system identifier is {expected}",
                long.system_id
            ));
        }
        if long.segment_size != segment_size {
            return Err(
                "WAL file is from different database system: incorrect segment size in page header"
                    .to_owned(),
            );
        }
        if le32(bytes, 36) as usize != PAGE_SIZE {
            return Err(
                "WAL file is from different database system: incorrect XLOG_BLCKSZ in page header"
                    .to_owned(),
            );
        }
        Ok(long)
    }

    pub fn has(&self, flag: u16) -> bool {
        self.info & flag != 0
    }
    pub fn size(&self) -> usize {
        if self.long.is_some() {
            LONG_HEADER
        } else {
            SHORT_HEADER
        }
    }
}

pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u32 = 16 << 20;

    fn header(address: u64) -> PageHeader {
        let address = Lsn::new(address);
        let first = address.segment_offset(SEGMENT) == 0;
        PageHeader {
            info: FIRST_IS_CONTRECORD,
            timeline: TimelineId::new(7),
            address,
            remaining: 99,
            long: first.then_some(LongHeader {
                system_id: SystemId::new(5),
                segment_size: SEGMENT,
            }),
        }
    }

    #[test]
    fn headers_round_trip_and_wrong_ones_are_refused() {
        for address in [0x100_0000, 0x100_2000] {
            let (bytes, size) = header(address).encode();
            let read =
                |system| PageHeader::decode(&bytes[..size], Lsn::new(address), SEGMENT, system);
            assert_eq!(read(Some(SystemId::new(5))), Ok(header(address)));
            let elsewhere = PageHeader::decode(&bytes[..size], Lsn::new(0x100_4000), SEGMENT, None);
            assert!(elsewhere.is_err(), "accepted at another address");
        }
        let (bytes, size) = header(0x100_0000).encode();
        let other = PageHeader::decode(
            &bytes[..size],
            Lsn::new(0x100_0000),
            SEGMENT,
            Some(SystemId::new(6)),
        );
        assert!(
            other
                .expect_err("another system")
                .contains("different database system")
        );
    }
}
