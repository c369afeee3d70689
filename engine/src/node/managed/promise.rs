//! The supervisor's promise file, as the engine reads it.
//!
//! ```text
//! {"cluster_id":"…","instance_id":"…","system_id":"…","promised_term":7,"sealed":false,
//!  "set":{"term":7,"counter":3,"members":["…"],"required":1}}
//! ```
//! The supervisor replaces it atomically; the engine never writes it. What does not fit this very instance is an
//! error, never obeyed in part.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ids::{SystemId, Term};
use crate::txn::ReleasePolicy;
use crate::txn::release::InstanceId;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Promise {
    pub cluster_id: String,
    pub instance_id: String,
    /// Absent until the first seed is complete.
    pub system_id: Option<String>,
    pub promised_term: u32,
    pub sealed: bool,
    pub set: Option<Set>,
}

/// An in-sync set: ids only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Set {
    pub term: u32,
    pub counter: u64,
    pub members: Vec<String>,
    pub required: usize,
}

/// Whose promise it has to be.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cluster_id: String,
    pub instance_id: String,
    pub system_id: SystemId,
}

#[derive(Debug, thiserror::Error)]
pub enum PromiseError {
    #[error("could not read promise file \"{}\": {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("promise file \"{}\" is malformed: {reason}", .path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("the promise is of {what} {found}, this is {own}")]
    Stranger {
        what: &'static str,
        found: String,
        own: String,
    },
    #[error("the promise went back from term {from} to term {to}")]
    WentBack { from: u32, to: u32 },
}

impl Promise {
    pub fn read(path: &Path, identity: &Identity) -> Result<Promise, PromiseError> {
        let bytes = std::fs::read(path).map_err(|source| PromiseError::Read {
            path: path.to_owned(),
            source,
        })?;
        let malformed = |reason: String| PromiseError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let promise: Promise =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        if let Some(set) = &promise.set {
            set.check().map_err(malformed)?;
        }
        promise.check_owner(identity)?;
        Ok(promise)
    }

    fn check_owner(&self, identity: &Identity) -> Result<(), PromiseError> {
        let system_id = identity.system_id.to_string();
        let said = self.system_id.as_ref().unwrap_or(&system_id);
        for (what, found, own) in [
            ("cluster", &self.cluster_id, &identity.cluster_id),
            ("instance", &self.instance_id, &identity.instance_id),
            ("system", said, &system_id),
        ] {
            if found != own {
                return Err(PromiseError::Stranger {
                    what,
                    found: found.clone(),
                    own: own.clone(),
                });
            }
        }
        Ok(())
    }

    pub fn term(&self) -> Term {
        Term::new(self.promised_term)
    }

    /// What a primary of `own` term acknowledges by. A set of another term, or none: nothing.
    pub fn policy(&self, own: Option<Term>) -> ReleasePolicy {
        let current = own == Some(self.term()) && !self.sealed;
        match &self.set {
            Some(set) if current && set.term == self.promised_term => ReleasePolicy::InSyncSet {
                term: Term::new(set.term),
                counter: set.counter,
                members: set.members.iter().map(|m| InstanceId::new(m)).collect(),
                required: set.required,
            },
            _ => ReleasePolicy::Closed,
        }
    }
}

impl Set {
    fn check(&self) -> Result<(), String> {
        let mut members = self.members.clone();
        members.sort();
        members.dedup();
        if members.len() != self.members.len() {
            return Err("a member stands twice in the set".to_owned());
        }
        // More may be required than there are members (`durability: strict`, a standby missing): that acknowledges nothing.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: "c".to_owned(),
            instance_id: "i".to_owned(),
            system_id: SystemId::new(5),
        }
    }

    fn read(text: &str) -> Result<Promise, PromiseError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("promise.json");
        std::fs::write(&path, text).expect("written");
        Promise::read(&path, &identity())
    }

    #[test]
    fn only_a_set_of_the_promised_term_counts_and_only_for_its_own_primary() {
        let text = r#"{"cluster_id":"c","instance_id":"i","system_id":"5","promised_term":7,
            "sealed":false,"set":{"term":7,"counter":3,"members":["a","b"],"required":1}}"#;
        let promise = read(text).expect("it is right");
        let own = Some(Term::new(7));
        let set = ReleasePolicy::InSyncSet {
            term: Term::new(7),
            counter: 3,
            members: vec![InstanceId::new("a"), InstanceId::new("b")],
            required: 1,
        };
        assert_eq!(promise.policy(own), set);
        assert_eq!(promise.policy(None), ReleasePolicy::Closed);
        assert_eq!(promise.policy(Some(Term::new(6))), ReleasePolicy::Closed);
        let older = text.replace(r#""term":7"#, r#""term":6"#);
        let older = read(&older).expect("it is right");
        assert_eq!(older.policy(own), ReleasePolicy::Closed);
        let sealed = text.replace("false", "true");
        let sealed = read(&sealed).expect("it is right");
        assert_eq!(sealed.policy(own), ReleasePolicy::Closed);
        let none = r#"{"cluster_id":"c","instance_id":"i","system_id":null,"promised_term":7,"sealed":false,"set":null}"#;
        let none = read(none).expect("it is right");
        assert_eq!(none.policy(own), ReleasePolicy::Closed);
    }

    #[test]
    fn what_is_not_for_this_instance_is_refused() {
        let text = r#"{"cluster_id":"c","instance_id":"i","system_id":"5","promised_term":7,
            "sealed":false,"set":{"term":7,"counter":3,"members":["a"],"required":1}}"#;
        for (from, to) in [
            (r#""c""#, r#""d""#),
            (r#""i""#, r#""j""#),
            (r#""5""#, r#""6""#),
            (r#""required":1"#, r#""required":-1"#),
            (r#"["a"]"#, r#"["a","a"]"#),
            (r#""sealed":false"#, r#""sealed":0"#),
            ("}", ""),
        ] {
            assert!(read(text).is_ok());
            assert!(read(&text.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
