//! Where a reader gets pages of the log from.

use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber};

use super::error::WalError;
use super::segments::Segments;
use super::timeline::History;

use std::sync::Arc;

/// What the reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Start of the page.
    pub page: Lsn,
    /// So many of its bytes at least.
    pub need: usize,
    /// Start of the record for which it is wanted: decides the timeline where one switches.
    pub record: Lsn,
}

/// What the source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageBytes {
    /// The page's first so many bytes are in the buffer; at least as many as needed.
    Have(usize),
    /// Not all of them yet, but more may come.
    NotYet,
    /// The log has no such page.
    Missing,
}

/// A supply of log pages: files, an archive, a live stream.
pub trait WalBytes {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError>;

    /// Does a segment after this one begin with the page that belongs there? If so, this one was once durable as
    /// a whole, and a bad record in it is damage, not the end.
    fn goes_on_after(&mut self, segment: SegmentNumber) -> Result<bool, WalError>;
}

impl<T: WalBytes + ?Sized> WalBytes for Box<T> {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError> {
        (**self).read_page(request, buf)
    }
    fn goes_on_after(&mut self, segment: SegmentNumber) -> Result<bool, WalError> {
        (**self).goes_on_after(segment)
    }
}

/// The segments in `pg_wal`, which nobody is writing.
pub struct FileSource {
    segments: Arc<Segments>,
    history: History,
    /// Read ahead: pages come one after the other.
    chunk: Vec<u8>,
    chunk_at: Lsn,
}

const CHUNK: usize = 16 * PAGE_SIZE;

impl FileSource {
    pub fn new(segments: Arc<Segments>, history: History) -> FileSource {
        FileSource {
            segments,
            history,
            chunk: Vec::new(),
            chunk_at: Lsn::INVALID,
        }
    }
    pub fn history(&self) -> &History {
        &self.history
    }
}

impl WalBytes for FileSource {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError> {
        let known = request.page.checked_sub(self.chunk_at);
        let inside = known.filter(|at| at + PAGE_SIZE as u64 <= self.chunk.len() as u64);
        let at = match inside {
            Some(at) if self.chunk_at.is_valid() => at as usize,
            _ => {
                self.chunk.resize(CHUNK, 0);
                self.chunk_at = request.page;
                match self
                    .segments
                    .read_on(&self.history, request.page, &mut self.chunk)
                {
                    Ok((timeline, n)) => {
                        // What a timeline's file holds behind its end is not of this history.
                        let end = self.history.end_of(timeline).unwrap_or(Lsn::MAX);
                        let owned = end.saturating_sub(request.page);
                        self.chunk
                            .truncate(n.min(usize::try_from(owned).unwrap_or(usize::MAX)));
                    }
                    Err(error) => {
                        self.chunk.clear();
                        return match error {
                            WalError::SegmentRemoved(_) => Ok(PageBytes::Missing),
                            other => Err(other),
                        };
                    }
                }
                0
            }
        };
        let page = &self.chunk[at..];
        let n = page.len().min(PAGE_SIZE);
        buf[..n].copy_from_slice(&page[..n]);
        Ok(if n < request.need {
            PageBytes::Missing
        } else {
            PageBytes::Have(n)
        })
    }

    fn goes_on_after(&mut self, segment: SegmentNumber) -> Result<bool, WalError> {
        for (timeline, later) in self.segments.list()? {
            let end = self.history.end_of(timeline).unwrap_or(Lsn::MAX);
            if later > segment
                && self.history.contains(timeline)
                && later.start(self.segments.size()) < end
                && self.segments.begins_right(timeline, later)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
