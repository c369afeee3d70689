//! Lines as administrators know them.

use std::sync::Arc;

use super::identity::SessionIdentity;
use super::prefix::Prefix;
use super::{BackendType, Entry, Shape, Verbosity, render};
use crate::config::session::Level;

fn shape(prefix: &str, verbosity: Verbosity) -> Shape {
    Shape {
        prefix: Prefix::parse(prefix),
        least: Level::Warning,
        verbosity,
        zone: jiff::tz::TimeZone::UTC,
    }
}

fn session() -> SessionIdentity {
    let who = SessionIdentity::new(
        77,
        BackendType::Client,
        Some("10.0.2.42:55811".parse().expect("an address")),
    );
    who.change_names(|n| {
        n.user = Some(Arc::from("snaga"));
        n.database = Some(Arc::from("db"));
    });
    who
}

#[test]
fn an_error_has_its_lines_in_order() {
    let entry = Entry {
        state: Some("42601"),
        detail: Some("d"),
        hint: Some("h"),
        statement: Some("SELECT\n1"),
        ..Entry::new(Level::Error, "syntax error")
    };
    let who = session();
    assert_eq!(
        render(
            &shape("%u@%d [%p] ", Verbosity::Default),
            &entry,
            Some(&who)
        ),
        "snaga@db [77] ERROR:  syntax error\nsnaga@db [77] DETAIL:  d\nsnaga@db [77] HINT:  h\nsnaga@db [77] STATEMENT:  SELECT\n\t1\n"
    );
    assert_eq!(
        render(&shape("", Verbosity::Terse), &entry, None),
        "ERROR:  syntax error\nSTATEMENT:  SELECT\n\t1\n"
    );
    assert!(
        render(&shape("", Verbosity::Verbose), &entry, None)
            .starts_with("ERROR:  42601: syntax error\n")
    );
}

#[test]
fn prefix_escapes() {
    let entry = Entry::new(Level::Log, "m");
    let who = session();
    let with = |p: &str| render(&shape(p, Verbosity::Default), &entry, Some(&who));
    assert_eq!(
        with("%r %h %b %a|%e %% "),
        "10.0.2.42(55811) 10.0.2.42 client backend [unknown]|00000 % LOG:  m\n"
    );
    assert_eq!(with("%6p|%-6p|%q%u "), "    77|77    |snaga LOG:  m\n");
    let without = render(&shape("%u%d%r<%q%u> ", Verbosity::Default), &entry, None);
    assert_eq!(without, "<LOG:  m\n");
    let stamp = render(&shape("%m|", Verbosity::Default), &entry, None);
    let (stamp, _) = stamp.split_once('|').expect("a prefix");
    assert!(
        stamp.ends_with(" UTC") && stamp.len() == "2026-01-01 00:00:00.000 UTC".len(),
        "{stamp}"
    );
}
