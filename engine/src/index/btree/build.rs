//! Making an index: an empty one, or from sorted entries, bottom up.
//!
//! The pages of a build are logged whole, each when it is full, so redo needs no order among them. The file belongs
//! to a transaction that has not committed: a crash leaves it to be removed.

use crate::catalog::relation::Index;
use crate::ids::{BlockNumber, Tid, Xid};
use crate::index::btree::insert::check_length;
use crate::index::btree::page::{self, CAPACITY, Header, LINE};
use crate::index::btree::{MAX_ENTRY, META, Tree};
use crate::index::error::IndexError;
use crate::storage::{BlockMode, Change, Pinned, Store};
use crate::wal::RmgrId;

/// How full leaves are made, so that later inserts find room: percent.
const FILL_LEAF: usize = 90;
/// Inner pages leave room for the longest high key: theirs is known only when the next page begins.
const FULL_INNER: usize = CAPACITY - MAX_ENTRY - LINE;

/// An empty index in a file that exists and is empty.
pub fn create(store: &Store, index: &Index, xid: Xid) -> Result<(), IndexError> {
    let tree = Tree::new(store, index.file);
    let meta = tree.new_page()?;
    assert_eq!(meta.id().block, META, "the file of a new index is empty");
    let root = tree.new_page()?;
    let (mut meta, mut leaf) = (meta.write(), root.write());
    let header = Header {
        left: None,
        right: None,
        level: 0,
        flags: 0,
    };
    let leaf_data = page::fill_data(header, std::iter::empty());
    let meta_data = page::meta_data(root.id().block, 0);
    let mut change = Change::new(RmgrId::BTREE, page::CREATE, xid);
    change.block(&mut leaf, BlockMode::Init, &leaf_data);
    change.block(&mut meta, BlockMode::Init, &meta_data);
    change.commit(&store.wal, page::apply);
    Ok(())
}

/// An index of entries that come in order of (key, tid), in a file that exists and is empty. Returns how many.
pub fn build<E: From<IndexError>>(
    store: &Store,
    index: &Index,
    xid: Xid,
    sorted: impl Iterator<Item = Result<(Vec<u8>, Tid), E>>,
) -> Result<u64, E> {
    let tree = Tree::new(store, index.file);
    let meta = tree.new_page()?;
    assert_eq!(meta.id().block, META, "the file of a new index is empty");
    let mut builder = Builder {
        tree,
        xid,
        levels: Vec::new(),
    };
    let mut previous: Vec<u8> = Vec::new();
    let mut count = 0;
    for item in sorted {
        let (key, tid) = item?;
        check_length(index, &key)?;
        let entry = page::leaf_entry(&key, tid);
        assert!(
            count == 0 || previous < entry,
            "entries of an index build are not in order"
        );
        builder.add(0, entry.clone(), || separator(&previous, &entry))?;
        previous = entry;
        count += 1;
    }
    let (root, level) = builder.finish()?;
    let mut meta = meta.write();
    let data = page::meta_data(root, level);
    let mut change = Change::new(RmgrId::BTREE, page::BUILD, xid);
    change.block(&mut meta, BlockMode::Init, &data);
    change.commit(&store.wal, page::apply);
    Ok(count)
}

/// The shortest string above `below` and not above `above`.
fn separator(below: &[u8], above: &[u8]) -> Vec<u8> {
    let common = below.iter().zip(above).take_while(|(a, b)| a == b).count();
    above[..common + 1].to_vec()
}

/// The page of a level that is being filled.
struct Open {
    pinned: Pinned,
    left: Option<BlockNumber>,
    items: Vec<Vec<u8>>,
    bytes: usize,
    /// The separator under which it stands in its parent; empty for the first of a level.
    from: Vec<u8>,
}

struct Builder<'a> {
    tree: Tree<'a>,
    xid: Xid,
    levels: Vec<Open>,
}

impl Builder<'_> {
    fn open(&self, left: Option<BlockNumber>, from: Vec<u8>) -> Result<Open, IndexError> {
        Ok(Open {
            pinned: self.tree.new_page()?,
            left,
            items: Vec::new(),
            bytes: 0,
            from,
        })
    }

    /// Appends to a level; closes its page first if it is full. `separator`: between the last item and this one.
    fn add(
        &mut self,
        level: usize,
        mut item: Vec<u8>,
        separator: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), IndexError> {
        if self.levels.len() == level {
            let first = self.open(None, Vec::new())?;
            self.levels.push(first);
        }
        let open = &self.levels[level];
        let with_item = open.bytes + item.len() + LINE;
        let is_full = if level == 0 {
            // A high key behind this item is at most one byte longer than it.
            let high = item.len() + 1 + LINE;
            with_item > CAPACITY * FILL_LEAF / 100 || with_item + high > CAPACITY
        } else {
            with_item > FULL_INNER
        };
        if is_full && !open.items.is_empty() {
            let separator = separator();
            let next = self.open(Some(open.pinned.id().block), separator.clone())?;
            let full = std::mem::replace(&mut self.levels[level], next);
            if level > 0 {
                item.truncate(4);
            }
            let right = self.levels[level].pinned.id().block;
            self.close(level, full, Some((right, separator)))?;
        }
        let open = &mut self.levels[level];
        open.bytes += item.len() + LINE;
        open.items.push(item);
        Ok(())
    }

    /// Writes a page and enters it one level up.
    fn close(
        &mut self,
        level: usize,
        page: Open,
        right: Option<(BlockNumber, Vec<u8>)>,
    ) -> Result<(), IndexError> {
        self.write(level, &page, right.as_ref())?;
        let entry = page::inner_entry(page.pinned.id().block, &page.from);
        self.add(level + 1, entry, || page.from.clone())
    }

    fn write(
        &self,
        level: usize,
        page: &Open,
        right: Option<&(BlockNumber, Vec<u8>)>,
    ) -> Result<(), IndexError> {
        let header = Header {
            left: page.left,
            right: right.map(|(block, _)| *block),
            level: u16::try_from(level).expect("a tree has few levels"),
            flags: 0,
        };
        let high = right.map(|(_, key)| key.as_slice());
        let items = high.into_iter().chain(page.items.iter().map(Vec::as_slice));
        let data = page::fill_data(header, items);
        let mut latch = page.pinned.write();
        let mut change = Change::new(RmgrId::BTREE, page::BUILD, self.xid);
        change.block(&mut latch, BlockMode::Init, &data);
        change.commit(&self.tree.store.wal, page::apply);
        Ok(())
    }

    /// Closes the open pages from the leaves up; the last one is the root.
    fn finish(mut self) -> Result<(BlockNumber, u16), IndexError> {
        if self.levels.is_empty() {
            let root = self.open(None, Vec::new())?;
            self.levels.push(root);
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            let next = self.levels.get_mut(level).map(|open| Open {
                pinned: open.pinned.again(),
                left: open.left,
                items: std::mem::take(&mut open.items),
                bytes: open.bytes,
                from: std::mem::take(&mut open.from),
            });
            let page = next.expect("the level is there");
            if is_top {
                self.write(level, &page, None)?;
                let level = u16::try_from(level).expect("a tree has few levels");
                return Ok((page.pinned.id().block, level));
            }
            self.close(level, page, None)?;
            level += 1;
        }
    }
}
