//! The newtypes that every layer shares: log positions, transaction ids, object ids, block addresses.
//!
//! Owns all arithmetic on them; no other module adds or masks raw integers of these kinds. Knows nothing of
//! files or pages beyond their numbering. Sources: PostgreSQL 15 manual, chapters 30.6 (WAL internals) and 73
//! (physical storage); `access/xlogdefs.h` for the wording of names.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Size of a data page and of a WAL page, bytes.
pub const PAGE_SIZE: usize = 8192;
/// Blocks in one file of a relation fork: 1 GiB.
pub const BLOCKS_PER_FILE: u32 = 131_072;

/// A position in the write-ahead log: the byte offset since the log of the cluster began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// "No position": PostgreSQL's `InvalidXLogRecPtr`.
    pub const INVALID: Lsn = Lsn(0);
    pub const MAX: Lsn = Lsn(u64::MAX);

    pub const fn new(raw: u64) -> Lsn {
        Lsn(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
    /// The position `bytes` further on. Panics on overflow: a log of 16 EiB is a bug.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Lsn {
        match self.0.checked_add(bytes) {
            Some(v) => Lsn(v),
            None => panic!("LSN overflow"),
        }
    }
    /// Bytes from `earlier` to here; `None` if `earlier` is later.
    pub const fn checked_sub(self, earlier: Lsn) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
    /// Bytes from `earlier` to here, 0 if `earlier` is later.
    pub const fn saturating_sub(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Rounded up to the record alignment of 8 bytes.
    #[must_use]
    pub const fn align8(self) -> Lsn {
        Lsn((self.0 + 7) & !7)
    }
    /// Offset within its 8 KiB WAL page.
    pub const fn page_offset(self) -> usize {
        (self.0 % PAGE_SIZE as u64) as usize
    }
    /// Start of the WAL page that holds this byte.
    #[must_use]
    pub const fn page_start(self) -> Lsn {
        Lsn(self.0 - self.0 % PAGE_SIZE as u64)
    }
    /// Offset within its segment of `segment_size` bytes.
    pub const fn segment_offset(self, segment_size: u32) -> u32 {
        (self.0 % segment_size as u64) as u32
    }
    /// The segment that holds this byte.
    pub const fn segment(self, segment_size: u32) -> SegmentNumber {
        SegmentNumber(self.0 / segment_size as u64)
    }
    /// The segment that holds the byte *before* this one: where a log that ends here was last written.
    pub const fn previous_byte_segment(self, segment_size: u32) -> SegmentNumber {
        SegmentNumber((self.0 - 1) / segment_size as u64)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}
impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not of the form `X/X` with at most eight hexadecimal digits on each side.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid input syntax for type pg_lsn: \"{0}\"")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;
    fn from_str(s: &str) -> Result<Lsn, ParseLsnError> {
        let bad = || ParseLsnError(s.to_owned());
        let half = |part: &str| {
            let ok = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if ok {
                u64::from_str_radix(part, 16).map_err(|_| bad())
            } else {
                Err(bad())
            }
        };
        let (hi, lo) = s.split_once('/').ok_or_else(bad)?;
        Ok(Lsn((half(hi)? << 32) | half(lo)?))
    }
}

/// The number of a WAL segment file within one timeline: its first byte's LSN divided by the segment size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SegmentNumber(u64);

