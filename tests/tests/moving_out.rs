//! Moving out to PostgreSQL 15: what `pg_dump` writes of our database is what it writes of PostgreSQL's with the same objects.

use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;

const OBJECTS: &str = r#"
CREATE ROLE leaving_owner;
CREATE ROLE leaving_reader;
CREATE SCHEMA house AUTHORIZATION leaving_owner;
COMMENT ON SCHEMA house IS 'what is packed';
CREATE TABLE house.rooms (
    id integer GENERATED ALWAYS AS IDENTITY (START WITH 5) PRIMARY KEY,
    number serial,
    name varchar(40) NOT NULL,
    tags text[] DEFAULT '{}' NOT NULL,
    profile jsonb DEFAULT '{"a": [1]}',
    made timestamptz(3) DEFAULT now() NOT NULL,
    day date DEFAULT CURRENT_DATE,
    status text DEFAULT 'new' CHECK (status IN ('new', 'old')),
    size numeric(10,2) DEFAULT 0 CONSTRAINT not_flat CHECK (size >= 0 AND (size < 100 OR name LIKE '%hall')),
    CONSTRAINT one_name UNIQUE NULLS NOT DISTINCT (name, status) INCLUDE (size)
) WITH (fillfactor = 70);
ALTER TABLE house.rooms OWNER TO leaving_owner;
CREATE INDEX rooms_twice ON house.rooms (made DESC NULLS LAST, name text_pattern_ops, made);
COMMENT ON TABLE house.rooms IS 'where it''s kept';
COMMENT ON COLUMN house.rooms.name IS E'in\ntwo lines';
COMMENT ON CONSTRAINT not_flat ON house.rooms IS 'as rooms are';
COMMENT ON INDEX house.rooms_twice IS 'the newest first';
ALTER TABLE house.rooms ADD CONSTRAINT later CHECK (number > 0) NOT VALID;
GRANT SELECT, INSERT ON house.rooms TO leaving_reader;
GRANT USAGE ON SCHEMA house TO leaving_reader WITH GRANT OPTION;
CREATE SEQUENCE "Odd numbers" AS smallint INCREMENT BY 2 MINVALUE -9 CYCLE CACHE 3;
GRANT USAGE ON SEQUENCE "Odd numbers" TO PUBLIC;
CREATE TABLE "order" ("select" bigint DEFAULT nextval('"Odd numbers"'), "group" "char", gone int, empty text);
ALTER TABLE "order" DROP COLUMN gone;
CREATE TABLE house.boxes (
    id bigint PRIMARY KEY,
    gone int,
    inside bigint CONSTRAINT "what it's in" REFERENCES house.boxes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    room int NOT NULL REFERENCES house.rooms ON DELETE RESTRICT ON UPDATE NO ACTION DEFERRABLE,
    number int,
    floor int,
    CONSTRAINT "where" UNIQUE (room, number),
    CONSTRAINT stacked FOREIGN KEY (floor, number) REFERENCES house.boxes (room, number) MATCH FULL ON UPDATE CASCADE
);
ALTER TABLE house.boxes DROP COLUMN gone;
ALTER TABLE house.boxes OWNER TO leaving_owner;
COMMENT ON CONSTRAINT "what it's in" ON house.boxes IS 'boxes in boxes';
CREATE TABLE "a label" (
    box bigint REFERENCES house.boxes ON DELETE SET NULL ON UPDATE SET DEFAULT,
    room int,
    number int,
    FOREIGN KEY (room, number) REFERENCES house.boxes (room, number) ON DELETE SET NULL (number)
);
CREATE TABLE ring (id int PRIMARY KEY, next int);
CREATE TABLE chain (id int PRIMARY KEY, next int REFERENCES ring DEFERRABLE);
ALTER TABLE ring ADD FOREIGN KEY (next) REFERENCES chain ON DELETE SET DEFAULT;
INSERT INTO house.rooms (name, tags, day, made) VALUES
    ('cellar', '{a,"b c",NULL}', '2024-02-29', '2024-01-01 00:00+00'), (E'tab\tand \\N', '{}', NULL, 'epoch');
INSERT INTO "order" ("group", empty) VALUES ('x', ''), (NULL, NULL), ('y', NULL);
INSERT INTO house.boxes VALUES (2, 1, 5, 7, 5), (1, NULL, 6, NULL, NULL);
INSERT INTO "a label" VALUES (2, 5, 7), (1, 9, NULL);
ALTER TABLE "a label" ADD CONSTRAINT later FOREIGN KEY (number) REFERENCES house.rooms NOT VALID;
"#;

fn tool(name: &str, port: u16, user: &str) -> Command {
    let mut command = Command::new(postgres(name));
    for variable in ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"] {
        command.env_remove(variable);
    }
    command.env("PGTZ", "UTC").env("PGCONNECT_TIMEOUT", "10");
    command.args(["-h", "127.0.0.1", "-d", "postgres", "-p"]);
    command.args([port.to_string().as_str(), "-U", user]);
    command
}

fn make(port: u16, dir: &Path, sql: &str) {
    let file = dir.join("made.sql");
    std::fs::write(&file, sql).expect("written");
    run_ok(
        tool("psql", port, "postgres")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(&file),
    );
}

/// Without what names the run: versions, and the key of restricted psql.
fn dumped(port: u16, user: &str, options: &[&str]) -> String {
    let out = run_ok(tool("pg_dump", port, user).args(options));
    let passing = ["-- Dumped ", "\\restrict ", "\\unrestrict "];
    let kept = out
        .lines()
        .filter(|line| !passing.iter().any(|p| line.starts_with(p)));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dump_is_postgresqls() {
    let (server, reference) = (Server::started(), Reference::started());
    let dir = tempfile::tempdir().expect("a temporary directory");
    // An extension that is not here.
    make(reference.port, dir.path(), "DROP EXTENSION plpgsql;");
    for port in [server.port, reference.port] {
        make(port, dir.path(), OBJECTS);
    }
    for options in [
        &[][..],
        &["--schema-only", "--clean", "--if-exists"],
        &["--data-only", "--inserts"],
        &["-n", "hou*"],
        &["-t", "house.rooms"],
        &["-t", "house.boxes", "-t", "\"a label\""],
        &["-T", "\"order\"", "--no-owner", "--no-privileges"],
        &["--data-only", "--disable-triggers", "-t", "ring"],
    ] {
        let own = dumped(server.port, "postgres", options);
        assert_eq!(
            own,
            dumped(reference.port, "postgres", options),
            "{options:?}"
        );
    }
}

#[test]
fn whoever_owns_a_schema_may_dump_it() {
    let (server, reference) = (Server::started(), Reference::started());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let login = format!("{OBJECTS}ALTER ROLE leaving_owner LOGIN;");
    for port in [server.port, reference.port] {
        make(port, dir.path(), &login);
    }
    let options = ["-n", "house"];
    let own = dumped(server.port, "leaving_owner", &options);
    assert_eq!(own, dumped(reference.port, "leaving_owner", &options));
}
