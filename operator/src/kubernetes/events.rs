//! Events on the cluster object, by `events.k8s.io`: what `kubectl describe rcl` shows.
//!
//! They are written one after the other by a task of their own, so that nobody waits for them, and while the API is away
//! they wait. The same words again within some minutes are a series of one event. `kube`'s recorder would fold two events
//! of one reason into the first one's text.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use crate::act::Tell;
use crate::crd::cut;
use crate::render::MANAGER;

/// Events that wait while the API is away; what comes on top of them is only logged.
const WAITING: usize = 256;
/// Bytes; the API server takes 1,024.
const NOTE_LIMIT: usize = 1_000;
/// Characters that the API server takes.
const INSTANCE_LIMIT: usize = 128;
/// An event that could not be written for so long is in the log only.
const KEPT: Duration = Duration::from_secs(1_800);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same words after so long are an event of their own.
const SERIES: Duration = Duration::from_secs(360);
/// How often a series is written at most; what comes in between is written when that time is over.
const SERIES_PAUSE: Duration = Duration::from_secs(10);
/// Events of one reason that are written within [`SERIES`]; more of them are a flood, and are in the log only.
const MOST_OF_A_REASON: u32 = 60;

/// How many events were told and are not written yet: a process that ends takes them with it.
#[derive(Clone, Debug, Default)]
pub struct Unwritten(Arc<AtomicUsize>);

impl Unwritten {
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
    fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
    fn done(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Clone, Debug)]
pub struct EventWriter {
    queue: mpsc::Sender<Line>,
    cluster: String,
    unwritten: Unwritten,
}

#[derive(Debug)]
struct Line {
    at: Timestamp,
    told_at: Instant,
    reason: String,
    warning: bool,
    note: String,
}

impl EventWriter {
    /// For the object `regarding`, in the name of the process `me`.
    pub fn new(
        client: &Client,
        regarding: ObjectReference,
        me: &str,
        unwritten: Unwritten,
    ) -> EventWriter {
        let (queue, lines) = mpsc::channel(WAITING);
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let cluster = regarding.name.clone().unwrap_or_default();
        let api = Api::namespaced(client.clone(), &namespace);
        let writing = write(api, regarding, me.to_owned(), lines, unwritten.clone());
        tokio::spawn(writing);
        EventWriter {
            queue,
            cluster,
            unwritten,
        }
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
            told_at: Instant::now(),
            reason: reason.to_owned(),
            warning,
            note: shortened(message),
        };
        self.unwritten.add();
        if self.queue.try_send(line).is_err() {
            self.unwritten.done();
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
    unwritten: Unwritten,
) {
    let names = Names::new(regarding.name.as_deref().unwrap_or_default());
    let mut told = Told::default();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = until(told.next_late()) => {
                for late in told.late(Instant::now()) {
                    say_again(&api, &mut told, late).await;
                }
                continue;
            }
        };
        let Some(line) = line else { return };
        match told.how(&line, Instant::now()) {
            How::Anew => {
                let name = names.of(line.at, told.number);
                if create(&api, &event(&regarding, &me, &line, &name), line.told_at).await {
                    told.created(&line, name, Instant::now());
                }
            }
            How::Again(again) => say_again(&api, &mut told, again).await,
            How::NotAtAll => {}
        }
        unwritten.done();
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn say_again(api: &Api<Event>, told: &mut Told, again: Again) {
    let (count, at) = (again.count, MicroTime(again.at));
    let series = json!({"series": {"count": count, "lastObservedTime": at}});
    let parameters = PatchParams::default();
    let patched = api
        .patch(&again.name, &parameters, &Patch::Merge(&series))
        .await;
    if let Err(error) = patched {
        tracing::debug!(%error, reason = %again.key.0, "a series could not be written");
        told.known.remove(&again.key);
    }
}

/// Tries until the event is there, is refused, or is old. True if it is there.
async fn create(api: &Api<Event>, event: &Event, told_at: Instant) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default();
    let mut pause = Duration::from_millis(100);
    loop {
        match api.create(&PostParams::default(), event).await {
            Ok(_) => return true,
            // It was written, and the answer got lost: nobody else makes this name.
            Err(kube::Error::Api(status)) if status.code == 409 => return true,
            Err(error) if is_refusal(&error) || told_at.elapsed() >= KEPT => {
                tracing::warn!(%error, reason, "an event could not be written; it is in the log only");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, reason, "an event could not be written yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// The same would be said to every further attempt: the namespace is going, the right is missing.
pub(super) fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 429))
}

/// Names that no other writer gives, whatever its clock says.
struct Names {
    cluster: String,
    writer: u32,
}

impl Names {
    fn new(cluster: &str) -> Names {
        Names {
            cluster: cluster.to_owned(),
            writer: rand::random(),
        }
    }

