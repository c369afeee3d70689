//! `DateStyle` and `IntervalStyle`. A new date style keeps the half that it does not name.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOutput {
    Iso,
    Sql,
    Postgres,
    German,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder {
    Ymd,
    Dmy,
    Mdy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateStyle {
    pub output: DateOutput,
    pub order: DateOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStyle {
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

impl Default for DateStyle {
    fn default() -> DateStyle {
        DateStyle {
            output: DateOutput::Iso,
            order: DateOrder::Mdy,
        }
    }
}

/// What is wrong with a date style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateStyleFault {
    UnknownWord(String),
    Conflicting,
}

impl DateStyle {
    /// Reads a list of words over `current`; `DEFAULT` takes what is left open from `reset`.
    pub fn parse(
        text: &str,
        current: DateStyle,
        reset: DateStyle,
    ) -> Result<DateStyle, DateStyleFault> {
        let mut output = None;
        let mut order = None;
        for word in text
            .split(',')
            .map(|w| w.trim().trim_matches('"').to_ascii_lowercase())
        {
            let (o, r) = match word.as_str() {
                "iso" => (Some(DateOutput::Iso), None),
                "sql" => (Some(DateOutput::Sql), None),
                w if w.starts_with("postgres") => (Some(DateOutput::Postgres), None),
                "german" => (Some(DateOutput::German), None),
                "ymd" => (None, Some(DateOrder::Ymd)),
                w if w == "dmy" || w.starts_with("euro") => (None, Some(DateOrder::Dmy)),
                w if w == "mdy" || w == "us" || w.starts_with("noneuro") => {
                    (None, Some(DateOrder::Mdy))
                }
                "default" => {
                    output = output.or(Some(reset.output));
                    order = order.or(Some(reset.order));
                    continue;
                }
                _ => return Err(DateStyleFault::UnknownWord(word)),
            };
            if o.is_some() && output.is_some() && output != o
                || r.is_some() && order.is_some() && order != r
            {
                return Err(DateStyleFault::Conflicting);
            }
            output = output.or(o);
            order = order.or(r);
            // German implies DMY unless an order is given.
            if o == Some(DateOutput::German) && !text.to_ascii_lowercase().contains("y") {
                order = order.or(Some(DateOrder::Dmy));
            }
        }
        Ok(DateStyle {
            output: output.unwrap_or(current.output),
            order: order.unwrap_or(current.order),
        })
    }

    /// The canonical form, `ISO, MDY`.
    pub fn show(self) -> String {
        let output = match self.output {
            DateOutput::Iso => "ISO",
            DateOutput::Sql => "SQL",
            DateOutput::Postgres => "Postgres",
            DateOutput::German => "German",
        };
        let order = match self.order {
            DateOrder::Ymd => "YMD",
            DateOrder::Dmy => "DMY",
            DateOrder::Mdy => "MDY",
        };
        format!("{output}, {order}")
    }

    /// Reads the canonical form back.
    pub fn of_canonical(text: &str) -> DateStyle {
        DateStyle::parse(text, DateStyle::default(), DateStyle::default()).unwrap_or_default()
    }
}

impl IntervalStyle {
    pub fn of_name(name: &str) -> IntervalStyle {
        match name {
            "postgres_verbose" => IntervalStyle::PostgresVerbose,
            "sql_standard" => IntervalStyle::SqlStandard,
            "iso_8601" => IntervalStyle::Iso8601,
            _ => IntervalStyle::Postgres,
        }
    }
}
