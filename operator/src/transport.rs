//! HTTP/1.1 in the small: one call over a stream, one server over a listener. Bodies are JSON.
//!
//! Knows nothing of what is said. Every call has a time limit; every request body has a size limit.

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Larger bodies are refused.
const BODY_LIMIT: usize = 1 << 20;

pub type ResponseBody = BoxBody<Bytes, Infallible>;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the answer is larger than {BODY_LIMIT} bytes or broke off")]
    BadBody,
    #[error("the answer is not what was asked for: {0}")]
    BadJson(#[from] serde_json::Error),
    #[error("refused ({status}): {body}")]
    Refused { status: StatusCode, body: String },
}

impl CallError {
    /// Whether the other side may have fallen silent. What keeps this process from asking (no descriptor is to be had, say)
    /// says nothing of it, nor does an answer that is not understood.
    pub fn is_silence(&self) -> bool {
        match self {
            CallError::Connect(error) => matches!(
                error.kind(),
                ErrorKind::NotFound
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::TimedOut
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
                    // Too many wait to be taken in.
                    | ErrorKind::WouldBlock
            ),
            CallError::Broken(_) | CallError::TimedOut(_) => true,
            CallError::BadBody | CallError::BadJson(_) | CallError::Refused { .. } => false,
        }
    }
}

/// Where a service listens.
#[derive(Clone, Copy, Debug)]
pub enum Address<'a> {
    Unix(&'a Path),
    /// On the loopback address.
    Local(u16),
    Tls(&'a Peer),
}

/// Somebody behind TLS: its address, the name that its certificate must have, and who calls.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub name: ServerName<'static>,
    pub config: Arc<ClientConfig>,
}

/// One request and its answer. `body` none means GET.
pub async fn call<T: DeserializeOwned>(
    address: Address<'_>,
    path: &str,
    token: Option<&str>,
    body: Option<Vec<u8>>,
    limit: Duration,
) -> Result<T, CallError> {
    let work = async {
        let bytes = match address {
            Address::Unix(socket) => {
                let stream = UnixStream::connect(socket)
                    .await
                    .map_err(CallError::Connect)?;
                exchange(stream, path, token, body).await?
            }
            Address::Local(port) => exchange(connect_local(port).await?, path, token, body).await?,
            Address::Tls(peer) => exchange(connect_tls(peer).await?, path, token, body).await?,
        };
        Ok(serde_json::from_slice(&bytes)?)
    };
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| CallError::TimedOut(limit))?
}

/// A connection to a port of this machine, without Nagle's delay.
pub async fn connect_local(port: u16) -> Result<TcpStream, CallError> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;
    Ok(stream)
}

/// A connection to `peer`, whose certificate has been verified.
pub async fn connect_tls(peer: &Peer) -> Result<TlsStream<TcpStream>, CallError> {
    let stream = TcpStream::connect(peer.address)
        .await
        .map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;
    TlsConnector::from(Arc::clone(&peer.config))
        .connect(peer.name.clone(), stream)
        .await
        .map_err(CallError::Connect)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    path: &str,
    token: Option<&str>,
    body: Option<Vec<u8>>,
) -> Result<Bytes, CallError> {
    let response = send(stream, path, token, body).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_LIMIT)
        .collect()
        .await;
    let bytes = body.map_err(|_| CallError::BadBody)?.to_bytes();
    if status.is_success() {
        Ok(bytes)
    } else {
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Err(CallError::Refused { status, body })
    }
}

/// Sends one request and gives the answer's head; the body is read by the caller.
pub async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    path: &str,
    token: Option<&str>,
    body: Option<Vec<u8>>,
) -> Result<Response<Incoming>, CallError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .expect("a constant path and a printable token make a valid request");
    Ok(sender.send_request(request).await?)
}

/// Serves one connection until it ends.
pub async fn serve<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<ResponseBody>>,
{
    let service = service_fn(|request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// The request's body, parsed; the error says what is wrong with it.
pub async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await;
    let bytes = body
        .map_err(|e| format!("the body can't be read: {e}"))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| format!("the body is not what is expected: {e}"))
}

pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<ResponseBody> {
    let bytes = serde_json::to_vec(value).expect("the API's types have string keys only");
    respond(status, "application/json", bytes)
}

pub fn text(status: StatusCode, message: &str) -> Response<ResponseBody> {
    respond(status, "text/plain", message.as_bytes().to_vec())
}

fn respond(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Response<ResponseBody> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)).boxed());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// Whether the request carries `token`. The comparison takes as long for a near miss as for a far one.
pub fn authorized(request: &Request<Incoming>, token: &str) -> bool {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    let differs = given
        .iter()
        .zip(token.as_bytes())
        .fold(0, |acc, (a, b)| acc | (a ^ b));
    given.len() == token.len() && !token.is_empty() && differs == 0
}
