//! One execution of a plan, from its parameters to its last row, possibly in several runs (a portal).
//!
//! A finished execution of a plan that keeps no rows ([`Plan::repeatable`]) can be parked and started again with other
//! parameters: its nodes, frame and buffers are there already. Parked, it holds no snapshot and no values.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::Xid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::sql::exec::access::{Access, Storage, VirtualTables};
use crate::sql::exec::cte;
use crate::sql::exec::cx::{EvalCx, Request, Step, WantedRow};
use crate::sql::exec::instrument;
use crate::sql::exec::memory::MemoryLimits;
use crate::sql::exec::node::{self, BoxNode};
use crate::sql::exec::spill::TempSpace;
use crate::sql::exec::subplan::Running;
use crate::sql::plan::tree::SubPlanKind;
use crate::sql::plan::{Command, Plan};
use crate::storage::Store;
use crate::txn::{
    Interrupts, Isolation, LockMode, LockTag, LockWait, Snapshot, Transaction, TxnManager,
};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// What the session gives to an execution.
pub struct ExecCx {
    pub store: Arc<Store>,
    pub txns: Arc<TxnManager>,
    /// Taken for the statement (READ COMMITTED) or the transaction's.
    pub snapshot: Arc<Snapshot>,
    pub isolation: Isolation,
    pub function: Arc<FunctionCx>,
    pub interrupts: Arc<Interrupts>,
    pub virtuals: Arc<dyn VirtualTables>,
    pub limits: MemoryLimits,
    pub temp: TempSpace,
    /// EXPLAIN ANALYZE: count rows and time of each node.
    pub instrument: bool,
}

/// What differs from one start of an execution to the next.
pub struct RunCx {
    pub snapshot: Arc<Snapshot>,
    pub isolation: Isolation,
    pub function: Arc<FunctionCx>,
}

/// Whether a sink can take more at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkState {
    More,
    /// Its buffer is full: await [`RowSink::ready`] before the next row.
    Full,
}

/// Where rows go.
pub trait RowSink: Send {
    /// Called before the first row of the first run of a statement that gives rows.
    fn columns(&mut self, columns: &[OutputColumn]);
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError>;
    /// Returns when there is room again.
    fn ready(&mut self) -> Pin<Box<dyn Future<Output = Result<(), SqlError>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// False: the limit was reached and there may be more.
    pub complete: bool,
    /// For the command tag: rows sent by this run of a query, rows changed by the whole of a change.
    pub rows: u64,
}

/// The running statement. Dropping it gives back everything that it holds.
pub struct Execution {
    plan: Arc<Plan>,
    root: BoxNode,
    frame: Vec<Datum>,
    row: Vec<Datum>,
    cx: EvalCx,
    txns: Arc<TxnManager>,
    /// The row in whose queue it stands first (see [`Execution::queue`]).
    queue: Option<(LockTag, LockMode)>,
    /// What the tables are reached through, while there is no snapshot.
    parked: Option<Arc<Store>>,
    announced: bool,
    prepared: bool,
    finished: bool,
}

/// Makes the running tree; nothing is read yet.
pub fn start(plan: &Arc<Plan>, params: &[Datum], given: ExecCx) -> Execution {
    let access = Access {
        storage: Some(Storage {
            store: given.store,
            txns: Arc::clone(&given.txns),
            snapshot: given.snapshot,
        }),
        virtuals: given.virtuals,
        temp: Some(given.temp),
        xid: None,
        command: crate::ids::CommandId::FIRST,
        isolation: given.isolation,
        crosscheck: None,
    };
    let mut cx = EvalCx::new(
        Some(Arc::clone(plan)),
        params.to_vec(),
        given.function,
        given.interrupts,
        given.limits,
        access,
    );
    if given.instrument {
        cx.instruments = Some(instrument::Instruments::new(plan.nodes));
    }
    Execution {
        root: node::build(&plan.main.root, &cx),
        frame: vec![Datum::Null; plan.main.slots.len()],
        row: Vec::new(),
        plan: Arc::clone(plan),
        cx,
        txns: given.txns,
        queue: None,
        parked: None,
        announced: false,
        prepared: false,
        finished: false,
    }
}

