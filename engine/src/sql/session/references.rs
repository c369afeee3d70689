//! Foreign keys: what has to be looked at behind a statement, and before a transaction ends.

use std::sync::Arc;

use super::lifecycle::Session;
use super::query::STATEMENT_MEMORY;
use super::services::Services;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::MemoryLimits;
use crate::sql::references::{Enforcer, Surroundings, Views};
use crate::txn::{Due, Transaction};

struct ByRole<'s, S> {
    services: &'s S,
    database: Oid,
}

impl<S: Services> Views for ByRole<'_, S> {
    fn view<'v>(&'v self, txn: &'v Transaction, role: Oid) -> Box<dyn CatalogView + 'v> {
        // Its statements name schemas: the search path plays no part.
        self.services.catalog(self.database, txn, &[], role)
    }
}

impl<S: Services> Session<S> {
    /// Deals with the changed rows that foreign keys have to look at now.
    pub(super) async fn enforce_references(&mut self, due: Due) -> Result<(), SqlError> {
        let waiting = self.block.running().map(|r| r.txn.row_events().any(due));
        if waiting != Some(true) {
            return Ok(());
        }
        // Apart, so that statements without references carry nothing of it.
        Box::pin(self.deal_with_references(due)).await
    }

    async fn deal_with_references(&mut self, due: Due) -> Result<(), SqlError> {
        self.wait_until_readable().await?;
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let unconfirmed = !self.services.txns().snapshots_open() && self.reads_unconfirmed();
        let services = Arc::clone(&self.services);
        let facts = Arc::clone(&self.facts);
        let Some(running) = self.block.running() else {
            return Ok(());
        };
        let views = ByRole {
            services: &*services,
            database: facts.database,
        };
        let around = Surroundings {
            views: &views,
            store: services.store(),
            txns: services.txns(),
            function: &function,
            limits: MemoryLimits {
                work: settings.work_mem,
                hash: settings.hash_mem(),
                statement: STATEMENT_MEMORY.max(settings.hash_mem()),
            },
            user: facts.current_role().oid,
            snapshot: running.snapshot.clone(),
            unconfirmed,
            changes: Some(services.changes()),
        };
        let _own = facts.own_catalog(services.txns(), &running.txn);
        let kept = self.references.get_mut();
        Enforcer::new(around, kept).run(&mut running.txn, due).await
    }
}
