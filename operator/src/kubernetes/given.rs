//! The Secrets that a manifest names. They are users' own and carry no label of ours, so no watch brings them.
//!
//! They are asked for by name, and what was read holds for some seconds: another password reaches the pod only when the
//! kubelet brings the file, a minute later. One that is not there, or was of no use, is asked for again at the next
//! comparison: somebody may be about to put it right. Not watched, because a watch of each would be a connection of its own
//! (the client speaks HTTP/1.1), and a watch of all would read what is no business of an operator's.
//!
//! Whoever can't wait gives the Secret the cluster's label: then it comes by the watch of the cluster's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use parking_lot::Mutex;

use super::settled::about;
use crate::render::Secrets;

/// For how long, more or less, a Secret is taken to be as it was read.
const HOLDS: Duration = Duration::from_secs(10);

/// What was read lately, by name; of one cluster, and only what its manifest names.
#[derive(Default)]
pub struct Given(Mutex<BTreeMap<String, Known>>);

struct Known {
    secret: Secret,
    /// When it is to be read again.
    until: Instant,
}

impl Given {
    /// Those of these Secrets that there are, as of `now` or of a little before.
    ///
    /// # Errors
    /// The API server's.
    pub async fn read(
        &self,
        secrets: &Api<Secret>,
        names: &[&str],
        now: Instant,
    ) -> Result<Secrets, kube::Error> {
        for name in self.due(names, now) {
            if let Some(secret) = secrets.get_opt(&name).await? {
                self.note(name, secret, now);
            }
        }
        Ok(self.known())
    }

    /// Nothing that was read holds any longer: something of it is of no use as it is.
    pub fn forget(&self) {
        self.0.lock().clear();
    }

    /// Those that have to be read now. What is no longer named is forgotten.
    fn due(&self, names: &[&str], now: Instant) -> BTreeSet<String> {
        let mut all = self.0.lock();
        all.retain(|name, known| now < known.until && names.contains(&name.as_str()));
        let missing = names.iter().filter(|name| !all.contains_key(**name));
        missing.map(|name| (*name).to_owned()).collect()
    }

    fn note(&self, name: String, mut secret: Secret, now: Instant) {
        secret.metadata.managed_fields = None;
        let until = now + about(HOLDS);
        self.0.lock().insert(name, Known { secret, until });
    }

    fn known(&self) -> Secrets {
        let all = self.0.lock();
        let of = |(name, known): (&String, &Known)| (name.clone(), known.secret.clone());
        all.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(given: &Given, names: &[&str], now: Instant) -> Vec<String> {
        given.due(names, now).into_iter().collect()
    }

    #[test]
    fn what_was_read_holds_for_some_seconds() {
        let (given, now) = (Given::default(), Instant::now());
        let second = Duration::from_secs(1);
        let both = ["owner", "owner", "super"];
        assert_eq!(due(&given, &both, now), ["owner", "super"]);
        given.note("owner".to_owned(), Secret::default(), now);
        // One that is not there is asked for each time.
        assert_eq!(due(&given, &both, now), ["super"]);
        given.note("super".to_owned(), Secret::default(), now);
        assert!(due(&given, &both, now + second).is_empty());
        assert_eq!(given.known().len(), 2);
        assert_eq!(due(&given, &both, now + 2 * HOLDS), ["owner", "super"]);
        assert!(given.known().is_empty());
    }

    #[test]
    fn what_is_not_named_or_of_no_use_is_forgotten() {
        let (given, now) = (Given::default(), Instant::now());
        for name in ["owner", "super"] {
            given.note(name.to_owned(), Secret::default(), now);
        }
        // Another one is named instead.
        assert_eq!(due(&given, &["owner", "other"], now), ["other"]);
        assert_eq!(given.known().into_keys().collect::<Vec<_>>(), ["owner"]);
        given.forget();
        assert_eq!(due(&given, &["owner"], now), ["owner"]);
    }
}
