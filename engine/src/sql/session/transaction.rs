//! BEGIN, COMMIT, ROLLBACK, savepoints, and what errors do to the transaction.

use std::sync::Arc;

use super::block::{Block, Running};
use super::lifecycle::Session;
use super::output::Output;
use super::prepared::Portal;
use super::services::Services;
use crate::config::SessionStore;
use crate::config::session::{Isolation as Level, SynchronousCommit};
use crate::ids::Lsn;
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::front::ast::{IsolationLevel, TransactionMode, TransactionStatement};
use crate::txn::{CommitError, CommitLevel, Due, Isolation, Transaction, TxnManager, TxnOptions};

fn serializable() -> SqlError {
    SqlError::unsupported("isolation level SERIALIZABLE is not implemented")
        .hint("Use REPEATABLE READ, or explicit locks.")
}

/// What `synchronous_commit` asks for.
pub fn commit_level(s: SynchronousCommit) -> CommitLevel {
    match s {
        SynchronousCommit::Off => CommitLevel::Off,
        SynchronousCommit::Local => CommitLevel::Local,
        SynchronousCommit::RemoteWrite => CommitLevel::RemoteWrite,
        SynchronousCommit::On => CommitLevel::On,
        SynchronousCommit::RemoteApply => CommitLevel::RemoteApply,
    }
}

/// For SHOW. READ UNCOMMITTED is READ COMMITTED under the name that was asked for.
fn show_options(store: &mut SessionStore, options: &TxnOptions, uncommitted: bool) {
    let level = match options.isolation {
        Isolation::RepeatableRead => Level::RepeatableRead,
        Isolation::ReadCommitted if uncommitted => Level::ReadUncommitted,
        Isolation::ReadCommitted => Level::ReadCommitted,
    };
    store.put_transaction(level, options.read_only, options.deferrable);
}

/// Numbers of sequences count as given out once the commit is acknowledged, so the records that reserved them have to
/// be as safe as it is. A transaction that wrote nothing else gets an id for that: its commit record then stands
/// behind them.
async fn commit_behind(
    txns: &TxnManager,
    mut txn: Transaction,
    level: CommitLevel,
    reserved: Option<Lsn>,
) -> Result<Option<Lsn>, CommitError> {
    if let Some(reserved) = reserved
        && txn.top_xid().is_none()
        && level > CommitLevel::Off
        && !txns.release().is_safe(reserved)
    {
        txns.xid(&mut txn)?;
    }
    txns.commit(txn, level).await
}

impl<S: Services> Session<S> {
    fn default_options(&self) -> TxnOptions {
        let store = self.facts.settings.lock();
        let s = store.settings();
        TxnOptions {
            isolation: match s.default_transaction_isolation {
                Level::RepeatableRead => Isolation::RepeatableRead,
                Level::ReadCommitted | Level::ReadUncommitted => Isolation::ReadCommitted,
            },
            read_only: s.default_transaction_read_only || self.services.txns().in_recovery(),
            deferrable: s.default_transaction_deferrable,
            database: self.facts.database,
        }
    }

    fn begin_transaction(&mut self, options: TxnOptions) -> Box<Running> {
        let interrupts = Arc::clone(&self.facts.backend.interrupts);
        let txns = self.services.txns();
        let txn = txns.begin_at(options, interrupts, self.received);
        self.facts.backend.activity.lock().transaction_start = Some(txn.started_at());
        {
            let mut store = self.facts.settings.lock();
            store.begin_level();
            let default = store.settings().default_transaction_isolation;
            show_options(&mut store, &options, default == Level::ReadUncommitted);
        }
        Box::new(Running {
            txn,
            snapshot: None,
            queried: false,
        })
    }

    /// The transaction a statement runs in; starts one if there is none.
    pub(super) fn ensure_transaction(&mut self) -> Result<(), SqlError> {
        match self.block {
            Block::Idle => {
                let options = self.default_options();
                let running = self.begin_transaction(options);
                self.block = Block::Implicit(running);
                Ok(())
            }
            Block::Implicit(_) | Block::Open(_) => Ok(()),
            Block::Failed(_) => Err(in_failed_block()),
        }
    }

