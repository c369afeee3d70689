//! A disk in memory that keeps live and durable bytes apart. Crash images are taken from it.
//!
//! What is written is *pending* until it is synced: sectors of 512 bytes, lengths, and names each on their own.
//! A crash keeps any subset of what is pending, in the order in which it was done; names are durable only after
//! `sync_dir`, whatever was synced in the file. That is more hostile than any real filesystem, and allowed by
//! POSIX. After a failed sync the pending writes stay pending for ever: a later sync that succeeds says nothing
//! about them, as on Linux. Errors can be injected, the disk can be full, and it can be switched off.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Access, Disk, DiskFile, EntryKind, FileRef};

const SECTOR: usize = 512;
type Sector = Arc<[u8; SECTOR]>;
type Inode = u64;

/// A file's bytes; a sector that is missing is all zeroes.
#[derive(Clone, Default)]
struct Content {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
}

impl Content {
    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.sectors.split_off(&len.div_ceil(SECTOR as u64));
            let within = (len % SECTOR as u64) as usize;
            if within > 0
                && let Some(last) = self.sectors.get_mut(&(len / SECTOR as u64))
            {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        self.len = len;
    }
    fn set_sector(&mut self, number: u64, bytes: Option<Sector>) {
        match bytes {
            Some(bytes) => self.sectors.insert(number, bytes),
            None => self.sectors.remove(&number),
        };
    }
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = buf
            .len()
            .min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < n {
            let at = offset + done as u64;
            let within = (at % SECTOR as u64) as usize;
            let part = (n - done).min(SECTOR - within);
            let target = &mut buf[done..done + part];
            match self.sectors.get(&(at / SECTOR as u64)) {
                Some(sector) => target.copy_from_slice(&sector[within..within + part]),
                None => target.fill(0),
            }
            done += part;
        }
        n
    }
}

#[derive(Clone, Default)]
struct Tree {
    files: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    /// Shared with frozen states until it is changed.
    contents: BTreeMap<Inode, Arc<Content>>,
}

#[derive(Clone)]
enum Change {
    Sector(Inode, u64, Option<Sector>),
    Zero(Inode, std::ops::Range<u64>),
    Len(Inode, u64),
    Link(PathBuf, Inode),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Inode),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
}

impl Change {
    fn is_of_file(&self, inode: Inode) -> bool {
        matches!(self, Change::Sector(i, ..) | Change::Zero(i, _) | Change::Len(i, _) if *i == inode)
    }
    fn is_in_dir(&self, dir: &Path) -> bool {
        let inside = |path: &Path| path.parent().unwrap_or(Path::new("")) == dir;
        match self {
            Change::Link(p, _) | Change::Unlink(p) | Change::MakeDir(p) | Change::RemoveDir(p) => {
                inside(p)
            }
            Change::Rename(from, to, _) => inside(from) || inside(to),
            _ => false,
        }
    }
}

impl Tree {
    fn content(&mut self, inode: Inode) -> &mut Content {
        Arc::make_mut(self.contents.entry(inode).or_default())
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Sector(inode, number, bytes) => {
                self.content(*inode).set_sector(*number, bytes.clone());
            }
            Change::Zero(inode, range) => {
                let content = self.content(*inode);
                content.sectors.retain(|number, _| !range.contains(number));
            }
            Change::Len(inode, len) => self.content(*inode).set_len(*len),
            Change::Link(path, inode) => {
                self.contents.entry(*inode).or_default();
                self.files.insert(path.clone(), *inode);
            }
            Change::Unlink(path) => {
                self.files.remove(path);
            }
            Change::Rename(from, to, inode) => {
                self.contents.entry(*inode).or_default();
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
            Change::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            Change::RemoveDir(path) => {
                self.dirs.remove(path);
            }
        }
    }
}

#[derive(Clone)]
struct Pending {
    change: Change,
    /// A sync of it has failed: none will ever make it durable.
    lost: bool,
}

#[derive(Clone, Default)]
struct State {
    live: Tree,
    durable: Tree,
    pending: Vec<Pending>,
    next_inode: Inode,
}

impl State {
    fn perform(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(Pending {
            change,
            lost: false,
        });
    }

