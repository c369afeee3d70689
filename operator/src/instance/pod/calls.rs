//! HTTPS to the supervisor in a pod: `/livez` is open, everything else is the operator's.
//!
//! On a thread of its own, so that a volume that hangs, or a loop that does, keeps nobody from being answered. A
//! connection that does not end its handshake is dropped after a while, and earlier if too many others come: the oldest
//! goes first, so that whoever does shake hands gets in. Who is not the operator keeps its place among them, and does
//! not stay: only `/livez` is for it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::health::Health;
use super::mounted::Mounted;
use crate::instance::http::Desk;
use crate::tls;
use crate::transport::{self, ResponseBody};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKES_AT_ONCE: usize = 128;
/// How long somebody who is not the operator may stay.
const STRANGER_LIMIT: Duration = Duration::from_secs(10);
/// The supervisor's loop goes round several times a second; where it has not for so long, it hangs for good.
const LIVE_LIMIT: Duration = Duration::from_secs(30);
const CERTIFICATE_PAUSE: Duration = Duration::from_secs(1);

/// What this end shows: none while the files can't be used.
#[derive(Default)]
struct Shown {
    config: RwLock<Option<Arc<ServerConfig>>>,
}

impl Shown {
    fn read(&self, folder: &Path) {
        match tls::server(folder) {
            Ok(config) => *self.config.write() = Some(config),
            // What was shown before is better than nothing.
            Err(error) => tracing::warn!(%error, "the supervisor's certificate can't be used"),
        }
    }
}

/// Serves for the life of the process, with the certificate that is in `folder` at any time.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(
    listener: std::net::TcpListener,
    folder: PathBuf,
    desk: Desk,
    health: Health,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("calls".to_owned())
        .spawn(move || runtime.block_on(serve(listener, folder, Door { desk, health })))?;
    Ok(())
}

async fn serve(listener: std::net::TcpListener, folder: PathBuf, door: Door) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "nobody can call this supervisor");
            return;
        }
    };
    let shown = Arc::new(Shown::default());
    let mut mounted = Mounted::new(Mounted::tls(&folder));
    shown.read(&folder);
    let mut shaking = VecDeque::new();
    let mut look = tokio::time::interval(CERTIFICATE_PAUSE);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let config = shown.config.read().clone();
                    if let Some(config) = config {
                        admit(stream, config, &door, &mut shaking);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = look.tick() => {
                let has_none = shown.config.read().is_none();
                if mounted.has_changed() || has_none {
                    shown.read(&folder);
                }
            }
        }
    }
}

/// Begins the handshake. When it turns out to be the operator's, its place among those under way is free again.
fn admit(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    door: &Door,
    shaking: &mut VecDeque<AbortHandle>,
) {
    shaking.retain(|task| !task.is_finished());
    while shaking.len() >= HANDSHAKES_AT_ONCE {
        if let Some(oldest) = shaking.pop_front() {
            oldest.abort();
        }
    }
    let door = door.clone();
    let task = tokio::spawn(async move {
        // Without Nagle's delay an answer is one packet at once.
        let _ = stream.set_nodelay(true);
        let shaken = TlsAcceptor::from(config).accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_LIMIT, shaken).await else {
            return;
        };
        let is_operator = tls::is_operator(stream.get_ref().1.peer_certificates());
        let served = transport::serve(stream, move |request| {
            door.clone().answer(is_operator, request)
        });
        if is_operator {
            tokio::spawn(served);
        } else {
            // Nothing depends on how far it came.
            let _ = tokio::time::timeout(STRANGER_LIMIT, served).await;
        }
    });
    shaking.push_back(task.abort_handle());
}

#[derive(Clone)]
struct Door {
    desk: Desk,
    health: Health,
}

impl Door {
    async fn answer(self, is_operator: bool, request: Request<Incoming>) -> Response<ResponseBody> {
        if request.method() == Method::GET && request.uri().path() == "/livez" {
            return self.alive();
        }
        if !is_operator {
            return transport::text(
                StatusCode::UNAUTHORIZED,
                "the operator's client certificate is needed\n",
            );
        }
        self.desk.answer(request).await
    }

    fn alive(&self) -> Response<ResponseBody> {
        let silent = self.desk.status.borrow().at.elapsed();
        // A new start would hang on the volume just the same.
        if silent < LIVE_LIMIT || !self.health.stalled().is_zero() {
            return transport::text(StatusCode::OK, "ok\n");
        }
        let text = format!(
            "the supervisor has done nothing for {} s\n",
            silent.as_secs()
        );
        transport::text(StatusCode::SERVICE_UNAVAILABLE, &text)
    }
}

#[cfg(test)]
mod tests;
