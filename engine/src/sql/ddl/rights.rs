//! Who may define and change what: ownership, membership, privileges on schemas and databases; and that the roles
//! which new things belong to stay.

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::Holder;
use crate::catalog::rows::{AuthidRow, CatalogRow, DatabaseRow, NamespaceRow};
use crate::catalog::schema::PG_CATALOG;
use crate::catalog::view::{CatalogError, CatalogView, Role};
use crate::ids::Oid;
use crate::sql::error::{SqlError, no_right_to, state};
use crate::txn::{LockMode, LockTag, LockWait};
use crate::types::acl::Privileges;

use super::Result;
use super::cx::{DdlCx, not_owner};

pub fn denied(what: impl Into<String>) -> SqlError {
    SqlError::new(state::INSUFFICIENT_PRIVILEGE, what)
}

impl DdlCx<'_> {
    /// Asks for the rights of the current role.
    pub fn ask<T>(
        &self,
        ask: impl FnOnce(&Holder<'_>) -> std::result::Result<T, CatalogError>,
    ) -> Result<T> {
        let view = self.view();
        Ok(ask(&Holder::asker(&view)?)?)
    }

    /// Whether the current role has the rights of `role`.
    pub fn acts_as(&self, role: Oid) -> Result<bool> {
        if self.user.superuser || self.user.oid == role {
            return Ok(true);
        }
        self.ask(|user| user.acts_as(role))
    }

    /// 42501 unless the current role owns it; nobody changes the system's tables.
    pub fn must_own(&self, relation: &Relation) -> Result<()> {
        if !self.acts_as(relation.owner)? {
            let what = match relation.kind {
                RelationKind::Table => "table",
                RelationKind::Index => "index",
                RelationKind::Sequence => "sequence",
                RelationKind::View | RelationKind::Virtual => "view",
            };
            return Err(not_owner(what, &relation.name));
        }
        must_not_be_system(relation)
    }

    /// As [`DdlCx::must_own`]; the owner of the schema may drop what is in it too.
    pub fn must_own_or_its_schema(&self, relation: &Relation) -> Result<()> {
        if let Some(schema) = self.view().schema(relation.schema)?
            && self.acts_as(schema.owner)?
        {
            return must_not_be_system(relation);
        }
        self.must_own(relation)
    }

    pub fn must_own_schema(&self, row: &NamespaceRow) -> Result<()> {
        if self.acts_as(row.nspowner)? {
            return Ok(());
        }
        Err(not_owner("schema", &row.nspname))
    }

    pub fn must_own_database(&self, row: &DatabaseRow) -> Result<()> {
        if self.acts_as(row.datdba)? {
            return Ok(());
        }
        Err(not_owner("database", &row.datname))
    }

    /// 42501 unless the current role may SET ROLE to it: only then may it give things to it.
    pub fn must_be_member_of(&self, role: &Role) -> Result<()> {
        if self.user.superuser || self.ask(|user| user.may_become(role.oid))? {
            return Ok(());
        }
        Err(denied(format!("must be member of role \"{}\"", role.name)))
    }

    /// 42501 unless `who` may create in the schema.
    pub fn must_create_in(&self, who: Oid, schema: Oid, name: &str) -> Result<()> {
        let view = self.view();
        let may = match view.schema(schema)? {
            Some(schema) => Holder::new(&view, who)?.on_schema(&schema)?,
            None => Privileges::NONE,
        };
        if may.contains(Privileges::CREATE) {
            return Ok(());
        }
        Err(denied(format!("permission denied for schema {name}")))
    }

    /// 42501 unless the current role may create schemas in this database.
    pub fn must_create_schemas(&self) -> Result<()> {
        let view = self.view();
        let Some(database) = view.database(self.database)? else {
            return Ok(());
        };
        let may = Holder::asker(&view)?.on_database(&database)?;
        if may.contains(Privileges::CREATE) {
            return Ok(());
        }
        let name = &database.name;
        Err(denied(format!("permission denied for database {name}")))
    }

    /// 42501 unless the current role may do that with the relation.
    pub fn must_hold(&self, relation: &Relation, wanted: Privileges) -> Result<()> {
        let may = self.ask(|user| user.on_relation(relation))?;
        if may.contains(wanted) {
            return Ok(());
        }
        Err(no_right_to(relation))
    }

    /// Until the transaction ends the role is not dropped: something is to belong to it, or to be granted to it.
    pub async fn keep_role(&mut self, role: Oid) -> Result<()> {
        // Roles of the system are never dropped.
        if role < Oid::FIRST_NORMAL {
            return Ok(());
        }
        self.lock_role(role, LockMode::AccessShare).await?;
        if self.view().role(role)?.is_none() {
            let message = format!("role {role} was concurrently dropped");
            return Err(SqlError::new(state::UNDEFINED_OBJECT, message));
        }
        Ok(())
    }

    pub async fn lock_role(&mut self, role: Oid, mode: LockMode) -> Result<()> {
        let tag = LockTag::Object {
            database: Oid::INVALID,
            class: AuthidRow::TABLE,
            object: role,
        };
        let locks = self.catalog.txns.locks();
        locks.lock(self.txn, tag, mode, LockWait::Wait).await?;
        Ok(())
    }

    /// Until the transaction ends the schema is not dropped: something is made in it.
    pub async fn keep_schema(&mut self, schema: Oid) -> Result<()> {
        let name = self.view().schema_name(schema)?;
        self.lock_schema(schema, LockMode::AccessShare).await?;
        if self.view().schema(schema)?.is_none() {
            let name = name.unwrap_or_else(|| schema.to_string());
            let message = format!("schema \"{name}\" does not exist");
            return Err(SqlError::new(state::INVALID_SCHEMA_NAME, message));
        }
        Ok(())
    }

    pub async fn lock_schema(&mut self, schema: Oid, mode: LockMode) -> Result<()> {
        let tag = LockTag::Object {
            database: self.database,
            class: NamespaceRow::TABLE,
            object: schema,
        };
        let locks = self.catalog.txns.locks();
        locks.lock(self.txn, tag, mode, LockWait::Wait).await?;
        Ok(())
    }
}

pub fn must_not_be_system(relation: &Relation) -> Result<()> {
    if relation.schema == PG_CATALOG || relation.oid < Oid::FIRST_NORMAL {
        let name = &relation.name;
        return Err(denied(format!(
            "permission denied: \"{name}\" is a system catalog"
        )));
    }
    Ok(())
}
