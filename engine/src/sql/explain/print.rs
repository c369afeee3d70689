//! The forms of EXPLAIN's output: text, and three of one document.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::item::{Item, Shown};
use super::{ExplainOptions, Times};

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub fn text(root: &Item, options: &ExplainOptions, times: Times) -> Vec<String> {
    let mut lines = Vec::new();
    add(root, options, 0, false, &mut lines);
    if options.summary {
        lines.push(format!("Planning Time: {:.3} ms", ms(times.planning)));
        if options.analyze {
            lines.push(format!("Execution Time: {:.3} ms", ms(times.execution)));
        }
    }
    lines
}

/// `indent`: where the node's own text begins; its properties stand two further in.
fn add(item: &Item, options: &ExplainOptions, indent: usize, arrow: bool, lines: &mut Vec<String>) {
    let mut line = " ".repeat(indent);
    let mut inner = indent + 2;
    if arrow {
        line.push_str("->  ");
        inner = indent + 6;
    }
    line.push_str(&item.headline);
    numbers(item, options, &mut line);
    lines.push(line);
    let pad = " ".repeat(inner);
    for (key, value) in &item.properties {
        let value = match value {
            Shown::Text(text) => text.clone(),
            Shown::List(items) => items.join(", "),
            Shown::Count(n) => n.to_string(),
        };
        lines.push(format!("{pad}{key}: {value}"));
    }
    for child in &item.children {
        match &child.title {
            Some(title) => {
                lines.push(format!("{pad}{title}"));
                add(&child.item, options, inner + 2, true, lines);
            }
            None => add(&child.item, options, inner, true, lines),
        }
    }
}

fn numbers(item: &Item, options: &ExplainOptions, line: &mut String) {
    if options.costs {
        let c = item.cost;
        write!(
            line,
            "  (cost={:.2}..{:.2} rows={:.0} width={:.0})",
            c.startup, c.total, c.rows, c.width
        )
        .expect("writing to a string");
    }
    let Some(m) = item.measured else { return };
    if m.loops == 0 {
        line.push_str(" (never executed)");
        return;
    }
    let rows = m.rows as f64 / m.loops as f64;
    if options.timing {
        let each = |t: Duration| ms(t) / m.loops as f64;
        write!(
            line,
            " (actual time={:.3}..{:.3} rows={rows:.0} loops={})",
            each(m.startup),
            each(m.total),
            m.loops
        )
    } else {
        write!(line, " (actual rows={rows:.0} loops={})", m.loops)
    }
    .expect("writing to a string");
}

pub fn json(root: &Item, options: &ExplainOptions, times: Times) -> String {
    let query = Value::Object(document(root, options, times));
    serde_json::to_string_pretty(&Value::Array(vec![query])).expect("a map with string keys")
}

pub fn yaml(root: &Item, options: &ExplainOptions, times: Times) -> String {
    let mut out = "- ".to_owned();
    add_yaml(&document(root, options, times), 1, true, &mut out);
    out
}

pub fn xml(root: &Item, options: &ExplainOptions, times: Times) -> String {
    let mut query = String::new();
    add_xml(&document(root, options, times), 2, &mut query);
    in_explain(&format!("  <Query>\n{query}  </Query>\n"))
}

/// The root element around its content.
pub fn in_explain(content: &str) -> String {
    format!("<explain xmlns=\"http://www.postgresql.org/2009/explain\">\n{content}</explain>")
}

/// What the three forms show of one query, in this order.
fn document(root: &Item, options: &ExplainOptions, times: Times) -> Map<String, Value> {
    let mut top = Map::new();
    top.insert("Plan".to_owned(), node(root, options, None));
    if options.summary {
        top.insert("Planning Time".to_owned(), rounded(ms(times.planning), 3));
    }
    if options.analyze {
        top.insert("Triggers".to_owned(), json!([]));
    }
    if options.summary && options.analyze {
        top.insert("Execution Time".to_owned(), rounded(ms(times.execution), 3));
    }
    top
}

