//! What every definition needs: the catalog, the transaction, who asks.

use std::sync::Arc;

use crate::catalog::access::CatalogCx;
use crate::catalog::oids::OidAllocator;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::{CatalogRow, IndexRow};
use crate::catalog::schema::SystemRelations;
use crate::catalog::session::{Catalog, SessionCatalog};
use crate::catalog::view::{CatalogView, Role};
use crate::ids::{Oid, RelFile, Tid, Xid};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::ObjectName;
use crate::sql::session::SessionFacts;
use crate::table::sequence::Sequences;
use crate::txn::{Invalidation, LockMode, LockWait, Snapshot, Transaction};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

use super::Result;

pub struct DdlCx<'a> {
    pub catalog: &'a Catalog,
    pub oids: &'a OidAllocator,
    pub sequences: &'a Sequences,
    /// The session's database.
    pub database: Oid,
    pub txn: &'a mut Transaction,
    /// The current role.
    pub user: &'a Role,
    /// The role that the session began as.
    pub session_user: &'a Role,
    /// `search_path` as written.
    pub path: &'a [String],
    pub functions: &'a Arc<FunctionCx>,
    /// The session, if there is one: its functions read the catalog.
    pub facts: Option<&'a Arc<SessionFacts>>,
    /// Tables and indexes that the session's own open portals read.
    pub in_use: &'a [Oid],
    /// What the statement's offsets count in.
    pub source: &'a str,
    /// For the client, in order.
    pub notices: &'a mut Vec<SqlError>,
}

