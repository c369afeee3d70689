//! Plan nodes in PostgreSQL's words.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ExplainOptions;
use super::expression::{Style, Words, aggregate, quoted, subplan_name, window_call};
use super::item::{Child, Item, Shown};
use crate::catalog::relation::Relation;
use crate::sql::bound::{Expr, SetOp, SubPlanCall};
use crate::sql::exec::eval::{INIT_PLAN, OUTER_VALUE, Test};
use crate::sql::exec::instrument::Instruments;
use crate::sql::plan::tree::{
    AggregateNode, Grouping, HashJoin, IndexScan, JoinType, KeySlot, Level, Modify, ModifyAction,
    NodeKind, PlanNode, SortKey, TableCall,
};
use crate::sql::plan::{Plan, walk};
use crate::types::datum::SqlType;
use crate::types::function::FunctionCx;

/// What is described, and how.
struct Subject<'p> {
    plan: &'p Plan,
    options: &'p ExplainOptions,
    measured: Option<&'p Instruments>,
    /// Plans of subqueries that have been shown; an expression may stand in several nodes.
    shown: RefCell<BTreeSet<usize>>,
    /// The statement reads more than one relation: outside of scans each column is shown with its own.
    several: bool,
}

impl Subject<'_> {
    /// Whether this subquery's plan has not been shown yet; from now on it has.
    fn is_new(&self, number: usize) -> bool {
        self.shown.borrow_mut().insert(number)
    }
}

struct Describer<'p> {
    subject: &'p Subject<'p>,
    words: Words<'p>,
    measured: Option<&'p Instruments>,
    verbose: bool,
}

pub fn describe(plan: &Plan, options: &ExplainOptions, measured: Option<&Instruments>) -> Item {
    let below = plan.subplans.iter().map(|s| relations(&s.level.root));
    let subject = Subject {
        plan,
        options,
        measured,
        shown: RefCell::default(),
        several: relations(&plan.main.root) + below.sum::<usize>() > 1,
    };
    let subplans = plan.subplans.iter().enumerate();
    let results = subplans.filter_map(|(number, subplan)| {
        let returns = subplan.returns?;
        Some((INIT_PLAN + number, format!("${returns}")))
    });
    level(&subject, &plan.main, results.collect())
}

/// A level with the init plans that it asks for; `params`: what it may read of other levels.
fn level(subject: &Subject<'_>, level: &Level, params: BTreeMap<usize, String>) -> Item {
    let options = subject.options;
    let function: &FunctionCx = &subject.plan.function;
    let mut describer = Describer {
        subject,
        words: Words {
            slots: &level.slots,
            qualified: options.verbose || subject.several,
            bare: None,
            function,
            aggregates: Vec::new(),
            windows: BTreeMap::new(),
            params,
            style: Style::Plan,
            indent: std::cell::Cell::new(0),
        },
        measured: subject.measured,
        verbose: options.verbose,
    };
    describer.words.aggregates = aggregates_of(&describer.words, &level.root);
    name_passed(&mut describer.words, &level.root);
    // Their arguments may be such values.
    describer.words.aggregates = aggregates_of(&describer.words, &level.root);
    name_windows(&mut describer.words, &level.root);
    let mut inits = BTreeSet::new();
    init_plans(&level.root, &mut inits);
    // Init plans come before the other children.
    let mut children = Vec::new();
    for number in inits {
        if let Some(returns) = subject.plan.subplans[number].returns
            && subject.is_new(number)
        {
            let title = format!("InitPlan {} (returns ${returns})", number + 1);
            let params = describer.words.params.clone();
            children.push(describer.subquery("InitPlan", title, number, params));
        }
    }
    for number in &level.ctes {
        if subject.is_new(*number) {
            let title = format!("CTE {}", quoted(&subject.plan.subplans[*number].name));
            let params = describer.words.params.clone();
            children.push(describer.subquery("InitPlan", title, *number, params));
        }
    }
    let mut item = describer.node(&level.root);
    children.append(&mut item.children);
    item.children = children;
    if options.verbose {
        // Unlike conditions, which always say it here.
        describer.words.qualified = subject.several;
        let output = level.output.iter().map(|s| describer.words.slot(*s));
        let shown = Shown::List(output.collect());
        if !level.output.is_empty() {
            item.properties.insert(0, ("Output".to_owned(), shown));
        }
    }
    item
}

