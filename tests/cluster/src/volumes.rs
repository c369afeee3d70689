//! Volumes of the cluster: folders for most claims, filesystems of their own where a fault needs one.
//!
//! All are `local` PersistentVolumes made beforehand. Nothing in Kubernetes cleans such a volume when its claim goes:
//! it stays Released, with the claim's data, until [`Cluster::recycle_volumes`] makes it anew.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command::{in_mounts, run};
use crate::config::{DISK_CLASS, FOLDER_CLASS, VOLUME_LABEL, Volume};
use crate::layout::{Layout, Node};
use crate::state::{Disk, StateFile, Thing};

/// What a folder promises to hold: all share the machine's disk, so it is no limit.
const FOLDER_CAPACITY: &str = "20Gi";
/// ext4 with its journal is not to be had much smaller.
const SMALLEST_DISK_MIB: u32 = 32;
/// What [`Cluster::fill_disk`] puts on a disk.
const FILLER: &str = ".understudy-filler";

impl Cluster {
    /// Further folders for claims of the class `local`, so many on each node.
    ///
    /// # Errors
    /// If the API server refuses them.
    pub fn add_folders(&self, count: u8) -> Result<()> {
        let taken = self.volumes()?;
        let mut items = Vec::new();
        for node in &self.nodes {
            let names = (1u32..).map(|number| format!("{node}-folder-{number}"));
            let free = names.filter(|name| taken.iter().all(|(volume, _)| volume.name != *name));
            for name in free.take(usize::from(count)) {
                let volume = Volume {
                    path: self.layout.volumes(*node).join(&name),
                    name,
                    node: *node,
                    class: FOLDER_CLASS.to_owned(),
                    capacity: FOLDER_CAPACITY.to_owned(),
                };
                make_open_folder(&volume.path)?;
                items.push(volume.object());
            }
        }
        if !items.is_empty() {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            self.apply(&list.to_string())?;
        }
        Ok(())
    }

    /// A filesystem of its own on a node, for a claim of the class `disk`; gives the volume's name.
    ///
    /// # Errors
    /// If it is too small for a filesystem, or cannot be mounted.
    pub fn add_disk(&self, node: Node, mebibytes: u32) -> Result<String> {
        ensure!(
            mebibytes >= SMALLEST_DISK_MIB,
            "a disk of {mebibytes} MiB is too small: give it {SMALLEST_DISK_MIB} MiB or more"
        );
        let state = StateFile::of(&self.layout);
        let images = self.layout.node(node).join("disks");
        fs::create_dir_all(&images).with_context(|| format!("make {}", images.display()))?;
        let taken = state.existing()?;
        let mut names = (1u32..).map(|number| format!("{node}-disk-{number}"));
        let name = names
            .find(|name| taken.disks().all(|disk| disk.name != *name))
            .context("no name is free")?;
        let disk = Disk {
            image: images.join(format!("{name}.img")),
            path: self.layout.volumes(node).join(&name),
            name: name.clone(),
            node,
            frozen: false,
        };
        state.record(Thing::Disk(disk.clone()))?;
        let file = fs::File::create(&disk.image);
        let file = file.with_context(|| format!("make {}", disk.image.display()))?;
        file.set_len(u64::from(mebibytes) << 20)?;
        let mut mkfs = crate::command::system("mkfs.ext4");
        run(mkfs.args(["-q", "-m", "0"]).arg(&disk.image))?;
        mount(&self.layout, &disk)?;
        let volume = Volume {
            name: name.clone(),
            node,
            class: DISK_CLASS.to_owned(),
            path: disk.path,
            capacity: format!("{mebibytes}Mi"),
        };
        self.apply(&volume.object().to_string())?;
        Ok(name)
    }

