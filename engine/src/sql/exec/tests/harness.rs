//! Bound queries by hand, and a loop that runs them.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::view::{
    CatalogError, CatalogView, ColumnStatistics, Database, Membership, Role, Schema,
};
use crate::ids::{Oid, ProcessId};
use crate::io::real::RealDisk;
use crate::sql::bound::{
    Body, Bound, BoundStatement, ColumnRef, Distinct, Expr, FromItem, Join, JoinKind, OutputColumn,
    Query, Range, RangeColumn, RangeSource, Select, SortItem, Target, Values,
};
use crate::sql::error::SqlError;
use crate::sql::exec::access::Access;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::memory::MemoryLimits;
use crate::sql::exec::node;
use crate::sql::exec::spill::TempSpace;
use crate::sql::plan::{Plan, PlanCx, PlannerSettings, plan};
use crate::txn::Interrupts;
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::{Function, FunctionCx, Host};
use crate::types::interval::IntervalStyle;
use crate::types::{aggregates, functions, oids, operators};

pub const INT: SqlType = SqlType::plain(oids::INT4);

#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn call(&self, function: &'static Function, _args: &[Datum]) -> Result<Datum, TypeError> {
        Err(TypeError::new("XX000", function.name))
    }
    fn call_set(
        &self,
        function: &'static Function,
        _args: &[Datum],
    ) -> Result<Box<dyn Iterator<Item = Result<Datum, TypeError>> + Send>, TypeError> {
        Err(TypeError::new("XX000", function.name))
    }
}

pub fn function_cx() -> Arc<FunctionCx> {
    function_cx_of(Arc::new(NoHost))
}

pub fn function_cx_of(host: Arc<dyn Host>) -> Arc<FunctionCx> {
    Arc::new(FunctionCx {
        transaction_timestamp: 0,
        statement_timestamp: 0,
        time_zone: jiff::tz::TimeZone::UTC,
        date_style: DateStyle {
            output: DateOutput::Iso,
            order: FieldOrder::Mdy,
        },
        interval_style: IntervalStyle::Postgres,
        extra_float_digits: 1,
        bytea_hex: true,
        host,
    })
}

/// A catalog with a few tables in it, or nothing.
#[derive(Default)]
pub struct Tables {
    pub relations: Vec<Arc<Relation>>,
}

impl CatalogView for Tables {
    fn asker(&self) -> Oid {
        Oid::INVALID
    }
    fn current_database(&self) -> Oid {
        Oid::INVALID
    }
    fn memberships(&self, _: Oid) -> Result<Arc<[Membership]>, CatalogError> {
        Ok(Arc::new([]))
    }

