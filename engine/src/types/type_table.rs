//! The rows of `pg_type`, as PostgreSQL 15 has them.

use super::registry::Type;
use crate::ids::Oid;

macro_rules! types {
    ($($oid:literal $name:literal $len:literal $byval:literal $kind:literal $cat:literal $pref:literal
       $elem:literal $array:literal $align:literal $storage:literal $io:tt $mods:tt $coll:literal $subscript:literal;)*) => {
        &[$(types!(@row $oid $name $len $byval $kind $cat $pref $elem $array $align $storage $io $mods $coll $subscript)),*]
    };
    (@row $oid:literal $name:literal $len:literal $byval:literal $kind:literal $cat:literal $pref:literal
       $elem:literal $array:literal $align:literal $storage:literal
       [$input:literal $output:literal $receive:literal $send:literal] [$modin:literal $modout:literal]
       $coll:literal $subscript:literal) => {
        Type {
            oid: Oid::new($oid),
            name: $name,
            length: $len,
            by_value: $byval,
            kind: $kind,
            category: $cat,
            preferred: $pref,
            element: Oid::new($elem),
            array: Oid::new($array),
            align: $align,
            storage: $storage,
            input: $input,
            output: $output,
            receive: $receive,
            send: $send,
            modifier_in: $modin,
            modifier_out: $modout,
            collation: Oid::new($coll),
            subscript: $subscript,
        }
    };
}

