//! Where the next row goes: the page this thread used last, then the free space map, then a new page.
//!
//! Each worker thread remembers a page for each of the tables it inserted into lately, so that sessions do not meet
//! on one page and do not ask the map for each row. What is remembered may be out of date in every way; it is
//! checked under the page's latch.

use std::cell::RefCell;

use crate::ids::{BlockNumber, Fork, PageId, RelFile};
use crate::storage::page;
use crate::storage::{PageBuf, Pinned, Ring, StorageError};
use crate::table::cx::TableCx;
use crate::table::free_space;
use crate::table::row::MAX_TUPLE;

const REMEMBERED: usize = 32;
/// After so many pages that had less room than the map said, a new page is made.
const MAX_TRIES: u32 = 8;

thread_local! {
    static TARGETS: RefCell<Vec<(RelFile, BlockNumber)>> = const { RefCell::new(Vec::new()) };
}

fn remembered(file: RelFile) -> Option<BlockNumber> {
    TARGETS.with_borrow(|t| t.iter().find(|(f, _)| *f == file).map(|(_, b)| *b))
}

/// This thread goes on with this page.
pub(super) fn remember(file: RelFile, block: BlockNumber) {
    TARGETS.with_borrow_mut(|targets| {
        if let Some(entry) = targets.iter_mut().find(|(f, _)| *f == file) {
            entry.1 = block;
            return;
        }
        if targets.len() >= REMEMBERED {
            targets.remove(0);
        }
        targets.push((file, block));
    });
}

fn forget(file: RelFile) {
    TARGETS.with_borrow_mut(|targets| targets.retain(|(f, _)| *f != file));
}

/// Spreads threads over the pages that the map offers.
fn spread() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(37);
    }
    MINE.with(|m| *m)
}

/// Bytes that one more row version may have on the page.
pub(in crate::table) fn room(page: &PageBuf) -> usize {
    if page::is_new(page) {
        MAX_TUPLE
    } else {
        page::free_space(page)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Remembered,
    LastPage,
    Map,
    Extend,
}

/// One search for a page with room. The caller latches what [`Search::next`] gives, and either uses it or calls
/// [`Search::reject`].
pub(super) struct Search<'a> {
    cx: TableCx<'a>,
    file: RelFile,
    len: usize,
    stage: Stage,
    tries: u32,
    except: Option<BlockNumber>,
}

impl<'a> Search<'a> {
    pub(super) fn new(cx: TableCx<'a>, file: RelFile, len: usize) -> Search<'a> {
        Search {
            cx,
            file,
            len,
            stage: Stage::Remembered,
            tries: 0,
            except: None,
        }
    }
    /// The old version's page, which the caller has latched.
    pub(super) fn except(mut self, block: BlockNumber) -> Search<'a> {
        self.except = Some(block);
        self
    }

    /// A candidate, not latched. The last resort is a page that did not exist before.
    pub(super) fn next(&mut self, ring: Option<&mut Ring>) -> Result<Pinned, StorageError> {
        let pool = &self.cx.store.pool;
        while let Some(block) = self.candidate()? {
            let exists = block.raw() < pool.block_count(self.file, Fork::Main)?;
            if !exists {
                // The table was cut; so should the map be.
                if self.stage == Stage::Map {
                    free_space::record(self.cx.store, self.file, block, 0)?;
                }
                continue;
            }
            if Some(block) == self.except {
                continue;
            }
            let id = PageId {
                file: self.file,
                fork: Fork::Main,
                block,
            };
            return match ring {
                Some(ring) => pool.pin_in_ring(id, ring),
                None => pool.pin(id),
            };
        }
        match ring {
            Some(ring) => pool.extend_in_ring(self.file, Fork::Main, ring),
            None => pool.extend(self.file, Fork::Main),
        }
    }

    fn candidate(&mut self) -> Result<Option<BlockNumber>, StorageError> {
        match self.stage {
            Stage::Remembered => {
                self.stage = Stage::Map;
                if let Some(block) = remembered(self.file) {
                    return Ok(Some(block));
                }
                self.candidate()
            }
            Stage::Map => {
                self.tries += 1;
                if self.tries <= MAX_TRIES {
                    let found = free_space::find(self.cx.store, self.file, self.len, spread())?;
                    if found.is_some() && found != self.except {
                        return Ok(found);
                    }
                }
                self.stage = if self.tries == 1 {
                    Stage::LastPage
                } else {
                    Stage::Extend
                };
                self.candidate()
            }
            Stage::LastPage => {
                // A small table that was never vacuumed has no map yet.
                self.stage = Stage::Extend;
                let count = self.cx.store.pool.block_count(self.file, Fork::Main)?;
                Ok(count.checked_sub(1).map(BlockNumber::new))
            }
            Stage::Extend => Ok(None),
        }
    }

    /// The page has only `room`: remembers that for everyone.
    pub(super) fn reject(&mut self, block: BlockNumber, room: usize) -> Result<(), StorageError> {
        if remembered(self.file) == Some(block) {
            forget(self.file);
        }
        free_space::record(self.cx.store, self.file, block, room)
    }
}
