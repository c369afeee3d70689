//! Relation files: forks cut into 1 GiB segment files, opened on demand, synced by checkpoints.
//!
//! Owns the names and lengths of files below `base/` and `global/`, the cache of open files and the cached block
//! counts. Knows nothing of what a page holds.
//!
//! Invariants: every write here is remembered until [`RelationFiles::sync_written`] has made it durable; a block
//! count never goes down except in [`RelationFiles::truncate`] and [`RelationFiles::unlink`]; a segment file
//! exists only if all before it are full.
//!
//! PostgreSQL leaves the first segment of a dropped relation in place, empty, until the next checkpoint, because
//! it may hand out the file number again and an older log record would then hit the new file. Here a file number
//! is never used twice, so files are removed at once. A crash afterwards is harmless: redo of older records
//! makes the file again, and redo of the commit that dropped it removes it again.
//!
//! A crash during an extension leaves zero pages, or part of one, at the end: zero pages are valid and free, the part
//! of one is cut off before replay (`recovery/data_files.rs`). A main fork that is found to end within a page was
//! damaged, and is not taken for a shorter one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

use crate::ids::{BLOCKS_PER_FILE, BlockNumber, Fork, Oid, PAGE_SIZE, PageId, RelFile};
use crate::io::{Access, DiskRef, FileRef};
use crate::storage::StorageError;
use crate::storage::page::PageBuf;

const SHARDS: usize = 16;
const UNKNOWN: u32 = u32::MAX;
/// Files kept open at most, before those not used lately are closed.
const MAX_OPEN: usize = 900;

type ForkKey = (RelFile, Fork);

struct Segment {
    file: FileRef,
    /// Written since the last sync of this handle.
    written: AtomicBool,
}

struct ForkState {
    key: ForkKey,
    blocks: AtomicU32,
    /// Held while the fork grows or shrinks.
    growth: Mutex<()>,
    segments: RwLock<Vec<Option<Arc<Segment>>>>,
    used: AtomicBool,
}

pub struct RelationFiles {
    disk: DiskRef,
    shards: Vec<RwLock<HashMap<ForkKey, Arc<ForkState>>>>,
    open_count: AtomicUsize,
    /// Segment files written since the last checkpoint took this list.
    unsynced: Mutex<HashSet<(RelFile, Fork, u32)>>,
    /// Directories in which names appeared or went since then.
    changed_dirs: Mutex<HashSet<PathBuf>>,
}

fn segment_path(file: RelFile, fork: Fork, index: u32) -> String {
    let base = file.path(fork);
    if index == 0 {
        base
    } else {
        format!("{base}.{index}")
    }
}

impl RelationFiles {
    pub fn new(disk: DiskRef) -> RelationFiles {
        RelationFiles {
            disk,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            open_count: AtomicUsize::new(0),
            unsynced: Mutex::default(),
            changed_dirs: Mutex::default(),
        }
    }

    fn shard(&self, file: RelFile) -> &RwLock<HashMap<ForkKey, Arc<ForkState>>> {
        &self.shards[file.number.raw() as usize % SHARDS]
    }

    fn fork(&self, file: RelFile, fork: Fork) -> Arc<ForkState> {
        let key = (file, fork);
        let shard = self.shard(file);
        if let Some(state) = shard.read().get(&key) {
            if !state.used.load(Ordering::Relaxed) {
                state.used.store(true, Ordering::Relaxed);
            }
            return Arc::clone(state);
        }
        let fresh = || {
            Arc::new(ForkState {
                key,
                blocks: AtomicU32::new(UNKNOWN),
                growth: Mutex::new(()),
                segments: RwLock::default(),
                used: AtomicBool::new(true),
            })
        };
        Arc::clone(shard.write().entry(key).or_insert_with(fresh))
    }

