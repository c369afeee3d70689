//! The extended query protocol: Parse, Describe, Execute, Close, Sync. Bind is `portal`'s.

use std::sync::Arc;

use super::block::Block;
use super::given::Given;
use super::lifecycle::{Session, functions_of, now};
use super::logging;
use super::output::{Formats, Output};
use super::prepared::{Begun, Portal, PortalState, Prepared};
use super::query::{Ready, is_planned};
use super::services::Services;
use super::transaction::in_failed_block;
use super::utility::{Outcome, ends_failed_block, no_statement, runs_alone};
use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::{Execution, RunCx};
use crate::sql::front;
use crate::sql::plan::Command;
use crate::txn::Isolation;
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;
use crate::types::oids;

impl<S: Services> Session<S> {
    /// Does to the transaction and the log what an error of a message means, and gives it back for the client.
    pub(super) fn failing<T>(
        &mut self,
        done: Result<T, SqlError>,
        text: &str,
    ) -> Result<T, SqlError> {
        if let Err(e) = &done {
            self.log_error(e, text);
            self.after_error(e);
        }
        done
    }

    /// A message has come. What was meant for earlier statements is forgotten with the first one after a Sync; later on
    /// whoever cancels means what the client has under way, and hits the next of its messages.
    pub(super) fn joins_pipeline(&mut self) {
        let interrupts = &self.facts.backend.interrupts;
        if !self.pipelined && interrupts.is_pending() {
            interrupts.forget_statement();
        }
        self.pipelined = true;
    }

    /// The clock starts unless it runs already (manual, `statement_timeout`), and what has come from outside counts.
    pub(super) fn starts_message(&mut self) -> Result<(), SqlError> {
        if !self.timed {
            let settings = self.settings();
            self.start_clock(&settings);
        }
        Ok(self.facts.backend.interrupts.check()?)
    }

    /// What a message about a prepared statement means for views and the log.
    pub(super) fn begins_prepared(&self, text: &Arc<str>, command: &'static str) {
        let (backend, most) = (&self.facts.backend, self.activity_size);
        backend.begins_prepared(text, command, self.received, most);
    }

    pub(super) fn statement_named(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        self.prepared.get(name).cloned().ok_or_else(|| {
            if name.is_empty() {
                SqlError::new(
                    state::INVALID_STATEMENT_NAME,
                    "unnamed prepared statement does not exist",
                )
            } else {
                no_statement(name)
            }
        })
    }

    pub async fn parse<O: Output>(
        &mut self,
        name: &str,
        text: &str,
        types: Vec<Oid>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        let started = self.receives();
        self.joins_pipeline();
        let source: Arc<str> = Arc::from(text);
        self.begins_prepared(&source, "PARSE");
        for notice in front::notices(text) {
            self.notice(out, &notice);
        }
        let done = self.parse_inner(name, source, types).await;
        if done.is_ok() {
            let message = logging::Message {
                act: "parse",
                statement: name,
                portal: "",
            };
            self.log_duration(started, text, &message, false, None);
        }
        self.failing(done, text)
    }

