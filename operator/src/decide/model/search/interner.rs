//! Small numbers for large values: equal values get equal numbers, so that a state is a handful of integers.
//!
//! Numbers depend on the order in which values were first seen; nothing but equality may be read from them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::RwLock;

pub(super) struct Interner<T> {
    known: RwLock<Known<T>>,
}

struct Known<T> {
    numbers: HashMap<Arc<T>, u32>,
    values: Vec<Arc<T>>,
}

impl<T: Eq + Hash> Interner<T> {
    pub(super) fn new() -> Interner<T> {
        Interner {
            known: RwLock::new(Known {
                numbers: HashMap::new(),
                values: Vec::new(),
            }),
        }
    }

    pub(super) fn number(&self, value: T) -> u32 {
        if let Some(number) = self.known.read().numbers.get(&value) {
            return *number;
        }
        let mut known = self.known.write();
        if let Some(number) = known.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(known.values.len()).expect("fewer values than numbers");
        let value = Arc::new(value);
        known.numbers.insert(Arc::clone(&value), number);
        known.values.push(value);
        number
    }

    pub(super) fn value(&self, number: u32) -> Arc<T> {
        Arc::clone(&self.known.read().values[number as usize])
    }

    pub(super) fn len(&self) -> usize {
        self.known.read().values.len()
    }
}

/// What a pure function has answered before.
pub(super) struct Memo<K, V> {
    answers: RwLock<HashMap<K, Arc<V>>>,
}

impl<K: Eq + Hash, V> Memo<K, V> {
    pub(super) fn new() -> Memo<K, V> {
        Memo {
            answers: RwLock::new(HashMap::new()),
        }
    }

    pub(super) fn get(&self, key: K, compute: impl FnOnce() -> V) -> Arc<V> {
        if let Some(answer) = self.answers.read().get(&key) {
            return Arc::clone(answer);
        }
        let answer = Arc::new(compute());
        // Another thread may have been faster; its answer is the same.
        Arc::clone(self.answers.write().entry(key).or_insert(answer))
    }

    pub(super) fn len(&self) -> usize {
        self.answers.read().len()
    }
}
