//! `interval`: months, days and microseconds, kept apart.

mod decode;
mod encode;

use std::cmp::Ordering;

use crate::types::datetime::{DAY, SECOND, interval_out_of_range};
use crate::types::error::TypeError;

pub(crate) use decode::parse;
pub(crate) use encode::write;

/// Manual, 8.5.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IntervalStyle {
    #[default]
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

/// Bits of the fields in an interval's modifier (`interval day to second(3)`).
pub(crate) mod range {
    pub const YEAR: i32 = 1 << 2;
    pub const MONTH: i32 = 1 << 1;
    pub const DAY: i32 = 1 << 3;
    pub const HOUR: i32 = 1 << 10;
    pub const MINUTE: i32 = 1 << 11;
    pub const SECOND: i32 = 1 << 12;
    /// No restriction.
    pub const FULL: i32 = 0x7FFF;
}

impl Interval {
    /// Microseconds with 30-day months and 24-hour days: the measure by which intervals compare.
    pub fn span(&self) -> i128 {
        i128::from(self.micros)
            + (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY)
    }
    pub fn compare(&self, other: &Interval) -> Ordering {
        self.span().cmp(&other.span())
    }
    pub fn negate(&self) -> Result<Interval, TypeError> {
        Ok(Interval {
            months: self
                .months
                .checked_neg()
                .ok_or_else(interval_out_of_range)?,
            days: self.days.checked_neg().ok_or_else(interval_out_of_range)?,
            micros: self
                .micros
                .checked_neg()
                .ok_or_else(interval_out_of_range)?,
        })
    }
    pub fn add(&self, other: &Interval) -> Result<Interval, TypeError> {
        Ok(Interval {
            months: self
                .months
                .checked_add(other.months)
                .ok_or_else(interval_out_of_range)?,
            days: self
                .days
                .checked_add(other.days)
                .ok_or_else(interval_out_of_range)?,
            micros: self
                .micros
                .checked_add(other.micros)
                .ok_or_else(interval_out_of_range)?,
        })
    }
    pub fn sub(&self, other: &Interval) -> Result<Interval, TypeError> {
        Ok(Interval {
            months: self
                .months
                .checked_sub(other.months)
                .ok_or_else(interval_out_of_range)?,
            days: self
                .days
                .checked_sub(other.days)
                .ok_or_else(interval_out_of_range)?,
            micros: self
                .micros
                .checked_sub(other.micros)
                .ok_or_else(interval_out_of_range)?,
        })
    }

