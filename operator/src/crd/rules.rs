//! What the API server itself refuses, in CEL: the same that [`crate::validate`] refuses, told with field and remedy.
//!
//! Only the API server sees the stored object beside the new one on Kubernetes, so rules about changes are here too;
//! [`crate::validate::validate_change`] is their twin for local mode. What only concerns pods, in the form that Kubernetes
//! gives it, is in `scheduling.rs` and has no twin. `tests/manifests` holds a manifest for each of both judges' findings,
//! and the tests demand that they agree.
//!
//! The API server judges the whole object at each write of the status too, where it lets pass what is wrong in parts that
//! have not changed. The object itself has changed then: a new rule there would keep the record of an object that breaks
//! it from being written, and so its failover. New rules stand at fields. A rule's cost is bounded by the bounds of the field
//! that it stands at (`definition.rs` gives a bound to every string, list and map). Messages are plain text: of one that is
//! put together from keys the API server can't tell the cost. So what is owned has a rule for each name.

use super::{BOOTSTRAP_FAILED, owned, patterns, scheduling};
use crate::names::{self, MAX_NAME};

/// A rule at one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The field, dotted; empty is the object itself.
    pub at: &'static str,
    pub rule: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The field that the message is about, where it is not the rule's own.
    pub field_path: Option<&'static str>,
}

pub(super) fn rule(at: &'static str, rule: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule {
        at,
        rule: rule.into(),
        message: message.into(),
        field_path: None,
    }
}

/// All rules, in the order of the manifest.
pub fn rules() -> Vec<Rule> {
    let mut all = object_rules();
    all.extend(size_rules());
    all.extend(database_rules());
    all.extend(bootstrap_rules());
    all.extend(pod_rules());
    all.extend(scheduling::rules());
    all
}

fn object_rules() -> Vec<Rule> {
    vec![
        rule(
            "",
            format!(
                "size(self.metadata.name) <= {MAX_NAME} && {}",
                patterns::CLUSTER.cel("self.metadata.name")
            ),
            format!(
                "metadata.name: it can't name instances and Services; use at most {MAX_NAME} characters of a-z, 0-9 and -, beginning with a letter"
            ),
        ),
        Rule {
            field_path: Some(".durability"),
            ..rule(
                "spec",
                "self.durability != 'strict' || self.replicas >= 1",
                "strict waits for every standby and there is none; raise spec.replicas to at least 1, or choose quorum",
            )
        },
        Rule {
            field_path: Some(".parameters"),
            ..rule(
                "spec",
                format!(
                    "!has(self.parameters) || self.replicas == 0 || self.parameters.all(k, k.lowerAscii() != 'max_wal_senders' \
                     || !{} || int(self.parameters[k]) >= 2 * self.replicas + 2)",
                    patterns::COUNT.cel("self.parameters[k]")
                ),
                "max_wal_senders is too low for so many standbys; give at least 2 for each of them and 2 more, or leave it out",
            )
        },
    ]
}

fn size_rules() -> Vec<Rule> {
    vec![
        rule(
            "spec.storage.size",
            patterns::SIZE.cel("self"),
            "it is not a quantity; write it as 10Gi or 500Mi",
        ),
        rule(
            "spec.storage.size",
            "!isQuantity(self) || quantity(self).compareTo(quantity('256Mi')) >= 0",
            "it is too small for a database and its log; give at least 256Mi",
        ),
        rule(
            "spec.storage.size",
            "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "a volume can't shrink; keep the size or make it larger",
        ),
        Rule {
            field_path: Some(".class"),
            ..rule(
                "spec.storage",
                "has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)",
                "the class of volumes that exist can't change; leave it as it was, or make a new cluster",
            )
        },
        rule(
            "spec.storage.class",
            format!("self == '' || {}", patterns::SUBDOMAIN.cel("self")),
            "it can't name a StorageClass; use a-z, 0-9, - and .",
        ),
        quantities("spec.resources.requests"),
        quantities("spec.resources.limits"),
        requests_within_limits("cpu"),
        requests_within_limits("memory"),
        // Mostly a unit that is missing, or `m`, which is a thousandth.
        rule(
            "spec.resources",
            "!has(self.limits) || !('memory' in self.limits) || quantity(string(self.limits['memory'])).compareTo(quantity('64Mi')) >= 0",
            "the limit of memory is too low for an engine and its supervisor; give at least 64Mi",
        ),
    ]
}

/// A resource's name; its quantity has a pattern of its own in the schema, which costs nothing.
fn quantities(at: &'static str) -> Rule {
    rule(
        at,
        format!(
            "self.all(k, {} && size(k) <= 317)",
            patterns::RESOURCE.cel("k")
        ),
        "a key does not name a resource; use cpu, memory, ephemeral-storage or DOMAIN/NAME",
    )
}