    /// Commits whatever runs, with what `synchronous_commit` asks for.
    async fn commit(&mut self) -> Result<(), SqlError> {
        match std::mem::take(&mut self.block) {
            Block::Idle | Block::Failed(None) => Ok(()),
            Block::Failed(Some(r)) => {
                self.services.txns().abort(r.txn);
                Ok(())
            }
            Block::Implicit(mut r) | Block::Open(mut r) => {
                // Nothing may hold the horizon while the commit waits for standbys.
                drop(r.snapshot.take());
                let reserved = self.facts.sequences.must_be_safe();
                let txns = self.services.txns();
                let done = if reserved.is_none() && r.txn.top_xid().is_none() {
                    txns.end_reading(&mut r.txn);
                    Ok(None)
                } else {
                    let level = commit_level(self.settings().synchronous_commit);
                    commit_behind(txns, r.txn, level, reserved).await
                };
                self.end_levels(done.is_ok());
                done.map(|_| ()).map_err(SqlError::from)
            }
        }
    }

    /// Rolls back whatever runs.
    pub(super) fn roll_back(&mut self) {
        if let Block::Implicit(r) | Block::Open(r) | Block::Failed(Some(r)) =
            std::mem::take(&mut self.block)
        {
            self.services.txns().abort(r.txn);
        }
        self.end_levels(false);
    }

    /// Before the client sees what was done without a commit: numbers that were drawn must not come again after a
    /// crash. (A commit waits for more than that.)
    pub(super) async fn keep_numbers(&mut self) {
        if matches!(self.block, Block::Implicit(_)) {
            return;
        }
        let Some(lsn) = self.facts.sequences.to_be_flushed() else {
            return;
        };
        self.services.store().wal.flushed(lsn).await;
        if !self.block.is_block() {
            // Its transaction was rolled back: no commit will ask.
            let _ = self.facts.sequences.must_be_safe();
        }
    }

    /// The settings' levels end with the transaction.
    fn end_levels(&mut self, committed: bool) {
        self.executed = false;
        let before = {
            let mut store = self.facts.settings.lock();
            let before = store.changes();
            while store.levels() > 0 {
                if committed {
                    store.commit_level()
                } else {
                    store.abort_level()
                }
            }
            before
        };
        self.restore_roles();
        let changed = self.facts.settings.lock().changes() != before;
        if changed {
            self.apply_settings();
        }
    }

    /// Portals live as long as their transaction, but for those that a commit has kept.
    pub(super) fn end_portals(&mut self) {
        if !self.portals.is_empty() {
            self.portals.retain(|_, p| p.is_held());
        }
    }

    /// What deferred constraints have to look at; an error rolls the transaction back.
    async fn enforce_deferred(&mut self) -> Result<(), SqlError> {
        let done = self.enforce_references(Due::Transaction).await;
        if done.is_err() {
            self.end_portals();
            self.roll_back();
        }
        done
    }

    /// What a commit keeps of the portals; an error rolls the transaction back.
    async fn keep_portals(&mut self) -> Result<(), SqlError> {
        if self.portals.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.hold_cursors().await {
            self.end_portals();
            self.roll_back();
            return Err(e);
        }
        self.end_portals();
        Ok(())
    }

    /// How many savepoints are open.
    pub(super) fn savepoints(&mut self) -> usize {
        self.block
            .running()
            .map_or(0, |r| r.txn.savepoints().count())
    }

    /// Those go that were made since the savepoint of this number (from 0) was set.
    fn end_portals_since(&mut self, savepoint: usize) {
        self.portals
            .retain(|_, p| p.is_held() || p.level <= savepoint);
    }

    /// The end of an implicit transaction: after a simple query's last statement, or at Sync.
    pub(super) async fn end_implicit(&mut self) -> Result<(), SqlError> {
        if matches!(self.block, Block::Implicit(_)) {
            self.enforce_deferred().await?;
            self.keep_portals().await?;
            self.commit().await?;
        }
        Ok(())
    }

