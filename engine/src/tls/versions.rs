//! The range of protocol versions, as settings and connection strings give it.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// PostgreSQL's words for versions, lowest first. The first two are only limits here: nobody speaks them.
pub const NAMES: [&str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// Ours: the lowest that is spoken, by its place in [`NAMES`].
const LOWEST: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeFault {
    /// Not a version's name at all.
    Unknown,
    /// The highest allowed is older than anything that is spoken here.
    NotSupported,
    Reversed,
}

/// The versions from `lowest` to `highest`; empty is no limit. Names in any case.
pub fn range(
    lowest: &str,
    highest: &str,
) -> Result<Vec<&'static SupportedProtocolVersion>, RangeFault> {
    let place = |name: &str, none: usize| match name {
        "" => Ok(none),
        _ => NAMES
            .iter()
            .position(|n| n.eq_ignore_ascii_case(name))
            .ok_or(RangeFault::Unknown),
    };
    let (low, high) = (place(lowest, 0)?, place(highest, NAMES.len() - 1)?);
    if low > high {
        return Err(RangeFault::Reversed);
    }
    if high < LOWEST {
        return Err(RangeFault::NotSupported);
    }
    let spoken: [(usize, &'static SupportedProtocolVersion); 2] = [(2, &TLS12), (3, &TLS13)];
    Ok(spoken
        .into_iter()
        .filter(|(at, _)| (low..=high).contains(at))
        .map(|(_, version)| version)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_kept_and_old_ones_are_no_way_around() {
        let names = |low: &str, high: &str| {
            range(low, high).map(|v| v.iter().map(|v| v.version).collect::<Vec<_>>())
        };
        use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
        assert_eq!(names("", ""), Ok(vec![TLSv1_2, TLSv1_3]));
        assert_eq!(names("TLSv1", ""), Ok(vec![TLSv1_2, TLSv1_3]));
        assert_eq!(names("tlsv1.3", ""), Ok(vec![TLSv1_3]));
        assert_eq!(names("TLSv1.2", "TLSv1.2"), Ok(vec![TLSv1_2]));
        assert_eq!(names("TLSv1", "TLSv1.1"), Err(RangeFault::NotSupported));
        assert_eq!(names("TLSv1.3", "TLSv1.2"), Err(RangeFault::Reversed));
        assert_eq!(names("SSLv3", ""), Err(RangeFault::Unknown));
    }
}
