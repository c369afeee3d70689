//! The supervisor's HTTP. In local mode `GET /status` and `/watch` are open and orders need the operator's credential; in
//! a pod all of it does (`pod/calls.rs`).
//!
//! `/watch` is a stream of JSON lines: the status at once, at every change, and four times a second, so that a silent
//! stream means a supervisor that does not run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::commands::{Call, Command};
use super::report::Published;
use crate::api::{Refusal, SupervisorStatus};
use crate::transport::{self, ResponseBody};

pub const HEARTBEAT: Duration = Duration::from_millis(250);
/// What a caller gets to send the body of its call.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// Answers whoever was let in.
#[derive(Clone)]
pub struct Desk {
    pub commands: mpsc::Sender<Command>,
    pub status: watch::Receiver<Published>,
}

/// Serves this machine until the process ends: orders need the token.
pub async fn serve(listener: TcpListener, desk: Desk, token: Arc<str>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (desk, token) = (desk.clone(), Arc::clone(&token));
        tokio::spawn(async move {
            // Without Nagle's delay an answer is one packet at once.
            let _ = stream.set_nodelay(true);
            transport::serve(stream, |request| admit(desk.clone(), &token, request)).await;
        });
    }
}

fn admit(
    desk: Desk,
    token: &str,
    request: Request<Incoming>,
) -> impl Future<Output = Response<ResponseBody>> + use<> {
    let is_let_in = request.method() != Method::POST || transport::authorized(&request, token);
    async move {
        if is_let_in {
            return desk.answer(request).await;
        }
        let text = "the operator's credential is needed\n";
        transport::text(StatusCode::UNAUTHORIZED, text)
    }
}

impl Desk {
    pub async fn answer(self, request: Request<Incoming>) -> Response<ResponseBody> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/status") => {
                transport::json(StatusCode::OK, &current(&self.status.borrow()))
            }
            (&Method::GET, "/watch") => watch_stream(self.status),
            (&Method::POST, path) => {
                let parsed = tokio::time::timeout(BODY_LIMIT, parse(path, request));
                match parsed.await {
                    Ok(Ok(Some(call))) => self.pass_on(call).await,
                    Ok(Ok(None)) => not_found(),
                    Ok(Err(wrong)) => transport::text(StatusCode::BAD_REQUEST, &wrong),
                    Err(_) => {
                        let text = "the body did not come in time\n";
                        transport::text(StatusCode::REQUEST_TIMEOUT, text)
                    }
                }
            }
            _ => not_found(),
        }
    }

    async fn pass_on(self, call: Call) -> Response<ResponseBody> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command { call, reply }).await.is_ok();
        match answer.await {
            Ok(Ok(())) => transport::json(StatusCode::OK, &current(&self.status.borrow())),
            Ok(Err(refusal)) => transport::json(StatusCode::CONFLICT, &refusal),
            Err(_) => {
                let why = if sent {
                    "the supervisor has failed"
                } else {
                    "the supervisor is stopping"
                };
                let promised_term = self.status.borrow().status.promised_term;
                let refusal = Refusal {
                    error: why.to_owned(),
                    promised_term,
                };
                transport::json(StatusCode::SERVICE_UNAVAILABLE, &refusal)
            }
        }
    }
}

async fn parse(path: &str, request: Request<Incoming>) -> Result<Option<Call>, String> {
    Ok(Some(match path {
        "/seal" => Call::Seal(transport::read_json(request).await?),
        "/demote" => Call::Demote(transport::read_json(request).await?),
        "/promote" => Call::Promote(transport::read_json(request).await?),
        "/set" => Call::Set(transport::read_json(request).await?),
        "/follow" => Call::Follow(transport::read_json(request).await?),
        "/reseed" => Call::Reseed(transport::read_json(request).await?),
        "/restart" => Call::Restart(transport::read_json(request).await?),
        "/reload" => Call::Reload,
        _ => return Ok(None),
    }))
}

