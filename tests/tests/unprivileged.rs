//! What somebody without rights cannot reach. Which functions and system tables are not everybody's is read from
//! PostgreSQL itself, not written down here; what is shown of other people's sessions is compared.

use std::process::Command;

use understudy_tests::programs::postgres;
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const PLAIN: &str = "CREATE ROLE plain LOGIN";

/// Nobody gets an answer: there is no right to it, or it is not there.
const KEPT: [&str; 4] = ["42501", "0A000", "42883", "42P01"];

/// A value of the type: a function that is strict is not asked with NULL.
fn argument(type_name: &str) -> String {
    let text = match type_name {
        "boolean" => "true",
        "oid" | "integer" | "bigint" | "smallint" | "double precision" => "1",
        "pg_lsn" => "0/0",
        "regclass" => "pg_class",
        "text[]" | "name[]" => "{}",
        "timestamp with time zone" => "2020-01-01",
        "bytea" | "text" | "name" | "cstring" | "\"char\"" | "char" => "x",
        "xid" | "xid8" => "1",
        _ => return format!("NULL::{type_name}"),
    };
    format!("'{text}'::{type_name}")
}

#[test]
fn functions_that_postgresql_keeps_from_everybody_answer_nobody_without_rights() {
    let (server, reference) = (Server::started(), Reference::started());
    server.psql(PLAIN);
    let kept = reference.client().rows(
        "SELECT p.proname, coalesce((SELECT string_agg(format_type(t, NULL), ',' ORDER BY n) \
         FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n)), '') \
         FROM pg_proc p WHERE NOT has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1, 2",
    );
    assert!(kept.len() > 50, "{} functions", kept.len());
    let mut plain = Client::connect_as(server.port, "plain", "postgres").expect("may log in");
    let mut asked = 0;
    for row in kept {
        let [Some(name), Some(types)] = &row[..] else {
            panic!("{row:?}");
        };
        let types = types.split(',').filter(|t| !t.is_empty());
        let arguments: Vec<String> = types.map(argument).collect();
        let call = format!("SELECT {name}({})", arguments.join(", "));
        let state = plain.error(&call).state;
        assert!(KEPT.contains(&state.as_str()), "{call}: {state}");
        asked += usize::from(state == "42501");
    }
    println!("{asked} functions of ours ask for rights");
    assert!(asked >= 5, "{asked} refused for want of rights");
}

#[test]
fn system_tables_that_postgresql_keeps_from_everybody_are_kept() {
    let (server, reference) = (Server::started(), Reference::started());
    server.psql(PLAIN);
    let names = |client: &mut Client, condition: &str| -> Vec<String> {
        let sql = format!(
            "SELECT relname FROM pg_class WHERE relnamespace = 11 AND relkind IN ('r', 'v') \
             AND {condition} has_table_privilege('public', oid, 'SELECT') ORDER BY 1"
        );
        let rows = client.rows(&sql);
        rows.into_iter()
            .map(|mut r| r.remove(0).expect("a name"))
            .collect()
    };
    let mut kept = names(&mut reference.client(), "NOT");
    // There it has one column that is kept, and everybody may count its rows, as `pg_dump` does. Here it never has any, and
    // there are no rights on columns.
    kept.retain(|name| name != "pg_subscription");
    assert!(kept.len() > 10, "{kept:?}");
    let mut plain = Client::connect_as(server.port, "plain", "postgres").expect("may log in");
    for name in &kept {
        let state = plain
            .error(&format!("SELECT * FROM pg_catalog.{name}"))
            .state;
        assert!(KEPT.contains(&state.as_str()), "{name}: {state}");
    }
    // The lists that pg_class shows say the same as the answers.
    let ours = names(&mut server.client(), "NOT");
    let wrong: Vec<&String> = ours.iter().filter(|n| !kept.contains(n)).collect();
    assert!(wrong.is_empty(), "closed here, open there: {wrong:?}");
    let open = names(&mut server.client(), "");
    let wrong: Vec<&String> = open.iter().filter(|n| kept.contains(n)).collect();
    assert!(wrong.is_empty(), "open here, closed there: {wrong:?}");
    // Nobody but superusers changes any of them.
    for name in names(&mut server.client(), "true OR") {
        for sql in [
            format!("DELETE FROM pg_catalog.{name}"),
            format!("TRUNCATE pg_catalog.{name}"),
            format!("DROP TABLE pg_catalog.{name}"),
            format!("ALTER TABLE pg_catalog.{name} ADD COLUMN mine int"),
            format!("CREATE INDEX ON pg_catalog.{name} (mine)"),
            format!("COMMENT ON TABLE pg_catalog.{name} IS 'mine'"),
        ] {
            let state = plain.error(&sql).state;
            // A view is no table, which may be told first.
            assert!(
                ["42501", "0A000", "42809", "55000"].contains(&state.as_str()),
                "{sql}: {state}"
            );
        }
    }
}

