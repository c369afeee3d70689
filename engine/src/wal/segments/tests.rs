use std::sync::Arc;

use super::*;
use crate::io::sim::SimDisk;

/// The thread that prepares files runs while recovery cleans up.
#[test]
fn cleaning_up_leaves_spares_and_takes_leftovers() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let segments = || {
        let disk = Arc::new(disk.clone());
        Segments::new(disk, "pg_wal".into(), 64 << 10, SystemId::new(7))
    };
    let temporaries = || {
        let entries = disk.list(Path::new("pg_wal")).expect("listed");
        let names = entries.into_iter().map(|(name, _)| name);
        names.filter(|n| n.starts_with(TEMPORARY)).count()
    };
    segments().keep_spares(2).expect("room");
    assert_eq!(temporaries(), 2, "left by one that is gone");
    let now = segments();
    now.keep_spares(1).expect("room");
    now.clean_up_and_sync().expect("cleaned up");
    assert_eq!(temporaries(), 1);
    let (timeline, first) = (TimelineId::FIRST, SegmentNumber::new(1));
    now.open_or_create(timeline, first)
        .expect("the spare is there");
    assert_eq!(temporaries(), 0);
}

#[test]
fn what_is_noted_wakes_the_archiver_and_is_archived_once() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let (shared, dir) = (Arc::new(disk.clone()), Path::new("pg_wal"));
    let segments = Segments::new(shared, dir.to_owned(), 64 << 10, SystemId::new(7));
    let woken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&woken);
    segments.on_note(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let is_ready = |name| archive_status::is_ready(&disk, dir, name).expect("asked");
    segments.note_received("always", true).expect("noted");
    assert!(is_ready("always"));
    archive_status::set_done(&disk, dir, "always").expect("archived");
    segments.note_received("always", true).expect("noted");
    assert!(!is_ready("always"), "it came a second time");
    segments.note_received("never", false).expect("noted");
    assert!(!is_ready("never"));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    segments.note_ready("00000002.history").expect("noted");
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}

#[test]
fn what_lies_beside_old_segments_goes_with_them_when_it_is_archived() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let shared = Arc::new(disk.clone());
    let segments = Segments::new(shared, "pg_wal".into(), 64 << 10, SystemId::new(7));
    let dir = Path::new("pg_wal");
    let (cut, backup, new) = (
        "000000010000000000000003.partial",
        "000000010000000000000003.00000028.backup",
        "000000020000000000000005.00000028.backup",
    );
    for name in [cut, backup, new, "00000002.history", "notes.backup"] {
        disk.open(&dir.join(name), Access::Create).expect("new");
    }
    let there = || {
        let entries = disk.list(dir).expect("listed").into_iter();
        let files = entries.filter(|(_, kind)| *kind == EntryKind::File);
        files.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let clean = |unarchived| {
        let keep_from = SegmentNumber::new(5);
        let cleaned = segments.remove_beside(keep_from, unarchived);
        cleaned.expect("cleaned up");
    };
    segments.note_ready(cut).expect("noted");
    clean(Unarchived::Stay);
    assert_eq!(there().len(), 5, "nothing is archived");
    assert!(
        archive_status::is_ready(&disk, dir, backup).expect("asked"),
        "its note was lost"
    );
    archive_status::set_done(&disk, dir, cut).expect("archived");
    clean(Unarchived::Stay);
    assert!(!there().contains(&cut.to_owned()));
    clean(Unarchived::StayIfAskedFor);
    assert!(there().contains(&backup.to_owned()), "it is asked for");
    clean(Unarchived::Go);
    let mut left = there();
    left.sort();
    assert_eq!(left, ["00000002.history", new, "notes.backup"]);
    let notes = disk.list(&dir.join(archive_status::DIR)).expect("listed");
    assert!(notes.is_empty(), "{notes:?}");
}

