//! The programs of the cluster: Kubernetes, helm and CoreDNS built from pinned Go modules, everything else Debian's.
//!
//! What is built lands in a cache folder named after everything that decides on its content. It is built beside it, one
//! program after the other, each renamed into place when it is whole, and the folder is renamed when all are there: what
//! was cut off goes on where it was, and never looks complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::command::{SYSTEM_PATH, run, system};
use crate::image;
use crate::layout::cache;
use crate::progress::Progress;

pub const KUBERNETES_VERSION: &str = "1.34.4";
/// The least Go that builds all of it: helm and CoreDNS ask for this one, Kubernetes for an older.
const LEAST_GO: &str = "1.26";
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
const COREDNS: &str = "github.com/coredns/coredns@v1.15.0";

const GO_MOD: &str = include_str!("../go/go.mod");
const GO_SUM: &str = include_str!("../go/go.sum");
const TOOLS_GO: &str = include_str!("../go/tools.go");
const PAUSE_C: &str = include_str!("pause.c");

/// Of `k8s.io/kubernetes/cmd/`, the smallest first: what does not build is seen early.
const OF_KUBERNETES: [&str; 6] = [
    "kubectl",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "kube-controller-manager",
    "kube-apiserver",
];

/// Debian's programs: name, package.
const OF_DEBIAN: [(&str, &str); 20] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("taskset", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("fsfreeze", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("busybox", "busybox-static"),
    ("timeout", "coreutils"),
];
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Built programs, all there.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds what is not in the cache; the first time on a machine that takes a quarter of an hour.
    ///
    /// # Errors
    /// If Go or a C compiler is missing, or a build fails.
    pub fn built(progress: &Progress) -> Result<Programs> {
        let cache = cache()?;
        let programs = Programs {
            folder: cache.join(key()),
        };
        if programs.folder.is_dir() {
            return Ok(programs);
        }
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        let lock = File::create(cache.join("build.lock")).context("lock the cache")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.say("another command is building the programs; waiting for it");
            flock(&lock, FlockOperation::LockExclusive).context("lock the cache")?;
        }
        if !programs.folder.is_dir() {
            let build = Build {
                folder: cache.join(format!("{}.partial", key())),
                progress,
            };
            build.all()?;
            fs::rename(&build.folder, &programs.folder)
                .with_context(|| format!("make {}", programs.folder.display()))?;
        }
        Ok(programs)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The OCI archives that each node gets.
    pub fn images(&self) -> Vec<PathBuf> {
        image::OF_THE_CLUSTER
            .iter()
            .map(|image| self.folder.join(image.archive))
            .collect()
    }
}

/// Everything that decides on what is built.
fn key() -> String {
    let mut hash = Sha256::new();
    for part in [
        GO_MOD,
        GO_SUM,
        TOOLS_GO,
        PAUSE_C,
        HELM,
        COREDNS,
        LAYOUT_OF_CACHE,
    ] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let hash: String = hash.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("v{KUBERNETES_VERSION}-{hash}")
}

/// Changed when the way of building changes.
const LAYOUT_OF_CACHE: &str = "1";

/// # Errors
/// Names the packages of all programs that are missing.
pub fn check_debian() -> Result<()> {
    let has = |name: &str| {
        let mut folders = SYSTEM_PATH.split(':');
        folders.any(|folder| Path::new(folder).join(name).is_file())
    };
    let mut missing: Vec<&str> = OF_DEBIAN
        .iter()
        .filter(|(name, _)| !has(name))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI_PLUGINS).join("bridge").is_file() {
        missing.push("containernetworking-plugins");
    }
    missing.dedup();
    ensure!(
        missing.is_empty(),
        "these Debian packages are missing: {}; `make setup-cluster` installs them",
        missing.join(" ")
    );
    Ok(())
}

struct Build<'a> {
    /// Where whole programs are gathered.
    folder: PathBuf,
    progress: &'a Progress,
}

