//! `global/pg_control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = engine::decoders::control_file(bytes);
});
