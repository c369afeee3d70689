//! The catalog as one transaction of one session sees it.
//!
//! Made for a statement and dropped with it. Answers come from the database's cache; where the transaction has
//! changed the catalog itself, they are read with its own snapshot and remembered only here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::access::CatalogCx;
use crate::catalog::cache::{Caches, DatabaseCache};
use crate::catalog::relation::Relation;
use crate::catalog::rights::may_look_into;
use crate::catalog::rows::ClassRow;
use crate::catalog::schema::{PG_CATALOG, SystemRelations};
use crate::catalog::view::{
    CatalogError, CatalogView, ColumnStatistics, Database, Membership, Role, Schema,
};
use crate::ids::Oid;
use crate::storage::Store;
use crate::table::TableCx;
use crate::txn::{Snapshot, Transaction, TxnManager};

/// The catalogs of all databases of a server.
pub struct Catalog {
    pub store: Arc<Store>,
    pub txns: Arc<TxnManager>,
    pub caches: Arc<Caches>,
    system: Mutex<HashMap<Oid, Arc<SystemRelations>>>,
}

impl Catalog {
    /// Hooks itself to the invalidations of released commits.
    pub fn new(store: Arc<Store>, txns: Arc<TxnManager>) -> Arc<Catalog> {
        let caches = Arc::new(Caches::default());
        let hooked = Arc::clone(&caches);
        txns.on_invalidation(Box::new(move |what| hooked.invalidate(what)));
        Arc::new(Catalog {
            store,
            txns,
            caches,
            system: Mutex::default(),
        })
    }

    /// System relations as the database has them; for `Oid::INVALID` only the shared ones mean anything.
    pub fn system(&self, database: Oid) -> Arc<SystemRelations> {
        let mut known = self.system.lock();
        let make = || Arc::new(SystemRelations::of_database(database));
        Arc::clone(known.entry(database).or_insert_with(make))
    }

    pub fn table_cx(&self) -> TableCx<'_> {
        TableCx {
            store: &self.store,
            txns: &self.txns,
        }
    }

    /// For reading and changing catalog rows directly.
    pub fn cx<'a>(&'a self, system: &'a SystemRelations, database: Oid) -> CatalogCx<'a> {
        CatalogCx {
            table: self.table_cx(),
            system,
            database,
        }
    }

    pub fn clock(&self, database: Oid) -> CatalogClock {
        CatalogClock {
            database: self.caches.database(database),
            caches: Arc::clone(&self.caches),
        }
    }

    /// The view of a transaction. `path` is `search_path` with `"$user"` as written, `user` its current role; an
    /// invalid one is the server itself, which may see everything.
    pub fn view<'a>(
        &'a self,
        database: Oid,
        txn: &'a Transaction,
        path: &'a [String],
        user: Oid,
    ) -> SessionCatalog<'a> {
        SessionCatalog {
            catalog: self,
            database,
            system: self.system(database),
            cache: self.caches.database(database),
            own_changes: txn.invalidations().len(),
            at: At::Newest(txn),
            path,
            user,
            own: OwnAnswers::default(),
        }
    }

    /// The view of somebody who holds no transaction but was given its snapshot: functions, system tables.
    /// `own_changes`: how many changes to the catalog the transaction had made.
    pub fn view_at<'a>(
        &'a self,
        database: Oid,
        snapshot: &'a Snapshot,
        own_changes: usize,
        path: &'a [String],
        user: Oid,
    ) -> SessionCatalog<'a> {
        SessionCatalog {
            catalog: self,
            database,
            system: self.system(database),
            cache: self.caches.database(database),
            own_changes,
            at: At::Fixed(snapshot),
            path,
            user,
            own: OwnAnswers::default(),
        }
    }
}

/// Says whether anything remembered of a database's catalog may be stale, without a view of it.
#[derive(Clone)]
pub struct CatalogClock {
    database: Arc<DatabaseCache>,
    caches: Arc<Caches>,
}

impl CatalogClock {
    /// As [`CatalogView::generation`] of the transaction's view.
    pub fn generation(&self, txn: &Transaction) -> u64 {
        generation(&self.database, &self.caches, txn.invalidations().len())
    }
}

