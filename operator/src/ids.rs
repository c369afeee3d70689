//! The newtypes that every room of the operator shares: terms, log positions, instance ids, times.
//!
//! Owns all arithmetic on them. The engine has its own `Lsn`; the two programs meet only in JSON, where a
//! position is `X/X` and a term is a number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of one attempt to make a primary. It is also the timeline that the promotion starts.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Term(u32);

impl Term {
    /// The term in which the first instance is created: timeline 1.
    pub const FIRST: Term = Term(1);

    pub const fn new(number: u32) -> Term {
        Term(number)
    }
    pub const fn number(self) -> u32 {
        self.0
    }
    /// The term after this one. Panics after four thousand million failovers.
    #[must_use]
    pub const fn next(self) -> Term {
        match self.0.checked_add(1) {
            Some(number) => Term(number),
            None => panic!("terms are used up"),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the write-ahead log, bytes since the cluster began; `X/X` in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    pub const fn new(raw: u64) -> Lsn {
        Lsn(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    /// Bytes from `earlier` to here, 0 if `earlier` is later.
    pub const fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}
impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a log position.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid log position \"{0}\"")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;
    fn from_str(text: &str) -> Result<Lsn, ParseLsnError> {
        let bad = || ParseLsnError(text.to_owned());
        let half = |part: &str| {
            let plain =
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if plain {
                u64::from_str_radix(part, 16).map_err(|_| bad())
            } else {
                Err(bad())
            }
        };
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        Ok(Lsn((half(high)? << 32) | half(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for Lsn {
    fn schema_name() -> Cow<'static, str> {
        "Lsn".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 17})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// The identity of one copy of the data. A new seed is a new id, whatever the instance is called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct InstanceId(#[schemars(length(max = 64))] String);

impl InstanceId {
    pub fn new(text: impl Into<String>) -> InstanceId {
        InstanceId(text.into())
    }
    /// An id that no copy has had.
    pub fn random() -> InstanceId {
        InstanceId(uuid::Uuid::new_v4().to_string())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Milliseconds since 1970. Used for reports and time-outs only, never for safety.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    pub const fn new(raw: u64) -> Millis {
        Millis(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub fn now() -> Millis {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
    /// Milliseconds from `earlier` to here, 0 if `earlier` is later.
    pub const fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    #[must_use]
    pub const fn plus(self, milliseconds: u64) -> Millis {
        Millis(self.0.saturating_add(milliseconds))
    }
    /// As `2026-11-24T01:02:03.456Z`.
    pub fn rfc3339(self) -> String {
        let raw = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(raw)
            .map_or_else(|_| self.0.to_string(), |at| format!("{at:.3}"))
    }
    /// What [`Millis::rfc3339`] has written; none where it is something else.
    pub fn of_rfc3339(text: &str) -> Option<Millis> {
        let at: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(at.as_millisecond()).ok().map(Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for raw in [0, 1_766_000_000_123] {
            let at = Millis::new(raw);
            assert_eq!(Millis::of_rfc3339(&at.rfc3339()), Some(at));
        }
        assert_eq!(Millis::of_rfc3339(""), None);
        assert_eq!(Millis::of_rfc3339("1969-12-31T23:59:59Z"), None);
    }
}
