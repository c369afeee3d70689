//! The log as a whole: what is written is read back, by us and by `pg_waldump`.
