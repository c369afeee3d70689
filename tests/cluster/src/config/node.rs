//! Configuration of what runs on a node: containerd, its network plugins, kubelet, kube-proxy.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::certificates::{AUTHORITY, of_node};
use crate::image::PAUSE;
use crate::layout::{DNS_ADDRESS, Layout, Node, POD_RANGE};
use crate::programs::CNI_PLUGINS;

/// In each node's mount namespace.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// A TOML string; JSON's escapes are TOML's.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}

pub fn containerd(layout: &Layout, node: Node) -> String {
    let cni = quoted(&layout.cni_config(node));
    let opt = quoted(&layout.node(node).join("opt"));
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE no process's score can be lowered below its parent's.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  sandbox_image = "{PAUSE}"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = {cni}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

/// Pods keep their own addresses on the way to other nodes, as Kubernetes' network model wants it: nothing is
/// masqueraded but what kube-proxy masquerades.
pub fn cni(node: Node) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "understudy",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": "/var/lib/cni/networks",
                    "ranges": [[{"subnet": node.pod_range()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

pub fn kubelet(layout: &Layout, node: Node) -> Value {
    let file = of_node(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": node.address().to_string(), "healthzBindAddress": "127.0.0.1",
        "tlsCertFile": layout.certificate(&file), "tlsPrivateKeyFile": layout.key(&file),
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": false},
            "x509": {"clientCAFile": layout.certificate(AUTHORITY)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", node.cgroup()),
        "clusterDNS": [DNS_ADDRESS.to_string()], "clusterDomain": "cluster.local",
        // The machine's own resolver is not reachable from a pod.
        "resolvConf": "",
        "oomScoreAdj": 0, "failSwapOn": false,
        "nodeStatusUpdateFrequency": "2s",
        // The first restart of a container is at once, as everywhere. A container that tests kill again and again would
        // then wait for minutes; here it waits as long as after its first death, ten seconds.
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        // All nodes share one disk: its fullness is no node's, and no image can be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
            "imagefs.available": "1%", "imagefs.inodesFree": "1%",
        },
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

/// `node` is the node that it takes itself for, which decides what is local. How long it waits from one change of its rules
/// to the next (`minSyncPeriod`, a second) is as users have it: what is measured through Services has that in it.
pub fn kube_proxy(kubeconfig: &Path, node: Node, address: Ipv4Addr, masquerade_all: bool) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": node.name(),
        "bindAddress": address.to_string(),
        "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
        "mode": "iptables", "clusterCIDR": POD_RANGE, "oomScoreAdj": 0,
        "iptables": {"masqueradeAll": masquerade_all},
        // These limits are the machine's, and not ours to change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(Path::new("/some \"where\"")).expect("absolute")
    }

    #[test]
    fn a_path_is_quoted_in_containerds_configuration() {
        let text = containerd(&layout(), Node::new(3).expect("a node"));
        assert!(
            text.contains(r#"conf_dir = "/some \"where\"/nodes/node3/cni""#),
            "{text}"
        );
        assert!(text.contains("restrict_oom_score_adj = true"));
        assert!(text.contains("netns_mounts_under_state_dir = true"));
        assert!(text.contains(&format!("sandbox_image = \"{PAUSE}\"")));
    }

    #[test]
    fn nodes_give_out_addresses_of_their_own_range() {
        for number in 1..=3 {
            let node = Node::new(number).expect("a node");
            let config = cni(node);
            let range = &config["plugins"][0]["ipam"]["ranges"][0][0]["subnet"];
            assert_eq!(range, &format!("10.244.{number}.0/24"));
        }
    }

    #[test]
    fn the_kubelet_stays_in_its_own_control_group() {
        let config = kubelet(&layout(), Node::new(2).expect("a node"));
        assert_eq!(config["cgroupRoot"], "/understudy-cluster/node2");
        assert_eq!(config["cgroupDriver"], "cgroupfs");
        assert_eq!(config["oomScoreAdj"], 0);
        assert_eq!(config["address"], "10.200.0.12");
        // The one may not be set without the other.
        assert_eq!(config["featureGates"]["KubeletCrashLoopBackOffMax"], true);
        let period = &config["crashLoopBackOff"]["maxContainerRestartPeriod"];
        assert_eq!(period, "10s");
    }

    #[test]
    fn only_the_services_namespace_masquerades_everything() {
        let node = Node::new(1).expect("a node");
        for all in [true, false] {
            let config = kube_proxy(Path::new("/k"), node, node.address(), all);
            assert_eq!(config["iptables"]["masqueradeAll"], all);
            assert!(config["iptables"]["minSyncPeriod"].is_null());
            assert_eq!(config["conntrack"]["maxPerCore"], 0);
            assert_eq!(config["clusterCIDR"], "10.244.0.0/16");
        }
    }
}