    fn generation(&self) -> u64 {
        0
    }
    fn relation_named(
        &self,
        _schema: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Relation>>, CatalogError> {
        Ok(self.relations.iter().find(|r| r.name == name).cloned())
    }
    fn relation(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError> {
        Ok(self.relations.iter().find(|r| r.oid == oid).cloned())
    }
    fn relations(&self) -> Result<Vec<Arc<Relation>>, CatalogError> {
        Ok(Vec::new())
    }
    fn schema_named(&self, _name: &str) -> Result<Option<Oid>, CatalogError> {
        Ok(None)
    }
    fn schema(&self, _: Oid) -> Result<Option<Arc<Schema>>, CatalogError> {
        Ok(None)
    }
    fn search_path(&self) -> Result<Vec<Oid>, CatalogError> {
        Ok(Vec::new())
    }
    fn creation_schema(&self) -> Result<Option<Oid>, CatalogError> {
        Ok(None)
    }
    fn role_named(&self, _name: &str) -> Result<Option<Role>, CatalogError> {
        Ok(None)
    }
    fn role(&self, _oid: Oid) -> Result<Option<Role>, CatalogError> {
        Ok(None)
    }
    fn database_named(&self, _name: &str) -> Result<Option<Database>, CatalogError> {
        Ok(None)
    }
    fn database(&self, _oid: Oid) -> Result<Option<Database>, CatalogError> {
        Ok(None)
    }
    fn column_statistics(
        &self,
        _relation: Oid,
        _attribute: i16,
    ) -> Result<Option<Arc<ColumnStatistics>>, CatalogError> {
        Ok(None)
    }
}

/// One column of rows of nullable integers, as a model sees it.
pub type Rows = Vec<Vec<Option<i32>>>;

pub fn datum(value: Option<i32>) -> Datum {
    value.map_or(Datum::Null, Datum::Int4)
}

pub fn constant(value: Option<i32>) -> Expr {
    Expr::Const(datum(value), INT)
}

pub fn column(range: usize, column: usize) -> Expr {
    Expr::Column(ColumnRef {
        range,
        column,
        ty: INT,
    })
}

pub fn op(name: &str, left: Expr, right: Expr) -> Expr {
    let found = operators::named(name)
        .iter()
        .find(|o| o.left == left.ty().oid && o.right == right.ty().oid)
        .expect("a known operator");
    let function = functions::by_oid(found.function).expect("operators have functions");
    Expr::Call {
        function,
        args: vec![left, right],
        ty: SqlType::plain(found.result),
    }
}

pub fn aggregate(name: &str, args: Vec<Expr>) -> crate::sql::bound::AggregateCall {
    let aggregate = aggregates::named(name)
        .iter()
        .find(|a| {
            a.args.len() == args.len()
                && a.args
                    .iter()
                    .zip(&args)
                    .all(|(t, e)| *t == e.ty().oid || *t == oids::ANY)
        })
        .expect("a known aggregate");
    crate::sql::bound::AggregateCall {
        aggregate,
        ty: SqlType::plain(aggregate.returns),
        args,
        distinct: false,
        order_by: Vec::new(),
        filter: None,
    }
}

/// A relation of integer columns.
pub fn range(name: &str, columns: usize, rows: &Rows) -> Range {
    Range {
        alias: name.to_owned(),
        source: RangeSource::Values(Values {
            rows: rows
                .iter()
                .map(|r| r.iter().map(|v| constant(*v)).collect())
                .collect(),
            types: vec![INT; columns],
        }),
        columns: (0..columns)
            .map(|n| RangeColumn {
                name: format!("c{n}"),
                ty: INT,
            })
            .collect(),
    }
}

pub fn join(kind: JoinKind, left: FromItem, right: FromItem, on: Option<Expr>) -> FromItem {
    FromItem::Join(Box::new(Join {
        kind,
        left,
        right,
        on,
    }))
}

pub fn select(ranges: Vec<Range>, from: Vec<FromItem>, targets: Vec<Expr>) -> Select {
    Select {
        level: None,
        ranges,
        from,
        filter: None,
        group_by: Vec::new(),
        having: None,
        aggregates: Vec::new(),
        windows: crate::sql::bound::Windowing::default(),
        targets: targets
            .into_iter()
            .map(|expr| Target {
                expr,
                name: "x".to_owned(),
            })
            .collect(),
        distinct: Distinct::No,
    }
}

pub fn query(select: Select) -> Query {
    let output = select
        .targets
        .iter()
        .map(|t| OutputColumn {
            name: t.name.clone(),
            ty: t.expr.ty(),
            table: Oid::INVALID,
            attribute: 0,
        })
        .collect();
    of_body(Body::Select(Box::new(select)), output)
}

pub fn of_body(body: Body, output: Vec<OutputColumn>) -> Query {
    Query {
        body,
        order_by: Vec::new(),
        limit: None,
        offset: None,
        ctes: Vec::new(),
        with_ties: false,
        locking: Vec::new(),
        output,
    }
}

pub fn ascending(target: usize) -> SortItem {
    SortItem {
        target,
        descending: false,
        nulls_first: false,
    }
}

pub fn planned(query: Query, settings: &PlannerSettings) -> Arc<Plan> {
    let function = function_cx();
    let bound = Bound {
        statement: BoundStatement::Query(Box::new(query)),
        parameters: Vec::new(),
        relations: Vec::new(),
        rights: Vec::new(),
        generation: 0,
        uncacheable: false,
    };
    let cx = PlanCx {
        settings,
        pages: None,
        may_use: None,
        function: &function,
    };
    Arc::new(plan(&bound, &Tables::default(), &cx).expect("plans"))
}

/// Runs a plan to its end with so much memory for sorts and hash tables.
pub fn execute(plan: &Arc<Plan>, work: usize) -> Result<Vec<Vec<Datum>>, SqlError> {
    let limits = MemoryLimits {
        work,
        hash: work,
        ..MemoryLimits::default()
    };
    execute_within(plan, limits, true)
}

/// The same within these limits; without leave to spill, whatever needs a temporary file is an error.
pub fn execute_within(
    plan: &Arc<Plan>,
    limits: MemoryLimits,
    may_spill: bool,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    std::fs::create_dir(folder.path().join("base")).expect("a folder in it");
    let disk = Arc::new(RealDisk::new(folder.path()));
    let pid = ProcessId::MIN;
    let mut access = Access::none();
    access.temp = may_spill.then(|| TempSpace::new(disk, pid));
    let mut cx = EvalCx::new(
        Some(Arc::clone(plan)),
        Vec::new(),
        function_cx(),
        Interrupts::new(pid),
        limits,
        access,
    );
    let mut root = node::build(&plan.main.root, &cx);
    let mut frame = vec![Datum::Null; plan.main.slots.len()];
    let mut rows = Vec::new();
    loop {
        match root.next(&mut frame, &mut cx)? {
            Step::Row => rows.push(plan.main.output.iter().map(|s| frame[*s].clone()).collect()),
            Step::Yield => cx.check_interrupts()?,
            Step::Done => break,
        }
    }
    drop((root, cx));
    let left = std::fs::read_dir(folder.path().join("base/pgsql_tmp"));
    assert_eq!(
        left.map_or(0, Iterator::count),
        0,
        "temporary files are left"
    );
    Ok(rows)
}

/// How often a plan hands back control behind its first row.
pub fn pauses(plan: &Arc<Plan>) -> usize {
    let mut cx = EvalCx::new(
        Some(Arc::clone(plan)),
        Vec::new(),
        function_cx(),
        Interrupts::new(ProcessId::MIN),
        MemoryLimits::default(),
        Access::none(),
    );
    let mut root = node::build(&plan.main.root, &cx);
    let mut frame = vec![Datum::Null; plan.main.slots.len()];
    let (mut begun, mut pauses) = (false, 0);
    loop {
        match root.next(&mut frame, &mut cx).expect("runs") {
            Step::Row => begun = true,
            Step::Yield => pauses += usize::from(begun),
            Step::Done => return pauses,
        }
    }
}

pub fn integers(rows: &[Vec<Datum>]) -> Vec<Vec<Option<i64>>> {
    rows.iter()
        .map(|r| {
            r.iter()
                .map(|v| match v {
                    Datum::Null => None,
                    Datum::Int4(v) => Some(i64::from(*v)),
                    Datum::Int8(v) => Some(*v),
                    other => panic!("not an integer: {other:?}"),
                })
                .collect()
        })
        .collect()
}

pub fn run(query: Query, settings: &PlannerSettings, work: usize) -> Vec<Vec<Option<i64>>> {
    integers(&execute(&planned(query, settings), work).expect("runs"))
}

pub fn sorted(mut rows: Vec<Vec<Option<i64>>>) -> Vec<Vec<Option<i64>>> {
    rows.sort();
    rows
}
