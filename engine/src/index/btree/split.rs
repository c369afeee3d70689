//! Splitting pages and entering the new ones in their parents.
//!
//! The left page stays latched until its right neighbour has its entry in the parent; latches go from left to
//! right and from child to parent, so no two splitters wait for each other.

use crate::ids::{BlockNumber, Xid};
use crate::index::btree::descend::Path;
use crate::index::btree::page::{self, CAPACITY, Header, LINE};
use crate::index::btree::{META, Tree};
use crate::index::error::IndexError;
use crate::storage::{BlockMode, Change, PageBuf, PageWrite};
use crate::wal::RmgrId;

/// How full a page is left when keys come in ascending order, in percent.
const FILL_ASCENDING: usize = 90;

/// Where to cut a page that is to take one more entry.
struct Cut {
    /// Of the entries with the new one among them, this many stay left.
    left: usize,
    separator: Vec<u8>,
}

/// The entries of a page with a new one at its place.
struct WithNew<'p> {
    p: &'p PageBuf,
    place: usize,
    new: &'p [u8],
}

impl<'p> WithNew<'p> {
    fn len(&self) -> usize {
        page::count(self.p) + 1
    }
    fn get(&self, i: usize) -> &'p [u8] {
        match i.cmp(&self.place) {
            std::cmp::Ordering::Less => page::entry(self.p, i),
            std::cmp::Ordering::Equal => self.new,
            std::cmp::Ordering::Greater => page::entry(self.p, i - 1),
        }
    }
    fn is_leaf(&self) -> bool {
        page::level(self.p) == 0
    }
    fn cost(&self, i: usize) -> usize {
        self.get(i).len() + LINE
    }

    /// What divides entries `i - 1` and `i`: above the one, not above the other, as short as may be.
    fn separator(&self, i: usize) -> &'p [u8] {
        if !self.is_leaf() {
            return &self.get(i)[4..];
        }
        let (below, above) = (self.get(i - 1), self.get(i));
        let common = below.iter().zip(above).take_while(|(a, b)| a == b).count();
        &above[..common + 1]
    }

    /// Halves of like size, or a full left one where keys come in ascending order; among nearly equal cuts the
    /// one with the shortest separator.
    fn choose(&self) -> Option<Cut> {
        let total: usize = (0..self.len()).map(|i| self.cost(i)).sum();
        let high = page::high_key(self.p).map_or(0, |h| h.len() + LINE);
        let ascending = high == 0 && self.place + 1 == self.len();
        let mut best: Option<(usize, usize)> = None;
        let mut before = 0;
        for i in 1..self.len() {
            before += self.cost(i - 1);
            let separator = self.separator(i).len();
            let left = before + separator + LINE;
            // The first separator of an inner page is dropped.
            let dropped = if self.is_leaf() { 0 } else { separator };
            let right = total - before - dropped + high;
            if left > CAPACITY || right > CAPACITY {
                continue;
            }
            let off = if ascending {
                (CAPACITY * FILL_ASCENDING / 100).abs_diff(left)
            } else {
                left.abs_diff(right)
            };
            // A longer separator weighs as much as a worse balance: it is paid for in every level above.
            let weight = off / 8 + separator * 4;
            if best.is_none_or(|(w, _)| weight < w) {
                best = Some((weight, i));
            }
        }
        best.map(|(_, left)| Cut {
            left,
            separator: self.separator(left).to_vec(),
        })
    }
}

