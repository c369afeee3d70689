//! Reading a manifest: every mistake is told with its path.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::crd::{ReplicatedCluster, ReplicatedClusterSpec};
use crate::validate::{Invalid, ValidatedCluster, unknown_fields, validate};

/// The manifest in `file` (`-` is standard input).
///
/// # Errors
/// When it can't be read, isn't one `ReplicatedCluster`, or makes no sense; the message has a line for each finding.
pub fn read(file: &Path) -> anyhow::Result<(ReplicatedCluster, ValidatedCluster)> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("read standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
    };
    let cluster = parse(&text).with_context(|| file.display().to_string())?;
    let mut findings = not_for_processes(&cluster.spec);
    match validate(&cluster) {
        Ok(validated) if findings.is_empty() => return Ok((cluster, validated)),
        Ok(_) => {}
        Err(wrong) => findings.splice(..0, wrong).for_each(drop),
    }
    bail!("{} is refused:\n{}", file.display(), lines(&findings))
}

/// A line for each finding.
pub fn lines(findings: &[Invalid]) -> String {
    let lines: Vec<String> = findings.iter().map(|f| format!("  {f}")).collect();
    lines.join("\n")
}

/// What local processes can't do, where going on without it would be wrong.
fn not_for_processes(spec: &ReplicatedClusterSpec) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let mut refuse = |path: &str, problem: &str, remedy: &str| {
        wrong.push(Invalid {
            path: path.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    };
    if spec.paused {
        refuse(
            "spec.paused",
            "a local operator does not pause",
            "end it with Ctrl-C or its SIGTERM; the databases go on",
        );
    }
    if spec.bootstrap.as_ref().is_some_and(|b| !b.sql.is_empty()) {
        refuse(
            "spec.bootstrap.sql",
            "local mode does not run it, and what relies on it would not be there",
            "remove it and run it with psql",
        );
    }
    wrong
}

/// Fields that were given and mean nothing to local processes, or nothing yet.
pub fn not_applied(spec: &ReplicatedClusterSpec) -> Vec<&'static str> {
    [
        ("spec.image", spec.image.is_some()),
        ("spec.imagePullPolicy", spec.image_pull_policy.is_some()),
        ("spec.imagePullSecrets", !spec.image_pull_secrets.is_empty()),
        ("spec.storage.class", spec.storage.class.is_some()),
        ("spec.resources", spec.resources.is_some()),
        ("spec.pgHba", !spec.pg_hba.is_empty()),
        ("spec.bootstrap", spec.bootstrap.is_some()),
        ("spec.affinity", spec.affinity.is_some()),
        (
            "spec.topologySpreadConstraints",
            !spec.topology_spread_constraints.is_empty(),
        ),
        ("spec.tolerations", !spec.tolerations.is_empty()),
        ("spec.nodeSelector", !spec.node_selector.is_empty()),
        ("spec.priorityClassName", spec.priority_class_name.is_some()),
        ("spec.serviceTemplate", spec.service_template.is_some()),
        ("spec.podMetadata", spec.pod_metadata.is_some()),
        ("spec.env", !spec.env.is_empty()),
    ]
    .into_iter()
    .filter(|(_, given)| *given)
    .map(|(path, _)| path)
    .collect()
}

fn parse(text: &str) -> anyhow::Result<ReplicatedCluster> {
    let value: serde_norway::Value = serde_norway::from_str(text).context("not YAML")?;
    let field = |name: &str| {
        value
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or("")
            .to_owned()
    };
    if field("apiVersion") != "understudy.dev/v1alpha1" {
        bail!(
            "apiVersion: \"{}\" is not known; write understudy.dev/v1alpha1",
            field("apiVersion")
        );
    }
    if field("kind") != "ReplicatedCluster" {
        bail!(
            "kind: \"{}\" is not known; write ReplicatedCluster",
            field("kind")
        );
    }
    if value.get("spec").is_none() {
        bail!("spec: is missing; give at least spec.storage.size");
    }
    // The parser's own message names the field; its path comes from the part that failed.
    for part in ["metadata", "spec"] {
        if value.get(part).is_some_and(|v| !v.is_mapping()) {
            bail!("{part}: must be a mapping of fields");
        }
    }
    let fields: serde_json::Value = serde_norway::from_str(text)?;
    let unknown = unknown_fields(&fields);
    if !unknown.is_empty() {
        bail!("it is refused:\n{}", lines(&unknown));
    }
    let mut cluster: ReplicatedCluster = serde_norway::from_str(text)?;
    // What decides is never taken from a file.
    cluster.status = None;
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(fields: &str) -> ReplicatedClusterSpec {
        let text = format!("{{storage: {{size: 1Gi}}, {fields}}}");
        serde_norway::from_str(&text).expect("a spec of this test parses")
    }

    #[test]
    fn what_means_nothing_to_processes_is_told() {
        assert_eq!(not_applied(&spec("")), [""; 0]);
        let given = spec("image: x, pgHba: [local all all peer], nodeSelector: {a: b}");
        assert_eq!(
            not_applied(&given),
            ["spec.image", "spec.pgHba", "spec.nodeSelector"]
        );
        let applied = spec(
            "failover: {lostAfterMilliseconds: 4000}, durability: strict, parameters: {work_mem: 1MB}",
        );
        assert_eq!(not_applied(&applied), [""; 0]);
    }

    #[test]
    fn a_typo_is_told_with_its_path() {
        let text = "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {name: a}\n\
                    spec: {storage: {size: 1Gi}, failover: {lostAfter: 3}}\n";
        let refused = parse(text).expect_err("refused").to_string();
        let told = "spec.failover.lostAfter: unknown field; ";
        assert!(refused.contains(told), "{refused}");
        parse(&text.replace("lostAfter: 3", "")).expect("taken");
    }

    #[test]
    fn what_would_be_missed_is_refused() {
        let wrong = not_for_processes(&spec("paused: true, bootstrap: {sql: [SELECT 1]}"));
        let paths: Vec<&str> = wrong.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["spec.paused", "spec.bootstrap.sql"]);
        assert!(not_for_processes(&spec("paused: false, bootstrap: {owner: me}")).is_empty());
    }
}
