//! The operator's own HTTP: whether it lives, whether it is ready, its metrics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::net::TcpListener;

use super::events::Unwritten;
use super::metrics::Metrics;
use crate::transport;

/// What probes are told.
#[derive(Debug, Default)]
pub struct Health {
    /// The API server has answered and everything has been listed.
    pub ready: AtomicBool,
    pub metrics: Metrics,
    pub unwritten: Unwritten,
}

/// Serves until the process ends.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(address: SocketAddr, health: Arc<Health>) -> std::io::Result<()> {
    let listener = listen(address).await?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let health = Arc::clone(&health);
        tokio::spawn(transport::serve(stream, move |request| {
            let answer = match (request.method(), request.uri().path()) {
                (&Method::GET, "/livez") => transport::text(StatusCode::OK, "ok\n"),
                (&Method::GET, "/readyz") => ready(&health),
                (&Method::GET, "/metrics") => {
                    transport::text(StatusCode::OK, &health.metrics.text())
                }
                _ => transport::text(StatusCode::NOT_FOUND, "there is nothing here\n"),
            };
            std::future::ready(answer)
        }));
    }
}

/// On every address of both kinds, where that is asked for; on a node without IPv6, on those of the other.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn ready(health: &Health) -> hyper::Response<transport::ResponseBody> {
    if health.ready.load(Ordering::Relaxed) {
        transport::text(StatusCode::OK, "ok\n")
    } else {
        transport::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server has not answered yet\n",
        )
    }
}