impl Build<'_> {
    fn all(&self) -> Result<()> {
        self.progress.say(&format!(
            "building Kubernetes {KUBERNETES_VERSION}, helm and CoreDNS into {}: once on a machine, about a quarter \
             of an hour on two cores",
            self.folder.display()
        ));
        let source = self.folder.join("source");
        fs::create_dir_all(&source).with_context(|| format!("make {}", source.display()))?;
        for (name, text) in [
            ("go.mod", GO_MOD),
            ("go.sum", GO_SUM),
            ("tools.go", TOOLS_GO),
            ("pause.c", PAUSE_C),
        ] {
            fs::write(source.join(name), text).with_context(|| format!("write {name}"))?;
        }
        self.once("pause", |target| pause(&source, target))?;
        for name in OF_KUBERNETES {
            self.once(name, |target| kubernetes(&source, name, target))?;
        }
        self.once("helm", |target| module(HELM, "helm", target))?;
        self.once("coredns", |target| module(COREDNS, "coredns", target))?;
        for image in &image::OF_THE_CLUSTER {
            self.once(image.archive, |target| image.write(&self.folder, target))?;
        }
        fs::remove_dir_all(&source).with_context(|| format!("remove {}", source.display()))
    }

    /// Makes one file, unless it is there.
    fn once(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let whole = self.folder.join(name);
        if whole.is_file() {
            return Ok(());
        }
        self.progress.say(&format!("building {name} ..."));
        let begin = Instant::now();
        let part = self.folder.join(format!("{name}.new"));
        make(&part).with_context(|| format!("build {name}"))?;
        fs::rename(&part, &whole).with_context(|| format!("make {}", whole.display()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let bytes = whole.metadata().map_or(0, |file| file.len());
        self.progress.say(&format!(
            "built {name}: {seconds:.0} s, {} MB",
            bytes / 1_000_000
        ));
        Ok(())
    }
}

fn pause(source: &Path, target: &Path) -> Result<()> {
    let mut cc = system("cc");
    cc.args(["-static", "-Os", "-s", "-Wall", "-Werror", "-o"]);
    run(cc.arg(target).arg(source.join("pause.c"))).map(drop)
}

/// Go, with the caller's environment (where modules come from) and without what would change what is built.
fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(folder).env("CGO_ENABLED", "0");
    command.env_remove("GOOS").env_remove("GOARCH");
    command.env_remove("GOBIN").env("GOWORK", "off");
    command.stdin(Stdio::null());
    command
}

fn run_go(command: &mut Command) -> Result<()> {
    match run(command) {
        Ok(_) => Ok(()),
        Err(error) if error.root_cause().is::<std::io::Error>() => {
            bail!("Go is needed to build Kubernetes: install Go {LEAST_GO} or later ({error:#})")
        }
        Err(error) => Err(error),
    }
}

fn kubernetes(source: &Path, name: &str, target: &Path) -> Result<()> {
    let (major, rest) = KUBERNETES_VERSION.split_once('.').unwrap_or_default();
    let (minor, _) = rest.split_once('.').unwrap_or_default();
    let base = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {base}.gitVersion=v{KUBERNETES_VERSION} -X {base}.gitMajor={major} -X {base}.gitMinor={minor}"
    );
    let mut command = go(source);
    // Whose repository the cache may lie in is nobody's business.
    command.args(["build", "-trimpath", "-buildvcs=false"]);
    command.args(["-ldflags", flags.as_str(), "-o"]);
    run_go(
        command
            .arg(target)
            .arg(format!("k8s.io/kubernetes/cmd/{name}")),
    )
}

/// A program that is its own main module.
fn module(module: &str, name: &str, target: &Path) -> Result<()> {
    let folder = target.with_extension("go");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut command = go(&folder);
    command.env("GOBIN", &folder);
    run_go(command.args(["install", "-trimpath", "-ldflags", "-s -w", module]))?;
    fs::rename(folder.join(name), target).with_context(|| format!("make {name}"))?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_pin_the_version_that_is_named() {
        assert!(GO_MOD.contains(&format!("k8s.io/kubernetes v{KUBERNETES_VERSION}")));
        assert!(GO_SUM.contains(&format!("k8s.io/kubernetes v{KUBERNETES_VERSION} h1:")));
        for name in OF_KUBERNETES {
            assert!(
                TOOLS_GO.contains(&format!("k8s.io/kubernetes/cmd/{name}\"")),
                "tools.go does not name {name}"
            );
        }
        // Kubernetes' own modules are its staging folders: each has to be of its release.
        let (_, minor_and_patch) = KUBERNETES_VERSION.split_once('.').expect("a version");
        let replaced: Vec<&str> = GO_MOD.lines().filter(|l| l.contains("=>")).collect();
        assert!(replaced.len() > 20, "the replace block is gone");
        for line in replaced {
            assert!(line.ends_with(&format!(" v0.{minor_and_patch}")), "{line}");
        }
    }

    /// They are asked before anything is built.
    #[test]
    fn the_scripts_ask_for_the_same_go() {
        let setup = include_str!("../../../scripts/setup-cluster.sh");
        assert!(setup.contains(&format!("\nleast={LEAST_GO}\n")), "{setup}");
        let helm = include_str!("../../../scripts/helm.sh");
        assert!(helm.contains(&format!("Go {LEAST_GO} or later")), "{helm}");
    }

    #[test]
    fn the_key_names_the_version() {
        assert!(key().starts_with("v1.34.4-"), "{}", key());
        assert_eq!(key(), key());
    }
}
