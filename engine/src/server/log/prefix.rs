//! `log_line_prefix` (manual, 20.8.3), read once and written for each line.

use std::fmt::Write;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::identity::SessionIdentity;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    Escape {
        what: char,
        padding: i32,
    },
    /// `%q`: lines that belong to no session stop here.
    SessionsOnly,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(Vec<Item>);

impl Prefix {
    pub(super) fn parse(text: &str) -> Prefix {
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let mut number = String::new();
            if chars.peek() == Some(&'-') {
                number.extend(chars.next());
            }
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                number.push(d);
            }
            let padding = number.parse().unwrap_or(0);
            match chars.next() {
                Some('%') => literal.push('%'),
                Some(what) => {
                    if !literal.is_empty() {
                        items.push(Item::Literal(std::mem::take(&mut literal)));
                    }
                    items.push(match what {
                        'q' => Item::SessionsOnly,
                        what => Item::Escape { what, padding },
                    });
                }
                None => {}
            }
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Prefix(items)
    }

    pub(super) fn write(
        &self,
        out: &mut String,
        who: Option<&SessionIdentity>,
        now: Timestamp,
        zone: &TimeZone,
        state: Option<&str>,
    ) {
        for item in &self.0 {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::SessionsOnly if who.is_none() => return,
                Item::SessionsOnly => {}
                Item::Escape { what, padding } => {
                    let text = escape(*what, who, now, zone, state);
                    let width = padding.unsigned_abs() as usize;
                    // Writing to a String cannot fail.
                    let _ = if *padding < 0 {
                        write!(out, "{text:<width$}")
                    } else {
                        write!(out, "{text:>width$}")
                    };
                }
            }
        }
    }
}

/// When this process started, for lines outside of sessions.
fn process_start() -> Timestamp {
    static START: OnceLock<Timestamp> = OnceLock::new();
    *START.get_or_init(Timestamp::now)
}

fn escape(
    what: char,
    who: Option<&SessionIdentity>,
    now: Timestamp,
    zone: &TimeZone,
    state: Option<&str>,
) -> String {
    let names = who.map(|w| w.names.load_full());
    let known = |text: Option<&str>, who: Option<&SessionIdentity>| match (
        text.filter(|t| !t.is_empty()),
        who,
    ) {
        (Some(t), _) => t.to_owned(),
        (None, Some(_)) => "[unknown]".to_owned(),
        (None, None) => String::new(),
    };
    let pid = who.map_or_else(std::process::id, |w| w.pid);
    let start = who.map_or_else(process_start, |w| w.started);
    match what {
        'a' => known(names.as_ref().and_then(|n| n.application.as_deref()), who),
        'u' => known(names.as_ref().and_then(|n| n.user.as_deref()), who),
        'd' => known(names.as_ref().and_then(|n| n.database.as_deref()), who),
        'b' => who
            .map_or("postmaster", |w| w.backend_type.name())
            .to_owned(),
        'r' => match who {
            Some(w) => w.remote.map_or("[local]".to_owned(), |r| {
                format!("{}({})", r.ip(), r.port())
            }),
            None => String::new(),
        },
        'h' => match who {
            Some(w) => w
                .remote
                .map_or("[local]".to_owned(), |r| r.ip().to_string()),
            None => String::new(),
        },
        'p' => pid.to_string(),
        't' => stamp(now, zone, false),
        'm' => stamp(now, zone, true),
        'n' => format!("{}.{:03}", now.as_second(), now.subsec_millisecond()),
        's' => stamp(start, zone, false),
        'i' => who.map_or("", SessionIdentity::command).to_owned(),
        'e' => state.unwrap_or("00000").to_owned(),
        'c' => format!("{:x}.{pid:x}", start.as_second()),
        'l' => who.map_or(1, SessionIdentity::next_line).to_string(),
        'x' => who
            .and_then(SessionIdentity::running_xid)
            .map_or("0".to_owned(), |xid| xid.low().to_string()),
        'v' => who
            .and_then(SessionIdentity::virtual_transaction)
            .unwrap_or_default(),
        // Nothing computes query ids (`compute_query_id = auto` without an extension that asks for them).
        'Q' => "0".to_owned(),
        _ => String::new(),
    }
}

fn stamp(at: Timestamp, zone: &TimeZone, milliseconds: bool) -> String {
    let local = at.to_zoned(zone.clone());
    let format = if milliseconds {
        "%Y-%m-%d %H:%M:%S.%3f %Z"
    } else {
        "%Y-%m-%d %H:%M:%S %Z"
    };
    local.strftime(format).to_string()
}
