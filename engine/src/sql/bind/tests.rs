//! The analyzer against recorded answers of PostgreSQL 15.
