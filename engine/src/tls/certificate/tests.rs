//! Certificates that OpenSSL made, and what OpenSSL says of them (`openssl x509 -subject -nameopt RFC2253 -serial`,
//! `openssl dgst`).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

fn fixture(pem: &str) -> (Certificate, CertificateDer<'static>) {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    (Certificate::parse(&der).expect("OpenSSL made it"), der)
}

fn names() -> (Certificate, CertificateDer<'static>) {
    fixture(include_str!("../fixtures/names.pem"))
}

fn version_1() -> (Certificate, CertificateDer<'static>) {
    fixture(include_str!("../fixtures/version1.pem"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn names_are_shown_as_openssl_shows_them() {
    let (certificate, _) = names();
    assert_eq!(
        certificate.distinguished_name().expect("no zero byte"),
        r#"emailAddress=ann@example.org,UID=u1+CN=ann \C3\A9,serialNumber=77,OU=lead and trail\ ,O=A\, B\+C \"x\" \<y\>\;z,C=DE,DC=example,DC=org"#
    );
    assert_eq!(
        certificate.subject_line(),
        r#"/DC=org/DC=example/C=DE/O=A\, B\+C \"x\" \<y\>\;z/OU=lead and trail\ /serialNumber=77/CN=ann é/UID=u1/emailAddress=ann@example.org"#
    );
    assert_eq!(certificate.issuer_line(), certificate.subject_line());
    assert_eq!(
        certificate.common_name().expect("no zero byte").as_deref(),
        Some("ann é")
    );
    assert_eq!(certificate.serial(), "85968058272638546416180");
}

#[test]
fn the_binding_hash_is_that_of_the_signature() {
    let (certificate, der) = names();
    assert_eq!(
        certificate.end_point_hash(&der).map(|h| hex(&h)).as_deref(),
        Some(
            "d867cc579e0c1890d9ae93185877abe310184eefd4a29f466684f39524dc54ef337e2c33af1665fae1bbbbf7cc109029"
        )
    );
    let (certificate, der) = version_1();
    assert_eq!(
        certificate.end_point_hash(&der).map(|h| hex(&h)).as_deref(),
        Some("72cd052f89fd31f5ac480a03e72bd185f084c386b1394830ddd4997e7cb0c8a3")
    );
    let (certificate, der) = fixture(include_str!("../fixtures/ed25519.pem"));
    assert_eq!(certificate.end_point_hash(&der), None);
}

#[test]
fn a_host_is_looked_for_where_libpq_looks() {
    let (certificate, _) = names();
    for (host, right) in [
        ("db.example.org", true),
        ("DB.Example.ORG", true),
        ("db.example.org.", false),
        ("x.wild.example.org", true),
        ("wild.example.org", false),
        ("x.y.wild.example.org", false),
        (".wild.example.org", false),
        ("10.0.0.1", true),
        ("10.0.0.2", false),
        ("::1", true),
        ("0:0:0:0:0:0:0:1", true),
        ("::2", false),
        // The common name does not count beside alternative names.
        ("ann é", false),
        ("", false),
        ("é.wild.example.org", true),
    ] {
        assert_eq!(certificate.is_for_host(host).is_ok(), right, "{host:?}");
    }
    let wrong = |c: &Certificate, host| c.is_for_host(host).expect_err("another").to_string();
    assert_eq!(
        wrong(&certificate, "other"),
        "server certificate for \"db.example.org\" (and 3 other names) does not match host name \"other\""
    );
    let (certificate, _) = version_1();
    assert_eq!(certificate.is_for_host("db.example.org"), Ok(()));
    assert_eq!(
        wrong(&certificate, "other"),
        "server certificate for \"db.example.org\" does not match host name \"other\""
    );
}

#[test]
fn a_certificate_is_valid_for_its_time() {
    let (certificate, _) = version_1();
    assert!(!certificate.is_valid_at(0));
    // 2100, and 2200.
    assert!(certificate.is_valid_at(4_102_444_800));
    assert!(!certificate.is_valid_at(7_258_118_400));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let (_, der) = names();
    for bytes in [&[][..], b"x", &der[..der.len() - 1], &der[1..]] {
        assert!(matches!(
            Certificate::parse(bytes),
            Err(CertificateError::Malformed(_))
        ));
    }
}
