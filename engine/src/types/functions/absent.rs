//! Functions of PostgreSQL 15 that are not here: a call of one is refused, not said to be unknown.

use std::sync::LazyLock;

use hashbrown::HashSet;

use crate::types::conversions;

/// One name a line.
static NAMES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("absent.txt").lines().collect());

pub fn is_absent(name: &str) -> bool {
    NAMES.contains(name) || conversions::named(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::NAMES;
    use crate::types::{aggregates, functions, windows};

    #[test]
    fn nothing_that_is_here_is_listed() {
        let here: Vec<_> = NAMES
            .iter()
            .filter(|n| {
                !functions::named(n).is_empty()
                    || !aggregates::named(n).is_empty()
                    || !windows::named(n).is_empty()
            })
            .collect();
        assert!(here.is_empty(), "take these out of absent.txt: {here:?}");
    }
}
