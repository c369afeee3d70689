//! The log as a whole: what is written is read back, by us and by `pg_waldump`, and survives crashes.

mod crash;
mod cut_short;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::timeline::History;
use super::xlog_records::{self, CheckPoint};
use super::*;
use crate::ids::{
    BlockNumber, Fork, Lsn, Oid, PAGE_SIZE, PageId, RelFile, SegmentNumber, SystemId, TimelineId,
    Xid,
};
use crate::io::real::RealDisk;
use crate::io::sim::{Fault, Operation, SimDisk};
use crate::io::{Disk, DiskRef};

const SYSTEM: SystemId = SystemId::new(77);
const MB: u32 = 1 << 20;

fn config(segment_size: u32, buffers: usize) -> WalConfig {
    WalConfig {
        segment_size,
        buffers,
        ..WalConfig::new(SYSTEM)
    }
}

fn prepare_dirs(disk: &dyn Disk) {
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new directory");
    }
    disk.sync_dir(Path::new("")).expect("synced");
    disk.sync_dir(Path::new("pg_wal")).expect("synced");
}

fn start(disk: DiskRef, config: WalConfig) -> Arc<Wal> {
    let first = Lsn::new(u64::from(config.segment_size));
    let wal = Wal::new(disk, config);
    wal.begin_writing(StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: first,
        last_record: Lsn::INVALID,
        aborted: None,
    })
    .expect("a new log");
    wal
}

fn record(main: &[u8]) -> Record<'_> {
    Record {
        rmgr: RmgrId::CLUSTER,
        info: 0x10,
        xid: Xid::new(5),
        main,
        blocks: &[],
    }
}

fn checkpoint() -> [u8; CheckPoint::SIZE] {
    CheckPoint {
        redo: Lsn::new(0x10_0028),
        timeline: TimelineId::FIRST,
        previous_timeline: TimelineId::FIRST,
        full_page_writes: true,
        next_xid: Xid::FIRST_NORMAL,
        next_oid: Oid::FIRST_NORMAL,
        oldest_xid: 3,
        oldest_xid_database: Oid::new(1),
        time_s: xlog_records::now_s(),
        oldest_active_xid: 0,
    }
    .encode()
}

fn reader(wal: &Wal, from: Lsn) -> WalReader<FileSource> {
    let source = FileSource::new(wal.segments().clone(), History::root(TimelineId::FIRST));
    WalReader::new(source, wal.segment_size(), from).with_system_id(SYSTEM)
}

