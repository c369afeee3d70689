//! The tree against a sorted set, under concurrent writers, and against its own redo.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::catalog::relation::{Index, IndexKey};
use crate::ids::{Lsn, OffsetNumber, Oid, PAGE_SIZE, TimelineId};
use crate::index::check::{Report, check, has_entry};
use crate::storage::change::{Replay, replay, replay_image};
use crate::txn::testing::{DATABASE, World};
use crate::types::datum::SqlType;
use crate::types::oids;
use crate::wal::timeline::History;
use crate::wal::{RmgrId, StartWriting};

const XID: Xid = Xid::new(9);

fn index() -> Index {
    Index {
        oid: Oid::new(90001),
        name: "t_pkey".to_owned(),
        table: Oid::new(90000),
        file: RelFile::of_database(DATABASE, Oid::new(90001)),
        keys: vec![IndexKey {
            column: 0,
            ty: SqlType::plain(oids::INT4),
            class: Oid::INVALID,
            descending: false,
            nulls_first: false,
        }],
        included: Vec::new(),
        unique: true,
        primary: true,
        nulls_not_distinct: false,
        valid: true,
        constraint: None,
        deferrable: false,
        only_if_sees: None,
    }
}

fn empty_file(world: &World) -> Index {
    let index = index();
    let made = world.store.files.create(index.file, Fork::Main, false);
    made.expect("a new file");
    index
}

fn empty_index(world: &World) -> Index {
    let index = empty_file(world);
    create(&world.store, &index, XID).expect("an empty index");
    index
}

fn tid(n: u64) -> Tid {
    let offset = OffsetNumber::new((n % 200) as u16 + 1).expect("not zero");
    Tid::new(BlockNumber::new((n / 200) as u32), offset)
}

/// A prefix-free key, as long as its number says.
fn key(n: u64) -> Vec<u8> {
    let mut key = n.to_be_bytes().to_vec();
    let len = match n % 7 {
        0 => 300,
        1 => 1,
        _ => 20,
    };
    key.extend(std::iter::repeat_n(n as u8 | 1, len));
    key.push(0);
    key
}

fn add(world: &World, index: &Index, key: &[u8], tid: Tid) {
    let done = insert(&world.store, index, key, tid, XID, UniqueCheck::No);
    assert_eq!(done.expect("inserted"), Inserted::Done);
}

type Entries = Vec<(Vec<u8>, Tid)>;

fn read(world: &World, index: &Index, range: KeyRange, direction: Direction) -> Entries {
    let mut found = Vec::new();
    let mut scan = scan(&world.store, index, range, direction).expect("a scan");
    while let Some((tid, key)) = scan.next(&world.store).expect("an entry") {
        found.push((key.to_vec(), tid));
    }
    found
}

fn checked(world: &World, index: &Index) -> (Report, Entries) {
    let mut found = Vec::new();
    let report = check(&world.store, index, &mut |key, tid| {
        found.push((key.to_vec(), tid));
        Ok(())
    });
    (report.expect("a sound tree"), found)
}

fn vacuum(world: &World, index: &Index, dead: &HashSet<Tid>) -> Removed {
    let is_dead = |tid: Tid| dead.contains(&tid);
    remove_dead::<IndexError>(&world.store, index, &is_dead, &mut || Ok(())).expect("vacuumed")
}

/// Replays the log of `world` into `copy`, as recovery does; stops before a record for which `go_on` is false.
fn replay_into(world: &World, copy: &World, mut go_on: impl FnMut(usize) -> bool) -> usize {
    let mut log = world.log();
    let mut records = 0;
    while let Ok(record) = log.next() {
        if record.rmgr != RmgrId::BTREE {
            continue;
        }
        if !go_on(records) {
            break;
        }
        records += 1;
        for (i, block) in record.blocks.iter().enumerate() {
            let pinned = copy.store.pool.pin_or_extend(block.page).expect("a page");
            let mut p = pinned.write();
            if let Some(image) = block.image.filter(|_| block.apply_image) {
                replay_image(&mut p, record.start, record.end, |page| image.restore(page));
                continue;
            }
            let one = Replay {
                start: record.start,
                end: record.end,
                info: record.info,
                block: i as u8,
                will_init: block.will_init,
                data: block.data,
            };
            replay(&mut p, &one, page_fn()).expect("redo");
        }
    }
    records
}

