//! The promise: what a supervisor keeps beside the data and its engine obeys.
//!
//! ```text
//! {"cluster_id":"…","instance_id":"…","system_id":"…","promised_term":7,"sealed":false,
//!  "set":{"term":7,"counter":3,"members":["…"],"required":1}}
//! ```
//! `promised_term` and `system_id` never go down or away; a new seed replaces `instance_id` and clears `set`.

use serde::{Deserialize, Serialize};

use crate::crd::{InSyncSet, SetVersion};
use crate::ids::{InstanceId, Term};

/// A set as the engine knows it: ids only.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct EngineSet {
    pub term: Term,
    pub counter: u64,
    pub members: Vec<InstanceId>,
    pub required: u32,
}

impl EngineSet {
    pub fn version(&self) -> SetVersion {
        SetVersion {
            term: self.term,
            counter: self.counter,
        }
    }
}

impl From<&InSyncSet> for EngineSet {
    fn from(set: &InSyncSet) -> EngineSet {
        EngineSet {
            term: set.term,
            counter: set.counter,
            members: set.members.iter().map(|m| m.id.clone()).collect(),
            required: set.required,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Promise {
    pub cluster_id: String,
    pub instance_id: InstanceId,
    /// None until the first seed is complete.
    pub system_id: Option<String>,
    pub promised_term: Term,
    pub sealed: bool,
    pub set: Option<EngineSet>,
}

impl Promise {
    /// Whether this copy was told to be the primary of the very term that it has promised.
    pub fn is_for_primary(&self) -> bool {
        !self.sealed
            && self
                .set
                .as_ref()
                .is_some_and(|set| set.term == self.promised_term)
    }
}
