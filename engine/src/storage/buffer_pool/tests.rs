//! Pages survive eviction and checkpoints; the gate is asked first; dropped pages are not written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{BlockNumber, Fork, Lsn, Oid, PageId, RelFile};
use crate::io::real::RealDisk;
use crate::storage::files::RelationFiles;
use crate::storage::page;
use crate::storage::{BufferPool, Flow, Ring, StorageError, WriteGate};

#[derive(Default)]
struct RecordingGate {
    highest: AtomicU64,
}
impl WriteGate for RecordingGate {
    fn before_write(&self, page_lsn: Lsn) -> Result<(), StorageError> {
        self.highest.fetch_max(page_lsn.raw(), Ordering::SeqCst);
        Ok(())
    }
    fn fatal(&self, reason: &str) {
        panic!("{reason}");
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    pool: Arc<BufferPool>,
    gate: Arc<RecordingGate>,
    file: RelFile,
}

fn fixture(frames: usize) -> Fixture {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir_all(dir.path().join("base/5")).expect("directory");
    let disk = Arc::new(RealDisk::new(dir.path()));
    let files = Arc::new(RelationFiles::new(disk));
    let gate = Arc::new(RecordingGate::default());
    let pool = Arc::new(BufferPool::new(files, frames, true, gate.clone()));
    let file = RelFile::of_database(Oid::new(5), Oid::new(16_384));
    pool.files.create(file, Fork::Main, false).expect("create");
    Fixture {
        dir,
        pool,
        gate,
        file,
    }
}

impl Fixture {
    fn page(&self, block: u32) -> PageId {
        PageId {
            file: self.file,
            fork: Fork::Main,
            block: BlockNumber::new(block),
        }
    }
    fn append(&self, lsn: u64, bytes: &[u8]) -> PageId {
        let pin = self.pool.extend(self.file, Fork::Main).expect("extend");
        self.set(&pin, lsn, bytes);
        pin.id()
    }
    fn set(&self, pin: &crate::storage::Pinned, lsn: u64, bytes: &[u8]) {
        let mut page = pin.write();
        let first = page.about_to_log();
        page::init(&mut page, 0);
        page::add_item(&mut page, bytes).expect("fits");
        page.logged_at(first, Lsn::new(lsn), Lsn::new(lsn + 8));
    }
    fn item(&self, block: u32) -> Vec<u8> {
        let pin = self.pool.pin(self.page(block)).expect("pin");
        let page = pin.read();
        page::item(&page, crate::ids::OffsetNumber::FIRST)
            .expect("one item")
            .to_vec()
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("base/5/16384")
    }
}

#[test]
fn pages_survive_eviction() {
    let f = fixture(16);
    for block in 0..200_u32 {
        f.append(1000 + u64::from(block) * 8, &block.to_le_bytes());
    }
    assert_eq!(f.pool.block_count(f.file, Fork::Main).expect("count"), 200);
    for block in 0..200_u32 {
        assert_eq!(f.item(block), block.to_le_bytes());
    }
    let (reads, writes) = f.pool.io_counts();
    assert!(
        reads >= 184 && writes >= 184,
        "{reads} reads, {writes} writes"
    );
    assert!(f.gate.highest.load(Ordering::SeqCst) >= 1000 + 183 * 8);
}

#[test]
fn a_checkpoint_writes_what_changed_before_it_and_nothing_else() {
    let f = fixture(64);
    for block in 0..10_u32 {
        f.append(1000 + u64::from(block) * 100, &block.to_le_bytes());
    }
    let mut seen = Vec::new();
    f.pool
        .write_dirty(Lsn::new(1500), &mut |p| {
            seen.push(p);
            Flow::Continue
        })
        .expect("checkpoint");
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[4].written, 5);
    let bytes = std::fs::read(f.path()).expect("file");
    assert_eq!(bytes.len(), 10 * 8192);
    for block in 0..10_usize {
        let page: &[u8; 8192] = bytes[block * 8192..][..8192].try_into().expect("page");
        assert_eq!(!page::is_new(page), block < 5, "block {block}");
        if block < 5 {
            let sum = page::checksum_of(page, BlockNumber::new(block as u32));
            assert_eq!(page::stored_checksum(page), sum);
        }
    }
}

