//! Inserting an entry, with the check for uniqueness.
//!
//! Two inserters of one key both begin at the leftmost leaf that may hold it and latch it exclusively. They keep
//! that latch while they look at all entries of the key, and go right, if their own entry belongs there, hand over
//! hand. So the second looks only after the first's entry is in.
//!
//! Keys often come in order, so each thread remembers the last leaf of the trees it inserted into lately. What it
//! remembers may be out of date in every way; it is checked under the leaf's latch.

use std::cell::RefCell;

use smallvec::SmallVec;

use crate::catalog::relation::Index;
use crate::ids::{BlockNumber, RelFile, Tid, Xid};
use crate::index::btree::descend::Path;
use crate::index::btree::{Entry, Inserted, MAX_ENTRY, Tree, UniqueCheck, page};
use crate::index::error::IndexError;
use crate::storage::{BlockMode, Change, PageBuf, PageWrite, Store};
use crate::wal::RmgrId;

const REMEMBERED: usize = 8;

thread_local! {
    static LAST_LEAVES: RefCell<SmallVec<[(RelFile, BlockNumber); REMEMBERED]>> =
        const { RefCell::new(SmallVec::new_const()) };
}

fn remembered(file: RelFile) -> Option<BlockNumber> {
    LAST_LEAVES.with_borrow(|known| known.iter().find(|(f, _)| *f == file).map(|(_, b)| *b))
}

fn remember(file: RelFile, block: BlockNumber) {
    LAST_LEAVES.with_borrow_mut(|known| {
        if let Some(entry) = known.iter_mut().find(|(f, _)| *f == file) {
            entry.1 = block;
            return;
        }
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push((file, block));
    });
}

/// Adds an entry. With a unique check, nothing is added if an entry with an equal key is not dead.
pub fn insert(
    store: &Store,
    index: &Index,
    key: &[u8],
    tid: Tid,
    xid: Xid,
    unique: UniqueCheck<'_>,
) -> Result<Inserted, IndexError> {
    check_length(index, key)?;
    let tree = Tree::new(store, index.file);
    let entry = page::leaf_entry(key, tid);
    let mut job = Insertion {
        tree,
        key,
        entry: &entry,
        xid,
        unique,
        path: Path::new(),
    };
    if let Some(last) = remembered(index.file)
        && let Ok(pinned) = tree.pin(last)
    {
        let leaf = pinned.write();
        if job.belongs_on_last(&leaf) {
            return job.at(leaf);
        }
    }
    let target = job.target().to_vec();
    let leaf = tree.descend_to_write(&target, 0, &mut job.path, xid)?;
    job.at(leaf.write())
}

/// An entry that would leave no room for two others on its page is refused.
pub(crate) fn check_length(index: &Index, key: &[u8]) -> Result<(), IndexError> {
    let size = key.len() + page::TID;
    if size <= MAX_ENTRY {
        return Ok(());
    }
    Err(IndexError::KeyTooLong {
        size,
        max: MAX_ENTRY,
        index: index.name.clone(),
    })
}

struct Insertion<'a, 'u> {
    tree: Tree<'a>,
    key: &'a [u8],
    entry: &'a [u8],
    xid: Xid,
    /// `No` once it is done.
    unique: UniqueCheck<'u>,
    path: Path,
}

impl Insertion<'_, '_> {
    /// Where to go: to the first place of the key while it has to be checked, then to the entry's own.
    fn target(&self) -> &[u8] {
        match self.unique {
            UniqueCheck::Yes(_) => self.key,
            UniqueCheck::No => self.entry,
        }
    }

    /// Whether the page is the tree's last leaf, the entry's place (and those of all equal keys) is on it, and it can
    /// be put there without a split, for which the way down would have to be known.
    fn belongs_on_last(&self, p: &PageBuf) -> bool {
        page::is_node(p)
            && page::level(p) == 0
            && page::right(p).is_none()
            && !page::is_incomplete(p)
            && page::count(p) > 0
            && page::entry(p, 0) < self.target()
            && crate::storage::page::free_space(p) >= self.entry.len()
    }

