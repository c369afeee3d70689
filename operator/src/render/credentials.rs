//! What is made up for a cluster: passwords, an authority, certificates. The one file of this room that is not pure.
//!
//! What is there already is kept: [`Credentials::complete`] reads the cluster's Secrets and makes only what is missing.
//! A certificate that the authority does not vouch for is worth nothing: it is made anew, and a new authority makes all
//! of them anew. They hold ten years. The authority is always one that was made here for this cluster: in place of another
//! one nothing is made at all, because each part would trust another one for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::object::{ForeignObject, Found, Kind, is_owned};
use super::secrets::{CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE, PASSWORD};
use crate::ids::Millis;
use crate::names;
use crate::validate::ValidatedCluster;

/// The role that standbys connect as.
pub const REPLICATION_ROLE: &str = "understudy_replication";
pub const SUPERUSER: &str = "postgres";
/// By this name in its certificate, as a DNS name, an instance knows the operator.
pub const OPERATOR_NAME: &str = "understudy-operator";

const PASSWORD_LENGTH: usize = 32;
const YEARS: i16 = 10;

/// The Secrets of a namespace, by name.
pub type Secrets = BTreeMap<String, Secret>;

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

/// Everything that a cluster's Secrets hold; by default nothing, for what shows none of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    pub app_password: String,
    pub superuser_password: String,
    pub replication_password: String,
    pub authority: Certified,
    pub server: Certified,
    pub client: Certified,
    pub operator: Certified,
}

// Secrets do not get into logs.
impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certified(..)")
    }
}
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("{path}: there is no Secret {name}; create it with the key {key}", key = PASSWORD)]
    NoSecret { path: &'static str, name: String },
    #[error("{path}: the Secret {name} has no usable {key}; put the password there, as text of one line", key = PASSWORD)]
    NoPassword { path: &'static str, name: String },
    #[error("{0}: the operator makes each cluster's authority itself")]
    ForeignAuthority(ForeignObject),
    #[error(
        "the Secret {name} does not hold the authority that the operator made for this cluster, and another one can't \
         be given; put back what was there, or delete it: then authority and certificates are made anew"
    )]
    OtherAuthority { name: String },
    #[error("could not make the certificate of {what}: {source}")]
    Certificate {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
}

impl Credentials {
    /// What the Secrets have, and what they lack made anew.
    ///
    /// # Errors
    /// When a Secret that the manifest names is not there or has no password; when the authority is another one than the
    /// cluster's own; when a key can't be made.
    pub fn complete(
        cluster: &ValidatedCluster,
        uid: &str,
        secrets: &Secrets,
        now: Millis,
    ) -> Result<Credentials, CredentialsError> {
        let own = |name: String| {
            secrets
                .get(&name)
                .filter(|secret| is_owned(&secret.metadata, uid))
        };
        let kept = |name: String| own(name).and_then(|secret| text(secret, PASSWORD));
        let bootstrap = &cluster.bootstrap;
        let name = &cluster.name;
        let app_password = match &bootstrap.owner_secret {
            Some(given) => given_password("spec.bootstrap.ownerSecret", given, secrets)?,
            None => kept(names::app_secret(name)).unwrap_or_else(random_password),
        };
        let superuser_password = match &bootstrap.superuser_secret {
            Some(given) => given_password("spec.bootstrap.superuserSecret", given, secrets)?,
            None => kept(names::superuser_secret(name)).unwrap_or_else(random_password),
        };
        let certified = |name: String, certificate: &str, key: &str| {
            let secret = own(name)?;
            Some(Certified {
                certificate: text(secret, certificate)?,
                key: text(secret, key)?,
            })
        };
        let authority = secrets.get(&names::ca_secret(name));
        let found = authority.map(|secret| Found::new(Kind::Secret, &secret.metadata));
        if let Some(foreign) = found.and_then(|found| ForeignObject::of(&found, name, uid)) {
            return Err(CredentialsError::ForeignAuthority(foreign));
        }
        let old = certified(names::ca_secret(name), CA_FILE, CA_KEY_FILE);
        let maker = Maker::open(cluster, old, now)?;
        let leaf = |secret: String, purpose: Purpose| {
            let kept = certified(secret, CERTIFICATE_FILE, KEY_FILE);
            kept.filter(|kept| maker.is_old && maker.vouches_for(kept, purpose))
        };
        let server = leaf(names::server_secret(name), Purpose::Server);
        let client = leaf(names::client_secret(name), Purpose::Client);
        let operator = leaf(names::operator_secret(name), Purpose::Client);
        Ok(Credentials {
            app_password,
            superuser_password,
            replication_password: kept(names::replication_secret(name))
                .unwrap_or_else(random_password),
            server: match server {
                Some(kept) => kept,
                None => maker.server(cluster)?,
            },
            client: match client {
                Some(kept) => kept,
                None => maker.client("the instances", REPLICATION_ROLE)?,
            },
            operator: match operator {
                Some(kept) => kept,
                None => maker.client("the operator", OPERATOR_NAME)?,
            },
            authority: maker.authority,
        })
    }
}

