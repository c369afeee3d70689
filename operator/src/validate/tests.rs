use super::*;

fn manifest(yaml: &str) -> ReplicatedCluster {
    serde_norway::from_str(yaml).expect("a manifest of this test parses")
}

fn spec(extra: &str) -> ReplicatedCluster {
    manifest(&format!(
        "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\nspec:\n  storage: {{size: 1Gi}}\n{extra}"
    ))
}

fn findings(cluster: &ReplicatedCluster) -> Vec<String> {
    validate(cluster)
        .expect_err("must be refused")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn defaults_are_two_standbys_and_a_quorum() {
    let cluster = validate(&spec("")).expect("valid");
    assert_eq!(
        (cluster.replicas, cluster.durability),
        (2, Durability::Quorum)
    );
    assert_eq!(cluster.storage_bytes, 1 << 30);
}

#[test]
fn every_finding_names_its_path_and_the_remedy() {
    let mut cluster = spec("  replicas: 16\n  parameters: {\"work mem\": 1MB}\n");
    cluster.metadata.name = Some("Orders".to_owned());
    cluster.spec.storage.size = "ten".to_owned();
    let all = findings(&cluster);
    let paths: Vec<_> = all
        .iter()
        .map(|f| f.split(':').next().unwrap_or(""))
        .collect();
    assert_eq!(
        paths,
        [
            "metadata.name",
            "spec.replicas",
            "spec.storage.size",
            "spec.parameters.work mem"
        ]
    );
    assert!(all.iter().all(|f| f.contains("; ")), "{all:?}");
}

#[test]
fn owned_settings_are_refused_in_every_spelling() {
    for name in [
        "port",
        "Port",
        "SYNCHRONOUS_STANDBY_NAMES",
        "Understudy.Instance_Id",
        "include",
    ] {
        let cluster = spec(&format!("  parameters: {{{name}: x}}\n"));
        let all = findings(&cluster);
        assert!(
            all[0].starts_with(&format!("spec.parameters.{name}: the operator owns")),
            "{all:?}"
        );
    }
}

#[test]
fn one_setting_in_two_spellings_is_refused() {
    let all = findings(&spec("  parameters: {work_mem: 1MB, Work_Mem: 2MB}\n"));
    assert!(all[0].contains("given twice"), "{all:?}");
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let text = "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {name: a}\nspec: {storage: {size: 1Gi}, replica: 3}\n";
    let error = serde_norway::from_str::<ReplicatedCluster>(text)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("replica"), "{error}");
}

#[test]
fn quantities() {
    for (text, bytes) in [
        ("1Gi", Some(1 << 30)),
        ("1.5Ki", Some(1536)),
        ("2k", Some(2000)),
        ("", None),
        ("1Xi", None),
        ("1.Gi", None),
    ] {
        assert_eq!(parse_quantity(text), bytes, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_quantity_panic(text in ".{0,24}") {
        let _ = parse_quantity(&text);
    }
}
