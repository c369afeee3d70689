//! COPY: what the copy room runs with, taken from the session.

use std::sync::Arc;

use super::NodeServices;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::copy::{self, CatalogOf, CopyCall};
use crate::sql::error::SqlError;
use crate::sql::exec::{ExecCx, MemoryLimits, TempSpace};
use crate::sql::front::Statement;
use crate::sql::maintenance::key_of;
use crate::sql::session::query::{STATEMENT_MEMORY, planner_settings};
use crate::sql::session::{CopyPort, Services, UtilityCall};
use crate::txn::Transaction;

/// The catalog for one session's statement.
struct SeenBy<'a> {
    services: &'a NodeServices,
    database: Oid,
    path: &'a [String],
    role: Oid,
}

impl CatalogOf for SeenBy<'_> {
    fn view<'v>(&'v self, txn: &'v Transaction) -> Box<dyn CatalogView + 'v> {
        let catalog = &self.services.instance.catalog;
        Box::new(catalog.view(self.database, txn, self.path, self.role))
    }
}

impl NodeServices {
    pub(super) async fn run_copy(
        &self,
        call: UtilityCall<'_>,
        txn: &mut Transaction,
        port: &mut dyn CopyPort,
    ) -> Result<String, SqlError> {
        let Statement::Copy(copy) = call.statement else {
            return Err(SqlError::internal("not a COPY"));
        };
        let snapshot = call
            .snapshot
            .ok_or_else(|| SqlError::internal("COPY runs with a snapshot"))?;
        let (facts, settings) = (call.facts, call.settings);
        let planner = planner_settings(settings);
        let role = facts.current_role().oid;
        let catalog = SeenBy {
            services: self,
            database: facts.database,
            path: &settings.search_path,
            role,
        };
        let run = CopyCall {
            copy,
            source: call.source,
            settings: &planner,
            catalog: &catalog,
            exec: ExecCx {
                store: Arc::clone(&self.instance.store),
                txns: Arc::clone(&self.instance.txns),
                snapshot,
                isolation: txn.options().isolation,
                function: Arc::clone(call.function),
                interrupts: Arc::clone(&facts.backend.interrupts),
                virtuals: self.virtual_tables(facts),
                limits: MemoryLimits {
                    work: settings.work_mem,
                    hash: settings.hash_mem(),
                    statement: STATEMENT_MEMORY.max(settings.hash_mem()),
                },
                temp: TempSpace::new(Arc::clone(&self.instance.store.disk), facts.backend.pid),
                instrument: false,
            },
        };
        let done = copy::run(run, txn, port).await?;
        if let Some(table) = &done.into {
            let (of, oid) = key_of(facts.database, table);
            self.instance.changes.add(of, oid, done.rows, false);
        }
        Ok(done.tag())
    }
}