/// A key of a Secret, if it is there and is text.
pub fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn given_password(
    path: &'static str,
    name: &str,
    secrets: &Secrets,
) -> Result<String, CredentialsError> {
    let secret = secrets
        .get(name)
        .ok_or_else(|| CredentialsError::NoSecret {
            path,
            name: name.to_owned(),
        })?;
    // Files and `echo` leave a line's end, which nobody means.
    text(secret, PASSWORD)
        .map(|password| password.trim_end_matches(['\n', '\r']).to_owned())
        .filter(|password| !password.is_empty() && !password.contains(['\n', '\r', '\0']))
        .ok_or_else(|| CredentialsError::NoPassword {
            path,
            name: name.to_owned(),
        })
}

fn random_password() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric);
    letters.take(PASSWORD_LENGTH).map(char::from).collect()
}

/// What a certificate is for.
#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
}

/// Makes certificates under one authority.
struct Maker {
    /// Where the authority is kept.
    secret: String,
    now: Millis,
    authority: Certified,
    issuer: Issuer<'static, KeyPair>,
    /// The authority was there before.
    is_old: bool,
    validity: Validity,
}

#[derive(Clone, Copy)]
struct Validity {
    from: (i16, i8, i8),
    until: (i16, i8, i8),
}

impl Validity {
    /// From yesterday, so that no clock in the cluster is behind it.
    fn beginning(now: Millis) -> Validity {
        let milliseconds = i64::try_from(now.raw()).unwrap_or(i64::MAX);
        let now = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX);
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let from = today.yesterday().unwrap_or(today);
        // A year that begins on 29 February ends on the 28th.
        let until = from.saturating_add(jiff::Span::new().years(YEARS));
        let parts = |date: jiff::civil::Date| (date.year(), date.month(), date.day());
        Validity {
            from: parts(from),
            until: parts(until),
        }
    }

    fn set(self, parameters: &mut CertificateParams) {
        let date = |(year, month, day): (i16, i8, i8)| {
            rcgen::date_time_ymd(i32::from(year), month.unsigned_abs(), day.unsigned_abs())
        };
        parameters.not_before = date(self.from);
        parameters.not_after = date(self.until);
    }
}

impl Maker {
    fn open(
        cluster: &ValidatedCluster,
        old: Option<Certified>,
        now: Millis,
    ) -> Result<Maker, CredentialsError> {
        let failed = |source| CredentialsError::Certificate {
            what: "the authority",
            source,
        };
        let validity = Validity::beginning(now);
        let parameters = authority_parameters(cluster, validity);
        let secret = names::ca_secret(&cluster.name);
        let is_old = old.is_some();
        let (key, authority) = match old {
            Some(old) => match KeyPair::from_pem(&old.key) {
                Ok(key) => (key, old),
                Err(_) => return Err(CredentialsError::OtherAuthority { name: secret }),
            },
            None => {
                let key = KeyPair::generate().map_err(failed)?;
                let certificate = parameters.self_signed(&key).map_err(failed)?.pem();
                let made = Certified {
                    certificate,
                    key: key.serialize_pem(),
                };
                (key, made)
            }
        };
        Ok(Maker {
            secret,
            now,
            authority,
            // The issuer's name follows from the cluster's, and its key id from the key: nothing has to be parsed.
            issuer: Issuer::new(parameters, key),
            is_old,
            validity,
        })
    }

