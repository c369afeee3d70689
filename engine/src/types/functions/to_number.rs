//! `to_char` for numbers, and `to_number`: pictures such as `FM999,990.00`.

use super::strings::pad_field;
use super::to_char::suffix_of;
use crate::types::error::TypeError;
use crate::types::numeric::Numeric;

/// Places of a Roman number.
const ROMAN_WIDTH: usize = 15;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
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
    Text(char),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SignPlace {
    None,
    Before,
    After,
}

/// What a picture asks for as a whole.
#[derive(Debug)]
struct Picture {
    items: Vec<Item>,
    before: usize,
    after: usize,
    shift: usize,
    /// Place of the first 0 (from 1), and of the last.
    zero_start: usize,
    zero_end: usize,
    zero: bool,
    decimal: bool,
    fill: bool,
    sign: SignPlace,
    /// Digits before the S.
    sign_at: usize,
    bracket: bool,
    minus: bool,
    plus: bool,
    roman: bool,
    multi: bool,
    scientific: bool,
}

fn bad(message: &str) -> TypeError {
    TypeError::new("42601", message)
}

const WORDS: &[(&str, Item)] = &[
    ("EEEE", Item::Exponent),
    ("MI", Item::Minus),
    ("PL", Item::Plus),
    ("PR", Item::Bracket),
    ("SG", Item::Sign),
    // Known, and shown as nothing.
    ("SP", Item::Blank),
    ("TH", Item::Ordinal { upper: true }),
    ("RN", Item::Roman { lower: false }),
    ("S", Item::AnchoredSign),
    ("V", Item::Shift),
    ("B", Item::Blank),
    ("C", Item::Blank),
    ("D", Item::Point),
    ("G", Item::Group),
    ("L", Item::Currency),
    (".", Item::Point),
    (",", Item::Comma),
    ("0", Item::Zero),
    ("9", Item::Nine),
];

fn picture(text: &str) -> Result<Picture, TypeError> {
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
    };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let begins = |w: &str| {
            rest.get(..w.len())
                .is_some_and(|t| t == w || t == w.to_ascii_lowercase())
        };
        if begins("FM") {
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
            return Err(bad("\"EEEE\" must be the last pattern used"));
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
                let mixed = !self.fill
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
            _ => {}
        }
        Ok(())
    }
}

/// 1 to 3999.
fn roman(n: i64) -> String {
    const STEPS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..=3999).contains(&n) {
        return "#".repeat(15);
    }
    let (mut text, mut rest) = (String::new(), n);
    for (value, letters) in STEPS {
        while rest >= value {
            text.push_str(letters);
            rest -= value;
        }
    }
    text
}

/// A picture with RN shows the letters in 15 places, and of the rest only text and the blanks of what has no sign.
fn fill_roman(p: &Picture, n: i64) -> String {
    let letters = roman(n);
    let mut out = String::new();
    for item in &p.items {
        match item {
            Item::Roman { lower } => {
                let shown = if *lower {
                    letters.to_ascii_lowercase()
                } else {
                    letters.clone()
                };
                if p.fill {
                    pad_field(&shown, ROMAN_WIDTH, false, &mut out);
                } else {
                    out.push_str(&shown);
                }
            }
            Item::Text(c) => out.push(*c),
            Item::Currency => out.push(' '),
            Item::Comma | Item::Group | Item::Minus | Item::Plus if p.fill => out.push(' '),
            // PostgreSQL writes the sign that is not there, a zero byte, which ends the text.
            Item::Sign => break,
            _ => {}
        }
    }
    out
}

/// The digits that the picture is filled with, and what surrounds them.
struct Filler<'a> {
    p: &'a Picture,
    number: &'a [u8],
    /// Next byte of `number`.
    at: usize,
    /// Places before the number's first digit.
    spaces: usize,
    negative: bool,
    sign_written: bool,
    sign: SignPlace,
    bracket: bool,
    /// Index of the last digit that counts with FM; digits behind it are left out.
    last: Option<usize>,
    current: usize,
    digits_begun: bool,
    out: String,
}