    async fn parse_inner(
        &mut self,
        name: &str,
        text: Arc<str>,
        types: Vec<Oid>,
    ) -> Result<(), SqlError> {
        self.starts_message()?;
        let settings = self.settings();
        if name.is_empty() {
            self.prepared.remove("");
        }
        let mut statements = front::parse(&text)?;
        if statements.len() > 1 {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let parsed = statements.pop();
        if let Some(p) = &parsed
            && self.block.is_failed()
            && !ends_failed_block(&p.statement)
        {
            return Err(in_failed_block());
        }
        if let Some(front::Statement::DeclareCursor(d)) = parsed.as_ref().map(|p| &p.statement) {
            super::cursor::check_options(d)?;
        }
        for ty in types.iter().filter(|t| **t != Oid::INVALID) {
            if crate::types::registry::by_oid(*ty).is_none() {
                return Err(SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!("type with OID {ty} does not exist"),
                ));
            }
        }
        let planned = parsed.as_ref().is_some_and(|p| is_planned(&p.statement));
        let types = match &parsed {
            Some(p) if !planned => {
                let types = self.types_within(p, &text, types, &settings)?;
                check_known(&types)?;
                types
            }
            _ => types,
        };
        let prepared = Prepared::new(name, text, parsed, types);
        if planned {
            self.ensure_transaction()?;
            self.begins_to_look().await?;
            let function = self.function_cx(&settings, self.received);
            let found = self.find_plan(&prepared, &settings, &function)?;
            prepared
                .columns
                .get_or_init(|| Arc::clone(&found.plan.output));
        }
        if self.prepared.contains_key(name) {
            return Err(SqlError::new(
                state::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.prepared.insert(name.into(), Arc::new(prepared));
        Ok(())
    }

    pub(super) fn logs_durations(&self) -> bool {
        logging::wants_durations(self.facts.settings.lock().settings())
    }

    pub(super) fn log_duration(
        &self,
        started: i64,
        text: &str,
        message: &logging::Message<'_>,
        logged: bool,
        portal: Option<&Portal>,
    ) {
        if !self.logs_durations() {
            return;
        }
        let detail = || portal.and_then(|p| self.parameters_shown(p));
        let settings = self.settings();
        logging::duration(
            now() - started,
            text,
            Some(message),
            logged,
            detail,
            &settings,
        );
    }

    /// `parameters: $1 = '41', $2 = NULL`, each value cut at `log_parameter_max_length`; nothing, if that is 0.
    fn parameters_shown(&self, portal: &Portal) -> Option<String> {
        let settings = self.settings();
        let most = settings.log_parameter_max_length;
        if portal.parameters.is_empty() || most == Some(0) {
            return None;
        }
        let plan = Arc::clone(&portal.statement.cached.lock().as_ref()?.plan);
        let function = functions_of(&settings, Arc::clone(&self.host), now(), now());
        let shown = portal.parameters.iter().zip(&plan.parameters);
        let shown = shown.enumerate().map(|(i, (value, ty))| {
            let value = match value {
                Datum::Null => "NULL".to_owned(),
                value => logging::parameter(&codec::to_text(ty.oid, value, &function), most),
            };
            format!("${} = {value}", i + 1)
        });
        Some(format!(
            "parameters: {}",
            shown.collect::<Vec<_>>().join(", ")
        ))
    }

    pub(super) fn text_of_statement(&self, name: &str) -> Arc<str> {
        self.prepared
            .get(name)
            .map_or_else(|| Arc::from(""), |p| Arc::clone(&p.text))
    }

    /// Analysis counts as a query (`analyze_requires_snapshot`): the transaction's isolation level is settled with it, and
    /// what REPEATABLE READ shows is what there is now.
    pub(super) async fn begins_to_look(&mut self) -> Result<(), SqlError> {
        let Some(running) = self.block.running() else {
            return Err(in_failed_block());
        };
        running.queried = true;
        if running.isolation() == Isolation::RepeatableRead {
            self.wait_until_readable().await?;
            self.snapshot()?;
        }
        Ok(())
    }

    pub async fn describe_statement<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        // It may begin a transaction, whatever of the pipeline came before.
        self.receives();
        self.joins_pipeline();
        let text = self.text_of_statement(name);
        let done = self.describe_statement_inner(name, out);
        self.failing(done, &text)
    }

    fn describe_statement_inner<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        self.starts_message()?;
        let statement = self.statement_named(name)?;
        let Some(parsed) = &statement.parsed else {
            out.parameter_description(&statement.declared);
            out.no_data();
            return Ok(());
        };
        if !is_planned(&parsed.statement) {
            let columns = self.utility_columns(&parsed.statement)?;
            if self.block.is_failed() && !columns.is_empty() {
                return Err(in_failed_block());
            }
            out.parameter_description(&statement.declared);
            describe_columns(&statement, &columns, &Formats::default(), out);
            return Ok(());
        }
        if self.block.is_failed()
            && let Some(types) = statement.parameters.get()
        {
            // What gives no rows is described all the same, without a look at the catalog.
            let told = statement.columns.get();
            let columns: &[OutputColumn] = told.map_or(&[], |columns| &columns[..]);
            if gives_rows(&statement, columns) {
                return Err(in_failed_block());
            }
            out.parameter_description(types);
            out.no_data();
            return Ok(());
        }
        self.ensure_transaction()?;
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let cached = self.find_plan(&statement, &settings, &function)?;
        let types: Vec<Oid> = cached.plan.parameters.iter().map(|p| p.oid).collect();
        out.parameter_description(&types);
        describe_columns(&statement, &cached.plan.output, &Formats::default(), out);
        Ok(())
    }

    pub async fn describe_portal<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        self.joins_pipeline();
        let done = self.describe_portal_inner(name, out);
        self.failing(done, "")
    }

