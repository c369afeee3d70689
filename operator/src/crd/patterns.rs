//! What names must look like: one text for the CRD's rules and for [`crate::validate`].
//!
//! Both sides' regular expressions are RE2's. The texts hold no single quote and no backslash, so that they stand in
//! CEL as they are.

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
/// The same, or nothing.
pub static KEY_OR_NOTHING: Pattern = Pattern::new(
    "^(([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
);
pub static NAMESPACE: Pattern = Pattern::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
pub static LABEL_VALUE: Pattern =
    Pattern::new("^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$");
/// What a taint may have, or a number, which is compared: taints above or below it are meant (Kubernetes 1.35).
pub static TOLERATION_VALUE: Pattern =
    Pattern::new("^(-[1-9][0-9]*|([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?)$");
pub static ENV_NAME: Pattern = Pattern::new("^[-._a-zA-Z][-._a-zA-Z0-9]*$");
pub static IMAGE: Pattern = Pattern::new("^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$");
/// The size of a volume. Kubernetes takes more spellings; these have one meaning for everybody.
pub static SIZE: Pattern = Pattern::new("^[0-9]+([.][0-9]{1,9})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$");
/// Any quantity that Kubernetes takes and that is not negative.
pub static QUANTITY: Pattern =
    Pattern::new("^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$");
/// A setting of `postgresql.conf`.
pub static SETTING: Pattern = Pattern::new("^[a-zA-Z_][a-zA-Z0-9_.]*$");
/// A setting's value that is a plain number.
pub static COUNT: Pattern = Pattern::new("^[0-9]{1,9}$");
/// The application's database and role.
pub static IDENTIFIER: Pattern = Pattern::new("^[A-Za-z_][A-Za-z0-9_-]*$");
/// A resource of a container: Kubernetes knows these by themselves, and all others by a domain.
pub static RESOURCE: Pattern = Pattern::new(
    "^(cpu|memory|ephemeral-storage|hugepages-[0-9]+[A-Za-z]*|[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$",
);

