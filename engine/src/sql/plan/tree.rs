//! The plan as data.
//!
//! Invariants: every level (the statement, each subquery of an expression, each WITH query that runs on its own) has one
//! *frame*, a row of slots. A range's columns, a group's keys and aggregates, a projection's results each have slots of
//! their own; a node writes its slots and reads those of the nodes below it. Nodes that keep rows (sort, hash table,
//! materialisation, window) save and restore exactly the slots listed in them, which are those that something above still
//! reads. Children are shared only once planning is over.
//!
//! A level reads no other level's frame. What a subquery reads of the rows around it are *outer values*, numbered through
//! the statement: whoever runs it puts them into its execution first ([`SubPlanCall::args`]), and a level below that reads
//! one finds it there. A range of FROM has the frame of the query around it, but what it reads of the ranges to its left are
//! such values too, one for each slot: the nested loop that runs it for each of their rows puts them there
//! ([`NestLoop::pass`]). So a node that keeps what it computed lists the outer values behind that, and they are all that it
//! has to ask for.
//!
//! [`SubPlanCall::args`]: crate::sql::bound::SubPlanCall::args

use std::borrow::Cow;
use std::sync::Arc;

pub use super::window::{WindowBound, WindowFrame, WindowNode, WindowSpec};
pub use super::with::{CteScan, RecursiveUnion, WorkTableScan};
use crate::catalog::relation::{Index, LockMode, Relation};
use crate::ids::Oid;
use crate::sql::bound::{Disclosure, JoinKind, LockWait, OutputColumn, RowLockMode, SetOp};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test};
use crate::table::row::RowDecoder;
use crate::types::compare::{Comparator, Hasher};
use crate::types::datum::SqlType;
use crate::types::function::{Aggregate, Function, FunctionCx};

/// What the statement is, for its command tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    /// The tag that CommandComplete carries for `rows` rows. Those of statements by key are there already.
    pub fn tag(self, rows: u64) -> Cow<'static, str> {
        match (self, rows) {
            (Command::Select, 1) => Cow::Borrowed("SELECT 1"),
            (Command::Insert, 1) => Cow::Borrowed("INSERT 0 1"),
            (Command::Update, 1) => Cow::Borrowed("UPDATE 1"),
            (Command::Delete, 1) => Cow::Borrowed("DELETE 1"),
            (Command::Select, _) => Cow::Owned(format!("SELECT {rows}")),
            (Command::Insert, _) => Cow::Owned(format!("INSERT 0 {rows}")),
            (Command::Update, _) => Cow::Owned(format!("UPDATE {rows}")),
            (Command::Delete, _) => Cow::Owned(format!("DELETE {rows}")),
        }
    }
}

/// A statement, planned. Shared by all its executions.
#[derive(Debug)]
pub struct Plan {
    pub command: Command,
    /// Empty: the statement gives no rows to the client.
    pub output: Arc<[OutputColumn]>,
    pub parameters: Vec<SqlType>,
    /// What the session locks before each execution.
    pub relations: Vec<(Oid, LockMode)>,
    /// The catalog generation that it was made in: replan if that has changed.
    pub generation: u64,
    pub uncacheable: bool,
    /// Something of it reads nothing but parameters and may fail: constants in their place might fail sooner.
    pub computes_parameters: bool,
    /// Whole numbers in the place of its parameters, up to this one and of either sign, fit where it puts them.
    pub largest_taken: i32,
    /// It changes or locks rows: refused in a read-only transaction and on a standby.
    pub writes: bool,
    pub(crate) main: Level,
    pub(crate) subplans: Vec<SubPlan>,
    /// How many outer values there are.
    pub(crate) outer_values: usize,
    /// WITH has statements that change rows.
    pub changes_in_with: bool,
    /// How many recursive queries have a working table.
    pub(crate) work_tables: usize,
    /// How many nodes carry an id.
    pub(crate) nodes: usize,
    /// For showing constants.
    pub(crate) function: Arc<FunctionCx>,
    /// An execution keeps nothing of its rows and can be started again: point reads and changes.
    pub(crate) repeatable: bool,
}

impl Plan {
    /// The table that the statement changes, and whether it leaves old versions of rows behind.
    pub fn changes(&self) -> Option<(&Relation, bool)> {
        let NodeKind::Modify(modify) = &self.main.root.kind else {
            return None;
        };
        Some((&modify.relation, modify.leaves_dead()))
    }

