//! What expressions and nodes of one execution share: parameters, subqueries, memory, the budget between yields.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::{Oid, Tid, Xid};
use crate::sql::error::SqlError;
use crate::sql::exec::cte::CteSlot;
use crate::sql::exec::memory::{Memory, MemoryLimits};
use crate::sql::exec::row_store::RowStore;
use crate::sql::exec::subplan::SubPlanState;
use crate::sql::plan::Plan;
use crate::txn::interrupt::Interrupts;
use crate::txn::{RowEvent, RowLockMode};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// What a node's `next` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The node's slots hold a row.
    Row,
    Done,
    /// Hand control back and call again; nothing of the frame is to be looked at.
    Yield,
}

/// Rows that scans may read between two yields.
const BUDGET: u32 = 512;

/// The state of one execution that is not a node's own.
pub struct EvalCx {
    pub params: Vec<Datum>,
    pub function: Arc<FunctionCx>,
    pub memory: Memory,
    /// Operands of the CASE expressions that are being computed, the innermost last.
    pub tested: Vec<Datum>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) subplans: Vec<SubPlanState>,
    /// Of WITH queries, by their places among the subplans.
    pub(crate) ctes: Vec<CteSlot>,
    /// Of recursive queries, while they run.
    pub(crate) work_tables: Vec<Option<RowStore>>,
    /// What subqueries read of the rows around them, and when each was put there.
    pub(crate) outer: Vec<(Datum, u64)>,
    /// How often outer values were put in their places.
    pub(crate) clock: u64,
    /// A subquery would have handed back control, had somebody been there to take it.
    pub(crate) owes_pause: bool,
    pub(crate) access: super::access::Access,
    /// What has to happen before the node that yielded can go on.
    pub(crate) request: Option<Request>,
    /// The execution stands first in the queue of a row. The node that asked for it yields when it is done with the
    /// row, so that the next one may step forward.
    pub(crate) queued: bool,
    /// Rows inserted, updated or deleted.
    pub(crate) changed: u64,
    /// What foreign keys have to look at of them; goes to the transaction with each run.
    pub(crate) row_events: Vec<RowEvent>,
    /// The same by statements in WITH: the table, whether old versions stay behind, how many rows.
    pub(crate) changed_in_with: Vec<(Arc<Relation>, bool, u64)>,
    pub(crate) instruments: Option<super::instrument::Instruments>,
    budget: u32,
}

/// What a node that yields may ask of the loop at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The statement is about to change something.
    AssignXid,
    /// Until this transaction has ended.
    WaitFor(Xid),
    /// The same, for a row that it holds; behind those who came for the row before.
    WaitForRow(Xid, WantedRow),
}

/// A row that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRow {
    pub(crate) relation: Oid,
    pub(crate) tid: Tid,
    pub(crate) mode: RowLockMode,
}

impl EvalCx {
    pub(crate) fn new(
        plan: Option<Arc<Plan>>,
        params: Vec<Datum>,
        function: Arc<FunctionCx>,
        interrupts: Arc<Interrupts>,
        limits: MemoryLimits,
        access: super::access::Access,
    ) -> EvalCx {
        let (count, outer) = plan
            .as_ref()
            .map_or((0, 0), |p| (p.subplans.len(), p.outer_values));
        let work_tables = plan.as_ref().map_or(0, |p| p.work_tables);
        EvalCx {
            params,
            function,
            memory: Memory::new(limits),
            tested: Vec::new(),
            interrupts,
            plan,
            subplans: (0..count).map(|_| SubPlanState::default()).collect(),
            ctes: (0..count).map(|_| CteSlot::default()).collect(),
            work_tables: (0..work_tables).map(|_| None).collect(),
            outer: vec![(Datum::Null, 0); outer],
            clock: 0,
            owes_pause: false,
            access,
            request: None,
            queued: false,
            changed: 0,
            row_events: Vec::new(),
            changed_in_with: Vec::new(),
            instruments: None,
            budget: BUDGET,
        }
    }

    /// For expressions that need nothing but functions: constants, defaults, tests of one row.
    pub fn bare(function: Arc<FunctionCx>) -> EvalCx {
        let pid = crate::ids::ProcessId::MIN;
        EvalCx::new(
            None,
            Vec::new(),
            function,
            Interrupts::new(pid),
            MemoryLimits::default(),
            super::access::Access::none(),
        )
    }

    /// Forgets a run that has ended; `idle` is held until the next one.
    pub(crate) fn end_run(&mut self, idle: &Arc<FunctionCx>) {
        debug_assert!(
            self.subplans.is_empty(),
            "results of subqueries belong to one run"
        );
        self.params.clear();
        self.tested.clear();
        self.function = Arc::clone(idle);
        self.memory = Memory::new(self.memory.limits());
        self.access.xid = None;
        self.access.crosscheck = None;
        self.request = None;
        self.queued = false;
        self.changed = 0;
        self.row_events.clear();
        self.budget = BUDGET;
    }

    /// One row's worth of work. True: hand back control before the next one.
    #[inline]
    pub fn spend(&mut self) -> bool {
        if self.budget == 0 {
            self.budget = BUDGET;
            return true;
        }
        self.budget -= 1;
        false
    }

    /// Counts a row that a statement in WITH has changed.
    pub(crate) fn note_change_in_with(&mut self, relation: &Arc<Relation>, leaves_dead: bool) {
        let mut known = self.changed_in_with.iter_mut();
        match known.find(|(table, dead, _)| table.oid == relation.oid && *dead == leaves_dead) {
            Some((_, _, rows)) => *rows += 1,
            None => {
                let new = (Arc::clone(relation), leaves_dead, 1);
                self.changed_in_with.push(new);
            }
        }
    }

    /// A subquery that ran on where it should have paused has ended: the next node that spends anything pauses.
    pub(crate) fn make_up_for_pauses(&mut self) {
        if std::mem::take(&mut self.owes_pause) {
            self.budget = 0;
        }
    }

    /// Error if the session was told to stop. Called between yields and by loops that cannot yield.
    pub fn check_interrupts(&self) -> Result<(), SqlError> {
        self.interrupts.check().map_err(SqlError::from)
    }
}
