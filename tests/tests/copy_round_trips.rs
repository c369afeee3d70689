//! COPY between the two servers: what one writes the other reads, every type in every format, both ways; and input
//! that ends, or claims to end, in every manner.

use std::time::Duration;

use understudy_tests::raw::{End, Raw, Reply, frame, query, short};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::wire::Client;

const PATIENCE: Duration = Duration::from_secs(20);

/// A type and three values of it.
const TYPES: &[(&str, [&str; 3])] = &[
    ("bool", ["true", "false", "NULL"]),
    ("int2", ["-32768", "32767", "0"]),
    ("int4", ["-2147483648", "2147483647", "NULL"]),
    ("int8", ["-9223372036854775808", "9223372036854775807", "0"]),
    ("float4", ["'1.5'", "'-Infinity'", "'1e-30'"]),
    ("float8", ["'0.1'", "'NaN'", "'-0'"]),
    (
        "numeric",
        [
            "123456789012345678901234567890.000100",
            "'NaN'",
            "-0.0000000001",
        ],
    ),
    ("numeric(9,3)", ["1.5", "-999999.999", "NULL"]),
    (
        "text",
        ["E'tab\\t, \"quote\" and \\\\ back'", "''", "'\\N'"],
    ),
    ("varchar(5)", ["'äöü'", "'a b'", "NULL"]),
    ("char(4)", ["'a'", "'abcd'", "''"]),
    ("\"char\"", ["'x'", "'\"'", "NULL"]),
    ("name", ["'a name'", "'x,y'", "NULL"]),
    ("bytea", ["'\\x00ff0a5c'", "''", "NULL"]),
    ("date", ["'2024-02-29'", "'infinity'", "'0044-03-15 BC'"]),
    ("time", ["'23:59:59.999999'", "'24:00'", "'00:00'"]),
    ("timetz", ["'12:34:56+05:30'", "'00:00-11'", "NULL"]),
    (
        "timestamp",
        [
            "'2024-01-01 12:00:00.000001'",
            "'-infinity'",
            "'4714-11-24 00:00 BC'",
        ],
    ),
    (
        "timestamptz",
        ["'2024-07-01 12:00+02'", "'infinity'", "NULL"],
    ),
    (
        "interval",
        ["'1 year -2 days 03:04:05.6'", "'-1 month'", "'0'"],
    ),
    (
        "uuid",
        [
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
            "NULL",
        ],
    ),
    (
        "json",
        ["'{\"a\": [1,  2], \"a\": null}'", "'\"x\\ny\"'", "'null'"],
    ),
    (
        "jsonb",
        ["'{\"b\": 1.50, \"a\": [true, \"x\"]}'", "'[]'", "NULL"],
    ),
    ("oid", ["0", "4294967295", "NULL"]),
    ("pg_lsn", ["'16/B374D848'", "'0/0'", "NULL"]),
    ("int4[]", ["'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'"]),
    (
        "text[]",
        ["E'{a,\"b c\",\"d\\\\\"e\"}'", "'{NULL,\"NULL\"}'", "NULL"],
    ),
];

const FORMATS: &[&str] = &["text", "csv", "binary"];

fn done(replies: &[Reply], what: &str) {
    let error = replies.iter().find(|r| r.tag == b'E');
    if let Some(error) = error {
        panic!("{what}: {:?}", error.field(b'M'));
    }
}

fn run(raw: &mut Raw, sql: &str) {
    raw.send(&query(sql)).expect("sent");
    let (replies, end) = raw.until_ready(1, PATIENCE);
    assert_eq!(end, End::Ready, "{sql}");
    done(&replies, sql);
}

fn copy_out(raw: &mut Raw, table: &str, format: &str) -> Vec<u8> {
    let sql = format!("COPY {table} TO STDOUT (FORMAT {format})");
    raw.send(&query(&sql)).expect("sent");
    let (replies, end) = raw.until_ready(1, PATIENCE);
    assert_eq!(end, End::Ready, "{sql}");
    done(&replies, &sql);
    let data = replies.into_iter().filter(|r| r.tag == b'd');
    data.flat_map(|r| r.body).collect()
}

