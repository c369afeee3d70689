//! A whole COPY: names, locks, then bytes one way or the other. Programs on the server are refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::file::ServerFile;
use super::from::{CopyFrom, CopyTarget};
use super::options::CopyOptions;
use super::to::{CopyTo, table_query};
use crate::catalog::relation::{Index, LockMode, Relation, RelationKind};
use crate::catalog::rights::Holder;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bind::{self, BindCx};
use crate::sql::bound::{Bound, BoundStatement, OutputColumn};
use crate::sql::error::{SqlError, no_binary_output, state};
use crate::sql::exec::{self, ExecCx, RowSink, SinkState};
use crate::sql::front::Statement;
use crate::sql::front::ast::{Copy, CopyDirection, CopyEnd, CopySource, Ident, ObjectName};
use crate::sql::plan::{self, Plan, PlanCx, PlannerSettings};
use crate::sql::rights;
use crate::sql::session::{CopyInput, CopyPort, Format};
use crate::txn::{Isolation, LockWait, Seen, Transaction};
use crate::types::acl::Privileges;
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// The catalog as a transaction sees it.
pub trait CatalogOf: Sync {
    fn view<'v>(&'v self, txn: &'v Transaction) -> Box<dyn CatalogView + 'v>;
}

/// What a COPY runs with.
pub struct CopyCall<'a> {
    pub copy: &'a Copy,
    /// What its offsets count in.
    pub source: &'a str,
    pub settings: &'a PlannerSettings,
    pub catalog: &'a dyn CatalogOf,
    pub exec: ExecCx,
}

/// How often names are resolved again while the catalog moves.
const MAX_REBINDS: usize = 16;

/// Predefined roles.
const READ_SERVER_FILES: Oid = Oid::new(4569);
const WRITE_SERVER_FILES: Oid = Oid::new(4570);
const EXECUTE_SERVER_PROGRAM: Oid = Oid::new(4571);

/// What a COPY did.
pub struct Copied {
    pub rows: u64,
    /// The table that rows were added to.
    pub into: Option<Arc<Relation>>,
}

impl Copied {
    pub fn tag(&self) -> String {
        format!("COPY {}", self.rows)
    }
}

/// Runs it to its end.
pub async fn run(
    call: CopyCall<'_>,
    txn: &mut Transaction,
    port: &mut dyn CopyPort,
) -> Result<Copied, SqlError> {
    check_server_end(&call, txn)?;
    if let CopyEnd::Program(_) = &call.copy.end {
        return Err(SqlError::unsupported("COPY with PROGRAM is not supported")
            .hint("Use psql's \\copy with PROGRAM, which runs it at the client."));
    }
    match call.copy.direction {
        CopyDirection::From => copy_in(call, txn, port).await,
        CopyDirection::To => Ok(Copied {
            rows: copy_out(call, txn, port).await?,
            into: None,
        }),
    }
}

/// 42501 for who may not use the server's files, or run programs there.
fn check_server_end(call: &CopyCall<'_>, txn: &Transaction) -> Result<(), SqlError> {
    let (role, name, what) = match (&call.copy.end, call.copy.direction) {
        (CopyEnd::Client, _) => return Ok(()),
        (CopyEnd::File(_), CopyDirection::From) => {
            (READ_SERVER_FILES, "pg_read_server_files", "from a file")
        }
        (CopyEnd::File(_), CopyDirection::To) => {
            (WRITE_SERVER_FILES, "pg_write_server_files", "to a file")
        }
        (CopyEnd::Program(_), _) => (
            EXECUTE_SERVER_PROGRAM,
            "pg_execute_server_program",
            "to or from an external program",
        ),
    };
    let view = call.catalog.view(txn);
    let may = Holder::asker(&*view)?.acts_as(role)?;
    if may {
        return Ok(());
    }
    let message = format!("must be superuser or have privileges of the {name} role to COPY {what}");
    Err(SqlError::new(state::INSUFFICIENT_PRIVILEGE, message).hint(
        "Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.",
    ))
}

/// The table, locked: named again after the lock until two answers agree.
async fn locked_table(
    call: &CopyCall<'_>,
    name: &ObjectName,
    mode: LockMode,
    txn: &mut Transaction,
) -> Result<Arc<Relation>, SqlError> {
    let mut locked: Option<Oid> = None;
    for _ in 0..MAX_REBINDS {
        let found = find_table(&*call.catalog.view(txn), name)?;
        if locked == Some(found.oid) {
            return Ok(found);
        }
        let locks = call.exec.txns.locks();
        locks
            .lock_relation(txn, found.oid, mode, LockWait::Wait)
            .await?;
        locked = Some(found.oid);
    }
    Err(SqlError::new(
        state::OBJECT_IN_USE,
        "the catalog changed too often while the statement was being planned",
    )
    .hint("Run the statement again."))
}

