//! `kubectl scale` under load: rows are kept, no write fails, the primary stays where it is and gives no base backup; and
//! the primary is killed at each step of each change of the in-sync set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use understudy_cluster::command::wait_for;
use understudy_e2e::calls;
use understudy_e2e::database::{Database, HTTP_PORT, Instance, is_true, is_whole, spec};
use understudy_e2e::history::sets;
use understudy_e2e::ledger::{Ledger, Way, longest_pause};
use understudy_e2e::results::Line;
use understudy_e2e::round::noted_ledger;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge, no_write_failed};
use understudy_tests::local::now_ms;

/// Between two questions to each instance: the copy of a small database takes some tenths of a second.
const LOOK: Duration = Duration::from_millis(50);

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn standbys_come_and_go_under_load_without_a_failed_write() {
    let space = Space::share("scaling");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let (primary, term) = (database.primary(), database.term());
    for (round, replicas) in (1..).zip([4, 1, 2]) {
        let (before, claimed) = (database.instances(), claims(&space));
        let grows = before.len() <= replicas as usize;
        let givers = grows.then(|| Givers::watch(before));
        let (begin, begin_ms) = (Instant::now(), now_ms());
        database.scale(replicas);
        let object = format!("scaled to {replicas}");
        database.wait(&object, LIMIT, |status| {
            status["replicas"].as_u64() == Some(u64::from(replicas))
        });
        database.whole();
        let took = begin.elapsed();
        let given = givers.map(Givers::end);
        database.full_strength();
        writers.wait_for(50);
        no_write_failed(&ledger, begin_ms);
        assert_eq!(database.primary(), primary, "the primary has moved");
        assert_eq!(database.term(), term, "the role has moved");
        let pause = longest_pause(&ledger.rows(), (begin_ms, now_ms()), Way::is_service);
        let variant = format!("to {replicas}");
        let mut line = Line::new(&space.settings, "scaling", &variant, round)
            .seconds("scaled", took.as_secs_f64())
            .seconds("longest pause of writes", pause as f64 / 1000.0);
        if let Some(given) = given {
            let seeded = seeded_by_standbys(&database, &primary, &claimed, begin_ms);
            given.judge(&primary);
            line = line.count("seeded by standbys", seeded);
        }
        space.keep(&line);
    }
    writers.finish();
    judge(&database, &ledger);
    // Tests that share the database may have had some more.
    let kept = claims(&space);
    assert!(kept.len() >= 5, "claims of five instances: {kept:?}");
}

