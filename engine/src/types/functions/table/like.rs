//! Rows of `pg_proc`: what `functions/like` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::like;

pub(super) static ROWS: &[Function] = functions! {
    850 "textlike" [TEXT TEXT] BOOL IS => Scalar(like::textlike);
    851 "textnlike" [TEXT TEXT] BOOL IS => Scalar(like::textnlike);
    858 "namelike" [NAME TEXT] BOOL IS => Scalar(like::namelike);
    859 "namenlike" [NAME TEXT] BOOL IS => Scalar(like::namenlike);
    1569 "like" [TEXT TEXT] BOOL IS => Scalar(like::textlike);
    1570 "notlike" [TEXT TEXT] BOOL IS => Scalar(like::textnlike);
    1571 "like" [NAME TEXT] BOOL IS => Scalar(like::namelike);
    1572 "notlike" [NAME TEXT] BOOL IS => Scalar(like::namenlike);
    1631 "bpcharlike" [BPCHAR TEXT] BOOL IS => Scalar(like::textlike);
    1632 "bpcharnlike" [BPCHAR TEXT] BOOL IS => Scalar(like::textnlike);
    1633 "texticlike" [TEXT TEXT] BOOL IS => Scalar(like::texticlike);
    1634 "texticnlike" [TEXT TEXT] BOOL IS => Scalar(like::texticnlike);
    1635 "nameiclike" [NAME TEXT] BOOL IS => Scalar(like::nameiclike);
    1636 "nameicnlike" [NAME TEXT] BOOL IS => Scalar(like::nameicnlike);
    1637 "like_escape" [TEXT TEXT] TEXT IS => Scalar(like::like_escape);
    1660 "bpchariclike" [BPCHAR TEXT] BOOL IS => Scalar(like::texticlike);
    1661 "bpcharicnlike" [BPCHAR TEXT] BOOL IS => Scalar(like::texticnlike);
    2005 "bytealike" [BYTEA BYTEA] BOOL IS => Scalar(like::bytealike);
    2006 "byteanlike" [BYTEA BYTEA] BOOL IS => Scalar(like::byteanlike);
    2007 "like" [BYTEA BYTEA] BOOL IS => Scalar(like::bytealike);
    2008 "notlike" [BYTEA BYTEA] BOOL IS => Scalar(like::byteanlike);
};
