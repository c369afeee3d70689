//! Small numbers for large values: equal values get equal numbers, so that a state is a handful of integers.
//!
//! Numbers depend on the order in which values were first seen; nothing but equality may be read from them.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{Mutex, RwLock};

pub(super) struct Interner<T> {
    known: RwLock<Known<T>>,
    hasher: DefaultHashBuilder,
}

struct Known<T> {
    numbers: HashTable<u32>,
    values: Vec<Arc<T>>,
}

impl<T: Eq + Hash> Interner<T> {
    pub(super) fn new() -> Interner<T> {
        Interner {
            known: RwLock::new(Known {
                numbers: HashTable::new(),
                values: Vec::new(),
            }),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn number(&self, value: T) -> u32 {
        let hash = self.hasher.hash_one(&value);
        if let Some(number) = self.known.read().find(hash, &value) {
            return number;
        }
        let mut known = self.known.write();
        if let Some(number) = known.find(hash, &value) {
            return number;
        }
        let Known { numbers, values } = &mut *known;
        let number = u32::try_from(values.len()).expect("fewer values than numbers");
        values.push(Arc::new(value));
        numbers.insert_unique(hash, number, |number| {
            self.hasher.hash_one(&*values[*number as usize])
        });
        number
    }

    pub(super) fn value(&self, number: u32) -> Arc<T> {
        Arc::clone(&self.known.read().values[number as usize])
    }

    pub(super) fn len(&self) -> usize {
        self.known.read().values.len()
    }
}

impl<T: Eq> Known<T> {
    fn find(&self, hash: u64, value: &T) -> Option<u32> {
        let is_it = |number: &u32| *self.values[*number as usize] == *value;
        self.numbers.find(hash, is_it).copied()
    }
}

const SHARDS: usize = 64;

/// Answers that each shard keeps before it forgets those that nobody has asked for lately.
const KEPT: usize = 1 << 14;

/// What a pure function has answered lately, so that its size is bounded: an answer that is forgotten is computed again.
pub(super) struct Memo<K, V> {
    shards: Vec<Mutex<Answers<K, V>>>,
    hasher: DefaultHashBuilder,
}

/// What was asked for since the last change of the two tables, and what only before it.
struct Answers<K, V> {
    young: HashTable<(K, V)>,
    old: HashTable<(K, V)>,
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    pub(super) fn new() -> Memo<K, V> {
        let nothing = || Answers {
            young: HashTable::new(),
            old: HashTable::new(),
        };
        Memo {
            shards: (0..SHARDS).map(|_| Mutex::new(nothing())).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn get(&self, key: K, compute: impl FnOnce() -> V) -> V {
        let hash = self.hasher.hash_one(&key);
        // Not by the bits that place an entry in its table.
        let shard = &self.shards[(hash >> 40) as usize % SHARDS];
        if let Some(answer) = shard.lock().find(hash, &key, &self.hasher) {
            return answer;
        }
        // Nobody waits meanwhile: another thread that computes the same gets the same.
        let answer = compute();
        shard.lock().keep(hash, (key, answer.clone()), &self.hasher);
        answer
    }
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    fn find(&mut self, hash: u64, key: &K, hasher: &DefaultHashBuilder) -> Option<V> {
        if let Some((_, answer)) = self.young.find(hash, |entry| entry.0 == *key) {
            return Some(answer.clone());
        }
        let entry = self.old.find_entry(hash, |entry| entry.0 == *key).ok()?;
        let (entry, _) = entry.remove();
        let answer = entry.1.clone();
        self.keep(hash, entry, hasher);
        Some(answer)
    }

    fn keep(&mut self, hash: u64, entry: (K, V), hasher: &DefaultHashBuilder) {
        if self.young.len() >= KEPT {
            // The two keep their memory.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young
            .insert_unique(hash, entry, |entry| hasher.hash_one(&entry.0));
    }
}

#[test]
fn what_was_not_asked_for_lately_is_forgotten() {
    let hasher = DefaultHashBuilder::default();
    let mut answers = Answers {
        young: HashTable::new(),
        old: HashTable::new(),
    };
    let most = 3 * KEPT + KEPT / 2;
    for key in 0..most {
        answers.keep(hasher.hash_one(key), (key, key * 3), &hasher);
        // This one is asked for all the time.
        assert_eq!(answers.find(hasher.hash_one(0), &0, &hasher), Some(0));
    }
    assert!(answers.young.len() <= KEPT && answers.old.len() <= KEPT);
    let mut find = |key: usize| answers.find(hasher.hash_one(key), &key, &hasher);
    assert_eq!(find(most - 1), Some((most - 1) * 3));
    assert_eq!(find(KEPT + 5), None);
}
