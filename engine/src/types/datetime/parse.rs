//! Text to dates, times and timestamps.

use super::calendar::{is_valid_date, is_valid_julian, is_valid_timestamp};
use super::decode::{Decoded, Fault, Setting, Zone, decode};
use super::{DAY, SECOND, UNIX_EPOCH, UNIX_EPOCH_DAYS, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;

fn setting(cx: &FunctionCx) -> Setting<'_> {
    Setting {
        style: cx.date_style,
        zone: &cx.time_zone,
        now: cx.transaction_timestamp,
    }
}

fn read(
    text: &str,
    type_name: &str,
    cx: &FunctionCx,
    time_only: bool,
) -> Result<Decoded, TypeError> {
    decode(text, &setting(cx), time_only).map_err(|(fault, field)| match fault {
        Fault::UnknownZone => {
            TypeError::new("22023", format!("time zone \"{field}\" not recognized"))
        }
        fault => fault.into_error(type_name, text),
    })
}

/// `date` input. The infinities are `i32::MIN` and `i32::MAX`.
pub fn date(text: &str, cx: &FunctionCx) -> Result<i32, TypeError> {
    let out_of_range = || TypeError::new("22008", format!("date out of range: \"{text}\""));
    match read(text, "date", cx, false)? {
        Decoded::Infinity => Ok(i32::MAX),
        Decoded::MinusInfinity => Ok(i32::MIN),
        Decoded::Epoch => Ok(UNIX_EPOCH_DAYS),
        Decoded::Moment { fields, .. } => {
            if !is_valid_julian(fields.year, fields.month) {
                return Err(out_of_range());
            }
            let days = fields.days();
            if is_valid_date(days) {
                Ok(days)
            } else {
                Err(out_of_range())
            }
        }
    }
}

/// `timestamp` input; a zone in the text is read and ignored.
pub fn timestamp(text: &str, cx: &FunctionCx) -> Result<i64, TypeError> {
    match read(text, "timestamp", cx, false)? {
        Decoded::Infinity => Ok(i64::MAX),
        Decoded::MinusInfinity => Ok(i64::MIN),
        Decoded::Epoch => Ok(UNIX_EPOCH),
        Decoded::Moment { fields, .. } => fields.timestamp().ok_or_else(|| out_of_range(text)),
    }
}

fn out_of_range(text: &str) -> TypeError {
    TypeError::new("22008", format!("timestamp out of range: \"{text}\""))
}

/// `timestamptz` input: without a zone in the text, the session's.
pub fn timestamptz(text: &str, cx: &FunctionCx) -> Result<i64, TypeError> {
    match read(text, "timestamp with time zone", cx, false)? {
        Decoded::Infinity => Ok(i64::MAX),
        Decoded::MinusInfinity => Ok(i64::MIN),
        Decoded::Epoch => Ok(UNIX_EPOCH),
        Decoded::Moment { fields, offset, .. } => {
            if !is_valid_julian(fields.year, fields.month) {
                return Err(out_of_range(text));
            }
            let local = i64::from(fields.days())
                .checked_mul(DAY)
                .and_then(|d| d.checked_add(fields.time()))
                .ok_or_else(|| out_of_range(text))?;
            let east = match offset {
                Some(Zone::Offset(seconds)) => seconds,
                Some(Zone::Named(zone)) => zone::offset_of_local(&zone, local),
                None => zone::offset_of_local(&cx.time_zone, local),
            };
            local
                .checked_sub(i64::from(east) * SECOND)
                .filter(|t| is_valid_timestamp(*t))
                .ok_or_else(|| out_of_range(text))
        }
    }
}

/// `time` input: microseconds since midnight; a date in the text is ignored.
pub fn time(text: &str, cx: &FunctionCx) -> Result<i64, TypeError> {
    match read(text, "time", cx, true)? {
        Decoded::Moment { fields, .. } => Ok(fields.time()),
        _ => Err(Fault::Format.into_error("time", text)),
    }
}

/// `timetz` input: microseconds since midnight, and seconds *west*.
pub fn timetz(text: &str, cx: &FunctionCx) -> Result<(i64, i32), TypeError> {
    match read(text, "time with time zone", cx, true)? {
        Decoded::Moment {
            fields,
            offset,
            has_date,
            ..
        } => {
            let at_day = |zone: &jiff::tz::TimeZone| {
                let day = if has_date {
                    i64::from(fields.days())
                } else {
                    i64::from(zone::local_day(zone, cx.transaction_timestamp))
                };
                zone::offset_of_local(zone, day * DAY + fields.time())
            };
            let east = match offset {
                Some(Zone::Offset(seconds)) => seconds,
                Some(Zone::Named(zone)) => at_day(&zone),
                None => at_day(&cx.time_zone),
            };
            Ok((fields.time(), -east))
        }
        _ => Err(Fault::Format.into_error("time with time zone", text)),
    }
}