impl Execution {
    /// Lets go of everything that belongs to the run that has ended. False: it cannot run again.
    pub fn park(&mut self) -> bool {
        let again = self.plan.repeatable && self.finished && self.cx.instruments.is_none();
        if !again || self.root.rewind(&mut self.cx).is_err() {
            return false;
        }
        self.parked = self.cx.access.storage.take().map(|s| s.store);
        self.cx.end_run(&self.plan.function);
        self.frame.fill(Datum::Null);
        self.row.clear();
        true
    }

    /// The next run of a parked execution.
    pub fn restart(&mut self, params: &[Datum], run: RunCx) {
        let store = self
            .parked
            .take()
            .expect("only a parked execution is started again");
        self.cx.access.storage = Some(Storage {
            store,
            txns: Arc::clone(&self.txns),
            snapshot: run.snapshot,
        });
        self.cx.access.isolation = run.isolation;
        self.cx.function = run.function;
        self.cx.params.extend_from_slice(params);
        (self.announced, self.prepared, self.finished) = (false, false, false);
    }

    /// Rows that this snapshot does not see are not to be changed (40001).
    pub fn crosscheck(&mut self, snapshot: Option<Arc<Snapshot>>) {
        self.cx.access.crosscheck = snapshot;
    }

    /// Runs to the end, or until `limit` rows have gone to the sink. May be called again after a limit.
    pub async fn run(
        &mut self,
        txn: &mut Transaction,
        sink: &mut dyn RowSink,
        limit: Option<u64>,
    ) -> Result<Progress, SqlError> {
        let gives_rows = self.plan.gives_rows();
        // A change shows its columns with its first row, as in PostgreSQL: it may fail before.
        if !self.plan.runs_at_once() {
            self.announce(sink);
        }
        self.cx.access.command = txn.command_id();
        // A later run of a cursor may be in another subtransaction, and the one before rolled back.
        self.cx.access.xid = None;
        self.prepare(txn).await?;
        let mut sent = 0;
        while !self.finished {
            if limit == Some(sent) {
                self.hand_over_events(txn);
                return Ok(self.progress(false, sent));
            }
            let step = self.root.next(&mut self.frame, &mut self.cx)?;
            if self.queue.is_some() {
                self.leave_queue(txn);
            }
            match step {
                Step::Row => {
                    self.announce(sink);
                    if !gives_rows {
                        continue;
                    }
                    sent += 1;
                    if self.send(sink)? == SinkState::Full {
                        sink.ready().await?;
                    }
                }
                Step::Yield => self.pause(txn).await?,
                Step::Done => {
                    if self.plan.changes_in_with {
                        self.finish_changes(txn).await?;
                    }
                    self.finished = true;
                }
            }
        }
        self.announce(sink);
        self.hand_over_events(txn);
        Ok(self.progress(true, sent))
    }

    #[inline]
    fn hand_over_events(&mut self, txn: &mut Transaction) {
        if !self.cx.row_events.is_empty() {
            txn.row_events_mut().extend(self.cx.row_events.drain(..));
        }
    }

    fn announce(&mut self, sink: &mut dyn RowSink) {
        if !self.announced && self.plan.gives_rows() {
            sink.columns(&self.plan.output);
        }
        self.announced = true;
    }

    fn progress(&self, complete: bool, sent: u64) -> Progress {
        let rows = match self.plan.command {
            Command::Select => sent,
            _ => self.cx.changed,
        };
        Progress { complete, rows }
    }

    fn send(&mut self, sink: &mut dyn RowSink) -> Result<SinkState, SqlError> {
        let main = &self.plan.main;
        if let Some(first) = main.contiguous {
            return sink.row(&self.frame[first..first + main.output.len()]);
        }
        self.row.clear();
        self.row
            .extend(main.output.iter().map(|slot| self.frame[*slot].clone()));
        sink.row(&self.row)
    }