    /// Goes on at a latched leaf; calls itself for the leaf to the right, so that both are latched for a moment.
    fn at(&mut self, mut leaf: PageWrite<'_>) -> Result<Inserted, IndexError> {
        let tree = self.tree;
        let block = leaf.id().block;
        tree.check_node(block, &leaf, 0)?;
        if page::is_incomplete(&leaf) {
            tree.finish_split(&mut leaf, &self.path, self.xid)?;
        }
        if !page::is_beyond(&leaf, Some(self.target()))
            && let UniqueCheck::Yes(ask) = &mut self.unique
        {
            if let Some(conflict) = find_conflict(tree, &leaf, self.key, ask)? {
                return Ok(conflict);
            }
            self.unique = UniqueCheck::No;
        }
        if page::is_beyond(&leaf, Some(self.target())) {
            let right = page::right(&leaf).expect("a page with a high key has a right neighbour");
            let right = tree.pin(right)?;
            let right = right.write();
            drop(leaf);
            return self.at(right);
        }
        let place = page::lower_bound(&leaf, Some(self.entry));
        if place < page::count(&leaf) && page::entry(&leaf, place) == self.entry {
            return Err(tree.damaged(block, "the row version has an entry already"));
        }
        if crate::storage::page::free_space(&leaf) < self.entry.len() {
            tree.split(leaf, place, self.entry, None, &self.path, self.xid)?;
            return Ok(Inserted::Done);
        }
        let data = page::insert_data(page::offset(&leaf, place));
        let mut change = Change::new(RmgrId::BTREE, page::INSERT_ENTRY, self.xid);
        change
            .block(&mut leaf, BlockMode::Update, &data)
            .more(self.entry);
        change.commit(&tree.store.wal, page::apply);
        if page::right(&leaf).is_none() {
            remember(tree.file, block);
        }
        Ok(Inserted::Done)
    }
}

/// Asks for each entry with the key, from the latched leaf to the right as far as there are any.
fn find_conflict(
    tree: Tree<'_>,
    leaf: &PageBuf,
    key: &[u8],
    ask: &mut dyn FnMut(Tid) -> Result<Entry, IndexError>,
) -> Result<Option<Inserted>, IndexError> {
    let mut next = match conflict_on(tree, leaf, page::lower_bound(leaf, Some(key)), key, ask)? {
        Looked::Found(conflict) => return Ok(Some(conflict)),
        Looked::Next(next) => next,
    };
    while let Some(block) = next {
        let pinned = tree.pin(block)?;
        let p = pinned.read();
        tree.check_node(block, &p, 0)?;
        next = match conflict_on(tree, &p, 0, key, ask)? {
            Looked::Found(conflict) => return Ok(Some(conflict)),
            Looked::Next(next) => next,
        };
    }
    Ok(None)
}

enum Looked {
    Found(Inserted),
    /// The neighbour may have more entries with the key.
    Next(Option<BlockNumber>),
}

fn conflict_on(
    tree: Tree<'_>,
    p: &PageBuf,
    from: usize,
    key: &[u8],
    ask: &mut dyn FnMut(Tid) -> Result<Entry, IndexError>,
) -> Result<Looked, IndexError> {
    for i in from..page::count(p) {
        let entry = page::entry(p, i);
        if page::key_of(entry) != key {
            return Ok(Looked::Next(None));
        }
        let tid = page::tid_of(entry)
            .ok_or_else(|| tree.damaged(BlockNumber::INVALID, "an entry points nowhere"))?;
        match ask(tid)? {
            Entry::Dead => {}
            state => return Ok(Looked::Found(Inserted::Conflict { tid, state })),
        }
    }
    // The high key is cut short, so it may begin like the key, or be its beginning, and more entries follow.
    let more = page::high_key(p).is_some_and(|high| high.starts_with(key) || high <= key);
    Ok(Looked::Next(page::right(p).filter(|_| more)))
}
