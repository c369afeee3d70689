//! Reading a range of entries, forward or backward.
//!
//! A page's matching entries are copied under one shared latch, then handed out without any; a vacuum or a split
//! in between does no harm. What moved right in a split had been copied, and the link taken with the entries leads
//! behind it. An entry whose row was removed meanwhile leads to a line pointer that is dead or holds a row of a
//! transaction that ended after the reader's snapshot was taken, which the snapshot does not show.

use std::ops::Bound;

use crate::catalog::relation::Index;
use crate::ids::{BlockNumber, RelFile, Tid};
use crate::index::btree::descend::Path;
use crate::index::btree::{Direction, KeyRange, Tree, page};
use crate::index::error::IndexError;
use crate::storage::{PageBuf, Store};

#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    /// Forward: the next page.
    Right(BlockNumber),
    /// Backward: the page before `of`, which was `hint` when `of` was read.
    LeftOf {
        of: BlockNumber,
        hint: BlockNumber,
    },
    End,
}

/// A scan's place in an index. It borrows nothing, so that a node of the executor can own it between its steps,
/// and holds no page between two calls.
#[derive(Debug)]
pub struct BtreeScan {
    file: RelFile,
    range: KeyRange,
    direction: Direction,
    place: Place,
    /// Where the root was found last, for a scan that begins again and again.
    root: Option<(BlockNumber, u16)>,
    copied: Copied,
}

/// Entries of one page, in scan order.
#[derive(Debug, Default)]
struct Copied {
    /// Where each ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// The next one to be handed out.
    at: usize,
}

impl Copied {
    fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
        self.at = 0;
    }

    fn push(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Takes what is in the range from entry `from` on, and says where more of it is.
    fn forward(&mut self, range: &KeyRange, p: &PageBuf, from: usize) -> Place {
        let place = match page::right(p) {
            Some(right) if !range.ends_before(page::high_key(p)) => Place::Right(right),
            _ => Place::End,
        };
        for i in from..page::count(p) {
            let entry = page::entry(p, i);
            let key = page::key_of(entry);
            if !range.is_below_upper(key) {
                return Place::End;
            }
            if range.is_above_lower(key) {
                self.push(entry);
            }
        }
        place
    }
}

/// Entries of the range, in key order, or backward.
pub fn scan(
    store: &Store,
    index: &Index,
    range: KeyRange,
    direction: Direction,
) -> Result<BtreeScan, IndexError> {
    let mut scan = BtreeScan {
        file: index.file,
        range,
        direction,
        place: Place::Start,
        root: None,
        copied: Copied::default(),
    };
    scan.load(store)?;
    Ok(scan)
}

impl BtreeScan {
    /// The next entry and its key's bytes.
    pub fn next(&mut self, store: &Store) -> Result<Option<(Tid, &[u8])>, IndexError> {
        while self.copied.at >= self.copied.ends.len() {
            if matches!(self.place, Place::End) {
                return Ok(None);
            }
            self.load(store)?;
        }
        let copied = &mut self.copied;
        let from = match copied.at {
            0 => 0,
            at => copied.ends[at - 1] as usize,
        };
        let entry = &copied.bytes[from..copied.ends[copied.at] as usize];
        copied.at += 1;
        let tid = page::tid_of(entry).ok_or_else(|| {
            Tree::new(store, self.file).damaged(BlockNumber::INVALID, "an entry points nowhere")
        })?;
        Ok(Some((tid, page::key_of(entry))))
    }

    /// Begins again with another range, in the same buffers.
    pub fn restart(&mut self, store: &Store, range: KeyRange) -> Result<(), IndexError> {
        self.range = range;
        self.place = Place::Start;
        self.load(store)
    }

    /// Begins again at the entries of one key, in the same buffers, those of the range among them.
    pub fn seek(&mut self, store: &Store, key: &[u8]) -> Result<(), IndexError> {
        self.range.set_key(key);
        self.place = Place::Start;
        self.load(store)
    }

    fn load(&mut self, store: &Store) -> Result<(), IndexError> {
        let tree = Tree::new(store, self.file);
        self.copied.clear();
        match self.direction {
            Direction::Forward => self.load_forward(tree),
            Direction::Backward => self.load_backward(tree),
        }
    }

