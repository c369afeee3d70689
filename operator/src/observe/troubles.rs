//! What keeps instances' pods from running, and for how long. What a pod does not say of itself its events do; they are
//! not watched but asked for, and only where something does not get on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::watches::millis;
use crate::decide::Upkeep;
use crate::kubernetes::{Cluster, brief};

/// Before it is asked: mostly things get on by themselves.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two questions about the same thing.
const AGAIN: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Since when each instance has had some.
    since: BTreeMap<String, Instant>,
    /// By instance: the tasks that ask write down what they hear.
    asked: Arc<Mutex<BTreeMap<String, Asked>>>,
}

/// Something that does not get on.
#[derive(Debug)]
struct Asked {
    uid: String,
    /// When it is to be asked next.
    due: Instant,
    said: Option<String>,
}

impl Troubles {
    /// This process did not run for so long.
    pub fn forgive(&mut self, stalled: Duration) {
        for at in self.since.values_mut() {
            *at += stalled;
        }
    }

    /// Those that are no instances any more.
    pub fn forget_others(&mut self, is_one: impl Fn(&String) -> bool) {
        self.since.retain(|name, _| is_one(name));
        self.asked.lock().retain(|name, _| is_one(name));
    }

    /// Completes what the instance's objects say, as of a look at the moment `now`.
    pub fn look(&mut self, cluster: &Arc<Cluster>, name: &str, upkeep: &mut Upkeep, now: Instant) {
        let stuck = match upkeep.trouble {
            Some(_) => None,
            None => cluster.stuck(name),
        };
        let (said, due) = self.said(name, stuck, now);
        if let Some(uid) = due {
            let (cluster, name) = (Arc::clone(cluster), name.to_owned());
            tokio::spawn(ask(cluster, Arc::clone(&self.asked), name, uid));
        }
        upkeep.trouble = upkeep.trouble.take().or(said);
        upkeep.trouble_ms = self.lasted(name, upkeep.trouble.is_some(), now);
    }

    /// What was said of the thing that is stuck, and its uid if it is to be asked now.
    fn said(
        &self,
        name: &str,
        stuck: Option<String>,
        now: Instant,
    ) -> (Option<String>, Option<String>) {
        let mut all = self.asked.lock();
        let Some(uid) = stuck else {
            all.remove(name);
            return (None, None);
        };
        if all.get(name).is_none_or(|known| known.uid != uid) {
            let fresh = Asked {
                uid: uid.clone(),
                due: now + PATIENCE,
                said: None,
            };
            all.insert(name.to_owned(), fresh);
        }
        let Some(known) = all.get_mut(name) else {
            return (None, None);
        };
        let is_due = now >= known.due;
        if is_due {
            known.due = now + AGAIN;
        }
        (known.said.clone(), is_due.then_some(uid))
    }

    /// Milliseconds for which there has been trouble.
    fn lasted(&mut self, name: &str, is_in_trouble: bool, now: Instant) -> u64 {
        if !is_in_trouble {
            self.since.remove(name);
            return 0;
        }
        let since = self.since.entry(name.to_owned()).or_insert(now);
        millis(now.saturating_duration_since(*since))
    }
}

async fn ask(
    cluster: Arc<Cluster>,
    asked: Arc<Mutex<BTreeMap<String, Asked>>>,
    name: String,
    uid: String,
) {
    let said = match tokio::time::timeout(ANSWER_LIMIT, cluster.complaint(&uid)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => {
            tracing::debug!(instance = %name, error = %brief(&error), "its events can't be read");
            return;
        }
        Err(_) => return,
    };
    let mut all = asked.lock();
    let known = all.get_mut(&name).filter(|known| known.uid == uid);
    if let Some(known) = known
        && known.said != said
    {
        known.said = said;
        drop(all);
        cluster.watches.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(troubles: &Troubles, name: &str, said: &str) {
        let mut all = troubles.asked.lock();
        all.get_mut(name).expect("it is known").said = Some(said.to_owned());
    }

    #[test]
    fn what_does_not_get_on_for_a_while_is_asked_about_now_and_then() {
        let (troubles, now) = (Troubles::default(), Instant::now());
        let look = |uid: &str, at: Instant| troubles.said("orders-1", Some(uid.to_owned()), at);
        assert_eq!(look("a", now), (None, None));
        let asks = Some("a".to_owned());
        assert_eq!(look("a", now + PATIENCE), (None, asks.clone()));
        assert_eq!(look("a", now + PATIENCE), (None, None), "once");
        hears(&troubles, "orders-1", "exceeded quota");
        let said = Some("exceeded quota".to_owned());
        let later = now + PATIENCE + AGAIN;
        assert_eq!(look("a", later), (said, asks));
        // Another one has taken its place: what was said of the first does not count.
        assert_eq!(look("b", later), (None, None));
        assert_eq!(troubles.said("orders-1", None, later), (None, None));
        assert!(troubles.asked.lock().is_empty());
    }

    #[test]
    fn trouble_counts_from_when_it_began_and_not_while_nobody_looked() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(troubles.lasted("orders-1", true, now), 0);
        assert_eq!(troubles.lasted("orders-1", true, now + 5 * second), 5_000);
        troubles.forgive(2 * second);
        assert_eq!(troubles.lasted("orders-1", true, now + 5 * second), 3_000);
        assert_eq!(troubles.lasted("orders-1", false, now + 6 * second), 0);
        assert_eq!(troubles.lasted("orders-1", true, now + 7 * second), 0);
        troubles.forget_others(|name| name != "orders-1");
        assert!(troubles.since.is_empty());
    }
}
