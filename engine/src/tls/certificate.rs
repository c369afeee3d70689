//! What is read from an X.509 certificate: names as OpenSSL shows them, the host names that it stands for, and the
//! hash that binds an authentication to it.
//!
//! Parsing proves nothing about who made the certificate; that is the verifiers' business.

use std::net::IpAddr;

use num_bigint::BigUint;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("not a valid X.509 certificate: {0}")]
    Malformed(String),
    #[error("SSL certificate's common name contains embedded null")]
    NullInCommonName,
    #[error("SSL certificate's distinguished name contains embedded null")]
    NullInDistinguishedName,
    #[error("SSL certificate's name contains embedded null")]
    NullInAlternativeName,
}

/// A parsed certificate.
#[derive(Debug, Clone)]
pub struct Certificate(x509_cert::Certificate);

/// Object identifiers of attributes with the short names that OpenSSL gives them.
const SHORT_NAMES: [(&str, &str); 21] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

const COMMON_NAME: &str = "2.5.4.3";

impl Certificate {
    pub fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
        x509_cert::Certificate::from_der(der)
            .map(Certificate)
            .map_err(|e| CertificateError::Malformed(e.to_string()))
    }

    /// `/CN=name/O=house`, as `pg_stat_ssl` shows it.
    pub fn subject_line(&self) -> String {
        one_line(&self.0.tbs_certificate.subject)
    }

    pub fn issuer_line(&self) -> String {
        one_line(&self.0.tbs_certificate.issuer)
    }

    /// `O=house,CN=name`, in RFC 2253's form and order: what `clientname=DN` compares.
    pub fn distinguished_name(&self) -> Result<String, CertificateError> {
        let shown = rfc2253(&self.0.tbs_certificate.subject);
        if shown.contains('\0') {
            return Err(CertificateError::NullInDistinguishedName);
        }
        Ok(shown)
    }

    /// The subject's first common name. One with a zero byte in it is refused: it would be read as a shorter one.
    pub fn common_name(&self) -> Result<Option<String>, CertificateError> {
        let name = entries(&self.0.tbs_certificate.subject)
            .find(|(a, _)| a.oid == oid(COMMON_NAME))
            .map(|(a, _)| text_of(&a.value));
        match name {
            Some(n) if n.contains('\0') => Err(CertificateError::NullInCommonName),
            other => Ok(other),
        }
    }

    /// In decimal digits.
    pub fn serial(&self) -> String {
        let bytes = self.0.tbs_certificate.serial_number.as_bytes();
        BigUint::from_bytes_be(bytes).to_string()
    }

    /// The public key with its algorithm, in DER.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        self.0.tbs_certificate.subject_public_key_info.to_der().ok()
    }

    /// Seconds since 1970.
    pub fn is_valid_at(&self, now: u64) -> bool {
        let validity = &self.0.tbs_certificate.validity;
        let seconds = |t: &x509_cert::time::Time| t.to_unix_duration().as_secs();
        (seconds(&validity.not_before)..=seconds(&validity.not_after)).contains(&now)
    }

    /// The certificate's hash for channel binding (RFC 5929, tls-server-end-point): by the hash function of its
    /// signature, SHA-256 where that is weaker. `None` where the signature has no hash function of its own.
    pub fn end_point_hash(&self, der: &[u8]) -> Option<Vec<u8>> {
        let algorithm = self.0.signature_algorithm.oid.to_string();
        Some(match algorithm.as_str() {
            // MD5 and SHA-1 stand for SHA-256; so RFC 5929 has it.
            "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => {
                Sha256::digest(der).to_vec()
            }
            "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Sha256::digest(der).to_vec(),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
            "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Sha224::digest(der).to_vec(),
            _ => return None,
        })
    }

    /// Whether it stands for `host`, by libpq's rules: alternative names first, the common name only where there is
    /// none of the kind asked for.
    pub fn is_for_host(&self, host: &str) -> Result<(), NameMismatch> {
        let address: Option<IpAddr> = host.parse().ok();
        let mut seen = Vec::new();
        let mut use_common_name = true;
        for name in self.alternative_names()? {
            let matches = match &name {
                AlternativeName::Host(n) => {
                    use_common_name &= address.is_some();
                    if n.contains('\0') {
                        return Err(CertificateError::NullInAlternativeName.into());
                    }
                    host_matches(n, host)
                }
                AlternativeName::Address(a) => {
                    use_common_name &= address.is_none();
                    address == Some(*a)
                }
            };
            if matches {
                return Ok(());
            }
            seen.push(name.to_string());
        }
        if use_common_name && let Some(name) = self.common_name()? {
            if host_matches(&name, host) {
                return Ok(());
            }
            seen.push(name);
        }
        Err(NameMismatch::Other(mismatch(&seen, host)))
    }

    fn alternative_names(&self) -> Result<Vec<AlternativeName>, CertificateError> {
        let names = self
            .0
            .tbs_certificate
            .get::<SubjectAltName>()
            .map_err(|e| CertificateError::Malformed(e.to_string()))?;
        let Some((_, names)) = names else {
            return Ok(Vec::new());
        };
        Ok(names
            .0
            .iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(n) => Some(AlternativeName::Host(n.to_string())),
                GeneralName::IpAddress(a) => address_of(a.as_bytes()).map(AlternativeName::Address),
                _ => None,
            })
            .collect())
    }
}

