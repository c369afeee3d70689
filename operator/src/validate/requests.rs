//! Acts that are asked for once, by annotation.
//!
//! No rule of the API server's sees annotations, and a wrong one must not keep the rest of the manifest from working:
//! each is read when it is acted on, and what can't be read is refused with an event that quotes it.

use std::collections::BTreeMap;

use super::Invalid;
use crate::crd::{FORCE_PROMOTE, REPLACE_INSTANCE, SWITCHOVER_TO};
use crate::ids::Term;
use crate::names;

/// The annotations' texts, unread: a refusal must be able to quote them, and whoever takes one off compares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// An instance's name, or `any`.
    pub switchover_to: Option<String>,
    /// `NAME@TERM`.
    pub force_promote: Option<String>,
    /// An instance's name.
    pub replace_instance: Option<String>,
}

/// Who is to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchoverTarget {
    /// The nearest one.
    Any,
    Instance(String),
}

/// Which loss is accepted: this instance's, in this term only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForcePromote {
    pub instance: String,
    pub term: Term,
}

impl Requests {
    pub(super) fn of(annotations: Option<&BTreeMap<String, String>>) -> Requests {
        let text = |key: &str| annotations.and_then(|all| all.get(key)).cloned();
        Requests {
            switchover_to: text(SWITCHOVER_TO),
            force_promote: text(FORCE_PROMOTE),
            replace_instance: text(REPLACE_INSTANCE),
        }
    }

    /// What `switchover-to` asks for, if it is there.
    ///
    /// # Errors
    /// When it names no instance that this cluster could have.
    pub fn switchover(&self, cluster: &str) -> Result<Option<SwitchoverTarget>, Invalid> {
        let Some(text) = &self.switchover_to else {
            return Ok(None);
        };
        if text == "any" {
            return Ok(Some(SwitchoverTarget::Any));
        }
        let instance = instance(
            cluster,
            SWITCHOVER_TO,
            text,
            "write an instance's name, or any",
        )?;
        Ok(Some(SwitchoverTarget::Instance(instance)))
    }

    /// What `force-promote` asks for, if it is there.
    ///
    /// # Errors
    /// When it is not of the form NAME@TERM, or names no instance that this cluster could have.
    pub fn force(&self, cluster: &str) -> Result<Option<ForcePromote>, Invalid> {
        let Some(text) = &self.force_promote else {
            return Ok(None);
        };
        let remedy = "write NAME@TERM, as the condition of the blocked failover names them";
        let parts = text.rsplit_once('@');
        let plain = |term: &str| term.bytes().all(|b| b.is_ascii_digit());
        let parsed =
            parts.and_then(|(name, term)| Some((name, term.parse().ok().filter(|_| plain(term))?)));
        let Some((name, term)) = parsed else {
            return Err(finding(
                FORCE_PROMOTE,
                format!("\"{text}\" is not of the form NAME@TERM"),
                remedy,
            ));
        };
        Ok(Some(ForcePromote {
            instance: instance(cluster, FORCE_PROMOTE, name, remedy)?,
            term: Term::new(term),
        }))
    }

    /// The instance that is to be given up and seeded anew, if that is asked for.
    ///
    /// # Errors
    /// When it names no instance that this cluster could have.
    pub fn replacement(&self, cluster: &str) -> Result<Option<String>, Invalid> {
        self.replace_instance
            .as_ref()
            .map(|text| instance(cluster, REPLACE_INSTANCE, text, "write an instance's name"))
            .transpose()
    }
}

fn instance(cluster: &str, key: &str, text: &str, remedy: &str) -> Result<String, Invalid> {
    // People read pods' names in `kubectl get pods`.
    let name = names::instance_of_pod(text).filter(|name| is_instance(cluster, name));
    let name = name.unwrap_or(text);
    if is_instance(cluster, name) {
        return Ok(name.to_owned());
    }
    let problem = format!("\"{text}\" is not an instance of {cluster}");
    Err(finding(key, problem, remedy))
}

fn is_instance(cluster: &str, name: &str) -> bool {
    names::instance_number(cluster, name).is_some()
}

fn finding(key: &str, problem: String, remedy: &str) -> Invalid {
    Invalid::new(format!("metadata.annotations[{key}]"), problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: &str, text: &str) -> Requests {
        Requests::of(Some(&BTreeMap::from([(key.to_owned(), text.to_owned())])))
    }

    #[test]
    fn without_annotations_nothing_is_asked_for() {
        let none = Requests::of(None);
        assert_eq!(none.switchover("orders"), Ok(None));
        assert_eq!(none.force("orders"), Ok(None));
        assert_eq!(none.replacement("orders"), Ok(None));
    }

    #[test]
    fn a_switchover_is_to_any_or_to_an_instance() {
        let to = |text: &str| asked(SWITCHOVER_TO, text).switchover("orders");
        assert_eq!(to("any"), Ok(Some(SwitchoverTarget::Any)));
        let second = SwitchoverTarget::Instance("orders-2".to_owned());
        assert_eq!(to("orders-2"), Ok(Some(second.clone())));
        assert_eq!(to("orders-2-0"), Ok(Some(second)), "its pod is meant");
        for text in ["", "Any", "sales-2", "orders", "orders-0"] {
            let refused = to(text).expect_err("no instance").to_string();
            let start = format!(
                "metadata.annotations[understudy.dev/switchover-to]: \"{text}\" is not an instance of orders; "
            );
            assert!(refused.starts_with(&start), "{refused}");
        }
    }

    #[test]
    fn a_forced_promotion_names_its_term() {
        let force = |text: &str| asked(FORCE_PROMOTE, text).force("orders");
        let wanted = ForcePromote {
            instance: "orders-3".to_owned(),
            term: Term::new(7),
        };
        assert_eq!(force("orders-3@7"), Ok(Some(wanted)));
        for text in [
            "orders-3",
            "orders-3@",
            "orders-3@+7",
            "@7",
            "sales-1@7",
            "orders-3@99999999999",
        ] {
            let refused = force(text).expect_err("refused").to_string();
            assert!(refused.contains("write NAME@TERM"), "{refused}");
        }
    }

    #[test]
    fn a_replacement_names_an_instance() {
        let replace = |text: &str| asked(REPLACE_INSTANCE, text).replacement("orders");
        assert_eq!(replace("orders-2"), Ok(Some("orders-2".to_owned())));
        let refused = replace("any").expect_err("refused").to_string();
        assert!(refused.contains("\"any\" is not an instance"), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_taken_for_another_cluster_s_instance(text in ".{0,20}") {
            let requests = asked(FORCE_PROMOTE, &text);
            if let Ok(Some(force)) = requests.force("orders") {
                proptest::prop_assert!(force.instance.starts_with("orders-"));
            }
        }
    }
}
