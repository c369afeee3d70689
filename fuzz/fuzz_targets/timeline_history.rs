//! Timeline history files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::timeline_history(bytes);
});