/// A standby before its promotion must not ask for what its primary archives.
#[test]
fn a_standby_that_archives_nothing_asks_for_nothing() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let shared = Arc::new(disk.clone());
    let segments = Segments::new(shared, "pg_wal".into(), 64 << 10, SystemId::new(7));
    let (one, number) = (TimelineId::FIRST, SegmentNumber::new);
    for n in [1, 2] {
        segments.prepare(one, number(n)).expect("room");
    }
    let asked_for = segments.name(one, number(2));
    segments.note_ready(&asked_for).expect("noted");
    let recycle = |unarchived| {
        let done = segments.recycle_before(number(3), one, number(9), number(8), unarchived);
        done.expect("asked").removed
    };
    assert_eq!(recycle(Unarchived::StayIfAskedFor), 1);
    assert!(segments.exists(one, number(2)).expect("asked"));
    let ready = archive_status::ready(&disk, Path::new("pg_wal")).expect("listed");
    assert_eq!(ready, [asked_for]);
    assert_eq!(recycle(Unarchived::Go), 1);
}

#[test]
fn the_end_of_a_timeline_that_was_left_does_not_pass_for_a_whole_segment() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let (shared, dir) = (Arc::new(disk.clone()), Path::new("pg_wal"));
    let segments = Segments::new(shared, dir.to_owned(), 64 << 10, SystemId::new(7));
    let (one, two, three) = (TimelineId::FIRST, TimelineId::new(2), TimelineId::new(3));
    let history = History::root(one)
        .fork(two, Lsn::new(0x3_8000), "by another")
        .fork(three, Lsn::new(0x5_8000), "here");
    let files = [(one, 2), (one, 3), (two, 3), (two, 5)];
    for (timeline, number) in files {
        let made = segments.prepare(timeline, SegmentNumber::new(number));
        made.expect("room");
    }
    let name = |timeline, number| segments.name(timeline, SegmentNumber::new(number));
    let done = || {
        segments.note_left(&history).expect("noted");
        let is_done = |(timeline, number)| {
            archive_status::has_done_note(&disk, dir, &name(timeline, number)).expect("asked")
        };
        files.map(is_done)
    };
    let cut = name(one, 3);
    segments.note_ready(&cut).expect("noted");
    assert_eq!(done(), [false; 4], "it is asked for");
    archive_status::forget(&disk, dir, &cut).expect("forgotten");
    assert_eq!(done(), [false, true, false, false]);
}

#[test]
fn a_file_of_another_log_does_not_get_a_segments_name() {
    let disk = SimDisk::new();
    for dir in ["pg_wal", "pg_wal/archive_status"] {
        disk.create_dir(Path::new(dir)).expect("new");
    }
    let of_system = |number| {
        let disk = Arc::new(disk.clone());
        Segments::new(disk, "pg_wal".into(), 64 << 10, SystemId::new(number))
    };
    let (ours, segment) = (of_system(7), SegmentNumber::new(3));
    let two = TimelineId::new(2);
    let path = Path::new("pg_wal/given");
    let objection = |header: PageHeader| {
        let (bytes, len) = header.encode();
        durable::replace(&disk, path, &bytes[..len]).expect("written");
        let file = disk.open(path, Access::Read).expect("there");
        ours.objection(&file, two, segment).expect("read")
    };
    let right = PageHeader {
        info: 0,
        timeline: TimelineId::FIRST,
        address: segment.start(64 << 10),
        remaining: 0,
        long: Some(LongHeader {
            system_id: SystemId::new(7),
            segment_size: 64 << 10,
        }),
    };
    assert_eq!(objection(right), None, "the parent's begins it");
    let other = LongHeader {
        system_id: SystemId::new(8),
        segment_size: 64 << 10,
    };
    for (wrong, says) in [
        (
            PageHeader {
                long: Some(other),
                ..right
            },
            "from different database system",
        ),
        (
            PageHeader {
                address: Lsn::new(64 << 10),
                ..right
            },
            "unexpected pageaddr",
        ),
        (
            PageHeader {
                timeline: TimelineId::new(3),
                ..right
            },
            "unexpected timeline ID 3",
        ),
    ] {
        let said = objection(wrong).expect("it is another's");
        assert!(said.contains(says), "{said}");
    }
    durable::replace(&disk, path, b"").expect("written");
    let empty = disk.open(path, Access::Read).expect("there");
    let said = ours.objection(&empty, two, segment).expect("read");
    assert!(said.is_some_and(|s| s.contains("incomplete page header")));
}
