//! Lock modes and who conflicts with whom. Manual, 13.3.1 and 13.3.2.

use std::fmt;

/// The eight table lock modes, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    AccessShare = 1,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl LockMode {
    pub const ALL: [LockMode; 8] = [
        LockMode::AccessShare,
        LockMode::RowShare,
        LockMode::RowExclusive,
        LockMode::ShareUpdateExclusive,
        LockMode::Share,
        LockMode::ShareRowExclusive,
        LockMode::Exclusive,
        LockMode::AccessExclusive,
    ];

    pub(crate) const fn bit(self) -> u16 {
        1 << (self as u16)
    }

    /// The set of modes that this one cannot stand beside, as bits.
    pub(crate) const fn conflicts(self) -> u16 {
        use LockMode as M;
        match self {
            M::AccessShare => M::AccessExclusive.bit(),
            M::RowShare => M::Exclusive.bit() | M::AccessExclusive.bit(),
            M::RowExclusive => {
                M::Share.bit()
                    | M::ShareRowExclusive.bit()
                    | M::Exclusive.bit()
                    | M::AccessExclusive.bit()
            }
            M::ShareUpdateExclusive => {
                M::ShareUpdateExclusive.bit()
                    | M::Share.bit()
                    | M::ShareRowExclusive.bit()
                    | M::Exclusive.bit()
                    | M::AccessExclusive.bit()
            }
            M::Share => {
                M::RowExclusive.bit()
                    | M::ShareUpdateExclusive.bit()
                    | M::ShareRowExclusive.bit()
                    | M::Exclusive.bit()
                    | M::AccessExclusive.bit()
            }
            M::ShareRowExclusive => {
                M::RowExclusive.bit()
                    | M::ShareUpdateExclusive.bit()
                    | M::Share.bit()
                    | M::ShareRowExclusive.bit()
                    | M::Exclusive.bit()
                    | M::AccessExclusive.bit()
            }
            M::Exclusive => {
                M::RowShare.bit()
                    | M::RowExclusive.bit()
                    | M::ShareUpdateExclusive.bit()
                    | M::Share.bit()
                    | M::ShareRowExclusive.bit()
                    | M::Exclusive.bit()
                    | M::AccessExclusive.bit()
            }
            M::AccessExclusive => 0b1_1111_1110,
        }
    }

    pub const fn conflicts_with(self, other: LockMode) -> bool {
        self.conflicts() & other.bit() != 0
    }

    /// Modes that never conflict with one another, so that their holders need not know of each other.
    pub(crate) const fn is_weak(self) -> bool {
        (self as u8) < LockMode::ShareUpdateExclusive as u8
    }

    /// The name that `pg_locks` and deadlock reports show.
    pub const fn name(self) -> &'static str {
        match self {
            LockMode::AccessShare => "AccessShareLock",
            LockMode::RowShare => "RowShareLock",
            LockMode::RowExclusive => "RowExclusiveLock",
            LockMode::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            LockMode::Share => "ShareLock",
            LockMode::ShareRowExclusive => "ShareRowExclusiveLock",
            LockMode::Exclusive => "ExclusiveLock",
            LockMode::AccessExclusive => "AccessExclusiveLock",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The four row lock modes, weakest first: FOR KEY SHARE, FOR SHARE, FOR NO KEY UPDATE, FOR UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowLockMode {
    KeyShare,
    Share,
    NoKeyExclusive,
    Exclusive,
}

impl RowLockMode {
    pub const fn conflicts_with(self, other: RowLockMode) -> bool {
        use RowLockMode::{Exclusive, KeyShare, NoKeyExclusive, Share};
        match self {
            KeyShare => matches!(other, Exclusive),
            Share => matches!(other, NoKeyExclusive | Exclusive),
            NoKeyExclusive => matches!(other, Share | NoKeyExclusive | Exclusive),
            Exclusive => true,
        }
    }

    /// The mode in which who waits for a row stands in its queue: two of them are in each other's way if the row
    /// locks are.
    pub const fn queue_mode(self) -> LockMode {
        match self {
            RowLockMode::KeyShare => LockMode::AccessShare,
            RowLockMode::Share => LockMode::RowShare,
            RowLockMode::NoKeyExclusive => LockMode::Exclusive,
            RowLockMode::Exclusive => LockMode::AccessExclusive,
        }
    }

    /// Whether several transactions may hold it on one row.
    pub const fn is_shared(self) -> bool {
        matches!(self, RowLockMode::KeyShare | RowLockMode::Share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 13.2 of the manual, row by row; `x` is a conflict.
    const TABLE: [&str; 8] = [
        ".......x", "......xx", "....xxxx", "...xxxxx", "..xx.xxx", "..xxxxxx", ".xxxxxxx",
        "xxxxxxxx",
    ];

    #[test]
    fn table_modes_conflict_as_the_manual_says() {
        for (a, row) in LockMode::ALL.into_iter().zip(TABLE) {
            for (b, cell) in LockMode::ALL.into_iter().zip(row.chars()) {
                assert_eq!(a.conflicts_with(b), cell == 'x', "{a} and {b}");
                assert_eq!(a.conflicts_with(b), b.conflicts_with(a));
            }
        }
    }

    #[test]
    fn row_modes_conflict_as_the_manual_says() {
        use RowLockMode::{Exclusive, KeyShare, NoKeyExclusive, Share};
        let table = [
            (KeyShare, "...x"),
            (Share, "..xx"),
            (NoKeyExclusive, ".xxx"),
            (Exclusive, "xxxx"),
        ];
        for (a, row) in table {
            for (b, cell) in [KeyShare, Share, NoKeyExclusive, Exclusive]
                .into_iter()
                .zip(row.chars())
            {
                assert_eq!(a.conflicts_with(b), cell == 'x', "{a:?} and {b:?}");
                let queues = a.queue_mode().conflicts_with(b.queue_mode());
                assert_eq!(queues, a.conflicts_with(b), "{a:?} and {b:?} in the queue");
            }
        }
    }
}
