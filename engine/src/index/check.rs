//! Checking an index: our own `amcheck`.
//!
//! Nobody writes to the index meanwhile (the caller holds a lock, or the server is not in service). What is found:
//! pages that are not index pages, links that do not match, entries out of order or outside of their page's range,
//! levels that disagree with the entries above them. Incomplete splits are counted, not complained of.

use crate::catalog::relation::Index;
use crate::ids::{BlockNumber, Tid};
use crate::index::btree::descend::Path;
use crate::index::btree::page;
use crate::index::btree::{META, Tree};
use crate::index::error::IndexError;
use crate::storage::{PageBuf, Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    pub entries: u64,
    pub pages: u64,
    pub levels: u16,
    /// Pages whose right neighbour has no entry above yet.
    pub incomplete: u64,
}

/// A page as its parent knows it: where it is and where its range begins.
struct Expected {
    block: BlockNumber,
    from: Vec<u8>,
}

/// Checks the whole tree; hands out each entry, in order.
pub fn check(
    store: &Store,
    index: &Index,
    each: &mut dyn FnMut(&[u8], Tid) -> Result<(), IndexError>,
) -> Result<Report, IndexError> {
    let tree = Tree::new(store, index.file);
    let (root, height) = tree.root()?;
    let mut report = Report {
        levels: height + 1,
        ..Report::default()
    };
    let mut expected = vec![Expected {
        block: root,
        from: Vec::new(),
    }];
    for level in (0..=height).rev() {
        expected = check_level(tree, level, &expected, &mut report, each)?;
    }
    let blocks = u64::from(store.pool.block_count(index.file, crate::ids::Fork::Main)?);
    if report.pages + 1 > blocks {
        return Err(tree.damaged(META, "pages are in the tree twice"));
    }
    Ok(report)
}

/// Whether the index has this entry: for a caller who goes through the heap and wants each row to have its own.
pub fn has_entry(store: &Store, index: &Index, key: &[u8], tid: Tid) -> Result<bool, IndexError> {
    let tree = Tree::new(store, index.file);
    let entry = page::leaf_entry(key, tid);
    let mut pinned = tree.descend(Some(&entry), 0, &mut Path::new())?;
    loop {
        let next = {
            let p = pinned.read();
            tree.check_node(pinned.id().block, &p, 0)?;
            if !page::is_beyond(&p, Some(&entry)) {
                let at = page::lower_bound(&p, Some(&entry));
                return Ok(at < page::count(&p) && page::entry(&p, at) == entry);
            }
            page::right(&p)
        };
        let next = next.expect("a page with a high key has a right neighbour");
        pinned = tree.pin(next)?;
    }
}

fn check_level(
    tree: Tree<'_>,
    level: u16,
    expected: &[Expected],
    report: &mut Report,
    each: &mut dyn FnMut(&[u8], Tid) -> Result<(), IndexError>,
) -> Result<Vec<Expected>, IndexError> {
    let mut below = Vec::new();
    let mut known = expected.iter();
    let mut next = expected.first().map(|e| e.block);
    let (mut left, mut from, mut entered) = (None, Vec::new(), true);
    while let Some(block) = next {
        let p: PageBuf = *tree.pin(block)?.read();
        let wrong = |what: &str| Err(tree.damaged(block, what));
        tree.check_node(block, &p, level)?;
        if page::left(&p) != left {
            return wrong("its link to the left is wrong");
        }
        if entered {
            match known.next() {
                Some(e) if e.block == block && e.from == from => {}
                _ => return wrong("it is not what the level above says"),
            }
        }
        check_order(tree, block, &p, &from)?;
        for i in 0..page::count(&p) {
            if level > 0 {
                let Some(child) = page::child(&p, i) else {
                    return wrong("an entry has no child");
                };
                let begin = if i == 0 { &from } else { page::sort_key(&p, i) };
                below.push(Expected {
                    block: child,
                    from: begin.to_vec(),
                });
            } else {
                let entry = page::entry(&p, i);
                let Some(tid) = page::tid_of(entry) else {
                    return wrong("an entry points nowhere");
                };
                each(page::key_of(entry), tid)?;
                report.entries += 1;
            }
        }
        report.pages += 1;
        report.incomplete += u64::from(page::is_incomplete(&p));
        entered = !page::is_incomplete(&p);
        from = page::high_key(&p).unwrap_or_default().to_vec();
        left = Some(block);
        next = page::right(&p);
    }
    match known.next() {
        Some(e) => Err(tree.damaged(e.block, "the level above has it, its own level has not")),
        None => Ok(below),
    }
}

/// Entries ascend, from the beginning of the page's range to its high key.
fn check_order(
    tree: Tree<'_>,
    block: BlockNumber,
    p: &PageBuf,
    from: &[u8],
) -> Result<(), IndexError> {
    let inner = page::level(p) > 0;
    if inner && (page::count(p) == 0 || !page::sort_key(p, 0).is_empty()) {
        return Err(tree.damaged(block, "an inner page does not begin with its first child"));
    }
    // The first separator of an inner page is left out; it stands for the beginning of the range.
    let keys: Vec<&[u8]> = (usize::from(inner)..page::count(p))
        .map(|i| page::sort_key(p, i))
        .collect();
    let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
    let begins = keys
        .first()
        .is_none_or(|k| if inner { *k > from } else { *k >= from });
    let ends = match (page::high_key(p), keys.last()) {
        (Some(high), Some(last)) => *last < high && from < high,
        (Some(high), None) => from < high,
        (None, _) => true,
    };
    if page::right(p).is_some() && page::high_key(p).is_none() {
        return Err(tree.damaged(block, "its high key is missing"));
    }
    if !(ascending && begins && ends) {
        return Err(tree.damaged(block, "its entries are out of order or out of range"));
    }
    Ok(())
}