/// Why a certificate does not stand for a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameMismatch {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    Other(String),
}

enum AlternativeName {
    Host(String),
    Address(IpAddr),
}

impl std::fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AlternativeName::Host(n) => f.write_str(n),
            AlternativeName::Address(a) => write!(f, "{a}"),
        }
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// In libpq's words.
fn mismatch(seen: &[String], host: &str) -> String {
    match seen {
        [] => "could not get server's host name from server certificate".to_owned(),
        [one] => {
            format!("server certificate for \"{one}\" does not match host name \"{host}\"")
        }
        [first, rest @ ..] => {
            let names = if rest.len() == 1 { "name" } else { "names" };
            format!(
                "server certificate for \"{first}\" (and {} other {names}) does not match host name \"{host}\"",
                rest.len()
            )
        }
    }
}

/// The same name in any case, or `*.rest` for exactly one label before `.rest`.
fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(rest) = pattern
        .strip_prefix('*')
        .filter(|r| r.starts_with('.') && r.len() > 1)
    else {
        return false;
    };
    host.len()
        .checked_sub(rest.len())
        .filter(|at| *at > 0 && host.is_char_boundary(*at))
        .is_some_and(|at| host[at..].eq_ignore_ascii_case(rest) && !host[..at].contains('.'))
}

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// Every attribute in the certificate's order, with the number of the set that it stands in.
fn entries(name: &Name) -> impl DoubleEndedIterator<Item = (&AttributeTypeAndValue, usize)> {
    name.0
        .iter()
        .enumerate()
        .flat_map(|(set, rdn)| rdn.0.iter().map(move |a| (a, set)))
}

fn short_name(attribute: &AttributeTypeAndValue) -> Option<&'static str> {
    let text = attribute.oid.to_string();
    SHORT_NAMES
        .iter()
        .find(|(o, _)| *o == text)
        .map(|(_, name)| *name)
}

fn one_line(name: &Name) -> String {
    let mut out = String::new();
    for (attribute, _) in entries(name) {
        out.push('/');
        match short_name(attribute) {
            Some(n) => out.push_str(n),
            None => out.push_str(&attribute.oid.to_string()),
        }
        out.push('=');
        escape(&text_of(&attribute.value), false, &mut out);
    }
    out
}

fn rfc2253(name: &Name) -> String {
    let mut out = String::new();
    let mut last = None;
    for (attribute, set) in entries(name).rev() {
        if let Some(last) = last {
            out.push(if last == set { '+' } else { ',' });
        }
        last = Some(set);
        match short_name(attribute) {
            Some(n) => {
                out.push_str(n);
                out.push('=');
                escape(&text_of(&attribute.value), true, &mut out);
            }
            // A type without a name is shown in its encoding.
            None => {
                out.push_str(&attribute.oid.to_string());
                out.push_str("=#");
                for byte in attribute.value.to_der().unwrap_or_default() {
                    out.push_str(&format!("{byte:02X}"));
                }
            }
        }
    }
    out
}

/// RFC 2253's escapes as OpenSSL writes them; `all` also those of bytes beyond ASCII.
fn escape(text: &str, all: bool, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (i, c) in text.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (i == 0 && matches!(c, '#' | ' '))
            || (i == last && c == ' ');
        if special {
            out.push('\\');
            out.push(c);
        } else if c.is_ascii_control() && c != '\0' || (all && !c.is_ascii()) {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("\\{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
}

/// Any of the string types of ASN.1. What is of another type or not valid becomes a zero character, which nothing
/// that a client says can equal.
fn text_of(value: &Any) -> String {
    let bytes = value.value();
    let text = match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::TeletexString => Some(bytes.iter().map(|b| char::from(*b)).collect()),
        Tag::BmpString => {
            let units = bytes
                .chunks_exact(2)
                .map(|p| u16::from_be_bytes([p[0], p[1]]));
            char::decode_utf16(units)
                .collect::<Result<String, _>>()
                .ok()
        }
        _ => None,
    };
    text.unwrap_or_else(|| "\0".to_owned())
}

#[cfg(test)]
mod tests;