    /// The tables that the statement and those in its WITH change.
    pub fn changed_tables(&self) -> impl Iterator<Item = &Relation> {
        let in_with = self.subplans.iter().filter(|s| s.changes());
        let levels = in_with.map(|s| &s.level).chain([&self.main]);
        levels.filter_map(|level| match &level.root.kind {
            NodeKind::Modify(modify) => Some(&*modify.relation),
            _ => None,
        })
    }

    /// 25006 for what changes or locks rows in a transaction that only reads.
    pub fn check_writable(&self, read_only: bool) -> Result<(), SqlError> {
        if !self.writes || !read_only {
            return Ok(());
        }
        Err(SqlError::read_only(match self.command {
            Command::Select if self.changes_in_with => "SELECT",
            Command::Select => "SELECT FOR UPDATE",
            Command::Insert => "INSERT",
            Command::Update => "UPDATE",
            Command::Delete => "DELETE",
        }))
    }

    /// It gives its rows when all is done, not as they are asked for: it changes something.
    pub fn runs_at_once(&self) -> bool {
        self.command != Command::Select || self.changes_in_with
    }
}

impl Plan {
    /// The tables and indexes that an execution has open from its beginning to its end.
    pub fn opened(&self) -> Vec<Oid> {
        let mut opened = Vec::new();
        self.main.root.opened(&mut opened);
        for subplan in &self.subplans {
            subplan.level.root.opened(&mut opened);
        }
        opened
    }

    /// Whether rows go to the client: those of a query, be they of no columns, and those of RETURNING.
    pub fn gives_rows(&self) -> bool {
        self.command == Command::Select || !self.output.is_empty()
    }
}

/// A tree and its frame.
#[derive(Debug)]
pub struct Level {
    pub root: Arc<PlanNode>,
    pub slots: Vec<SlotInfo>,
    /// Where the visible columns are, in order.
    pub output: Vec<Slot>,
    /// The first slot, if they stand side by side: then a row goes out without being copied.
    pub contiguous: Option<Slot>,
    /// The WITH queries that its own queries define and that are run on their own, by their places among the subplans.
    pub ctes: Vec<usize>,
}

/// What a slot holds; for EXPLAIN and for estimates.
#[derive(Debug, Clone)]
pub struct SlotInfo {
    /// `alias.column`, or empty for a computed value.
    pub name: String,
    pub ty: SqlType,
    /// The expression that fills it, for a computed value.
    pub computed: Option<crate::sql::bound::Expr>,
}

/// A subquery of an expression, or a WITH query that is run on its own. One of an expression that reads nothing of the row
/// beside it is an *init plan*: it is run when it is first asked for, and again only when one of the outer values that it
/// reads has changed. A WITH query is run as far as it is read, and forgotten when one of those values has changed.
#[derive(Debug)]
pub struct SubPlan {
    pub level: Level,
    pub kind: SubPlanKind,
    /// It locks rows, so it may have to wait: run ahead of the main tree.
    pub eager: bool,
    /// The outer values that it reads, but for those of the row beside it.
    pub reads: Box<[usize]>,
    /// Of an init plan: the number behind `$` by which EXPLAIN calls its result.
    pub returns: Option<usize>,
    /// Of a WITH query.
    pub name: String,
}

