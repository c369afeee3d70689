//! The layout of an instance's volume.
//!
//! ```text
//! instance.json   what the operator says of it        promise.json   the promise (api/promise.rs)
//! lock            held by the supervisor for life     data.id        whose copy `data` is
//! data/           the engine's data directory         seed.tmp/      a seed under way
//! aside/          copies that were given up           trigger        the promotion trigger file
//! engine.log supervisor.log seed.log            upstream.json  where the primary of a term was said to be
//! cluster.json    the last valid cluster object    probe         written to see whether writes complete
//! ```
//! `data` appears by rename when it is complete, and `data.id` after it: a crash in between leaves a `data` that is
//! not this copy's, which is set aside and seeded again. A copy that was given up is kept for
//! [`KEEP_ASIDE`], the newest two of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::api::Promise;
use crate::durable;
use crate::ids::{InstanceId, Millis};

/// How long a copy that was given up is kept.
pub const KEEP_ASIDE: Duration = Duration::from_secs(24 * 3600);
const KEEP_ASIDE_COPIES: usize = 2;

#[derive(Clone, Debug)]
pub struct Volume {
    dir: PathBuf,
}

impl Volume {
    pub fn new(dir: &Path) -> Volume {
        Volume {
            dir: dir.to_path_buf(),
        }
    }
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn config(&self) -> PathBuf {
        self.dir.join("instance.json")
    }
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
    pub fn seed(&self) -> PathBuf {
        self.dir.join("seed.tmp")
    }
    pub fn promise_file(&self) -> PathBuf {
        self.dir.join("promise.json")
    }
    pub fn trigger(&self) -> PathBuf {
        self.dir.join("trigger")
    }
    pub fn log(&self, of: &str) -> PathBuf {
        self.dir.join(format!("{of}.log"))
    }
    /// On Kubernetes: the last valid cluster object.
    pub fn cluster(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }
    /// On Kubernetes: where the primary is, as it was told with a term.
    pub fn upstream(&self) -> PathBuf {
        self.dir.join("upstream.json")
    }
    /// On Kubernetes: written to see whether the volume completes writes.
    pub fn probe(&self) -> PathBuf {
        self.dir.join("probe")
    }
    fn data_id(&self) -> PathBuf {
        self.dir.join("data.id")
    }
    fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }

    /// The promise; none on a volume that is new.
    ///
    /// # Errors
    /// Also when the promise is damaged or gone while the volume holds data: what was promised can't be guessed.
    pub fn load_promise(&self) -> io::Result<Option<Promise>> {
        let remedy = format!(
            "what this instance has promised can't be guessed: restore the file, or move {} away so that the operator \
             makes the instance anew from the primary",
            self.dir.display()
        );
        let path = self.promise_file();
        let promise = durable::read_json(&path, &remedy)?;
        if promise.is_none() && (self.data_id().exists() || self.data().exists()) {
            let text = format!("{} is missing; {remedy}", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(promise)
    }
    pub fn store_promise(&self, promise: &Promise) -> io::Result<()> {
        let bytes = serde_json::to_vec(promise).map_err(io::Error::other)?;
        durable::replace(&self.promise_file(), &bytes)
    }

    /// Whether `data` is complete and is the copy `id`.
    pub fn holds(&self, id: &InstanceId) -> io::Result<bool> {
        let owner = durable::read(&self.data_id())?;
        Ok(self.data().is_dir() && owner.as_deref() == Some(id.as_str().as_bytes()))
    }
    /// A complete seed becomes the data of the copy `id`.
    pub fn adopt_seed(&self, id: &InstanceId) -> io::Result<()> {
        durable::rename(&self.seed(), &self.data())?;
        durable::replace(&self.data_id(), id.as_str().as_bytes())
    }
    /// Moves whatever `data` is out of the way.
    pub fn set_data_aside(&self) -> io::Result<()> {
        if !self.data().exists() {
            return Ok(());
        }
        std::fs::create_dir_all(self.aside())?;
        let name = format!("data.{}", Millis::now().raw());
        durable::rename(&self.data(), &self.aside().join(name))
    }
    /// Removes copies that were set aside long ago, and all but the newest two.
    pub fn clean_aside(&self) -> io::Result<()> {
        if !self.aside().is_dir() {
            return Ok(());
        }
        let mut copies = Vec::new();
        for entry in std::fs::read_dir(self.aside())? {
            let entry = entry?;
            let age = SystemTime::now()
                .duration_since(entry.metadata()?.modified()?)
                .unwrap_or_default();
            copies.push((entry.file_name(), entry.path(), age));
        }
        copies.sort_by(|a, b| b.0.cmp(&a.0));
        for (place, (_, path, age)) in copies.into_iter().enumerate() {
            if place >= KEEP_ASIDE_COPIES || age > KEEP_ASIDE {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Removes every copy that was set aside: none of them holds what is nowhere else.
    pub fn drop_aside(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.aside()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
    /// Bytes of the newest copy that was set aside: about what the next one will need.
    pub fn newest_aside_bytes(&self) -> io::Result<Option<u64>> {
        if !self.aside().is_dir() {
            return Ok(None);
        }
        let mut copies: Vec<PathBuf> = std::fs::read_dir(self.aside())?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        copies.sort();
        copies.last().map(|copy| bytes_below(copy)).transpose()
    }

    /// Whether the data directory starts as a standby's.
    pub fn is_standby(&self) -> bool {
        self.data().join("standby.signal").exists() || self.data().join("recovery.conf").exists()
    }
    pub fn make_standby(&self) -> io::Result<()> {
        if self.is_standby() {
            Ok(())
        } else {
            durable::replace(&self.data().join("standby.signal"), b"")
        }
    }
    pub fn make_primary(&self) -> io::Result<()> {
        durable::remove(&self.data().join("standby.signal"))
    }

    /// The database's identity: the first eight bytes of the control file (PostgreSQL 15's layout).
    pub fn system_id(&self) -> io::Result<String> {
        use std::io::Read;
        let mut bytes = [0_u8; 8];
        std::fs::File::open(self.data().join("global/pg_control"))?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes).to_string())
    }
}

/// Of all files below a folder, as the file system has them.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_made_up_only_on_a_new_volume() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        assert!(matches!(volume.load_promise(), Ok(None)));
        let complaint = || volume.load_promise().expect_err("refused").to_string();
        std::fs::write(volume.promise_file(), "{\"cluster_id\": 1").expect("written");
        let said = complaint();
        assert!(
            said.contains("promise.json is damaged") && said.contains("restore"),
            "{said}"
        );
        std::fs::remove_file(volume.promise_file()).expect("removed");
        std::fs::create_dir(volume.data()).expect("created");
        let said = complaint();
        assert!(
            said.contains("promise.json is missing") && said.contains("restore"),
            "{said}"
        );
    }
}