/// A claim outlives its instance, marked.
fn claims(space: &Space) -> BTreeSet<String> {
    let claims = space.get(&["pvc", "-l", "understudy.dev/cluster=orders"]);
    let items = claims["items"].as_array().into_iter().flatten();
    let names = items.filter_map(|claim| claim["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Each instance whose volume is new was told to copy a standby; gives their number. One that comes back on the volume of
/// an instance that was removed has its copy already.
fn seeded_by_standbys(
    database: &Database<'_>,
    primary: &str,
    claimed: &BTreeSet<String>,
    since_ms: u64,
) -> usize {
    let names = database.instances().into_iter().map(|i| i.name);
    let new: Vec<String> = names
        .filter(|name| !claimed.contains(&format!("data-{name}-0")))
        .collect();
    let standbys = database.standbys();
    for name in &new {
        // As the operator words it.
        let words = format!("{name} takes its base backup of ");
        let told = wait_for(&format!("an event that says: {words}"), LIMIT, || {
            let events = database.events(since_ms)?;
            let seeds = events.iter().filter(|event| event.reason == "Seeding");
            let of: Vec<String> = seeds
                .filter_map(|event| event.note.strip_prefix(&words))
                .map(str::to_owned)
                .collect();
            Ok((!of.is_empty()).then_some(of))
        });
        let told = told.unwrap_or_else(|error| panic!("{error:#}"));
        println!("{name} was seeded by {told:?}");
        let is_standby = |of: &String| {
            let named = of.strip_suffix(", a standby");
            named.is_some_and(|of| of != primary && standbys.iter().any(|s| s == of))
        };
        assert!(told.iter().all(is_standby), "{words}{told:?}");
    }
    new.len()
}

/// Asks instances all the time to whom they give base backups, until this value goes.
struct Givers {
    held: Arc<()>,
    thread: JoinHandle<Given>,
}

/// What they have answered.
#[derive(Default)]
struct Given {
    /// How often, by instance.
    answers: BTreeMap<String, usize>,
    /// Those that gave a base backup at such a moment.
    givers: BTreeSet<String>,
}

impl Givers {
    fn watch(instances: Vec<Instance>) -> Givers {
        let held = Arc::new(());
        let watched = Arc::clone(&held);
        let thread = std::thread::spawn(move || {
            let mut given = Given::default();
            while Arc::strong_count(&watched) > 1 {
                for instance in &instances {
                    given.ask(instance);
                }
                std::thread::sleep(LOOK);
            }
            given
        });
        Givers { held, thread }
    }

    fn end(self) -> Given {
        let Givers { held, thread } = self;
        drop(held);
        thread.join().expect("asking does not panic")
    }
}

impl Given {
    fn ask(&mut self, instance: &Instance) {
        let to = SocketAddr::new(instance.address, HTTP_PORT);
        let Ok(answer) = calls::peek(to, "/status") else {
            return;
        };
        let status: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let Some(streams) = status["standbys"].as_array() else {
            return;
        };
        *self.answers.entry(instance.name.clone()).or_default() += 1;
        if streams.iter().any(|stream| stream["state"] == "backup") {
            self.givers.insert(instance.name.clone());
        }
    }

    #[track_caller]
    fn judge(&self, primary: &str) {
        let (answers, givers) = (&self.answers, &self.givers);
        println!("base backups were given by {givers:?}; answers: {answers:?}");
        assert!(answers.contains_key(primary), "{primary} does not answer");
        assert!(
            !givers.contains(primary),
            "{primary}, the primary, gave one"
        );
    }
}

/// A step of a change of the in-sync set, by what the status shows of it.
#[derive(Clone, Copy, Debug)]
enum At {
    /// The manifest has changed, and nothing else yet.
    Asked,
    /// One instance more, or one less, is there than was before.
    Counted,
    /// An instance is being seeded.
    Seeding,
    /// Two sets are listed: the newer one is not alone yet.
    TwoSets,
    /// The newest set has another size, and it is the only one.
    NewSet,
}

const GROWING: [At; 5] = [At::Asked, At::Counted, At::Seeding, At::TwoSets, At::NewSet];
const SHRINKING: [At; 3] = [At::Asked, At::TwoSets, At::NewSet];

impl At {
    fn is_reached(self, before: &Value, now: &Value) -> bool {
        let instances = |status: &Value| status["instances"].as_array().map_or(0, Vec::len);
        let members = |status: &Value| {
            let newest = sets(status).last();
            newest.and_then(|set| set["members"].as_array().map(Vec::len))
        };
        match self {
            At::Asked => true,
            At::Counted => instances(now) != instances(before),
            At::Seeding => {
                let mut all = now["instances"].as_array().into_iter().flatten();
                all.any(|i| i["role"] == "Seeding")
            }
            At::TwoSets => sets(now).count() > 1,
            At::NewSet => sets(now).count() == 1 && members(now) != members(before),
        }
    }
}

/// Takes the claims away of instances that were removed, as the status of a whole cluster has it: whoever comes next has
/// to be seeded.
fn forget_claims(space: &Space, status: &Value) {
    let all = status["instances"].as_array().into_iter().flatten();
    let names = all.filter_map(|instance| instance["name"].as_str());
    let used: BTreeSet<String> = names.map(|name| format!("data-{name}-0")).collect();
    for claim in claims(space).difference(&used) {
        space.kubectl(&["delete", "pvc", claim.as_str(), "--timeout=120s"]);
    }
}

/// Kills the primary's container when the change has come so far, or, where seeding is over too quickly to be seen, when
/// the change is complete. Gives whether it was seen.
fn kill_at(database: &Database<'_>, ledger: &Arc<Ledger>, replicas: u32, at: At) -> bool {
    let before = database.full_strength();
    if matches!(at, At::Seeding) {
        forget_claims(database.space, &before);
    }
    let victim = database.container(&database.primary());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let asked_ms = now_ms();
    database.scale(replicas);
    let begin = Instant::now();
    let is_over = |object: &Value| {
        object["spec"]["replicas"].as_u64() == Some(u64::from(replicas)) && is_whole(object)
    };
    let seen = loop {
        // Before the states are looked at: what comes in between is looked at the next time.
        let is_late = is_over(&database.object()) || begin.elapsed() > LIMIT;
        let states = database.history.since(asked_ms);
        if let Some(state) = states
            .iter()
            .find(|state| at.is_reached(&before, &state.object["status"]))
        {
            break Some(now_ms().saturating_sub(state.at_ms));
        }
        if is_late {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    victim.kill().expect("the primary ran");
    match seen {
        Some(ms) => println!("to {replicas}, {at:?}: killed {ms} ms after it was seen"),
        None => println!("to {replicas}, {at:?}: was not seen; killed at the end"),
    }
    // Everything else is a change of the record or of what it reports, and every one of those is seen.
    assert!(
        seen.is_some() || matches!(at, At::Seeding),
        "to {replicas}, {at:?}: was never seen\n{}",
        database.history.shown()
    );
    let killed_ms = now_ms();
    writers.wait_for(50);
    database.wait("scaled", LIMIT, |status| {
        status["replicas"].as_u64() == Some(u64::from(replicas))
    });
    // What was reported before the death must not be taken for the state after it.
    std::thread::sleep(Duration::from_secs(3));
    database.whole();
    let whole_ms = now_ms();
    database.full_strength();
    writers.finish();
    let rows = judge(database, ledger);
    let space = database.space;
    let variant = format!("to {replicas}, killed at {at:?}");
    let pause = longest_pause(&ledger.rows(), (killed_ms, whole_ms), Way::is_service);
    let line = Line::new(&space.settings, "scaling-with-a-death", &variant, 1)
        .seconds("longest pause of writes", pause as f64 / 1000.0)
        .seconds("full strength", (whole_ms - killed_ms) as f64 / 1000.0)
        .count("killed at this very step", usize::from(seen.is_some()))
        .count("acknowledged", rows)
        .count("missing", 0);
    space.keep(&line);
    seen.is_some()
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_primary_that_dies_at_any_step_of_a_change_of_the_set_loses_nothing() {
    let space = Space::share("scaling-with-deaths");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    if !space.settings.is_long {
        // One death on the way up and one on the way down.
        kill_at(&database, &ledger, 3, At::TwoSets);
        kill_at(&database, &ledger, 2, At::TwoSets);
        return;
    }
    let mut seedings = 0;
    for _ in 0..space.settings.rounds(1, 2) {
        for step in 0..GROWING.len().max(SHRINKING.len()) {
            let (up, down) = (
                GROWING[step % GROWING.len()],
                SHRINKING[step % SHRINKING.len()],
            );
            // From 2 standbys to 3, to 1, and back, so that each set changes from and to an even and an odd size.
            for (replicas, at) in [(3, up), (2, down), (1, down), (2, up)] {
                let seen = kill_at(&database, &ledger, replicas, at);
                seedings += u32::from(seen && matches!(at, At::Seeding));
            }
        }
    }
    assert!(seedings > 0, "nobody was seen to be seeded");
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_last_standby_goes_and_one_comes_back() {
    let space = Space::enter("scaling-to-none");
    let database = Database::create(&space, "orders", &spec(1));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let primary = database.primary();
    for replicas in [0, 1] {
        database.scale(replicas);
        database.wait("scaled", LIMIT, |status| {
            status["replicas"].as_u64() == Some(u64::from(replicas))
        });
        database.full_strength();
        writers.wait_for(50);
        assert_eq!(database.primary(), primary, "the primary has moved");
        // The primary's word that its set is in effect may come a moment later.
        database.wait(&format!("protected with {replicas}"), LIMIT, |status| {
            is_true(status, "Protected") == (replicas == 1)
        });
    }
    writers.finish();
    judge(&database, &ledger);
}
