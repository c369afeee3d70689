//! Times rounded down to units (`date_trunc`) and to strides (`date_bin`).

use super::call::{Stamp, StampTz};
use super::clock::zone_named;
use super::datetime::is_finite;
use super::extract::{Unit, unit, unrecognized, unsupported};
use crate::types::datetime::calendar::{Fields, date_of, day_of_week};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, timestamp_out_of_range, zone};
use crate::types::error::TypeError;
use crate::types::interval::Interval;

/// A unit that times can be cut to; the words for other parts are not units there.
fn size_unit(name: &str, type_name: &str) -> Result<Unit, TypeError> {
    let part = |u: &Unit| {
        matches!(
            u,
            Unit::Epoch | Unit::Dow | Unit::Doy | Unit::IsoDow | Unit::IsoYear | Unit::Julian
        )
    };
    unit(name)
        .filter(|u| !part(u))
        .ok_or_else(|| unrecognized(name, type_name))
}

/// Cuts a local time to the start of its unit.
fn truncate(name: &str, unit: Unit, f: &Fields, type_name: &str) -> Result<Fields, TypeError> {
    let mut f = *f;
    let midnight = |f: &mut Fields| {
        (f.hour, f.minute, f.second, f.micros) = (0, 0, 0, 0);
    };
    match unit {
        Unit::Microseconds => {}
        Unit::Milliseconds => f.micros = f.micros / 1000 * 1000,
        Unit::Second => f.micros = 0,
        Unit::Minute => (f.second, f.micros) = (0, 0),
        Unit::Hour => (f.minute, f.second, f.micros) = (0, 0, 0),
        Unit::Day => midnight(&mut f),
        Unit::Week => {
            let days = f.days();
            (f.year, f.month, f.day) = date_of(days - (day_of_week(days) + 6) % 7);
            midnight(&mut f);
        }
        Unit::Month
        | Unit::Quarter
        | Unit::Year
        | Unit::Decade
        | Unit::Century
        | Unit::Millennium => {
            midnight(&mut f);
            f.day = 1;
            f.month = match unit {
                Unit::Month => f.month,
                Unit::Quarter => (f.month - 1) / 3 * 3 + 1,
                _ => 1,
            };
            f.year = match unit {
                Unit::Decade if f.year > 0 => f.year / 10 * 10,
                Unit::Decade => -((8 - (f.year - 1)) / 10) * 10,
                Unit::Century if f.year > 0 => (f.year + 99) / 100 * 100 - 99,
                Unit::Century => -((99 - (f.year - 1)) / 100) * 100 + 1,
                Unit::Millennium if f.year > 0 => (f.year + 999) / 1000 * 1000 - 999,
                Unit::Millennium => -((999 - (f.year - 1)) / 1000) * 1000 + 1,
                _ => f.year,
            };
        }
        _ => return Err(unsupported(name, type_name)),
    }
    Ok(f)
}

fn trunc_zoned(name: &str, t: i64, zone: &jiff::tz::TimeZone) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    let unit = size_unit(name, "timestamp with time zone")?;
    let east = zone::offset_at(zone, t);
    let f = truncate(
        name,
        unit,
        &Fields::of(t + i64::from(east) * SECOND),
        "timestamp with time zone",
    )?;
    let local = f.timestamp().ok_or_else(timestamp_out_of_range)?;
    // Within a day the offset in effect is kept; a day may begin under another one.
    let keep = matches!(
        unit,
        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour
    );
    let offset = if keep {
        east
    } else {
        zone::offset_of_local(zone, local)
    };
    Ok(local - i64::from(offset) * SECOND)
}

fn interval_truncate(name: &str, i: &Interval) -> Result<Interval, TypeError> {
    let unit = size_unit(name, "interval")?;
    let cut = |size: i64| Interval {
        micros: i.micros / size * size,
        ..*i
    };
    let months = |size: i32| Interval {
        months: i.months / size * size,
        days: 0,
        micros: 0,
    };
    Ok(match unit {
        Unit::Microseconds => *i,
        Unit::Milliseconds => cut(1000),
        Unit::Second => cut(SECOND),
        Unit::Minute => cut(MINUTE),
        Unit::Hour => cut(HOUR),
        Unit::Day => Interval { micros: 0, ..*i },
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        Unit::Week => {
            return Err(
                unsupported(name, "interval").with_detail("Months usually have fractional weeks.")
            );
        }
        _ => return Err(unsupported(name, "interval")),
    })
}

fn bin(stride: &Interval, t: i64, origin: i64) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    if !is_finite(origin) {
        return Err(TypeError::new("22008", "origin out of range"));
    }
    if stride.months != 0 {
        return Err(TypeError::new(
            "0A000",
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let size = i64::from(stride.days)
        .checked_mul(DAY)
        .and_then(|d| d.checked_add(stride.micros))
        .ok_or_else(crate::types::datetime::interval_out_of_range)?;
    if size <= 0 {
        return Err(TypeError::new("22008", "stride must be greater than zero"));
    }
    let difference = t
        .checked_sub(origin)
        .ok_or_else(crate::types::datetime::interval_out_of_range)?;
    let down = difference.div_euclid(size) * size;
    Ok(origin + down)
}
scalar! {
    fn timestamp_trunc(name: &str, t: Stamp) -> Stamp {
        const TYPE: &str = "timestamp without time zone";
        if !is_finite(t.0) { return Ok(t); }
        let f = truncate(name, size_unit(name, TYPE)?, &Fields::of(t.0), TYPE)?;
        f.timestamp().map(Stamp).ok_or_else(timestamp_out_of_range)
    }
    fn timestamptz_trunc[cx](name: &str, t: StampTz) -> StampTz { trunc_zoned(name, t.0, &cx.time_zone).map(StampTz) }
    fn timestamptz_trunc_zone(name: &str, t: StampTz, zone_name: &str) -> StampTz {
        if !is_finite(t.0) { return Ok(t); }
        let found = zone_named(zone_name)?;
        trunc_zoned(name, t.0, &found).map(StampTz)
    }
    fn interval_trunc(name: &str, i: &Interval) -> Interval { interval_truncate(name, i) }
    fn timestamp_bin(stride: &Interval, t: Stamp, origin: Stamp) -> Stamp { bin(stride, t.0, origin.0).map(Stamp) }
    fn timestamptz_bin(stride: &Interval, t: StampTz, origin: StampTz) -> StampTz { bin(stride, t.0, origin.0).map(StampTz) }
}
