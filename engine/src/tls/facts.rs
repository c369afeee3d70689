//! What is known of an encrypted connection: what `pg_stat_ssl`, the log and authentication ask.

use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

use super::certificate::{Certificate, CertificateError};

/// `pg_stat_ssl` keeps names of a NAMEDATALEN.
const LONGEST_SHOWN: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    pub protocol: &'static str,
    /// By OpenSSL's name.
    pub cipher: &'static str,
    /// Of the cipher's key.
    pub bits: i32,
    /// A verified client's.
    pub client: Option<ClientCertificate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub common_name: Option<String>,
    /// In RFC 2253's form.
    pub distinguished_name: String,
    /// As shown in `pg_stat_ssl`, cut to what PostgreSQL keeps.
    pub subject: String,
    pub issuer: String,
    /// Decimal digits.
    pub serial: String,
}

impl ClientCertificate {
    pub fn parse(der: &[u8]) -> Result<ClientCertificate, CertificateError> {
        let c = Certificate::parse(der)?;
        Ok(ClientCertificate {
            common_name: c.common_name()?,
            distinguished_name: c.distinguished_name()?,
            subject: cut(c.subject_line()),
            issuer: cut(c.issuer_line()),
            serial: c.serial(),
        })
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_SHOWN {
        let end = (0..=LONGEST_SHOWN)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

pub fn protocol_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}

/// OpenSSL's name of a cipher suite, and the bits of its key.
pub fn cipher_name(suite: Option<SupportedCipherSuite>) -> (&'static str, i32) {
    use CipherSuite as C;
    match suite.map(|s| s.suite()) {
        Some(C::TLS13_AES_256_GCM_SHA384) => ("TLS_AES_256_GCM_SHA384", 256),
        Some(C::TLS13_AES_128_GCM_SHA256) => ("TLS_AES_128_GCM_SHA256", 128),
        Some(C::TLS13_CHACHA20_POLY1305_SHA256) => ("TLS_CHACHA20_POLY1305_SHA256", 256),
        Some(C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => ("ECDHE-ECDSA-AES256-GCM-SHA384", 256),
        Some(C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => ("ECDHE-ECDSA-AES128-GCM-SHA256", 128),
        Some(C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => {
            ("ECDHE-ECDSA-CHACHA20-POLY1305", 256)
        }
        Some(C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => ("ECDHE-RSA-AES256-GCM-SHA384", 256),
        Some(C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => ("ECDHE-RSA-AES128-GCM-SHA256", 128),
        Some(C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => {
            ("ECDHE-RSA-CHACHA20-POLY1305", 256)
        }
        _ => ("unknown", 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_may_be_negotiated_has_a_name() {
        for suite in &super::super::provider().cipher_suites {
            let (name, bits) = cipher_name(Some(*suite));
            assert!(name != "unknown" && bits >= 128, "{suite:?}");
        }
    }

    #[test]
    fn long_names_are_cut_on_a_character() {
        assert_eq!(cut("é".repeat(40)).len(), 62);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
