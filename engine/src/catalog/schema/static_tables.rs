//! System tables whose rows are tables in the code (`pg_type`, `pg_proc`, ...), or of features that are not there (empty).
//!
//! Columns are PostgreSQL 15's.

use super::spec::{TableKind, TableSpec};

pub(super) const STATIC_TABLES: &[TableSpec] = &[
    TableSpec {
        oid: 2600,
        name: "pg_aggregate",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "aggfnoid regproc!, aggkind char!, aggnumdirectargs int2!, aggtransfn regproc!, \
            aggfinalfn regproc!, aggcombinefn regproc!, aggserialfn regproc!, aggdeserialfn \
            regproc!, aggmtransfn regproc!, aggminvtransfn regproc!, aggmfinalfn regproc!, \
            aggfinalextra bool!, aggmfinalextra bool!, aggfinalmodify char!, aggmfinalmodify \
            char!, aggsortop oid!, aggtranstype oid!, aggtransspace int4!, aggmtranstype oid!, \
            aggmtransspace int4!, agginitval text, aggminitval text",
        indexes: &[],
    },
    TableSpec {
        oid: 2601,
        name: "pg_am",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, amname name!, amhandler regproc!, amtype char!",
        indexes: &[],
    },
    TableSpec {
        oid: 2602,
        name: "pg_amop",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, amopfamily oid!, amoplefttype oid!, amoprighttype oid!, amopstrategy \
            int2!, amoppurpose char!, amopopr oid!, amopmethod oid!, amopsortfamily oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 2603,
        name: "pg_amproc",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, amprocfamily oid!, amproclefttype oid!, amprocrighttype oid!, \
            amprocnum int2!, amproc regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 2605,
        name: "pg_cast",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, castsource oid!, casttarget oid!, castfunc oid!, castcontext char!, \
            castmethod char!",
        indexes: &[],
    },
    TableSpec {
        oid: 3456,
        name: "pg_collation",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, collname name!, collnamespace oid!, collowner oid!, collprovider char!, \
            collisdeterministic bool!, collencoding int4!, collcollate text, collctype text, \
            colliculocale text, collversion text",
        indexes: &[],
    },
    TableSpec {
        oid: 2607,
        name: "pg_conversion",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, conname name!, connamespace oid!, conowner oid!, conforencoding int4!, \
            contoencoding int4!, conproc regproc!, condefault bool!",
        indexes: &[],
    },
    TableSpec {
        oid: 826,
        name: "pg_default_acl",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, defaclrole oid!, defaclnamespace oid!, defaclobjtype char!, defaclacl \
            aclitem[]!",
        indexes: &[],
    },
    TableSpec {
        oid: 3501,
        name: "pg_enum",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, enumtypid oid!, enumsortorder float4!, enumlabel name!",
        indexes: &[],
    },
    TableSpec {
        oid: 3466,
        name: "pg_event_trigger",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, evtname name!, evtevent name!, evtowner oid!, evtfoid oid!, evtenabled \
            char!, evttags text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 3079,
        name: "pg_extension",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, extname name!, extowner oid!, extnamespace oid!, extrelocatable bool!, \
            extversion text!, extconfig oid[], extcondition text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 2328,
        name: "pg_foreign_data_wrapper",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, fdwname name!, fdwowner oid!, fdwhandler oid!, fdwvalidator oid!, fdwacl \
            aclitem[], fdwoptions text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 1417,
        name: "pg_foreign_server",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, srvname name!, srvowner oid!, srvfdw oid!, srvtype text, srvversion text, \
            srvacl aclitem[], srvoptions text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 3118,
        name: "pg_foreign_table",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "ftrelid oid!, ftserver oid!, ftoptions text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 2611,
        name: "pg_inherits",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "inhrelid oid!, inhparent oid!, inhseqno int4!, inhdetachpending bool!",
        indexes: &[],
    },
    TableSpec {
        oid: 3394,
        name: "pg_init_privs",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "objoid oid!, classoid oid!, objsubid int4!, privtype char!, initprivs \
            aclitem[]!",
        indexes: &[],
    },
    TableSpec {
        oid: 2612,
        name: "pg_language",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, lanname name!, lanowner oid!, lanispl bool!, lanpltrusted bool!, \
            lanplcallfoid oid!, laninline oid!, lanvalidator oid!, lanacl aclitem[]",
        indexes: &[],
    },
    TableSpec {
        oid: 2613,
        name: "pg_largeobject",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "loid oid!, pageno int4!, data bytea!",
        indexes: &[],
    },
    TableSpec {
        oid: 2995,
        name: "pg_largeobject_metadata",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, lomowner oid!, lomacl aclitem[]",
        indexes: &[],
    },
    TableSpec {
        oid: 2616,
        name: "pg_opclass",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, opcmethod oid!, opcname name!, opcnamespace oid!, opcowner oid!, opcfamily \
            oid!, opcintype oid!, opcdefault bool!, opckeytype oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 2617,
        name: "pg_operator",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, oprname name!, oprnamespace oid!, oprowner oid!, oprkind char!, \
            oprcanmerge bool!, oprcanhash bool!, oprleft oid!, oprright oid!, oprresult oid!, \
            oprcom oid!, oprnegate oid!, oprcode regproc!, oprrest regproc!, oprjoin regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 2753,
        name: "pg_opfamily",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, opfmethod oid!, opfname name!, opfnamespace oid!, opfowner oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 6243,
        name: "pg_parameter_acl",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "oid oid!, parname text!, paracl aclitem[]",
        indexes: &[],
    },
    TableSpec {
        oid: 3350,
        name: "pg_partitioned_table",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "partrelid oid!, partstrat char!, partnatts int2!, partdefid oid!, partattrs \
            int2vector!, partclass oidvector!, partcollation oidvector!, partexprs pg_node_tree",
        indexes: &[],
    },
    TableSpec {
        oid: 3256,
        name: "pg_policy",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, polname name!, polrelid oid!, polcmd char!, polpermissive bool!, polroles \
            oid[]!, polqual pg_node_tree, polwithcheck pg_node_tree",
        indexes: &[],
    },
    TableSpec {
        oid: 1255,
        name: "pg_proc",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, proname name!, pronamespace oid!, proowner oid!, prolang oid!, procost \
            float4!, prorows float4!, provariadic oid!, prosupport regproc!, prokind char!, \
            prosecdef bool!, proleakproof bool!, proisstrict bool!, proretset bool!, provolatile \
            char!, proparallel char!, pronargs int2!, pronargdefaults int2!, prorettype oid!, \
            proargtypes oidvector!, proallargtypes oid[], proargmodes char[], proargnames \
            text[], proargdefaults pg_node_tree, protrftypes oid[], prosrc text!, probin text, \
            prosqlbody pg_node_tree, proconfig text[], proacl aclitem[]",
        indexes: &[],
    },
    TableSpec {
        oid: 6104,
        name: "pg_publication",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, pubname name!, pubowner oid!, puballtables bool!, pubinsert bool!, \
            pubupdate bool!, pubdelete bool!, pubtruncate bool!, pubviaroot bool!",
        indexes: &[],
    },
    TableSpec {
        oid: 6237,
        name: "pg_publication_namespace",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, pnpubid oid!, pnnspid oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 6106,
        name: "pg_publication_rel",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, prpubid oid!, prrelid oid!, prqual pg_node_tree, prattrs int2vector",
        indexes: &[],
    },
    TableSpec {
        oid: 3541,
        name: "pg_range",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "rngtypid oid!, rngsubtype oid!, rngmultitypid oid!, rngcollation oid!, rngsubopc \
            oid!, rngcanonical regproc!, rngsubdiff regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 6000,
        name: "pg_replication_origin",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "roident oid!, roname text!",
        indexes: &[],
    },
    TableSpec {
        oid: 2618,
        name: "pg_rewrite",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, rulename name!, ev_class oid!, ev_type char!, ev_enabled char!, is_instead \
            bool!, ev_qual pg_node_tree!, ev_action pg_node_tree!",
        indexes: &[],
    },
    TableSpec {
        oid: 3596,
        name: "pg_seclabel",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "objoid oid!, classoid oid!, objsubid int4!, provider text!, label text!",
        indexes: &[],
    },
    TableSpec {
        oid: 1214,
        name: "pg_shdepend",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "dbid oid!, classid oid!, objid oid!, objsubid int4!, refclassid oid!, refobjid oid!, \
            deptype char!",
        indexes: &[],
    },
    TableSpec {
        oid: 3592,
        name: "pg_shseclabel",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "objoid oid!, classoid oid!, provider text!, label text!",
        indexes: &[],
    },
    TableSpec {
        oid: 3381,
        name: "pg_statistic_ext",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, stxrelid oid!, stxname name!, stxnamespace oid!, stxowner oid!, \
            stxstattarget int4!, stxkeys int2vector!, stxkind char[]!, stxexprs pg_node_tree",
        indexes: &[],
    },
    TableSpec {
        oid: 6100,
        name: "pg_subscription",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "oid oid!, subdbid oid!, subskiplsn pg_lsn!, subname name!, subowner oid!, \
            subenabled bool!, subbinary bool!, substream bool!, subtwophasestate char!, \
            subdisableonerr bool!, subconninfo text!, subslotname name, subsynccommit text!, \
            subpublications text[]!",
        indexes: &[],
    },
    TableSpec {
        oid: 6102,
        name: "pg_subscription_rel",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "srsubid oid!, srrelid oid!, srsubstate char!, srsublsn pg_lsn",
        indexes: &[],
    },
    TableSpec {
        oid: 1213,
        name: "pg_tablespace",
        shared: true,
        kind: TableKind::StaticTable,
        columns: "oid oid!, spcname name!, spcowner oid!, spcacl aclitem[], spcoptions text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 3576,
        name: "pg_transform",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, trftype oid!, trflang oid!, trffromsql regproc!, trftosql regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 2620,
        name: "pg_trigger",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, tgrelid oid!, tgparentid oid!, tgname name!, tgfoid oid!, tgtype int2!, \
            tgenabled char!, tgisinternal bool!, tgconstrrelid oid!, tgconstrindid oid!, \
            tgconstraint oid!, tgdeferrable bool!, tginitdeferred bool!, tgnargs int2!, tgattr \
            int2vector!, tgargs bytea!, tgqual pg_node_tree, tgoldtable name, tgnewtable name",
        indexes: &[],
    },
    TableSpec {
        oid: 3602,
        name: "pg_ts_config",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, cfgname name!, cfgnamespace oid!, cfgowner oid!, cfgparser oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 3603,
        name: "pg_ts_config_map",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "mapcfg oid!, maptokentype int4!, mapseqno int4!, mapdict oid!",
        indexes: &[],
    },
    TableSpec {
        oid: 3600,
        name: "pg_ts_dict",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, dictname name!, dictnamespace oid!, dictowner oid!, dicttemplate \
            oid!, dictinitoption text",
        indexes: &[],
    },
    TableSpec {
        oid: 3601,
        name: "pg_ts_parser",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, prsname name!, prsnamespace oid!, prsstart regproc!, prstoken \
            regproc!, prsend regproc!, prsheadline regproc!, prslextype regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 3764,
        name: "pg_ts_template",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, tmplname name!, tmplnamespace oid!, tmplinit regproc!, tmpllexize \
            regproc!",
        indexes: &[],
    },
    TableSpec {
        oid: 1247,
        name: "pg_type",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, typname name!, typnamespace oid!, typowner oid!, typlen int2!, typbyval \
            bool!, typtype char!, typcategory char!, typispreferred bool!, typisdefined bool!, \
            typdelim char!, typrelid oid!, typsubscript regproc!, typelem oid!, typarray oid!, \
            typinput regproc!, typoutput regproc!, typreceive regproc!, typsend regproc!, \
            typmodin regproc!, typmodout regproc!, typanalyze regproc!, typalign char!, \
            typstorage char!, typnotnull bool!, typbasetype oid!, typtypmod int4!, typndims \
            int4!, typcollation oid!, typdefaultbin pg_node_tree, typdefault text, typacl \
            aclitem[]",
        indexes: &[],
    },
    TableSpec {
        oid: 1418,
        name: "pg_user_mapping",
        shared: false,
        kind: TableKind::StaticTable,
        columns: "oid oid!, umuser oid!, umserver oid!, umoptions text[]",
        indexes: &[],
    },
];
