//! Messages and commands of a replication connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    engine::decoders::replication(bytes);
});
