//! What Kubernetes takes of the parts that are its own types: where those say "string" it takes a few words, and says so
//! only when pods are made of them. Here the schema says it, so that `kubectl apply` refuses a slip with its field.
//!
//! Nothing that some Kubernetes takes may be refused: words that only newer ones know stand here too, and what is left is
//! told by the condition `ObjectsNotWritten`. [`crate::validate`] refuses none of it: what the pods are to be like must not
//! keep a cluster from its failover.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSON, JSONSchemaProps};

use super::definition::{at, field, item_mut, value_mut};
use super::patterns::{self, Pattern};
use super::rules::{Rule, rule};

macro_rules! preferred {
    ($kind:literal, $rest:literal) => {
        concat!(
            "spec.affinity.",
            $kind,
            ".preferredDuringSchedulingIgnoredDuringExecution.[].",
            $rest
        )
    };
}
macro_rules! required {
    ($kind:literal, $rest:literal) => {
        concat!(
            "spec.affinity.",
            $kind,
            ".requiredDuringSchedulingIgnoredDuringExecution.",
            $rest
        )
    };
}

/// Chooses nodes by their labels. Values that no label can have are taken here by some versions.
const NODE_EXPRESSIONS: [&str; 2] = [
    preferred!("nodeAffinity", "preference.matchExpressions.[]"),
    required!("nodeAffinity", "nodeSelectorTerms.[].matchExpressions.[]"),
];

/// Chooses nodes by their fields, of which only the name can be asked for.
const NODE_FIELDS: [&str; 2] = [
    preferred!("nodeAffinity", "preference.matchFields.[]"),
    required!("nodeAffinity", "nodeSelectorTerms.[].matchFields.[]"),
];

const POD_TERMS: [&str; 4] = [
    preferred!("podAffinity", "podAffinityTerm"),
    required!("podAffinity", "[]"),
    preferred!("podAntiAffinity", "podAffinityTerm"),
    required!("podAntiAffinity", "[]"),
];

/// Of the terms above, and of what is spread.
const LABEL_EXPRESSIONS: [&str; 9] = [
    preferred!(
        "podAffinity",
        "podAffinityTerm.labelSelector.matchExpressions.[]"
    ),
    preferred!(
        "podAffinity",
        "podAffinityTerm.namespaceSelector.matchExpressions.[]"
    ),
    required!("podAffinity", "[].labelSelector.matchExpressions.[]"),
    required!("podAffinity", "[].namespaceSelector.matchExpressions.[]"),
    preferred!(
        "podAntiAffinity",
        "podAffinityTerm.labelSelector.matchExpressions.[]"
    ),
    preferred!(
        "podAntiAffinity",
        "podAffinityTerm.namespaceSelector.matchExpressions.[]"
    ),
    required!("podAntiAffinity", "[].labelSelector.matchExpressions.[]"),
    required!(
        "podAntiAffinity",
        "[].namespaceSelector.matchExpressions.[]"
    ),
    "spec.topologySpreadConstraints.[].labelSelector.matchExpressions.[]",
];

/// Beside each of them, and judged by a rule, because a schema has no word for a map's keys.
const MATCH_LABELS: [&str; 9] = [
    preferred!("podAffinity", "podAffinityTerm.labelSelector.matchLabels"),
    preferred!(
        "podAffinity",
        "podAffinityTerm.namespaceSelector.matchLabels"
    ),
    required!("podAffinity", "[].labelSelector.matchLabels"),
    required!("podAffinity", "[].namespaceSelector.matchLabels"),
    preferred!(
        "podAntiAffinity",
        "podAffinityTerm.labelSelector.matchLabels"
    ),
    preferred!(
        "podAntiAffinity",
        "podAffinityTerm.namespaceSelector.matchLabels"
    ),
    required!("podAntiAffinity", "[].labelSelector.matchLabels"),
    required!("podAntiAffinity", "[].namespaceSelector.matchLabels"),
    "spec.topologySpreadConstraints.[].labelSelector.matchLabels",
];

