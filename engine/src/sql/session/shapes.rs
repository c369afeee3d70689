//! Plans of simple-protocol statements, found by the shape of their text.
//!
//! A shape is kept from its second appearance on, so that a client which never repeats itself costs nothing but a few
//! numbers. One that cannot be planned with parameters in place of its numbers is remembered as such. The oldest goes
//! when there are too many.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::prepared::Prepared;
use crate::sql::front::shape::{Shape, parse_shape};
use crate::types::oids;

const KEPT: usize = 64;
const SEEN: usize = 64;

#[derive(Default)]
pub struct Shapes {
    hasher: RandomState,
    /// Hashes of shapes that came once, each in the place that it says.
    seen: Vec<u64>,
    /// `None`: to be run as it stands.
    kept: HashMap<Arc<[u8]>, Option<Arc<Prepared>>>,
    order: VecDeque<Arc<[u8]>>,
}

impl Shapes {
    /// The statement to run with the shape's numbers, if there is one by now.
    pub fn find(&mut self, shape: &Shape, text: &str) -> Option<Arc<Prepared>> {
        if let Some(known) = self.kept.get(shape.key.as_slice()) {
            return known.clone();
        }
        // Zero marks an empty place.
        let hash = self.hasher.hash_one(&shape.key) | 1;
        self.seen.resize(SEEN, 0);
        let place = &mut self.seen[(hash >> 32) as usize % SEEN];
        if *place != hash {
            *place = hash;
            return None;
        }
        let prepared = lifted(shape, text);
        self.keep(&shape.key, prepared.clone());
        prepared
    }

    /// It turned out that the statement does not work that way.
    pub fn refuse(&mut self, shape: &Shape) {
        if let Some(known) = self.kept.get_mut(shape.key.as_slice()) {
            *known = None;
        }
    }

    /// DISCARD.
    pub fn clear(&mut self) {
        *self = Shapes::default();
    }

    fn keep(&mut self, key: &[u8], prepared: Option<Arc<Prepared>>) {
        if self.order.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
        let key: Arc<[u8]> = Arc::from(key);
        self.order.push_back(Arc::clone(&key));
        self.kept.insert(key, prepared);
    }
}

fn lifted(shape: &Shape, text: &str) -> Option<Arc<Prepared>> {
    let parsed = parse_shape(text).ok().flatten()?;
    let declared = vec![oids::INT4; shape.numbers.len()];
    Some(Arc::new(Prepared::new(
        "",
        Arc::from(text),
        Some(parsed),
        declared,
    )))
}