    fn make_durable(&mut self, which: impl Fn(&Change) -> bool) {
        let durable = &mut self.durable;
        let mut written = BTreeSet::new();
        self.pending.retain(|p| {
            let done = !p.lost && which(&p.change);
            if done {
                durable.apply(&p.change);
                if let Change::Sector(inode, number, _) = &p.change {
                    written.insert((*inode, *number));
                }
            }
            !done
        });
        // What was lost before is older than what is durable now.
        self.pending.retain(|p| {
            !matches!(&p.change, Change::Sector(i, n, _) if p.lost && written.contains(&(*i, *n)))
        });
    }
}

/// What an injected error hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Open,
    Read,
    Write,
    Allocate,
    Sync,
    SyncDir,
    Rename,
    Remove,
}

/// An error to come.
#[derive(Clone, Debug)]
pub struct Fault {
    pub operation: Operation,
    /// Only where the path contains this.
    pub path_contains: String,
    /// How many such operations succeed before it.
    pub after: u64,
    pub error: io::ErrorKind,
    /// Every later one fails too.
    pub stays: bool,
}

type SyncHook = Arc<dyn Fn(&Frozen) + Send + Sync>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    capacity: Mutex<Option<u64>>,
    off: std::sync::atomic::AtomicBool,
    on_sync: RwLock<Option<SyncHook>>,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

/// The disk's state at one moment.
#[derive(Clone)]
pub struct Frozen {
    durable: Tree,
    pending: Vec<Pending>,
    next_inode: Inode,
    /// What was about to be synced.
    pub at: String,
}

/// Which pending changes a crash keeps.
pub struct Choice {
    pub name: String,
    keep: Vec<bool>,
}

/// What a crash may have left.
pub struct Image {
    /// Which pending changes it kept, for messages.
    pub name: String,
    pub disk: SimDisk,
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }
    /// Lets an operation fail later.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.lock().push(fault);
    }
    pub fn clear_faults(&self) {
        self.shared.faults.lock().clear();
    }
    /// Files together may have so many bytes; then `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        *self.shared.capacity.lock() = bytes;
    }
    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        let state = self.shared.state.lock();
        state
            .live
            .files
            .values()
            .filter_map(|i| state.live.contents.get(i))
            .map(|c| c.len)
            .sum()
    }
    /// Everything fails from now on.
    pub fn switch_off(&self) {
        self.shared
            .off
            .store(true, std::sync::atomic::Ordering::SeqCst);
    }
    /// `hook` sees the state before each sync of a file or directory.
    pub fn on_sync(&self, hook: impl Fn(&Frozen) + Send + Sync + 'static) {
        *self.shared.on_sync.write() = Some(Arc::new(hook));
    }
    pub fn clear_on_sync(&self) {
        *self.shared.on_sync.write() = None;
    }
    /// The present state, for crash images.
    pub fn freeze(&self) -> Frozen {
        self.freeze_at("now")
    }
    /// The same machine after the process was killed: what was written is there, what was not synced still is not
    /// durable. This handle, and every file opened by it, is switched off.
    pub fn after_kill(&self) -> SimDisk {
        self.switch_off();
        let disk = SimDisk::new();
        let state = self.shared.state.lock().clone();
        *disk.shared.state.lock() = state;
        disk
    }
    /// What a crash leaves if nothing that was not synced has reached the disk.
    pub fn crash(&self) -> SimDisk {
        self.freeze().image(|_| false)
    }

    fn freeze_at(&self, at: &str) -> Frozen {
        let state = self.shared.state.lock();
        Frozen {
            durable: state.durable.clone(),
            pending: state.pending.clone(),
            next_inode: state.next_inode,
            at: at.to_owned(),
        }
    }

    fn check(&self, operation: Operation, path: &Path) -> io::Result<()> {
        if self.shared.off.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::Error::other("the machine is off"));
        }
        let mut faults = self.shared.faults.lock();
        let name = path.to_string_lossy();
        let hit = |f: &Fault| f.operation == operation && name.contains(&f.path_contains);
        let Some(at) = faults.iter().position(hit) else {
            return Ok(());
        };
        if faults[at].after > 0 {
            faults[at].after -= 1;
            return Ok(());
        }
        let error = faults[at].error;
        if !faults[at].stays {
            faults.remove(at);
        }
        Err(io::Error::from(error))
    }

    fn before_sync(&self, path: &Path) {
        let hook = self.shared.on_sync.read().clone();
        if let Some(hook) = hook {
            hook(&self.freeze_at(&path.to_string_lossy()));
        }
    }

    fn sync_some(
        &self,
        operation: Operation,
        path: &Path,
        which: impl Fn(&Change) -> bool,
    ) -> io::Result<()> {
        self.before_sync(path);
        let outcome = self.check(operation, path);
        let mut state = self.shared.state.lock();
        match outcome {
            Ok(()) => {
                state.make_durable(which);
                Ok(())
            }
            Err(error) => {
                for pending in &mut state.pending {
                    pending.lost |= which(&pending.change);
                }
                Err(error)
            }
        }
    }

    fn room_for(&self, growth: u64) -> io::Result<()> {
        match *self.shared.capacity.lock() {
            Some(capacity) if growth > 0 && self.used() + growth > capacity => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }
}

