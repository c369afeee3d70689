//! Removing the entries of dead rows.
//!
//! Leaves are visited from left to right by their links: what a split moves, it moves to where the visit has yet
//! to come. Entries point to line pointers that the heap has marked dead and reuses only after this has ended, so
//! an entry that is found dead is dead. Standby queries need no care here: the heap's own record of the removal
//! came first and carried the conflict.

use crate::catalog::relation::Index;
use crate::ids::{OffsetNumber, Tid, Xid};
use crate::index::btree::descend::Path;
use crate::index::btree::{Tree, page};
use crate::index::error::IndexError;
use crate::storage::{BlockMode, Change, Store};
use crate::wal::RmgrId;

/// What a vacuum of an index found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    pub removed: u64,
    /// Entries that are left.
    pub left: u64,
    /// Leaves, and those of them that are empty now.
    pub pages: u64,
    pub empty: u64,
}

/// Removes the entries that `is_dead` says are. `pause` is called between pages, with nothing latched: for delays,
/// and for interrupts (its error ends the work, which is safe at any page).
pub fn remove_dead<E: From<IndexError>>(
    store: &Store,
    index: &Index,
    is_dead: &dyn Fn(Tid) -> bool,
    pause: &mut dyn FnMut() -> Result<(), E>,
) -> Result<Removed, E> {
    let tree = Tree::new(store, index.file);
    let mut found = Removed::default();
    let leaf = tree.descend(Some(&[]), 0, &mut Path::new())?;
    let mut next = Some(leaf.id().block);
    drop(leaf);
    while let Some(block) = next {
        pause()?;
        let pinned = tree.pin(block)?;
        let mut p = pinned.write();
        tree.check_node(block, &p, 0)?;
        let dead: Vec<OffsetNumber> = (0..page::count(&p))
            .filter(|i| page::tid_of(page::entry(&p, *i)).is_some_and(is_dead))
            .map(|i| page::offset(&p, i))
            .collect();
        let left = page::count(&p) - dead.len();
        if !dead.is_empty() {
            let data = page::delete_data(&dead);
            let mut change = Change::new(RmgrId::BTREE, page::REMOVE, Xid::INVALID);
            change.block(&mut p, BlockMode::Update, &data);
            change.commit(&store.wal, page::apply);
        }
        found.removed += dead.len() as u64;
        found.left += left as u64;
        found.pages += 1;
        found.empty += u64::from(left == 0);
        next = page::right(&p);
    }
    Ok(found)
}