#[test]
fn a_damaged_page_is_refused_and_can_be_replaced() {
    let f = fixture(16);
    f.append(8, b"x");
    f.pool
        .write_dirty(Lsn::MAX, &mut |_| Flow::Continue)
        .expect("checkpoint");
    f.pool.forget(f.file);
    let mut bytes = std::fs::read(f.path()).expect("file");
    bytes[8000] ^= 1;
    std::fs::write(f.path(), &bytes).expect("write");
    assert!(matches!(
        f.pool.pin(f.page(0)),
        Err(StorageError::Damaged(_))
    ));
    assert!(page::is_new(
        &f.pool.pin_for_init(f.page(0)).expect("zeroed").read()
    ));
}

#[test]
fn a_read_beyond_the_end_is_an_error_and_redo_extends() {
    let f = fixture(16);
    assert!(matches!(
        f.pool.pin(f.page(3)),
        Err(StorageError::BeyondEnd(_))
    ));
    drop(f.pool.pin_or_extend(f.page(3)).expect("extended"));
    assert_eq!(f.pool.block_count(f.file, Fork::Main).expect("count"), 4);
    let other = PageId {
        file: RelFile::of_database(Oid::new(5), Oid::new(99)),
        ..f.page(1)
    };
    drop(
        f.pool
            .pin_or_extend(other)
            .expect("file and pages are made"),
    );
}

#[test]
fn all_frames_pinned_is_an_error() {
    let f = fixture(16);
    let pins: Vec<_> = (0..16)
        .map(|_| f.pool.extend(f.file, Fork::Main).expect("extend"))
        .collect();
    assert!(matches!(
        f.pool.extend(f.file, Fork::Main),
        Err(StorageError::NoBuffers)
    ));
    drop(pins);
    f.pool.extend(f.file, Fork::Main).expect("room again");
}

#[test]
fn forgotten_pages_are_never_written_and_their_frames_come_back() {
    let f = fixture(16);
    for _ in 0..3 {
        for block in 0..16_u32 {
            f.append(8, &block.to_le_bytes());
        }
        f.pool.truncate(f.file, Fork::Main, 0).expect("truncate");
        f.pool
            .write_dirty(Lsn::MAX, &mut |_| Flow::Continue)
            .expect("checkpoint");
        assert_eq!(std::fs::metadata(f.path()).expect("file").len(), 0);
    }
}

#[test]
fn a_ring_leaves_the_pool_alone() {
    let f = fixture(256);
    for block in 0..1000_u32 {
        f.append(8, &block.to_le_bytes());
    }
    f.pool
        .write_dirty(Lsn::MAX, &mut |_| Flow::Continue)
        .expect("checkpoint");
    f.pool.forget_all();
    for block in 0..200 {
        f.item(block);
    }
    let mut ring = Ring::for_scan();
    for block in 200..1000 {
        drop(f.pool.pin_in_ring(f.page(block), &mut ring).expect("pin"));
    }
    let (before, _) = f.pool.io_counts();
    for block in 0..200 {
        f.item(block);
    }
    assert_eq!(
        f.pool.io_counts().0,
        before,
        "the scan pushed out other pages"
    );
}

#[test]
fn many_threads_lose_no_change() {
    let f = Arc::new(fixture(32));
    for _ in 0..100 {
        f.append(8, &0_u64.to_le_bytes());
    }
    let next = Arc::new(AtomicU64::new(1000));
    let threads: Vec<_> = (0..4_u64)
        .map(|seed| {
            let (f, next) = (Arc::clone(&f), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                for round in 0..3000 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let pin = f.pool.pin(f.page((state % 100) as u32)).expect("pin");
                    let mut page = pin.write();
                    let lsn = next.fetch_add(16, Ordering::SeqCst);
                    let first = page.about_to_log();
                    let item = page::item_mut(&mut page, crate::ids::OffsetNumber::FIRST)
                        .expect("one item");
                    let count = u64::from_le_bytes(item.try_into().expect("eight bytes"));
                    item.copy_from_slice(&(count + 1).to_le_bytes());
                    page.logged_at(first, Lsn::new(lsn), Lsn::new(lsn + 8));
                    drop(page);
                    if round % 500 == 0 {
                        f.pool
                            .write_dirty(Lsn::MAX, &mut |_| Flow::Continue)
                            .expect("checkpoint");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let total: u64 = (0..100)
        .map(|b| u64::from_le_bytes(f.item(b).try_into().expect("eight bytes")))
        .sum();
    assert_eq!(total, 4 * 3000);
}