/// Outer values that loops of the level pass go by the names of the slots that they are.
fn name_passed(words: &mut Words<'_>, node: &PlanNode) {
    let NodeKind::NestLoop(join) = &node.kind else {
        for child in node.children() {
            name_passed(words, child);
        }
        return;
    };
    // What the inner side is given may have been computed of what was given further out.
    name_passed(words, &join.outer);
    let qualified = std::mem::replace(&mut words.qualified, true);
    for (number, slot) in &join.pass {
        let name = words.slot(*slot);
        words.params.insert(OUTER_VALUE + number, name);
    }
    words.qualified = qualified;
    name_passed(words, &join.inner);
}

/// The init plans whose results a node and those below it ask for.
fn init_plans(node: &PlanNode, into: &mut BTreeSet<usize>) {
    node.expressions(&mut |e| {
        walk(e, &mut |part| {
            if let Expr::Param(n, _) = part
                && (INIT_PLAN..OUTER_VALUE).contains(n)
            {
                into.insert(n - INIT_PLAN);
            }
        });
    });
    for child in node.children() {
        init_plans(child, into);
    }
}

fn relations(node: &PlanNode) -> usize {
    let own = matches!(
        node.kind,
        NodeKind::SeqScan(_)
            | NodeKind::IndexScan(_)
            | NodeKind::VirtualScan { .. }
            | NodeKind::FunctionScan(_)
            | NodeKind::ValuesScan { .. }
            | NodeKind::CteScan(_)
            | NodeKind::WorkTableScan(_)
    );
    usize::from(own) + node.children().iter().map(|c| relations(c)).sum::<usize>()
}

fn aggregates_of(words: &Words<'_>, node: &PlanNode) -> Vec<String> {
    let mut shown = Vec::new();
    if let NodeKind::Aggregate(a) = &node.kind {
        shown.extend(a.calls.iter().map(|c| aggregate(words, c)));
        return shown;
    }
    for child in node.children() {
        shown.extend(aggregates_of(words, child));
    }
    shown
}

/// Window functions go by how they are called; inner ones first, though none reads another one.
fn name_windows(words: &mut Words<'_>, node: &PlanNode) {
    for child in node.children() {
        name_windows(words, child);
    }
    if let NodeKind::Window(window) = &node.kind {
        for call in &window.calls {
            let shown = window_call(words, call);
            words.windows.insert(call.slot, shown);
        }
    }
}

/// `t` or `t alias`
fn on(name: &str, alias: &str) -> String {
    if name == alias {
        quoted(name)
    } else {
        format!("{} {}", quoted(name), quoted(alias))
    }
}

fn conjunction(words: &Words<'_>, conditions: &[Expr]) -> String {
    match conditions {
        [only] => words.show(only),
        many => {
            let shown: Vec<String> = many.iter().map(|c| words.show(c)).collect();
            format!("({})", shown.join(" AND "))
        }
    }
}

