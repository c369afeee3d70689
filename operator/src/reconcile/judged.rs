//! A manifest is judged once, however often it is looked at: ten times a second, for each of hundreds of clusters.
//!
//! What is judged is a copy that has nothing else than what is compared, so that no verdict can follow from anything that
//! may change unseen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::ReplicatedCluster;
use crate::validate::{Invalid, ValidatedCluster, validate};

type Verdict = Result<ValidatedCluster, Vec<Invalid>>;

/// The newest manifest, and what was found of it.
#[derive(Debug, Default)]
pub(super) struct Judged(Option<(ReplicatedCluster, Verdict)>);

impl Judged {
    /// What [`validate`] says.
    ///
    /// # Errors
    /// As there: everything that is wrong.
    pub fn verdict(&mut self, cluster: &ReplicatedCluster) -> Verdict {
        if let Some((before, verdict)) = &self.0
            && is_same(before, cluster)
        {
            return verdict.clone();
        }
        let manifest = manifest(cluster);
        let verdict = validate(&manifest);
        self.0 = Some((manifest, verdict.clone()));
        verdict
    }
}

/// What counts of an object.
fn manifest(object: &ReplicatedCluster) -> ReplicatedCluster {
    let metadata = &object.metadata;
    ReplicatedCluster {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            generation: metadata.generation,
            annotations: metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: object.spec.clone(),
        status: None,
    }
}

fn is_same(manifest: &ReplicatedCluster, object: &ReplicatedCluster) -> bool {
    let (before, now) = (&manifest.metadata, &object.metadata);
    before.name == now.name
        && before.namespace == now.namespace
        && before.generation == now.generation
        && before.annotations == now.annotations
        && manifest.spec == object.spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ReplicatedClusterStatus, SWITCHOVER_TO};

    fn cluster() -> ReplicatedCluster {
        serde_norway::from_str(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {name: orders}\n\
             spec: {storage: {size: 1Gi}}\n",
        )
        .expect("a manifest of this test parses")
    }

    #[test]
    fn a_verdict_is_the_newest_manifest_s() {
        let changes: [fn(&mut ReplicatedCluster); 8] = [
            |_| {},
            |cluster| cluster.metadata.generation = Some(7),
            |cluster| cluster.metadata.namespace = Some("shop".to_owned()),
            |cluster| cluster.metadata.name = Some("No Name".to_owned()),
            |cluster| {
                let annotations = cluster.metadata.annotations.get_or_insert_default();
                annotations.insert(SWITCHOVER_TO.to_owned(), "any".to_owned());
            },
            |cluster| cluster.spec.replicas = 5,
            |cluster| cluster.spec.replicas = 99,
            |cluster| {
                let port = ("port".to_owned(), "1".to_owned());
                cluster.spec.parameters.extend([port]);
            },
        ];
        let mut judged = Judged::default();
        let (mut well, mut wrong) = (0, 0);
        for first in changes {
            for second in changes {
                for change in [first, second, second] {
                    let mut looked_at = cluster();
                    change(&mut looked_at);
                    let afresh = validate(&looked_at);
                    well += u32::from(afresh.is_ok());
                    wrong += u32::from(afresh.is_err());
                    assert_eq!(judged.verdict(&looked_at), afresh);
                }
            }
        }
        assert!(well > 0 && wrong > 0);
    }

    /// A status is written several times a second while something is under way.
    #[test]
    fn what_is_no_part_of_a_manifest_is_not_judged_anew() {
        let mut judged = Judged::default();
        let mut looked_at = cluster();
        let first = judged.verdict(&looked_at);
        looked_at.status = Some(ReplicatedClusterStatus::default());
        looked_at.metadata.resource_version = Some("8".to_owned());
        let before = judged.0.as_ref().map(|(before, _)| before);
        assert!(before.is_some_and(|before| is_same(before, &looked_at)));
        assert_eq!(judged.verdict(&looked_at), first);
    }
}
