//! The table of functions: `pg_proc` and the code that its rows name.
//!
//! An implementation bears the name of PostgreSQL's C function (`prosrc`), which is unique where SQL names are not.

#[macro_use]
pub(crate) mod call;

mod absent;
pub(crate) mod array_functions;
pub(crate) mod clock;
pub(crate) mod conversions;
pub(crate) mod datetime;
pub(crate) mod extract;
mod facts;
pub(crate) mod float;
pub(crate) mod integer;
pub(crate) mod json_build;
pub(crate) mod json_ops;
pub(crate) mod keywords;
pub(crate) mod like;
pub(crate) mod make_time;
pub(crate) mod misc;
pub(crate) mod number_to_char;
pub(crate) mod numeric;
pub(crate) mod regexp;
pub(crate) mod series;
pub(crate) mod strings;
mod table;
mod template_scanner;
pub(crate) mod text;
pub(crate) mod time_template;
pub(crate) mod to_char;
pub(crate) mod to_date;
pub(crate) mod to_number;
pub(crate) mod truncate;

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::function::Function;

pub use absent::is_absent;
pub use facts::{Argument, Execute, Facts, arguments, facts, plain_arguments, support};
pub use strings::{is_encoding_name, quote_identifier, quote_literal_text};

static BY_OID: LazyLock<HashMap<Oid, &'static Function>> =
    LazyLock::new(|| all().chain(table::hidden()).map(|f| (f.oid, f)).collect());
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Function>>> = LazyLock::new(|| {
    let mut map: HashMap<&'static str, Vec<&'static Function>> = HashMap::new();
    for f in all() {
        map.entry(f.name).or_default().push(f);
    }
    map
});

/// Object ids from here up are of functions that the catalog does not show: a cast through one is binary there.
pub const FIRST_HIDDEN: Oid = Oid::new(0x8000_0000);

/// `nextval` as the default of an identity column calls it: whoever may insert may have the number.
pub const NEXTVAL_OF_IDENTITY: Oid = Oid::new(0x8000_0004);

/// `array[i]`, which is no function there.
pub const ARRAY_ITEM: Oid = Oid::new(0x8000_0005);
/// `name[i]`, a byte: `pg_dump` asks which types' names begin with `_`.
pub const NAME_ITEM: Oid = Oid::new(0x8000_0006);

/// Whether a call of the function is written with brackets.
pub fn is_subscript(function: Oid) -> bool {
    function == ARRAY_ITEM || function == NAME_ITEM
}

/// Around a call that was written in SQL's words, in an expression that is only shown.
pub const IN_SQL_WORDS: Oid = Oid::new(0x8000_0020);

/// Around a call that was written with the function's name, though an operator or a cast calls the same function; in an
/// expression that is only shown.
pub const CALLED_BY_NAME: Oid = Oid::new(0x8000_0021);

/// What SQL has words for and PostgreSQL no function (`SQLValueFunction`), in an expression that is only shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionWord {
    CurrentDate = 0x10,
    CurrentTime,
    CurrentTimestamp,
    LocalTime,
    LocalTimestamp,
    CurrentRole,
    CurrentUser,
    User,
    SessionUser,
    CurrentCatalog,
    CurrentSchema,
}

impl SessionWord {
    pub const fn function(self) -> Oid {
        Oid::new(FIRST_HIDDEN.raw() + self as u32)
    }
    /// Whether the function is one of them.
    pub fn is_one(function: Oid) -> bool {
        let first = SessionWord::CurrentDate.function();
        let last = SessionWord::CurrentSchema.function();
        (first.raw()..=last.raw()).contains(&function.raw())
    }
}

/// Every function, in no particular order.
pub fn all() -> impl Iterator<Item = &'static Function> {
    table::TABLES.iter().flat_map(|rows| rows.iter())
}

/// All functions of a name, aggregates apart.
pub fn named(name: &str) -> &'static [&'static Function] {
    BY_NAME.get(name).map_or(&[], |list| list.as_slice())
}

pub fn by_oid(oid: Oid) -> Option<&'static Function> {
    BY_OID.get(&oid).copied()
}