    /// What an error does: ends an implicit transaction, fails a block.
    pub(super) fn after_error(&mut self, e: &SqlError) {
        self.stop_clock();
        self.executed = false;
        if e.severity >= Severity::Fatal {
            self.end_portals();
            self.roll_back();
            return;
        }
        match std::mem::take(&mut self.block) {
            // Bound to statements that need no transaction of ours; PostgreSQL's would end here.
            Block::Idle => self.end_portals(),
            failed @ Block::Failed(_) => self.block = failed,
            implicit @ Block::Implicit(_) => {
                self.block = implicit;
                self.end_portals();
                self.roll_back();
            }
            Block::Open(r) => self.fail_block(r),
        }
    }

    /// Rolled back to the innermost savepoint if there is one, else altogether.
    fn fail_block(&mut self, mut r: Box<Running>) {
        // They can no longer be run, but they are there until the block or the savepoint ends (`AtAbort_Portals`).
        let open = r.txn.savepoints().count();
        let made_since = |p: &Portal| !p.is_held() && p.level >= open;
        for portal in self.portals.values_mut() {
            if made_since(portal) {
                portal.fail();
            }
        }
        let innermost = r.txn.savepoints().last().map(str::to_owned);
        let kept = innermost.is_some_and(|name| {
            self.services
                .txns()
                .rollback_to_savepoint(&mut r.txn, &name)
                .is_ok()
        });
        if kept {
            self.block = Block::Failed(Some(r));
        } else {
            drop(r.snapshot.take());
            self.services.txns().abort(r.txn);
            self.block = Block::Failed(None);
        }
        // Settings go back to where the innermost level began; the levels themselves stay until the block ends.
        {
            let mut store = self.facts.settings.lock();
            if store.levels() > 0 {
                store.abort_level();
                store.begin_level();
            }
        }
        self.restore_roles();
    }

