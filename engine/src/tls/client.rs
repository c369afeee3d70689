//! The client's side: what a connection string asks for, with libpq's meaning of `sslmode` and its messages.
//!
//! Source: manual, 34.19. Unlike a browser, libpq looks at the common name where a certificate names no host, checks
//! the authority without the name (`verify-ca`), and encrypts without checking anything (`require` without a root
//! certificate); so the certificates are judged here, on `webpki`'s path building.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor,
    UnixTime,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use super::certificate::Certificate;
use super::files::{self, FileFault, KeyAccess};
use super::provider;
use super::versions::{self, RangeFault};
use crate::config::conninfo::{ConnInfo, SslMode};

/// libpq's folder below the home directory, for what the connection string does not name.
const USUAL_FOLDER: &str = ".postgresql";

/// Why a connection cannot be encrypted as asked. The text names the file and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientTlsError(String);

fn error<T>(text: impl Into<String>) -> Result<T, ClientTlsError> {
    Err(ClientTlsError(text.into()))
}

/// What one connection is encrypted with.
#[derive(Debug, Clone)]
pub struct ClientTls {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

impl ClientTls {
    /// `host` is what the connection string calls the server, not an address that stands beside the name.
    pub fn new(
        info: &ConnInfo,
        mode: SslMode,
        host: Option<&str>,
    ) -> Result<ClientTls, ClientTlsError> {
        let versions = protocol_versions(info)?;
        let trust = trust(info, mode)?;
        let verify_host = match (mode, host) {
            (SslMode::VerifyFull, None) => {
                return error("host name must be specified for a verified SSL connection");
            }
            (SslMode::VerifyFull, Some(host)) => Some(host.to_owned()),
            _ => None,
        };
        let verifier = Verifier {
            trust,
            host: verify_host,
            algorithms: provider().signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|e| ClientTlsError(format!("could not create SSL context: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own_certificate(info)? {
            Some(certified) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = info.or_environment("sslsni", "PGSSLSNI").as_deref() != Some("0");
        Ok(ClientTls {
            config: Arc::new(config),
            server_name: server_name(host),
        })
    }
}

/// For the server's eyes (SNI) only. A host that is neither a name nor an address is shown to nobody.
fn server_name(host: Option<&str>) -> ServerName<'static> {
    host.and_then(|h| ServerName::try_from(h.to_owned()).ok())
        .unwrap_or(ServerName::IpAddress(
            std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED).into(),
        ))
}

/// What kept a handshake from its end, in libpq's words.
pub fn handshake_failure(e: &std::io::Error) -> String {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(own))) => {
            own.to_string()
        }
        Some(other) => format!("SSL error: {other}"),
        None if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "SSL SYSCALL error: EOF detected".to_owned()
        }
        None => format!("SSL SYSCALL error: {e}"),
    }
}

fn protocol_versions(
    info: &ConnInfo,
) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, ClientTlsError> {
    let text = |keyword, variable| info.or_environment(keyword, variable).unwrap_or_default();
    let lowest = match text("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION") {
        none if none.is_empty() => "TLSv1.2".to_owned(),
        given => given,
    };
    let highest = text("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION");
    versions::range(&lowest, &highest).map_err(|fault| {
        ClientTlsError(match fault {
            RangeFault::Reversed => "invalid SSL protocol version range".to_owned(),
            RangeFault::Unknown => format!(
                "invalid ssl_min_protocol_version or ssl_max_protocol_version value: \"{lowest}\" to \"{highest}\""
            ),
            RangeFault::NotSupported => format!(
                "ssl_max_protocol_version \"{highest}\" is not implemented; TLSv1.2 and TLSv1.3 are"
            ),
        })
    })
}

/// The file that a keyword names, or libpq's usual one. `None` only where there is no home directory.
fn file_of(info: &ConnInfo, keyword: &str, variable: &str, usual: &str) -> Option<PathBuf> {
    if let Some(given) = info.or_environment(keyword, variable) {
        return Some(PathBuf::from(given));
    }
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty())?;
    Some(Path::new(&home).join(USUAL_FOLDER).join(usual))
}

