//! The free space map: which page of a heap has room, in the relation's `_fsm` fork.
//!
//! One byte a heap page, in units of 32 bytes, in leaf pages; root pages with one byte a leaf, the most that any of
//! its pages has. A page of either kind:
//!
//! ```text
//!    0 page header (24), lower = upper = special = 8192
//!   24 groups    126 bytes: the largest value of each group of 63
//!  150 values    7938 bytes
//! 8088 unused
//! ```
//!
//! Blocks of the fork: root 0, its 7938 leaves, the next root, and so on.
//!
//! The map is a hint and is not logged. It may promise too much (after a crash, on a promoted standby, because two
//! sessions were told of the same page): whoever finds that out records the truth and asks again. It may promise
//! too little until the next vacuum. A torn or damaged page reads as zeroes. Latches here come after heap pages'
//! and are never held two at a time.

use crate::ids::{BlockNumber, Fork, PageId, RelFile};
use crate::storage::page::{self, PageBuf};
use crate::storage::{PageWrite, StorageError, Store};

const UNIT: usize = 32;
const GROUPS: usize = 126;
const GROUP_SIZE: usize = 63;
/// Values on one page, and leaves below one root.
const VALUES: usize = GROUPS * GROUP_SIZE;
const GROUPS_AT: usize = page::HEADER_SIZE;
const VALUES_AT: usize = GROUPS_AT + GROUPS;
/// Root and leaves.
const STRIDE: u32 = VALUES as u32 + 1;

struct Place {
    root: u32,
    leaf: u32,
    /// Place of the leaf in its root.
    in_root: usize,
    /// Place of the heap page in its leaf.
    in_leaf: usize,
}

fn place_of(block: BlockNumber) -> Place {
    let (leaf_index, in_leaf) = (block.raw() / VALUES as u32, block.raw() as usize % VALUES);
    let (root_index, in_root) = (leaf_index / VALUES as u32, leaf_index as usize % VALUES);
    let root = root_index * STRIDE;
    Place {
        root,
        leaf: root + 1 + in_root as u32,
        in_root,
        in_leaf,
    }
}

fn map_page(file: RelFile, block: u32) -> PageId {
    PageId {
        file,
        fork: Fork::FreeSpace,
        block: BlockNumber::new(block),
    }
}

fn init(page: &mut PageBuf) {
    page::init(page, 0);
    // No items and no gap, so that nobody takes the values for one.
    let size = page.len() as u16;
    page::put_u16(page, 12, size);
    page::put_u16(page, 14, size);
}

/// Sets one value; what the page's largest value was and is.
fn set(page: &mut PageWrite<'_>, at: usize, value: u8) -> (u8, u8) {
    if page::is_new(page) {
        init(page);
        page.mark_unlogged();
    }
    let before = largest(page);
    if page[VALUES_AT + at] != value {
        page[VALUES_AT + at] = value;
        let group = at / GROUP_SIZE;
        let start = VALUES_AT + group * GROUP_SIZE;
        let top = page[start..start + GROUP_SIZE]
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        page[GROUPS_AT + group] = top;
        page.mark_unlogged();
    }
    (before, largest(page))
}

fn largest(page: &PageBuf) -> u8 {
    page[GROUPS_AT..GROUPS_AT + GROUPS]
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
}

/// The first place with at least `need`, looking from `start` on and around.
fn search(page: &PageBuf, need: u8, start: usize) -> Option<usize> {
    if page::is_new(page) {
        return None;
    }
    let first = (start % VALUES) / GROUP_SIZE;
    for step in 0..GROUPS {
        let group = (first + step) % GROUPS;
        if page[GROUPS_AT + group] < need {
            continue;
        }
        let from = VALUES_AT + group * GROUP_SIZE;
        let inside = start % GROUP_SIZE;
        let values = &page[from..from + GROUP_SIZE];
        let found = (0..GROUP_SIZE)
            .map(|i| (i + inside) % GROUP_SIZE)
            .find(|i| values[*i] >= need);
        if let Some(i) = found {
            return Some(group * GROUP_SIZE + i);
        }
    }
    None
}