impl Filler<'_> {
    /// A lone 0 before the point, which is shown as a blank.
    fn leading_blank(&self) -> bool {
        !self.p.zero && self.at == 0 && self.number.first() == Some(&b'0') && self.p.after != 0
    }
    fn last_is_point(&self) -> bool {
        self.last.is_some_and(|l| self.number.get(l) == Some(&b'.'))
    }
    fn write_sign(&mut self) {
        match self.sign {
            SignPlace::Before => {
                self.out.push(if self.negative { '-' } else { '+' });
                self.sign_written = true;
            }
            SignPlace::After => {}
            SignPlace::None => {
                if self.bracket {
                    self.out.push(if self.negative { '<' } else { ' ' });
                } else if self.negative {
                    self.out.push('-');
                } else if self.p.fill {
                    self.out.push(' ');
                }
                self.sign_written = true;
            }
        }
    }

    fn digit(&mut self, item: Item) {
        let p = self.p;
        let due = self.current >= self.spaces || (p.zero && p.zero_start == self.current + 1);
        if !self.sign_written && due && (!self.leading_blank() || self.last_is_point()) {
            self.write_sign();
        }
        let before_number = self.current < self.spaces;
        if before_number && (!p.zero || p.zero_start > self.current + 1) {
            if p.fill {
                self.out.push(' ');
            }
        } else if before_number {
            self.out.push('0');
            self.digits_begun = true;
        } else {
            self.number_digit(item);
        }
        let count = p.after + p.before + p.shift - 1
            + usize::from(!self.initially_signed() && self.spaces == 0);
        let mut end = count + usize::from(self.spaces > 0) + usize::from(p.decimal);
        if self.last == Some(self.at) {
            end = self.current;
        }
        if self.current + 1 == end {
            if self.sign_written && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.sign == SignPlace::After {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.current += 1;
    }

    /// Was there never a sign to write at the digits?
    fn initially_signed(&self) -> bool {
        needs_no_sign(self.p, self.negative)
    }

    fn number_digit(&mut self, item: Item) {
        match self.number.get(self.at) {
            Some(b'.') if (!self.last_is_point() || !self.p.fill) => {
                self.out.push('.');
            }
            Some(d) => {
                let cut = self.last.is_some_and(|l| self.at > l) && item != Item::Zero;
                if cut {
                    // Left out.
                } else if self.leading_blank() {
                    if self.p.fill {
                        self.out.push(' ');
                    } else if self.last_is_point() {
                        self.out.push('0');
                    }
                } else {
                    self.out.push(char::from(*d));
                    self.digits_begun = true;
                }
            }
            None => {}
        }
        if self.at < self.number.len() {
            self.at += 1;
        }
    }

    fn separator(&mut self) {
        if self.digits_begun {
            self.out.push(',');
        } else if self.p.fill {
            self.out.push(' ');
        }
    }
}

/// With MI or SG the sign is written where they stand; with FM a plus is not written at all.
fn needs_no_sign(p: &Picture, negative: bool) -> bool {
    if p.minus || p.plus {
        return p.minus;
    }
    !negative && !p.fill && p.sign == SignPlace::None
}

/// Fills the picture with the digits of a rounded number without its sign.
fn fill(p: &Picture, number: &str, negative: bool, spaces: usize) -> String {
    let bytes = number.as_bytes();
    let last = (!p.fill && p.decimal)
        .then(|| last_relevant(p, bytes, spaces))
        .flatten();
    let sign = if p.sign == SignPlace::Before && p.before + p.shift == p.sign_at {
        SignPlace::After
    } else {
        p.sign
    };
    let mut f = Filler {
        p,
        number: bytes,
        at: 0,
        spaces,
        negative,
        sign_written: needs_no_sign(p, negative),
        sign,
        bracket: p.bracket && (negative || p.fill),
        last,
        current: 0,
        digits_begun: false,
        out: String::new(),
    };
    for item in &p.items {
        match item {
            Item::Nine | Item::Zero | Item::Point => f.digit(*item),
            Item::Comma | Item::Group => f.separator(),
            Item::Currency => f.out.push(' '),
            Item::Minus if negative => f.out.push('-'),
            Item::Minus if p.fill => f.out.push(' '),
            Item::Plus if !negative => f.out.push('+'),
            Item::Plus if p.fill => f.out.push(' '),
            Item::Sign => f.out.push(if negative { '-' } else { '+' }),
            Item::Ordinal { upper } if !negative && !p.decimal && bytes.first() != Some(&b'#') => {
                f.out.push_str(suffix_of(number, *upper));
            }
            Item::Text(c) => f.out.push(*c),
            _ => {}
        }
    }
    f.out
}

/// The last digit behind the point that is not 0 (or the point), but not before the last 0 of the picture.
fn last_relevant(p: &Picture, number: &[u8], spaces: usize) -> Option<usize> {
    let point = number.iter().position(|b| *b == b'.')?;
    let nonzero = number
        .iter()
        .rposition(|b| *b != b'0')
        .unwrap_or(point)
        .max(point);
    if p.zero_end > spaces {
        // Counted in digits, so the point adds one where it lies before.
        let zero = (p.zero_end - spaces).min(number.len() - 1);
        return Some(nonzero.max(zero));
    }
    Some(nonzero)
}

/// A value that is rounded already, or does not fit.
fn plain(p: &Picture, text: &str) -> String {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, text),
    };
    let whole = digits.find('.').unwrap_or(digits.len());
    let before = p.before + p.shift;
    if whole > before {
        let mut hashes = "#".repeat(before);
        if p.after > 0 || digits.contains('.') {
            hashes.push('.');
            hashes.push_str(&"#".repeat(p.after));
        }
        return fill(p, &hashes, negative, 0);
    }
    fill(p, digits, negative, before - whole)
}

