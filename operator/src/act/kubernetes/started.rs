//! Starting an instance that has a volume. Kubernetes does that by itself where there is a StatefulSet for it, unless
//! somebody has scaled that to nothing: then it is scaled back, as everything else that is changed by hand is put right.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::super::telling::Tell as _;
use super::{Inner, StepError};
use crate::kubernetes::Sight;
use crate::render::MANAGER;

impl Inner {
    /// One of which only the claim is left gets its StatefulSet back.
    pub(super) async fn start(
        self: &Arc<Inner>,
        instance: &str,
        sight: &Sight,
    ) -> Result<(), StepError> {
        let sets = self.cluster.stateful_sets();
        if let Some(set) = sets.iter().find(|set| set.name_any() == instance) {
            if is_scaled_to_nothing(set) {
                self.scale_back(set).await?;
                let message = format!(
                    "{instance} is started again: somebody had scaled its StatefulSet to nothing (while spec.paused is set \
                     it would stay so)"
                );
                self.events.tell("InstanceStarted", false, &message);
            }
            return Ok(());
        }
        if self.make(instance, sight).await? {
            let message = format!("{instance} is started again on the volume that it had");
            self.events.tell("InstanceStarted", false, &message);
        }
        Ok(())
    }

    /// Only the number is written, and of this very version: the template is the rollout's, and whatever has become of it
    /// since is looked at again.
    async fn scale_back(&self, set: &StatefulSet) -> Result<(), kube::Error> {
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
        sets.patch(&set.name_any(), &parameters, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }
}

/// Where it says nothing Kubernetes takes it for one.
fn is_scaled_to_nothing(set: &StatefulSet) -> bool {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
    replicas == Some(0)
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
    }
}
