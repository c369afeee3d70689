//! Timeline history: which timeline owns which part of the log.
//!
//! A history file (`00000003.history`) has a line for each ancestor, oldest first: its id, where the next one
//! began, and why, separated by tabs. It is written once, by rename, before the timeline's first record. One that does
//! not end with the end of a line was cut, by a copy that is under way for instance: a shorter switch point would be
//! another one. Source: PostgreSQL 15, `timeline.c`.

use std::io;
use std::path::Path;

use crate::ids::{Lsn, SegmentNumber, TimelineId};
use crate::io::{Disk, durable};

use super::error::WalError;

/// A timeline's ancestors and itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Oldest first, without the timeline itself.
    ancestors: Vec<Ancestor>,
    timeline: TimelineId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ancestor {
    pub timeline: TimelineId,
    /// Where the next timeline began.
    pub end: Lsn,
    pub reason: String,
}

impl History {
    /// A timeline without ancestors.
    pub fn root(timeline: TimelineId) -> History {
        History {
            ancestors: Vec::new(),
            timeline,
        }
    }
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }
    /// This history's continuation on a new timeline from `end` on.
    #[must_use]
    pub fn fork(&self, timeline: TimelineId, end: Lsn, reason: &str) -> History {
        assert!(
            timeline > self.timeline,
            "a new timeline must have a higher number"
        );
        let mut ancestors = self.ancestors.clone();
        ancestors.push(Ancestor {
            timeline: self.timeline,
            end,
            reason: reason.to_owned(),
        });
        History {
            ancestors,
            timeline,
        }
    }

    /// The timeline that owns the byte at `lsn`.
    pub fn owner(&self, lsn: Lsn) -> TimelineId {
        let ancestor = self.ancestors.iter().find(|a| lsn < a.end);
        ancestor.map_or(self.timeline, |a| a.timeline)
    }
    /// Where `timeline` ended: `None` for the newest one (it goes on) and for strangers.
    pub fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.ancestors
            .iter()
            .find(|a| a.timeline == timeline)
            .map(|a| a.end)
    }
    /// Where `timeline` began: 0 for the oldest; `None` for strangers.
    pub fn begin_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let index = self
            .ancestors
            .iter()
            .position(|a| a.timeline == timeline)
            .or_else(|| (timeline == self.timeline).then_some(self.ancestors.len()))?;
        Some(if index == 0 {
            Lsn::INVALID
        } else {
            self.ancestors[index - 1].end
        })
    }
    pub fn contains(&self, timeline: TimelineId) -> bool {
        timeline == self.timeline || self.ancestors.iter().any(|a| a.timeline == timeline)
    }
    /// Up to where this history and `other` are the same log; `None` if neither leaves the other anywhere that is known,
    /// or they have no timeline in common.
    pub fn fork_from(&self, other: &History) -> Option<Lsn> {
        let mut newest_first =
            std::iter::once(self.timeline).chain(self.ancestors.iter().rev().map(|a| a.timeline));
        let last = newest_first.find(|t| other.contains(*t))?;
        let ends = [self.end_of(last), other.end_of(last)];
        ends.into_iter().flatten().min()
    }

    /// Under which timelines' names the bytes of a segment may be found, best first: never one that began only
    /// in a later segment.
    pub fn candidates(
        &self,
        segment: SegmentNumber,
        segment_size: u32,
    ) -> impl Iterator<Item = TimelineId> + '_ {
        let newest_first =
            std::iter::once(self.timeline).chain(self.ancestors.iter().rev().map(|a| a.timeline));
        newest_first.filter(move |timeline| {
            let begin = self.begin_of(*timeline).unwrap_or(Lsn::INVALID);
            begin.segment(segment_size) <= segment
        })
    }

    /// The history file's text.
    pub fn to_text(&self) -> String {
        self.ancestors
            .iter()
            .map(|a| format!("{}\t{}\t{}\n", a.timeline, a.end, a.reason))
            .collect()
    }

    /// Reads the text of `timeline`'s history file. Empty lines and lines with `#` are comments. A text without any
    /// ancestor, or without the end of its last line, is no history.
    pub fn parse(timeline: TimelineId, text: &str) -> Result<History, WalError> {
        let file = || timeline.history_file_name();
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for line in text.lines() {
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let syntax = || WalError::HistorySyntax {
                file: file(),
                line: line.to_owned(),
            };
            let mut fields = trimmed.splitn(3, |c: char| c.is_ascii_whitespace());
            let id = fields
                .next()
                .and_then(|f| f.parse().ok())
                .ok_or_else(syntax)?;
            let end = fields
                .next()
                .and_then(|f| f.parse().ok())
                .ok_or_else(syntax)?;
            let reason = fields.next().unwrap_or("").to_owned();
            let id = TimelineId::new(id);
            let grows = ancestors
                .last()
                .is_none_or(|last| last.timeline < id && last.end <= end);
            if !grows || id >= timeline {
                return Err(WalError::HistoryOrder {
                    file: file(),
                    line: line.to_owned(),
                });
            }
            ancestors.push(Ancestor {
                timeline: id,
                end,
                reason,
            });
        }
        if ancestors.is_empty() || !text.ends_with('\n') {
            return Err(WalError::HistoryCut(file()));
        }
        Ok(History {
            ancestors,
            timeline,
        })
    }
}