/// All records' main data from `from` on and why reading ended.
fn read_all(wal: &Wal, from: Lsn) -> (Vec<Vec<u8>>, ReadError) {
    let mut reader = reader(wal, from);
    let mut found = Vec::new();
    loop {
        match reader.next() {
            Ok(record) => found.push(record.main.to_vec()),
            Err(end) => return (found, end),
        }
    }
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

fn page_id(number: u32, block: u32) -> PageId {
    PageId {
        file: RelFile::of_database(Oid::new(5), Oid::new(number)),
        fork: Fork::Main,
        block: BlockNumber::new(block),
    }
}

#[test]
fn records_of_every_kind_satisfy_pg_waldump() {
    let program = "/usr/lib/postgresql/15/bin/pg_waldump";
    if !Path::new(program).exists() {
        eprintln!("skipped: {program} is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let disk: DiskRef = Arc::new(RealDisk::new(dir.path()));
    prepare_dirs(&*disk);
    let wal = start(disk, config(MB, 256 * 1024));
    let first = wal.insert_lsn();
    write_every_kind(&wal);
    wal.switch_segment();
    let mut image = [0; PAGE_SIZE];
    image[..100].fill(1);
    for i in 0..3000_u32 {
        let data = pattern((i * 37 % 900) as usize, i as u8);
        let block = BlockRef {
            page: page_id(20000 + i % 3, i),
            flags: if i % 7 == 0 {
                BlockFlags::FORCE_IMAGE
            } else {
                BlockFlags::NONE
            },
            lsn_before: Lsn::MAX,
            image: &image,
            hole: (100, 8000),
            data: &data,
        };
        let main = pattern((i * 13 % 600) as usize, 1);
        wal.insert(&Record {
            rmgr: RmgrId::HEAP,
            info: 0,
            xid: Xid::new(9),
            main: &main,
            blocks: &[block],
        });
    }
    let big = pattern(700_000, 3);
    wal.insert(&record(&big));
    let end = wal.insert(&record(b"last")).end;
    wal.stop();
    assert!(
        end.segment(MB).raw() >= 4,
        "the test should fill several segments, ends at {end}"
    );
    let output = Command::new(program)
        .args([
            "-p",
            &dir.path().join("pg_wal").to_string_lossy(),
            "-s",
            &first.to_string(),
        ])
        .args(["-e", &end.to_string()])
        .output()
        .expect("pg_waldump runs");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    for wanted in [
        "CHECKPOINT_SHUTDOWN redo 0/100028; tli 1; prev tli 1; fpw true; xid 0:3; oid 16384",
        "CHECKPOINT_ONLINE",
        "NEXTOID 24576",
        "BACKUP_END 0/100028",
        "PARAMETER_CHANGE max_connections=100 max_worker_processes=8 max_wal_senders=5",
        "RESTORE_POINT here",
        "FPW_CHANGE true",
        "END_OF_RECOVERY tli 2; prev tli 1",
        "desc: FPI , blkref #0: rel 1663/5/16384 blk 7 FPW",
        "OVERWRITE_CONTRECORD lsn 0/ABC",
        "SWITCH",
        "custom128",
        "custom132",
    ] {
        assert!(
            text.contains(wanted),
            "{wanted} is missing in\n{}",
            &text[..text.len().min(4000)]
        );
    }
    assert!(
        text.lines().count() > 3010,
        "pg_waldump saw only {} records",
        text.lines().count()
    );
}

fn write_every_kind(wal: &Wal) {
    let xlog = |info: u8, main: &[u8]| {
        wal.insert(&Record {
            rmgr: RmgrId::XLOG,
            info,
            xid: Xid::INVALID,
            main,
            blocks: &[],
        });
    };
    xlog(xlog_records::CHECKPOINT_SHUTDOWN, &checkpoint());
    xlog(xlog_records::CHECKPOINT_ONLINE, &checkpoint());
    xlog(xlog_records::NOOP, b"");
    xlog(
        xlog_records::NEXT_OID,
        &xlog_records::encode_next_oid(Oid::new(24576)),
    );
    xlog(
        xlog_records::BACKUP_END,
        &xlog_records::encode_backup_end(Lsn::new(0x10_0028)),
    );
    let parameters = xlog_records::ParameterChange {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 5,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
        wal_level: 1,
        wal_log_hints: false,
        track_commit_timestamp: false,
    };
    xlog(xlog_records::PARAMETER_CHANGE, &parameters.encode());
    let point = xlog_records::RestorePoint {
        time_us: xlog_records::now_us(),
        name: "here".to_owned(),
    };
    xlog(xlog_records::RESTORE_POINT, &point.encode());
    xlog(
        xlog_records::FPW_CHANGE,
        &xlog_records::encode_fpw_change(true),
    );
    let end = xlog_records::EndOfRecovery {
        time_us: xlog_records::now_us(),
        timeline: TimelineId::new(2),
        previous_timeline: TimelineId::FIRST,
    };
    xlog(xlog_records::END_OF_RECOVERY, &end.encode());
    let lost = xlog_records::OverwriteContrecord {
        overwritten: Lsn::new(0xABC),
        time_us: xlog_records::now_us(),
    };
    xlog(xlog_records::OVERWRITE_CONTRECORD, &lost.encode());
    let page = [7; PAGE_SIZE];
    let block = BlockRef {
        page: page_id(16384, 7),
        flags: BlockFlags::FORCE_IMAGE,
        lsn_before: Lsn::INVALID,
        image: &page,
        hole: (0, 0),
        data: &[],
    };
    let fpi = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::FPI,
        xid: Xid::INVALID,
        main: &[],
        blocks: &[block],
    };
    wal.insert(&fpi);
}

/// A standby judges by both whether pages that are copied from it can be healed.
#[test]
fn a_redo_point_knows_what_the_log_before_it_says_of_images() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, MB as usize));
    let begin = wal.insert_lsn();
    let toggled = Arc::clone(&wal);
    let toggling = std::thread::spawn(move || {
        (0..4000).for_each(|i| toggled.set_full_page_writes(i % 2 == 1));
    });
    let mut noted = vec![wal.begin_checkpoint(|_| {})];
    while !toggling.is_finished() {
        noted.push(wal.begin_checkpoint(|_| {}));
    }
    toggling.join().expect("no panic");
    noted.push(wal.begin_checkpoint(|_| {}));
    wal.stop();
    let mut changes = Vec::new();
    let mut log = reader(&wal, begin);
    while let Ok(record) = log.next() {
        if (record.rmgr, record.info) == (RmgrId::XLOG, xlog_records::FPW_CHANGE) {
            let on = xlog_records::decode_fpw_change(record.main).expect("one byte");
            changes.push((record.start, on));
        }
    }
    assert_eq!(changes.len(), 4000);
    for (redo, on) in noted {
        let before = changes.partition_point(|(at, _)| *at < redo);
        let said = before.checked_sub(1).is_none_or(|last| changes[last].1);
        assert_eq!(on, said, "{redo}");
    }
}

