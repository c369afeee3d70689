//! The text that `to_date` and `to_timestamp` read, and how a template's fields are taken from it.

use super::time_template::{Between, is_separator, is_space};
use crate::types::error::TypeError;

fn invalid(text: &str, name: &str, detail: String) -> TypeError {
    TypeError::new("22007", format!("invalid value \"{text}\" for \"{name}\"")).with_detail(detail)
}

/// `strtol`: blanks, a sign, digits. The number, held within `i64`, and how many bytes it took.
pub(super) fn leading_integer(text: &[u8]) -> Option<(i64, usize)> {
    let blanks = text
        .iter()
        .take_while(|b| is_space(char::from(**b)))
        .count();
    let signed = matches!(text.get(blanks), Some(b'-' | b'+'));
    let start = blanks + usize::from(signed);
    let digits = text[start..].iter().take_while(|b| b.is_ascii_digit());
    let (value, count) = digits.fold((0_i64, 0), |(value, count), digit| {
        let value = value.saturating_mul(10);
        (value.saturating_add(i64::from(digit - b'0')), count + 1)
    });
    let value = if text.get(blanks) == Some(&b'-') {
        -value
    } else {
        value
    };
    (count > 0).then_some((value, start + count))
}

/// A field of the template that is being read.
pub(super) struct Wanted {
    pub name: &'static str,
    /// All digits that are there belong to it: FM, an ordinal's letters or no digit behind it.
    pub all_digits: bool,
    pub ordinal: bool,
}

pub(super) struct Scanner<'a> {
    pub text: &'a str,
    pub at: usize,
    /// Characters that were skipped beyond what the template has.
    pub extra: i32,
    /// FX: the text is as long as the template says.
    pub fixed: bool,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner {
            text,
            at: 0,
            extra: 0,
            fixed: false,
        }
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub fn next_char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_char(&mut self) {
        self.at += self.next_char().map_or(0, char::len_utf8);
    }

    /// How many there were.
    pub fn skip_spaces(&mut self) -> i32 {
        let mut count = 0;
        while self.next_char().is_some_and(is_space) {
            self.at += 1;
            count += 1;
        }
        count
    }

    /// A character between fields. None has to be the one of the template.
    pub fn skip_between(&mut self, between: Between) {
        if self.fixed {
            self.skip_char();
        } else if between == Between::Plain {
            // What was skipped too much before may have been it.
            if self.extra > 0 {
                self.extra -= 1;
            } else {
                self.skip_char();
            }
        } else if self
            .next_char()
            .is_some_and(|c| is_space(c) || is_separator(c))
        {
            self.skip_char();
        } else {
            self.extra -= 1;
        }
    }

    pub fn skip_ordinal(&mut self, wanted: &Wanted) {
        if wanted.ordinal {
            self.skip_char();
            self.skip_char();
        }
    }

    /// A number of `width` digits, or of as many as there are; with how many bytes it took.
    pub fn integer(&mut self, wanted: &Wanted, width: usize) -> Result<(i32, usize), TypeError> {
        let name = wanted.name;
        let begin = self.at;
        self.skip_spaces();
        let rest = self.rest();
        let shown = {
            let mut end = width.min(rest.len());
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            &rest[..end]
        };
        let fixed_width =
            "If your source string is not fixed-width, try using the \"FM\" modifier.";
        let (value, end) = if wanted.all_digits {
            match leading_integer(rest.as_bytes()) {
                Some((value, taken)) => (value, self.at + taken),
                None => (0, begin),
            }
        } else {
            let Some(part) = rest.as_bytes().get(..width) else {
                let what = format!("source string too short for \"{name}\" formatting field");
                let left = rest.len();
                let detail = format!("Field requires {width} characters, but only {left} remain.");
                return Err(TypeError::new("22007", what)
                    .with_detail(detail)
                    .with_hint(fixed_width));
            };
            let (value, taken) = leading_integer(part).unwrap_or((0, 0));
            if (1..width).contains(&taken) {
                let detail =
                    format!("Field requires {width} characters, but only {taken} could be parsed.");
                return Err(invalid(shown, name, detail).with_hint(fixed_width));
            }
            (value, self.at + taken)
        };
        if end == begin {
            return Err(invalid(shown, name, "Value must be an integer.".to_owned()));
        }
        self.at = end;
        let value = i32::try_from(value).map_err(|_| {
            TypeError::new(
                "22008",
                format!("value for \"{name}\" in source string is out of range"),
            )
            .with_detail("Value must be in the range -2147483648 to 2147483647.")
        })?;
        Ok((value, end - begin))
    }

    pub fn one_of(&mut self, names: &[&str], name: &str) -> Result<usize, TypeError> {
        let rest = self.rest();
        let found = names.iter().position(|n| {
            rest.get(..n.len())
                .is_some_and(|text| text.eq_ignore_ascii_case(n))
        });
        let Some(found) = found else {
            let end = rest.find(is_space).unwrap_or(rest.len());
            let detail = "The given value did not match any of the allowed values for this field.";
            return Err(invalid(&rest[..end], name, detail.to_owned()));
        };
        self.at += names[found].len();
        Ok(found)
    }
}
