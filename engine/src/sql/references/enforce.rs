//! The events of a round, one after another, and the statements that each of them runs.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::relation::{ForeignKey, Index, LockMode, ReferentialAction, Relation};
use crate::catalog::view::CatalogView;
use crate::ids::{Oid, Tid};
use crate::sql::bind::{self, BindCx};
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::{
    self, ExecCx, Execution, MemoryLimits, NoVirtualTables, RowSink, RunCx, SinkState, TempSpace,
};
use crate::sql::front;
use crate::sql::maintenance::key_of;
use crate::sql::plan::{self, Plan, PlanCx, PlannerSettings};
use crate::sql::rights;
use crate::storage::Store;
use crate::table::heap::{self, Liveness, RowBuf};
use crate::table::row::RowDecoder;
use crate::table::{TableChanges, TableCx};
use crate::txn::{
    Due, Isolation, LockWait, RowChange, RowEvent, Seen as Sees, Snapshot, Transaction, TxnManager,
};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

use super::changes::{Nulls, nulls};
use super::seen::Seen;
use super::statements::{Both, Purpose, Text};
use super::violation;

/// How often tables may change under a statement before it gives up.
const MAX_REPLANS: usize = 10;
/// Statements that a session keeps plans of.
const KEPT: usize = 256;
/// Events between two pauses for other tasks.
const BETWEEN_PAUSES: usize = 64;

/// The catalog, seen by any role.
pub trait Views: Send + Sync {
    fn view<'v>(&'v self, txn: &'v Transaction, role: Oid) -> Box<dyn CatalogView + 'v>;
}

/// What dealing with events needs of whoever does it.
pub struct Surroundings<'a> {
    pub views: &'a dyn Views,
    pub store: &'a Arc<Store>,
    pub txns: &'a Arc<TxnManager>,
    pub function: &'a Arc<FunctionCx>,
    pub limits: MemoryLimits,
    /// The current role, whose rights say what errors may show.
    pub user: Oid,
    /// REPEATABLE READ's one.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The session sees what a failover could still lose.
    pub unconfirmed: bool,
    /// Counts what is changed, for the background vacuum.
    pub changes: Option<&'a TableChanges>,
}

/// A constraint as it is asked about in this round.
struct Known {
    key: Arc<ForeignKey>,
    table: Arc<Relation>,
    referenced: Arc<Relation>,
    /// Rows of either table, with what they have of the constraint's columns.
    references: Reader,
    keys: Reader,
}

impl Known {
    fn both(&self) -> Both<'_> {
        Both {
            key: &self.key,
            table: &self.table,
            referenced: &self.referenced,
        }
    }
}

/// Reads some columns of row versions.
struct Reader {
    decoder: RowDecoder,
    columns: Vec<usize>,
    width: usize,
}

impl Reader {
    fn new(relation: &Relation, columns: &[usize]) -> Result<Reader, SqlError> {
        let width = relation.columns.len();
        if columns.iter().any(|n| *n >= width) {
            let what = format!("a foreign key names columns that {} has not", relation.name);
            return Err(SqlError::internal(what));
        }
        let mut wanted = columns.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        Ok(Reader {
            decoder: RowDecoder::new(relation, &wanted),
            columns: columns.to_vec(),
            width,
        })
    }

    /// `None`: there is no such version.
    fn read(
        &self,
        cx: TableCx<'_>,
        relation: &Relation,
        tid: Tid,
        buffer: &mut RowBuf,
    ) -> Result<Option<Vec<Datum>>, SqlError> {
        if !heap::fetch_version(cx, relation, tid, buffer)? {
            return Ok(None);
        }
        let Some(version) = buffer.version() else {
            return Ok(None);
        };
        let mut row = vec![Datum::Null; self.width];
        self.decoder.decode(cx, version, &mut row)?;
        Ok(Some(self.columns.iter().map(|n| row[*n].clone()).collect()))
    }
}

/// A statement that was planned.
struct Run {
    plan: Arc<Plan>,
    sql: String,
    generation: u64,
    /// Also in later rounds.
    reusable: bool,
    idle: Option<Box<Execution>>,
}

/// What a session keeps from one round to the next, as long as nothing of the catalog changes.
#[derive(Default)]
pub struct Kept {
    generation: u64,
    known: HashMap<Oid, Arc<Known>>,
    runs: HashMap<(Oid, Purpose), Run>,
}

impl Kept {
    pub fn clear(&mut self) {
        self.known.clear();
        self.runs.clear();
    }
}