    /// Each field times (or divided by) `factor`; fractions of months become days (of 30 to the month), fractions
    /// of days become time.
    pub fn scale_by(&self, apply: impl Fn(f64) -> f64) -> Result<Interval, TypeError> {
        const DAY_SECONDS: f64 = 86_400.0;
        let whole = |v: f64| -> Result<i32, TypeError> {
            let fits = v > -2_147_483_649.0 && v < 2_147_483_648.0;
            if fits {
                Ok(v as i32)
            } else {
                Err(interval_out_of_range())
            }
        };
        // PostgreSQL rounds intermediate fractions to a millionth, so that 0.1 + 0.2 troubles do not show.
        let settle = |v: f64| (v * 1_000_000.0).round_ties_even() / 1_000_000.0;
        let (months_real, days_real) = (apply(f64::from(self.months)), apply(f64::from(self.days)));
        let (months, mut days) = (whole(months_real)?, whole(days_real)?);
        let month_days = settle((months_real - f64::from(months)) * 30.0);
        let mut seconds =
            settle((days_real - f64::from(days) + month_days - month_days.trunc()) * DAY_SECONDS);
        if seconds.abs() >= DAY_SECONDS {
            let carry = (seconds / DAY_SECONDS) as i32;
            days = days.checked_add(carry).ok_or_else(interval_out_of_range)?;
            seconds -= f64::from(carry) * DAY_SECONDS;
        }
        days = days
            .checked_add(month_days as i32)
            .ok_or_else(interval_out_of_range)?;
        let micros = (apply(self.micros as f64) + seconds * 1_000_000.0).round_ties_even();
        if micros.is_nan()
            || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros)
        {
            return Err(interval_out_of_range());
        }
        Ok(Interval {
            months,
            days,
            micros: micros as i64,
        })
    }

    pub fn justify_hours(&self) -> Result<Interval, TypeError> {
        let carry = (self.micros / DAY) as i32;
        let mut out = Interval {
            months: self.months,
            days: self
                .days
                .checked_add(carry)
                .ok_or_else(interval_out_of_range)?,
            micros: self.micros % DAY,
        };
        out.borrow_time();
        Ok(out)
    }
    pub fn justify_days(&self) -> Result<Interval, TypeError> {
        let mut out = Interval {
            months: self
                .months
                .checked_add(self.days / 30)
                .ok_or_else(interval_out_of_range)?,
            days: self.days % 30,
            micros: self.micros,
        };
        if out.months > 0 && out.days < 0 {
            out.days += 30;
            out.months -= 1;
        } else if out.months < 0 && out.days > 0 {
            out.days -= 30;
            out.months += 1;
        }
        Ok(out)
    }
    pub fn justify_interval(&self) -> Result<Interval, TypeError> {
        let total_days = i64::from(self.days) + self.micros / DAY;
        let months = i64::from(self.months) + total_days / 30;
        let mut out = Interval {
            months: i32::try_from(months).map_err(|_| interval_out_of_range())?,
            days: (total_days % 30) as i32,
            micros: self.micros % DAY,
        };
        if out.months > 0 && (out.days < 0 || (out.days == 0 && out.micros < 0)) {
            out.days += 30;
            out.months -= 1;
        } else if out.months < 0 && (out.days > 0 || (out.days == 0 && out.micros > 0)) {
            out.days -= 30;
            out.months += 1;
        }
        out.borrow_time();
        Ok(out)
    }
    /// Days and time get the same sign.
    fn borrow_time(&mut self) {
        if self.days > 0 && self.micros < 0 {
            self.micros += DAY;
            self.days -= 1;
        } else if self.days < 0 && self.micros > 0 {
            self.micros -= DAY;
            self.days += 1;
        }
    }

    /// What `interval day to second(3)` and the like make of a value.
    #[must_use]
    pub fn apply_modifier(self, modifier: i32) -> Interval {
        if modifier < 0 {
            return self;
        }
        let (fields, precision) = ((modifier >> 16) & 0x7FFF, modifier & 0xFFFF);
        let mut out = self;
        let keep_time = |unit: i64, t: i64| t / unit * unit;
        match fields {
            range::FULL => {}
            range::YEAR => {
                out = Interval {
                    months: out.months / 12 * 12,
                    days: 0,
                    micros: 0,
                };
            }
            f if f == range::MONTH || f == range::YEAR | range::MONTH => {
                out.days = 0;
                out.micros = 0;
            }
            range::DAY => out.micros = 0,
            f if f & range::SECOND != 0 => {}
            f if f & range::MINUTE != 0 => out.micros = keep_time(60 * SECOND, out.micros),
            _ => out.micros = keep_time(3600 * SECOND, out.micros),
        }
        if precision < 6 && (fields == range::FULL || fields & range::SECOND != 0) {
            out.micros = round_micros(out.micros, precision as u32);
        }
        out
    }
}

/// Rounded half away from zero to `precision` digits of the second.
pub(crate) fn round_micros(micros: i64, precision: u32) -> i64 {
    let unit = 10_i64.pow(6 - precision.min(6));
    let half = unit / 2;
    if micros >= 0 {
        micros.saturating_add(half) / unit * unit
    } else {
        micros.saturating_sub(half) / unit * unit
    }
}