/// Kubernetes would refuse every pod. A rule for each of the two that people set keeps the cost in its bounds.
fn requests_within_limits(name: &str) -> Rule {
    rule(
        "spec.resources",
        format!(
            "!has(self.requests) || !has(self.limits) || !('{name}' in self.requests) || !('{name}' in self.limits) \
             || quantity(string(self.requests['{name}'])).compareTo(quantity(string(self.limits['{name}']))) <= 0"
        ),
        format!(
            "more {name} is requested than the limit allows; raise the limit or lower the request"
        ),
    )
}

const HBA_MESSAGE: &str = "an entry is not one record of pg_hba.conf that the engine takes; write TYPE DATABASE USER ADDRESS METHOD, with TYPE \
                           host, hostssl or hostnossl, ADDRESS all, samenet, samehost or 10.0.0.0/8, METHOD scram-sha-256, \
                           md5, reject or trust (cert behind hostssl), and no @FILE";

const LOCAL_MESSAGE: &str = "an entry is for the socket, where only the pod itself is and everybody is let in; remove it, and write \
                             host or hostssl for clients";

fn database_rules() -> Vec<Rule> {
    let mut all = vec![
        rule(
            "spec.image",
            patterns::IMAGE.cel("self"),
            "it can't name an image; write it as REGISTRY/NAME:TAG",
        ),
        rule(
            "spec.parameters",
            format!(
                "self.all(k, {} && size(k) <= 63)",
                patterns::SETTING.cel("k")
            ),
            "a key is not the name of a setting; use the names of postgresql.conf",
        ),
        rule(
            "spec.parameters",
            "self.all(k, self.exists_one(other, other.lowerAscii() == k.lowerAscii()))",
            "a setting is given twice, in different case; keep one of them",
        ),
        rule(
            "spec.parameters",
            "self.all(k, !self[k].contains('\\n') && !self[k].contains('\\r'))",
            "a value spans lines; give a single line",
        ),
        rule(
            "spec.pgHba",
            format!(
                "self.all(line, line.startsWith('hostssl') ? {} : line.startsWith('local') ? {} : {})",
                patterns::HBA_HOSTSSL.cel("line"),
                patterns::HBA_LOCAL.cel("line"),
                patterns::HBA_HOST.cel("line")
            ),
            HBA_MESSAGE,
        ),
        rule(
            "spec.pgHba",
            "!self.exists(line, line.startsWith('local'))",
            LOCAL_MESSAGE,
        ),
        rule(
            "spec.parameters",
            format!(
                "!self.exists(k, k.lowerAscii().startsWith('{}'))",
                owned::SETTING_PREFIX
            ),
            format!(
                "the operator owns {}*: {}; remove it",
                owned::SETTING_PREFIX,
                owned::SETTING_PREFIX_WHY
            ),
        ),
    ];
    all.extend(owned::SETTINGS.iter().map(|(name, why)| {
        rule(
            "spec.parameters",
            format!("!self.exists(k, k.lowerAscii() == '{name}')"),
            format!("the operator owns {name}: {why}; remove it"),
        )
    }));
    all
}

/// That none of these has come, gone or changed.
fn same_fields(fields: &[&str]) -> String {
    let same = |field: &&str| {
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        )
    };
    fields.iter().map(same).collect::<Vec<_>>().join(" && ")
}

/// It runs once. One that fails has not run, and the conditions say so: only the object as a whole has them. Status writes
/// change nothing here, so this keeps none from being made.
fn bootstrap_sql() -> Rule {
    let sql = |of: &str| {
        format!(
            "(has({of}.spec.bootstrap) && has({of}.spec.bootstrap.sql) ? {of}.spec.bootstrap.sql : [])"
        )
    };
    Rule {
        field_path: Some(".spec.bootstrap.sql"),
        ..rule(
            "",
            format!(
                "{} == {} || has(oldSelf.status) && has(oldSelf.status.conditions) && \
                 oldSelf.status.conditions.exists(c, c.reason == '{BOOTSTRAP_FAILED}')",
                sql("self"),
                sql("oldSelf")
            ),
            "it runs once and can change only while the condition BootstrapFailed says that it has not; leave it as it was, \
             and use SQL",
        )
    }
}

