//! Clocks and views in pipelines of the extended protocol: what a statement's time-out runs over, when a session counts as
//! idle, what `pg_stat_activity` shows of it. PostgreSQL is asked the same.

use std::time::Duration;

use understudy_tests::raw::{
    End, Raw, answer, bind, execute, frame, parse, prepared, query, shown, sync,
};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// Each Execute has the whole time to itself, however many stand before one Sync.
#[test]
fn the_clock_of_a_statement_begins_anew_with_each_of_a_pipeline() {
    let nap = || [prepared("SELECT pg_sleep(1.5)"), execute("", 0)].concat();
    let mut messages = query("SET statement_timeout = '5s'");
    for _ in 0..4 {
        messages.extend(nap());
    }
    messages.extend(sync());
    // One of them that takes too long is ended all the same, and what comes behind it is skipped.
    messages.extend(nap());
    messages.extend(prepared("SELECT pg_sleep(600)"));
    messages.extend([execute("", 0), nap(), sync()].concat());
    let server = Server::started();
    let reference = Reference::started();
    let (theirs, own) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| answer(reference.port, &messages));
        let own = scope.spawn(|| answer(server.port, &messages));
        (theirs.join(), own.join())
    });
    let (theirs, own) = (theirs.expect("no panic"), own.expect("no panic"));
    assert!(theirs.0.contains("57014"), "{theirs:?}");
    assert_eq!(own, theirs);
}

/// A pipeline that never pauses hears of it when it has to end.
#[test]
fn who_always_has_one_more_message_ready_is_ended_too() {
    let server = Server::started();
    let mut raw = Raw::session(server.port).expect("it answers");
    let mut sender = raw.stream.try_clone().expect("a second handle");
    let flood = std::thread::spawn(move || {
        let many = prepared("SELECT 1").repeat(2000);
        // Until the server closes: nothing here is ever executed, and no Sync comes.
        while std::io::Write::write_all(&mut sender, &many).is_ok() {}
    });
    let others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'postgres'";
    let ended = format!("SELECT count(pg_terminate_backend(pid)) {others}");
    assert_eq!(server.psql(&ended).trim(), "1");
    let (replies, end) = raw.rest(PATIENCE);
    assert_eq!(end, End::Closed, "after {} replies", replies.len());
    drop(raw);
    flood.join().expect("it has ended");
    let left = format!("SELECT count(*) {others}");
    eventually("its session is gone", || server.psql(&left).trim() == "0");
}

/// `pg_stat_activity` shows the statement that a session's last message is about: of Parse, Bind and Execute.
#[test]
fn views_show_the_statement_of_each_message() {
    let server = Server::started();
    let reference = Reference::started();
    for port in [reference.port, server.port] {
        let mut watcher = Client::connect(port).expect("it answers");
        let mut raw = Raw::session(port).expect("it answers");
        raw.send(&query("SET application_name = 'piped'"))
            .expect("sent");
        raw.until_ready(1, PATIENCE);
        let asked = "SELECT query FROM pg_stat_activity WHERE application_name = 'piped'";
        let mut shows = |what: &str, messages: &[Vec<u8>], text: &str| {
            raw.send(&messages.concat()).expect("sent");
            eventually(&format!("{port}: {what}"), || watcher.value(asked) == text);
        };
        let flush = || frame(b'H', b"");
        let (one, two) = ("SELECT 1 AS one", "SELECT 2 AS two");
        shows(
            "Parse",
            &[parse("one", one, &[]), parse("two", two, &[]), flush()],
            two,
        );
        shows("Bind", &[bind("", "one", 0, &[]), flush()], one);
        shows("another Bind", &[bind("p", "two", 0, &[]), flush()], two);
        shows("Execute", &[execute("", 0), flush()], one);
        shows("the end", &[execute("p", 0), sync()], two);
    }
}

