//! DECLARE, FETCH, MOVE, CLOSE; arguments of EXECUTE. Cursors are portals under their name.

use std::sync::Arc;

use super::lifecycle::{Session, now};
use super::output::{Formats, Output};
use super::prepared::{Portal, PortalState, Prepared};
use super::query::Ready;
use super::services::Services;
use super::transaction::{in_failed_block, only_in_blocks};
use crate::ids::Oid;
use crate::sql::bind::{self, BindCx};
use crate::sql::bound::{
    Body, Bound, BoundStatement, Distinct, OutputColumn, Query, Select, Target,
};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::{RowSink, SinkState};
use crate::sql::front::ast::{DeclareCursor, Execute, Fetch, FetchDirection, TypeName};
use crate::sql::front::{Parsed, Statement};
use crate::sql::plan::{self, PlanCx};
use crate::types::datum::{Datum, SqlType};

/// Rows kept in memory: for arguments, which are one row, and for nothing that a client can make long.
#[derive(Default)]
struct Collected(Vec<Vec<Datum>>);

impl RowSink for Collected {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        self.0.push(row.to_vec());
        Ok(SinkState::More)
    }
}

fn forward_only() -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "cursor can only scan forward",
    )
    .hint("Declare it with SCROLL option to enable backward scan.")
}

pub(super) fn no_cursor(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}

impl<S: Services> Session<S> {
    pub(super) async fn declare_cursor(
        &mut self,
        d: &DeclareCursor,
        source: &Arc<str>,
    ) -> Result<(), SqlError> {
        if d.hold {
            return Err(
                SqlError::unsupported("cursors WITH HOLD are not implemented")
                    .hint("Fetch the rows inside the transaction."),
            );
        }
        if d.scroll == Some(true) {
            return Err(SqlError::unsupported("SCROLL cursors are not implemented")
                .hint("Declare the cursor without SCROLL and fetch forward."));
        }
        if !self.block.is_block() {
            return Err(only_in_blocks("DECLARE CURSOR"));
        }
        let name = d.name.name.as_str();
        if self.portals.contains_key(name) {
            return Err(SqlError::new(
                state::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        let parsed = Parsed {
            statement: Statement::Query(Box::new(d.query.clone())),
            text: 0..source.len(),
            tag: "SELECT",
        };
        let statement = Arc::new(Prepared::new(
            "",
            Arc::clone(source),
            Some(parsed),
            Vec::new(),
        ));
        let ready = self.ready(&statement).await?;
        let execution = self.start(&ready, &[], false)?;
        let formats = if d.binary {
            Formats::new(vec![super::output::Format::Binary])
        } else {
            Formats::default()
        };
        let portal = Portal {
            statement,
            parameters: Vec::new(),
            formats,
            columns: Arc::clone(&ready.plan.output),
            types: Arc::clone(&ready.types),
            is_cursor: true,
            level: self.savepoints(),
            state: PortalState::Suspended(Box::new(execution), ready.function),
        };
        self.portals.insert(name.into(), portal);
        Ok(())
    }

    pub(super) fn cursor_columns(&self, name: &str) -> Result<Arc<[OutputColumn]>, SqlError> {
        self.portals
            .get(name)
            .map(|p| Arc::clone(&p.columns))
            .ok_or_else(|| no_cursor(name))
    }

    pub(super) async fn fetch<O: Output>(
        &mut self,
        f: &Fetch,
        announce: bool,
        out: &mut O,
    ) -> Result<String, SqlError> {
        let name = f.cursor.name.as_str();
        let count = match f.direction {
            FetchDirection::Forward(n) | FetchDirection::Relative(n) if n >= 0 => n,
            FetchDirection::Absolute(_) | FetchDirection::Relative(_) => {
                return Err(SqlError::unsupported(
                    "FETCH ABSOLUTE and FETCH RELATIVE are not implemented",
                )
                .hint("Use FETCH FORWARD."));
            }
            FetchDirection::Forward(_) | FetchDirection::Backward(_) => {
                return Err(forward_only());
            }
        };
        let relative = matches!(f.direction, FetchDirection::Relative(_));
        if count == 0 || (relative && count != 1) {
            return Err(
                SqlError::unsupported("fetching the current row again is not implemented")
                    .hint("Use FETCH FORWARD."),
            );
        }
        let mut portal = self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        if matches!(portal.state, PortalState::Failed) {
            self.portals.insert(name.into(), portal);
            return Err(SqlError::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("portal \"{name}\" cannot be run"),
            ));
        }
        let limit = (count != i64::MAX).then_some(count as u64);
        let sent = self
            .fetch_from(&mut portal, limit, f.is_move, announce, out)
            .await;
        if sent.is_err() {
            portal.state = PortalState::Failed;
        }
        self.portals.insert(name.into(), portal);
        let rows = sent?;
        Ok(if f.is_move {
            format!("MOVE {rows}")
        } else {
            format!("FETCH {rows}")
        })
    }

    async fn fetch_from<O: Output>(
        &mut self,
        portal: &mut Portal,
        limit: Option<u64>,
        silent: bool,
        announce: bool,
        out: &mut O,
    ) -> Result<u64, SqlError> {
        if announce && !silent {
            out.row_description(&portal.columns, &portal.formats);
        }
        let PortalState::Suspended(execution, function) = &mut portal.state else {
            return Ok(0);
        };
        let progress = if silent {
            let Some(r) = self.block.running() else {
                return Err(in_failed_block());
            };
            let _own = self.facts.own_catalog(self.services.txns(), &r.txn);
            let mut skipped = Skipped;
            execution.run(&mut r.txn, &mut skipped, limit).await?
        } else {
            let types = portal.columns.iter().map(|c| c.ty.oid).collect();
            let function = Arc::clone(function);
            self.run(
                execution,
                types,
                &portal.formats,
                &function,
                false,
                limit,
                out,
            )
            .await?
        };
        if progress.complete {
            portal.state = PortalState::Done;
        }
        Ok(progress.rows)
    }

    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            None => self.portals.retain(|_, p| !p.is_cursor),
            Some(name) => {
                self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
            }
        }
        Ok(())
    }

