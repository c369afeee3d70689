//! Sessions that meet at one row.

use std::sync::Arc;
use std::time::Duration;

use super::database::{Database, run_async};
use crate::txn::Isolation::{self, ReadCommitted, RepeatableRead};

/// Time in which a statement that does not wait is surely done, and one that waits surely waits.
const SOON: Duration = Duration::from_millis(150);

struct Pending(tokio::task::JoinHandle<Result<Vec<String>, crate::sql::error::SqlError>>);

/// Runs a statement in a transaction of its own, at the side.
fn at_the_side(db: &Arc<Database>, isolation: Isolation, text: &'static str) -> Pending {
    let db = Arc::clone(db);
    let mut txn = db.begin(isolation);
    Pending(tokio::spawn(async move {
        match db.run(&mut txn, text).await {
            Ok(rows) => {
                db.commit(txn).await;
                Ok(rows)
            }
            Err(e) => {
                db.world.txns.abort(txn);
                Err(e)
            }
        }
    }))
}

impl Pending {
    async fn is_waiting(self) -> Pending {
        tokio::time::sleep(SOON).await;
        assert!(!self.0.is_finished(), "it did not wait");
        self
    }
    async fn result(self) -> Result<Vec<String>, crate::sql::error::SqlError> {
        self.0.await.expect("no panic")
    }
}

#[test]
fn an_update_waits_and_builds_on_what_it_waited_for() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a'), (2, 5, 'b')", &["2"])
            .await;
        let mut first = db.begin(ReadCommitted);
        let done = db
            .run(&mut first, "UPDATE t SET n = n + 1 WHERE id = 1")
            .await;
        assert_eq!(done.expect("changed"), ["1"]);
        let second = at_the_side(
            &db,
            ReadCommitted,
            "UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n",
        );
        let second = second.is_waiting().await;
        db.commit(first).await;
        assert_eq!(second.result().await.expect("changed"), ["12"]);
    });
}

#[test]
fn conditions_are_tested_on_the_newest_version() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a'), (2, 10, 'b')", &["2"])
            .await;
        let mut first = db.begin(ReadCommitted);
        db.run(&mut first, "UPDATE t SET n = 0 WHERE id = 1")
            .await
            .expect("changed");
        let update = at_the_side(&db, ReadCommitted, "UPDATE t SET s = 'hit' WHERE n = 10")
            .is_waiting()
            .await;
        let delete = at_the_side(&db, ReadCommitted, "DELETE FROM t WHERE id = 1 AND n = 10")
            .is_waiting()
            .await;
        db.commit(first).await;
        assert_eq!(update.result().await.expect("runs"), ["1"]);
        assert_eq!(delete.result().await.expect("runs"), ["0"]);
        db.check("SELECT * FROM t ORDER BY id", &["1|0|a", "2|10|hit"])
            .await;
    });
}

#[test]
fn a_deleted_row_is_passed_over_and_an_aborted_delete_is_not() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a')", &["1"]).await;
        let mut first = db.begin(ReadCommitted);
        db.run(&mut first, "DELETE FROM t").await.expect("deleted");
        let second = at_the_side(&db, ReadCommitted, "UPDATE t SET n = n + 1")
            .is_waiting()
            .await;
        db.world.txns.abort(first);
        assert_eq!(second.result().await.expect("runs"), ["1"]);
        let mut first = db.begin(ReadCommitted);
        db.run(&mut first, "DELETE FROM t").await.expect("deleted");
        let second = at_the_side(&db, ReadCommitted, "UPDATE t SET n = n + 1")
            .is_waiting()
            .await;
        db.commit(first).await;
        assert_eq!(second.result().await.expect("runs"), ["0"]);
    });
}

#[test]
fn repeatable_read_refuses_what_changed() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a')", &["1"]).await;
        for (text, change, word) in [
            ("UPDATE t SET n = 1", "UPDATE t SET n = n + 1", "update"),
            (
                "SELECT * FROM t FOR UPDATE",
                "UPDATE t SET n = n + 1",
                "update",
            ),
            ("DELETE FROM t", "DELETE FROM t", "delete"),
        ] {
            let mut first = db.begin(ReadCommitted);
            db.run(&mut first, change).await.expect("changed");
            let second = at_the_side(&db, RepeatableRead, text).is_waiting().await;
            db.commit(first).await;
            let error = second.result().await.expect_err("refused");
            assert_eq!(error.state, "40001");
            assert_eq!(
                error.message,
                format!("could not serialize access due to concurrent {word}")
            );
        }
    });
}

