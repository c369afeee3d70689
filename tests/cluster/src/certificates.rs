//! The cluster's certificates: one authority for its programs, one for requests that the API server passes on, and the
//! key that signs service accounts' tokens.
//!
//! Names and organisations are what Kubernetes' authorisers look at: `system:node:NAME` in `system:nodes` is a kubelet,
//! `system:masters` may do anything.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::layout::{API_SERVICE_ADDRESS, HOST_ADDRESS, Layout, Node};

/// Signs everything but [`PROXY_AUTHORITY`]'s.
pub const AUTHORITY: &str = "ca";
/// Its certificates say that a request comes from the API server on behalf of somebody.
pub const PROXY_AUTHORITY: &str = "front-proxy-ca";
pub const SERVICE_ACCOUNTS: &str = "service-accounts";

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of its files.
    pub file: String,
    pub issuer: &'static str,
    pub name: String,
    pub organisation: Option<&'static str>,
    /// What clients may call it.
    pub host_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

fn client(file: &str, name: &str, organisation: Option<&'static str>) -> Wanted {
    Wanted {
        file: file.to_owned(),
        issuer: AUTHORITY,
        name: name.to_owned(),
        organisation,
        host_names: Vec::new(),
        addresses: Vec::new(),
    }
}

/// The file of a node's certificate, with which it serves and asks.
pub fn of_node(node: Node) -> String {
    format!("kubelet-{node}")
}

/// Every certificate of a cluster.
pub fn wanted(nodes: &[Node]) -> Vec<Wanted> {
    let mut api_names: Vec<String> = ["localhost", "kubernetes"].map(str::to_owned).into();
    for suffix in ["default", "default.svc", "default.svc.cluster.local"] {
        api_names.push(format!("kubernetes.{suffix}"));
    }
    let host = IpAddr::from(HOST_ADDRESS);
    let mut all = vec![
        Wanted {
            addresses: vec![host],
            ..client("etcd", "etcd", None)
        },
        Wanted {
            host_names: api_names,
            addresses: vec![host, IpAddr::from(API_SERVICE_ADDRESS)],
            ..client("apiserver", "kube-apiserver", None)
        },
        client("admin", "understudy-admin", Some("system:masters")),
        client(
            "apiserver-kubelet",
            "kube-apiserver",
            Some("system:masters"),
        ),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("kube-proxy", "system:kube-proxy", None),
        Wanted {
            issuer: PROXY_AUTHORITY,
            ..client("front-proxy", "front-proxy-client", None)
        },
    ];
    all.extend(nodes.iter().map(|node| Wanted {
        host_names: vec![node.name()],
        addresses: vec![IpAddr::from(node.address())],
        ..client(
            &of_node(*node),
            &format!("system:node:{node}"),
            Some("system:nodes"),
        )
    }));
    all
}

/// Makes all keys and certificates anew.
///
/// # Errors
/// If they cannot be written.
pub fn write_all(layout: &Layout, nodes: &[Node]) -> Result<()> {
    fs::create_dir_all(layout.certificates()).context("make the certificates' folder")?;
    let authority = authority(layout, AUTHORITY)?;
    let proxy_authority = self::authority(layout, PROXY_AUTHORITY)?;
    for wanted in wanted(nodes) {
        let issuer = if wanted.issuer == AUTHORITY {
            &authority
        } else {
            &proxy_authority
        };
        let failed = || format!("make the certificate {}", wanted.file);
        let key = KeyPair::generate().with_context(failed)?;
        let certificate = parameters(&wanted)
            .and_then(|p| p.signed_by(&key, issuer))
            .with_context(failed)?;
        write_private(&layout.key(&wanted.file), &key.serialize_pem())?;
        write(&layout.certificate(&wanted.file), &certificate.pem())?;
    }
    let key = KeyPair::generate().context("make the service accounts' key")?;
    write_private(&layout.key(SERVICE_ACCOUNTS), &key.serialize_pem())?;
    let public = layout.certificates().join("service-accounts.pub");
    write(&public, &key.public_key_pem())
}

fn authority(layout: &Layout, name: &str) -> Result<Issuer<'static, KeyPair>> {
    let failed = || format!("make the authority {name}");
    let key = KeyPair::generate().with_context(failed)?;
    let mut parameters = CertificateParams::default();
    valid_for_long(&mut parameters);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = parameters.self_signed(&key).with_context(failed)?;
    write(&layout.certificate(name), &certificate.pem())?;
    write_private(&layout.key(name), &key.serialize_pem())?;
    Ok(Issuer::new(parameters, key))
}

fn parameters(wanted: &Wanted) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(wanted.host_names.clone())?;
    valid_for_long(&mut parameters);
    let addresses = wanted.addresses.iter().copied().map(SanType::IpAddress);
    parameters.subject_alt_names.extend(addresses);
    parameters
        .distinguished_name
        .push(DnType::CommonName, wanted.name.as_str());
    if let Some(organisation) = wanted.organisation {
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, organisation);
    }
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

/// A cluster lives for days at most; a machine's clock may be wrong.
fn valid_for_long(parameters: &mut CertificateParams) {
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2049, 1, 1);
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = || format!("write {}", path.display());
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{run, system};

    #[test]
    fn openssl_accepts_each_certificate_for_its_names_and_use() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path()).expect("absolute");
        let nodes = Node::first(2).expect("nodes");
        write_all(&layout, &nodes).expect("written");
        for wanted in wanted(&nodes) {
            for purpose in ["sslclient", "sslserver"] {
                let mut verify = system("openssl");
                verify.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]);
                verify.arg(layout.certificate(wanted.issuer));
                for address in &wanted.addresses {
                    verify.args(["-verify_ip", &address.to_string()]);
                }
                run(verify.arg(layout.certificate(&wanted.file))).expect("it verifies");
            }
            let mut show = system("openssl");
            show.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"]);
            let subject = run(show.arg(layout.certificate(&wanted.file))).expect("shown");
            assert!(
                subject.contains(&format!("CN={}", wanted.name)),
                "{subject}"
            );
            if let Some(organisation) = wanted.organisation {
                assert!(subject.contains(&format!("O={organisation}")), "{subject}");
            }
        }
        let mut other = system("openssl");
        other.args(["verify", "-CAfile"]);
        other.arg(layout.certificate(PROXY_AUTHORITY));
        run(other.arg(layout.certificate("admin"))).expect_err("another authority's");
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path()).expect("absolute");
        write_all(&layout, &Node::first(1).expect("a node")).expect("written");
        for file in ["ca", "admin", "kubelet-node1", SERVICE_ACCOUNTS] {
            let mode = fs::metadata(layout.key(file)).expect("there").permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
        }
    }
}
