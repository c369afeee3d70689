//! Health, status and metrics over HTTP, and the supervisor's control socket.
//!
//! `/healthz` and `/readyz` say yes or no, `/status` is ARCHITECTURE.md's JSON, `/metrics` is Prometheus' text. On the
//! control socket `POST /obey` makes the instance read its promise again, and `POST /confirm` is the supervisor's word that
//! it still is the primary. Everything answered here is local knowledge and writes no WAL. Runs on a runtime of its own, so
//! that 64 sorts at once starve no health check, and lets everybody in: where there are too many, whoever was heard from
//! longest ago has to leave.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

/// What `node/` knows.
pub trait StatusSource: Send + Sync + 'static {
    /// The process works: its log can be written and its threads turn.
    fn healthy(&self) -> Result<(), String>;
    /// Statements are served (a standby: consistent; a primary: what it shows is safe).
    fn ready(&self) -> Result<(), String>;
    /// ARCHITECTURE.md has the fields.
    fn status(&self) -> serde_json::Value;
    /// Prometheus' text format.
    fn metrics(&self) -> String;
    /// Reads the promise file and obeys it, then gives the status. `Err`: why it could not be obeyed.
    fn obey(&self) -> Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send + '_>>;
    /// Takes the supervisor's word, then gives the status. `Err`: why it says nothing here.
    fn confirm(&self, word: Confirmation) -> Result<serde_json::Value, String>;
    /// Opens the TCP/IP sockets, then gives the status. `Err`: why they can't be had.
    fn listen(&self) -> Result<serde_json::Value, String>;
}

/// The record says that this still is the primary of `term`: the answer to the hold of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Confirmation {
    pub term: u32,
    pub hold: u64,
}

/// Who may call what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Control,
}

/// Bytes of a request's body at the control socket; more is as good as none.
const MOST_SAID: usize = 1 << 10;
/// Connections at the open door.
const AT_ONCE: usize = 64;
/// From the end of one request to that of the next one's header: an idle connection ends with it, too.
const SLOWEST_HEADER: Duration = Duration::from_secs(10);

/// The connections of the open door, the one that was heard from longest ago first. An answer takes no time worth
/// speaking of, so that one is idle, or does not read: a probe never waits for it.
#[derive(Default)]
struct Visitors {
    open: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    last: u64,
    /// By number; what tells each to leave.
    places: BTreeMap<u64, Arc<Notify>>,
}

impl Queue {
    fn put_last(&mut self, leave: Arc<Notify>) -> u64 {
        self.last += 1;
        self.places.insert(self.last, leave);
        self.last
    }
}

impl Visitors {
    /// A place for one more; the first in the queue loses its own if there are too many.
    fn enter(self: &Arc<Self>) -> Visit {
        let leave = Arc::new(Notify::new());
        let mut open = self.open.lock();
        if open.places.len() >= AT_ONCE
            && let Some((_, first)) = open.places.pop_first()
        {
            first.notify_one();
        }
        let place = open.put_last(Arc::clone(&leave));
        Visit {
            visitors: Arc::clone(self),
            leave,
            place: Mutex::new(place),
        }
    }
}

/// One connection among the [`Visitors`].
struct Visit {
    visitors: Arc<Visitors>,
    leave: Arc<Notify>,
    place: Mutex<u64>,
}

