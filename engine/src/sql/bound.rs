//! The bound query: names resolved, types chosen, functions picked. `bind` makes it, `plan` reads it.
//!
//! Invariants: every expression has its type and every argument has the exact type that its function takes
//! (casts are explicit calls); a column is addressed by (range, column) within its query level; aggregates
//! stand in [`Select::aggregates`] and are referred to by index; everything that a statement touches is listed
//! in [`Bound::relations`], so that the session can lock it and have the names checked again.
//!
//! Query levels are numbered from the outside in, from the statement's own on. What a subquery reads of a level around it
//! is an [`Expr::Outer`] with that level's number, however deep it stands: a query that is put around another one changes
//! nothing in it. Of two levels of which one stands in the other, however it came there, none has the other's number.

use std::sync::Arc;

use crate::catalog::relation::{LockMode, Relation};
use crate::ids::Oid;
use crate::sql::rights::Needed;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{Aggregate, Function};
use crate::types::windows::WindowFunction;

/// A statement ready for planning.
#[derive(Debug, Clone)]
pub struct Bound {
    pub statement: BoundStatement,
    /// Types of `$1..$n`, as declared or inferred.
    pub parameters: Vec<SqlType>,
    /// What the session must lock before planning, each with the strongest mode needed.
    pub relations: Vec<(Oid, LockMode)>,
    /// What the asker must be allowed to do with them.
    pub rights: Needed,
    /// The catalog generation the names were resolved in.
    pub generation: u64,
    /// True if a result may differ between two executions with the same catalog for reasons other than data:
    /// such a plan is not kept (none in this version's grammar except `search_path` dependence).
    pub uncacheable: bool,
}

#[derive(Debug, Clone)]
pub enum BoundStatement {
    Query(Box<Query>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
}

/// What a client sees of a result column (`RowDescription`). `Eq`, so that a list of them is not compared with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    pub name: String,
    pub ty: SqlType,
    /// The table column it comes from, or (0, 0).
    pub table: Oid,
    pub attribute: i16,
}

/// A WITH query by its number in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CteId(usize);

impl CteId {
    pub fn new(number: usize) -> CteId {
        CteId(number)
    }
}

/// A WITH query: bound once, at the level that defines it, whose ranges it does not see. Ranges name it by its number, so
/// what it reads of levels further out is no part of what these ranges read: whoever goes over a query finds it with the
/// query that defines it.
#[derive(Debug, Clone)]
pub struct Cte {
    pub id: CteId,
    pub name: String,
    pub columns: Vec<OutputColumn>,
    /// How many ranges read it, its own of a recursive one not counted.
    pub references: usize,
    /// MATERIALIZED, NOT MATERIALIZED.
    pub materialized: Option<bool>,
    pub source: CteSource,
}

#[derive(Debug, Clone)]
pub enum CteSource {
    Query(Box<Query>),
    Recursive(Box<Recursive>),
    /// INSERT, UPDATE or DELETE, at the statement's top only: run once and to its end, whoever reads its RETURNING.
    Change(BoundStatement),
}

/// `first UNION [ALL] step`, both with the types of the query's columns; the step reads the rows that came last.
#[derive(Debug, Clone)]
pub struct Recursive {
    pub all: bool,
    pub first: Query,
    pub step: Query,
    pub ctes: Vec<Cte>,
}

/// A whole SELECT, with its set operations, ordering and limits.
#[derive(Debug, Clone)]
pub struct Query {
    /// WITH, each behind those that it reads.
    pub ctes: Vec<Cte>,
    pub body: Body,
    /// Keys are indexes into the body's targets (junk ones included).
    pub order_by: Vec<SortItem>,
    pub limit: Option<Expr>,
    pub offset: Option<Expr>,
    pub with_ties: bool,
    /// FOR UPDATE and the like, for ranges of the body's select.
    pub locking: Vec<RowLocking>,
    /// The visible columns: the first `output.len()` targets of the body; junk targets come behind them.
    pub output: Vec<OutputColumn>,
}

