//! A document as a tree of keys, read key by key, so that each complaint knows its path.
//!
//! TOML and JSON are brought to one shape here. The readers of this crate ([`crate::cluster`], [`crate::node`],
//! [`crate::network`]) take what they know out of a [`Section`]; they decide whether what they do not know is an error.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::id::InvalidName;
use crate::{Error, spelling};

/// What its writer calls things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Toml,
    Json,
    /// JSON whose keys count without regard to case, as they do for programs in Go.
    JsonAnyCase,
}

/// A table of TOML or an object of JSON, with its path.
#[derive(Debug, Clone)]
pub(crate) struct Section<'a> {
    path: String,
    entries: &'a Map<String, Value>,
    dialect: Dialect,
}

/// A value in a list, with its path.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    pub(crate) path: String,
    value: &'a Value,
    dialect: Dialect,
}

/// Parses TOML. `what` names the document in an error.
pub(crate) fn parse_toml(what: &str, text: &str) -> Result<Map<String, Value>, Error> {
    let table: toml::Table = text.parse().map_err(|cause: toml::de::Error| {
        let before = cause.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::Syntax {
            what: what.to_owned(),
            cause: format!("line {line}, column {column}: {}", cause.message().trim().replace('\n', "; ")),
        }
    })?;
    table.into_iter().map(|(key, value)| Ok((key.clone(), from_toml(&key, value)?))).collect()
}

/// Parses JSON that must be one object. `what` names the document in an error.
pub(crate) fn parse_json(what: &str, text: &[u8]) -> Result<Map<String, Value>, Error> {
    let syntax = |cause: String| Error::Syntax { what: what.to_owned(), cause };
    match serde_json::from_slice(text) {
        Ok(Value::Object(entries)) => Ok(entries),
        Ok(other) => Err(syntax(format!("one JSON object is wanted, not {}", describe(&other, Dialect::Json)))),
        Err(_) if text.trim_ascii().is_empty() => Err(syntax("one JSON object is wanted, and nothing came".into())),
        Err(cause) => Err(syntax(cause.to_string())),
    }
}

fn from_toml(path: &str, value: toml::Value) -> Result<Value, Error> {
    let kind = |found: String, expected: &str| Error::Kind { key: path.to_owned(), found, expected: expected.into() };
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| kind(format!("the number {number}"), "no key takes a number without value"))?,
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(date) => {
            return Err(kind(format!("the date {date}"), "no key takes a date; a text stands in quotes"));
        }
        toml::Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| {
                let inner = match &item {
                    toml::Value::Table(table) => entry(path, i, table.get("name").and_then(toml::Value::as_str)),
                    _ => format!("{path}[{i}]"),
                };
                from_toml(&inner, item)
            })
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, item)| Ok((key.clone(), from_toml(&format!("{path}.{key}"), item)?)))
            .collect::<Result<Map<_, _>, Error>>()?
            .into(),
    })
}

/// A value in words, short enough for one line.
fn describe(value: &Value, dialect: Dialect) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) if number.is_f64() => format!("the number {number}"),
        Value::Number(number) => format!("the integer {number}"),
        Value::String(text) => format!("the string {:?}", shorten(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) if dialect == Dialect::Toml => "a table".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// At most 80 characters of `text`.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn wrong_kind(path: String, value: &Value, dialect: Dialect, expected: impl Into<String>) -> Error {
    Error::Kind { key: path, found: describe(value, dialect), expected: expected.into() }
}