impl Visit {
    /// A request has come.
    fn heard(&self) {
        let mut open = self.visitors.open.lock();
        let mut place = self.place.lock();
        // Who has been told to leave has no place any more, and gets none.
        if let Some(leave) = open.places.remove(&*place) {
            *place = open.put_last(leave);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let place = *self.place.get_mut();
        self.visitors.open.lock().places.remove(&place);
    }
}

async fn told_to_leave(visit: Option<&Visit>) {
    match visit {
        Some(visit) => visit.leave.notified().await,
        None => std::future::pending().await,
    }
}

/// Binds the address of `http_listen`: `host:port`, or a port alone for loopback.
pub fn bind(address: &str) -> std::io::Result<std::net::TcpListener> {
    let listener = if let Ok(port) = address.parse::<u16>() {
        std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?
    } else {
        let address = address.replacen("*:", "0.0.0.0:", 1);
        std::net::TcpListener::bind(address.as_str())?
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds the control socket; only this user may speak to it. A socket that a crash left is replaced: the data
/// directory's lock says that nobody else serves it.
pub fn bind_control(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the task is dropped.
pub async fn serve<S: StatusSource>(listener: std::net::TcpListener, source: Arc<S>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let visitors = Arc::new(Visitors::default());
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let visit = Some(visitors.enter());
            tokio::spawn(connection(stream, Arc::clone(&source), Door::Open, visit));
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The same for the control socket.
pub async fn serve_control<S: StatusSource>(
    listener: std::os::unix::net::UnixListener,
    source: Arc<S>,
) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
        return;
    };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&source), Door::Control, None));
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connection<S: StatusSource>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    source: Arc<S>,
    door: Door,
    visit: Option<Visit>,
) {
    let visit = visit.map(Arc::new);
    let heard = visit.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        if let Some(visit) = &heard {
            visit.heard();
        }
        let source = Arc::clone(&source);
        async move {
            let (head, body) = request.into_parts();
            let said = match door {
                Door::Open => Bytes::new(),
                Door::Control => said(body).await,
            };
            let path = head.uri.path();
            Ok::<_, Infallible>(answer(&head.method, path, &said, &*source, door).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that breaks off is nothing to report.
        _ = served => {}
        () = told_to_leave(visit.as_deref()) => {}
    }
}

type Answer = Response<Full<Bytes>>;

async fn said(body: Incoming) -> Bytes {
    let read = Limited::new(body, MOST_SAID).collect().await;
    read.map_or_else(|_| Bytes::new(), |all| all.to_bytes())
}

async fn answer<S: StatusSource>(
    method: &Method,
    path: &str,
    said: &[u8],
    source: &S,
    door: Door,
) -> Answer {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/healthz" if reads => yes_or_no(source.healthy()),
        "/readyz" if reads => yes_or_no(source.ready()),
        "/status" if reads => json(StatusCode::OK, &source.status()),
        "/metrics" if reads => text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            source.metrics(),
        ),
        "/obey" if door == Door::Control && method == Method::POST => match source.obey().await {
            Ok(status) => json(StatusCode::OK, &status),
            Err(why) => conflict(&why),
        },
        "/confirm" if door == Door::Control && method == Method::POST => {
            match serde_json::from_slice(said) {
                Ok(word) => match source.confirm(word) {
                    Ok(status) => json(StatusCode::OK, &status),
                    Err(why) => conflict(&why),
                },
                Err(error) => plain(
                    StatusCode::BAD_REQUEST,
                    format!("the body is not {{\"term\": n, \"hold\": n}}: {error}\n"),
                ),
            }
        }
        "/listen" if door == Door::Control && method == Method::POST => match source.listen() {
            Ok(status) => json(StatusCode::OK, &status),
            Err(why) => conflict(&why),
        },
        "/healthz" | "/readyz" | "/status" | "/metrics" => not_allowed("GET, HEAD"),
        "/obey" | "/confirm" | "/listen" if door == Door::Control => not_allowed("POST"),
        _ => plain(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}

fn yes_or_no(state: Result<(), String>) -> Answer {
    match state {
        Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn conflict(why: &str) -> Answer {
    json(StatusCode::CONFLICT, &serde_json::json!({ "error": why }))
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = plain(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed\n".to_owned(),
    );
    answer
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(allow));
    answer
}

fn plain(status: StatusCode, body: String) -> Answer {
    text(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    text(status, "application/json", value.to_string())
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed;

    impl StatusSource for Fixed {
        fn healthy(&self) -> Result<(), String> {
            Ok(())
        }
        fn ready(&self) -> Result<(), String> {
            Err("waiting for standbys".to_owned())
        }
        fn status(&self) -> serde_json::Value {
            serde_json::json!({ "role": "primary" })
        }
        fn metrics(&self) -> String {
            "understudy_up 1\n".to_owned()
        }
        fn obey(
            &self,
        ) -> Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send + '_>> {
            Box::pin(async { Ok(self.status()) })
        }
        fn confirm(&self, word: Confirmation) -> Result<serde_json::Value, String> {
            let right = Confirmation { term: 3, hold: 2 };
            match word == right {
                true => Ok(self.status()),
                false => Err("no such hold".to_owned()),
            }
        }
        fn listen(&self) -> Result<serde_json::Value, String> {
            Err("the port is another's".to_owned())
        }
    }

    #[tokio::test]
    async fn doors_answer_what_is_theirs() {
        let code = async |method: Method, path: &str, door| {
            answer(&method, path, b"", &Fixed, door)
                .await
                .status()
                .as_u16()
        };
        for (method, path, open, control) in [
            (Method::GET, "/healthz", 200, 200),
            (Method::HEAD, "/healthz", 200, 200),
            (Method::GET, "/readyz", 503, 503),
            (Method::GET, "/status", 200, 200),
            (Method::GET, "/metrics", 200, 200),
            (Method::POST, "/obey", 404, 200),
            (Method::GET, "/obey", 404, 405),
            (Method::POST, "/confirm", 404, 400),
            (Method::GET, "/confirm", 404, 405),
            (Method::POST, "/listen", 404, 409),
            (Method::GET, "/listen", 404, 405),
            (Method::POST, "/status", 405, 405),
            (Method::GET, "/", 404, 404),
        ] {
            assert_eq!(
                code(method.clone(), path, Door::Open).await,
                open,
                "{method} {path}"
            );
            assert_eq!(
                code(method.clone(), path, Door::Control).await,
                control,
                "{method} {path}"
            );
        }
    }

    /// As it comes over the socket.
    #[tokio::test]
    async fn the_word_for_a_hold_names_its_term_and_number() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("control.sock");
        let listener = bind_control(&socket).expect("bound");
        let server = tokio::spawn(serve_control(listener, Arc::new(Fixed)));
        for (body, code) in [
            (r#"{"term":3,"hold":2}"#, "200"),
            (r#"{"term":3,"hold":1}"#, "409"),
            (r#"{"term":3}"#, "400"),
        ] {
            let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("in");
            let length = body.len();
            let request = format!(
                "POST /confirm HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            let read = tokio::time::timeout(Duration::from_secs(30), read).await;
            read.expect("in time").expect("an answer");
            assert_eq!(answer.split(' ').nth(1), Some(code), "{body}: {answer}");
        }
        server.abort();
    }

    fn is_told_to_leave(visit: &Visit) -> bool {
        told_to_leave(Some(visit)).now_or_never().is_some()
    }

    #[test]
    fn whoever_was_heard_from_longest_ago_makes_room() {
        let visitors = Arc::new(Visitors::default());
        let mut visits: Vec<Visit> = (0..AT_ONCE).map(|_| visitors.enter()).collect();
        visits[0].heard();
        visits.push(visitors.enter());
        let told: Vec<usize> = (0..visits.len())
            .filter(|n| is_told_to_leave(&visits[*n]))
            .collect();
        assert_eq!(told, [1]);
        visits[1].heard();
        assert_eq!(visitors.open.lock().places.len(), AT_ONCE, "it stays told");
        drop(visits);
        assert!(visitors.open.lock().places.is_empty());
    }

    #[tokio::test]
    async fn idle_connections_keep_no_probe_out() {
        let listener = bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(serve(listener, Arc::new(Fixed)));
        let mut idle = Vec::new();
        for _ in 0..3 * AT_ONCE {
            idle.push(tokio::net::TcpStream::connect(address).await.expect("in"));
        }
        let mut probe = tokio::net::TcpStream::connect(address).await.expect("in");
        probe
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        let read = probe.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.abort();
    }
}
