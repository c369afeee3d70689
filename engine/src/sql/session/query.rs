//! One planned statement: names bound and locked, plan found or made, snapshot taken, rows sent.

use std::cell::Cell;
use std::sync::Arc;

use super::block::Running;
use super::lifecycle::Session;
use super::output::{Formats, Output};
use super::prepared::{Cached, Prepared};
use super::scroll::Keeper;
use super::services::Services;
use super::sink::ClientSink;
use super::transaction::in_failed_block;
use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::config::SessionSettings;
use crate::ids::{Fork, Oid};
use crate::sql::bind::{self, BindCx};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::kept_rows::KeptRows;
use crate::sql::exec::{
    self, ExecCx, Execution, MemoryLimits, Progress, RowSink, RunCx, SinkState, TempSpace,
};
use crate::sql::front::Statement;
use crate::sql::maintenance::key_of;
use crate::sql::plan::{self, Plan, PlanCx};
use crate::sql::references::changes;
use crate::sql::rights;
use crate::table::TableChanges;
use crate::txn::{Due, Isolation, LockWait, Seen, Snapshot, Transaction, TxnManager};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// A statement that holds more than this, and more than one hash table may have, is stopped (53200).
pub const STATEMENT_MEMORY: usize = 1 << 30;
/// How often names may change under a statement before it gives up.
const MAX_REBINDS: usize = 10;

/// A plan whose relations are locked.
pub(super) struct Ready {
    pub plan: Arc<Plan>,
    pub types: Arc<[Oid]>,
    pub settings: Arc<SessionSettings>,
    pub function: Arc<FunctionCx>,
}

/// The size of a table now; statistics may be old.
fn pages_of<S: Services>(services: &S, relation: &Relation) -> Option<u32> {
    if relation.kind != RelationKind::Table {
        return None;
    }
    services
        .store()
        .pool
        .block_count(relation.file, Fork::Main)
        .ok()
}

/// Statements that the planner knows.
pub(super) fn is_planned(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
    )
}

/// What the planner may do and what it believes, as the session has it.
pub fn planner_settings(s: &SessionSettings) -> plan::PlannerSettings {
    let p = &s.planner;
    plan::PlannerSettings {
        seq_page_cost: p.seq_page_cost,
        random_page_cost: p.random_page_cost,
        cpu_tuple_cost: p.cpu_tuple_cost,
        cpu_index_tuple_cost: p.cpu_index_tuple_cost,
        cpu_operator_cost: p.cpu_operator_cost,
        enable_seqscan: p.enable_seqscan,
        enable_indexscan: p.enable_indexscan,
        enable_nestloop: p.enable_nestloop,
        enable_hashjoin: p.enable_hashjoin,
        enable_hashagg: p.enable_hashagg,
        enable_sort: p.enable_sort,
        enable_material: p.enable_material,
        work_mem: s.work_mem / 1024,
        hash_mem: s.hash_mem() / 1024,
        effective_cache_pages: p.effective_cache_size,
    }
}

/// Whether the transaction's snapshot, or one that it takes after this, sees the index's making. Not if the
/// transaction made it itself: its older snapshots may still be in use.
fn may_use(txns: &TxnManager, running: &Running, index: &Index) -> bool {
    let Some(maker) = index.only_if_sees else {
        return true;
    };
    if running.txn.own().contains(maker) {
        return false;
    }
    let seen = match &running.snapshot {
        Some(snapshot) if running.isolation() == Isolation::RepeatableRead => {
            snapshot.sees(maker, txns)
        }
        _ => txns.snapshot(&running.txn).sees(maker, txns),
    };
    seen == Seen::Yes
}

impl<S: Services> Session<S> {
    /// Whether reads may go ahead: after recovery they wait for the standbys that a failover could fall back on.
    pub(super) async fn wait_until_readable(&mut self) -> Result<(), SqlError> {
        let txns = self.services.txns();
        if txns.snapshots_open() {
            return Ok(());
        }
        if self.reads_unconfirmed() {
            return Ok(());
        }
        tokio::select! {
            () = txns.wait_for_first_snapshot() => Ok(()),
            interrupt = self.facts.backend.interrupts.wait() => Err(interrupt.into()),
        }
    }