fn section_of<'a>(path: String, value: &'a Value, dialect: Dialect, expected: &str) -> Result<Section<'a>, Error> {
    match value {
        Value::Object(entries) if dialect == Dialect::JsonAnyCase => Section { path, entries, dialect }.any_case(),
        Value::Object(entries) => Ok(Section { path, entries, dialect }),
        other => Err(wrong_kind(path, other, dialect, expected)),
    }
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(crate) fn root(entries: &'a Map<String, Value>, dialect: Dialect) -> Self {
        Self { path: String::new(), entries, dialect }
    }

    /// The same, whose keys and all below them count without regard to case. Refuses a key that stands there twice.
    pub(crate) fn any_case(&self) -> Result<Self, Error> {
        let any_case = Self { dialect: Dialect::JsonAnyCase, ..self.clone() };
        let again = any_case.keys().find(|key| any_case.spelled(key) != Some(key));
        match again {
            Some(key) => {
                let first = any_case.spelled(key).unwrap_or_default();
                let right = format!("keys are read here without regard to case, and {first} stands there too");
                Err(wrong_kind(any_case.path_of(key), &self.entries[key], self.dialect, right))
            }
            None => Ok(any_case),
        }
    }

    /// The path of one of its keys, as it is spelled there.
    pub(crate) fn key(&self, key: &str) -> String {
        self.path_of(self.spelled(key).unwrap_or(key))
    }

    /// How `key` is spelled here, if it is here.
    pub(crate) fn spelled(&self, key: &str) -> Option<&'a str> {
        self.keys().find(|there| match self.dialect {
            Dialect::JsonAnyCase => there.eq_ignore_ascii_case(key),
            Dialect::Toml | Dialect::Json => *there == key,
        })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Its keys, in alphabetical order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(String::as_str)
    }

    /// Refuses a key that `known` does not name.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.keys().find(|key| !known.contains(key)) {
            Some(key) => Err(unknown_key(self.key(key), key, known)),
            None => Ok(()),
        }
    }

    /// Whether `key` is here, be it `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.spelled(key).is_some()
    }

    /// What stands under `key`. `null` counts as absent, as it does for programs in Go.
    pub(crate) fn raw(&self, key: &str) -> Option<&'a Value> {
        let key = if self.dialect == Dialect::JsonAnyCase { self.spelled(key)? } else { key };
        self.entries.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, key: &str, expected: &str) -> Result<Option<&'a str>, Error> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_kind(self.key(key), other, self.dialect, expected)),
        }
    }

    /// A string that is parsed into one of the types of [`crate::id`].
    pub(crate) fn name<T: FromStr<Err = InvalidName>>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.string(key, "a string")? else { return Ok(None) };
        text.parse().map(Some).map_err(|cause: InvalidName| Error::value(self.key(key), text, cause.rule))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::Bool(yes)) => Ok(Some(*yes)),
            Some(other) => Err(wrong_kind(self.key(key), other, self.dialect, "true or false, without quotes")),
        }
    }

    /// An integer within `range`, of any type that holds the range.
    pub(crate) fn integer<T>(&self, key: &str, range: RangeInclusive<T>, what: &str) -> Result<Option<T>, Error>
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let expected = || format!("{what}, an integer from {} to {}", range.start(), range.end());
        match self.raw(key) {
            None => Ok(None),
            Some(value @ Value::Number(number)) if !number.is_f64() => number
                .as_u64()
                .and_then(|number| T::try_from(number).ok())
                .filter(|number| range.contains(number))
                .map(Some)
                .ok_or_else(|| Error::value(self.key(key), value, expected())),
            Some(other) => Err(wrong_kind(self.key(key), other, self.dialect, expected())),
        }
    }

    pub(crate) fn section(&self, key: &str, expected: &str) -> Result<Option<Section<'a>>, Error> {
        self.raw(key).map(|value| section_of(self.key(key), value, self.dialect, expected)).transpose()
    }

    pub(crate) fn list(&self, key: &str, expected: &str) -> Result<Option<Vec<Item<'a>>>, Error> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                let path = self.key(key);
                let item = |(i, value)| Item { path: format!("{path}[{i}]"), value, dialect: self.dialect };
                Ok(Some(items.iter().enumerate().map(item).collect()))
            }
            Some(other) => Err(wrong_kind(self.key(key), other, self.dialect, expected)),
        }
    }
}

impl<'a> Item<'a> {
    /// The same, called by its name where it is a table with one, or else by its place.
    pub(crate) fn called(self, list: &str, place: usize) -> Self {
        let name = self.value.get("name").and_then(Value::as_str);
        Self { path: entry(list, place, name), ..self }
    }

    pub(crate) fn string(&self, expected: &str) -> Result<&'a str, Error> {
        match self.value {
            Value::String(text) => Ok(text),
            other => Err(wrong_kind(self.path.clone(), other, self.dialect, expected)),
        }
    }

    pub(crate) fn name<T: FromStr<Err = InvalidName>>(&self) -> Result<T, Error> {
        let text = self.string("a string")?;
        text.parse().map_err(|cause: InvalidName| Error::value(self.path.clone(), text, cause.rule))
    }

    pub(crate) fn section(self, expected: &str) -> Result<Section<'a>, Error> {
        section_of(self.path, self.value, self.dialect, expected)
    }
}

/// What an entry of a list of tables, as its writer sees them in TOML, is called: `pool "b"` by its name, or `the 2nd [[pool]]`.
/// `place` counts from 0.
pub(crate) fn entry(list: &str, place: usize, name: Option<&str>) -> String {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return format!("{list} {:?}", shorten(name));
    }
    let number = place + 1;
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("the {number}{ending} [[{list}]]")
}

/// The error for a key that is not one of `known`; `word` is its last part.
pub(crate) fn unknown_key(path: String, word: &str, known: &[&str]) -> Error {
    let meant = spelling::nearest(word, known).map(str::to_owned);
    Error::UnknownKey { key: path, known: known.join(", "), meant }
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn an_entry_is_called_by_its_name_or_else_counted_from_one() {
        assert_eq!(entry("pool", 7, Some("b")), "pool \"b\"");
        let counted =
            [(0, "1st"), (1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (11, "12th"), (12, "13th"), (20, "21st")];
        for (place, ordinal) in counted {
            assert_eq!(entry("pool", place, Some("")), format!("the {ordinal} [[pool]]"));
        }
    }
}
