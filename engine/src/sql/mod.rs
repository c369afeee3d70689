//! From a statement's text to its rows.

pub mod error;

pub mod exec;

pub mod copy;

pub mod explain;

pub mod plan;

pub mod front;

pub mod bound;

pub mod bind;

pub mod session;
