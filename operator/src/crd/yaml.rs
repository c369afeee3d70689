//! The CustomResourceDefinition as YAML, for `understudy-operator crd` and the file in `crds/`.

use serde_json::Value as Json;
use serde_norway::Value as Yaml;

use super::definition;

/// What `kubectl apply` can take: it keeps a copy of the object in an annotation.
pub const MOST_BYTES: usize = 200_000;

/// The definition with the keys in the order in which Kubernetes' own tools print them.
///
/// # Errors
/// When serialisation fails, which no value of this type does.
pub fn crd_yaml() -> Result<String, serde_norway::Error> {
    to_yaml(&definition())
}

/// Any object as YAML. Numbers go by way of JSON: there a number keeps its digits, which YAML's serialiser would show
/// as a mapping.
///
/// # Errors
/// When the object has keys that are not text.
pub fn to_yaml<T: serde::Serialize>(object: &T) -> Result<String, serde_norway::Error> {
    let json =
        serde_json::to_value(object).map_err(<serde_norway::Error as serde::ser::Error>::custom)?;
    serde_norway::to_string(&yaml(json))
}

fn yaml(json: Json) -> Yaml {
    match json {
        Json::Null => Yaml::Null,
        Json::Bool(is) => Yaml::Bool(is),
        Json::String(text) => Yaml::String(text),
        Json::Array(items) => Yaml::Sequence(items.into_iter().map(yaml).collect()),
        Json::Object(fields) => Yaml::Mapping(
            fields
                .into_iter()
                .map(|(name, value)| (Yaml::String(name), yaml(value)))
                .collect(),
        ),
        Json::Number(number) => Yaml::Number(yaml_number(&number)),
    }
}

fn yaml_number(number: &serde_json::Number) -> serde_norway::Number {
    if let Some(number) = number.as_i64() {
        return number.into();
    }
    if let Some(number) = number.as_u64() {
        return number.into();
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    // The schema's bounds are floats that hold whole numbers.
    let whole = format!("{float:.0}").parse::<i64>().ok();
    match whole {
        Some(whole) if float.fract() == 0.0 => whole.into(),
        _ => float.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_crds_is_what_the_operator_prints() {
        let file = std::fs::read_to_string("../crds/replicatedclusters.yaml")
            .expect("crds/replicatedclusters.yaml is there");
        let printed = crd_yaml().expect("the definition prints");
        assert!(
            printed.len() < MOST_BYTES,
            "too large for kubectl apply: {} bytes",
            printed.len()
        );
        assert!(
            file == printed,
            "crds/ is out of date: understudy-operator crd > crds/replicatedclusters.yaml"
        );
    }

    #[test]
    fn numbers_are_numbers() {
        let printed = to_yaml(&serde_json::json!({"a": 2, "b": 15.0, "c": 0.5, "d": -1}));
        assert_eq!(printed.expect("prints"), "a: 2\nb: 15\nc: 0.5\nd: -1\n");
    }
}
