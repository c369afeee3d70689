//! Pictures of numbers such as `FM999,990.00`, and `to_number`, which reads by them.

use crate::types::error::TypeError;
use crate::types::numeric::Numeric;
use crate::types::size;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    Nine,
    Zero,
    /// `.` and `D`.
    Point,
    Comma,
    Group,
    Currency,
    Minus,
    Plus,
    Sign,
    AnchoredSign,
    Bracket,
    Roman {
        lower: bool,
    },
    Ordinal {
        upper: bool,
    },
    Exponent,
    Shift,
    Blank,
    Nothing,
    Text(char),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SignPlace {
    None,
    Before,
    After,
}

/// What a picture asks for as a whole.
#[derive(Debug)]
pub(super) struct Picture {
    pub items: Vec<Item>,
    pub before: usize,
    pub after: usize,
    pub shift: usize,
    /// Place of the first 0 (from 1), and of the last.
    pub zero_start: usize,
    pub zero_end: usize,
    pub zero: bool,
    pub decimal: bool,
    pub fill: bool,
    pub sign: SignPlace,
    /// Digits before the S.
    pub sign_at: usize,
    pub bracket: bool,
    pub minus: bool,
    pub plus: bool,
    pub roman: bool,
    pub multi: bool,
    pub scientific: bool,
    /// A B that stands before all digits.
    pub blank: bool,
}

fn bad(message: &str) -> TypeError {
    TypeError::new("42601", message)
}

fn not_last() -> TypeError {
    bad("\"EEEE\" must be the last pattern used")
}

const WORDS: &[(&str, Item)] = &[
    ("EEEE", Item::Exponent),
    ("MI", Item::Minus),
    ("PL", Item::Plus),
    ("PR", Item::Bracket),
    ("SG", Item::Sign),
    // Known, and shown as nothing.
    ("SP", Item::Nothing),
    ("TH", Item::Ordinal { upper: true }),
    ("RN", Item::Roman { lower: false }),
    ("S", Item::AnchoredSign),
    ("V", Item::Shift),
    ("B", Item::Blank),
    ("C", Item::Nothing),
    ("D", Item::Point),
    ("G", Item::Group),
    ("L", Item::Currency),
    (".", Item::Point),
    (",", Item::Comma),
    ("0", Item::Zero),
    ("9", Item::Nine),
];

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

/// What a template asks for. Error 42601 where its patterns do not go together, 54000 where it is too long.
pub(super) fn picture(text: &str) -> Result<Picture, TypeError> {
    size::check(text.len().saturating_mul(size_of::<Item>()))?;
    let mut p = Picture {
        items: Vec::new(),
        before: 0,
        after: 0,
        shift: 0,
        zero_start: 0,
        zero_end: 0,
        zero: false,
        decimal: false,
        fill: true,
        sign: SignPlace::None,
        sign_at: 0,
        bracket: false,
        minus: false,
        plus: false,
        roman: false,
        multi: false,
        scientific: false,
        blank: false,
    };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let begins = |w: &str| {
            rest.get(..w.len())
                .is_some_and(|t| t == w || (t.eq_ignore_ascii_case(w) && !has_capitals(t)))
        };
        if begins("FM") {
            if p.scientific {
                return Err(not_last());
            }
            p.fill = false;
            rest = &rest[2..];
            continue;
        }
        if let Some(behind) = rest.strip_prefix("\\\"") {
            p.items.push(Item::Text('"'));
            rest = behind;
            continue;
        }
        if c == '"' {
            rest = &rest[1..];
            while let Some(q) = rest.chars().next() {
                rest = &rest[q.len_utf8()..];
                match q {
                    '"' => break,
                    '\\' => {
                        let quoted = rest.chars().next();
                        rest = &rest[quoted.map_or(0, char::len_utf8)..];
                        p.items.push(Item::Text(quoted.unwrap_or(q)));
                    }
                    q => p.items.push(Item::Text(q)),
                }
            }
            continue;
        }
        let found = WORDS.iter().find(|(w, _)| begins(w));
        let Some((word, item)) = found else {
            p.items.push(Item::Text(c));
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let lower = c.is_ascii_lowercase();
        rest = &rest[word.len()..];
        let item = match item {
            Item::Roman { .. } => Item::Roman { lower },
            Item::Ordinal { .. } => Item::Ordinal { upper: !lower },
            item => *item,
        };
        p.take(item)?;
        p.items.push(item);
    }
    Ok(p)
}

