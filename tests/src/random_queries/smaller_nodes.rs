//! What may be left out of a value, a list, a join.

use super::tree::{Join, List, Node, Query, Ty, value, words};
use super::window::Window;

impl Node {
    /// The parts that may be looked at, in order.
    pub(super) fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Words(_) | Node::Key(..) | Node::Query(_) | Node::Kept(_) => Vec::new(),
            Node::Form(_, parts) => parts.iter().collect(),
            Node::Value(_, node)
            | Node::Optional(node)
            | Node::Source(node, _)
            | Node::Under(_, node) => vec![node],
            Node::Over(over) => over.nodes(),
            Node::List(list) => list.items.iter().collect(),
            Node::Join(join) => {
                let sides = [&join.left, &join.right];
                sides.into_iter().chain(&join.condition).collect()
            }
        }
    }

    /// The same with another node for one of its parts.
    fn with_part(&self, number: usize, part: Node) -> Node {
        let mut node = self.clone();
        match &mut node {
            Node::Words(_) | Node::Key(..) | Node::Query(_) | Node::Kept(_) => {}
            Node::Form(_, parts) => parts[number] = part,
            Node::Value(_, inner)
            | Node::Optional(inner)
            | Node::Source(inner, _)
            | Node::Under(_, inner) => **inner = part,
            Node::Over(over) => {
                if let Some(node) = over.nodes_mut().into_iter().nth(number) {
                    *node = part;
                }
            }
            Node::List(list) => list.items[number] = part,
            Node::Join(join) => match number {
                0 => join.left = part,
                1 => join.right = part,
                _ => join.condition = Some(part),
            },
        }
        node
    }

    /// The outermost queries in it, and those in them.
    pub(super) fn queries(&self, found: &mut Vec<Query>) {
        if let Node::Query(query) = self {
            found.push((**query).clone());
            found.extend(query.within());
        }
        for part in self.parts() {
            part.queries(found);
        }
    }

    pub fn smaller(&self) -> Vec<Node> {
        let mut all = Vec::new();
        match self {
            Node::Value(ty, inner) => smaller_values(*ty, inner, &mut all),
            Node::Optional(_) => all.push(words("")),
            Node::Query(query) => {
                let boxed = |query| Node::Query(Box::new(query));
                all.extend(query.smaller().into_iter().map(boxed));
            }
            Node::List(list) => list.shorter(&mut all),
            Node::Join(join) => join.sides(&mut all),
            Node::Form(_, parts) => joined_sides(parts, &mut all),
            Node::Source(inner, _) => {
                if let Node::Form(_, parts) = &**inner {
                    joined_sides(parts, &mut all);
                }
            }
            Node::Over(over) => over.smaller(&mut all),
            Node::Under(with, node) => {
                all.push((**node).clone());
                let with = with.shorter().chain(with.simpler());
                all.extend(with.map(|with| Node::Under(with, node.clone())));
            }
            Node::Words(_) | Node::Key(..) | Node::Kept(_) => {}
        }
        for (number, part) in self.parts().into_iter().enumerate() {
            let smaller = part.smaller();
            all.extend(smaller.into_iter().map(|part| self.with_part(number, part)));
        }
        all
    }

    /// Values of a type inside, though not in queries.
    fn values(&self, ty: Ty, found: &mut Vec<Node>) {
        if matches!(self, Node::Value(own, _) if *own == ty) {
            found.push(self.clone());
        }
        for part in self.parts() {
            part.values(ty, found);
        }
    }

    pub(super) fn drop_key(&mut self, key: usize) {
        match self {
            Node::Key(ty, number) if *number == key => *self = words(ty.plainest()),
            Node::Key(_, number) if *number > key => *number -= 1,
            Node::Key(..) | Node::Words(_) | Node::Query(_) => {}
            Node::Form(_, parts) => parts.iter_mut().for_each(|part| part.drop_key(key)),
            Node::Value(_, node) | Node::Optional(node) | Node::Kept(node) => node.drop_key(key),
            Node::Over(over) => over
                .nodes_mut()
                .into_iter()
                .for_each(|node| node.drop_key(key)),
            Node::List(list) => list.items.iter_mut().for_each(|item| item.drop_key(key)),
            Node::Join(_) | Node::Source(..) | Node::Under(..) => {}
        }
    }

    /// The window wherever it is named.
    pub(super) fn write_out(&mut self, name: &str, window: &Window) {
        match self {
            Node::Over(over) => over.write_out(name, window),
            Node::Form(_, parts) => parts.iter_mut().for_each(|p| p.write_out(name, window)),
            Node::Value(_, node) | Node::Optional(node) => node.write_out(name, window),
            Node::List(list) => list
                .items
                .iter_mut()
                .for_each(|item| item.write_out(name, window)),
            _ => {}
        }
    }
}

/// Parentheses belong to the join, and go with it.
fn joined_sides(parts: &[Node], all: &mut Vec<Node>) {
    if let Some(Node::Join(join)) = parts.first() {
        all.extend([join.left.clone(), join.right.clone()]);
    }
}

/// Constants, and the values of the type in what it is made of.
fn smaller_values(ty: Ty, inner: &Node, all: &mut Vec<Node>) {
    all.push(value(ty, words(ty.plainest())));
    all.push(value(ty, words(format!("NULL::{}", ty.sql()))));
    inner.values(ty, all);
}

impl List {
    fn shorter(&self, all: &mut Vec<Node>) {
        if self.items.len() <= self.least {
            return;
        }
        for i in (0..self.items.len()).filter(|i| !self.items[*i].is_kept()) {
            let mut less = self.clone();
            less.items.remove(i);
            all.push(Node::List(less));
        }
    }
}

impl Join {
    fn sides(&self, all: &mut Vec<Node>) {
        all.push(self.left.clone());
        all.push(self.right.clone());
        // Of what is joined, how is the last question.
        if self.condition.is_some() && self.word != "JOIN" && !self.word.starts_with("NATURAL") {
            let mut inner = self.clone();
            inner.word = "JOIN";
            all.push(Node::Join(Box::new(inner)));
        }
    }
}
