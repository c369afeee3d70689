//! Bind: a portal made of a prepared statement and the values of its parameters.
//!
//! A query gets its plan, its locks and its snapshot here, as `PortalStart` gives them, so it shows what was committed when
//! it was bound, however late it is run. A change gets them when it runs.

use std::sync::Arc;

use super::extended::gives_rows;
use super::lifecycle::Session;
use super::logging;
use super::output::{Format, Formats, Output};
use super::prepared::{Begun, Portal, PortalState, Prepared};
use super::query::is_planned;
use super::services::Services;
use super::transaction::in_failed_block;
use super::utility::ends_failed_block;
use crate::ids::Oid;
use crate::sql::error::{Severity, SqlError, state};
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::FunctionCx;

/// Bind's fields, read in place.
pub struct BindRequest<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: Formats,
    pub parameters: Vec<Option<&'a [u8]>>,
    pub result_formats: Formats,
}

impl<S: Services> Session<S> {
    pub async fn bind<O: Output>(
        &mut self,
        b: BindRequest<'_>,
        _out: &mut O,
    ) -> Result<(), SqlError> {
        let started = self.receives();
        self.joins_pipeline();
        let message = logging::Message {
            act: "bind",
            statement: b.statement,
            portal: b.portal,
        };
        let done = self.bind_inner(b).await;
        if done.is_ok() && !self.logs_durations() {
            return done;
        }
        let text = self.text_of_statement(message.statement);
        if done.is_ok() {
            let portal = self.portals.get(message.portal);
            self.log_duration(started, &text, &message, false, portal);
        }
        self.failing(done, &text)
    }

    /// The checks come in PostgreSQL's order: counts, the failed block, the name, the values, the plan, the formats of the
    /// result.
    async fn bind_inner(&mut self, b: BindRequest<'_>) -> Result<(), SqlError> {
        self.starts_message()?;
        let statement = self.statement_named(b.statement)?;
        self.begins_prepared(&statement.text, "BIND");
        b.parameter_formats.check_parameters(b.parameters.len())?;
        check_count(&b, statement.known_types().len())?;
        // Values need functions, so not even a ROLLBACK may have some.
        let ends = |p: &crate::sql::front::Parsed| ends_failed_block(&p.statement);
        let may_end = b.parameters.is_empty() && statement.parsed.as_ref().is_some_and(ends);
        if self.block.is_failed() && !may_end {
            return Err(in_failed_block());
        }
        if b.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(b.portal) {
            return Err(SqlError::new(
                state::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", b.portal),
            ));
        }
        let name: Box<str> = b.portal.into();
        // From here on the portal is there, and stays there in a block that its making fails.
        let mut portal = Portal {
            statement,
            parameters: Vec::new(),
            formats: b.result_formats.clone(),
            columns: Arc::default(),
            types: Arc::default(),
            cursor: None,
            reads: None,
            level: self.savepoints(),
            state: PortalState::New,
        };
        let done = self.begin_portal(&mut portal, &b).await;
        if done.is_err() {
            portal.fail();
        }
        self.portals.insert(name, portal);
        done
    }

    async fn begin_portal(
        &mut self,
        portal: &mut Portal,
        b: &BindRequest<'_>,
    ) -> Result<(), SqlError> {
        let statement = Arc::clone(&portal.statement);
        let parsed = statement.parsed.as_ref();
        if parsed.is_some_and(|p| is_planned(&p.statement)) {
            self.begin_planned(portal, &statement, b).await?;
        } else {
            if parsed.is_some() && !b.parameters.is_empty() {
                let plain = |oid: &Oid| SqlType::plain(*oid);
                let types: Vec<SqlType> = statement.declared.iter().map(plain).collect();
                let settings = self.settings();
                let function = self.function_cx(&settings, self.received);
                portal.parameters = read_parameters(b, &types, &function)?;
            }
            if let Some(p) = parsed {
                portal.columns = self.utility_columns(&p.statement)?;
            }
        }
        if gives_rows(&portal.statement, &portal.columns) {
            portal.formats.check(portal.columns.len())?;
        }
        Ok(())
    }

    async fn begin_planned(
        &mut self,
        portal: &mut Portal,
        statement: &Prepared,
        b: &BindRequest<'_>,
    ) -> Result<(), SqlError> {
        self.ensure_transaction()?;
        self.begins_to_look().await?;
        let runs_at_once = {
            let settings = self.settings();
            let function = self.function_cx(&settings, self.received);
            let cached = self.find_plan(statement, &settings, &function)?;
            portal.parameters = read_parameters(b, &cached.plan.parameters, &function)?;
            portal.columns = Arc::clone(&cached.plan.output);
            portal.types = Arc::clone(&cached.types);
            cached.plan.runs_at_once()
        };
        if runs_at_once {
            return Ok(());
        }
        let ready = self.ready(statement).await?;
        let run = self.run_cx(&ready)?;
        portal.columns = Arc::clone(&ready.plan.output);
        portal.types = ready.types;
        portal.reads = Some(Arc::clone(&ready.plan));
        portal.state = PortalState::Bound(Begun {
            plan: ready.plan,
            settings: ready.settings,
            snapshot: run.snapshot,
            isolation: run.isolation,
        });
        Ok(())
    }
}

fn check_count(b: &BindRequest<'_>, wanted: usize) -> Result<(), SqlError> {
    if b.parameters.len() == wanted {
        return Ok(());
    }
    Err(SqlError::new(
        state::PROTOCOL_VIOLATION,
        format!(
            "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
            b.parameters.len(),
            b.statement
        ),
    ))
}

fn read_parameters(
    b: &BindRequest<'_>,
    types: &[SqlType],
    cx: &FunctionCx,
) -> Result<Vec<Datum>, SqlError> {
    check_count(b, types.len())?;
    let mut out = Vec::with_capacity(types.len());
    for (i, (value, ty)) in b.parameters.iter().zip(types).enumerate() {
        out.push(match value {
            None => Datum::Null,
            Some(bytes) => read_parameter(bytes, *ty, b.parameter_formats.of(i), cx)
                .map_err(|e| within(e, b, i))?,
        });
    }
    Ok(out)
}

fn read_parameter(
    bytes: &[u8],
    ty: SqlType,
    format: Format,
    cx: &FunctionCx,
) -> Result<Datum, SqlError> {
    match format {
        Format::Binary => Ok(codec::decode_binary(ty, bytes, cx)?),
        Format::Text => Ok(codec::parse_text(ty, codec::text_of(bytes)?, cx)?),
    }
}

/// Which parameter was wrong, as CONTEXT. Its value is not shown (`log_parameter_max_length_on_error`).
fn within(mut e: SqlError, b: &BindRequest<'_>, number: usize) -> SqlError {
    let at = number + 1;
    if e.message == "incorrect binary data format" {
        e.message.push_str(&format!(" in bind parameter {at}"));
    }
    if e.severity > Severity::Error {
        return e;
    }
    let portal = match b.portal {
        "" => "unnamed portal".to_owned(),
        name => format!("portal \"{name}\""),
    };
    e.context(match b.parameter_formats.of(number) {
        Format::Text => format!("{portal} parameter ${at} = '...'"),
        Format::Binary => format!("{portal} parameter ${at}"),
    })
}
