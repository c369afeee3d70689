//! What may be left out of a SELECT.

use super::tree::{Distinct, Grouping, Item, Node, Select};
use super::window::Window;

impl Select {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        let items = self.items.iter().map(|item| &item.value);
        let keys = self.keys.iter().map(|(_, key)| key);
        items
            .chain(&self.from)
            .chain(&self.filter)
            .chain(keys)
            .chain(&self.having)
            .chain(self.windows.iter().flat_map(|(_, window)| window.nodes()))
            .chain(&self.ordered_by)
    }

    fn changed(&self, change: impl FnOnce(&mut Select)) -> Select {
        let mut select = self.clone();
        change(&mut select);
        select
    }

    pub(super) fn smaller(&self) -> Vec<Select> {
        let mut all = self.shorter();
        all.extend(self.other_windows());
        for (i, source) in self.from.iter().enumerate() {
            for node in source.smaller() {
                all.push(self.changed(|s| s.from[i] = node));
            }
        }
        for node in self.filter.iter().flat_map(Node::smaller) {
            all.push(self.changed(|s| s.filter = Some(node)));
        }
        for node in self.having.iter().flat_map(Node::smaller) {
            all.push(self.changed(|s| s.having = Some(node)));
        }
        for (i, (ty, key)) in self.keys.iter().enumerate() {
            for node in key.smaller() {
                all.push(self.changed(|s| s.keys[i] = (*ty, node)));
            }
        }
        for (i, item) in self.items.iter().enumerate() {
            for value in item.value.smaller() {
                let alias = item.alias.clone();
                all.push(self.changed(|s| s.items[i] = Item { value, alias }));
            }
        }
        for node in self.ordered_by.iter().flat_map(Node::smaller) {
            all.push(self.changed(|s| s.ordered_by = Some(node)));
        }
        all
    }

    /// Without a clause, or without a part of one.
    fn shorter(&self) -> Vec<Select> {
        let mut all = Vec::new();
        // What ends a recursion stays.
        if self.filter.as_ref().is_some_and(|node| !node.is_kept()) {
            all.push(self.changed(|s| s.filter = None));
        }
        if self.having.as_ref().is_some_and(|node| !node.is_kept()) {
            all.push(self.changed(|s| s.having = None));
        }
        if self.ordered_by.is_some() {
            all.push(self.changed(|s| s.ordered_by = None));
        }
        if self.distinct != Distinct::No {
            all.push(self.changed(|s| s.distinct = Distinct::No));
        }
        for i in 0..self.from.len() {
            all.push(self.changed(|s| {
                s.from.remove(i);
            }));
        }
        all.extend(
            self.grouping
                .smaller()
                .into_iter()
                .map(|grouping| self.changed(|s| s.grouping = grouping)),
        );
        for i in 0..self.keys.len() {
            all.push(self.changed(|s| s.drop_key(i)));
        }
        all
    }

    /// A window with a name goes, alone or into the place where it is named, or is made smaller.
    fn other_windows(&self) -> Vec<Select> {
        let mut all = Vec::new();
        for (i, (name, window)) in self.windows.iter().enumerate() {
            all.push(self.changed(|s| {
                s.windows.remove(i);
            }));
            all.push(self.changed(|s| {
                s.windows.remove(i);
                s.write_out(name, window);
            }));
            for smaller in window.smaller() {
                all.push(self.changed(|s| s.windows[i].1 = smaller));
            }
        }
        all
    }

    fn write_out(&mut self, name: &str, window: &Window) {
        for (_, other) in &mut self.windows {
            if other.base.as_deref() == Some(name) {
                *other = other.on(window);
            }
        }
        let items = self.items.iter_mut().map(|item| &mut item.value);
        for node in items.chain(&mut self.ordered_by) {
            node.write_out(name, window);
        }
    }

    /// What named it says nothing then.
    fn drop_key(&mut self, key: usize) {
        self.keys.remove(key);
        if let Grouping::Sets(sets) = &mut self.grouping {
            for set in sets {
                set.retain(|number| *number != key);
                set.iter_mut()
                    .filter(|number| **number > key)
                    .for_each(|number| *number -= 1);
            }
        }
        let items = self.items.iter_mut().map(|item| &mut item.value);
        let windows = self.windows.iter_mut().flat_map(|(_, w)| w.nodes_mut());
        items
            .chain(&mut self.having)
            .chain(windows)
            .chain(&mut self.ordered_by)
            .for_each(|node| node.drop_key(key));
    }
}

impl Grouping {
    fn smaller(&self) -> Vec<Grouping> {
        let mut all = Vec::new();
        if *self != Grouping::Plain {
            all.push(Grouping::Plain);
        }
        if let Grouping::Sets(sets) = self {
            for i in 0..sets.len() {
                let mut less = sets.clone();
                less.remove(i);
                if !less.is_empty() {
                    all.push(Grouping::Sets(less));
                }
            }
        }
        all
    }
}
