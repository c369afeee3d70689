//! `to_char` for numbers: a picture filled with digits (`NUM_processor` of PostgreSQL's formatting.c, whose oddities are
//! its users' habit).

use super::strings::pad_field;
use super::to_char::suffix_of;
use super::to_number::{Item, Picture, SignPlace, picture};
use crate::types::error::TypeError;
use crate::types::numeric::{MAX_SCALE, Numeric};

/// Places of a Roman number.
const ROMAN_WIDTH: usize = 15;
/// Digits of a `float8` and of a `float4` that are shown (`DBL_DIG` and `FLT_DIG`).
const DIGITS: usize = 15;
const SHORT_DIGITS: usize = 6;
/// Places behind the point that a `numeric` is rounded to at most.
const MOST_PLACES: usize = MAX_SCALE as usize;
/// Places behind the point that a double is asked for; zeros follow.
const DOUBLE_PLACES: usize = 350;

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
    /// The last place wrote a digit.
    in_digits: bool,
    /// Nothing more is written.
    ended: bool,
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
        self.in_digits = false;
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
            self.in_digits = true;
        } else {
            self.number_digit(item);
        }
        if self.is_last() {
            if self.sign_written && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.sign == SignPlace::After {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.current += 1;
    }

    /// Does a sign or bracket that stands behind the number stand behind this place?
    fn is_last(&self) -> bool {
        let p = self.p;
        if self.ended || self.last == Some(self.at) {
            return false;
        }
        let unsigned = !needs_no_sign(p, self.negative) && self.spaces == 0;
        let digits = p.after + p.before + p.shift + usize::from(unsigned);
        let places = digits + usize::from(self.spaces > 0) + usize::from(p.decimal);
        // The count begins at the second digit.
        self.current + 2 == places
    }

    fn number_digit(&mut self, item: Item) {
        let Some(digit) = self.number.get(self.at) else {
            // PostgreSQL writes the zero byte behind the number, which ends the text.
            self.ended = self.last.is_none_or(|l| self.at <= l) || item == Item::Zero;
            return;
        };
        let cut = self.last.is_some_and(|l| self.at > l) && item != Item::Zero;
        if *digit == b'.' {
            self.out.push('.');
        } else if cut {
            // Left out.
        } else if self.leading_blank() {
            if self.p.fill {
                self.out.push(' ');
            } else if self.last_is_point() {
                self.out.push('0');
            }
        } else {
            self.out.push(char::from(*digit));
            self.in_digits = true;
        }
        self.at += 1;
    }

    fn separator(&mut self) {
        if self.in_digits {
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
fn fill(p: &Picture, number: &str, negative: bool, spaces: usize) -> Result<String, TypeError> {
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
        bracket: p.bracket && (negative || p.fill || p.minus || p.plus),
        last,
        current: 0,
        in_digits: false,
        ended: false,
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
                f.out.push_str(ordinal(number, *upper)?);
            }
            Item::Text(c) => f.out.push(*c),
            _ => {}
        }
        if f.ended {
            break;
        }
    }
    Ok(f.out)
}

fn ordinal(number: &str, upper: bool) -> Result<&'static str, TypeError> {
    if number.ends_with(|c: char| c.is_ascii_digit()) {
        return Ok(suffix_of(number, upper));
    }
    let what = format!("\"{number}\" is not a number");
    Err(TypeError::new("22P02", what))
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
fn plain(p: &Picture, text: &str) -> Result<String, TypeError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, text),
    };
    let whole = digits.find('.').unwrap_or(digits.len());
    let before = p.before + p.shift;
    if whole > before {
        let hashes = format!("{}.{}", "#".repeat(before), "#".repeat(p.after));
        return fill(p, &hashes, negative, 0);
    }
    fill(p, digits, negative, before - whole)
}

