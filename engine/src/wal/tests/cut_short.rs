//! A log that comes a piece at a time: a record is read once all of it is there, and never half of it.

use super::*;

/// A log of which only the first bytes have come.
struct CutShort {
    bytes: Vec<u8>,
    first: Lsn,
    upto: Lsn,
    /// Nothing more will come.
    over: bool,
}

impl WalBytes for CutShort {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError> {
        let have = (self.upto.saturating_sub(request.page) as usize).min(PAGE_SIZE);
        let at = request.page.saturating_sub(self.first) as usize;
        buf.fill(0);
        buf[..have].copy_from_slice(&self.bytes[at..at + have]);
        Ok(match have >= request.need {
            true => PageBytes::Have(have),
            // A file is there in its full length.
            false if self.over => PageBytes::Have(PAGE_SIZE),
            false => PageBytes::NotYet,
        })
    }
    fn goes_on_after(&mut self, _segment: SegmentNumber) -> Result<bool, WalError> {
        Ok(false)
    }
}

#[test]
fn a_stream_cut_at_any_byte_of_a_long_record_goes_on_where_it_was() {
    const SEGMENT: u32 = 32 * 1024;
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(SEGMENT, 64 * 1024));
    let before = wal.insert(&record(&pattern(20_000, 1)));
    let long = wal.insert(&record(&pattern(30_000, 2)));
    wal.insert(&record(b"after"));
    wal.stop();
    assert_ne!(long.start.segment(SEGMENT), long.end.segment(SEGMENT));
    let first = SegmentNumber::new(1).start(SEGMENT);
    let mut bytes = vec![0; 3 * SEGMENT as usize];
    for (i, part) in bytes.chunks_mut(SEGMENT as usize).enumerate() {
        let at = SegmentNumber::new(1 + i as u64).start(SEGMENT);
        let read = wal.segments().read(TimelineId::FIRST, at, part);
        assert!(read.is_ok() || i == 2, "{read:?}");
    }
    let all = Lsn::new(first.raw() + bytes.len() as u64);
    let source = CutShort {
        bytes,
        first,
        upto: before.end,
        over: false,
    };
    let mut reader = WalReader::new(source, SEGMENT, before.start).with_system_id(SYSTEM);
    assert_eq!(reader.next().expect("whole").start, before.start);
    // Only the padding may be missing from a whole record.
    let last_byte = long.end.raw() - 7;
    for upto in long.start.raw()..last_byte {
        reader.source().upto = Lsn::new(upto);
        reader.source().over = false;
        let waits = reader.next().map(|_| ());
        assert!(
            matches!(waits, Err(ReadError::WouldBlock(_))),
            "at {upto:X}: {waits:?}"
        );
        assert_eq!(reader.position(), before.end, "at {upto:X}");
        if upto % 3 == 0 {
            reader.source().over = true;
            reader.forget_page();
            let end = reader.next().map(|_| ());
            assert!(
                matches!(end, Err(ReadError::EndOfLog { .. })),
                "at {upto:X}: {end:?}"
            );
            reader.forget_page();
        }
    }
    reader.source().upto = all;
    assert_eq!(reader.next().expect("whole").main, pattern(30_000, 2));
    assert_eq!(reader.next().expect("whole").main, b"after");
}
