//! Damaged files of relations and databases on a running server: an error that names the file to whoever wants what is in
//! it, everything else goes on, and with the bytes back everything is there again.

use std::fs;

use understudy_tests::damage::{DAMAGES, Damage, Original};
use understudy_tests::programs::run_ok;
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;

#[test]
fn a_damaged_shared_relation_keeps_everybody_out_and_names_itself() {
    let original = Original::new(Stop::Fast);
    for relation in ["global/1260", "global/1262"] {
        for (what, damage) in DAMAGES {
            let mut d = original.copy();
            let whole = fs::read(d.path(relation)).expect(relation);
            damage(&d, relation);
            d.launched();
            let said = d.turned_away(&[]);
            assert!(said.contains(relation), "{relation}, {what}: {said}");
            let status = d.server.stop(Stop::Fast);
            assert!(status.success(), "{relation}, {what}: {status}");
            fs::write(d.path(relation), whole).expect(relation);
            d.server.start();
            d.is_whole();
        }
    }
}

/// A rule that rejects a group decides about nobody whose groups can't be read.
#[test]
fn with_damaged_memberships_nobody_slips_past_a_rule_for_a_group() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    d.server.start();
    d.server.psql("CREATE ROLE staff");
    d.server.psql("CREATE ROLE bob LOGIN IN ROLE staff");
    assert!(d.server.stop(Stop::Fast).success());
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all +staff 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n";
    fs::write(d.path("pg_hba.conf"), rules).expect("ours");
    d.server.start();
    let said = d.turned_away(&["-U", "bob"]);
    assert!(said.contains("pg_hba.conf rejects"), "{said}");
    assert!(d.server.stop(Stop::Fast).success());
    let (_, flip) = DAMAGES[0];
    flip(&d, "global/1261");
    d.launched();
    let said = d.turned_away(&["-U", "bob"]);
    assert!(said.contains("global/1261"), "{said}");
    assert!(d.server.stop(Stop::Fast).success());
}

/// A directory of a database that `pg_database` does not name is a crash's leftover, unless `pg_database` has lost pages.
#[test]
fn no_database_is_removed_on_the_word_of_a_damaged_pg_database() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    d.server.start();
    d.server.psql("CREATE DATABASE keep");
    let asked = "SELECT oid FROM pg_database WHERE datname = 'keep'";
    let directory = format!("base/{}", d.server.psql(asked).trim());
    d.server.psql("CHECKPOINT");
    d.server.psql("INSERT INTO other VALUES (2)");
    d.server.stop(Stop::Kill);
    let whole = fs::read(d.path("global/1262")).expect("there");
    d.cut("global/1262", 0);
    d.launched();
    eventually("it says that it keeps the directory", || {
        d.server.log().contains("pg_database may be damaged")
    });
    assert!(d.path(&directory).join("1259").is_file());
    assert!(d.server.stop(Stop::Fast).success());
    fs::write(d.path("global/1262"), whole).expect("ours");
    d.server.start();
    let mut psql = d.server.psql_command("SELECT count(*) > 0 FROM pg_class");
    assert_eq!(run_ok(psql.args(["-d", "keep"])).trim(), "t");
    assert_eq!(d.server.psql("SELECT sum(id) FROM other").trim(), "3");
}

#[test]
fn a_database_with_a_damaged_version_file_is_closed_and_others_are_not() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    let elsewhere = d.path("base").join("elsewhere");
    let version = d.path("base/5/PG_VERSION");
    let put = |text: &str| fs::write(&version, text).expect("ours");
    d.launched();
    for (text, words) in [
        ("", "does not contain valid data"),
        ("nonsense", "does not contain valid data"),
        ("14\n", "incompatible with server"),
    ] {
        put(text);
        let said = d.turned_away(&[]);
        assert!(said.contains("base/5"), "{text:?}: {said}");
        assert!(said.contains(words), "{text:?}: {said}");
    }
    fs::remove_file(&version).expect("there");
    let said = d.turned_away(&[]);
    assert!(
        said.contains("\"base/5\" is not a valid data directory"),
        "{said}"
    );
    assert!(
        said.contains("File \"base/5/PG_VERSION\" is missing"),
        "{said}"
    );
    fs::rename(d.path("base/5"), &elsewhere).expect("ours");
    let said = d.turned_away(&[]);
    assert!(
        said.contains("The database subdirectory \"base/5\" is missing"),
        "{said}"
    );
    let mut psql = d.server.psql_command("SELECT 1");
    run_ok(psql.args(["-d", "template1"]));
    fs::rename(&elsewhere, d.path("base/5")).expect("ours");
    put("15\n");
    d.is_whole();
}

/// PostgreSQL takes such a file for a shorter one.
#[test]
fn a_table_that_ends_within_a_page_is_an_error_and_loses_nothing() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    let whole = fs::read(d.path(&original.table)).expect("there");
    d.cut(&original.table, 8192 * 2 + 100);
    d.server.start();
    let mut client = d.server.client();
    for sql in [
        "SELECT count(*) FROM t",
        "INSERT INTO t SELECT g, 'more' FROM generate_series(5000, 5999) g",
    ] {
        let error = client.error(sql);
        assert_eq!(error.state, "XX001", "{sql}: {error:?}");
        assert!(error.message.contains(&original.table), "{sql}: {error:?}");
    }
    let error = client.error("SELECT count(*) FROM t");
    assert!(error.message.contains("ends within a page"), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    client.rows("UPDATE other SET id = 1");
    let findings = client.rows("SELECT relation FROM understudy_check('t')");
    assert!(!findings.is_empty());
    drop(client);
    assert!(d.server.stop(Stop::Fast).success());
    fs::write(d.path(&original.table), whole).expect("ours");
    d.server.start();
    d.is_whole();
}

