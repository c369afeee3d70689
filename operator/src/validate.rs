//! From the manifest to a [`ValidatedCluster`], or to what is wrong with it. Pure.
//!
//! Every error names the field's path and the remedy. What passes here can be built: rendering and deciding
//! have no errors of their own for it. On Kubernetes the API server has judged before, by the CRD's rules
//! (`crd/rules.rs`), which say the same; here it is said once more for local mode, for objects that were stored under
//! older rules, and because an operator trusts nobody. What only Kubernetes judges of its own types (`crd/scheduling.rs`)
//! is not said here: a cluster whose spec is refused here may be left without failover, and that is not worth a toleration.

mod bootstrap;
mod change;
mod essentials;
mod pod;
mod quantity;
mod requests;
mod settings;
mod unknown;

pub use bootstrap::Bootstrap;
pub use change::validate_change;
pub use essentials::{Essentials, essentials, failover_times};
pub use pod::PodSettings;
pub use requests::{ForcePromote, Requests, SwitchoverTarget};
pub use settings::least_wal_senders;
pub use unknown::unknown_fields;

use std::collections::BTreeMap;

use crate::crd::owned;
use crate::crd::{Durability, FailoverSpec, ReplicatedCluster, ServiceTemplate, patterns};
pub use crate::names::MAX_NAME;

/// A manifest that makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ValidatedCluster {
    pub name: String,
    pub namespace: String,
    /// The number of standbys.
    pub replicas: u32,
    pub durability: Durability,
    pub storage_bytes: u64,
    /// As it was written, for claims.
    pub storage_size: String,
    pub storage_class: Option<String>,
    /// By lower-case name.
    pub parameters: BTreeMap<String, String>,
    /// Records of `pg_hba.conf`, in order.
    pub hba: Vec<String>,
    pub bootstrap: Bootstrap,
    /// What the instances' pods are like.
    pub pod: PodSettings,
    pub service: ServiceTemplate,
    pub failover: FailoverTimes,
    /// Nothing is to be changed, whatever is seen.
    pub paused: bool,
    pub generation: i64,
    /// What an annotation asks for.
    pub requests: Requests,
}

/// `spec.failover`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailoverTimes {
    pub lost_after_ms: u64,
    pub restart_within_ms: u64,
    pub member_lost_after_ms: u64,
    pub async_answers_within_ms: u64,
    pub switchover_within_ms: u64,
    pub reseed_after_ms: u64,
}

impl From<FailoverSpec> for FailoverTimes {
    fn from(spec: FailoverSpec) -> FailoverTimes {
        FailoverTimes {
            lost_after_ms: spec.lost_after_milliseconds.into(),
            restart_within_ms: spec.restart_within_milliseconds.into(),
            member_lost_after_ms: spec.member_lost_after_milliseconds.into(),
            async_answers_within_ms: spec.async_answers_within_milliseconds.into(),
            switchover_within_ms: spec.switchover_within_milliseconds.into(),
            reseed_after_ms: spec.reseed_after_milliseconds.into(),
        }
    }
}

impl Default for FailoverTimes {
    fn default() -> FailoverTimes {
        FailoverSpec::default().into()
    }
}

/// One thing that is wrong, in the form `spec.replicas: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; {remedy}")]
pub struct Invalid {
    pub path: String,
    pub problem: String,
    pub remedy: String,
}

impl Invalid {
    fn new(
        path: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Invalid {
        Invalid {
            path: path.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

pub const MAX_REPLICAS: u32 = 15;

/// Where a manifest without a namespace goes, and local clusters are.
const DEFAULT_NAMESPACE: &str = "default";

/// Checks everything, and reports everything that is wrong.
///
/// # Errors
/// All findings, in the order of the manifest.
pub fn validate(cluster: &ReplicatedCluster) -> Result<ValidatedCluster, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let metadata = &cluster.metadata;
    let spec = &cluster.spec;
    let name = metadata.name.clone().unwrap_or_default();
    check_name(&name, &mut wrong);
    check_replicas(spec.replicas, spec.durability, &mut wrong);
    let storage_bytes = settings::check_storage(&spec.storage, &mut wrong);
    let parameters = settings::check_parameters(&spec.parameters, &mut wrong);
    settings::check_wal_senders(&parameters, spec.replicas, &mut wrong);
    settings::check_hba(&spec.pg_hba, &mut wrong);
    let bootstrap = bootstrap::check(&name, spec.bootstrap.as_ref(), &mut wrong);
    let pod = pod::check(spec, &mut wrong);
    let service = spec.service_template.clone().unwrap_or_default();
    pod::check_annotations(
        "spec.serviceTemplate.annotations",
        &service.annotations,
        &mut wrong,
    );
    let failover = spec.failover.unwrap_or_default();
    settings::check_failover(&failover, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(ValidatedCluster {
        name,
        namespace: namespace(cluster),
        replicas: spec.replicas,
        durability: spec.durability,
        storage_bytes,
        storage_size: spec.storage.size.clone(),
        storage_class: spec.storage.class.clone(),
        parameters,
        hba: spec.pg_hba.clone(),
        bootstrap,
        pod,
        service,
        failover: failover.into(),
        paused: spec.paused,
        generation: metadata.generation.unwrap_or(1),
        requests: Requests::of(metadata.annotations.as_ref()),
    })
}

fn namespace(cluster: &ReplicatedCluster) -> String {
    let given = cluster.metadata.namespace.clone();
    given.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// Whether the operator sets this one itself, however it is spelled; the answer is the reason.
pub fn owned(parameter: &str) -> Option<&'static str> {
    owned::owned_setting(parameter)
}

fn check_name(name: &str, wrong: &mut Vec<Invalid>) {
    if name.len() > MAX_NAME || !patterns::CLUSTER.matches(name) {
        wrong.push(Invalid::new(
            "metadata.name",
            format!("\"{name}\": it can't name instances and Services"),
            format!("use at most {MAX_NAME} characters of a-z, 0-9 and -, beginning with a letter"),
        ));
    }
}

fn check_replicas(replicas: u32, durability: Durability, wrong: &mut Vec<Invalid>) {
    if replicas > MAX_REPLICAS {
        wrong.push(Invalid::new(
            "spec.replicas",
            format!("{replicas} standbys are more than {MAX_REPLICAS}"),
            format!("choose 0 to {MAX_REPLICAS}"),
        ));
    }
    if durability == Durability::Strict && replicas == 0 {
        wrong.push(Invalid::new(
            "spec.durability",
            "strict waits for every standby and there is none",
            "raise spec.replicas to at least 1, or choose quorum",
        ));
    }
}

#[cfg(test)]
mod tests;
