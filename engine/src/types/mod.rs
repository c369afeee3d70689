//! Values of SQL types: text and binary forms, arithmetic, functions, operators, casts, aggregates.
//!
//! Knows nothing of pages, transactions or statements. Meaning is PostgreSQL 15's to the digit.

pub mod aggregates;
pub mod array;
pub mod casts;
pub mod codec;
pub mod compare;
pub mod datetime;
pub mod datum;
pub mod error;
pub mod function;
pub mod functions;
pub mod interval;
pub mod numeric;
pub mod oids;
pub mod operators;
pub mod registry;
