//! Files that Kubernetes puts into the pod and changes under it: certificates and passwords.
//!
//! A change is seen by what they hold: Secrets are swapped by a symbolic link, and times of files say little there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(2);

pub type Fingerprint = [u8; 32];

#[derive(Debug)]
pub struct Mounted {
    files: Vec<PathBuf>,
    seen: Fingerprint,
    looked_at: Instant,
}

impl Mounted {
    pub fn new(files: Vec<PathBuf>) -> Mounted {
        Mounted {
            seen: fingerprint(&files),
            files,
            looked_at: Instant::now(),
        }
    }

    /// The files of the TLS folder.
    pub fn tls(folder: &Path) -> Vec<PathBuf> {
        [
            "ca.crt",
            "server.crt",
            "server.key",
            "client.crt",
            "client.key",
        ]
        .map(|name| folder.join(name))
        .to_vec()
    }

    /// Whether they hold something else than when this was last asked; looks now and then only.
    pub fn has_changed(&mut self) -> bool {
        self.looked_at.elapsed() >= PAUSE && self.has_changed_now()
    }

    fn has_changed_now(&mut self) -> bool {
        self.looked_at = Instant::now();
        let now = fingerprint(&self.files);
        std::mem::replace(&mut self.seen, now) != now
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.seen
    }
}

fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let mut sum = Sha256::new();
    for file in files {
        // One that is missing for a moment counts as another content.
        let bytes = std::fs::read(file).unwrap_or_default();
        sum.update(bytes.len().to_be_bytes());
        sum.update(bytes);
    }
    sum.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kubelet does it: a link to a folder is replaced.
    #[test]
    fn a_secret_that_is_swapped_is_seen_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        for (folder, text) in [("one", "a"), ("two", "b")] {
            std::fs::create_dir(path(folder)).expect("made");
            std::fs::write(path(folder).join("password"), text).expect("written");
        }
        std::os::unix::fs::symlink("one", path("data")).expect("linked");
        let mut mounted = Mounted::new(vec![path("data/password")]);
        assert!(!mounted.has_changed_now());
        std::os::unix::fs::symlink("two", path("next")).expect("linked");
        std::fs::rename(path("next"), path("data")).expect("swapped");
        assert!(mounted.has_changed_now());
        assert!(!mounted.has_changed_now());
    }
}