impl Picture {
    fn take(&mut self, item: Item) -> Result<(), TypeError> {
        if self.scientific && item != Item::Exponent {
            return Err(not_last());
        }
        match item {
            Item::Nine | Item::Zero => {
                if self.bracket {
                    let digit = if item == Item::Nine { '9' } else { '0' };
                    return Err(bad(&format!("\"{digit}\" must be ahead of \"PR\"")));
                }
                if item == Item::Nine && self.multi {
                    self.shift += 1;
                    return Ok(());
                }
                if item == Item::Zero && !self.zero && !self.decimal {
                    self.zero = true;
                    self.zero_start = self.before + 1;
                }
                if self.decimal {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
                if item == Item::Zero {
                    self.zero_end = self.before + self.after;
                }
            }
            Item::Point => {
                if self.decimal {
                    return Err(bad("multiple decimal points"));
                }
                if self.multi {
                    return Err(bad("cannot use \"V\" and decimal point together"));
                }
                self.decimal = true;
            }
            Item::AnchoredSign => {
                if self.sign != SignPlace::None {
                    return Err(bad("cannot use \"S\" twice"));
                }
                if self.plus || self.minus || self.bracket {
                    return Err(bad(
                        "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together",
                    ));
                }
                if self.decimal {
                    self.sign = SignPlace::After;
                } else {
                    self.sign = SignPlace::Before;
                    self.sign_at = self.before;
                }
            }
            Item::Minus | Item::Plus | Item::Sign => {
                if self.sign != SignPlace::None {
                    let word = match item {
                        Item::Minus => "MI",
                        Item::Plus => "PL",
                        _ => "SG",
                    };
                    return Err(bad(&format!("cannot use \"S\" and \"{word}\" together")));
                }
                self.minus |= item != Item::Plus;
                self.plus |= item != Item::Minus;
            }
            Item::Bracket => {
                if self.sign != SignPlace::None || self.plus || self.minus {
                    return Err(bad(
                        "cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together",
                    ));
                }
                self.bracket = true;
            }
            Item::Roman { .. } => self.roman = true,
            Item::Shift => {
                if self.decimal {
                    return Err(bad("cannot use \"V\" and decimal point together"));
                }
                self.multi = true;
            }
            Item::Exponent => {
                if self.scientific {
                    return Err(bad("cannot use \"EEEE\" twice"));
                }
                let mixed = self.blank
                    || !self.fill
                    || self.sign != SignPlace::None
                    || self.bracket
                    || self.minus
                    || self.plus
                    || self.roman
                    || self.multi;
                if mixed {
                    return Err(bad("\"EEEE\" is incompatible with other formats").with_detail(
                        "\"EEEE\" may only be used together with digit and decimal point patterns.",
                    ));
                }
                self.scientific = true;
            }
            Item::Blank => self.blank |= self.before + self.after == 0 && !self.zero,
            _ => {}
        }
        Ok(())
    }
}

/// `to_number` at work (`NUM_processor` of PostgreSQL's formatting.c, whose leniency is its users' habit): each place
/// of the picture reads, or skips, what stands there.
struct Reader<'a> {
    p: &'a Picture,
    text: &'a [u8],
    at: usize,
    sign: Option<u8>,
    /// Digits with the point.
    number: String,
    /// Digits before the point and behind it.
    before: usize,
    after: usize,
    point: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_character(&mut self) {
        self.at += match self.peek() {
            Some(0xC0..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..) => 4,
            _ => 1,
        };
    }

    /// At most `count` characters that no number has.
    fn skip_strange(&mut self, count: usize) {
        for _ in 0..count {
            match self.peek() {
                None | Some(b'0'..=b'9' | b'.' | b',' | b'+' | b'-') => break,
                Some(_) => self.skip_character(),
            }
        }
    }

