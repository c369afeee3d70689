//! What is remembered of the catalog, and when it is forgotten.
//!
//! One [`DatabaseCache`] per database, shared by its sessions, holds answers read from released rows. A commit
//! that changes the catalog carries [`Invalidation`]s; they are applied when the commit is released (on a
//! standby: replayed), before its locks go, and raise the generation. An answer is stored only if the
//! generation is still the one it was read under, so an entry is never older than the last invalidation. A
//! transaction with changes of its own does not use the cache: it must see its own rows, others must not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::catalog::relation::Relation;
use crate::catalog::view::{ColumnStatistics, Database, Membership, Role, Schema};
use crate::ids::Oid;
use crate::txn::Invalidation;

/// Answers about one database; what is shared by all databases stands in [`SharedCache`].
#[derive(Default)]
pub struct DatabaseCache {
    generation: AtomicU64,
    answers: RwLock<Answers>,
}

#[derive(Default)]
struct Answers {
    relations: HashMap<Oid, Option<Arc<Relation>>>,
    names: HashMap<(Oid, String), Option<Oid>>,
    schemas: HashMap<String, Option<Oid>>,
    schemas_by_oid: HashMap<Oid, Option<Arc<Schema>>>,
    statistics: HashMap<(Oid, i16), Option<Arc<ColumnStatistics>>>,
}

/// Answers about roles and databases.
#[derive(Default)]
pub struct SharedCache {
    generation: AtomicU64,
    roles_by_name: RwLock<HashMap<String, Option<Role>>>,
    roles: RwLock<HashMap<Oid, Option<Role>>>,
    databases_by_name: RwLock<HashMap<String, Option<Database>>>,
    databases: RwLock<HashMap<Oid, Option<Database>>>,
    memberships: RwLock<HashMap<Oid, Arc<[Membership]>>>,
}

/// Generates `fn name(&self, key, load) -> Result<value>`: from the map, else loaded and, if nothing was
/// invalidated meanwhile, remembered.
macro_rules! remembered {
    ($name:ident, $map:ident, $key:ty, $value:ty) => {
        pub fn $name<E>(
            &self,
            key: $key,
            load: impl FnOnce() -> Result<$value, E>,
        ) -> Result<$value, E> {
            if let Some(known) = self.answers.read().$map.get(&key) {
                return Ok(known.clone());
            }
            let before = self.generation();
            let value = load()?;
            let mut answers = self.answers.write();
            if self.generation() == before {
                answers.$map.insert(key, value.clone());
            }
            Ok(value)
        }
    };
}

impl DatabaseCache {
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    remembered!(relation, relations, Oid, Option<Arc<Relation>>);
    remembered!(name, names, (Oid, String), Option<Oid>);
    remembered!(schema, schemas, String, Option<Oid>);
    remembered!(schema_of, schemas_by_oid, Oid, Option<Arc<Schema>>);
    remembered!(
        statistics,
        statistics,
        (Oid, i16),
        Option<Arc<ColumnStatistics>>
    );

    fn forget(&self, what: Invalidation) {
        let mut answers = self.answers.write();
        self.generation.fetch_add(1, Ordering::AcqRel);
        match what {
            Invalidation::Relation { relation, .. } => {
                // An index is described within its table; which one that is, the entry tells.
                let affected = |r: &Option<Arc<Relation>>| {
                    r.as_ref()
                        .is_some_and(|r| r.indexes.iter().any(|i| i.oid == relation))
                };
                answers
                    .relations
                    .retain(|oid, r| *oid != relation && !affected(r));
                answers
                    .names
                    .retain(|_, oid| *oid != Some(relation) && oid.is_some());
                answers.statistics.retain(|(oid, _), _| *oid != relation);
            }
            Invalidation::Catalog { .. } | Invalidation::All { .. } => {
                *answers = Answers::default()
            }
        }
    }
}

