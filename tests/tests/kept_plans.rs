//! Plans and executions that are kept give what a fresh one would: the same texts on PostgreSQL 15, again and again with
//! other numbers, between changes of the catalog, inside transactions that roll back.

use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::wire::{Answer, Client};

/// Both sides, statement by statement.
struct Both {
    ours: Client,
    theirs: Client,
    _server: Server,
    _reference: Reference,
}

impl Both {
    fn started() -> Both {
        let (server, reference) = (Server::started(), Reference::started());
        Both {
            ours: server.client(),
            theirs: reference.client(),
            _server: server,
            _reference: reference,
        }
    }

    fn same(&mut self, sql: &str) {
        let ordered = sql.contains("ORDER BY");
        let visible = |answers: Vec<Answer>| -> Vec<_> {
            let one = |mut a: Answer| {
                if !ordered {
                    a.rows.sort();
                }
                // PostgreSQL computes constants, and fails, before it says which columns there will be.
                if a.error.is_some() {
                    a.columns.clear();
                }
                let error = a.error.map(|e| (e.state, e.position));
                (a.columns, a.rows, a.tag, error)
            };
            answers.into_iter().map(one).collect()
        };
        let ours = visible(self.ours.query(sql).expect("an answer"));
        let theirs = visible(self.theirs.query(sql).expect("an answer"));
        assert_eq!(ours, theirs, "{sql}");
    }

    fn tables(&mut self) {
        self.same(
            "CREATE TABLE t (a int PRIMARY KEY, b bigint, c smallint, d text, m numeric(6, 2), v varchar(3))",
        );
        self.same(
            "INSERT INTO t SELECT n, n * 10, n % 7, 'row ' || n FROM generate_series(1, 40) AS n",
        );
    }

    fn read_by_key(&mut self) {
        for n in [1, 40, 41, 3000, 70_000, 1] {
            self.same(&format!("EXECUTE get({n})"));
            self.same(&format!("SELECT b FROM t WHERE a = {n}"));
        }
    }
}

/// Each `#` is replaced by the numbers of the list in turn.
const REPEATED: &[&str] = &[
    "SELECT b, d FROM t WHERE a = #",
    "SELECT a FROM t WHERE b = # AND c < 5",
    "SELECT count(*), sum(b) FROM t WHERE a > #",
    "SELECT # + a FROM t WHERE a = 3",
    "SELECT a - # FROM t WHERE a = 3",
    "SELECT -#, #, a FROM t WHERE a IN (2, #)",
    "SELECT d FROM t WHERE c = # AND a = 5",
    "SELECT a::numeric(9, 2) / # FROM t WHERE a = 7",
    "SELECT a FROM t WHERE a < 30 LIMIT #",
    "SELECT a FROM t ORDER BY a LIMIT 3 OFFSET #",
    "SELECT CASE WHEN a > # THEN 'more' ELSE 'less' END FROM t WHERE a = 20",
    "SELECT substr(d, #) FROM t WHERE a = 11",
    "UPDATE t SET b = b + # WHERE a = 4",
    "UPDATE t SET b = b - #, c = 3 WHERE a = # RETURNING a, b",
    "DELETE FROM t WHERE a = # AND b < 0",
    "INSERT INTO t VALUES (100 + #, -#, 1, 'new') ON CONFLICT (a) DO UPDATE SET b = t.b + #",
    "SELECT (SELECT max(a) FROM t WHERE a <= #) AS most",
    "SELECT a + 1 FROM t WHERE a <= 3 GROUP BY a + 1 HAVING count(*) < #",
    "SELECT a FROM t WHERE a <= # UNION SELECT 50 ORDER BY 1",
    "SELECT 10 / (# - 3)",
    "SELECT 10 / (# - 3) FROM t WHERE a < 0",
    "SELECT d FROM t WHERE a < 0 AND 7.5 / # = 1",
    "SELECT c + 32700 + # FROM t WHERE a = 6",
    "INSERT INTO t (a, c) VALUES (1, #)",
    "UPDATE t SET c = # WHERE a < 0",
    "UPDATE t SET m = -# WHERE a < 0",
    "UPDATE t SET v = # WHERE a < 0",
];

#[test]
fn a_text_that_comes_again_with_other_numbers_means_those() {
    let mut both = Both::started();
    both.tables();
    for text in REPEATED {
        for number in ["2", "5", "3", "0", "2147483647", "2147483648", "5.5", "7"] {
            both.same(&text.replace('#', number));
        }
    }
    both.same("SELECT * FROM t ORDER BY a");
}

