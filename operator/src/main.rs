//! The program `understudy-operator`.

fn main() {}
