//! Statements that are not planned: who runs them, what they need around them, what rows they give.

use std::sync::Arc;

use super::given::{Given, check_given};
use super::lifecycle::Session;
use super::output::{Formats, Output};
use super::prepared::{Portal, Prepared};
use super::services::{Services, UtilityCall};
use super::settings::text_column;
use super::transaction::in_failed_block;
use crate::catalog::relation::{LockMode, Relation};
use crate::catalog::rights::Holder;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, no_right_to, state};
use crate::sql::exec::RowSink;
use crate::sql::explain::{ExplainFormat, ExplainOptions};
use crate::sql::front::ast::{DiscardTarget, Explain, ReindexTarget};
use crate::sql::front::{Parsed, Statement};
use crate::txn::{Due, LockError, LockWait};
use crate::types::acl::Privileges;
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

/// What a utility statement gave.
pub(super) enum Outcome {
    /// Its command tag.
    Tag(String),
    /// Rows (SHOW), then the tag.
    Rows(Vec<Vec<Datum>>, String),
}

impl From<&str> for Outcome {
    fn from(tag: &str) -> Outcome {
        Outcome::Tag(tag.to_owned())
    }
}

/// Statements that a failed block still takes.
pub(super) fn ends_failed_block(statement: &Statement) -> bool {
    use crate::sql::front::ast::TransactionStatement as T;
    matches!(
        statement,
        Statement::Transaction(
            T::Commit { .. } | T::Rollback { .. } | T::RollbackTo(_) | T::PrepareTransaction(_)
        )
    )
}

/// Changes of tables or of the catalog: refused where nothing may be written.
fn writes(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::Transaction(_)
            | Statement::Set(_)
            | Statement::SetConstraints(_)
            | Statement::Show(_)
            | Statement::Reset(_)
            | Statement::Discard(_)
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::DeclareCursor(_)
            | Statement::Fetch(_)
            | Statement::CloseCursor(_)
            | Statement::Explain(_)
            | Statement::Copy(_)
            | Statement::LockTable(_)
            | Statement::Checkpoint
            | Statement::AlterSystem(_)
            | Statement::Unsupported(_)
    )
}

/// Statements that run transactions of their own and must not stand in one: their name in the error.
pub(super) fn runs_alone(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::Vacuum(v) if v.is_vacuum => "VACUUM",
        Statement::CreateDatabase(_) => "CREATE DATABASE",
        Statement::DropDatabase(_) => "DROP DATABASE",
        Statement::AlterSystem(_) => "ALTER SYSTEM",
        Statement::Reindex(r) if r.concurrently => "REINDEX CONCURRENTLY",
        Statement::Reindex(r) => match r.what {
            ReindexTarget::Schema(_) => "REINDEX SCHEMA",
            ReindexTarget::Database(_) => "REINDEX DATABASE",
            ReindexTarget::System(_) => "REINDEX SYSTEM",
            ReindexTarget::Index(_) | ReindexTarget::Table(_) => return None,
        },
        Statement::CreateIndex(c) if c.concurrently => "CREATE INDEX CONCURRENTLY",
        Statement::Discard(DiscardTarget::All) => "DISCARD ALL",
        _ => return None,
    })
}

impl<S: Services> Session<S> {
    /// Columns of the rows that a statement without a plan gives.
    pub(super) fn utility_columns(
        &self,
        statement: &Statement,
    ) -> Result<Arc<[OutputColumn]>, SqlError> {
        Ok(match statement {
            Statement::Show(target) => Self::show_columns(target).into(),
            Statement::Explain(e) => explain_columns(e),
            Statement::Fetch(f) if !f.is_move => self.cursor_columns(&f.cursor.name)?,
            Statement::Execute(e) => self.executed_columns(&e.name.name)?,
            _ => Arc::default(),
        })
    }

