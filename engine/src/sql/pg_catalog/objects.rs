//! Views over the catalog's own tables: `pg_roles`, `pg_user`, `pg_tables`, `pg_indexes`, `pg_sequences`, `pg_stats`.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::relation::{Index, IndexKey, Relation, RelationKind};
use crate::catalog::rows::{AuthidRow, ClassRow, SequenceRow, StatisticRow};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::pg_catalog::SystemTables;
use crate::sql::pg_catalog::row::{RowBuilder, array};
use crate::types::acl::Privileges;
use crate::types::datum::Datum;
use crate::types::functions::quote_identifier;
use crate::types::oids;

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

impl SystemTables {
    pub(super) fn roles(&self, relation: &Relation) -> Rows {
        let mut row = RowBuilder::new(relation);
        let make = |role: AuthidRow| {
            row.set("oid", role.oid)
                .set("rolname", role.rolname)
                .set("rolsuper", role.rolsuper);
            row.set("rolinherit", role.rolinherit)
                .set("rolcreaterole", role.rolcreaterole);
            row.set("rolcreatedb", role.rolcreatedb)
                .set("rolcanlogin", role.rolcanlogin);
            row.set("rolreplication", role.rolreplication)
                .set("rolconnlimit", role.rolconnlimit);
            row.set("rolpassword", "********")
                .set("rolbypassrls", role.rolbypassrls);
            row.set(
                "rolvaliduntil",
                role.rolvaliduntil.map(|t| Datum::TimestampTz(t.0)),
            );
            row.take()
        };
        Ok(self.scan::<AuthidRow>()?.into_iter().map(make).collect())
    }

    /// `pg_user` and, with password verifiers, `pg_shadow`: roles that can log in.
    pub(super) fn users(&self, relation: &Relation, verifiers: bool) -> Rows {
        let mut row = RowBuilder::new(relation);
        let make = |role: AuthidRow| {
            row.set("usename", role.rolname)
                .set("usesysid", role.oid)
                .set("usecreatedb", role.rolcreatedb);
            row.set("usesuper", role.rolsuper)
                .set("userepl", role.rolreplication);
            row.set("usebypassrls", role.rolbypassrls);
            let hidden = (!verifiers).then(|| "********".to_owned());
            row.set("passwd", hidden.or(role.rolpassword));
            row.set(
                "valuntil",
                role.rolvaliduntil.map(|t| Datum::TimestampTz(t.0)),
            );
            row.take()
        };
        let rows = self.scan::<AuthidRow>()?.into_iter();
        Ok(rows.filter(|role| role.rolcanlogin).map(make).collect())
    }

    pub(super) fn tables(&self, relation: &Relation) -> Rows {
        let names = self.role_names()?;
        let classes = self.scan::<ClassRow>()?.into_iter();
        // Those of foreign keys are all that there are. The mark outlives them.
        let marked = classes.filter(|class| class.relhastriggers);
        let marked: HashSet<Oid> = marked.map(|class| class.oid).collect();
        let mut row = RowBuilder::new(relation);
        let make = |table: Arc<Relation>| {
            row.set("schemaname", table.schema_name.as_str())
                .set("tablename", table.name.as_str());
            row.set("tableowner", names.get(&table.owner).map(String::as_str));
            row.set("tablespace", table.is_shared().then_some("pg_global"));
            row.set("hasindexes", !table.indexes.is_empty())
                .set("hasrules", false);
            row.set("hastriggers", marked.contains(&table.oid))
                .set("rowsecurity", false);
            row.take()
        };
        let tables = self
            .relations()?
            .into_iter()
            .filter(|r| r.kind == RelationKind::Table);
        Ok(tables.map(make).collect())
    }

    pub(super) fn indexes(&self, relation: &Relation) -> Rows {
        let mut row = RowBuilder::new(relation);
        let mut rows = Vec::new();
        for table in self.relations()? {
            for index in &table.indexes {
                row.set("schemaname", table.schema_name.as_str());
                row.set("tablename", table.name.as_str())
                    .set("indexname", index.name.as_str());
                row.set("tablespace", table.is_shared().then_some("pg_global"));
                row.set("indexdef", index_definition(&table, index, true));
                rows.push(row.take());
            }
        }
        Ok(rows)
    }

