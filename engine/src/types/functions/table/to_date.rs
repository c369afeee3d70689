//! Rows of `pg_proc`: what `functions/to_date` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::to_date;

pub(super) static ROWS: &[Function] = functions! {
    1778 "to_timestamp" [TEXT TEXT] TIMESTAMPTZ SS => Scalar(to_date::to_timestamp);
    1780 "to_date" [TEXT TEXT] DATE SS => Scalar(to_date::to_date);
};
