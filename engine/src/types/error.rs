//! Errors of value conversion and computation, with the facts that PostgreSQL's messages show.

/// `state` is the SQLSTATE; the message is PostgreSQL's wording.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct TypeError {
    pub state: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
}

impl TypeError {
    pub fn new(state: &'static str, message: impl Into<String>) -> TypeError {
        TypeError {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            context: None,
        }
    }
}

impl TypeError {
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> TypeError {
        self.detail = Some(detail.into());
        self
    }
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> TypeError {
        self.hint = Some(hint.into());
        self
    }
}