fn need_of(len: usize) -> u8 {
    len.div_ceil(UNIT).clamp(1, 255) as u8
}

/// A page that probably has room for an item of `len` bytes. `start` spreads sessions over the candidates.
pub fn find(
    store: &Store,
    file: RelFile,
    len: usize,
    start: usize,
) -> Result<Option<BlockNumber>, StorageError> {
    let pages = store.pool.block_count(file, Fork::FreeSpace)?;
    let need = need_of(len);
    let mut root = 0;
    while root < pages {
        // A leaf may turn out to have less than its root says; the root is mended and asked again.
        for _ in 0..4 {
            let in_root = {
                let pin = store.pool.pin_or_zero(map_page(file, root))?;
                let page = pin.read();
                search(&page, need, start / VALUES)
            };
            let Some(in_root) = in_root else { break };
            let leaf = root + 1 + in_root as u32;
            if leaf >= pages {
                set_root(store, file, root, in_root, 0)?;
                continue;
            }
            let (found, top) = {
                let pin = store.pool.pin_or_zero(map_page(file, leaf))?;
                let page = pin.read();
                (search(&page, need, start), largest(&page))
            };
            if let Some(at) = found {
                let leaf_index = (root / STRIDE) * VALUES as u32 + in_root as u32;
                let block = leaf_index * VALUES as u32 + at as u32;
                return Ok(Some(BlockNumber::new(block)));
            }
            set_root(store, file, root, in_root, top)?;
        }
        root += STRIDE;
    }
    Ok(None)
}

fn set_root(
    store: &Store,
    file: RelFile,
    root: u32,
    in_root: usize,
    value: u8,
) -> Result<(), StorageError> {
    let pin = store.pool.pin_or_zero(map_page(file, root))?;
    set(&mut pin.write(), in_root, value);
    Ok(())
}

/// Remembers that a page has `free` bytes for one more item.
pub fn record(
    store: &Store,
    file: RelFile,
    block: BlockNumber,
    free: usize,
) -> Result<(), StorageError> {
    let place = place_of(block);
    let last = map_page(file, place.leaf);
    if store.pool.block_count(file, Fork::FreeSpace)? <= place.leaf {
        store.files.extend_to(last)?;
    }
    let value = (free / UNIT).min(255) as u8;
    let (before, after) = {
        let pin = store.pool.pin_or_zero(last)?;
        set(&mut pin.write(), place.in_leaf, value)
    };
    if before != after {
        set_root(store, file, place.root, place.in_root, after)?;
    }
    Ok(())
}

/// Forgets pages from `blocks` on: the heap was cut there.
pub fn truncate(store: &Store, file: RelFile, blocks: u32) -> Result<(), StorageError> {
    let pages = store.pool.block_count(file, Fork::FreeSpace)?;
    let place = place_of(BlockNumber::new(blocks));
    if pages > place.leaf {
        {
            let pin = store.pool.pin_or_zero(map_page(file, place.leaf))?;
            let mut page = pin.write();
            for at in place.in_leaf..VALUES {
                set(&mut page, at, 0);
            }
        }
        store.pool.truncate(file, Fork::FreeSpace, place.leaf + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_blocks_do_not_overlap() {
        let v = VALUES as u32;
        for (block, root, leaf, in_root, in_leaf) in [
            (0, 0, 1, 0, 0),
            (v - 1, 0, 1, 0, VALUES - 1),
            (v, 0, 2, 1, 0),
            (v * v - 1, 0, v, VALUES - 1, VALUES - 1),
            (v * v, STRIDE, STRIDE + 1, 0, 0),
        ] {
            let place = place_of(BlockNumber::new(block));
            assert_eq!(
                (place.root, place.leaf, place.in_root, place.in_leaf),
                (root, leaf, in_root, in_leaf)
            );
        }
    }

    #[test]
    fn a_map_page_is_a_valid_page() {
        let mut page = [0; crate::ids::PAGE_SIZE];
        init(&mut page);
        assert!(page::header_is_valid(&page));
        assert_eq!(page::hole(&page), (0, 0));
    }
}