fn find_table(catalog: &dyn CatalogView, name: &ObjectName) -> Result<Arc<Relation>, SqlError> {
    let schema = name.schema.as_ref().map(|s| s.name.as_str());
    let missing = || {
        let shown = match schema {
            Some(schema) => format!("{schema}.{}", name.name.name),
            None => name.name.name.clone(),
        };
        SqlError::new(
            state::UNDEFINED_TABLE,
            format!("relation \"{shown}\" does not exist"),
        )
    };
    let found = catalog.relation_named(schema, &name.name.name)?;
    found.ok_or_else(missing)
}

/// 42809 for what rows cannot be copied to or from.
fn check_kind(relation: &Relation, direction: CopyDirection) -> Result<(), SqlError> {
    let (way, hint) = match direction {
        CopyDirection::From => ("to", None),
        CopyDirection::To => ("from", Some("Try the COPY (SELECT ...) TO variant.")),
    };
    let what = match relation.kind {
        RelationKind::Table => return Ok(()),
        RelationKind::Virtual if direction == CopyDirection::To => return Ok(()),
        RelationKind::View | RelationKind::Virtual => "view",
        RelationKind::Sequence => "sequence",
        RelationKind::Index => {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is an index", relation.name),
            ));
        }
    };
    let mut error = SqlError::new(
        state::WRONG_OBJECT_TYPE,
        format!("cannot copy {way} {what} \"{}\"", relation.name),
    );
    if let (Some(hint), "view") = (hint, what) {
        error = error.hint(hint);
    }
    Err(error)
}

/// Positions of the named columns, or of all.
fn columns_of(relation: &Relation, named: &[Ident]) -> Result<Vec<usize>, SqlError> {
    if named.is_empty() {
        return Ok(relation.live_columns().map(|(n, _)| n).collect());
    }
    let mut made = Vec::with_capacity(named.len());
    for ident in named {
        let number = relation.column_named(&ident.name).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    ident.name, relation.name
                ),
            )
        })?;
        if made.contains(&number) {
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", ident.name),
            ));
        }
        made.push(number);
    }
    Ok(made)
}

async fn copy_in(
    call: CopyCall<'_>,
    txn: &mut Transaction,
    port: &mut dyn CopyPort,
) -> Result<Copied, SqlError> {
    let options = CopyOptions::new(&call.copy.options, CopyDirection::From)?;
    let CopySource::Table { name, columns } = &call.copy.source else {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            "COPY query FROM is not possible",
        ));
    };
    let relation = locked_table(&call, name, LockMode::RowExclusive, txn).await?;
    let format = format_of(&options);
    let into = Some(Arc::clone(&relation));
    let (freeze, relfile) = (options.freeze, relation.file);
    let mut file = None;
    let mut copy = {
        let view = call.catalog.view(txn);
        let cx = BindCx {
            source: call.source,
            functions: &call.exec.function,
        };
        let filter = match &call.copy.filter {
            None => None,
            Some(filter) => Some(bind::row_condition(filter, &relation, &*view, &cx)?),
        };
        let columns = columns_of(&relation, columns)?;
        let mut needed = Privileges::INSERT;
        if filter.as_ref().is_some_and(bind::reads_columns) {
            needed = needed.and(Privileges::SELECT);
        }
        rights::check(&*view, &[(relation.oid, needed)])?;
        let disclosure = rights::disclosure(&*view, &relation, &columns)?;
        if let CopyEnd::File(name) = &call.copy.end {
            file = Some(ServerFile::to_read(name, &call.exec)?);
        }
        check_kind(&relation, CopyDirection::From)?;
        let target = CopyTarget {
            columns,
            relation,
            filter,
            disclosure,
        };
        CopyFrom::new(target, options, &*view, call.exec)?
    };
    let port: &mut dyn CopyPort = match &mut file {
        Some(file) => file,
        None => port,
    };
    port.begin_in(format, copy.columns());
    if freeze && !txn.made_here(relfile) {
        return Err(SqlError::new(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cannot perform COPY FREEZE because the table was not created or truncated in the \
             current subtransaction",
        ));
    }
    loop {
        match port.receive().await? {
            CopyInput::Data(bytes) => copy.push(txn, &bytes).await?,
            CopyInput::Done => {
                let rows = copy.finish(txn).await?;
                return Ok(Copied { rows, into });
            }
            CopyInput::Fail(why) => {
                return Err(SqlError::new(
                    state::QUERY_CANCELED,
                    format!("COPY from stdin failed: {why}"),
                )
                .context(copy.context()));
            }
        }
    }
}

fn format_of(options: &CopyOptions) -> Format {
    if options.format == super::CopyFormat::Binary {
        Format::Binary
    } else {
        Format::Text
    }
}

