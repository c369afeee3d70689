//! What may be left out of a window. What tells the rows apart stays at the end of its order.

use super::tree::Node;
use super::window::{Frame, Over, Place, Window};

impl Over {
    /// The call stays, the window has less.
    pub(super) fn smaller(&self, all: &mut Vec<Node>) {
        if let Place::Here(window) = &self.window {
            let over = |window| Over {
                window: Place::Here(window),
                ..self.clone()
            };
            let shorter = window.shorter().into_iter().map(over);
            all.extend(shorter.map(|over| Node::Over(Box::new(over))));
        }
    }

    pub(super) fn write_out(&mut self, name: &str, window: &Window) {
        match &mut self.window {
            Place::Named(known) if known == name => self.window = Place::Here(window.clone()),
            Place::Here(own) if own.base.as_deref() == Some(name) => *own = own.on(window),
            _ => {}
        }
    }
}

impl Window {
    fn changed(&self, change: impl FnOnce(&mut Window)) -> Window {
        let mut window = self.clone();
        change(&mut window);
        window
    }

    /// Without one of its parts.
    pub(super) fn shorter(&self) -> Vec<Window> {
        let mut all = Vec::new();
        for i in 0..self.partition.len() {
            all.push(self.changed(|w| {
                w.partition.remove(i);
            }));
        }
        for (i, (node, words)) in self.order.iter().enumerate() {
            if !node.is_kept() {
                all.push(self.changed(|w| {
                    w.order.remove(i);
                }));
            }
            if !words.is_empty() {
                all.push(self.changed(|w| w.order[i].1 = ""));
            }
        }
        if self.key.is_some_and(|words| !words.is_empty()) {
            all.push(self.changed(|w| w.key = Some("")));
        }
        if let Some(frame) = &self.frame {
            all.push(self.changed(|w| w.frame = None));
            all.extend(
                frame
                    .smaller()
                    .into_iter()
                    .map(|frame| self.changed(|w| w.frame = Some(frame))),
            );
        }
        all
    }

    /// Without one of its parts, or with less in one.
    pub(super) fn smaller(&self) -> Vec<Window> {
        let mut all = self.shorter();
        for (i, node) in self.nodes().enumerate() {
            for smaller in node.smaller() {
                all.push(self.changed(|w| {
                    if let Some(node) = w.nodes_mut().nth(i) {
                        *node = smaller;
                    }
                }));
            }
        }
        all
    }
}

impl Frame {
    fn smaller(&self) -> Vec<Frame> {
        let mut all = Vec::new();
        if !self.exclude.is_empty() {
            all.push(Frame {
                exclude: "",
                ..self.clone()
            });
        }
        if self.end.is_some() {
            all.push(Frame {
                end: None,
                ..self.clone()
            });
        }
        all
    }
}
