//! The system tables that are heap tables: what users create is in their rows. Columns are PostgreSQL 15's.
//!
//! A column is `name type`, with `!` for NOT NULL. Changing one of these changes the catalog version.

use super::spec::{IndexKind, IndexSpec, TableKind, TableSpec};

pub(super) const HEAP_TABLES: &[TableSpec] = &[
    TableSpec {
        oid: 2604,
        name: "pg_attrdef",
        shared: false,
        kind: TableKind::Heap,
        columns: "oid oid!, adrelid oid!, adnum int2!, adbin pg_node_tree!",
        indexes: &[
            IndexSpec {
                oid: 2656,
                name: "pg_attrdef_adrelid_adnum_index",
                columns: "adrelid,adnum",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2657,
                name: "pg_attrdef_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 1249,
        name: "pg_attribute",
        shared: false,
        kind: TableKind::Heap,
        columns: "attrelid oid!, attname name!, atttypid oid!, attstattarget int4!, attlen int2!, \
            attnum int2!, attndims int4!, attcacheoff int4!, atttypmod int4!, attbyval bool!, \
            attalign char!, attstorage char!, attcompression char!, attnotnull bool!, atthasdef \
            bool!, atthasmissing bool!, attidentity char!, attgenerated char!, attisdropped \
            bool!, attislocal bool!, attinhcount int4!, attcollation oid!, attacl aclitem[], \
            attoptions text[], attfdwoptions text[], attmissingval text[]",
        indexes: &[
            IndexSpec {
                oid: 2658,
                name: "pg_attribute_relid_attnam_index",
                columns: "attrelid,attname",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2659,
                name: "pg_attribute_relid_attnum_index",
                columns: "attrelid,attnum",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 1261,
        name: "pg_auth_members",
        shared: true,
        kind: TableKind::Heap,
        columns: "roleid oid!, member oid!, grantor oid!, admin_option bool!",
        indexes: &[
            IndexSpec {
                oid: 2694,
                name: "pg_auth_members_role_member_index",
                columns: "roleid,member",
                kind: IndexKind::Primary,
            },
            IndexSpec {
                oid: 2695,
                name: "pg_auth_members_member_role_index",
                columns: "member,roleid",
                kind: IndexKind::Unique,
            },
        ],
    },
    TableSpec {
        oid: 1260,
        name: "pg_authid",
        shared: true,
        kind: TableKind::Heap,
        columns: "oid oid!, rolname name!, rolsuper bool!, rolinherit bool!, rolcreaterole bool!, \
            rolcreatedb bool!, rolcanlogin bool!, rolreplication bool!, rolbypassrls bool!, \
            rolconnlimit int4!, rolpassword text, rolvaliduntil timestamptz",
        indexes: &[
            IndexSpec {
                oid: 2676,
                name: "pg_authid_rolname_index",
                columns: "rolname",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2677,
                name: "pg_authid_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 1259,
        name: "pg_class",
        shared: false,
        kind: TableKind::Heap,
        columns: "oid oid!, relname name!, relnamespace oid!, reltype oid!, reloftype oid!, relowner \
            oid!, relam oid!, relfilenode oid!, reltablespace oid!, relpages int4!, reltuples \
            float4!, relallvisible int4!, reltoastrelid oid!, relhasindex bool!, relisshared \
            bool!, relpersistence char!, relkind char!, relnatts int2!, relchecks int2!, \
            relhasrules bool!, relhastriggers bool!, relhassubclass bool!, relrowsecurity bool!, \
            relforcerowsecurity bool!, relispopulated bool!, relreplident char!, relispartition \
            bool!, relrewrite oid!, relfrozenxid xid!, relminmxid xid!, relacl aclitem[], \
            reloptions text[], relpartbound pg_node_tree",
        indexes: &[
            IndexSpec {
                oid: 2662,
                name: "pg_class_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
            IndexSpec {
                oid: 2663,
                name: "pg_class_relname_nsp_index",
                columns: "relname,relnamespace",
                kind: IndexKind::Unique,
            },
        ],
    },
    TableSpec {
        oid: 2606,
        name: "pg_constraint",
        shared: false,
        kind: TableKind::Heap,
        columns: "oid oid!, conname name!, connamespace oid!, contype char!, condeferrable bool!, \
            condeferred bool!, convalidated bool!, conrelid oid!, contypid oid!, conindid oid!, \
            conparentid oid!, confrelid oid!, confupdtype char!, confdeltype char!, \
            confmatchtype char!, conislocal bool!, coninhcount int4!, connoinherit bool!, conkey \
            int2[], confkey int2[], conpfeqop oid[], conppeqop oid[], conffeqop oid[], \
            confdelsetcols int2[], conexclop oid[], conbin pg_node_tree",
        indexes: &[
            IndexSpec {
                oid: 2664,
                name: "pg_constraint_conname_nsp_index",
                columns: "conname,connamespace",
                kind: IndexKind::Plain,
            },
            IndexSpec {
                oid: 2665,
                name: "pg_constraint_conrelid_contypid_conname_index",
                columns: "conrelid,contypid,conname",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2667,
                name: "pg_constraint_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 1262,
        name: "pg_database",
        shared: true,
        kind: TableKind::Heap,
        columns: "oid oid!, datname name!, datdba oid!, encoding int4!, datlocprovider char!, \
            datistemplate bool!, datallowconn bool!, datconnlimit int4!, datfrozenxid xid!, \
            datminmxid xid!, dattablespace oid!, datcollate text!, datctype text!, daticulocale \
            text, datcollversion text, datacl aclitem[]",
        indexes: &[
            IndexSpec {
                oid: 2671,
                name: "pg_database_datname_index",
                columns: "datname",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2672,
                name: "pg_database_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 2964,
        name: "pg_db_role_setting",
        shared: true,
        kind: TableKind::Heap,
        columns: "setdatabase oid!, setrole oid!, setconfig text[]",
        indexes: &[IndexSpec {
            oid: 2965,
            name: "pg_db_role_setting_databaseid_rol_index",
            columns: "setdatabase,setrole",
            kind: IndexKind::Primary,
        }],
    },
    TableSpec {
        oid: 2608,
        name: "pg_depend",
        shared: false,
        kind: TableKind::Heap,
        columns: "classid oid!, objid oid!, objsubid int4!, refclassid oid!, refobjid oid!, \
            refobjsubid int4!, deptype char!",
        indexes: &[
            IndexSpec {
                oid: 2673,
                name: "pg_depend_depender_index",
                columns: "classid,objid,objsubid",
                kind: IndexKind::Plain,
            },
            IndexSpec {
                oid: 2674,
                name: "pg_depend_reference_index",
                columns: "refclassid,refobjid,refobjsubid",
                kind: IndexKind::Plain,
            },
        ],
    },
    TableSpec {
        oid: 2609,
        name: "pg_description",
        shared: false,
        kind: TableKind::Heap,
        columns: "objoid oid!, classoid oid!, objsubid int4!, description text!",
        indexes: &[IndexSpec {
            oid: 2675,
            name: "pg_description_o_c_o_index",
            columns: "objoid,classoid,objsubid",
            kind: IndexKind::Primary,
        }],
    },
    TableSpec {
        oid: 2610,
        name: "pg_index",
        shared: false,
        kind: TableKind::Heap,
        columns: "indexrelid oid!, indrelid oid!, indnatts int2!, indnkeyatts int2!, indisunique \
            bool!, indnullsnotdistinct bool!, indisprimary bool!, indisexclusion bool!, \
            indimmediate bool!, indisclustered bool!, indisvalid bool!, indcheckxmin bool!, \
            indisready bool!, indislive bool!, indisreplident bool!, indkey int2vector!, \
            indcollation oidvector!, indclass oidvector!, indoption int2vector!, indexprs \
            pg_node_tree, indpred pg_node_tree",
        indexes: &[
            IndexSpec {
                oid: 2678,
                name: "pg_index_indrelid_index",
                columns: "indrelid",
                kind: IndexKind::Plain,
            },
            IndexSpec {
                oid: 2679,
                name: "pg_index_indexrelid_index",
                columns: "indexrelid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 2615,
        name: "pg_namespace",
        shared: false,
        kind: TableKind::Heap,
        columns: "oid oid!, nspname name!, nspowner oid!, nspacl aclitem[]",
        indexes: &[
            IndexSpec {
                oid: 2684,
                name: "pg_namespace_nspname_index",
                columns: "nspname",
                kind: IndexKind::Unique,
            },
            IndexSpec {
                oid: 2685,
                name: "pg_namespace_oid_index",
                columns: "oid",
                kind: IndexKind::Primary,
            },
        ],
    },
    TableSpec {
        oid: 2224,
        name: "pg_sequence",
        shared: false,
        kind: TableKind::Heap,
        columns: "seqrelid oid!, seqtypid oid!, seqstart int8!, seqincrement int8!, seqmax int8!, \
            seqmin int8!, seqcache int8!, seqcycle bool!",
        indexes: &[IndexSpec {
            oid: 5002,
            name: "pg_sequence_seqrelid_index",
            columns: "seqrelid",
            kind: IndexKind::Primary,
        }],
    },
    TableSpec {
        oid: 2396,
        name: "pg_shdescription",
        shared: true,
        kind: TableKind::Heap,
        columns: "objoid oid!, classoid oid!, description text!",
        indexes: &[IndexSpec {
            oid: 2397,
            name: "pg_shdescription_o_c_index",
            columns: "objoid,classoid",
            kind: IndexKind::Primary,
        }],
    },
    TableSpec {
        oid: 2619,
        name: "pg_statistic",
        shared: false,
        kind: TableKind::Heap,
        columns: "starelid oid!, staattnum int2!, stainherit bool!, stanullfrac float4!, stawidth \
            int4!, stadistinct float4!, stakind1 int2!, stakind2 int2!, stakind3 int2!, stakind4 \
            int2!, stakind5 int2!, staop1 oid!, staop2 oid!, staop3 oid!, staop4 oid!, staop5 \
            oid!, stacoll1 oid!, stacoll2 oid!, stacoll3 oid!, stacoll4 oid!, stacoll5 oid!, \
            stanumbers1 float4[], stanumbers2 float4[], stanumbers3 float4[], stanumbers4 \
            float4[], stanumbers5 float4[], stavalues1 text[], stavalues2 text[], stavalues3 \
            text[], stavalues4 text[], stavalues5 text[]",
        indexes: &[IndexSpec {
            oid: 2696,
            name: "pg_statistic_relid_att_inh_index",
            columns: "starelid,staattnum,stainherit",
            kind: IndexKind::Primary,
        }],
    },
];
