//! What ALTER ROLE and ALTER DATABASE SET keep counts when a session begins, in PostgreSQL 15's order.

use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::wire::Client;

const ALTERED: &[&str] = &[
    "CREATE ROLE app LOGIN",
    "CREATE ROLE boss LOGIN SUPERUSER",
    "CREATE DATABASE shop",
    "ALTER ROLE ALL SET work_mem = '1MB'",
    "ALTER ROLE ALL SET lock_timeout = '11s'",
    "ALTER DATABASE shop SET work_mem = '2MB'",
    "ALTER DATABASE shop SET search_path = shop, public",
    "ALTER ROLE app SET work_mem = '3MB'",
    "ALTER ROLE app SET DateStyle = 'German'",
    "ALTER ROLE app SET statement_timeout = '1h'",
    "ALTER ROLE app IN DATABASE shop SET work_mem = '4MB'",
    "ALTER ROLE app IN DATABASE shop SET my.own = 'kept'",
    "ALTER ROLE boss SET log_min_duration_statement = '1h'",
];

const ASKED: &[&str] = &[
    "SHOW work_mem",
    "SHOW lock_timeout",
    "SHOW search_path",
    "SHOW DateStyle",
    "SHOW statement_timeout",
    "SHOW my.own",
    "SHOW log_min_duration_statement",
    "SELECT name, setting, source, reset_val FROM pg_settings \
     WHERE name IN ('work_mem', 'lock_timeout', 'statement_timeout', 'DateStyle') ORDER BY 1",
    "SELECT date '2024-12-31'",
    "SET work_mem = '9MB'",
    "RESET work_mem",
    "SHOW work_mem",
    "SET lock_timeout = 0",
    "RESET ALL",
    "SHOW lock_timeout",
    "DISCARD ALL",
    "SHOW statement_timeout",
];

fn heard(port: u16, user: &str, database: &str) -> Vec<String> {
    let mut client = Client::connect_as(port, user, database).expect("it lets them in");
    let said = ASKED.iter().map(|sql| {
        let answers = client.query(sql).expect("an answer");
        let told = answers
            .iter()
            .map(|a| (&a.rows, a.error.as_ref().map(|e| &e.message)));
        format!("{sql}: {:?}", told.collect::<Vec<_>>())
    });
    said.collect()
}

#[test]
fn a_session_begins_with_what_is_kept_for_it() {
    let (server, reference) = (Server::started(), Reference::started());
    for mut client in [server.client(), reference.client()] {
        for sql in ALTERED {
            client.rows(sql);
        }
    }
    for (user, database) in [
        ("app", "shop"),
        ("app", "postgres"),
        ("postgres", "shop"),
        ("boss", "template1"),
    ] {
        assert_eq!(
            heard(server.port, user, database),
            heard(reference.port, user, database),
            "{user} in {database}"
        );
    }
    // What no longer stands counts no longer.
    for mut client in [server.client(), reference.client()] {
        for sql in [
            "ALTER ROLE app IN DATABASE shop RESET work_mem",
            "ALTER ROLE app RESET ALL",
            "ALTER DATABASE shop SET work_mem TO DEFAULT",
        ] {
            client.rows(sql);
        }
    }
    assert_eq!(
        heard(server.port, "app", "shop"),
        heard(reference.port, "app", "shop")
    );
}
