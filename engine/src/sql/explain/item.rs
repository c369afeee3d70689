//! What is shown of a node, before it is printed.

use serde_json::{Map, Value};

use crate::sql::exec::instrument::Instrument;
use crate::sql::plan::tree::Cost;

/// One shown node.
#[derive(Debug, Clone)]
pub struct Item {
    /// JSON's `Node Type`.
    pub node_type: String,
    /// The text form's first line, without costs.
    pub headline: String,
    /// JSON's facts that the headline holds in the text form.
    pub facts: Map<String, Value>,
    /// `Key: value` lines, the same in both forms.
    pub properties: Vec<(String, Shown)>,
    pub cost: Cost,
    pub measured: Option<Instrument>,
    pub children: Vec<Child>,
}

#[derive(Debug, Clone)]
pub enum Shown {
    Text(String),
    /// Text: joined by commas.
    List(Vec<String>),
    /// Shown only with ANALYZE.
    Count(u64),
}

#[derive(Debug, Clone)]
pub struct Child {
    /// JSON's `Parent Relationship`.
    pub relationship: &'static str,
    /// `InitPlan 1 (returns $0)`: a line of its own above the child in the text form.
    pub title: Option<String>,
    pub item: Item,
}

impl Item {
    pub fn new(node_type: &str, headline: impl Into<String>, cost: Cost) -> Item {
        Item {
            node_type: node_type.to_owned(),
            headline: headline.into(),
            facts: Map::new(),
            properties: Vec::new(),
            cost,
            measured: None,
            children: Vec::new(),
        }
    }
    pub fn fact(&mut self, key: &str, value: impl Into<Value>) {
        self.facts.insert(key.to_owned(), value.into());
    }
    pub fn text(&mut self, key: &str, value: impl Into<String>) {
        self.properties
            .push((key.to_owned(), Shown::Text(value.into())));
    }
    pub fn list(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.properties.push((key.to_owned(), Shown::List(values)));
        }
    }
    pub fn child(&mut self, relationship: &'static str, item: Item) {
        self.children.push(Child {
            relationship,
            title: None,
            item,
        });
    }
}