/// Six more than the digits: sign, point, `e`, its sign and two digits.
fn scientific_hashes(p: &Picture) -> String {
    let (before, after) = ("#".repeat(p.before), "#".repeat(p.after + 4));
    format!(" {before}.{after}")
}

fn scientific(p: &Picture, n: &Numeric) -> String {
    let Numeric::Finite { unscaled, scale } = n else {
        return scientific_hashes(p);
    };
    let mut exponent = 0;
    let mut mantissa = Numeric::zero();
    if n.signum() != 0 {
        exponent = crate::types::numeric::exponent(unscaled, *scale) - 1;
        let scale = i64::from(*scale) + exponent;
        mantissa = if scale >= 0 {
            Numeric::new(unscaled.clone(), scale as u32)
        } else {
            let zeros = num_bigint::BigInt::from(10).pow((-scale) as u32);
            Numeric::new(unscaled * zeros, 0)
        };
    }
    // Rounding may give 10.00, which PostgreSQL shows as it is. Zeros behind all digits are no arithmetic.
    let exact = p.after.min(mantissa.scale() as usize);
    let mut mantissa = mantissa.round_to(exact as i64).to_string();
    if exact == 0 && p.after > 0 {
        mantissa.push('.');
    }
    mantissa.push_str(&"0".repeat(p.after - exact));
    let lead = if n.signum() < 0 { "" } else { " " };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{lead}{mantissa}e{sign}{:02}", exponent.abs())
}

/// As C's `%+.*e` prints a double, with a blank for the plus.
fn float_scientific(p: &Picture, v: f64) -> String {
    if !v.is_finite() {
        return scientific_hashes(p);
    }
    let precise = p.after.min(DOUBLE_PLACES);
    let shown = format!("{:.precise$e}", v.abs());
    let (mantissa, exponent) = shown.split_once('e').expect("written with an exponent");
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let lead = if v.is_sign_negative() { '-' } else { ' ' };
    let zeros = "0".repeat(p.after - precise);
    format!("{lead}{mantissa}{zeros}e{sign}{exponent:0>2}")
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
    let value = if p.multi {
        let shift = Numeric::from(i64::try_from(p.shift).unwrap_or(i64::MAX));
        n.mul(&Numeric::from(10_i64).power(&shift)?)?
    } else {
        n.clone()
    };
    let places = p.after.min(MOST_PLACES);
    plain(&p, &value.round_to(places as i64).to_string())
}

/// `int4` (`wide`: `int8`): its digits and as many zeros as the picture has places behind the point.
fn from_integer(v: i64, wide: bool, template: &str) -> Result<String, TypeError> {
    let p = picture(template)?;
    let name = if wide { "bigint" } else { "integer" };
    let out_of_range = |name: &str| TypeError::new("22003", format!("{name} out of range"));
    if p.roman {
        let whole = i32::try_from(v).map_err(|_| out_of_range("integer"))?;
        return Ok(fill_roman(&p, whole.into()));
    }
    if p.scientific {
        return Ok(if wide {
            scientific(&p, &Numeric::from(v))
        } else {
            float_scientific(&p, v as f64)
        });
    }
    let value = shifted(v, wide, p.shift).ok_or_else(|| out_of_range(name))?;
    let mut digits = value.to_string();
    if p.after > 0 {
        digits.push('.');
        digits.push_str(&"0".repeat(p.after));
    }
    plain(&p, &digits)
}

/// `v` with as many zeros behind it as `V` has places: none where it or its factor is no `int4` (`wide`: `int8`).
fn shifted(v: i64, wide: bool, places: usize) -> Option<i64> {
    let times = 10_i64.checked_pow(u32::try_from(places).ok()?)?;
    if wide {
        return v.checked_mul(times);
    }
    let (v, times) = (i32::try_from(v).ok()?, i32::try_from(times).ok()?);
    v.checked_mul(times).map(i64::from)
}

