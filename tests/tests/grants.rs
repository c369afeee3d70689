//! Grants across crashes, connections and servers: what was granted is kept and what was not is not, who may connect,
//! and a standby that enforces what its primary does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use understudy_tests::raw::{End, Raw, frame, query, short};
use understudy_tests::reference::Reference;
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

/// The list of a table as `\dp` shows it.
fn list(server: &Server, table: &str) -> String {
    let sql = format!(
        "SELECT coalesce(array_to_string(relacl, ' '), 'none') FROM pg_class WHERE relname = '{table}'"
    );
    server.psql(&sql).trim().to_owned()
}

fn restart_after_kill(server: &mut Server) {
    server.stop(Stop::Kill);
    server.start();
}

#[test]
fn a_grant_outlives_a_crash_once_it_is_committed_and_never_before() {
    let mut server = Server::started();
    for sql in [
        "CREATE ROLE a LOGIN",
        "CREATE ROLE b LOGIN",
        "CREATE TABLE kept (x int)",
        "CREATE TABLE undone (x int)",
        "CREATE TABLE open (x int)",
        "GRANT SELECT ON kept TO a WITH GRANT OPTION",
        "GRANT a TO b",
        "BEGIN; GRANT SELECT ON undone TO a; ROLLBACK",
    ] {
        server.psql(sql);
    }
    let mut left_open = server.client();
    left_open
        .query("BEGIN; GRANT ALL ON open TO a; GRANT b TO a")
        .expect("an answer");
    restart_after_kill(&mut server);
    assert_eq!(
        list(&server, "kept"),
        "postgres=arwdDxt/postgres a=r*/postgres"
    );
    assert_eq!(list(&server, "undone"), "none");
    assert_eq!(list(&server, "open"), "none");
    let members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname IN ('a', 'b')";
    assert_eq!(server.psql(members).trim(), "1");

    // Without a checkpoint in between, and after one.
    server.psql("REVOKE ALL ON kept FROM a");
    restart_after_kill(&mut server);
    assert_eq!(list(&server, "kept"), "postgres=arwdDxt/postgres");
    server.psql("GRANT INSERT ON kept TO b");
    server.psql("CHECKPOINT");
    restart_after_kill(&mut server);
    let mut b = Client::connect_as(server.port, "b", "postgres").expect("b may log in");
    assert_eq!(
        b.error("SELECT * FROM kept").message,
        "permission denied for table kept"
    );
    b.rows("INSERT INTO kept VALUES (1)");
}

#[test]
fn grants_that_were_acknowledged_are_there_after_kills_in_the_middle() {
    let mut server = Server::started();
    server.psql("CREATE TABLE t (x int)");
    let mut granted: Vec<String> = Vec::new();
    for round in 0..3 {
        let names: Vec<String> = (0..100).map(|n| format!("r{round}_{n}")).collect();
        let done = AtomicBool::new(false);
        let port = server.port;
        let acknowledged = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut client = Client::connect(port).expect("it runs");
                let mut acknowledged = Vec::new();
                for name in &names {
                    let sql =
                        format!("BEGIN; CREATE ROLE {name}; GRANT SELECT ON t TO {name}; COMMIT");
                    let Ok(answers) = client.query(&sql) else {
                        break;
                    };
                    assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
                    acknowledged.push(name.clone());
                    done.store(acknowledged.len() > 20, Ordering::Relaxed);
                }
                acknowledged
            });
            while !done.load(Ordering::Relaxed) && !writer.is_finished() {
                std::thread::sleep(Duration::from_millis(2));
            }
            server.stop(Stop::Kill);
            writer.join().expect("it ends with the server")
        });
        granted.extend(acknowledged);
        server.start();
        let shown = list(&server, "t");
        for name in &granted {
            assert!(
                shown.contains(&format!("{name}=r/postgres")),
                "{name} is lost: {shown}"
            );
        }
        // Whoever is on the list exists: role and grant are one transaction.
        let strangers = "SELECT count(*) FROM aclexplode((SELECT relacl FROM pg_class WHERE relname = 't')) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE r.oid IS NULL";
        assert_eq!(server.psql(strangers).trim(), "0");
    }
}