    /// Every volume of the cluster's own, with its phase (`Available`, `Bound`, `Released`).
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn volumes(&self) -> Result<Vec<(Volume, String)>> {
        let list = self.kubectl_json(&["get", "persistentvolumes", "-l", VOLUME_LABEL])?;
        let items = list["items"].as_array().into_iter().flatten();
        let phase = |item: &Value| {
            item["status"]["phase"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(items
            .filter_map(|item| Some((Volume::from_object(item)?, phase(item))))
            .collect())
    }

    /// Empties every volume whose claim is gone and makes it available again; gives their names. A pod that was force-
    /// deleted from a node that is cut off may still run: what it goes on writing is lost with the old folder.
    ///
    /// # Errors
    /// If one cannot be emptied: a frozen disk has to be thawed first.
    pub fn recycle_volumes(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for (volume, phase) in self.volumes()? {
            if phase != "Released" && phase != "Failed" {
                continue;
            }
            let (name, path) = (&volume.name, &volume.path);
            self.kubectl(&["delete", "persistentvolume", name])?;
            let failed = || format!("empty {}", path.display());
            if volume.class == DISK_CLASS {
                let namespace = self.layout.mount_namespace(volume.node);
                let mut find = in_mounts(&namespace, "find");
                find.arg(path).args(["-mindepth", "1", "-delete"]);
                run(&mut find).with_context(failed)?;
            } else {
                fs::remove_dir_all(path).with_context(failed)?;
                make_open_folder(path)?;
            }
            self.apply(&volume.object().to_string())?;
            done.push(volume.name);
        }
        Ok(done)
    }

    fn disk(&self, name: &str) -> Result<Disk> {
        let state = StateFile::of(&self.layout).existing()?;
        let disk = state.disks().find(|disk| disk.name == name).cloned();
        disk.with_context(|| format!("{name} is no disk of this cluster; `add_disk` makes one"))
    }

    /// A program that sees a node's files as the node's own programs do: volumes are at their paths.
    pub fn in_files_of(
        &self,
        node: Node,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> std::process::Command {
        in_mounts(&self.layout.mount_namespace(node), program)
    }

    /// Fills a disk until only so many bytes are left.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn fill_disk(&self, name: &str, left: u64) -> Result<()> {
        let disk = self.disk(name)?;
        let mut df = self.in_files_of(disk.node, "df");
        df.args(["--output=avail", "--block-size=1"])
            .arg(&disk.path);
        let text = run(&mut df)?;
        let free = text
            .lines()
            .nth(1)
            .and_then(|line| line.trim().parse::<u64>().ok());
        let free = free.with_context(|| format!("df printed {text:?}"))?;
        let filler = disk.path.join(FILLER);
        if free > left {
            let mut fallocate = self.in_files_of(disk.node, "fallocate");
            // Behind what an earlier call put there.
            let end = self.size(&disk, &filler) + free - left;
            fallocate.args(["--length", &end.to_string()]);
            run(fallocate.arg(&filler))?;
        }
        Ok(())
    }

    fn size(&self, disk: &Disk, file: &Path) -> u64 {
        let mut stat = self.in_files_of(disk.node, "stat");
        let text = run(stat.args(["--format=%s"]).arg(file));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Takes away what [`Cluster::fill_disk`] put there.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn empty_disk(&self, name: &str) -> Result<()> {
        let disk = self.disk(name)?;
        let mut rm = self.in_files_of(disk.node, "rm");
        run(rm.arg("-f").arg(disk.path.join(FILLER))).map(drop)
    }

    /// From now on nothing that is written to the disk completes. Its writers hang, and not even SIGKILL ends them,
    /// until [`Cluster::thaw_disk`].
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn freeze_disk(&self, name: &str) -> Result<()> {
        // Written down first: taking down thaws it, however this ends.
        self.set_frozen(name, true)?;
        let frozen = self.fsfreeze(name, "--freeze");
        // One that was frozen already is busy.
        if let Err(error) = &frozen
            && !format!("{error:#}").contains("busy")
        {
            self.set_frozen(name, false)?;
        }
        frozen
    }

    /// # Errors
    /// If there is no such disk, or it is not frozen.
    pub fn thaw_disk(&self, name: &str) -> Result<()> {
        self.fsfreeze(name, "--unfreeze")?;
        self.set_frozen(name, false)
    }

    fn fsfreeze(&self, name: &str, option: &str) -> Result<()> {
        let disk = self.disk(name)?;
        let mut fsfreeze = self.in_files_of(disk.node, "fsfreeze");
        run(fsfreeze.arg(option).arg(&disk.path)).map(drop)
    }

    fn set_frozen(&self, name: &str, frozen: bool) -> Result<()> {
        StateFile::of(&self.layout).update(|state| {
            for thing in &mut state.things {
                if let Thing::Disk(disk) = thing
                    && disk.name == name
                {
                    disk.frozen = frozen;
                }
            }
        })
    }
}

/// Pods run as whom they like, so anybody may write there.
fn make_open_folder(path: &Path) -> Result<()> {
    let failed = || format!("make {}", path.display());
    fs::create_dir_all(path).with_context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).with_context(failed)
}

/// Mounts a disk on its node. The mount, and the loop device with it, goes with the node's mount namespace.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn mount(layout: &Layout, disk: &Disk) -> Result<()> {
    fs::create_dir_all(&disk.path).with_context(|| format!("make {}", disk.path.display()))?;
    let namespace = layout.mount_namespace(disk.node);
    let mut mount = in_mounts(&namespace, "mount");
    mount.args(["-o", "loop"]).arg(&disk.image).arg(&disk.path);
    run(&mut mount).with_context(|| format!("mount the disk {}", disk.name))?;
    let mut chmod = in_mounts(&namespace, "chmod");
    run(chmod.arg("0777").arg(&disk.path)).map(drop)
}
