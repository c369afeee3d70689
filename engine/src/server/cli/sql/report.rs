//! Errors and notices as libpq words them, with the line of the query and a mark below the place.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use unicode_width::UnicodeWidthChar as _;

/// Columns of a query's line that are shown.
const SHOWN: usize = 60;
/// Columns that are left to the right of the place, where the line is cut on that side.
const RIGHT: usize = 10;

/// An error or a notice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub severity: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
    /// Characters from 1, in the query that was sent.
    pub position: Option<usize>,
    /// A query that the server made itself, and the place in it.
    pub internal: Option<(String, Option<usize>)>,
}

impl Report {
    pub fn of(mut fields: ErrorFields<'_>) -> Report {
        let mut report = Report::default();
        let (mut internal_query, mut internal_position) = (None, None);
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => report.severity = value,
                b'M' => report.message = value,
                b'D' => report.detail = Some(value),
                b'H' => report.hint = Some(value),
                b'W' => report.context = Some(value),
                b'P' => report.position = value.parse().ok(),
                b'q' => internal_query = Some(value),
                b'p' => internal_position = value.parse().ok(),
                _ => {}
            }
        }
        report.internal = internal_query.map(|query| (query, internal_position));
        report
    }

    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Lines, each with its end. CONTEXT is for errors only.
    pub fn text(&self, query: &str, is_error: bool) -> String {
        let mut out = format!("{}:  {}\n", self.severity, self.message);
        let place = match (self.position, &self.internal) {
            (Some(position), _) => Some((query, position)),
            (None, Some((query, Some(position)))) => Some((query.as_str(), *position)),
            (None, _) => None,
        };
        if let Some((query, position)) = place {
            out.push_str(&marked_line(query, position).unwrap_or_default());
        }
        let internal = self.internal.as_ref().map(|(query, _)| query);
        let context = self.context.as_ref().filter(|_| is_error);
        for (label, text) in [
            ("DETAIL", self.detail.as_ref()),
            ("HINT", self.hint.as_ref()),
            ("QUERY", internal),
            ("CONTEXT", context),
        ] {
            if let Some(text) = text {
                out.push_str(&format!("{label}:  {text}\n"));
            }
        }
        out
    }
}

/// `LINE n: ` with the line of the query that the position (from 1) is in, and a mark below it. A long line is cut on
/// the right, where that leaves enough behind the place, else on both sides.
fn marked_line(query: &str, position: usize) -> Option<String> {
    let chars: Vec<char> = query.chars().collect();
    let place = position.checked_sub(1).filter(|at| *at <= chars.len())?;
    let is_end = |c: char| c == '\n' || c == '\r';
    let (mut number, mut begin) = (1, 0);
    for (at, c) in chars[..place].iter().enumerate() {
        if is_end(*c) {
            let is_second_half = *c == '\n' && at > 0 && chars[at - 1] == '\r';
            number += usize::from(!is_second_half);
            begin = at + 1;
        }
    }
    let rest = chars[place..].iter().position(|c| is_end(*c));
    let mut end = rest.map_or(chars.len(), |length| place + length);
    let width = |from: usize, to: usize| -> usize { chars[from..to].iter().map(columns).sum() };
    let (mut is_cut_left, mut is_cut_right) = (false, false);
    if width(begin, end) > SHOWN {
        if width(begin, place) + RIGHT <= SHOWN {
            while width(begin, end) > SHOWN {
                end -= 1;
            }
            is_cut_right = true;
        } else {
            while width(place, end) > RIGHT {
                end -= 1;
                is_cut_right = true;
            }
            while width(begin, end) > SHOWN {
                begin += 1;
                is_cut_left = true;
            }
        }
    }
    let lead = format!("LINE {number}: {}", if is_cut_left { "..." } else { "" });
    let shown: String = chars[begin..end]
        .iter()
        .map(|c| if *c == '\t' { ' ' } else { *c })
        .collect();
    let tail = if is_cut_right { "..." } else { "" };
    let indent = " ".repeat(lead.len() + width(begin, place));
    Some(format!("{lead}{shown}{tail}\n{indent}^\n"))
}

fn columns(c: &char) -> usize {
    c.width().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_place_is_marked() {
        assert_eq!(
            marked_line("select x;", 8).as_deref(),
            Some("LINE 1: select x;\n               ^\n")
        );
        assert_eq!(
            marked_line("select\r\n1,\n\tx", 13).as_deref(),
            Some("LINE 3:  x\n         ^\n")
        );
        assert_eq!(
            marked_line("é日x", 3).as_deref(),
            Some("LINE 1: é日x\n           ^\n")
        );
        assert_eq!(marked_line("x", 0), None);
        assert_eq!(marked_line("x", 9), None);
        assert_eq!(
            marked_line("x", 2).as_deref(),
            Some("LINE 1: x\n         ^\n")
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let long = format!("{}x{}", "a".repeat(100), "b".repeat(100));
        let text = marked_line(&long, 101).expect("within");
        let mut lines = text.lines();
        let (shown, mark) = (lines.next().expect("one"), lines.next().expect("two"));
        assert_eq!(shown.len(), "LINE 1: ......".len() + 60);
        assert_eq!(shown.find('x'), mark.find('^'));
        assert!(shown.ends_with("bbb..."), "{shown}");
    }
}
