//! `kubectl scale` under load: rows are kept, no write fails, the primary stays where it is and gives no base backup; and
//! the primary is killed at each step of each change of the in-sync set, as long as the change stands there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::Container;
use understudy_cluster::command::wait_for;
use understudy_e2e::calls;
use understudy_e2e::database::{Database, HTTP_PORT, Instance, is_true, is_whole, spec};
use understudy_e2e::history::sets;
use understudy_e2e::ledger::{Ledger, Way, longest_pause};
use understudy_e2e::results::{Entry, Line};
use understudy_e2e::round::noted_ledger;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge, judge_into, no_write_failed};
use understudy_tests::local::now_ms;

/// Between two questions to each instance: the copy of a small database takes some tenths of a second.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at what the watch has brought: some steps are over within milliseconds.
const GLANCE: Duration = Duration::from_millis(1);
/// So often a step is tried to be hit before the change has left it.
const TRIES: u32 = 3;

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
        let now = (database.primary(), database.term());
        assert_eq!(
            now,
            (primary.clone(), term),
            "BROKEN PROMISE: the role has moved"
        );
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
    assert!(
        kept.len() >= 5,
        "BROKEN PROMISE: claims of five instances: {kept:?}"
    );
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
    /// Whether the change to so many replicas stands at this step: it has come so far, and no further. With the primary
    /// that it began with, whose death has not been seen yet.
    fn is_now(self, before: &Value, object: &Value, replicas: u32) -> bool {
        let now = &object["status"];
        let instances = |status: &Value| status["instances"].as_array().map_or(0, Vec::len);
        let members = |status: &Value| {
            let newest = sets(status).last();
            newest.and_then(|set| set["members"].as_array().map(Vec::len))
        };
        let is_asked = object["spec"]["replicas"].as_u64() == Some(u64::from(replicas));
        if !is_asked || now["phase"] != "Running" || now["term"] != before["term"] {
            return false;
        }
        let is_one = sets(now).count() == 1;
        let is_old = is_one && members(now) == members(before);
        match self {
            At::Asked => is_old && instances(now) == instances(before),
            At::Counted => is_old && instances(now) != instances(before),
            At::Seeding => {
                let mut all = now["instances"].as_array().into_iter().flatten();
                is_old && all.any(|i| i["role"] == "Seeding")
            }
            At::TwoSets => sets(now).count() > 1,
            At::NewSet => is_one && !is_old,
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

/// A change from so many replicas to so many, and the step of it at which the primary is to die.
#[derive(Clone, Copy, Debug)]
struct Change {
    from: u32,
    to: u32,
    at: At,
}

/// How a death met its step, by the watch, which is some milliseconds late: the results have how far off the step's ends were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Met {
    /// The change stood there just before the death, and just after it as well.
    AtTheStep,
    /// It had gone on.
    Late,
    /// It was over too quickly for the step to be seen.
    Unseen,
}

/// Asks for the change, and kills this container at its step: as soon as the watch shows that, or, where it shows only that
/// the step is over, at once. Gives when that was.
fn kill_at(
    database: &Database<'_>,
    victim: &Container,
    before: &Value,
    change: Change,
) -> (Met, u64) {
    let Change { to, at, .. } = change;
    let asked_ms = now_ms();
    let is_now = |object: &Value| at.is_now(before, object, to);
    let was_seen = || {
        let seen = database.history.since(asked_ms);
        seen.iter().any(|state| is_now(&state.object))
    };
    let is_over = |object: &Value| {
        object["spec"]["replicas"].as_u64() == Some(u64::from(to)) && is_whole(object)
    };
    std::thread::scope(|scope| {
        // kubectl ends some time after the API server has obeyed it: that is not waited for.
        scope.spawn(|| database.scale(to));
        let begin = Instant::now();
        loop {
            // Before the states are looked at: what comes in between is looked at the next time.
            let object = database.object();
            let is_late = is_over(&object) || begin.elapsed() > LIMIT;
            if is_now(&object) || was_seen() || is_late {
                break;
            }
            std::thread::sleep(GLANCE);
        }
        let stood = is_now(&database.object());
        victim.kill().expect("the primary ran");
        let killed_ms = now_ms();
        let stands = is_now(&database.object());
        let met = match (stood && stands, was_seen()) {
            (true, _) => Met::AtTheStep,
            (false, true) => Met::Late,
            (false, false) => Met::Unseen,
        };
        println!("to {to}, {at:?}: {met:?}");
        (met, killed_ms)
    })
}

/// How long the change had stood at the step when the primary was killed, and how long it stood there yet; milliseconds, by
/// when the watch brought it.
fn distances(
    database: &Database<'_>,
    is_now: impl Fn(&Value) -> bool,
    killed_ms: u64,
) -> (u64, u64) {
    let states = database.history.since(0);
    let (until, after): (Vec<_>, Vec<_>) = states.iter().partition(|s| s.at_ms <= killed_ms);
    let stood = until.iter().rev().take_while(|s| is_now(&s.object));
    let left = after.iter().find(|s| !is_now(&s.object));
    let since_ms = stood.last().map_or(killed_ms, |s| s.at_ms);
    let left_ms = left.map_or_else(now_ms, |s| s.at_ms);
    (killed_ms - since_ms, left_ms - killed_ms)
}

/// A change with a death, to full strength again, with nothing lost.
fn dies_at(database: &Database<'_>, ledger: &Arc<Ledger>, change: Change, round: u32) -> Met {
    let Change { to, at, .. } = change;
    let space = database.space;
    let variant = format!("to {to}, killed at {at:?}");
    let mut entry = Entry::begin(&space.settings, "scaling-with-a-death", &variant, round);
    let before = database.full_strength();
    if at == At::Seeding {
        forget_claims(space, &before);
    }
    let victim = database.container(&database.primary());
    let writers = Writers::start(database, ledger, Who::Everybody);
    let (met, killed_ms) = kill_at(database, &victim, &before, change);
    // Everything else is a change of the record or of what it reports, and every one of those is seen.
    assert!(
        met != Met::Unseen || at == At::Seeding,
        "to {to}, {at:?}: was never seen\n{}",
        database.history.shown()
    );
    entry.count(
        "killed at this very step",
        usize::from(met == Met::AtTheStep),
    );
    entry.count("killed later", usize::from(met != Met::AtTheStep));
    writers.wait_for(50);
    database.wait("scaled", LIMIT, |status| {
        status["replicas"].as_u64() == Some(u64::from(to))
    });
    // What was reported before the death must not be taken for the state after it.
    std::thread::sleep(Duration::from_secs(3));
    database.whole();
    let whole_ms = now_ms();
    database.full_strength();
    writers.finish();
    if met == Met::AtTheStep {
        let (stood, left) = distances(database, |o| at.is_now(&before, o, to), killed_ms);
        println!(
            "to {to}, {at:?}: killed {stood} ms after it was seen, {left} ms before it was left"
        );
        entry.seconds("at the step before the death", stood as f64 / 1000.0);
        entry.seconds("at the step after the death", left as f64 / 1000.0);
    }
    let pause = longest_pause(&ledger.rows(), (killed_ms, whole_ms), Way::is_service);
    entry.seconds("longest pause of writes", pause as f64 / 1000.0);
    entry.seconds("full strength", (whole_ms - killed_ms) as f64 / 1000.0);
    judge_into(database, ledger, &mut entry);
    met
}

/// The same until the death has met its step, or that was tried often enough; from the beginning of the change each time.
fn dies_at_the_very_step(
    database: &Database<'_>,
    ledger: &Arc<Ledger>,
    change: Change,
    deaths: &mut BTreeMap<(bool, At), (u32, u32)>,
) {
    let Change { from, to, at } = change;
    for round in 1..=TRIES {
        if round > 1 {
            database.scale(from);
            database.wait("back at the beginning", LIMIT, |status| {
                status["replicas"].as_u64() == Some(u64::from(from))
            });
        }
        let is_met = dies_at(database, ledger, change, round) == Met::AtTheStep;
        let (met, all) = deaths.entry((to > from, at)).or_default();
        *met += u32::from(is_met);
        *all += 1;
        if is_met {
            return;
        }
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_primary_that_dies_at_any_step_of_a_change_of_the_set_loses_nothing() {
    let space = Space::share("scaling-with-deaths");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let change = |from: u32, to: u32, at: At| Change { from, to, at };
    if !space.settings.is_long {
        // One death on the way up and one on the way down.
        dies_at(&database, &ledger, change(2, 3, At::TwoSets), 1);
        dies_at(&database, &ledger, change(3, 2, At::TwoSets), 1);
        return;
    }
    let mut deaths = BTreeMap::new();
    for _ in 0..space.settings.rounds(1, 2) {
        for step in 0..GROWING.len().max(SHRINKING.len()) {
            let (up, down) = (
                GROWING[step % GROWING.len()],
                SHRINKING[step % SHRINKING.len()],
            );
            // From 2 standbys to 3, to 1, and back, so that each set changes from and to an even and an odd size.
            for (from, to, at) in [(2, 3, up), (3, 2, down), (2, 1, down), (1, 2, up)] {
                dies_at_the_very_step(&database, &ledger, change(from, to, at), &mut deaths);
            }
        }
    }
    for ((grows, at), (met, all)) in &deaths {
        let way = if *grows { "growing" } else { "shrinking" };
        println!("{way}, {at:?}: {met} of {all} deaths met the change at this very step");
    }
    let never: Vec<_> = deaths.iter().filter(|(_, (met, _))| *met == 0).collect();
    assert!(never.is_empty(), "steps that could never be hit: {never:?}");
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
        assert_eq!(
            database.primary(),
            primary,
            "BROKEN PROMISE: the role has moved"
        );
        // The primary's word that its set is in effect may come a moment later.
        database.wait(&format!("protected with {replicas}"), LIMIT, |status| {
            is_true(status, "Protected") == (replicas == 1)
        });
    }
    writers.finish();
    judge(&database, &ledger);
}

/// What the status shows of one step is nobody else's: a death that comes when the change has gone on counts for nothing.
#[test]
fn a_change_stands_at_one_step_at_a_time() {
    let object = |replicas: u32, roles: &[&str], sizes: &[usize]| {
        let set = |size: &usize| json!({"members": vec![json!({}); *size]});
        let instances = roles.iter().map(|role| json!({"role": role}));
        json!({"spec": {"replicas": replicas}, "status": {
            "phase": "Running", "term": 4,
            "instances": instances.collect::<Vec<_>>(),
            "inSync": sizes.iter().map(set).collect::<Vec<_>>(),
        }})
    };
    let two = ["Primary", "Standby", "Standby"];
    let three = |newest| [&two[..], &[newest]].concat();
    let before = object(2, &two, &[2])["status"].clone();
    let all = [At::Asked, At::Counted, At::Seeding, At::TwoSets, At::NewSet];
    let steps = |object: &Value| -> Vec<At> {
        let mut now = all.to_vec();
        now.retain(|at| at.is_now(&before, object, 3));
        now
    };
    assert_eq!(steps(&object(2, &two, &[2])), [], "not asked for yet");
    assert_eq!(steps(&object(3, &two, &[2])), [At::Asked]);
    let counted = object(3, &three("Starting"), &[2]);
    assert_eq!(steps(&counted), [At::Counted]);
    // Whoever is seeded is counted as well.
    let seeding = object(3, &three("Seeding"), &[2]);
    assert_eq!(steps(&seeding), [At::Counted, At::Seeding]);
    let listed = object(3, &three("Standby"), &[2, 3]);
    assert_eq!(steps(&listed), [At::TwoSets]);
    let grown = object(3, &three("Standby"), &[3]);
    assert_eq!(steps(&grown), [At::NewSet]);
    for (key, value) in [("phase", json!("FailingOver")), ("term", json!(5))] {
        let mut over = grown.clone();
        over["status"][key] = value;
        assert_eq!(steps(&over), [], "the death was seen: {key}");
    }
}
