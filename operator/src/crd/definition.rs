//! The CustomResourceDefinition: the types' own schema, bounded, with defaults, list types and rules.
//!
//! Every string, list and map has a bound, so that the API server can tell how dear each rule may become; of
//! Kubernetes' own descriptions the first sentence stays, so that the file is small enough for `kubectl apply`, which
//! keeps a copy of it in an annotation.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt;

use super::rules::{Rule, rules};
use super::{LEAST_KUBERNETES, ReplicatedCluster, patterns, scheduling};

/// Fields of `spec` whose types are Kubernetes'.
pub(super) const KUBERNETES_TYPES: &[&str] = &[
    "affinity",
    "env",
    "imagePullSecrets",
    "tolerations",
    "topologySpreadConstraints",
];

/// Parts of `spec` that are filled in where they are left out, with their own defaults.
const FILLED_IN: &[&str] = &["bootstrap", "failover"];

/// Lists whose entries have a name of their own: two of one name are refused, and appliers may own single entries.
const KEYED_LISTS: &[(&str, &str)] = &[
    ("spec.env", "name"),
    ("spec.imagePullSecrets", "name"),
    ("status.conditions", "type"),
    ("status.instances", "name"),
];

const STRING_BOUND: i64 = 1024;
const LIST_BOUND: i64 = 64;
const MAP_BOUND: i64 = 64;
const QUANTITY_BOUND: i64 = 32;
/// Longer than other strings: certificates and the like are given as variables.
const ENV_VALUE_BOUND: i64 = 32_768;

/// The whole definition.
///
/// # Panics
/// When a rule or a default stands at a field that the schema does not have: the tests build it.
pub fn definition() -> CustomResourceDefinition {
    let mut crd = ReplicatedCluster::crd();
    let (major, minor) = LEAST_KUBERNETES;
    crd.metadata.annotations.get_or_insert_default().insert(
        "understudy.dev/least-kubernetes".to_owned(),
        format!("{major}.{minor}"),
    );
    let root = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
        .next()
        .expect("the derived definition has one version with a schema");
    finish(root);
    crd
}

fn finish(root: &mut JSONSchemaProps) {
    at(root, "spec.env.[].value").max_length = Some(ENV_VALUE_BOUND);
    for path in ["spec.resources.requests", "spec.resources.limits"] {
        let value = value_mut(at(root, path)).expect("a map has values");
        value.pattern = Some(patterns::QUANTITY.text().to_owned());
        value.description = None;
    }
    let spec = at(root, "spec");
    for name in KUBERNETES_TYPES {
        shorten(field(spec, name), true);
    }
    for name in FILLED_IN {
        field(spec, name).default = Some(JSON(serde_json::json!({})));
    }
    not_nullable(spec);
    scheduling::narrow(root);
    bound(root);
    for (path, key) in KEYED_LISTS {
        let list = at(root, path);
        list.x_kubernetes_list_type = Some("map".to_owned());
        list.x_kubernetes_list_map_keys = Some(vec![(*key).to_owned()]);
        let item = item_mut(list).expect("a list has items");
        let required = item.required.get_or_insert_default();
        if !required.iter().any(|name| name == key) {
            required.push((*key).to_owned());
        }
        // A key that may be left out would need a default, and has none.
        field(item, key).default = None;
    }
    for rule in rules() {
        at(root, rule.at)
            .x_kubernetes_validations
            .get_or_insert_default()
            .push(validation(rule));
    }
}

fn validation(rule: Rule) -> ValidationRule {
    ValidationRule {
        rule: rule.rule,
        message: Some(rule.message),
        message_expression: None,
        field_path: rule.field_path.map(str::to_owned),
        optional_old_self: None,
        reason: None,
    }
}

/// The schema at a dotted path; `[]` are a list's items.
pub(super) fn at<'a>(root: &'a mut JSONSchemaProps, path: &str) -> &'a mut JSONSchemaProps {
    path.split('.')
        .filter(|name| !name.is_empty())
        .fold(root, |schema, name| match name {
            "[]" => item_mut(schema).expect("a list has items"),
            name => field(schema, name),
        })
}

pub(super) fn field<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> &'a mut JSONSchemaProps {
    schema
        .properties
        .as_mut()
        .and_then(|fields| fields.get_mut(name))
        .unwrap_or_else(|| panic!("the schema has no field {name}"))
}