    /// Runs a statement that is not planned. `alone`: nothing else stands in the query string.
    pub(super) async fn utility<O: Output>(
        &mut self,
        parsed: &Parsed,
        source: &Arc<str>,
        alone: bool,
        announce: bool,
        given: Given<'_>,
        out: &mut O,
    ) -> Result<Outcome, SqlError> {
        let statement = &parsed.statement;
        if self.block.is_failed() && !ends_failed_block(statement) {
            return Err(in_failed_block());
        }
        if let Some(what) = runs_alone(statement) {
            self.outside_block(what, alone)?;
        }
        check_given(parsed, source, given)?;
        match statement {
            Statement::Transaction(t) => {
                return self.transaction_statement(t, out).await.map(Outcome::from);
            }
            Statement::Set(s) => {
                self.ensure_transaction()?;
                self.set_statement(s, out)?;
            }
            Statement::SetConstraints(s) => {
                if alone && !self.block.is_block() {
                    let message = "SET CONSTRAINTS can only be used in transaction blocks";
                    let warning = SqlError::warning(state::NO_ACTIVE_SQL_TRANSACTION, message);
                    self.notice(out, &warning);
                }
                self.served(statement, parsed, source, alone, out).await?;
                if !s.deferred {
                    self.enforce_references(Due::Immediate).await?;
                }
            }
            Statement::Reset(target) => {
                self.ensure_transaction()?;
                self.reset_statement(target)?;
            }
            Statement::Show(target) => {
                // Of a transaction's settings those of the one that a statement here would run in.
                self.ensure_transaction()?;
                return Ok(Outcome::Rows(self.show_rows(target)?, "SHOW".to_owned()));
            }
            Statement::AlterSystem(a) => self.alter_system(a)?,
            Statement::Discard(target) => return Ok(self.discard(*target)),
            Statement::Prepare(p) => self.prepare_statement(p, source)?,
            Statement::Deallocate(name) => {
                self.deallocate(name.as_ref().map(|n| n.name.as_str()))?
            }
            Statement::Execute(e) => {
                return self
                    .execute_statement(e, source, announce, out)
                    .await
                    .map(Outcome::Tag);
            }
            Statement::DeclareCursor(d) => self.declare_cursor(d, source, given).await?,
            Statement::Fetch(f) => return self.fetch(f, announce, out).await.map(Outcome::Tag),
            Statement::CloseCursor(name) => {
                self.close_cursor(name.as_ref().map(|n| n.name.as_str()))?;
            }
            Statement::Explain(e) => return self.explain(e, source, given).await,
            Statement::Copy(c) => return self.copy(c, source, out).await.map(Outcome::Tag),
            Statement::LockTable(l) => self.lock_tables(l).await?,
            Statement::Listen(_) | Statement::Notify { .. } => {
                return Err(SqlError::unsupported(format!(
                    "{} is not implemented",
                    parsed.tag
                )));
            }
            Statement::Unlisten(_) => {}
            Statement::Unsupported(u) => {
                let e = SqlError::unsupported(format!("{} is not implemented", u.command));
                return Err(match u.hint {
                    Some(hint) => e.hint(hint),
                    None => e,
                });
            }
            other => {
                return self
                    .served(other, parsed, source, alone, out)
                    .await
                    .map(Outcome::Tag);
            }
        }
        Ok(Outcome::from(parsed.tag))
    }

    /// DDL and maintenance, which other rooms do.
    async fn served<O: Output>(
        &mut self,
        statement: &Statement,
        parsed: &Parsed,
        source: &Arc<str>,
        alone: bool,
        out: &mut O,
    ) -> Result<String, SqlError> {
        if writes(statement) && self.services.txns().in_recovery() {
            // A transaction that only reads may have maintenance done (`ClassifyUtilityCommandAsReadOnly`), a standby may not.
            return Err(match statement {
                Statement::Vacuum(_) | Statement::Reindex(_) => SqlError::new(
                    state::READ_ONLY_SQL_TRANSACTION,
                    format!("cannot execute {} during recovery", parsed.tag),
                ),
                _ => SqlError::read_only(parsed.tag),
            });
        }
        // ANALYZE stands in a block, or behind others in a pipeline, like any statement, but by itself does one table after
        // the other.
        // An index is built in an ordinary transaction, CONCURRENTLY or not.
        let by_itself = (runs_alone(statement).is_some()
            && !matches!(statement, Statement::CreateIndex(_)))
            || (matches!(statement, Statement::Vacuum(_))
                && alone
                && !self.executed
                && !self.block.is_block());
        let touches_no_transaction = matches!(statement, Statement::Checkpoint);
        let mut notices = Vec::new();
        let settings = self.settings();
        if !touches_no_transaction {
            self.ensure_transaction()?;
            self.wait_until_readable().await?;
        }
        let function = self.function_cx(&settings, self.received);
        let services = Arc::clone(&self.services);
        let facts = Arc::clone(&self.facts);
        let in_use = self.in_use(by_itself);
        let call = UtilityCall {
            statement,
            source,
            facts: &facts,
            settings: &settings,
            function: &function,
            snapshot: None,
            in_use: &in_use,
            notices: &mut notices,
        };
        let done = if touches_no_transaction {
            services.maintenance(call).await
        } else if by_itself {
            self.end_implicit().await?;
            services.maintenance(call).await
        } else {
            let Some(r) = self.block.running() else {
                return Err(in_failed_block());
            };
            if writes(statement) && r.txn.options().read_only {
                return Err(SqlError::read_only(parsed.tag));
            }
            r.queried = true;
            let _own = facts.own_catalog(services.txns(), &r.txn);
            match services.utility(call, &mut r.txn).await {
                Ok(tag) => r.txn.next_command().map(|()| tag).map_err(SqlError::from),
                Err(e) => Err(e),
            }
        };
        for notice in &notices {
            self.notice(out, notice);
        }
        let tag = done.map_err(|e| e.located(source))?;
        // ALTER TABLE may have given rows values that each has to have for itself.
        self.enforce_references(Due::Statement).await?;
        Ok(tag)
    }