    fn load_forward(&mut self, tree: Tree<'_>) -> Result<(), IndexError> {
        let (range, copied) = (&self.range, &mut self.copied);
        self.place = match self.place {
            Place::Start => {
                let target = match &range.lower {
                    Bound::Included(key) | Bound::Excluded(key) => key.as_slice(),
                    Bound::Unbounded => &[],
                };
                tree.read_leaf(target, &mut self.root, |p| {
                    let from = page::lower_bound(p, Some(target));
                    copied.forward(range, p, from)
                })?
            }
            Place::Right(block) => {
                let pinned = tree.pin(block)?;
                let p = pinned.read();
                tree.check_node(block, &p, 0)?;
                copied.forward(range, &p, 0)
            }
            Place::LeftOf { .. } | Place::End => unreachable!("a forward scan that goes on"),
        };
        Ok(())
    }

    fn load_backward(&mut self, tree: Tree<'_>) -> Result<(), IndexError> {
        let (block, until) = match self.place {
            Place::Start => self.last_place(tree)?,
            Place::LeftOf { of, hint } => (page_left_of(tree, of, hint)?, None),
            Place::Right(_) | Place::End => unreachable!("a backward scan that goes on"),
        };
        let mut pinned = tree.pin(block)?;
        loop {
            let next = {
                let p = pinned.read();
                tree.check_node(pinned.id().block, &p, 0)?;
                let target = until.as_ref().map(|t| t.as_deref());
                match target {
                    Some(target) if page::is_beyond(&p, target) => page::right(&p),
                    // Split between our looking for it and reading it: what we want is further right.
                    None if !self.leads_on(&p) => page::right(&p),
                    _ => {
                        let count = target.map_or(page::count(&p), |t| page::lower_bound(&p, t));
                        self.copy_backward(&p, pinned.id().block, count);
                        return Ok(());
                    }
                }
            };
            let next =
                next.ok_or_else(|| tree.damaged(block, "a backward scan has lost its way"))?;
            pinned = tree.pin(next)?;
        }
    }

    /// Whether the page is the one before the page that was read last.
    fn leads_on(&self, p: &PageBuf) -> bool {
        match self.place {
            Place::LeftOf { of, .. } => page::right(p) == Some(of),
            _ => true,
        }
    }

    /// Where a backward scan begins: a page at or left of the upper bound's place, and the bound as a target.
    fn last_place(
        &self,
        tree: Tree<'_>,
    ) -> Result<(BlockNumber, Option<Option<Vec<u8>>>), IndexError> {
        let target = match &self.range.upper {
            Bound::Unbounded => None,
            Bound::Excluded(upper) => Some(upper.clone()),
            Bound::Included(upper) => {
                // Behind every tid of the key.
                let mut above = upper.clone();
                above.extend_from_slice(&[u8::MAX; page::TID]);
                Some(above)
            }
        };
        let pinned = tree.descend(target.as_deref(), 0, &mut Path::new())?;
        Ok((pinned.id().block, Some(target)))
    }

    fn copy_backward(&mut self, p: &PageBuf, block: BlockNumber, count: usize) {
        self.place = match page::left(p) {
            Some(hint) => Place::LeftOf { of: block, hint },
            None => Place::End,
        };
        for i in (0..count).rev() {
            let entry = page::entry(p, i);
            let key = page::key_of(entry);
            if !self.range.is_above_lower(key) {
                self.place = Place::End;
                return;
            }
            if self.range.is_below_upper(key) {
                self.copied.push(entry);
            }
        }
    }
}

impl KeyRange {
    /// Whether nothing at or above the high key can be in the range.
    fn ends_before(&self, high: Option<&[u8]>) -> bool {
        match (&self.upper, high) {
            (_, None) => true,
            (Bound::Unbounded, _) => false,
            (Bound::Excluded(upper), Some(high)) => high >= upper.as_slice(),
            (Bound::Included(upper), Some(high)) => {
                high > upper.as_slice() && !high.starts_with(upper)
            }
        }
    }

    fn is_above_lower(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Unbounded => true,
            Bound::Included(lower) => key >= lower.as_slice(),
            Bound::Excluded(lower) => key > lower.as_slice(),
        }
    }

    fn is_below_upper(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => true,
            Bound::Included(upper) => key <= upper.as_slice(),
            Bound::Excluded(upper) => key < upper.as_slice(),
        }
    }
}

/// The page whose right neighbour is `of`: `hint`, or, if that was split, a page right of it.
fn page_left_of(
    tree: Tree<'_>,
    of: BlockNumber,
    hint: BlockNumber,
) -> Result<BlockNumber, IndexError> {
    let mut block = hint;
    loop {
        let pinned = tree.pin(block)?;
        let p = pinned.read();
        tree.check_node(block, &p, 0)?;
        match page::right(&p) {
            Some(right) if right == of => return Ok(block),
            Some(right) => block = right,
            None => {
                return Err(tree.damaged(of, "the links of its left neighbours do not lead to it"));
            }
        }
    }
}