/// The authorities that server certificates are checked against.
#[derive(Debug)]
struct Trust {
    file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    revocation: Vec<webpki::CertRevocationList<'static>>,
}

/// A root certificate that exists is used in every mode, so that `require` with one checks like `verify-ca`.
fn trust(info: &ConnInfo, mode: SslMode) -> Result<Option<Trust>, ClientTlsError> {
    const REMEDY: &str =
        "Either provide the file or change sslmode to disable server certificate verification.";
    let file = file_of(info, "sslrootcert", "PGSSLROOTCERT", "root.crt");
    let Some(file) = file.filter(|f| f.exists()) else {
        if !mode.verifies() {
            return Ok(None);
        }
        return match file_of(info, "sslrootcert", "PGSSLROOTCERT", "root.crt") {
            Some(file) => error(format!(
                "root certificate file \"{}\" does not exist. {REMEDY}",
                file.display()
            )),
            None => error(format!(
                "could not get home directory to locate root certificate file. {REMEDY}"
            )),
        };
    };
    let shown = file.display().to_string();
    let wrong = |why: &dyn std::fmt::Display| {
        ClientTlsError(format!(
            "could not read root certificate file \"{shown}\": {why}"
        ))
    };
    let certificates = files::certificates(&file).map_err(|e| wrong(&e))?;
    let anchors = certificates
        .iter()
        .map(|c| webpki::anchor_from_trusted_cert(c).map(|a| a.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(&e))?;
    Ok(Some(Trust {
        revocation: revocation(info)?,
        file,
        certificates,
        anchors,
    }))
}

fn revocation(info: &ConnInfo) -> Result<Vec<webpki::CertRevocationList<'static>>, ClientTlsError> {
    if info.or_environment("sslcrldir", "PGSSLCRLDIR").is_some() {
        return error(
            "sslcrldir is not implemented: put the lists into one file and name it with sslcrl",
        );
    }
    let Some(path) = info.or_environment("sslcrl", "PGSSLCRL").map(PathBuf::from) else {
        return Ok(Vec::new());
    };
    let wrong = |why: &dyn std::fmt::Display| {
        ClientTlsError(format!(
            "could not read certificate revocation list file \"{}\": {why}",
            path.display()
        ))
    };
    files::revocation_lists(&path)
        .map_err(|e| wrong(&e))?
        .iter()
        .map(|list: &CertificateRevocationListDer<'_>| {
            webpki::OwnedCertRevocationList::from_der(list)
                .map(webpki::CertRevocationList::Owned)
                .map_err(|e| wrong(&e))
        })
        .collect()
}

/// The client's certificate with its key. A file that is not there means that there is none; whether that will do is
/// the server's to say.
fn own_certificate(info: &ConnInfo) -> Result<Option<CertifiedKey>, ClientTlsError> {
    let Some(path) = file_of(info, "sslcert", "PGSSLCERT", "postgresql.crt") else {
        return Ok(None);
    };
    let shown = path.display();
    let chain = match files::certificates(&path) {
        Ok(chain) => chain,
        Err(FileFault::Io(e))
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(FileFault::Io(e)) => {
            return error(format!(
                "could not open certificate file \"{shown}\": {}",
                FileFault::Io(e)
            ));
        }
        Err(e) => return error(format!("could not read certificate file \"{shown}\": {e}")),
    };
    let leaf = Certificate::parse(&chain[0])
        .map_err(|e| ClientTlsError(format!("could not read certificate file \"{shown}\": {e}")))?;
    let key_path = file_of(info, "sslkey", "PGSSLKEY", "postgresql.key");
    let Some(key_path) = key_path else {
        return error(
            "could not get home directory to locate private key file; name it with sslkey",
        );
    };
    own_key(&key_path, chain, &leaf).map(Some)
}