impl SubPlan {
    /// A statement in WITH that changes rows.
    pub fn changes(&self) -> bool {
        matches!(self.kind, SubPlanKind::Cte { changes: true })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubPlanKind {
    Scalar,
    Exists,
    /// All values of the one column, as an array of `element`.
    Array {
        element: Oid,
    },
    /// All rows, as an array of records.
    Rows,
    /// A WITH query, whose rows are kept for whoever scans them.
    Cte {
        /// It changes rows: run to its end whoever reads it.
        changes: bool,
    },
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub startup: f64,
    pub total: f64,
    pub rows: f64,
    pub width: f64,
}

#[derive(Debug)]
pub struct PlanNode {
    pub kind: NodeKind,
    pub cost: Cost,
    /// Index into the instruments of EXPLAIN ANALYZE.
    pub id: usize,
}

#[derive(Debug)]
pub enum NodeKind {
    /// One row without columns, or none if the condition fails.
    Result {
        filter: Option<Test>,
    },
    SeqScan(SeqScan),
    IndexScan(IndexScan),
    VirtualScan {
        relation: Arc<Relation>,
        alias: String,
        fetch: Fetch,
        filter: Option<Test>,
    },
    FunctionScan(FunctionScan),
    ValuesScan {
        alias: String,
        rows: Vec<Vec<Scalar>>,
        slots: Vec<Slot>,
        filter: Option<Test>,
    },
    Project {
        child: Arc<PlanNode>,
        items: Vec<(Slot, Scalar)>,
    },
    /// For each row of the child the rows of set-returning calls, side by side; NULL where one has ended before another.
    ProjectSet {
        child: Arc<PlanNode>,
        calls: Vec<SetCall>,
    },
    Filter {
        child: Arc<PlanNode>,
        test: Test,
        /// It reads no row: tested before the first one.
        once: bool,
    },
    NestLoop(NestLoop),
    HashJoin(HashJoin),
    Materialize {
        child: Arc<PlanNode>,
        slots: Vec<Slot>,
        /// The outer values that its rows depend on.
        reads: Box<[usize]>,
    },
    Sort(Sort),
    Limit(Limit),
    Aggregate(AggregateNode),
    Window(Box<WindowNode>),
    /// First row of each run of equal keys; the input is ordered by them.
    Unique {
        child: Arc<PlanNode>,
        keys: Vec<KeySlot>,
    },
    /// Each distinct row of the slots once.
    HashDistinct {
        child: Arc<PlanNode>,
        keys: Vec<KeySlot>,
    },
    Append {
        children: Vec<Arc<PlanNode>>,
    },
    SetOp(SetOpNode),
    CteScan(CteScan),
    WorkTableScan(WorkTableScan),
    RecursiveUnion(RecursiveUnion),
    LockRows {
        child: Arc<PlanNode>,
        locks: Vec<LockTarget>,
        recheck: Option<Test>,
        /// Outer joins below, inner ones first: the condition, and the slots that are NULL where it fails.
        outer: Vec<(Option<Test>, Vec<Slot>)>,
        /// What subqueries in FROM computed of the rows to their left, in the order in which they read one another.
        lateral: Vec<Again>,
        /// What was computed below from values that a newer version of a row may replace.
        early: Vec<(Slot, Scalar)>,
    },
    Modify(Box<Modify>),
}

/// A value that is compared or hashed.
#[derive(Debug, Clone, Copy)]
pub struct KeySlot {
    pub slot: Slot,
    pub ty: SqlType,
    pub compare: Comparator,
    pub hash: Option<Hasher>,
}

/// Which of a relation's columns go where: attribute positions rise.
#[derive(Debug, Clone, Default)]
pub struct Fetch {
    pub columns: Vec<(usize, Slot)>,
    pub tableoid: Option<Slot>,
    pub ctid: Option<Slot>,
    pub xmin: Option<Slot>,
    pub xmax: Option<Slot>,
    pub cmin: Option<Slot>,
    pub cmax: Option<Slot>,
    /// The first of the columns' slots, if they stand side by side in order.
    pub direct: Option<Slot>,
    /// Made when the plan is settled, if there are columns.
    pub decoder: Option<RowDecoder>,
}

impl Fetch {
    pub fn has_header_columns(&self) -> bool {
        self.tableoid.is_some()
            || self.xmin.is_some()
            || self.xmax.is_some()
            || self.cmin.is_some()
            || self.cmax.is_some()
    }
    /// Makes the decoder; `columns` are in order.
    pub fn settle(&mut self, relation: &Relation) {
        self.columns.sort_unstable();
        let consecutive = self.columns.windows(2).all(|w| w[0].1 + 1 == w[1].1);
        self.direct = self
            .columns
            .first()
            .filter(|_| consecutive)
            .map(|(_, slot)| *slot);
        if !self.columns.is_empty() {
            let wanted: Vec<usize> = self.columns.iter().map(|(column, _)| *column).collect();
            self.decoder = Some(RowDecoder::new(relation, &wanted));
        }
    }
    /// Every slot that it fills.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let system = [
            self.tableoid,
            self.ctid,
            self.xmin,
            self.xmax,
            self.cmin,
            self.cmax,
        ];
        self.columns
            .iter()
            .map(|(_, slot)| *slot)
            .chain(system.into_iter().flatten())
    }
}

#[derive(Debug)]
pub struct SeqScan {
    pub relation: Arc<Relation>,
    pub alias: String,
    pub fetch: Fetch,
    pub filter: Option<Test>,
}

