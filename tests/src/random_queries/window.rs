//! Windows: in the list, and in WINDOW with a name.

use super::printer::Around;
use super::tree::Node;

/// A call, with its FILTER, over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    pub call: Node,
    pub window: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    Named(String),
    Here(Window),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    /// The window that it extends.
    pub base: Option<String>,
    pub partition: Vec<Node>,
    /// With DESC and so on.
    pub order: Vec<(Node, &'static str)>,
    /// The order ends with what tells the rows apart, in this direction. What depends on the order of rows rests on it.
    pub key: Option<&'static str>,
    pub frame: Option<Frame>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// ROWS, RANGE, GROUPS.
    pub mode: &'static str,
    pub start: String,
    /// With it, it is BETWEEN.
    pub end: Option<String>,
    pub exclude: &'static str,
}

impl Over {
    pub fn write(&self, out: &mut String, around: &Around) {
        self.call.write(out, around);
        out.push_str(" OVER ");
        match &self.window {
            Place::Named(name) => out.push_str(name),
            Place::Here(window) => window.write(out, around),
        }
    }

    /// The call, and what the window is made of.
    pub fn nodes(&self) -> Vec<&Node> {
        let mut all = vec![&self.call];
        if let Place::Here(window) = &self.window {
            all.extend(window.nodes());
        }
        all
    }

    pub fn nodes_mut(&mut self) -> Vec<&mut Node> {
        let mut all = vec![&mut self.call];
        if let Place::Here(window) = &mut self.window {
            all.extend(window.nodes_mut());
        }
        all
    }
}

impl Window {
    pub fn write(&self, out: &mut String, around: &Around) {
        let mut clauses: Vec<String> = self.base.iter().cloned().collect();
        let partition: Vec<String> = self.partition.iter().map(|n| n.shown(around)).collect();
        if !partition.is_empty() {
            clauses.push(format!("PARTITION BY {}", partition.join(", ")));
        }
        let item = |(node, words): &(Node, &str)| format!("{}{words}", node.shown(around));
        let mut order: Vec<String> = self.order.iter().map(item).collect();
        if let Some(words) = self.key {
            order.extend(around.row.iter().map(|column| format!("{column}{words}")));
        }
        if !order.is_empty() {
            clauses.push(format!("ORDER BY {}", order.join(", ")));
        }
        clauses.extend(self.frame.iter().map(Frame::sql));
        out.push('(');
        out.push_str(&clauses.join(" "));
        out.push(')');
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let order = self.order.iter().map(|(node, _)| node);
        self.partition.iter().chain(order)
    }

    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let order = self.order.iter_mut().map(|(node, _)| node);
        self.partition.iter_mut().chain(order)
    }

    /// What this one is when it extends the other, written out.
    pub fn on(&self, base: &Window) -> Window {
        let ordered = self.key.is_some() || !self.order.is_empty();
        let by = if ordered { self } else { base };
        Window {
            base: base.base.clone(),
            partition: base.partition.clone(),
            order: by.order.clone(),
            key: by.key,
            frame: self.frame.clone(),
        }
    }
}

impl Frame {
    pub fn sql(&self) -> String {
        let (mode, start, exclude) = (self.mode, &self.start, self.exclude);
        match &self.end {
            Some(end) => format!("{mode} BETWEEN {start} AND {end}{exclude}"),
            None => format!("{mode} {start}{exclude}"),
        }
    }
}
