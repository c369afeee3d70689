//! COPY: the client's side of it, which other rooms feed and read through [`CopyPort`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::lifecycle::Session;
use super::output::{CopyInput, Format, Output};
use super::services::{Services, UtilityCall};
use super::sink::gone;
use super::transaction::in_failed_block;
use crate::sql::error::SqlError;
use crate::sql::front::Statement;
use crate::sql::front::ast::{Copy, CopyDirection};
use crate::txn::Due;

type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlError>> + Send + 'a>>;

/// The client during COPY.
pub trait CopyPort: Send {
    /// CopyInResponse: the client is to send.
    fn begin_in(&mut self, format: Format, columns: usize);
    /// CopyOutResponse
    fn begin_out(&mut self, format: Format, columns: usize);
    /// One CopyData message; false: [`CopyPort::flush`] before the next.
    fn data(&mut self, bytes: &[u8]) -> bool;
    fn end_out(&mut self);
    fn flush(&mut self) -> Later<'_, ()>;
    /// What the client sends next; flushes first.
    fn receive(&mut self) -> Later<'_, CopyInput>;
}

struct Port<'a, O: Output>(&'a mut O);

impl<O: Output> CopyPort for Port<'_, O> {
    fn begin_in(&mut self, format: Format, columns: usize) {
        self.0.copy_in(format, columns);
    }
    fn begin_out(&mut self, format: Format, columns: usize) {
        self.0.copy_out(format, columns);
    }
    fn data(&mut self, bytes: &[u8]) -> bool {
        self.0.copy_data(bytes);
        !self.0.is_full()
    }
    fn end_out(&mut self) {
        self.0.copy_done();
    }
    fn flush(&mut self) -> Later<'_, ()> {
        Box::pin(async { self.0.flush().await.map_err(|_| gone()) })
    }
    fn receive(&mut self) -> Later<'_, CopyInput> {
        Box::pin(async {
            self.0.flush().await.map_err(|_| gone())?;
            self.0.receive_copy().await
        })
    }
}

impl<S: Services> Session<S> {
    pub(super) async fn copy<O: Output>(
        &mut self,
        copy: &Copy,
        source: &Arc<str>,
        out: &mut O,
    ) -> Result<String, SqlError> {
        self.ensure_transaction()?;
        self.wait_until_readable().await?;
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let (services, facts) = (Arc::clone(&self.services), Arc::clone(&self.facts));
        let statement = Statement::Copy(Box::new(copy.clone()));
        let snapshot = Some(self.snapshot()?);
        let mut notices = Vec::new();
        let call = UtilityCall {
            statement: &statement,
            source,
            facts: &facts,
            settings: &settings,
            function: &function,
            snapshot,
            in_use: &[],
            notices: &mut notices,
        };
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        if copy.direction == CopyDirection::From && r.txn.options().read_only {
            return Err(SqlError::read_only("COPY FROM"));
        }
        r.queried = true;
        let _own = facts.own_catalog(services.txns(), &r.txn);
        let mut port = Port(out);
        let done = services.copy(call, &mut r.txn, &mut port).await;
        let done = match done {
            Ok(tag) => r.txn.next_command().map(|()| tag).map_err(SqlError::from),
            Err(e) => Err(e),
        };
        for notice in &notices {
            self.notice(out, notice);
        }
        let tag = done.map_err(|e| e.located(source))?;
        self.enforce_references(Due::Statement).await?;
        Ok(tag)
    }
}
