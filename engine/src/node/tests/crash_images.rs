//! Power cuts at every sync point of a scripted workload, and power cuts after a killed process.
//!
//! Each sync point has hundreds of images; a run draws some of them, and `UNDERSTUDY_SOAK` more, from several
//! workloads. `UNDERSTUDY_SEED` repeats a seed.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::engine::{Engine, bad_pages, initialised};
use super::script::{self, Ledger, Script};
use crate::ids::Lsn;
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

/// Sync points that the short form looks at, one image each.
const SAMPLE: f64 = 25.0;

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

#[test]
fn acknowledged_work_survives_a_power_cut_at_any_sync() {
    let seed = seed();
    let start = initialised();
    let (rounds, steps) = if soak() { (4, 100) } else { (1, 60) };
    for round in 0..rounds {
        let seed = seed.wrapping_add(round);
        let moments = run(&start, seed, steps);
        assert!(moments.len() > 20, "only {} syncs", moments.len());
        let mut random = StdRng::seed_from_u64(seed);
        let mut looked_at = 0;
        // Of each sync point in the long form, of a sample of them in the short one.
        let share = if soak() {
            1.0
        } else {
            SAMPLE / moments.len() as f64
        };
        for (number, (frozen, ledger)) in moments.iter().enumerate() {
            if !random.random_bool(share.min(1.0)) {
                continue;
            }
            let count = frozen.images(seed).count();
            let one = random.random_range(0..count);
            // Four images of each sync point in the long form, one in the short one.
            let step = if soak() { count / 4 + 1 } else { count };
            for (i, image) in frozen.images(seed).enumerate() {
                if i % step == one % step {
                    let name = format!("seed {seed}, sync {number} {}", image.name);
                    look_at(&image.disk, ledger, &name);
                    looked_at += 1;
                }
            }
        }
        eprintln!("{looked_at} images of {} syncs", moments.len());
    }
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