#[test]
fn who_may_connect_is_told_as_postgresql_tells_it() {
    let (server, reference) = (Server::started(), Reference::started());
    let prepare = [
        "CREATE ROLE c_in LOGIN",
        "CREATE ROLE c_out LOGIN",
        "CREATE ROLE c_group",
        "CREATE ROLE c_member LOGIN IN ROLE c_group",
        "CREATE ROLE c_owner LOGIN",
        "CREATE ROLE c_none NOLOGIN",
        "CREATE ROLE c_super LOGIN SUPERUSER",
        "CREATE DATABASE c_db OWNER c_owner",
        "REVOKE CONNECT ON DATABASE c_db FROM PUBLIC",
        "GRANT CONNECT ON DATABASE c_db TO c_in, c_group",
    ];
    for sql in prepare {
        server.client().rows(sql);
        reference.client().rows(sql);
    }
    let attempt = |port: u16, user: &str| {
        let come = Client::connect_as(port, user, "c_db");
        come.map(|_| ()).map_err(|e| e.to_string())
    };
    for user in ["c_in", "c_out", "c_member", "c_owner", "c_none", "c_super"] {
        let ours = attempt(server.port, user);
        assert_eq!(ours, attempt(reference.port, user), "{user}");
        let refused = matches!(user, "c_out" | "c_none");
        assert_eq!(ours.is_err(), refused, "{user}: {ours:?}");
    }
    // A session that is in stays in; the next one does not come.
    let mut inside = Client::connect_as(server.port, "c_in", "c_db").expect("granted");
    server.psql("REVOKE CONNECT ON DATABASE c_db FROM c_in");
    assert_eq!(inside.value("SELECT 1"), "1");
    assert!(attempt(server.port, "c_in").is_err());
}

#[test]
fn a_standby_enforces_what_its_primary_granted_and_goes_on_after_promotion() {
    let primary = Server::started();
    for sql in [
        "CREATE ROLE s_a LOGIN",
        "CREATE TABLE t (x int)",
        "INSERT INTO t VALUES (1)",
        "CREATE SCHEMA closed",
        "CREATE TABLE closed.u (x int)",
    ] {
        primary.psql(sql);
    }
    let standby = primary.started_standby("reads");
    let mut reader = Client::connect_as(standby.port, "s_a", "postgres").expect("may log in");
    reader.rows("PREPARE p AS SELECT count(*) FROM t");
    assert_eq!(reader.error("EXECUTE p").state, "42501");
    assert_eq!(
        reader.error("SELECT * FROM closed.u").message,
        "permission denied for schema closed"
    );
    primary.psql("GRANT SELECT ON t TO s_a");
    primary.wait_for_replay(&standby);
    assert_eq!(reader.value("EXECUTE p"), "1");
    primary.psql("REVOKE SELECT ON t FROM s_a");
    primary.wait_for_replay(&standby);
    assert_eq!(reader.error("EXECUTE p").state, "42501");
    primary.psql("GRANT INSERT ON t TO s_a");
    primary.psql("GRANT CREATE ON SCHEMA public TO s_a");
    primary.wait_for_replay(&standby);
    let same = "SELECT string_agg(oid || ' ' || coalesce(relacl::text, ''), ',' ORDER BY oid) FROM pg_class";
    assert_eq!(primary.psql(same), standby.psql(same));
    assert_eq!(reader.error("GRANT SELECT ON t TO s_a").state, "25006");
    standby.psql("SELECT pg_promote()");
    eventually("it writes", || {
        standby.psql("SELECT pg_is_in_recovery()").trim() == "f"
    });
    reader.rows("INSERT INTO t VALUES (2)");
    assert_eq!(reader.error("SELECT * FROM t").state, "42501");
    reader.rows("CREATE TABLE own (x int)");
}