/// So many pending changes that all their subsets are looked at.
const ALL_SUBSETS: usize = 10;
const RANDOM_SUBSETS: usize = 200;

impl Frozen {
    /// How many changes are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A disk on which the changes that `keep` names by index have arrived.
    pub fn image(&self, keep: impl Fn(usize) -> bool) -> SimDisk {
        let mut tree = self.durable.clone();
        for (index, pending) in self.pending.iter().enumerate() {
            if keep(index) {
                tree.apply(&pending.change);
            }
        }
        let disk = SimDisk::new();
        *disk.shared.state.lock() = State {
            live: tree.clone(),
            durable: tree,
            pending: Vec::new(),
            next_inode: self.next_inode,
        };
        disk
    }

    /// What a crash may keep: all subsets of up to 10 pending changes; of more: none, all, each one missing, each one
    /// alone, each prefix, and 200 random subsets drawn from `seed`.
    pub fn choices(&self, seed: u64) -> Vec<Choice> {
        let n = self.pending.len();
        let mut choices = Vec::with_capacity(self.number_of_choices());
        let mut choose = |name, keep| choices.push(Choice { name, keep });
        if n <= ALL_SUBSETS {
            for subset in 0_u32..1 << n {
                let keep = (0..n).map(|i| subset >> i & 1 == 1).collect();
                choose(format!("subset {subset:#b} of {n}"), keep);
            }
        } else {
            choose("none".to_owned(), vec![false; n]);
            choose("all".to_owned(), vec![true; n]);
            for one in 0..n {
                let missing = (0..n).map(|i| i != one).collect();
                choose(format!("{one} of {n} missing"), missing);
                let alone = (0..n).map(|i| i == one).collect();
                choose(format!("{one} of {n} alone"), alone);
                let prefix = (0..n).map(|i| i < one).collect();
                choose(format!("first {one} of {n}"), prefix);
            }
            let mut random = StdRng::seed_from_u64(seed);
            for round in 0..RANDOM_SUBSETS {
                let keep = (0..n).map(|_| random.random()).collect();
                choose(format!("random {round} of seed {seed}"), keep);
            }
        }
        choices
    }

    /// How many [`Self::choices`] gives.
    pub fn number_of_choices(&self) -> usize {
        match self.pending.len() {
            n if n <= ALL_SUBSETS => 1 << n,
            n => 2 + 3 * n + RANDOM_SUBSETS,
        }
    }

    pub fn chosen(&self, choice: &Choice) -> Image {
        Image {
            name: format!("before sync of {}: {}", self.at, choice.name),
            disk: self.image(|i| choice.keep[i]),
        }
    }