    /// Init plans that may have to wait are run before the main tree needs their result.
    async fn prepare(&mut self, txn: &mut Transaction) -> Result<(), SqlError> {
        if self.prepared || self.plan.subplans.is_empty() {
            return Ok(());
        }
        let plan = Arc::clone(&self.plan);
        for (number, subplan) in plan.subplans.iter().enumerate() {
            if !subplan.eager {
                continue;
            }
            if matches!(subplan.kind, SubPlanKind::Cte { .. }) {
                self.run_cte(number, true, txn).await?;
                continue;
            }
            let mut running = Running::begin(&mut self.cx, number)?;
            while !running.advance(&mut self.cx)? {
                self.leave_queue(txn);
                self.pause(txn).await?;
            }
            running.keep(&mut self.cx);
            self.leave_queue(txn);
        }
        self.prepared = true;
        Ok(())
    }

    /// What WITH changes is changed whole, whoever read how much of it; the last statement first, because it may read those
    /// before it.
    async fn finish_changes(&mut self, txn: &mut Transaction) -> Result<(), SqlError> {
        let plan = Arc::clone(&self.plan);
        for (number, subplan) in plan.subplans.iter().enumerate().rev() {
            if subplan.changes() {
                self.run_cte(number, false, txn).await?;
            }
        }
        Ok(())
    }

    /// Runs a WITH query to its end.
    async fn run_cte(
        &mut self,
        number: usize,
        keep: bool,
        txn: &mut Transaction,
    ) -> Result<(), SqlError> {
        loop {
            let step = cte::advance(&mut self.cx, number, keep)?;
            if self.queue.is_some() {
                self.leave_queue(txn);
            }
            match step {
                Step::Row => {}
                Step::Yield => self.pause(txn).await?,
                Step::Done => return Ok(()),
            }
        }
    }

    /// The tables that statements in WITH have changed, whether old versions stay behind, how many rows.
    pub fn changes_in_with(&self) -> &[(Arc<Relation>, bool, u64)] {
        &self.cx.changed_in_with
    }

    /// Between two calls of a node: interrupts, what the node asked for, other tasks.
    async fn pause(&mut self, txn: &mut Transaction) -> Result<(), SqlError> {
        self.cx.check_interrupts()?;
        self.hand_over_events(txn);
        match self.cx.request.take() {
            None => tokio::task::yield_now().await,
            Some(Request::AssignXid) => {
                self.cx.access.xid = Some(self.txns.xid(txn)?);
            }
            Some(Request::WaitFor(xid)) => self.wait_for(txn, xid).await?,
            Some(Request::WaitForRow(xid, row)) => {
                self.queue(txn, row).await?;
                self.wait_for(txn, xid).await?;
            }
        }
        Ok(())
    }

    async fn wait_for(&mut self, txn: &mut Transaction, xid: Xid) -> Result<(), SqlError> {
        let locks = self.txns.locks();
        let waited = locks.wait_for_transaction(txn, xid, LockWait::Wait).await;
        waited.map_err(SqlError::from)
    }

    /// Who has to wait for a row first takes a lock that stands for being the next to get it: the others wait for
    /// that lock, which is granted in order. It is given back as soon as the row is held or no longer wanted.
    async fn queue(&mut self, txn: &mut Transaction, row: WantedRow) -> Result<(), SqlError> {
        let tag = LockTag::Tuple {
            database: txn.options().database,
            relation: row.relation,
            tid: row.tid,
        };
        let mode = row.mode.queue_mode();
        if self.queue != Some((tag, mode)) {
            self.leave_queue(txn);
            self.txns
                .locks()
                .lock(txn, tag, mode, LockWait::Wait)
                .await?;
            self.queue = Some((tag, mode));
        }
        self.cx.queued = true;
        Ok(())
    }

    /// Unless it goes on waiting for that row.
    fn leave_queue(&mut self, txn: &mut Transaction) {
        if matches!(self.cx.request, Some(Request::WaitForRow(..))) {
            return;
        }
        self.cx.queued = false;
        if let Some((tag, mode)) = self.queue.take() {
            self.txns.locks().unlock(txn, tag, mode);
        }
    }

    /// What EXPLAIN ANALYZE shows; `None` if the execution was not asked to measure.
    pub fn instruments(&self) -> Option<&instrument::Instruments> {
        self.cx.instruments.as_ref()
    }
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}
