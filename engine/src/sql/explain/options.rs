//! EXPLAIN's options.

use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{OptionValue, UtilityOption};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainFormat {
    Text,
    Json,
    Xml,
    Yaml,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Run it, and show what each node did.
    pub analyze: bool,
    pub verbose: bool,
    pub costs: bool,
    pub timing: bool,
    /// Planning and execution time.
    pub summary: bool,
    pub format: ExplainFormat,
}

impl ExplainOptions {
    pub fn new(given: &[UtilityOption]) -> Result<ExplainOptions, SqlError> {
        let mut made = ExplainOptions {
            analyze: false,
            verbose: false,
            costs: true,
            timing: false,
            summary: false,
            format: ExplainFormat::Text,
        };
        let (mut timing, mut summary, mut wal) = (None, None, false);
        for option in given {
            let on = || {
                option.boolean().ok_or_else(|| {
                    SqlError::new(
                        state::SYNTAX_ERROR,
                        format!("{} requires a Boolean value", option.name),
                    )
                })
            };
            match option.name.as_str() {
                "analyze" | "analyse" => made.analyze = on()?,
                "verbose" => made.verbose = on()?,
                "costs" => made.costs = on()?,
                "timing" => timing = Some(on()?),
                "summary" => summary = Some(on()?),
                "wal" => wal = on()?,
                "buffers" | "settings" => {
                    on()?;
                }
                "format" => made.format = format(option)?,
                other => {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        format!("unrecognized EXPLAIN option \"{other}\""),
                    )
                    .at(option.at));
                }
            }
        }
        let needs_analyze = |name: &str| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("EXPLAIN option {name} requires ANALYZE"),
            )
        };
        if wal && !made.analyze {
            return Err(needs_analyze("WAL"));
        }
        if timing == Some(true) && !made.analyze {
            return Err(needs_analyze("TIMING"));
        }
        made.timing = timing.unwrap_or(made.analyze);
        made.summary = summary.unwrap_or(made.analyze);
        Ok(made)
    }
}

fn format(option: &UtilityOption) -> Result<ExplainFormat, SqlError> {
    let Some(OptionValue::Text(name)) = &option.value else {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            "format requires a parameter",
        ));
    };
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(ExplainFormat::Text),
        "json" => Ok(ExplainFormat::Json),
        "xml" => Ok(ExplainFormat::Xml),
        "yaml" => Ok(ExplainFormat::Yaml),
        _ => Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!("unrecognized value for EXPLAIN option \"format\": \"{name}\""),
        )
        .at(option.at)),
    }
}
