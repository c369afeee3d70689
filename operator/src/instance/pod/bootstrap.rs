//! `spec.bootstrap.sql`: run once, in one transaction together with the mark that it was run, so that a crash neither
//! skips nor repeats it.
//!
//! The mark is a row in the application's own database, and so on every standby and in every backup that has what the
//! SQL has made.

use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use super::roles::told;

const MARKS: &str = "\
CREATE SCHEMA IF NOT EXISTS understudy;
CREATE TABLE IF NOT EXISTS understudy.bootstrap (id integer PRIMARY KEY, hash text NOT NULL, at timestamptz NOT NULL)";

/// A savepoint is there after a text as it was before, unless the text has ended the transaction.
const BEFORE: &str = "SAVEPOINT understudy_bootstrap";
const AFTER: &str = "RELEASE SAVEPOINT understudy_bootstrap";

/// Runs it unless it was run, whatever it was then.
pub async fn run(client: &mut Client, sql: &[String]) -> Result<(), String> {
    let failed = |e: tokio_postgres::Error| format!("spec.bootstrap.sql: {}", told(&e));
    let marked = client
        .query_opt(
            "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'understudy' AND tablename = 'bootstrap'",
            &[],
        )
        .await
        .map_err(failed)?;
    if marked.is_some() {
        let done = client
            .query_opt("SELECT 1 FROM understudy.bootstrap WHERE id = 1", &[])
            .await
            .map_err(failed)?;
        if done.is_some() {
            return Ok(());
        }
    }
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(MARKS).await.map_err(failed)?;
    for (place, text) in sql.iter().enumerate() {
        let failed =
            |e: tokio_postgres::Error| format!("spec.bootstrap.sql[{place}]: {}", told(&e));
        transaction.batch_execute(BEFORE).await.map_err(failed)?;
        transaction.batch_execute(text).await.map_err(failed)?;
        transaction.batch_execute(AFTER).await.map_err(|e| {
            format!(
                "spec.bootstrap.sql[{place}]: it ends the transaction that all of it runs in ({}); leave COMMIT and \
                 ROLLBACK out, and look at what it has done in part",
                told(&e)
            )
        })?;
    }
    transaction
        .execute(
            "INSERT INTO understudy.bootstrap (id, hash, at) VALUES (1, $1, now())",
            &[&hash(sql)],
        )
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    tracing::info!("spec.bootstrap.sql was run");
    Ok(())
}

fn hash(sql: &[String]) -> String {
    let mut sum = Sha256::new();
    for text in sql {
        sum.update(text.len().to_be_bytes());
        sum.update(text);
    }
    sum.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
