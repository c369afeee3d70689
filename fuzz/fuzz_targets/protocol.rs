//! What clients send before, during and after authentication.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::protocol(bytes);
});