    /// Crash images of all choices.
    pub fn images(&self, seed: u64) -> impl Iterator<Item = Image> + '_ {
        let choices = self.choices(seed);
        choices.into_iter().map(|choice| self.chosen(&choice))
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("no such file or directory: {}", path.display()),
    )
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef> {
        self.check(Operation::Open, path)?;
        let mut state = self.shared.state.lock();
        let found = state.live.files.get(path).copied();
        let creates = matches!(
            access,
            Access::Create | Access::CreateNew | Access::Truncate
        );
        let inode = match found {
            Some(_) if access == Access::CreateNew => {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            Some(inode) => {
                if access == Access::Truncate {
                    state.perform(Change::Len(inode, 0));
                }
                inode
            }
            None if creates => {
                let parent = path.parent().unwrap_or(Path::new(""));
                if !parent.as_os_str().is_empty() && !state.live.dirs.contains(parent) {
                    return Err(not_found(parent));
                }
                state.next_inode += 1;
                let inode = state.next_inode;
                state.perform(Change::Link(path.to_owned(), inode));
                inode
            }
            None => return Err(not_found(path)),
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            path: path.to_owned(),
            writable: access != Access::Read,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        self.check(Operation::Read, dir)?;
        let state = self.shared.state.lock();
        if !dir.as_os_str().is_empty() && !state.live.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let name_in_dir = |path: &Path| {
            let inside = path.parent().unwrap_or(Path::new("")) == dir;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            name.filter(|_| inside)
        };
        let files = state
            .live
            .files
            .keys()
            .filter_map(|p| Some((name_in_dir(p)?, EntryKind::File)));
        let dirs = state
            .live
            .dirs
            .iter()
            .filter_map(|p| Some((name_in_dir(p)?, EntryKind::Directory)));
        Ok(files.chain(dirs).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.check(Operation::Read, path)?;
        let state = self.shared.state.lock();
        Ok(state.live.files.contains_key(path) || state.live.dirs.contains(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Open, path)?;
        let mut state = self.shared.state.lock();
        if state.live.dirs.contains(path) || state.live.files.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.perform(Change::MakeDir(path.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove, path)?;
        let mut state = self.shared.state.lock();
        if !state.live.files.contains_key(path) {
            return Err(not_found(path));
        }
        state.perform(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove, path)?;
        let mut state = self.shared.state.lock();
        let inside = |p: &PathBuf| p.parent() == Some(path);
        if state.live.files.keys().any(inside) || state.live.dirs.iter().any(inside) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        if !state.live.dirs.contains(path) {
            return Err(not_found(path));
        }
        state.perform(Change::RemoveDir(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename, from)?;
        let mut state = self.shared.state.lock();
        let inode = *state.live.files.get(from).ok_or_else(|| not_found(from))?;
        state.perform(Change::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync_some(Operation::SyncDir, dir, |change| change.is_in_dir(dir))
    }

    fn root(&self) -> Option<PathBuf> {
        None
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    fn len_now(&self) -> u64 {
        self.disk
            .shared
            .state
            .lock()
            .live
            .contents
            .get(&self.inode)
            .map_or(0, |c| c.len)
    }
    fn may_write(&self, operation: Operation, end: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        self.disk.check(operation, &self.path)?;
        self.disk.room_for(end.saturating_sub(self.len_now()))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.check(Operation::Read, &self.path)?;
        let state = self.disk.shared.state.lock();
        Ok(state
            .live
            .contents
            .get(&self.inode)
            .map_or(0, |c| c.read(buf, offset)))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        self.may_write(Operation::Write, end)?;
        let mut state = self.disk.shared.state.lock();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (number, within) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let part = (buf.len() - done).min(SECTOR - within);
            let old = state
                .live
                .contents
                .get(&self.inode)
                .and_then(|c| c.sectors.get(&number));
            let mut sector = old.map_or([0; SECTOR], |s| **s);
            let before = sector;
            sector[within..within + part].copy_from_slice(&buf[done..done + part]);
            if sector != before || old.is_none() {
                let bytes = (sector != [0; SECTOR]).then(|| Arc::new(sector));
                if bytes.is_some() || old.is_some() {
                    state.perform(Change::Sector(self.inode, number, bytes));
                }
            }
            done += part;
        }
        if end > state.live.contents.get(&self.inode).map_or(0, |c| c.len) {
            state.perform(Change::Len(self.inode, end));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let inode = self.inode;
        self.disk.sync_some(Operation::Sync, &self.path, |change| {
            change.is_of_file(inode)
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.check(Operation::Read, &self.path)?;
        Ok(self.len_now())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write(Operation::Write, len)?;
        self.disk
            .shared
            .state
            .lock()
            .perform(Change::Len(self.inode, len));
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset + len;
        self.may_write(Operation::Allocate, end)?;
        // Whole sectors as one change: sixteen megabytes of zeroes are not worth 32,768 of them.
        let (first, last) = (offset.div_ceil(SECTOR as u64), end / SECTOR as u64);
        if first >= last {
            return self.write_all_at(&vec![0; len as usize], offset);
        }
        let head = (first * SECTOR as u64 - offset) as usize;
        self.write_all_at(&vec![0; head], offset)?;
        {
            let mut state = self.disk.shared.state.lock();
            state.perform(Change::Zero(self.inode, first..last));
            if end > state.live.contents.get(&self.inode).map_or(0, |c| c.len) {
                state.perform(Change::Len(self.inode, end));
            }
        }
        let tail = (end - last * SECTOR as u64) as usize;
        self.write_all_at(&vec![0; tail], last * SECTOR as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::durable;

    fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        durable::read(disk, Path::new(path)).ok()
    }

    #[test]
    fn only_synced_bytes_and_names_survive() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("a"), Access::CreateNew).expect("new");
        file.write_all_at(&[1; 1000], 0).expect("written");
        file.sync().expect("synced");
        assert_eq!(read(&disk.crash(), "a"), None, "the name was not synced");
        disk.sync_dir(Path::new("")).expect("synced");
        file.write_all_at(&[2; 600], 0).expect("written");
        assert_eq!(read(&disk.crash(), "a"), Some(vec![1; 1000]));
        assert_eq!(read(&disk, "a").expect("live")[..600], [2; 600]);
        let torn: BTreeSet<Vec<u8>> = disk
            .freeze()
            .images(1)
            .filter_map(|image| read(&image.disk, "a"))
            .collect();
        assert_eq!(torn.len(), 4, "two sectors, each old or new");
    }

    #[test]
    fn replacing_leaves_the_old_or_the_new_at_every_crash() {
        let disk = SimDisk::new();
        durable::replace(&disk, Path::new("f"), &[1; 700]).expect("written");
        let seen = Arc::new(Mutex::new(0));
        let counter = seen.clone();
        disk.on_sync(move |frozen| {
            for image in frozen.images(7) {
                let bytes = read(&image.disk, "f").expect("one of both");
                assert!(bytes == [1; 700] || bytes == [2; 900], "{}", image.name);
                *counter.lock() += 1;
            }
        });
        durable::replace(&disk, Path::new("f"), &[2; 900]).expect("written");
        assert!(*seen.lock() >= 4, "no images were looked at");
        disk.clear_on_sync();
        assert_eq!(read(&disk.crash(), "f"), Some(vec![2; 900]));
    }

    #[test]
    fn what_a_failed_sync_lost_no_later_one_saves() {
        let disk = SimDisk::new();
        durable::replace(&disk, Path::new("f"), &[1; 512]).expect("written");
        let file = disk.open(Path::new("f"), Access::ReadWrite).expect("there");
        disk.inject(Fault {
            operation: Operation::Sync,
            path_contains: "f".to_owned(),
            after: 0,
            error: io::ErrorKind::Other,
            stays: false,
        });
        file.write_all_at(&[2; 512], 0).expect("written");
        assert!(file.sync().is_err());
        file.sync().expect("says so");
        assert_eq!(read(&disk.crash(), "f"), Some(vec![1; 512]));
        file.write_all_at(&[3; 512], 0).expect("written");
        file.sync().expect("synced");
        assert_eq!(read(&disk.crash(), "f"), Some(vec![3; 512]));
        assert_eq!(disk.freeze().pending(), 0);
    }

    #[test]
    fn a_full_disk_refuses_growth_only() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(1000));
        let file = disk.open(Path::new("f"), Access::Create).expect("new");
        file.write_all_at(&[1; 900], 0).expect("fits");
        let error = file.write_all_at(&[1; 200], 900).expect_err("does not fit");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[2; 900], 0).expect("no growth");
        assert!(file.allocate(900, 101).is_err());
    }
}
