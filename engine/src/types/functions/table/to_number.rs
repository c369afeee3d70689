//! Rows of `pg_proc`: what `functions/to_number` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::to_number;

pub(super) static ROWS: &[Function] = functions! {
    1772 "to_char" [NUMERIC TEXT] TEXT SS => Scalar(to_number::numeric_to_char);
    1773 "to_char" [INT4 TEXT] TEXT SS => Scalar(to_number::int4_to_char);
    1774 "to_char" [INT8 TEXT] TEXT SS => Scalar(to_number::int8_to_char);
    1775 "to_char" [FLOAT4 TEXT] TEXT SS => Scalar(to_number::float4_to_char);
    1776 "to_char" [FLOAT8 TEXT] TEXT SS => Scalar(to_number::float8_to_char);
    1777 "to_number" [TEXT TEXT] NUMERIC SS => Scalar(to_number::numeric_to_number);
};
