//! A pod with PostgreSQL's own clients, for what a user does from inside: it has nothing but the `-app` Secret.
//!
//! Its image is made of this machine's psql and pgbench with the libraries that they ask for, and busybox as a shell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use understudy_cluster::image::{Entry, Image, REGISTRY};
use understudy_tests::programs::{POSTGRES_BIN, postgres};

use crate::space::Space;

const BUSYBOX: &str = "/bin/busybox";
const PROGRAMS: [&str; 2] = ["psql", "pgbench"];
/// What a test's scripts use besides.
const APPLETS: [&str; 7] = ["sh", "sleep", "cat", "true", "env", "timeout", "nc"];

fn image_name() -> String {
    format!("{REGISTRY}/postgres-clients:15")
}

/// The files that `ldd` says a program is linked with, by the paths at which they are looked for.
fn libraries(ldd: &str) -> BTreeSet<PathBuf> {
    let paths = ldd.lines().filter_map(|line| {
        let path = match line.split_once("=>") {
            Some((_, path)) => path,
            None => line,
        };
        let path = path.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    paths.collect()
}

fn ldd(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("run ldd")?;
    anyhow::ensure!(output.status.success(), "ldd {}", program.display());
    Ok(libraries(&String::from_utf8_lossy(&output.stdout)))
}

fn in_image(path: &Path) -> String {
    path.display()
        .to_string()
        .trim_start_matches('/')
        .to_owned()
}

/// Makes the image and gives it to every node.
///
/// # Errors
/// If a program or a library of it is not on this machine.
pub fn provide(space: &Space) -> Result<()> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    files.insert("bin/busybox".to_owned(), PathBuf::from(BUSYBOX));
    for name in PROGRAMS {
        let program = postgres(name);
        for library in ldd(&program)? {
            files.insert(in_image(&library), library);
        }
        files.insert(in_image(&program), program);
    }
    let mut folders: BTreeMap<String, u32> = BTreeMap::from([("tmp".to_owned(), 0o1777)]);
    for path in files.keys() {
        for folder in Path::new(path).ancestors().skip(1) {
            if folder.components().next().is_some() {
                folders.entry(in_image(folder)).or_insert(0o755);
            }
        }
    }
    // Sorted, so that each folder stands before what is in it.
    let mut entries: Vec<Entry> = folders
        .into_iter()
        .map(|(to, mode)| Entry::Folder { to, mode })
        .collect();
    entries.extend(files.into_iter().map(|(to, from)| Entry::File {
        from,
        to,
        mode: 0o755,
    }));
    entries.extend(APPLETS.map(|applet| Entry::Link {
        to: format!("bin/{applet}"),
        target: "busybox".to_owned(),
    }));
    let image = Image {
        name: image_name(),
        entries,
        entrypoint: vec!["/bin/busybox".to_owned()],
        user: "65532:65532".to_owned(),
    };
    let archive = space.log_folder().join("postgres-clients.tar");
    image.write(&archive)?;
    let imported = space.cluster.import_image(&archive);
    // It is no log of anybody's.
    let _ = std::fs::remove_file(&archive);
    imported
}

/// A pod that sleeps, with the Secret's `uri` in its environment and the authority's certificate in a file, in the
/// space's namespace. The Pod Security level there is *restricted*.
///
/// # Errors
/// If it does not become ready.
pub fn start(space: &Space, name: &str, app_secret: &str) -> Result<()> {
    let value = |key: &str| json!({"secretKeyRef": {"name": app_secret, "key": key}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": space.name},
        "spec": {
            "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "client", "image": image_name(), "imagePullPolicy": "Never",
                "command": ["/bin/busybox", "sleep", "86400"],
                "env": [
                    {"name": "URI", "valueFrom": value("uri")},
                    {"name": "PGSSLROOTCERT", "value": "/app/ca.crt"},
                    {"name": "PATH", "value": format!("{POSTGRES_BIN}:/bin")},
                    {"name": "HOME", "value": "/nonexistent"},
                ],
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                    "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "app", "mountPath": "/app", "readOnly": true}],
            }],
            "volumes": [{"name": "app", "secret": {"secretName": app_secret}}],
        },
    });
    space.apply(&pod.to_string())?;
    let ready = format!("pod/{name}");
    space.try_kubectl(&["wait", "--for=condition=Ready", &ready, "--timeout=120s"])?;
    Ok(())
}

/// A line of shell in such a pod.
///
/// # Errors
/// With what it said.
pub fn shell(space: &Space, name: &str, line: &str) -> Result<String> {
    space.try_kubectl(&["exec", name, "--", "/bin/busybox", "sh", "-c", line])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let text = "\tlinux-vdso.so.1 (0x00007ff3ada95000)\n\
            \tlibpq.so.5 => /lib/x86_64-linux-gnu/libpq.so.5 (0x00007ff3ad96e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007ff3ada97000)\n\tlibnone.so => not found\n";
        let found: Vec<String> = libraries(text).iter().map(|path| in_image(path)).collect();
        assert_eq!(
            found,
            [
                "lib/x86_64-linux-gnu/libpq.so.5",
                "lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
