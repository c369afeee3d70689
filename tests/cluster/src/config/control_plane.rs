//! Command lines of etcd, API server, controller manager and scheduler: all on the machine's end of the bridge.

use std::path::Path;

use crate::certificates::{AUTHORITY, PROXY_AUTHORITY, SERVICE_ACCOUNTS};
use crate::layout::{API_PORT, HOST_ADDRESS, Layout, SERVICE_RANGE};

const ETCD_PORT: u16 = 2379;

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn flags(flags: &[(&str, String)]) -> Vec<String> {
    let flags = flags.iter();
    flags
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

pub fn etcd(layout: &Layout) -> Vec<String> {
    let client = format!("https://{HOST_ADDRESS}:{ETCD_PORT}");
    // There are no peers, and the port for them cannot be left out.
    let peer = format!("https://{HOST_ADDRESS}:{}", ETCD_PORT + 1);
    let certificate = shown(&layout.certificate("etcd"));
    let key = shown(&layout.key("etcd"));
    let authority = shown(&layout.certificate(AUTHORITY));
    flags(&[
        ("name", "etcd".to_owned()),
        ("data-dir", shown(&layout.etcd())),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("etcd={peer}")),
        ("client-cert-auth", "true".to_owned()),
        ("trusted-ca-file", authority.clone()),
        ("cert-file", certificate.clone()),
        ("key-file", key.clone()),
        ("peer-client-cert-auth", "true".to_owned()),
        ("peer-trusted-ca-file", authority),
        ("peer-cert-file", certificate),
        ("peer-key-file", key),
    ])
}

pub fn api_server(layout: &Layout) -> Vec<String> {
    let certificate = |name| shown(&layout.certificate(name));
    let key = |name| shown(&layout.key(name));
    let public = layout.certificates().join("service-accounts.pub");
    flags(&[
        ("advertise-address", HOST_ADDRESS.to_string()),
        ("bind-address", HOST_ADDRESS.to_string()),
        ("secure-port", API_PORT.to_string()),
        ("service-cluster-ip-range", SERVICE_RANGE.to_owned()),
        (
            "etcd-servers",
            format!("https://{HOST_ADDRESS}:{ETCD_PORT}"),
        ),
        ("etcd-cafile", certificate(AUTHORITY)),
        ("etcd-certfile", certificate("etcd")),
        ("etcd-keyfile", key("etcd")),
        ("client-ca-file", certificate(AUTHORITY)),
        ("tls-cert-file", certificate("apiserver")),
        ("tls-private-key-file", key("apiserver")),
        ("kubelet-certificate-authority", certificate(AUTHORITY)),
        (
            "kubelet-client-certificate",
            certificate("apiserver-kubelet"),
        ),
        ("kubelet-client-key", key("apiserver-kubelet")),
        // Node names are in no DNS: exec and logs would look them up.
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local".to_owned(),
        ),
        ("service-account-key-file", shown(&public)),
        ("service-account-signing-key-file", key(SERVICE_ACCOUNTS)),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("allow-privileged", "true".to_owned()),
        // There is one API server, always at the same address: no lease has to say so, or can run out.
        ("endpoint-reconciler-type", "master-count".to_owned()),
        ("requestheader-client-ca-file", certificate(PROXY_AUTHORITY)),
        (
            "requestheader-allowed-names",
            "front-proxy-client".to_owned(),
        ),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".to_owned(),
        ),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("proxy-client-cert-file", certificate("front-proxy")),
        ("proxy-client-key-file", key("front-proxy")),
        ("profiling", "false".to_owned()),
        ("v", "1".to_owned()),
    ])
}

/// What controller manager and scheduler have in common.
fn of_a_controller(kubeconfig: &Path) -> Vec<(&'static str, String)> {
    let kubeconfig = shown(kubeconfig);
    vec![
        ("kubeconfig", kubeconfig.clone()),
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig),
        ("bind-address", HOST_ADDRESS.to_string()),
        // There is one of each.
        ("leader-elect", "false".to_owned()),
        ("profiling", "false".to_owned()),
        ("v", "1".to_owned()),
    ]
}

pub fn controller_manager(layout: &Layout, kubeconfig: &Path) -> Vec<String> {
    let mut all = of_a_controller(kubeconfig);
    all.extend([
        ("root-ca-file", shown(&layout.certificate(AUTHORITY))),
        (
            "service-account-private-key-file",
            shown(&layout.key(SERVICE_ACCOUNTS)),
        ),
        (
            "cluster-signing-cert-file",
            shown(&layout.certificate(AUTHORITY)),
        ),
        ("cluster-signing-key-file", shown(&layout.key(AUTHORITY))),
        ("use-service-account-credentials", "true".to_owned()),
        // The default is a folder of the machine's, which would be made.
        (
            "flex-volume-plugin-dir",
            shown(&layout.config().join("volume-plugins")),
        ),
        // Half of the default: a test that loses a node need not wait longer. Nothing of ours may depend on it.
        ("node-monitor-grace-period", "20s".to_owned()),
    ]);
    flags(&all)
}

pub fn scheduler(kubeconfig: &Path) -> Vec<String> {
    flags(&of_a_controller(kubeconfig))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn nothing_listens_outside_the_bridge() {
        let layout = Layout::new(Path::new("/c")).expect("absolute");
        let kubeconfig = PathBuf::from("/c/k");
        for flags in [
            etcd(&layout),
            api_server(&layout),
            controller_manager(&layout, &kubeconfig),
            scheduler(&kubeconfig),
        ] {
            let mut listening = 0;
            for flag in &flags {
                let (name, value) = flag.split_once('=').expect("a value");
                if name.contains("listen-") || name == "--bind-address" {
                    listening += 1;
                    assert!(value.contains("10.200.0.1"), "{flag}");
                }
            }
            assert!(listening > 0, "{flags:?}");
        }
    }

    #[test]
    fn each_file_that_is_named_is_one_that_is_made() {
        let layout = Layout::new(Path::new("/c")).expect("absolute");
        let mut made: Vec<PathBuf> = [AUTHORITY, PROXY_AUTHORITY, SERVICE_ACCOUNTS]
            .iter()
            .flat_map(|name| [layout.certificate(name), layout.key(name)])
            .collect();
        made.push(layout.certificates().join("service-accounts.pub"));
        for wanted in crate::certificates::wanted(&[]) {
            made.push(layout.certificate(&wanted.file));
            made.push(layout.key(&wanted.file));
        }
        let kubeconfig = PathBuf::from("/c/k");
        let all = [
            etcd(&layout),
            api_server(&layout),
            controller_manager(&layout, &kubeconfig),
        ];
        let named = all.iter().flatten().filter_map(|flag| {
            let (_, value) = flag.split_once('=')?;
            let path = PathBuf::from(value);
            path.starts_with(layout.certificates()).then_some(path)
        });
        let named: Vec<PathBuf> = named.collect();
        assert!(named.len() > 10);
        for path in named {
            assert!(made.contains(&path), "{}", path.display());
        }
    }
}