#[derive(Debug)]
pub struct IndexScan {
    pub relation: Arc<Relation>,
    pub alias: String,
    pub index: Arc<Index>,
    pub backward: bool,
    /// Values of the leading key columns.
    pub equal: Vec<KeyValue>,
    /// Bounds of the key column behind them.
    pub lower: Option<Bound>,
    pub upper: Option<Bound>,
    pub fetch: Fetch,
    /// Conditions that the index does not answer.
    pub filter: Option<Test>,
    /// The conditions that it does, for EXPLAIN and for rechecks.
    pub conditions: Vec<crate::sql::bound::Expr>,
    /// A value for each key column: one range, whose bytes are the key's. Set when the plan is settled.
    pub point: bool,
}

/// What a key column must equal.
#[derive(Debug)]
pub enum KeyValue {
    One(Scalar),
    /// Any of these: a scan for each different one, in key order.
    AnyOf(Vec<Scalar>),
    /// Any item of this array.
    AnyArray(Scalar),
    IsNull,
}

#[derive(Debug)]
pub struct Bound {
    pub value: Scalar,
    pub inclusive: bool,
}

/// The rows of functions, side by side: NULLs stand for those of one that has ended before another.
#[derive(Debug)]
pub struct FunctionScan {
    pub alias: String,
    pub calls: Vec<TableCall>,
    pub ordinality: Option<Slot>,
    pub filter: Option<Test>,
}

/// A call in FROM.
#[derive(Debug)]
pub struct TableCall {
    /// None: the only argument is the value.
    pub function: Option<&'static Function>,
    pub args: Vec<Scalar>,
    /// The types that the call was resolved to.
    pub arg_types: Vec<Oid>,
    pub result: Oid,
    /// It gives records, whose fields go to the slots.
    pub fields: bool,
    /// One slot for a scalar, one for each field of a record; `None` for fields that nobody reads.
    pub slots: Vec<Option<Slot>>,
}

/// A set-returning call in a select list.
#[derive(Debug)]
pub struct SetCall {
    pub function: &'static Function,
    pub args: Vec<Scalar>,
    /// The types that the call was resolved to.
    pub arg_types: Vec<Oid>,
    pub result: Oid,
    pub slot: Slot,
}

/// How a join treats rows without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    Inner,
    Left,
    Right,
    Full,
    /// Outer rows with a partner, once.
    Semi,
    /// Outer rows without a partner.
    Anti,
}

impl From<JoinKind> for JoinType {
    fn from(kind: JoinKind) -> JoinType {
        match kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Left,
            JoinKind::Right => JoinType::Right,
            JoinKind::Full => JoinType::Full,
        }
    }
}

#[derive(Debug)]
pub struct NestLoop {
    /// Inner, Left, Semi or Anti.
    pub join: JoinType,
    pub outer: Arc<PlanNode>,
    /// Rewound for each outer row, whose slots it may read.
    pub inner: Arc<PlanNode>,
    /// Outer values that the inner side reads, and the slots of the outer row that they are.
    pub pass: Vec<(usize, Slot)>,
    pub condition: Option<Test>,
    /// Conditions of WHERE above an outer join.
    pub filter: Option<Test>,
    /// Set to NULL for a row without partner.
    pub inner_slots: Vec<Slot>,
}

#[derive(Debug)]
pub struct HashJoin {
    pub join: JoinType,
    /// Read row by row.
    pub outer: Arc<PlanNode>,
    /// Kept in the hash table.
    pub inner: Arc<PlanNode>,
    pub outer_keys: Vec<Scalar>,
    pub inner_keys: Vec<Scalar>,
    /// Of the inner keys.
    pub key_order: Vec<(Comparator, Hasher)>,
    /// Of the outer keys, whose type may be another one that hashes alike.
    pub probe_order: Vec<(Comparator, Hasher)>,
    /// Conditions of the join that are not equalities.
    pub residual: Option<Test>,
    pub filter: Option<Test>,
    /// What is kept of the inner side.
    pub inner_slots: Vec<Slot>,
    /// Set to NULL for an inner row without partner; what a spilled outer row keeps.
    pub outer_slots: Vec<Slot>,
    /// For EXPLAIN: the equalities.
    pub conditions: Vec<crate::sql::bound::Expr>,
}

