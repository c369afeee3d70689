//! Pruning: taking versions that nobody can see any more off a page.
//!
//! Looks at one page only, under its exclusive latch. The line pointer that indexes know stays: it becomes a
//! redirect to the oldest version still needed, or dead if none is; heap-only versions go without trace. Items move,
//! offsets do not, so nobody who holds a pin or an offset minds. The record carries the newest commit that a removed
//! version was deleted by: standby snapshots older than that conflict.

use crate::ids::{Lsn, OffsetNumber, Xid};
use crate::storage::page::{self, ItemState};
use crate::storage::{BlockMode, Change, PageBuf, PageRead, PageWrite, Pinned};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::page_ops::{self, Prune};
use crate::table::tuple::{HEAP_ONLY, HOT_UPDATED, TupleHeader};
use crate::table::visibility::{self, Fate};
use crate::txn::Horizon;
use crate::txn::transaction::Outcome;
use crate::wal::RmgrId;

/// Readers prune pages with less room than this.
const LITTLE_ROOM: usize = crate::ids::PAGE_SIZE / 10;

/// A page that is nearly full and has something that might go.
fn is_worth_it(page: &PageBuf) -> bool {
    page::prune_hint(page) != 0 && page::gap(page) < LITTLE_ROOM
}

/// Whether the transaction that the page's hint names has ended for everyone. The hint is the low half of its id,
/// which was handed out less than 2^32 ids ago; a wrong guess only costs or saves an attempt.
fn hint_is_old(cx: TableCx<'_>, page: &PageBuf, horizon: &Horizon) -> bool {
    let hint = page::prune_hint(page);
    if hint == 0 {
        return false;
    }
    let next = cx.txns.next_xid();
    let near = Xid::from_halves(next.high(), hint);
    let xid = if near < next {
        near
    } else {
        Xid::from_halves(next.high().saturating_sub(1), hint)
    };
    match cx.txns.outcome(xid) {
        Outcome::InProgress => false,
        Outcome::Aborted | Outcome::Committed { lsn: None } => true,
        Outcome::Committed { lsn: Some(lsn) } => lsn <= horizon.lsn,
    }
}

/// A read latch on the page, pruned before if it was nearly full and nobody was in the way.
pub(in crate::table) fn read_pruned<'p>(
    cx: TableCx<'_>,
    pin: &'p Pinned,
) -> Result<PageRead<'p>, TableError> {
    let page = pin.read();
    if !is_worth_it(&page) || cx.store.wal.in_recovery() {
        return Ok(page);
    }
    let horizon = cx.txns.recent_horizon();
    if !hint_is_old(cx, &page, &horizon) {
        return Ok(page);
    }
    drop(page);
    if let Some(mut page) = pin.try_write()
        && is_worth_it(&page)
    {
        prune_page(cx, &mut page, &horizon, Indexed::Maybe)?;
    }
    Ok(pin.read())
}

/// For an update that found too little room on a page that it holds latched. True if something was removed.
pub(in crate::table) fn prune_for_update(
    cx: TableCx<'_>,
    page: &mut PageWrite<'_>,
) -> Result<bool, TableError> {
    if page::prune_hint(page) == 0 {
        return Ok(false);
    }
    let horizon = cx.txns.oldest_needed();
    if !hint_is_old(cx, page, &horizon) {
        return Ok(false);
    }
    prune_page(cx, page, &horizon, Indexed::Maybe).map(|removed| removed > 0)
}

/// Whether indexes may point to the page's line pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::table) enum Indexed {
    Maybe,
    /// Then dead line pointers are free at once.
    No,
}

/// Whether records may be written that say by which commits what they hide was made or ended: a standby takes their word
/// that those may be shown. Not after a recovery, before the required standbys have its end.
pub(in crate::table) fn may_remove(cx: TableCx<'_>) -> bool {
    cx.txns.snapshots_open()
}

/// Removes what can go; returns how many versions went.
pub(in crate::table) fn prune_page(
    cx: TableCx<'_>,
    page: &mut PageWrite<'_>,
    horizon: &Horizon,
    indexed: Indexed,
) -> Result<usize, TableError> {
    if !may_remove(cx) {
        return Ok(0);
    }
    let plan = plan(cx, page, horizon, indexed);
    if plan.prune.is_empty() && plan.prune.hint == page::prune_hint(page) {
        return Ok(0);
    }
    let mut change = Change::new(RmgrId::HEAP, page_ops::PRUNE, Xid::INVALID);
    change
        .block(page, BlockMode::Update, &plan.prune.data())
        .main(&plan.conflict.raw().to_le_bytes());
    change.commit(&cx.store.wal, page_ops::apply);
    Ok(plan.removed)
}

struct Plan {
    prune: Prune,
    /// The newest commit that removed a version; [`Lsn::INVALID`] if all that goes was never committed.
    conflict: Lsn,
    removed: usize,
}