impl Tree<'_> {
    /// Splits a full page that is to get `new` at `place`, then enters the right half in the parent. `child`: the
    /// page below whose incomplete split the new entry finishes.
    pub(crate) fn split(
        &self,
        mut left: PageWrite<'_>,
        place: usize,
        new: &[u8],
        child: Option<&mut PageWrite<'_>>,
        path: &[BlockNumber],
        xid: Xid,
    ) -> Result<(), IndexError> {
        let block = left.id().block;
        let fresh = self.new_page()?;
        let neighbour = page::right(&left).map(|b| self.pin(b)).transpose()?;
        let mut right = fresh.write();
        let mut neighbour = neighbour.as_ref().map(|n| n.write());
        let entries = WithNew {
            p: &left,
            place,
            new,
        };
        let Some(cut) = entries.choose() else {
            return Err(self.damaged(block, "the page can't be split"));
        };
        let goes_left = place < cut.left;
        let keep = cut.left - usize::from(goes_left);
        let right_data = {
            let header = Header {
                left: Some(block),
                right: page::right(&left),
                level: page::level(&left),
                flags: 0,
            };
            let is_leaf = entries.is_leaf();
            let items = (cut.left..entries.len()).map(|i| {
                let entry = entries.get(i);
                if i == cut.left && !is_leaf {
                    &entry[..4]
                } else {
                    entry
                }
            });
            page::fill_data(header, page::high_key(&left).into_iter().chain(items))
        };
        let left_data = page::cut_data(
            fresh.id().block,
            keep,
            &cut.separator,
            goes_left.then_some((place, new)),
        );
        let link_data = page::link_left_data(fresh.id().block);
        let mut change = Change::new(RmgrId::BTREE, page::SPLIT, xid);
        // The right page first: while redo has only this one, nobody can reach it.
        change.block(&mut right, BlockMode::Init, &right_data);
        change.block(&mut left, BlockMode::Update, &left_data);
        if let Some(neighbour) = &mut neighbour {
            change.block(neighbour, BlockMode::Update, &link_data);
        }
        if let Some(child) = child {
            change.block(child, BlockMode::Update, page::COMPLETE_DATA);
        }
        change.commit(&self.store.wal, page::apply);
        drop((right, neighbour));
        self.finish_split(&mut left, path, xid)
    }

    /// Enters the right neighbour of a marked page in the parent, and takes the mark away.
    pub(crate) fn finish_split(
        &self,
        left: &mut PageWrite<'_>,
        path: &[BlockNumber],
        xid: Xid,
    ) -> Result<(), IndexError> {
        let block = left.id().block;
        let level = page::level(left);
        let (Some(right), Some(separator)) = (page::right(left), page::high_key(left)) else {
            return Err(self.damaged(block, "a page is marked as split and has no neighbour"));
        };
        let separator = separator.to_vec();
        if let Some((parent, above)) = path.split_last() {
            return self.enter(*parent, above, left, right, &separator, xid);
        }
        // It was the root when we came down; it may still be.
        let meta = self.pin(META)?;
        let mut meta = meta.write();
        let is_root = page::root(&meta).is_some_and(|(root, _)| root == block);
        if is_root {
            return self.new_root(&mut meta, left, right, &separator, xid);
        }
        drop(meta);
        let mut path = Path::new();
        let parent = self.descend_to_write(&separator, level + 1, &mut path, xid)?;
        let parent = parent.id().block;
        self.enter(parent, &path, left, right, &separator, xid)
    }

    fn new_root(
        &self,
        meta: &mut PageWrite<'_>,
        left: &mut PageWrite<'_>,
        right: BlockNumber,
        separator: &[u8],
        xid: Xid,
    ) -> Result<(), IndexError> {
        let fresh = self.new_page()?;
        let mut root = fresh.write();
        let level = page::level(left) + 1;
        let header = Header {
            left: None,
            right: None,
            level,
            flags: 0,
        };
        let items = [
            page::inner_entry(left.id().block, &[]),
            page::inner_entry(right, separator),
        ];
        let root_data = page::fill_data(header, items.iter().map(Vec::as_slice));
        let meta_data = page::meta_data(fresh.id().block, level);
        let mut change = Change::new(RmgrId::BTREE, page::NEW_ROOT, xid);
        change.block(&mut root, BlockMode::Init, &root_data);
        change.block(left, BlockMode::Update, page::COMPLETE_DATA);
        change.block(meta, BlockMode::Update, &meta_data);
        change.commit(&self.store.wal, page::apply);
        Ok(())
    }

    /// Puts (`right`, `separator`) behind the entry of `left` in the parent, which is `parent` or right of it.
    fn enter(
        &self,
        parent: BlockNumber,
        above: &[BlockNumber],
        left: &mut PageWrite<'_>,
        right: BlockNumber,
        separator: &[u8],
        xid: Xid,
    ) -> Result<(), IndexError> {
        let pinned = self.pin(parent)?;
        let mut p = pinned.write();
        self.check_node(parent, &p, page::level(left) + 1)?;
        if page::is_incomplete(&p) {
            self.finish_split(&mut p, above, xid)?;
        }
        if page::is_beyond(&p, Some(separator)) {
            let next = page::right(&p).expect("a page with a high key has a right neighbour");
            drop(p);
            return self.enter(next, above, left, right, separator, xid);
        }
        let at = page::child_index(&p, Some(separator));
        if page::child(&p, at) != Some(left.id().block) {
            return Err(self.damaged(
                parent,
                format!(
                    "the entry of block {} is not where it must be",
                    left.id().block
                ),
            ));
        }
        let entry = page::inner_entry(right, separator);
        if crate::storage::page::free_space(&p) < entry.len() {
            return self.split(p, at + 1, &entry, Some(left), above, xid);
        }
        let data = page::insert_data(page::offset(&p, at + 1));
        let mut change = Change::new(RmgrId::BTREE, page::INSERT_ENTRY, xid);
        change.block(&mut p, BlockMode::Update, &data).more(&entry);
        change.block(left, BlockMode::Update, page::COMPLETE_DATA);
        change.commit(&self.store.wal, page::apply);
        Ok(())
    }
}
