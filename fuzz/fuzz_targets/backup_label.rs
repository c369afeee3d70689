//! `backup_label`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::backup_label(bytes);
});