async fn copy_out(
    call: CopyCall<'_>,
    txn: &mut Transaction,
    port: &mut dyn CopyPort,
) -> Result<u64, SqlError> {
    let options = CopyOptions::new(&call.copy.options, CopyDirection::To)?;
    let format = format_of(&options);
    let plan = match &call.copy.source {
        CopySource::Table { name, columns } => {
            let relation = locked_table(&call, name, LockMode::AccessShare, txn).await?;
            let columns = columns_of(&relation, columns)?;
            let view = call.catalog.view(txn);
            rights::check(&*view, &[(relation.oid, Privileges::SELECT)])?;
            check_kind(&relation, CopyDirection::To)?;
            let bound = Bound {
                statement: BoundStatement::Query(Box::new(table_query(&relation, &columns))),
                parameters: Vec::new(),
                relations: vec![(relation.oid, LockMode::AccessShare)],
                rights: Vec::new(),
                generation: view.generation(),
                uncacheable: true,
            };
            plan::plan(&bound, &*view, &plan_cx(&call, &|_| false))?
        }
        CopySource::Query(statement) => planned_query(&call, statement, txn).await?,
    };
    plan.check_writable(txn.options().read_only)?;
    let columns = Arc::clone(&plan.output);
    let may_be_bare = match &call.copy.source {
        CopySource::Table { .. } => true,
        CopySource::Query(statement) => matches!(**statement, Statement::Query(_)),
    };
    if columns.is_empty() && !may_be_bare {
        return Err(SqlError::unsupported(
            "COPY query must have a RETURNING clause",
        ));
    }
    let mut formatter = CopyTo::new(options, &columns)?;
    let mut file = match &call.copy.end {
        CopyEnd::File(name) => Some(ServerFile::to_write(name, &call.exec)?),
        CopyEnd::Client | CopyEnd::Program(_) => None,
    };
    let to_file = file.is_some();
    let port: &mut dyn CopyPort = match &mut file {
        Some(file) => file,
        None => port,
    };
    port.begin_out(format, columns.len());
    let mut head = Vec::new();
    formatter.begin(&mut head);
    if !head.is_empty() {
        port.data(&head);
    }
    let mut sink = PortSink {
        port,
        formatter,
        function: Arc::clone(&call.exec.function),
        row: Vec::new(),
        rows: 0,
    };
    let mut cx = call.exec;
    // The relations may have been waited for. Where a promotion came meanwhile a new snapshot might show too much.
    if cx.isolation == Isolation::ReadCommitted && cx.txns.snapshots_open() {
        cx.snapshot = Arc::new(cx.txns.snapshot(txn));
    }
    let mut execution = exec::start(&Arc::new(plan), &[], cx);
    execution.run(txn, &mut sink, None).await?;
    let PortSink {
        port,
        mut formatter,
        mut row,
        rows,
        ..
    } = sink;
    row.clear();
    formatter.end(&mut row);
    if !row.is_empty() {
        port.data(&row);
    }
    port.end_out();
    if to_file {
        port.flush().await?;
    }
    Ok(rows)
}

fn plan_cx<'c>(call: &'c CopyCall<'_>, may_use: &'c dyn Fn(&Index) -> bool) -> PlanCx<'c> {
    PlanCx {
        settings: call.settings,
        pages: None,
        may_use: Some(may_use),
        function: &call.exec.function,
    }
}

/// COPY (query): bound, locked, and bound again if the catalog moved meanwhile.
async fn planned_query(
    call: &CopyCall<'_>,
    statement: &Statement,
    txn: &mut Transaction,
) -> Result<Plan, SqlError> {
    let cx = BindCx {
        source: call.source,
        functions: &call.exec.function,
    };
    for _ in 0..MAX_REBINDS {
        let bound = bind::bind(statement, &*call.catalog.view(txn), &[], &cx)?;
        for (relation, mode) in &bound.relations {
            let locks = call.exec.txns.locks();
            locks
                .lock_relation(txn, *relation, *mode, LockWait::Wait)
                .await?;
        }
        let view = call.catalog.view(txn);
        if view.generation() == bound.generation {
            rights::check(&*view, &bound.rights)?;
            let (own, exec) = (txn.own(), &call.exec);
            let may_use = |index: &Index| {
                let sees = |maker| exec.snapshot.sees(maker, &exec.txns) == Seen::Yes;
                index
                    .only_if_sees
                    .is_none_or(|maker| !own.contains(maker) && sees(maker))
            };
            return plan::plan(&bound, &*view, &plan_cx(call, &may_use));
        }
    }
    Err(SqlError::new(
        state::OBJECT_IN_USE,
        "the catalog changed too often while the statement was being planned",
    )
    .hint("Run the statement again."))
}

/// Rows to the client, one message each.
struct PortSink<'p> {
    port: &'p mut dyn CopyPort,
    formatter: CopyTo,
    function: Arc<FunctionCx>,
    row: Vec<u8>,
    rows: u64,
}

impl RowSink for PortSink<'_> {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        if self.formatter.is_binary() && !row.iter().all(codec::has_binary) {
            return Err(no_binary_output());
        }
        self.row.clear();
        self.formatter.row(row, &mut self.row, &self.function)?;
        self.rows += 1;
        Ok(if self.port.data(&self.row) {
            SinkState::More
        } else {
            SinkState::Full
        })
    }
    fn ready(&mut self) -> Pin<Box<dyn Future<Output = Result<(), SqlError>> + Send + '_>> {
        self.port.flush()
    }
}