macro_rules! name_of_hba {
    () => {
        "([+]?\"[^\"[:cntrl:]]*\"|[^[:space:],\"#@][^[:space:],\"#]*)"
    };
}
/// Databases and roles. A list goes on behind a comma, over blanks too.
macro_rules! whom_of_hba {
    () => {
        concat!(
            "([[:blank:]]+",
            name_of_hba!(),
            "(,[[:blank:]]*",
            name_of_hba!(),
            ")*){2}[[:blank:]]+"
        )
    };
}
macro_rules! ipv4 {
    () => {
        "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}
macro_rules! ipv6 {
    () => {
        "(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(([0-9a-fA-F]{1,4}:){1,7}|:)((:[0-9a-fA-F]{1,4}){1,7}|:))"
    };
}
macro_rules! address_of_hba {
    () => {
        concat!(
            "(all|samehost|samenet|",
            ipv4!(),
            "(/([0-9]|[12][0-9]|3[0-2])|[[:blank:]]+[0-9]{1,3}([.][0-9]{1,3}){3})|",
            ipv6!(),
            "(/([0-9]{1,2}|1[01][0-9]|12[0-8])|[[:blank:]]+[0-9a-fA-F:]{2,39}))[[:blank:]]+"
        )
    };
}
macro_rules! method_of_hba {
    () => {
        "(trust|reject|scram-sha-256|md5)"
    };
}

/// Behind method and options: blanks, and a comment that does not end in a backslash.
macro_rules! end_of_hba {
    () => {
        "([[:blank:]]+#([^[:cntrl:]]*([^!-~[:cntrl:]]|[!-Z^-~]))?)?[[:blank:]]*$"
    };
}

/// The pattern that this record of `pg_hba.conf` has to match, for the engine to take it: type, database, role, address
/// unless it is local, method and its options. One that it does not take would leave a running engine with its old file
/// and keep every later start from succeeding. No `@file`, because there is none, and no backslash at the end, which
/// would swallow the record behind it. What is left to the engine is whether too many groups stand around the `::` of an
/// IPv6 address, and the numbers of a mask.
///
/// One for each type, because a rule's cost grows with the pattern's length, and an API server stops in the middle of one
/// that is too dear: a test counts what the longest list costs.
pub fn hba(record: &str) -> &'static Pattern {
    if record.starts_with("hostssl") {
        &HBA_HOSTSSL
    } else if record.starts_with("local") {
        &HBA_LOCAL
    } else {
        &HBA_HOST
    }
}

pub static HBA_LOCAL: Pattern = Pattern::new(concat!(
    "^local",
    whom_of_hba!(),
    "(",
    method_of_hba!(),
    "|peer([[:blank:]]+map=[A-Za-z0-9_.-]+)*)",
    end_of_hba!()
));
pub static HBA_HOST: Pattern = Pattern::new(concat!(
    "^(host|hostnossl)",
    whom_of_hba!(),
    address_of_hba!(),
    method_of_hba!(),
    end_of_hba!()
));
pub static HBA_HOSTSSL: Pattern = Pattern::new(concat!(
    "^hostssl",
    whom_of_hba!(),
    address_of_hba!(),
    "(",
    method_of_hba!(),
    "([[:blank:]]+(clientcert=verify-(ca|full)|clientname=(CN|DN)))*",
    "|cert([[:blank:]]+(map=[A-Za-z0-9_.-]+|clientcert=verify-full|clientname=(CN|DN)))*)",
    end_of_hba!()
));
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
            &RESOURCE,
            &SETTING,
            &COUNT,
            &IDENTIFIER,
            &HBA_LOCAL,
            &HBA_HOST,
            &HBA_HOSTSSL,
            &KEY_OR_NOTHING,
            &TOLERATION_VALUE,
            &NAMESPACE,
            &NOT_BLANK,
        ] {
            assert!(!pattern.text().contains(['\'', '\\']), "{pattern:?}");
            assert!(!pattern.matches("\n"), "{pattern:?}");
        }
    }

    /// The engine reads the same table (`config/hba/tests.rs`).
    #[test]
    fn records_of_hba() {
        let table = std::fs::read_to_string("../tests/manifests/hba_records.txt").expect("there");
        let mut seen = [0, 0];
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let (is, record) = line.split_once(' ').expect("a verdict and a record");
            let is_taken = is == "taken";
            assert!(is_taken || is == "refused", "{line}");
            seen[usize::from(is_taken)] += 1;
            assert_eq!(hba(record).matches(record), is_taken, "{record:?}");
        }
        assert!(seen.iter().all(|count| *count > 15), "{seen:?}");
        for record in [
            "",
            "host all all all\ntrust",
            "hostgssenc all all all trust",
        ] {
            assert!(!hba(record).matches(record), "{record:?}");
        }
        let tabs = "hostssl\tall\tapp\t::/0\tcert map=m";
        assert!(hba(tabs).matches(tabs));
    }

    /// As an API server counts: a tenth of the text's length times a quarter of the pattern's, and a million for a rule.
    #[test]
    fn the_longest_list_of_records_is_not_too_dear() {
        let (records, longest, limit) = (64, 513_usize.div_ceil(10), 1_000_000);
        for pattern in [&HBA_LOCAL, &HBA_HOST, &HBA_HOSTSSL] {
            let each = longest * pattern.text().len().div_ceil(4);
            let all = records * (each + 50);
            assert!(all < limit * 9 / 10, "{all} for {pattern:?}");
        }
    }

    #[test]
    fn resources_of_containers() {
        for (name, is) in [
            ("cpu", true),
            ("memory", true),
            ("ephemeral-storage", true),
            ("hugepages-2Mi", true),
            ("example.com/gpu", true),
            ("disk", false),
            ("Memory", false),
            ("/cpu", false),
            ("", false),
        ] {
            assert_eq!(RESOURCE.matches(name), is, "{name:?}");
        }
    }
}
