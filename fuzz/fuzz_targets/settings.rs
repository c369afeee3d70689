//! `postgresql.conf`, its values, and connection strings.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::settings(bytes);
});
