//! One record of the log whose CRC is taken for right, and the pages that redo would change.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = engine::decoders::wal_record(bytes);
});
