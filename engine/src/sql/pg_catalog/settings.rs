//! `pg_settings`.

use crate::catalog::relation::Relation;
use crate::catalog::rights::READ_ALL_SETTINGS;
use crate::config::definition::{Definition, Kind};
use crate::config::registry::registry;
use crate::config::server::Source;
use crate::sql::error::SqlError;
use crate::sql::pg_catalog::SystemTables;
use crate::sql::pg_catalog::row::{RowBuilder, array};
use crate::types::datum::Datum;
use crate::types::oids;

impl SystemTables {
    pub(super) fn settings(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut row = RowBuilder::new(relation);
        let sees_all = self.env.acts_as(READ_ALL_SETTINGS)?;
        let store = self.env.facts.settings.lock();
        let socket = &self.env.facts.backend.socket;
        let rows = registry()
            .all()
            .iter()
            .filter(|definition| sees_all || !definition.flags.secret)
            .map(|definition| {
                let setting = socket.shown(definition.name);
                let setting = setting.unwrap_or_else(|| definition.raw(store.value(definition.id)));
                row.set("name", definition.name).set("setting", setting);
                describe(&mut row, definition);
                let pending = store.server().values.is_pending(definition.id);
                row.set("pending_restart", pending);
                let source = store.source(definition.id);
                row.set("source", source.name());
                row.set(
                    "reset_val",
                    definition.raw(store.reset_value(definition.id)),
                );
                if let (Source::ConfigurationFile { file, line }, true) = (&source, sees_all) {
                    row.set("sourcefile", file.to_string());
                    row.set("sourceline", i32::try_from(*line).unwrap_or(i32::MAX));
                }
                row.take()
            })
            .collect();
        Ok(rows)
    }
}

fn describe(row: &mut RowBuilder, definition: &Definition) {
    let unit = definition.kind.unit().name();
    row.set("unit", (!unit.is_empty()).then_some(unit))
        .set("category", definition.category);
    row.set("short_desc", definition.description)
        .set("context", definition.context.name());
    row.set("vartype", definition.kind.name())
        .set("boot_val", definition.raw(&definition.default));
    match &definition.kind {
        Kind::Integer { low, high, .. } => {
            row.set("min_val", low.to_string())
                .set("max_val", high.to_string());
        }
        Kind::Real { low, high, .. } => {
            row.set("min_val", low.to_string())
                .set("max_val", high.to_string());
        }
        Kind::Enum(values) => {
            let values = values.iter().map(|v| Datum::text(v)).collect();
            row.set("enumvals", array(oids::TEXT, values));
        }
        Kind::Bool | Kind::Text => {}
    }
}