    fn describe_portal_inner<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        self.starts_message()?;
        let failed = self.block.is_failed();
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        if failed && gives_rows(&portal.statement, &portal.columns) {
            return Err(in_failed_block());
        }
        describe_columns(&portal.statement, &portal.columns, &portal.formats, out);
        Ok(())
    }

    pub async fn execute<O: Output>(
        &mut self,
        name: &str,
        max_rows: u32,
        out: &mut O,
    ) -> Result<(), SqlError> {
        self.joins_pipeline();
        let Some(mut portal) = self.portals.remove(name) else {
            return self.failing(Err(no_portal(name)), "");
        };
        let statement = Arc::clone(&portal.statement);
        let started = self.receives();
        let tag = statement.parsed.as_ref().map_or("", |p| p.tag);
        self.begins_prepared(&statement.text, tag);
        let settings = self.settings();
        let message = logging::Message {
            act: match portal.state {
                PortalState::New | PortalState::Bound(_) => "execute",
                _ => "execute fetch from",
            },
            statement: &statement.name,
            portal: name,
        };
        let logged = logging::statement(
            statement.parsed.iter().map(|p| &p.statement),
            &statement.text,
            Some(&message),
            || self.parameters_shown(&portal),
            &settings,
        );
        let limit = (max_rows > 0).then_some(u64::from(max_rows));
        let refused = self.block.is_failed();
        let done = self.execute_inner(name, &mut portal, limit, out).await;
        self.keep_numbers().await;
        // COMMIT and ROLLBACK take all portals with them, this one included.
        let ended = statement
            .parsed
            .as_ref()
            .is_some_and(|p| ends_transaction(&p.statement));
        if done.is_ok() {
            // Each Execute that comes to its end is a statement of its own to the clock.
            if !portal.is_suspended() {
                self.stop_clock();
            }
            self.executed = !ended;
            self.log_duration(started, &statement.text, &message, logged, Some(&portal));
        } else if !refused {
            portal.state = PortalState::Failed;
        }
        // One that is older than the savepoint which an error goes back to outlives it, but can only be closed, unless it
        // was not run at all.
        if done.is_err() || !ended {
            self.portals.insert(name.into(), portal);
        }
        self.failing(done, &statement.text)
    }

    async fn execute_inner<O: Output>(
        &mut self,
        name: &str,
        portal: &mut Portal,
        limit: Option<u64>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        self.starts_message()?;
        let statement = Arc::clone(&portal.statement);
        let Some(parsed) = &statement.parsed else {
            out.empty_query();
            return Ok(());
        };
        // One that failed with its block is not run even if it would end it.
        let failed = matches!(portal.state, PortalState::Failed);
        if self.block.is_failed() && (failed || !ends_failed_block(&parsed.statement)) {
            return Err(in_failed_block());
        }
        if failed {
            return Err(portal_done(name));
        }
        if portal.cursor.is_some() {
            return self.execute_cursor(portal, limit, out).await;
        }
        if is_planned(&parsed.statement) {
            return self.execute_planned(name, portal, limit, out).await;
        }
        let rows = match std::mem::replace(&mut portal.state, PortalState::Done) {
            PortalState::New => {
                let given = Given {
                    types: &statement.declared,
                    values: &portal.parameters,
                };
                match self
                    .utility(parsed, &statement.text, true, false, given, out)
                    .await?
                {
                    Outcome::Tag(tag) => {
                        if runs_alone(&parsed.statement).is_some() {
                            // It has to be there to stay before its end is told, whatever comes behind it.
                            self.end_implicit().await?;
                        }
                        self.tell_notices(out);
                        out.command_complete(&tag);
                        return Ok(());
                    }
                    Outcome::Rows(rows, _) => rows.into_iter(),
                }
            }
            PortalState::Rows(rows) => rows,
            PortalState::Done if !portal.columns.is_empty() => {
                out.command_complete(tag_of_no_rows(parsed));
                return Ok(());
            }
            PortalState::Bound(_)
            | PortalState::Done
            | PortalState::Failed
            | PortalState::Suspended(..) => {
                return Err(portal_done(name));
            }
        };
        self.execute_rows(portal, rows, limit, parsed.tag, out)
    }

    /// Rows of a utility statement, as many as were asked for.
    fn execute_rows<O: Output>(
        &mut self,
        portal: &mut Portal,
        mut rows: std::vec::IntoIter<Vec<Datum>>,
        limit: Option<u64>,
        tag: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        let most = limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        let stops = limit.is_some() && rows.len() >= most;
        let mut some = rows.by_ref().take(most);
        self.send_rows(&mut some, &portal.columns, &portal.formats, false, out)?;
        // Whoever asks for as many as there are is told only next time that these were all.
        if stops {
            portal.state = PortalState::Rows(rows);
            out.portal_suspended();
        } else {
            out.command_complete(tag);
        }
        Ok(())
    }

    /// A cursor of DECLARE CURSOR stands where FETCH has left it.
    async fn execute_cursor<O: Output>(
        &mut self,
        portal: &mut Portal,
        limit: Option<u64>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        let count = limit.map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX));
        let forward = front::ast::FetchDirection::Forward(count);
        let rows = self.move_cursor(portal, forward, false, out).await?;
        if portal.is_behind() {
            out.command_complete(&command_of(&portal.statement).tag(rows as u64));
        } else {
            out.portal_suspended();
        }
        Ok(())
    }

    async fn execute_planned<O: Output>(
        &mut self,
        name: &str,
        portal: &mut Portal,
        limit: Option<u64>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        let (mut execution, function) =
            match std::mem::replace(&mut portal.state, PortalState::Done) {
                PortalState::New => {
                    let ready = self.ready(&portal.statement).await?;
                    // A plan made since Bind may give other columns than were described.
                    if ready.plan.output != portal.columns {
                        return Err(SqlError::unsupported(
                            "cached plan must not change result type",
                        ));
                    }
                    let mut execution =
                        self.start_prepared(&portal.statement, &ready, &portal.parameters)?;
                    let changes = ready.plan.runs_at_once();
                    if changes && limit.is_some() && ready.plan.gives_rows() {
                        let work = ready.settings.work_mem;
                        self.keep_change(portal, &mut execution, ready.function, work)
                            .await?;
                        portal.statement.park(execution);
                        self.tell_notices(out);
                        return self.execute_cursor(portal, limit, out).await;
                    }
                    (execution, ready.function)
                }
                PortalState::Bound(begun) => self.start_begun(portal, begun),
                PortalState::Suspended(execution, function) => (execution, function),
                PortalState::Failed => return Err(portal_done(name)),
                PortalState::Done | PortalState::Rows(_) => {
                    // A finished query gives no more rows; a finished change cannot run again.
                    if !gives_rows(&portal.statement, &portal.columns) {
                        return Err(portal_done(name));
                    }
                    out.command_complete(&command_of(&portal.statement).tag(0));
                    return Ok(());
                }
            };
        let types = Arc::clone(&portal.types);
        let progress = self
            .run(
                &mut execution,
                types,
                &portal.formats,
                &function,
                false,
                limit,
                out,
            )
            .await?;
        self.tell_notices(out);
        if progress.complete {
            out.command_complete(&execution.plan().command.tag(progress.rows));
            portal.statement.park(execution);
        } else {
            out.portal_suspended();
            portal.state = PortalState::Suspended(execution, function);
        }
        Ok(())
    }

    /// The query as Bind left it, with the settings and the moment of this Execute.
    fn start_begun(&mut self, portal: &Portal, begun: Begun) -> (Box<Execution>, Arc<FunctionCx>) {
        let settings = self.settings();
        let function = self.function_cx(&settings, self.received);
        let ready = Ready {
            plan: begun.plan,
            types: Arc::clone(&portal.types),
            settings: begun.settings,
            function: Arc::clone(&function),
        };
        let run = RunCx {
            snapshot: begun.snapshot,
            isolation: begun.isolation,
            function: Arc::clone(&function),
        };
        let execution = self.start_prepared_at(&portal.statement, &ready, &portal.parameters, run);
        (execution, function)
    }

    pub fn close_statement(&mut self, name: &str) {
        self.prepared.remove(name);
    }

    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// The end of a pipeline: an implicit transaction is committed.
    pub async fn sync(&mut self) -> Result<(), SqlError> {
        self.stop_clock();
        if matches!(self.block, Block::Implicit(_)) {
            // The standbys that the commit may wait for get as long as they do after a simple query.
            let settings = self.settings();
            self.start_clock(&settings);
        }
        let done = self.end_implicit().await;
        self.stop_clock();
        (self.pipelined, self.executed) = (false, false);
        if matches!(self.block, Block::Idle) {
            // Those too that were bound to statements which need no transaction.
            self.end_portals();
        }
        let done = self.failing(done, "");
        self.keep_numbers().await;
        done
    }

    /// The protocol itself went wrong, outside of any call. `skips`: what is left of the pipeline is passed over, up to its
    /// Sync.
    pub fn failed(&mut self, skips: bool) {
        self.pipelined = skips;
        self.after_error(&SqlError::new(state::PROTOCOL_VIOLATION, ""));
    }
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

