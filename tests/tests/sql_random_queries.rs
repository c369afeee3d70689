//! Random whole statements over small random tables, answered as PostgreSQL 15 answers them, under various settings of
//! the planner.
//!
//! A world is a schema with rows, and a number of statements over it. `make test` tries the same worlds each time; the long
//! form (`make soak`, `FAULT=random-queries ROUNDS=N`) tries others, of a seed that is printed. `UNDERSTUDY_SEED` begins with
//! the world of that seed. What differs is made small and shown as a script for psql.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use understudy_tests::random_queries::{
    Case, Comparison, Kind, Maker, Reply, Settings, Shrinker, Sides, Statement, Verdict, World,
    judge,
};
use understudy_tests::soak::{is_soak, rounds, seed};

/// Worlds that are the same each time.
const SAME_WORLDS: u64 = 6;
const STATEMENTS: u64 = 200;
/// So many statements have the same settings.
const ALIKE: u64 = 10;
const SHRINKING: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Tally {
    asked: u32,
    agreed: u32,
    /// Those to which PostgreSQL gives a row at least: others tell less.
    with_rows: u32,
    /// Those with a window, with WITH, and of these the ones that write.
    windows: u32,
    named: u32,
    writing: u32,
    /// What both call an error, by SQLSTATE.
    errors: BTreeMap<String, u32>,
    /// What we say when we refuse.
    refused: BTreeMap<String, u32>,
    beyond: u32,
    too_slow: u32,
    by_order: u32,
    their_fault: u32,
    differences: Vec<String>,
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Agree => self.agreed += 1,
            Verdict::Refused(why) => *self.refused.entry(why).or_default() += 1,
            Verdict::Beyond => self.beyond += 1,
            Verdict::TooSlow => self.too_slow += 1,
            Verdict::ByOrder => self.by_order += 1,
            Verdict::TheirFault => self.their_fault += 1,
            Verdict::Differ(_) => {}
        }
    }

    fn count_parts(&mut self, statement: &Statement) {
        let sql = statement.sql();
        let named = sql.contains("WITH w") || sql.contains("WITH RECURSIVE");
        let writes = matches!(statement, Statement::Change { .. });
        self.windows += u32::from(sql.contains(" OVER "));
        self.named += u32::from(named);
        self.writing += u32::from(named && writes);
    }

    /// When enough is known.
    fn is_full(&self) -> bool {
        self.differences.len() >= if is_soak() { 20 } else { 5 }
    }

    fn print(&self) {
        println!(
            "{} statements, {} with rows: {} agreed, {} beyond PostgreSQL's, {} too slow, {} errors of values that one \
             of the two has met, {} faults of PostgreSQL's",
            self.asked,
            self.with_rows,
            self.agreed,
            self.beyond,
            self.too_slow,
            self.by_order,
            self.their_fault
        );
        println!(
            "{} with windows, {} with WITH, {} of which change a table",
            self.windows, self.named, self.writing
        );
        for (state, times) in &self.errors {
            println!("  {times} times both say {state}");
        }
        for (why, times) in &self.refused {
            println!("  {times} times we refuse: {why}");
        }
    }
}

/// Both answers to a case.
struct Asked {
    own: Reply,
    theirs: Reply,
    comparisons: Vec<Comparison>,
}

impl Asked {
    fn verdict(&self) -> Verdict {
        judge(&self.own, &self.theirs, &self.comparisons)
    }

    fn shown(&self) -> String {
        format!(
            "-- ours:\n{}-- PostgreSQL:\n{}",
            shown(&self.own),
            shown(&self.theirs)
        )
    }
}

fn seeds() -> Vec<u64> {
    let given = std::env::var_os("UNDERSTUDY_SEED").is_some();
    let others = u64::from(rounds(u32::from(given), 200));
    let first = seed();
    let mut seeds: Vec<u64> = (0..others).map(|i| first.wrapping_add(i)).collect();
    if !given && !is_soak() {
        seeds.splice(0..0, 1..=SAME_WORLDS);
    }
    seeds
}

fn ask(sides: &mut Sides, case: &Case) -> Asked {
    let (sent, comparisons): (Vec<String>, Vec<_>) = case.statement.sent().into_iter().unzip();
    sides.set_ours(&case.settings);
    Asked {
        theirs: sides.ask_theirs(&sent),
        own: sides.ask_ours(&sent),
        comparisons,
    }
}

fn differs(sides: &mut Sides, case: &Case) -> Option<Kind> {
    sides.make(&case.world).ok()?;
    match ask(sides, case).verdict() {
        Verdict::Differ(kind) => Some(kind),
        _ => None,
    }
}

/// Of a query the one answer, of a change all of them.
fn shown(reply: &Reply) -> String {
    let answers = match reply {
        Reply::Lost(why) => return format!("the session is lost: {why}\n"),
        Reply::Answers(answers) => answers,
    };
    let mut text = String::new();
    for answer in answers {
        if let Some(error) = &answer.error {
            let _ = writeln!(text, "  ERROR {}: {}", error.state, error.message);
            continue;
        }
        let columns: Vec<String> = answer
            .columns
            .iter()
            .map(|column| format!("{}:{}", column.name, column.type_oid))
            .collect();
        let tag = answer.tag.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {tag} {}", columns.join(" | "));
        for row in answer.rows.iter().take(20) {
            let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
            let _ = writeln!(text, "    {}", values.join(" | "));
        }
    }
    text
}

