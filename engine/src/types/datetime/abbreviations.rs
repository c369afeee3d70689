//! The zone abbreviations that PostgreSQL knows by default (`pg_timezone_abbrevs`), seconds east of Greenwich.

/// Sorted by name.
const OFFSETS: &[(&str, i32)] = &[];

/// The offset of an abbreviation in lower case.
pub(crate) fn offset(name: &str) -> Option<i32> {
    let at = OFFSETS.binary_search_by(|(n, _)| n.cmp(&name)).ok()?;
    Some(OFFSETS[at].1)
}
