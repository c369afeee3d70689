//! Pods' logs, kept while they are there.
//!
//! A kubelet removes a container's log with its pod, and the pods that have gone are those that a failed test is about.
//! So each log is linked into a folder beside the cluster's as soon as it is seen: a link costs nothing, grows with the
//! log, and stays when the kubelet's own name for it goes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use understudy_cluster::Cluster;
use understudy_cluster::layout::Layout;

const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct LogKeeper {
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LogKeeper {
    /// # Errors
    /// If the folder can't be made.
    pub fn start(cluster: &Cluster, name: &str) -> Result<LogKeeper> {
        let layout = Layout::new(cluster.dir())?;
        // On the disk that the logs are on.
        let folder = layout.dir().with_extension("pod-logs").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let pairs: Vec<(PathBuf, PathBuf)> = cluster
            .nodes()
            .iter()
            .map(|node| (layout.pod_logs(*node), folder.join(node.name())))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pod logs".to_owned())
            .spawn(move || {
                while !told.load(Ordering::Relaxed) {
                    for (from, to) in &pairs {
                        link_all(from, to);
                    }
                    std::thread::sleep(PAUSE);
                }
            })?;
        Ok(LogKeeper {
            folder,
            stop,
            thread: Some(thread),
        })
    }

    /// Where processes of a test's own may log as well.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Copies everything that was kept so far.
    ///
    /// # Errors
    /// If the folder can't be written.
    pub fn copy_to(&self, to: &Path) -> Result<()> {
        copy(&self.folder, to)
    }
}

impl Drop for LogKeeper {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
        // With the last test's.
        if let Some(all) = self.folder.parent() {
            let _ = fs::remove_dir(all);
        }
    }
}

/// Each file by its name and its number, since names are used again when logs are rotated. What goes meanwhile is left
/// out.
fn link_all(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            link_all(&path, &to.join(name));
        } else if metadata.is_file() {
            let target = to.join(format!("{}.{}", name.to_string_lossy(), metadata.ino()));
            if !target.exists() && fs::create_dir_all(to).is_ok() {
                let _ = fs::hard_link(&path, &target);
            }
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_kept_when_its_pod_goes_and_a_rotated_one_with_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, kept) = (dir.path().join("logs"), dir.path().join("kept"));
        let log = from.join("pod/database/0.log");
        fs::create_dir_all(log.parent().expect("a folder")).expect("made");
        fs::write(&log, "first").expect("written");
        link_all(&from, &kept);
        fs::rename(&log, from.join("pod/database/0.log.old")).expect("rotated");
        fs::write(&log, "second").expect("written");
        link_all(&from, &kept);
        fs::remove_dir_all(from.join("pod")).expect("removed");
        let copied = dir.path().join("copied");
        copy(&kept, &copied).expect("copied");
        let texts: std::collections::BTreeSet<String> = fs::read_dir(copied.join("pod/database"))
            .expect("a folder")
            .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("text"))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(texts, ["first", "second"]);
    }
}