const WEIGHTS: [&str; 3] = [
    preferred!("nodeAffinity", "weight"),
    preferred!("podAffinity", "weight"),
    preferred!("podAntiAffinity", "weight"),
];

const LONGEST_KEY: i64 = 317;
const LONGEST_LABEL_VALUE: i64 = 63;

/// Gives the schema the words, forms and numbers that are taken.
pub(super) fn narrow(root: &mut JSONSchemaProps) {
    for path in NODE_EXPRESSIONS {
        let operators = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
        expression(at(root, path), operators);
    }
    for path in NODE_FIELDS {
        node_field(at(root, path));
    }
    let terms = required!("nodeAffinity", "nodeSelectorTerms");
    at(root, terms).min_items = Some(1);
    for path in WEIGHTS {
        let weight = at(root, path);
        weight.minimum = Some(1.0);
        weight.maximum = Some(100.0);
    }
    for path in LABEL_EXPRESSIONS {
        let operators = &["In", "NotIn", "Exists", "DoesNotExist"];
        expression(at(root, path), operators);
        let value = item_mut(field(at(root, path), "values")).expect("a list has items");
        of_form(value, &patterns::LABEL_VALUE, LONGEST_LABEL_VALUE);
    }
    for path in POD_TERMS {
        pod_term(at(root, path));
    }
    spread(at(root, "spec.topologySpreadConstraints.[]"));
    toleration(at(root, "spec.tolerations.[]"));
}

fn one_of(schema: &mut JSONSchemaProps, words: &[&str]) {
    let words = words.iter().map(|word| JSON(serde_json::json!(word)));
    schema.enum_ = Some(words.collect());
}

fn of_form(schema: &mut JSONSchemaProps, pattern: &Pattern, longest: i64) {
    schema.pattern = Some(pattern.text().to_owned());
    schema.max_length = Some(longest);
}

fn keys(list: &mut JSONSchemaProps) {
    let key = item_mut(list).expect("a list has items");
    of_form(key, &patterns::KEY, LONGEST_KEY);
}

fn expression(schema: &mut JSONSchemaProps, operators: &[&str]) {
    one_of(field(schema, "operator"), operators);
    of_form(field(schema, "key"), &patterns::KEY, LONGEST_KEY);
}

fn node_field(schema: &mut JSONSchemaProps) {
    one_of(field(schema, "operator"), &["In", "NotIn"]);
    one_of(field(schema, "key"), &["metadata.name"]);
    let values = field(schema, "values");
    values.min_items = Some(1);
    values.max_items = Some(1);
    let required = schema.required.get_or_insert_default();
    required.push("values".to_owned());
}

fn selector(schema: &mut JSONSchemaProps) {
    let value = value_mut(field(schema, "matchLabels")).expect("a map has values");
    of_form(value, &patterns::LABEL_VALUE, LONGEST_LABEL_VALUE);
}

fn pod_term(schema: &mut JSONSchemaProps) {
    of_form(field(schema, "topologyKey"), &patterns::KEY, LONGEST_KEY);
    let namespace = item_mut(field(schema, "namespaces")).expect("a list has items");
    of_form(namespace, &patterns::NAMESPACE, 63);
    selector(field(schema, "labelSelector"));
    selector(field(schema, "namespaceSelector"));
    keys(field(schema, "matchLabelKeys"));
    keys(field(schema, "mismatchLabelKeys"));
}

fn spread(schema: &mut JSONSchemaProps) {
    field(schema, "topologyKey").min_length = Some(1);
    field(schema, "minDomains").minimum = Some(1.0);
    one_of(field(schema, "nodeAffinityPolicy"), &["Honor", "Ignore"]);
    one_of(field(schema, "nodeTaintsPolicy"), &["Honor", "Ignore"]);
    selector(field(schema, "labelSelector"));
    keys(field(schema, "matchLabelKeys"));
}

