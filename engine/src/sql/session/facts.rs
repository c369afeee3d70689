//! Who a session is: shared between the session and the functions that its statements call.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::backends::Backend;
use crate::config::{SessionSettings, SessionStore};
use crate::ids::Oid;

/// A role as a session has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRole {
    pub oid: Oid,
    pub name: Arc<str>,
    pub superuser: bool,
}

/// The user who logged in, and the two that SET SESSION AUTHORIZATION and SET ROLE change.
#[derive(Debug, Clone)]
pub struct Roles {
    pub authenticated: SessionRole,
    pub session: SessionRole,
    pub current: SessionRole,
}

#[derive(Debug)]
pub struct SessionFacts {
    pub backend: Arc<Backend>,
    pub database: Oid,
    pub database_name: Arc<str>,
    pub roles: ArcSwap<Roles>,
    /// `set_config` changes it from inside a statement.
    pub settings: Mutex<SessionStore>,
}

impl SessionFacts {
    pub fn current_settings(&self) -> Arc<SessionSettings> {
        Arc::clone(self.settings.lock().settings())
    }

    pub fn current_role(&self) -> SessionRole {
        self.roles.load().current.clone()
    }
}
