//! Roles, passwords and the application's database, as the cluster object and the Secrets say: made by the supervisor
//! of the primary, over its socket, as the superuser.
//!
//! Everything is looked at before it is changed, so a look that finds all well writes nothing. After the cluster was
//! deleted and applied again the Secrets are new and the volumes old: the passwords follow.
//!
//! Where this stands is in the status, and in the cluster's conditions: nobody is told that a cluster is ready before the
//! role, the password and the database of its Secret are there. What fails is tried again for ever, at distances of up to
//! 30 s. A session goes by none of the manifest's parameters that would keep it from writing or would end it
//! ([`SESSION`]). `spec.bootstrap.sql` may take as long as it needs. Where it fails it may be corrected in the manifest, and what
//! still runs of the old text is cancelled then.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, NoTls};

use super::Place;
use super::mounted::Fingerprint;
use super::{bootstrap, passwords};
use crate::api::BootstrapState;
use crate::render::{REPLICATION_ROLE, SUPERUSER};
use crate::validate::Bootstrap;

/// What roles and databases may take: their commits may have to wait for standbys.
const LIMIT: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What the manifest's parameters may say for applications, and no session of the supervisor's goes by.
const SESSION: &str = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 \
                       -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0";
/// The database that `initdb` makes.
const INITIAL_DATABASE: &str = "postgres";

/// For what it was done: another primary, another spec or other passwords, and it is looked again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Occasion {
    pub engine_pid: u32,
    pub bootstrap: Bootstrap,
    pub secrets: Fingerprint,
}

/// How the SQL that runs can be ended.
type Cancel = Arc<Mutex<Option<CancelToken>>>;

/// An attempt that has not ended.
struct Attempt {
    occasion: Occasion,
    task: JoinHandle<Result<(), String>>,
    cancel: Cancel,
}

/// Where this stands.
#[derive(Default)]
pub struct Roles {
    under_way: Option<Attempt>,
    done: Option<Occasion>,
    failures: u32,
    again_at: Option<Instant>,
    /// Of the last attempt that has ended. What was done stays so while it is looked at again.
    state: Option<BootstrapState>,
}

impl Roles {
    /// None on everybody but a primary that writes.
    pub fn state(&self) -> Option<&BootstrapState> {
        self.state.as_ref()
    }

    pub fn complaint(&self) -> Option<String> {
        let Some(BootstrapState::Failed { error }) = &self.state else {
            return None;
        };
        Some(format!(
            "roles and databases are not as they should be yet: {error}"
        ))
    }

    /// Takes note of what has ended, and begins what is due. `occasion` is none on everybody but a primary that
    /// writes.
    pub async fn see_to(&mut self, place: &Place, port: u16, occasion: Option<Occasion>) {
        match (&occasion, &self.state) {
            (None, _) => self.state = None,
            (Some(_), None) => self.state = Some(BootstrapState::Pending),
            (Some(_), Some(_)) => {}
        }
        if let Some(attempt) = &self.under_way {
            if !attempt.task.is_finished() {
                let began_with = &attempt.occasion.bootstrap;
                let is_another = |now: &Occasion| now.bootstrap != *began_with;
                if occasion.as_ref().is_some_and(is_another) {
                    attempt.cancel();
                }
                return;
            }
            self.finish(occasion.as_ref()).await;
        }
        let Some(occasion) = occasion else {
            return;
        };
        if self.done.as_ref() == Some(&occasion) {
            self.state = Some(BootstrapState::Done);
            return;
        }
        if self.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let cancel = Cancel::default();
        let work = make(
            place.clone(),
            port,
            occasion.bootstrap.clone(),
            cancel.clone(),
        );
        self.under_way = Some(Attempt {
            occasion,
            task: tokio::spawn(work),
            cancel,
        });
    }

    /// `now` is what is wanted by now.
    async fn finish(&mut self, now: Option<&Occasion>) {
        let Some(Attempt { occasion, task, .. }) = self.under_way.take() else {
            return;
        };
        let result = task.await.unwrap_or_else(|e| Err(e.to_string()));
        match result {
            Ok(()) => {
                self.failures = 0;
                self.again_at = None;
                self.state = now.map(|_| BootstrapState::Done);
                self.done = Some(occasion);
            }
            // What was wrong with another spec or another engine says nothing of this one.
            Err(error) if now != Some(&occasion) => {
                tracing::info!(%error, "an attempt to make roles and databases has ended; they are wanted otherwise now");
                self.failures = 0;
                self.again_at = None;
            }
            Err(error) => {
                tracing::warn!(%error, "roles and databases could not be made");
                let pause = Duration::from_millis(500 << self.failures.min(6)).min(LONGEST_PAUSE);
                self.failures += 1;
                self.again_at = Some(Instant::now() + pause);
                self.state = Some(BootstrapState::Failed { error });
            }
        }
    }
}

impl Attempt {
    /// Ends a statement of [`bootstrap::run`], which may take for ever. The attempt ends with an error then.
    fn cancel(&self) {
        if let Some(token) = self.cancel.lock().clone() {
            tokio::spawn(async move {
                if let Err(error) = token.cancel_query(NoTls).await {
                    tracing::warn!(%error, "a statement of spec.bootstrap.sql could not be cancelled");
                }
            });
        }
    }
}

