//! What names must look like: one text for the CRD's rules and for [`crate::validate`].
//!
//! Both sides' regular expressions are RE2's. The texts hold no quote and no backslash, so that they stand in CEL as
//! they are.

use std::sync::OnceLock;

use regex::Regex;

/// A regular expression, compiled at its first use.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    const fn new(text: &'static str) -> Pattern {
        Pattern {
            text,
            compiled: OnceLock::new(),
        }
    }

    pub fn text(&self) -> &'static str {
        self.text
    }

    pub fn matches(&self, text: &str) -> bool {
        self.compiled
            .get_or_init(|| Regex::new(self.text).expect("the tests compile every pattern"))
            .is_match(text)
    }

    /// CEL that is true where the text that `expression` gives matches.
    pub fn cel(&self, expression: &str) -> String {
        format!("{expression}.matches('{}')", self.text)
    }
}

/// A cluster's: instances, Services and Secrets are named after it.
pub static CLUSTER: Pattern = Pattern::new("^[a-z]([-a-z0-9]*[a-z0-9])?$");
/// Most objects': RFC 1123's subdomain.
pub static SUBDOMAIN: Pattern =
    Pattern::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
/// A key of labels and annotations, with or without its domain.
pub static KEY: Pattern = Pattern::new(
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
);
pub static LABEL_VALUE: Pattern =
    Pattern::new("^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$");
pub static ENV_NAME: Pattern = Pattern::new("^[-._a-zA-Z][-._a-zA-Z0-9]*$");
pub static IMAGE: Pattern = Pattern::new("^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$");
/// The size of a volume. Kubernetes takes more spellings; these have one meaning for everybody.
pub static SIZE: Pattern = Pattern::new("^[0-9]+([.][0-9]{1,9})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$");
/// Any quantity that Kubernetes takes and that is not negative.
pub static QUANTITY: Pattern =
    Pattern::new("^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$");
/// A setting of `postgresql.conf`.
pub static SETTING: Pattern = Pattern::new("^[a-zA-Z_][a-zA-Z0-9_.]*$");
/// The application's database and role.
pub static IDENTIFIER: Pattern = Pattern::new("^[A-Za-z_][A-Za-z0-9_-]*$");
/// A record of `pg_hba.conf`: type, database, role, address unless it is local, method and its options.
pub static HBA_RECORD: Pattern = Pattern::new(
    "^(local([[:blank:]]+[^[:space:]]+){3,}|(host|hostssl|hostnossl)([[:blank:]]+[^[:space:]]+){4,})[[:blank:]]*$",
);
pub static NOT_BLANK: Pattern = Pattern::new("[^[:space:]]");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_compile_and_can_stand_in_cel() {
        for pattern in [
            &CLUSTER,
            &SUBDOMAIN,
            &KEY,
            &LABEL_VALUE,
            &ENV_NAME,
            &IMAGE,
            &SIZE,
            &QUANTITY,
            &SETTING,
            &IDENTIFIER,
            &HBA_RECORD,
            &NOT_BLANK,
        ] {
            assert!(!pattern.text().contains(['\'', '\\']), "{pattern:?}");
            assert!(!pattern.matches("\n"), "{pattern:?}");
        }
    }

    #[test]
    fn records_of_hba() {
        for (record, is) in [
            ("host all all 10.0.0.0/8 scram-sha-256", true),
            ("hostssl\tall\tapp\t::/0\tcert map=m", true),
            ("local all all peer", true),
            ("local all all", false),
            ("host all all scram-sha-256", false),
            ("# host all all all trust", false),
            ("host all all all\ntrust", false),
            ("", false),
        ] {
            assert_eq!(HBA_RECORD.matches(record), is, "{record:?}");
        }
    }
}
