//! The server's side: from the `ssl_*` settings to a configuration that connections are accepted with.
//!
//! Everything is read at once and judged as a whole, so that a reload takes all of it or nothing. A configuration
//! never changes; connections keep the one that they came in with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ServerConfig, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::certificate::Certificate;
use super::files::{self, FileFault, KeyAccess};
use super::provider;
use super::versions::{self, RangeFault};
use crate::config::ServerSettings;
use crate::config::error::Complaint;

/// What encrypted connections are accepted with.
#[derive(Debug)]
pub struct ServerTls {
    pub config: Arc<ServerConfig>,
    /// The hash of our certificate for channel binding, if there is one for its kind of signature.
    pub end_point: Option<Arc<[u8]>>,
    /// There is an authority that client certificates are checked against.
    pub verifies_clients: bool,
    /// For the hint to a client that speaks none of them.
    pub lowest: String,
    pub highest: String,
}

impl ServerTls {
    /// Reads the files that the settings name, relative to the data directory. The error is PostgreSQL's, and stops
    /// a start.
    pub fn load(s: &ServerSettings) -> Result<ServerTls, Complaint> {
        let lowest = s.values.choice("ssl_min_protocol_version");
        let highest = s.values.choice("ssl_max_protocol_version");
        let (chain, end_point, leaf) = own_chain(s)?;
        let key = own_key(s, &leaf)?;
        let versions = versions::range(lowest, highest).map_err(|f| wrong_range(f, highest))?;
        let verifier = client_verifier(s)?;
        let verifies_clients = verifier.is_some();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|e| {
                Complaint::new(format!("could not set SSL protocol version range: {e}"))
            })?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut config = builder.with_cert_resolver(Arc::new(certified));
        config.ignore_client_order = s.values.bool("ssl_prefer_server_ciphers");
        // Sessions are not resumed, as in PostgreSQL: each connection proves everything anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ServerTls {
            config: Arc::new(config),
            end_point: end_point.map(Arc::from),
            verifies_clients,
            lowest: versions::NAMES[2..]
                .iter()
                .copied()
                .find(|n| *n >= lowest)
                .unwrap_or(lowest)
                .to_owned(),
            highest: if highest.is_empty() {
                versions::NAMES[3].to_owned()
            } else {
                highest.to_owned()
            },
        })
    }
}

/// The setting's own words for messages, and where the file is.
fn file(s: &ServerSettings, setting: &'static str) -> Option<(String, PathBuf)> {
    let name = s.values.text(setting);
    (!name.is_empty()).then(|| (name.to_string(), s.data_directory.join(&*name)))
}

type Chain = (Vec<CertificateDer<'static>>, Option<Vec<u8>>, Certificate);

fn own_chain(s: &ServerSettings) -> Result<Chain, Complaint> {
    let (name, path) = file(s, "ssl_cert_file").unwrap_or_default();
    let wrong = |why: &dyn std::fmt::Display| {
        Complaint::new(format!(
            "could not load server certificate file \"{name}\": {why}"
        ))
    };
    let chain = files::certificates(&path).map_err(|e| wrong(&e))?;
    let leaf = Certificate::parse(&chain[0]).map_err(|e| wrong(&e))?;
    let end_point = leaf.end_point_hash(&chain[0]);
    Ok((chain, end_point, leaf))
}

fn own_key(s: &ServerSettings, leaf: &Certificate) -> Result<Arc<dyn SigningKey>, Complaint> {
    let (name, path) = file(s, "ssl_key_file").unwrap_or_default();
    let wrong = |why: &dyn std::fmt::Display| {
        Complaint::new(format!("could not load private key file \"{name}\": {why}"))
    };
    check_access(&name, &path)?;
    let key = match files::private_key(&path) {
        Ok(key) => key,
        Err(e @ FileFault::Encrypted) => {
            return Err(Complaint {
                hint: Some("ssl_passphrase_command is not implemented.".to_owned()),
                ..wrong(&e)
            });
        }
        Err(e) => return Err(wrong(&e)),
    };
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|e| wrong(&e))?;
    // A key of another certificate would fail each handshake; it is found now.
    let public = key.public_key().map(|k| k.to_vec());
    if public.is_some() && public != leaf.public_key() {
        return Err(wrong(&"key values mismatch"));
    }
    Ok(key)
}

fn check_access(name: &str, path: &Path) -> Result<(), Complaint> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Complaint::new(format!(
            "could not access private key file \"{name}\": {}",
            FileFault::Io(e)
        ))
    })?;
    let own_uid = rustix::process::geteuid().as_raw();
    match files::server_key_access(&meta, own_uid) {
        KeyAccess::Fine => Ok(()),
        KeyAccess::NotRegular => Err(Complaint::new(format!(
            "private key file \"{name}\" is not a regular file"
        ))),
        KeyAccess::Owner => Err(Complaint::new(format!(
            "private key file \"{name}\" must be owned by the database user or root"
        ))),
        KeyAccess::GroupOrWorld => Err(Complaint {
            detail: Some("File must have permissions u=rw (0600) or less if owned by the database user, or permissions u=rw,g=r (0640) or less if owned by root.".to_owned()),
            ..Complaint::new(format!(
                "private key file \"{name}\" has group or world access"
            ))
        }),
    }
}

fn wrong_range(fault: RangeFault, highest: &str) -> Complaint {
    match fault {
        RangeFault::Reversed => Complaint {
            detail: Some(
                "\"ssl_min_protocol_version\" cannot be higher than \"ssl_max_protocol_version\""
                    .to_owned(),
            ),
            ..Complaint::new("could not set SSL protocol version range")
        },
        RangeFault::NotSupported | RangeFault::Unknown => Complaint {
            hint: Some("TLSv1.2 and TLSv1.3 are implemented.".to_owned()),
            ..Complaint::new(format!(
                "\"ssl_max_protocol_version\" setting \"{highest}\" not supported by this build"
            ))
        },
    }
}

/// With an authority a client may show a certificate and need not; what it shows must be right.
fn client_verifier(s: &ServerSettings) -> Result<Option<Arc<dyn ClientCertVerifier>>, Complaint> {
    let Some((name, path)) = file(s, "ssl_ca_file") else {
        return Ok(None);
    };
    let wrong = |why: &dyn std::fmt::Display| {
        Complaint::new(format!(
            "could not load root certificate file \"{name}\": {why}"
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(&path).map_err(|e| wrong(&e))? {
        roots.add(certificate).map_err(|e| wrong(&e))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated();
    let revoked = file(s, "ssl_crl_file");
    let wrong_list = |why: &dyn std::fmt::Display| {
        let name = revoked.as_ref().map_or("", |(name, _)| name);
        Complaint::new(format!(
            "could not load SSL certificate revocation list file \"{name}\": {why}"
        ))
    };
    if let Some((_, path)) = &revoked {
        let lists = files::revocation_lists(path).map_err(|e| wrong_list(&e))?;
        // As OpenSSL checks: the whole chain, each part must have a list, and none may be out of date.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().map(Some).map_err(|e| match e {
        VerifierBuilderError::InvalidCrl(e) => wrong_list(&format_args!("{e:?}")),
        other => wrong(&other),
    })
}
