//! Dates and times: the calendar, zones, text forms, fields.
//!
//! Days and microseconds count from 2000-01-01; the calendar is proleptic Gregorian with a year 0 (1 BC), which
//! only the text forms rename. Arithmetic between types is in `functions/`.

pub(crate) mod abbreviations;
pub(crate) mod calendar;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod parse;
pub(crate) mod tokens;
pub(crate) mod zone;

use crate::types::error::TypeError;

/// The `DateStyle` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateStyle {
    pub output: DateOutput,
    pub order: FieldOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOutput {
    Iso,
    Sql,
    Postgres,
    German,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOrder {
    Ymd,
    Dmy,
    Mdy,
}

pub(crate) const DAY: i64 = 86_400_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const MINUTE: i64 = 60_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
/// 1970-01-01 in days from 2000-01-01.
pub(crate) const UNIX_EPOCH_DAYS: i32 = -10_957;
pub(crate) const UNIX_EPOCH: i64 = UNIX_EPOCH_DAYS as i64 * DAY;

pub(crate) fn timestamp_out_of_range() -> TypeError {
    TypeError::new("22008", "timestamp out of range")
}
pub(crate) fn date_out_of_range() -> TypeError {
    TypeError::new("22008", "date out of range")
}
pub(crate) fn interval_out_of_range() -> TypeError {
    TypeError::new("22008", "interval out of range")
}
