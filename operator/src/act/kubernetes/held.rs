//! Making instances, by the manifest or, while that is refused and was never accepted in this process's time, as the others
//! are made: each StatefulSet's own template is what is known of a manifest that once was accepted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::super::objects::{Look, ObjectsError};
use super::super::steps::name;
use super::{Inner, StepError};
use crate::decide::{Plan, Step};
use crate::kubernetes::Sight;
use crate::names;
use crate::reconcile::Seen;
use crate::render::{CLUSTER, INSTANCE, Kind, ObjectKey};
use crate::validate::ValidatedCluster;

/// Begins the [`name`] of a step that makes an instance.
const CREATE: &str = "Create ";

impl Inner {
    pub(super) fn spec(&self) -> Result<ValidatedCluster, StepError> {
        let spec = self.spec.lock().clone();
        spec.ok_or_else(|| StepError::Other("no manifest was accepted yet".to_owned()))
    }

    /// The manifest, or of one that is refused whose it is. That is enough for where the Services lead.
    pub(super) fn spec_or_name(&self) -> ValidatedCluster {
        let key = &self.cluster.key;
        self.spec().unwrap_or_else(|_| ValidatedCluster {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            ..ValidatedCluster::default()
        })
    }

    /// True if its StatefulSet was made just now.
    pub(super) async fn make(
        self: &Arc<Inner>,
        instance: &str,
        sight: &Sight,
    ) -> Result<bool, StepError> {
        self.claim_is_ours(instance, sight).await?;
        let spec = self.spec.lock().clone();
        let Some(spec) = spec else {
            return self.make_like_others(instance, sight).await;
        };
        let (made, rest) = self.bring_objects(&spec, Some(instance), sight).await;
        Ok(is_made(instance, &made, rest)?)
    }

    /// Kubernetes gives a pod the claim of the name that it needs, whosever it is. One without the cluster's label is
    /// somebody else's, or was brought back by hand, and then its instance exists only once it is labelled.
    async fn claim_is_ours(&self, instance: &str, sight: &Sight) -> Result<(), StepError> {
        if sight.of(instance).claim.is_some() {
            return Ok(());
        }
        let claims: Api<PersistentVolumeClaim> = self.api();
        // Listed, which the operator may do anyway.
        let named = format!("metadata.name={}", names::claim(instance));
        let found = claims.list(&ListParams::default().fields(&named)).await?;
        let cluster = &self.cluster.key.name;
        let foreign = |claim: &PersistentVolumeClaim| foreign_claim(claim, cluster, instance);
        match found.items.first().and_then(foreign) {
            Some(why) => Err(StepError::ForeignClaim(why)),
            None => Ok(()),
        }
    }

    async fn make_like_others(&self, instance: &str, sight: &Sight) -> Result<bool, StepError> {
        let (spec, image) = (self.spec_or_name(), &self.default_image);
        let look = Look::at(&self.cluster, &spec, image, &[], sight.clone());
        Ok(look.make_like_others(instance).await?)
    }
}

fn foreign_claim(claim: &PersistentVolumeClaim, cluster: &str, instance: &str) -> Option<String> {
    let is = |label: &str, value: &str| claim.labels().get(label).is_some_and(|v| v == value);
    if is(CLUSTER, cluster) && is(INSTANCE, instance) {
        return None;
    }
    let name = claim.name_any();
    Some(format!(
        "PersistentVolumeClaim {name} is there and does not say that it is this cluster's. If it is somebody else's, delete or \
         rename it, or give the cluster another name; if it is a volume of {instance} that was brought back, say so: kubectl \
         label pvc {name} {CLUSTER}={cluster} {INSTANCE}={instance}"
    ))
}

/// Whether what was attempted under this [`name`] still is to be done, so far as that can be told. An instance that nobody
/// asks for any more need not be made, and nobody will succeed at it. Other steps come and go as plans take turns.
pub(super) fn is_to_be_done(what: &str, seen: &Seen, plan: &Plan) -> bool {
    let is_creation = |step: &&Step| matches!(step, Step::Create { .. });
    let mut creations = plan.steps.iter().filter(is_creation).peekable();
    if !what.starts_with(CREATE) {
        return true;
    }
    if creations.peek().is_some() {
        return creations.any(|step| name(step) == what);
    }
    // A plan that changes something else first makes nobody.
    let wanted = seen.cluster.spec.replicas as usize + 1;
    seen.observed.instances.len() < wanted
}