    /// The tables and indexes that open portals read. One that runs by itself ends the transaction first, and them with it.
    fn in_use(&self, by_itself: bool) -> Vec<Oid> {
        if by_itself {
            return Vec::new();
        }
        self.portals.values().flat_map(Portal::opened).collect()
    }

    fn discard(&mut self, target: DiscardTarget) -> Outcome {
        match target {
            DiscardTarget::All => {
                self.facts.sequences.forget();
                let session = &self.facts.backend.interrupts;
                self.services.txns().locks().unlock_session_all(session);
                self.portals.clear();
                self.prepared.clear();
                self.shapes.clear();
                self.reset_roles();
                self.facts.settings.lock().reset_all();
                self.facts.sequences.forget();
                self.apply_settings();
            }
            DiscardTarget::Plans => {
                self.references.get_mut().clear();
                self.shapes.clear();
                for p in self.prepared.values() {
                    *p.cached.lock() = None;
                }
            }
            DiscardTarget::Sequences => self.facts.sequences.forget(),
            // There are no temporary tables.
            DiscardTarget::Temp => {}
        }
        Outcome::from(target.tag())
    }

    async fn lock_tables(&mut self, l: &crate::sql::front::ast::LockTable) -> Result<(), SqlError> {
        if !self.block.is_block() {
            return Err(super::transaction::only_in_blocks("LOCK TABLE"));
        }
        self.wait_until_readable().await?;
        let settings = self.settings();
        let user = self.facts.current_role().oid;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let wait = if l.no_wait {
            LockWait::NoWait
        } else {
            LockWait::Wait
        };
        for name in &l.tables {
            let Some(r) = self.block.running() else {
                return Err(in_failed_block());
            };
            let mut locked = None;
            loop {
                let relation = {
                    let view = services.catalog(database, &r.txn, &settings.search_path, user);
                    let schema = name.schema.as_ref().map(|s| s.name.as_str());
                    let found = view.relation_named(schema, &name.name.name)?;
                    let relation = found.ok_or_else(|| {
                        SqlError::new(
                            state::UNDEFINED_TABLE,
                            format!("relation \"{}\" does not exist", name.name.name),
                        )
                        .at(name.name.at)
                    })?;
                    may_lock(&*view, &relation, l.mode)?;
                    relation
                };
                // The name may have come to mean another table while this one was waited for.
                if locked == Some(relation.oid) {
                    break;
                }
                let locks = services.txns().locks();
                let done = locks.lock_relation(&mut r.txn, relation.oid, l.mode, wait);
                done.await.map_err(|e| match e {
                    LockError::NotAvailable(_) => SqlError::new(
                        state::LOCK_NOT_AVAILABLE,
                        format!("could not obtain lock on relation \"{}\"", relation.name),
                    ),
                    other => other.into(),
                })?;
                locked = Some(relation.oid);
            }
        }
        Ok(())
    }

