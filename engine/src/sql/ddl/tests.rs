//! Definitions against real catalogs, files and indexes, one statement after another.
//!
//! Each step is a statement with its command tag, or with SQLSTATE and message, as PostgreSQL 15 gives them.

mod foreign_keys;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{DdlCx, database, run};
use crate::catalog::bootstrap::{self, Cluster};
use crate::catalog::oids::OidAllocator;
use crate::catalog::relation::{Identity, Relation};
use crate::catalog::schema::BOOTSTRAP_SUPERUSER;
use crate::catalog::session::Catalog;
use crate::catalog::view::{CatalogView, Role};
use crate::ids::{CommandId, Oid};
use crate::sql::error::SqlError;
use crate::sql::front;
use crate::table::heap;
use crate::table::sequence::Sequences;
use crate::txn::testing::{DATABASE, World};
use crate::txn::{CommitLevel, Transaction};
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, FunctionCx, Host};
use crate::types::interval::IntervalStyle;

/// No session stands in the way.
struct NobodyElse;

impl database::Vacate for NobodyElse {
    fn users(&self, _database: Oid) -> Vec<Oid> {
        Vec::new()
    }

    fn vacate(
        &self,
        _database: Oid,
        _force: bool,
    ) -> Pin<Box<dyn Future<Output = super::Result<usize>> + Send + '_>> {
        Box::pin(async { Ok(0) })
    }
}

#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn call(&self, function: &'static Function, _: &[Datum]) -> Result<Datum, TypeError> {
        panic!("a definition called {}", function.name)
    }
    fn call_set(
        &self,
        function: &'static Function,
        _: &[Datum],
    ) -> Result<Box<dyn Iterator<Item = Result<Datum, TypeError>> + Send>, TypeError> {
        panic!("a definition called {}", function.name)
    }
}

/// A cluster as `initdb` leaves it, and one session of its superuser.
struct Server {
    world: World,
    catalog: Arc<Catalog>,
    oids: OidAllocator,
    sequences: Sequences,
    functions: Arc<FunctionCx>,
    user: Role,
    path: Vec<String>,
    /// What open portals of the session read.
    in_use: Vec<Oid>,
    notices: Vec<SqlError>,
}

impl Server {
    async fn new() -> Server {
        let world = World::with_frames(4096);
        let catalog = Catalog::new(Arc::clone(&world.store), Arc::clone(&world.txns));
        let cluster = Cluster {
            superuser: "postgres".to_owned(),
            password: None,
            locale: "C".to_owned(),
        };
        let mut txn = world.begin();
        bootstrap::fill(&catalog, &mut txn, &cluster)
            .await
            .expect("a new cluster");
        world
            .txns
            .commit(txn, CommitLevel::Local)
            .await
            .expect("committed");
        let user = Role {
            oid: BOOTSTRAP_SUPERUSER,
            name: "postgres".to_owned(),
            superuser: true,
            inherit: true,
            create_role: true,
            create_db: true,
            login: true,
            replication: true,
            bypass_rls: true,
            connection_limit: -1,
            password: None,
            valid_until: None,
        };
        let functions = FunctionCx {
            transaction_timestamp: 0,
            statement_timestamp: 0,
            time_zone: jiff::tz::TimeZone::UTC,
            date_style: DateStyle {
                output: DateOutput::Iso,
                order: FieldOrder::Mdy,
            },
            interval_style: IntervalStyle::Postgres,
            extra_float_digits: 1,
            bytea_hex: true,
            host: Arc::new(NoHost),
        };
        Server {
            world,
            catalog,
            oids: OidAllocator::new(Oid::FIRST_NORMAL),
            sequences: Sequences::default(),
            functions: Arc::new(functions),
            user,
            path: vec!["$user".to_owned(), "public".to_owned()],
            in_use: Vec::new(),
            notices: Vec::new(),
        }
    }

