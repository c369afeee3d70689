//! Container images without a registry: OCI archives written from files of this machine.
//!
//! An archive is a tar of an OCI image layout with one layer; `ctr images import` takes the image's name from an
//! annotation. Times and owners are fixed, so the same files give the same bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command::{run, system};

/// The registry in the names of our images; there is none of that name, so nothing is ever pulled.
pub const REGISTRY: &str = "understudy.local";
pub const PAUSE: &str = "understudy.local/pause:1";
pub const COREDNS: &str = "understudy.local/coredns:1.15.0";
/// A shell and the usual small programs (busybox), for clients in pods.
pub const TOOLBOX: &str = "understudy.local/toolbox:1";

/// Who runs in an image unless the pod says otherwise.
const NOBODY: &str = "65532:65532";

/// A file of an image.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A program or file: where it comes from, and where it is in the image.
    File {
        from: PathBuf,
        to: String,
        mode: u32,
    },
    Link {
        to: String,
        target: String,
    },
    Folder {
        to: String,
        mode: u32,
    },
}

/// An image to be written. Paths in it have no leading slash.
#[derive(Clone, Debug)]
pub struct Image {
    /// With registry and tag.
    pub name: String,
    pub entries: Vec<Entry>,
    pub entrypoint: Vec<String>,
    pub user: String,
}

impl Image {
    /// Writes an OCI archive.
    ///
    /// # Errors
    /// If a file of the image cannot be read, or the archive not written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let layer = self.layer()?;
        let config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {
                "User": self.user, "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "understudy"}],
        });
        let config = serde_json::to_vec(&config)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let mut named = descriptor(MANIFEST, &manifest);
        named["annotations"] = json!({
            "io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name,
        });
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [named]}))?;
        let file = File::create(archive).with_context(|| format!("make {}", archive.display()))?;
        let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
        append(
            &mut tar,
            "oci-layout",
            b"{\"imageLayoutVersion\": \"1.0.0\"}",
            0o644,
        )?;
        append(&mut tar, "index.json", &index, 0o644)?;
        for blob in [&config, &manifest, &layer] {
            let path = format!("blobs/{}", digest(blob).replace(':', "/"));
            append(&mut tar, &path, blob, 0o644)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            match entry {
                Entry::File { from, to, mode } => {
                    let bytes =
                        fs::read(from).with_context(|| format!("read {}", from.display()))?;
                    append(&mut tar, to, &bytes, *mode)?;
                }
                Entry::Link { to, target } => {
                    let mut header = header(tar::EntryType::Symlink, 0, 0o777);
                    tar.append_link(&mut header, to, target)?;
                }
                Entry::Folder { to, mode } => {
                    let mut header = header(tar::EntryType::Directory, 0, *mode);
                    tar.append_data(&mut header, to, std::io::empty())?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, bytes.len(), mode);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

/// As Go and OCI name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image that every cluster has, made from the programs in the cache.
#[derive(Debug)]
pub struct OfTheCluster {
    pub archive: &'static str,
    name: &'static str,
    /// In the cache, or an absolute path of the machine.
    program: &'static str,
    /// The program is busybox, and is found under the names of all that it can do.
    is_toolbox: bool,
}

pub const OF_THE_CLUSTER: [OfTheCluster; 3] = [
    OfTheCluster {
        archive: "pause.tar",
        name: PAUSE,
        program: "pause",
        is_toolbox: false,
    },
    OfTheCluster {
        archive: "coredns.tar",
        name: COREDNS,
        program: "coredns",
        is_toolbox: false,
    },
    OfTheCluster {
        archive: "toolbox.tar",
        name: TOOLBOX,
        program: "/bin/busybox",
        is_toolbox: true,
    },
];

impl OfTheCluster {
    /// # Errors
    /// As [`Image::write`].
    pub fn write(&self, programs: &Path, archive: &Path) -> Result<()> {
        let from = programs.join(self.program);
        let program = from.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("bin/{program}");
        let folder = |to: &str, mode| Entry::Folder {
            to: to.to_owned(),
            mode,
        };
        let mut entries = vec![folder("bin", 0o755), folder("tmp", 0o1777)];
        entries.push(Entry::File {
            from: from.clone(),
            to: path.clone(),
            mode: 0o755,
        });
        if self.is_toolbox {
            let applets = run(system(&from).arg("--list"))?;
            let applets = applets.lines().filter(|applet| *applet != program);
            entries.extend(applets.map(|applet| Entry::Link {
                to: format!("bin/{applet}"),
                target: program.clone().into_owned(),
            }));
        }
        let image = Image {
            name: self.name.to_owned(),
            entries,
            entrypoint: vec![format!("/{path}")],
            user: NOBODY.to_owned(),
        };
        image.write(archive)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Read as _;

    use super::*;

    fn files(archive: &[u8]) -> HashMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(archive);
        let entries = tar.entries().expect("a tar");
        entries
            .map(|entry| {
                let mut entry = entry.expect("whole");
                let path = entry.path().expect("a path").display().to_string();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("readable");
                (path, bytes)
            })
            .collect()
    }

    #[test]
    fn each_blob_of_an_archive_is_what_its_digest_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("program");
        fs::write(&program, "not really").expect("written");
        let image = Image {
            name: format!("{REGISTRY}/thing:2"),
            entries: vec![
                Entry::Folder {
                    to: "tmp".to_owned(),
                    mode: 0o1777,
                },
                Entry::File {
                    from: program,
                    to: "bin/program".to_owned(),
                    mode: 0o755,
                },
                Entry::Link {
                    to: "bin/other".to_owned(),
                    target: "program".to_owned(),
                },
            ],
            entrypoint: vec!["/bin/program".to_owned()],
            user: NOBODY.to_owned(),
        };
        let archive = dir.path().join("image.tar");
        image.write(&archive).expect("written");
        let bytes = fs::read(&archive).expect("there");
        let again = dir.path().join("again.tar");
        image.write(&again).expect("written");
        assert_eq!(
            bytes,
            fs::read(&again).expect("there"),
            "not the same bytes"
        );

        let files = files(&bytes);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(super::digest(bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
        let named = &index["manifests"][0];
        let annotation = &named["annotations"]["io.containerd.image.name"];
        assert_eq!(annotation, "understudy.local/thing:2");
        let manifest: Value = serde_json::from_slice(&blob(named)).expect("JSON");
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).expect("JSON");
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], super::digest(&layer));
        let layer = self::files(&layer);
        assert_eq!(layer["bin/program"], b"not really");
        assert!(layer.contains_key("bin/other") && layer.contains_key("tmp"));
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = OF_THE_CLUSTER[0].write(dir.path(), &dir.path().join("a.tar"));
        let text = format!("{:#}", error.expect_err("there is no program"));
        assert!(text.contains("pause"), "{text}");
    }
}