pub(super) fn item_mut(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match schema.items.as_mut()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

pub(super) fn value_mut(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match schema.additional_properties.as_mut()? {
        JSONSchemaPropsOrBool::Schema(value) => Some(value),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

/// Does the same to every schema directly below this one.
fn below(schema: &mut JSONSchemaProps, act: &mut dyn FnMut(&mut JSONSchemaProps)) {
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        act(property);
    }
    if let Some(item) = item_mut(schema) {
        act(item);
    }
    if let Some(value) = value_mut(schema) {
        act(value);
    }
}

fn bound(schema: &mut JSONSchemaProps) {
    let is_enum = schema.enum_.is_some();
    if schema.x_kubernetes_int_or_string == Some(true) {
        schema.max_length.get_or_insert(QUANTITY_BOUND);
    }
    match schema.type_.as_deref() {
        Some("string") if !is_enum => {
            schema.max_length.get_or_insert(STRING_BOUND);
        }
        Some("array") => {
            schema.max_items.get_or_insert(LIST_BOUND);
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(MAP_BOUND);
        }
        _ => {}
    }
    below(schema, &mut bound);
}

/// A null in a manifest then means the same as leaving the field out, defaults included.
fn not_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    below(schema, &mut not_nullable);
}

/// Keeps the first sentence of each description; `keep` is for the field's own, which is ours.
fn shorten(schema: &mut JSONSchemaProps, keep: bool) {
    if let Some(text) = schema.description.as_mut()
        && !keep
    {
        let end = [". ", ".\n", "\n\n"]
            .iter()
            .filter_map(|mark| text.find(mark).map(|at| at + 1))
            .min()
            .unwrap_or(text.len());
        text.truncate(end);
        text.truncate(text.trim_end().len());
    }
    below(schema, &mut |inner| shorten(inner, false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> JSONSchemaProps {
        let crd = definition();
        let schema = crd.spec.versions[0].schema.clone().expect("a schema");
        schema.open_api_v3_schema.expect("a schema")
    }

    fn each(
        schema: &mut JSONSchemaProps,
        path: &str,
        look: &mut dyn FnMut(&str, &JSONSchemaProps),
    ) {
        look(path, schema);
        let mut fields: Vec<(String, JSONSchemaProps)> = schema
            .properties
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        fields.extend(item_mut(schema).map(|item| ("[]".to_owned(), item.clone())));
        fields.extend(value_mut(schema).map(|value| ("{}".to_owned(), value.clone())));
        for (name, mut inner) in fields {
            each(&mut inner, &format!("{path}.{name}"), look);
        }
    }

    #[test]
    fn every_string_list_and_map_is_bounded() {
        let mut unbounded = Vec::new();
        each(&mut schema(), "", &mut |path, schema| {
            let bounded = match schema.type_.as_deref() {
                Some("string") => schema.max_length.is_some() || schema.enum_.is_some(),
                Some("array") => schema.max_items.is_some(),
                Some("object") => {
                    schema.additional_properties.is_none() || schema.max_properties.is_some()
                }
                None => schema.max_length.is_some(),
                _ => true,
            };
            if !bounded {
                unbounded.push(path.to_owned());
            }
        });
        assert!(unbounded.is_empty(), "{unbounded:?}");
    }

    /// However deep it is: what `kubectl explain` shows has nothing else to say. What Kubernetes' own types are made of is
    /// Kubernetes' to describe.
    #[test]
    fn every_field_that_is_ours_says_what_it_is_for() {
        let mut silent = Vec::new();
        let mut deepest = 0;
        each(&mut schema(), "", &mut |path, schema| {
            let is_of = |name: &&str| path.starts_with(&format!(".spec.{name}."));
            let is_ours = path.starts_with(".spec") || path.starts_with(".status");
            let is_named = !path.ends_with("[]") && !path.ends_with("{}");
            if is_ours && is_named && !KUBERNETES_TYPES.iter().any(is_of) {
                deepest = deepest.max(path.matches('.').count());
                if schema.description.as_deref().unwrap_or_default().is_empty() {
                    silent.push(path.to_owned());
                }
            }
        });
        assert!(deepest >= 6, "{deepest}");
        assert!(silent.is_empty(), "{}", silent.join("\n"));
    }

    #[test]
    fn nothing_is_left_without_a_schema() {
        each(&mut schema(), "", &mut |path, schema| {
            assert!(
                schema.x_kubernetes_preserve_unknown_fields.is_none(),
                "{path} takes anything"
            );
        });
    }
}