/// Own changes come and go with the transaction; they are kept apart from the shared counts.
fn generation(database: &DatabaseCache, caches: &Caches, own_changes: usize) -> u64 {
    let shared = database.generation() + caches.shared.generation();
    (shared << 20) | (own_changes as u64 & 0xF_FFFF)
}

/// What rows a view reads.
#[derive(Clone, Copy)]
enum At<'a> {
    /// The newest released ones and the transaction's own, asked anew each time.
    Newest(&'a Transaction),
    Fixed(&'a Snapshot),
}

/// What a transaction with changes of its own has read.
#[derive(Default)]
struct OwnAnswers {
    relations: Mutex<HashMap<Oid, Option<Arc<Relation>>>>,
}

pub struct SessionCatalog<'a> {
    catalog: &'a Catalog,
    database: Oid,
    system: Arc<SystemRelations>,
    cache: Arc<DatabaseCache>,
    own_changes: usize,
    at: At<'a>,
    path: &'a [String],
    user: Oid,
    own: OwnAnswers,
}

impl SessionCatalog<'_> {
    /// Runs `read` with the snapshot that this view reads with.
    fn with_snapshot<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        match self.at {
            At::Newest(txn) => read(&self.catalog.txns.catalog_snapshot(txn)),
            At::Fixed(snapshot) => read(snapshot),
        }
    }

    fn cx(&self) -> CatalogCx<'_> {
        self.catalog.cx(&self.system, self.database)
    }

    /// From the shared cache, unless the transaction must see changes of its own.
    fn answer<T: Clone>(
        &self,
        load: impl Fn(&CatalogCx<'_>, &Snapshot) -> Result<T, CatalogError>,
        remember: impl FnOnce(
            &DatabaseCache,
            &dyn Fn() -> Result<T, CatalogError>,
        ) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let read = || self.with_snapshot(|snapshot| load(&self.cx(), snapshot));
        if self.own_changes > 0 {
            read()
        } else {
            remember(&self.cache, &read)
        }
    }

    fn relation_oid(&self, schema: Oid, name: &str) -> Result<Option<Oid>, CatalogError> {
        if schema == PG_CATALOG
            && let Some(system) = self.system.named(name)
        {
            return Ok(Some(system.oid));
        }
        self.answer(
            |cx, snapshot| cx.load_relation_oid(snapshot, schema, name),
            |cache, read| cache.name((schema, name.to_owned()), read),
        )
    }

    fn path_schema(&self, name: &str) -> Result<Option<Oid>, CatalogError> {
        let own;
        let name = if name == "$user" {
            let Some(role) = self.role(self.user)? else {
                return Ok(None);
            };
            own = role.name;
            own.as_str()
        } else {
            name
        };
        let Some(oid) = self.schema_named(name)? else {
            return Ok(None);
        };
        Ok(self.is_open(oid)?.then_some(oid))
    }

    /// Whether the asker may look into the schema.
    fn is_open(&self, schema: Oid) -> Result<bool, CatalogError> {
        if !self.user.is_valid() {
            return Ok(true);
        }
        match self.schema(schema)? {
            Some(schema) => may_look_into(self, &schema),
            None => Ok(false),
        }
    }
}

