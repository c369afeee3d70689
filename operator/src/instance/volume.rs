//! The layout of an instance's volume.
//!
//! ```text
//! instance.json   what the operator says of it        promise.json   the promise (api/promise.rs)
//! lock            held by the supervisor for life     data.id        whose copy `data` is
//! data/           the engine's data directory         seed.tmp/      a seed under way
//! aside/          copies that were given up           trigger        the promotion trigger file
//! engine.log supervisor.log seed.log            upstream.json  where the primary of a term was said to be
//! cluster.json    the last valid cluster object    probe         written to see whether writes complete
//! ballast         room for the next promise         parameters.json  the last that the engine's program took
//! ```
//! `data.id` names the copy that comes, and then `data` appears by rename, complete: a crash in between leaves no
//! `data`, and the copy is seeded again. A copy that was given up is kept for [`KEEP_ASIDE`], the newest two of them,
//! and goes earlier where the next one needs its place. A `data` that nobody knows the owner of is set aside as
//! `unknown.*`, and stays until a person has looked at it: nobody has judged what it holds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Promise;
use crate::durable;
use crate::ids::{InstanceId, Millis};

/// How long a copy that was given up is kept.
pub const KEEP_ASIDE: Duration = Duration::from_secs(24 * 3600);
const KEEP_ASIDE_COPIES: usize = 2;
/// Bytes that are kept from everybody else: many times what a promise takes, for a file system's own needs too.
pub const BALLAST: usize = 64 << 10;

/// What the names of folders in `aside` begin with; milliseconds since 1970 follow. Copies that were given up:
const GIVEN_UP: &str = "data.";
/// seeds that never became a copy:
const HALF: &str = "seed.";
/// data without an owner.
const UNKNOWN: &str = "unknown.";

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
    /// On Kubernetes: the last parameters that the engine's program took.
    pub fn parameters(&self) -> PathBuf {
        self.dir.join("parameters.json")
    }
    /// On Kubernetes: where the primary is, as it was told with a term.
    pub fn upstream(&self) -> PathBuf {
        self.dir.join("upstream.json")
    }
    /// On Kubernetes: written to see whether the volume completes writes.
    pub fn probe(&self) -> PathBuf {
        self.dir.join("probe")
    }
    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
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
        if promise.is_none() && (is_there(&self.data_id())? || is_there(&self.data())?) {
            let text = format!("{} is missing; {remedy}", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(promise)
    }
    pub fn store_promise(&self, promise: &Promise) -> io::Result<()> {
        let bytes = serde_json::to_vec(promise).map_err(io::Error::other)?;
        let (path, ballast) = (self.promise_file(), self.ballast());
        let Err(error) = durable::replace(&path, &bytes) else {
            return Ok(());
        };
        if !durable::is_full(&error) || !ballast.exists() {
            return Err(error);
        }
        tracing::warn!(%error, "the promise takes the room that was kept for it");
        durable::replace_within(&path, &bytes, &ballast).or_else(|error| {
            // Where nothing is written in place there has to be free room first.
            tracing::warn!(%error, "the room that was kept for the promise is given up");
            durable::remove(&ballast)?;
            durable::replace(&path, &bytes)
        })
    }
    /// Sees to it that the next promise finds room although the volume is full by then: a file with blocks of its own,
    /// which [`Volume::store_promise`] uses up.
    ///
    /// # Errors
    /// When there is no room for it now; to be tried again.
    pub fn keep_ballast(&self) -> io::Result<()> {
        let path = self.ballast();
        let is_whole = std::fs::metadata(&path).is_ok_and(|m| m.len() >= BALLAST as u64);
        if is_whole {
            return Ok(());
        }
        // Bytes that no file system can store in less.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(BALLAST)
        .collect();
        durable::replace(&path, &bytes)
    }

    /// Whether `data` is complete and is the copy `id`.
    ///
    /// # Errors
    /// When that can't be looked at: a volume that refuses reads may hold it all the same.
    pub fn holds(&self, id: &InstanceId) -> io::Result<bool> {
        let owner = durable::read(&self.data_id())?;
        Ok(is_there(&self.data())? && owner.as_deref() == Some(id.as_str().as_bytes()))
    }
    /// A complete seed becomes the data of the copy `id`.
    pub fn adopt_seed(&self, id: &InstanceId) -> io::Result<()> {
        durable::replace(&self.data_id(), id.as_str().as_bytes())?;
        durable::rename(&self.seed(), &self.data())
    }
    /// Moves whatever `data` is out of the way.
    pub fn set_data_aside(&self) -> io::Result<()> {
        if !is_there(&self.data())? {
            return Ok(());
        }
        // A copy's id only ever changes when the copy is given up.
        let is_known = durable::read(&self.data_id())?.is_some_and(|id| !id.is_empty());
        let kind = if is_known { GIVEN_UP } else { UNKNOWN };
        self.move_aside(&self.data(), kind)
    }
    /// A seed that nobody works at any more is removed with the next [`Volume::clean_aside`].
    pub fn set_seed_aside(&self) -> io::Result<()> {
        if !is_there(&self.seed())? {
            return Ok(());
        }
        self.move_aside(&self.seed(), HALF)
    }
    fn move_aside(&self, what: &Path, kind: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.aside())?;
        let name = format!("{kind}{}", Millis::now().raw());
        durable::rename(what, &self.aside().join(name))
    }
    /// Removes copies that were set aside long ago, and all but the newest two.
    pub fn clean_aside(&self) -> io::Result<()> {
        for half in self.set_aside(HALF)? {
            remove_folder(&half.path)?;
        }
        let now = Millis::now();
        for (place, copy) in self.set_aside(GIVEN_UP)?.into_iter().enumerate() {
            // By its name: moving a folder does not change its time, which is that of the engine's last start.
            let age = Duration::from_millis(now.since(copy.at));
            if place >= KEEP_ASIDE_COPIES || age > KEEP_ASIDE {
                remove_folder(&copy.path)?;
            }
        }
        Ok(())
    }
    /// Removes every copy that was given up: the record had said of each that it holds nothing that is nowhere else.
    pub fn drop_aside(&self) -> io::Result<()> {
        let halves = self.set_aside(HALF)?;
        for copy in self.set_aside(GIVEN_UP)?.into_iter().chain(halves) {
            remove_folder(&copy.path)?;
        }
        Ok(())
    }
    /// Bytes of the newest copy that was given up: about what the next one will need.
    pub fn newest_aside_bytes(&self) -> io::Result<Option<u64>> {
        let newest = self.set_aside(GIVEN_UP)?.into_iter().next();
        newest.map(|copy| bytes_below(&copy.path)).transpose()
    }
    /// Data without an owner, which nobody but a person may remove.
    pub fn has_unknown(&self) -> bool {
        self.set_aside(UNKNOWN).is_ok_and(|all| !all.is_empty())
    }

    /// Those of one kind, the newest first.
    fn set_aside(&self, kind: &str) -> io::Result<Vec<Aside>> {
        let entries = match std::fs::read_dir(self.aside()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let at = name.to_str().and_then(|name| name.strip_prefix(kind));
            if let Some(at) = at.and_then(|at| at.parse::<u64>().ok()) {
                let (at, path) = (Millis::new(at), entry.path());
                all.push(Aside { at, path });
            }
        }
        all.sort_by_key(|aside| std::cmp::Reverse(aside.at));
        Ok(all)
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

    pub fn system_id(&self) -> io::Result<String> {
        system_id_in(&self.data())
    }
}