    fn of(&self, at: Timestamp, number: u32) -> String {
        let (cluster, writer) = (&self.cluster, self.writer);
        let at = at.as_microsecond();
        format!("{cluster}.{at:x}.{writer:08x}{number:x}")
    }
}

/// What has become an event lately.
#[derive(Debug, Default)]
struct Told {
    /// By reason and note.
    known: HashMap<(String, String), Known>,
    /// By reason: since when, and how many.
    reasons: HashMap<String, (Instant, u32)>,
    number: u32,
}

#[derive(Debug)]
struct Known {
    name: String,
    count: i32,
    heard_at: Instant,
    written_at: Instant,
    /// When it came last, where that is not written yet.
    unwritten: Option<Timestamp>,
}

#[derive(PartialEq, Eq, Debug)]
enum How {
    Anew,
    Again(Again),
    NotAtAll,
}

/// A series, as it is to be written.
#[derive(PartialEq, Eq, Debug)]
struct Again {
    key: (String, String),
    name: String,
    count: i32,
    at: Timestamp,
}

impl Known {
    fn again(&mut self, key: &(String, String), now: Instant) -> Option<Again> {
        let at = self.unwritten.take()?;
        self.written_at = now;
        Some(Again {
            key: key.clone(),
            name: self.name.clone(),
            count: self.count,
            at,
        })
    }
}

impl Told {
    fn how(&mut self, line: &Line, now: Instant) -> How {
        let since = |at: Instant| now.saturating_duration_since(at);
        self.known.retain(|_, known| since(known.heard_at) < SERIES);
        if let Some(known) = self.known.get_mut(&key(line)) {
            known.count = known.count.saturating_add(1);
            known.heard_at = now;
            known.unwritten = Some(line.at);
            if since(known.written_at) < SERIES_PAUSE {
                return How::NotAtAll;
            }
            return known
                .again(&key(line), now)
                .map_or(How::NotAtAll, How::Again);
        }
        let begun = self.reasons.entry(line.reason.clone()).or_insert((now, 0));
        if since(begun.0) >= SERIES {
            *begun = (now, 0);
        }
        begun.1 = begun.1.saturating_add(1);
        if begun.1 > MOST_OF_A_REASON {
            return How::NotAtAll;
        }
        self.number = self.number.wrapping_add(1);
        How::Anew
    }

    fn created(&mut self, line: &Line, name: String, now: Instant) {
        let known = Known {
            name,
            count: 1,
            heard_at: now,
            written_at: now,
            unwritten: None,
        };
        self.known.insert(key(line), known);
    }

    /// When the next series has to be written though its words do not come again.
    fn next_late(&self) -> Option<Instant> {
        let unwritten = self.known.values().filter(|k| k.unwritten.is_some());
        unwritten.map(|known| known.written_at + SERIES_PAUSE).min()
    }

    fn late(&mut self, now: Instant) -> Vec<Again> {
        let late = self
            .known
            .iter_mut()
            .filter(|(_, known)| now >= known.written_at + SERIES_PAUSE);
        late.filter_map(|(key, known)| known.again(key, now))
            .collect()
    }
}

fn key(line: &Line) -> (String, String) {
    (line.reason.clone(), line.note.clone())
}

fn event(regarding: &ObjectReference, me: &str, line: &Line, name: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
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
        reporting_instance: Some(cut(me, INSTANCE_LIMIT)),
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

    fn line(reason: &str, note: &str) -> Line {
        Line {
            at: Timestamp::UNIX_EPOCH,
            told_at: Instant::now(),
            reason: reason.to_owned(),
            warning: false,
            note: note.to_owned(),
        }
    }

    #[test]
    fn the_same_words_are_one_series_that_is_written_now_and_then() {
        let (mut told, now) = (Told::default(), Instant::now());
        let said = line("StepFailed", "orders-1: no");
        assert_eq!(told.how(&said, now), How::Anew);
        told.created(&said, "a".to_owned(), now);
        assert_eq!(told.how(&said, now), How::NotAtAll);
        let again = |count| Again {
            key: key(&said),
            name: "a".to_owned(),
            count,
            at: said.at,
        };
        let over = now + SERIES_PAUSE;
        assert_eq!(told.next_late(), Some(over));
        assert_eq!(told.how(&said, over), How::Again(again(3)));
        // What came last is written, though it does not come once more.
        assert_eq!(told.next_late(), None);
        assert_eq!(told.how(&said, over), How::NotAtAll);
        assert_eq!(told.late(over), []);
        assert_eq!(told.late(over + SERIES_PAUSE), [again(4)]);
        assert_eq!(told.late(over + SERIES_PAUSE), []);
        let other = line("StepFailed", "orders-2: no");
        assert_eq!(told.how(&other, now), How::Anew, "in other words");
        let late = now + SERIES_PAUSE + SERIES;
        assert_eq!(told.how(&said, late), How::Anew, "after long");
        // A series whose event has gone begins anew.
        told.created(&said, "b".to_owned(), late);
        told.known.remove(&key(&said));
        assert_eq!(told.how(&said, late), How::Anew);
    }

    #[test]
    fn words_that_count_are_no_flood() {
        let (mut told, now) = (Told::default(), Instant::now());
        let mut anew = 0;
        for number in 0..1_000 {
            let said = line("StepFailed", &format!("try {number}"));
            anew += u32::from(told.how(&said, now) == How::Anew);
        }
        assert_eq!(anew, MOST_OF_A_REASON);
        let other = line("FailoverStarted", "orders-1 has ended");
        assert_eq!(told.how(&other, now), How::Anew, "of another reason");
        let said = line("StepFailed", "try again");
        assert_eq!(told.how(&said, now + SERIES), How::Anew);
    }

    #[test]
    fn two_writers_give_different_names_at_the_same_moment() {
        let (one, other) = (
            Names::new("orders"),
            Names {
                writer: 7,
                ..Names::new("orders")
            },
        );
        let at = Timestamp::UNIX_EPOCH;
        assert_ne!(one.of(at, 1), one.of(at, 2));
        assert!(other.of(at, 1).starts_with("orders.0.00000007"));
    }
}