fn bootstrap_rules() -> Vec<Rule> {
    let quoted = |names: &[&str]| {
        let all: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        all.join(", ")
    };
    let secrets = names::SECRET_SUFFIXES
        .iter()
        .map(|suffix| format!("self.metadata.name + '-{suffix}'"))
        .collect::<Vec<_>>()
        .join(", ");
    let own_secret = |field: &str, path: &'static str| Rule {
        field_path: Some(path),
        ..rule(
            "",
            format!(
                "!has(self.spec.bootstrap) || !has(self.spec.bootstrap.{field}) || !(self.spec.bootstrap.{field} in [{secrets}])"
            ),
            "the operator makes a Secret of this name itself; give yours another name",
        )
    };
    let secret_name = |at: &'static str| {
        rule(
            at,
            patterns::SUBDOMAIN.cel("self"),
            "it can't name a Secret; use a-z, 0-9, - and .",
        )
    };
    vec![
        rule(
            "spec.bootstrap",
            same_fields(&["database", "owner", "ownerSecret", "superuserSecret"]),
            "it was read when the cluster was created and can't change; leave it as it was, and use SQL",
        ),
        bootstrap_sql(),
        rule(
            "spec.bootstrap.database",
            format!(
                "{} && !(self in [{}])",
                patterns::IDENTIFIER.cel("self"),
                quoted(owned::DATABASES)
            ),
            "it can't name the application's database; use A-Z, a-z, 0-9, _ and -, and no template",
        ),
        rule(
            "spec.bootstrap.owner",
            format!(
                "{} && !self.startsWith('pg_') && !(self in [{}])",
                patterns::IDENTIFIER.cel("self"),
                quoted(owned::ROLES)
            ),
            "it can't name the application's role; use A-Z, a-z, 0-9, _ and -, and no role of the system's",
        ),
        secret_name("spec.bootstrap.ownerSecret"),
        secret_name("spec.bootstrap.superuserSecret"),
        own_secret("ownerSecret", ".spec.bootstrap.ownerSecret"),
        own_secret("superuserSecret", ".spec.bootstrap.superuserSecret"),
        rule(
            "spec.bootstrap.sql",
            format!("self.all(text, {})", patterns::NOT_BLANK.cel("text")),
            "an entry is empty; remove it",
        ),
    ]
}

fn pod_rules() -> Vec<Rule> {
    let mut all = vec![
        rule(
            "spec.imagePullSecrets",
            format!(
                "self.all(secret, {})",
                patterns::SUBDOMAIN.cel("secret.name")
            ),
            "an entry can't name a Secret; use a-z, 0-9, - and .",
        ),
        rule(
            "spec.topologySpreadConstraints",
            "self.all(c, c.maxSkew >= 1 && c.whenUnsatisfiable in ['DoNotSchedule', 'ScheduleAnyway'])",
            "an entry has no maxSkew of at least 1 or an unknown whenUnsatisfiable; write DoNotSchedule or ScheduleAnyway",
        ),
        rule(
            "spec.priorityClassName",
            patterns::SUBDOMAIN.cel("self"),
            "it can't name a PriorityClass; use a-z, 0-9, - and .",
        ),
    ];
    all.extend(metadata_rules());
    all.extend(env_rules());
    all
}

fn metadata_rules() -> Vec<Rule> {
    let owned_key = |at: &'static str, test: &str, like: &str| {
        rule(
            at,
            format!("!self.exists(k, k.{test}('{like}'))"),
            format!("the operator owns keys like {like}; remove it"),
        )
    };
    let of_domain = |at| owned_key(at, "contains", owned::METADATA_DOMAIN);
    let keys = |at: &'static str| {
        rule(
            at,
            format!("self.all(k, {} && size(k) <= 317)", patterns::KEY.cel("k")),
            "a key is not one that Kubernetes takes; write it as NAME or DOMAIN/NAME",
        )
    };
    let values = |at: &'static str| {
        rule(
            at,
            format!("self.all(k, {})", patterns::LABEL_VALUE.cel("self[k]")),
            "a value is not one that a label can have; use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
        )
    };
    let mut all = vec![
        keys("spec.nodeSelector"),
        values("spec.nodeSelector"),
        keys("spec.serviceTemplate.annotations"),
        of_domain("spec.serviceTemplate.annotations"),
        keys("spec.podMetadata.labels"),
        values("spec.podMetadata.labels"),
        of_domain("spec.podMetadata.labels"),
        keys("spec.podMetadata.annotations"),
        of_domain("spec.podMetadata.annotations"),
    ];
    let prefixes = owned::LABEL_KEYS.iter();
    all.extend(prefixes.map(|prefix| owned_key("spec.podMetadata.labels", "startsWith", prefix)));
    all
}

fn env_rules() -> Vec<Rule> {
    let mut all = vec![
        rule(
            "spec.env",
            format!("self.all(e, {})", patterns::ENV_NAME.cel("e.name")),
            "an entry can't name an environment variable; use letters, digits, _, - and .",
        ),
        rule(
            "spec.env",
            "!self.exists(e, has(e.value) && e.value != '' && has(e.valueFrom))",
            "an entry has value and valueFrom; keep one of them",
        ),
    ];
    all.extend(owned::ENV_PREFIXES.iter().map(|prefix| {
        rule(
            "spec.env",
            format!("!self.exists(e, e.name.startsWith('{prefix}'))"),
            format!("the operator owns variables like {prefix}*; remove it"),
        )
    }));
    all
}