fn own_key(
    path: &Path,
    chain: Vec<CertificateDer<'static>>,
    leaf: &Certificate,
) -> Result<CertifiedKey, ClientTlsError> {
    let shown = path.display();
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return error(format!(
                "certificate present, but not private key file \"{shown}\""
            ));
        }
        Err(e) => {
            return error(format!(
                "could not stat private key file \"{shown}\": {}",
                FileFault::Io(e)
            ));
        }
    };
    match files::client_key_access(&meta) {
        KeyAccess::Fine => {}
        KeyAccess::NotRegular | KeyAccess::Owner => {
            return error(format!(
                "private key file \"{shown}\" is not a regular file"
            ));
        }
        KeyAccess::GroupOrWorld => {
            return error(format!(
                "private key file \"{shown}\" has group or world access; file must have permissions u=rw (0600) or less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
            ));
        }
    }
    let wrong = |why: &dyn std::fmt::Display| {
        ClientTlsError(format!(
            "could not load private key file \"{shown}\": {why}"
        ))
    };
    let key = files::private_key(path).map_err(|e| wrong(&e))?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|e| wrong(&e))?;
    let public = key.public_key().map(|k| k.to_vec());
    if public.is_some() && public != leaf.public_key() {
        return Err(wrong(&"key values mismatch"));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// Judges the server's certificate.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate will do, it only has to be the one of the key that signs.
    trust: Option<Trust>,
    /// `verify-full`.
    host: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

fn refused(text: String) -> rustls::Error {
    rustls::CertificateError::Other(OtherError(Arc::new(ClientTlsError(text)))).into()
}

impl Verifier {
    fn check_chain(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let wrong = |why: &dyn std::fmt::Display| {
            refused(format!(
                "SSL error: certificate verify failed: {why}; the authority has to be in the root certificate file \"{}\"",
                trust.file.display()
            ))
        };
        // A certificate that is itself trusted needs no authority: that of a server that signed its own.
        if trust
            .certificates
            .iter()
            .any(|c| c.as_ref() == end_entity.as_ref())
        {
            let own = Certificate::parse(end_entity).map_err(|e| wrong(&e))?;
            return if own.is_valid_at(now.as_secs()) {
                Ok(())
            } else {
                Err(wrong(&"certificate has expired, or is not yet valid"))
            };
        }
        let lists: Vec<&webpki::CertRevocationList<'_>> = trust.revocation.iter().collect();
        let revocation = webpki::RevocationOptionsBuilder::new(&lists).ok().map(|b| {
            b.with_expiration_policy(webpki::ExpirationPolicy::Enforce)
                .build()
        });
        webpki::EndEntityCert::try_from(end_entity)
            .and_then(|cert| {
                cert.verify_for_usage(
                    self.algorithms.all,
                    &trust.anchors,
                    intermediates,
                    now,
                    webpki::KeyUsage::server_auth(),
                    revocation,
                    None,
                )
                .map(|_| ())
            })
            .map_err(|e| wrong(&chain_fault(&e)))
    }

    /// The key of the certificate, whatever version of X.509 that has.
    fn key_of(
        certificate: &CertificateDer<'_>,
    ) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
        Certificate::parse(certificate)
            .ok()
            .and_then(|c| c.public_key())
            .map(SubjectPublicKeyInfoDer::from)
            .ok_or_else(|| rustls::CertificateError::BadEncoding.into())
    }
}

/// OpenSSL's words for what is common.
fn chain_fault(e: &webpki::Error) -> String {
    match e {
        webpki::Error::UnknownIssuer => "unable to get local issuer certificate".to_owned(),
        webpki::Error::CertExpired { .. } => "certificate has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "certificate is not yet valid".to_owned(),
        webpki::Error::CertRevoked => "certificate revoked".to_owned(),
        webpki::Error::UnknownRevocationStatus => "unable to get certificate CRL".to_owned(),
        webpki::Error::CrlExpired { .. } => "CRL has expired".to_owned(),
        webpki::Error::UnsupportedCertVersion => {
            "it is an X.509 certificate of version 1; make one of version 3, with a subjectAltName"
                .to_owned()
        }
        webpki::Error::CaUsedAsEndEntity => {
            "an authority's own certificate is used as a server's".to_owned()
        }
        other => other.to_string(),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trust) = &self.trust {
            self.check_chain(trust, end_entity, intermediates, now)?;
        }
        if let Some(host) = &self.host {
            Certificate::parse(end_entity)
                .map_err(|e| refused(e.to_string()))?
                .is_for_host(host)
                .map_err(|e| refused(e.to_string()))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = Verifier::key_of(certificate)?;
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