/// Empty words mean what leaving the field out means.
fn toleration(schema: &mut JSONSchemaProps) {
    one_of(
        field(schema, "operator"),
        &["Equal", "Exists", "Gt", "Lt", ""],
    );
    one_of(
        field(schema, "effect"),
        &["NoSchedule", "PreferNoSchedule", "NoExecute", ""],
    );
    of_form(field(schema, "key"), &patterns::KEY_OR_NOTHING, LONGEST_KEY);
    of_form(
        field(schema, "value"),
        &patterns::TOLERATION_VALUE,
        LONGEST_LABEL_VALUE,
    );
}

/// What depends on two fields.
pub(super) fn rules() -> Vec<Rule> {
    let some = "has(self.values) && size(self.values) > 0";
    let one = "has(self.values) && size(self.values) == 1";
    let none = "!has(self.values) || size(self.values) == 0";
    let mut all = Vec::new();
    all.extend(NODE_EXPRESSIONS.map(|at| {
        rule(
            at,
            format!(
                "self.operator in ['In', 'NotIn'] ? {some} : self.operator in ['Gt', 'Lt'] ? {one} : {none}"
            ),
            "operators In and NotIn need values, Gt and Lt a single one, Exists and DoesNotExist none; add or remove them",
        )
    }));
    all.extend(LABEL_EXPRESSIONS.map(|at| {
        rule(
            at,
            format!("self.operator in ['In', 'NotIn'] ? {some} : {none}"),
            "operators In and NotIn need values, Exists and DoesNotExist none; add or remove them",
        )
    }));
    all.extend(MATCH_LABELS.map(|at| {
        rule(
            at,
            format!(
                "self.all(k, {} && size(k) <= {LONGEST_KEY})",
                patterns::KEY.cel("k")
            ),
            "a key is not one that Kubernetes takes; write it as NAME or DOMAIN/NAME",
        )
    }));
    all.extend([
        rule(
            "spec.topologySpreadConstraints",
            "self.all(c, self.exists_one(d, d.topologyKey == c.topologyKey && d.whenUnsatisfiable == c.whenUnsatisfiable))",
            "two entries have the same topologyKey and whenUnsatisfiable; keep one of them",
        ),
        rule(
            "spec.topologySpreadConstraints.[]",
            "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
            "minDomains goes with whenUnsatisfiable DoNotSchedule only; write that, or remove minDomains",
        ),
        rule(
            "spec.tolerations.[]",
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "without a key every taint is meant, and operator must be Exists; give a key, or write operator: Exists",
        ),
        rule(
            "spec.tolerations.[]",
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value; remove it, or write Equal",
        ),
        rule(
            "spec.tolerations.[]",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds goes with effect NoExecute only; write that, or remove tolerationSeconds",
        ),
        rule(
            "spec.env.[].valueFrom",
            "(has(self.configMapKeyRef) ? 1 : 0) + (has(self.fieldRef) ? 1 : 0) + (has(self.fileKeyRef) ? 1 : 0) \
             + (has(self.resourceFieldRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) == 1",
            "it has no source or several; give one of configMapKeyRef, fieldRef, resourceFieldRef and secretKeyRef",
        ),
        // Only processors, memory and disk can be given out twice.
        rule(
            "spec.resources",
            "!has(self.requests) || self.requests.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] \
             || k.contains('kubernetes.io/') || (has(self.limits) && k in self.limits))",
            "huge pages or an extended resource are requested without a limit; give the limit, which has to be the same",
        ),
    ]);
    all.extend(resource_rules());
    all
}

