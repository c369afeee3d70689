//! What the listener asks of the node: who may come in, and what becomes of those who did.

use std::sync::Arc;

use crate::catalog::rights::{Holder, READ_ALL_SETTINGS};
use crate::catalog::rows::DbRoleSettingRow;
use crate::catalog::view::{CatalogError, CatalogView, Database, Role};
use crate::catalog::{Catalog, SessionCatalog};
use crate::config::{Settings, StoredFor};
use crate::ids::{Oid, ProcessId};
use crate::node::services::NodeServices;
use crate::node::walsender::NodeReplication;
use crate::recovery::Phase;
use crate::server::cli::signals::ShutdownMode;
use crate::server::connection::Connection;
use crate::server::host::{Accepting, Host, NewSession, ReplicationPeer};
use crate::server::walsender;
use crate::sql::error::SqlError;
use crate::sql::session::{Backends, Session};
use crate::txn::{Interrupts, Isolation, TxnOptions};
use crate::types::acl::Privileges;
use parking_lot::Mutex;

pub struct NodeHost {
    pub services: Arc<NodeServices>,
    pub replication: Arc<NodeReplication>,
    /// What the administrator has asked for.
    pub stopping: Mutex<Option<ShutdownMode>>,
}

impl NodeHost {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.services.instance.catalog
    }

    /// Asks the catalog outside of any session.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&SessionCatalog<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, SqlError> {
        let txns = &self.services.instance.txns;
        let txn = txns.begin(catalog_reader(), Interrupts::new(ProcessId::MIN));
        Ok(ask(&self.catalog().view(
            Oid::INVALID,
            &txn,
            &[],
            Oid::INVALID,
        ))?)
    }
}

impl NodeHost {
    /// `pg_db_role_setting` for a session: what counts more behind.
    fn stored_settings(
        &self,
        role: Oid,
        database: Oid,
    ) -> Result<Vec<(StoredFor, String, String)>, SqlError> {
        let txns = &self.services.instance.txns;
        let txn = txns.begin(catalog_reader(), Interrupts::new(ProcessId::MIN));
        let system = self.catalog().system(Oid::INVALID);
        let rows = self
            .catalog()
            .cx(&system, Oid::INVALID)
            .scan::<DbRoleSettingRow>(&txns.catalog_snapshot(&txn))?;
        let mut found = Vec::new();
        for (_, row) in rows {
            let of_role = row.setrole == role;
            let of_database = row.setdatabase == database;
            let whose = match (row.setrole, row.setdatabase) {
                (Oid::INVALID, Oid::INVALID) => StoredFor::All,
                (Oid::INVALID, _) if of_database => StoredFor::Database,
                (_, Oid::INVALID) if of_role => StoredFor::Role,
                _ if of_role && of_database => StoredFor::RoleInDatabase,
                _ => continue,
            };
            let entries = row.setconfig.map(|list| list.0).unwrap_or_default();
            found.extend(entries.into_iter().filter_map(|entry| {
                let (name, value) = entry.split_once('=')?;
                Some((whose, name.to_owned(), value.to_owned()))
            }));
        }
        found.sort_by_key(|(whose, ..)| *whose);
        Ok(found)
    }
}

fn catalog_reader() -> TxnOptions {
    TxnOptions {
        isolation: Isolation::ReadCommitted,
        read_only: true,
        deferrable: false,
        database: Oid::INVALID,
    }
}

impl Host for NodeHost {
    type Session = Session<NodeServices>;

    fn settings(&self) -> &Settings {
        &self.services.instance.settings
    }

    fn backends(&self) -> &Arc<Backends> {
        &self.services.backends
    }

    fn accepting(&self) -> Accepting {
        match *self.stopping.lock() {
            Some(ShutdownMode::Smart) => return Accepting::Draining,
            Some(_) => return Accepting::ShuttingDown,
            None => {}
        }
        let instance = &self.services.instance;
        let hot_standby = instance.settings.current().hot_standby;
        match instance.state.phase() {
            Phase::Starting => Accepting::StartingUp,
            Phase::Replaying => Accepting::NotConsistent { hot_standby },
            Phase::Consistent if !hot_standby => Accepting::NotConsistent { hot_standby },
            Phase::Consistent | Phase::Writing => Accepting::Yes,
        }
    }

    fn role(&self, name: &str) -> Result<Option<Role>, SqlError> {
        self.ask(|catalog| catalog.role_named(name))
    }

    fn database(&self, name: &str) -> Result<Option<Database>, SqlError> {
        self.ask(|catalog| catalog.database_named(name))
    }

    fn is_member(&self, role: &Role, of: &str) -> Result<bool, SqlError> {
        let Some(target) = self.role(of)? else {
            return Ok(false);
        };
        // Superusers are not everything here: a rule for a group is for those whom somebody has put into it.
        self.ask(|catalog| Holder::new(catalog, role.oid)?.is_member_of(target.oid))
    }

    fn may_connect(&self, role: &Role, database: &Database) -> Result<bool, SqlError> {
        let txns = &self.services.instance.txns;
        let txn = txns.begin(catalog_reader(), Interrupts::new(ProcessId::MIN));
        let view = self.catalog().view(database.oid, &txn, &[], Oid::INVALID);
        let may = Holder::new(&view, role.oid)?.on_database(database)?;
        Ok(may.contains(Privileges::CONNECT))
    }

    fn mock_secret(&self) -> Vec<u8> {
        self.services.instance.store.control.get().nonce.to_vec()
    }

    async fn open(&self, new: NewSession) -> Result<Session<NodeServices>, SqlError> {
        let database = new
            .database
            .ok_or_else(|| SqlError::internal("a session needs a database"))?;
        let services = Arc::clone(&self.services);
        services
            .enter_database(&database, &new.backend.interrupts)
            .await?;
        let stored = self.stored_settings(new.role.oid, database.oid)?;
        let interrupts = Arc::clone(&new.backend.interrupts);
        let session = Session::open(
            services,
            new.backend,
            &new.role,
            &database,
            &new.settings,
            &stored,
        )?;
        let delay = session.post_auth_delay();
        if !delay.is_zero() {
            interrupts.sleep(delay).await?;
        }
        Ok(session)
    }

    async fn replicate(
        &self,
        connection: &mut Connection,
        new: NewSession,
        peer: ReplicationPeer,
    ) -> Result<(), SqlError> {
        let reads_secrets =
            self.ask(|view| Holder::new(view, new.role.oid)?.acts_as(READ_ALL_SETTINGS))?;
        walsender::serve(connection, &*self.replication, new, peer, reads_secrets).await
    }
}
