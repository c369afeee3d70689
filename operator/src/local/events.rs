//! Events: a line on the terminal of `up` and a JSON line in `events.log`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ClusterFolder;
use crate::act::Tell;
use crate::ids::Millis;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventLine {
    pub time: String,
    #[serde(rename = "type")]
    pub type_: String,
    pub reason: String,
    pub message: String,
}

impl EventLine {
    /// For people: the time of day, the reason, the message.
    pub fn human(&self) -> String {
        let clock = self.time.get(11..23).unwrap_or(&self.time);
        let mark = if self.type_ == "Warning" { "!" } else { " " };
        format!("{clock} {mark} {:<22} {}", self.reason, self.message)
    }
}

#[derive(Clone, Debug)]
pub struct EventLog {
    path: PathBuf,
}

impl EventLog {
    pub fn new(folder: &ClusterFolder) -> EventLog {
        EventLog {
            path: folder.file("events.log"),
        }
    }

    fn append(&self, line: &EventLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?
            .write_all(&bytes)
    }

    /// All that was told, oldest first. A line that a crash cut off is left out.
    pub fn read(&self) -> io::Result<Vec<EventLine>> {
        let bytes = crate::durable::read(&self.path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect())
    }
}

impl Tell for EventLog {
    /// An event that can't be kept is still shown.
    fn tell(&self, reason: &str, warning: bool, message: &str) {
        let line = EventLine {
            time: Millis::now().rfc3339(),
            type_: if warning { "Warning" } else { "Normal" }.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let mut terminal = io::stdout().lock();
        // A closed terminal is no reason to stop operating.
        let _ = writeln!(terminal, "{}", line.human()).and_then(|()| terminal.flush());
        if let Err(error) = self.append(&line) {
            tracing::warn!(%error, "an event could not be written");
        }
    }
}
