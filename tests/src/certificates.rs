//! Authorities, certificates and revocation lists, made by the `openssl` program in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::programs::{postgres, run_ok};
use crate::server::Server;
use crate::twins::{BOTH, Running, Twins, Who};
use crate::wire::Client;

/// Files `NAME.crt` and `NAME.key` for everything that was made.
pub struct Certificates {
    dir: tempfile::TempDir,
}

const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// What a certificate is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// As `openssl` takes it: `/CN=name`.
    pub subject: &'a str,
    /// `DNS:name,IP:address`; empty: none.
    pub names: &'a str,
    /// The authority's name; empty: it signs itself.
    pub by: &'a str,
    pub serial: u32,
    /// What `openssl genpkey -algorithm` is told.
    pub key: &'a [&'a str],
    /// 0: it has expired by the time it is used.
    pub days: u32,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Wanted {
            subject: "/CN=localhost",
            names: "DNS:localhost,IP:127.0.0.1",
            by: "root",
            serial: 1,
            key: P256,
            days: 30,
        }
    }
}

impl Certificates {
    /// With an authority called `root`.
    pub fn new() -> Certificates {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run_ok(Command::new("chmod").arg("0755").arg(dir.path()));
        let made = Certificates { dir };
        made.authority("root");
        made
    }

    /// ... and a certificate for `server` that it signed.
    pub fn for_server() -> Certificates {
        let made = Certificates::new();
        made.certificate("server", Wanted::default());
        made
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn shown(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).expect("it was made")
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        run_ok(
            Command::new("openssl")
                .args(arguments)
                .current_dir(self.dir.path()),
        )
    }

    fn key(&self, name: &str, kind: &[&str]) {
        let out = format!("{name}.key");
        self.openssl(&[&["genpkey", "-out", &out, "-algorithm"][..], kind].concat());
        run_ok(Command::new("chmod").arg("0600").arg(self.path(&out)));
    }

    /// The key once more in the form that older programs write: PKCS #1 or SEC 1.
    pub fn old_form(&self, name: &str) {
        let file = format!("{name}.key");
        let text = self.openssl(&["pkey", "-traditional", "-in", &file]);
        std::fs::write(self.path(&file), text).expect("writable");
    }

    pub fn authority(&self, name: &str) {
        self.key(name, P256);
        let subject = format!("/CN={name} authority");
        let (key, out) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&[
            "req", "-x509", "-new", "-key", &key, "-days", "30", "-subj", &subject, "-out", &out,
        ]);
    }

    /// `name.crt` with its key.
    pub fn certificate(&self, name: &str, wanted: Wanted<'_>) {
        self.key(name, wanted.key);
        let mut extensions = "basicConstraints=CA:FALSE\n".to_owned();
        if !wanted.names.is_empty() {
            extensions.push_str(&format!("subjectAltName={}\n", wanted.names));
        }
        std::fs::write(self.path("extensions"), extensions).expect("writable");
        let (key, request, out) = (
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("{name}.crt"),
        );
        self.openssl(&[
            "req",
            "-new",
            "-utf8",
            "-key",
            &key,
            "-subj",
            wanted.subject,
            "-out",
            &request,
        ]);
        let (serial, days) = (wanted.serial.to_string(), wanted.days.to_string());
        let (ca, ca_key) = (format!("{}.crt", wanted.by), format!("{}.key", wanted.by));
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-out",
            &out,
            "-days",
            &days,
            "-set_serial",
            &serial,
            "-extfile",
            "extensions",
        ];
        if wanted.by.is_empty() {
            arguments.extend(["-key", &key]);
        } else {
            arguments.extend(["-CA", &ca, "-CAkey", &ca_key]);
        }
        self.openssl(&arguments);
        if wanted.days == 0 {
            std::thread::sleep(Duration::from_millis(1100));
        }
    }

    /// `out`: `by`'s list of the certificates it has revoked.
    pub fn revocation_list(&self, out: &str, by: &str, revoked: &[&str]) {
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=revoked\ndefault_md=sha256\ndefault_crl_days=30\n\
            unique_subject=no\ncrlnumber=number\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n";
        std::fs::write(self.path("number"), "01\n").expect("writable");
        std::fs::write(self.path("ca.cnf"), config).expect("writable");
        std::fs::write(self.path("revoked"), "").expect("writable");
        let (ca, key) = (format!("{by}.crt"), format!("{by}.key"));
        let common = ["ca", "-config", "ca.cnf", "-cert", &ca, "-keyfile", &key];
        for name in revoked {
            let file = format!("{name}.crt");
            self.openssl(&[&common[..], &["-revoke", &file]].concat());
        }
        self.openssl(&[&common[..], &["-gencrl", "-out", out]].concat());
    }

    /// The serial number of the certificate that a server shows now.
    pub fn served_serial(&self, port: u16) -> String {
        let at = format!("127.0.0.1:{port}");
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres", "-connect", &at]);
        let shown = run_ok(command.stdin(std::process::Stdio::null()));
        std::fs::write(self.path("served"), shown).expect("writable");
        let serial = self.openssl(&["x509", "-in", "served", "-noout", "-serial"]);
        serial.trim().trim_start_matches("serial=").to_owned()
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}

/// Copies a file with the permissions that a key needs.
fn install(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("copied");
    run_ok(Command::new("chmod").arg("0600").arg(to));
}

/// What a server finds under its default names, and the authority of its clients.
const OF_A_SERVER: [&str; 3] = ["server.crt", "server.key", "root.crt"];

/// psql without anything of this machine's: no home directory, no variables.
pub fn psql(target: &str, sql: &str) -> Command {
    let mut command = Command::new(postgres("psql"));
    command.args(["-X", "-A", "-t", "-w", "-c", sql, "-d", target]);
    command.env("HOME", "/nonexistent").env_remove("PGPASSWORD");
    command
}

pub fn install_in_twin(twins: &Twins, who: Who, made: &Certificates) {
    for file in OF_A_SERVER {
        twins.write(who, file, made.read(file));
    }
}

/// Both servers run with these certificates, files, roles and arguments.
pub fn encrypted_twins(
    made: &Certificates,
    files: &[(&str, &str)],
    roles: &[&str],
    arguments: &[&str],
) -> (Twins, [Running; 2]) {
    let twins = Twins::initdb();
    let running = BOTH.map(|who| {
        for (name, text) in files {
            twins.write(who, name, text);
        }
        install_in_twin(&twins, who, made);
        let running = twins.launch(who, arguments);
        let mut client = patient_client(&twins, who);
        for sql in roles {
            client.rows(sql);
        }
        running
    });
    (twins, running)
}

fn patient_client(twins: &Twins, who: Who) -> Client {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match Client::connect(twins.port(who)) {
            Ok(client) => return client,
            Err(e) => assert!(
                Instant::now() < until,
                "{who:?}: {e} {:#?}",
                twins.logged(who)
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server of ours that encrypts, with these rules (empty: the usual ones) and settings; it runs.
pub fn encrypted_server(made: &Certificates, hba: &str, settings: &str) -> Server {
    let mut server = Server::initdb();
    for file in OF_A_SERVER {
        install(&made.path(file), &server.data().join(file));
    }
    if !hba.is_empty() {
        std::fs::write(server.data().join("pg_hba.conf"), hba).expect("writable");
    }
    server.configure(&format!("ssl = on\nssl_ca_file = 'root.crt'\n{settings}"));
    server.start();
    server
}

/// Takes any server for what it says it is.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client that checks nothing.
pub fn trusting_client() -> ClientConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}