/// Which columns of somebody else's row are shown, as `+` and `-`; `none` without a row.
fn shown(asker: &mut Client, view: &str, columns: &[&str], pid: &str) -> String {
    let tests: Vec<String> = columns
        .iter()
        .map(|c| format!("CASE WHEN {c} IS NULL THEN '-' ELSE '+' END"))
        .collect();
    let sql = format!(
        "SELECT {} FROM {view} WHERE pid = {pid}",
        tests.join(" || ")
    );
    match asker.rows(&sql).pop() {
        Some(mut row) => row.remove(0).expect("not null"),
        None => "none".to_owned(),
    }
}

#[test]
fn of_somebody_elses_session_is_shown_what_postgresql_shows() {
    let (server, reference) = (Server::started(), Reference::started());
    let mut by_server = Vec::new();
    for port in [server.port, reference.port] {
        let mut admin = Client::connect(port).expect("it runs");
        for sql in [
            PLAIN,
            "CREATE ROLE other LOGIN",
            "CREATE ROLE boss LOGIN IN ROLE other",
            "CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats",
            "CREATE ROLE signaller LOGIN IN ROLE pg_signal_backend",
        ] {
            admin.rows(sql);
        }
        let mut other = Client::connect_as(port, "other", "postgres").expect("may log in");
        let secret = "SELECT pg_backend_pid(), 'secret'";
        let pid = other.rows(secret)[0][0].clone().expect("a number");
        let boss_pid = admin.value("SELECT pg_backend_pid()");
        let mut seen = Vec::new();
        for asker in ["plain", "boss", "watcher", "signaller", "other"] {
            let mut client = Client::connect_as(port, asker, "postgres").expect("may log in");
            let activity = [
                "datid",
                "datname",
                "pid",
                "usesysid",
                "usename",
                "application_name",
                "client_addr",
                "client_port",
                "backend_start",
                "query_start",
                "state_change",
                "wait_event_type",
                "wait_event",
                "state",
                "query",
                "backend_type",
            ];
            for target in [&pid, &boss_pid] {
                let row = shown(&mut client, "pg_stat_activity", &activity, target);
                let ssl = shown(&mut client, "pg_stat_ssl", &["ssl"], target);
                seen.push(format!("{asker}: {row} {ssl}"));
                let query = format!("SELECT query FROM pg_stat_activity WHERE pid = {target}");
                let query = client.rows(&query);
                seen.push(format!(
                    "{asker}: {:?}",
                    query[0][0].as_deref().map(|q| q.contains("secret"))
                ));
                if asker == "plain" {
                    for call in ["pg_cancel_backend", "pg_terminate_backend"] {
                        let report = client.error(&format!("SELECT {call}({target})"));
                        seen.push(format!("{call}: {} {}", report.state, report.message));
                    }
                }
                if asker == "signaller" && target == &boss_pid {
                    let report = client.error(&format!("SELECT pg_terminate_backend({target})"));
                    seen.push(format!("{} {}", report.state, report.message));
                }
            }
        }
        let mut signaller = Client::connect_as(port, "signaller", "postgres").expect("may log in");
        seen.push(signaller.value(&format!("SELECT pg_terminate_backend({pid})")));
        by_server.push(seen);
    }
    for (ours, theirs) in by_server[0].iter().zip(&by_server[1]) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(by_server[0].len(), by_server[1].len());
}

