//! Reading records one after the other.
//!
//! A record is accepted only with the right link to the one before, a known resource manager, a length that its
//! parts add up to and a right CRC. Whatever stops that is the end of the log, unless something durable proves
//! that the log went on: a later segment that begins right (a segment is durable before the next one is begun),
//! or a position that the caller knows from elsewhere. `WouldBlock` leaves the reader where it was.

use crate::ids::{Lsn, PAGE_SIZE, SystemId, TimelineId};

use super::decode::{self, Decoded, Header, RecordFault};
use super::error::{ReadError, WalError};
use super::page::{self, PageHeader};
use super::record::{HEADER, MAX_RECORD};
use super::rmgr::RmgrId;
use super::source::{PageBytes, PageRequest, WalBytes};
use super::timeline::History;
use super::xlog_records;

/// A record of which only the first pages are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedRecord {
    pub start: Lsn,
    /// The page where it should go on; writing resumes there with a record that says so.
    pub missing: Lsn,
}

pub struct WalReader<S> {
    source: S,
    segment_size: u32,
    system_id: Option<SystemId>,
    history: Option<History>,
    page: Box<[u8; PAGE_SIZE]>,
    header: Option<PageHeader>,
    have: usize,
    next: Lsn,
    /// Start of the last record; `None` after a jump.
    last: Option<Lsn>,
    record: Vec<u8>,
    proof: Lsn,
    newest_timeline: (Lsn, TimelineId),
    aborted: Option<AbortedRecord>,
    overwritten: Option<Lsn>,
}

/// Why there is no record here.
enum Stop {
    Bad { page: Lsn, reason: String },
    NotYet(Lsn),
    Failed(WalError),
}

impl From<WalError> for Stop {
    fn from(error: WalError) -> Stop {
        Stop::Failed(error)
    }
}

/// A whole record: in the page buffer at an offset, or put together in `record`.
struct Found {
    start: Lsn,
    end: Lsn,
    in_page: Option<usize>,
    total: usize,
}

