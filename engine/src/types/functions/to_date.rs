//! `to_date` and `to_timestamp`: text read by a template (`DCH_from_char` and `do_to_timestamp` of PostgreSQL's
//! formatting.c, whose leniency is its users' habit: what is skipped, and which fields win, is as it is there).

use super::call::{Date, StampTz};
use super::template_scanner::{Scanner, Wanted, leading_integer};
use super::time_template::{FULL_DAYS, FULL_MONTHS, Ordinal, Part, ROMAN, is_space, parts};
use crate::types::codec::round_timestamp;
use crate::types::datetime::calendar::{
    EPOCH_JULIAN, Fields, date_of, days_in_month, is_leap, is_valid_date, is_valid_julian,
    is_valid_timestamp, iso_day,
};
use crate::types::datetime::encode::{MONTHS, WEEKDAYS};
use crate::types::datetime::{DAY, SECOND, timestamp_out_of_range, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;

/// Days of a year before the end of each month.
const MONTH_ENDS: [[i64; 13]; 2] = [
    [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365],
    [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366],
];
/// Hours of a zone's distance from Greenwich.
const MAX_ZONE_HOUR: i32 = 15;

/// How a template counts days.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Convention {
    Gregorian,
    IsoWeek,
}

/// What was read; 0 is what was not.
#[derive(Default)]
struct Read {
    convention: Option<Convention>,
    century: i32,
    year: i32,
    /// Digits of the year's field.
    year_digits: i32,
    bc: i32,
    month: i32,
    week: i32,
    month_week: i32,
    year_day: i32,
    day: i32,
    /// Sunday is 1.
    weekday: i32,
    julian: i32,
    hour: i32,
    twelve_hour: bool,
    pm: i32,
    minute: i32,
    second: i32,
    seconds_of_day: i32,
    millis: i32,
    micros: i32,
    /// Digits of a fraction that is rounded to.
    fraction: i32,
    zone_sign: i32,
    zone_hour: i32,
    zone_minute: i32,
}

/// A field that is set twice has to say the same.
fn set(field: &mut i32, value: i32, name: &str) -> Result<(), TypeError> {
    if *field != 0 && *field != value {
        return Err(TypeError::new(
            "22007",
            format!("conflicting values for \"{name}\" field in formatting string"),
        )
        .with_detail("This value contradicts a previous setting for the same field type."));
    }
    *field = value;
    Ok(())
}

fn convention_of(word: &str) -> Option<Convention> {
    match word {
        "DDD" | "DD" | "D" | "MM" | "MONTH" | "Month" | "month" | "MON" | "Mon" | "mon" | "RM"
        | "rm" | "WW" | "W" | "Y,YYY" | "YYYY" | "YYY" | "YY" | "Y" => Some(Convention::Gregorian),
        "IDDD" | "ID" | "IW" | "IYYY" | "IYY" | "IY" | "I" => Some(Convention::IsoWeek),
        _ => None,
    }
}

/// A field that begins with a digit: the one before it takes no more than its width.
fn is_digits(word: &str) -> bool {
    matches!(
        word,
        "CC" | "DDD"
            | "DD"
            | "D"
            | "HH24"
            | "HH12"
            | "HH"
            | "IDDD"
            | "ID"
            | "IW"
            | "IYYY"
            | "IYY"
            | "IY"
            | "I"
            | "J"
            | "MI"
            | "MM"
            | "MS"
            | "Q"
            | "SSSSS"
            | "SSSS"
            | "SS"
            | "TZM"
            | "US"
            | "WW"
            | "W"
            | "Y,YYY"
            | "YYYY"
            | "YYY"
            | "YY"
            | "Y"
    )
}