/// What is asked for processors and memory is judged in `rules.rs`, for local mode as well.
fn resource_rules() -> Vec<Rule> {
    let pages = |at: &'static str| {
        // What is written with a fraction has no whole number here, though it may be one: it is left to Kubernetes.
        rule(
            at,
            "self.all(k, !k.startsWith('hugepages-') || (isQuantity(k.substring(10)) && (!quantity(k.substring(10)).isInteger() \
             || !quantity(string(self[k])).isInteger() || (quantity(k.substring(10)).asInteger() > 0 \
             && quantity(string(self[k])).asInteger() % quantity(k.substring(10)).asInteger() == 0))))",
            "huge pages are not given in whole pages of some size; write hugepages-2Mi with a multiple of 2Mi",
        )
    };
    let any = |part: &str, test: &str| format!("(has(self.{part}) && {test})");
    let has_pages = |part: &str| {
        any(
            part,
            &format!("self.{part}.exists(k, k.startsWith('hugepages-'))"),
        )
    };
    let has_others = |part: &str| {
        any(
            part,
            &format!("('cpu' in self.{part} || 'memory' in self.{part})"),
        )
    };
    vec![
        pages("spec.resources.requests"),
        pages("spec.resources.limits"),
        rule(
            "spec.resources",
            "!has(self.requests) || !has(self.limits) || self.requests.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] \
             || k.contains('kubernetes.io/') || !(k in self.limits) \
             || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) == 0)",
            "huge pages or an extended resource are requested in another number than their limit; give both the same",
        ),
        rule(
            "spec.resources",
            format!(
                "!({} || {}) || {} || {}",
                has_pages("requests"),
                has_pages("limits"),
                has_others("requests"),
                has_others("limits")
            ),
            "huge pages go with cpu or memory only; request or limit one of these as well",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::definition;

    /// Where in `schema` a field of this name is a string that is neither of a few words nor of a form.
    fn free(schema: &mut JSONSchemaProps, path: &str, name: &str, found: &mut Vec<String>) {
        let names: Vec<String> = schema
            .properties
            .iter()
            .flatten()
            .map(|p| p.0.clone())
            .collect();
        for inner in names {
            let path = format!("{path}.{inner}");
            let of = field(schema, &inner);
            let is_text = of.type_.as_deref() == Some("string");
            if inner == name && is_text && of.enum_.is_none() && of.pattern.is_none() {
                found.push(path.clone());
            }
            free(of, &path, name, found);
        }
        if let Some(item) = item_mut(schema) {
            free(item, &format!("{path}[]"), name, found);
        }
    }

    #[test]
    fn every_selector_and_toleration_has_its_words() {
        let mut version = definition().spec.versions.remove(0);
        let root = version.schema.as_mut().expect("a schema");
        let root = root.open_api_v3_schema.as_mut().expect("a schema");
        for part in [
            "spec.affinity",
            "spec.tolerations",
            "spec.topologySpreadConstraints",
        ] {
            for name in ["operator", "key", "effect"] {
                let mut found = Vec::new();
                free(at(root, part), part, name, &mut found);
                assert!(found.is_empty(), "{name}: {found:?}");
            }
        }
    }

    /// A new kind of selector in a newer Kubernetes' types would have no rule.
    #[test]
    fn every_selector_has_its_rule() {
        let mut version = definition().spec.versions.remove(0);
        let root = version.schema.as_mut().expect("a schema");
        let root = root.open_api_v3_schema.as_mut().expect("a schema");
        let text = serde_json::to_string(at(root, "spec")).expect("JSON");
        let selectors = text.matches("\"matchExpressions\":").count();
        assert_eq!(selectors, NODE_EXPRESSIONS.len() + LABEL_EXPRESSIONS.len());
        let labels = text.matches("\"matchLabels\":").count();
        assert_eq!(labels, MATCH_LABELS.len());
        for path in NODE_EXPRESSIONS
            .iter()
            .chain(&LABEL_EXPRESSIONS)
            .chain(&MATCH_LABELS)
        {
            let rules = at(root, path).x_kubernetes_validations.as_ref();
            assert_eq!(rules.map(Vec::len), Some(1), "{path}");
        }
    }
}
