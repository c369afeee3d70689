//! The database's own part of the manifest: its volume, its settings, who may connect, the times of a failover.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Invalid;
use super::quantity::bytes;
use crate::crd::owned::owned_setting;
use crate::crd::{FailoverSpec, StorageSpec, patterns};

const MIN_STORAGE: u64 = 256 << 20;
const MOST_PARAMETERS: usize = 200;
const LONGEST_NAME: usize = 63;
const LONGEST_VALUE: usize = 1024;
const MOST_RECORDS: usize = 64;
const LONGEST_RECORD: usize = 512;

pub(super) fn check_storage(storage: &StorageSpec, wrong: &mut Vec<Invalid>) -> u64 {
    let path = "spec.storage.size";
    let size = &storage.size;
    let bytes = bytes(size);
    match bytes {
        Some(bytes) if bytes < MIN_STORAGE => wrong.push(Invalid::new(
            path,
            format!("{size}: it is too small for a database and its log"),
            "give at least 256Mi",
        )),
        Some(_) => {}
        None => wrong.push(Invalid::new(
            path,
            format!("\"{size}\": it is not a quantity"),
            "write it as 10Gi or 500Mi",
        )),
    }
    if let Some(class) = &storage.class
        && !class.is_empty()
        && (class.len() > 253 || !patterns::SUBDOMAIN.matches(class))
    {
        wrong.push(Invalid::new(
            "spec.storage.class",
            format!("\"{class}\": it can't name a StorageClass"),
            "use a-z, 0-9, - and .",
        ));
    }
    bytes.unwrap_or(0)
}

/// The settings by their names in lower case.
pub(super) fn check_parameters(
    given: &BTreeMap<String, String>,
    wrong: &mut Vec<Invalid>,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    if given.len() > MOST_PARAMETERS {
        wrong.push(Invalid::new(
            "spec.parameters",
            format!("{} settings are more than {MOST_PARAMETERS}", given.len()),
            "keep those that differ from the defaults",
        ));
    }
    for (name, value) in given {
        let path = format!("spec.parameters.{name}");
        let lower = name.to_ascii_lowercase();
        if !patterns::SETTING.matches(name) || name.len() > LONGEST_NAME {
            wrong.push(Invalid::new(
                path,
                format!("{name}: a key is not the name of a setting"),
                "use the names of postgresql.conf",
            ));
        } else if let Some(why) = owned_setting(name) {
            wrong.push(Invalid::new(
                path,
                format!("the operator owns {lower}: {why}"),
                "remove it",
            ));
        } else if value.chars().count() > LONGEST_VALUE {
            wrong.push(Invalid::new(
                path,
                format!("the value is longer than {LONGEST_VALUE} characters"),
                "shorten it",
            ));
        } else if value.contains(['\n', '\r']) {
            wrong.push(Invalid::new(
                path,
                "a value spans lines",
                "give a single line",
            ));
        } else if parameters.insert(lower, value.clone()).is_some() {
            wrong.push(Invalid::new(
                path,
                "a setting is given twice, in different case",
                "keep one of them",
            ));
        }
    }
    parameters
}

/// The least `max_wal_senders` for so many standbys. Each of them streams, or copies the database, by one connection, and
/// one whose other end vanished keeps its place beside the next one until it is given up; a backup takes two. Without
/// standbys none is needed.
pub const fn least_wal_senders(replicas: u32) -> u32 {
    if replicas == 0 {
        0
    } else {
        replicas.saturating_mul(2).saturating_add(2)
    }
}

/// Too few would keep a standby from its stream for ever, and only its log would say so. What is no plain number the
/// engine judges.
pub(super) fn check_wal_senders(
    parameters: &BTreeMap<String, String>,
    replicas: u32,
    wrong: &mut Vec<Invalid>,
) {
    let given = parameters.get("max_wal_senders");
    let given = given.filter(|value| patterns::COUNT.matches(value));
    let given = given.and_then(|value| value.parse::<u32>().ok());
    let least = least_wal_senders(replicas);
    if let Some(given) = given.filter(|given| *given < least) {
        wrong.push(Invalid::new(
            "spec.parameters.max_wal_senders",
            format!("{given} are too few for spec.replicas {replicas}"),
            format!("give at least {least}, or leave it out"),
        ));
    }
}

pub(super) fn check_hba(records: &[String], wrong: &mut Vec<Invalid>) {
    if records.len() > MOST_RECORDS {
        wrong.push(Invalid::new(
            "spec.pgHba",
            format!("{} records are more than {MOST_RECORDS}", records.len()),
            "let records stand for groups of roles",
        ));
    }
    for (index, record) in records.iter().enumerate() {
        if record.chars().count() > LONGEST_RECORD || !patterns::hba(record).matches(record) {
            wrong.push(Invalid::new(
                format!("spec.pgHba[{index}]"),
                format!(
                    "\"{record}\": an entry is not one record of pg_hba.conf that the engine takes"
                ),
                "write TYPE DATABASE USER ADDRESS METHOD, with TYPE host, hostssl or hostnossl, ADDRESS all, samenet, \
                 samehost or 10.0.0.0/8, METHOD scram-sha-256, md5, reject or trust (cert behind hostssl), and no @FILE",
            ));
        } else if record.starts_with("local") {
            wrong.push(Invalid::new(
                format!("spec.pgHba[{index}]"),
                format!(
                    "\"{record}\": an entry is for the socket, where only the pod itself is and everybody is let in"
                ),
                "remove it, and write host or hostssl for clients",
            ));
        }
    }
}

/// A time of a failover, milliseconds, by its name in the manifest, and what it may be.
type FailoverTime<'a> = (&'static str, &'a mut u32, RangeInclusive<u32>);

fn bounds_of(times: &mut FailoverSpec) -> [FailoverTime<'_>; 6] {
    const LONG: u32 = 600_000;
    [
        (
            "lostAfter",
            &mut times.lost_after_milliseconds,
            1_000..=LONG,
        ),
        (
            "restartWithin",
            &mut times.restart_within_milliseconds,
            0..=LONG,
        ),
        (
            "memberLostAfter",
            &mut times.member_lost_after_milliseconds,
            1_000..=LONG,
        ),
        (
            "asyncAnswersWithin",
            &mut times.async_answers_within_milliseconds,
            0..=LONG,
        ),
        (
            "switchoverWithin",
            &mut times.switchover_within_milliseconds,
            1_000..=LONG,
        ),
        (
            "reseedAfter",
            &mut times.reseed_after_milliseconds,
            10_000..=86_400_000,
        ),
    ]
}

/// Each time as near to the given one as it may be.
pub(super) fn bounded(mut times: FailoverSpec) -> FailoverSpec {
    for (_, value, bounds) in bounds_of(&mut times) {
        *value = (*value).clamp(*bounds.start(), *bounds.end());
    }
    times
}

pub(super) fn check_failover(times: &FailoverSpec, wrong: &mut Vec<Invalid>) {
    let mut times = *times;
    for (field, value, bounds) in bounds_of(&mut times) {
        let value = *value;
        if !bounds.contains(&value) {
            let (least, most) = bounds.into_inner();
            wrong.push(Invalid::new(
                format!("spec.failover.{field}Milliseconds"),
                format!("{value} is not from {least} to {most}"),
                "choose a time in between",
            ));
        }
    }
}
