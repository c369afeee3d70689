//! Files and objects of Kubernetes: kubeconfigs, DNS, storage classes, volumes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::certificates::AUTHORITY;
use crate::image::COREDNS;
use crate::layout::{API_PORT, DNS_ADDRESS, HOST_ADDRESS, Layout, Node};

/// The default class: folders on a node.
pub const FOLDER_CLASS: &str = "local";
/// Filesystems of their own, which can be filled and frozen.
pub const DISK_CLASS: &str = "disk";
/// On every volume that the cluster made, with its class as the value.
pub const VOLUME_LABEL: &str = "understudy.dev/cluster-volume";

const DNS: &str = include_str!("../../manifests/coredns.yaml");

/// A kubeconfig that holds everything it needs.
///
/// # Errors
/// If the certificates are not there.
pub fn kubeconfig(layout: &Layout, certificate: &str) -> Result<Value> {
    let encoded = |path: PathBuf| -> Result<String> {
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(BASE64_STANDARD.encode(bytes))
    };
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "understudy",
        "clusters": [{"name": "understudy", "cluster": {
            "server": format!("https://{HOST_ADDRESS}:{API_PORT}"),
            "certificate-authority-data": encoded(layout.certificate(AUTHORITY))?,
        }}],
        "users": [{"name": "understudy", "user": {
            "client-certificate-data": encoded(layout.certificate(certificate))?,
            "client-key-data": encoded(layout.key(certificate))?,
        }}],
        "contexts": [{"name": "understudy", "context": {"cluster": "understudy", "user": "understudy"}}],
    }))
}

/// `CoreDNS` on every node, each asked only by its own node's pods: a node that is cut off takes nobody's DNS with it.
pub fn dns() -> String {
    DNS.replace("COREDNS_IMAGE", COREDNS)
        .replace("DNS_ADDRESS", &DNS_ADDRESS.to_string())
}

pub fn storage_classes() -> Value {
    let class = |name: &str, default: bool| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": name, "annotations": {
                "storageclass.kubernetes.io/is-default-class": default.to_string(),
            }},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain",
        })
    };
    json!({
        "apiVersion": "v1", "kind": "List",
        "items": [class(FOLDER_CLASS, true), class(DISK_CLASS, false)],
    })
}

/// A volume on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub node: Node,
    pub class: String,
    pub path: PathBuf,
    /// As Kubernetes writes it: `10Gi`.
    pub capacity: String,
}

impl Volume {
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": self.name, "labels": {VOLUME_LABEL: self.class}},
            "spec": {
                "capacity": {"storage": self.capacity},
                "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "storageClassName": self.class, "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": self.path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                    "key": "kubernetes.io/hostname", "operator": "In", "values": [self.node.name()],
                }]}]}},
            },
        })
    }

    /// From the object, as the API server has it. `None` if it is not one of ours.
    pub fn from_object(object: &Value) -> Option<Volume> {
        let terms = &object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let node = terms[0]["matchExpressions"][0]["values"][0].as_str()?;
        Some(Volume {
            name: object["metadata"]["name"].as_str()?.to_owned(),
            node: node.parse().ok()?,
            class: object["metadata"]["labels"][VOLUME_LABEL]
                .as_str()?
                .to_owned(),
            path: Path::new(object["spec"]["local"]["path"].as_str()?).to_owned(),
            capacity: object["spec"]["capacity"]["storage"].as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_back_as_it_was_written() {
        let volume = Volume {
            name: "node2-folder-1".to_owned(),
            node: Node::new(2).expect("a node"),
            class: FOLDER_CLASS.to_owned(),
            path: PathBuf::from("/c/nodes/node2/volumes/1"),
            capacity: "10Gi".to_owned(),
        };
        assert_eq!(Volume::from_object(&volume.object()), Some(volume.clone()));
        let mut others = volume.object();
        others["metadata"]["labels"] = json!({});
        assert_eq!(Volume::from_object(&others), None, "somebody else's volume");
    }

    #[test]
    fn dns_manifests_are_whole_and_restricted() {
        let text = dns();
        assert!(!text.contains("COREDNS_IMAGE") && !text.contains("DNS_ADDRESS"));
        let mut pods = 0;
        for document in text.split("\n---\n") {
            let object: Value = serde_norway::from_str(document).expect("YAML");
            assert!(object["kind"].is_string(), "{document}");
            let pod = &object["spec"]["template"]["spec"];
            if pod.is_object() {
                pods += 1;
                let container = &pod["containers"][0];
                assert_eq!(container["image"], COREDNS);
                assert_eq!(container["imagePullPolicy"], "Never");
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["capabilities"]["drop"][0], "ALL");
            }
            if object["kind"] == "Service" {
                assert_eq!(object["spec"]["clusterIP"], "10.96.0.10");
                assert_eq!(object["spec"]["internalTrafficPolicy"], "Local");
            }
        }
        assert_eq!(pods, 1);
    }

    #[test]
    fn one_class_is_the_default() {
        let list = storage_classes();
        let items = list["items"].as_array().expect("a list");
        let key = "storageclass.kubernetes.io/is-default-class";
        let defaults = items
            .iter()
            .filter(|c| c["metadata"]["annotations"][key] == "true");
        assert_eq!(defaults.count(), 1);
    }
}
