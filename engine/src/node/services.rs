//! What sessions run on.

use std::sync::Arc;

use crate::catalog::view::{CatalogView, Role};
use crate::config::Settings;
use crate::ids::Oid;
use crate::instance::Instance;
use crate::recovery::CheckpointKind;
use crate::sql::ddl::{self, DdlCx};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::VirtualTables;
use crate::sql::front::Statement;
use crate::sql::host::{Environment, ServerHost};
use crate::sql::pg_catalog::SystemTables;
use crate::sql::session::services::{Answer, CopyPort};
use crate::sql::session::{Backends, Services, SessionFacts, UtilityCall};
use crate::storage::Store;
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
        let view = self.instance.catalog.view(facts.database, txn, &[], "");
        let gone = || SqlError::new("42704", format!("role with OID {oid} does not exist"));
        view.role(oid)?.ok_or_else(gone)
    }

    async fn define(
        &self,
        call: UtilityCall<'_>,
        txn: &mut Transaction,
    ) -> Result<String, SqlError> {
        let roles = call.facts.roles.load_full();
        let user = self.role(roles.current.oid, call.facts, txn)?;
        let session_user = self.role(roles.session.oid, call.facts, txn)?;
        let mut cx = DdlCx {
            catalog: &self.instance.catalog,
            oids: &self.instance.oids,
            sequences: &self.instance.sequences,
            database: call.facts.database,
            txn,
            user: &user,
            session_user: &session_user,
            path: &call.settings.search_path,
            functions: call.function,
            source: call.source,
            notices: call.notices,
        };
        ddl::run(call.statement, &mut cx).await
    }

    async fn checkpoint(&self, call: &UtilityCall<'_>) -> Result<String, SqlError> {
        if !call.facts.current_role().superuser {
            let message = "must be superuser or have privileges of pg_checkpoint to do CHECKPOINT";
            return Err(SqlError::new(state::INSUFFICIENT_PRIVILEGE, message));
        }
        let done = self
            .instance
            .checkpointer
            .checkpoint(CheckpointKind::Immediate)
            .await;
        done.map_err(|reason| {
            SqlError::new(state::IO_ERROR, format!("checkpoint failed: {reason}"))
        })?;
        Ok("CHECKPOINT".to_owned())
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

    fn catalog<'a>(
        &'a self,
        database: Oid,
        txn: &'a Transaction,
        path: &'a [String],
        user: &'a str,
    ) -> Box<dyn CatalogView + 'a> {
        Box::new(self.instance.catalog.view(database, txn, path, user))
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
        _txn: &'a mut Transaction,
        _port: &'a mut dyn CopyPort,
    ) -> Answer<'a, String> {
        Box::pin(async move { Err(not_implemented(call.statement)) })
    }

    fn maintenance<'a>(&'a self, call: UtilityCall<'a>) -> Answer<'a, String> {
        Box::pin(async move {
            match call.statement {
                Statement::Checkpoint => self.checkpoint(&call).await,
                other => Err(not_implemented(other)),
            }
        })
    }
}
