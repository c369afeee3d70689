//! LIKE and ILIKE.

use crate::types::error::TypeError;

fn bad_end() -> TypeError {
    TypeError::new("22025", "LIKE pattern must not end with escape character")
}

/// Does `text` match? `%` is any run, `_` one character, a backslash makes the next character plain. With `fold`,
/// ASCII letters match whatever their case.
fn matches(text: &[u8], pattern: &[u8], fold: bool) -> Result<bool, TypeError> {
    let same = |a: u8, b: u8| {
        if fold {
            a.eq_ignore_ascii_case(&b)
        } else {
            a == b
        }
    };
    // A character's first byte says how long it is; both strings are UTF-8.
    let width = |b: u8| match b {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    let (mut t, mut p) = (0, 0);
    // Where to go on if the rest fails: behind the last `%`, one character further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'%') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            None => t == text.len(),
            Some(b'_') if t < text.len() => {
                t += width(text[t]);
                p += 1;
                continue;
            }
            Some(b'\\') => {
                let Some(next) = pattern.get(p + 1) else {
                    // Noticed only where the pattern is looked at this far.
                    if t < text.len() || retry.is_some_and(|(after, _)| after == p) {
                        return Err(bad_end());
                    }
                    return Ok(false);
                };
                if t < text.len() && same(text[t], *next) {
                    t += 1;
                    p += 2;
                    continue;
                }
                false
            }
            Some(c) => {
                if t < text.len() && same(text[t], *c) {
                    t += 1;
                    p += 1;
                    continue;
                }
                false
            }
        };
        if step {
            return Ok(true);
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                let from = from + width(text[from]);
                retry = Some((after, from));
                (p, t) = (after, from);
            }
            _ => return Ok(false),
        }
    }
}

fn like(text: &str, pattern: &str) -> Result<bool, TypeError> {
    matches(text.as_bytes(), pattern.as_bytes(), false)
}
fn ilike(text: &str, pattern: &str) -> Result<bool, TypeError> {
    matches(text.as_bytes(), pattern.as_bytes(), true)
}

/// Bytes are characters here.
fn like_bytes(data: &[u8], pattern: &[u8]) -> Result<bool, TypeError> {
    // Spread to one character a byte, so that `_` takes one byte.
    let spread = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
    like(&spread(data), &spread(pattern))
}

/// The pattern with backslashes as escapes, where ESCAPE named another character (or none).
fn with_escape(pattern: &str, escape: &str) -> Result<String, TypeError> {
    let mut chars = escape.chars();
    let escape = chars.next();
    if chars.next().is_some() {
        return Err(TypeError::new("22025", "invalid escape string")
            .with_hint("Escape string must be empty or one character."));
    }
    if escape == Some('\\') {
        return Ok(pattern.to_owned());
    }
    let mut out = String::with_capacity(pattern.len());
    let mut after_escape = false;
    for c in pattern.chars() {
        if Some(c) == escape && !after_escape {
            out.push('\\');
            after_escape = true;
        } else {
            // The escape character itself, escaped, already has its backslash.
            if c == '\\' && !after_escape {
                out.push('\\');
            }
            out.push(c);
            after_escape = false;
        }
    }
    Ok(out)
}

scalar! {
    fn textlike(a: &str, p: &str) -> bool { like(a, p) }
    fn textnlike(a: &str, p: &str) -> bool { like(a, p).map(|m| !m) }
    fn texticlike(a: &str, p: &str) -> bool { ilike(a, p) }
    fn texticnlike(a: &str, p: &str) -> bool { ilike(a, p).map(|m| !m) }
    fn namelike(a: &str, p: &str) -> bool { like(a, p) }
    fn namenlike(a: &str, p: &str) -> bool { like(a, p).map(|m| !m) }
    fn nameiclike(a: &str, p: &str) -> bool { ilike(a, p) }
    fn nameicnlike(a: &str, p: &str) -> bool { ilike(a, p).map(|m| !m) }
    fn bytealike(a: &[u8], p: &[u8]) -> bool { like_bytes(a, p) }
    fn byteanlike(a: &[u8], p: &[u8]) -> bool { like_bytes(a, p).map(|m| !m) }
    fn like_escape(p: &str, escape: &str) -> String { with_escape(p, escape) }
}
