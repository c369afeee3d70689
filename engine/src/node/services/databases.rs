//! CREATE and DROP DATABASE: transactions of their own, and who has to be gone before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::NodeServices;
use super::alone::Alone;
use crate::catalog::database::{self, Directory};
use crate::ids::{Oid, ProcessId};
use crate::sql::ddl::{self, DroppedDatabase, Vacate};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{CreateDatabase, DropDatabase};
use crate::sql::session::{Backend, Backends, UtilityCall};
use crate::txn::{CommitLevel, Interrupt, Interrupts};

/// How long others have to go; PostgreSQL's 50 tries of 100 ms.
const PATIENCE: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// The sessions of a database besides the one that asks.
struct Others<'a> {
    backends: &'a Backends,
    own: ProcessId,
    interrupts: &'a Interrupts,
}

impl Others<'_> {
    fn there(&self, database: Oid) -> Vec<Arc<Backend>> {
        let mut there = self.backends.all();
        there.retain(|b| b.database == database && b.pid != self.own);
        there
    }

    async fn gone(&self, database: Oid, force: bool) -> Result<usize, SqlError> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let there = self.there(database);
            if there.is_empty() || tokio::time::Instant::now() >= until {
                return Ok(there.len());
            }
            if force {
                for backend in &there {
                    backend.interrupts.raise(Interrupt::Terminate);
                }
            }
            self.interrupts.check()?;
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

impl Vacate for Others<'_> {
    fn users(&self, database: Oid) -> Vec<Oid> {
        self.there(database).iter().map(|b| b.user).collect()
    }

    fn vacate(
        &self,
        database: Oid,
        force: bool,
    ) -> Pin<Box<dyn Future<Output = Result<usize, SqlError>> + Send + '_>> {
        Box::pin(self.gone(database, force))
    }
}

impl NodeServices {
    fn others<'a>(&'a self, alone: &'a Alone) -> Others<'a> {
        Others {
            backends: &self.backends,
            own: alone.pid,
            interrupts: &alone.interrupts,
        }
    }

    pub(super) async fn create_database(
        &self,
        statement: &CreateDatabase,
        call: UtilityCall<'_>,
    ) -> Result<String, SqlError> {
        let alone = Alone::of(&self.instance, &call);
        let mut txn = alone.begin(false);
        let source = call.source;
        let made = {
            let (user, session_user) = self.roles(call.facts, &txn)?;
            let mut cx = self.ddl(call, &mut txn, &user, &session_user);
            ddl::create_database(statement, &mut cx, &self.others(&alone)).await
        };
        if let Err(error) = made {
            self.instance.txns.abort(txn);
            return Err(error.located(source));
        }
        alone.commit(txn, CommitLevel::Local).await?;
        Ok("CREATE DATABASE".to_owned())
    }

    /// The row goes in a transaction; the files when nobody can see the row any more.
    pub(super) async fn drop_database(
        &self,
        statement: &DropDatabase,
        call: UtilityCall<'_>,
    ) -> Result<String, SqlError> {
        let alone = Alone::of(&self.instance, &call);
        let mut txn = alone.begin(false);
        let source = call.source;
        let begun = {
            let (user, session_user) = self.roles(call.facts, &txn)?;
            let mut cx = self.ddl(call, &mut txn, &user, &session_user);
            DroppedDatabase::begin(statement, &mut cx, &self.others(&alone)).await
        };
        let dropped = match begun {
            Ok(dropped) => dropped,
            Err(error) => {
                self.instance.txns.abort(txn);
                return Err(error.located(source));
            }
        };
        alone.commit(txn, CommitLevel::Local).await?;
        if let Some(dropped) = dropped {
            self.instance.changes.forget_database(dropped.0);
            ddl::finish_drop(&self.instance.catalog, dropped)?;
        }
        Ok("DROP DATABASE".to_owned())
    }

    /// A session of this database may begin: nobody is copying or dropping it, and it is still there. From here
    /// on those who want to do that see the session's entry and wait for its end.
    pub async fn enter_database(
        &self,
        wanted: &crate::catalog::view::Database,
        interrupts: &Arc<Interrupts>,
    ) -> Result<(), SqlError> {
        use crate::catalog::view::CatalogView;
        let alone = Alone {
            instance: Arc::clone(&self.instance),
            interrupts: Arc::clone(interrupts),
            pid: interrupts.pid(),
            database: wanted.oid,
            level: CommitLevel::Local,
        };
        let mut txn = alone.begin(true);
        ddl::lock_database(&self.instance.txns, &mut txn, wanted.oid).await?;
        let found = {
            let view = self
                .instance
                .catalog
                .view(wanted.oid, &txn, &[], Oid::INVALID);
            view.database(wanted.oid)?
        };
        let fatal = |message: String| SqlError::fatal(state::UNDEFINED_DATABASE, message);
        if found.is_none_or(|d| d.name != wanted.name) {
            return Err(
                fatal(format!("database \"{}\" does not exist", wanted.name))
                    .detail("It seems to have just been dropped or renamed."),
            );
        }
        match database::look_at_directory(&self.instance.catalog, wanted.oid)? {
            Directory::Missing => {
                Err(
                    fatal(format!("database \"{}\" does not exist", wanted.name)).detail(format!(
                        "The database subdirectory \"base/{}\" is missing.",
                        wanted.oid
                    )),
                )
            }
            found => is_whole(wanted.oid, &found),
        }
    }
}

/// What PostgreSQL says of a directory whose version file is not right.
fn is_whole(database: Oid, found: &Directory) -> Result<(), SqlError> {
    let fatal = |message: String| SqlError::fatal(state::INVALID_PARAMETER_VALUE, message);
    let invalid = |what: &str| {
        fatal(format!("\"base/{database}\" is not a valid data directory"))
            .detail(format!("File \"base/{database}/PG_VERSION\" {what}."))
            .hint("Its only line is the major version, 15.")
    };
    match found {
        Directory::Whole | Directory::Missing => Ok(()),
        Directory::NoVersion => Err(invalid("is missing")),
        Directory::BadVersion => Err(invalid("does not contain valid data")),
        Directory::OtherVersion(version) => Err(fatal(
            "database files are incompatible with server".to_owned(),
        )
        .detail(format!(
            "File \"base/{database}/PG_VERSION\" says version {version}, which is not compatible with this version 15."
        ))),
    }
}
