//! Looking for damage in a heap and its overflow file: what `amcheck` does for PostgreSQL.
//!
//! Read only; may run beside everything else. Findings are sentences for a person, in PostgreSQL's spirit.

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, Fork, OffsetNumber, PAGE_SIZE, PageId, Tid, Xid};
use crate::storage::page::{self, ItemState};
use crate::storage::{PageBuf, StorageError};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::overflow;
use crate::table::row::{Attributes, Pointer, Stored};
use crate::table::tuple::{
    HAS_NULLS, HAS_OVERFLOW, HEAP_ONLY, HOT_UPDATED, LOCK_ONLY, TupleHeader,
};
use crate::table::visibility::{self, Fate};

/// Something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub block: BlockNumber,
    /// `None`: the page as a whole.
    pub offset: Option<OffsetNumber>,
    pub what: String,
}

/// Checks every page of the table; findings in block order.
pub fn check_heap(cx: TableCx<'_>, rel: &Relation) -> Result<Vec<Finding>, TableError> {
    let mut findings = Vec::new();
    let count = cx.store.pool.block_count(rel.file, Fork::Main)?;
    for block in (0..count).map(BlockNumber::new) {
        check_block(cx, rel, block, &mut findings)?;
    }
    Ok(findings)
}

/// Checks one page: the caller may look for interrupts between two.
pub fn check_block(
    cx: TableCx<'_>,
    rel: &Relation,
    block: BlockNumber,
    findings: &mut Vec<Finding>,
) -> Result<(), TableError> {
    let id = PageId {
        file: rel.file,
        fork: Fork::Main,
        block,
    };
    let page: PageBuf = match cx.store.pool.pin(id) {
        Ok(pin) => *pin.read(),
        Err(StorageError::Damaged(_)) => {
            findings.push(Finding {
                block,
                offset: None,
                what: "page header or checksum is invalid".to_owned(),
            });
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    if page::is_new(&page) {
        return Ok(());
    }
    let before = findings.len();
    let mut check = PageCheck {
        rel,
        block,
        page: &page,
        findings,
        values: Vec::new(),
    };
    check.line_pointers();
    if check.findings.len() == before {
        for offset in page::offsets(&page) {
            check.version(cx, offset);
        }
    }
    let values = std::mem::take(&mut check.values);
    for (offset, pointer) in values {
        let what = match rel.overflow {
            None => Some("value in an overflow file that the table does not have".to_owned()),
            Some(file) => overflow::read(cx, file, pointer)
                .err()
                .map(|e| e.to_string()),
        };
        if let Some(what) = what {
            findings.push(Finding {
                block,
                offset: Some(offset),
                what,
            });
        }
    }
    Ok(())
}

struct PageCheck<'a> {
    rel: &'a Relation,
    block: BlockNumber,
    page: &'a PageBuf,
    findings: &'a mut Vec<Finding>,
    /// Values of versions that somebody may need.
    values: Vec<(OffsetNumber, Pointer)>,
}

impl PageCheck<'_> {
    fn report(&mut self, offset: OffsetNumber, what: impl Into<String>) {
        self.findings.push(Finding {
            block: self.block,
            offset: Some(offset),
            what: what.into(),
        });
    }

    /// Items lie between `pd_upper` and `pd_special` and do not overlap; redirects lead to heap-only versions.
    fn line_pointers(&mut self) {
        let mut spans: Vec<(u16, u16, OffsetNumber)> = Vec::new();
        for offset in page::offsets(self.page) {
            match page::item_state(self.page, offset) {
                ItemState::Normal { offset: start, len } => {
                    let end = usize::from(start) + usize::from(len);
                    if start < page::upper(self.page)
                        || end > usize::from(page::special_start(self.page)).min(PAGE_SIZE)
                    {
                        self.report(
                            offset,
                            format!(
                                "line pointer to {start}, length {len}, leaves the page's items"
                            ),
                        );
                    } else {
                        spans.push((start, len, offset));
                    }
                }
                ItemState::Redirect(to) => {
                    let target = page::item(self.page, to).and_then(TupleHeader::read);
                    if !target.is_some_and(|h| h.has(HEAP_ONLY)) {
                        self.report(
                            offset,
                            format!(
                                "redirect to line pointer {}, which has no heap-only version",
                                to.raw()
                            ),
                        );
                    }
                }
                ItemState::Dead | ItemState::Unused => {}
            }
        }
        spans.sort_unstable_by_key(|(start, ..)| *start);
        for pair in spans.windows(2) {
            if pair[0].0 + pair[0].1 > pair[1].0 {
                self.report(
                    pair[1].2,
                    format!("item overlaps that of line pointer {}", pair[0].2.raw()),
                );
            }
        }
    }

    fn version(&mut self, cx: TableCx<'_>, offset: OffsetNumber) {
        let Some(item) = page::item(self.page, offset) else {
            return;
        };
        let Some(header) = TupleHeader::read(item) else {
            self.report(
                offset,
                format!(
                    "row version of {} bytes is shorter than its header",
                    item.len()
                ),
            );
            return;
        };
        if !header.xmin.is_valid() {
            self.report(offset, "row version has no xmin");
        }
        let next_xid = cx.txns.next_xid();
        for (name, xid) in [("xmin", header.xmin), ("xmax", header.xmax)] {
            if xid >= next_xid && xid != Xid::INVALID {
                self.report(
                    offset,
                    format!("{name} {xid} equals or exceeds next transaction ID {next_xid}"),
                );
                return;
            }
        }
        if usize::from(header.natts) > self.rel.columns.len() {
            self.report(
                offset,
                format!(
                    "number of attributes {} exceeds the table's {}",
                    header.natts,
                    self.rel.columns.len()
                ),
            );
            return;
        }
        if header.has(HAS_NULLS) && item.len() < header.values_at() {
            self.report(offset, "row version is shorter than its bitmap of NULLs");
            return;
        }
        self.chain(offset, &header);
        self.attributes(cx, offset, item, &header);
    }

    fn chain(&mut self, offset: OffsetNumber, header: &TupleHeader) {
        if !header.has(HOT_UPDATED) || header.has(LOCK_ONLY) {
            return;
        }
        match header.next() {
            None => self.report(offset, "version updated on its page has no next version"),
            Some(next) if next.block != self.block => {
                self.report(
                    offset,
                    format!("version updated on its page leads to {next}"),
                );
            }
            Some(Tid { offset: to, .. }) => {
                let target = page::item(self.page, to).and_then(TupleHeader::read);
                if let Some(target) = target
                    && target.xmin == header.xmax
                    && !target.has(HEAP_ONLY)
                {
                    self.report(offset, format!("version updated on its page leads to line pointer {}, which is not heap-only", to.raw()));
                }
            }
        }
    }

    fn attributes(
        &mut self,
        cx: TableCx<'_>,
        offset: OffsetNumber,
        item: &[u8],
        header: &TupleHeader,
    ) {
        let horizon = cx.txns.oldest_needed();
        let needed = !matches!(
            visibility::fate(header, cx.txns, &horizon),
            Fate::Dead { .. }
        );
        let mut used = header.values_at();
        let mut overflows = false;
        for attribute in Attributes::of(self.rel, item) {
            match attribute {
                Err(what) => {
                    self.report(offset, what);
                    return;
                }
                Ok((column, raw, stored)) => {
                    used += raw.len();
                    if stored == Stored::Null && self.rel.columns[column].not_null {
                        self.report(
                            offset,
                            format!("column {} is NULL but must not be", column + 1),
                        );
                    }
                    if let Stored::Overflow(pointer) = stored {
                        overflows = true;
                        if needed {
                            self.values.push((offset, pointer));
                        }
                    }
                }
            }
        }
        if used != item.len() {
            self.report(
                offset,
                format!(
                    "row version has {} bytes, its attributes end at {used}",
                    item.len()
                ),
            );
        }
        if overflows != header.has(HAS_OVERFLOW) {
            self.report(offset, "flag for overflow values is wrong");
        }
    }
}
