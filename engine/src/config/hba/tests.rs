//! The matrix of connections against rules.

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::{AuthMethod, Hba, Visitor};

const FILE: &str = r#"
# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             postgres                                peer
local   "all",sales     ann,"all"                               trust
host    replication     all             10.0.2.42/32            trust
host    sameuser        +staff          192.168.0.0 255.255.0.0 md5
hostssl all             all             0.0.0.0/0               trust
host    all             evil            all                     reject
host    all             all             samehost                scram-sha-256
host    all             all             ::1/128                 trust
"#;

fn hba() -> Hba {
    Hba::parse(FILE.as_bytes(), Path::new("/d/pg_hba.conf")).expect("it is right")
}

fn ask(
    address: Option<&str>,
    user: &str,
    database: &str,
    replication: bool,
) -> Option<(u32, AuthMethod)> {
    ask_of(&hba(), false, address, user, database, replication)
}

fn ask_of(
    hba: &Hba,
    encrypted: bool,
    address: Option<&str>,
    user: &str,
    database: &str,
    replication: bool,
) -> Option<(u32, AuthMethod)> {
    let own: [(IpAddr, IpAddr); 1] = [(
        "10.9.9.9".parse().expect("valid"),
        "255.0.0.0".parse().expect("valid"),
    )];
    let member_of = |role: &str| role == "staff" && user == "bob";
    let v = Visitor {
        address: address.map(|a| a.parse().expect("an address")),
        encrypted,
        user,
        database,
        physical_replication: replication,
        member_of: &member_of,
        own_addresses: &own,
    };
    hba.find(&v).map(|r| (r.line, r.method))
}

#[test]
fn the_first_record_that_matches_decides() {
    use AuthMethod::{Md5, Peer, Reject, ScramSha256, Trust};
    for (address, user, database, replication, expected) in [
        (None, "postgres", "any", false, Some((3, Peer))),
        (None, "ann", "sales", false, Some((4, Trust))),
        (None, "ann", "all", false, Some((4, Trust))),
        (None, "ann", "other", false, None),
        (None, "all", "sales", false, Some((4, Trust))),
        (None, "eve", "sales", false, None),
        (Some("10.0.2.42"), "snaga", "", true, Some((5, Trust))),
        (Some("10.0.2.43"), "snaga", "", true, None),
        (Some("10.0.2.42"), "snaga", "replication", false, None),
        (Some("192.168.7.7"), "bob", "bob", false, Some((6, Md5))),
        (Some("192.168.7.7"), "bob", "other", false, None),
        (Some("192.168.7.7"), "ann", "ann", false, None),
        (Some("1.2.3.4"), "evil", "x", false, Some((8, Reject))),
        (Some("10.9.9.9"), "ann", "x", false, Some((9, ScramSha256))),
        (Some("10.9.9.8"), "ann", "x", false, None),
        (Some("::1"), "ann", "x", false, Some((10, Trust))),
    ] {
        assert_eq!(
            ask(address, user, database, replication),
            expected,
            "{address:?} {user} {database} {replication}"
        );
    }
}

