//! A peer's X.509 certificate.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::certificate(bytes);
});