impl DdlCx<'_> {
    /// The catalog as the transaction sees it now.
    pub fn view(&self) -> SessionCatalog<'_> {
        self.catalog
            .view(self.database, self.txn, self.path, self.user.oid)
    }

    pub fn system(&self) -> Arc<SystemRelations> {
        self.catalog.system(self.database)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.catalog.txns.catalog_snapshot(self.txn)
    }

    pub fn xid(&mut self) -> Result<Xid> {
        Ok(self.catalog.txns.xid(self.txn)?)
    }

    pub fn new_oid(&self) -> Result<Oid> {
        self.oids
            .allocate(&self.catalog.store.wal)
            .map_err(|e| SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, e.to_string()))
    }

    /// A file of this database under a number that was never used.
    pub fn new_file(&self) -> Result<RelFile> {
        Ok(RelFile::of_database(self.database, self.new_oid()?))
    }

    /// Makes the relation's empty file; it goes again if the transaction does not commit.
    pub fn create_file(&mut self, file: RelFile) -> Result<()> {
        let xid = self.xid()?;
        crate::table::files::create(&self.catalog.store, self.txn, xid, file)?;
        Ok(())
    }

    pub async fn insert<R: CatalogRow>(&mut self, row: &R) -> Result<()> {
        let system = self.system();
        let cx = self.catalog.cx(&system, self.database);
        cx.insert(self.txn, row).await?;
        Ok(())
    }

    pub async fn update<R: CatalogRow>(&mut self, tid: Tid, row: &R) -> Result<()> {
        let system = self.system();
        let cx = self.catalog.cx(&system, self.database);
        cx.update(self.txn, tid, row).await?;
        Ok(())
    }

    pub async fn delete<R: CatalogRow>(&mut self, tid: Tid) -> Result<()> {
        let system = self.system();
        let cx = self.catalog.cx(&system, self.database);
        cx.delete::<R>(self.txn, tid).await?;
        Ok(())
    }

    /// Rows by a prefix of a system index's key.
    pub fn find<R: CatalogRow>(&self, index: u32, key: &[Datum]) -> Result<Vec<(Tid, R)>> {
        let system = self.system();
        let cx: CatalogCx<'_> = self.catalog.cx(&system, self.database);
        Ok(cx.find(&self.snapshot(), Oid::new(index), key)?)
    }

    pub fn find_one<R: CatalogRow>(
        &self,
        index: u32,
        key: &[Datum],
        what: &str,
    ) -> Result<(Tid, R)> {
        self.find(index, key)?
            .into_iter()
            .next()
            .ok_or_else(|| SqlError::internal(format!("cache lookup failed for {what}")))
    }

    /// Deletes every row of a prefix.
    pub async fn delete_all<R: CatalogRow>(&mut self, index: u32, key: &[Datum]) -> Result<()> {
        for (tid, _) in self.find::<R>(index, key)? {
            self.delete::<R>(tid).await?;
        }
        Ok(())
    }

    /// What was written becomes visible to the rest of the statement.
    pub fn step(&mut self) -> Result<()> {
        Ok(self.txn.next_command()?)
    }

    /// Others (and the own session) forget what they know of the relation.
    pub fn changed(&mut self, relation: Oid) {
        let database = self.database;
        self.txn
            .invalidate(Invalidation::Relation { database, relation });
    }

    /// Rows of a system table of this database changed.
    pub fn catalog_changed<R: CatalogRow>(&mut self) {
        self.txn.invalidate(Invalidation::Catalog {
            database: self.database,
            catalog: R::TABLE,
        });
    }

    /// Rows of a shared system table changed.
    pub fn shared_changed<R: CatalogRow>(&mut self) {
        self.txn.invalidate(Invalidation::Catalog {
            database: Oid::INVALID,
            catalog: R::TABLE,
        });
    }

    pub fn notice(&mut self, message: impl Into<String>) {
        self.notices.push(SqlError::notice(message));
    }

    pub async fn lock(&mut self, relation: Oid, mode: LockMode) -> Result<()> {
        let locks = self.catalog.txns.locks();
        locks
            .lock_relation(self.txn, relation, mode, LockWait::Wait)
            .await?;
        Ok(())
    }

    /// Finds the relation, locks it, and finds it again until the name still means the same.
    pub async fn open(
        &mut self,
        name: &ObjectName,
        mode: LockMode,
    ) -> Result<Option<Arc<Relation>>> {
        self.open_if(name, mode, &|_, _| Ok(())).await
    }

    /// The same where `may` lets it: asked before the lock is waited for, so that nobody stands in the way of a table
    /// that he has no rights on, and again with it.
    pub async fn open_if(
        &mut self,
        name: &ObjectName,
        mode: LockMode,
        may: May<'_>,
    ) -> Result<Option<Arc<Relation>>> {
        let mut locked: Option<Oid> = None;
        loop {
            let found = self.lookup(name)?;
            let Some(relation) = found else {
                return Ok(None);
            };
            may(self, &relation)?;
            if locked == Some(relation.oid) {
                return Ok(Some(relation));
            }
            // An index is protected by its table's lock.
            let target = self.index_table(&relation)?.unwrap_or(relation.oid);
            self.lock(target, mode).await?;
            if target != relation.oid {
                self.lock(relation.oid, mode).await?;
            }
            locked = Some(relation.oid);
        }
    }

    /// 55006 for what the session itself is reading, or has changed rows of that foreign keys have yet to look at: its own
    /// locks do not keep it from changing that (`CheckTableNotInUse`).
    /// `what`: what is done, as the message says it.
    pub fn must_not_be_in_use(&self, oid: Oid, name: &str, what: &str) -> Result<()> {
        let why = if self.in_use.contains(&oid) {
            "it is being used by active queries in this session"
        } else if self.txn.row_events().pending_on(oid) {
            "it has pending trigger events"
        } else {
            return Ok(());
        };
        Err(SqlError::new(
            state::OBJECT_IN_USE,
            format!("cannot {what} \"{name}\" because {why}"),
        ))
    }

    pub fn lookup(&self, name: &ObjectName) -> Result<Option<Arc<Relation>>> {
        use crate::catalog::view::CatalogError;
        match self
            .view()
            .relation_named(name.schema_name(), &name.name.name)
        {
            Ok(found) => Ok(found),
            Err(CatalogError::NoSchema(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The table of an index.
    pub fn index_table(&self, relation: &Relation) -> Result<Option<Oid>> {
        if relation.kind != RelationKind::Index {
            return Ok(None);
        }
        let rows = self.find::<IndexRow>(by::INDEX_OID, &oid_key(relation.oid))?;
        Ok(rows.first().map(|(_, row)| row.indrelid))
    }

    /// The relation by oid, as it is now.
    pub fn relation(&self, oid: Oid) -> Result<Arc<Relation>> {
        self.view()
            .relation(oid)?
            .ok_or_else(|| SqlError::internal(format!("could not open relation with OID {oid}")))
    }
}

/// Whether the user may do with the relation what the statement is about.
pub type May<'f> = &'f (dyn Fn(&DdlCx<'_>, &Relation) -> Result<()> + Sync);

pub fn not_owner(what: &str, name: &str) -> SqlError {
    SqlError::new(
        state::INSUFFICIENT_PRIVILEGE,
        format!("must be owner of {what} {name}"),
    )
}

pub fn oid_key(oid: Oid) -> [Datum; 1] {
    [Datum::Oid(oid)]
}

/// Indexes of the system tables, as `catalog::schema` numbers them.
pub mod by {
    pub const CLASS_OID: u32 = 2662;
    pub const CLASS_NAME: u32 = 2663;
    pub const ATTRIBUTE_NUMBER: u32 = 2659;
    pub const ATTRDEF_COLUMN: u32 = 2656;
    pub const CONSTRAINT_NAME: u32 = 2664;
    pub const CONSTRAINT_RELATION: u32 = 2665;
    pub const INDEX_OID: u32 = 2679;
    pub const NAMESPACE_NAME: u32 = 2684;
    pub const NAMESPACE_OID: u32 = 2685;
    pub const ROLE_NAME: u32 = 2676;
    pub const ROLE_OID: u32 = 2677;
    pub const MEMBER_ROLE: u32 = 2694;
    pub const MEMBER_MEMBER: u32 = 2695;
    pub const DATABASE_NAME: u32 = 2671;
    pub const DATABASE_OID: u32 = 2672;
    pub const SEQUENCE: u32 = 5002;
    pub const DEPEND_DEPENDER: u32 = 2673;
    pub const DEPEND_REFERENCE: u32 = 2674;
    pub const DESCRIPTION: u32 = 2675;
    pub const SHARED_DESCRIPTION: u32 = 2397;
    pub const ROLE_SETTING: u32 = 2965;
    pub const STATISTIC: u32 = 2696;
}
