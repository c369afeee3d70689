//! What the cluster's programs are told: command lines, configuration files, manifests. Pure.

mod control_plane;
mod node;
mod objects;

pub use control_plane::{api_server, controller_manager, etcd, scheduler};
pub use node::{cni, containerd, kube_proxy, kubelet};
pub use objects::{
    DISK_CLASS, FOLDER_CLASS, VOLUME_LABEL, Volume, dns, kubeconfig, storage_classes,
};
