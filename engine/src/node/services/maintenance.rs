//! CHECKPOINT, VACUUM, ANALYZE for sessions.

use super::NodeServices;
use crate::catalog::rights::CHECKPOINT;
use crate::catalog::view::Role;
use crate::recovery::CheckpointKind;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::Vacuum;
use crate::sql::maintenance::{self, Request, Work};
use crate::sql::session::{UtilityCall, commit_level};
use crate::txn::Transaction;

impl NodeServices {
    fn work<'a>(&'a self, call: &'a UtilityCall<'_>, user: &'a Role) -> Work<'a> {
        Work {
            instance: &self.instance,
            database: call.facts.database,
            database_name: &call.facts.database_name,
            interrupts: &call.facts.backend.interrupts,
            level: commit_level(call.settings.synchronous_commit),
            user: Some(user),
            memory: call.settings.maintenance_work_mem,
            statistics_target: call.settings.default_statistics_target as usize,
        }
    }

    pub(super) async fn vacuum(
        &self,
        statement: &Vacuum,
        call: UtilityCall<'_>,
    ) -> Result<String, SqlError> {
        let mut notices = Vec::new();
        let user = {
            let alone = super::alone::Alone::of(&self.instance, &call);
            self.roles(call.facts, &alone.begin(true))?.0
        };
        let done = {
            let work = self.work(&call, &user);
            let request = Request {
                statement,
                path: &call.settings.search_path,
                role: user.oid,
                notices: &mut notices,
            };
            maintenance::run(&work, request).await
        };
        call.notices.append(&mut notices);
        done
    }

    /// ANALYZE in the session's transaction.
    pub(super) async fn analyze_in(
        &self,
        statement: &Vacuum,
        call: UtilityCall<'_>,
        txn: &mut Transaction,
    ) -> Result<String, SqlError> {
        let mut notices = Vec::new();
        let (user, _) = self.roles(call.facts, txn)?;
        let done = {
            let work = self.work(&call, &user);
            let request = Request {
                statement,
                path: &call.settings.search_path,
                role: user.oid,
                notices: &mut notices,
            };
            maintenance::run_in(&work, request, txn).await
        };
        call.notices.append(&mut notices);
        done
    }

    pub(super) async fn checkpoint(&self, call: &UtilityCall<'_>) -> Result<String, SqlError> {
        if !self.environment(call.facts).acts_as(CHECKPOINT)? {
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
