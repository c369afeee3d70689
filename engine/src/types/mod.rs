//! Values of SQL types: text and binary forms, arithmetic, functions, operators, casts, aggregates.
//!
//! Knows nothing of pages, transactions or statements. Meaning is PostgreSQL 15's to the digit.

pub mod acl;
pub mod aggregates;
pub mod array;
mod cast_table;
pub mod casts;
pub mod codec;
pub mod compare;
mod conversion_table;
pub mod conversions;
pub mod datetime;
pub mod datum;
pub mod error;
pub mod float;
pub mod function;
#[macro_use]
pub mod functions;
pub mod in_range;
pub mod interval;
pub mod json;
pub mod numeric;
pub mod oids;
pub mod opclass;
mod operator_table;
pub mod operators;
pub mod record;
pub(crate) mod regex;
pub mod registry;
pub mod size;
mod type_table;
pub mod windows;

#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod tests;
