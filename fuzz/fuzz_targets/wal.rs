//! The log, page by page, as recovery reads it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = engine::decoders::wal(bytes);
});
