//! What is wrong with a setting or with a file of settings, in PostgreSQL's words.

use std::path::PathBuf;

/// A value that a setting cannot take. The message is PostgreSQL's wording, `state` the SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    pub state: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl SettingError {
    pub fn new(state: &'static str, message: impl Into<String>) -> SettingError {
        SettingError {
            state,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    pub fn invalid_value(name: &str, value: &str) -> SettingError {
        SettingError::new(
            INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
    }

    pub fn unrecognized(name: &str) -> SettingError {
        SettingError::new(
            UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> SettingError {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SettingError {
        self.hint = Some(hint.into());
        self
    }
}

pub const INVALID_PARAMETER_VALUE: &str = "22023";
pub const UNDEFINED_OBJECT: &str = "42704";
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
pub const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
pub const CONFIG_FILE_ERROR: &str = "F0000";
pub const INVALID_NAME: &str = "42602";

/// One complaint about a file, with the place it stands at. Shown as PostgreSQL logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// `line 3 of configuration file "..."`, where PostgreSQL adds such a CONTEXT.
    pub context: Option<String>,
}

impl Complaint {
    pub fn new(message: impl Into<String>) -> Complaint {
        Complaint {
            message: message.into(),
            detail: None,
            hint: None,
            context: None,
        }
    }
}

impl From<SettingError> for Complaint {
    fn from(e: SettingError) -> Complaint {
        Complaint {
            message: e.message,
            detail: e.detail,
            hint: e.hint,
            context: None,
        }
    }
}

/// Why the settings could not be taken. `Refused` is everything that stops a start (a reload only logs it).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not open configuration file \"{}\": {source}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("could not access the server configuration file \"{}\": {source}", path.display())]
    NoConfigurationFile {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Every complaint is logged in order; then the last line, which PostgreSQL logs as FATAL.
    #[error("{fatal}")]
    Refused {
        complaints: Vec<Complaint>,
        fatal: String,
    },
}