/// Oid, name, length, by value, kind, category, preferred, element, array, alignment, storage, functions for text
/// and binary, functions for the modifier, collation, subscripting function.
pub(super) static TYPES: &[Type] = types! {
    16 "bool" 1 true b'b' b'B' true 0 1000 b'c' b'p' ["boolin" "boolout" "boolrecv" "boolsend"] ["" ""] 0 "";
    17 "bytea" -1 false b'b' b'U' false 0 1001 b'i' b'x' ["byteain" "byteaout" "bytearecv" "byteasend"] ["" ""] 0 "";
    18 "char" 1 true b'b' b'Z' false 0 1002 b'c' b'p' ["charin" "charout" "charrecv" "charsend"] ["" ""] 0 "";
    19 "name" 64 false b'b' b'S' false 18 1003 b'c' b'p' ["namein" "nameout" "namerecv" "namesend"] ["" ""] 950 "raw_array_subscript_handler";
    20 "int8" 8 true b'b' b'N' false 0 1016 b'd' b'p' ["int8in" "int8out" "int8recv" "int8send"] ["" ""] 0 "";
    21 "int2" 2 true b'b' b'N' false 0 1005 b's' b'p' ["int2in" "int2out" "int2recv" "int2send"] ["" ""] 0 "";
    22 "int2vector" -1 false b'b' b'A' false 21 1006 b'i' b'p' ["int2vectorin" "int2vectorout" "int2vectorrecv" "int2vectorsend"] ["" ""] 0 "array_subscript_handler";
    23 "int4" 4 true b'b' b'N' false 0 1007 b'i' b'p' ["int4in" "int4out" "int4recv" "int4send"] ["" ""] 0 "";
    24 "regproc" 4 true b'b' b'N' false 0 1008 b'i' b'p' ["regprocin" "regprocout" "regprocrecv" "regprocsend"] ["" ""] 0 "";
    25 "text" -1 false b'b' b'S' true 0 1009 b'i' b'x' ["textin" "textout" "textrecv" "textsend"] ["" ""] 100 "";
    26 "oid" 4 true b'b' b'N' true 0 1028 b'i' b'p' ["oidin" "oidout" "oidrecv" "oidsend"] ["" ""] 0 "";
    27 "tid" 6 false b'b' b'U' false 0 1010 b's' b'p' ["tidin" "tidout" "tidrecv" "tidsend"] ["" ""] 0 "";
    28 "xid" 4 true b'b' b'U' false 0 1011 b'i' b'p' ["xidin" "xidout" "xidrecv" "xidsend"] ["" ""] 0 "";
    29 "cid" 4 true b'b' b'U' false 0 1012 b'i' b'p' ["cidin" "cidout" "cidrecv" "cidsend"] ["" ""] 0 "";
    30 "oidvector" -1 false b'b' b'A' false 26 1013 b'i' b'p' ["oidvectorin" "oidvectorout" "oidvectorrecv" "oidvectorsend"] ["" ""] 0 "array_subscript_handler";
    114 "json" -1 false b'b' b'U' false 0 199 b'i' b'x' ["json_in" "json_out" "json_recv" "json_send"] ["" ""] 0 "";
    194 "pg_node_tree" -1 false b'b' b'Z' false 0 0 b'i' b'x' ["pg_node_tree_in" "pg_node_tree_out" "pg_node_tree_recv" "pg_node_tree_send"] ["" ""] 100 "";
    199 "_json" -1 false b'b' b'A' false 114 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    269 "table_am_handler" 4 true b'p' b'P' false 0 0 b'i' b'p' ["table_am_handler_in" "table_am_handler_out" "" ""] ["" ""] 0 "";
    271 "_xid8" -1 false b'b' b'A' false 5069 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    325 "index_am_handler" 4 true b'p' b'P' false 0 0 b'i' b'p' ["index_am_handler_in" "index_am_handler_out" "" ""] ["" ""] 0 "";
    700 "float4" 4 true b'b' b'N' false 0 1021 b'i' b'p' ["float4in" "float4out" "float4recv" "float4send"] ["" ""] 0 "";
    701 "float8" 8 true b'b' b'N' true 0 1022 b'd' b'p' ["float8in" "float8out" "float8recv" "float8send"] ["" ""] 0 "";
    705 "unknown" -2 false b'p' b'X' false 0 0 b'c' b'p' ["unknownin" "unknownout" "unknownrecv" "unknownsend"] ["" ""] 0 "";
    1000 "_bool" -1 false b'b' b'A' false 16 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1001 "_bytea" -1 false b'b' b'A' false 17 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1002 "_char" -1 false b'b' b'A' false 18 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1003 "_name" -1 false b'b' b'A' false 19 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 950 "array_subscript_handler";
    1005 "_int2" -1 false b'b' b'A' false 21 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1006 "_int2vector" -1 false b'b' b'A' false 22 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1007 "_int4" -1 false b'b' b'A' false 23 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1008 "_regproc" -1 false b'b' b'A' false 24 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1009 "_text" -1 false b'b' b'A' false 25 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 100 "array_subscript_handler";
    1010 "_tid" -1 false b'b' b'A' false 27 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1011 "_xid" -1 false b'b' b'A' false 28 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1012 "_cid" -1 false b'b' b'A' false 29 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1013 "_oidvector" -1 false b'b' b'A' false 30 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1014 "_bpchar" -1 false b'b' b'A' false 1042 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["bpchartypmodin" "bpchartypmodout"] 100 "array_subscript_handler";
    1015 "_varchar" -1 false b'b' b'A' false 1043 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["varchartypmodin" "varchartypmodout"] 100 "array_subscript_handler";
    1016 "_int8" -1 false b'b' b'A' false 20 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1021 "_float4" -1 false b'b' b'A' false 700 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1022 "_float8" -1 false b'b' b'A' false 701 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1028 "_oid" -1 false b'b' b'A' false 26 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1033 "aclitem" 12 false b'b' b'U' false 0 1034 b'i' b'p' ["aclitemin" "aclitemout" "" ""] ["" ""] 0 "";
    1034 "_aclitem" -1 false b'b' b'A' false 1033 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1042 "bpchar" -1 false b'b' b'S' false 0 1014 b'i' b'x' ["bpcharin" "bpcharout" "bpcharrecv" "bpcharsend"] ["bpchartypmodin" "bpchartypmodout"] 100 "";
    1043 "varchar" -1 false b'b' b'S' false 0 1015 b'i' b'x' ["varcharin" "varcharout" "varcharrecv" "varcharsend"] ["varchartypmodin" "varchartypmodout"] 100 "";
    1082 "date" 4 true b'b' b'D' false 0 1182 b'i' b'p' ["date_in" "date_out" "date_recv" "date_send"] ["" ""] 0 "";
    1083 "time" 8 true b'b' b'D' false 0 1183 b'd' b'p' ["time_in" "time_out" "time_recv" "time_send"] ["timetypmodin" "timetypmodout"] 0 "";
    1114 "timestamp" 8 true b'b' b'D' false 0 1115 b'd' b'p' ["timestamp_in" "timestamp_out" "timestamp_recv" "timestamp_send"] ["timestamptypmodin" "timestamptypmodout"] 0 "";
    1115 "_timestamp" -1 false b'b' b'A' false 1114 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["timestamptypmodin" "timestamptypmodout"] 0 "array_subscript_handler";
    1182 "_date" -1 false b'b' b'A' false 1082 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1183 "_time" -1 false b'b' b'A' false 1083 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["timetypmodin" "timetypmodout"] 0 "array_subscript_handler";
    1184 "timestamptz" 8 true b'b' b'D' true 0 1185 b'd' b'p' ["timestamptz_in" "timestamptz_out" "timestamptz_recv" "timestamptz_send"] ["timestamptztypmodin" "timestamptztypmodout"] 0 "";
    1185 "_timestamptz" -1 false b'b' b'A' false 1184 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["timestamptztypmodin" "timestamptztypmodout"] 0 "array_subscript_handler";
    1186 "interval" 16 false b'b' b'T' true 0 1187 b'd' b'p' ["interval_in" "interval_out" "interval_recv" "interval_send"] ["intervaltypmodin" "intervaltypmodout"] 0 "";
    1187 "_interval" -1 false b'b' b'A' false 1186 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["intervaltypmodin" "intervaltypmodout"] 0 "array_subscript_handler";
    1231 "_numeric" -1 false b'b' b'A' false 1700 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["numerictypmodin" "numerictypmodout"] 0 "array_subscript_handler";
    1263 "_cstring" -1 false b'b' b'A' false 2275 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    1266 "timetz" 12 false b'b' b'D' false 0 1270 b'd' b'p' ["timetz_in" "timetz_out" "timetz_recv" "timetz_send"] ["timetztypmodin" "timetztypmodout"] 0 "";
    1270 "_timetz" -1 false b'b' b'A' false 1266 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["timetztypmodin" "timetztypmodout"] 0 "array_subscript_handler";
    1700 "numeric" -1 false b'b' b'N' false 0 1231 b'i' b'm' ["numeric_in" "numeric_out" "numeric_recv" "numeric_send"] ["numerictypmodin" "numerictypmodout"] 0 "";
    1790 "refcursor" -1 false b'b' b'U' false 0 2201 b'i' b'x' ["textin" "textout" "textrecv" "textsend"] ["" ""] 0 "";
    2201 "_refcursor" -1 false b'b' b'A' false 1790 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2202 "regprocedure" 4 true b'b' b'N' false 0 2207 b'i' b'p' ["regprocedurein" "regprocedureout" "regprocedurerecv" "regproceduresend"] ["" ""] 0 "";
    2203 "regoper" 4 true b'b' b'N' false 0 2208 b'i' b'p' ["regoperin" "regoperout" "regoperrecv" "regopersend"] ["" ""] 0 "";
    2204 "regoperator" 4 true b'b' b'N' false 0 2209 b'i' b'p' ["regoperatorin" "regoperatorout" "regoperatorrecv" "regoperatorsend"] ["" ""] 0 "";
    2205 "regclass" 4 true b'b' b'N' false 0 2210 b'i' b'p' ["regclassin" "regclassout" "regclassrecv" "regclasssend"] ["" ""] 0 "";
    2206 "regtype" 4 true b'b' b'N' false 0 2211 b'i' b'p' ["regtypein" "regtypeout" "regtyperecv" "regtypesend"] ["" ""] 0 "";
    2207 "_regprocedure" -1 false b'b' b'A' false 2202 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2208 "_regoper" -1 false b'b' b'A' false 2203 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2209 "_regoperator" -1 false b'b' b'A' false 2204 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2210 "_regclass" -1 false b'b' b'A' false 2205 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2211 "_regtype" -1 false b'b' b'A' false 2206 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2249 "record" -1 false b'p' b'P' false 0 2287 b'd' b'x' ["record_in" "record_out" "record_recv" "record_send"] ["" ""] 0 "";
    2275 "cstring" -2 false b'p' b'P' false 0 1263 b'c' b'p' ["cstring_in" "cstring_out" "cstring_recv" "cstring_send"] ["" ""] 0 "";
    2276 "any" 4 true b'p' b'P' false 0 0 b'i' b'p' ["any_in" "any_out" "" ""] ["" ""] 0 "";
    2277 "anyarray" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anyarray_in" "anyarray_out" "anyarray_recv" "anyarray_send"] ["" ""] 0 "";
    2278 "void" 4 true b'p' b'P' false 0 0 b'i' b'p' ["void_in" "void_out" "void_recv" "void_send"] ["" ""] 0 "";
    2279 "trigger" 4 true b'p' b'P' false 0 0 b'i' b'p' ["trigger_in" "trigger_out" "" ""] ["" ""] 0 "";
    2280 "language_handler" 4 true b'p' b'P' false 0 0 b'i' b'p' ["language_handler_in" "language_handler_out" "" ""] ["" ""] 0 "";
    2281 "internal" 8 true b'p' b'P' false 0 0 b'd' b'p' ["internal_in" "internal_out" "" ""] ["" ""] 0 "";
    2283 "anyelement" 4 true b'p' b'P' false 0 0 b'i' b'p' ["anyelement_in" "anyelement_out" "" ""] ["" ""] 0 "";
    2287 "_record" -1 false b'p' b'P' false 2249 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    2776 "anynonarray" 4 true b'p' b'P' false 0 0 b'i' b'p' ["anynonarray_in" "anynonarray_out" "" ""] ["" ""] 0 "";
    2950 "uuid" 16 false b'b' b'U' false 0 2951 b'c' b'p' ["uuid_in" "uuid_out" "uuid_recv" "uuid_send"] ["" ""] 0 "";
    2951 "_uuid" -1 false b'b' b'A' false 2950 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    3115 "fdw_handler" 4 true b'p' b'P' false 0 0 b'i' b'p' ["fdw_handler_in" "fdw_handler_out" "" ""] ["" ""] 0 "";
    3220 "pg_lsn" 8 true b'b' b'U' false 0 3221 b'd' b'p' ["pg_lsn_in" "pg_lsn_out" "pg_lsn_recv" "pg_lsn_send"] ["" ""] 0 "";
    3221 "_pg_lsn" -1 false b'b' b'A' false 3220 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    3310 "tsm_handler" 4 true b'p' b'P' false 0 0 b'i' b'p' ["tsm_handler_in" "tsm_handler_out" "" ""] ["" ""] 0 "";
    3500 "anyenum" 4 true b'p' b'P' false 0 0 b'i' b'p' ["anyenum_in" "anyenum_out" "" ""] ["" ""] 0 "";
    3734 "regconfig" 4 true b'b' b'N' false 0 3735 b'i' b'p' ["regconfigin" "regconfigout" "regconfigrecv" "regconfigsend"] ["" ""] 0 "";
    3735 "_regconfig" -1 false b'b' b'A' false 3734 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    3769 "regdictionary" 4 true b'b' b'N' false 0 3770 b'i' b'p' ["regdictionaryin" "regdictionaryout" "regdictionaryrecv" "regdictionarysend"] ["" ""] 0 "";
    3770 "_regdictionary" -1 false b'b' b'A' false 3769 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    3802 "jsonb" -1 false b'b' b'U' false 0 3807 b'i' b'x' ["jsonb_in" "jsonb_out" "jsonb_recv" "jsonb_send"] ["" ""] 0 "jsonb_subscript_handler";
    3807 "_jsonb" -1 false b'b' b'A' false 3802 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    3831 "anyrange" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anyrange_in" "anyrange_out" "" ""] ["" ""] 0 "";
    3838 "event_trigger" 4 true b'p' b'P' false 0 0 b'i' b'p' ["event_trigger_in" "event_trigger_out" "" ""] ["" ""] 0 "";
    4089 "regnamespace" 4 true b'b' b'N' false 0 4090 b'i' b'p' ["regnamespacein" "regnamespaceout" "regnamespacerecv" "regnamespacesend"] ["" ""] 0 "";
    4090 "_regnamespace" -1 false b'b' b'A' false 4089 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    4096 "regrole" 4 true b'b' b'N' false 0 4097 b'i' b'p' ["regrolein" "regroleout" "regrolerecv" "regrolesend"] ["" ""] 0 "";
    4097 "_regrole" -1 false b'b' b'A' false 4096 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    4191 "regcollation" 4 true b'b' b'N' false 0 4192 b'i' b'p' ["regcollationin" "regcollationout" "regcollationrecv" "regcollationsend"] ["" ""] 0 "";
    4192 "_regcollation" -1 false b'b' b'A' false 4191 0 b'i' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    4537 "anymultirange" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anymultirange_in" "anymultirange_out" "" ""] ["" ""] 0 "";
    4538 "anycompatiblemultirange" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anycompatiblemultirange_in" "anycompatiblemultirange_out" "" ""] ["" ""] 0 "";
    5038 "pg_snapshot" -1 false b'b' b'U' false 0 5039 b'd' b'x' ["pg_snapshot_in" "pg_snapshot_out" "pg_snapshot_recv" "pg_snapshot_send"] ["" ""] 0 "";
    5039 "_pg_snapshot" -1 false b'b' b'A' false 5038 0 b'd' b'x' ["array_in" "array_out" "array_recv" "array_send"] ["" ""] 0 "array_subscript_handler";
    5069 "xid8" 8 true b'b' b'U' false 0 271 b'd' b'p' ["xid8in" "xid8out" "xid8recv" "xid8send"] ["" ""] 0 "";
    5077 "anycompatible" 4 true b'p' b'P' false 0 0 b'i' b'p' ["anycompatible_in" "anycompatible_out" "" ""] ["" ""] 0 "";
    5078 "anycompatiblearray" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anycompatiblearray_in" "anycompatiblearray_out" "anycompatiblearray_recv" "anycompatiblearray_send"] ["" ""] 0 "";
    5079 "anycompatiblenonarray" 4 true b'p' b'P' false 0 0 b'i' b'p' ["anycompatiblenonarray_in" "anycompatiblenonarray_out" "" ""] ["" ""] 0 "";
    5080 "anycompatiblerange" -1 false b'p' b'P' false 0 0 b'd' b'x' ["anycompatiblerange_in" "anycompatiblerange_out" "" ""] ["" ""] 0 "";
};
