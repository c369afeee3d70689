//! The long form of tests: how many rounds, which seed.
//!
//! `UNDERSTUDY_SOAK` asks for the long form, `UNDERSTUDY_ROUNDS` for any number of rounds; `UNDERSTUDY_SEED` repeats a
//! run whose seed was printed.

use rand::SeedableRng;
use rand::rngs::StdRng;

pub fn is_soak() -> bool {
    std::env::var_os("UNDERSTUDY_SOAK").is_some()
}

/// How many rounds a test is to make.
pub fn rounds(short: u32, long: u32) -> u32 {
    if let Ok(given) = std::env::var("UNDERSTUDY_ROUNDS") {
        return given.parse().expect("UNDERSTUDY_ROUNDS is a number");
    }
    if is_soak() { long } else { short }
}

/// The run's seed, printed, and a generator made from it.
pub fn seeded() -> (u64, StdRng) {
    let seed = seed();
    (seed, StdRng::seed_from_u64(seed))
}

pub fn seed() -> u64 {
    let given = std::env::var("UNDERSTUDY_SEED").ok();
    let seed = given.map_or_else(rand::random, |s| {
        s.parse().expect("UNDERSTUDY_SEED is a number")
    });
    eprintln!("UNDERSTUDY_SEED={seed}");
    seed
}