fn read(text: &str, template: &str) -> Result<Read, TypeError> {
    let all = parts(template)?;
    let mut scan = Scanner::new(text);
    let mut got = Read::default();
    for (i, part) in all.iter().enumerate() {
        if scan.rest().is_empty() {
            break;
        }
        let (word, name, fill, ordinal) = match part {
            Part::Text(_, between) => {
                if i == 0 && !scan.fixed {
                    scan.extra += scan.skip_spaces();
                }
                scan.skip_between(*between);
                continue;
            }
            Part::Field { word: "FX", .. } => {
                scan.fixed = true;
                continue;
            }
            Part::Field {
                word,
                name,
                fill,
                ordinal,
                ..
            } => (*word, *name, *fill, *ordinal != Ordinal::None),
        };
        if !scan.fixed {
            scan.extra += scan.skip_spaces();
        }
        if let Some(convention) = convention_of(word)
            && *got.convention.get_or_insert(convention) != convention
        {
            return Err(
                TypeError::new("22007", "invalid combination of date conventions").with_hint(
                    "Do not mix Gregorian and ISO week date conventions in a formatting template.",
                ),
            );
        }
        let followed_by_digit = match all.get(i + 1) {
            None => false,
            Some(Part::Text(c, _)) => c.is_ascii_digit(),
            Some(Part::Field { word, .. }) => is_digits(word),
        };
        let wanted = Wanted {
            name,
            all_digits: !fill || ordinal || !followed_by_digit,
            ordinal,
        };
        if !read_name(&mut scan, &wanted, word, &mut got)? {
            read_number(&mut scan, &wanted, word, &mut got)?;
        }
        if !scan.fixed {
            scan.extra = scan.skip_spaces();
        }
    }
    Ok(got)
}

