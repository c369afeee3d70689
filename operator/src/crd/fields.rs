//! The field reference, generated from the schema: `docs/fields.md`.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::definition::KUBERNETES_TYPES;
use super::{FORCE_PROMOTE, LEAST_KUBERNETES, REPLACE_INSTANCE, SWITCHOVER_TO, definition, owned};

/// The whole page.
pub fn fields_markdown() -> String {
    let crd = definition();
    let root = crd
        .spec
        .versions
        .into_iter()
        .filter_map(|version| version.schema?.open_api_v3_schema)
        .next()
        .unwrap_or_default();
    let (major, minor) = LEAST_KUBERNETES;
    let mut page = format!(
        "# The fields of a ReplicatedCluster\n\n\
         Written by `understudy-operator fields` from the schema in `crds/`; a test compares.\n\n\
         `apiVersion: understudy.dev/v1alpha1`, `kind: ReplicatedCluster`, short name `rcl`. Kubernetes \
         {major}.{minor} or newer is needed: the rules below are checked by the API server itself, in CEL.\n"
    );
    for (title, part) in [("spec", "spec"), ("status", "status")] {
        let Some(schema) = root.properties.as_ref().and_then(|all| all.get(part)) else {
            continue;
        };
        section(
            &mut page,
            title,
            "| field | type | default | |\n| --- | --- | --- | --- |",
        );
        rows(&mut page, part, schema, part == "spec");
    }
    annotations(&mut page);
    rules(&mut page);
    settings(&mut page);
    page
}

fn section(page: &mut String, title: &str, head: &str) {
    line(page, &format!("\n## {title}\n\n{head}"));
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("writing to a string can't fail");
}

fn rows(page: &mut String, path: &str, schema: &JSONSchemaProps, is_spec: bool) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let default = match &field.default {
            Some(value) => format!("`{}`", value.0),
            None if is_spec && required.contains(name) => "required".to_owned(),
            None => String::new(),
        };
        let description = field.description.clone().unwrap_or_default();
        let text = description.split_whitespace().collect::<Vec<_>>().join(" ");
        line(
            page,
            &format!(
                "| `{path}` | {} | {default} | {} |",
                kind(field),
                text.replace('|', "\\|")
            ),
        );
        let foreign = is_spec && KUBERNETES_TYPES.contains(&name.as_str());
        if !foreign {
            rows(page, &path, field, is_spec);
            if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
                rows(page, &format!("{path}[]"), item, is_spec);
            }
        }
    }
}

fn kind(schema: &JSONSchemaProps) -> String {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "quantity".to_owned();
    }
    if let Some(values) = &schema.enum_ {
        let all: Vec<String> = values
            .iter()
            .filter_map(|value| value.0.as_str().map(|text| format!("`{text}`")))
            .collect();
        return all.join(", ");
    }
    match schema.type_.as_deref() {
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => {
                format!("list of {}, at most {}", kind(item), most(schema.max_items))
            }
            _ => "list".to_owned(),
        },
        Some("object") => match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(value)) => {
                format!(
                    "map of {}, at most {}",
                    kind(value),
                    most(schema.max_properties)
                )
            }
            _ => "object".to_owned(),
        },
        Some("integer") => match (schema.minimum, schema.maximum) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "integer".to_owned(),
        },
        Some("string") => format!("string, at most {}", most(schema.max_length)),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

fn most(bound: Option<i64>) -> String {
    bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string())
}

fn annotations(page: &mut String) {
    section(
        page,
        "Annotations that ask for one act",
        "Each is taken off again when it was acted on or refused, with an event.\n\n| annotation | value | |\n| --- | --- | --- |",
    );
    for (key, value, text) in [
        (
            SWITCHOVER_TO,
            "an instance, or `any`",
            "Hands the primary's role to this standby, or to the nearest one.",
        ),
        (
            FORCE_PROMOTE,
            "`NAME@TERM`",
            "Accepts the loss that a blocked failover would mean, or the end of a primary that acknowledged alone; the condition names instance and term. Refused for any other term.",
        ),
        (
            REPLACE_INSTANCE,
            "an instance",
            "Gives up its copy: pod and claim are deleted and the instance is seeded anew. Refused for the primary.",
        ),
    ] {
        line(page, &format!("| `{key}` | {value} | {text} |"));
    }
}

fn rules(page: &mut String) {
    section(
        page,
        "What is refused",
        "Beside the types and bounds above, and the words, keys and numbers that Kubernetes itself does not take in `affinity`, \
         `topologySpreadConstraints` and `tolerations`. `kubectl apply` says it with the field.\n\n| field | |\n| --- | --- |",
    );
    let mut before = String::new();
    for rule in super::rules() {
        if rule.at == "spec.parameters" && rule.message.starts_with("the operator owns ") {
            continue; // They have a section of their own.
        }
        let at = match (rule.at, rule.field_path) {
            ("", Some(path)) => path.trim_start_matches('.').to_owned(),
            ("", None) => "metadata.name".to_owned(),
            (at, path) => format!("{}{}", shown(at), path.unwrap_or_default()),
        };
        let text = rule.message.trim_start_matches("metadata.name: ");
        let row = format!("| `{at}` | {text} |");
        if row != before {
            line(page, &row);
        }
        before = row;
    }
}

/// Of `affinity` only the end: the same stands in many places there.
fn shown(at: &str) -> String {
    let ends = [".matchExpressions.[]", ".matchLabels"];
    let of_affinity = ends.iter().find(|end| at.ends_with(**end));
    match of_affinity.filter(|_| at.starts_with("spec.affinity.")) {
        Some(end) => format!("spec.affinity..{}", end.replace(".[]", "[]")),
        None => at.replace(".[]", "[]"),
    }
}

fn settings(page: &mut String) {
    section(
        page,
        "Settings that the operator owns",
        "They can't stand in `spec.parameters`, in whatever case they are spelled; nor can any that begins with `understudy.`.\n\n| setting | because |\n| --- | --- |",
    );
    for (name, why) in owned::SETTINGS {
        line(page, &format!("| `{name}` | {why} |"));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_what_the_operator_prints() {
        let file = std::fs::read_to_string("../docs/fields.md").expect("docs/fields.md is there");
        assert!(
            file == super::fields_markdown(),
            "docs/fields.md is out of date: understudy-operator fields > docs/fields.md"
        );
    }
}
