//! The CustomResourceDefinition as YAML, for `understudy-operator crd` and the file in `crds/`.

use kube::CustomResourceExt;

use super::ReplicatedCluster;

/// The definition with the keys in the order in which Kubernetes' own tools print them.
///
/// # Errors
/// When serialisation fails, which no value of this type does.
pub fn crd_yaml() -> Result<String, serde_norway::Error> {
    serde_norway::to_string(&ReplicatedCluster::crd())
}