/// `indent`: two blanks each. Each entry begins a line, but for the `first` one of a list's item, which has begun it.
fn add_yaml(map: &Map<String, Value>, indent: usize, first: bool, out: &mut String) {
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 || !first {
            start_line(indent, out);
        }
        out.push_str(key);
        out.push_str(": ");
        match value {
            Value::Object(inner) => add_yaml(inner, indent + 1, false, out),
            Value::Array(items) => {
                for item in items {
                    start_line(indent + 1, out);
                    out.push_str("- ");
                    match item {
                        Value::Object(inner) => add_yaml(inner, indent + 2, true, out),
                        scalar => out.push_str(&scalar.to_string()),
                    }
                }
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
}

fn start_line(indent: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&" ".repeat(2 * indent));
}

fn add_xml(map: &Map<String, Value>, indent: usize, out: &mut String) {
    let pad = " ".repeat(2 * indent);
    for (key, value) in map {
        let tag = key.replace(' ', "-");
        match value {
            Value::Object(inner) => {
                out.push_str(&format!("{pad}<{tag}>\n"));
                add_xml(inner, indent + 1, out);
                out.push_str(&format!("{pad}</{tag}>\n"));
            }
            Value::Array(items) => {
                out.push_str(&format!("{pad}<{tag}>\n"));
                for item in items {
                    match item {
                        // The only list of objects is that of a node's children.
                        Value::Object(inner) => {
                            out.push_str(&format!("{pad}  <Plan>\n"));
                            add_xml(inner, indent + 2, out);
                            out.push_str(&format!("{pad}  </Plan>\n"));
                        }
                        scalar => {
                            let text = xml_text(scalar);
                            out.push_str(&format!("{pad}  <Item>{text}</Item>\n"));
                        }
                    }
                }
                out.push_str(&format!("{pad}</{tag}>\n"));
            }
            scalar => out.push_str(&format!("{pad}<{tag}>{}</{tag}>\n", xml_text(scalar))),
        }
    }
}

/// `escape_xml`
fn xml_text(scalar: &Value) -> String {
    let text = match scalar {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\r', "&#x0d;")
}

fn rounded(value: f64, digits: usize) -> Value {
    // With the digits that PostgreSQL prints, trailing zeroes included.
    serde_json::from_str(&format!("{value:.digits$}")).expect("a decimal number")
}

fn node(item: &Item, options: &ExplainOptions, relationship: Option<&str>) -> Value {
    let mut made = Map::new();
    made.insert("Node Type".to_owned(), json!(item.node_type));
    if let Some(relationship) = relationship {
        made.insert("Parent Relationship".to_owned(), json!(relationship));
    }
    made.insert("Parallel Aware".to_owned(), json!(false));
    made.insert("Async Capable".to_owned(), json!(false));
    for (key, value) in &item.facts {
        made.insert(key.clone(), value.clone());
    }
    if options.costs {
        let c = item.cost;
        made.insert("Startup Cost".to_owned(), rounded(c.startup, 2));
        made.insert("Total Cost".to_owned(), rounded(c.total, 2));
        made.insert("Plan Rows".to_owned(), rounded(c.rows, 0));
        made.insert("Plan Width".to_owned(), rounded(c.width, 0));
    }
    if let Some(m) = item.measured {
        let loops = m.loops.max(1) as f64;
        if options.timing {
            made.insert(
                "Actual Startup Time".to_owned(),
                rounded(ms(m.startup) / loops, 3),
            );
            made.insert(
                "Actual Total Time".to_owned(),
                rounded(ms(m.total) / loops, 3),
            );
        }
        made.insert("Actual Rows".to_owned(), rounded(m.rows as f64 / loops, 0));
        made.insert("Actual Loops".to_owned(), json!(m.loops));
    }
    for (key, value) in &item.properties {
        let value = match value {
            Shown::Text(text) => json!(text),
            Shown::List(items) => json!(items),
            Shown::Count(n) => json!(n),
        };
        made.insert(key.clone(), value);
    }
    if !item.children.is_empty() {
        let children = item
            .children
            .iter()
            .map(|c| {
                let mut child = node(&c.item, options, Some(c.relationship));
                if let (Some(title), Value::Object(map)) = (&c.title, &mut child) {
                    map.insert("Subplan Name".to_owned(), json!(title));
                }
                child
            })
            .collect();
        made.insert("Plans".to_owned(), Value::Array(children));
    }
    Value::Object(made)
}