/// As [`remembered`], for maps with a lock of their own.
macro_rules! shared_remembered {
    ($name:ident, $map:ident, $key:ty, $value:ty) => {
        pub fn $name<E>(
            &self,
            key: $key,
            load: impl FnOnce() -> Result<$value, E>,
        ) -> Result<$value, E> {
            if let Some(known) = self.$map.read().get(&key) {
                return Ok(known.clone());
            }
            let before = self.generation();
            let value = load()?;
            let mut map = self.$map.write();
            if self.generation() == before {
                map.insert(key, value.clone());
            }
            Ok(value)
        }
    };
}

impl SharedCache {
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    shared_remembered!(role_named, roles_by_name, String, Option<Role>);
    shared_remembered!(role, roles, Oid, Option<Role>);
    shared_remembered!(database_named, databases_by_name, String, Option<Database>);
    shared_remembered!(database, databases, Oid, Option<Database>);
    shared_remembered!(memberships, memberships, Oid, Arc<[Membership]>);

    fn forget_all(&self) {
        let (mut a, mut b) = (self.roles_by_name.write(), self.roles.write());
        let (mut c, mut d) = (self.databases_by_name.write(), self.databases.write());
        let mut e = self.memberships.write();
        self.generation.fetch_add(1, Ordering::AcqRel);
        a.clear();
        b.clear();
        c.clear();
        d.clear();
        e.clear();
    }
}

/// The caches of all databases.
#[derive(Default)]
pub struct Caches {
    pub shared: SharedCache,
    databases: RwLock<HashMap<Oid, Arc<DatabaseCache>>>,
}

impl Caches {
    pub fn database(&self, oid: Oid) -> Arc<DatabaseCache> {
        if let Some(cache) = self.databases.read().get(&oid) {
            return Arc::clone(cache);
        }
        Arc::clone(self.databases.write().entry(oid).or_default())
    }

    /// Applies what a released (or replayed) commit made stale.
    pub fn invalidate(&self, what: &[Invalidation]) {
        for &one in what {
            match one {
                Invalidation::Relation { database, .. } if database.is_valid() => {
                    self.database(database).forget(one);
                }
                Invalidation::Catalog { database, .. } if database.is_valid() => {
                    self.database(database).forget(one);
                }
                Invalidation::All { database } if database.is_valid() => {
                    self.database(database).forget(one);
                }
                Invalidation::Catalog { .. } | Invalidation::Relation { .. } => {
                    self.shared.forget_all();
                }
                Invalidation::All { .. } => {
                    self.shared.forget_all();
                    self.databases
                        .read()
                        .values()
                        .for_each(|cache| cache.forget(one));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const DATABASE: Oid = Oid::new(5);

    fn ask(cache: &DatabaseCache, answer: Option<Oid>) -> Option<Oid> {
        cache
            .schema("s".to_owned(), || Ok::<_, Infallible>(answer))
            .unwrap_or_else(|e| match e {})
    }

    #[test]
    fn an_answer_is_kept_until_it_is_invalidated() {
        let caches = Caches::default();
        let cache = caches.database(DATABASE);
        assert_eq!(ask(&cache, None), None);
        assert_eq!(ask(&cache, Some(Oid::new(9))), None, "remembered");
        caches.invalidate(&[Invalidation::Catalog {
            database: DATABASE,
            catalog: Oid::new(2615),
        }]);
        assert_eq!(ask(&cache, Some(Oid::new(9))), Some(Oid::new(9)));
        assert_eq!(cache.generation(), 1);
    }

    #[test]
    fn an_answer_that_was_overtaken_is_not_kept() {
        let caches = Caches::default();
        let cache = caches.database(DATABASE);
        let stale = cache.schema("s".to_owned(), || {
            caches.invalidate(&[Invalidation::All {
                database: Oid::INVALID,
            }]);
            Ok::<_, Infallible>(Some(Oid::new(1)))
        });
        assert_eq!(stale, Ok(Some(Oid::new(1))));
        assert_eq!(
            ask(&cache, Some(Oid::new(2))),
            Some(Oid::new(2)),
            "read anew"
        );
    }
}
