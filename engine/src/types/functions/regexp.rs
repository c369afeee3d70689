//! Regular expression operators and functions.

use super::strings::char_offset;
use super::text::char_count;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Rows;
use crate::types::regex::{Flags, Found, compile};
use crate::types::{oids, size};

fn test(text: &str, pattern: &str, ignore_case: bool) -> Result<bool, TypeError> {
    compile(
        pattern,
        Flags {
            ignore_case,
            ..Flags::default()
        },
    )?
    .is_match(text)
}

/// Matches from left to right, none inside another; an empty one moves on by a character. With `whole`, empty matches
/// at the end of a match before do not count (splitting).
fn all_matches(
    text: &str,
    pattern: &str,
    flags: Flags,
    from: usize,
    only_first: bool,
) -> Result<Vec<Found>, TypeError> {
    let regex = compile(pattern, flags)?;
    let (mut at, mut found) = (from, Vec::new());
    while at <= text.len() {
        let Some(m) = regex.find_at(text, at)? else {
            break;
        };
        let (start, end) = m.whole;
        found.push(m);
        if only_first {
            break;
        }
        at = if end > start {
            end
        } else {
            match text[end..].chars().next() {
                Some(c) => end + c.len_utf8(),
                None => break,
            }
        };
    }
    Ok(found)
}

fn no_global(flags: Flags, function: &str) -> Result<(), TypeError> {
    if flags.global {
        return Err(TypeError::new(
            "22023",
            format!("{function} does not support the \"global\" option"),
        ));
    }
    Ok(())
}

/// The groups of a match as an array, or the whole if there are none.
fn as_array(text: &str, m: &Found) -> Datum {
    let piece = |r: (usize, usize)| Datum::text(&text[r.0..r.1]);
    let items = if m.groups.is_empty() {
        vec![piece(m.whole)]
    } else {
        m.groups
            .iter()
            .map(|g| g.map_or(Datum::Null, piece))
            .collect()
    };
    Datum::Array(Array::of(oids::TEXT, items).into())
}

fn first(text: &str, pattern: &str, flags: &str) -> Result<Datum, TypeError> {
    let flags = Flags::parse(flags)?;
    if flags.global {
        return Err(TypeError::new(
            "22023",
            "regexp_match() does not support the \"global\" option",
        )
        .with_hint("Use the regexp_matches function instead."));
    }
    let found = compile(pattern, flags)?.find_at(text, 0)?;
    Ok(found.map_or(Datum::Null, |m| as_array(text, &m)))
}

fn each(text: &str, pattern: &str, flags: &str) -> Result<Rows, TypeError> {
    let flags = Flags::parse(flags)?;
    let found = all_matches(text, pattern, flags, 0, !flags.global)?;
    let items: Vec<Datum> = found.iter().map(|m| as_array(text, m)).collect();
    Ok(Box::new(items.into_iter().map(Ok)))
}

/// What stands between matches.
fn split(text: &str, pattern: &str, flags: &str, function: &str) -> Result<Vec<Datum>, TypeError> {
    let flags = Flags::parse(flags)?;
    no_global(flags, function)?;
    let (mut out, mut from) = (Vec::new(), 0);
    for m in all_matches(text, pattern, flags, 0, false)? {
        let (start, end) = m.whole;
        // Empty matches at the ends of the string, or right behind a match, split nothing.
        if start == end && (start == from || start == text.len()) {
            continue;
        }
        out.push(Datum::text(&text[from..start]));
        from = end;
    }
    out.push(Datum::text(&text[from..]));
    Ok(out)
}

/// `\1`, `\&` and `\\` in a replacement.
fn expand(replacement: &str, text: &str, m: &Found, out: &mut String) -> Result<(), TypeError> {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(d @ '1'..='9') => {
                let group = m.groups.get(d as usize - '1' as usize).copied().flatten();
                if let Some((from, to)) = group {
                    size::grow(out.len(), to - from)?;
                    out.push_str(&text[from..to]);
                }
            }
            Some('&') => {
                size::grow(out.len(), m.whole.1 - m.whole.0)?;
                out.push_str(&text[m.whole.0..m.whole.1]);
            }
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    Ok(())
}