    /// MI, PL and SG.
    fn sign_place(&mut self, signs: &[u8]) {
        match self.peek().filter(|b| signs.contains(b)) {
            Some(sign) => {
                self.sign = Some(sign);
                self.at += 1;
            }
            None => self.skip_strange(1),
        }
    }

    /// A 9, a 0 or the point: any of them reads a digit or the point, and a sign before or behind the number.
    fn digit(&mut self, is_point: bool) {
        if self.peek() == Some(b' ') {
            self.at += 1;
        }
        if self.sign.is_none() && !is_point && self.before + self.after == 0 {
            let sign = match self.peek() {
                Some(b'<') if self.p.bracket => Some(b'-'),
                other => other.filter(|b| matches!(b, b'-' | b'+')),
            };
            self.at += usize::from(sign.is_some());
            self.sign = sign;
        }
        let Some(byte) = self.peek() else { return };
        let mut read = false;
        if byte.is_ascii_digit() {
            if self.point && self.after == self.p.after {
                return;
            }
            if self.point {
                self.after += 1;
            } else {
                self.before += 1;
            }
            read = true;
        } else if byte == b'.' && self.p.decimal && !self.point {
            self.point = true;
            read = true;
        }
        if read {
            self.number.push(char::from(byte));
        }
        if self.sign.is_none() && self.before + self.after > 0 {
            self.sign_behind(read);
        }
    }

    fn sign_behind(&mut self, read: bool) {
        let sign = |byte: Option<&u8>| byte.copied().filter(|b| matches!(b, b'-' | b'+'));
        if self.p.sign != SignPlace::None {
            // S stands right behind the last digit.
            if read && let Some(found) = sign(self.text.get(self.at + 1)) {
                self.sign = Some(found);
                self.at += 1;
            }
        } else if !read && (self.p.plus || self.p.minus) {
            self.sign = sign(self.text.get(self.at));
        }
    }

    /// What `numeric_in` gets.
    fn taken(&self) -> String {
        let sign = char::from(self.sign.unwrap_or(b' '));
        format!("{sign}{}", self.number.trim_end_matches('.'))
    }
}

/// `to_number`: the digits, point and sign that the picture has places for.
fn number_from(text: &str, template: &str) -> Result<Numeric, TypeError> {
    let p = picture(template)?;
    if p.scientific {
        return Err(TypeError::new("0A000", "\"EEEE\" not supported for input"));
    }
    if p.roman {
        return Err(TypeError::new("0A000", "\"RN\" not supported for input"));
    }
    let mut r = Reader {
        p: &p,
        text: text.as_bytes(),
        at: 0,
        sign: None,
        number: String::new(),
        before: 0,
        after: 0,
        point: false,
    };
    for item in &p.items {
        if r.at >= r.text.len() {
            break;
        }
        match item {
            Item::Nine | Item::Zero | Item::Point => {
                r.digit(*item == Item::Point);
                r.at += 1;
            }
            Item::Comma | Item::Group => {
                r.at += usize::from(p.fill && r.peek() == Some(b','));
            }
            Item::Currency => r.skip_strange(1),
            Item::Ordinal { .. } if !p.decimal => r.skip_strange(2),
            Item::Minus => r.sign_place(b"-"),
            Item::Plus => r.sign_place(b"+"),
            Item::Sign => r.sign_place(b"-+"),
            Item::Text(_) => r.skip_character(),
            _ => {}
        }
    }
    // As `numeric(p,s)` with the picture's places before the point and the digits that were read behind it.
    let places = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let precision = places(p.before + p.shift + r.after);
    let modifier = (precision.wrapping_shl(16) | places(r.after)).wrapping_add(4);
    let value = Numeric::parse(&r.taken())?.apply_modifier(modifier)?;
    if !p.multi {
        return Ok(value);
    }
    let shift = Numeric::from(-i64::from(places(p.shift)));
    value.mul(&Numeric::from(10_i64).power(&shift)?)
}

scalar! {
    fn numeric_to_number(text: &str, template: &str) -> Option<Numeric> {
        if template.is_empty() { return Ok(None); }
        number_from(text, template).map(Some)
    }
}
