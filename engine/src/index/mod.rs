//! B+tree indexes with memcmp-comparable keys.