impl<S: WalBytes> WalReader<S> {
    /// Reads from the record that starts at `start`.
    pub fn new(source: S, segment_size: u32, start: Lsn) -> WalReader<S> {
        WalReader {
            source,
            segment_size,
            system_id: None,
            history: None,
            page: Box::new([0; PAGE_SIZE]),
            header: None,
            have: 0,
            next: start,
            last: None,
            record: Vec::new(),
            proof: Lsn::INVALID,
            newest_timeline: (Lsn::INVALID, TimelineId::FIRST),
            aborted: None,
            overwritten: None,
        }
    }
    /// Segments of another cluster are refused.
    #[must_use]
    pub fn with_system_id(mut self, id: SystemId) -> Self {
        self.system_id = Some(id);
        self
    }
    /// Pages must be of a timeline in this history. It may be set anew when a later timeline is followed.
    pub fn set_history(&mut self, history: History) {
        self.history = Some(history);
    }
    /// Something durable says that the log reaches at least to here: a bad record below is damage.
    pub fn set_proof(&mut self, lsn: Lsn) {
        self.proof = self.proof.max(lsn);
    }
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }
    /// Where the next record is looked for.
    pub fn position(&self) -> Lsn {
        self.next
    }
    /// Start of the last record returned.
    pub fn last_record(&self) -> Option<Lsn> {
        self.last
    }
    /// Goes to another record.
    pub fn seek(&mut self, start: Lsn) {
        self.next = start;
        self.last = None;
        self.forget_page();
        self.newest_timeline = (Lsn::INVALID, TimelineId::FIRST);
    }
    /// Reads on at the same place, but asks the source anew for what was read ahead.
    pub fn forget_page(&mut self) {
        self.header = None;
        self.have = 0;
    }
    /// After [`ReadError::EndOfLog`]: the record that was cut off behind its first page, if that is why.
    pub fn aborted(&self) -> Option<AbortedRecord> {
        self.aborted
    }

    /// The next record. `EndOfLog`, `WouldBlock` and `Io` leave the reader where it is, so it may be asked again
    /// when the source has more. A record whose CRC is right but whose parts make no sense is always damage.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Decoded<'_>, ReadError> {
        self.aborted = None;
        self.overwritten = None;
        let found = match self.find() {
            Ok(found) => found,
            Err(stop) => return Err(self.judge(stop)),
        };
        self.last = Some(found.start);
        self.next = found.end;
        let header = Header::read(self.bytes(&found));
        if header.rmgr == RmgrId::XLOG.raw() && header.info & 0xF0 == xlog_records::SWITCH {
            let segment = found.end.previous_byte_segment(self.segment_size);
            self.next = segment.next().start(self.segment_size);
        }
        let decoded = decode::decode(self.bytes(&found), found.start, self.next);
        let overwrites = self.overwritten;
        decoded
            .map(|d| Decoded { overwrites, ..d })
            .map_err(|RecordFault(reason)| ReadError::Damaged {
                lsn: found.start,
                reason: format!("{reason} at {}", found.start),
            })
    }

    fn bytes(&self, found: &Found) -> &[u8] {
        match found.in_page {
            Some(offset) => &self.page[offset..offset + found.total],
            None => &self.record[..found.total],
        }
    }

    fn judge(&mut self, stop: Stop) -> ReadError {
        let lsn = self.next;
        match stop {
            Stop::NotYet(at) => ReadError::WouldBlock(at),
            Stop::Failed(error) => ReadError::Io(error),
            Stop::Bad { page, reason } => {
                let went_on = lsn < self.proof
                    || match self.source.goes_on_after(page.segment(self.segment_size)) {
                        Ok(went_on) => went_on,
                        Err(error) => return ReadError::Io(error),
                    };
                if went_on {
                    ReadError::Damaged { lsn, reason }
                } else {
                    ReadError::EndOfLog { lsn, reason }
                }
            }
        }
    }

    fn find(&mut self) -> Result<Found, Stop> {
        let mut start = self.next;
        loop {
            let page = start.page_start();
            let header = self.load(page, start.page_offset() + 8, start)?;
            if start.page_offset() == 0 {
                start = start.advance(header.size() as u64);
            }
            let bad = |reason: String| Err(Stop::Bad { page, reason });
            let offset = start.page_offset();
            if offset < header.size() {
                return bad(format!("invalid record offset at {start}"));
            }
            if header.has(page::FIRST_IS_CONTRECORD) && offset == header.size() {
                return bad(format!("contrecord is requested by {start}"));
            }
            let in_page = PAGE_SIZE - offset;
            self.load(page, offset + HEADER.min(in_page), start)?;
            let total = page::le32(&self.page[..], offset) as usize;
            if in_page >= HEADER {
                self.check_header(&Header::read(&self.page[offset..]), start, page)?;
            } else if !(HEADER..=MAX_RECORD).contains(&total) {
                return bad(format!(
                    "invalid record length at {start}: wanted {HEADER}, got {total}"
                ));
            }
            if total <= in_page {
                self.load(page, offset + total, start)?;
                self.check_crc(&self.page[offset..offset + total], start, page)?;
                let end = start.advance(total as u64).align8();
                return Ok(Found {
                    start,
                    end,
                    in_page: Some(offset),
                    total,
                });
            }
            match self.assemble(start, offset, total) {
                Ok(Some(found)) => return Ok(found),
                // The page says that the record was given up: the log goes on with what the page begins with.
                Ok(None) => {
                    self.overwritten = Some(start);
                    start = self.header.as_ref().map_or(start, |h| h.address);
                }
                Err(Stop::Bad { page, reason }) => {
                    self.aborted = Some(AbortedRecord {
                        start,
                        missing: page,
                    });
                    return Err(Stop::Bad { page, reason });
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Puts a record that crosses pages together. `None` where the next page says that it was given up.
    fn assemble(&mut self, start: Lsn, offset: usize, total: usize) -> Result<Option<Found>, Stop> {
        self.record.clear();
        self.record.extend_from_slice(&self.page[offset..]);
        let mut checked = PAGE_SIZE - offset >= HEADER;
        let mut page = start.page_start();
        loop {
            page = page.advance(PAGE_SIZE as u64);
            let left = total - self.record.len();
            let need = (page::header_size(page, self.segment_size) + left).min(PAGE_SIZE);
            let header = self.load(page, page::header_size(page, self.segment_size), start)?;
            if header.has(page::FIRST_IS_OVERWRITE_CONTRECORD) {
                return Ok(None);
            }
            let bad = |reason: String| Err(Stop::Bad { page, reason });
            if !header.has(page::FIRST_IS_CONTRECORD) {
                return bad(format!("there is no contrecord flag at {page}"));
            }
            if header.remaining as usize != left {
                return bad(format!(
                    "invalid contrecord length {} (expected {left}) at {page}",
                    header.remaining
                ));
            }
            self.load(page, need, start)?;
            let n = left.min(PAGE_SIZE - header.size());
            self.record
                .extend_from_slice(&self.page[header.size()..header.size() + n]);
            if !checked && self.record.len() >= HEADER {
                self.check_header(&Header::read(&self.record), start, page)?;
                checked = true;
            }
            if n == left {
                self.check_crc(&self.record, start, page)?;
                let end = page.advance((header.size() + n) as u64).align8();
                return Ok(Some(Found {
                    start,
                    end,
                    in_page: None,
                    total,
                }));
            }
        }
    }

    fn check_header(&self, header: &Header, start: Lsn, page: Lsn) -> Result<(), Stop> {
        let bad = |reason: String| Err(Stop::Bad { page, reason });
        let total = header.total as usize;
        if !(HEADER..=MAX_RECORD).contains(&total) {
            return bad(format!(
                "invalid record length at {start}: wanted {HEADER}, got {total}"
            ));
        }
        if RmgrId::from_raw(header.rmgr).is_none() {
            return bad(format!(
                "invalid resource manager ID {} at {start}",
                header.rmgr
            ));
        }
        let linked = self
            .last
            .map_or(header.prev < start, |last| header.prev == last);
        if !linked {
            return bad(format!(
                "record with incorrect prev-link {} at {start}",
                header.prev
            ));
        }
        Ok(())
    }

    fn check_crc(&self, record: &[u8], start: Lsn, page: Lsn) -> Result<(), Stop> {
        if decode::crc_of(record) == Header::read(record).crc {
            return Ok(());
        }
        let reason = format!("incorrect resource manager data checksum in record at {start}");
        Err(Stop::Bad { page, reason })
    }

    /// Has at least `need` bytes of `page` in the buffer, its header checked. When reading comes into a segment
    /// anywhere but at its start, the segment's first page is looked at too: it says whose segment it is.
    fn load(&mut self, page: Lsn, need: usize, record: Lsn) -> Result<PageHeader, Stop> {
        if let Some(header) = self.header
            && header.address == page
            && self.have >= need
        {
            return Ok(header);
        }
        let segment = page.segment(self.segment_size);
        let came_from = self.header.map(|h| h.address.segment(self.segment_size));
        let first = segment.start(self.segment_size);
        if came_from != Some(segment) && page != first {
            self.fetch(first, page::LONG_HEADER, record)?;
        }
        self.fetch(page, need, record)
    }

    fn fetch(&mut self, page: Lsn, need: usize, record: Lsn) -> Result<PageHeader, Stop> {
        self.forget_page();
        let need = need.max(page::header_size(page, self.segment_size));
        let request = PageRequest { page, need, record };
        let have = match self.source.read_page(request, &mut self.page)? {
            PageBytes::Have(n) => n,
            PageBytes::NotYet => return Err(Stop::NotYet(page.advance(need as u64))),
            PageBytes::Missing => {
                return Err(Stop::Bad {
                    page,
                    reason: format!("could not read WAL at {page}"),
                });
            }
        };
        let header =
            PageHeader::decode(&self.page[..have], page, self.segment_size, self.system_id)
                .map_err(|reason| Stop::Bad { page, reason })?;
        if let Some(history) = &self.history
            && !history.contains(header.timeline)
        {
            let reason = format!(
                "unexpected timeline ID {} in log page at {page}",
                header.timeline
            );
            return Err(Stop::Bad { page, reason });
        }
        let (newest_at, newest) = self.newest_timeline;
        if page > newest_at && header.timeline < newest {
            let reason = format!(
                "out-of-sequence timeline ID {} (after {newest}) at {page}",
                header.timeline
            );
            return Err(Stop::Bad { page, reason });
        }
        if page >= newest_at {
            self.newest_timeline = (page, header.timeline);
        }
        self.header = Some(header);
        self.have = have;
        Ok(header)
    }
}