/// What can't be looked at is not taken for missing.
fn is_there(path: &Path) -> io::Result<bool> {
    path.try_exists()
        .map_err(|e| io::Error::new(e.kind(), format!("look at {}: {e}", path.display())))
}

/// A folder that was set aside, and when.
struct Aside {
    at: Millis,
    path: PathBuf,
}

/// One that somebody else has removed meanwhile is what is wanted.
fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A database's identity: the first eight bytes of the control file (PostgreSQL 15's layout).
pub fn system_id_in(data: &Path) -> io::Result<String> {
    use std::io::Read;
    let path = data.join("global/pg_control");
    let mut bytes = [0_u8; 8];
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| io::Error::new(e.kind(), format!("read {}: {e}", path.display())))?;
    Ok(u64::from_le_bytes(bytes).to_string())
}

/// Of all files below a folder, as the file system has them.
///
/// # Errors
/// When something can't be looked at: in a folder that changes, what was just removed too.
pub fn bytes_below(folder: &Path) -> io::Result<u64> {
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

    /// A name that leads to itself stands for what the volume refuses to look at.
    #[test]
    fn what_can_not_be_looked_at_is_not_missing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        std::os::unix::fs::symlink("data", volume.data()).expect("made");
        let refused = |said: io::Error| assert!(said.to_string().contains("data"), "{said}");
        refused(volume.load_promise().expect_err("it may hold a copy"));
        let id = InstanceId::new("i");
        std::fs::write(volume.data_id(), id.as_str()).expect("written");
        refused(volume.holds(&id).expect_err("nobody knows"));
        refused(volume.set_data_aside().expect_err("nobody knows"));
        std::fs::remove_file(volume.data()).expect("removed");
        assert!(!volume.holds(&id).expect("read"));
    }

    fn promise(term: u32) -> Promise {
        Promise {
            cluster_id: "c".to_owned(),
            instance_id: InstanceId::new("i"),
            system_id: None,
            promised_term: crate::ids::Term::new(term),
            sealed: true,
            set: None,
        }
    }

    /// As on a volume with not a byte left: the temporary file of the promise takes nothing.
    fn fill(volume: &Volume) {
        let aside = volume.dir().join("promise.json.tmp");
        std::os::unix::fs::symlink("/dev/full", aside).expect("made");
    }

    #[test]
    fn a_full_volume_takes_one_more_promise() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        let known = || volume.load_promise().expect("read");
        volume.store_promise(&promise(1)).expect("stored");
        volume.keep_ballast().expect("there is room");
        fill(&volume);
        volume.store_promise(&promise(2)).expect("stored");
        assert_eq!(known(), Some(promise(2)));
        assert!(!volume.ballast().exists(), "it is used up");
        fill(&volume);
        let refused = volume.store_promise(&promise(3)).expect_err("no room");
        assert!(durable::is_full(&refused), "{refused}");
        assert_eq!(known(), Some(promise(2)));
        // There is room again.
        volume.keep_ballast().expect("made again");
        fill(&volume);
        volume.store_promise(&promise(3)).expect("stored");
        assert_eq!(known(), Some(promise(3)));
    }

    /// Whatever of the next promise stands in it, it is no promise before it has the name.
    #[test]
    fn a_crash_while_the_ballast_becomes_the_promise_leaves_the_old_one() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        volume.store_promise(&promise(1)).expect("stored");
        volume.keep_ballast().expect("there is room");
        let size = |expected: usize| {
            let ballast = std::fs::metadata(volume.ballast()).expect("there");
            assert_eq!(ballast.len(), expected as u64);
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(volume.ballast());
        let mut file = file.expect("opened");
        file.write_all(b"{\"cluster_id\"").expect("written");
        for length in [BALLAST, 13] {
            file.set_len(length as u64).expect("cut");
            size(length);
            let known = volume.load_promise().expect("read");
            assert_eq!(known, Some(promise(1)));
            volume.keep_ballast().expect("whole again");
            size(BALLAST);
        }
    }

    fn copy(folder: &Path) {
        std::fs::create_dir_all(folder).expect("created");
        std::fs::write(folder.join("PG_VERSION"), "15").expect("written");
    }

    /// At no step is there a `data` that is not known to be complete and whose.
    #[test]
    fn a_seed_becomes_the_data_in_one_step() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        let (first, second) = (InstanceId::new("first"), InstanceId::new("second"));
        copy(&volume.seed());
        assert!(!volume.holds(&first).expect("read"));
        // As a crash between the two steps leaves it.
        std::fs::write(volume.data_id(), first.as_str()).expect("written");
        assert!(!volume.holds(&first).expect("read"));
        volume.adopt_seed(&first).expect("adopted");
        assert!(volume.holds(&first).expect("read") && !volume.seed().exists());
        assert!(!volume.holds(&second).expect("read"));
        volume.set_data_aside().expect("moved");
        assert!(!volume.holds(&first).expect("read"));
        let bytes = volume.newest_aside_bytes().expect("read");
        assert!(bytes.is_some_and(|bytes| bytes > 0));
    }

    /// A folder's own time says when its engine began, which may be weeks ago.
    #[test]
    fn a_copy_is_kept_from_the_moment_when_it_was_given_up() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        let at = |hours: u64| Millis::new(Millis::now().raw() - hours * 3_600_000).raw();
        let path = |name: String| dir.path().join("aside").join(name);
        let (young, old) = (
            path(format!("data.{}", at(1))),
            path(format!("data.{}", at(25))),
        );
        let long_ago = std::time::SystemTime::now() - 30 * KEEP_ASIDE;
        for folder in [&young, &old] {
            copy(folder);
            let opened = std::fs::File::open(folder).expect("opened");
            opened.set_modified(long_ago).expect("changed");
        }
        volume.clean_aside().expect("cleaned");
        assert!(young.exists() && !old.exists());
        for hours in [2, 3, 4] {
            copy(&path(format!("data.{}", at(hours))));
        }
        volume.clean_aside().expect("cleaned");
        let left = std::fs::read_dir(dir.path().join("aside")).expect("read");
        assert_eq!(left.count(), KEEP_ASIDE_COPIES);
        assert!(young.exists());
    }

    #[test]
    fn only_what_was_given_up_makes_room() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        volume.drop_aside().expect("there is nothing");
        copy(&volume.data());
        volume.set_data_aside().expect("moved");
        assert!(volume.has_unknown(), "nobody has judged what it holds");
        copy(&volume.seed());
        volume.adopt_seed(&InstanceId::random()).expect("adopted");
        volume.set_data_aside().expect("moved");
        copy(&volume.seed());
        volume.set_seed_aside().expect("moved");
        let left = || {
            std::fs::read_dir(dir.path().join("aside"))
                .expect("read")
                .count()
        };
        assert_eq!((left(), volume.seed().exists()), (3, false));
        volume.clean_aside().expect("cleaned");
        assert_eq!(left(), 2, "the half seed goes first");
        volume.drop_aside().expect("dropped");
        assert_eq!(left(), 1);
        assert!(volume.has_unknown());
        assert_eq!(volume.newest_aside_bytes().expect("read"), None);
    }
}
