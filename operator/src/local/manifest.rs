//! Reading a manifest: every mistake is told with its path.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::crd::ReplicatedCluster;
use crate::validate::{ValidatedCluster, validate};

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
    match validate(&cluster) {
        Ok(validated) => Ok((cluster, validated)),
        Err(findings) => {
            let lines: Vec<String> = findings.iter().map(|f| format!("  {f}")).collect();
            bail!("{} is refused:\n{}", file.display(), lines.join("\n"))
        }
    }
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
    let mut cluster: ReplicatedCluster = serde_norway::from_str(text)?;
    // What decides is never taken from a file.
    cluster.status = None;
    Ok(cluster)
}