    async fn run_in(&mut self, sql: &str, txn: &mut Transaction) -> Result<String, SqlError> {
        let parsed = front::parse(sql)?;
        let mut notices = Vec::new();
        let mut cx = DdlCx {
            catalog: &self.catalog,
            oids: &self.oids,
            sequences: &self.sequences,
            database: DATABASE,
            txn,
            user: &self.user,
            session_user: &self.user,
            path: &self.path,
            functions: &self.functions,
            facts: None,
            in_use: &self.in_use,
            source: sql,
            notices: &mut notices,
        };
        let done = match &parsed[0].statement {
            front::Statement::CreateDatabase(d) => database::create(d, &mut cx, &NobodyElse)
                .await
                .map(|()| "CREATE DATABASE".to_owned()),
            other => run(other, &mut cx).await,
        };
        self.notices = notices;
        done
    }

    /// Runs in a transaction of its own.
    async fn run(&mut self, sql: &str) -> Result<String, SqlError> {
        let mut txn = self.world.begin();
        match self.run_in(sql, &mut txn).await {
            Ok(tag) => {
                let txns = Arc::clone(&self.world.txns);
                txns.commit(txn, CommitLevel::Local)
                    .await
                    .expect("committed");
                Ok(tag)
            }
            Err(e) => {
                self.world.txns.abort(txn);
                Err(e)
            }
        }
    }

    /// `statement => tag`, or `statement => state message`.
    async fn script(&mut self, steps: &[(&str, &str)]) {
        for (sql, expected) in steps {
            let got = match self.run(sql).await {
                Ok(tag) => tag,
                Err(e) => format!("{} {}", e.state, e.message),
            };
            assert_eq!(&got, expected, "{sql}");
        }
    }

    fn role(&self, name: &str) -> Oid {
        let txn = self.world.begin();
        let view = self
            .catalog
            .view(DATABASE, &txn, &self.path, BOOTSTRAP_SUPERUSER);
        let role = view.role_named(name).expect("the catalog reads");
        role.expect("it is there").oid
    }

    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        let txn = self.world.begin();
        let view = self
            .catalog
            .view(DATABASE, &txn, &self.path, BOOTSTRAP_SUPERUSER);
        view.relation_named(None, name).expect("the catalog reads")
    }

    fn shape(&self, name: &str) -> String {
        let r = self.relation(name).expect("it is there");
        let columns: Vec<String> = r
            .live_columns()
            .map(|(_, c)| {
                let ty = crate::sql::bind::type_text(c.ty);
                let null = if c.not_null { " not null" } else { "" };
                let identity = match c.identity {
                    Identity::No => "",
                    Identity::Always => " always",
                    Identity::ByDefault => " by default",
                };
                let default = c.default.as_ref().map_or(String::new(), |d| {
                    let txn = self.world.begin();
                    let view = self
                        .catalog
                        .view(DATABASE, &txn, &self.path, BOOTSTRAP_SUPERUSER);
                    let shown = super::shown_expression(d, &view).expect("it is shown");
                    format!(" = {shown}")
                });
                format!("{} {ty}{null}{identity}{default}", c.name)
            })
            .collect();
        let indexes: Vec<String> = r
            .indexes
            .iter()
            .map(|i| {
                let keys: Vec<&str> = i
                    .keys
                    .iter()
                    .map(|k| r.columns[k.column].name.as_str())
                    .collect();
                let kind = match (i.primary, i.unique) {
                    (true, _) => "primary ",
                    (false, true) => "unique ",
                    _ => "",
                };
                format!("{kind}{}({})", i.name, keys.join(","))
            })
            .collect();
        let checks: Vec<String> = r
            .checks
            .iter()
            .map(|c| format!("{}: {}", c.name, c.expression))
            .collect();
        format!(
            "{}; {}; {}",
            columns.join(", "),
            indexes.join(", "),
            checks.join(", ")
        )
    }

    /// Rows straight into the heap, and into no index.
    async fn fill(&self, table: &str, rows: &[Vec<Datum>]) {
        let relation = self.relation(table).expect("it is there");
        let mut txn = self.world.begin();
        let xid = self.world.txns.xid(&mut txn).expect("an xid");
        for row in rows {
            heap::insert(self.world.cx(), &relation, row, xid, CommandId::FIRST).expect("inserted");
        }
        self.world
            .txns
            .commit(txn, CommitLevel::Local)
            .await
            .expect("committed");
    }
}

