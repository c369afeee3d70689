//! Settings, their files and their meaning; `pg_hba.conf`; connection strings.
