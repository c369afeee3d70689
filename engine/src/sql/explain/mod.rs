//! EXPLAIN: a plan in words, as PostgreSQL words it, and with ANALYZE what its nodes did.
//!
//! A plan becomes a tree of [`item::Item`]s once; text, JSON, XML and YAML are ways to print that. Nodes that PostgreSQL does
//! not have (projection, a filter on its own) show as part of their child. BUFFERS, WAL and SETTINGS are accepted; there
//! are no such counters yet, so nothing is printed for them rather than zeroes.

mod expression;
mod item;
mod nodes;
mod options;
mod print;
mod simple;

#[cfg(test)]
mod tests;

pub use expression::{Style, Words};
pub use options::{ExplainFormat, ExplainOptions};

use std::time::Duration;

use crate::sql::exec::instrument::Instruments;
use crate::sql::plan::Plan;

/// What was measured around the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    pub planning: Duration,
    pub execution: Duration,
}

/// The rows of EXPLAIN's one column, `QUERY PLAN`: lines of text, or one document.
pub fn explain(
    plan: &Plan,
    options: &ExplainOptions,
    measured: Option<&Instruments>,
    times: Times,
) -> Vec<String> {
    let root = nodes::describe(plan, options, measured);
    match options.format {
        ExplainFormat::Text => print::text(&root, options, times),
        ExplainFormat::Json => vec![print::json(&root, options, times)],
        ExplainFormat::Xml => vec![print::xml(&root, options, times)],
        ExplainFormat::Yaml => vec![print::yaml(&root, options, times)],
    }
}

/// EXPLAIN of a statement that has no plan.
pub fn utility(options: &ExplainOptions) -> Vec<String> {
    match options.format {
        ExplainFormat::Text => vec!["Utility statements have no plan structure".to_owned()],
        ExplainFormat::Json => vec!["[\n  \"Utility Statement\"\n]".to_owned()],
        ExplainFormat::Xml => vec![print::in_explain("  <Utility-Statement />\n")],
        ExplainFormat::Yaml => vec!["- \"Utility Statement\"".to_owned()],
    }
}