fn with_server<F>(test: impl FnOnce(Server) -> F)
where
    F: std::future::Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { test(Server::new().await).await });
}

#[test]
fn tables_with_their_keys_defaults_and_sequences() {
    with_server(|mut s| async move {
        s.script(&[
            (
                "CREATE TABLE t (id serial PRIMARY KEY, a int NOT NULL DEFAULT 1 + 2, b text UNIQUE, \
                 c numeric(10,2) CHECK (c > 0), d int GENERATED ALWAYS AS IDENTITY, \
                 CONSTRAINT ab CHECK (a > 0 OR b <> ''), UNIQUE (a, b))",
                "CREATE TABLE",
            ),
            ("CREATE TABLE t (a int)", "42P07 relation \"t\" already exists"),
            ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE"),
            ("CREATE TABLE x (a int, a text)", "42701 column \"a\" specified more than once"),
            ("CREATE TABLE x (a nosuch)", "42704 type \"nosuch\" does not exist"),
            ("CREATE TABLE nope.x (a int)", "3F000 schema \"nope\" does not exist"),
            (
                "CREATE TABLE x (a int DEFAULT 'x')",
                "22P02 invalid input syntax for type integer: \"x\"",
            ),
            (
                "CREATE TABLE x (a int DEFAULT b)",
                "0A000 cannot use column reference in DEFAULT expression",
            ),
            ("CREATE TABLE x (a int CHECK (b > 1))", "42703 column \"b\" does not exist"),
            ("CREATE TABLE x (PRIMARY KEY (a))", "42703 column \"a\" named in key does not exist"),
            ("CREATE TEMP TABLE x (a int)", "0A000 temporary tables are not supported"),
        ])
        .await;
        assert_eq!(
            s.shape("t"),
            "id integer not null = nextval('t_id_seq'::regclass), a integer not null = 1 + 2, b text, \
             c numeric(10,2), d integer not null always = nextval('t_d_seq'::regclass); \
             primary t_pkey(id), unique t_b_key(b), unique t_a_b_key(a,b); \
             ab: a > 0 OR b <> '', t_c_check: c > 0"
        );
        s.script(&[
            (
                "DROP SEQUENCE t_d_seq",
                "2BP01 cannot drop sequence t_d_seq because column d of table t requires it",
            ),
            (
                "DROP SEQUENCE t_id_seq",
                "2BP01 cannot drop sequence t_id_seq because other objects depend on it",
            ),
            (
                "DROP INDEX t_pkey",
                "2BP01 cannot drop index t_pkey because constraint t_pkey on table t requires it",
            ),
            ("DROP TABLE t", "DROP TABLE"),
            ("DROP TABLE t", "42P01 table \"t\" does not exist"),
            ("DROP TABLE IF EXISTS t", "DROP TABLE"),
        ])
        .await;
        assert_eq!(s.notices[0].message, "table \"t\" does not exist, skipping");
        assert!(s.relation("t_id_seq").is_none());
        assert!(s.relation("t_pkey").is_none());
    });
}