/// The case made small, with both answers; or as it was, where it does not come again.
fn report(sides: &mut Sides, place: &str, case: &Case, asked: &Asked, kind: Kind) -> String {
    let mut text = format!("--- {place}: {kind:?}\n");
    if differs(sides, case).as_ref() != Some(&kind) {
        let _ = write!(
            text,
            "-- asked again, they agree: it may depend on what was asked before\n{}{}",
            case.script(),
            asked.shown()
        );
        return text;
    }
    let mut shrinker = Shrinker::new(kind, SHRINKING, |case| differs(sides, case));
    let small = shrinker.shrink(case);
    if let Err(why) = sides.make(&small.world) {
        let _ = writeln!(text, "-- its world is not made again: {why}");
    }
    let _ = write!(
        text,
        "{}{}-- as it was made:\n-- {}\n",
        small.script(),
        ask(sides, &small).shown(),
        case.statement.sql()
    );
    text
}

/// PostgreSQL answers once, we under some settings and under the usual ones.
fn try_statement(sides: &mut Sides, case: &mut Case, tally: &mut Tally) -> Asked {
    let mut asked = ask(sides, case);
    tally.asked += 1;
    tally.count_parts(&case.statement);
    match first_error(&asked.theirs) {
        Some(state) if asked.verdict() == Verdict::Agree => {
            *tally.errors.entry(state).or_default() += 1;
        }
        _ => tally.with_rows += u32::from(has_rows(&asked.theirs)),
    }
    if asked.verdict() == Verdict::Agree && !case.settings.changed.is_empty() {
        case.settings = Settings::default();
        sides.set_ours(&case.settings);
        let sent: Vec<String> = case.statement.sent().into_iter().map(|s| s.0).collect();
        asked.own = sides.ask_ours(&sent);
    }
    asked
}

fn first_error(reply: &Reply) -> Option<String> {
    let Reply::Answers(answers) = reply else {
        return None;
    };
    let mut errors = answers.iter().filter_map(|answer| answer.error.as_ref());
    errors.next().map(|error| error.state.clone())
}

fn has_rows(reply: &Reply) -> bool {
    match reply {
        Reply::Answers(answers) => answers.iter().any(|answer| !answer.rows.is_empty()),
        Reply::Lost(_) => false,
    }
}

fn make(sides: &mut Sides, world: &World, seed: u64) {
    let made = sides.make(world);
    made.unwrap_or_else(|why| panic!("UNDERSTUDY_SEED={seed}: {why}"));
}

fn run_world(sides: &mut Sides, seed: u64, tally: &mut Tally) {
    let world = World::new(seed);
    make(sides, &world, seed);
    let mut maker = Maker::new(seed, world.clone());
    let mut settings = Settings::default();
    for number in 0..STATEMENTS {
        if number % ALIKE == 0 {
            let own = seed.wrapping_mul(STATEMENTS).wrapping_add(number);
            settings = Settings::new(own);
            sides.set_theirs(&Settings::new(own.wrapping_add(1)));
        }
        let mut case = Case {
            world: world.clone(),
            statement: maker.statement(),
            settings: settings.clone(),
        };
        let place = format!("UNDERSTUDY_SEED={seed}, statement {number}");
        let asked = try_statement(sides, &mut case, tally);
        let verdict = asked.verdict();
        match &verdict {
            Verdict::Differ(kind) => {
                let text = report(sides, &place, &case, &asked, kind.clone());
                eprintln!("{text}");
                tally.differences.push(text);
                make(sides, &world, seed);
            }
            Verdict::TooSlow | Verdict::TheirFault | Verdict::ByOrder | Verdict::Beyond => {
                eprintln!("{place}: {verdict:?}: {}", case.statement.sql());
            }
            Verdict::Agree | Verdict::Refused(_) => {}
        }
        tally.count(verdict);
        if tally.is_full() {
            return;
        }
    }
}

#[test]
fn random_queries_agree_with_postgresql() {
    let mut sides = Sides::started();
    let mut tally = Tally::default();
    for seed in seeds() {
        run_world(&mut sides, seed, &mut tally);
        if tally.is_full() {
            break;
        }
    }
    tally.print();
    assert!(
        tally.differences.is_empty(),
        "{} differ:\n{}",
        tally.differences.len(),
        tally.differences.join("\n")
    );
    // What is excused must stay the exception, or nothing is tested.
    let excused = tally.by_order + tally.too_slow + tally.their_fault + tally.beyond;
    assert!(excused <= 5 + tally.asked / 100, "{excused} excused");
    let sum = |times: &BTreeMap<String, u32>| times.values().sum::<u32>();
    let (refused, errors) = (sum(&tally.refused), sum(&tally.errors));
    assert!(refused <= 20 + tally.asked / 6, "{refused} refused");
    assert!(errors <= 20 + tally.asked / 10, "{errors} errors on both");
}
