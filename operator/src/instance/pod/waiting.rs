//! Before there is a supervisor: the status says what is in its way, and the volume is tried until it does what it should.
//!
//! Nothing that a volume refuses ends this process: the next one would find it as it is, be started less and less often,
//! and could tell nobody why. Whoever waits here has no status of a copy to show, so it counts as silent: a failover goes
//! on without it. The volume is touched on other threads: one that hangs must not keep the status from anybody.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Place;
use crate::api::SupervisorStatus;
use crate::crd::REPLACE_INSTANCE;
use crate::ids::Millis;
use crate::instance::report::{Published, empty_status};
use crate::names;

/// While it waits, it says so that often: a status that does not move is a supervisor that hangs.
pub const STILL_HERE: Duration = Duration::from_millis(200);
/// A volume that has not answered for so long is said to hang.
const HANGS: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The status of a supervisor that has no volume or no settings yet.
pub struct Waiting {
    pub out: watch::Sender<Published>,
    status: SupervisorStatus,
    claim: String,
}

impl Waiting {
    pub fn new(place: &Place) -> Waiting {
        let status = SupervisorStatus {
            name: place.instance.clone(),
            supervisor_pid: std::process::id(),
            began_at: Millis::now(),
            pod_uid: Some(place.pod_uid.clone()),
            ..empty_status()
        };
        let first = Published {
            status: status.clone(),
            at: Instant::now(),
        };
        Waiting {
            out: watch::channel(first).0,
            status,
            claim: names::claim(&place.instance),
        }
    }

    /// What it waits for.
    pub fn say(&mut self, why: &str) {
        let is_new = self.status.message.as_deref() != Some(why);
        if is_new {
            tracing::warn!(why, "the supervisor waits");
            self.status.message = Some(why.to_owned());
        }
        let is_due = self.out.borrow().at.elapsed() >= STILL_HERE;
        if is_new || is_due {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.status.serial += 1;
        self.out.send_replace(Published {
            status: self.status.clone(),
            at: Instant::now(),
        });
    }

    /// Has `work` done with the volume, once; what does not end is waited for, and told.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn attempt<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let begun = Instant::now();
        let mut task = tokio::task::spawn_blocking(work);
        loop {
            if let Ok(ended) = tokio::time::timeout(STILL_HERE, &mut task).await {
                return ended.unwrap_or_else(|error| Err(io::Error::other(error)));
            }
            if begun.elapsed() < HANGS {
                self.publish();
                continue;
            }
            let claim = &self.claim;
            let why = format!(
                "the volume of the claim {claim} does not complete what is asked of it; look at its storage and at the \
                 node, it is waited for"
            );
            self.say(&why);
        }
    }

    /// Has `work` done with the volume, over and over until that succeeds.
    pub async fn insist<T: Send + 'static>(
        &mut self,
        work: impl Fn() -> io::Result<T> + Clone + Send + 'static,
    ) -> T {
        let mut pauses = Pauses::default();
        loop {
            match self.attempt(work.clone()).await {
                Ok(done) => return done,
                Err(error) => self.rest(&error, pauses.longer()).await,
            }
        }
    }

    /// Says `why` for as long as `work` takes, where that is long.
    pub async fn during<T>(&mut self, why: &str, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(STILL_HERE, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.say(why),
            }
        }
    }

    /// Says what the volume has refused, for as long as the pause before the next attempt is.
    pub async fn rest(&mut self, error: &io::Error, pause: Duration) {
        let begun = Instant::now();
        let remedy = remedy(error.kind()).map_or_else(String::new, |remedy| format!("; {remedy}"));
        let claim = &self.claim;
        let why = format!("the volume of the claim {claim} can't be used: {error}{remedy}");
        loop {
            self.say(&why);
            let left = pause.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(STILL_HERE)).await;
        }
    }
}

/// Between attempts: longer and longer.
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { next: FIRST_PAUSE }
    }
}

impl Pauses {
    pub fn longer(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// None where the error says it itself.
fn remedy(kind: io::ErrorKind) -> Option<String> {
    use io::ErrorKind::{
        InvalidData, NotFound, Other, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    let anew =
        format!("where it is not the primary, {REPLACE_INSTANCE} makes it anew on another volume");
    Some(match kind {
        InvalidData | NotFound | Other => return None,
        PermissionDenied => {
            "let the pod's group (its fsGroup) read and write everything on it".to_owned()
        }
        StorageFull | QuotaExceeded => "make room on it, or enlarge it".to_owned(),
        ReadOnlyFilesystem => {
            format!("repair its file system and mount it for writing; {anew}")
        }
        _ => format!("look at its storage and at the node's kernel log; {anew}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_to_mend_it_is_told_how() {
        let said = |kind: io::ErrorKind| remedy(kind).unwrap_or_default();
        assert!(said(io::ErrorKind::PermissionDenied).contains("fsGroup"));
        assert!(said(io::ErrorKind::StorageFull).contains("room"));
        let broken = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
        // As `durable` passes it on.
        let broken = io::Error::new(broken.kind(), format!("read it: {broken}"));
        for kind in [broken.kind(), io::ErrorKind::ReadOnlyFilesystem] {
            assert!(said(kind).contains(REPLACE_INSTANCE), "{kind}");
        }
        assert_eq!(remedy(io::ErrorKind::InvalidData), None);
    }

    #[test]
    fn attempts_become_rarer_and_never_rare() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = std::iter::repeat_with(|| pauses.longer())
            .take(20)
            .collect();
        assert!(all.is_sorted() && all[0] == FIRST_PAUSE);
        assert_eq!(all[19], LONGEST_PAUSE);
    }

    /// A thread that hangs is one that a frozen volume holds.
    #[tokio::test]
    async fn a_volume_that_hangs_is_told_of_and_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut waiting = Waiting::new(&Place::for_tests(dir.path()));
        let mut seen = waiting.out.subscribe();
        let (thaw, frozen) = std::sync::mpsc::channel();
        let thaws = async move {
            let says_it = |published: &Published| {
                let said = published.status.message.as_deref().unwrap_or_default();
                said.contains("data-orders-2-0") && said.contains("does not complete")
            };
            seen.wait_for(says_it).await.expect("it is said");
            thaw.send(7).expect("somebody waits");
        };
        let work = move || frozen.recv().map_err(io::Error::other);
        let both = async { tokio::join!(waiting.attempt(work), thaws) };
        let ended = tokio::time::timeout(Duration::from_secs(60), both).await;
        let (done, ()) = ended.expect("in time");
        assert_eq!(done.expect("it goes on"), 7);
    }
}
