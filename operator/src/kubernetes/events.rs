//! Events on the cluster object, by `events.k8s.io`: what `kubectl describe rcl` shows.
//!
//! They are written one after the other by a task of their own, so that nobody waits for them. `kube`'s recorder would
//! fold two events of one reason into the first one's text.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::act::Tell;
use crate::render::MANAGER;

/// Events that wait while the API is away; what comes on top of them is only logged.
const WAITING: usize = 256;
const TRIES: u32 = 8;
const NOTE_LIMIT: usize = 1_000;

#[derive(Clone, Debug)]
pub struct EventWriter {
    queue: mpsc::Sender<Line>,
    cluster: String,
}

#[derive(Debug)]
struct Line {
    at: Timestamp,
    reason: String,
    warning: bool,
    note: String,
}

impl EventWriter {
    /// For the object `regarding`, in the name of the process `me`.
    pub fn new(client: &Client, regarding: ObjectReference, me: &str) -> EventWriter {
        let (queue, lines) = mpsc::channel(WAITING);
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let cluster = regarding.name.clone().unwrap_or_default();
        let api = Api::namespaced(client.clone(), &namespace);
        tokio::spawn(write(api, regarding, me.to_owned(), lines));
        EventWriter { queue, cluster }
    }
}

impl Tell for EventWriter {
    fn tell(&self, reason: &str, warning: bool, message: &str) {
        if warning {
            tracing::warn!(cluster = %self.cluster, reason, "{message}");
        } else {
            tracing::info!(cluster = %self.cluster, reason, "{message}");
        }
        let line = Line {
            at: Timestamp::now(),
            reason: reason.to_owned(),
            warning,
            note: shortened(message),
        };
        if self.queue.try_send(line).is_err() {
            tracing::warn!(cluster = %self.cluster, reason, "too many events wait to be written; this one is in the log only");
        }
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

async fn write(
    api: Api<Event>,
    regarding: ObjectReference,
    me: String,
    mut lines: mpsc::Receiver<Line>,
) {
    let mut number = 0_u32;
    while let Some(line) = lines.recv().await {
        number = number.wrapping_add(1);
        let event = event(&regarding, &me, &line, number);
        for attempt in 0..TRIES {
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => break,
                // It was written, and the answer got lost.
                Err(kube::Error::Api(status)) if status.code == 409 => break,
                Err(error) => {
                    tracing::debug!(%error, reason = %line.reason, "an event could not be written");
                    tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
                }
            }
        }
    }
}

fn event(regarding: &ObjectReference, me: &str, line: &Line, number: u32) -> Event {
    let cluster = regarding.name.as_deref().unwrap_or_default();
    let unique = line.at.as_microsecond();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{cluster}.{unique:x}.{number:x}")),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(line.at)),
        action: Some(line.reason.clone()),
        reason: Some(line.reason.clone()),
        note: Some(line.note.clone()),
        type_: Some(if line.warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(regarding.clone()),
        reporting_controller: Some(format!("understudy.dev/{MANAGER}")),
        reporting_instance: Some(me.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ä".repeat(NOTE_LIMIT);
        let short = shortened(&long);
        assert!(short.len() <= NOTE_LIMIT + 3 && short.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }
}