fn assert_same_pages(a: &World, b: &World, file: RelFile) {
    let blocks = a.store.pool.block_count(file, Fork::Main).expect("blocks");
    assert_eq!(
        blocks,
        b.store.pool.block_count(file, Fork::Main).expect("blocks")
    );
    for block in 0..blocks {
        let id = PageId {
            file,
            fork: Fork::Main,
            block: BlockNumber::new(block),
        };
        let of = |world: &World| {
            let mut page = *world.store.pool.pin(id).expect("a page").read();
            page[8..10].fill(0); // the checksum is the writer's
            page
        };
        let (x, y) = (of(a), of(b));
        let differs = (0..PAGE_SIZE).find(|i| x[*i] != y[*i]);
        assert_eq!(differs, None, "block {block} differs at this byte");
    }
}

fn empty_copy() -> World {
    let copy = World::recovering(2000);
    let made = copy.store.files.create(index().file, Fork::Main, true);
    made.expect("a new file");
    copy
}

fn made_blocks(world: &World) -> u32 {
    let blocks = world.store.pool.block_count(index().file, Fork::Main);
    blocks.expect("the index is there")
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, u64),
    Vacuum(u64),
    Scan(u64, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_u64..500, 0_u64..3000).prop_map(|(k, t)| Step::Insert(k, t)),
        1 => (2_u64..7).prop_map(Step::Vacuum),
        3 => (0_u64..500, 0_u64..500, any::<bool>()).prop_map(|(a, b, r)| Step::Scan(a, b, r)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_tree_is_a_sorted_set_and_redo_makes_the_same_pages(
        steps in prop::collection::vec(step(), 1..700),
    ) {
        let world = World::with_frames(500);
        let index = empty_index(&world);
        let mut model: BTreeSet<(Vec<u8>, Tid)> = BTreeSet::new();
        for step in &steps {
            match *step {
                Step::Insert(k, t) => {
                    if model.insert((key(k), tid(t))) {
                        add(&world, &index, &key(k), tid(t));
                    }
                }
                Step::Vacuum(n) => {
                    let dead: HashSet<Tid> = (0..3000).filter(|t| t % n == 0).map(tid).collect();
                    let before = model.len();
                    model.retain(|(_, t)| !dead.contains(t));
                    let removed = vacuum(&world, &index, &dead);
                    prop_assert_eq!(removed.removed as usize, before - model.len());
                    prop_assert_eq!(removed.left as usize, model.len());
                }
                Step::Scan(a, b, reverse) => {
                    let (low, high) = (key(a.min(b)), key(a.max(b)));
                    for (lower, upper) in [
                        (Bound::Included(low.clone()), Bound::Included(high.clone())),
                        (Bound::Excluded(low.clone()), Bound::Excluded(high.clone())),
                        (Bound::Unbounded, Bound::Excluded(high.clone())),
                        (Bound::Included(low.clone()), Bound::Unbounded),
                    ] {
                        let within = |k: &Vec<u8>| {
                            let range = (lower.as_ref(), upper.as_ref());
                            std::ops::RangeBounds::<Vec<u8>>::contains(&range, k)
                        };
                        let mut expected: Entries =
                            model.iter().filter(|(k, _)| within(k)).cloned().collect();
                        let direction = if reverse { Direction::Backward } else { Direction::Forward };
                        if reverse {
                            expected.reverse();
                        }
                        let range = KeyRange { lower: lower.clone(), upper: upper.clone() };
                        prop_assert_eq!(read(&world, &index, range, direction), expected);
                    }
                }
            }
        }
        let (report, entries) = checked(&world, &index);
        prop_assert_eq!(report.incomplete, 0);
        prop_assert_eq!(entries, model.iter().cloned().collect::<Entries>());
        for (k, t) in model.iter().take(50) {
            prop_assert!(has_entry(&world.store, &index, k, *t).expect("readable"));
            prop_assert!(!has_entry(&world.store, &index, k, tid(999_999)).expect("readable"));
        }
        let copy = empty_copy();
        replay_into(&world, &copy, |_| true);
        assert_same_pages(&world, &copy, index.file);
    }
}