/// As C's `%.*f`, with PostgreSQL's names of what is no number.
fn fixed(v: f64, places: usize) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        let sign = if v < 0.0 { "-" } else { "" };
        format!("{sign}Infinity")
    } else {
        format!("{v:.places$}")
    }
}

/// A float has 15 digits, a short one 6; places beyond them are left out.
fn from_float(v: f64, significant: usize, template: &str) -> Result<String, TypeError> {
    let mut p = picture(template)?;
    if p.roman {
        return Ok(fill_roman(&p, v.round_ties_even() as i64));
    }
    if p.scientific {
        return Ok(float_scientific(&p, v));
    }
    let v = match 10_f64.powf(p.shift as f64) {
        _ if !p.multi => v,
        times if significant == SHORT_DIGITS => f64::from(v as f32 * times as f32),
        times => v * times,
    };
    let whole = fixed(v.abs(), 0).len();
    if whole >= significant {
        p.after = 0;
    } else if whole + p.after > significant {
        p.after = significant - whole;
    }
    plain(&p, &fixed(v, p.after))
}

scalar! {
    fn int4_to_char(v: i32, template: &str) -> String { from_integer(v.into(), false, template) }
    fn int8_to_char(v: i64, template: &str) -> String { from_integer(v, true, template) }
    fn numeric_to_char(v: &Numeric, template: &str) -> String { from_numeric(v, template) }
    fn float4_to_char(v: f32, template: &str) -> String { from_float(v.into(), SHORT_DIGITS, template) }
    fn float8_to_char(v: f64, template: &str) -> String { from_float(v, DIGITS, template) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(v: f64, template: &str) -> String {
        from_float(v, DIGITS, template).expect("shown")
    }
    fn integer(v: i64, template: &str) -> String {
        from_integer(v, false, template).expect("shown")
    }
    fn numeric(v: &str, template: &str) -> String {
        from_numeric(&Numeric::parse(v).expect("a number"), template).expect("shown")
    }

    #[test]
    fn a_number_may_end_before_its_picture() {
        assert_eq!(float(1e15, ".99"), " .");
        assert_eq!(float(f64::NAN, "999.99\"x\""), " NaN");
        assert_eq!(integer(1234, "99."), " ##.");
        assert_eq!(integer(12, "99.\"x\""), " 12");
        assert_eq!(integer(5, "."), " .");
        assert_eq!(numeric("1.00", "FM9.9,99"), "1.");
        let error = from_integer(5, false, "th").expect_err("no number");
        assert_eq!(error.state, "22P02");
    }

    #[test]
    fn an_exponent_stands_behind_the_rounded_digits() {
        assert_eq!(float(1.15, "9.9EEEE"), " 1.1e+00");
        assert_eq!(integer(125, "9.9EEEE"), " 1.2e+02");
        assert_eq!(numeric("125", "9.9EEEE"), " 1.3e+02");
        assert_eq!(numeric("-0.00125", "9.9999EEEE"), "-1.2500e-03");
        assert_eq!(numeric("0", "9.99EEEE"), " 0.00e+00");
        assert_eq!(float(-2.5e-100, "9.999EEEE"), "-2.500e-100");
    }

    /// Digits that nobody has computed are not computed here either.
    #[test]
    fn long_pictures_are_filled_with_zeros() {
        let template = format!("9.{}", "9".repeat(100_000));
        let scientific = format!("{template}EEEE");
        assert_eq!(integer(1, &template).len(), 100_003);
        assert_eq!(numeric("1.5", &template).len(), 3 + MOST_PLACES);
        assert_eq!(float(1.5, &scientific).len(), 100_007);
        assert_eq!(numeric("1.5", &scientific).len(), 100_007);
    }

    #[test]
    fn v_shifts_by_every_place() {
        let shown = numeric("1.5", "9V99999999999999999999");
        assert_eq!(shown, " 150000000000000000000");
        let error = from_integer(i64::MAX, true, "9V9").expect_err("too large");
        assert_eq!(error.state, "22003");
    }
}