    /// Makes the fork's first, empty file. In redo an existing file is left as it is.
    pub fn create(&self, file: RelFile, fork: Fork, in_redo: bool) -> Result<(), StorageError> {
        let access = if in_redo {
            Access::Create
        } else {
            Access::CreateNew
        };
        let state = self.fork(file, fork);
        let _growth = state.growth.lock();
        match self.segment(&state, 0, Some(access)) {
            Err(e) if in_redo && e.is_not_found() => {
                self.make_directory(file)?;
                drop(self.segment(&state, 0, Some(access))?);
            }
            Err(e) if e.is_taken() => self.take_over_leftover(&state, e)?,
            other => drop(other?),
        }
        if !in_redo {
            state.blocks.store(0, Ordering::Release);
        }
        self.unsynced.lock().insert((file, fork, 0));
        Ok(())
    }

    /// A server that made the file and crashed before any record of it was durable leaves it behind, and its number
    /// is handed out again. Such a file is empty or holds zeroes: a page with anything on it is written only after
    /// the records that made the file. What holds more is not ours to take.
    fn take_over_leftover(
        &self,
        state: &ForkState,
        taken: StorageError,
    ) -> Result<(), StorageError> {
        let segment = self.segment(state, 0, Some(Access::ReadWrite))?;
        let path = segment_path(state.key.0, state.key.1, 0);
        let len = segment.file.len();
        let len = len.map_err(|e| StorageError::io("stat", &path, e))?;
        let mut bytes = vec![0; 16 * PAGE_SIZE];
        let mut at = 0;
        while at < len {
            let read = segment.file.read_at(&mut bytes, at);
            let read = read.map_err(|e| StorageError::io("read", &path, e))?;
            if bytes[..read].iter().any(|b| *b != 0) {
                self.close_segment(state, 0);
                return Err(taken);
            }
            at += read.max(1) as u64;
        }
        let cut = segment.file.set_len(0);
        cut.map_err(|e| StorageError::io("truncate", &path, e))?;
        // Its free space map is only a hint, but one about other rows.
        for fork in Fork::ALL.into_iter().filter(|f| *f != state.key.1) {
            self.remove_segment(state.key.0, fork, 0)?;
        }
        tracing::info!("reused file \"{path}\", which a crash had left");
        Ok(())
    }

    pub fn exists(&self, file: RelFile, fork: Fork) -> Result<bool, StorageError> {
        self.segment_exists(file, fork, 0)
    }

    fn segment_exists(&self, file: RelFile, fork: Fork, index: u32) -> Result<bool, StorageError> {
        let path = segment_path(file, fork, index);
        self.disk
            .exists(Path::new(&path))
            .map_err(|e| StorageError::io("access", &path, e))
    }