impl Describer<'_> {
    fn node(&self, node: &PlanNode) -> Item {
        let mut item = self.without_subplans(node);
        let mut runs: Vec<&SubPlanCall> = Vec::new();
        node.expressions(&mut |e| {
            walk(e, &mut |part| {
                if let Expr::SubPlan(run) = part {
                    runs.push(run);
                }
            });
        });
        for run in runs {
            if self.subject.is_new(run.number) {
                item.children.push(self.run(run));
            }
        }
        item
    }

    /// A subquery that is run for a row, whose values it shows by their names.
    fn run(&self, run: &SubPlanCall) -> Child {
        let mut words = self.words.clone();
        (words.qualified, words.bare) = (true, None);
        let mut params = self.words.params.clone();
        for (number, value) in &run.args {
            params.insert(OUTER_VALUE + number, words.show(value));
        }
        self.subquery("SubPlan", subplan_name(run.number), run.number, params)
    }

    fn subquery(
        &self,
        relationship: &'static str,
        title: String,
        number: usize,
        params: BTreeMap<usize, String>,
    ) -> Child {
        let subplan = &self.subject.plan.subplans[number];
        Child {
            relationship,
            title: Some(title),
            item: level(self.subject, &subplan.level, params),
        }
    }

    fn without_subplans(&self, node: &PlanNode) -> Item {
        let mut item = match &node.kind {
            // Part of its child.
            NodeKind::Project { child, .. } => {
                let mut item = self.node(child);
                item.cost = node.cost;
                return item;
            }
            NodeKind::Filter {
                child,
                test,
                once: false,
            } => {
                let mut item = self.node(child);
                item.cost = node.cost;
                self.filter(&mut item, Some(test), node.id);
                if let Some(measured) = self.measured {
                    item.measured = Some(*measured.node(node.id));
                }
                return item;
            }
            _ => self.bare(node),
        };
        if let Some(measured) = self.measured {
            item.measured = Some(*measured.node(node.id));
        }
        item
    }

    fn bare(&self, node: &PlanNode) -> Item {
        let cost = node.cost;
        match &node.kind {
            NodeKind::Result { filter } => {
                let mut item = Item::new("Result", "Result", cost);
                if let Some(filter) = filter {
                    item.text("One-Time Filter", self.words.show(filter.source()));
                }
                item
            }
            NodeKind::SeqScan(scan) => {
                let shown = self.on_table(&scan.relation, &scan.alias);
                let mut item = Item::new("Seq Scan", format!("Seq Scan on {shown}"), cost);
                item.fact("Relation Name", scan.relation.name.as_str());
                item.fact("Alias", scan.alias.as_str());
                self.scan_filter(&mut item, &scan.alias, scan.filter.as_ref(), node.id);
                item
            }
            NodeKind::IndexScan(scan) => self.index_scan(scan, node),
            NodeKind::VirtualScan {
                relation,
                alias,
                filter,
                ..
            } => {
                let headline = format!("Function Scan on {}", on(&relation.name, alias));
                let mut item = Item::new("Function Scan", headline, cost);
                item.fact("Alias", alias.as_str());
                self.scan_filter(&mut item, alias, filter.as_ref(), node.id);
                item
            }
            NodeKind::FunctionScan(scan) => {
                // Of several none gives the node its name.
                let function = match scan.calls.as_slice() {
                    [only] => only.function,
                    _ => None,
                };
                let schema = if self.verbose { "pg_catalog." } else { "" };
                let shown = match function {
                    Some(function) => format!("{schema}{}", on(function.name, &scan.alias)),
                    None => quoted(&scan.alias),
                };
                let headline = format!("Function Scan on {shown}");
                let mut item = Item::new("Function Scan", headline, cost);
                if let Some(function) = function {
                    item.fact("Function Name", function.name);
                }
                item.fact("Alias", scan.alias.as_str());
                if self.verbose {
                    let calls = scan.calls.iter().map(|call| self.table_call(call));
                    item.text("Function Call", calls.collect::<Vec<_>>().join(", "));
                }
                self.scan_filter(&mut item, &scan.alias, scan.filter.as_ref(), node.id);
                item
            }
            NodeKind::CteScan(scan) => {
                let named = (scan.name.as_str(), scan.alias.as_str());
                self.named_scan("CTE Scan", named, scan.filter.as_ref(), node)
            }
            NodeKind::WorkTableScan(scan) => {
                let named = (scan.name.as_str(), scan.alias.as_str());
                self.named_scan("WorkTable Scan", named, scan.filter.as_ref(), node)
            }
            NodeKind::ValuesScan { alias, filter, .. } => {
                let headline = format!("Values Scan on {}", on("*VALUES*", alias));
                let mut item = Item::new("Values Scan", headline, cost);
                item.fact("Alias", alias.as_str());
                self.scan_filter(&mut item, alias, filter.as_ref(), node.id);
                item
            }
            _ => self.inner(node),
        }
    }

    fn inner(&self, node: &PlanNode) -> Item {
        let cost = node.cost;
        match &node.kind {
            NodeKind::NestLoop(join) => {
                let word = join_word(join.join);
                let headline = match join.join {
                    JoinType::Inner => "Nested Loop".to_owned(),
                    _ => format!("Nested Loop {word} Join"),
                };
                let mut item = Item::new("Nested Loop", headline, cost);
                item.fact("Join Type", word);
                self.test(&mut item, "Join Filter", join.condition.as_ref());
                self.filter(&mut item, join.filter.as_ref(), node.id);
                item.child("Outer", self.node(&join.outer));
                item.child("Inner", self.node(&join.inner));
                item
            }
            NodeKind::HashJoin(join) => self.hash_join(join, node),
            NodeKind::Materialize { child, .. } => {
                self.over(Item::new("Materialize", "Materialize", cost), child)
            }
            NodeKind::Sort(sort) => {
                let mut item = Item::new("Sort", "Sort", cost);
                item.list("Sort Key", self.sort_keys(&sort.keys));
                self.over(item, &sort.child)
            }
            NodeKind::Limit(limit) => self.over(Item::new("Limit", "Limit", cost), &limit.child),
            NodeKind::ProjectSet { child, .. } => {
                self.over(Item::new("ProjectSet", "ProjectSet", cost), child)
            }
            NodeKind::Aggregate(a) => self.aggregate(a, node),
            NodeKind::Window(w) => self.over(Item::new("WindowAgg", "WindowAgg", cost), &w.child),
            NodeKind::Unique { child, .. } => self.over(Item::new("Unique", "Unique", cost), child),
            NodeKind::HashDistinct { child, keys } => {
                let mut item = Item::new("Aggregate", "HashAggregate", cost);
                item.fact("Strategy", "Hashed");
                item.list("Group Key", self.keys(keys));
                self.over(item, child)
            }
            NodeKind::Append { children } => {
                let mut item = Item::new("Append", "Append", cost);
                for child in children {
                    item.child("Member", self.node(child));
                }
                item
            }
            NodeKind::SetOp(set) => {
                let name = if set.op == SetOp::Intersect {
                    "Intersect"
                } else {
                    "Except"
                };
                let all = if set.all { " All" } else { "" };
                let mut item = Item::new("SetOp", format!("HashSetOp {name}{all}"), cost);
                item.fact("Strategy", "Hashed");
                item.fact("Command", format!("{name}{all}"));
                item.child("Outer", self.node(&set.left));
                item.child("Inner", self.node(&set.right));
                item
            }
            NodeKind::RecursiveUnion(union) => {
                let mut item = Item::new("Recursive Union", "Recursive Union", cost);
                item.child("Outer", self.node(&union.first));
                item.child("Inner", self.node(&union.step));
                item
            }
            NodeKind::LockRows { child, .. } => {
                self.over(Item::new("LockRows", "LockRows", cost), child)
            }
            NodeKind::Filter { child, test, .. } => {
                let mut item = Item::new("Result", "Result", cost);
                item.text("One-Time Filter", self.words.show(test.source()));
                self.over(item, child)
            }
            NodeKind::Modify(modify) => self.modify(modify, node),
            _ => unreachable!("scans and projections are described elsewhere"),
        }
    }

    /// A table as a scan or a change names it.
    fn on_table(&self, relation: &Relation, alias: &str) -> String {
        let shown = on(&relation.name, alias);
        match self.verbose {
            true => format!("{}.{shown}", quoted(&relation.schema_name)),
            false => shown,
        }
    }

    /// A scan of a WITH query.
    fn named_scan(
        &self,
        what: &str,
        (name, alias): (&str, &str),
        filter: Option<&Test>,
        node: &PlanNode,
    ) -> Item {
        let mut item = Item::new(what, format!("{what} on {}", on(name, alias)), node.cost);
        item.fact("CTE Name", name);
        item.fact("Alias", alias);
        self.scan_filter(&mut item, alias, filter, node.id);
        item
    }

    fn over(&self, mut item: Item, child: &Arc<PlanNode>) -> Item {
        item.child("Outer", self.node(child));
        item
    }

    fn test(&self, item: &mut Item, key: &str, test: Option<&Test>) {
        if let Some(test) = test {
            item.text(key, self.words.show(test.source()));
        }
    }

    /// As names are where one relation is scanned.
    fn scan_words<'a>(&'a self, alias: &'a str) -> Words<'a> {
        Words {
            bare: (!self.verbose).then_some(alias),
            ..self.words.clone()
        }
    }

    fn scan_filter(&self, item: &mut Item, alias: &str, test: Option<&Test>, id: usize) {
        self.filter_in(&self.scan_words(alias), item, test, id);
    }

    fn filter(&self, item: &mut Item, test: Option<&Test>, id: usize) {
        self.filter_in(&self.words, item, test, id);
    }

    fn filter_in(&self, words: &Words<'_>, item: &mut Item, test: Option<&Test>, id: usize) {
        if let Some(test) = test {
            item.text("Filter", words.show(test.source()));
        }
        if let (Some(measured), Some(_)) = (self.measured, test) {
            let own = measured.node(id);
            if own.removed > 0 {
                let each = own.removed / own.loops.max(1);
                let key = "Rows Removed by Filter".to_owned();
                item.properties.push((key, Shown::Count(each)));
            }
        }
    }

    fn table_call(&self, call: &TableCall) -> String {
        let args = call.args.iter().map(|arg| arg.source().clone());
        match (call.function, call.args.first()) {
            (Some(function), _) => self.words.show(&Expr::Call {
                function,
                args: args.collect(),
                ty: SqlType::plain(call.result),
            }),
            (None, Some(value)) => self.words.show(value.source()),
            (None, None) => String::new(),
        }
    }

    fn index_scan(&self, scan: &IndexScan, node: &PlanNode) -> Item {
        let backward = if scan.backward { " Backward" } else { "" };
        let headline = format!(
            "Index Scan{backward} using {} on {}",
            quoted(&scan.index.name),
            self.on_table(&scan.relation, &scan.alias)
        );
        let mut item = Item::new("Index Scan", headline, node.cost);
        item.fact(
            "Scan Direction",
            if scan.backward { "Backward" } else { "Forward" },
        );
        item.fact("Index Name", scan.index.name.as_str());
        item.fact("Relation Name", scan.relation.name.as_str());
        item.fact("Alias", scan.alias.as_str());
        if !scan.conditions.is_empty() {
            let words = self.scan_words(&scan.alias);
            item.text("Index Cond", conjunction(&words, &scan.conditions));
        }
        self.scan_filter(&mut item, &scan.alias, scan.filter.as_ref(), node.id);
        item
    }

    fn hash_join(&self, join: &HashJoin, node: &PlanNode) -> Item {
        let word = join_word(join.join);
        let headline = match join.join {
            JoinType::Inner => "Hash Join".to_owned(),
            _ => format!("Hash {word} Join"),
        };
        let mut item = Item::new("Hash Join", headline, node.cost);
        item.fact("Join Type", word);
        if !join.conditions.is_empty() {
            item.text("Hash Cond", conjunction(&self.words, &join.conditions));
        }
        self.test(&mut item, "Join Filter", join.residual.as_ref());
        self.filter(&mut item, join.filter.as_ref(), node.id);
        item.child("Outer", self.node(&join.outer));
        let inner = self.node(&join.inner);
        let mut cost = inner.cost;
        cost.startup = cost.total;
        let mut hash = Item::new("Hash", "Hash", cost);
        hash.measured = inner.measured;
        hash.child("Outer", inner);
        item.child("Inner", hash);
        item
    }

    fn sort_keys(&self, keys: &[SortKey]) -> Vec<String> {
        keys.iter()
            .map(|k| {
                let mut shown = self.words.key(k.slot);
                if k.descending {
                    shown.push_str(" DESC");
                }
                if k.nulls_first != k.descending {
                    shown.push_str(if k.nulls_first {
                        " NULLS FIRST"
                    } else {
                        " NULLS LAST"
                    });
                }
                shown
            })
            .collect()
    }

    fn keys(&self, keys: &[KeySlot]) -> Vec<String> {
        keys.iter().map(|k| self.words.slot(k.slot)).collect()
    }

    fn aggregate(&self, a: &AggregateNode, node: &PlanNode) -> Item {
        let (headline, strategy) = match a.grouping {
            Grouping::Plain => ("Aggregate", "Plain"),
            Grouping::Hashed => ("HashAggregate", "Hashed"),
            Grouping::Sorted if a.calls.is_empty() => ("Group", "Sorted"),
            Grouping::Sorted => ("GroupAggregate", "Sorted"),
        };
        let mut item = Item::new("Aggregate", headline, node.cost);
        item.fact("Strategy", strategy);
        item.fact("Partial Mode", "Simple");
        item.list("Group Key", self.keys(&a.keys));
        self.over(item, &a.child)
    }

    fn modify(&self, modify: &Modify, node: &PlanNode) -> Item {
        let operation = match &modify.action {
            ModifyAction::Insert { .. } => "Insert",
            ModifyAction::Update { .. } => "Update",
            ModifyAction::Delete { .. } => "Delete",
        };
        let alias = match &modify.action {
            ModifyAction::Insert { .. } => None,
            ModifyAction::Update { ctid, .. } | ModifyAction::Delete { ctid, .. } => {
                self.words.slots[*ctid].name.split_once('.')
            }
        };
        let alias = alias.map_or(modify.relation.name.as_str(), |(alias, _)| alias);
        let table = self.on_table(&modify.relation, alias);
        let headline = format!("{operation} on {table}");
        let mut cost = node.cost;
        if modify.returning.is_empty() {
            (cost.rows, cost.width) = (0.0, 0.0);
        }
        let mut item = Item::new("ModifyTable", headline, cost);
        item.fact("Operation", operation);
        item.fact("Relation Name", modify.relation.name.as_str());
        item.fact("Alias", alias);
        if let ModifyAction::Insert {
            on_conflict: Some(conflict),
            ..
        } = &modify.action
        {
            let resolution = if conflict.update.is_some() {
                "UPDATE"
            } else {
                "NOTHING"
            };
            item.text("Conflict Resolution", resolution);
            let arbiters = modify
                .relation
                .indexes
                .iter()
                .filter(|i| conflict.arbiters.contains(&i.oid))
                .map(|i| quoted(&i.name))
                .collect();
            item.list("Conflict Arbiter Indexes", arbiters);
            if let Some(update) = &conflict.update {
                self.test(&mut item, "Conflict Filter", update.filter.as_ref());
            }
        }
        self.over(item, &modify.child)
    }
}

const fn join_word(join: JoinType) -> &'static str {
    match join {
        JoinType::Inner => "Inner",
        JoinType::Left => "Left",
        JoinType::Right => "Right",
        JoinType::Full => "Full",
        JoinType::Semi => "Semi",
        JoinType::Anti => "Anti",
    }
}
