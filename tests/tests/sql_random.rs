//! Random expressions and small queries, made from our own tables of functions and operators, answered as PostgreSQL
//! 15 answers them.
//!
//! The seed is printed; `UNDERSTUDY_SEED` runs one again. The soak form (`UNDERSTUDY_SOAK=1`) runs many more.

use understudy_tests::random_sql::Maker;
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::soak::{is_soak, seed};
use understudy_tests::wire::{Answer, Client};

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
            let of_values =
                |state: &str| state.starts_with("22") || matches!(state, "0A000" | "54000");
            own.state == theirs.state || (of_values(&own.state) && of_values(&theirs.state))
        }
        (Some(own), None) => own.state == "0A000",
        (None, Some(_)) => false,
    }
}

fn types(answer: &Answer) -> Vec<u32> {
    answer.columns.iter().map(|c| c.type_oid).collect()
}

fn run(sql: &str, ours: &mut Client, reference: &mut Client, differences: &mut Vec<String>) {
    let theirs = reference.query(sql).expect("the referee answers");
    let own = ours.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    if !agree(&own, &theirs) {
        let short = |answers: &[Answer]| match answers {
            [one] => format!(
                "{:?} {:?}",
                one.rows.iter().take(3).collect::<Vec<_>>(),
                one.error
            ),
            _ => format!("{} answers", answers.len()),
        };
        differences.push(format!(
            "{sql}\n  ours: {}\n  PostgreSQL: {}",
            short(&own),
            short(&theirs)
        ));
    }
}

#[test]
fn random_statements_agree_with_postgresql() {
    let seed = seed();
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
    let mut differences = Vec::new();
    for sql in maker.tables() {
        run(&sql, &mut ours, &mut reference, &mut differences);
    }
    for number in 0..statements() {
        let sql = if number % 3 == 0 {
            maker.table_query()
        } else {
            maker.constant_query()
        };
        run(&sql, &mut ours, &mut reference, &mut differences);
        if differences.len() >= 50 {
            break;
        }
    }
    assert!(
        differences.is_empty(),
        "seed {seed}: {} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
