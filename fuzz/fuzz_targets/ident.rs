//! `pg_ident.conf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::ident(bytes);
});
