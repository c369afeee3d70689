//! What PostgreSQL says of its own objects: the rows of `pg_description` that are tables in the code. Comments that people make
//! are in the heap.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::catalog::relation::Relation;
use crate::catalog::rows::{CatalogRow, DescriptionRow};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::pg_catalog::SystemTables;
use crate::types::datum::Datum;

/// Class, object, text; a line each, in order.
static LINES: LazyLock<Vec<(Oid, Oid, &'static str)>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (class, rest) = line.split_once(' ')?;
        let (object, text) = rest.split_once(' ')?;
        Some((oid(class)?, oid(object)?, text))
    };
    include_str!("descriptions.txt")
        .lines()
        .map(|text| line(text).expect("a line is two numbers and a text"))
        .collect()
});

fn oid(text: &str) -> Option<Oid> {
    text.parse().ok().map(Oid::new)
}

static BY_OBJECT: LazyLock<HashMap<(Oid, Oid), &'static str>> = LazyLock::new(|| {
    LINES
        .iter()
        .map(|(class, object, text)| ((*class, *object), *text))
        .collect()
});

static ROWS: LazyLock<Vec<Vec<Datum>>> = LazyLock::new(|| {
    let row = |(class, object, text): &(Oid, Oid, &str)| DescriptionRow {
        objoid: *object,
        classoid: *class,
        objsubid: 0,
        description: (*text).to_owned(),
    };
    LINES.iter().map(|line| row(line).to_row()).collect()
});

/// The description of an object of that class.
pub fn description(class: Oid, object: Oid) -> Option<&'static str> {
    BY_OBJECT.get(&(class, object)).copied()
}

/// The first description of an object of that number, whatever it is.
pub fn any_description(object: Oid) -> Option<&'static str> {
    LINES
        .iter()
        .find(|(_, other, _)| *other == object)
        .map(|(_, _, text)| *text)
}

impl SystemTables {
    pub(super) fn descriptions(&self, _relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let made = self.scan::<DescriptionRow>()?;
        let made = made.into_iter().map(|row| row.to_row());
        Ok(ROWS.iter().cloned().chain(made).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{codec, operators, registry};

    #[test]
    fn every_line_is_of_something_that_is_here() {
        let stray = LINES.iter().find(|(class, object, _)| !match class.raw() {
            1255 => codec::is_function(*object),
            2617 => operators::by_oid(*object).is_some(),
            1247 => registry::by_oid(*object).is_some(),
            _ => true,
        });
        assert_eq!(stray, None);
        assert_eq!(LINES.len(), BY_OBJECT.len());
    }
}