    /// For this session alone: the others still see nothing that could be lost.
    pub(super) fn reads_unconfirmed(&self) -> bool {
        self.is_superuser() && self.settings().read_unconfirmed
    }

    /// The statement's plan for the catalog as it is now; from the cache where that is still good. Takes no lock.
    pub(super) fn find_plan(
        &mut self,
        prepared: &Prepared,
        settings: &Arc<SessionSettings>,
        function: &Arc<FunctionCx>,
    ) -> Result<Arc<Cached>, SqlError> {
        let Some(running) = self.block.running() else {
            return Err(in_failed_block());
        };
        let running: &Running = running;
        let generation = self.clock.generation(&running.txn);
        if let Some(c) = &*prepared.cached.lock()
            && c.reusable
            && c.generation == generation
            && c.role == self.facts.roles.load().current.oid
            && Arc::ptr_eq(&c.settings, settings)
        {
            return Ok(Arc::clone(c));
        }
        let database = self.facts.database;
        let role = self.facts.current_role();
        let services = Arc::clone(&self.services);
        let view = services.catalog(database, &running.txn, &settings.search_path, role.oid);
        let Some(parsed) = &prepared.parsed else {
            return Err(SqlError::internal("an empty query has no plan"));
        };
        let cx = BindCx {
            source: &prepared.text,
            functions: function,
        };
        let bound = bind::bind(&parsed.statement, &*view, prepared.known_types(), &cx)
            .map_err(|e| e.located(&prepared.text))?;
        let denied = rights::check(&*view, &bound.rights).err();
        let planner = planner_settings(settings);
        let pages = |r: &Relation| pages_of(&*services, r);
        // An index that is too new for the snapshot is left out, and so is the plan from the cache.
        let left_out = Cell::new(false);
        let may_use = |index: &Index| {
            let usable = may_use(services.txns(), running, index);
            left_out.set(left_out.get() || !usable);
            usable
        };
        let plan = plan::plan(
            &bound,
            &*view,
            &PlanCx {
                settings: &planner,
                pages: Some(&pages),
                may_use: Some(&may_use),
                function,
            },
        )
        .map_err(|e| e.located(&prepared.text))?;
        let uncacheable = plan.uncacheable;
        let found = Arc::new(Cached {
            types: plan.output.iter().map(|c| c.ty.oid).collect(),
            plan: Arc::new(plan),
            generation,
            settings: Arc::clone(settings),
            role: role.oid,
            denied,
            // The transaction's own changes may be rolled back and others come under the same number.
            reusable: !uncacheable && !left_out.get() && running.txn.invalidations().is_empty(),
        });
        if !prepared.keeps_result(&found.plan.output) {
            return Err(SqlError::unsupported(
                "cached plan must not change result type",
            ));
        }
        let types = || found.plan.parameters.iter().map(|p| p.oid).collect();
        prepared.parameters.get_or_init(types);
        *prepared.cached.lock() = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Plans, locks, and plans again if the catalog moved before the locks were there.
    pub(super) async fn ready(&mut self, prepared: &Prepared) -> Result<Ready, SqlError> {
        self.ensure_transaction()?;
        self.wait_until_readable().await?;
        // REPEATABLE READ looks at the moment of its first query, not at that when the tables are locked.
        let isolation = self.block.running().map(|r| r.isolation());
        if isolation == Some(Isolation::RepeatableRead) {
            self.snapshot()?;
        }
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        for _ in 0..MAX_REBINDS {
            let found = self.find_plan(prepared, &settings, &function)?;
            self.lock_relations(&found.plan.relations).await?;
            if self.generation() == found.generation {
                // A promotion may have come while a lock was waited for (replay held it): a snapshot taken now would show
                // what was replayed last, which the new primary's standbys need not have yet.
                self.wait_until_readable().await?;
                if let Some(denied) = &found.denied {
                    return Err(denied.clone());
                }
                return Ok(Ready {
                    plan: Arc::clone(&found.plan),
                    types: Arc::clone(&found.types),
                    settings,
                    function,
                });
            }
        }
        Err(SqlError::new(
            state::OBJECT_IN_USE,
            "the catalog changed too often while the statement was being planned",
        )
        .hint("Run the statement again."))
    }

    fn generation(&mut self) -> u64 {
        match self.block.running() {
            Some(r) => self.clock.generation(&r.txn),
            None => 0,
        }
    }

    pub(super) async fn lock_relations(
        &mut self,
        relations: &[(Oid, crate::catalog::relation::LockMode)],
    ) -> Result<(), SqlError> {
        let services = Arc::clone(&self.services);
        let Some(running) = self.block.running() else {
            return Err(in_failed_block());
        };
        for (relation, mode) in relations {
            services
                .txns()
                .locks()
                .lock_relation(&mut running.txn, *relation, *mode, LockWait::Wait)
                .await?;
        }
        Ok(())
    }

    /// The snapshot of the next statement.
    pub(super) fn snapshot(&mut self) -> Result<Arc<Snapshot>, SqlError> {
        let services = Arc::clone(&self.services);
        let txns = services.txns();
        let unconfirmed = !txns.snapshots_open() && self.reads_unconfirmed();
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        r.queried = true;
        let take = |txn: &Transaction| match unconfirmed {
            true => txns.unconfirmed_snapshot(txn),
            false => txns.snapshot(txn),
        };
        if r.isolation() == Isolation::ReadCommitted {
            return Ok(Arc::new(take(&r.txn)));
        }
        let command = r.txn.command_id();
        let snapshot = match &r.snapshot {
            Some(s) if s.command_id() == command => Arc::clone(s),
            Some(s) => Arc::new(s.at_command(command)),
            None => Arc::new(take(&r.txn)),
        };
        r.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// 25006 for a change in a transaction that only reads.
    fn check_writable(&mut self, plan: &Plan) -> Result<(), SqlError> {
        let read_only = self
            .block
            .running()
            .is_some_and(|r| r.txn.options().read_only);
        plan.check_writable(read_only)
    }

    /// What one run of a plan has of its own.
    pub(super) fn run_cx(&mut self, ready: &Ready) -> Result<RunCx, SqlError> {
        self.check_writable(&ready.plan)?;
        let isolation = self
            .block
            .running()
            .map_or(Isolation::ReadCommitted, |r| r.isolation());
        Ok(RunCx {
            snapshot: self.snapshot()?,
            isolation,
            function: Arc::clone(&ready.function),
        })
    }

    /// The statement's running tree from its last time, or a new one.
    pub(super) fn start_prepared(
        &mut self,
        prepared: &Prepared,
        ready: &Ready,
        parameters: &[Datum],
    ) -> Result<Box<Execution>, SqlError> {
        let run = self.run_cx(ready)?;
        Ok(self.start_prepared_at(prepared, ready, parameters, run))
    }

    /// The same with a snapshot that is there already.
    pub(super) fn start_prepared_at(
        &self,
        prepared: &Prepared,
        ready: &Ready,
        parameters: &[Datum],
        run: RunCx,
    ) -> Box<Execution> {
        let idle = prepared.idle.lock().take();
        match idle {
            Some(mut execution) if Arc::ptr_eq(execution.plan(), &ready.plan) => {
                execution.restart(parameters, run);
                execution
            }
            _ => Box::new(self.start_at(ready, parameters, false, run)),
        }
    }

    /// The running tree of a plan that is ready.
    pub(super) fn start(
        &mut self,
        ready: &Ready,
        parameters: &[Datum],
        instrument: bool,
    ) -> Result<Execution, SqlError> {
        let run = self.run_cx(ready)?;
        Ok(self.start_at(ready, parameters, instrument, run))
    }

    /// The same with a snapshot that is there already.
    pub(super) fn start_at(
        &self,
        ready: &Ready,
        parameters: &[Datum],
        instrument: bool,
        run: RunCx,
    ) -> Execution {
        exec::start(
            &ready.plan,
            parameters,
            ExecCx {
                store: Arc::clone(self.services.store()),
                txns: Arc::clone(self.services.txns()),
                snapshot: run.snapshot,
                isolation: run.isolation,
                function: run.function,
                interrupts: Arc::clone(&self.facts.backend.interrupts),
                virtuals: Arc::clone(&self.virtuals),
                limits: MemoryLimits {
                    work: ready.settings.work_mem,
                    hash: ready.settings.hash_mem(),
                    statement: STATEMENT_MEMORY.max(ready.settings.hash_mem()),
                },
                temp: TempSpace::new(
                    Arc::clone(&self.services.store().disk),
                    self.facts.backend.pid,
                ),
                instrument,
            },
        )
    }

    /// Runs an execution, or goes on with it, and makes its changes visible to the next command.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn run<O: Output>(
        &mut self,
        execution: &mut Execution,
        types: Arc<[Oid]>,
        formats: &Formats,
        function: &FunctionCx,
        announce: bool,
        limit: Option<u64>,
        out: &mut O,
    ) -> Result<Progress, SqlError> {
        let mut sink = ClientSink::new(out, types, formats, function, announce);
        self.run_for(execution, &mut sink, limit).await
    }

    /// The same with rows that go somewhere else.
    pub(super) async fn run_for(
        &mut self,
        execution: &mut Execution,
        sink: &mut dyn RowSink,
        limit: Option<u64>,
    ) -> Result<Progress, SqlError> {
        if limit.is_none() && holds_back_rows(execution.plan()) {
            return Box::pin(self.run_held_back(execution, sink)).await;
        }
        self.run_now(execution, sink, limit).await
    }

    /// The rows of RETURNING go out when foreign keys have let the change pass, as in PostgreSQL.
    async fn run_held_back(
        &mut self,
        execution: &mut Execution,
        sink: &mut dyn RowSink,
    ) -> Result<Progress, SqlError> {
        let plan = Arc::clone(execution.plan());
        let disk = Arc::clone(&self.services.store().disk);
        let temp = TempSpace::new(disk, self.facts.backend.pid);
        let work = self.settings().work_mem;
        let mut rows = KeptRows::new(plan.output.len(), work, temp);
        let mut keeper = Keeper(&mut rows);
        let progress = self.run_now(execution, &mut keeper, None).await?;
        sink.columns(&plan.output);
        for number in 0..rows.count() {
            if sink.row(rows.row(number)?)? == SinkState::Full {
                self.facts.backend.interrupts.check()?;
                sink.ready().await?;
            }
        }
        Ok(progress)
    }

    /// The same with rows that go out as they come, or to where the client does not see them yet.
    pub(super) async fn run_now(
        &mut self,
        execution: &mut Execution,
        sink: &mut dyn RowSink,
        limit: Option<u64>,
    ) -> Result<Progress, SqlError> {
        let Some(running) = self.block.running() else {
            return Err(in_failed_block());
        };
        let _own = self.facts.own_catalog(self.services.txns(), &running.txn);
        let before = self.facts.settings.lock().changes();
        let progress = execution.run(&mut running.txn, sink, limit).await?;
        if progress.complete {
            let changes = self.services.changes();
            count_changes(changes, self.facts.database, execution, progress.rows);
            running.txn.next_command()?;
            if running.txn.row_events().any(Due::Statement) {
                self.enforce_references(Due::Statement).await?;
            }
        }
        // `set_config` may have been called.
        let changed = self.facts.settings.lock().changes() != before;
        if changed {
            self.apply_settings();
        }
        Ok(progress)
    }
}

/// What a statement and those in its WITH have changed, for the background vacuum. `rows`: of the statement itself.
pub(super) fn count_changes(
    changes: &TableChanges,
    database: Oid,
    execution: &Execution,
    rows: u64,
) {
    if let Some((table, leaves_dead)) = execution.plan().changes() {
        let (of, oid) = key_of(database, table);
        changes.add(of, oid, rows, leaves_dead);
    }
    for (table, leaves_dead, rows) in execution.changes_in_with() {
        let (of, oid) = key_of(database, table);
        changes.add(of, oid, *rows, *leaves_dead);
    }
}

/// A change that gives rows, of a table that foreign keys are about.
fn holds_back_rows(plan: &Plan) -> bool {
    plan.gives_rows() && plan.changed_tables().any(changes::concerns)
}