fn not_found() -> Response<ResponseBody> {
    transport::text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

/// The status with its ages as of now.
fn current(published: &Published) -> SupervisorStatus {
    let mut status = published.status.clone();
    let age = u64::try_from(published.at.elapsed().as_millis()).unwrap_or(u64::MAX);
    if status.down_ms > 0 {
        status.down_ms += age;
    }
    if let Some(engine) = &mut status.engine {
        engine.grow_older(age);
    }
    if age >= 400 {
        // The loop itself hangs: so does whatever it would have seen of the engine, or started in its place.
        status.engine_silent_ms += age;
    }
    status
}

fn watch_stream(status: watch::Receiver<Published>) -> Response<ResponseBody> {
    struct Follower {
        status: watch::Receiver<Published>,
        last: Option<SupervisorStatus>,
        due: Instant,
    }
    let first = Follower {
        status,
        last: None,
        due: Instant::now(),
    };
    let lines = stream::unfold(first, |mut follower| async move {
        loop {
            let now = current(&follower.status.borrow_and_update());
            let quiet = now.without_positions();
            if Instant::now() >= follower.due || follower.last.as_ref() != Some(&quiet) {
                follower.last = Some(quiet);
                follower.due = Instant::now() + HEARTBEAT;
                let mut line = serde_json::to_vec(&now).expect("a status has string keys only");
                line.push(b'\n');
                let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
                return Some((frame, follower));
            }
            let wait = follower.due.saturating_duration_since(Instant::now());
            tokio::select! {
                changed = follower.status.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    });
    Response::new(BodyExt::boxed(StreamBody::new(SyncStream::new(lines))))
}

use sync_stream::SyncStream;

/// A body has to be `Sync`; a stream that one task alone polls needs no lock for that, only a proof.
mod sync_stream {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::Stream;
    use futures::stream::BoxStream;
    use parking_lot::Mutex;

    pub struct SyncStream<T> {
        inner: Mutex<BoxStream<'static, T>>,
    }
    impl<T> SyncStream<T> {
        pub fn new(stream: impl Stream<Item = T> + Send + 'static) -> SyncStream<T> {
            SyncStream {
                inner: Mutex::new(Box::pin(stream)),
            }
        }
    }
    impl<T> Stream for SyncStream<T> {
        type Item = T;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
            self.inner.get_mut().as_mut().poll_next(cx)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::report::empty_status;

    /// One that hangs before it has an engine would be taken for one that is about to have it, for ever.
    #[test]
    fn a_loop_that_hangs_is_silent_whether_there_is_an_engine_or_not() {
        let at = Instant::now().checked_sub(Duration::from_secs(5));
        let at = at.expect("the machine has been up for a while");
        for engine_pid in [None, Some(7)] {
            let status = SupervisorStatus {
                engine_pid,
                ..empty_status()
            };
            let said = current(&Published { status, at });
            assert!(said.engine_silent_ms >= 5_000, "{engine_pid:?}");
            assert_eq!(said.down_ms, 0, "it has not crashed");
        }
    }

    /// What is told of a message is as old as the message, not as the telling.
    #[test]
    fn what_the_engine_heard_grows_older_until_it_is_passed_on() {
        let passed_on = |receiver: serde_json::Value| {
            let engine = serde_json::json!({
                "system_id": "1", "role": "standby", "timeline": 3, "receiver": receiver,
            });
            let at = Instant::now().checked_sub(Duration::from_secs(2));
            let at = at.expect("the machine has been up for a while");
            let status = SupervisorStatus {
                engine: Some(serde_json::from_value(engine).expect("an engine's status")),
                ..empty_status()
            };
            let heard_ms = |status: SupervisorStatus| {
                let receiver = status.engine.and_then(|engine| engine.receiver);
                receiver.expect("it has one").heard_ms
            };
            let said = current(&Published { status, at });
            // No change that anybody should hear of at once.
            assert_eq!(heard_ms(said.without_positions()), None);
            heard_ms(said)
        };
        let says = serde_json::json!({
            "state": "streaming", "upstream_term": 3, "heard_ms": 400,
        });
        assert!(passed_on(says) >= Some(2_400));
        let says_nothing = serde_json::json!({"state": "streaming", "upstream_term": 3});
        assert_eq!(passed_on(says_nothing), None, "an older engine");
    }
}