#[test]
fn row_locks_wait_refuse_or_skip() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b')", &["2"])
            .await;
        let mut first = db.begin(ReadCommitted);
        let locked = db
            .run(&mut first, "SELECT id FROM t WHERE id = 1 FOR UPDATE")
            .await;
        assert_eq!(locked.expect("locked"), ["1"]);
        db.check(
            "SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
            &["2"],
        )
        .await;
        db.fails(
            "SELECT id FROM t WHERE id = 1 FOR SHARE NOWAIT",
            "55P03",
            "could not obtain lock on row in relation \"t\"",
        )
        .await;
        db.check("SELECT n FROM t WHERE id = 1", &["10"]).await;
        // A queue's worker: takes the first job that nobody else has.
        db.check(
            "UPDATE t SET s = 'taken' WHERE id = (SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
            &["2"],
        )
        .await;
        let waiting = at_the_side(
            &db,
            ReadCommitted,
            "SELECT id, n FROM t WHERE n = 10 FOR UPDATE",
        )
        .is_waiting()
        .await;
        db.run(&mut first, "UPDATE t SET n = 11 WHERE id = 1")
            .await
            .expect("changed");
        db.commit(first).await;
        assert!(waiting.result().await.expect("runs").is_empty());
    });
}

#[test]
fn unique_keys_wait_for_their_rivals() {
    run_async(async {
        let db = Database::new();
        let mut first = db.begin(ReadCommitted);
        db.run(&mut first, "INSERT INTO t VALUES (1, 1, 'first')")
            .await
            .expect("inserted");
        let second = at_the_side(&db, ReadCommitted, "INSERT INTO t VALUES (1, 2, 'second')")
            .is_waiting()
            .await;
        db.world.txns.abort(first);
        assert_eq!(second.result().await.expect("inserted"), ["1"]);

        let mut first = db.begin(ReadCommitted);
        db.run(&mut first, "INSERT INTO t VALUES (2, 1, 'first')")
            .await
            .expect("inserted");
        let second = at_the_side(&db, ReadCommitted, "INSERT INTO t VALUES (2, 2, 'second')")
            .is_waiting()
            .await;
        let nothing = at_the_side(
            &db,
            ReadCommitted,
            "INSERT INTO t VALUES (2, 2, 'x') ON CONFLICT DO NOTHING",
        )
        .is_waiting()
        .await;
        db.commit(first).await;
        assert_eq!(second.result().await.expect_err("refused").state, "23505");
        assert_eq!(nothing.result().await.expect("runs"), ["0"]);
        db.check("SELECT * FROM t ORDER BY id", &["1|2|second", "2|1|first"])
            .await;
    });
}

/// What the transaction wrote itself, be it by this very command, is nobody's change.
#[test]
fn repeatable_read_passes_over_its_own_rows() {
    run_async(async {
        let db = Database::new();
        let mut txn = db.begin(RepeatableRead);
        for (text, inserted) in [
            (
                "INSERT INTO t VALUES (1, 1, 'a'), (1, 2, 'b') ON CONFLICT DO NOTHING",
                "1",
            ),
            (
                "INSERT INTO t VALUES (1, 3, 'c'), (2, 4, 'd') ON CONFLICT (id) DO NOTHING",
                "1",
            ),
        ] {
            let done = db.run(&mut txn, text).await;
            assert_eq!(done.expect(text), [inserted], "{text}");
        }
        db.commit(txn).await;
        db.check("SELECT * FROM t ORDER BY id", &["1|1|a", "2|4|d"])
            .await;
        // That of somebody else is a change that came too late.
        let mut late = db.begin(RepeatableRead);
        let before = db.run(&mut late, "SELECT count(*) FROM t").await;
        assert_eq!(before.expect("counted"), ["2"]);
        let cx = db.exec_cx(&late);
        db.check("INSERT INTO t VALUES (3, 3, 'x')", &["1"]).await;
        let text = "INSERT INTO t VALUES (3, 4, 'y') ON CONFLICT DO NOTHING";
        let refused = db.run_with(&mut late, text, &[], cx).await;
        assert_eq!(refused.expect_err("refused").state, "40001");
        db.world.txns.abort(late);
    });
}

#[test]
fn upserts_lose_nothing() {
    run_async(async {
        let db = Database::new();
        let mut workers = Vec::new();
        for _ in 0..4 {
            let db = Arc::clone(&db);
            workers.push(tokio::spawn(async move {
                for n in 0..50 {
                    let key = n % 5;
                    let text = format!(
                        "INSERT INTO u VALUES ({key}, 1, 'x') ON CONFLICT (id) DO UPDATE SET n = u.n + 1"
                    );
                    assert_eq!(db.auto(&text).await.expect("never refused"), ["1"]);
                }
            }));
        }
        for worker in workers {
            worker.await.expect("no panic");
        }
        db.check("SELECT count(*), sum(n) FROM u", &["5|200"]).await;
    });
}

#[test]
fn counters_lose_nothing() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO u VALUES (1, 0, 'x'), (2, 0, 'y')", &["2"])
            .await;
        let mut workers = Vec::new();
        for w in 0..4 {
            let db = Arc::clone(&db);
            workers.push(tokio::spawn(async move {
                for n in 0..50 {
                    let text = format!("UPDATE u SET n = n + 1 WHERE id = {}", 1 + (n + w) % 2);
                    assert_eq!(db.auto(&text).await.expect("never refused"), ["1"]);
                }
            }));
        }
        for worker in workers {
            worker.await.expect("no panic");
        }
        db.check("SELECT sum(n) FROM u", &["200"]).await;
    });
}
