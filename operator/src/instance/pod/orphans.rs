//! Process 1 inherits every process whose parent has ended, and has to take note of its end.
//!
//! Processes that this one started are waited for where they were started, at once. So whatever is found ended twice in
//! a row is an orphan.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Orphans {
    ended: BTreeSet<i32>,
    looked_at: Instant,
}

impl Orphans {
    pub fn new() -> Orphans {
        Orphans {
            ended: BTreeSet::new(),
            looked_at: Instant::now(),
        }
    }

    /// Now and then, where this is process 1. `own` is never touched.
    pub fn reap(&mut self, own: Option<u32>) {
        if std::process::id() == 1 && self.looked_at.elapsed() >= PAUSE {
            self.reap_now(own);
        }
    }

    fn reap_now(&mut self, own: Option<u32>) {
        self.looked_at = Instant::now();
        let own = own.and_then(|pid| i32::try_from(pid).ok());
        let now = ended_children();
        for pid in now.intersection(&self.ended) {
            if Some(*pid) != own {
                // One that is gone meanwhile is what is wanted.
                let _ = waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG);
            }
        }
        self.ended = now;
    }
}

/// Children of this process that have ended and were not waited for.
fn ended_children() -> BTreeSet<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    let parent = std::process::id().to_string();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name, in brackets, may hold anything; state and parent come after it.
            let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
            let mut fields = after.split_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(parent.as_str())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "they are what is looked for")]
    fn what_stays_ended_is_taken_note_of_unless_it_is_ours() {
        let start = || {
            let child = std::process::Command::new("true").spawn().expect("started");
            i32::try_from(child.id()).expect("a pid")
        };
        let (orphan, own) = (start(), start());
        let both = |all: &BTreeSet<i32>| (all.contains(&orphan), all.contains(&own));
        let begin = Instant::now();
        while both(&ended_children()) != (true, true) {
            assert!(begin.elapsed() < Duration::from_secs(20), "they end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut orphans = Orphans::new();
        let engine = u32::try_from(own).ok();
        orphans.reap_now(engine);
        assert_eq!(both(&ended_children()), (true, true), "seen once only");
        orphans.reap_now(engine);
        assert_eq!(both(&ended_children()), (false, true));
        let pid = Pid::from_raw(own).expect("a pid");
        assert!(waitpid(Some(pid), WaitOptions::NOHANG).is_ok());
    }
}