impl SegmentNumber {
    pub const fn new(raw: u64) -> SegmentNumber {
        SegmentNumber(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub const fn start(self, segment_size: u32) -> Lsn {
        Lsn(self.0 * segment_size as u64)
    }
    #[must_use]
    pub const fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }
    /// `000000010000000000000002`: timeline, high part, number within 4 GiB.
    pub fn file_name(self, timeline: TimelineId, segment_size: u32) -> String {
        let per_id = 0x1_0000_0000_u64 / u64::from(segment_size);
        format!(
            "{:08X}{:08X}{:08X}",
            timeline.0,
            self.0 / per_id,
            self.0 % per_id
        )
    }
    /// The reverse of [`Self::file_name`]; `None` for any other name.
    pub fn parse_file_name(name: &str, segment_size: u32) -> Option<(TimelineId, SegmentNumber)> {
        let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if name.len() != 24 || !name.bytes().all(upper) {
            return None;
        }
        let part = |r: std::ops::Range<usize>| u64::from_str_radix(&name[r], 16).ok();
        let per_id = 0x1_0000_0000_u64 / u64::from(segment_size);
        let (tli, hi, lo) = (part(0..8)?, part(8..16)?, part(16..24)?);
        (lo < per_id && tli != 0).then(|| (TimelineId(tli as u32), SegmentNumber(hi * per_id + lo)))
    }
}

/// A history of the log: every promotion begins a new one. Under the operator it equals the [`Term`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimelineId(u32);

impl TimelineId {
    pub const FIRST: TimelineId = TimelineId(1);
    pub const fn new(raw: u32) -> TimelineId {
        TimelineId(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
    #[must_use]
    pub const fn next(self) -> TimelineId {
        TimelineId(self.0 + 1)
    }
    /// `None` behind the last number.
    #[must_use]
    pub const fn checked_next(self) -> Option<TimelineId> {
        match self.0.checked_add(1) {
            Some(next) => Some(TimelineId(next)),
            None => None,
        }
    }
    /// `00000002.history`
    pub fn history_file_name(self) -> String {
        format!("{:08X}.history", self.0)
    }
}
impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The operator's promotion counter; a promotion in term *t* creates timeline *t*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Term(u32);

impl Term {
    pub const fn new(raw: u32) -> Term {
        Term(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
}
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number that `initdb` draws for a cluster; every copy of the cluster carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SystemId(u64);

impl SystemId {
    pub const fn new(raw: u64) -> SystemId {
        SystemId(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
}
impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A 64-bit transaction id. It never wraps; record headers and `xid` values on the wire carry the low half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Xid(u64);

impl Xid {
    pub const INVALID: Xid = Xid(0);
    /// The transaction that `initdb` runs in: committed for everyone, always.
    pub const BOOTSTRAP: Xid = Xid(1);
    /// What vacuum writes over an `xmin` that everyone sees: committed for everyone, always.
    pub const FROZEN: Xid = Xid(2);
    /// The first id that a transaction can get.
    pub const FIRST_NORMAL: Xid = Xid(3);

    pub const fn new(raw: u64) -> Xid {
        Xid(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
    /// An id that a transaction had, so one whose outcome has to be looked up.
    pub const fn is_normal(self) -> bool {
        self.0 >= 3
    }
    /// The 32 bits that PostgreSQL's formats have room for.
    pub const fn low(self) -> u32 {
        self.0 as u32
    }
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub const fn from_halves(high: u32, low: u32) -> Xid {
        Xid(((high as u64) << 32) | low as u64)
    }
    /// The next id to hand out; skips those whose low half reads as a special id.
    #[must_use]
    pub const fn next(self) -> Xid {
        let n = self.0 + 1;
        if (n as u32) < 3 {
            Xid((n & !0xFFFF_FFFF) | 3)
        } else {
            Xid(n)
        }
    }
}
impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl fmt::Debug for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which command of its own transaction wrote a row version, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CommandId(u32);

impl CommandId {
    pub const FIRST: CommandId = CommandId(0);
    pub const MAX: CommandId = CommandId(u32::MAX);
    pub const fn new(raw: u32) -> CommandId {
        CommandId(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
    /// `None` after 2^32 - 2 commands in one transaction.
    pub const fn checked_next(self) -> Option<CommandId> {
        if self.0 >= u32::MAX - 1 {
            None
        } else {
            Some(CommandId(self.0 + 1))
        }
    }
}

/// An object id; 0 is "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oid(u32);

impl Oid {
    pub const INVALID: Oid = Oid(0);
    /// Objects that users create have ids from here up; below are those of `initdb` and of the code.
    pub const FIRST_NORMAL: Oid = Oid(16384);
    pub const fn new(raw: u32) -> Oid {
        Oid(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
}
impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of an 8 KiB page within a relation fork.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BlockNumber(u32);

impl BlockNumber {
    /// "No block": PostgreSQL's `InvalidBlockNumber`; also the limit of a fork's size (32 TiB).
    pub const INVALID: BlockNumber = BlockNumber(u32::MAX);
    pub const fn new(raw: u32) -> BlockNumber {
        BlockNumber(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
    pub const fn is_valid(self) -> bool {
        self.0 != u32::MAX
    }
    #[must_use]
    pub const fn next(self) -> BlockNumber {
        BlockNumber(self.0 + 1)
    }
    /// Which 1 GiB file of the fork holds the block.
    pub const fn file_index(self) -> u32 {
        self.0 / BLOCKS_PER_FILE
    }
    /// Byte offset of the block within that file.
    pub const fn file_offset(self) -> u64 {
        (self.0 % BLOCKS_PER_FILE) as u64 * PAGE_SIZE as u64
    }
}
impl fmt::Display for BlockNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A 1-based slot in a page's line pointer array; 1 to 2047 fit in a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OffsetNumber(std::num::NonZeroU16);

impl OffsetNumber {
    pub const FIRST: OffsetNumber = OffsetNumber(std::num::NonZeroU16::MIN);
    /// `None` for 0.
    pub const fn new(raw: u16) -> Option<OffsetNumber> {
        match std::num::NonZeroU16::new(raw) {
            Some(v) => Some(OffsetNumber(v)),
            None => None,
        }
    }
    pub const fn raw(self) -> u16 {
        self.0.get()
    }
}

/// Where a row version stands: block and line pointer. PostgreSQL's `ctid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tid {
    pub block: BlockNumber,
    pub offset: OffsetNumber,
}
impl Tid {
    pub const fn new(block: BlockNumber, offset: OffsetNumber) -> Tid {
        Tid { block, offset }
    }
}
impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.offset.raw())
    }
}

/// Which of a relation's files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fork {
    Main,
    FreeSpace,
    Visibility,
    Init,
}
impl Fork {
    pub const ALL: [Fork; 4] = [Fork::Main, Fork::FreeSpace, Fork::Visibility, Fork::Init];
    /// PostgreSQL's fork number, as WAL block references carry it.
    pub const fn number(self) -> u8 {
        match self {
            Fork::Main => 0,
            Fork::FreeSpace => 1,
            Fork::Visibility => 2,
            Fork::Init => 3,
        }
    }
    pub const fn from_number(n: u8) -> Option<Fork> {
        match n {
            0 => Some(Fork::Main),
            1 => Some(Fork::FreeSpace),
            2 => Some(Fork::Visibility),
            3 => Some(Fork::Init),
            _ => None,
        }
    }
    /// What stands behind the file number: `16384_fsm`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Fork::Main => "",
            Fork::FreeSpace => "_fsm",
            Fork::Visibility => "_vm",
            Fork::Init => "_init",
        }
    }
}

/// The tablespace of ordinary databases (`pg_default`, files in `base/`).
pub const DEFAULT_TABLESPACE: Oid = Oid(1663);
/// The tablespace of shared catalogs (`pg_global`, files in `global/`).
pub const GLOBAL_TABLESPACE: Oid = Oid(1664);

/// The physical name of a relation: tablespace, database (0 for shared), file number. 12 bytes in WAL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelFile {
    pub tablespace: Oid,
    pub database: Oid,
    pub number: Oid,
}
impl RelFile {
    pub const fn of_database(database: Oid, number: Oid) -> RelFile {
        RelFile {
            tablespace: DEFAULT_TABLESPACE,
            database,
            number,
        }
    }
    pub const fn shared(number: Oid) -> RelFile {
        RelFile {
            tablespace: GLOBAL_TABLESPACE,
            database: Oid::INVALID,
            number,
        }
    }
    /// Path of the fork's first file, relative to the data directory: `base/5/16384_fsm`.
    pub fn path(&self, fork: Fork) -> String {
        if self.tablespace == GLOBAL_TABLESPACE {
            format!("global/{}{}", self.number, fork.suffix())
        } else {
            format!("base/{}/{}{}", self.database, self.number, fork.suffix())
        }
    }
}
impl fmt::Display for RelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path(Fork::Main))
    }
}

/// The full address of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageId {
    pub file: RelFile,
    pub fork: Fork,
    pub block: BlockNumber,
}

/// The number by which `pg_stat_activity` and cancel requests know a session.
pub type ProcessId = NonZeroU32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_and_prints_as_postgresql_does() {
        let lsn: Lsn = "16/B374D848".parse().expect("valid");
        assert_eq!(lsn, Lsn::new(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        for bad in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "g/0",
            "123456789/0",
            "0/0/0",
            "+1/0",
        ] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn segment_names_round_trip() {
        let size = 16 * 1024 * 1024;
        let seg = Lsn::new(0x2_0100_0000).segment(size);
        let name = seg.file_name(TimelineId::new(3), size);
        assert_eq!(name, "000000030000000200000001");
        assert_eq!(
            SegmentNumber::parse_file_name(&name, size),
            Some((TimelineId::new(3), seg))
        );
        assert_eq!(
            SegmentNumber::parse_file_name("000000030000000200000100", size),
            None
        );
        assert_eq!(
            SegmentNumber::parse_file_name("00000003.history", size),
            None
        );
    }

    #[test]
    fn xids_skip_special_low_halves() {
        assert_eq!(Xid::new(0xFFFF_FFFF).next(), Xid::new(0x1_0000_0003));
        assert_eq!(Xid::new(3).next(), Xid::new(4));
        assert_eq!(Xid::from_halves(1, 7), Xid::new(0x1_0000_0007));
    }
}
