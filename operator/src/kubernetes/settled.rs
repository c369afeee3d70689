//! What a comparison was made of that found everything as it is to be: as long as all of that is the same, the next one
//! would find the same, and is not made.
//!
//! To compare, everything is rendered and made JSON of, certificates are verified and keys are read: milliseconds each
//! second for each cluster, nearly always for nothing. Only a comparison that wrote nothing and met with nothing in its way
//! is taken for one that need not be made again. Now and then it is made all the same: certificates come to their end.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::apply::Version;
use super::stores::Revisions;
use crate::crd::Record;
use crate::decide::Routes;
use crate::validate::ValidatedCluster;

/// After so long, more or less, everything is compared whatever was found before.
const HOLDS: Duration = Duration::from_secs(60);

/// Everything that a comparison follows from, besides the hour.
#[derive(Clone, PartialEq, Debug)]
pub struct Inputs {
    pub spec: ValidatedCluster,
    pub default_image: String,
    /// The instances that are wanted besides those that there are.
    pub more: Vec<String>,
    pub record: Option<Record>,
    pub routes: Option<Routes>,
    /// The Secrets that the manifest names, in its order; none where there is none, or where it comes by a watch.
    pub given: Vec<Option<Version>>,
    /// Of what the API server has, as of before anything of it was read: what changed later is of another revision.
    pub revisions: Revisions,
}

/// The newest comparison that found nothing to do, and until when it holds.
#[derive(Debug, Default)]
pub struct Settled(Mutex<Option<(Inputs, Instant)>>);

impl Settled {
    /// Whether a comparison of these is known to find nothing to do.
    pub fn is_so(&self, inputs: &Inputs, now: Instant) -> bool {
        let found = self.0.lock();
        found
            .as_ref()
            .is_some_and(|(of, until)| now < *until && of == inputs)
    }

    /// A comparison of these has found nothing to do.
    pub fn note(&self, inputs: Inputs, now: Instant) {
        *self.0.lock() = Some((inputs, now + about(HOLDS)));
    }
}

/// So long, a quarter more or less: what is begun for all clusters at one moment does not come again for all at one.
pub(super) fn about(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<Version> {
        Some(Version {
            uid: Some("u".to_owned()),
            resource_version: Some(text.to_owned()),
        })
    }

    fn inputs() -> Inputs {
        Inputs {
            spec: ValidatedCluster::default(),
            default_image: "understudy:1".to_owned(),
            more: Vec::new(),
            record: None,
            routes: None,
            given: vec![version("7"), None],
            revisions: Revisions::default(),
        }
    }

    #[test]
    fn nothing_is_settled_that_has_not_been_found_so() {
        let (settled, now) = (Settled::default(), Instant::now());
        assert!(!settled.is_so(&inputs(), now));
        settled.note(inputs(), now);
        assert!(settled.is_so(&inputs(), now + HOLDS / 2));
        assert!(!settled.is_so(&inputs(), now + 2 * HOLDS));
    }

    #[test]
    fn whatever_is_another_is_compared() {
        let (settled, now) = (Settled::default(), Instant::now());
        settled.note(inputs(), now);
        let changes: [fn(&mut Inputs); 8] = [
            |inputs| inputs.spec.replicas += 1,
            |inputs| inputs.spec.generation += 1,
            |inputs| inputs.default_image.push('0'),
            |inputs| inputs.more.push("orders-4".to_owned()),
            |inputs| inputs.routes = Some(Routes::default()),
            |inputs| inputs.given[0] = version("8"),
            |inputs| inputs.given[0] = None,
            |inputs| inputs.revisions[3] = Some(1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = inputs();
            change(&mut other);
            assert!(!settled.is_so(&other, now), "change {number}");
        }
        assert!(settled.is_so(&inputs(), now));
    }

    #[test]
    fn a_time_is_a_quarter_more_or_less() {
        for _ in 0..100 {
            let time = about(Duration::from_secs(100));
            assert!(time >= Duration::from_secs(75) && time < Duration::from_secs(125));
        }
    }
}
