//! The engine's `GET /status`.

use serde::{Deserialize, Serialize};

use super::EngineSet;
use crate::ids::{InstanceId, Lsn, Millis, Term};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineRole {
    Primary,
    Standby,
}

/// Where the engine's timeline leaves its parent: the parent and the first byte that is not the parent's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fork {
    pub timeline: Term,
    pub lsn: Lsn,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Receiver {
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub upstream_term: Option<Term>,
    /// Since its last message came from the upstream, milliseconds: as of the moment at which the status that this is in
    /// was made, or was passed on. None where nothing streams, and from an engine that does not say.
    #[serde(default)]
    pub heard_ms: Option<u64>,
    /// Why the last attempt at a stream has failed; none while the next one is made.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// PostgreSQL's words, and the engine's, for a log that an upstream has no longer.
const REMOVED: &str = "has already been removed";

impl Receiver {
    /// Log of the primary of `term` comes in.
    pub fn streams_from(&self, term: Term) -> bool {
        self.state == "streaming" && self.upstream_term == Some(term)
    }

    /// It was asked for log that the upstream has no longer: asking again does not help.
    pub fn lacks_log(&self) -> bool {
        let error = self.last_error.as_ref();
        error.is_some_and(|error| error.contains(REMOVED))
    }
}

/// A standby as the primary's walsender sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct StandbyStream {
    #[serde(default)]
    pub instance_id: Option<InstanceId>,
    #[serde(default)]
    pub application_name: String,
    #[serde(default)]
    pub term: Option<Term>,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub sent_lsn: Option<Lsn>,
    #[serde(default)]
    pub write_lsn: Option<Lsn>,
    #[serde(default)]
    pub flush_lsn: Option<Lsn>,
    #[serde(default)]
    pub replay_lsn: Option<Lsn>,
    #[serde(default)]
    pub sync_state: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct EngineStatus {
    pub system_id: String,
    #[serde(default)]
    pub instance_id: Option<InstanceId>,
    pub role: EngineRole,
    #[serde(default)]
    pub in_recovery: bool,
    #[serde(default)]
    pub consistent: bool,
    /// It acknowledges: it has its end of recovery on the required standbys, and holds nothing.
    #[serde(default)]
    pub writable: bool,
    /// It was cut off from its standbys, or has only started, and has them now; or it acknowledges alone and stood still. It
    /// waits for the word that it still is the primary: the number of that hold. None from an engine that does not ask.
    #[serde(default)]
    pub held: Option<u64>,
    /// The timeline that owns the last whole record flushed here.
    pub timeline: Term,
    #[serde(default)]
    pub insert_lsn: Option<Lsn>,
    #[serde(default)]
    pub write_lsn: Option<Lsn>,
    #[serde(default)]
    pub flush_lsn: Option<Lsn>,
    #[serde(default)]
    pub replay_lsn: Option<Lsn>,
    /// Replay has stood there for a minute although a whole record waits: `/readyz` says no for the same reason.
    #[serde(default)]
    pub replay_stuck: bool,
    #[serde(default)]
    pub released_lsn: Option<Lsn>,
    #[serde(default)]
    pub end_of_recovery_lsn: Option<Lsn>,
    #[serde(default)]
    pub promised_term: Option<Term>,
    #[serde(default)]
    pub sealed: bool,
    /// The term of its own promotion; none on a standby.
    #[serde(default)]
    pub primary_term: Option<Term>,
    /// The set in effect.
    #[serde(default)]
    pub set: Option<EngineSet>,
    /// The required members of the set in effect have flushed all that was acknowledged under older ones.
    #[serde(default)]
    pub set_caught_up: bool,
    #[serde(default)]
    pub promoted_at_ms: Option<Millis>,
    #[serde(default)]
    pub writable_at_ms: Option<Millis>,
    #[serde(default)]
    pub receiver: Option<Receiver>,
    #[serde(default)]
    pub standbys: Vec<StandbyStream>,
    #[serde(default)]
    pub fork: Option<Fork>,
}

/// `POST /confirm` at the engine's control socket: by the record it still is the primary of `term`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Confirmation {
    pub term: Term,
    /// The number of the hold that this is the word for.
    pub hold: u64,
}

impl EngineStatus {
    pub fn is_primary_of(&self, term: Term) -> bool {
        // A primary that was never promoted, the first of its cluster, is of the term that its timeline names.
        self.role == EngineRole::Primary && self.primary_term.unwrap_or(self.timeline) == term
    }
    /// The stream of a copy that follows this primary in `term`, if there is one.
    pub fn stream_of(&self, id: &InstanceId, term: Term) -> Option<&StandbyStream> {
        self.standbys.iter().find(|s| {
            s.instance_id.as_ref() == Some(id) && s.term == Some(term) && s.state == "streaming"
        })
    }
    /// So many milliseconds have gone by since it was made, or was passed on.
    pub fn grow_older(&mut self, ms: u64) {
        if let Some(heard) = self.receiver.as_mut().and_then(|r| r.heard_ms.as_mut()) {
            *heard = heard.saturating_add(ms);
        }
    }
    /// Without what moves with every commit, and with time: equal values need no new look.
    #[must_use]
    pub fn without_positions(&self) -> EngineStatus {
        let mut quiet = self.clone();
        quiet.insert_lsn = None;
        quiet.write_lsn = None;
        quiet.flush_lsn = None;
        quiet.replay_lsn = None;
        quiet.released_lsn = None;
        if let Some(receiver) = &mut quiet.receiver {
            receiver.heard_ms = None;
        }
        for stream in &mut quiet.standbys {
            stream.sent_lsn = None;
            stream.write_lsn = None;
            stream.flush_lsn = None;
            stream.replay_lsn = None;
        }
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the engine writes it.
    #[test]
    fn a_receiver_that_was_told_that_the_log_is_gone_says_so() {
        let lacks = |error: &str| {
            let text =
                format!(r#"{{"state": "connecting", "upstream_term": 3, "last_error": {error}}}"#);
            let receiver: Receiver = serde_json::from_str(&text).expect("a receiver");
            receiver.lacks_log()
        };
        let gone = "could not receive data from WAL stream: ERROR:  requested WAL segment 000000030000000000000007 has \
                    already been removed";
        assert!(lacks(&format!("\"{gone}\"")));
        assert!(!lacks("null") && !lacks("\"the primary server closed the connection\""));
        let older: Receiver = serde_json::from_str(r#"{"state": "connecting"}"#).expect("reads");
        assert!(!older.lacks_log());
    }
}