/// The data in pieces of `piece` bytes.
fn copy_in(raw: &mut Raw, sql: &str, data: &[u8], piece: usize) -> Vec<Reply> {
    let mut bytes = query(sql);
    for part in data.chunks(piece) {
        bytes.extend(frame(b'd', part));
    }
    bytes.extend(frame(b'c', b""));
    raw.send(&bytes).expect("sent");
    let (replies, end) = raw.until_ready(1, PATIENCE);
    assert_eq!(end, End::Ready, "{sql}");
    replies
}

#[test]
fn what_one_server_writes_the_other_reads() {
    let (server, reference) = (Server::started(), Reference::started());
    let mut ours = Raw::session(server.port).expect("it answers");
    let mut theirs = Raw::session(reference.port).expect("it answers");
    let columns: Vec<String> = TYPES
        .iter()
        .enumerate()
        .map(|(n, (ty, _))| format!("c{n} {ty}"))
        .collect();
    for raw in [&mut ours, &mut theirs] {
        run(raw, "SET timezone = 'America/New_York'");
        run(
            raw,
            &format!("CREATE TABLE source ({})", columns.join(", ")),
        );
        run(raw, &format!("CREATE TABLE sink ({})", columns.join(", ")));
        for row in 0..3 {
            let values: Vec<&str> = TYPES.iter().map(|(_, values)| values[row]).collect();
            run(
                raw,
                &format!("INSERT INTO source VALUES ({})", values.join(", ")),
            );
        }
    }
    for format in FORMATS {
        let (own, their) = (
            copy_out(&mut ours, "source", format),
            copy_out(&mut theirs, "source", format),
        );
        assert_eq!(
            String::from_utf8_lossy(&own),
            String::from_utf8_lossy(&their),
            "{format}"
        );
        for (raw, data) in [(&mut theirs, &own), (&mut ours, &their)] {
            for piece in [7, 1 << 16] {
                let sql = format!("COPY sink FROM STDIN (FORMAT {format})");
                done(&copy_in(raw, &sql, data, piece), &sql);
                let back = copy_out(raw, "sink", format);
                assert_eq!(&back, data, "{format} in pieces of {piece}");
                run(raw, "TRUNCATE sink");
            }
        }
    }
}

/// A binary file: its head, rows of one integer, and whatever follows.
fn binary(rows: i32, tail: &[u8]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in 0..rows {
        out.extend([0, 1, 0, 0, 0, 4]);
        out.extend(row.to_be_bytes());
    }
    out.extend_from_slice(tail);
    out
}

/// Options and data.
fn endings() -> Vec<(&'static str, Vec<u8>)> {
    let text = |data: &str| data.as_bytes().to_vec();
    let mut all = vec![
        ("FORMAT binary", binary(2, &[0xff, 0xff])),
        // As some drivers end it.
        ("FORMAT binary", binary(2, &[])),
        ("FORMAT binary", binary(0, &[])),
        ("FORMAT binary", binary(2, &[0])),
        ("FORMAT binary", binary(2, &[0, 1])),
        ("FORMAT binary", binary(2, &[0, 1, 0, 0, 0, 4, 0])),
        ("FORMAT binary", binary(2, &[0, 2, 0, 0, 0, 4, 0, 0, 0, 1])),
        ("FORMAT binary", binary(2, &[0xff, 0xff, 0, 1])),
        ("FORMAT binary", text("PGCOPY\n")),
        ("FORMAT binary", Vec::new()),
    ];
    for data in [
        "1\n2\n\\.\n",
        "1\n2\n\\.\n3\n",
        "1\n2\\.\n3\n",
        "1\n\\.x\n",
        "1\n\\.",
        "\\.\n",
        "1\r\n\\.\r\n2\r\n",
        "1\r\n\\.\n",
        "1\r\\.\r2\r",
        "1\n\\.2\n",
        "1\n2",
        "",
        "\n",
    ] {
        all.push(("FORMAT text", text(data)));
        all.push(("FORMAT csv", text(data)));
    }
    // In CSV PostgreSQL words this one otherwise.
    all.push(("FORMAT text", text("1\n\\.\r\n")));
    all
}

