//! System and statistics views, filled by the code at each scan. Columns are PostgreSQL 15's; `inet` shows as text.

use super::spec::{TableKind, TableSpec};

pub(super) const VIEWS: &[TableSpec] = &[
    TableSpec {
        oid: 12077,
        name: "pg_cursors",
        shared: false,
        kind: TableKind::StaticView,
        columns: "name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, \
            creation_time timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12110,
        name: "pg_file_settings",
        shared: false,
        kind: TableKind::StaticView,
        columns: "sourcefile text, sourceline int4, seqno int4, name text, setting text, applied bool, \
            error text",
        indexes: &[],
    },
    TableSpec {
        oid: 12010,
        name: "pg_group",
        shared: false,
        kind: TableKind::StaticView,
        columns: "groname name, grosysid oid, grolist oid[]",
        indexes: &[],
    },
    TableSpec {
        oid: 12114,
        name: "pg_hba_file_rules",
        shared: false,
        kind: TableKind::StaticView,
        columns: "line_number int4, type text, database text[], user_name text[], address text, \
            netmask text, auth_method text, options text[], error text",
        indexes: &[],
    },
    TableSpec {
        oid: 12043,
        name: "pg_indexes",
        shared: false,
        kind: TableKind::StaticView,
        columns: "schemaname name, tablename name, indexname name, tablespace name, indexdef text",
        indexes: &[],
    },
    TableSpec {
        oid: 12073,
        name: "pg_locks",
        shared: false,
        kind: TableKind::StaticView,
        columns: "locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, \
            transactionid xid, classid oid, objid oid, objsubid int2, virtualtransaction text, \
            pid int4, mode text, granted bool, fastpath bool, waitstart timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12095,
        name: "pg_prepared_statements",
        shared: false,
        kind: TableKind::StaticView,
        columns: "name text, statement text, prepare_time timestamptz, parameter_types regtype[], \
            from_sql bool, generic_plans int8, custom_plans int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12257,
        name: "pg_replication_slots",
        shared: false,
        kind: TableKind::StaticView,
        columns: "slot_name name, plugin name, slot_type text, datoid oid, database name, temporary \
            bool, active bool, active_pid int4, xmin xid, catalog_xmin xid, restart_lsn pg_lsn, \
            confirmed_flush_lsn pg_lsn, wal_status text, safe_wal_size int8, two_phase bool",
        indexes: &[],
    },
    TableSpec {
        oid: 12000,
        name: "pg_roles",
        shared: false,
        kind: TableKind::StaticView,
        columns: "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
            rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
            rolvaliduntil timestamptz, rolbypassrls bool, rolconfig text[], oid oid",
        indexes: &[],
    },
    TableSpec {
        oid: 12099,
        name: "pg_seclabels",
        shared: false,
        kind: TableKind::StaticView,
        columns: "objoid oid, classoid oid, objsubid int4, objtype text, objnamespace oid, objname text, \
            provider text, label text",
        indexes: &[],
    },
    TableSpec {
        oid: 12048,
        name: "pg_sequences",
        shared: false,
        kind: TableKind::StaticView,
        columns: "schemaname name, sequencename name, sequenceowner name, data_type regtype, \
            start_value int8, min_value int8, max_value int8, increment_by int8, cycle bool, \
            cache_size int8, last_value int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12104,
        name: "pg_settings",
        shared: false,
        kind: TableKind::StaticView,
        columns: "name text, setting text, unit text, category text, short_desc text, extra_desc text, \
            context text, vartype text, source text, min_val text, max_val text, enumvals \
            text[], boot_val text, reset_val text, sourcefile text, sourceline int4, \
            pending_restart bool",
        indexes: &[],
    },
    TableSpec {
        oid: 12005,
        name: "pg_shadow",
        shared: false,
        kind: TableKind::StaticView,
        columns: "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, \
            usebypassrls bool, passwd text, valuntil timestamptz, useconfig text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 12222,
        name: "pg_stat_activity",
        shared: false,
        kind: TableKind::StaticView,
        columns: "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, \
            application_name text, client_addr text, client_hostname text, client_port int4, \
            backend_start timestamptz, xact_start timestamptz, query_start timestamptz, \
            state_change timestamptz, wait_event_type text, wait_event text, state text, \
            backend_xid xid, backend_xmin xid, query_id int8, query text, backend_type text",
        indexes: &[],
    },
    TableSpec {
        oid: 12183,
        name: "pg_stat_all_indexes",
        shared: false,
        kind: TableKind::StaticView,
        columns: "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, \
            idx_scan int8, idx_tup_read int8, idx_tup_fetch int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12142,
        name: "pg_stat_all_tables",
        shared: false,
        kind: TableKind::StaticView,
        columns: "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan \
            int8, idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, \
            n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8, n_mod_since_analyze int8, \
            n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz, \
            last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, \
            autovacuum_count int8, analyze_count int8, autoanalyze_count int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12285,
        name: "pg_stat_archiver",
        shared: false,
        kind: TableKind::StaticView,
        columns: "archived_count int8, last_archived_wal text, last_archived_time timestamptz, \
            failed_count int8, last_failed_wal text, last_failed_time timestamptz, stats_reset \
            timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12289,
        name: "pg_stat_bgwriter",
        shared: false,
        kind: TableKind::StaticView,
        columns: "checkpoints_timed int8, checkpoints_req int8, checkpoint_write_time float8, \
            checkpoint_sync_time float8, buffers_checkpoint int8, buffers_clean int8, \
            maxwritten_clean int8, buffers_backend int8, buffers_backend_fsync int8, \
            buffers_alloc int8, stats_reset timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12266,
        name: "pg_stat_database",
        shared: false,
        kind: TableKind::StaticView,
        columns: "datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, \
            blks_read int8, blks_hit int8, tup_returned int8, tup_fetched int8, tup_inserted \
            int8, tup_updated int8, tup_deleted int8, conflicts int8, temp_files int8, \
            temp_bytes int8, deadlocks int8, checksum_failures int8, checksum_last_failure \
            timestamptz, blk_read_time float8, blk_write_time float8, session_time float8, \
            active_time float8, idle_in_transaction_time float8, sessions int8, \
            sessions_abandoned int8, sessions_fatal int8, sessions_killed int8, stats_reset \
            timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12253,
        name: "pg_stat_gssapi",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, gss_authenticated bool, principal text, encrypted bool",
        indexes: &[],
    },
    TableSpec {
        oid: 12317,
        name: "pg_stat_progress_basebackup",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, phase text, backup_total int8, backup_streamed int8, tablespaces_total \
            int8, tablespaces_streamed int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12322,
        name: "pg_stat_progress_copy",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, datid oid, datname name, relid oid, command text, type text, \
            bytes_processed int8, bytes_total int8, tuples_processed int8, tuples_excluded int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12302,
        name: "pg_stat_progress_vacuum",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, datid oid, datname name, relid oid, phase text, heap_blks_total int8, \
            heap_blks_scanned int8, heap_blks_vacuumed int8, index_vacuum_count int8, \
            max_dead_tuples int8, num_dead_tuples int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12227,
        name: "pg_stat_replication",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, usesysid oid, usename name, application_name text, client_addr text, \
            client_hostname text, client_port int4, backend_start timestamptz, backend_xmin xid, \
            state text, sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn, \
            write_lag interval, flush_lag interval, replay_lag interval, sync_priority int4, \
            sync_state text, reply_time timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12232,
        name: "pg_stat_slru",
        shared: false,
        kind: TableKind::StaticView,
        columns: "name text, blks_zeroed int8, blks_hit int8, blks_read int8, blks_written int8, \
            blks_exists int8, flushes int8, truncates int8, stats_reset timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12249,
        name: "pg_stat_ssl",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, ssl bool, version text, cipher text, bits int4, client_dn text, \
            client_serial numeric, issuer_dn text",
        indexes: &[],
    },
    TableSpec {
        oid: 12192,
        name: "pg_stat_user_indexes",
        shared: false,
        kind: TableKind::StaticView,
        columns: "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, \
            idx_scan int8, idx_tup_read int8, idx_tup_fetch int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12161,
        name: "pg_stat_user_tables",
        shared: false,
        kind: TableKind::StaticView,
        columns: "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan \
            int8, idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, \
            n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8, n_mod_since_analyze int8, \
            n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz, \
            last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, \
            autovacuum_count int8, analyze_count int8, autoanalyze_count int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12293,
        name: "pg_stat_wal",
        shared: false,
        kind: TableKind::StaticView,
        columns: "wal_records int8, wal_fpi int8, wal_bytes numeric, wal_buffers_full int8, wal_write \
            int8, wal_sync int8, wal_write_time float8, wal_sync_time float8, stats_reset \
            timestamptz",
        indexes: &[],
    },
    TableSpec {
        oid: 12236,
        name: "pg_stat_wal_receiver",
        shared: false,
        kind: TableKind::StaticView,
        columns: "pid int4, status text, receive_start_lsn pg_lsn, receive_start_tli int4, written_lsn \
            pg_lsn, flushed_lsn pg_lsn, received_tli int4, last_msg_send_time timestamptz, \
            last_msg_receipt_time timestamptz, latest_end_lsn pg_lsn, latest_end_time \
            timestamptz, slot_name text, sender_host text, sender_port int4, conninfo text",
        indexes: &[],
    },
    TableSpec {
        oid: 12179,
        name: "pg_statio_user_tables",
        shared: false,
        kind: TableKind::StaticView,
        columns: "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, \
            idx_blks_read int8, idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, \
            tidx_blks_read int8, tidx_blks_hit int8",
        indexes: &[],
    },
    TableSpec {
        oid: 12053,
        name: "pg_stats",
        shared: false,
        kind: TableKind::StaticView,
        columns: "schemaname name, tablename name, attname name, inherited bool, null_frac float4, \
            avg_width int4, n_distinct float4, most_common_vals text[], most_common_freqs \
            float4[], histogram_bounds text[], correlation float4, most_common_elems text[], \
            most_common_elem_freqs float4[], elem_count_histogram float4[]",
        indexes: &[],
    },
    TableSpec {
        oid: 12033,
        name: "pg_tables",
        shared: false,
        kind: TableKind::StaticView,
        columns: "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, \
            hasrules bool, hastriggers bool, rowsecurity bool",
        indexes: &[],
    },
    TableSpec {
        oid: 12126,
        name: "pg_timezone_names",
        shared: false,
        kind: TableKind::StaticView,
        columns: "name text, abbrev text, utc_offset interval, is_dst bool",
        indexes: &[],
    },
    TableSpec {
        oid: 12014,
        name: "pg_user",
        shared: false,
        kind: TableKind::StaticView,
        columns: "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, \
            usebypassrls bool, passwd text, valuntil timestamptz, useconfig text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 12327,
        name: "pg_user_mappings",
        shared: false,
        kind: TableKind::StaticView,
        columns: "umid oid, srvid oid, srvname name, umuser oid, usename name, umoptions text[]",
        indexes: &[],
    },
    TableSpec {
        oid: 12028,
        name: "pg_views",
        shared: false,
        kind: TableKind::StaticView,
        columns: "schemaname name, viewname name, viewowner name, definition text",
        indexes: &[],
    },
];