/// A field of letters; false if it is none.
fn read_name(
    scan: &mut Scanner<'_>,
    wanted: &Wanted,
    word: &str,
    got: &mut Read,
) -> Result<bool, TypeError> {
    let name = wanted.name;
    match word {
        "A.M." | "P.M." | "a.m." | "p.m." => {
            set(
                &mut got.pm,
                scan.one_of(&["a.m.", "p.m."], name)? as i32,
                name,
            )?;
            got.twelve_hour = true;
        }
        "AM" | "PM" | "am" | "pm" => {
            set(&mut got.pm, scan.one_of(&["am", "pm"], name)? as i32, name)?;
            got.twelve_hour = true;
        }
        "A.D." | "B.C." | "a.d." | "b.c." => {
            set(
                &mut got.bc,
                scan.one_of(&["a.d.", "b.c."], name)? as i32,
                name,
            )?;
        }
        "AD" | "BC" | "ad" | "bc" => {
            set(&mut got.bc, scan.one_of(&["ad", "bc"], name)? as i32, name)?;
        }
        "MONTH" | "Month" | "month" => {
            let month = scan.one_of(&FULL_MONTHS, name)? as i32 + 1;
            set(&mut got.month, month, name)?;
        }
        "MON" | "Mon" | "mon" => {
            let month = scan.one_of(&MONTHS, name)? as i32 + 1;
            set(&mut got.month, month, name)?;
        }
        "RM" | "rm" => {
            // From the last one: XII before XI before X.
            let mut last_first = ROMAN;
            last_first.reverse();
            let month = 12 - scan.one_of(&last_first, name)? as i32;
            set(&mut got.month, month, name)?;
        }
        "DAY" | "Day" | "day" => {
            let day = scan.one_of(&FULL_DAYS, name)? as i32;
            set(&mut got.weekday, day, name)?;
            got.weekday += 1;
        }
        "DY" | "Dy" | "dy" => {
            let day = scan.one_of(&WEEKDAYS, name)? as i32;
            set(&mut got.weekday, day, name)?;
            got.weekday += 1;
        }
        "TZ" | "tz" | "OF" => {
            let what = format!("formatting field \"{name}\" is only supported in to_char");
            return Err(TypeError::new("0A000", what));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The first digit of a fraction counts most: of three, a `4` alone is 400.
fn scaled(value: i32, taken: usize, digits: usize) -> i32 {
    match taken {
        1.. if taken < digits => value.saturating_mul(10_i32.pow((digits - taken) as u32)),
        _ => value,
    }
}

fn read_number(
    scan: &mut Scanner<'_>,
    wanted: &Wanted,
    word: &str,
    got: &mut Read,
) -> Result<(), TypeError> {
    let name = wanted.name;
    let plain = match word {
        "HH" | "HH12" | "HH24" => {
            got.twelve_hour |= word != "HH24";
            Some((&mut got.hour, 2))
        }
        "MI" => Some((&mut got.minute, 2)),
        "SS" => Some((&mut got.second, 2)),
        "SSSS" | "SSSSS" => Some((&mut got.seconds_of_day, word.len())),
        "MM" => Some((&mut got.month, 2)),
        "DDD" | "IDDD" => Some((&mut got.year_day, 3)),
        "DD" => Some((&mut got.day, 2)),
        "D" => Some((&mut got.weekday, 1)),
        "WW" | "IW" => Some((&mut got.week, 2)),
        "W" => Some((&mut got.month_week, 1)),
        "CC" => Some((&mut got.century, 2)),
        "J" => Some((&mut got.julian, 1)),
        _ => None,
    };
    if let Some((field, width)) = plain {
        let (value, _) = scan.integer(wanted, width)?;
        set(field, value, name)?;
        scan.skip_ordinal(wanted);
        return Ok(());
    }
    match word {
        "Y,YYY" => {
            set(&mut got.year, grouped_year(scan)?, name)?;
            got.year_digits = 4;
        }
        "YYYY" | "IYYY" | "YYY" | "IYY" | "YY" | "IY" | "Y" | "I" => {
            let width = word.len();
            let (value, taken) = scan.integer(wanted, width)?;
            set(&mut got.year, value, name)?;
            if width < 4 && taken < 4 {
                got.year = full_year(got.year);
            }
            got.year_digits = width as i32;
        }
        "ID" => {
            let (value, _) = scan.integer(wanted, 1)?;
            set(&mut got.weekday, value, name)?;
            // Monday is 1 here.
            got.weekday = if value >= 7 { 1 } else { value + 1 };
        }
        // Nobody can say which day of a quarter is meant.
        "Q" => {
            scan.integer(wanted, 1)?;
        }
        "MS" => {
            let (value, taken) = scan.integer(wanted, 3)?;
            set(&mut got.millis, value, name)?;
            got.millis = scaled(value, taken, 3);
        }
        "TZH" | "TZM" => return read_zone(scan, wanted, word, got),
        // US, FF1 to FF6.
        _ => {
            let digits = word.strip_prefix("FF").and_then(|n| n.parse::<i32>().ok());
            got.fraction = digits.unwrap_or(got.fraction);
            let (value, taken) = scan.integer(wanted, digits.unwrap_or(6) as usize)?;
            set(&mut got.micros, value, name)?;
            got.micros = scaled(value, taken, 6);
        }
    }
    scan.skip_ordinal(wanted);
    Ok(())
}

/// Two and three digit years are those nearest to 2020.
fn full_year(year: i32) -> i32 {
    match year {
        ..70 => year + 2000,
        70..100 => year + 1900,
        100..520 => year + 2000,
        520..1000 => year + 1000,
        year => year,
    }
}

/// `2,024`
fn grouped_year(scan: &mut Scanner<'_>) -> Result<i32, TypeError> {
    let rest = scan.rest().as_bytes();
    let read = || {
        let (thousands, taken) = leading_integer(rest)?;
        let behind = rest[taken..].strip_prefix(b",")?;
        let blanks = behind
            .iter()
            .take_while(|b| is_space(char::from(**b)))
            .count();
        let three = &behind[blanks..behind.len().min(blanks + 3)];
        let (ones, more) = leading_integer(three)?;
        Some((thousands, ones, taken + 1 + blanks + more))
    };
    let Some((thousands, ones, taken)) = read() else {
        let what = "invalid input string for \"Y,YYY\"";
        return Err(TypeError::new("22007", what));
    };
    let year = thousands
        .checked_mul(1000)
        .and_then(|year| year.checked_add(ones))
        .and_then(|year| i32::try_from(year).ok())
        .ok_or_else(|| {
            let what = "value for \"Y,YYY\" in source string is out of range";
            TypeError::new("22008", what)
        })?;
    scan.at += taken;
    Ok(year)
}

fn read_zone(
    scan: &mut Scanner<'_>,
    wanted: &Wanted,
    word: &str,
    got: &mut Read,
) -> Result<(), TypeError> {
    if word == "TZM" {
        if got.zone_sign == 0 {
            got.zone_sign = 1;
        }
        let (value, _) = scan.integer(wanted, 2)?;
        return set(&mut got.zone_minute, value, wanted.name);
    }
    got.zone_sign = match scan.next_char() {
        Some(sign @ ('+' | '-' | ' ')) => {
            scan.at += 1;
            if sign == '-' { -1 } else { 1 }
        }
        // A separator of the template may have taken the sign.
        _ if scan.extra > 0 && scan.text[..scan.at].ends_with('-') => -1,
        _ => 1,
    };
    let (value, _) = scan.integer(wanted, 2)?;
    set(&mut got.zone_hour, value, wanted.name)
}

fn overflow(text: &str) -> TypeError {
    TypeError::new(
        "22008",
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// Hour, minute and second that were read, not yet looked at but for the 12-hour clock.
fn clock_of(got: &Read) -> Result<(i32, i32, i32), TypeError> {
    let all = got.seconds_of_day;
    let or = |value: i32, other: i32| if value == 0 { other } else { value };
    let mut hour = or(got.hour, all / 3600);
    if got.twelve_hour {
        if !(1..=12).contains(&hour) {
            return Err(TypeError::new(
                "22007",
                format!("hour \"{hour}\" is invalid for the 12-hour clock"),
            )
            .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        if got.pm != 0 && hour < 12 {
            hour += 12;
        } else if got.pm == 0 && hour == 12 {
            hour = 0;
        }
    }
    Ok((
        hour,
        or(got.minute, all % 3600 / 60),
        or(got.second, all % 60),
    ))
}

/// The year that was read, 1 BC being 0; `None` if none was.
fn year_of(got: &Read) -> Option<i64> {
    let sign = if got.bc != 0 { -1 } else { 1 };
    let (year, century) = (i64::from(got.year), i64::from(got.century) * sign);
    if year != 0 && century != 0 && got.year_digits <= 2 {
        // The 21st century began in 2001, the 6th before Christ in 600.
        return Some(match year % 100 {
            0 => century * 100 + i64::from(century < 0),
            of if century >= 0 => of + (century - 1) * 100,
            of => (century + 1) * 100 - of + 1,
        });
    }
    if year != 0 {
        let year = year * sign;
        return Some(year + i64::from(year < 0));
    }
    match century {
        0 => None,
        1.. => Some((century - 1) * 100 + 1),
        _ => Some(century * 100 + 1),
    }
}

/// A day in the making, with which of its parts were given.
struct Day {
    year: i32,
    month: i64,
    day: i64,
    given: (bool, bool, bool),
}

impl Day {
    /// Becomes the day of a number; false if there is none.
    fn becomes(&mut self, days: i64) -> bool {
        let Ok(days) = i32::try_from(days) else {
            return false;
        };
        let (year, month, day) = date_of(days);
        *self = Day {
            year,
            month: month.into(),
            day: day.into(),
            given: (true, true, true),
        };
        true
    }
}

/// The day that was read; `None` if its year is beyond all that there are.
fn day_of(text: &str, got: &Read) -> Result<Option<Day>, TypeError> {
    let year = year_of(got);
    let Some(known) = i32::try_from(year.unwrap_or(0))
        .ok()
        .filter(|year| (-4713..=5_874_898).contains(year))
    else {
        return Ok(None);
    };
    let mut d = Day {
        year: known,
        month: 1,
        day: 1,
        given: (year.is_some(), false, false),
    };
    if got.julian != 0 && !d.becomes(i64::from(got.julian) - i64::from(EPOCH_JULIAN)) {
        return Ok(None);
    }
    let is_iso = got.convention == Some(Convention::IsoWeek);
    let mut year_day = i64::from(got.year_day);
    let week = i64::from(got.week);
    if week != 0 && is_iso {
        let monday = i64::from(iso_day(d.year, 1, 1)) + (week - 1) * 7;
        let behind = match i64::from(got.weekday) {
            0 => 0,
            day @ 2.. => day - 2,
            _ => 6,
        };
        if !d.becomes(monday + behind) {
            return Ok(None);
        }
    } else if week != 0 {
        year_day = (week - 1) * 7 + 1;
    }
    let day = match i64::from(got.month_week) {
        0 => i64::from(got.day),
        week => (week - 1) * 7 + 1,
    };
    if day != 0 {
        (d.day, d.given.2) = (day, true);
    }
    if got.month != 0 {
        (d.month, d.given.1) = (got.month.into(), true);
    }
    if year_day != 0 && (d.month <= 1 || d.day <= 1) {
        if d.year == 0 && got.bc == 0 {
            let what = "cannot calculate day of year without year information";
            return Err(TypeError::new("22007", what));
        }
        if is_iso {
            if !d.becomes(i64::from(iso_day(d.year, 1, 1)) - 1 + year_day) {
                return Ok(None);
            }
        } else {
            by_day_of_year(&mut d, year_day);
        }
    }
    if is_valid(&d) {
        Ok(Some(d))
    } else {
        Err(overflow(text))
    }
}

/// Month and day as far as they were not given. A day beyond the year's end comes out as a thirteenth month.
fn by_day_of_year(d: &mut Day, year_day: i64) {
    let ends = &MONTH_ENDS[usize::from(is_leap(d.year))];
    let month = (1..13_usize).find(|m| year_day <= ends[*m]).unwrap_or(13);
    if d.month <= 1 {
        d.month = month as i64;
    }
    if d.day <= 1 {
        d.day = year_day - ends[month - 1];
    }
    (d.given.1, d.given.2) = (true, true);
}

/// `ValidateDate`: only what was given is looked at, so 30 February may stand without its year.
fn is_valid(d: &Day) -> bool {
    let (year, month, day) = d.given;
    if month && !(1..=12).contains(&d.month) {
        return false;
    }
    if day && !(1..=31).contains(&d.day) {
        return false;
    }
    let all = year && month && day;
    !all || d.day <= i64::from(days_in_month(d.year, d.month as i32))
}

/// The day and time that were read; the day may be one that its month does not have. `None`: there is no such year.
fn assemble(text: &str, template: &str) -> Result<(Read, Option<Fields>), TypeError> {
    let got = read(text, template)?;
    let (hour, minute, second) = clock_of(&got)?;
    let day = day_of(text, &got)?;
    let micros = i64::from(got.millis) * 1000 + i64::from(got.micros);
    let is_time = (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..SECOND).contains(&micros);
    if !is_time {
        return Err(overflow(text));
    }
    let is_zone =
        (0..=MAX_ZONE_HOUR).contains(&got.zone_hour) && (0..60).contains(&got.zone_minute);
    if got.zone_sign != 0 && !is_zone {
        let what = format!("time zone displacement out of range: \"{text}\"");
        return Err(TypeError::new("22009", what));
    }
    let fields = day.map(|d| Fields {
        year: d.year,
        month: d.month as i32,
        day: d.day as i32,
        hour,
        minute,
        second,
        micros: micros as i32,
    });
    let possible = fields.filter(|f| is_valid_julian(f.year, f.month));
    Ok((got, possible))
}

fn date_from(text: &str, template: &str) -> Result<Date, TypeError> {
    let (_, fields) = assemble(text, template)?;
    fields
        .map(|f| f.days())
        .filter(|days| is_valid_date(*days))
        .map(Date)
        .ok_or_else(|| TypeError::new("22008", format!("date out of range: \"{text}\"")))
}

fn timestamp_from(text: &str, template: &str, cx: &FunctionCx) -> Result<StampTz, TypeError> {
    let (got, fields) = assemble(text, template)?;
    let f = fields.ok_or_else(timestamp_out_of_range)?;
    let local = i64::from(f.days())
        .checked_mul(DAY)
        .and_then(|days| days.checked_add(f.time()))
        .ok_or_else(timestamp_out_of_range)?;
    let east = match got.zone_sign {
        0 => zone::offset_of_local(&cx.time_zone, local),
        sign => sign * (got.zone_hour * 3600 + got.zone_minute * 60),
    };
    let instant = local
        .checked_sub(i64::from(east) * SECOND)
        .filter(|t| is_valid_timestamp(*t))
        .ok_or_else(timestamp_out_of_range)?;
    Ok(StampTz(match got.fraction {
        0 => instant,
        digits => round_timestamp(instant, digits),
    }))
}

scalar! {
    fn to_date(text: &str, template: &str) -> Date { date_from(text, template) }
    fn to_timestamp[cx](text: &str, template: &str) -> StampTz { timestamp_from(text, template, cx) }
}
