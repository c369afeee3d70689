//! Fields that the definition does not have: a typo must not pass for a default.
//!
//! An API server refuses them itself. What comes from one may still have more fields than this program knows: the image
//! of a supervisor is pinned, and the definition is as new as the newest operator's. So reading an object refuses none,
//! and a manifest that no API server has seen is looked at here first.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::Invalid;
use crate::crd::definition;

/// What there is below `spec` that the definition does not have.
pub fn unknown_fields(manifest: &Value) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let schema = definition().spec.versions.into_iter().find_map(|version| {
        let mut fields = version.schema?.open_api_v3_schema?.properties?;
        fields.remove("spec")
    });
    if let (Some(spec), Some(schema)) = (manifest.get("spec"), schema) {
        look(spec, &schema, "spec", &mut wrong);
    }
    wrong
}

/// What is of another type than it should be is for whoever reads it.
fn look(value: &Value, schema: &JSONSchemaProps, path: &str, wrong: &mut Vec<Invalid>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match (field(schema, name), &schema.properties) {
                    (Some(schema), _) => look(value, schema, &path, wrong),
                    (None, Some(_)) => wrong.push(Invalid::new(
                        path,
                        "unknown field",
                        "remove it, or write it as docs/fields.md does",
                    )),
                    (None, None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    look(item, schema, &format!("{path}[{index}]"), wrong);
                }
            }
        }
        _ => {}
    }
}

fn field<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    let own = schema.properties.as_ref().and_then(|all| all.get(name));
    own.or(match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(any)) => Some(any.as_ref()),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(spec: &str) -> Vec<String> {
        let text = format!("spec: {spec}");
        let manifest: Value = serde_norway::from_str(&text).expect("YAML");
        let found = unknown_fields(&manifest);
        found.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_field_that_nobody_knows_is_found_wherever_it_stands() {
        let all = unknown(
            "{storage: {size: 1Gi, sise: 2Gi}, replica: 3, failover: {lostAfterSeconds: 3}, \
             affinity: {nodeAffinty: {}}, env: [{name: A}, {name: B, valu: c}]}",
        );
        assert_eq!(
            all,
            [
                "spec.storage.sise",
                "spec.replica",
                "spec.failover.lostAfterSeconds",
                "spec.affinity.nodeAffinty",
                "spec.env[1].valu",
            ]
        );
    }

    #[test]
    fn keys_of_the_user_s_own_and_other_types_are_no_unknown_fields() {
        for spec in [
            "{parameters: {my.setting: '1'}, nodeSelector: {any/thing: a}}",
            "{resources: {limits: {cpu: 2, example.com/gpu: 1}}, podMetadata: {labels: {team: a}}}",
            "{storage: 1Gi, replicas: {a: b}, env: {name: A}}",
            "[]",
            "7",
        ] {
            assert_eq!(unknown(spec), [""; 0], "{spec}");
        }
        assert!(unknown_fields(&Value::Null).is_empty());
    }
}