#[test]
fn input_ends_as_it_does_for_postgresql() {
    let (server, reference) = (Server::started(), Reference::started());
    let mut wrong = Vec::new();
    for (options, data) in endings() {
        let answer = |port: u16, piece: usize| {
            let mut raw = Raw::session(port).expect("it answers");
            run(&mut raw, "DROP TABLE IF EXISTS e");
            run(&mut raw, "CREATE TABLE e (a int)");
            let sql = format!("COPY e FROM STDIN ({options})");
            let replies = copy_in(&mut raw, &sql, &data, piece);
            let error = replies.iter().find(|r| r.tag == b'E');
            (short(&replies), error.and_then(|e| e.field(b'M')))
        };
        let theirs = answer(reference.port, usize::MAX);
        for piece in [1, usize::MAX] {
            let own = answer(server.port, piece);
            if own != theirs {
                let data = String::from_utf8_lossy(&data).into_owned();
                wrong.push(format!(
                    "{options} {data:?}:\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A row of a table without columns is an empty line, or a binary one without fields.
#[test]
fn rows_without_columns_are_copied_as_postgresql_copies_them() {
    let (server, reference) = (Server::started(), Reference::started());
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    binary.extend([0, 0, 0, 0, 0xff, 0xff]);
    for (options, data) in [
        ("FORMAT text", &b"\n\n\n"[..]),
        ("FORMAT text", b""),
        ("FORMAT text", b"x\n"),
        ("FORMAT csv", b"\n\n"),
        ("FORMAT binary", &binary),
    ] {
        let answer = |port: u16| {
            let mut raw = Raw::session(port).expect("it answers");
            run(&mut raw, "DROP TABLE IF EXISTS bare");
            run(&mut raw, "CREATE TABLE bare ()");
            let sql = format!("COPY bare FROM STDIN ({options})");
            let replies = copy_in(&mut raw, &sql, data, usize::MAX);
            let error = replies.iter().find(|r| r.tag == b'E');
            let error = error.and_then(|e| e.field(b'M'));
            let format = options.trim_start_matches("FORMAT ");
            (short(&replies), error, copy_out(&mut raw, "bare", format))
        };
        assert_eq!(
            answer(server.port),
            answer(reference.port),
            "{options} {data:?}"
        );
    }
}

/// Options and data for a table of (int, text, int), each wrong somewhere or nearly.
fn faults() -> Vec<(&'static str, Vec<u8>)> {
    let mut all: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for data in [
        // The backslash has nothing to escape.
        &b"1\tlone\\"[..],
        b"1\tx\t2\\",
        b"1\tx\\\n\t2\n",
        b"x\ty\t1\n",
        b"1\ty\tz\n",
        // The first fault of a line counts, whatever comes behind it.
        b"x\ty\n",
        b"1\ty\n",
        b"\n",
        b"x\ty\t1\t2\n",
        b"1\tx\\xff\t2\n",
        b"1\tx\\000\t2\n",
        b"x\tx\\xff\t2\n",
        b"1\tok\t2\n2\t\xff\t3\n",
        b"1\tok\t2\n\\N\t\\N\t\\N\n99999999999\tx\t1\n",
    ] {
        all.push(("FORMAT text", data.to_vec()));
    }
    for data in [
        &b"x,y,1\n"[..],
        b"1,y\n",
        b"1,\"\xff\",2\n",
        b"1,\"y,2\n",
        b"1,y,2,3\n",
        b"1,\"a\\\",2\n",
    ] {
        all.push(("FORMAT csv", data.to_vec()));
    }
    let row = |fields: &[&[u8]]| {
        let mut tail = vec![0, 3];
        tail.extend(fields.concat());
        binary(0, &tail)
    };
    let (one, text) = (&[0, 0, 0, 4, 0, 0, 0, 1][..], &[0, 0, 0, 1, b'x'][..]);
    for fields in [
        // Too short, too long, of no length; cut off in each column; text that is none.
        &[&[0, 0, 0, 3, 0, 0, 1][..], text, one][..],
        &[one, text, &[0, 0, 0, 5, 0, 0, 0, 0, 1]],
        &[one, &[0xff, 0xff, 0xff, 0xfe]],
        &[&[0, 0, 0, 3, 0, 0, 1], &[0xff, 0xff, 0xff, 0xfe]],
        &[],
        &[one],
        &[one, &[0, 0, 0, 9, b'x']],
        &[one, text, &[0, 0, 0]],
        &[one, &[0, 0, 0, 1, 0xff], one],
    ] {
        all.push(("FORMAT binary", row(fields)));
    }
    all.push(("FORMAT binary", Vec::new()));
    all
}

#[test]
fn an_error_says_where_in_the_input_it_is() {
    let (server, reference) = (Server::started(), Reference::started());
    let mut wrong = Vec::new();
    for (options, data) in faults() {
        let answer = |port: u16| {
            let mut raw = Raw::session(port).expect("it answers");
            run(&mut raw, "DROP TABLE IF EXISTS f");
            run(&mut raw, "CREATE TABLE f (a int, b text, c int)");
            let sql = format!("COPY f FROM STDIN ({options})");
            let replies = copy_in(&mut raw, &sql, &data, usize::MAX);
            let error = replies.iter().find(|r| r.tag == b'E');
            let fields = *b"CMDW";
            let told = error.map(|e| fields.map(|field| e.field(field)));
            let rows = copy_out(&mut raw, "f", "text");
            (told, String::from_utf8_lossy(&rows).into_owned())
        };
        let (theirs, own) = (answer(reference.port), answer(server.port));
        if own != theirs {
            let data = String::from_utf8_lossy(&data).into_owned();
            wrong.push(format!(
                "{options} {data:?}:\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of a statement that succeeds.
fn tag_of(client: &mut Client, sql: &str) -> String {
    let answers = client.query(sql).expect("it answers");
    let last = answers.last().expect("an answer");
    assert!(last.error.is_none(), "{sql}: {:?}", last.error);
    last.tag.clone().unwrap_or_default()
}

/// What COPY writes to files of the server it reads from there again, many buffers of it and in every format.
#[test]
fn files_of_the_server_are_written_and_read() {
    let server = Server::started();
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = server.client();
    tag_of(&mut client, "CREATE TABLE written (n int, t text)");
    let rows = "SELECT n, repeat('x', n % 50) || E'\\t\"' FROM generate_series(1, 20000) AS g (n)";
    tag_of(&mut client, &format!("INSERT INTO written {rows}"));
    for format in ["text", "csv", "binary"] {
        let path = folder.path().join(format);
        let path = path.display();
        let copy = |way: &str| format!("COPY {way} '{path}' (FORMAT {format})");
        assert_eq!(tag_of(&mut client, &copy("written TO")), "COPY 20000");
        tag_of(&mut client, "CREATE TABLE again (n int, t text)");
        assert_eq!(tag_of(&mut client, &copy("again FROM")), "COPY 20000");
        let missing =
            "SELECT count(*) FROM (SELECT * FROM written EXCEPT ALL SELECT * FROM again) AS d";
        assert_eq!(client.value(missing), "0", "{format}");
        tag_of(&mut client, "DROP TABLE again");
    }
    // A file that is there is emptied first.
    let path = folder.path().join("text");
    let copy = format!("COPY (SELECT 7) TO '{}'", path.display());
    assert_eq!(tag_of(&mut client, &copy), "COPY 1");
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), "7\n");
}
