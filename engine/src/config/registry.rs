//! The table of all settings, read once from `settings.table`, and the names that older releases used.
//!
//! The table is part of the program: a line that does not parse is a bug, so reading it panics, and a test reads it.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::definition::{Context, Definition, Flags, Kind, SettingId, Standing, Unit};
use super::value::{Value, parse_bool};

const TABLE: &str = include_str!("settings.table");

/// PostgreSQL's version that this server reports itself as.
pub const SERVER_VERSION: &str = "15.20 (Understudy 0.1.0)";
pub const SERVER_VERSION_NUM: i32 = 150_020;

pub struct Registry {
    definitions: Vec<Definition>,
    by_lower_name: HashMap<String, SettingId>,
}

/// An old name, what it is called now, and what its number counts in the new one's base unit.
pub struct OldName {
    pub old: &'static str,
    pub new: &'static str,
    pub convert: fn(&str) -> String,
}

fn same(v: &str) -> String {
    v.to_owned()
}

/// Segments of 16 MB, which is what 9.0 had.
fn segments_to_megabytes(v: &str) -> String {
    v.trim()
        .parse::<i64>()
        .map_or_else(|_| v.to_owned(), |n| format!("{}MB", n * 16))
}

/// `checkpoint_segments = n` kept up to (3n) segments (PostgreSQL 9.5's release notes give this formula).
fn checkpoint_segments(v: &str) -> String {
    v.trim()
        .parse::<i64>()
        .map_or_else(|_| v.to_owned(), |n| format!("{}MB", n * 3 * 16))
}

pub const OLD_NAMES: [OldName; 7] = [
    OldName {
        old: "sort_mem",
        new: "work_mem",
        convert: same,
    },
    OldName {
        old: "vacuum_mem",
        new: "maintenance_work_mem",
        convert: same,
    },
    OldName {
        old: "wal_keep_segments",
        new: "wal_keep_size",
        convert: segments_to_megabytes,
    },
    OldName {
        old: "checkpoint_segments",
        new: "max_wal_size",
        convert: checkpoint_segments,
    },
    OldName {
        old: "unix_socket_directory",
        new: "unix_socket_directories",
        convert: same,
    },
    OldName {
        old: "replication_timeout",
        new: "wal_sender_timeout",
        convert: same,
    },
    OldName {
        old: "trigger_file",
        new: "promote_trigger_file",
        convert: same,
    },
];

pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::read)
}

impl Registry {
    fn read() -> Registry {
        let mut definitions = Vec::new();
        let mut category = "";
        for line in TABLE.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                category = name;
                continue;
            }
            definitions.push(definition(line, category));
        }
        definitions.sort_by_key(|d| d.name.to_ascii_lowercase());
        let mut by_lower_name = HashMap::with_capacity(definitions.len());
        for (i, d) in definitions.iter_mut().enumerate() {
            d.id = SettingId(u16::try_from(i).expect("the table has some hundred lines"));
            by_lower_name.insert(d.name.to_ascii_lowercase(), d.id);
        }
        Registry {
            definitions,
            by_lower_name,
        }
    }

    /// In alphabetical order, whatever the case.
    pub fn all(&self) -> &[Definition] {
        &self.definitions
    }

    pub fn get(&self, id: SettingId) -> &Definition {
        &self.definitions[id.index()]
    }

    /// By name in any case; old names lead to the new ones.
    pub fn find(&self, name: &str) -> Option<&Definition> {
        self.find_id(name).map(|id| self.get(id))
    }

    pub fn find_id(&self, name: &str) -> Option<SettingId> {
        let lower = name.to_ascii_lowercase();
        if let Some(id) = self.by_lower_name.get(&lower) {
            return Some(*id);
        }
        old_name(&lower).and_then(|o| self.by_lower_name.get(o.new).copied())
    }

    /// For names that are written in the code: a name that is missing is a bug there.
    pub fn id(&self, name: &'static str) -> SettingId {
        self.find_id(name)
            .unwrap_or_else(|| panic!("no setting is called {name}"))
    }
}

