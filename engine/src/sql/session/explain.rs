//! EXPLAIN: plans a statement as it would be planned by itself, and with ANALYZE runs it, its rows thrown away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::given::Given;
use super::lifecycle::Session;
use super::prepared::Prepared;
use super::query::{count_changes, is_planned};
use super::scroll::Skipped;
use super::services::Services;
use super::transaction::in_failed_block;
use super::utility::{Outcome, no_statement};
use crate::sql::error::SqlError;
use crate::sql::explain::{self, ExplainOptions, Times};
use crate::sql::front::ast::Explain;
use crate::sql::front::{Parsed, Statement};
use crate::txn::Due;
use crate::types::datum::Datum;

impl<S: Services> Session<S> {
    pub(super) async fn explain(
        &mut self,
        e: &Explain,
        source: &Arc<str>,
        given: Given<'_>,
    ) -> Result<Outcome, SqlError> {
        let options = ExplainOptions::new(&e.options).map_err(|e| e.located(source))?;
        let lines = match &e.statement {
            Statement::Execute(execute) => {
                let prepared = self
                    .prepared
                    .get(execute.name.name.as_str())
                    .cloned()
                    .ok_or_else(|| no_statement(&execute.name.name))?;
                let ready = self.ready(&prepared).await?;
                let parameters = self.argument_values(execute, source, &ready).await?;
                self.explain_planned(&prepared, &parameters, &options)
                    .await?
            }
            planned if is_planned(planned) => {
                let parsed = Parsed {
                    statement: planned.clone(),
                    text: 0..source.len(),
                    tag: planned.tag(),
                };
                let types = given.types.to_vec();
                let prepared = Prepared::new("", Arc::clone(source), Some(parsed), types);
                self.explain_planned(&prepared, given.values, &options)
                    .await?
            }
            _ => explain::utility(&options),
        };
        let rows = lines.iter().map(|l| vec![Datum::text(l)]).collect();
        Ok(Outcome::Rows(rows, "EXPLAIN".to_owned()))
    }

    async fn explain_planned(
        &mut self,
        prepared: &Prepared,
        parameters: &[Datum],
        options: &ExplainOptions,
    ) -> Result<Vec<String>, SqlError> {
        let begin = Instant::now();
        let ready = self.ready(prepared).await?;
        let planning = begin.elapsed();
        if !options.analyze {
            let times = Times {
                planning,
                execution: Duration::ZERO,
            };
            return Ok(explain::explain(&ready.plan, options, None, times));
        }
        let begin = Instant::now();
        let mut execution = self.start(&ready, parameters, true)?;
        let Some(running) = self.block.running() else {
            return Err(in_failed_block());
        };
        let _own = self.facts.own_catalog(self.services.txns(), &running.txn);
        let progress = execution.run(&mut running.txn, &mut Skipped, None).await?;
        let changes = self.services.changes();
        count_changes(changes, self.facts.database, &execution, progress.rows);
        running.txn.next_command()?;
        self.enforce_references(Due::Statement).await?;
        let times = Times {
            planning,
            execution: begin.elapsed(),
        };
        Ok(explain::explain(
            &ready.plan,
            options,
            execution.instruments(),
            times,
        ))
    }
}