/// Rows that an index knows are not taken for rows that are gone.
#[test]
fn a_table_without_its_last_pages_is_an_error_to_whoever_wants_them() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    let whole = fs::read(d.path(&original.table)).expect("there");
    d.cut(&original.table, 8192 * 2);
    d.server.start();
    let mut client = d.server.client();
    // So small a table is not worth an index to the planner, and a scan of what is left has no way to know.
    client.rows("SET enable_seqscan = off");
    let mut errors = 0;
    for id in [1, 77, 500, 1000, 1500, 2000] {
        let sql = format!("SELECT v FROM t WHERE id = {id}");
        let answers = client.query(&sql).expect("an answer");
        match &answers[0].error {
            None => assert_eq!(answers[0].rows.len(), 1, "{sql}"),
            Some(error) => {
                assert_eq!(error.state, "XX001", "{sql}: {error:?}");
                assert!(error.message.contains(&original.table), "{error:?}");
                errors += 1;
            }
        }
    }
    assert!(errors > 0, "every row is on the first two pages");
    let findings = client.rows("SELECT finding FROM understudy_check('t')");
    assert!(!findings.is_empty());
    assert_eq!(client.value("SELECT count(*) FROM other"), "1");
    drop(client);
    assert!(d.server.stop(Stop::Fast).success());
    fs::write(d.path(&original.table), whole).expect("ours");
    d.server.start();
    d.is_whole();
}

#[test]
fn a_damaged_sequence_is_an_error_and_gives_out_nothing_twice() {
    let original = Original::new(Stop::Fast);
    let zeroes: Damage = ("zeroes", |d, name| {
        fs::write(d.path(name), [0; 8192]).expect(name);
    });
    for (what, damage) in DAMAGES.into_iter().chain([zeroes]) {
        let mut d = original.copy();
        let whole = fs::read(d.path(&original.sequence)).expect("there");
        damage(&d, &original.sequence);
        d.server.start();
        let mut client = d.server.client();
        for sql in [
            "SELECT nextval('s')",
            "SELECT last_value FROM s",
            "SELECT setval('s', 1)",
        ] {
            let error = client.error(sql);
            let expected = if what == "missing" { "58P01" } else { "XX001" };
            assert_eq!(error.state, expected, "{what}, {sql}: {error:?}");
            assert!(
                error.message.contains(&original.sequence),
                "{what}, {sql}: {error:?}"
            );
        }
        assert_eq!(client.value("SELECT count(*) FROM t"), "2000");
        drop(client);
        assert!(d.server.stop(Stop::Fast).success(), "{what}");
        fs::write(d.path(&original.sequence), whole).expect("ours");
        d.server.start();
        let next = d.server.psql("SELECT nextval('s')");
        let next: i64 = next.trim().parse().expect("a number");
        assert!(next > 3, "{what}: {next}");
        d.is_whole();
    }
}

/// Without checksums only the owner of a page can tell that it is damaged, and must before he logs a change of it.
#[test]
fn a_sequence_of_another_size_does_not_end_the_server() {
    let mut server = Server::initdb_with(&["--no-data-checksums"]);
    server.start();
    server.psql("CREATE SEQUENCE s");
    server.psql("SELECT nextval('s')");
    let asked = "SELECT relfilenode FROM pg_class WHERE relname = 's'";
    let file = format!("base/5/{}", server.psql(asked).trim());
    assert!(server.stop(Stop::Fast).success());
    let path = server.data().join(&file);
    let mut page = fs::read(&path).expect("there");
    // The first line pointer: offset, state, and from bit 17 on the item's length.
    let pointer = u32::from_le_bytes(page[24..28].try_into().expect("four bytes"));
    assert_eq!(pointer >> 17, 9, "the layout is another one");
    page[24..28].copy_from_slice(&((pointer & 0x1_FFFF) | (8 << 17)).to_le_bytes());
    fs::write(&path, page).expect("ours");
    server.start();
    let mut client = server.client();
    for sql in ["SELECT nextval('s')", "SELECT setval('s', 5)"] {
        let error = client.error(sql);
        assert_eq!(error.state, "XX001", "{sql}: {error:?}");
        assert!(error.message.contains(&file), "{sql}: {error:?}");
    }
    assert_eq!(client.value("SELECT 1"), "1");
    assert!(server.exit_status().is_none(), "{}", server.log());
}

/// Whoever makes `template1` anew has it under another number.
#[test]
fn leftovers_of_a_crash_go_from_a_cluster_with_another_template1_too() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    d.server.start();
    for sql in [
        "ALTER DATABASE template1 IS_TEMPLATE false",
        "DROP DATABASE template1",
        "CREATE DATABASE template1 TEMPLATE template0",
    ] {
        d.server.psql(sql);
    }
    d.server.stop(Stop::Kill);
    let leftover = d.path("base/99999");
    fs::create_dir(&leftover).expect("ours");
    fs::write(leftover.join("PG_VERSION"), "15\n").expect("ours");
    d.server.start();
    eventually("it is removed", || !leftover.exists());
    d.is_whole();
}