/// The longest keys: a few entries fill a page, so nearly every insert splits, on all levels.
fn long_key(n: u64) -> Vec<u8> {
    let mut key = vec![b'k'; 2000 + (n as usize * 97) % (MAX_ENTRY - page::TID - 2000 - 9)];
    key.extend_from_slice(&n.to_be_bytes());
    key.push(0);
    key
}

#[test]
fn a_crash_between_the_halves_of_a_split_is_mended_by_the_next_writer() {
    let world = World::with_frames(2000);
    let index = empty_index(&world);
    let mut random = StdRng::seed_from_u64(7);
    let mut numbers: Vec<u64> = (0..60).collect();
    for i in (1..numbers.len()).rev() {
        numbers.swap(i, random.random_range(0..=i));
    }
    for n in &numbers {
        add(&world, &index, &long_key(*n), tid(*n));
    }
    let (report, all) = checked(&world, &index);
    assert!(report.levels >= 4, "{report:?}");
    assert_eq!(all.len(), 60);
    let total = {
        let copy = empty_copy();
        let total = replay_into(&world, &copy, |_| true);
        assert_same_pages(&world, &copy, index.file);
        total
    };
    let mut found_incomplete = 0;
    for stop in (1..total).step_by(3) {
        let copy = empty_copy();
        replay_into(&world, &copy, |n| n < stop);
        let (report, there) = checked(&copy, &index);
        assert!(report.incomplete <= u64::from(report.levels));
        found_incomplete += report.incomplete;
        let whole = read(&copy, &index, KeyRange::all(), Direction::Forward);
        assert_eq!(whole, there);
        let mut backward = read(&copy, &index, KeyRange::all(), Direction::Backward);
        backward.reverse();
        assert_eq!(backward, there);
        write_from(&copy, Lsn::new(64 << 20));
        for n in 100..125 {
            add(&copy, &index, &long_key(n), tid(n));
        }
        // Every page is on the way of one of these.
        for n in 0..60 {
            add(&copy, &index, &long_key(n), tid(200 + n));
        }
        let (report, now) = checked(&copy, &index);
        assert_eq!(report.incomplete, 0, "stopped before record {stop}");
        assert_eq!(now.len(), there.len() + 85);
    }
    assert!(
        found_incomplete > 10,
        "the log was cut between two halves: {found_incomplete}"
    );
}

/// Ends recovery of a copy whose pages come from another log: its own begins behind them.
fn write_from(copy: &World, end: Lsn) {
    let started = copy.store.wal.begin_writing(StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: end,
        last_record: Lsn::INVALID,
        aborted: None,
    });
    started.expect("a new log");
}

#[test]
fn a_key_that_is_too_long_is_refused() {
    let world = World::new();
    let index = empty_index(&world);
    let key = vec![1; MAX_ENTRY - page::TID + 1];
    let refused = insert(&world.store, &index, &key, tid(1), XID, UniqueCheck::No);
    let error = refused.expect_err("too long").to_string();
    assert_eq!(
        error,
        "index row size 2705 exceeds btree version 4 maximum 2704 for index \"t_pkey\""
    );
}

#[test]
fn a_build_makes_what_inserts_make() {
    for count in [0_u64, 1, 5, 3000] {
        for long in [false, true] {
            let count = if long { count.min(80) } else { count };
            let world = World::with_frames(2000);
            let index = empty_file(&world);
            let mut entries: Entries = (0..count)
                .map(|n| (if long { long_key(n * 2) } else { key(n * 2) }, tid(n * 2)))
                .collect();
            entries.sort();
            let sorted = entries.iter().cloned().map(Ok::<_, IndexError>);
            assert_eq!(
                build(&world.store, &index, XID, sorted).expect("built"),
                count
            );
            let (report, found) = checked(&world, &index);
            assert_eq!((report.incomplete, &found), (0, &entries));
            for n in 0..count {
                let key = if long {
                    long_key(n * 2 + 1)
                } else {
                    key(n * 2 + 1)
                };
                add(&world, &index, &key, tid(n * 2 + 1));
            }
            assert_eq!(checked(&world, &index).1.len() as u64, count * 2);
            let copy = empty_copy();
            replay_into(&world, &copy, |_| true);
            assert_same_pages(&world, &copy, index.file);
        }
    }
}