    /// Redo: a later record may drop the whole database, and then its directory is gone already. It is made again, and
    /// goes again with that record.
    fn make_directory(&self, file: RelFile) -> Result<(), StorageError> {
        let path = file.path(Fork::Main);
        let Some(dir) = Path::new(&path).parent() else {
            return Ok(());
        };
        match self.disk.create_dir(dir) {
            Ok(()) => {
                if let Some(above) = dir.parent() {
                    self.changed_dirs.lock().insert(above.to_path_buf());
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(StorageError::io("create directory", &path, e)),
        }
    }

    /// An open handle on a segment; `create` says how to open it where it may be missing.
    fn segment(
        &self,
        state: &ForkState,
        index: u32,
        create: Option<Access>,
    ) -> Result<Arc<Segment>, StorageError> {
        let at = index as usize;
        if let Some(Some(segment)) = state.segments.read().get(at) {
            return Ok(Arc::clone(segment));
        }
        self.close_unused();
        let mut segments = state.segments.write();
        if let Some(Some(segment)) = segments.get(at) {
            return Ok(Arc::clone(segment));
        }
        let (file, fork) = state.key;
        let path = segment_path(file, fork, index);
        let handle = self
            .disk
            .open(Path::new(&path), create.unwrap_or(Access::ReadWrite))
            .map_err(|e| {
                StorageError::io(if create.is_some() { "create" } else { "open" }, &path, e)
            })?;
        if create.is_some()
            && let Some(dir) = Path::new(&path).parent()
        {
            self.changed_dirs.lock().insert(dir.to_path_buf());
        }
        let segment = Arc::new(Segment {
            file: handle,
            written: AtomicBool::new(false),
        });
        if segments.len() <= at {
            segments.resize(at + 1, None);
        }
        segments[at] = Some(Arc::clone(&segment));
        self.open_count.fetch_add(1, Ordering::Relaxed);
        Ok(segment)
    }

    /// Second-chance closing: forks not used since the last round lose their handles.
    fn close_unused(&self) {
        if self.open_count.load(Ordering::Relaxed) < MAX_OPEN {
            return;
        }
        for shard in &self.shards {
            for state in shard.read().values() {
                if !state.used.swap(false, Ordering::Relaxed)
                    && let Some(mut segments) = state.segments.try_write()
                {
                    // One that somebody is about to write through stays: his write would be remembered nowhere.
                    let closed = segments
                        .iter_mut()
                        .filter(|slot| matches!(slot, Some(open) if Arc::strong_count(open) == 1))
                        .filter_map(Option::take)
                        .count();
                    self.open_count.fetch_sub(closed, Ordering::Relaxed);
                }
            }
        }
    }

    /// Blocks of the fork. A missing main fork is an error, any other missing fork has none.
    pub fn block_count(&self, file: RelFile, fork: Fork) -> Result<u32, StorageError> {
        self.count_of(&self.fork(file, fork))
    }

    fn count_of(&self, state: &ForkState) -> Result<u32, StorageError> {
        let known = state.blocks.load(Ordering::Acquire);
        if known != UNKNOWN {
            return Ok(known);
        }
        let _growth = state.growth.lock();
        self.count_locked(state)
    }

    fn count_locked(&self, state: &ForkState) -> Result<u32, StorageError> {
        let known = state.blocks.load(Ordering::Acquire);
        if known != UNKNOWN {
            return Ok(known);
        }
        let mut blocks = 0_u32;
        for index in 0.. {
            let segment = match self.segment(state, index, None) {
                Ok(segment) => segment,
                Err(e) if e.is_not_found() && (index > 0 || state.key.1 != Fork::Main) => break,
                Err(e) => return Err(e),
            };
            let path = || segment_path(state.key.0, state.key.1, index);
            let len = segment.file.len();
            let len = len.map_err(|e| StorageError::io("stat", &path(), e))?;
            if !len.is_multiple_of(PAGE_SIZE as u64) && state.key.1 == Fork::Main {
                return Err(StorageError::Partial { path: path(), len });
            }
            let here = u32::try_from(len / PAGE_SIZE as u64).unwrap_or(u32::MAX);
            blocks += here.min(BLOCKS_PER_FILE);
            if here < BLOCKS_PER_FILE {
                break;
            }
        }
        state.blocks.store(blocks, Ordering::Release);
        Ok(blocks)
    }

    pub fn read(&self, page: PageId, buf: &mut PageBuf) -> Result<(), StorageError> {
        let state = self.fork(page.file, page.fork);
        let segment = match self.segment(&state, page.block.file_index(), None) {
            Ok(segment) => segment,
            Err(e) if e.is_not_found() && page.block.file_index() > 0 => {
                return Err(StorageError::BeyondEnd(page));
            }
            Err(e) => return Err(e),
        };
        let read = segment
            .file
            .read_at(buf, page.block.file_offset())
            .map_err(|e| self.page_error("read", page, e))?;
        if read < PAGE_SIZE {
            return Err(StorageError::BeyondEnd(page));
        }
        Ok(())
    }

    fn page_error(&self, operation: &'static str, page: PageId, error: io::Error) -> StorageError {
        let path = segment_path(page.file, page.fork, page.block.file_index());
        StorageError::io(operation, &path, error)
    }

    /// Writes a page that exists. Durable only after [`Self::sync_written`].
    pub fn write(&self, page: PageId, buf: &PageBuf) -> Result<(), StorageError> {
        let state = self.fork(page.file, page.fork);
        let segment = self.segment(&state, page.block.file_index(), None)?;
        self.write_segment(&segment, page, buf)
    }

    fn write_segment(
        &self,
        segment: &Segment,
        page: PageId,
        buf: &PageBuf,
    ) -> Result<(), StorageError> {
        segment
            .file
            .write_all_at(buf, page.block.file_offset())
            .map_err(|e| self.page_error("write", page, e))?;
        // Remembered after the write: a checkpoint that took the list in between had no need of this page, or
        // writes it itself afterwards.
        if !segment.written.swap(true, Ordering::AcqRel) {
            let key = (page.file, page.fork, page.block.file_index());
            self.unsynced.lock().insert(key);
        }
        Ok(())
    }

    /// Grows the fork by one page of zeroes and runs `publish` with its number before anyone else can see the
    /// new count. Running out of space is an error here and leaves the count as it was.
    pub fn extend<T>(
        &self,
        file: RelFile,
        fork: Fork,
        publish: impl FnOnce(BlockNumber) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let state = self.fork(file, fork);
        let _growth = state.growth.lock();
        let count = self.count_locked(&state)?;
        if count == u32::MAX - 1 {
            return Err(StorageError::TooLarge(file));
        }
        let block = BlockNumber::new(count);
        self.append_zeroes(&state, block)?;
        let made = publish(block)?;
        state.blocks.store(count + 1, Ordering::Release);
        Ok(made)
    }

    fn append_zeroes(&self, state: &ForkState, block: BlockNumber) -> Result<(), StorageError> {
        let page = PageId {
            file: state.key.0,
            fork: state.key.1,
            block,
        };
        let create = (block.file_offset() == 0).then_some(Access::Create);
        let segment = self.segment(state, block.file_index(), create)?;
        let written = self.write_segment(&segment, page, &[0; PAGE_SIZE]);
        if written.is_err() {
            // A full disk may have taken part of the page, and tools expect whole ones.
            let _ = segment.file.set_len(block.file_offset());
        }
        written
    }

    /// Redo: makes the fork, if need be, and zero pages up to and with `block`.
    pub fn extend_to(&self, page: PageId) -> Result<(), StorageError> {
        let state = self.fork(page.file, page.fork);
        let known = state.blocks.load(Ordering::Acquire);
        if known != UNKNOWN && page.block.raw() < known {
            return Ok(());
        }
        let _growth = state.growth.lock();
        let mut count = match self.count_locked(&state) {
            Ok(count) => count,
            Err(e) if e.is_not_found() => {
                self.make_directory(page.file)?;
                0
            }
            Err(e) => return Err(e),
        };
        while count <= page.block.raw() {
            self.append_zeroes(&state, BlockNumber::new(count))?;
            count += 1;
            state.blocks.store(count, Ordering::Release);
        }
        Ok(())
    }

    /// Cuts the fork; later segment files are removed. The caller has dropped the pages from the pool.
    pub fn truncate(&self, file: RelFile, fork: Fork, blocks: u32) -> Result<(), StorageError> {
        let state = self.fork(file, fork);
        let _growth = state.growth.lock();
        let count = match self.count_locked(&state) {
            Ok(count) => count,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        if blocks >= count {
            return Ok(());
        }
        state.blocks.store(blocks, Ordering::Release);
        let last = BlockNumber::new(count - 1).file_index();
        let keep = BlockNumber::new(blocks).file_index();
        for index in (keep + 1..=last).rev() {
            self.close_segment(&state, index);
            self.remove_segment(file, fork, index)?;
        }
        let segment = match self.segment(&state, keep, None) {
            Ok(segment) => segment,
            // Exactly full segments: the one that would come next need not exist.
            Err(e) if e.is_not_found() && keep > 0 => return Ok(()),
            Err(e) => return Err(e),
        };
        let len = BlockNumber::new(blocks).file_offset();
        segment
            .file
            .set_len(len)
            .map_err(|e| StorageError::io("truncate", &segment_path(file, fork, keep), e))?;
        segment.written.store(true, Ordering::Release);
        self.unsynced.lock().insert((file, fork, keep));
        Ok(())
    }

    fn close_segment(&self, state: &ForkState, index: u32) {
        let mut segments = state.segments.write();
        if let Some(slot) = segments.get_mut(index as usize)
            && slot.take().is_some()
        {
            self.open_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// True if there was such a file.
    fn remove_segment(&self, file: RelFile, fork: Fork, index: u32) -> Result<bool, StorageError> {
        self.unsynced.lock().remove(&(file, fork, index));
        let path = segment_path(file, fork, index);
        match self.disk.remove_file(Path::new(&path)) {
            Ok(()) => {
                if let Some(dir) = Path::new(&path).parent() {
                    self.changed_dirs.lock().insert(dir.to_path_buf());
                }
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StorageError::io("remove", &path, e)),
        }
    }

    /// Removes every fork and segment; files that are not there are no error. The caller has forgotten the
    /// relation's pages.
    pub fn unlink(&self, file: RelFile) -> Result<(), StorageError> {
        for fork in Fork::ALL {
            let mut count = 0;
            while self.segment_exists(file, fork, count)? {
                count += 1;
            }
            // The first one last: redo of a drop that a crash cut short must find what is left.
            for index in (0..count).rev() {
                self.remove_segment(file, fork, index)?;
            }
            // Behind that, so that a sync that came in between leaves no handle on a file without a name.
            let removed = self.shard(file).write().remove(&(file, fork));
            if let Some(state) = removed {
                let closed = state
                    .segments
                    .write()
                    .iter_mut()
                    .filter_map(Option::take)
                    .count();
                self.open_count.fetch_sub(closed, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Drops handles, counts and pending syncs of one database: its directory is going away, nobody uses it.
    pub fn forget_database(&self, database: Oid) {
        for shard in &self.shards {
            shard.write().retain(|(file, _), state| {
                let keep = file.database != database;
                if !keep {
                    let closed = state
                        .segments
                        .write()
                        .iter_mut()
                        .filter_map(Option::take)
                        .count();
                    self.open_count.fetch_sub(closed, Ordering::Relaxed);
                }
                keep
            });
        }
        self.unsynced
            .lock()
            .retain(|(file, ..)| file.database != database);
    }

    /// Makes every write so far durable; the checkpoint calls it after its writes. A failed sync must end the
    /// process (the kernel may have dropped the pages it could not write): the caller sees to that.
    pub fn sync_written(&self) -> Result<usize, StorageError> {
        let mut list: Vec<_> = {
            let mut unsynced = self.unsynced.lock();
            unsynced.drain().collect()
        };
        list.sort_unstable_by_key(|(file, fork, index)| {
            (
                file.tablespace,
                file.database,
                file.number,
                fork.number(),
                *index,
            )
        });
        let mut synced = 0;
        for (file, fork, index) in list {
            let state = self.fork(file, fork);
            let segment = match self.segment(&state, index, None) {
                Ok(segment) => segment,
                // Dropped or truncated meanwhile.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            // Cleared before the sync: a write during it puts the file on the next list.
            segment.written.store(false, Ordering::Release);
            segment
                .file
                .sync()
                .map_err(|e| StorageError::io("fsync", &segment_path(file, fork, index), e))?;
            synced += 1;
        }
        let dirs: Vec<PathBuf> = self.changed_dirs.lock().drain().collect();
        for dir in dirs {
            match self.disk.sync_dir(&dir) {
                Ok(()) => {}
                // A dropped database.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StorageError::io("fsync", &dir.to_string_lossy(), e)),
            }
        }
        Ok(synced)
    }

    pub fn disk(&self) -> &DiskRef {
        &self.disk
    }
}