    /// Sends the rows of a utility statement.
    pub(super) fn send_rows<O: Output>(
        &mut self,
        rows: &mut dyn Iterator<Item = Vec<Datum>>,
        columns: &[OutputColumn],
        formats: &Formats,
        announce: bool,
        out: &mut O,
    ) -> Result<u64, SqlError> {
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let types = columns.iter().map(|c| c.ty.oid).collect();
        let mut sink = super::sink::ClientSink::new(out, types, formats, &function, announce);
        sink.columns(columns);
        let mut count = 0;
        for row in rows {
            sink.row(&row)?;
            count += 1;
        }
        Ok(count)
    }

    fn prepare_statement(
        &mut self,
        p: &crate::sql::front::ast::Prepare,
        source: &Arc<str>,
    ) -> Result<(), SqlError> {
        self.ensure_transaction()?;
        let name = p.name.name.as_str();
        if self.prepared.contains_key(name) {
            return Err(SqlError::new(
                state::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if !super::query::is_planned(&p.statement) {
            return Err(SqlError::new(
                state::INVALID_STATEMENT_NAME,
                "utility statements cannot be prepared",
            ));
        }
        let declared = self.declared_types(&p.types, source)?;
        let parsed = Parsed {
            tag: p.statement.tag(),
            statement: p.statement.clone(),
            text: 0..source.len(),
        };
        let prepared = Prepared::new(name, Arc::clone(source), Some(parsed), declared);
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let found = self.find_plan(&prepared, &settings, &function)?;
        prepared
            .columns
            .get_or_init(|| Arc::clone(&found.plan.output));
        self.prepared.insert(name.into(), Arc::new(prepared));
        Ok(())
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            None => self.prepared.retain(|n, _| n.is_empty()),
            Some(name) => {
                self.prepared
                    .remove(name)
                    .ok_or_else(|| no_statement(name))?;
            }
        }
        Ok(())
    }

    fn executed_columns(&self, name: &str) -> Result<Arc<[OutputColumn]>, SqlError> {
        let p = self.prepared.get(name).ok_or_else(|| no_statement(name))?;
        let cached = p.cached.lock();
        Ok(cached
            .as_ref()
            .map(|c| Arc::clone(&c.plan.output))
            .unwrap_or_default())
    }

    /// SQL's EXECUTE.
    async fn execute_statement<O: Output>(
        &mut self,
        e: &crate::sql::front::ast::Execute,
        source: &Arc<str>,
        announce: bool,
        out: &mut O,
    ) -> Result<String, SqlError> {
        let name = e.name.name.as_str();
        let prepared = Arc::clone(self.prepared.get(name).ok_or_else(|| no_statement(name))?);
        let ready = self.ready(&prepared).await?;
        let parameters = self.argument_values(e, source, &ready).await?;
        let mut execution = self.start_prepared(&prepared, &ready, &parameters)?;
        let progress = self
            .run(
                &mut execution,
                Arc::clone(&ready.types),
                &Formats::default(),
                &ready.function,
                announce,
                None,
                out,
            )
            .await?;
        prepared.park(execution);
        Ok(ready.plan.command.tag(progress.rows).into_owned())
    }
}

/// Any of the privileges for which one would take such a lock is enough (`LockTableAclCheck`).
fn may_lock(view: &dyn CatalogView, relation: &Relation, mode: LockMode) -> Result<(), SqlError> {
    let changes = Privileges::UPDATE
        .and(Privileges::DELETE)
        .and(Privileges::TRUNCATE);
    let any_of = match mode {
        LockMode::AccessShare => Privileges::SELECT,
        LockMode::RowExclusive => changes.and(Privileges::INSERT),
        _ => changes,
    };
    let may = Holder::asker(view)?.on_relation(relation)?;
    if may.common(any_of).is_none() {
        return Err(no_right_to(relation));
    }
    Ok(())
}

pub(super) fn no_statement(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_STATEMENT_NAME,
        format!("prepared statement \"{name}\" does not exist"),
    )
}

/// The one column of EXPLAIN: text (YAML too), or a document of its own type.
fn explain_columns(e: &Explain) -> Arc<[OutputColumn]> {
    let mut column = text_column("QUERY PLAN");
    match ExplainOptions::new(&e.options).map(|o| o.format) {
        Ok(ExplainFormat::Json) => column.ty = SqlType::plain(oids::JSON),
        Ok(ExplainFormat::Xml) => column.ty = SqlType::plain(oids::XML),
        Ok(ExplainFormat::Text | ExplainFormat::Yaml) | Err(_) => {}
    }
    Arc::new([column])
}