    /// Whether TLS takes the certificate under the authority, now and for this purpose.
    fn vouches_for(&self, certified: &Certified, purpose: Purpose) -> bool {
        let usage = match purpose {
            Purpose::Server => webpki::KeyUsage::server_auth(),
            Purpose::Client => webpki::KeyUsage::client_auth(),
        };
        let authorities = CertificateDer::pem_slice_iter(self.authority.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_default();
        let mut anchors = Vec::new();
        for authority in &authorities {
            anchors.extend(webpki::anchor_from_trusted_cert(authority).ok());
        }
        let Ok(certificate) = CertificateDer::from_pem_slice(certified.certificate.as_bytes())
        else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(self.now.raw()));
        webpki::EndEntityCert::try_from(&certificate).is_ok_and(|certificate| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            certificate
                .verify_for_usage(algorithms, &anchors, &[], now, usage, None, None)
                .is_ok()
        })
    }

    fn server(&self, cluster: &ValidatedCluster) -> Result<Certified, CredentialsError> {
        let what = "the instances' servers";
        let parameters = CertificateParams::new(server_names(cluster))
            .map_err(|source| CredentialsError::Certificate { what, source })?;
        let name = names::primary_service(&cluster.name);
        self.sign(what, parameters, &name, Purpose::Server)
    }

    fn client(&self, what: &'static str, name: &str) -> Result<Certified, CredentialsError> {
        // A role's name is no DNS name, and gets none.
        let alternative = name == OPERATOR_NAME;
        let parameters = CertificateParams::new(
            alternative
                .then(|| name.to_owned())
                .into_iter()
                .collect::<Vec<_>>(),
        )
        .map_err(|source| CredentialsError::Certificate { what, source })?;
        self.sign(what, parameters, name, Purpose::Client)
    }

    fn sign(
        &self,
        what: &'static str,
        mut parameters: CertificateParams,
        name: &str,
        purpose: Purpose,
    ) -> Result<Certified, CredentialsError> {
        let failed = |source| CredentialsError::Certificate { what, source };
        parameters.distinguished_name = common_name(name);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        parameters.use_authority_key_identifier_extension = true;
        self.validity.set(&mut parameters);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(failed)?;
        let made = Certified {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        // The issuer's name is taken for what it was when the authority was made.
        if self.is_old && !self.vouches_for(&made, purpose) {
            let name = self.secret.clone();
            return Err(CredentialsError::OtherAuthority { name });
        }
        Ok(made)
    }
}

fn authority_parameters(cluster: &ValidatedCluster, validity: Validity) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // A common name has at most 64 characters; a namespace and a cluster may have more.
    let mut name = format!("{}/{} authority", cluster.namespace, cluster.name);
    name.truncate(64);
    parameters.distinguished_name = common_name(&name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    validity.set(&mut parameters);
    parameters
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Every name by which a client, a standby or the operator may call an instance.
fn server_names(cluster: &ValidatedCluster) -> Vec<String> {
    let namespace = &cluster.namespace;
    let services = [
        names::primary_service(&cluster.name),
        names::standby_service(&cluster.name),
        names::any_service(&cluster.name),
    ];
    let mut all = Vec::new();
    for service in services {
        all.extend([
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]);
    }
    let pods = names::instances_service(&cluster.name);
    all.extend([
        format!("*.{pods}"),
        format!("*.{pods}.{namespace}"),
        format!("*.{pods}.{namespace}.svc"),
        format!("*.{pods}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
    ]);
    all
}
