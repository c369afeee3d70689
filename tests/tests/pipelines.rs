//! Pipelines of the extended protocol: what each message is answered with, and what a statement's clock runs over.
//! PostgreSQL is asked the same.

use std::time::Duration;

use understudy_tests::raw::{End, Raw, Reply, bind, describe, execute, frame, parse, query, sync};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// Bind with any number of format codes, for parameters and for results.
fn bind_formats(formats: &[u16], values: &[&[u8]], results: &[u16]) -> Vec<u8> {
    let codes = |codes: &[u16]| {
        let mut out = (codes.len() as u16).to_be_bytes().to_vec();
        out.extend(codes.iter().flat_map(|code| code.to_be_bytes()));
        out
    };
    let mut body = b"\0\0".to_vec();
    body.extend(codes(formats));
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend(codes(results));
    frame(b'B', &body)
}

/// In short form, with the types of parameters in full.
fn shown(replies: &[Reply]) -> String {
    let one = |reply: &Reply| match reply.tag {
        b't' => format!("t{:?}", reply.body),
        _ => reply.short(),
    };
    replies.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn answer(port: u16, messages: &[u8]) -> (String, End) {
    let mut raw = Raw::session(port).expect("it answers");
    raw.push(messages);
    raw.finish_sending();
    let (replies, end) = raw.rest(PATIENCE);
    (shown(&replies), end)
}

fn prepared(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", 0, &[])].concat()
}

fn pipelines() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let all = || execute("", 0);
    let table = || query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)");
    vec![
        (
            "a query of no columns",
            vec![
                parse("", "SELECT", &[]),
                describe(b'S', ""),
                bind("", "", 0, &[]),
                describe(b'P', ""),
                all(),
            ],
        ),
        (
            "a query in parts, and on after its end",
            vec![
                prepared("SELECT generate_series(1, 3)"),
                execute("", 2),
                execute("", 2),
                execute("", 2),
                all(),
            ],
        ),
        (
            "as many rows as there are",
            vec![
                prepared("SELECT generate_series(1, 3)"),
                execute("", 3),
                all(),
                all(),
            ],
        ),
        (
            "a change again",
            vec![
                table(),
                prepared("INSERT INTO pipes VALUES (1)"),
                all(),
                all(),
            ],
        ),
        (
            "a change with rows again",
            vec![
                table(),
                prepared("INSERT INTO pipes VALUES (1) RETURNING a"),
                all(),
                all(),
            ],
        ),
        ("SHOW again", vec![prepared("SHOW work_mem"), all(), all()]),
        (
            "SET again",
            vec![prepared("SET work_mem = '5MB'"), all(), all()],
        ),
        (
            "nothing, described and run",
            vec![
                parse("", "", &[23]),
                describe(b'S', ""),
                bind("", "", 0, &[]),
            ],
        ),
        (
            "a type that the statement does not ask for",
            vec![
                parse("", "SHOW work_mem", &[23]),
                describe(b'S', ""),
                bind("", "", 0, &[Some(b"1")]),
                all(),
            ],
        ),
        (
            "a value too few for a statement without any",
            vec![
                parse("", "SHOW work_mem", &[23]),
                bind("", "", 0, &[]),
                all(),
            ],
        ),
        (
            "a type that nothing tells, of SHOW",
            vec![parse("", "SHOW work_mem", &[0])],
        ),
        (
            "a type that nothing tells, of SELECT",
            vec![parse("", "SELECT 1", &[0])],
        ),
        (
            "types from where parameters stand",
            vec![
                parse("", "SELECT $1, $2 + 1, $3::numeric LIMIT $4", &[]),
                describe(b'S', ""),
            ],
        ),
        (
            "some types given",
            vec![
                parse("", "SELECT $1 + $2, $3", &[0, 20]),
                describe(b'S', ""),
            ],
        ),
        (
            "two formats for one value",
            vec![
                parse("", "SELECT $1::int", &[]),
                bind_formats(&[0, 0], &[b"1"], &[]),
            ],
        ),
        (
            "two formats for no value of SHOW",
            vec![
                parse("", "SHOW work_mem", &[]),
                bind_formats(&[0, 0], &[], &[]),
            ],
        ),
        (
            "two formats for one column",
            vec![
                parse("", "SELECT 1", &[]),
                bind_formats(&[], &[], &[0, 0]),
                all(),
            ],
        ),
        (
            "two formats for a change without rows",
            vec![
                table(),
                parse("", "INSERT INTO pipes VALUES (1)", &[]),
                bind_formats(&[], &[], &[0, 0]),
                all(),
            ],
        ),
        (
            "a name that is taken, for what is wrong",
            vec![
                parse("taken", "SELECT 1", &[]),
                sync(),
                parse("taken", "SELECT no_such_column", &[]),
            ],
        ),
        (
            "the unnamed statement, which is not",
            vec![describe(b'S', "")],
        ),
        (
            "a failed block",
            vec![
                query("BEGIN"),
                parse("show", "SHOW work_mem", &[]),
                bind("show", "show", 0, &[]),
                parse("end", "ROLLBACK", &[]),
                sync(),
                query("SELECT 1/0"),
                describe(b'S', "show"),
                sync(),
                describe(b'S', "end"),
                bind("", "end", 0, &[]),
                describe(b'P', ""),
                all(),
            ],
        ),
    ]
}

#[test]
fn every_message_is_answered_as_postgresql_answers_it() {
    let server = Server::started();
    let reference = Reference::started();
    let mut wrong = Vec::new();
    for (name, mut messages) in pipelines() {
        messages.push(sync());
        messages.push(query("SELECT 1"));
        let bytes = messages.concat();
        let (theirs, own) = (answer(reference.port, &bytes), answer(server.port, &bytes));
        if own != theirs {
            wrong.push(format!(
                "{name}:\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

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