    pub(super) fn sequences(&self, relation: &Relation) -> Rows {
        let names = self.role_names()?;
        let relations = self.relations()?;
        let readable = self.readable_relations(Privileges::SELECT.and(Privileges::USAGE))?;
        let mut row = RowBuilder::new(relation);
        let mut rows = Vec::new();
        for sequence in self.scan::<SequenceRow>()? {
            let Some(described) = relations.iter().find(|r| r.oid == sequence.seqrelid) else {
                continue;
            };
            row.set("schemaname", described.schema_name.as_str());
            row.set("sequencename", described.name.as_str());
            row.set(
                "sequenceowner",
                names.get(&described.owner).map(String::as_str),
            );
            row.set("data_type", sequence.seqtypid)
                .set("start_value", sequence.seqstart);
            row.set("min_value", sequence.seqmin)
                .set("max_value", sequence.seqmax);
            row.set("increment_by", sequence.seqincrement)
                .set("cycle", sequence.seqcycle);
            row.set("cache_size", sequence.seqcache);
            let may_see = readable.iter().any(|r| r.oid == described.oid);
            let last = match may_see {
                true => self.last_value(described)?,
                false => None,
            };
            row.set("last_value", last);
            rows.push(row.take());
        }
        Ok(rows)
    }

    pub(super) fn column_statistics(&self, relation: &Relation) -> Rows {
        let relations = self.readable_relations(Privileges::SELECT)?;
        let mut row = RowBuilder::new(relation);
        let mut rows = Vec::new();
        for statistic in self.scan::<StatisticRow>()? {
            let table = relations.iter().find(|r| r.oid == statistic.starelid);
            let column = table.and_then(|t| {
                t.live_columns()
                    .find(|(_, c)| c.attribute == statistic.staattnum)
                    .map(|(_, c)| c)
            });
            let (Some(table), Some(column)) = (table, column) else {
                continue;
            };
            row.set("schemaname", table.schema_name.as_str())
                .set("tablename", table.name.as_str());
            row.set("attname", column.name.as_str())
                .set("inherited", statistic.stainherit);
            row.set("null_frac", statistic.stanullfrac)
                .set("avg_width", statistic.stawidth);
            row.set("n_distinct", statistic.stadistinct);
            statistic_slots(&mut row, &statistic);
            rows.push(row.take());
        }
        Ok(rows)
    }
}

fn statistic_slots(row: &mut RowBuilder, statistic: &StatisticRow) {
    use crate::catalog::{STATISTIC_CORRELATION, STATISTIC_HISTOGRAM, STATISTIC_MOST_COMMON};
    let slots = [
        (
            statistic.stakind1,
            &statistic.stanumbers1,
            &statistic.stavalues1,
        ),
        (
            statistic.stakind2,
            &statistic.stanumbers2,
            &statistic.stavalues2,
        ),
        (
            statistic.stakind3,
            &statistic.stanumbers3,
            &statistic.stavalues3,
        ),
    ];
    for (kind, numbers, values) in slots {
        let numbers: Vec<f32> = numbers.as_ref().map(|n| n.0.clone()).unwrap_or_default();
        let texts = || {
            let values = values.as_ref().map(|v| v.0.as_slice()).unwrap_or_default();
            array(oids::TEXT, values.iter().map(|v| Datum::text(v)).collect())
        };
        match kind {
            STATISTIC_MOST_COMMON => {
                let fractions = numbers.iter().map(|n| Datum::Float4(*n)).collect();
                row.set("most_common_vals", texts());
                row.set("most_common_freqs", array(oids::FLOAT4, fractions));
            }
            STATISTIC_HISTOGRAM => {
                row.set("histogram_bounds", texts());
            }
            STATISTIC_CORRELATION => {
                row.set("correlation", numbers.first().copied());
            }
            _ => {}
        }
    }
}

/// Columns by their positions, as SQL lists them.
pub fn column_list(table: &Relation, positions: impl Iterator<Item = usize>) -> String {
    let names: Vec<String> = positions
        .map(|at| quote_identifier(&table.columns[at].name))
        .collect();
    names.join(", ")
}

fn key_definition(table: &Relation, key: &IndexKey) -> String {
    let order = match (key.descending, key.nulls_first) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    };
    let class = match key.named_class() {
        Some(class) => format!(" {}", quote_identifier(class.name)),
        None => String::new(),
    };
    let column = quote_identifier(&table.columns[key.column].name);
    format!("{column}{class}{order}")
}

/// `pg_get_indexdef`: the statement that makes the index.
pub fn index_definition(table: &Relation, index: &Index, qualified: bool) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let keys: Vec<String> = index
        .keys
        .iter()
        .map(|key| key_definition(table, key))
        .collect();
    let schema = match qualified {
        true => format!("{}.", quote_identifier(&table.schema_name)),
        false => String::new(),
    };
    let mut text = format!(
        "CREATE {unique}INDEX {} ON {schema}{} USING btree ({})",
        quote_identifier(&index.name),
        quote_identifier(&table.name),
        keys.join(", ")
    );
    if !index.included.is_empty() {
        let included = column_list(table, index.included.iter().copied());
        text.push_str(&format!(" INCLUDE ({included})"));
    }
    if index.nulls_not_distinct {
        text.push_str(" NULLS NOT DISTINCT");
    }
    text
}
