//! Who is let in, and who keeps whom waiting.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::ids::Millis;
use crate::instance::report::{Published, empty_status};
use crate::render::{Certified, Credentials};
use crate::transport::{Address, CallError, Peer};
use crate::validate::ValidatedCluster;

const LIMIT: Duration = Duration::from_secs(10);

struct Served {
    dir: tempfile::TempDir,
    credentials: Credentials,
    address: SocketAddr,
    status: watch::Sender<Published>,
    /// Nobody reads them; they are kept so that the channel is.
    _orders: mpsc::Receiver<crate::instance::commands::Command>,
}

fn credentials() -> Credentials {
    let cluster = ValidatedCluster {
        name: "orders".to_owned(),
        namespace: "shop".to_owned(),
        ..ValidatedCluster::default()
    };
    Credentials::complete(&cluster, "u", &BTreeMap::new(), Millis::now()).expect("made")
}

impl Served {
    fn start() -> Served {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let first = Published {
            status: empty_status(),
            at: Instant::now(),
        };
        let (status, seen) = watch::channel(first);
        let (commands, orders) = mpsc::channel(1);
        let served = Served {
            credentials: credentials(),
            address,
            status,
            _orders: orders,
            dir,
        };
        served.show(&served.credentials);
        let desk = Desk {
            commands,
            status: seen,
        };
        let health = Health::new(served.dir.path().join("probe"));
        start(listener, served.dir.path().to_owned(), desk, health).expect("started");
        served
    }

    fn show(&self, credentials: &Credentials) {
        for (file, text) in [
            ("ca.crt", &credentials.authority.certificate),
            ("server.crt", &credentials.server.certificate),
            ("server.key", &credentials.server.key),
        ] {
            std::fs::write(self.dir.path().join(file), text).expect("written");
        }
    }

    async fn ask(&self, who: Arc<ClientConfig>, path: &str) -> Result<Value, CallError> {
        let peer = Peer {
            address: self.address,
            name: "orders-1-0.orders-instances.shop.svc"
                .try_into()
                .expect("a name"),
            config: who,
        };
        transport::call(Address::Tls(&peer), path, None, None, LIMIT).await
    }

    fn known(&self, who: &Certified) -> Arc<ClientConfig> {
        tls::client(&self.credentials.authority.certificate, who).expect("a client")
    }

    fn unknown(&self) -> Arc<ClientConfig> {
        let authority = self.credentials.authority.certificate.as_bytes();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority).expect("PEM"))
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

fn said(answer: Result<Value, CallError>) -> String {
    match answer {
        Ok(value) => format!("200 {value}"),
        Err(CallError::Refused { status, body }) => format!("{} {body}", status.as_u16()),
        // The open answer is no JSON.
        Err(CallError::BadJson(_)) => "200 ok".to_owned(),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn only_the_operator_reads_and_orders() {
    let served = Served::start();
    let operator = served.known(&served.credentials.operator);
    let answer = served.ask(Arc::clone(&operator), "/status").await;
    assert_eq!(answer.expect("answered")["state"], "starting");
    assert!(said(served.ask(operator, "/anything").await).starts_with("404"));
    let standby = served.known(&served.credentials.client);
    for who in [standby, served.unknown()] {
        assert_eq!(said(served.ask(Arc::clone(&who), "/livez").await), "200 ok");
        for path in ["/status", "/watch", "/seal", "/anything"] {
            let answer = said(served.ask(Arc::clone(&who), path).await);
            assert!(answer.starts_with("401"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_loop_that_hangs_is_told_to_the_kubelet() {
    let served = Served::start();
    let long_ago = Instant::now().checked_sub(LIVE_LIMIT);
    let long_ago = long_ago.expect("the machine has been up for a while");
    served
        .status
        .send_modify(|published| published.at = long_ago);
    let answer = said(served.ask(served.unknown(), "/livez").await);
    assert!(
        answer.starts_with("503") && answer.contains("30 s"),
        "{answer}"
    );
}

#[tokio::test]
async fn who_begins_and_says_no_more_keeps_nobody_waiting() {
    let served = Served::start();
    let silent: Vec<TcpStream> = (0..3 * HANDSHAKES_AT_ONCE)
        .map(|_| TcpStream::connect(served.address).expect("connected"))
        .collect();
    let begin = Instant::now();
    let operator = served.known(&served.credentials.operator);
    served.ask(operator, "/status").await.expect("answered");
    assert!(begin.elapsed() < HANDSHAKE_LIMIT, "{:?}", begin.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let served = Served::start();
    let renewed = credentials();
    let authority = &renewed.authority.certificate;
    let operator = tls::client(authority, &renewed.operator).expect("a client");
    assert!(served.ask(Arc::clone(&operator), "/status").await.is_err());
    served.show(&renewed);
    let begin = Instant::now();
    while let Err(error) = served.ask(Arc::clone(&operator), "/status").await {
        assert!(begin.elapsed() < LIMIT, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
