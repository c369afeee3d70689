//! The log's newest bytes in memory, before and after they reach their segment files.
//!
//! A ring of 8-byte words, each an atomic, so that inserters copy in parallel without a lock and without unsafe
//! code: every record begins and is padded to a word, so no word belongs to two records. Who may write which
//! words is decided by the reservation; who may still read them is decided by the reader afterwards, as with a
//! sequence lock: it copies, then asks whether reserving has come round to what it copied.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::ids::{Lsn, PAGE_SIZE};

const WORDS_PER_PAGE: usize = PAGE_SIZE / 8;

pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    pages: u64,
}

impl Ring {
    /// At least 4 pages; `bytes` is rounded down to whole pages.
    pub fn new(bytes: usize) -> Ring {
        let pages = (bytes / PAGE_SIZE).max(4);
        let words = (0..pages * WORDS_PER_PAGE)
            .map(|_| AtomicU64::new(0))
            .collect();
        Ring {
            words,
            pages: pages as u64,
        }
    }
    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_SIZE as u64
    }

    fn page(&self, lsn: Lsn) -> &[AtomicU64] {
        let page = (lsn.raw() / PAGE_SIZE as u64 % self.pages) as usize;
        &self.words[page * WORDS_PER_PAGE..(page + 1) * WORDS_PER_PAGE]
    }

    /// Copies whole words to `lsn`, all on one page.
    pub fn store(&self, lsn: Lsn, bytes: &[u8]) {
        debug_assert!(lsn.raw().is_multiple_of(8) && bytes.len().is_multiple_of(8));
        let words = &self.page(lsn)[lsn.page_offset() / 8..][..bytes.len() / 8];
        // Pairs with the fence in `load`: a reader that sees one of these words also sees the reservation.
        fence(Ordering::Release);
        for (word, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
            let mut raw = [0; 8];
            raw.copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(raw), Ordering::Relaxed);
        }
    }

    /// Zeroes from `lsn` to the end of its page.
    pub fn zero_to_page_end(&self, lsn: Lsn) {
        fence(Ordering::Release);
        for word in &self.page(lsn)[lsn.page_offset() / 8..] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Copies `buf.len()` bytes from `lsn` on. The caller checks afterwards that they were not overwritten
    /// meanwhile.
    pub fn load(&self, lsn: Lsn, buf: &mut [u8]) {
        let (mut at, mut rest) = (lsn, buf);
        while !rest.is_empty() {
            let n = rest.len().min(PAGE_SIZE - at.page_offset());
            let (now, later) = rest.split_at_mut(n);
            self.load_in_page(at, now);
            (at, rest) = (at.advance(n as u64), later);
        }
        fence(Ordering::Acquire);
    }

    fn load_in_page(&self, lsn: Lsn, mut buf: &mut [u8]) {
        let mut index = lsn.page_offset() / 8;
        let words = self.page(lsn);
        let skip = lsn.page_offset() % 8;
        if skip > 0 {
            let raw = words[index].load(Ordering::Relaxed).to_ne_bytes();
            let n = buf.len().min(8 - skip);
            buf[..n].copy_from_slice(&raw[skip..skip + n]);
            buf = &mut buf[n..];
            index += 1;
        }
        let mut chunks = buf.chunks_exact_mut(8);
        for (chunk, word) in (&mut chunks).zip(&words[index..]) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            index += 1;
        }
        let tail = chunks.into_remainder();
        if !tail.is_empty() {
            let raw = words[index].load(Ordering::Relaxed).to_ne_bytes();
            tail.copy_from_slice(&raw[..tail.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_reads_back_across_pages() {
        let ring = Ring::new(4 * PAGE_SIZE);
        let bytes: Vec<u8> = (0..3 * PAGE_SIZE).map(|i| (i * 31 % 251) as u8).collect();
        let base = Lsn::new(7 * PAGE_SIZE as u64);
        for (i, page) in bytes.chunks(PAGE_SIZE).enumerate() {
            ring.store(base.advance((i * PAGE_SIZE) as u64), page);
        }
        for (from, len) in [
            (0, 1),
            (3, 2),
            (5, 40),
            (8190, 9),
            (100, 16000),
            (8192, 8192),
            (1, 7),
        ] {
            let mut buf = vec![0; len];
            ring.load(base.advance(from as u64), &mut buf);
            assert_eq!(buf, bytes[from..from + len], "{len} bytes from {from}");
        }
    }
}
