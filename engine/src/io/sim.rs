//! A disk in memory that keeps live and durable bytes apart. Crash images are taken from it.