#[test]
fn alter_table_changes_what_it_says() {
    with_server(|mut s| async move {
        s.script(&[
            ("CREATE TABLE t (a int, b text)", "CREATE TABLE"),
            ("ALTER TABLE t ADD PRIMARY KEY (a)", "ALTER TABLE"),
            (
                "ALTER TABLE t ADD COLUMN c int DEFAULT 7 NOT NULL",
                "ALTER TABLE",
            ),
            (
                "ALTER TABLE t ADD c int",
                "42701 column \"c\" of relation \"t\" already exists",
            ),
            (
                "ALTER TABLE t ALTER b SET NOT NULL, ALTER b SET DEFAULT 'x'",
                "ALTER TABLE",
            ),
            (
                "ALTER TABLE t ADD CONSTRAINT pos CHECK (c > 0)",
                "ALTER TABLE",
            ),
            ("ALTER TABLE t ADD UNIQUE (b)", "ALTER TABLE"),
            ("ALTER TABLE t RENAME b TO bb", "ALTER TABLE"),
            (
                "ALTER TABLE t ALTER a DROP NOT NULL",
                "42P16 column \"a\" is in a primary key",
            ),
        ])
        .await;
        assert_eq!(
            s.shape("t"),
            "a integer not null, bb text not null = 'x'::text, c integer not null = 7; \
             primary t_pkey(a), unique t_b_key(bb); pos: c > 0"
        );
        s.script(&[
            ("ALTER TABLE t DROP COLUMN c", "ALTER TABLE"),
            ("ALTER TABLE t DROP CONSTRAINT t_b_key", "ALTER TABLE"),
            (
                "ALTER TABLE t ALTER bb DROP DEFAULT, ALTER bb DROP NOT NULL",
                "ALTER TABLE",
            ),
            (
                "ALTER TABLE t DROP nope",
                "42703 column \"nope\" of relation \"t\" does not exist",
            ),
            ("ALTER TABLE t RENAME TO u", "ALTER TABLE"),
            ("ALTER INDEX t_pkey RENAME TO u_pkey", "ALTER INDEX"),
        ])
        .await;
        assert_eq!(
            s.shape("u"),
            "a integer not null, bb text; primary u_pkey(a); "
        );
        let key = s.relation("u").expect("it is there").indexes[0]
            .constraint
            .clone();
        assert_eq!(key.map(|(_, name)| name).as_deref(), Some("u_pkey"));
    });
}

#[test]
fn a_condition_that_is_not_valid_waits_for_its_validation() {
    with_server(|mut s| async move {
        s.script(&[("CREATE TABLE t (a int)", "CREATE TABLE")])
            .await;
        s.fill("t", &[vec![Datum::Int4(-1)]]).await;
        s.script(&[
            (
                "ALTER TABLE t ADD CONSTRAINT pos CHECK (a > 0) NOT VALID",
                "ALTER TABLE",
            ),
            (
                "ALTER TABLE t VALIDATE CONSTRAINT pos",
                "23514 check constraint \"pos\" of relation \"t\" is violated by some row",
            ),
            (
                "ALTER TABLE t VALIDATE CONSTRAINT nope",
                "42704 constraint \"nope\" of relation \"t\" does not exist",
            ),
            (
                "ALTER TABLE t VALIDATE CONSTRAINT small, ADD CONSTRAINT small CHECK (a < 9) NOT VALID",
                "ALTER TABLE",
            ),
            (
                "ALTER TABLE t ADD UNIQUE (a) NOT VALID",
                "0A000 UNIQUE constraints cannot be marked NOT VALID",
            ),
            ("TRUNCATE t", "TRUNCATE TABLE"),
            ("ALTER TABLE t VALIDATE CONSTRAINT pos", "ALTER TABLE"),
            ("ALTER TABLE t RENAME a TO b", "ALTER TABLE"),
        ])
        .await;
        let t = s.relation("t").expect("it is there");
        let checks: Vec<_> = t.checks.iter().map(|c| c.expression.as_str()).collect();
        assert_eq!(checks, ["b > 0", "b < 9"]);
    });
}