    pub(super) async fn transaction_statement<O: Output>(
        &mut self,
        statement: &TransactionStatement,
        out: &mut O,
    ) -> Result<&'static str, SqlError> {
        match statement {
            TransactionStatement::Begin { modes, .. } => self.begin(modes, out)?,
            TransactionStatement::Commit { chain } => return self.commit_block(*chain, out).await,
            TransactionStatement::Rollback { chain } => self.rollback_block(*chain, out)?,
            TransactionStatement::Savepoint(name) => self.savepoint(&name.name)?,
            TransactionStatement::Release(name) => self.release(&name.name)?,
            TransactionStatement::RollbackTo(name) => self.rollback_to(&name.name)?,
            // Outside a block it is a ROLLBACK with a warning, in one that failed a ROLLBACK, as in PostgreSQL.
            TransactionStatement::PrepareTransaction(_)
                if !self.block.is_block() || self.block.is_failed() =>
            {
                self.rollback_block(false, out)?;
                return Ok("ROLLBACK");
            }
            TransactionStatement::CommitPrepared(name)
            | TransactionStatement::RollbackPrepared(name) => {
                return Err(SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!("prepared transaction with identifier \"{name}\" does not exist"),
                ));
            }
            TransactionStatement::PrepareTransaction(_) => {
                return Err(SqlError::new(
                    state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "prepared transactions are disabled",
                )
                .hint("Two-phase commit is not implemented: max_prepared_transactions is 0."));
            }
        }
        Ok(statement.tag())
    }

    fn begin<O: Output>(&mut self, modes: &[TransactionMode], out: &mut O) -> Result<(), SqlError> {
        match std::mem::take(&mut self.block) {
            Block::Idle => {
                let options = self.with_modes(self.default_options(), modes, true)?;
                let running = self.begin_transaction(options);
                self.block = Block::Open(running);
                if !modes.is_empty() {
                    self.show_modes(&options, modes);
                }
            }
            // In a query string of several statements the block takes over what has run so far.
            Block::Implicit(mut r) => {
                let options = self.with_modes(*r.txn.options(), modes, !r.queried);
                match options {
                    Ok(options) => r.txn.set_options(options),
                    Err(e) => {
                        self.block = Block::Implicit(r);
                        return Err(e);
                    }
                }
                self.block = Block::Open(r);
            }
            block => {
                self.block = block;
                if self.block.is_failed() {
                    return Err(in_failed_block());
                }
                self.notice(
                    out,
                    &SqlError::warning(
                        state::ACTIVE_SQL_TRANSACTION,
                        "there is already a transaction in progress",
                    ),
                );
                if !modes.is_empty() {
                    self.set_transaction(modes)?;
                }
            }
        }
        Ok(())
    }

    fn show_modes(&self, options: &TxnOptions, modes: &[TransactionMode]) {
        let asked = modes.iter().rev().find_map(|mode| match mode {
            TransactionMode::Isolation(level) => Some(*level),
            _ => None,
        });
        let mut store = self.facts.settings.lock();
        let uncommitted = match asked {
            Some(level) => level == IsolationLevel::ReadUncommitted,
            None => store.settings().default_transaction_isolation == Level::ReadUncommitted,
        };
        show_options(&mut store, options, uncommitted);
    }

    /// Options with the modes of BEGIN or SET TRANSACTION laid over them.
    fn with_modes(
        &self,
        mut options: TxnOptions,
        modes: &[TransactionMode],
        first: bool,
    ) -> Result<TxnOptions, SqlError> {
        for mode in modes {
            match mode {
                TransactionMode::Isolation(level) => {
                    let wanted = match level {
                        IsolationLevel::Serializable => return Err(serializable()),
                        IsolationLevel::RepeatableRead => Isolation::RepeatableRead,
                        IsolationLevel::ReadCommitted | IsolationLevel::ReadUncommitted => {
                            Isolation::ReadCommitted
                        }
                    };
                    if wanted != options.isolation && !first {
                        return Err(SqlError::new(
                            state::ACTIVE_SQL_TRANSACTION,
                            "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                        ));
                    }
                    options.isolation = wanted;
                }
                TransactionMode::ReadOnly(true) => options.read_only = true,
                TransactionMode::ReadOnly(false) => {
                    if self.services.txns().in_recovery() {
                        return Err(SqlError::unsupported(
                            "cannot set transaction read-write mode during recovery",
                        ));
                    }
                    if options.read_only && !first {
                        return Err(SqlError::new(
                            state::ACTIVE_SQL_TRANSACTION,
                            "transaction read-write mode must be set before any query",
                        ));
                    }
                    options.read_only = false;
                }
                TransactionMode::Deferrable(d) => options.deferrable = *d,
            }
        }
        Ok(options)
    }

    /// SET TRANSACTION in a block.
    pub(super) fn set_transaction(&mut self, modes: &[TransactionMode]) -> Result<(), SqlError> {
        let Some(r) = self.block.running() else {
            return Ok(());
        };
        let (options, first) = (*r.txn.options(), !r.queried);
        let options = self.with_modes(options, modes, first)?;
        if let Some(r) = self.block.running() {
            r.txn.set_options(options);
        }
        self.show_modes(&options, modes);
        Ok(())
    }

    async fn commit_block<O: Output>(
        &mut self,
        chain: bool,
        out: &mut O,
    ) -> Result<&'static str, SqlError> {
        let options = self.chained("COMMIT AND CHAIN", chain)?;
        let tag = match &self.block {
            Block::Open(_) => "COMMIT",
            Block::Failed(_) => "ROLLBACK",
            Block::Idle | Block::Implicit(_) => {
                self.warn_no_transaction(out);
                "COMMIT"
            }
        };
        if self.block.is_failed() {
            self.end_portals();
            self.roll_back();
        } else {
            self.enforce_deferred().await?;
            self.keep_portals().await?;
            self.commit().await?;
        }
        self.chain(options);
        Ok(tag)
    }

    fn rollback_block<O: Output>(&mut self, chain: bool, out: &mut O) -> Result<(), SqlError> {
        let options = self.chained("ROLLBACK AND CHAIN", chain)?;
        if !self.block.is_block() {
            self.warn_no_transaction(out);
        }
        self.end_portals();
        self.roll_back();
        self.chain(options);
        Ok(())
    }

    fn warn_no_transaction<O: Output>(&self, out: &mut O) {
        self.notice(
            out,
            &SqlError::warning(
                state::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            ),
        );
    }

    /// The options that the next transaction of a chain has, and whether they go by the name READ UNCOMMITTED.
    fn chained(&mut self, what: &str, chain: bool) -> Result<Option<(TxnOptions, bool)>, SqlError> {
        if !chain {
            return Ok(None);
        }
        let options = match &self.block {
            Block::Open(r) | Block::Failed(Some(r)) => *r.txn.options(),
            Block::Failed(None) => self.default_options(),
            Block::Idle | Block::Implicit(_) => return Err(only_in_blocks(what)),
        };
        let shown = self
            .facts
            .settings
            .lock()
            .show("transaction_isolation", true);
        let uncommitted = shown.is_ok_and(|(_, value)| value == Level::ReadUncommitted.name());
        Ok(Some((options, uncommitted)))
    }

    fn chain(&mut self, next: Option<(TxnOptions, bool)>) {
        if let Some((options, uncommitted)) = next {
            let running = self.begin_transaction(options);
            show_options(&mut self.facts.settings.lock(), &options, uncommitted);
            self.block = Block::Open(running);
        }
    }

    fn savepoint(&mut self, name: &str) -> Result<(), SqlError> {
        match &mut self.block {
            Block::Open(r) => {
                self.services.txns().savepoint(&mut r.txn, name);
                self.facts.settings.lock().begin_level();
                Ok(())
            }
            Block::Failed(_) => Err(in_failed_block()),
            Block::Idle | Block::Implicit(_) => Err(only_in_blocks("SAVEPOINT")),
        }
    }

    fn release(&mut self, name: &str) -> Result<(), SqlError> {
        match &mut self.block {
            Block::Open(r) => {
                let before = r.txn.savepoints().count();
                self.services.txns().release_savepoint(&mut r.txn, name)?;
                let gone = before - r.txn.savepoints().count();
                for portal in self.portals.values_mut() {
                    portal.level = portal.level.min(before - gone);
                }
                let mut store = self.facts.settings.lock();
                for _ in 0..gone {
                    store.commit_level();
                }
                Ok(())
            }
            Block::Failed(_) => Err(in_failed_block()),
            Block::Idle | Block::Implicit(_) => Err(only_in_blocks("RELEASE SAVEPOINT")),
        }
    }

    fn rollback_to(&mut self, name: &str) -> Result<(), SqlError> {
        let mut r = match std::mem::take(&mut self.block) {
            Block::Open(r) | Block::Failed(Some(r)) => r,
            Block::Failed(None) => {
                self.block = Block::Failed(None);
                return Err(no_savepoint(name));
            }
            other => {
                self.block = other;
                return Err(only_in_blocks("ROLLBACK TO SAVEPOINT"));
            }
        };
        let before = r.txn.savepoints().count();
        if let Err(e) = self.services.txns().rollback_to_savepoint(&mut r.txn, name) {
            // The transaction is as it was; a failed block stays failed through the error's handling.
            self.block = Block::Open(r);
            return Err(e.into());
        }
        let left = r.txn.savepoints().count();
        let gone = before - left;
        // The savepoint itself stays.
        self.end_portals_since(left - 1);
        {
            let mut store = self.facts.settings.lock();
            for _ in 0..=gone {
                store.abort_level();
            }
            store.begin_level();
        }
        self.block = Block::Open(r);
        self.restore_roles();
        self.apply_settings();
        Ok(())
    }

    /// 25001 for statements that cannot be rolled back.
    pub(super) fn outside_block(&self, what: &str, alone: bool) -> Result<(), SqlError> {
        let inside = if self.block.is_block() || !alone {
            "cannot run inside a transaction block"
        } else if self.executed {
            // It would commit what came before, which an error behind it is to roll back.
            "cannot be executed within a pipeline"
        } else {
            return Ok(());
        };
        Err(SqlError::new(
            state::ACTIVE_SQL_TRANSACTION,
            format!("{what} {inside}"),
        ))
    }
}

pub(super) fn in_failed_block() -> SqlError {
    SqlError::new(
        state::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

pub(super) fn only_in_blocks(what: &str) -> SqlError {
    SqlError::new(
        state::NO_ACTIVE_SQL_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

fn no_savepoint(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_SAVEPOINT,
        format!("savepoint \"{name}\" does not exist"),
    )
}