#[derive(Debug, Clone, Copy)]
pub struct SortKey {
    pub slot: Slot,
    pub ty: SqlType,
    pub compare: Comparator,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug)]
pub struct Sort {
    pub child: Arc<PlanNode>,
    pub keys: Vec<SortKey>,
    /// What is kept of a row, keys included.
    pub slots: Vec<Slot>,
    /// Only so many first rows are wanted (limit and offset are known when it starts).
    pub limit: Option<TopRows>,
}

/// LIMIT + OFFSET as seen by the sort below.
#[derive(Debug)]
pub struct TopRows {
    pub limit: Scalar,
    pub offset: Option<Scalar>,
}

#[derive(Debug)]
pub struct Limit {
    pub child: Arc<PlanNode>,
    pub limit: Option<Scalar>,
    pub offset: Option<Scalar>,
    /// WITH TIES: the sort keys.
    pub ties: Option<Vec<SortKey>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// One group, one row, even of no input.
    Plain,
    Hashed,
    /// The input is ordered by the keys.
    Sorted,
}

#[derive(Debug)]
pub struct AggregateNode {
    pub child: Arc<PlanNode>,
    pub grouping: Grouping,
    /// The group expressions' values, already in slots of the input.
    pub keys: Vec<KeySlot>,
    pub calls: Vec<AggregateSpec>,
}

#[derive(Debug)]
pub struct AggregateSpec {
    pub aggregate: &'static Aggregate,
    pub args: Vec<Scalar>,
    pub arg_types: Vec<Oid>,
    pub distinct: bool,
    /// (expression, comparator, descending, nulls first)
    pub order_by: Vec<AggregateOrder>,
    pub filter: Option<Test>,
    pub slot: Slot,
}

#[derive(Debug)]
pub struct AggregateOrder {
    pub value: Scalar,
    pub compare: Comparator,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug)]
pub struct SetOpNode {
    pub op: SetOp,
    pub all: bool,
    /// Both write the slots of `keys`.
    pub left: Arc<PlanNode>,
    pub right: Arc<PlanNode>,
    pub keys: Vec<KeySlot>,
}

/// A step of computing anew what a range of FROM was given and made of it.
#[derive(Debug)]
pub enum Again {
    /// An outer value, and the slot that it is.
    Pass(usize, Slot),
    Compute(Slot, Scalar),
}

#[derive(Debug)]
pub struct LockTarget {
    pub relation: Arc<Relation>,
    /// The row's address; NULL for the null-extended side of an outer join, which is not locked.
    pub ctid: Slot,
    pub fetch: Fetch,
    pub mode: RowLockMode,
    pub wait: LockWait,
}

#[derive(Debug)]
pub struct Modify {
    pub child: Arc<PlanNode>,
    pub relation: Arc<Relation>,
    pub disclosure: Disclosure,
    pub action: ModifyAction,
    /// Checked on each new row, whose columns are in `row_slots`.
    pub checks: Vec<CheckTest>,
    /// The new row (for DELETE, the old one), a slot for each column of the relation.
    pub row_slots: Vec<Slot>,
    /// RETURNING's expressions; none: nothing is given up to the client.
    pub returning: Vec<(Slot, Scalar)>,
    /// System columns of the new row that RETURNING reads.
    pub system: Fetch,
    /// It is the statement's own, whose rows the command tag counts, and none of WITH.
    pub counts: bool,
}

impl Modify {
    /// Old versions of rows stay behind.
    pub fn leaves_dead(&self) -> bool {
        !matches!(
            self.action,
            ModifyAction::Insert {
                on_conflict: None,
                ..
            }
        )
    }
}

#[derive(Debug)]
pub struct CheckTest {
    pub name: String,
    pub test: Test,
}

#[derive(Debug)]
pub enum ModifyAction {
    Insert {
        /// A slot of the child for each column.
        source: Vec<Slot>,
        on_conflict: Option<ConflictPlan>,
    },
    Update {
        ctid: Slot,
        /// Reads the newest version into the child's slots when the row has changed.
        fetch: Fetch,
        /// Computed before anything changes; (column, value).
        assignments: Vec<(usize, Scalar)>,
        /// Old values, a slot for each column.
        old: Vec<Slot>,
        recheck: Option<Test>,
    },
    Delete {
        ctid: Slot,
        fetch: Fetch,
        recheck: Option<Test>,
    },
}