#[test]
fn ascending_keys_fill_their_pages() {
    let world = World::with_frames(500);
    let index = empty_index(&world);
    for n in 0..5000_u64 {
        let mut key = n.to_be_bytes().to_vec();
        key.push(0);
        add(&world, &index, &key, tid(n));
    }
    let (report, _) = checked(&world, &index);
    let bytes = 5000 * (9 + page::TID + page::LINE);
    assert!(
        report.pages as usize * PAGE_SIZE < bytes * 5 / 4,
        "{report:?}"
    );
}

#[test]
fn a_scan_that_is_kept_finds_its_key_however_high_the_tree_has_become() {
    let world = World::with_frames(2000);
    let index = empty_index(&world);
    let from = long_key(0);
    let mut kept = scan(
        &world.store,
        &index,
        KeyRange::of_key(&from),
        Direction::Forward,
    )
    .expect("a scan");
    for n in 0..150 {
        // Before it is there, and with the root where the scan has found it last.
        kept.seek(&world.store, &long_key(n)).expect("a leaf");
        assert_eq!(kept.next(&world.store).expect("readable"), None);
        add(&world, &index, &long_key(n), tid(n));
        for wanted in [0, n / 2, n] {
            let key = long_key(wanted);
            kept.seek(&world.store, &key).expect("a leaf");
            let found = kept.next(&world.store).expect("readable");
            assert_eq!(found, Some((tid(wanted), key.as_slice())));
            assert_eq!(kept.next(&world.store).expect("readable"), None);
        }
    }
    let tree = Tree::new(&world.store, index.file);
    assert!(tree.root().expect("a root").1 > 2, "it has grown");
}