#[test]
fn blocks_come_back_as_they_went_in() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, MB as usize));
    let redo = wal.set_redo_point(|_| {});
    let mut image = [0; PAGE_SIZE];
    image[..40].fill(1);
    image[8000..].fill(2);
    let block = |number, block, flags, lsn_before| BlockRef {
        page: page_id(number, block),
        flags,
        lsn_before,
        image: &image,
        hole: (40, 7960),
        data: b"change",
    };
    let blocks = [
        block(1, 1, BlockFlags::NONE, Lsn::INVALID),
        block(1, 2, BlockFlags::NONE, redo.advance(1)),
        block(2, 3, BlockFlags::WILL_INIT, Lsn::INVALID),
        block(2, 4, BlockFlags::NO_IMAGE, Lsn::INVALID),
    ];
    wal.insert(&Record {
        rmgr: RmgrId::BTREE,
        info: 0x20,
        xid: Xid::new(1 << 33 | 8),
        main: b"m",
        blocks: &blocks,
    });
    wal.stop();
    let mut reader = reader(&wal, redo);
    let found = reader.next().expect("one record");
    assert_eq!(
        (found.rmgr, found.info, found.xid_low, found.main),
        (RmgrId::BTREE, 0x20, 8, &b"m"[..])
    );
    let data: Vec<&[u8]> = found.blocks.iter().map(|b| b.data).collect();
    assert_eq!(data, [&b""[..], b"change", b"change", b"change"]);
    let imaged: Vec<bool> = found.blocks.iter().map(|b| b.image.is_some()).collect();
    assert_eq!(
        imaged,
        [true, false, false, false],
        "only the page not touched since the redo point"
    );
    assert!(found.blocks[2].will_init && found.blocks[0].apply_image);
    let mut restored = [9; PAGE_SIZE];
    found.blocks[0]
        .image
        .expect("has one")
        .restore(&mut restored);
    assert!(restored == image, "the image differs");
    for (i, block) in found.blocks.iter().enumerate() {
        assert_eq!(block.page, blocks[i].page);
    }
}

