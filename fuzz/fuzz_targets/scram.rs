//! Both messages of a SCRAM client, and stored verifiers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::scram(bytes);
});