#[test]
fn one_of_many_inserters_of_a_key_wins() {
    let world = Arc::new(World::with_frames(500));
    let index = Arc::new(empty_index(&world));
    // Many dead entries with the same key, so that its entries span pages.
    for n in 0..900 {
        add(&world, &index, &key(21), tid(n));
    }
    let winners: Arc<Mutex<BTreeMap<u64, Vec<u64>>>> = Arc::default();
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (world, index, winners) = (world.clone(), index.clone(), winners.clone());
            std::thread::spawn(move || {
                for n in 0..300_u64 {
                    let n = (n * 7 + thread * 3) % 43;
                    let mine = 10_000 + n * 1000 + thread * 100 + winners.lock().len() as u64;
                    // Entries of rows below 10,000 are dead.
                    let mut ask = |t: Tid| {
                        let dead = t < tid(10_000);
                        Ok(if dead { Entry::Dead } else { Entry::Live })
                    };
                    let check = UniqueCheck::Yes(&mut ask);
                    let done = insert(&world.store, &index, &key(n), tid(mine), XID, check);
                    match done.expect("asked") {
                        Inserted::Done => winners.lock().entry(n).or_default().push(mine),
                        Inserted::Conflict { tid: t, state } => {
                            assert!(t >= tid(10_000) && state == Entry::Live);
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let winners = winners.lock();
    assert_eq!(winners.len(), 43);
    assert!(winners.values().all(|w| w.len() == 1), "{winners:?}");
    assert_eq!(checked(&world, &index).1.len(), 943);
}

#[test]
fn an_unfinished_inserter_is_reported_to_be_waited_for() {
    let world = World::new();
    let index = empty_index(&world);
    add(&world, &index, &key(1), tid(1));
    let mut ask = |_| Ok(Entry::Pending(Xid::new(77)));
    let check = UniqueCheck::Yes(&mut ask);
    let done = insert(&world.store, &index, &key(1), tid(2), XID, check);
    assert_eq!(
        done.expect("asked"),
        Inserted::Conflict {
            tid: tid(1),
            state: Entry::Pending(Xid::new(77))
        }
    );
    let mut ask = |_| panic!("nobody has this key");
    let done = insert(
        &world.store,
        &index,
        &key(2),
        tid(2),
        XID,
        UniqueCheck::Yes(&mut ask),
    );
    assert_eq!(done.expect("free"), Inserted::Done);
}

/// Writers insert, one vacuums what they say is dead, readers scan both ways: everything that was in before a scan
/// began and is not dead is found by it, in order, once.
#[test]
fn scans_find_everything_under_concurrent_splits_and_vacuum() {
    const WRITERS: u64 = 2;
    const EACH: u64 = 2500;
    let world = Arc::new(World::with_frames(600));
    let index = Arc::new(empty_index(&world));
    let progress: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    // Spread over the whole range, so that splits are everywhere.
    let number = |writer: u64, i: u64| (i * 7919 % EACH) * WRITERS + writer;
    let is_dead = |n: u64| n.is_multiple_of(5);
    let mut threads: Vec<std::thread::JoinHandle<()>> = Vec::new();
    for writer in 0..WRITERS {
        let (world, index, progress) = (world.clone(), index.clone(), progress.clone());
        threads.push(std::thread::spawn(move || {
            for i in 0..EACH {
                let n = number(writer, i);
                add(&world, &index, &key(n), tid(n));
                progress[writer as usize].store(i + 1, Ordering::SeqCst);
            }
        }));
    }
    let vacuumer = {
        let (world, index, stop) = (world.clone(), index.clone(), stop.clone());
        std::thread::spawn(move || {
            let dead: HashSet<Tid> = (0..WRITERS * EACH)
                .filter(|n| is_dead(*n))
                .map(tid)
                .collect();
            while !stop.load(Ordering::SeqCst) {
                vacuum(&world, &index, &dead);
            }
            vacuum(&world, &index, &dead)
        })
    };
    let readers: Vec<_> = [Direction::Forward, Direction::Backward]
        .into_iter()
        .map(|direction| {
            let (world, index, progress) = (world.clone(), index.clone(), progress.clone());
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut scans = 0;
                while !stop.load(Ordering::SeqCst) || scans == 0 {
                    let before: Vec<u64> =
                        progress.iter().map(|p| p.load(Ordering::SeqCst)).collect();
                    let mut found = read(&world, &index, KeyRange::all(), direction);
                    if direction == Direction::Backward {
                        found.reverse();
                    }
                    assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
                    let tids: HashSet<Tid> = found.iter().map(|(_, t)| *t).collect();
                    for (writer, done) in before.iter().enumerate() {
                        for i in 0..*done {
                            let n = number(writer as u64, i);
                            assert!(is_dead(n) || tids.contains(&tid(n)), "{n} is missing");
                        }
                    }
                    scans += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().expect("no panic");
    }
    vacuumer.join().expect("no panic");
    let (report, found) = checked(&world, &index);
    assert_eq!(report.incomplete, 0);
    assert_eq!(found.len() as u64, WRITERS * EACH * 4 / 5);
    let copy = empty_copy();
    replay_into(&world, &copy, |_| true);
    assert_same_pages(&world, &copy, index.file);
}

#[test]
fn damage_is_found() {
    let world = World::with_frames(500);
    let index = empty_index(&world);
    for n in 0..400 {
        add(&world, &index, &key(n), tid(n));
    }
    let fails = || check(&world.store, &index, &mut |_, _| Ok(())).is_err();
    assert!(!fails());
    let blocks = made_blocks(&world);
    for block in 0..blocks {
        let tree = Tree::new(&world.store, index.file);
        let pinned = tree.pin(BlockNumber::new(block)).expect("a page");
        let original = *pinned.read();
        // Two entries change places.
        let mut p = pinned.write();
        let (a, b) = (24, 28);
        for i in 0..4 {
            p.swap(a + i, b + i);
        }
        let changed = *p != original && crate::storage::page::item_count(&p) >= 2;
        drop(p);
        assert!(!changed || fails(), "swapped entries of block {block}");
        *pinned.write() = original;
        // A link that leads elsewhere.
        let mut p = pinned.write();
        p[PAGE_SIZE - page::SPECIAL] ^= 1;
        drop(p);
        assert!(block == 0 || fails(), "a wrong link in block {block}");
        *pinned.write() = original;
    }
    assert!(!fails());
}