#[derive(Debug)]
pub struct ConflictPlan {
    /// Empty: any unique index.
    pub arbiters: Vec<Oid>,
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE: the existing row is in `old`, the proposed one in `Modify::row_slots`' source.
#[derive(Debug)]
pub struct ConflictUpdate {
    pub old: Vec<Slot>,
    pub fetch: Fetch,
    pub assignments: Vec<(usize, Scalar)>,
    pub filter: Option<Test>,
}

impl PlanNode {
    fn opened(&self, opened: &mut Vec<Oid>) {
        match &self.kind {
            NodeKind::SeqScan(scan) => opened.push(scan.relation.oid),
            // A sequence, for what can be changed at all.
            NodeKind::VirtualScan { relation, .. } => opened.push(relation.oid),
            NodeKind::IndexScan(scan) => opened.extend([scan.relation.oid, scan.index.oid]),
            NodeKind::LockRows { locks, .. } => {
                opened.extend(locks.iter().map(|lock| lock.relation.oid));
            }
            _ => {}
        }
        for child in self.children() {
            child.opened(opened);
        }
    }

    /// The nodes it reads from, outer first.
    pub fn children(&self) -> Vec<&Arc<PlanNode>> {
        match &self.kind {
            NodeKind::Result { .. }
            | NodeKind::SeqScan(_)
            | NodeKind::IndexScan(_)
            | NodeKind::VirtualScan { .. }
            | NodeKind::FunctionScan(_)
            | NodeKind::CteScan(_)
            | NodeKind::WorkTableScan(_)
            | NodeKind::ValuesScan { .. } => Vec::new(),
            NodeKind::Project { child, .. }
            | NodeKind::ProjectSet { child, .. }
            | NodeKind::Filter { child, .. }
            | NodeKind::Materialize { child, .. }
            | NodeKind::Unique { child, .. }
            | NodeKind::HashDistinct { child, .. }
            | NodeKind::LockRows { child, .. } => vec![child],
            NodeKind::NestLoop(j) => vec![&j.outer, &j.inner],
            NodeKind::HashJoin(j) => vec![&j.outer, &j.inner],
            NodeKind::Sort(s) => vec![&s.child],
            NodeKind::Limit(l) => vec![&l.child],
            NodeKind::Aggregate(a) => vec![&a.child],
            NodeKind::Window(w) => vec![&w.child],
            NodeKind::Append { children } => children.iter().collect(),
            NodeKind::SetOp(s) => vec![&s.left, &s.right],
            NodeKind::RecursiveUnion(r) => vec![&r.first, &r.step],
            NodeKind::Modify(m) => vec![&m.child],
        }
    }

    /// The same to change them, before the plan is shared.
    pub fn children_mut(&mut self) -> Vec<&mut PlanNode> {
        let children: Vec<&mut Arc<PlanNode>> = match &mut self.kind {
            NodeKind::Result { .. }
            | NodeKind::SeqScan(_)
            | NodeKind::IndexScan(_)
            | NodeKind::VirtualScan { .. }
            | NodeKind::FunctionScan(_)
            | NodeKind::CteScan(_)
            | NodeKind::WorkTableScan(_)
            | NodeKind::ValuesScan { .. } => Vec::new(),
            NodeKind::Project { child, .. }
            | NodeKind::ProjectSet { child, .. }
            | NodeKind::Filter { child, .. }
            | NodeKind::Materialize { child, .. }
            | NodeKind::Unique { child, .. }
            | NodeKind::HashDistinct { child, .. }
            | NodeKind::LockRows { child, .. } => vec![child],
            NodeKind::NestLoop(j) => vec![&mut j.outer, &mut j.inner],
            NodeKind::HashJoin(j) => vec![&mut j.outer, &mut j.inner],
            NodeKind::Sort(s) => vec![&mut s.child],
            NodeKind::Limit(l) => vec![&mut l.child],
            NodeKind::Aggregate(a) => vec![&mut a.child],
            NodeKind::Window(w) => vec![&mut w.child],
            NodeKind::Append { children } => children.iter_mut().collect(),
            NodeKind::SetOp(s) => vec![&mut s.left, &mut s.right],
            NodeKind::RecursiveUnion(r) => vec![&mut r.first, &mut r.step],
            NodeKind::Modify(m) => vec![&mut m.child],
        };
        children
            .into_iter()
            .map(|child| Arc::get_mut(child).expect("a plan is not shared before it is settled"))
            .collect()
    }
}
