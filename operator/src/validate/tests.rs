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
fn there_are_walsenders_for_every_standby() {
    // What is written where the manifest gives none.
    assert_eq!(least_wal_senders(MAX_REPLICAS), 32);
    let with = |replicas: u32, name: &str, value: &str| {
        validate(&spec(&format!(
            "  replicas: {replicas}\n  parameters: {{{name}: \"{value}\"}}\n"
        )))
    };
    for (replicas, value, is_taken) in [
        (2, "6", true),
        (2, "5", false),
        (2, "0", false),
        (15, "32", true),
        (15, "31", false),
        (0, "0", true),
        // The engine says what is wrong with these.
        (2, "few", true),
        (2, "-1", true),
    ] {
        let judged = with(replicas, "max_wal_senders", value);
        assert_eq!(judged.is_ok(), is_taken, "{value} for {replicas}");
    }
    let wrong = with(3, "Max_WAL_Senders", "7").expect_err("too few");
    assert_eq!(
        wrong[0].to_string(),
        "spec.parameters.max_wal_senders: 7 are too few for spec.replicas 3; give at least 8, or leave it out"
    );
}

/// As an older supervisor meets it, whose image is pinned while the definition goes on.
#[test]
fn a_field_of_a_newer_definition_keeps_nobody_from_reading_the_object() {
    let mut newer = serde_json::to_value(spec("")).expect("JSON");
    newer["spec"]["hibernate"] = true.into();
    newer["spec"]["storage"]["growth"] = "auto".into();
    let read: ReplicatedCluster = serde_json::from_value(newer).expect("it is read");
    assert_eq!(validate(&read), validate(&spec("")));
}

#[test]
fn the_defaults_of_times_are_those_that_decide_goes_by() {
    use crate::decide;
    let times = FailoverTimes::default();
    assert_eq!(times.lost_after_ms, decide::SILENT_MS);
    assert_eq!(times.lost_after_ms, decide::ENGINE_SILENT_MS);
    assert_eq!(times.restart_within_ms, decide::RESTART_GRACE_MS);
    assert_eq!(times.member_lost_after_ms, decide::MEMBER_LOST_MS);
    assert_eq!(times.async_answers_within_ms, decide::LATE_ANSWER_ASYNC_MS);
    assert_eq!(times.switchover_within_ms, decide::SWITCHOVER_MS);
    assert_eq!(times.reseed_after_ms, decide::STUCK_MS);
}

/// What is decided by is there whatever else is refused; what passes means the same to both.
#[test]
fn what_is_decided_by_is_read_from_a_refused_manifest_as_well() {
    let refused = spec(
        "  replicas: 3\n  durability: async\n  paused: true\n  parameters: {port: \"1\"}\n  failover: {lostAfterMilliseconds: 7, \
         reseedAfterMilliseconds: 99999999, restartWithinMilliseconds: 5000}\n",
    );
    assert_eq!(findings(&refused).len(), 3);
    let read = essentials(&refused);
    assert_eq!(read.counts, Some((3, Durability::Async)));
    assert!(read.paused);
    let times = read.failover;
    assert_eq!(
        (times.lost_after_ms, times.restart_within_ms),
        (1_000, 5_000)
    );
    assert_eq!(times.reseed_after_ms, 86_400_000);
    for counts in [
        "  replicas: 16\n",
        "  replicas: 0\n  durability: strict\n",
        "  replicas: 6\n  parameters: {MAX_WAL_SENDERS: \"8\"}\n",
    ] {
        assert_eq!(essentials(&spec(counts)).counts, None, "{counts}");
    }
    let sound = spec("  replicas: 4\n  failover: {lostAfterMilliseconds: 4000}\n");
    let (whole, read) = (validate(&sound).expect("valid"), essentials(&sound));
    assert_eq!(read.counts, Some((whole.replicas, whole.durability)));
    assert_eq!((read.name, read.namespace), (whole.name, whole.namespace));
    assert_eq!((read.failover, read.paused), (whole.failover, whole.paused));
    assert_eq!(
        (read.generation, read.requests),
        (whole.generation, whole.requests)
    );
}

#[test]
fn what_is_left_out_means_what_the_empty_part_means() {
    let empty = "  bootstrap: {}\n  failover: {}\n  serviceTemplate: {}\n  podMetadata: {}\n  resources: {}\n  affinity: {}\n";
    assert_eq!(validate(&spec(empty)), validate(&spec("")));
}

#[test]
fn annotations_are_requests() {
    let mut cluster = spec("");
    let asked = [(
        crate::crd::REPLACE_INSTANCE.to_owned(),
        "orders-2".to_owned(),
    )];
    cluster.metadata.annotations = Some(asked.into());
    let requests = validate(&cluster).expect("valid").requests;
    assert_eq!(
        requests.replacement("orders"),
        Ok(Some("orders-2".to_owned()))
    );
    assert_eq!(requests.switchover_to, None);
}

#[test]
fn a_larger_volume_is_no_fault() {
    let mut larger = spec("");
    larger.spec.storage.size = "1.5Gi".to_owned();
    assert!(validate_change(&spec(""), &larger).is_empty());
    let findings = validate_change(&larger, &spec(""));
    assert_eq!(
        findings[0].to_string(),
        "spec.storage.size: a volume can't shrink from 1.5Gi to 1Gi; keep the size or make it larger"
    );
}

proptest::proptest! {
    /// No manifest that passes has a setting that the operator owns, however it is spelled.
    #[test]
    fn no_spelling_gets_an_owned_setting_through(
        index in 0..crate::crd::owned::SETTINGS.len(),
        upper in proptest::collection::vec(proptest::bool::ANY, 32),
    ) {
        let name = crate::crd::owned::SETTINGS[index].0;
        let spelled: String = name
            .chars()
            .zip(upper.iter().cycle())
            .map(|(c, upper)| if *upper { c.to_ascii_uppercase() } else { c })
            .collect();
        let mut cluster = spec("");
        cluster.spec.parameters.insert(spelled, "x".to_owned());
        proptest::prop_assert!(validate(&cluster).is_err());
    }
}

/// What has not run may be corrected, and nothing else of `bootstrap`.
#[test]
fn sql_that_fails_may_be_corrected() {
    let with = |text: &str, reason: &str| {
        let mut cluster = spec(&format!("  bootstrap: {{sql: [{text}]}}\n"));
        let status = serde_json::json!({"conditions": [{
            "type": "Ready", "status": "False", "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "",
        }]});
        cluster.status = Some(serde_json::from_value(status).expect("reads"));
        cluster
    };
    let failed = with("SELEKT 1", "BootstrapFailed");
    assert!(validate_change(&failed, &spec("  bootstrap: {sql: [SELECT 1]}\n")).is_empty());
    let another = spec("  bootstrap: {sql: [SELECT 1], owner: me}\n");
    let findings = validate_change(&failed, &another);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].path, "spec.bootstrap");
    for stored in [
        with("SELECT 1", "AllReady"),
        spec("  bootstrap: {sql: [SELECT 1]}\n"),
    ] {
        let findings = validate_change(&stored, &spec("  bootstrap: {sql: [SELECT 2]}\n"));
        assert_eq!(findings[0].path, "spec.bootstrap.sql");
        assert!(validate_change(&stored, &spec("  bootstrap: {sql: [SELECT 1]}\n")).is_empty());
    }
}
