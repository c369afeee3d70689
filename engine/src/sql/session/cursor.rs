//! DECLARE, FETCH, MOVE, CLOSE; arguments of EXECUTE. Cursors are portals under their name.

use std::sync::Arc;

use super::given::Given;
use super::lifecycle::Session;
use super::output::{Formats, Output};
use super::prepared::{Portal, PortalState, Prepared};
use super::query::Ready;
use super::scroll::{Cursor, Origin, Place};
use super::services::Services;
use super::transaction::{in_failed_block, only_in_blocks};
use crate::ids::Oid;
use crate::sql::bind::{self, BindCx, lock_name};
use crate::sql::bound::{
    Body, Bound, BoundStatement, Distinct, OutputColumn, Query, Select, Target,
};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::{RowSink, RunCx, SinkState};
use crate::sql::front::ast::{DeclareCursor, Execute, Fetch, TypeName};
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

/// What is wrong with a DECLARE by itself; told at Parse, too.
pub(super) fn check_options(d: &DeclareCursor) -> Result<(), SqlError> {
    match d.clash {
        None => Ok(()),
        Some(options) => Err(SqlError::new(
            state::INVALID_CURSOR_DEFINITION,
            format!("cannot specify both {options}"),
        )),
    }
}

/// Rows that are locked are read as they come: neither backwards nor after the transaction.
fn check_locking(d: &DeclareCursor) -> Result<(), SqlError> {
    let Some(lock) = d.query.locking.first() else {
        return Ok(());
    };
    let words = lock_name(lock.mode);
    let refused = |code, what: String, kind: &str| {
        Err(SqlError::new(code, what).detail(format!("{kind} cursors must be READ ONLY.")))
    };
    if d.hold {
        let what = format!("DECLARE CURSOR WITH HOLD ... {words} is not supported");
        return refused(state::FEATURE_NOT_SUPPORTED, what, "Holdable");
    }
    if d.scroll == Some(true) {
        let what = format!("DECLARE SCROLL CURSOR ... {words} is not supported");
        return refused(state::FEATURE_NOT_SUPPORTED, what, "Scrollable");
    }
    if d.insensitive == Some(true) {
        let what = format!("DECLARE INSENSITIVE CURSOR ... {words} is not valid");
        return refused(state::INVALID_CURSOR_DEFINITION, what, "Insensitive");
    }
    Ok(())
}

/// Statements in WITH change rows.
fn changes_rows(d: &DeclareCursor) -> bool {
    let mut ctes = d.query.with.iter().flat_map(|with| &with.ctes);
    ctes.any(|cte| !matches!(cte.statement, Statement::Query(_)))
}

fn must_not_change() -> SqlError {
    SqlError::unsupported("DECLARE CURSOR must not contain data-modifying statements in WITH")
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
        given: Given<'_>,
    ) -> Result<(), SqlError> {
        check_options(d)?;
        if d.hold {
            self.ensure_transaction()?;
        } else if !self.block.is_block() {
            // PostgreSQL has analyzed the query by then.
            return Err(match changes_rows(d) {
                true => must_not_change(),
                false => only_in_blocks("DECLARE CURSOR"),
            });
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
            given.types.to_vec(),
        ));
        let ready = self.ready(&statement).await?;
        if ready.plan.changes_in_with {
            return Err(must_not_change());
        }
        if ready.plan.locks_rows() {
            check_locking(d)?;
        }
        let run = self.run_cx(&ready)?;
        let again = RunCx {
            snapshot: Arc::clone(&run.snapshot),
            isolation: run.isolation,
            function: Arc::clone(&run.function),
        };
        let execution = self.start_at(&ready, given.values, false, run);
        let formats = if d.binary {
            Formats::new(vec![super::output::Format::Binary])
        } else {
            Formats::default()
        };
        let columns = Arc::clone(&ready.plan.output);
        let kept =
            (d.scroll == Some(true)).then(|| self.store(&columns, ready.settings.work_mem, 0));
        let function = Arc::clone(&ready.function);
        let portal = Portal {
            statement,
            parameters: given.values.to_vec(),
            formats,
            columns,
            types: Arc::clone(&ready.types),
            reads: Some(Arc::clone(&ready.plan)),
            level: self.savepoints(),
            state: PortalState::Suspended(Box::new(execution), Arc::clone(&function)),
            cursor: Some(Cursor {
                may_go_back: d.scroll.unwrap_or_else(|| ready.plan.goes_backward()),
                hold: d.hold,
                held: false,
                function,
                origin: Some(Origin { ready, run: again }),
                place: Place::default(),
                kept,
            }),
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
        let mut portal = self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        if matches!(portal.state, PortalState::Failed) {
            self.portals.insert(name.into(), portal);
            return Err(SqlError::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("portal \"{name}\" cannot be run"),
            ));
        }
        if announce && !f.is_move {
            out.row_description(&portal.columns, &portal.formats);
        }
        let moved = if portal.moves() {
            self.move_cursor(&mut portal, f.direction, f.is_move, out)
                .await
        } else if matches!(portal.state, PortalState::Done) && !portal.types.is_empty() {
            Ok(0)
        } else {
            Err(SqlError::unsupported(format!(
                "portal \"{name}\" was not made by DECLARE CURSOR"
            )))
        };
        if moved.is_err() {
            portal.state = PortalState::Failed;
        }
        self.portals.insert(name.into(), portal);
        let rows = moved?;
        Ok(if f.is_move {
            format!("MOVE {rows}")
        } else {
            format!("FETCH {rows}")
        })
    }

    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            // All portals, not only those that DECLARE made (`PortalHashTableDeleteAll`).
            None => self.portals.clear(),
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
        let user = self.facts.current_role().oid;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let view = services.catalog(database, &r.txn, &settings.search_path, user);
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
        let user = self.facts.current_role().oid;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let function = self.function_cx(&settings, self.received);
        let plan = {
            let Some(r) = self.block.running() else {
                return Err(in_failed_block());
            };
            let view = services.catalog(database, &r.txn, &settings.search_path, user);
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
        level: None,
        ranges: Vec::new(),
        from: Vec::new(),
        filter: None,
        group_by: Vec::new(),
        having: None,
        aggregates: Vec::new(),
        windows: crate::sql::bound::Windowing::default(),
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
            ctes: Vec::new(),
            with_ties: false,
            locking: Vec::new(),
            output,
        })),
        parameters: Vec::new(),
        relations: Vec::new(),
        rights: Vec::new(),
        generation,
        uncacheable: true,
    }
}