/// Until Sync a session is active for the views, also while it waits for its client, and its transaction goes on.
#[test]
fn views_show_a_session_in_a_pipeline_as_active() {
    let server = Server::started();
    let reference = Reference::started();
    for port in [reference.port, server.port] {
        let mut watcher = Client::connect(port).expect("it answers");
        let mut raw = Raw::session(port).expect("it answers");
        raw.send(&query("SET application_name = 'waits'"))
            .expect("sent");
        raw.until_ready(1, PATIENCE);
        let asked = "SELECT state || ' ' || coalesce(wait_event, 'none') || ' ' || (xact_start IS NULL)::text \
                     FROM pg_stat_activity WHERE application_name = 'waits'";
        let mut shows = |what: &str, messages: &[Vec<u8>], text: &str| {
            raw.send(&messages.concat()).expect("sent");
            eventually(&format!("{port}: {what}"), || watcher.value(asked) == text);
        };
        let run = || [prepared("SELECT 1"), execute("", 0), frame(b'H', b"")].concat();
        shows("a pipeline", &[run()], "active ClientRead false");
        shows("Sync", &[sync()], "idle ClientRead true");
        shows("another", &[run()], "active ClientRead false");
        let wrong = parse("", "SELEC", &[]);
        shows("an error", &[wrong], "active ClientRead true");
        shows("its end", &[sync()], "idle ClientRead true");
        shows(
            "a block",
            &[query("BEGIN")],
            "idle in transaction ClientRead false",
        );
        shows(
            "a failed block",
            &[query("SELECT 1/0")],
            "idle in transaction (aborted) ClientRead true",
        );
    }
}

/// The clocks of idle sessions do not run in the middle of a pipeline, nor where one that has failed is passed over.
#[test]
fn a_pipeline_is_not_ended_as_idle() {
    let settings = "SET idle_session_timeout = '2s'; BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'";
    let piped = || [prepared("SELECT 1"), execute("", 0), frame(b'H', b"")].concat();
    let server = Server::started();
    let reference = Reference::started();
    for port in [reference.port, server.port] {
        // In one piece: nothing is idle between the two.
        let pipelines = [
            [query(settings), piped()].concat(),
            [
                query("SET idle_session_timeout = '2s'"),
                frame(b'P', b"without an end"),
            ]
            .concat(),
        ];
        let mut sessions = pipelines.map(|bytes| {
            let mut raw = Raw::session(port).expect("it answers");
            raw.send(&bytes).expect("sent");
            raw
        });
        for raw in &mut sessions {
            let (replies, end) = raw.rest(Duration::from_secs(4));
            assert_eq!(end, End::Quiet, "{port}: {}", shown(&replies));
        }
        for raw in &mut sessions {
            raw.send(&[piped(), sync(), query("SELECT 1")].concat())
                .expect("sent");
            let (replies, end) = raw.until_ready(2, PATIENCE);
            assert_eq!(end, End::Ready, "{port}: {}", shown(&replies));
        }
    }
}

/// They begin with its Sync, behind an error, too.
#[test]
fn who_is_idle_behind_a_pipeline_is_ended() {
    let idle = "SET idle_session_timeout = '1s'";
    let in_block = "SET idle_in_transaction_session_timeout = '1s'";
    let run = |sql: &str| [prepared(sql), execute("", 0)].concat();
    let cut = || frame(b'P', b"without an end");
    let wrong = || parse("", "SELEC", &[]);
    let cases = [
        (vec![query(idle), run("SELECT 1"), sync()], "57P05"),
        (vec![query(idle), cut(), sync()], "57P05"),
        (vec![query(in_block), run("BEGIN"), sync()], "25P03"),
        (
            vec![query(in_block), run("BEGIN"), wrong(), sync()],
            "25P03",
        ),
    ];
    let server = Server::started();
    let reference = Reference::started();
    for port in [reference.port, server.port] {
        for (messages, state) in &cases {
            let mut raw = Raw::session(port).expect("it answers");
            raw.send(&messages.concat()).expect("sent");
            let (replies, end) = raw.rest(PATIENCE);
            assert_eq!(end, End::Closed, "{port}: {}", shown(&replies));
            let last = replies.last().and_then(|reply| reply.field(b'C'));
            assert_eq!(last.as_deref(), Some(*state), "{port}");
        }
    }
}
