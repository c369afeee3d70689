//! Power cuts at every sync point of a scripted workload, and power cuts after a killed process.
//!
//! Every sync point is visited. Each has up to thousands of images (see [`Frozen::choices`]): `UNDERSTUDY_SOAK` looks at
//! all of them, the short form at one of each, drawn by the seed that it prints. `UNDERSTUDY_SEED` repeats a seed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::engine::{Engine, bad_pages, initialised};
use super::script::{self, Ledger, Script};
use crate::ids::Lsn;
use crate::io::Disk;
use crate::io::sim::{Frozen, SimDisk};
use crate::storage::Flow;

fn soak() -> bool {
    std::env::var_os("UNDERSTUDY_SOAK").is_some()
}

fn seed() -> u64 {
    let given = std::env::var("UNDERSTUDY_SEED").ok();
    let seed = given.map_or_else(rand::random, |s| {
        s.parse().expect("UNDERSTUDY_SEED is a number")
    });
    eprintln!("UNDERSTUDY_SEED={seed}");
    seed
}

/// Transactions of the workload.
const STEPS: u32 = 60;

type Moment = (Frozen, Ledger);

/// Runs the script and keeps the disk's state before each sync.
fn run(start: &SimDisk, seed: u64, steps: u32) -> Vec<Moment> {
    let disk = start.freeze().image(|_| true);
    let mut script = Script::new(seed);
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    script.begin(&mut client);
    let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
    let (kept, ledger) = (Arc::clone(&moments), Arc::clone(&script.ledger));
    disk.on_sync(move |frozen| kept.lock().push((frozen.clone(), ledger.lock().clone())));
    let engine = Arc::new(engine);
    let beside = Arc::clone(&engine);
    let mut random = StdRng::seed_from_u64(seed ^ 0xC0FFEE);
    script.between = Box::new(move || match random.random_range(0..100) {
        0..=3 => beside.checkpoint().expect("a checkpoint"),
        4..=13 => write_pages(&beside),
        _ => {}
    });
    for _ in 0..steps {
        script.step(&mut client);
        (script.between)();
    }
    drop(script);
    client.close();
    let engine = Arc::into_inner(engine).expect("nobody else has it");
    engine.stop();
    disk.clear_on_sync();
    std::mem::take(&mut *moments.lock())
}

/// Pages reach their files as evictions bring them there: written and not synced.
fn write_pages(engine: &Engine) {
    let pool = &engine.core.store.pool;
    let written = pool.write_dirty(Lsn::MAX, &mut |progress| {
        if progress.written < progress.total {
            Flow::Continue
        } else {
            Flow::Stop
        }
    });
    written.expect("written");
}

fn look_at(image: &SimDisk, ledger: &Ledger, name: &str) {
    let engine = Engine::start(image).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    script::check(&engine, ledger, name);
    engine.stop();
    let bad = bad_pages(image);
    assert!(bad.is_empty(), "{name}: after a clean stop {bad:?}");
}

/// One image after another, on all processors. `all`: of each moment every one; else one, drawn by the seed.
fn look_at_images<T: Sync>(
    moments: &[(Frozen, T)],
    seed: u64,
    all: bool,
    look: impl Fn(&SimDisk, &T, &str) + Sync,
) {
    let begun = Instant::now();
    let (next, looked_at) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let total: usize = moments.iter().map(|(f, _)| f.number_of_choices()).sum();
    eprintln!("{} syncs, {total} images", moments.len());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((frozen, known)) = moments.get(number) else {
                return;
            };
            let mut choices = frozen.choices(seed);
            if !all {
                let mut random = StdRng::seed_from_u64(seed ^ number as u64);
                let one = random.random_range(0..choices.len());
                choices = vec![choices.swap_remove(one)];
            }
            for choice in &choices {
                let image = frozen.chosen(choice);
                let name = format!("UNDERSTUDY_SEED={seed}, sync {number} {}", image.name);
                look(&image.disk, known, &name);
                looked_at.fetch_add(1, Ordering::Relaxed);
            }
            if all {
                let (images, seconds) = (looked_at.load(Ordering::Relaxed), begun.elapsed());
                eprintln!(
                    "sync {number}: {} images; {images} in {seconds:.0?}",
                    choices.len()
                );
            }
        }
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let pending = moments.iter().map(|(frozen, _)| frozen.pending());
    eprintln!(
        "{} images of {} syncs, at most {} changes pending, {:.1?}",
        looked_at.load(Ordering::Relaxed),
        moments.len(),
        pending.max().unwrap_or(0),
        begun.elapsed()
    );
}

#[test]
fn acknowledged_work_survives_a_power_cut_at_any_sync() {
    let seed = seed();
    let start = initialised();
    let moments = run(&start, seed, STEPS);
    assert!(moments.len() > 20, "only {} syncs", moments.len());
    look_at_images(&moments, seed, soak(), look_at);
}