/// Whether the instance's StatefulSet is among what was made. Then it is made, and told of, whatever `rest` could not be
/// written: it would not be made again at the next attempt. The rest is brought, and told of, whenever everything is
/// compared.
fn is_made(
    instance: &str,
    made: &[ObjectKey],
    rest: Result<(), ObjectsError>,
) -> Result<bool, ObjectsError> {
    let is_it = |key: &ObjectKey| key.kind == Kind::StatefulSet && key.name == instance;
    if made.iter().any(is_it) {
        return Ok(true);
    }
    rest.map(|()| false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Instance, Life, Observed, SILENT_MS, Seed, Upkeep};
    use crate::ids::Term;

    #[test]
    fn an_instance_that_was_made_is_told_of_though_something_else_was_refused() {
        let made = [ObjectKey {
            kind: Kind::StatefulSet,
            name: "orders-2".to_owned(),
        }];
        let told = |instance: &str, rest| is_made(instance, &made, rest).ok();
        assert_eq!(told("orders-2", Ok(())), Some(true));
        assert_eq!(told("orders-2", Err(ObjectsError::Overtaken)), Some(true));
        assert_eq!(told("orders-3", Ok(())), Some(false));
        assert_eq!(told("orders-3", Err(ObjectsError::Overtaken)), None);
    }

    #[test]
    fn a_claim_that_does_not_say_whose_it_is_is_not_taken() {
        let claim = |labels: serde_json::Value| -> PersistentVolumeClaim {
            let metadata = serde_json::json!({"name": "data-orders-2-0", "labels": labels});
            serde_json::from_value(serde_json::json!({ "metadata": metadata })).expect("a claim")
        };
        let of = |cluster: &str, instance: &str| serde_json::json!({CLUSTER: cluster, INSTANCE: instance});
        let why = |labels| foreign_claim(&claim(labels), "orders", "orders-2");
        assert_eq!(why(of("orders", "orders-2")), None);
        for labels in [
            serde_json::Value::Null,
            of("sales", "orders-2"),
            of("orders", "orders-3"),
        ] {
            let why = why(labels).expect("it is refused");
            assert!(
                why.contains("data-orders-2-0") && why.contains("kubectl label"),
                "{why}"
            );
        }
    }

    #[test]
    fn what_fails_for_an_instance_is_a_problem_until_nobody_asks_for_it() {
        let create = |instance: &str| Step::Create {
            instance: instance.to_owned(),
            seed: Seed::Backup,
            term: Term::FIRST,
        };
        let there = Instance {
            life: Life::Alive,
            pid: None,
            silent_ms: 0,
            status: None,
            lost_after_ms: SILENT_MS,
            upkeep: Upkeep::default(),
        };
        let is_one = |replicas: u32, steps: &[Step]| {
            let manifest = format!(
                "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\n\
                 spec: {{storage: {{size: 1Gi}}, replicas: {replicas}}}\n"
            );
            let mut observed = Observed::default();
            observed
                .instances
                .insert("orders-1".to_owned(), there.clone());
            let seen = Seen {
                cluster: serde_norway::from_str(&manifest).expect("a manifest"),
                observed,
            };
            let mut plan = Plan::default();
            plan.steps.extend(steps.iter().cloned());
            let what = name(&create("orders-3"));
            assert!(is_to_be_done("objects", &seen, &plan));
            is_to_be_done(&what, &seen, &plan)
        };
        let both = [create("orders-2"), create("orders-3")];
        assert!(is_one(2, &both));
        assert!(is_one(2, &[]), "the plan changes something else first");
        assert!(!is_one(1, &both[..1]), "another one is asked for");
        assert!(!is_one(0, &[]));
    }
}
