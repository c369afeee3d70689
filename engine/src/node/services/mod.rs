//! What sessions run on, by trade: `copy`, `databases`, `maintenance`, `reindex`; definitions are here.

mod alone;
mod copy;
mod databases;
mod maintenance;
mod reindex;

use std::sync::Arc;

use crate::catalog::session::CatalogClock;
use crate::catalog::view::{CatalogView, Role};
use crate::config::Settings;
use crate::ids::Oid;
use crate::instance::Instance;
use crate::sql::ddl::{self, DdlCx};
use crate::sql::error::SqlError;
use crate::sql::exec::VirtualTables;
use crate::sql::front::Statement;
use crate::sql::host::{Environment, ServerHost};
use crate::sql::pg_catalog::SystemTables;
use crate::sql::session::services::{Answer, CopyPort};
use crate::sql::session::{Backends, Services, SessionFacts, UtilityCall};
use crate::storage::Store;
use crate::table::TableChanges;
use crate::txn::{Transaction, TxnManager};
use crate::types::function::Host;

pub struct NodeServices {
    pub instance: Arc<Instance>,
    pub backends: Arc<Backends>,
}

impl NodeServices {
    fn environment(&self, facts: &Arc<SessionFacts>) -> Environment {
        let (instance, backends) = (Arc::clone(&self.instance), Arc::clone(&self.backends));
        Environment::new(instance, backends, Arc::clone(facts))
    }

    /// The role with its rights, as the transaction sees it.
    fn role(&self, oid: Oid, facts: &SessionFacts, txn: &Transaction) -> Result<Role, SqlError> {
        let view = self
            .instance
            .catalog
            .view(facts.database, txn, &[], Oid::INVALID);
        let gone = || SqlError::new("42704", format!("role with OID {oid} does not exist"));
        view.role(oid)?.ok_or_else(gone)
    }

    /// The current and the session's role.
    fn roles(&self, facts: &SessionFacts, txn: &Transaction) -> Result<(Role, Role), SqlError> {
        let roles = facts.roles.load_full();
        let current = self.role(roles.current.oid, facts, txn)?;
        let session = self.role(roles.session.oid, facts, txn)?;
        Ok((current, session))
    }

    fn ddl<'a>(
        &'a self,
        call: UtilityCall<'a>,
        txn: &'a mut Transaction,
        user: &'a Role,
        session_user: &'a Role,
    ) -> DdlCx<'a> {
        DdlCx {
            catalog: &self.instance.catalog,
            oids: &self.instance.oids,
            sequences: &self.instance.sequences,
            database: call.facts.database,
            txn,
            user,
            session_user,
            path: &call.settings.search_path,
            functions: call.function,
            facts: Some(call.facts),
            in_use: call.in_use,
            source: call.source,
            notices: call.notices,
        }
    }

    async fn define(
        &self,
        call: UtilityCall<'_>,
        txn: &mut Transaction,
    ) -> Result<String, SqlError> {
        if let Statement::Vacuum(v) = call.statement {
            return self.analyze_in(v, call, txn).await;
        }
        let (user, session_user) = self.roles(call.facts, txn)?;
        let statement = call.statement;
        let mut cx = self.ddl(call, txn, &user, &session_user);
        ddl::run(statement, &mut cx).await
    }
}

/// A command that this version parses but cannot run yet.
fn not_implemented(statement: &Statement) -> SqlError {
    SqlError::unsupported(format!("{} is not implemented yet", statement.tag()))
}

impl Services for NodeServices {
    fn settings(&self) -> &Arc<Settings> {
        &self.instance.settings
    }
    fn txns(&self) -> &Arc<TxnManager> {
        &self.instance.txns
    }
    fn backends(&self) -> &Arc<Backends> {
        &self.backends
    }
    fn store(&self) -> &Arc<Store> {
        &self.instance.store
    }

    fn changes(&self) -> &TableChanges {
        &self.instance.changes
    }

    fn catalog<'a>(
        &'a self,
        database: Oid,
        txn: &'a Transaction,
        path: &'a [String],
        user: Oid,
    ) -> Box<dyn CatalogView + 'a> {
        Box::new(self.instance.catalog.view(database, txn, path, user))
    }

    fn catalog_clock(&self, database: Oid) -> CatalogClock {
        self.instance.catalog.clock(database)
    }

    fn host(&self, facts: &Arc<SessionFacts>) -> Arc<dyn Host> {
        Arc::new(ServerHost {
            env: self.environment(facts),
        })
    }

    fn virtual_tables(&self, facts: &Arc<SessionFacts>) -> Arc<dyn VirtualTables> {
        Arc::new(SystemTables {
            env: self.environment(facts),
        })
    }

    fn utility<'a>(
        &'a self,
        call: UtilityCall<'a>,
        txn: &'a mut Transaction,
    ) -> Answer<'a, String> {
        Box::pin(self.define(call, txn))
    }

    fn copy<'a>(
        &'a self,
        call: UtilityCall<'a>,
        txn: &'a mut Transaction,
        port: &'a mut dyn CopyPort,
    ) -> Answer<'a, String> {
        Box::pin(self.run_copy(call, txn, port))
    }

    fn maintenance<'a>(&'a self, call: UtilityCall<'a>) -> Answer<'a, String> {
        Box::pin(async move {
            match call.statement {
                Statement::Checkpoint => self.checkpoint(&call).await,
                Statement::Vacuum(v) => self.vacuum(v, call).await,
                Statement::Reindex(s) => self.reindex(s, call).await,
                Statement::CreateDatabase(s) => self.create_database(s, call).await,
                Statement::DropDatabase(s) => self.drop_database(s, call).await,
                other => Err(not_implemented(other)),
            }
        })
    }
}