async fn make(place: Place, port: u16, bootstrap: Bootstrap, cancel: Cancel) -> Result<(), String> {
    let roles = async {
        let client = connect(&place.run, port, "postgres").await?;
        for (role, options, of) in [
            (SUPERUSER, "SUPERUSER LOGIN", "superuser"),
            (REPLICATION_ROLE, "LOGIN REPLICATION", "replication"),
            (bootstrap.owner.as_str(), "LOGIN", "app"),
        ] {
            let password = password(&place.password_file(of))?;
            role_is(&client, role, options, &password).await?;
        }
        database_is(&client, &bootstrap).await
    };
    let limit = |_| format!("not finished within {} s", LIMIT.as_secs());
    tokio::time::timeout(LIMIT, roles).await.map_err(limit)??;
    if bootstrap.sql.is_empty() {
        return Ok(());
    }
    let mut client = connect(&place.run, port, &bootstrap.database).await?;
    *cancel.lock() = Some(client.cancel_token());
    bootstrap::run(&mut client, &bootstrap.sql).await
}

/// As the superuser, over the socket that only this pod can reach.
pub async fn connect(folder: &Path, port: u16, database: &str) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(folder)
        .port(port)
        .user(SUPERUSER)
        .dbname(database)
        .application_name("understudy-operator")
        .options(SESSION)
        .connect_timeout(Duration::from_secs(5));
    let (client, connection) = config.connect(NoTls).await.map_err(|e| told(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the supervisor's own session broke");
        }
    });
    Ok(client)
}

/// The server's words, where they are the server's.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = db.message().to_owned();
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                text.push_str("; ");
                text.push_str(more);
            }
            text
        }
        None => error.to_string(),
    }
}

/// One line of text; Secrets are often written with a line's end.
fn password(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("the password in {} can't be read: {e}", file.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(format!(
            "the password in {} is empty; put one into the Secret",
            file.display()
        ));
    }
    Ok(text.to_owned())
}

async fn role_is(client: &Client, role: &str, options: &str, password: &str) -> Result<(), String> {
    let failed = |e: tokio_postgres::Error| format!("role {role}: {}", told(&e));
    let found = client
        .query_opt(
            "SELECT rolpassword, rolcanlogin, rolreplication FROM pg_catalog.pg_authid WHERE rolname = $1",
            &[&role],
        )
        .await
        .map_err(failed)?;
    let name = identifier(role);
    let verb = match found {
        None => "CREATE",
        Some(row) => {
            let stored: Option<String> = row.try_get(0).map_err(failed)?;
            let (logs_in, streams): (bool, bool) = (
                row.try_get(1).map_err(failed)?,
                row.try_get(2).map_err(failed)?,
            );
            let may = logs_in && (streams || !options.contains("REPLICATION"));
            if may && stored.is_some_and(|stored| passwords::fits(&stored, password)) {
                return Ok(());
            }
            "ALTER"
        }
    };
    let verifier = passwords::verifier(password);
    let statement = format!("{verb} ROLE {name} {options} PASSWORD '{verifier}'");
    client.batch_execute(&statement).await.map_err(failed)?;
    tracing::info!(role, "{verb} ROLE, with the password of the Secret");
    Ok(())
}

/// CREATE DATABASE can't be part of a transaction: it is there, or it is made. The one that `initdb` makes is there before
/// anybody asks for it, and is given to the owner, who could not make a table in it. Any other one that is there was made for
/// somebody: whose it is is nobody's to change.
async fn database_is(client: &Client, bootstrap: &Bootstrap) -> Result<(), String> {
    let database = &bootstrap.database;
    let failed = |e: tokio_postgres::Error| format!("database {database}: {}", told(&e));
    let found = client
        .query_opt(
            "SELECT a.rolname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_authid a ON a.oid = d.datdba WHERE d.datname = $1",
            &[database],
        )
        .await
        .map_err(failed)?;
    let (name, owner) = (identifier(database), identifier(&bootstrap.owner));
    let statement = match found {
        None => format!("CREATE DATABASE {name} OWNER {owner}"),
        Some(row) => {
            let has: String = row.try_get(0).map_err(failed)?;
            if database != INITIAL_DATABASE || has != SUPERUSER {
                return Ok(());
            }
            format!("ALTER DATABASE {name} OWNER TO {owner}")
        }
    };
    client.batch_execute(&statement).await.map_err(failed)?;
    tracing::info!(%database, %statement, "the application's database was made, or given to its owner");
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_secret_s_one_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("password");
        let said = password(&file).expect_err("missing");
        assert!(said.contains("can't be read"), "{said}");
        std::fs::write(&file, "\n").expect("written");
        assert!(password(&file).expect_err("empty").contains("is empty"));
        std::fs::write(&file, "a b \r\n").expect("written");
        assert_eq!(password(&file).as_deref(), Ok("a b "));
    }
}
