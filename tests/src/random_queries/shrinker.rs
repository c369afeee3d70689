//! From a statement that two servers answer differently to the least of it, and of its world, that they still do.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::judge::Kind;
use super::settings::Settings;
use super::tree::Statement;
use super::world::{Table, World};

#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub world: World,
    pub statement: Statement,
    /// Ours.
    pub settings: Settings,
}

/// `differs` says how the two disagree on a case, if they do.
pub struct Shrinker<F> {
    differs: F,
    kind: Kind,
    until: Instant,
}

impl Case {
    /// To be pasted into psql.
    pub fn script(&self) -> String {
        let mut text = String::new();
        let sent = self.statement.sent().into_iter().map(|(sql, _)| sql);
        let world = self.world.tables().into_iter().chain(self.world.indexes());
        for line in world.chain(self.settings.lines()).chain(sent) {
            let _ = writeln!(text, "{line};");
        }
        text
    }

    fn names(&self, name: &str) -> bool {
        self.statement.sent().iter().any(|(sql, _)| {
            sql.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == name)
        })
    }
}

impl<F: FnMut(&Case) -> Option<Kind>> Shrinker<F> {
    /// Looks for cases that differ in this way, for so long.
    pub fn new(kind: Kind, limit: Duration, differs: F) -> Shrinker<F> {
        Shrinker {
            differs,
            kind,
            until: Instant::now() + limit,
        }
    }

    pub fn shrink(&mut self, case: &Case) -> Case {
        let mut case = case.clone();
        loop {
            let before = case.clone();
            self.shrink_statement(&mut case);
            self.shrink_settings(&mut case);
            self.shrink_world(&mut case);
            if case == before || self.is_late() {
                return case;
            }
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes the other case if it differs still.
    fn take(&mut self, case: &mut Case, other: Case) -> bool {
        let same = !self.is_late() && (self.differs)(&other).as_ref() == Some(&self.kind);
        if same {
            *case = other;
        }
        same
    }

    /// Goes on where it was, and ends when it has been around once without finding anything.
    fn shrink_statement(&mut self, case: &mut Case) {
        let mut next = 0;
        while let Some(found) = self.shorten(case, next) {
            next = found;
        }
    }

    /// Where in the list what was taken stood.
    fn shorten(&mut self, case: &mut Case, next: usize) -> Option<usize> {
        let length = case.statement.length();
        let all = case.statement.smaller();
        for i in 0..all.len() {
            let place = (next + i) % all.len();
            // Only what is shorter, so that there is an end.
            if all[place].length() >= length {
                continue;
            }
            let other = Case {
                statement: all[place].clone(),
                ..case.clone()
            };
            if self.take(case, other) {
                return Some(place);
            }
        }
        None
    }

    fn shrink_settings(&mut self, case: &mut Case) {
        let mut i = 0;
        while i < case.settings.changed.len() {
            let mut other = case.clone();
            other.settings.changed.remove(i);
            if !self.take(case, other) {
                i += 1;
            }
        }
    }

    fn shrink_world(&mut self, case: &mut Case) {
        self.shrink_tables(case);
        for i in 0..case.world.tables.len() {
            self.shrink_rows(case, i);
            self.each(case, |world| &mut world.tables[i].indexes);
            self.shrink_columns(case, i);
            self.with_table(case, i, |table| table.reference = None);
            self.with_table(case, i, |table| table.keyed = false);
        }
        let mut other = case.clone();
        other.world.analyzed = false;
        if other != *case {
            self.take(case, other);
        }
    }

    /// Those that the statement does not name: all, or one after the other where some are referred to.
    fn shrink_tables(&mut self, case: &mut Case) {
        let mut other = case.clone();
        other.world.retain(|table| case.names(&table.name));
        if other == *case || self.take(case, other) {
            return;
        }
        let tables = case.world.tables.iter();
        let unnamed = tables.filter(|table| !case.names(&table.name));
        let unnamed: Vec<String> = unnamed.map(|table| table.name.clone()).collect();
        for name in &unnamed {
            let mut other = case.clone();
            other.world.retain(|table| table.name != *name);
            self.take(case, other);
        }
    }

    /// Leaves out what it can of a list.
    fn each<T>(&mut self, case: &mut Case, list: impl Fn(&mut World) -> &mut Vec<T>) {
        let mut i = list(&mut case.world).len();
        while i > 0 {
            i -= 1;
            let mut other = case.clone();
            list(&mut other.world).remove(i);
            self.take(case, other);
        }
    }

    fn with_table(&mut self, case: &mut Case, number: usize, change: impl FnOnce(&mut Table)) {
        let mut other = case.clone();
        change(&mut other.world.tables[number]);
        if other != *case {
            self.take(case, other);
        }
    }

    /// In halves, quarters and so on, down to single rows.
    fn shrink_rows(&mut self, case: &mut Case, number: usize) {
        let mut size = case.world.tables[number].rows.len();
        while size > 0 {
            let mut start = 0;
            while start < case.world.tables[number].rows.len() {
                let mut other = case.clone();
                let rows = &mut other.world.tables[number].rows;
                rows.drain(start..rows.len().min(start + size));
                if !self.take(case, other) {
                    start += size;
                }
            }
            size /= 2;
        }
    }

    /// Columns that neither the statement nor an index names.
    fn shrink_columns(&mut self, case: &mut Case, number: usize) {
        let mut i = case.world.tables[number].columns.len();
        while i > 1 {
            i -= 1;
            self.with_table(case, number, |table| table.drop_column(i));
            self.with_table(case, number, |table| {
                if let Some(column) = table.columns.get_mut(i) {
                    column.not_null = false;
                }
            });
        }
    }
}