#[test]
fn rows_that_are_there_are_checked() {
    with_server(|mut s| async move {
        s.script(&[("CREATE TABLE t (a int, b text)", "CREATE TABLE")])
            .await;
        let row =
            |a: i32, b: Option<&str>| vec![Datum::Int4(a), b.map_or(Datum::Null, Datum::text)];
        s.fill("t", &[row(1, Some("x")), row(2, None), row(2, Some("y"))])
            .await;
        s.script(&[
            (
                "CREATE UNIQUE INDEX ON t (a)",
                "23505 could not create unique index \"t_a_idx\"",
            ),
            (
                "ALTER TABLE t ALTER b SET NOT NULL",
                "23502 column \"b\" of relation \"t\" contains null values",
            ),
            (
                "ALTER TABLE t ADD CHECK (a < 2)",
                "23514 check constraint \"t_a_check\" of relation \"t\" is violated by some row",
            ),
            ("ALTER TABLE t ADD CHECK (b <> 'z')", "ALTER TABLE"),
            (
                "ALTER TABLE t ADD c int NOT NULL",
                "23502 column \"c\" of relation \"t\" contains null values",
            ),
            ("ALTER TABLE t ADD c int NOT NULL DEFAULT 5", "ALTER TABLE"),
            ("CREATE UNIQUE INDEX ab ON t (a, b DESC)", "CREATE INDEX"),
            ("CREATE INDEX ON t (c)", "CREATE INDEX"),
        ])
        .await;
        let t = s.relation("t").expect("it is there");
        assert!(matches!(t.columns[2].missing, Some(Datum::Int4(5))));
        assert_eq!(t.indexes.len(), 2);
        let detail = s
            .run("CREATE UNIQUE INDEX ON t (a)")
            .await
            .expect_err("two rows are alike")
            .detail
            .clone();
        assert_eq!(detail.as_deref(), Some("Key (a)=(2) is duplicated."));
        s.script(&[("TRUNCATE t", "TRUNCATE TABLE")]).await;
        s.script(&[("CREATE UNIQUE INDEX ON t (a)", "CREATE INDEX")])
            .await;
    });
}

#[test]
fn an_abort_undoes_everything() {
    with_server(|mut s| async move {
        let mut txn = s.world.begin();
        s.run_in("CREATE TABLE t (a serial PRIMARY KEY)", &mut txn)
            .await
            .expect("created");
        s.run_in("ALTER TABLE t ADD b text", &mut txn)
            .await
            .expect("its own changes are seen");
        s.run_in("CREATE ROLE r", &mut txn).await.expect("created");
        s.world.txns.abort(txn);
        assert!(s.relation("t").is_none());
        assert!(s.relation("t_a_seq").is_none());
        s.script(&[
            ("CREATE ROLE r", "CREATE ROLE"),
            ("CREATE TABLE t (a int)", "CREATE TABLE"),
        ])
        .await;
    });
}

#[test]
fn roles_schemas_sequences_and_comments() {
    with_server(|mut s| async move {
        s.script(&[
            (
                "CREATE ROLE r LOGIN PASSWORD 'secret' CREATEDB",
                "CREATE ROLE",
            ),
            ("CREATE USER r", "42710 role \"r\" already exists"),
            ("CREATE ROLE pg_x", "42939 role name \"pg_x\" is reserved"),
            (
                "ALTER ROLE r NOCREATEDB REPLICATION VALID UNTIL '2030-01-01'",
                "ALTER ROLE",
            ),
            ("ALTER ROLE r SET work_mem TO '1MB'", "ALTER ROLE"),
            ("CREATE SCHEMA s AUTHORIZATION r", "CREATE SCHEMA"),
            ("CREATE SCHEMA s", "42P06 schema \"s\" already exists"),
            ("CREATE TABLE s.t (a int)", "CREATE TABLE"),
            ("COMMENT ON TABLE s.t IS 'a table'", "COMMENT"),
            ("COMMENT ON COLUMN s.t.a IS 'a column'", "COMMENT"),
            (
                "COMMENT ON COLUMN s.t.z IS 'x'",
                "42703 column \"z\" of relation \"t\" does not exist",
            ),
            (
                "DROP ROLE r",
                "2BP01 role \"r\" cannot be dropped because some objects depend on it",
            ),
            (
                "DROP SCHEMA s",
                "2BP01 cannot drop schema s because other objects depend on it",
            ),
            ("DROP SCHEMA s CASCADE", "DROP SCHEMA"),
            ("DROP ROLE r", "DROP ROLE"),
            ("DROP ROLE r", "42704 role \"r\" does not exist"),
            (
                "CREATE SEQUENCE q START 5 INCREMENT 5 MAXVALUE 20",
                "CREATE SEQUENCE",
            ),
            (
                "CREATE SEQUENCE q2 START 5 MAXVALUE 3",
                "22023 START value (5) cannot be greater than MAXVALUE (3)",
            ),
            (
                "CREATE SEQUENCE q2 INCREMENT 0",
                "22023 INCREMENT must not be zero",
            ),
            ("ALTER SEQUENCE q RESTART WITH 10", "ALTER SEQUENCE"),
            ("ALTER SEQUENCE q RENAME TO qq", "ALTER SEQUENCE"),
            (
                "CREATE TABLE u (a int DEFAULT nextval('qq'))",
                "CREATE TABLE",
            ),
            (
                "DROP SEQUENCE qq",
                "2BP01 cannot drop sequence qq because other objects depend on it",
            ),
            ("ALTER SEQUENCE qq RENAME TO q3", "ALTER SEQUENCE"),
        ])
        .await;
        assert_eq!(s.shape("u"), "a integer = nextval('q3'::regclass); ; ");
        let q = s.relation("q3").expect("it is there");
        let state = s.sequences.state(&s.world.store, q.file).expect("it reads");
        assert_eq!((state.last, state.called), (10, false));
        s.script(&[("DROP SEQUENCE q3 CASCADE", "DROP SEQUENCE")])
            .await;
        assert_eq!(s.shape("u"), "a integer; ; ");
    });
}

