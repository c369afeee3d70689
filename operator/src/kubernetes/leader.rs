//! Which of several operators acts: a Lease that the leader renews.
//!
//! Nothing rests on it. A leader that was frozen may act once more after somebody else took over; each change of the
//! record is a compare-and-swap and each call to an instance carries its term. The lease only keeps two operators from
//! doing everything twice. `kube-leader-election` would do the same, for an older `kube`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

/// What the lease says of how long it holds.
const LEASE_SECONDS: i32 = 4;
const RENEW: Duration = Duration::from_millis(1_000);
/// A leader that could not renew for so long no longer acts: well before somebody else may think it gone.
const GIVE_UP: Duration = Duration::from_millis(3_000);
const CALL: Duration = Duration::from_millis(1_500);
/// An answer that took longer may have been held up by a cut that is over.
const SLOW: Duration = Duration::from_millis(1_000);

pub struct Leadership {
    api: Api<Lease>,
    name: String,
    me: String,
    /// What the lease said last, and when this process saw it so: no other clock is trusted.
    seen: Option<(Option<MicroTime>, Option<String>, Instant)>,
}

impl Leadership {
    /// `me` must be another one for each process.
    pub fn new(client: Client, namespace: &str, name: &str, me: String) -> Leadership {
        Leadership {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            seen: None,
        }
    }

    /// Returns when this process leads. Until then `is_back` is called at each first answer of the API server's after a
    /// time without: who hears nobody while he does not reach that either may be the one that is cut off.
    pub async fn acquire(&mut self, is_back: impl Fn()) {
        let mut contact = Contact::default();
        loop {
            let asked_at = Instant::now();
            let answer = tokio::time::timeout(CALL, self.try_hold()).await;
            if contact.begins(matches!(answer, Ok(Ok(_))), asked_at.elapsed()) {
                is_back();
            }
            match answer {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be asked for"),
                Err(_) => {
                    tracing::warn!("the API server does not answer the question for the lease")
                }
            }
            tokio::time::sleep(RENEW / 2).await;
        }
    }

    /// Renews, and returns when this process leads no longer.
    pub async fn hold(&mut self) {
        let mut held_at = Instant::now();
        loop {
            let left = GIVE_UP.saturating_sub(held_at.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(RENEW.min(left)).await;
            // An answer that does not come must not keep it beyond its time.
            let limit = CALL.min(GIVE_UP.saturating_sub(held_at.elapsed()));
            let asked_at = Instant::now();
            match tokio::time::timeout(limit, self.try_hold()).await {
                Ok(Ok(true)) => held_at = asked_at,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the API server does not answer the renewal of the lease"),
            }
        }
    }

    /// Lets the next one lead at once.
    pub async fn release(&mut self) {
        let give_up = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.me.as_str()) {
                spec.holder_identity = None;
                spec.renew_time = None;
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(CALL, give_up).await {
            tracing::warn!(%error, "the lease could not be released; it runs out by itself");
        }
    }

    /// Takes or renews the lease if it is free, run out or ours. A swap that somebody else wins is a no.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return won(self.api.create(&PostParams::default(), &self.first()).await);
        };
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().filter(|h| !h.is_empty());
        let ours = holder.as_deref() == Some(self.me.as_str());
        if !ours && holder.is_some() && !self.has_run_out(spec) {
            return Ok(false);
        }
        if !ours {
            spec.acquire_time = Some(now());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = Some(LEASE_SECONDS);
        spec.renew_time = Some(now());
        won(self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await)
    }

    /// Whether nobody has renewed it for its whole duration, by this process's own clock.
    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        let says = (spec.renew_time.clone(), spec.holder_identity.clone());
        let seconds = spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS).max(1);
        let limit = Duration::from_secs(u64::from(seconds.unsigned_abs()));
        match &self.seen {
            Some((renewed, holder, at)) if (renewed, holder) == (&says.0, &says.1) => {
                at.elapsed() >= limit
            }
            _ => {
                self.seen = Some((says.0, says.1, Instant::now()));
                false
            }
        }
    }

    fn first(&self) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                acquire_time: Some(now()),
                renew_time: Some(now()),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Whether the API server has answered every question of late.
#[derive(Debug, Default)]
struct Contact {
    lasts: bool,
}

impl Contact {
    /// A question was answered, or was not, after so long. True if there was no contact before that, and is now.
    fn begins(&mut self, answered: bool, took: Duration) -> bool {
        let lasted = self.lasts && took <= SLOW;
        self.lasts = answered;
        answered && !lasted
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

fn won<T>(written: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_begins_with_the_first_answer_after_a_time_without() {
        let (mut contact, soon) = (Contact::default(), Duration::ZERO);
        let said: Vec<bool> = [true, true, false, false, true, true]
            .map(|answered| contact.begins(answered, soon))
            .to_vec();
        assert_eq!(said, [true, false, false, false, true, false]);
    }

    /// What was sent anew and anew until the way was there again is answered in the end.
    #[test]
    fn an_answer_that_took_long_is_a_first_one() {
        let mut contact = Contact::default();
        assert!(contact.begins(true, Duration::ZERO));
        assert!(!contact.begins(true, SLOW));
        assert!(contact.begins(true, SLOW + Duration::from_millis(1)));
        assert!(!contact.begins(true, Duration::ZERO));
    }
}