#[test]
fn dropping_a_database_by_force_ends_only_sessions_that_one_may_end() {
    let (server, reference) = (Server::started(), Reference::started());
    let told = |port: u16| {
        let mut admin = Client::connect(port).expect("it runs");
        for sql in [
            "CREATE ROLE owner LOGIN CREATEDB",
            "CREATE ROLE other LOGIN",
            "CREATE DATABASE busy OWNER owner",
        ] {
            admin.rows(sql);
        }
        let mut owner = Client::connect_as(port, "owner", "postgres").expect("may log in");
        let mut told = Vec::new();
        for user in ["postgres", "other"] {
            let mut inside = Client::connect_as(port, user, "busy").expect("may log in");
            let report = owner.error("DROP DATABASE busy WITH (FORCE)");
            told.push((report.state, report.message));
            assert_eq!(inside.value("SELECT 1"), "1", "{user} is still there");
            drop(inside);
            eventually("nobody is in it", || {
                admin.value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'busy'") == "0"
            });
        }
        admin.rows("GRANT other TO owner");
        let mut inside = Client::connect_as(port, "other", "busy").expect("may log in");
        owner.rows("DROP DATABASE busy WITH (FORCE)");
        assert!(inside.query("SELECT 1").is_err() || inside.query("SELECT 1").is_err());
        told
    };
    assert_eq!(told(server.port), told(reference.port));
}

#[test]
fn a_replication_connection_shows_no_setting_that_is_not_everybodys() {
    let (server, reference) = (Server::started(), Reference::started());
    for port in [server.port, reference.port] {
        let mut admin = Client::connect(port).expect("it runs");
        admin.rows(PLAIN);
        admin.rows("CREATE ROLE repl LOGIN REPLICATION");
    }
    for (user, command, denied) in [
        ("plain", "IDENTIFY_SYSTEM", true),
        ("repl", "SHOW wal_segment_size", false),
        ("repl", "SHOW data_directory", true),
        ("repl", "SHOW primary_conninfo", true),
        ("postgres", "SHOW primary_conninfo", false),
    ] {
        let told = |port: u16| {
            let target = format!("host=127.0.0.1 port={port} user={user} replication=true");
            let output = Command::new(postgres("psql"))
                .args(["-X", "-A", "-t", "-c", command, &target])
                .output()
                .expect("psql runs");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
            said.replace(&port.to_string(), "PORT")
        };
        let ours = told(server.port);
        assert_eq!(ours, told(reference.port), "{command} as {user}");
        assert_eq!(ours.contains("must be superuser"), denied, "{ours}");
    }
}

/// What psql's command prints; of an error the SQLSTATE.
fn psql(port: u16, user: &str, command: &str) -> String {
    let output = Command::new(postgres("psql"))
        .args(["-X", "-A", "-h", "127.0.0.1", "-d", "postgres"])
        .args(["-v", "VERBOSITY=sqlstate", "-U", user])
        .args(["-p", &port.to_string(), "-c", command])
        .output()
        .expect("psql runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn psqls_commands_about_rights_print_what_they_print_with_postgresql_or_say_what_is_missing() {
    let (server, reference) = (Server::started(), Reference::started());
    for port in [server.port, reference.port] {
        let mut admin = Client::connect(port).expect("it runs");
        for sql in [
            PLAIN,
            "CREATE ROLE team NOLOGIN CREATEDB",
            "GRANT team TO plain",
            "CREATE SCHEMA shop AUTHORIZATION team",
            "GRANT USAGE ON SCHEMA shop TO PUBLIC",
            "GRANT CREATE ON SCHEMA shop TO plain WITH GRANT OPTION",
            "CREATE TABLE shop.orders (id serial PRIMARY KEY, what text)",
            "GRANT SELECT, INSERT ON shop.orders TO team",
            "GRANT ALL ON shop.orders TO plain WITH GRANT OPTION",
            "GRANT USAGE ON SEQUENCE shop.orders_id_seq TO PUBLIC",
            "CREATE DATABASE goods OWNER team",
            "REVOKE CONNECT ON DATABASE goods FROM PUBLIC",
            "GRANT CONNECT ON DATABASE goods TO plain",
        ] {
            admin.rows(sql);
        }
    }
    // `true`: answered, not refused.
    let commands = [
        ("\\dn", true),
        ("\\dn+", true),
        ("\\dn+ shop", true),
        ("\\dt shop.*", true),
        ("\\ds shop.*", true),
        ("\\l", true),
        ("\\d shop.orders", false),
        ("\\dp shop.*", false),
        ("\\z shop.orders", false),
        ("\\du", false),
        ("\\dg team", false),
        ("\\ddp", false),
        ("\\drds", false),
    ];
    for user in ["postgres", "plain"] {
        for (command, answered) in commands {
            let ours = psql(server.port, user, command);
            let theirs = psql(reference.port, user, command);
            if !answered && ours == "ERROR:  0A000\n" {
                println!("{command}: refused");
                continue;
            }
            assert_eq!(ours, theirs, "{command} as {user}");
        }
    }
}