#[test]
fn parallel_inserters_leave_no_gap_and_group_flush_serves_all() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    // A ring of 4 pages, so that inserters also wait for room.
    let wal = start(Arc::new(disk), config(MB, 4 * PAGE_SIZE));
    let from = wal.insert_lsn();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let wal = &wal;
            scope.spawn(move || {
                for i in 0..300_usize {
                    let len = if i % 50 == 0 { 60_000 } else { i * 7 % 300 + 2 };
                    let mut main = pattern(len, thread);
                    main[0] = thread;
                    main[1] = i as u8;
                    let inserted = wal.insert(&record(&main));
                    if i % 10 == 0 {
                        wal.flush_blocking(inserted.end);
                        assert!(wal.flush_lsn() >= inserted.end);
                    }
                }
            });
        }
    });
    wal.stop();
    let (found, end) = read_all(&wal, from);
    assert!(matches!(end, ReadError::EndOfLog { .. }), "{end}");
    assert_eq!(found.len(), 1200);
    for thread in 0..4_u8 {
        let mine: Vec<u8> = found
            .iter()
            .filter(|m| m[0] == thread)
            .map(|m| m[1])
            .collect();
        let order: Vec<u8> = (0..300_usize).map(|i| i as u8).collect();
        assert_eq!(mine, order, "records of thread {thread}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_wait_for_their_flush() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, MB as usize));
    let mut tasks = Vec::new();
    for i in 0..200_u8 {
        let wal = wal.clone();
        tasks.push(tokio::spawn(async move {
            let end = wal.insert(&record(&[i; 100])).end;
            wal.flushed(end).await;
            assert!(wal.flush_lsn() >= end);
        }));
    }
    for task in tasks {
        task.await.expect("flushed");
    }
    assert_eq!(*wal.flush_watch().borrow(), wal.flush_lsn());
    wal.stop();
}

#[test]
fn a_redo_point_that_moves_makes_the_record_anew() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, MB as usize));
    let page = [0; PAGE_SIZE];
    let from = wal.insert_lsn();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                wal.set_redo_point(|_| {});
            }
        });
        for i in 0..2000 {
            let lsn_before = wal.redo_point();
            let block = BlockRef {
                page: page_id(1, i),
                flags: BlockFlags::NONE,
                lsn_before,
                image: &page,
                hole: (24, 8000),
                data: b"x",
            };
            wal.insert(&Record {
                rmgr: RmgrId::HEAP,
                info: 0,
                xid: Xid::new(3),
                main: &[],
                blocks: &[block],
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
    wal.stop();
    let mut reader = reader(&wal, from);
    let mut count = 0;
    while let Ok(record) = reader.next() {
        assert!(
            record.blocks[0].image.is_some(),
            "{} has no image",
            record.start
        );
        count += 1;
    }
    assert_eq!(count, 2000);
}

#[test]
fn a_switch_ends_the_segment_and_reading_goes_on_behind_it() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, 64 * 1024));
    let from = wal.insert_lsn();
    wal.insert(&record(b"before"));
    let switch = wal.switch_segment();
    assert!(switch.end > switch.start);
    let again = wal.switch_segment();
    assert_eq!(again.start, again.end, "an empty segment is not switched");
    assert_eq!(again.start, SegmentNumber::new(2).start(MB));
    wal.insert(&record(b"after"));
    wal.stop();
    let (found, _) = read_all(&wal, from);
    assert_eq!(found, [b"before".to_vec(), Vec::new(), b"after".to_vec()]);
}

