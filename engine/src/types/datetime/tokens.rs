//! Splitting date, time and interval text into typed fields, and the words that may stand in them.

/// What a field looks like; what it means depends on its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `1999-01-08`, `jan-8-99`, and zone names with punctuation.
    Date,
    /// `04:05:06.789`
    Time,
    /// `+03`, `-8:00`
    Zone,
    Number,
    Word,
    /// `-infinity`: a word behind a sign.
    Special,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub kind: Kind,
    /// Lower case.
    pub text: String,
}

/// More fields than any sane input has.
const MAX_FIELDS: usize = 25;

struct Scan<'a> {
    rest: &'a [u8],
    text: String,
}

impl Scan<'_> {
    fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }
    fn take(&mut self) {
        if let Some((first, rest)) = self.rest.split_first() {
            self.text.push(char::from(first.to_ascii_lowercase()));
            self.rest = rest;
        }
    }
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while wanted(self.peek()) {
            self.take();
        }
    }
}

/// The fields of `input`, or `None` if no date, time or interval looks like that.
pub(crate) fn split(input: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut scan = Scan {
        rest: input.as_bytes(),
        text: String::new(),
    };
    while let Some(&c) = scan.rest.first() {
        if c.is_ascii_whitespace() || c == 0x0b {
            scan.rest = &scan.rest[1..];
            continue;
        }
        scan.text.clear();
        let kind = if c.is_ascii_digit() {
            number_like(&mut scan)
        } else if c == b'.' {
            scan.take();
            scan.take_while(|b| b.is_ascii_digit());
            Kind::Number
        } else if c.is_ascii_alphabetic() {
            word_like(&mut scan)
        } else if c == b'+' || c == b'-' {
            signed(&mut scan)?
        } else if c.is_ascii_punctuation() {
            scan.rest = &scan.rest[1..];
            continue;
        } else {
            return None;
        };
        if fields.len() >= MAX_FIELDS {
            return None;
        }
        fields.push(Field {
            kind,
            text: scan.text.clone(),
        });
    }
    Some(fields)
}

fn number_like(scan: &mut Scan<'_>) -> Kind {
    scan.take_while(|b| b.is_ascii_digit());
    let delimiter = scan.peek();
    match delimiter {
        b':' => {
            scan.take_while(|b| b.is_ascii_digit() || b == b':' || b == b'.');
            Kind::Time
        }
        b'-' | b'/' | b'.' => {
            scan.take();
            if scan.peek().is_ascii_digit() {
                scan.take_while(|b| b.is_ascii_digit());
                if scan.peek() == delimiter {
                    scan.take_while(|b| b.is_ascii_digit() || b == delimiter);
                    return Kind::Date;
                }
                if delimiter == b'.' {
                    Kind::Number
                } else {
                    Kind::Date
                }
            } else {
                scan.take_while(|b| b.is_ascii_alphanumeric() || b == delimiter);
                Kind::Date
            }
        }
        _ => Kind::Number,
    }
}

fn word_like(scan: &mut Scan<'_>) -> Kind {
    scan.take_while(|b| b.is_ascii_alphabetic());
    let next = scan.peek();
    let joined = matches!(next, b'-' | b'/' | b'.')
        || ((next == b'+' || next.is_ascii_digit()) && word(&scan.text).is_none());
    if joined {
        scan.take_while(|b| {
            matches!(b, b'+' | b'-' | b'/' | b'_' | b'.' | b':') || b.is_ascii_alphanumeric()
        });
        return Kind::Date;
    }
    Kind::Word
}

fn signed(scan: &mut Scan<'_>) -> Option<Kind> {
    scan.take();
    while scan.peek().is_ascii_whitespace() {
        scan.rest = &scan.rest[1..];
    }
    if scan.peek().is_ascii_digit() {
        scan.take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-'));
        Some(Kind::Zone)
    } else if scan.peek().is_ascii_alphabetic() {
        scan.take_while(|b| b.is_ascii_alphabetic());
        Some(Kind::Special)
    } else {
        None
    }
}

/// A word of date and time text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Month(i32),
    /// 0 is Sunday.
    Weekday,
    Am,
    Pm,
    /// `bc` is true.
    Era(bool),
    Now,
    Today,
    Tomorrow,
    Yesterday,
    Epoch,
    Infinity,
    MinusInfinity,
    /// `allballs`: midnight UTC.
    Midnight,
    /// `at`, `on`: no meaning.
    Ignored,
    /// `dst` behind a zone.
    Dst,
    /// `j`: the number that follows is a Julian day.
    Julian,
    /// `t`: a time follows.
    TimeMark,
    /// Unit letters of ISO fields: y, m, d, h, s, mm: read as units of the number before.
    Unit,
}

pub(crate) fn word(text: &str) -> Option<Word> {
    // PostgreSQL compares the first ten letters.
    let text = text.get(..10).unwrap_or(text);
    Some(match text {
        "jan" | "january" => Word::Month(1),
        "feb" | "february" => Word::Month(2),
        "mar" | "march" => Word::Month(3),
        "apr" | "april" => Word::Month(4),
        "may" => Word::Month(5),
        "jun" | "june" => Word::Month(6),
        "jul" | "july" => Word::Month(7),
        "aug" | "august" => Word::Month(8),
        "sep" | "sept" | "september" => Word::Month(9),
        "oct" | "october" => Word::Month(10),
        "nov" | "november" => Word::Month(11),
        "dec" | "december" => Word::Month(12),
        "sun" | "sunday" | "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "wednesday"
        | "weds" | "thu" | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat"
        | "saturday" => Word::Weekday,
        "am" => Word::Am,
        "pm" => Word::Pm,
        "ad" => Word::Era(false),
        "bc" => Word::Era(true),
        "now" => Word::Now,
        "today" => Word::Today,
        "tomorrow" => Word::Tomorrow,
        "yesterday" => Word::Yesterday,
        "epoch" => Word::Epoch,
        "infinity" => Word::Infinity,
        "-infinity" => Word::MinusInfinity,
        "allballs" => Word::Midnight,
        "at" | "on" => Word::Ignored,
        "dst" => Word::Dst,
        "j" | "jd" | "julian" => Word::Julian,
        "t" => Word::TimeMark,
        "d" | "h" | "m" | "mm" | "s" | "y" | "isodow" | "isoyear" | "dow" | "doy" => Word::Unit,
        _ => return None,
    })
}
