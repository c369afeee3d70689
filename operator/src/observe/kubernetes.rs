//! Observing a cluster on Kubernetes: the API server's objects by watches, each supervisor by its own `/watch`
//! (`listening.rs`).

use std::sync::Arc;

use super::listening::{Heard, Listener};
use super::troubles::Troubles;
use super::watches::StallWatch;
use crate::crd::{HandledRequest, ReplicatedCluster, ReplicatedClusterSpec};
use crate::decide::{Observed, Past};
use crate::kubernetes::Cluster;
use crate::reconcile::{Observe, Seen};
use crate::render::fingerprint;
use crate::validate::validate;

pub struct KubernetesObserver {
    cluster: Arc<Cluster>,
    listener: Arc<Listener>,
    stalls: StallWatch,
    troubles: Troubles,
    template: Template,
}

/// The object is gone, can't be read, or another has its name: there is nothing to observe any more.
#[derive(Debug, thiserror::Error)]
#[error("the cluster object is gone, or can't be read")]
pub struct Gone;

impl KubernetesObserver {
    /// Goes on from what was heard already.
    pub fn new(listener: Arc<Listener>) -> KubernetesObserver {
        KubernetesObserver {
            cluster: Arc::clone(listener.cluster()),
            listener,
            stalls: StallWatch::new(),
            troubles: Troubles::default(),
            template: Template::default(),
        }
    }
}

impl Observe for KubernetesObserver {
    type Error = Gone;

    async fn observe(&mut self) -> Result<Seen, Gone> {
        if let Some(stalled) = self.stalls.look() {
            self.troubles.forgive(stalled);
        }
        let at = self.stalls.looked_at();
        let Heard {
            object: mut cluster,
            mut instances,
            ages,
        } = self.listener.listen()?;
        let status = cluster.status.clone().unwrap_or_default();
        forget_handled(&mut cluster, &status.handled_requests);
        let fingerprint = self.template.fingerprint(&cluster);
        for (name, instance) in &mut instances {
            let said = instance.upkeep.trouble.take();
            instance.upkeep = self.cluster.upkeep(fingerprint, name);
            // What it says itself is nearer to the cause than what Kubernetes sees of it.
            instance.upkeep.trouble = said.or(instance.upkeep.trouble.take());
        }
        self.troubles
            .forget_others(|name| instances.contains_key(name));
        for (name, instance) in &mut instances {
            let upkeep = &mut instance.upkeep;
            self.troubles.look(&self.cluster, name, upkeep, at);
        }
        let observed = Observed {
            record: status.record(),
            past: Past {
                conditions: status.conditions,
                last_failover: status.last_failover,
                last_switchover: status.last_switchover,
                instances: status.instances,
            },
            instances,
            unstreamed_ms: ages.unstreamed_ms,
            stuck_ms: ages.stuck_ms,
            routes: self.cluster.routes(),
            retired: self.cluster.retired(),
            fencing: true,
        };
        Ok(Seen { cluster, observed })
    }

    async fn changed(&self) {
        self.cluster.watches.changed().await;
    }
}

/// What the manifest's pods are like, judged once: a manifest changes seldom, and is looked at ten times a second.
#[derive(Debug, Default)]
struct Template {
    of: Option<ReplicatedClusterSpec>,
    fingerprint: Option<String>,
}

impl Template {
    /// None of a manifest that makes no sense. Both follow from its spec: its name, which counts as well, stays.
    fn fingerprint(&mut self, cluster: &ReplicatedCluster) -> Option<&str> {
        if self.of.as_ref() != Some(&cluster.spec) {
            self.fingerprint = validate(cluster).ok().map(|spec| fingerprint(&spec));
            self.of = Some(cluster.spec.clone());
        }
        self.fingerprint.as_deref()
    }
}

/// A request that was acted on stays on the object for a moment: it is none any more.
fn forget_handled(cluster: &mut ReplicatedCluster, handled: &[HandledRequest]) {
    let Some(annotations) = cluster.metadata.annotations.as_mut() else {
        return;
    };
    for request in handled.iter().filter(|request| !request.done) {
        let text = annotations.get(&request.annotation);
        if text.is_some_and(|text| request.is_of(text)) {
            annotations.remove(&request.annotation);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_fingerprint_is_the_newest_manifest_s_whatever_was_looked_at_before() {
        let cluster = |mut spec: Value| -> ReplicatedCluster {
            spec["storage"] = json!({"size": "1Gi"});
            let metadata = json!({"name": "orders", "namespace": "shop"});
            let kind = json!({"apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
                              "metadata": metadata, "spec": spec});
            serde_json::from_value(kind).expect("a manifest")
        };
        let plain = cluster(json!({}));
        let other = cluster(json!({"env": [{"name": "TZ", "value": "UTC"}]}));
        let refused = cluster(json!({"parameters": {"port": "1"}}));
        let mut template = Template::default();
        for looked_at in [&plain, &plain, &other, &refused, &refused, &plain, &other] {
            let afresh = validate(looked_at).ok().map(|spec| fingerprint(&spec));
            assert_eq!(template.fingerprint(looked_at), afresh.as_deref());
        }
        let of = |cluster: &ReplicatedCluster| {
            let mut template = Template::default();
            template.fingerprint(cluster).map(str::to_owned)
        };
        assert!(of(&plain).is_some() && of(&plain) != of(&other));
        assert_eq!(of(&refused), None);
    }
}
