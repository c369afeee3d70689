//! What of a manifest can be gone by although something else in it makes no sense: whether somebody takes over must not
//! hang on a field that nobody has corrected yet.

use super::{FailoverTimes, Requests, check_replicas, namespace, settings};
use crate::crd::{Durability, ReplicatedCluster, ReplicatedClusterSpec};

/// What is decided by, as far as the manifest can be taken at its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Essentials {
    /// As it is given: what exists is called so, even where no new cluster could be.
    pub name: String,
    pub namespace: String,
    /// The number of standbys and what a commit waits for, which are judged together; none if they are refused.
    pub counts: Option<(u32, Durability)>,
    /// Each time as near to the given one as it may be.
    pub failover: FailoverTimes,
    pub paused: bool,
    pub generation: i64,
    pub requests: Requests,
}

/// What a manifest says of it, whatever else it says.
pub fn essentials(cluster: &ReplicatedCluster) -> Essentials {
    let (metadata, spec) = (&cluster.metadata, &cluster.spec);
    let mut wrong = Vec::new();
    check_replicas(spec.replicas, spec.durability, &mut wrong);
    // Standbys that could never stream are not to be made.
    let parameters = settings::check_parameters(&spec.parameters, &mut Vec::new());
    settings::check_wal_senders(&parameters, spec.replicas, &mut wrong);
    let counts = (spec.replicas, spec.durability);
    Essentials {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: namespace(cluster),
        counts: wrong.is_empty().then_some(counts),
        failover: failover_times(spec),
        paused: spec.paused,
        generation: metadata.generation.unwrap_or(1),
        requests: Requests::of(metadata.annotations.as_ref()),
    }
}

/// The times that hold for a cluster with this spec, refused or not: a silence of 0 ms, say, would make everybody lost.
pub fn failover_times(spec: &ReplicatedClusterSpec) -> FailoverTimes {
    settings::bounded(spec.failover.unwrap_or_default()).into()
}
