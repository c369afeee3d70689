//! TLS between operator and instances: the supervisor shows the cluster's server certificate, the operator its own;
//! both are under the cluster's authority, and nobody else's word counts.
//!
//! A connection without a client certificate is let in: kubelets have none, and what they ask is open. Who may give
//! orders is asked afterwards ([`is_operator`]): the instances' own client certificate, which is under the same
//! authority, is not enough.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::render::{Certified, OPERATOR_NAME};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {source}")]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{what} is not usable PEM: {source}")]
    Pem {
        what: String,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{what} holds no certificate")]
    Empty { what: String },
    #[error("certificate and key are refused: {0}")]
    Refused(#[from] rustls::Error),
    #[error("the authority is refused: {0}")]
    Authority(String),
}

/// For the operator's calls, with its own certificate.
///
/// # Errors
/// When authority, certificate or key are not what they should be.
pub fn client(authority: &str, own: &Certified) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = roots("the authority's certificate", authority.as_bytes())?;
    let chain = certificates("the operator's certificate", own.certificate.as_bytes())?;
    let key = private_key("the operator's key", own.key.as_bytes())?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// For an instance's supervisor, from the files `ca.crt`, `server.crt` and `server.key` in `folder`.
///
/// # Errors
/// When a file can't be read, or is not what it should be.
pub fn server(folder: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let read = |name: &str| {
        let path = folder.join(name);
        let file = path.display().to_string();
        std::fs::read(&path)
            .map(|bytes| (file.clone(), bytes))
            .map_err(|source| TlsError::Read { file, source })
    };
    let (what, bytes) = read("ca.crt")?;
    let roots = Arc::new(roots(&what, &bytes)?);
    let (what, bytes) = read("server.crt")?;
    let chain = certificates(&what, &bytes)?;
    let (what, bytes) = read("server.key")?;
    let key = private_key(&what, &bytes)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Authority(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Whether a client that has been verified is the operator: its certificate carries that name.
pub fn is_operator(chain: Option<&[CertificateDer<'_>]>) -> bool {
    let name = ServerName::try_from(OPERATOR_NAME).expect("a constant name");
    chain
        .and_then(<[_]>::first)
        .and_then(|certificate| webpki::EndEntityCert::try_from(certificate).ok())
        .is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            what: what.to_owned(),
            source,
        })?;
    if all.is_empty() {
        return Err(TlsError::Empty {
            what: what.to_owned(),
        });
    }
    Ok(all)
}

fn private_key(what: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| TlsError::Pem {
        what: what.to_owned(),
        source,
    })
}

fn roots(what: &str, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustls::pki_types::pem::PemObject;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::ids::Millis;
    use crate::render::Credentials;
    use crate::validate::ValidatedCluster;

    fn credentials() -> Credentials {
        let cluster = ValidatedCluster {
            name: "orders".to_owned(),
            namespace: "shop".to_owned(),
            ..ValidatedCluster::default()
        };
        Credentials::complete(&cluster, "u", &BTreeMap::new(), Millis::now()).expect("made")
    }

    /// Whether the server takes the client's handshake for the operator's.
    async fn shake(
        server: &Credentials,
        authority: &str,
        own: &Certified,
        name: &str,
    ) -> Option<bool> {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, text) in [
            ("ca.crt", &server.authority.certificate),
            ("server.crt", &server.server.certificate),
            ("server.key", &server.server.key),
        ] {
            std::fs::write(dir.path().join(file), text).expect("written");
        }
        let acceptor = TlsAcceptor::from(super::server(dir.path()).expect("a server"));
        let connector = TlsConnector::from(client(authority, own).expect("a client"));
        let (left, right) = tokio::io::duplex(64 << 10);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let (accepted, connected) =
            tokio::join!(acceptor.accept(left), connector.connect(name, right));
        let (accepted, _) = (accepted.ok()?, connected.ok()?);
        Some(is_operator(accepted.get_ref().1.peer_certificates()))
    }

    #[tokio::test]
    async fn the_operator_alone_is_known_as_the_operator() {
        let ours = credentials();
        let pod = "orders-1-0.orders-instances.shop.svc";
        let ca = &ours.authority.certificate;
        assert_eq!(shake(&ours, ca, &ours.operator, pod).await, Some(true));
        assert_eq!(shake(&ours, ca, &ours.client, pod).await, Some(false));
        // Another cluster's operator, and somebody who stands where a pod should.
        let theirs = credentials();
        assert_ne!(shake(&ours, ca, &theirs.operator, pod).await, Some(true));
        assert_eq!(shake(&theirs, ca, &ours.operator, pod).await, None);
        assert_eq!(
            shake(&ours, ca, &ours.operator, "orders-1-0.elsewhere.svc").await,
            None
        );
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let ours = credentials();
        let error = client("nonsense", &ours.operator).expect_err("no PEM");
        assert_eq!(
            error.to_string(),
            "the authority's certificate holds no certificate"
        );
        let dir = tempfile::tempdir().expect("a folder");
        let error = server(dir.path()).expect_err("no files").to_string();
        assert!(error.contains("ca.crt"), "{error}");
        assert!(CertificateDer::from_pem_slice(ours.client.certificate.as_bytes()).is_ok());
    }
}
