//! A number of a sequence that any client has seen is never given out again, whatever became of its transaction and
//! of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const CLIENTS: usize = 4;
/// How long they draw before the server is killed.
const DRAWING: Duration = Duration::from_millis(150);

/// Draws in each way there is until the server is gone; keeps the highest number that came back.
fn draw(mut client: Client, number: usize, highest: &AtomicI64) {
    let ways: &[&[&str]] = &[
        &["SELECT nextval('s')"],
        &["BEGIN", "SELECT nextval('s')", "ROLLBACK"],
        &["BEGIN", "SELECT nextval('s')", "SELECT nextval('s')"],
        &["SELECT max(nextval('s')) FROM generate_series(1, 50)"],
        &["INSERT INTO t (who) VALUES (1) RETURNING id"],
    ];
    let mut turn = number;
    loop {
        for sql in ways[turn % ways.len()] {
            let Ok(answers) = client.query(sql) else {
                return;
            };
            let rows = answers.first().and_then(|a| a.rows.first());
            if let Some(Some(n)) = rows.and_then(|r| r.first()) {
                highest.fetch_max(n.parse().expect("a number"), Ordering::Relaxed);
            }
        }
        // What the third way leaves open.
        if client.query("ROLLBACK").is_err() {
            return;
        }
        turn += 1;
    }
}

#[test]
fn a_number_that_was_seen_does_not_come_again() {
    let mut server = Server::started();
    // One sequence under both names, so that its owner's default draws from it too.
    server.psql(
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint DEFAULT nextval('s') PRIMARY KEY, who int)",
    );
    let highest = Arc::new(AtomicI64::new(0));
    for round in 0..rounds(4, 40) {
        let before = highest.load(Ordering::Relaxed);
        let drawing: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (client, highest) = (server.client(), Arc::clone(&highest));
                thread::spawn(move || draw(client, number, &highest))
            })
            .collect();
        thread::sleep(DRAWING);
        eventually("somebody has drawn", || {
            highest.load(Ordering::Relaxed) > before
        });
        server.stop(Stop::Kill);
        drawing
            .into_iter()
            .for_each(|d| d.join().expect("it draws"));
        let seen = highest.load(Ordering::Relaxed);
        assert!(seen > before, "round {round}: nobody drew anything");
        server.start();
        let next: i64 = server
            .client()
            .value("SELECT nextval('s')")
            .parse()
            .expect("a number");
        assert!(next > seen, "round {round}: {next} comes after {seen}");
        highest.fetch_max(next, Ordering::Relaxed);
    }
}