pub fn old_name(name: &str) -> Option<&'static OldName> {
    OLD_NAMES.iter().find(|o| o.old.eq_ignore_ascii_case(name))
}

fn definition(line: &'static str, category: &'static str) -> Definition {
    let fields: Vec<&'static str> = line.splitn(9, '|').map(str::trim).collect();
    let [
        name,
        kind,
        context,
        unit,
        default,
        range,
        flags,
        standing,
        description,
    ] = fields[..]
    else {
        panic!("settings.table: {line}")
    };
    let unit = Unit::parse(unit).unwrap_or_else(|| panic!("settings.table: unit in {line}"));
    let kind =
        kind_of(kind, range, unit).unwrap_or_else(|| panic!("settings.table: type in {line}"));
    let default = default_of(&kind, unquoted(default))
        .unwrap_or_else(|| panic!("settings.table: default in {line}"));
    Definition {
        id: SettingId(0),
        name,
        context: Context::parse(context)
            .unwrap_or_else(|| panic!("settings.table: context in {line}")),
        kind,
        default,
        flags: flags_of(flags).unwrap_or_else(|| panic!("settings.table: flags in {line}")),
        standing: standing_of(standing)
            .unwrap_or_else(|| panic!("settings.table: standing in {line}")),
        category,
        description,
    }
}

fn unquoted(s: &'static str) -> &'static str {
    s.strip_prefix('\'')
        .and_then(|s| s.strip_suffix('\''))
        .unwrap_or(s)
}

fn kind_of(kind: &str, range: &'static str, unit: Unit) -> Option<Kind> {
    let bounds = || range.split_once("..").map(|(a, b)| (a.trim(), b.trim()));
    Some(match kind {
        "bool" => Kind::Bool,
        "integer" => {
            let (low, high) = bounds()?;
            Kind::Integer {
                low: low.parse().ok()?,
                high: high.parse().ok()?,
                unit,
            }
        }
        "real" => {
            let (low, high) = bounds()?;
            let high: f64 = high.parse().ok()?;
            // The view prints DBL_MAX with six digits.
            let high = if high > 1.79e308 { f64::MAX } else { high };
            Kind::Real {
                low: low.parse().ok()?,
                high,
                unit,
            }
        }
        "string" => Kind::Text,
        "enum" => Kind::Enum(
            range
                .split(',')
                .map(|v| if v == "(empty)" { "" } else { v.trim() })
                .collect(),
        ),
        _ => return None,
    })
}

fn default_of(kind: &Kind, text: &'static str) -> Option<Value> {
    Some(match kind {
        Kind::Bool => Value::Bool(parse_bool(text)?),
        Kind::Integer { .. } => Value::Integer(text.parse().ok()?),
        Kind::Real { .. } => Value::Real(text.parse().ok()?),
        Kind::Text => Value::text(text),
        Kind::Enum(values) => Value::Enum(values.iter().copied().find(|v| *v == text)?),
    })
}

fn flags_of(text: &str) -> Option<Flags> {
    let mut f = Flags::default();
    for name in text.split(',').filter(|s| !s.is_empty()) {
        *(match name {
            "report" => &mut f.report,
            "secret" => &mut f.secret,
            "explain" => &mut f.explain,
            "hidden" => &mut f.hidden,
            "noresetall" => &mut f.no_reset_all,
            "noreset" => &mut f.no_reset,
            "list" => &mut f.list,
            "quote" => &mut f.quote,
            "octal" => &mut f.octal,
            _ => return None,
        }) = true;
    }
    Some(f)
}

fn standing_of(text: &'static str) -> Option<Standing> {
    Some(match text {
        "works" => Standing::Works,
        "ignored" => Standing::Ignored,
        "only" => Standing::Only(vec![""]),
        _ => Standing::Only(
            text.strip_prefix("only ")?
                .split(',')
                .map(str::trim)
                .collect(),
        ),
    })
}