#[test]
fn databases_come_and_go() {
    with_server(|mut s| async move {
        s.script(&[
            (
                "CREATE DATABASE d TEMPLATE template0 OWNER postgres",
                "CREATE DATABASE",
            ),
            ("CREATE DATABASE d", "42P04 database \"d\" already exists"),
            (
                "CREATE DATABASE e TEMPLATE nope",
                "3D000 template database \"nope\" does not exist",
            ),
            (
                "CREATE DATABASE e ENCODING 'LATIN1'",
                "0A000 encoding \"LATIN1\" is not supported",
            ),
            ("ALTER DATABASE d CONNECTION LIMIT 3", "ALTER DATABASE"),
            ("ALTER DATABASE d RENAME TO dd", "ALTER DATABASE"),
        ])
        .await;
    });
}

/// The list as `\dp` shows it.
fn acl(server: &Server, table: &str) -> Vec<String> {
    let relation = server.relation(table).expect("it is there");
    let items = relation.acl.as_deref().unwrap_or_default();
    items
        .iter()
        .map(|i| i.show(|role| role.to_string()))
        .collect()
}

#[test]
fn grants_are_part_of_the_table_and_go_with_its_owner() {
    with_server(|mut s| async move {
        s.script(&[
            ("CREATE ROLE a", "CREATE ROLE"),
            ("CREATE ROLE b", "CREATE ROLE"),
            ("CREATE TABLE t (x int)", "CREATE TABLE"),
        ])
        .await;
        assert!(acl(&s, "t").is_empty());
        s.script(&[
            ("GRANT SELECT ON t TO a WITH GRANT OPTION", "GRANT"),
            ("GRANT INSERT, UPDATE ON t TO PUBLIC", "GRANT"),
            ("REVOKE UPDATE ON t FROM PUBLIC", "REVOKE"),
            (
                "GRANT USAGE ON t TO a",
                "0LP01 invalid privilege type USAGE for table",
            ),
            (
                "GRANT SELECT (x) ON t TO a",
                "0A000 privileges on columns are not supported",
            ),
            (
                "DROP ROLE a",
                "2BP01 role \"a\" cannot be dropped because some objects depend on it",
            ),
        ])
        .await;
        let a = s.role("a");
        assert_eq!(
            acl(&s, "t"),
            [
                "10=arwdDxt/10".to_owned(),
                format!("{a}=r*/10"),
                "=a/10".to_owned()
            ]
        );
        s.script(&[("ALTER TABLE t OWNER TO b", "ALTER TABLE")])
            .await;
        let b = s.role("b");
        assert_eq!(
            acl(&s, "t"),
            [
                format!("{b}=arwdDxt/{b}"),
                format!("{a}=r*/{b}"),
                format!("=a/{b}")
            ]
        );
        s.script(&[
            ("REASSIGN OWNED BY b TO postgres", "REASSIGN OWNED"),
            ("DROP OWNED BY a, b", "DROP OWNED"),
            ("DROP ROLE a, b", "DROP ROLE"),
        ])
        .await;
        assert_eq!(acl(&s, "t"), ["10=arwdDxt/10", "=a/10"]);
    });
}

