//! Functions that PostgreSQL 15 does not have: the older names of the backup functions (PostgreSQL 14's signatures, with
//! oids that PostgreSQL leaves free), our own, and conversions that it makes without a function.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::{array_functions, conversions};

pub(super) static ROWS: &[Function] = functions! {
    9101 "pg_start_backup" [TEXT BOOL BOOL] PG_LSN VS => Host defaults ["false" "true"];
    9102 "pg_stop_backup" [] PG_LSN VS => Host;
    9103 "pg_stop_backup" [BOOL BOOL] RECORD VS => HostSet defaults ["true"] out ["lsn" PG_LSN "labelfile" TEXT "spcmapfile" TEXT];
    9104 "pg_is_in_backup" [] BOOL VS => Host;
    9105 "pg_backup_start_time" [] TIMESTAMPTZ SS => Host;
    9110 "understudy_check" [] RECORD VS => HostSet out ["relation" TEXT "block" INT8 "item" INT4 "finding" TEXT];
    9111 "understudy_check" [REGCLASS] RECORD VS => HostSet out ["relation" TEXT "block" INT8 "item" INT4 "finding" TEXT];
};

/// Found by oid only: `pg_proc` and name lookup do not show them. `pg_cast` shows a cast with one of these as binary.
pub(super) static HIDDEN: &[Function] = functions! {
    0x8000_0001 "int4_to_oid" [INT4] OID IS => Scalar(conversions::int4_oid);
    0x8000_0003 "int2_to_oid" [INT2] OID IS => Scalar(conversions::int2_oid);
    0x8000_0004 "nextval" [REGCLASS] INT8 VS => Host;
    0x8000_0002 "oid_to_int4" [OID] INT4 IS => Scalar(conversions::oid_int4);
    0x8000_0005 "array_item" [ANYARRAY INT4] ANYELEMENT IS => Scalar(array_functions::array_item);
    0x8000_0006 "name_item" [NAME INT4] CHAR IS => Scalar(array_functions::name_item);
    0x8000_0010 "CURRENT_DATE" [] DATE SS => Host;
    0x8000_0011 "CURRENT_TIME" [INT4] TIMETZ SS => Host;
    0x8000_0012 "CURRENT_TIMESTAMP" [INT4] TIMESTAMPTZ SS => Host;
    0x8000_0013 "LOCALTIME" [INT4] TIME SS => Host;
    0x8000_0014 "LOCALTIMESTAMP" [INT4] TIMESTAMP SS => Host;
    0x8000_0015 "CURRENT_ROLE" [] NAME SS => Host;
    0x8000_0016 "CURRENT_USER" [] NAME SS => Host;
    0x8000_0017 "USER" [] NAME SS => Host;
    0x8000_0018 "SESSION_USER" [] NAME SS => Host;
    0x8000_0019 "CURRENT_CATALOG" [] NAME SS => Host;
    0x8000_001a "CURRENT_SCHEMA" [] NAME SS => Host;
    0x8000_0020 "in_sql_words" [ANYELEMENT] ANYELEMENT SS => Host;
    0x8000_0021 "by_name" [ANYELEMENT] ANYELEMENT SS => Host;
};