#[test]
fn flushed_bytes_are_the_same_from_memory_and_from_files() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk), config(MB, 8 * PAGE_SIZE));
    let from = SegmentNumber::new(1).start(MB);
    for i in 0..800_u32 {
        wal.insert(&record(&pattern(300, i as u8)));
        if i % 40 == 0 {
            wal.flush_blocking(wal.insert_lsn());
        }
    }
    wal.flush_blocking(wal.insert_lsn());
    let mut bytes = Vec::new();
    let mut buf = [0; 5000];
    let mut at = from;
    loop {
        let n = wal.read_flushed(at, &mut buf).expect("readable");
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&buf[..n]);
        at = at.advance(n as u64);
    }
    assert_eq!(at, wal.flush_lsn());
    let mut file = vec![0; bytes.len()];
    wal.segments()
        .read(TimelineId::FIRST, from, &mut file)
        .expect("readable");
    assert!(bytes == file, "memory and file differ");
    assert!(
        wal.read_flushed(at.advance(8), &mut buf).is_err(),
        "read past the flushed end"
    );
    wal.stop();
}

#[test]
fn the_end_is_told_from_damage() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk.clone()), config(MB, MB as usize));
    let from = wal.insert_lsn();
    let mut ends = Vec::new();
    while wal.insert_lsn().segment(MB).raw() < 4 {
        ends.push(wal.insert(&record(&pattern(30_000, ends.len() as u8))));
    }
    wal.stop();
    let flip = |at: Lsn| {
        let path = wal.segments().path(TimelineId::FIRST, at.segment(MB));
        let file = disk
            .open(&path, crate::io::Access::ReadWrite)
            .expect("there");
        let offset = u64::from(at.segment_offset(MB));
        let mut byte = [0];
        file.read_at(&mut byte, offset).expect("read");
        byte[0] ^= 1;
        file.write_all_at(&byte, offset).expect("written");
    };
    let (whole, end) = read_all(&wal, from);
    assert_eq!(whole.len(), ends.len());
    assert!(matches!(end, ReadError::EndOfLog { .. }), "{end}");
    // In the middle of the log: a later segment begins right.
    let middle = ends[10].start.advance(100);
    flip(middle);
    let (found, end) = read_all(&wal, from);
    assert_eq!(found.len(), 10);
    assert!(
        matches!(end, ReadError::Damaged { lsn, .. } if lsn == ends[10].start),
        "{end}"
    );
    flip(middle);
    // In the last segment: nothing proves that the log went on, unless somebody knows.
    let last = ends[ends.len() - 1];
    flip(last.end.advance(0).page_start().advance(30));
    let (found, end) = read_all(&wal, from);
    assert!(found.len() >= ends.len() - 2);
    assert!(matches!(end, ReadError::EndOfLog { .. }), "{end}");
    let mut knowing = reader(&wal, from);
    knowing.set_proof(last.end);
    let end = std::iter::repeat_with(|| knowing.next().map(|_| ())).find_map(Result::err);
    assert!(matches!(end, Some(ReadError::Damaged { .. })), "{end:?}");
}

#[test]
fn a_failed_sync_is_fatal_and_acknowledges_nobody() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let failed = Arc::new(AtomicBool::new(false));
    let seen = failed.clone();
    let fatal: FatalHook = Arc::new(move |_| seen.store(true, Ordering::SeqCst));
    let wal = start(
        Arc::new(disk.clone()),
        WalConfig {
            fatal,
            ..config(MB, MB as usize)
        },
    );
    let first = wal.insert(&record(b"kept")).end;
    wal.flush_blocking(first);
    disk.inject(Fault {
        operation: Operation::Sync,
        path_contains: "pg_wal/0000".to_owned(),
        after: 0,
        error: std::io::ErrorKind::Other,
        stays: false,
    });
    let second = wal.insert(&record(b"lost")).end;
    let waited =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wal.flush_blocking(second)));
    assert!(waited.is_err(), "a flush that failed was reported as done");
    assert!(failed.load(Ordering::SeqCst));
    assert_eq!(wal.flush_lsn(), first);
}