#[test]
fn what_an_open_portal_reads_is_not_changed() {
    with_server(|mut s| async move {
        s.script(&[
            ("CREATE TABLE t (a int, b int)", "CREATE TABLE"),
            ("CREATE INDEX i ON t (a)", "CREATE INDEX"),
            ("CREATE TABLE u (a int)", "CREATE TABLE"),
        ])
        .await;
        let table = s.relation("t").expect("it is there");
        let cases = [
            ("ALTER TABLE t ADD COLUMN c int", "ALTER TABLE \"t\""),
            ("ALTER TABLE t OWNER TO postgres", "ALTER TABLE \"t\""),
            ("CREATE INDEX ON t (b)", "CREATE INDEX \"t\""),
            ("TRUNCATE u, t", "TRUNCATE \"t\""),
            ("DROP TABLE u, t", "DROP TABLE \"t\""),
            ("DROP INDEX i", "DROP INDEX \"i\""),
            ("DROP TABLE t", "DROP INDEX \"i\""),
            ("REINDEX TABLE t", "REINDEX INDEX \"i\""),
            ("ALTER INDEX i SET (fillfactor = 70)", "ALTER TABLE \"i\""),
        ];
        for (sql, what) in cases {
            let reads = if what.ends_with("\"t\"") {
                table.oid
            } else {
                table.indexes[0].oid
            };
            s.in_use = vec![reads];
            let error = s.run(sql).await.expect_err(sql);
            let expected =
                format!("cannot {what} because it is being used by active queries in this session");
            assert_eq!((error.state, error.message.as_str()), ("55006", &*expected));
        }
        s.in_use = vec![table.oid];
        s.script(&[
            ("DROP INDEX i", "DROP INDEX"),
            ("COMMENT ON TABLE t IS 'in use'", "COMMENT"),
            ("ALTER TABLE t RENAME TO t2", "ALTER TABLE"),
            ("ALTER TABLE u ADD COLUMN c int", "ALTER TABLE"),
            ("TRUNCATE u", "TRUNCATE TABLE"),
        ])
        .await;
    });
}

/// As `pg_dump` writes them.
#[test]
fn an_identity_says_what_its_sequence_is_called() {
    with_server(|mut s| async move {
        s.script(&[
            ("CREATE TABLE t (id bigint NOT NULL)", "CREATE TABLE"),
            (
                "ALTER TABLE public.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (\
                 SEQUENCE NAME public.numbers START WITH 7 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1)",
                "ALTER TABLE",
            ),
            (
                "CREATE TABLE u (id int GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME more))",
                "CREATE TABLE",
            ),
            (
                "CREATE TABLE v (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME numbers))",
                "42P07 relation \"numbers\" already exists",
            ),
            (
                "CREATE TABLE v (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME a SEQUENCE NAME b))",
                "42601 conflicting or redundant options",
            ),
            (
                "CREATE TABLE v (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME nowhere.a))",
                "3F000 schema \"nowhere\" does not exist",
            ),
            ("CREATE SCHEMA elsewhere", "CREATE SCHEMA"),
            (
                "CREATE TABLE v (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME elsewhere.a))",
                "42P01 relation \"elsewhere.v\" does not exist",
            ),
            (
                "CREATE SEQUENCE q SEQUENCE NAME a",
                "42601 invalid sequence option SEQUENCE NAME",
            ),
        ])
        .await;
        assert_eq!(
            s.shape("t"),
            "id bigint not null always = nextval('numbers'::regclass); ; "
        );
        assert_eq!(
            s.shape("u"),
            "id integer not null by default = nextval('more'::regclass); ; "
        );
        s.script(&[("DROP TABLE t", "DROP TABLE")]).await;
        assert!(s.relation("numbers").is_none());
    });
}