/// A stopped or killed engine leaves nothing in its process, or those who start thousands of them would run out of
/// memory.
#[test]
fn nothing_of_a_stopped_engine_stays_in_memory() {
    let start = initialised();
    for killed in [false, true] {
        let disk = start.freeze().image(|_| true);
        let engine = Engine::start(&disk).expect("starts");
        let mut client = engine.session();
        client.sql("CREATE TABLE t (id bigint PRIMARY KEY)");
        client.close();
        let store = Arc::downgrade(&engine.core.store);
        let txns = Arc::downgrade(&engine.core.txns);
        if killed {
            engine.kill(&disk);
        } else {
            engine.stop();
        }
        assert!(store.upgrade().is_none(), "log and pages are still there");
        assert!(txns.upgrade().is_none(), "transactions are still there");
    }
}

/// Directories of databases, but for those that `initdb` made.
fn directories(disk: &SimDisk) -> BTreeSet<String> {
    let entries = disk.list(Path::new("base")).expect("listed").into_iter();
    let number = |name: &str| name.parse().unwrap_or(0_u32);
    let names = entries.map(|(name, _)| name);
    names.filter(|name| number(name) >= 16384).collect()
}

/// A crash in the middle of CREATE or DROP DATABASE leaves a directory that no row names, which the next start removes;
/// and a crash after that finds a log that it can replay.
#[test]
fn no_crash_leaves_a_directory_without_its_database() {
    let seed = seed();
    let start = initialised();
    let disk = start.freeze().image(|_| true);
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    let moments: Arc<Mutex<Vec<(Frozen, ())>>> = Arc::default();
    let kept = Arc::clone(&moments);
    disk.on_sync(move |frozen| kept.lock().push((frozen.clone(), ())));
    client.sql("CREATE DATABASE one");
    client.sql("CREATE DATABASE two");
    client.sql("DROP DATABASE one");
    client.sql("CREATE TABLE t (id bigint)");
    disk.clear_on_sync();
    client.close();
    engine.stop();
    let moments = std::mem::take(&mut *moments.lock());
    let orphans = AtomicUsize::new(0);
    let look = |image: &SimDisk, choice: &str| {
        let before = directories(image);
        let engine = Engine::start(image).unwrap_or_else(|e| panic!("{choice}: {e:#}"));
        let known = |engine: &Engine| -> BTreeSet<String> {
            let mut client = engine.session();
            let oids = client.sql("SELECT oid FROM pg_database WHERE oid >= 16384");
            client.close();
            oids.into_iter().collect()
        };
        let databases = known(&engine);
        assert_eq!(directories(image), databases, "{choice}: after recovery");
        orphans.fetch_add(before.difference(&databases).count(), Ordering::Relaxed);
        let mut client = engine.session();
        client.sql("CREATE DATABASE three");
        client.close();
        engine.kill(image);
        let left = image.crash();
        let again = Engine::start(&left).unwrap_or_else(|e| panic!("{choice}, again: {e:#}"));
        assert_eq!(
            directories(&left),
            known(&again),
            "{choice}: after another crash"
        );
        again.stop();
        assert_eq!(bad_pages(&left), Vec::<String>::new(), "{choice}");
    };
    // Most syncs are of one of hundreds of files that are copied: every one in the long form.
    let step = if soak() { 1 } else { moments.len() / 16 + 1 };
    for (number, (frozen, ())) in moments.iter().enumerate() {
        if number % step != (seed % step as u64) as usize {
            continue;
        }
        let choices = frozen.choices(seed);
        // None, and one at random.
        let mut random = StdRng::seed_from_u64(seed ^ number as u64);
        for at in [0, random.random_range(0..choices.len())] {
            let image = frozen.chosen(&choices[at]);
            look(
                &image.disk,
                &format!("UNDERSTUDY_SEED={seed}, sync {number} {}", image.name),
            );
        }
    }
    let orphans = orphans.into_inner();
    eprintln!("{orphans} orphans in images of {} syncs", moments.len());
    assert!(orphans > 0, "no image had one");
}

/// Pages that a killed server wrote, but did not sync, are only in the operating system's memory. The next start
/// finds them there and has nothing to replay into them; a checkpoint of it must not let go of the log for them.
#[test]
fn a_power_cut_after_a_kill_and_a_checkpoint_loses_nothing() {
    let seed = seed();
    let start = initialised();
    for round in 0..if soak() { 50 } else { 1 } {
        let seed = seed.wrapping_add(round);
        let mut disk = start.freeze().image(|_| true);
        let mut script = Script::new(seed);
        let mut random = StdRng::seed_from_u64(seed ^ 0xBAD);
        let mut begun = false;
        for life in 0..3 {
            let engine = Engine::start_with(&disk, false).expect("starts");
            let mut client = engine.session();
            if !std::mem::replace(&mut begun, true) {
                script.begin(&mut client);
            }
            for _ in 0..random.random_range(5..40) {
                script.step(&mut client);
            }
            write_pages(&engine);
            client.forget();
            disk = engine.kill(&disk);
            let engine = Engine::start_with(&disk, false).expect("starts after a kill");
            engine.checkpoint().expect("a checkpoint");
            let left = disk.crash();
            let name = format!("seed {seed}, life {life}");
            look_at(&left, &script.ledger.lock().clone(), &name);
            let client = engine.session();
            client.close();
            engine.stop();
        }
    }
}
