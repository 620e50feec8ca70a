//! Which nodes a pool is for: an expression over their labels.
//!
//! The language is the part of Calico's selectors that says something about whole values, so that who knows those, or
//! Kubernetes', needs to learn nothing:
//!
//! ```text
//! expression = term { "||" term }
//! term       = factor { "&&" factor }
//! factor     = "!" factor | "(" expression ")" | "all()" | "has(" label ")"
//!            | label ( "==" | "!=" ) value | label [ "not" ] "in" "{" value { "," value } "}"
//! ```
//!
//! A value stands in single or double quotes. A label that a node does not have equals nothing: `zone != 'a'` and `zone not
//! in {'a'}` hold for it.

mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// So long may the text of a selector be, in bytes.
pub(super) const LONGEST: usize = 1024;

/// An expression over the labels of a node. What it prints reads back as the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Expression);

/// A part of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    All,
    Has(String),
    /// The label has one of these values.
    In(String, Vec<String>),
    /// It has none of these, or there is no such label.
    NotIn(String, Vec<String>),
    Not(Box<Expression>),
    /// All of them: two at least.
    And(Vec<Expression>),
    /// One of them: two at least.
    Or(Vec<Expression>),
}

/// Text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} is wanted at {place}; a selector over node labels is as in \"zone == 'a' && disk != 'slow'\"")]
pub struct InvalidSelector {
    /// What should stand there.
    pub wanted: &'static str,
    /// Where, in words.
    pub place: String,
}

impl Selector {
    /// Whether a node with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.holds(labels)
    }
}

impl Expression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let is_in = |name: &String, values: &Vec<String>| labels.get(name).is_some_and(|has| values.contains(has));
        match self {
            Self::All => true,
            Self::Has(name) => labels.contains_key(name),
            Self::In(name, values) => is_in(name, values),
            Self::NotIn(name, values) => !is_in(name, values),
            Self::Not(inner) => !inner.holds(labels),
            Self::And(parts) => parts.iter().all(|part| part.holds(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(labels)),
        }
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let selector = parse::selector(text).map(Self)?;
        // It is kept as it is printed, which may be longer and have more parentheses: that must be readable too.
        parse::selector(&selector.to_string()).map(|_| selector)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Has(name) => write!(f, "has({name})"),
            Self::In(name, values) => one_of(f, name, ["==", "in"], values),
            Self::NotIn(name, values) => one_of(f, name, ["!=", "not in"], values),
            Self::Not(inner) => write!(f, "!{}", Within(inner)),
            Self::And(parts) => joined(f, " && ", parts),
            Self::Or(parts) => joined(f, " || ", parts),
        }
    }
}

/// A label and its values: one by the first operator, several by the second.
fn one_of(f: &mut fmt::Formatter<'_>, name: &str, [one, several]: [&str; 2], values: &[String]) -> fmt::Result {
    let quote = |value: &String| if value.contains('\'') { format!("\"{value}\"") } else { format!("'{value}'") };
    match values {
        [value] => write!(f, "{name} {one} {}", quote(value)),
        values => {
            let values: Vec<_> = values.iter().map(quote).collect();
            write!(f, "{name} {several} {{{}}}", values.join(", "))
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, operator: &str, parts: &[Expression]) -> fmt::Result {
    for (place, part) in parts.iter().enumerate() {
        write!(f, "{}{}", if place == 0 { "" } else { operator }, Within(part))?;
    }
    Ok(())
}

/// A part of a greater expression: in parentheses where it would be read otherwise, or be hard to read.
struct Within<'a>(&'a Expression);

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::And(_) | Expression::Or(_) => write!(f, "({})", self.0),
            simple => simple.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
