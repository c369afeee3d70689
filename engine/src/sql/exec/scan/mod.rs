//! Where rows come from: tables, indexes, and what is computed.

pub mod computed;
pub mod fetch;
pub mod index;
pub mod keys;
pub mod seq;