#[derive(Debug, Clone)]
pub enum Body {
    Select(Box<Select>),
    Values(Values),
    SetOperation(Box<SetOperation>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOp {
    Union,
    Intersect,
    Except,
}

#[derive(Debug, Clone)]
pub struct SetOperation {
    pub op: SetOp,
    pub all: bool,
    /// Both sides give the same column types (casts are already in their targets).
    pub left: Query,
    pub right: Query,
}

#[derive(Debug, Clone)]
pub struct Values {
    pub rows: Vec<Vec<Expr>>,
    pub types: Vec<SqlType>,
}

#[derive(Debug, Clone)]
pub struct Select {
    /// By which subqueries refer to its rows; `None` where no name can mean them (a query that is put around another one).
    pub level: Option<usize>,
    /// The range table of this level; `Expr::Column` and `FromItem::Range` index it.
    pub ranges: Vec<Range>,
    /// FROM items, joined by comma (inner, no condition). Empty: one row without columns.
    pub from: Vec<FromItem>,
    pub filter: Option<Expr>,
    /// Grouped if this is not empty, or if there are aggregates, or if there is a HAVING.
    pub group_by: Vec<Expr>,
    pub having: Option<Expr>,
    pub aggregates: Vec<AggregateCall>,
    /// Window functions, over the rows that FROM or the grouping gives; only targets read their results.
    pub windows: Windowing,
    /// Target expressions; above grouping, they, `having`, window functions and sort keys use only group expressions
    /// (as [`Expr::Group`]) and aggregates (as [`Expr::Aggregate`]).
    pub targets: Vec<Target>,
    pub distinct: Distinct,
}

#[derive(Debug, Clone)]
pub struct Target {
    pub expr: Expr,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Distinct {
    No,
    /// Over all visible targets.
    All,
    /// DISTINCT ON: indexes of targets.
    On(Vec<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortItem {
    pub target: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

/// One thing that rows come from.
#[derive(Debug, Clone)]
pub struct Range {
    pub alias: String,
    pub source: RangeSource,
    pub columns: Vec<RangeColumn>,
}

impl Range {
    /// It is the query's own name in the query.
    pub fn reads_itself(&self) -> bool {
        matches!(
            self.source,
            RangeSource::Cte {
                reads_itself: true,
                ..
            }
        )
    }
}

#[derive(Debug, Clone)]
pub struct RangeColumn {
    pub name: String,
    pub ty: SqlType,
}

#[derive(Debug, Clone)]
pub enum RangeSource {
    /// A table; `columns[i]` is the relation's `columns[i]` (dropped columns are there, unreachable by name).
    Table(Arc<Relation>),
    /// A table that the code fills (`pg_proc`, `pg_settings`, ...).
    Virtual(Arc<Relation>),
    /// A query of a WITH clause, of this level or of one around it.
    Cte {
        id: CteId,
        name: String,
        /// Nothing of a query that reads itself.
        output: Vec<OutputColumn>,
        reads_itself: bool,
    },
    /// After LATERAL it reads the ranges to its left as values of a level around it ([`Expr::Outer`]).
    Subquery(Box<Query>),
    Values(Values),
    /// Functions side by side: a row has the next one of each, NULL where one has ended before another.
    Function {
        calls: Vec<RangeCall>,
        with_ordinality: bool,
    },
}

/// A call in FROM.
#[derive(Debug, Clone)]
pub struct RangeCall {
    /// [`Expr::Call`] of a set-returning or of a plain function, or what another word of SQL stands for: then it is one
    /// value. It reads columns of the ranges to its left as expressions of its level do.
    pub call: Expr,
    /// How many of the range's columns are its own.
    pub columns: usize,
}

impl RangeCall {
    pub fn function(&self) -> Option<&'static Function> {
        match &self.call {
            Expr::Call { function, .. } => Some(*function),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub enum FromItem {
    Range(usize),
    Join(Box<Join>),
}

#[derive(Debug, Clone)]
pub struct Join {
    pub kind: JoinKind,
    pub left: FromItem,
    pub right: FromItem,
    /// Already contains what USING and NATURAL mean.
    pub on: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Debug, Clone)]
pub struct RowLocking {
    pub range: usize,
    pub mode: RowLockMode,
    pub wait: LockWait,
}

/// The four row locks, weakest first. Manual, 13.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowLockMode {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    Block,
    NoWait,
    SkipLocked,
}

#[derive(Debug, Clone)]
pub struct AggregateCall {
    pub aggregate: &'static Aggregate,
    pub args: Vec<Expr>,
    pub distinct: bool,
    /// ORDER BY inside the call: (argument expression, descending, nulls first).
    pub order_by: Vec<(Expr, bool, bool)>,
    pub filter: Option<Expr>,
    pub ty: SqlType,
}

/// The window functions of a level and the windows that they are over.
#[derive(Debug, Clone, Default)]
pub struct Windowing {
    /// Each is used, no two are the same.
    pub windows: Vec<Window>,
    pub calls: Vec<WindowCall>,
}

impl Windowing {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

#[derive(Debug, Clone)]
pub struct Window {
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<WindowOrder>,
    pub frame: Frame,
}

#[derive(Debug, Clone)]
pub struct WindowOrder {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameMode {
    Rows,
    Range,
    Groups,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    NoOthers,
    CurrentRow,
    Group,
    Ties,
}

/// Which rows of the partition a row's frame has. Manual, 4.2.8.
#[derive(Debug, Clone)]
pub struct Frame {
    pub mode: FrameMode,
    pub start: FrameBound,
    pub end: FrameBound,
    pub exclude: Exclusion,
}

/// Offsets read no row: `bigint` of ROWS and GROUPS, of RANGE what the order's type takes.
#[derive(Debug, Clone)]
pub enum FrameBound {
    UnboundedPreceding,
    Preceding(Expr),
    CurrentRow,
    Following(Expr),
    UnboundedFollowing,
}

impl FrameBound {
    pub fn offset(&self) -> Option<&Expr> {
        match self {
            FrameBound::Preceding(e) | FrameBound::Following(e) => Some(e),
            _ => None,
        }
    }
    pub fn offset_mut(&mut self) -> Option<&mut Expr> {
        match self {
            FrameBound::Preceding(e) | FrameBound::Following(e) => Some(e),
            _ => None,
        }
    }
}

impl Default for Frame {
    fn default() -> Frame {
        Frame {
            mode: FrameMode::Range,
            start: FrameBound::UnboundedPreceding,
            end: FrameBound::CurrentRow,
            exclude: Exclusion::NoOthers,
        }
    }
}

/// What is computed over a window.
#[derive(Debug, Clone, Copy)]
pub enum WindowCallee {
    Function(&'static WindowFunction),
    Aggregate(&'static Aggregate),
}

impl WindowCallee {
    pub fn oid(self) -> Oid {
        match self {
            WindowCallee::Function(f) => f.oid,
            WindowCallee::Aggregate(a) => a.oid,
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            WindowCallee::Function(f) => f.name,
            WindowCallee::Aggregate(a) => a.name,
        }
    }
}

#[derive(Debug, Clone)]
pub struct WindowCall {
    pub callee: WindowCallee,
    /// Its place among [`Windowing::windows`].
    pub window: usize,
    pub args: Vec<Expr>,
    pub filter: Option<Expr>,
    pub ty: SqlType,
}

#[derive(Debug, Clone)]
pub enum Expr {
    Const(Datum, SqlType),
    /// `$n`, counted from 0.
    Param(usize, SqlType),
    Column(ColumnRef),
    /// A group expression by its index in `Select::group_by`.
    Group(usize, SqlType),
    /// An aggregate by its index in `Select::aggregates`.
    Aggregate(usize, SqlType),
    /// A window function by its index in `Windowing::calls`.
    Window(usize, SqlType),
    /// Functions, operators and cast functions alike.
    Call {
        function: &'static Function,
        args: Vec<Expr>,
        ty: SqlType,
    },
    /// A cast that goes through the text form of both types.
    CastViaText {
        arg: Box<Expr>,
        ty: SqlType,
    },
    /// Length coercion (`varchar(n)`, `numeric(p,s)`, ...); explicit casts cut where assignments refuse.
    Coerce {
        arg: Box<Expr>,
        ty: SqlType,
        explicit: bool,
    },
    /// The same bits under another type (`text` as `varchar`).
    Relabel {
        arg: Box<Expr>,
        ty: SqlType,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        arg: Box<Expr>,
        negated: bool,
    },
    /// IS [NOT] TRUE, FALSE, UNKNOWN.
    BoolTest {
        arg: Box<Expr>,
        is: Option<bool>,
        negated: bool,
    },
    /// IS [NOT] DISTINCT FROM; `equal` is the operator's function.
    IsDistinct {
        equal: &'static Function,
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    Case {
        /// What is compared with each arm, where it has to be computed once for all: the arms' conditions read it as
        /// [`Expr::CaseTest`]. Otherwise it stands in the conditions themselves.
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        ty: SqlType,
    },
    /// The operand of the CASE around it.
    CaseTest(SqlType),
    Coalesce(Vec<Expr>, SqlType),
    /// NULLIF(left, right)
    NullIf {
        equal: &'static Function,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// GREATEST and LEAST.
    MinMax {
        args: Vec<Expr>,
        greatest: bool,
        ty: SqlType,
    },
    /// `left op ANY (list)` or ALL; IN is `= ANY`, NOT IN is `<> ALL`. Each item has the function's type.
    AnyOf {
        function: &'static Function,
        left: Box<Expr>,
        items: Vec<Expr>,
        all: bool,
    },
    /// `left op ANY (array)` or ALL.
    AnyArray {
        function: &'static Function,
        left: Box<Expr>,
        array: Box<Expr>,
        all: bool,
    },
    /// `(a, b) op ANY (query)` or ALL: `rows` is the query's init plan.
    AnyRow {
        left: Vec<Expr>,
        rows: Box<Expr>,
        test: Box<RowTest>,
    },
    ArrayLiteral {
        items: Vec<Expr>,
        ty: SqlType,
    },
    /// Row value, for output and IS NULL only; comparisons are expanded by the binder.
    Row(Vec<Expr>),
    Subquery(Box<SubqueryExpr>),
    /// A value of a query level further out, in a subquery.
    Outer(Box<OuterRef>),
    /// A subquery that reads the row beside it, as the planner leaves it.
    SubPlan(Box<SubPlanCall>),
    /// DEFAULT of the target column, in INSERT's VALUES and UPDATE's SET; replaced by the binder before planning.
    SetToDefault(SqlType),
    /// System column of a range (`ctid`, `xmin`, `tableoid`, ...).
    SystemColumn {
        range: usize,
        column: SystemColumn,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemColumn {
    TableOid,
    Ctid,
    Xmin,
    Xmax,
    Cmin,
    Cmax,
}

impl SystemColumn {
    pub const fn name(self) -> &'static str {
        match self {
            SystemColumn::TableOid => "tableoid",
            SystemColumn::Ctid => "ctid",
            SystemColumn::Xmin => "xmin",
            SystemColumn::Xmax => "xmax",
            SystemColumn::Cmin => "cmin",
            SystemColumn::Cmax => "cmax",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnRef {
    pub range: usize,
    pub column: usize,
    pub ty: SqlType,
}

/// What a subquery reads of a row of a level around it; in FROM, of the part of that row that is to its left.
#[derive(Debug, Clone)]
pub struct OuterRef {
    /// The number of the level that `expr` belongs to.
    pub level: usize,
    /// Over that level's columns, group expressions and aggregates; no subquery is in it.
    pub expr: Expr,
}

/// A run of a planned subquery.
#[derive(Debug, Clone)]
pub struct SubPlanCall {
    /// Its place in the plan's list.
    pub number: usize,
    /// What it is given of the row: the numbers by which its level asks for the values.
    pub args: Vec<(usize, Expr)>,
    pub ty: SqlType,
}

#[derive(Debug, Clone)]
pub struct SubqueryExpr {
    pub kind: SubqueryKind,
    pub query: Query,
    pub ty: SqlType,
}

#[derive(Debug, Clone)]
pub enum SubqueryKind {
    /// One column; 21000 if it gives more than one row.
    Scalar,
    Exists,
    /// `left op ANY (query)`; IN is `= ANY`.
    Any {
        function: &'static Function,
        left: Expr,
        all: bool,
    },
    /// `(a, b) op ANY (query)`: rows of several columns.
    AnyRow {
        left: Vec<Expr>,
        test: RowTest,
    },
    /// ARRAY(query)
    Array,
}

/// How a row compares with each row of a query.
#[derive(Debug, Clone)]
pub struct RowTest {
    /// The comparison with one of them, over the left row's columns and behind them the other's (all of range 0).
    pub comparison: Expr,
    /// For EXPLAIN.
    pub operator: String,
    pub all: bool,
}

/// What an error shows of a row that a constraint refused.
#[derive(Debug, Clone)]
pub enum Disclosure {
    WholeRow,
    /// To whoever may not read the table: what the statement itself gives, by the columns' positions.
    Columns(Arc<[usize]>),
}

#[derive(Debug, Clone)]
pub struct Insert {
    pub ctes: Vec<Cte>,
    pub target: Arc<Relation>,
    pub disclosure: Disclosure,
    /// Gives one value for each column of the relation that is not dropped... in attribute order, defaults and
    /// assignment casts included; dropped columns get NULL.
    pub source: Query,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Returning>,
    /// OVERRIDING SYSTEM VALUE was checked by the binder.
    pub default_values: bool,
}

#[derive(Debug, Clone)]
pub struct OnConflict {
    /// Index oids that arbitrate; empty means any unique index (only with `Nothing`).
    pub arbiters: Vec<Oid>,
    pub action: ConflictAction,
}

#[derive(Debug, Clone)]
pub enum ConflictAction {
    Nothing,
    /// Range 0 is the existing row, range 1 is EXCLUDED.
    Update {
        /// As [`Select::level`], here and below.
        level: usize,
        assignments: Vec<Assignment>,
        filter: Option<Expr>,
    },
}

/// `column` counts from 0 in the relation's columns; the value already has the column's type.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub column: usize,
    pub value: Expr,
}

/// RETURNING: range 0 is the target's new (for DELETE, old) row, further ranges are those of FROM or USING.
#[derive(Debug, Clone)]
pub struct Returning {
    pub level: usize,
    pub targets: Vec<Target>,
    pub output: Vec<OutputColumn>,
}

#[derive(Debug, Clone)]
pub struct Update {
    pub ctes: Vec<Cte>,
    pub level: usize,
    pub target: Arc<Relation>,
    pub disclosure: Disclosure,
    /// Range 0 is the target; FROM's ranges follow.
    pub ranges: Vec<Range>,
    pub from: Vec<FromItem>,
    pub filter: Option<Expr>,
    pub assignments: Vec<Assignment>,
    pub returning: Option<Returning>,
}

#[derive(Debug, Clone)]
pub struct Delete {
    pub ctes: Vec<Cte>,
    pub level: usize,
    pub target: Arc<Relation>,
    /// Range 0 is the target; USING's ranges follow.
    pub ranges: Vec<Range>,
    pub using: Vec<FromItem>,
    pub filter: Option<Expr>,
    pub returning: Option<Returning>,
}

impl Expr {
    /// The type of the value it gives.
    pub fn ty(&self) -> SqlType {
        use crate::types::oids;
        match self {
            Expr::Const(_, ty)
            | Expr::Param(_, ty)
            | Expr::Group(_, ty)
            | Expr::Aggregate(_, ty)
            | Expr::Window(_, ty)
            | Expr::Call { ty, .. }
            | Expr::CastViaText { ty, .. }
            | Expr::Coerce { ty, .. }
            | Expr::Relabel { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::CaseTest(ty)
            | Expr::Coalesce(_, ty)
            | Expr::MinMax { ty, .. }
            | Expr::ArrayLiteral { ty, .. }
            | Expr::SetToDefault(ty) => *ty,
            Expr::Column(c) => c.ty,
            Expr::NullIf { left, .. } => left.ty(),
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::BoolTest { .. }
            | Expr::IsDistinct { .. }
            | Expr::AnyOf { .. }
            | Expr::AnyArray { .. }
            | Expr::AnyRow { .. } => SqlType::plain(oids::BOOL),
            Expr::Row(_) => SqlType::plain(oids::RECORD),
            Expr::Subquery(s) => s.ty,
            Expr::Outer(o) => o.expr.ty(),
            Expr::SubPlan(s) => s.ty,
            Expr::SystemColumn { column, .. } => SqlType::plain(match column {
                SystemColumn::TableOid => oids::OID,
                SystemColumn::Ctid => oids::TID,
                SystemColumn::Xmin | SystemColumn::Xmax => oids::XID,
                SystemColumn::Cmin | SystemColumn::Cmax => oids::CID,
            }),
        }
    }
}
