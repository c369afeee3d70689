//! What is kept when a test fails: the logs of all programs and pods, and what the API server says there is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;

/// What is asked, and the file for the answer.
const QUESTIONS: [(&str, &[&str]); 6] = [
    ("all.txt", &["get", "all,pv,pvc,nodes", "-A", "-o", "wide"]),
    (
        "events.txt",
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
    ),
    ("nodes.txt", &["describe", "nodes"]),
    ("pods.txt", &["describe", "pods", "-A"]),
    ("pods.yaml", &["get", "pods", "-A", "-o", "yaml"]),
    ("leases.txt", &["get", "leases", "-A"]),
];

impl Cluster {
    /// Copies everything that tells what happened into a folder, and gives its path. What cannot be had (the API server
    /// may be away) is left out, and why is written in its place.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn keep_evidence(&self, folder: &Path) -> Result<PathBuf> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        copy(&self.layout.logs(), &folder.join("programs"))?;
        for node in &self.nodes {
            copy(
                &self.layout.pod_logs(*node),
                &folder.join("pods").join(node.name()),
            )?;
        }
        fs::copy(self.layout.state(), folder.join("state.json")).context("copy state.json")?;
        for (file, question) in QUESTIONS {
            let limit = ["--request-timeout=10s"];
            let answer = match self.kubectl(&[question, &limit].concat()) {
                Ok(text) => text,
                Err(error) => format!("not to be had: {error:#}\n"),
            };
            fs::write(folder.join(file), answer).with_context(|| format!("write {file}"))?;
        }
        Ok(folder)
    }
}

/// Copies a folder. Logs are rotated and pods come and go while this runs: what has gone is left out.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy(&entry.path(), &target)?,
            Ok(kind) if kind.is_file() => drop(fs::copy(entry.path(), target)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_copied_with_all_below_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a/b")).expect("made");
        fs::write(from.join("a/b/0.log"), "line").expect("written");
        std::os::unix::fs::symlink("nowhere", from.join("dangling")).expect("made");
        let to = dir.path().join("to");
        copy(&from, &to).expect("copied");
        let text = fs::read_to_string(to.join("a/b/0.log"));
        assert_eq!(text.expect("there"), "line");
        copy(&dir.path().join("missing"), &to).expect("nothing to copy");
    }
}
