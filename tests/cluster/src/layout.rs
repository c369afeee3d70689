//! Names, addresses and paths: what everything in the cluster is called and where it lies. Pure.
//!
//! Each name that is visible on the machine (links, control groups) is fixed, so one machine holds one cluster at a
//! time, and what an interrupted run left can be found by its name alone.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The bridge that joins the nodes. Its alias holds the folder of the cluster that made it.
pub const BRIDGE: &str = "understudy0";
/// The machine's end of the bridge; the control plane listens here and nowhere else.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The namespace through which the machine reaches Service addresses.
pub const SERVICES_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
pub const SERVICES_LINK: &str = "vservices";
pub const SERVICES_NAME: &str = "services";
pub const NODE_RANGE: &str = "10.200.0.0/24";
pub const POD_RANGE: &str = "10.244.0.0/16";
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The first address of the Service range is always the API server's.
pub const API_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub const API_PORT: u16 = 6443;
/// The control group, in every hierarchy, below which all processes of the cluster are.
pub const CGROUP: &str = "understudy-cluster";
pub const MOST_NODES: u8 = 16;

/// A node, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Node(u8);

impl Node {
    /// # Errors
    /// For a number that is not 1 to [`MOST_NODES`].
    pub fn new(number: u8) -> Result<Node> {
        ensure!(
            (1..=MOST_NODES).contains(&number),
            "there is no node {number}: nodes have numbers from 1 to {MOST_NODES}"
        );
        Ok(Node(number))
    }

    /// The first `count` nodes.
    ///
    /// # Errors
    /// For a count that is not 1 to [`MOST_NODES`].
    pub fn first(count: u8) -> Result<Vec<Node>> {
        Node::new(count).context("a cluster of so many nodes cannot be made")?;
        (1..=count).map(Node::new).collect()
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// `node1`: its name in Kubernetes.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, 0, 10 + self.0)
    }

    /// The addresses of its pods.
    pub fn pod_range(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The machine's end of its link; down means that the node is cut off.
    pub fn link(self) -> String {
        format!("vnode{}", self.0)
    }

    /// Its control group, in every hierarchy.
    pub fn cgroup(self) -> String {
        format!("{CGROUP}/{}", self.name())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Node> {
        let number = text.strip_prefix("node").unwrap_or(text);
        match number.parse() {
            Ok(number) => Node::new(number),
            Err(_) => bail!("\"{text}\" is not a node's name: they are called node1, node2, ..."),
        }
    }
}

/// Where a cluster's files are. Everything that it keeps is below one folder.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// `dir` has to be absolute: namespaces and other programs see the paths as well.
    ///
    /// # Errors
    /// If the current folder is not known.
    pub fn new(dir: &Path) -> Result<Layout> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("the folder {} has no absolute path", dir.display()))?;
        Ok(Layout { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was made, to be taken down again.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub fn certificates(&self) -> PathBuf {
        self.dir.join("certificates")
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.certificates().join(format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.certificates().join(format!("{name}.key"))
    }

    pub fn etcd(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    /// Rendered configuration of everything that is not on a node.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The log of a program; a node's programs have a folder of their own.
    pub fn log(&self, node: Option<Node>, program: &str) -> PathBuf {
        let folder = node.map_or_else(|| self.logs(), |node| self.logs().join(node.name()));
        folder.join(format!("{program}.log"))
    }

    /// Holds the files that keep namespaces alive. A private mount on itself: a mount namespace cannot be kept by a
    /// file on a shared mount.
    pub fn namespaces(&self) -> PathBuf {
        self.dir.join("namespaces")
    }

    pub fn network_namespace(&self, name: &str) -> PathBuf {
        self.namespaces().join(format!("{name}.net"))
    }

    pub fn mount_namespace(&self, node: Node) -> PathBuf {
        self.namespaces().join(format!("{node}.mnt"))
    }

    /// What is on a node's own disk.
    pub fn node(&self, node: Node) -> PathBuf {
        self.dir.join("nodes").join(node.name())
    }

    pub fn node_config(&self, node: Node) -> PathBuf {
        self.node(node).join("config")
    }

    pub fn cni_config(&self, node: Node) -> PathBuf {
        self.node(node).join("cni")
    }

    /// Where a node's volumes are: folders, and the mount points of its disks.
    pub fn volumes(&self, node: Node) -> PathBuf {
        self.node(node).join("volumes")
    }

    /// Folders of the node's own that stand, inside its mount namespace, at the paths that its programs have fixed:
    /// on one machine they would share them, and take each other's logs and sockets for garbage of their own.
    pub fn private_folders(&self, node: Node) -> Vec<(PathBuf, &'static Path)> {
        [
            ("containerd", "/var/lib/containerd"),
            ("run-containerd", "/run/containerd"),
            ("kubelet", "/var/lib/kubelet"),
            ("cni-state", "/var/lib/cni"),
            ("pod-logs", "/var/log/pods"),
            ("container-logs", "/var/log/containers"),
            ("run-mount", "/run/mount"),
        ]
        .map(|(own, path)| (self.node(node).join(own), Path::new(path)))
        .into()
    }

    pub fn pod_logs(&self, node: Node) -> PathBuf {
        self.node(node).join("pod-logs")
    }
}

/// Where programs are built once for all clones: `$XDG_CACHE_HOME/understudy/kubernetes`.
///
/// # Errors
/// If neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    Ok(base.join("understudy").join("kubernetes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_names_and_addresses_of_its_own() {
        let nodes = Node::first(MOST_NODES).expect("a possible count");
        let mut seen = std::collections::HashSet::new();
        for node in nodes {
            assert!(node.link().len() <= 15, "the kernel's limit for a link");
            for name in [
                node.name(),
                node.link(),
                node.address().to_string(),
                node.pod_range(),
                node.cgroup(),
            ] {
                assert!(seen.insert(name.clone()), "{name} twice");
            }
            assert_eq!(node.name().parse::<Node>().expect("its own name"), node);
        }
        assert!(!seen.contains(&HOST_ADDRESS.to_string()));
        assert!(!seen.contains(&SERVICES_ADDRESS.to_string()));
    }

    #[test]
    fn impossible_nodes_are_refused() {
        for text in ["node0", "node17", "0", "worker", "node-1", ""] {
            let error = text.parse::<Node>().expect_err(text).to_string();
            assert!(error.contains("node"), "{error}");
        }
        assert!(Node::first(0).is_err());
        assert!(Node::first(MOST_NODES + 1).is_err());
    }

    #[test]
    fn everything_lies_below_the_folder() {
        let layout = Layout::new(Path::new("some/where")).expect("absolute");
        let node = Node::new(2).expect("a node");
        assert!(layout.dir().is_absolute());
        for path in [
            layout.state(),
            layout.kubeconfig(),
            layout.log(Some(node), "kubelet"),
            layout.mount_namespace(node),
            layout.network_namespace(SERVICES_NAME),
            layout.volumes(node),
        ] {
            assert!(path.starts_with(layout.dir()), "{}", path.display());
        }
    }
}