    pub(super) fn declared_types(
        &mut self,
        types: &[TypeName],
        source: &str,
    ) -> Result<Vec<Oid>, SqlError> {
        let settings = self.settings();
        let user = self.facts.current_role().name;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let view = services.catalog(database, &r.txn, &settings.search_path, &user);
        types
            .iter()
            .map(|t| bind::resolve_type(t, &*view).map(|ty| ty.oid))
            .collect::<Result<_, _>>()
            .map_err(|e: SqlError| e.located(source))
    }

    /// Values of EXECUTE's arguments: a SELECT of them, run once.
    pub(super) async fn argument_values(
        &mut self,
        e: &Execute,
        source: &Arc<str>,
        of: &Ready,
    ) -> Result<Vec<Datum>, SqlError> {
        if e.args.is_empty() && of.plan.parameters.is_empty() {
            return Ok(Vec::new());
        }
        let settings = Arc::clone(&of.settings);
        let user = self.facts.current_role().name;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let function = self.function_cx(&settings, now());
        let plan = {
            let Some(r) = self.block.running() else {
                return Err(in_failed_block());
            };
            let view = services.catalog(database, &r.txn, &settings.search_path, &user);
            let cx = BindCx {
                source,
                functions: &function,
            };
            let values =
                bind::execute_arguments(&e.args, &e.name.name, &of.plan.parameters, &*view, &cx)
                    .map_err(|e| e.located(source))?;
            let bound = row_of(values, &of.plan.parameters, of.plan.generation);
            let planner = plan::PlannerSettings::default();
            plan::plan(
                &bound,
                &*view,
                &PlanCx {
                    settings: &planner,
                    pages: None,
                    may_use: None,
                    function: &function,
                },
            )?
        };
        let ready = Ready {
            types: plan.output.iter().map(|c| c.ty.oid).collect(),
            plan: Arc::new(plan),
            settings,
            function,
        };
        let mut execution = self.start(&ready, &[], false)?;
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let _own = self.facts.own_catalog(self.services.txns(), &r.txn);
        let mut rows = Collected::default();
        execution.run(&mut r.txn, &mut rows, None).await?;
        Ok(rows.0.pop().unwrap_or_default())
    }
}

/// Rows that MOVE passes over.
pub(super) struct Skipped;

impl RowSink for Skipped {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, _: &[Datum]) -> Result<SinkState, SqlError> {
        Ok(SinkState::More)
    }
}

/// `SELECT values`, bound.
fn row_of(values: Vec<crate::sql::bound::Expr>, types: &[SqlType], generation: u64) -> Bound {
    let output = types
        .iter()
        .map(|ty| OutputColumn {
            ty: *ty,
            ..super::settings::text_column("?column?")
        })
        .collect();
    let select = Select {
        ranges: Vec::new(),
        from: Vec::new(),
        filter: None,
        group_by: Vec::new(),
        having: None,
        aggregates: Vec::new(),
        targets: values
            .into_iter()
            .map(|expr| Target {
                expr,
                name: "?column?".to_owned(),
            })
            .collect(),
        distinct: Distinct::No,
    };
    Bound {
        statement: BoundStatement::Query(Box::new(Query {
            body: Body::Select(Box::new(select)),
            order_by: Vec::new(),
            limit: None,
            offset: None,
            with_ties: false,
            locking: Vec::new(),
            output,
        })),
        parameters: Vec::new(),
        relations: Vec::new(),
        generation,
        uncacheable: true,
    }
}