/// What the tag of a planned statement begins with.
fn command_of(statement: &Prepared) -> Command {
    match statement.parsed.as_ref().map(|p| &p.statement) {
        Some(front::Statement::Insert(_)) => Command::Insert,
        Some(front::Statement::Update(_)) => Command::Update,
        Some(front::Statement::Delete(_)) => Command::Delete,
        _ => Command::Select,
    }
}

/// Whether rows go to the client: those of a query, be they of no columns, and those of RETURNING, SHOW and the like.
pub(super) fn gives_rows(statement: &Prepared, columns: &[OutputColumn]) -> bool {
    let parsed = statement.parsed.as_ref().map(|p| &p.statement);
    matches!(parsed, Some(front::Statement::Query(_))) || !columns.is_empty()
}

fn describe_columns<O: Output>(
    statement: &Prepared,
    columns: &[OutputColumn],
    formats: &Formats,
    out: &mut O,
) {
    if gives_rows(statement, columns) {
        out.row_description(columns, formats);
    } else {
        out.no_data();
    }
}

/// Whether a transaction ends with it, and all portals do: BEGIN and the others of its kind are their own kind of
/// statement to PostgreSQL, too, and so are those that commit by themselves.
fn ends_transaction(statement: &front::Statement) -> bool {
    matches!(statement, front::Statement::Transaction(_)) || runs_alone(statement).is_some()
}

/// The tag of a statement without a plan that has given all its rows before.
fn tag_of_no_rows(parsed: &front::Parsed) -> &str {
    match parsed.statement {
        front::Statement::Fetch(_) => "FETCH 0",
        front::Statement::Execute(_) => "SELECT 0",
        _ => parsed.tag,
    }
}

/// 42P18 for declared types of parameters of which nothing can tell more.
fn check_known(types: &[Oid]) -> Result<(), SqlError> {
    let unknown = |ty: &Oid| *ty == Oid::INVALID || *ty == oids::UNKNOWN;
    match types.iter().position(unknown) {
        None => Ok(()),
        Some(i) => Err(SqlError::new(
            state::INDETERMINATE_DATATYPE,
            format!("could not determine data type of parameter ${}", i + 1),
        )),
    }
}

fn portal_done(name: &str) -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("portal \"{name}\" cannot be run"),
    )
}
