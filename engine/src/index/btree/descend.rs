//! Going down the tree. One shared latch at a time: a page that was split meanwhile is followed to the right.

use smallvec::SmallVec;

use crate::ids::{BlockNumber, Xid};
use crate::index::btree::{META, Tree, page};
use crate::index::error::IndexError;
use crate::storage::{PageBuf, Pinned};

/// The inner pages passed on the way down, from the root. A page may have been split since, so an entry may be
/// found further right.
pub(crate) type Path = SmallVec<[BlockNumber; 8]>;

impl Tree<'_> {
    pub(crate) fn root(&self) -> Result<(BlockNumber, u16), IndexError> {
        let meta = self.pin(META)?;
        let root = page::root(&meta.read());
        root.ok_or_else(|| self.damaged(META, "this is not the meta page of an index"))
    }

    /// The page of `level` that holds the place of `target` or is left of it (if it is split before the caller has
    /// latched it). `None` target: the end. The path is cleared first.
    pub(crate) fn descend(
        &self,
        target: Option<&[u8]>,
        level: u16,
        path: &mut Path,
    ) -> Result<Pinned, IndexError> {
        path.clear();
        let (mut block, mut at) = self.root()?;
        if at < level {
            return Err(self.damaged(META, "the tree is not as high as its pages say"));
        }
        loop {
            let pinned = self.pin(block)?;
            let next = {
                let p = pinned.read();
                self.check_node(block, &p, at)?;
                if page::is_beyond(&p, target) {
                    page::right(&p)
                } else if at == level {
                    None
                } else {
                    path.push(block);
                    at -= 1;
                    let child = page::child(&p, page::child_index(&p, target));
                    Some(child.ok_or_else(|| self.damaged(block, "an inner page has no entries"))?)
                }
            };
            match next {
                Some(next) => block = next,
                None => return Ok(pinned),
            }
        }
    }

    /// Goes down to the leaf that holds the place of `target`, and reads there before the latch is let go. `known` is
    /// where the root was found last: looked at again, not trusted.
    pub(crate) fn read_leaf<R>(
        &self,
        target: &[u8],
        known: &mut Option<(BlockNumber, u16)>,
        read: impl FnOnce(&PageBuf) -> R,
    ) -> Result<R, IndexError> {
        let target = Some(target);
        let mut unsure = known.is_some();
        let (mut block, mut at) = match *known {
            Some(root) => root,
            None => *known.insert(self.root()?),
        };
        loop {
            let pinned = self.pin(block)?;
            let p = pinned.read();
            if std::mem::take(&mut unsure) && !page::is_alone(&p, at) {
                drop(p);
                (block, at) = *known.insert(self.root()?);
                continue;
            }
            self.check_node(block, &p, at)?;
            let next = if page::is_beyond(&p, target) {
                page::right(&p)
            } else if at == 0 {
                return Ok(read(&p));
            } else {
                at -= 1;
                page::child(&p, page::child_index(&p, target))
            };
            block = next.ok_or_else(|| self.damaged(block, "an inner page has no entries"))?;
        }
    }

    /// [`Self::descend`] for a writer: finishes the splits that it finds unfinished on its way. So each page of the path,
    /// and each page that was passed to get there, has its entry in its parent.
    pub(crate) fn descend_to_write(
        &self,
        target: &[u8],
        level: u16,
        path: &mut Path,
        xid: Xid,
    ) -> Result<Pinned, IndexError> {
        path.clear();
        let (mut block, mut at) = self.root()?;
        if at < level {
            return Err(self.damaged(META, "the tree is not as high as its pages say"));
        }
        loop {
            let pinned = self.pin(block)?;
            let next = {
                let p = pinned.read();
                self.check_node(block, &p, at)?;
                if page::is_incomplete(&p) {
                    None
                } else if page::is_beyond(&p, Some(target)) {
                    page::right(&p)
                } else if at == level {
                    drop(p);
                    return Ok(pinned);
                } else {
                    path.push(block);
                    at -= 1;
                    let child = page::child(&p, page::child_index(&p, Some(target)));
                    Some(child.ok_or_else(|| self.damaged(block, "an inner page has no entries"))?)
                }
            };
            match next {
                Some(next) => block = next,
                None => {
                    let mut p = pinned.write();
                    if page::is_incomplete(&p) {
                        self.finish_split(&mut p, path, xid)?;
                    }
                }
            }
        }
    }

    pub(crate) fn check_node(
        &self,
        block: BlockNumber,
        p: &PageBuf,
        level: u16,
    ) -> Result<(), IndexError> {
        if !page::is_node(p) {
            return Err(self.damaged(block, "this is not a page of an index"));
        }
        if page::level(p) != level {
            let what = format!("its level is {}, expected was {level}", page::level(p));
            return Err(self.damaged(block, what));
        }
        Ok(())
    }
}