/// As a session's task that panics leaves its transaction: it is aborted while the thread unwinds.
#[test]
fn whoever_unwinds_for_another_reason_may_still_insert() {
    struct LogsItsEnd<'a>(&'a Wal);
    impl Drop for LogsItsEnd<'_> {
        fn drop(&mut self) {
            self.0.insert(&record(b"aborted"));
        }
    }
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let failed = Arc::new(AtomicBool::new(false));
    let seen = failed.clone();
    let fatal: FatalHook = Arc::new(move |_| seen.store(true, Ordering::SeqCst));
    let wal = start(
        Arc::new(disk),
        WalConfig {
            fatal,
            ..config(MB, MB as usize)
        },
    );
    let before = wal.insert_lsn();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _open = LogsItsEnd(&wal);
        panic!("of a statement");
    }));
    assert!(unwound.is_err() && !failed.load(Ordering::SeqCst));
    let end = wal.insert_lsn();
    assert!(end > before);
    wal.flush_blocking(end);
    wal.stop();
}

#[test]
fn a_full_disk_is_an_error_before_it_is_fatal() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk.clone()), config(MB, MB as usize));
    wal.ensure_space().expect("there is room");
    std::thread::sleep(Duration::from_millis(20));
    disk.set_capacity(Some(disk.used()));
    let mut written = 0;
    let error = loop {
        if let Err(error) = wal.ensure_space() {
            break error;
        }
        let end = wal.insert(&record(&[1; 20_000])).end;
        wal.flush_blocking(end);
        written += 1;
        assert!(written < 1000, "the disk never got full");
    };
    assert!(error.is_out_of_space(), "{error}");
    disk.set_capacity(None);
    wal.ensure_space().expect("there is room again");
    wal.stop();
}

#[test]
fn old_segments_are_recycled_and_their_bytes_not_believed() {
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk.clone()), config(MB, MB as usize));
    while wal.insert_lsn().segment(MB).raw() < 5 {
        wal.insert(&record(&[5; 10_000]));
    }
    let here = wal.insert_lsn();
    wal.flush_blocking(here);
    let done = wal
        .recycle_before(SegmentNumber::new(5), SegmentNumber::new(7))
        .expect("recycled");
    assert_eq!(done.recycled + done.removed, 4, "{done:?}");
    assert!(done.recycled >= 1, "{done:?}");
    let names: Vec<u64> = wal
        .segments()
        .list()
        .expect("listed")
        .iter()
        .map(|(_, s)| s.raw())
        .collect();
    assert_eq!(names, [5, 6, 7]);
    let mut buf = [0; 10];
    let gone = wal.read_flushed(SegmentNumber::new(2).start(MB), &mut buf);
    assert!(matches!(gone, Err(WalError::SegmentRemoved(_))), "{gone:?}");
    wal.insert(&record(b"x"));
    wal.stop();
    let (found, end) = read_all(&wal, here);
    assert_eq!(found, [b"x".to_vec()]);
    assert!(matches!(end, ReadError::EndOfLog { .. }), "{end}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 24..600)) {
        let _ = super::decode::decode(&bytes, Lsn::new(8), Lsn::new(16));
    }

    #[test]
    fn a_changed_record_is_never_taken_for_another(at in 0_usize..400, bit in 0_u8..8, len in 0_usize..300) {
        let mut encoded = super::record::Encoded::default();
        let page = [3; PAGE_SIZE];
        let block = BlockRef {
            page: page_id(4, 5), flags: BlockFlags::NONE, lsn_before: Lsn::MAX,
            image: &page, hole: (0, 0), data: b"data",
        };
        let main = pattern(len, 1);
        let policy = super::record::ImagePolicy { redo_point: Lsn::INVALID, full_pages: true };
        let record = Record { blocks: &[block], ..record(&main) };
        encoded.encode(&record, policy);
        encoded.seal(Lsn::new(8));
        let mut bytes = encoded.bytes()[..encoded.total()].to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let crc_differs = super::decode::crc_of(&bytes) != super::decode::Header::read(&bytes).crc;
        // The two bytes of padding in the header are covered too.
        prop_assert!(crc_differs);
    }
}
