//! What a new database begins with.

use super::Invalid;
use crate::crd::{BootstrapSpec, owned, patterns};
use crate::names;

const LONGEST_IDENTIFIER: usize = 63;
const MOST_TEXTS: usize = 32;
const LONGEST_TEXT: usize = 65_536;

/// `spec.bootstrap`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bootstrap {
    pub database: String,
    pub owner: String,
    /// The user's own Secret with the owner's password.
    pub owner_secret: Option<String>,
    /// The user's own Secret with the superuser's password.
    pub superuser_secret: Option<String>,
    /// Run once, in one transaction, in the new database.
    pub sql: Vec<String>,
}

impl From<BootstrapSpec> for Bootstrap {
    fn from(spec: BootstrapSpec) -> Bootstrap {
        Bootstrap {
            database: spec.database,
            owner: spec.owner,
            owner_secret: spec.owner_secret,
            superuser_secret: spec.superuser_secret,
            sql: spec.sql,
        }
    }
}

impl Default for Bootstrap {
    fn default() -> Bootstrap {
        BootstrapSpec::default().into()
    }
}

pub(super) fn check(
    cluster: &str,
    given: Option<&BootstrapSpec>,
    wrong: &mut Vec<Invalid>,
) -> Bootstrap {
    let spec = given.cloned().unwrap_or_default();
    let identifier =
        |name: &str| name.len() <= LONGEST_IDENTIFIER && patterns::IDENTIFIER.matches(name);
    if !identifier(&spec.database) || owned::DATABASES.contains(&spec.database.as_str()) {
        wrong.push(Invalid::new(
            "spec.bootstrap.database",
            format!(
                "\"{}\": it can't name the application's database",
                spec.database
            ),
            "use A-Z, a-z, 0-9, _ and -, and no template",
        ));
    }
    let system = spec.owner.starts_with("pg_") || owned::ROLES.contains(&spec.owner.as_str());
    if !identifier(&spec.owner) || system {
        wrong.push(Invalid::new(
            "spec.bootstrap.owner",
            format!("\"{}\": it can't name the application's role", spec.owner),
            "use A-Z, a-z, 0-9, _ and -, and no role of the system's",
        ));
    }
    check_secret(cluster, "ownerSecret", spec.owner_secret.as_deref(), wrong);
    check_secret(
        cluster,
        "superuserSecret",
        spec.superuser_secret.as_deref(),
        wrong,
    );
    check_sql(&spec.sql, wrong);
    spec.into()
}

fn check_secret(cluster: &str, field: &str, name: Option<&str>, wrong: &mut Vec<Invalid>) {
    let Some(name) = name else { return };
    let path = format!("spec.bootstrap.{field}");
    if name.len() > 253 || !patterns::SUBDOMAIN.matches(name) {
        wrong.push(Invalid::new(
            path,
            format!("\"{name}\": it can't name a Secret"),
            "use a-z, 0-9, - and .",
        ));
        return;
    }
    let own = |suffix: &&str| format!("{cluster}-{suffix}") == name;
    if names::SECRET_SUFFIXES.iter().any(own) {
        wrong.push(Invalid::new(
            path,
            format!("{name}: the operator makes a Secret of this name itself"),
            "give yours another name",
        ));
    }
}

fn check_sql(texts: &[String], wrong: &mut Vec<Invalid>) {
    if texts.len() > MOST_TEXTS {
        wrong.push(Invalid::new(
            "spec.bootstrap.sql",
            format!("{} entries are more than {MOST_TEXTS}", texts.len()),
            "an entry may hold several statements",
        ));
    }
    for (index, text) in texts.iter().enumerate() {
        let path = format!("spec.bootstrap.sql[{index}]");
        if !patterns::NOT_BLANK.matches(text) {
            wrong.push(Invalid::new(path, "an entry is empty", "remove it"));
        } else if text.chars().count() > LONGEST_TEXT {
            wrong.push(Invalid::new(
                path,
                format!("an entry is longer than {LONGEST_TEXT} characters"),
                "load large data with COPY when the cluster is ready",
            ));
        }
    }
}