impl CatalogView for SessionCatalog<'_> {
    fn asker(&self) -> Oid {
        self.user
    }

    fn current_database(&self) -> Oid {
        self.database
    }

    fn memberships(&self, member: Oid) -> Result<Arc<[Membership]>, CatalogError> {
        let read = || self.with_snapshot(|s| self.cx().load_memberships(s, member));
        if self.own_changes > 0 {
            return read();
        }
        self.catalog.caches.shared.memberships(member, read)
    }

    fn generation(&self) -> u64 {
        generation(&self.cache, &self.catalog.caches, self.own_changes)
    }

    fn relation_named(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Relation>>, CatalogError> {
        let schemas = match schema {
            Some(schema) => match self.schema_named(schema)? {
                Some(oid) if self.is_open(oid)? => vec![oid],
                Some(_) => return Err(CatalogError::ClosedSchema(schema.to_owned())),
                None => return Err(CatalogError::NoSchema(schema.to_owned())),
            },
            None => self.search_path()?,
        };
        for schema in schemas {
            if let Some(oid) = self.relation_oid(schema, name)? {
                return self.relation(oid);
            }
        }
        Ok(None)
    }

    fn relation(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError> {
        if let Some(system) = self.system.get(oid) {
            return Ok(Some(Arc::clone(system)));
        }
        if self.own_changes > 0 {
            if let Some(known) = self.own.relations.lock().get(&oid) {
                return Ok(known.clone());
            }
            let read = self.with_snapshot(|s| self.cx().load_relation(s, oid))?;
            self.own.relations.lock().insert(oid, read.clone());
            return Ok(read);
        }
        self.cache.relation(oid, || {
            self.with_snapshot(|s| self.cx().load_relation(s, oid))
        })
    }

    fn relations(&self) -> Result<Vec<Arc<Relation>>, CatalogError> {
        let mut all: Vec<Arc<Relation>> = self.system.iter().cloned().collect();
        for (_, row) in self.with_snapshot(|s| self.cx().scan::<ClassRow>(s))? {
            if self.system.get(row.oid).is_none()
                && let Some(relation) = self.relation(row.oid)?
            {
                all.push(relation);
            }
        }
        all.sort_by_key(|r| r.oid);
        Ok(all)
    }

    fn schema_named(&self, name: &str) -> Result<Option<Oid>, CatalogError> {
        self.answer(
            |cx, snapshot| cx.load_schema_oid(snapshot, name),
            |cache, read| cache.schema(name.to_owned(), read),
        )
    }

    fn schema(&self, oid: Oid) -> Result<Option<Arc<Schema>>, CatalogError> {
        self.answer(
            |cx, snapshot| cx.load_schema(snapshot, oid),
            |cache, read| cache.schema_of(oid, read),
        )
    }

    fn search_path(&self) -> Result<Vec<Oid>, CatalogError> {
        let mut found = Vec::with_capacity(self.path.len() + 1);
        for name in self.path {
            if let Some(oid) = self.path_schema(name)?
                && !found.contains(&oid)
            {
                found.push(oid);
            }
        }
        if !found.contains(&PG_CATALOG) {
            found.insert(0, PG_CATALOG);
        }
        Ok(found)
    }

    fn creation_schema(&self) -> Result<Option<Oid>, CatalogError> {
        for name in self.path {
            if let Some(oid) = self.path_schema(name)? {
                return Ok(Some(oid));
            }
        }
        Ok(None)
    }

    fn role_named(&self, name: &str) -> Result<Option<Role>, CatalogError> {
        let read = || self.with_snapshot(|s| self.cx().load_role_named(s, name));
        if self.own_changes > 0 {
            return read();
        }
        self.catalog.caches.shared.role_named(name.to_owned(), read)
    }

    fn role(&self, oid: Oid) -> Result<Option<Role>, CatalogError> {
        let read = || self.with_snapshot(|s| self.cx().load_role(s, oid));
        if self.own_changes > 0 {
            return read();
        }
        self.catalog.caches.shared.role(oid, read)
    }

    fn database_named(&self, name: &str) -> Result<Option<Database>, CatalogError> {
        let read = || self.with_snapshot(|s| self.cx().load_database_named(s, name));
        if self.own_changes > 0 {
            return read();
        }
        self.catalog
            .caches
            .shared
            .database_named(name.to_owned(), read)
    }

    fn database(&self, oid: Oid) -> Result<Option<Database>, CatalogError> {
        let read = || self.with_snapshot(|s| self.cx().load_database(s, oid));
        if self.own_changes > 0 {
            return read();
        }
        self.catalog.caches.shared.database(oid, read)
    }

    fn column_statistics(
        &self,
        relation: Oid,
        attribute: i16,
    ) -> Result<Option<Arc<ColumnStatistics>>, CatalogError> {
        self.answer(
            |cx, snapshot| cx.load_statistics(snapshot, relation, attribute),
            |cache, read| cache.statistics((relation, attribute), read),
        )
    }
}
