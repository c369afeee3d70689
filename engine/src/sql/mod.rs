//! From a statement's text to its rows.

pub mod error;

pub mod front;

pub mod bound;

pub mod bind;
