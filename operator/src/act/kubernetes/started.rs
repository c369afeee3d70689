//! Starting an instance that has a volume. Kubernetes does that by itself where there is a StatefulSet for it, unless
//! somebody has scaled that to nothing: then it is scaled back, as everything else that is changed by hand is put right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;

use super::super::objects::Look;
use super::super::telling::Tell as _;
use super::{Inner, StepError};
use crate::kubernetes::Sight;
use crate::render::MANAGER;

/// Between two times that one instance's StatefulSet is scaled back: a program that keeps scaling it to nothing may watch it
/// as this operator does, and both would write as fast as the API server lets them.
const PAUSE: Duration = Duration::from_secs(5);

/// When each instance's StatefulSet was scaled back last.
#[derive(Debug, Default)]
pub(super) struct ScaledBack(Mutex<BTreeMap<String, Instant>>);

impl ScaledBack {
    fn was_lately(&self, instance: &str, now: Instant) -> bool {
        let all = self.0.lock();
        let at = all.get(instance);
        at.is_some_and(|at| now.saturating_duration_since(*at) < PAUSE)
    }

    fn note(&self, instance: &str, now: Instant) {
        self.0.lock().insert(instance.to_owned(), now);
    }
}

impl Inner {
    /// One of which only the claim is left gets its StatefulSet back. False if Kubernetes does what there is to do.
    pub(super) async fn start(
        self: &Arc<Inner>,
        instance: &str,
        sight: &Sight,
    ) -> Result<bool, StepError> {
        let sets = self.cluster.stateful_sets();
        if let Some(set) = sets.iter().find(|set| set.name_any() == instance) {
            let waits = self.scaled_back.was_lately(instance, Instant::now());
            if waits || !is_scaled_to_nothing(set) || !self.scale_back(set, sight).await? {
                return Ok(false);
            }
            self.scaled_back.note(instance, Instant::now());
            let message = format!(
                "{instance} is started again: somebody had scaled its StatefulSet to nothing (while spec.paused is set it \
                 would stay so)"
            );
            self.events.tell("InstanceStarted", false, &message);
            return Ok(true);
        }
        let is_made = self.make(instance, sight).await?;
        if is_made {
            let message = format!("{instance} is started again on the volume that it had");
            self.events.tell("InstanceStarted", false, &message);
        }
        Ok(is_made)
    }

    /// Only the number is written, and of this very version: the template is the rollout's, and whatever has become of it
    /// since is looked at again. False if somebody was faster.
    async fn scale_back(&self, set: &StatefulSet, sight: &Sight) -> Result<bool, StepError> {
        // Somebody may have paused the cluster since the look, and its StatefulSets are as they were.
        let (spec, image) = (self.spec_or_name(), &self.default_image);
        let look = Look::at(&self.cluster, &spec, image, &[], sight.clone());
        look.confirm().await?;
        let sets: Api<StatefulSet> = self.api();
        let metadata = &set.metadata;
        let patch = json!({
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "spec": {"replicas": 1},
        });
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = set.name_any();
        match sets.patch(&name, &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => Ok(true),
            // It has changed, or has gone.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where it says nothing Kubernetes takes it for one. Of one that is being deleted nothing is made any more.
fn is_scaled_to_nothing(set: &StatefulSet) -> bool {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
    replicas == Some(0) && set.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nothing_is_what_somebody_has_asked_for() {
        let set = |replicas: Value| -> StatefulSet {
            let spec = json!({"replicas": replicas, "serviceName": "orders-instances", "selector": {},
                              "template": {}});
            serde_json::from_value(json!({"metadata": {"name": "orders-2"}, "spec": spec}))
                .expect("a set")
        };
        assert!(is_scaled_to_nothing(&set(json!(0))));
        assert!(!is_scaled_to_nothing(&set(json!(1))));
        assert!(!is_scaled_to_nothing(&set(Value::Null)));
        assert!(!is_scaled_to_nothing(&StatefulSet::default()));
        let mut ending = set(json!(0));
        ending.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert!(!is_scaled_to_nothing(&ending), "it is being deleted");
    }

    #[test]
    fn who_keeps_scaling_an_instance_to_nothing_is_answered_once_in_a_while() {
        let (scaled_back, now) = (ScaledBack::default(), Instant::now());
        assert!(!scaled_back.was_lately("orders-2", now));
        scaled_back.note("orders-2", now);
        assert!(scaled_back.was_lately("orders-2", now + PAUSE / 2));
        assert!(!scaled_back.was_lately("orders-3", now + PAUSE / 2));
        assert!(!scaled_back.was_lately("orders-2", now + PAUSE));
    }
}