/// Reads `timeline`'s history from `dir`; the first timeline has none. `None` where the file is missing.
pub fn read(
    disk: &dyn Disk,
    dir: &Path,
    timeline: TimelineId,
) -> Result<Option<History>, WalError> {
    if timeline == TimelineId::FIRST {
        return Ok(Some(History::root(timeline)));
    }
    let path = dir.join(timeline.history_file_name());
    match durable::read(disk, &path) {
        Ok(bytes) => History::parse(timeline, &String::from_utf8_lossy(&bytes)).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(WalError::io("read", path)(e)),
    }
}

/// Writes the history file durably. Telling the archiver is the caller's.
pub fn write(disk: &dyn Disk, dir: &Path, history: &History) -> Result<(), WalError> {
    let path = dir.join(history.timeline.history_file_name());
    durable::replace(disk, &path, history.to_text().as_bytes())
        .map_err(WalError::io("write to", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_round_trips_and_answers_who_owns_what() {
        let first = History::root(TimelineId::FIRST);
        let second = first.fork(
            TimelineId::new(2),
            Lsn::new(0x300_0100),
            "no recovery target specified",
        );
        let fourth = second.fork(TimelineId::new(4), Lsn::new(0x500_0000), "promoted");
        let text = fourth.to_text();
        assert_eq!(
            text,
            "1\t0/3000100\tno recovery target specified\n2\t0/5000000\tpromoted\n"
        );
        assert_eq!(
            History::parse(TimelineId::new(4), &text).expect("own text"),
            fourth
        );
        assert_eq!(first.fork_from(&fourth), Some(Lsn::new(0x300_0100)));
        assert_eq!(fourth.fork_from(&second), Some(Lsn::new(0x500_0000)));
        assert_eq!(second.fork_from(&second), None);
        // A third timeline that began earlier, and is nobody's child here.
        let third = first.fork(TimelineId::new(3), Lsn::new(0x200_0000), "elsewhere");
        assert_eq!(fourth.fork_from(&third), Some(Lsn::new(0x200_0000)));
        for (lsn, owner) in [
            (0x300_00FF, 1),
            (0x300_0100, 2),
            (0x4FF_FFFF, 2),
            (0x500_0000, 4),
        ] {
            assert_eq!(
                fourth.owner(Lsn::new(lsn)),
                TimelineId::new(owner),
                "at {lsn:X}"
            );
        }
        let seg = |n| {
            fourth
                .candidates(SegmentNumber::new(n), 16 << 20)
                .map(TimelineId::raw)
        };
        assert_eq!(seg(3).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(seg(5).collect::<Vec<_>>(), [4, 2, 1]);
        assert_eq!(
            fourth.begin_of(TimelineId::new(2)),
            Some(Lsn::new(0x300_0100))
        );
        assert_eq!(fourth.end_of(TimelineId::new(4)), None);
    }

    #[test]
    fn bad_histories_are_refused() {
        let three = TimelineId::new(3);
        for text in [
            "x\t0/1\ty\n",
            "1\n",
            "1\t0/5\n1\t0/6\n",
            "2\t0/5\n1\t0/6\n",
            "3\t0/5\n",
            "1\t18446744073709551616/0\n",
            "99999999999\t0/5\n",
            "\u{fffd}\0\n",
        ] {
            let error = History::parse(three, text).expect_err(text);
            assert!(error.is_damaged_history(), "{text:?}: {error}");
            assert!(error.to_string().contains("00000003.history"), "{error}");
        }
        assert!(History::parse(three, "# comment\n\n1\t0/5\n").is_ok());
    }

    /// The reason may be any text, so only the end of the line says that all of it is there.
    #[test]
    fn no_part_of_a_history_is_taken_for_the_whole() {
        let whole = "1\t0/3000100\tno recovery target specified\n2\t0/5000000\tpromoted\n";
        let first_line = whole.find('\n').expect("two lines") + 1;
        let four = TimelineId::new(4);
        for len in (0..whole.len()).filter(|len| *len != first_line) {
            let error = History::parse(four, &whole[..len]).expect_err(&whole[..len]);
            assert!(error.is_damaged_history(), "{len}: {error}");
        }
        assert!(History::parse(four, whole).is_ok());
    }
}
