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

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_in_crds_is_what_the_operator_prints() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../crds/replicatedclusters.yaml"
        );
        let file = std::fs::read_to_string(path).expect("crds/replicatedclusters.yaml is there");
        let printed = super::crd_yaml().expect("the definition prints");
        assert!(
            printed.len() < 200_000,
            "too large for kubectl apply: {} bytes",
            printed.len()
        );
        assert!(
            file == printed,
            "crds/ is out of date: understudy-operator crd > crds/replicatedclusters.yaml"
        );
    }
}