#[test]
fn copy_asks_for_what_select_and_insert_ask_for() {
    let (server, reference) = (Server::started(), Reference::started());
    let steps = [
        ("GRANT USAGE ON SCHEMA public TO PUBLIC", ""),
        ("CREATE ROLE c_a", ""),
        ("CREATE TABLE c_t (id int PRIMARY KEY, v text NOT NULL)", ""),
        ("INSERT INTO c_t VALUES (1, 'one')", ""),
        (
            "CREATE TABLE c_i (id int GENERATED ALWAYS AS IDENTITY, n int)",
            "",
        ),
        ("CREATE TABLE c_s (id serial, n int)", ""),
        ("SET ROLE c_a", ""),
        ("COPY c_t TO STDOUT", ""),
        ("COPY c_t (id) TO STDOUT", ""),
        ("COPY (SELECT 1 FROM c_t) TO STDOUT", ""),
        ("COPY pg_authid TO STDOUT", ""),
        ("COPY c_t FROM STDIN", "2\ttwo\n"),
        ("RESET ROLE", ""),
        ("GRANT SELECT ON c_t TO c_a", ""),
        ("SET ROLE c_a", ""),
        ("COPY c_t TO STDOUT", ""),
        ("COPY (SELECT v FROM c_t) TO STDOUT", ""),
        ("COPY c_t FROM STDIN", "2\ttwo\n"),
        ("RESET ROLE", ""),
        ("REVOKE SELECT ON c_t FROM c_a", ""),
        ("GRANT INSERT ON c_t, c_i, c_s TO c_a", ""),
        ("SET ROLE c_a", ""),
        ("COPY c_t TO STDOUT", ""),
        ("COPY c_t FROM STDIN", "2\ttwo\n"),
        ("COPY c_t FROM STDIN WHERE id > 2", "3\tthree\n"),
        ("COPY c_t FROM STDIN WHERE true", "3\tthree\n"),
        // What the errors show to whoever may not read the table.
        ("COPY c_t (id) FROM STDIN", "4\n"),
        ("COPY c_t FROM STDIN", "1\tagain\n"),
        // The numbers of an identity column are its table's, those of a serial one a sequence's.
        ("COPY c_i (n) FROM STDIN", "5\n"),
        ("COPY c_s (n) FROM STDIN", "5\n"),
        ("RESET ROLE", ""),
        ("COPY c_t TO STDOUT", ""),
        ("COPY c_i TO STDOUT", ""),
        ("COPY c_s TO STDOUT", ""),
    ];
    let answers = |port: u16| {
        let mut raw = Raw::session(port).expect("it answers");
        steps.map(|(sql, data)| {
            let mut bytes = query(sql);
            if !data.is_empty() {
                bytes.extend(frame(b'd', data.as_bytes()));
                bytes.extend(frame(b'c', b""));
            }
            raw.send(&bytes).expect("sent");
            let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
            assert_eq!(end, End::Ready, "{sql}");
            let error = replies.iter().find(|r| r.tag == b'E');
            let told = error.map(|e| b"CMD".map(|field| e.field(field)));
            (sql, short(&replies), told)
        })
    };
    let (ours, theirs) = (answers(server.port), answers(reference.port));
    for (own, their) in ours.iter().zip(&theirs) {
        assert_eq!(own, their);
    }
    let refused = theirs.iter().filter(|(_, _, told)| told.is_some()).count();
    assert_eq!(refused, 11, "{theirs:?}");
}

#[test]
fn objects_in_other_databases_keep_a_role() {
    let (server, reference) = (Server::started(), Reference::started());
    for port in [server.port, reference.port] {
        let mut client = Client::connect(port).expect("it runs");
        for sql in [
            "CREATE ROLE o_a",
            "CREATE ROLE o_b",
            "CREATE DATABASE o_one",
            "CREATE DATABASE o_two",
        ] {
            client.rows(sql);
        }
        let mut one = Client::connect_as(port, "postgres", "o_one").expect("its database");
        for sql in [
            "CREATE TABLE t (id serial PRIMARY KEY, x int)",
            "ALTER TABLE t OWNER TO o_a",
            "CREATE SCHEMA s AUTHORIZATION o_b",
        ] {
            one.rows(sql);
        }
        let mut two = Client::connect_as(port, "postgres", "o_two").expect("its database");
        two.rows("CREATE TABLE u (x int)");
        two.rows("GRANT SELECT ON u TO o_a");
        two.rows("CREATE SCHEMA other");
        two.rows("CREATE SEQUENCE other.s");
        two.rows("ALTER SEQUENCE other.s OWNER TO o_a");
    }
    let told = |port: u16, database: &str, role: &str| {
        let mut client = Client::connect_as(port, "postgres", database).expect("its database");
        let report = client.error(&format!("DROP ROLE {role}"));
        // PostgreSQL names the other databases in no certain order.
        let mut lines: Vec<String> = report
            .detail
            .iter()
            .flat_map(|d| d.lines())
            .map(str::to_owned)
            .collect();
        lines.sort();
        (report.state, report.message, lines)
    };
    for database in ["postgres", "o_one", "o_two"] {
        for role in ["o_a", "o_b"] {
            if (database, role) == ("postgres", "o_b") || role == "o_a" {
                let ours = told(server.port, database, role);
                assert_eq!(
                    ours,
                    told(reference.port, database, role),
                    "{database} {role}"
                );
            }
        }
    }
    // What keeps it goes, database by database.
    for database in ["o_one", "o_two"] {
        let mut client =
            Client::connect_as(server.port, "postgres", database).expect("its database");
        client.rows("REASSIGN OWNED BY o_a TO postgres");
        client.rows("DROP OWNED BY o_a");
    }
    server.psql("DROP ROLE o_a");
}
