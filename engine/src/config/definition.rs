//! What is known of one setting: its type, range, who may change it and when.

use super::value::Value;

/// Who may change a setting, and when (manual, 52.90 `pg_settings.context`). Ordered from never to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    Internal,
    Postmaster,
    Sighup,
    SuperuserBackend,
    Backend,
    Superuser,
    User,
}

impl Context {
    pub fn name(self) -> &'static str {
        match self {
            Context::Internal => "internal",
            Context::Postmaster => "postmaster",
            Context::Sighup => "sighup",
            Context::SuperuserBackend => "superuser-backend",
            Context::Backend => "backend",
            Context::Superuser => "superuser",
            Context::User => "user",
        }
    }

    pub(super) fn parse(s: &str) -> Option<Context> {
        Some(match s {
            "internal" => Context::Internal,
            "postmaster" => Context::Postmaster,
            "sighup" => Context::Sighup,
            "superuser-backend" => Context::SuperuserBackend,
            "backend" => Context::Backend,
            "superuser" => Context::Superuser,
            "user" => Context::User,
            _ => return None,
        })
    }
}

/// The base unit that a number without a unit is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    None,
    Byte,
    Kilobyte,
    Block,
    Megabyte,
    Millisecond,
    Second,
    Minute,
}

impl Unit {
    /// As in `pg_settings.unit`; empty for none.
    pub fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Byte => "B",
            Unit::Kilobyte => "kB",
            Unit::Block => "8kB",
            Unit::Megabyte => "MB",
            Unit::Millisecond => "ms",
            Unit::Second => "s",
            Unit::Minute => "min",
        }
    }

    pub(super) fn parse(s: &str) -> Option<Unit> {
        [
            Unit::None,
            Unit::Byte,
            Unit::Kilobyte,
            Unit::Block,
            Unit::Megabyte,
            Unit::Millisecond,
            Unit::Second,
            Unit::Minute,
        ]
        .into_iter()
        .find(|u| u.name() == s)
    }

    pub fn is_time(self) -> bool {
        matches!(self, Unit::Millisecond | Unit::Second | Unit::Minute)
    }

    /// What a value of the base unit comes to, in bytes or microseconds.
    pub fn scale(self) -> f64 {
        match self {
            Unit::None | Unit::Byte => 1.0,
            Unit::Kilobyte => 1024.0,
            Unit::Block => 8192.0,
            Unit::Megabyte => 1_048_576.0,
            Unit::Millisecond => 1_000.0,
            Unit::Second => 1_000_000.0,
            Unit::Minute => 60_000_000.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Bool,
    Integer {
        low: i32,
        high: i32,
        unit: Unit,
    },
    Real {
        low: f64,
        high: f64,
        unit: Unit,
    },
    Text,
    /// The values that are shown as available, in `pg_settings` order.
    Enum(Vec<&'static str>),
}

impl Kind {
    /// As in `pg_settings.vartype`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Integer { .. } => "integer",
            Kind::Real { .. } => "real",
            Kind::Text => "string",
            Kind::Enum(_) => "enum",
        }
    }
    pub fn unit(&self) -> Unit {
        match self {
            Kind::Integer { unit, .. } | Kind::Real { unit, .. } => *unit,
            _ => Unit::None,
        }
    }
}

/// What becomes of a value that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does what PostgreSQL's manual says.
    Works,
    /// It is kept and shown, and has no effect here because none is needed.
    Ignored,
    /// Only these values are true here; any other is refused.
    Only(Vec<&'static str>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Sent to the client as ParameterStatus.
    pub report: bool,
    /// Shown to superusers and members of `pg_read_all_settings` only.
    pub secret: bool,
    pub explain: bool,
    /// Not in SHOW ALL and not in `pg_settings`.
    pub hidden: bool,
    pub no_reset_all: bool,
    pub no_reset: bool,
    /// A comma-separated list: `SET x = a, b` is allowed.
    pub list: bool,
    /// A list of names: those that are no plain identifiers are quoted when SET joins them.
    pub quote: bool,
    /// Printed in octal with a leading 0.
    pub octal: bool,
}

#[derive(Debug)]
pub struct Definition {
    pub id: SettingId,
    pub name: &'static str,
    pub context: Context,
    pub kind: Kind,
    pub default: Value,
    pub flags: Flags,
    pub standing: Standing,
    pub category: &'static str,
    pub description: &'static str,
}

/// The place of a setting in the registry's alphabetical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingId(pub(super) u16);

impl SettingId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