/// Deals with the events of one round.
pub struct Enforcer<'a> {
    around: Surroundings<'a>,
    kept: &'a mut Kept,
    /// Statements whose tables this round has locked, if not the transaction before.
    locked: HashSet<(Oid, Purpose)>,
    /// Tables in which no key changes before the transaction ends.
    locked_whole: HashSet<Oid>,
    seen: HashMap<Oid, Option<Seen>>,
    buffer: RowBuf,
}

impl<'a> Enforcer<'a> {
    pub fn new(around: Surroundings<'a>, kept: &'a mut Kept) -> Enforcer<'a> {
        Enforcer {
            around,
            kept,
            locked: HashSet::new(),
            locked_whole: HashSet::new(),
            seen: HashMap::new(),
            buffer: RowBuf::new(),
        }
    }

    /// Deals with all events that are due, and with those that this brings about.
    pub async fn run(mut self, txn: &mut Transaction, due: Due) -> Result<(), SqlError> {
        let generation = self.around.views.view(txn, self.around.user).generation();
        // The transaction's own changes to the catalog may be rolled back, and others come under the same number.
        let own_changes = !txn.invalidations().is_empty();
        if own_changes || self.kept.generation != generation || self.kept.runs.len() > KEPT {
            self.kept.clear();
            self.kept.generation = generation;
        }
        let done = self.deal_with(txn, due).await;
        if own_changes {
            self.kept.clear();
        }
        done
    }

    async fn deal_with(&mut self, txn: &mut Transaction, due: Due) -> Result<(), SqlError> {
        txn.next_command()?;
        let mut count = 0_usize;
        let mut round = txn.row_events_mut().begin_round(due);
        while let Some(event) = txn.row_events_mut().next(&mut round) {
            if let Some(known) = self.known(txn, &event)? {
                self.deal_with_one(txn, &known, event.change).await?;
            }
            txn.interrupts().check()?;
            count += 1;
            if count.is_multiple_of(BETWEEN_PAUSES) {
                tokio::task::yield_now().await;
            }
        }
        txn.row_events_mut().end_round();
        Ok(())
    }

    async fn deal_with_one(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        change: RowChange,
    ) -> Result<(), SqlError> {
        match change {
            RowChange::Written { new } => self.check(txn, known, new).await,
            RowChange::Removed { old } => self.act(txn, known, old, None).await,
            RowChange::Rekeyed { old, new } => self.act(txn, known, old, Some(new)).await,
        }
    }

    fn table_cx(&self) -> TableCx<'_> {
        TableCx {
            store: self.around.store,
            txns: self.around.txns,
        }
    }

    /// None if the transaction has dropped the constraint since: then nothing has to hold any more.
    fn known(
        &mut self,
        txn: &Transaction,
        event: &RowEvent,
    ) -> Result<Option<Arc<Known>>, SqlError> {
        if let Some(known) = self.kept.known.get(&event.constraint) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(known) = self.load(txn, event.relation, event.constraint)? else {
            return Ok(None);
        };
        let known = Arc::new(known);
        let kept = &mut self.kept.known;
        kept.insert(event.constraint, Arc::clone(&known));
        Ok(Some(known))
    }

    /// The constraint as the catalog has it now. `relation`: one of its tables.
    fn load(
        &self,
        txn: &Transaction,
        relation: Oid,
        constraint: Oid,
    ) -> Result<Option<Known>, SqlError> {
        let view = self.around.views.view(txn, self.around.user);
        let Some(relation) = view.relation(relation)? else {
            return Ok(None);
        };
        let mut keys = relation.foreign_keys.iter().chain(&relation.referenced_by);
        let Some(key) = keys.find(|key| key.oid == constraint) else {
            return Ok(None);
        };
        let lost = || SqlError::internal(format!("a table of foreign key {constraint} is lost"));
        let table = view.relation(key.table)?.ok_or_else(lost)?;
        let referenced = view.relation(key.referenced)?.ok_or_else(lost)?;
        Ok(Some(Known {
            references: Reader::new(&table, &key.columns)?,
            keys: Reader::new(&referenced, &key.key)?,
            key: Arc::clone(key),
            table,
            referenced,
        }))
    }

    /// What a row version refers to is there.
    async fn check(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        new: Tid,
    ) -> Result<(), SqlError> {
        // A version that was replaced or removed meanwhile is no longer the row.
        let alive = heap::liveness(self.table_cx(), known.table.file, new, txn.own())?;
        if alive != (Liveness::Live { tid: new }) {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let cx = self.table_cx();
        let read = known.references.read(cx, &known.table, new, &mut buffer);
        self.buffer = buffer;
        let Some(reference) = read? else {
            return Ok(());
        };
        match nulls(reference.iter()) {
            Nulls::None => {}
            Nulls::Some if known.key.match_full => {
                return Err(violation::mixed_nulls(&known.both()));
            }
            Nulls::Some | Nulls::All => return Ok(()),
        }
        if self.is_held(known, &reference) {
            return Ok(());
        }
        if !self.holds_key(txn, known, &reference).await? {
            let view = self.around.views.view(txn, self.around.user);
            let both = known.both();
            return Err(violation::no_key(
                &both,
                &reference,
                &*view,
                self.around.function,
            )?);
        }
        if let Some(Some(seen)) = self.seen.get_mut(&known.key.oid) {
            seen.add(&reference);
        }
        Ok(())
    }

    /// Looks the key up, and keeps it where it is to the end of the transaction.
    async fn holds_key(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        reference: &[Datum],
    ) -> Result<bool, SqlError> {
        let table = known.key.referenced;
        let locks = self.around.txns.locks();
        let crowded = |xid| locks.row_lockers_are_crowded_by(xid);
        if txn.current_xid().is_some_and(crowded) {
            self.lock_whole(txn, table).await?;
        }
        if !self.locked_whole.contains(&table) {
            let purpose = Purpose::KeyOfReference;
            match self.finds(txn, known, purpose, reference).await {
                Err(e) if e.state == state::OUT_OF_MEMORY => self.lock_whole(txn, table).await?,
                found => return found,
            }
        }
        let seen = Purpose::KeyOfLockedTable { newest: false };
        if !self.finds(txn, known, seen, reference).await? {
            return Ok(false);
        }
        let there = Purpose::KeyOfLockedTable { newest: true };
        if txn.options().isolation == Isolation::RepeatableRead
            && !self.finds(txn, known, there, reference).await?
        {
            return Err(SqlError::new(
                state::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            ));
        }
        Ok(true)
    }

    /// Where there is no room for more row locks one on the table takes the place of those to come.
    async fn lock_whole(&mut self, txn: &mut Transaction, table: Oid) -> Result<(), SqlError> {
        if self.locked_whole.insert(table) {
            lock(self.around.txns, txn, table, LockMode::Share).await?;
        }
        Ok(())
    }

    /// The key was found in this round.
    fn is_held(&mut self, known: &Known, reference: &[Datum]) -> bool {
        let columns = &known.table.columns;
        let types = known.key.columns.iter().map(|n| columns[*n].ty.oid);
        let seen = self
            .seen
            .entry(known.key.oid)
            .or_insert_with(|| Seen::new(types));
        seen.as_ref().is_some_and(|seen| seen.contains(reference))
    }

    /// After a change of the table: what was found in it is kept from others, not from the transaction itself.
    fn forget_keys_of(&mut self, table: Oid) {
        let known = &self.kept.known;
        let stays =
            |constraint: &Oid| known.get(constraint).map(|k| k.key.referenced) != Some(table);
        self.seen.retain(|constraint, _| stays(constraint));
    }

    /// A key went or became another.
    async fn act(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        old: Tid,
        new: Option<Tid>,
    ) -> Result<(), SqlError> {
        let key = self.key_at(known, old)?;
        if nulls(key.iter()) != Nulls::None {
            return Ok(());
        }
        let action = match new {
            Some(_) => known.key.on_update,
            None => known.key.on_delete,
        };
        let Some(purpose) = Purpose::of_action(action, new.is_none()) else {
            return self.forbid(txn, known, action, &key).await;
        };
        let mut parameters = Vec::with_capacity(key.len() * 2);
        if let (Some(new), Purpose::UpdateReferences) = (new, purpose) {
            parameters = self.key_at(known, new)?;
        }
        parameters.extend_from_slice(&key);
        self.execute(txn, known, purpose, &parameters).await?;
        if action == ReferentialAction::SetDefault {
            // A reference that already had the default stays as it was, and nobody else looks at it.
            let action = ReferentialAction::NoAction;
            return self.forbid(txn, known, action, &key).await;
        }
        Ok(())
    }

    fn key_at(&mut self, known: &Known, tid: Tid) -> Result<Vec<Datum>, SqlError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let cx = self.table_cx();
        let read = known.keys.read(cx, &known.referenced, tid, &mut buffer);
        self.buffer = buffer;
        read?.ok_or_else(|| SqlError::internal("failed to fetch tuple1 for AFTER trigger"))
    }

    /// NO ACTION and RESTRICT: there is no reference to the key any more.
    async fn forbid(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        action: ReferentialAction,
        key: &[Datum],
    ) -> Result<(), SqlError> {
        // Another row may have taken the key over.
        if action == ReferentialAction::NoAction
            && self.finds(txn, known, Purpose::KeyAgain, key).await?
        {
            return Ok(());
        }
        if !self.finds(txn, known, Purpose::References, key).await? {
            return Ok(());
        }
        let view = self.around.views.view(txn, self.around.user);
        let function = self.around.function;
        Err(violation::still_referenced(
            &known.both(),
            key,
            &*view,
            function,
        )?)
    }

    async fn finds(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        purpose: Purpose,
        parameters: &[Datum],
    ) -> Result<bool, SqlError> {
        Ok(self.execute(txn, known, purpose, parameters).await? > 0)
    }

    /// Runs one of the constraint's statements as a command of its own; gives how many rows it found or changed.
    async fn execute(
        &mut self,
        txn: &mut Transaction,
        known: &Arc<Known>,
        purpose: Purpose,
        parameters: &[Datum],
    ) -> Result<u64, SqlError> {
        let at = (known.key.oid, purpose);
        let mut run = self.planned(txn, known, purpose).await?;
        let (mut execution, found) = {
            let execution = self.start(txn, &mut run, purpose, parameters);
            let limit = purpose.one_is_enough().then_some(1);
            run_to_end(execution, txn, limit)
                .await
                .map_err(|e| in_statement(e, &run.sql))?
        };
        if let (Some(changes), Some((table, leaves_dead))) =
            (self.around.changes, run.plan.changes())
        {
            let (database, table) = key_of(txn.options().database, table);
            changes.add(database, table, found, leaves_dead);
        }
        // Lookups write nothing that the next one would have to see.
        if run.plan.changes().is_some() {
            txn.next_command()?;
            if found > 0 {
                self.forget_keys_of(known.key.table);
            }
        }
        run.idle = execution.park().then_some(execution);
        self.kept.runs.insert(at, run);
        Ok(found)
    }

    fn newest(&self, txn: &Transaction) -> Snapshot {
        match self.around.unconfirmed {
            true => self.around.txns.unconfirmed_snapshot(txn),
            false => self.around.txns.snapshot(txn),
        }
    }

    /// REPEATABLE READ's snapshot.
    fn fixed(&self, txn: &Transaction) -> Option<&Arc<Snapshot>> {
        let fixed = txn.options().isolation == Isolation::RepeatableRead;
        self.around.snapshot.as_ref().filter(|_| fixed)
    }

    /// What the statement sees, and what it must not change without the transaction's own snapshot seeing it too.
    fn snapshots(
        &self,
        txn: &Transaction,
        purpose: Purpose,
    ) -> (Arc<Snapshot>, Option<Arc<Snapshot>>) {
        let newest = || Arc::new(self.newest(txn));
        match self.fixed(txn) {
            Some(own) => {
                let own = Arc::new(own.at_command(txn.command_id()));
                match purpose.sees_newest() {
                    true => (newest(), Some(own)),
                    false => (own, None),
                }
            }
            None => (newest(), None),
        }
    }

    fn start(
        &self,
        txn: &Transaction,
        run: &mut Run,
        purpose: Purpose,
        parameters: &[Datum],
    ) -> Box<Execution> {
        let (snapshot, crosscheck) = self.snapshots(txn, purpose);
        let isolation = txn.options().isolation;
        let function = Arc::clone(self.around.function);
        let mut execution = match run.idle.take() {
            Some(mut idle) => {
                idle.restart(
                    parameters,
                    RunCx {
                        snapshot,
                        isolation,
                        function,
                    },
                );
                idle
            }
            None => Box::new(exec::start(
                &run.plan,
                parameters,
                self.exec_cx(txn, snapshot),
            )),
        };
        execution.crosscheck(crosscheck);
        execution
    }

    fn exec_cx(&self, txn: &Transaction, snapshot: Arc<Snapshot>) -> ExecCx {
        let interrupts = Arc::clone(txn.interrupts());
        ExecCx {
            store: Arc::clone(self.around.store),
            txns: Arc::clone(self.around.txns),
            snapshot,
            isolation: txn.options().isolation,
            function: Arc::clone(self.around.function),
            virtuals: Arc::new(NoVirtualTables),
            limits: self.around.limits,
            temp: TempSpace::new(Arc::clone(&self.around.store.disk), interrupts.pid()),
            interrupts,
            instrument: false,
        }
    }

    /// The statement's plan, from before if it still holds, and its tables locked.
    async fn planned(
        &mut self,
        txn: &mut Transaction,
        known: &Known,
        purpose: Purpose,
    ) -> Result<Run, SqlError> {
        let at = (known.key.oid, purpose);
        let kept = self.kept.runs.remove(&at);
        let mut run = match kept {
            Some(run) if self.locked.contains(&at) => return Ok(run),
            Some(run) if run.reusable => run,
            _ => self.prepare(txn, known, purpose)?,
        };
        for _ in 0..MAX_REPLANS {
            for (relation, mode) in &run.plan.relations {
                lock(self.around.txns, txn, *relation, *mode).await?;
            }
            let now = self.around.views.view(txn, self.around.user).generation();
            if now == run.generation {
                self.locked.insert(at);
                return Ok(run);
            }
            run = self.prepare(txn, known, purpose)?;
        }
        Err(SqlError::internal(
            "the catalog changed too often while a foreign key was being checked",
        ))
    }

    fn prepare(&self, txn: &Transaction, known: &Known, purpose: Purpose) -> Result<Run, SqlError> {
        // The table on the other side may have changed before it was locked.
        let now = self.load(txn, known.key.table, known.key.oid)?;
        let now = now
            .ok_or_else(|| SqlError::internal(format!("foreign key {} is lost", known.key.oid)))?;
        let text = now.both().text(purpose).ok_or_else(|| {
            SqlError::internal(format!(
                "no equality operator for foreign key {}",
                now.key.oid
            ))
        })?;
        // With the rights of the owner of the table that is read or changed (`ri_PerformCheck`).
        let owner = match purpose.is_about_keys() {
            true => now.referenced.owner,
            false => now.table.owner,
        };
        let planned = self.plan(txn, &text, owner);
        let (plan, generation, old_indexes) = planned.map_err(|e| in_statement(e, &text.sql))?;
        // A default may be computed from the session's settings.
        let lasting = !plan.uncacheable && !purpose.sets_defaults();
        Ok(Run {
            plan: Arc::new(plan),
            sql: text.sql,
            generation,
            reusable: old_indexes && lasting,
            idle: None,
        })
    }

    fn plan(
        &self,
        txn: &Transaction,
        text: &Text,
        owner: Oid,
    ) -> Result<(Plan, u64, bool), SqlError> {
        let view = self.around.views.view(txn, owner);
        let function = self.around.function;
        let mut parsed = front::parse(&text.sql)?;
        let statement = match parsed.pop() {
            Some(parsed) => parsed.statement,
            None => return Err(SqlError::internal("a foreign key's statement is empty")),
        };
        let cx = BindCx {
            source: &text.sql,
            functions: function,
        };
        let bound = bind::bind(&statement, &*view, &text.parameters, &cx)?;
        rights::check(&*view, &bound.rights)?;
        // An index, if there is one: what the table's size says now need not hold at the round's end.
        let settings = PlannerSettings {
            enable_seqscan: false,
            ..PlannerSettings::default()
        };
        // The oldest one that the statement may run with.
        let snapshot = match self.fixed(txn) {
            Some(own) => Arc::clone(own),
            None => Arc::new(self.newest(txn)),
        };
        let new_index = Cell::new(false);
        let may_use = |index: &Index| match index.only_if_sees {
            Some(maker) => {
                new_index.set(true);
                !txn.own().contains(maker) && snapshot.sees(maker, self.around.txns) == Sees::Yes
            }
            None => true,
        };
        let planned = plan::plan(
            &bound,
            &*view,
            &PlanCx {
                settings: &settings,
                pages: None,
                may_use: Some(&may_use),
                function,
            },
        )?;
        // What one snapshot may use another may not: such a plan is made anew for each round.
        let generation = bound.generation;
        Ok((planned, generation, !new_index.get()))
    }
}

async fn lock(
    txns: &TxnManager,
    txn: &mut Transaction,
    relation: Oid,
    mode: LockMode,
) -> Result<(), SqlError> {
    let locks = txns.locks();
    locks
        .lock_relation(txn, relation, mode, LockWait::Wait)
        .await?;
    Ok(())
}

/// Its place is in the statement that it came from, which is shown whole.
fn in_statement(e: SqlError, sql: &str) -> SqlError {
    e.nowhere().context(format!("SQL statement \"{sql}\""))
}

async fn run_to_end(
    mut execution: Box<Execution>,
    txn: &mut Transaction,
    limit: Option<u64>,
) -> Result<(Box<Execution>, u64), SqlError> {
    let progress = execution.run(txn, &mut NoRows, limit).await?;
    Ok((execution, progress.rows))
}

struct NoRows;

impl RowSink for NoRows {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, _: &[Datum]) -> Result<SinkState, SqlError> {
        Ok(SinkState::More)
    }
}
