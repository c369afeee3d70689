//! The least version of Kubernetes, and what it rests on.
//!
//! 1.33: what has been stored under older rules can be written again as long as the part that breaks a newer rule stays as
//! it is (`CRDValidationRatcheting`), and its status too. Rules in CEL are judged at writes of the status, and from 1.30 to
//! 1.32 only writes of the object itself let old faults pass there: an object that breaks a rule of a newer definition could
//! not have its record written, and would have no failover. From 1.33 on nobody can turn it off. Also used, and older: rules
//! in CEL for custom resources with `quantity()`, by which a volume that would shrink is seen (1.29), and `fieldPath` (1.28),
//! by which a refusal names the field; budgets that let unready pods go (`unhealthyPodEvictionPolicy`, on since 1.27) and
//! claims with a stated retention policy (on since 1.27).

/// Major and minor.
pub const LEAST_KUBERNETES: (u32, u32) = (1, 33);

/// Why this API server can't hold the definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Kubernetes {found} is too old: {}.{} is needed, for the rules of the custom resource; upgrade the cluster",
    LEAST_KUBERNETES.0,
    LEAST_KUBERNETES.1
)]
pub struct TooOld {
    found: String,
}

/// Judges what the API server's `/version` says, where the minor may be `33+`.
///
/// # Errors
/// When it is older than [`LEAST_KUBERNETES`], or can't be read.
pub fn check_kubernetes(major: &str, minor: &str) -> Result<(), TooOld> {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    match number(major).zip(number(minor)) {
        Some(found) if found >= LEAST_KUBERNETES => Ok(()),
        _ => Err(TooOld {
            found: format!("{major}.{minor}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (major, minor) in [("1", "33"), ("1", "33+"), ("1", "100"), ("2", "0")] {
            assert_eq!(check_kubernetes(major, minor), Ok(()), "{major}.{minor}");
        }
        for (major, minor) in [("1", "32"), ("1", "9"), ("0", "99"), ("", ""), ("1", "x")] {
            let refused = check_kubernetes(major, minor).expect_err("too old");
            let text = refused.to_string();
            assert!(text.contains("1.33 is needed"), "{text}");
        }
    }
}
