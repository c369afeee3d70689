//! Making instances, by the manifest or, while that is refused and was never accepted in this process's time, as the others
//! are made: each StatefulSet's own template is what is known of a manifest that once was accepted.

use std::sync::Arc;
use std::time::Instant;

use super::super::objects::Look;
use super::{Inner, OBJECTS, StepError};
use crate::kubernetes::Sight;
use crate::render::Kind;
use crate::validate::ValidatedCluster;

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
        let spec = self.spec.lock().clone();
        let Some(spec) = spec else {
            return self.make_like_others(instance, sight).await;
        };
        let more = [instance.to_owned()];
        let made = self.bring_objects(&spec, &more, sight).await?;
        Ok(made
            .iter()
            .any(|key| key.kind == Kind::StatefulSet && key.name == instance))
    }

    async fn make_like_others(&self, instance: &str, sight: &Sight) -> Result<bool, StepError> {
        let (spec, image) = (self.spec_or_name(), &self.default_image);
        let look = Look::at(&self.cluster, &spec, image, &[], sight.clone());
        let made = look.make_like_others(instance).await;
        // An attempt may last: what is told of it counts from its end.
        let now = Instant::now();
        match &made {
            Ok(_) => self.problems.succeeded(OBJECTS),
            Err(error) => {
                if let Some(verdict) = error.verdict() {
                    self.problems
                        .failed(OBJECTS, error.to_string(), verdict, now);
                }
            }
        }
        Ok(made?)
    }
}
