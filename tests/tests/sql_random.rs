//! Random expressions and small queries, made from our own tables of functions and operators, answered as PostgreSQL
//! 15 answers them.
//!
//! The seed is printed; `UNDERSTUDY_SEED` runs one again. The soak form (`UNDERSTUDY_SOAK=1`) runs many more.

use understudy_tests::random_sql::Maker;
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::soak::{is_soak, seed};
use understudy_tests::wire::{Answer, Client, Report};

fn statements() -> u32 {
    if is_soak() { 100_000 } else { 3_000 }
}

/// Rows and types, or the SQLSTATE. Where an expression has two errors PostgreSQL need not find the same one first,
/// so of two errors that both are about values (or refuse one) only their being errors has to agree.
fn agree(own: &[Answer], theirs: &[Answer]) -> bool {
    let [own] = own else { return false };
    let [theirs] = theirs else { return false };
    match (&own.error, &theirs.error) {
        // A modifier may come from a constant that PostgreSQL computed while it planned.
        (None, None) => types(own) == types(theirs) && own.rows == theirs.rows,
        (Some(own), Some(theirs)) => {
            let of_values = |report: &Report| {
                report.is_of_a_value() || matches!(report.state.as_str(), "0A000" | "54000")
            };
            own.state == theirs.state || (of_values(own) && of_values(theirs))
        }
        (Some(own), None) => own.state == "0A000",
        (None, Some(_)) => false,
    }
}

/// Where rows are joined, filtered and computed, the order is each planner's own, and constants may be computed while it
/// plans (manual, 4.2.14): one of the two may meet a value that the other never computes.
fn order_is_free(sql: &str, own: &[Answer], theirs: &[Answer]) -> bool {
    let ([own], [theirs]) = (own, theirs) else {
        return false;
    };
    let of_values = |answer: &Answer| answer.error.as_ref().is_some_and(Report::is_of_a_value);
    sql.contains(" FROM ")
        && own.error.is_some() != theirs.error.is_some()
        && (of_values(own) || of_values(theirs))
}

fn types(answer: &Answer) -> Vec<u32> {
    answer.columns.iter().map(|c| c.type_oid).collect()
}

#[derive(Default)]
struct Found {
    differences: Vec<String>,
    /// Errors of values that only one of the two has met.
    by_order: u32,
}

fn run(sql: &str, ours: &mut Client, reference: &mut Client, found: &mut Found) {
    let theirs = reference.query(sql).expect("the referee answers");
    let own = ours.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    if agree(&own, &theirs) {
        return;
    }
    if order_is_free(sql, &own, &theirs) {
        found.by_order += 1;
    } else {
        let short = |answers: &[Answer]| match answers {
            [one] => format!(
                "{:?} {:?}",
                one.rows.iter().take(3).collect::<Vec<_>>(),
                one.error
            ),
            _ => format!("{} answers", answers.len()),
        };
        found.differences.push(format!(
            "{sql}\n  ours: {}\n  PostgreSQL: {}",
            short(&own),
            short(&theirs)
        ));
    }
}

#[test]
fn random_statements_agree_with_postgresql() {
    // `make test` tries the same statements each time; others are for the long form, and for whoever gives a seed.
    let is_given = std::env::var_os("UNDERSTUDY_SEED").is_some();
    let seed = if is_soak() || is_given { seed() } else { 1 };
    let server = Server::started();
    let referee = Reference::started();
    let (mut ours, mut reference) = (server.client(), referee.client());
    let mut maker = Maker::new(seed, &mut ours);
    assert!(
        maker.signatures() > 500,
        "{} signatures",
        maker.signatures()
    );
    for client in [&mut ours, &mut reference] {
        client.rows("SET timezone = 'Europe/Berlin'");
        client.rows("SET extra_float_digits = 0");
        client.rows("SET statement_timeout = '20s'");
    }
    let mut found = Found::default();
    for sql in maker.tables() {
        run(&sql, &mut ours, &mut reference, &mut found);
    }
    for number in 0..statements() {
        let sql = if number % 3 == 0 {
            maker.table_query()
        } else {
            maker.constant_query()
        };
        run(&sql, &mut ours, &mut reference, &mut found);
        if found.differences.len() >= 50 {
            break;
        }
    }
    let Found {
        differences,
        by_order,
    } = found;
    println!("{by_order} errors of values that only one of the two has met");
    assert!(
        differences.is_empty(),
        "seed {seed}: {} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    // A function that fails where it should not fails in many of these.
    assert!(
        by_order <= 3 + statements() / 2_000,
        "seed {seed}: {by_order} statements of {} fail on one side only",
        statements()
    );
}
