//! Functions that wait (`pg_promote`, `pg_backup_start`): expressions are computed without awaiting, so the
//! thread waits, and the runtime gives its other tasks to another thread meanwhile.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::environment::{Environment, to_type_error};
use crate::sql::error::SqlError;
use crate::types::error::TypeError;

/// Runs `work` to its end, or until the session is interrupted. Never called with a page latched.
pub(super) fn wait_for<T>(
    env: &Environment,
    work: impl Future<Output = T>,
) -> Result<T, TypeError> {
    let interrupts = Arc::clone(&env.facts.backend.interrupts);
    let handle = Handle::try_current()
        .ok()
        .filter(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread)
        .ok_or_else(|| TypeError::new("0A000", "this function can be called in a server only"))?;
    tokio::task::block_in_place(|| {
        handle.block_on(async {
            tokio::select! {
                biased;
                interrupt = interrupts.wait() => Err(to_type_error(SqlError::from(interrupt))),
                done = work => Ok(done),
            }
        })
    })
}
