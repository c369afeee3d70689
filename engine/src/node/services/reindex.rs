//! REINDEX of a schema or a database: one table after the other, each in a transaction of its own.

use super::NodeServices;
use super::alone::Alone;
use crate::catalog::relation::RelationKind;
use crate::catalog::rights::Holder;
use crate::catalog::view::{CatalogView, Role};
use crate::ids::Oid;
use crate::sql::ddl;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Reindex, ReindexTarget};
use crate::sql::session::UtilityCall;
use crate::txn::{CommitLevel, Transaction};

impl NodeServices {
    pub(super) async fn reindex(
        &self,
        statement: &Reindex,
        call: UtilityCall<'_>,
    ) -> Result<String, SqlError> {
        let verbose = ddl::check_reindex(statement)?;
        let alone = Alone::of(&self.instance, &call);
        let tables = {
            let txn = alone.begin(true);
            let (user, _) = self.roles(call.facts, &txn)?;
            self.tables_of(statement, &call, &txn, &user)?
        };
        for table in tables {
            let mut txn = alone.begin(false);
            let (user, session_user) = self.roles(call.facts, &txn)?;
            let one = UtilityCall {
                snapshot: None,
                notices: &mut *call.notices,
                ..call
            };
            let done = {
                let mut cx = self.ddl(one, &mut txn, &user, &session_user);
                ddl::reindex_table(table, verbose, &mut cx).await
            };
            if let Err(error) = done {
                self.instance.txns.abort(txn);
                return Err(error);
            }
            alone.commit(txn, CommitLevel::Off).await?;
        }
        Ok("REINDEX".to_owned())
    }

    /// The tables with indexes. System tables are not among them: their files are looked for under fixed numbers.
    fn tables_of(
        &self,
        statement: &Reindex,
        call: &UtilityCall<'_>,
        txn: &Transaction,
        user: &Role,
    ) -> Result<Vec<Oid>, SqlError> {
        let path = &call.settings.search_path;
        let database = call.facts.database;
        let view = self.instance.catalog.view(database, txn, path, user.oid);
        let asker = Holder::asker(&view)?;
        let schema = match &statement.what {
            ReindexTarget::Schema(name) => {
                let missing = || {
                    let message = format!("schema \"{}\" does not exist", name.name);
                    SqlError::new(state::INVALID_SCHEMA_NAME, message)
                };
                let oid = view.schema_named(&name.name)?.ok_or_else(missing)?;
                let schema = view.schema(oid)?.ok_or_else(missing)?;
                if !asker.acts_as(schema.owner)? {
                    return Err(ddl::not_owner("schema", &name.name));
                }
                Some(oid)
            }
            ReindexTarget::Database(name) => {
                let here = &*call.facts.database_name;
                if name.as_ref().is_some_and(|n| n.name != here) {
                    let message = "can only reindex the currently open database";
                    return Err(SqlError::unsupported(message));
                }
                let owner = view.database(database)?.map(|d| d.owner);
                if !owner.map_or(Ok(false), |owner| asker.acts_as(owner))? {
                    return Err(ddl::not_owner("database", here));
                }
                None
            }
            _ => {
                return Err(SqlError::unsupported(
                    "REINDEX of system tables is not supported",
                ));
            }
        };
        let wanted = view.relations()?.into_iter().filter(|table| {
            table.kind == RelationKind::Table
                && table.oid >= Oid::FIRST_NORMAL
                && schema.is_none_or(|s| s == table.schema)
                && !table.indexes.is_empty()
        });
        Ok(wanted.map(|table| table.oid).collect())
    }
}
