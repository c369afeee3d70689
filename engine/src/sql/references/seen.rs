//! References whose keys were found and are held: they need not be looked up again in the same round.

use hashbrown::HashTable;

use crate::ids::Oid;
use crate::sql::exec::hashed::{finish, hash_value, mix, same};
use crate::types::compare::{Comparator, Hasher, comparator, hasher};
use crate::types::datum::Datum;

/// How many are kept: a load of millions of rows refers to as many keys.
const KEPT: usize = 1 << 16;

pub struct Seen {
    types: Vec<(Comparator, Hasher)>,
    table: HashTable<Box<[Datum]>>,
}

impl Seen {
    /// `None`: values of such types cannot be looked up by hash.
    pub fn new(types: impl Iterator<Item = Oid>) -> Option<Seen> {
        let types = types.map(|ty| Some((comparator(ty)?, hasher(ty)?)));
        Some(Seen {
            types: types.collect::<Option<Vec<_>>>()?,
            table: HashTable::new(),
        })
    }

    fn hash(types: &[(Comparator, Hasher)], values: &[Datum]) -> u64 {
        let parts = types.iter().zip(values);
        finish(parts.fold(0, |hash, ((_, hasher), value)| {
            mix(hash, hash_value(*hasher, value))
        }))
    }

    fn equal(types: &[(Comparator, Hasher)], a: &[Datum], b: &[Datum]) -> bool {
        let mut parts = types.iter().zip(a.iter().zip(b));
        parts.all(|((compare, _), (a, b))| same(*compare, a, b))
    }

    pub fn contains(&self, values: &[Datum]) -> bool {
        let hash = Seen::hash(&self.types, values);
        let found = self
            .table
            .find(hash, |kept| Seen::equal(&self.types, kept, values));
        found.is_some()
    }

    pub fn add(&mut self, values: &[Datum]) {
        if self.table.len() >= KEPT {
            self.table.clear();
        }
        let types = &self.types;
        let hash = Seen::hash(types, values);
        self.table
            .insert_unique(hash, values.into(), |kept| Seen::hash(types, kept));
    }
}
