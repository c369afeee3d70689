//! The simple query protocol: a string of statements, in one implicit transaction unless they say otherwise.

use std::sync::Arc;

use smallvec::SmallVec;

use super::given::{Given, no_parameter};
use super::lifecycle::{Session, now};
use super::logging;
use super::output::{Formats, Output};
use super::prepared::Prepared;
use super::query::is_planned;
use super::services::Services;
use super::transaction::in_failed_block;
use super::utility::{Outcome, ends_failed_block};
use crate::config::SessionSettings;
use crate::sql::error::{Severity, SqlError};
use crate::sql::front::shape::shape;
use crate::sql::front::{self, Parsed, first_parameter};
use crate::types::datum::Datum;

impl<S: Services> Session<S> {
    /// Runs a query string. Errors of its statements are reported here; `Err` ends the connection.
    pub async fn simple<O: Output>(&mut self, text: &str, out: &mut O) -> Result<(), SqlError> {
        let started = self.receives();
        // A pipeline that no Sync has ended is over.
        self.stop_clock();
        self.pipelined = false;
        self.begins(text, started);
        // A simple query takes the unnamed statement with it, and one that succeeds the unnamed portal.
        self.prepared.remove("");
        let done = self.query_string(text, started, out).await;
        self.stop_clock();
        // What a pipeline had run before it has been committed with it, but for what a block goes on with.
        self.executed = false;
        match done {
            Ok(()) => {
                self.portals.remove("");
                self.keep_numbers().await;
                Ok(())
            }
            Err(e) => {
                self.log_error(&e, text);
                self.after_error(&e);
                self.keep_numbers().await;
                if e.severity >= Severity::Fatal {
                    return Err(e);
                }
                self.tell_notices(out);
                out.error(&e);
                Ok(())
            }
        }
    }

    /// What every statement's beginning means for views and interrupts.
    pub(super) fn begins(&mut self, text: &str, started: i64) {
        let interrupts = &self.facts.backend.interrupts;
        if !self.pipelined && interrupts.is_pending() {
            interrupts.forget_statement();
        }
        self.facts.backend.begins(text, started, self.activity_size);
    }

    async fn query_string<O: Output>(
        &mut self,
        text: &str,
        started: i64,
        out: &mut O,
    ) -> Result<(), SqlError> {
        let settings = self.settings();
        self.start_clock(&settings);
        if self.repeated(text, started, &settings, out).await? {
            return Ok(());
        }
        for notice in front::notices(text) {
            self.notice(out, &notice);
        }
        let statements = front::parse(text)?;
        let executed = statements.iter().find_map(|p| match &p.statement {
            front::Statement::Execute(e) => self.prepared.get(e.name.name.as_str()),
            _ => None,
        });
        let executed = executed.map(|p| format!("prepare: {}", p.text));
        let logged = logging::statement(
            statements.iter().map(|p| &p.statement),
            text,
            None,
            || executed.clone(),
            &settings,
        );
        if statements.is_empty() {
            self.end_implicit().await?;
            out.empty_query();
        }
        let source: Arc<str> = Arc::from(text);
        let count = statements.len();
        for (i, parsed) in statements.into_iter().enumerate() {
            let last = i + 1 == count;
            let tag = self.one(parsed, &source, count == 1, out).await?;
            // The last tag goes out only once its effects are committed.
            if last {
                self.end_implicit().await?;
            }
            self.tell_notices(out);
            out.command_complete(&tag);
            self.stop_clock();
            if !last {
                // A SET before it counts.
                let settings = self.settings();
                self.start_clock(&settings);
            }
        }
        if logging::wants_durations(&settings) {
            let spent = now() - started;
            logging::duration(spent, text, None, logged, || executed, &settings);
        }
        Ok(())
    }

    /// Runs a text that only differs in its numbers from one that came before. False: it is not one.
    async fn repeated<O: Output>(
        &mut self,
        text: &str,
        started: i64,
        settings: &Arc<SessionSettings>,
        out: &mut O,
    ) -> Result<bool, SqlError> {
        if self.block.is_failed() {
            return Ok(false);
        }
        let Some(shape) = shape(text) else {
            return Ok(false);
        };
        let Some(prepared) = self.shapes.find(&shape, text) else {
            return Ok(false);
        };
        self.ensure_transaction()?;
        self.wait_until_readable().await?;
        let function = self.function_cx(settings, started);
        // An error here is told with the text as it stands, which is also where its position counts. So it is with one
        // that the numbers themselves bring about: `1 / 0` fails even if no row comes to it.
        let plan = match self.find_plan(&prepared, settings, &function) {
            Ok(found) if !found.plan.computes_parameters => Arc::clone(&found.plan),
            _ => {
                self.shapes.refuse(&shape);
                return Ok(false);
            }
        };
        if shape.numbers.iter().any(|n| *n > plan.largest_taken) {
            return Ok(false);
        }
        drop(function);
        let statement = prepared.parsed.iter().map(|p| &p.statement);
        let logged = logging::statement(statement, text, None, || None, settings);
        let ready = self.ready(&prepared).await?;
        let numbers: SmallVec<[Datum; 8]> = shape.numbers.into_iter().map(Datum::Int4).collect();
        let mut execution = self.start_prepared(&prepared, &ready, &numbers)?;
        let progress = self
            .run(
                &mut execution,
                Arc::clone(&ready.types),
                &Formats::default(),
                &ready.function,
                true,
                None,
                out,
            )
            .await?;
        prepared.park(execution);
        self.end_implicit().await?;
        self.tell_notices(out);
        out.command_complete(&ready.plan.command.tag(progress.rows));
        self.stop_clock();
        if logging::wants_durations(settings) {
            logging::duration(now() - started, text, None, logged, || None, settings);
        }
        Ok(true)
    }

    /// One statement; gives its command tag.
    async fn one<O: Output>(
        &mut self,
        parsed: Parsed,
        source: &Arc<str>,
        alone: bool,
        out: &mut O,
    ) -> Result<String, SqlError> {
        self.facts.backend.runs(parsed.tag);
        if self.block.is_failed() && !ends_failed_block(&parsed.statement) {
            return Err(in_failed_block());
        }
        if is_planned(&parsed.statement) {
            if let Some((number, at)) = first_parameter(source, parsed.text.clone()) {
                return Err(no_parameter(number).at(at).located(source));
            }
            let prepared = Prepared::new("", Arc::clone(source), Some(parsed), Vec::new());
            let ready = self.ready(&prepared).await?;
            let mut execution = self.start(&ready, &[], false)?;
            let progress = self
                .run(
                    &mut execution,
                    Arc::clone(&ready.types),
                    &Formats::default(),
                    &ready.function,
                    true,
                    None,
                    out,
                )
                .await?;
            return Ok(ready.plan.command.tag(progress.rows).into_owned());
        }
        // It runs in the unnamed portal, whose place is made before: what that one read is no longer in use.
        self.portals.remove("");
        match self
            .utility(&parsed, source, alone, true, Given::default(), out)
            .await?
        {
            Outcome::Tag(tag) => Ok(tag),
            Outcome::Rows(rows, tag) => {
                let columns = self.utility_columns(&parsed.statement)?;
                self.send_rows(
                    &mut rows.into_iter(),
                    &columns,
                    &Formats::default(),
                    true,
                    out,
                )?;
                Ok(tag)
            }
        }
    }
}