/// `spec.pgHba` of a cluster is judged before it comes here, by the same table (`crd/patterns.rs` of the operator): what
/// passes there and stops a start here would stop every later start of every instance.
#[test]
fn records_of_manifests_are_judged_as_the_operator_judges_them() {
    let table = std::fs::read_to_string("../tests/manifests/hba_records.txt").expect("there");
    let mut seen = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (is, record) = line.split_once(' ').expect("a verdict and a record");
        let file = format!("{record}\nhostssl all all all scram-sha-256\n");
        let read = Hba::parse(file.as_bytes(), Path::new("/d/pg_hba.conf"));
        let is_taken = read.is_ok_and(|hba| hba.records.len() == 2);
        assert_eq!(is_taken, is == "taken", "{record:?}");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn wrong_lines_have_postgresql_s_words() {
    for (line, message) in [
        ("hos all all all trust", "invalid connection type \"hos\""),
        ("local", "end-of-line before database specification"),
        ("local all", "end-of-line before role specification"),
        (
            "host all all",
            "end-of-line before IP address specification",
        ),
        (
            "host all all 10.0.0.1 trust",
            "invalid IP mask \"trust\": Name or service not known",
        ),
        (
            "host all all 10.0.0.1",
            "end-of-line before netmask specification",
        ),
        (
            "host all all 10.0.0.1/33 trust",
            "invalid CIDR mask in address \"10.0.0.1/33\"",
        ),
        (
            "host all all 10.0.0.1 ffff:: trust",
            "IP address and mask do not match",
        ),
        (
            "host all all h.example.org/8 trust",
            "specifying both host name and CIDR mask is invalid: \"h.example.org/8\"",
        ),
        (
            "host all all h.example.org trust",
            "host names in pg_hba.conf are not implemented: \"h.example.org\"",
        ),
        (
            "host all all all",
            "end-of-line before authentication method",
        ),
        (
            "host all all all truts",
            "invalid authentication method \"truts\"",
        ),
        (
            "host all all all peer",
            "peer authentication is only supported on local sockets",
        ),
        (
            "host all all all ldap",
            "invalid authentication method \"ldap\": not supported by this build",
        ),
        (
            "host all all all trust x",
            "authentication option not in name=value format: x",
        ),
        (
            "host all all all trust a=b",
            "unrecognized authentication option name: \"a\"",
        ),
        (
            "host,local all all all trust",
            "multiple values specified for connection type",
        ),
    ] {
        let errors = Hba::parse(line.as_bytes(), Path::new("/d/pg_hba.conf")).expect_err(line);
        assert_eq!(errors[0].message, message);
        assert_eq!(
            errors[0].context.as_deref(),
            Some("line 1 of configuration file \"/d/pg_hba.conf\"")
        );
    }
}

#[test]
fn names_may_stand_in_a_file() {
    let d = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(d.path().join("dbs"), "one two\nthree # four\n").expect("writable");
    let hba = Hba::parse(b"local @dbs all trust", &d.path().join("pg_hba.conf")).expect("valid");
    assert_eq!(hba.records[0].databases.len(), 3);
    let errors = Hba::parse(b"local @none all trust", &d.path().join("pg_hba.conf"))
        .expect_err("there is no such file");
    assert!(
        errors[0]
            .message
            .starts_with("could not open secondary authentication file \"@none\"")
    );
    assert_eq!(errors[0].context, None);
    std::fs::write(d.path().join("dbs"), "@dbs\n").expect("writable");
    let errors = Hba::parse(b"local @dbs all trust", &d.path().join("pg_hba.conf"))
        .expect_err("it includes itself");
    assert!(
        errors[0]
            .message
            .ends_with("maximum nesting depth exceeded")
    );
}

#[test]
fn fields_and_lists_are_told_apart_as_postgresql_does() {
    let read = |text: &[u8]| Hba::parse(text, Path::new("/d/pg_hba.conf"));
    let record = |text: &[u8]| read(text).expect("valid").records[0].clone();
    assert_eq!(record(b"local ,a, b,,c all trust").databases.len(), 3);
    // White space before the comma ends the list.
    let r = record(b"local a , b trust");
    assert_eq!((r.databases.len(), r.users.len()), (1, 1));
    let long = format!("local {} all trust", "a".repeat(20_000));
    let errors = read(long.as_bytes()).expect_err("too long");
    assert!(
        errors[0]
            .message
            .starts_with("authentication file token too long")
    );
    // Bytes that are no text match nobody; the line ends at a zero byte.
    assert_eq!(record(b"local \xff\xfe all trust").databases.len(), 1);
    let errors = read(b"local a\0b all trust").expect_err("cut");
    assert_eq!(errors[0].message, "end-of-line before role specification");
    assert_eq!(
        read(b"hostssl all all all trust")
            .expect("valid")
            .notes
            .len(),
        1
    );
}

#[test]
fn encryption_is_part_of_the_place() {
    let text = "hostnogssenc all all 10.0.0.0/8 md5\nhostgssenc all all all trust\nhostnossl all ann all reject\nhostssl all ann all scram-sha-256\nhostssl all bob all cert map=m\nhost all bob all trust\n";
    let hba = Hba::parse(text.as_bytes(), Path::new("/d/pg_hba.conf")).expect("it is right");
    use AuthMethod::{Cert, Md5, Reject, ScramSha256, Trust};
    for (encrypted, address, user, expected) in [
        (true, "10.0.0.1", "ann", Some((1, Md5))),
        (false, "10.0.0.1", "ann", Some((1, Md5))),
        (true, "11.0.0.1", "ann", Some((4, ScramSha256))),
        (false, "11.0.0.1", "ann", Some((3, Reject))),
        (true, "11.0.0.1", "bob", Some((5, Cert))),
        (false, "11.0.0.1", "bob", Some((6, Trust))),
        (true, "11.0.0.1", "eve", None),
    ] {
        let found = ask_of(&hba, encrypted, Some(address), user, "db", false);
        assert_eq!(found, expected, "{encrypted} {address} {user}");
    }
    assert_eq!(ask_of(&hba, false, None, "bob", "db", false), None);
}

#[test]
fn what_is_asked_of_certificates_is_read_as_postgresql_reads_it() {
    use super::{CertificateName, ClientCert};
    let read = |rest: &str| {
        let text = format!("hostssl all all all {rest}");
        Hba::parse(text.as_bytes(), Path::new("/d/pg_hba.conf"))
            .map(|h| {
                let r = &h.records[0];
                (r.client_cert, r.certificate_name, r.map.clone())
            })
            .map_err(|e| e[0].message.clone())
    };
    let full = (ClientCert::VerifyFull, CertificateName::CommonName, None);
    assert_eq!(read("cert"), Ok(full.clone()));
    assert_eq!(read("cert clientcert=verify-full"), Ok(full.clone()));
    assert_eq!(read("trust clientcert=verify-full"), Ok(full));
    assert_eq!(
        read("cert clientname=DN map=m"),
        Ok((
            ClientCert::VerifyFull,
            CertificateName::DistinguishedName,
            Some("m".to_owned())
        ))
    );
    assert_eq!(
        read("md5 clientcert=verify-ca"),
        Ok((ClientCert::VerifyCa, CertificateName::CommonName, None))
    );
    for (rest, message) in [
        (
            "cert clientcert=verify-ca",
            "clientcert only accepts \"verify-full\" when using \"cert\" authentication",
        ),
        ("md5 clientcert=1", "invalid value for clientcert: \"1\""),
        ("cert clientname=OU", "invalid value for clientname: \"OU\""),
        (
            "md5 map=x",
            "authentication option \"map\" is only valid for authentication methods ident, peer, gssapi, sspi, and cert",
        ),
    ] {
        assert_eq!(read(rest), Err(message.to_owned()));
    }
}

#[test]
fn addresses_may_be_short() {
    for (text, expected) in [
        ("127.1/8", Some("127.0.0.1")),
        ("0/0", Some("0.0.0.0")),
        ("0x7f.010.65535 255.0", Some("127.8.255.255")),
        ("0x7f.010.65536 255.0", None),
        ("1.2.3.4.5/8", None),
        ("1.256.3.4/8", None),
        ("99999999999/8", None),
    ] {
        let line = format!("host all all {text} trust");
        let found = Hba::parse(line.as_bytes(), Path::new("/d/pg_hba.conf"));
        let address = found.ok().and_then(|h| match h.records[0].address {
            Some(super::AddressRule::Masked { address, .. }) => Some(address.to_string()),
            _ => None,
        });
        assert_eq!(address.as_deref(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9 ,\"#@+./\\\\=\n]{0,200}") {
        let _ = Hba::parse(text.as_bytes(), Path::new("/nowhere/pg_hba.conf"));
    }
}