fn scientific(p: &Picture, n: &Numeric) -> String {
    let Numeric::Finite { unscaled, scale } = n else {
        // Six more than the digits: sign, point, `e`, its sign and two digits.
        let (before, after) = ("#".repeat(p.before), "#".repeat(p.after + 4));
        return format!(" {before}.{after}");
    };
    let mut exponent = 0;
    let mut mantissa = Numeric::zero();
    if n.signum() != 0 {
        exponent = crate::types::numeric::exponent(unscaled, *scale) - 1;
        let scale = i64::from(*scale) + exponent;
        let shifted = if scale >= 0 {
            Numeric::new(unscaled.clone(), scale as u32)
        } else {
            Numeric::new(
                unscaled * num_bigint::BigInt::from(10).pow((-scale) as u32),
                0,
            )
        };
        // Rounding may give 10.00, which PostgreSQL shows as it is.
        mantissa = shifted.round_to(p.after as i64);
    }
    let mantissa = mantissa.round_to(p.after as i64);
    let lead = if n.signum() < 0 { "" } else { " " };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{lead}{mantissa}e{sign}{:02}", exponent.abs())
}

fn from_numeric(n: &Numeric, template: &str) -> Result<String, TypeError> {
    let p = picture(template)?;
    if p.roman {
        let whole: i32 = n.to_integer_of("integer")?;
        return Ok(fill_roman(&p, whole.into()));
    }
    if p.scientific {
        return Ok(scientific(&p, n));
    }
    if p.before + p.after + p.shift == 0 {
        return Ok(fill_without_digits(&p, n.signum() < 0));
    }
    let value = if p.multi {
        n.mul(&Numeric::from(10_i64.pow(p.shift.min(18) as u32)))?
    } else {
        n.clone()
    };
    Ok(plain(&p, &value.round_to(p.after as i64).to_string()))
}

fn fill_without_digits(p: &Picture, negative: bool) -> String {
    let mut out = String::new();
    for item in &p.items {
        match item {
            Item::Text(c) => out.push(*c),
            Item::Minus | Item::Sign if negative => out.push('-'),
            Item::Plus | Item::Sign if !negative => out.push('+'),
            Item::Minus | Item::Plus | Item::Comma | Item::Group if p.fill => out.push(' '),
            Item::Currency => out.push(' '),
            _ => {}
        }
    }
    out
}

/// A float has 15 digits; places beyond them are left out.
fn from_float(v: f64, significant: usize, template: &str) -> Result<String, TypeError> {
    let mut p = picture(template)?;
    if p.roman {
        return Ok(fill_roman(&p, v.round_ties_even() as i64));
    }
    if p.scientific || !v.is_finite() {
        return from_numeric(&Numeric::from_f64(v), template);
    }
    if p.before + p.after + p.shift == 0 {
        return Ok(fill_without_digits(&p, v < 0.0));
    }
    let v = if p.multi {
        v * 10_f64.powi(p.shift as i32)
    } else {
        v
    };
    let whole = format!("{:.0}", v.abs()).len();
    if whole >= significant {
        p.after = 0;
    } else if whole + p.after > significant {
        p.after = significant - whole;
    }
    Ok(plain(&p, &format!("{v:.*}", p.after)))
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
    fn int4_to_char(v: i32, template: &str) -> String { from_numeric(&Numeric::from(v), template) }
    fn int8_to_char(v: i64, template: &str) -> String { from_numeric(&Numeric::from(v), template) }
    fn numeric_to_char(v: &Numeric, template: &str) -> String { from_numeric(v, template) }
    fn float4_to_char(v: f32, template: &str) -> String { from_float(v.into(), 6, template) }
    fn float8_to_char(v: f64, template: &str) -> String { from_float(v, 15, template) }
    fn numeric_to_number(text: &str, template: &str) -> Option<Numeric> {
        if template.is_empty() { return Ok(None); }
        number_from(text, template).map(Some)
    }
}
