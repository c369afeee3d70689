//! The options of COPY, checked as PostgreSQL checks them. Manual, SQL commands, COPY.

use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{CopyDirection, OptionValue, UtilityOption};
use crate::types::functions;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    No,
    Yes,
    /// The first line must name the columns.
    Match,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: Header,
    pub quote: u8,
    pub escape: u8,
    pub force_quote: Columns,
    pub force_not_null: Columns,
    pub force_null: Columns,
    pub freeze: bool,
}

/// Columns that an option names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Columns {
    #[default]
    None,
    All,
    Named(Vec<String>),
}

impl Columns {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::Named(names) => names.iter().any(|n| n == name),
        }
    }
    /// Error 42703 or 42P10 for a name that is not copied.
    pub fn check(&self, option: &str, copied: &[&str]) -> Result<(), SqlError> {
        if let Columns::Named(names) = self {
            for name in names {
                if !copied.contains(&name.as_str()) {
                    return Err(SqlError::new(
                        state::INVALID_COLUMN_REFERENCE,
                        format!("{option} column \"{name}\" not referenced by COPY"),
                    ));
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Given {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Columns,
    force_not_null: Columns,
    force_null: Columns,
    freeze: bool,
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(state::INVALID_PARAMETER_VALUE, message)
}

fn syntax(message: impl Into<String>) -> SqlError {
    SqlError::new(state::SYNTAX_ERROR, message)
}

fn text(option: &UtilityOption) -> Result<String, SqlError> {
    match &option.value {
        Some(OptionValue::Text(t) | OptionValue::Number(t)) => Ok(t.clone()),
        _ => Err(syntax(format!("{} requires a parameter", option.name))),
    }
}

fn boolean(option: &UtilityOption) -> Result<bool, SqlError> {
    option
        .boolean()
        .ok_or_else(|| syntax(format!("{} requires a Boolean value", option.name)))
}

/// Only FORCE_QUOTE takes a star.
fn columns(option: &UtilityOption) -> Result<Columns, SqlError> {
    match &option.value {
        Some(OptionValue::Star) if option.name == "force_quote" => Ok(Columns::All),
        Some(OptionValue::List(names)) => Ok(Columns::Named(names.clone())),
        _ => Err(invalid(format!(
            "argument to option \"{}\" must be a list of column names",
            option.name
        ))
        .at(option.at)),
    }
}

impl CopyOptions {
    pub fn new(
        options: &[UtilityOption],
        direction: CopyDirection,
    ) -> Result<CopyOptions, SqlError> {
        let mut given = Given::default();
        let mut seen: Vec<&str> = Vec::new();
        for option in options {
            if seen.contains(&option.name.as_str()) {
                return Err(syntax("conflicting or redundant options").at(option.at));
            }
            seen.push(&option.name);
            given.take(option, direction)?;
        }
        given.check(direction)
    }
}

impl Given {
    fn take(&mut self, option: &UtilityOption, direction: CopyDirection) -> Result<(), SqlError> {
        match option.name.as_str() {
            "format" => {
                let name = text(option)?;
                self.format = Some(match name.to_ascii_lowercase().as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    _ => {
                        let message = format!("COPY format \"{name}\" not recognized");
                        return Err(invalid(message).at(option.at));
                    }
                });
            }
            "freeze" => self.freeze = boolean(option)?,
            "delimiter" => self.delimiter = Some(text(option)?),
            "null" => self.null = Some(text(option)?),
            "header" => self.header = Some(header(option, direction)?),
            "quote" => self.quote = Some(text(option)?),
            "escape" => self.escape = Some(text(option)?),
            "force_quote" => self.force_quote = columns(option)?,
            "force_not_null" => self.force_not_null = columns(option)?,
            "force_null" => self.force_null = columns(option)?,
            "encoding" => encoding(option)?,
            other => {
                let message = format!("option \"{other}\" not recognized");
                return Err(syntax(message).at(option.at));
            }
        }
        Ok(())
    }

    fn check(self, direction: CopyDirection) -> Result<CopyOptions, SqlError> {
        let format = self.format.unwrap_or(CopyFormat::Text);
        let csv = format == CopyFormat::Csv;
        if format == CopyFormat::Binary {
            for (name, there) in [
                ("DELIMITER", self.delimiter.is_some()),
                ("NULL", self.null.is_some()),
                ("HEADER", self.header.is_some_and(|h| h != Header::No)),
            ] {
                if there {
                    let message = format!("cannot specify {name} in BINARY mode");
                    // HEADER came later, and with another code.
                    return Err(match name {
                        "HEADER" => SqlError::unsupported(message),
                        _ => syntax(message),
                    });
                }
            }
        }
        let delimiter = self.delimiter(csv)?;
        let null = match &self.null {
            Some(null) if null.contains(['\n', '\r']) => {
                return Err(invalid(
                    "COPY null representation cannot use newline or carriage return",
                ));
            }
            Some(null) => null.clone(),
            None if csv => String::new(),
            None => "\\N".to_owned(),
        };
        let quote = single(csv, "quote", self.quote.as_deref(), b'"')?;
        if csv && delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        let escape = single(csv, "escape", self.escape.as_deref(), quote)?;
        self.check_forces(csv, direction)?;
        if null.as_bytes().contains(&delimiter) {
            return Err(SqlError::unsupported(
                "COPY delimiter must not appear in the NULL specification",
            ));
        }
        if csv && null.as_bytes().contains(&quote) {
            return Err(SqlError::unsupported(
                "CSV quote character must not appear in the NULL specification",
            ));
        }
        Ok(CopyOptions {
            format,
            delimiter,
            null,
            header: self.header.unwrap_or(Header::No),
            quote,
            escape,
            force_quote: self.force_quote,
            force_not_null: self.force_not_null,
            force_null: self.force_null,
            freeze: self.freeze,
        })
    }

    fn delimiter(&self, csv: bool) -> Result<u8, SqlError> {
        let Some(delimiter) = &self.delimiter else {
            return Ok(if csv { b',' } else { b'\t' });
        };
        let [byte] = delimiter.as_bytes() else {
            return Err(SqlError::unsupported(
                "COPY delimiter must be a single one-byte character",
            ));
        };
        if matches!(byte, b'\n' | b'\r') {
            return Err(invalid(
                "COPY delimiter cannot be newline or carriage return",
            ));
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(byte) {
            return Err(invalid(format!("COPY delimiter cannot be \"{delimiter}\"")));
        }
        Ok(*byte)
    }

    fn check_forces(&self, csv: bool, direction: CopyDirection) -> Result<(), SqlError> {
        let to = direction == CopyDirection::To;
        for (name, columns, wants_to) in [
            ("force quote", &self.force_quote, true),
            ("force not null", &self.force_not_null, false),
            ("force null", &self.force_null, false),
        ] {
            if *columns == Columns::None {
                continue;
            }
            if !csv {
                let message = format!("COPY {name} available only in CSV mode");
                return Err(SqlError::unsupported(message));
            }
            if to != wants_to {
                let way = if wants_to { "TO" } else { "FROM" };
                let message = format!("COPY {name} only available using COPY {way}");
                return Err(SqlError::unsupported(message));
            }
        }
        Ok(())
    }
}

/// QUOTE and ESCAPE: one byte, and only for CSV.
fn single(csv: bool, name: &str, given: Option<&str>, otherwise: u8) -> Result<u8, SqlError> {
    let Some(given) = given else {
        return Ok(otherwise);
    };
    if !csv {
        let message = format!("COPY {name} available only in CSV mode");
        return Err(SqlError::unsupported(message));
    }
    match given.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(SqlError::unsupported(format!(
            "COPY {name} must be a single one-byte character"
        ))),
    }
}

fn header(option: &UtilityOption, direction: CopyDirection) -> Result<Header, SqlError> {
    if let Some(on) = option.boolean() {
        return Ok(if on { Header::Yes } else { Header::No });
    }
    match &option.value {
        Some(OptionValue::Text(t)) if t.eq_ignore_ascii_case("match") => {
            if direction == CopyDirection::To {
                return Err(SqlError::unsupported(
                    "cannot use \"match\" with HEADER in COPY TO",
                ));
            }
            Ok(Header::Match)
        }
        _ => Err(syntax("header requires a Boolean value or \"match\"")),
    }
}

/// Everything is UTF-8 here; names of other encodings are refused by name.
fn encoding(option: &UtilityOption) -> Result<(), SqlError> {
    let name = text(option)?;
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match plain.as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        known if functions::is_encoding_name(known) => Err(SqlError::unsupported(format!(
            "conversion between {name} and UTF8 is not supported"
        ))
        .hint("Convert the data to UTF-8 first, for instance with iconv.")),
        _ => Err(
            invalid("argument to option \"encoding\" must be a valid encoding name").at(option.at),
        ),
    }
}