/// Replaces the `nth` match (0: all) that begins at or behind byte `from`.
fn substitute(
    text: &str,
    pattern: &str,
    with: &str,
    flags: Flags,
    from: usize,
    nth: usize,
) -> Result<String, TypeError> {
    let found = all_matches(text, pattern, flags, from, nth == 1)?;
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (i, m) in found.iter().enumerate() {
        if nth != 0 && i + 1 != nth {
            continue;
        }
        out.push_str(&text[copied..m.whole.0]);
        size::grow(out.len(), with.len())?;
        expand(with, text, m, &mut out)?;
        copied = m.whole.1;
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

fn parameter(name: &str, value: i32, least: i32) -> Result<usize, TypeError> {
    if value < least {
        return Err(TypeError::new(
            "22023",
            format!("invalid value for parameter \"{name}\": {value}"),
        ));
    }
    Ok(value as usize)
}

/// Byte offset of 1-based character `start`; beyond the end there is nothing to search.
fn start_offset(text: &str, start: usize) -> usize {
    if start > char_count(text) as usize + 1 {
        text.len() + 1
    } else {
        char_offset(text, start - 1)
    }
}

/// Which match is asked for, and which part of it.
struct Place {
    start: i32,
    nth: i32,
    /// 0 for where the part begins, 1 for behind its end.
    end: i32,
    group: i32,
}

/// The part of the match, as byte offsets. Arguments are checked in PostgreSQL's order.
fn nth_part(
    text: &str,
    pattern: &str,
    place: &Place,
    flags: &str,
    function: &str,
) -> Result<Option<(usize, usize)>, TypeError> {
    let from = start_offset(text, parameter("start", place.start, 1)?);
    let nth = parameter("n", place.nth, 1)?;
    if !(0..=1).contains(&place.end) {
        return Err(TypeError::new(
            "22023",
            format!("invalid value for parameter \"endoption\": {}", place.end),
        ));
    }
    let group = parameter("subexpr", place.group, 0)?;
    let flags = Flags::parse(flags)?;
    no_global(flags, function)?;
    let found = all_matches(text, pattern, flags, from, nth == 1)?;
    Ok(found.get(nth - 1).and_then(|m| group_of(m, group)))
}

fn group_of(m: &Found, number: usize) -> Option<(usize, usize)> {
    // A pattern without groups is its own first group.
    if number == 0 || (number == 1 && m.groups.is_empty()) {
        Some(m.whole)
    } else {
        m.groups.get(number - 1).copied().flatten()
    }
}

fn nth_text(
    text: &str,
    pattern: &str,
    start: i32,
    nth: i32,
    flags: &str,
    group: i32,
) -> Result<Option<String>, TypeError> {
    let place = Place {
        start,
        nth,
        end: 0,
        group,
    };
    let part = nth_part(text, pattern, &place, flags, "regexp_substr()")?;
    Ok(part.map(|(a, b)| text[a..b].to_owned()))
}

fn instr(
    text: &str,
    pattern: &str,
    start: i32,
    nth: i32,
    end: i32,
    flags: &str,
    group: i32,
) -> Result<i32, TypeError> {
    let place = Place {
        start,
        nth,
        end,
        group,
    };
    let part = nth_part(text, pattern, &place, flags, "regexp_instr()")?;
    let at = part.map(|(a, b)| if end == 1 { b } else { a });
    Ok(at.map_or(0, |at| char_count(&text[..at]) + 1))
}

fn count(text: &str, pattern: &str, start: i32, flags: &str) -> Result<i32, TypeError> {
    let from = start_offset(text, parameter("start", start, 1)?);
    let flags = Flags::parse(flags)?;
    no_global(flags, "regexp_count()")?;
    Ok(all_matches(text, pattern, flags, from, false)?.len() as i32)
}

fn substring(text: &str, pattern: &str) -> Result<Option<String>, TypeError> {
    let Some(m) = compile(pattern, Flags::default())?.find_at(text, 0)? else {
        return Ok(None);
    };
    let part = match m.groups.first() {
        Some(group) => *group,
        None => Some(m.whole),
    };
    Ok(part.map(|(a, b)| text[a..b].to_owned()))
}

/// A SIMILAR TO pattern as a regular expression.
fn similar(pattern: &str, escape: Option<&str>) -> Result<String, TypeError> {
    let escape = match escape {
        None => Some('\\'),
        Some(e) => {
            let mut chars = e.chars();
            let first = chars.next();
            if chars.next().is_some() {
                return Err(TypeError::new("22025", "invalid escape string")
                    .with_hint("Escape string must be empty or one character."));
            }
            first
        }
    };
    let mut out = String::from("^(?:");
    let mut quotes = 0;
    // How deep in brackets (`[[:alpha:]_]` is two), and how far from the beginning of one: 1 right behind it, 2 behind a
    // caret there, where a closing bracket is a plain character.
    let (mut brackets, mut from_start) = (0_usize, 0);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            from_start = 3;
            match chars.next() {
                Some('"') if brackets == 0 => {
                    // The two markers of SUBSTRING ... SIMILAR: what is between them is wanted.
                    out.push_str(match quotes {
                        0 => "){1,1}?(",
                        1 => "){1,1}(?:",
                        _ => {
                            return Err(TypeError::new(
                                "2200C",
                                "SQL regular expression may not contain more than two escape-double-quote separators",
                            ));
                        }
                    });
                    quotes += 1;
                }
                Some(n) => {
                    out.push('\\');
                    out.push(n);
                }
                None => {}
            }
            continue;
        }
        if brackets > 0 {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            match c {
                ']' if from_start > 2 => brackets -= 1,
                '[' => brackets += 1,
                _ => {}
            }
            from_start = if c == '^' { from_start + 1 } else { 3 };
            continue;
        }
        match c {
            '[' => {
                out.push(c);
                (brackets, from_start) = (1, 1);
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    Ok(out)
}

scalar! {
    fn textregexeq(a: &str, p: &str) -> bool { test(a, p, false) }
    fn textregexne(a: &str, p: &str) -> bool { test(a, p, false).map(|m| !m) }
    fn texticregexeq(a: &str, p: &str) -> bool { test(a, p, true) }
    fn texticregexne(a: &str, p: &str) -> bool { test(a, p, true).map(|m| !m) }
    fn nameregexeq(a: &str, p: &str) -> bool { test(a, p, false) }
    fn nameregexne(a: &str, p: &str) -> bool { test(a, p, false).map(|m| !m) }
    fn nameicregexeq(a: &str, p: &str) -> bool { test(a, p, true) }
    fn nameicregexne(a: &str, p: &str) -> bool { test(a, p, true).map(|m| !m) }
    fn textregexsubstr(a: &str, p: &str) -> Option<String> { substring(a, p) }
    fn substring_similar(a: &str, p: &str, escape: &str) -> Option<String> { substring(a, &similar(p, Some(escape))?) }
    fn similar_to_escape_2(p: &str, escape: &str) -> String { similar(p, Some(escape)) }
    fn similar_to_escape_1(p: &str) -> String { similar(p, None) }
    fn similar_escape(p: Option<&str>, escape: Option<&str>) -> Option<String> { p.map(|p| similar(p, escape)).transpose() }

    fn textregexreplace_noopt(a: &str, p: &str, with: &str) -> String { substitute(a, p, with, Flags::default(), 0, 1) }
    fn textregexreplace(a: &str, p: &str, with: &str, flags: &str) -> String {
        if flags.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            let shown = &flags[..1];
            return Err(TypeError::new("22023", format!("invalid regular expression option: \"{shown}\""))
                .with_hint("If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly."));
        }
        let flags = Flags::parse(flags)?;
        substitute(a, p, with, flags, 0, if flags.global { 0 } else { 1 })
    }
    fn textregexreplace_extended(a: &str, p: &str, with: &str, start: i32, nth: i32, flags: &str) -> String {
        let from = start_offset(a, parameter("start", start, 1)?);
        substitute(a, p, with, Flags::parse(flags)?, from, parameter("n", nth, 0)?)
    }
    fn textregexreplace_extended_no_flags(a: &str, p: &str, with: &str, start: i32, nth: i32) -> String {
        let from = start_offset(a, parameter("start", start, 1)?);
        substitute(a, p, with, Flags::default(), from, parameter("n", nth, 0)?)
    }
    fn textregexreplace_extended_no_n(a: &str, p: &str, with: &str, start: i32) -> String {
        let from = start_offset(a, parameter("start", start, 1)?);
        substitute(a, p, with, Flags::default(), from, 1)
    }
    fn regexp_match_no_flags(a: &str, p: &str) -> Datum { first(a, p, "") }
    fn regexp_match(a: &str, p: &str, flags: &str) -> Datum { first(a, p, flags) }
    fn regexp_like_no_flags(a: &str, p: &str) -> bool { test(a, p, false) }
    fn regexp_like(a: &str, p: &str, flags: &str) -> bool {
        let flags = Flags::parse(flags)?;
        no_global(flags, "regexp_like()")?;
        compile(p, flags)?.is_match(a)
    }
    fn regexp_count_no_start(a: &str, p: &str) -> i32 { count(a, p, 1, "") }
    fn regexp_count_no_flags(a: &str, p: &str, start: i32) -> i32 { count(a, p, start, "") }
    fn regexp_count(a: &str, p: &str, start: i32, flags: &str) -> i32 { count(a, p, start, flags) }
    fn regexp_substr_no_start(a: &str, p: &str) -> Option<String> { nth_text(a, p, 1, 1, "", 0) }
    fn regexp_substr_no_n(a: &str, p: &str, start: i32) -> Option<String> { nth_text(a, p, start, 1, "", 0) }
    fn regexp_substr_no_flags(a: &str, p: &str, start: i32, n: i32) -> Option<String> { nth_text(a, p, start, n, "", 0) }
    fn regexp_substr_no_subexpr(a: &str, p: &str, start: i32, n: i32, flags: &str) -> Option<String> { nth_text(a, p, start, n, flags, 0) }
    fn regexp_substr(a: &str, p: &str, start: i32, n: i32, flags: &str, group: i32) -> Option<String> { nth_text(a, p, start, n, flags, group) }
    fn regexp_instr_no_start(a: &str, p: &str) -> i32 { instr(a, p, 1, 1, 0, "", 0) }
    fn regexp_instr_no_n(a: &str, p: &str, start: i32) -> i32 { instr(a, p, start, 1, 0, "", 0) }
    fn regexp_instr_no_endoption(a: &str, p: &str, start: i32, n: i32) -> i32 { instr(a, p, start, n, 0, "", 0) }
    fn regexp_instr_no_flags(a: &str, p: &str, start: i32, n: i32, end: i32) -> i32 { instr(a, p, start, n, end, "", 0) }
    fn regexp_instr_no_subexpr(a: &str, p: &str, start: i32, n: i32, end: i32, flags: &str) -> i32 { instr(a, p, start, n, end, flags, 0) }
    fn regexp_instr(a: &str, p: &str, start: i32, n: i32, end: i32, flags: &str, group: i32) -> i32 { instr(a, p, start, n, end, flags, group) }
    fn regexp_split_to_array_no_flags(a: &str, p: &str) -> Array { Ok(Array::of(oids::TEXT, split(a, p, "", "regexp_split_to_array()")?)) }
    fn regexp_split_to_array(a: &str, p: &str, flags: &str) -> Array { Ok(Array::of(oids::TEXT, split(a, p, flags, "regexp_split_to_array()")?)) }
}

rows! {
    fn regexp_matches_no_flags(a: &str, p: &str) { each(a, p, "") }
    fn regexp_matches(a: &str, p: &str, flags: &str) { each(a, p, flags) }
    fn regexp_split_to_table_no_flags(a: &str, p: &str) { as_rows(split(a, p, "", "regexp_split_to_table()")) }
    fn regexp_split_to_table(a: &str, p: &str, flags: &str) { as_rows(split(a, p, flags, "regexp_split_to_table()")) }
}

fn as_rows(items: Result<Vec<Datum>, TypeError>) -> Result<Rows, TypeError> {
    Ok(Box::new(items?.into_iter().map(Ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_of_similar_to_hold_plain_characters() {
        let regular = |pattern: &str| similar(pattern, None).expect("a pattern");
        assert_eq!(regular("[[:alpha:]%_]_%"), "^(?:[[:alpha:]%_]..*)$");
        assert_eq!(regular("[]%]%"), "^(?:[]%].*)$");
        assert_eq!(regular("[^]%]%"), "^(?:[^]%].*)$");
        assert_eq!(regular("[a^]%"), "^(?:[a^].*)$");
    }

    /// On a stack as the server's threads have it: unoptimised calls need a good part of that.
    fn with_room(work: fn()) {
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        let thread = thread.spawn(work).expect("a thread");
        thread.join().expect("no panic");
    }

    #[test]
    fn long_patterns_do_not_use_up_the_stack() {
        with_room(|| {
            let long = "a".repeat(100_000);
            assert!(test(&long, &format!("(?!b){long}"), false).expect("one way only"));
            let captured = compile(&format!("(?!b)(a){}", &long[1..]), Flags::default());
            let found = captured.expect("a pattern").find_at(&long, 0);
            let found = found.expect("one way only").expect("a match");
            assert_eq!(
                (found.whole, found.groups),
                ((0, 100_000), vec![Some((0, 1))])
            );
            let optional = "a?".repeat(50_000);
            let error = test(&long, &format!("(?!b){optional}"), false).expect_err("many ways");
            assert_eq!(error.state, "54000");
        });
    }

    #[test]
    fn looking_behind_looks_no_further_than_it_may_reach() {
        let long = "a".repeat(50_000);
        assert!(!test(&long, "(?<=b)c", false).expect("looks at each place once"));
        assert!(test(&format!("{long}b"), "(?<=aa)b", false).expect("found at the end"));
        for (text, pattern, found) in [
            ("éb", "(?<=é)b", true),
            ("ab", "(?<!a)b", false),
            ("acb", "(?<=a.)b", true),
            ("aab", "(?<=a+)b", true),
            ("xb", "(?<=a{0,2})b", true),
            ("xb", "(?<=a{1,2})b", false),
            ("ad", "(?<=^a|bc)d", true),
            ("xad", "(?<=^a|bc)d", false),
            ("xbcd", "(?<=^a|bc)d", true),
            ("foox", "(?<=\\mfoo)x", true),
            ("afoox", "(?<=\\mfoo)x", false),
            ("abc", "(?<=(?<=a)b)c", true),
            ("bc", "(?<=(?<=a)b)c", false),
        ] {
            let done = test(text, pattern, false).expect(pattern);
            assert_eq!(done, found, "{text} ~ {pattern}");
        }
    }

    fn groups(text: &str, pattern: &str) -> Vec<Option<(usize, usize)>> {
        let regex = compile(pattern, Flags::default()).expect(pattern);
        let found = regex.find_at(text, 0).expect(pattern).expect(pattern);
        std::iter::once(Some(found.whole))
            .chain(found.groups)
            .collect()
    }

    /// More of them than calls can be within calls, and than can each look at all that follow.
    #[test]
    fn many_rounds_are_told_apart() {
        let text = "ba".repeat(15_000);
        let all = Some((0, 30_000));
        let last = Some((29_999, 30_000));
        assert_eq!(groups(&text, "(?:(a)|b)*"), [all, last]);
        assert_eq!(groups(&text, "(?:(a)|b)+(a)"), [all, None, last]);
        assert!(test(&text, "(?!c)(?:a|ba)*$", false).expect("each place once"));
        let found = compile("(?!c)(?:b|a)*", Flags::default()).expect("a pattern");
        let found = found.find_at(&text, 0).expect("one way").expect("a match");
        assert_eq!(Some(found.whole), all);
    }

    #[test]
    fn each_part_gets_the_most_that_leaves_enough() {
        for (text, pattern, want) in [
            (
                "abcd",
                "(a|ab)(c|bcd)(d*)",
                vec![(0, 4), (0, 2), (2, 3), (3, 4)],
            ),
            ("aaaaaaa", "(a{2,3})+", vec![(0, 7), (5, 7)]),
            ("aaaaaaaa", "(?:(a{2,3})b?){3}", vec![(0, 8), (6, 8)]),
            ("aab", "(a+?)(a*)", vec![(0, 1), (0, 1), (1, 1)]),
            ("abab", "(a|b){2,}", vec![(0, 4), (3, 4)]),
            ("abab", "(a|b){3}", vec![(0, 3), (2, 3)]),
            ("aaab", "(a*)(a)b", vec![(0, 4), (0, 2), (2, 3)]),
        ] {
            let want: Vec<_> = want.into_iter().map(Some).collect();
            assert_eq!(groups(text, pattern), want, "{text} ~ {pattern}");
        }
    }

    #[test]
    fn several_digits_behind_a_backslash_are_a_character_without_so_many_groups() {
        let matches = |text: &str, pattern: &str| test(text, pattern, false);
        assert!(matches("a\nb", r"a\12b").expect("an octal number"));
        assert!(matches("a\u{1f}8", r"a\0378").expect("three digits at most"));
        for refused in [r"(a)\1", r"(a)\2", r"\1", r"\81", r"[\1]"] {
            assert!(matches("aa", refused).is_err(), "{refused}");
        }
    }
}