#[test]
fn a_kept_plan_follows_the_catalog() {
    let mut both = Both::started();
    both.tables();
    let select = |n: u32| format!("SELECT * FROM t WHERE a = {n}");
    for n in 1..4 {
        both.same(&select(n));
    }
    for change in [
        "ALTER TABLE t ADD COLUMN e int DEFAULT 9",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "CREATE INDEX t_a ON t (a)",
        "DROP TABLE t",
        "CREATE TABLE t (a text, z int)",
    ] {
        both.same(change);
        for n in 4..7 {
            both.same(&select(n));
        }
    }
    both.same("CREATE SCHEMA other");
    both.same("CREATE TABLE other.t (a int, only_here int)");
    both.same("INSERT INTO other.t VALUES (4, 44)");
    both.same("SET search_path = other");
    for n in 4..7 {
        both.same(&select(n));
    }
}

/// An execution that is kept has found the root of its index before. Then the tree grows, or is another one.
#[test]
fn a_kept_plan_finds_the_tree_that_its_index_has_now() {
    let mut both = Both::started();
    both.tables();
    both.same("PREPARE get (int) AS SELECT b, d FROM t WHERE a = $1");
    both.read_by_key();
    let more = "INSERT INTO t SELECT n, n * 10, 0, 'row ' || n FROM generate_series(41, 3000) AS n";
    let few = "INSERT INTO t SELECT n, -n, 0, 'other ' || n FROM generate_series(1, 40) AS n";
    for change in [
        more,
        "REINDEX TABLE t",
        "BEGIN",
        "TRUNCATE t",
        few,
        "ROLLBACK",
        "TRUNCATE t",
        few,
        more,
        "BEGIN",
        "REINDEX INDEX t_pkey",
        "ROLLBACK",
        "DELETE FROM t WHERE a > 40",
        "VACUUM t",
        more,
    ] {
        both.same(change);
        both.read_by_key();
    }
}

#[test]
fn a_plan_made_under_changes_that_were_rolled_back_is_not_kept() {
    let mut both = Both::started();
    both.tables();
    for column in ["x", "y"] {
        both.same("BEGIN");
        both.same(&format!("ALTER TABLE t ADD COLUMN {column} int DEFAULT 1"));
        for n in 1..4 {
            both.same(&format!("SELECT * FROM t WHERE a = {n}"));
        }
        both.same("ROLLBACK");
        both.same("SELECT * FROM t WHERE a = 4");
    }
}

#[test]
fn prepared_statements_run_again_and_again() {
    let mut both = Both::started();
    both.tables();
    both.same("PREPARE get (int) AS SELECT b, d FROM t WHERE a = $1");
    both.same("PREPARE add (int, bigint) AS UPDATE t SET b = b + $2 WHERE a = $1");
    for n in [1, 2, 3, 2, 99, 1] {
        both.same(&format!("EXECUTE add({n}, {n})"));
        both.same(&format!("EXECUTE get({n})"));
    }
    both.same("BEGIN");
    both.same("EXECUTE add(1, 1000)");
    both.same("EXECUTE get(1)");
    both.same("ROLLBACK");
    both.same("EXECUTE get(1)");
    both.same("BEGIN ISOLATION LEVEL REPEATABLE READ");
    both.same("EXECUTE get(NULL)");
    both.same("COMMIT");
}

/// The extended protocol, whose executions are started again.
#[test]
fn bound_statements_run_again_and_again() {
    let server = Server::started();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let dsn = format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres",
            server.port
        );
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
            .await
            .expect("it runs");
        tokio::spawn(connection);
        client
            .batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
            .await
            .expect("DDL runs");
        let insert = client
            .prepare("INSERT INTO t VALUES ($1, $2) RETURNING a + b")
            .await
            .expect("prepared");
        for n in 0..20_i32 {
            let row = client.query_one(&insert, &[&n, &(n * n)]).await;
            assert_eq!(row.expect("inserted").get::<_, i32>(0), n + n * n);
        }
        let again = client.query_one(&insert, &[&7_i32, &0_i32]).await;
        let state = again.expect_err("the key is there").code().cloned();
        assert_eq!(
            state,
            Some(tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
        );
        let select = client
            .prepare("SELECT b FROM t WHERE a = $1")
            .await
            .expect("prepared");
        let range = client
            .prepare("SELECT a FROM t WHERE a >= $1 AND a < $2 LIMIT $3")
            .await
            .expect("prepared");
        for n in [3_i32, 19, 400, 0, 3] {
            let found = client.query(&select, &[&n]).await.expect("selected");
            let values: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
            let wanted: Vec<i32> = (0..20).filter(|a| *a == n).map(|a| a * a).collect();
            assert_eq!(values, wanted);
            let found = client
                .query(&range, &[&n, &(n + 10), &2_i64])
                .await
                .expect("selected");
            assert_eq!(found.len(), (n..n + 10).filter(|a| *a < 20).take(2).count());
        }
        client
            .batch_execute("UPDATE t SET b = -1 WHERE a = 3")
            .await
            .expect("updated");
        let row = client.query_one(&select, &[&3_i32]).await.expect("one row");
        assert_eq!(row.get::<_, i32>(0), -1, "a new snapshot each time");
    });
}
