//! Crashes, checkpoints, damage, missing files.

use super::*;

#[test]
fn a_clean_stop_needs_no_recovery_and_keeps_everything() {
    let disk = initialise();
    let (node, outcome) = Node::start(&disk, 64).expect("starts");
    assert_eq!(outcome.kind, OutcomeKind::Clean);
    assert!(node.rooms.writing.load(Ordering::SeqCst));
    for i in 0..200 {
        node.set(i as u32 % PAGES, i + 1);
    }
    let expected = node.counters();
    node.shut_down();
    assert_eq!(node.store.control.get().state, ClusterState::ShutDown);
    let (again, outcome) = Node::start(&disk.crash(), 64).expect("starts");
    assert_eq!(outcome.kind, OutcomeKind::Clean);
    assert_eq!(again.counters(), expected);
    assert!(again.checkpoint().is_some(), "CHECKPOINT is always obeyed");
    again.shut_down();
}

#[test]
fn nothing_flushed_is_lost_at_any_crash() {
    let disk = initialise();
    // Fewer frames than pages would be evicted in any order; the pool's least is more than ours, so checkpoints
    // alone write pages here.
    let (node, _) = Node::start(&disk, 16).expect("starts");
    let flushed = Arc::new(AtomicU64::new(0));
    let frozen = Arc::new(Mutex::new(Vec::new()));
    let (at_flush, keep) = (flushed.clone(), frozen.clone());
    disk.on_sync(move |state| {
        keep.lock()
            .push((state.clone(), at_flush.load(Ordering::SeqCst)))
    });
    for i in 1..=60_u64 {
        let end = node.set((i * 5 % u64::from(PAGES)) as u32, i);
        if i % 4 == 0 {
            node.flush(end);
            flushed.store(i, Ordering::SeqCst);
        }
        if i % 20 == 0 {
            node.checkpoint();
        }
    }
    disk.clear_on_sync();
    node.abandon();
    let mut images = 0;
    for (state, flushed) in &*frozen.lock() {
        for image in state.images(3).step_by(7) {
            images += 1;
            let started = Node::start(&image.disk, 16);
            let (node, _) = started.unwrap_or_else(|error| panic!("{}: {error}", image.name));
            check_counters(&node.counters(), *flushed, &image.name);
            node.abandon();
        }
    }
    assert!(images > 100, "only {images} images");
}

/// The counters must be those after the first n changes, n at least what was flushed.
fn check_counters(found: &[u64], flushed: u64, name: &str) {
    let newest = found.iter().copied().max().unwrap_or(0);
    assert!(
        newest >= flushed,
        "{name}: {newest} of {flushed} flushed changes"
    );
    let mut expected = vec![0; found.len()];
    for i in 1..=newest {
        expected[(i * 5 % u64::from(PAGES)) as usize] = i;
    }
    assert_eq!(found, expected, "{name}");
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    for i in 1..=50_u64 {
        node.set((i * 5 % u64::from(PAGES)) as u32, i);
    }
    node.flush(node.store.wal.end_lsn());
    let crashed = disk.crash();
    node.abandon();
    let frozen = Arc::new(Mutex::new(Vec::new()));
    let keep = frozen.clone();
    crashed.on_sync(move |state| keep.lock().push(state.clone()));
    let (node, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(outcome.kind, OutcomeKind::Crash);
    node.checkpoint();
    crashed.clear_on_sync();
    node.abandon();
    for state in &*frozen.lock() {
        for image in state.images(5).step_by(11) {
            let (node, _) = Node::start(&image.disk, 64).expect("recovers again");
            check_counters(&node.counters(), 50, &image.name);
            node.abandon();
        }
    }
}

#[test]
fn damage_in_the_middle_stops_the_start_and_names_the_place() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let begin = node.store.wal.insert_lsn();
    let mut middle = Lsn::INVALID;
    while node.store.wal.insert_lsn().raw() < 4 * u64::from(SEGMENT) {
        let end = node.set(1, 1);
        // Whole pages, so that the log grows.
        node.store.wal.set_redo_point(|_| {});
        if !middle.is_valid() && end.raw() > 2 * u64::from(SEGMENT) {
            middle = end.advance(200);
        }
    }
    node.flush(node.store.wal.end_lsn());
    let crashed = disk.crash();
    node.abandon();
    assert!(begin < middle);
    let path = node
        .store
        .wal
        .segments()
        .path(TimelineId::FIRST, middle.segment(SEGMENT));
    let file = crashed
        .open(&path, crate::io::Access::ReadWrite)
        .expect("there");
    file.write_all_at(&[0xAA; 64], u64::from(middle.segment_offset(SEGMENT)))
        .expect("written");
    let error = Node::start(&crashed, 64).err().expect("damage");
    assert!(matches!(error, RecoveryError::Damaged { .. }), "{error}");
}

#[test]
fn checkpoints_free_the_log_and_shorten_recovery() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    for round in 0..6_u64 {
        while node.store.wal.insert_lsn().raw() < (3 + round) * u64::from(SEGMENT) {
            node.set((round % 12) as u32, round + 1);
            node.store.wal.set_redo_point(|_| {});
        }
        let done = node.checkpoint().expect("something was logged");
        assert!(done.checkpoint.redo <= done.lsn);
        let first = node.store.wal.segments().list().expect("listed")[0].1;
        assert_eq!(first, done.checkpoint.redo.segment(SEGMENT));
        assert_eq!(node.store.control.get().checkpoint, done.lsn);
    }
    let expected = node.counters();
    let crashed = disk.crash();
    node.abandon();
    let (again, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(outcome.kind, OutcomeKind::Crash);
    assert_eq!(again.counters(), expected);
    again.shut_down();
}

#[test]
fn pages_of_files_that_are_gone_matter_only_at_the_end() {
    let missing = MissingPages::default();
    missing.remember(page_id(3));
    missing.remember(page_id(8));
    assert!(missing.check().is_err());
    missing.forget_beyond(TABLE, Fork::Main, 5);
    assert!(matches!(
        missing.check(),
        Err(RecoveryError::InvalidPages { count: 1, .. })
    ));
    missing.forget_file(TABLE);
    missing.check().expect("nothing is missing");
}

#[test]
fn a_log_that_lacks_a_file_is_refused() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    // No image and no such file: as if the file had been lost.
    let image = [0; PAGE_SIZE];
    let lost = PageId {
        block: BlockNumber::new(500),
        ..page_id(0)
    };
    let block = crate::wal::BlockRef {
        page: lost,
        flags: crate::wal::BlockFlags::NO_IMAGE,
        lsn_before: Lsn::INVALID,
        image: &image,
        hole: (0, 0),
        data: &[1; 8],
    };
    let record = Record {
        rmgr: RmgrId::HEAP,
        info: 0,
        xid: Xid::new(5),
        main: &[],
        blocks: &[block],
    };
    let end = node.store.wal.insert(&record).end;
    node.flush(end);
    let crashed = disk.crash();
    node.abandon();
    let error = Node::start(&crashed, 64).err().expect("refused");
    assert!(
        matches!(error, RecoveryError::InvalidPages { count: 1, .. }),
        "{error}"
    );
}