struct Version {
    header: TupleHeader,
    fate: Fate,
    in_chain: bool,
}

struct Planner<'p> {
    page: &'p PageBuf,
    /// By offset; index 0 is not used.
    versions: Vec<Option<Version>>,
    indexed: Indexed,
    plan: Plan,
}

fn plan(cx: TableCx<'_>, page: &PageBuf, horizon: &Horizon, indexed: Indexed) -> Plan {
    let mut versions = Vec::with_capacity(usize::from(page::item_count(page)) + 1);
    versions.push(None);
    versions.extend(page::offsets(page).map(|offset| {
        let header = TupleHeader::read(page::item(page, offset)?)?;
        Some(Version {
            fate: visibility::fate(&header, cx.txns, horizon),
            header,
            in_chain: false,
        })
    }));
    let mut planner = Planner {
        page,
        versions,
        indexed,
        plan: Plan {
            prune: Prune::default(),
            conflict: Lsn::INVALID,
            removed: 0,
        },
    };
    for offset in page::offsets(page) {
        planner.look_at(offset);
    }
    planner.drop_orphans();
    planner.set_hint();
    planner.plan
}

impl Planner<'_> {
    fn version(&self, offset: OffsetNumber) -> Option<&Version> {
        self.versions.get(usize::from(offset.raw()))?.as_ref()
    }

    /// One line pointer that a chain may begin at.
    fn look_at(&mut self, root: OffsetNumber) {
        let first = match page::item_state(self.page, root) {
            ItemState::Normal { .. } => {
                match self.version(root) {
                    Some(v) if !v.header.has(HEAP_ONLY) => root,
                    // Reached from its chain's root, or an orphan.
                    _ => return,
                }
            }
            ItemState::Redirect(to) => to,
            ItemState::Dead if self.indexed == Indexed::No => {
                self.plan.prune.unused.push(root);
                return;
            }
            ItemState::Dead | ItemState::Unused => return,
        };
        let chain = self.chain(first);
        let dead = chain
            .iter()
            .rposition(|o| matches!(self.version(*o).map(|v| v.fate), Some(Fate::Dead { .. })));
        let Some(last_dead) = dead else {
            return;
        };
        for offset in &chain[..=last_dead] {
            self.remove(*offset, *offset != root);
        }
        match chain.get(last_dead + 1) {
            Some(next) => self.plan.prune.redirects.push((root, *next)),
            None if self.indexed == Indexed::No => self.plan.prune.unused.push(root),
            None => self.plan.prune.dead.push(root),
        }
    }

    /// The members from `first` on, up to the first that somebody may need.
    fn chain(&mut self, first: OffsetNumber) -> Vec<OffsetNumber> {
        let mut chain = Vec::new();
        let mut at = Some(first);
        let mut writer = None;
        while let Some(offset) = at.take() {
            let Some(Some(version)) = self.versions.get_mut(usize::from(offset.raw())) else {
                break;
            };
            if version.in_chain || writer.is_some_and(|xid| xid != version.header.xmin) {
                break;
            }
            version.in_chain = true;
            chain.push(offset);
            let gone = matches!(version.fate, Fate::Dead { .. } | Fate::RecentlyDead);
            if gone && version.header.has(HOT_UPDATED) {
                writer = Some(version.header.xmax);
                at = version.header.next().map(|next| next.offset);
            }
        }
        chain
    }

    fn remove(&mut self, offset: OffsetNumber, free_line: bool) {
        if let Some(Version {
            fate: Fate::Dead { removed: Some(lsn) },
            ..
        }) = self.version(offset)
        {
            self.plan.conflict = self.plan.conflict.max(*lsn);
        }
        self.plan.removed += 1;
        self.versions[usize::from(offset.raw())] = None;
        if free_line {
            self.plan.prune.unused.push(offset);
        }
    }

    /// Heap-only versions that no chain leads to: their transaction aborted.
    fn drop_orphans(&mut self) {
        for offset in page::offsets(self.page) {
            let orphan = self.version(offset).is_some_and(|v| {
                !v.in_chain && v.header.has(HEAP_ONLY) && matches!(v.fate, Fate::Dead { .. })
            });
            if orphan {
                self.remove(offset, true);
            }
        }
    }

    /// The oldest transaction whose end may make another version removable.
    fn set_hint(&mut self) {
        let oldest = self
            .versions
            .iter()
            .flatten()
            .filter(|v| matches!(v.fate, Fate::RecentlyDead | Fate::InProgress))
            .map(|v| {
                if v.header.xmax.is_valid() {
                    v.header.xmax
                } else {
                    v.header.xmin
                }
            })
            .min();
        self.plan.prune.hint = oldest.map_or(0, Xid::low);
    }
}
