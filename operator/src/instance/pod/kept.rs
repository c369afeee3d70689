//! The last valid cluster object, kept on the volume: with it a supervisor goes on while the API is away.

use std::io;

use kube::api::ObjectMeta;

use crate::crd::ReplicatedCluster;
use crate::durable;
use crate::instance::Volume;
use crate::validate::{Invalid, ValidatedCluster, validate};

/// A cluster object that makes sense, with its identity.
#[derive(Clone, Debug)]
pub struct Valid {
    pub uid: String,
    pub cluster: ValidatedCluster,
}

/// # Errors
/// What is wrong with its spec.
pub fn valid(object: &ReplicatedCluster) -> Result<Valid, String> {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let cluster = validate(object).map_err(|wrong: Vec<Invalid>| {
        let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        format!("the spec of {name} is not valid: {}", all.join("; "))
    })?;
    Ok(Valid { uid, cluster })
}

/// Makes it what the next start begins with.
pub fn keep(volume: &Volume, object: &ReplicatedCluster) -> io::Result<()> {
    let metadata = &object.metadata;
    let kept = ReplicatedCluster {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            ..ObjectMeta::default()
        },
        spec: object.spec.clone(),
        status: None,
    };
    let bytes = serde_json::to_vec(&kept).map_err(io::Error::other)?;
    if durable::read(&volume.cluster())?.as_ref() == Some(&bytes) {
        return Ok(());
    }
    durable::replace(&volume.cluster(), &bytes)
}

/// Namespace and name of the cluster that the volume belongs to, if that can be told.
pub fn owner(volume: &Volume) -> io::Result<Option<(Option<String>, Option<String>)>> {
    let Some(bytes) = durable::read(&volume.cluster())? else {
        return Ok(None);
    };
    let read: Result<ReplicatedCluster, _> = serde_json::from_slice(&bytes);
    Ok(read.ok().map(|o| (o.metadata.namespace, o.metadata.name)))
}

/// None on a new volume, and if what is there is of no use any more: then the API has to be asked.
pub fn load(volume: &Volume) -> io::Result<Option<Valid>> {
    let Some(bytes) = durable::read(&volume.cluster())? else {
        return Ok(None);
    };
    let read: Result<ReplicatedCluster, _> = serde_json::from_slice(&bytes);
    let valid = read.map_err(|e| e.to_string()).and_then(|o| valid(&o));
    match valid {
        Ok(valid) => Ok(Some(valid)),
        Err(error) => {
            tracing::warn!(%error, "the kept cluster object is of no use");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_valid_last_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        assert!(load(&volume).expect("read").is_none());
        let mut object: ReplicatedCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": {"storage": {"size": "1Gi"}, "parameters": {"work_mem": "8MB"}},
        }))
        .expect("reads");
        keep(&volume, &object).expect("kept");
        let kept = load(&volume).expect("read").expect("there");
        assert_eq!((kept.uid.as_str(), kept.cluster.generation), ("u", 3));
        assert_eq!(kept.cluster.parameters["work_mem"], "8MB");
        object
            .spec
            .parameters
            .insert("port".to_owned(), "1".to_owned());
        let said = valid(&object).expect_err("the operator's own");
        assert!(
            said.contains("spec.parameters") && said.contains("orders"),
            "{said}"
        );
        std::fs::write(volume.cluster(), "{").expect("written");
        assert!(load(&volume).expect("read").is_none());
    }
}
