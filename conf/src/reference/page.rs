//! A schema as a page for people: a section for each table, a row for each key.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Document, Form, tidy};
use crate::kind;

/// What is gathered while the page is written.
struct Page<'a> {
    form: Form,
    text: String,
    /// The kinds of text that were mentioned, to be explained at the end.
    kinds: BTreeSet<&'static str>,
    /// Tables that stand there already, with the names under which they do.
    told: Vec<(&'a Map<String, Value>, String)>,
}

pub(super) fn write(document: &Document) -> String {
    let mut page = Page { form: document.form, text: String::new(), kinds: BTreeSet::new(), told: Vec::new() };
    let file = document.name;
    page.text = format!(
        "# {}\n\n<!-- Written by hack/reference from the types that conf has of it: change those. -->\n\n{}\n\nFor editors there is [{file}.schema.json]({file}.schema.json): \
         {}. What a schema cannot say (overlaps, host bits), {}.\n",
        document.title,
        document.head,
        match document.form {
            Form::Toml => "a first line `#:schema PATH` has it used by Taplo and what is built on it",
            Form::Json => "most have a setting by which a schema is chosen for a file (`json.schemas` in VS Code)",
        },
        match file {
            "cluster-configuration" => "`twillctl config validate` says",
            "node-configuration" => "`twilld` says when it starts",
            _ => "the plugin says at the first ADD",
        },
    );
    if let Some(keys) = document.schema.as_object() {
        page.table("", keys);
    }
    page.explain_kinds();
    page.text
}

impl<'a> Page<'a> {
    /// The section of a table, and those of the tables in it.
    fn table(&mut self, path: &str, table: &'a Map<String, Value>) {
        let heading = self.heading(path);
        write!(self.text, "\n## {heading}\n").expect("a String takes everything");
        if let Some((_, there)) = self.told.iter().find(|(other, _)| other.get("properties") == table.get("properties"))
        {
            write!(self.text, "\nThe same keys as {there}.\n").expect("a String takes everything");
            return;
        }
        self.told.push((table, heading));
        if let Some(description) = table.get("description").and_then(Value::as_str) {
            write!(self.text, "\n{description}\n").expect("a String takes everything");
        }
        let required = strings(table.get("required"));
        let mut inner = Vec::new();
        self.text += "\n| key | type | default | range | meaning | example |\n|---|---|---|---|---|---|\n";
        for (key, schema) in properties(table) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let default = match required.contains(&key.as_str()) {
                true => "required".to_owned(),
                false => self.default(schema),
            };
            let row = [
                format!("`{path}`"),
                self.type_of(schema),
                default,
                range(schema),
                schema["description"].as_str().unwrap_or_default().to_owned(),
                match &schema["examples"][0] {
                    Value::Null => "–".into(),
                    example => self.literal(example),
                },
            ];
            let row = row.map(|cell| cell.replace("||", "\\|\\|"));
            writeln!(self.text, "| {} |", row.join(" | ")).expect("a String takes everything");
            inner.extend(inner_table(&path, schema));
        }
        for (path, table) in inner {
            self.table(&path, table);
        }
    }

    /// The name of a table, as its writer writes it.
    fn heading(&self, path: &str) -> String {
        if path.is_empty() {
            return "The whole".into();
        }
        let bare = path.replace("[]", "");
        match (self.form, path.ends_with("[]")) {
            (Form::Toml, true) => format!("`[[{bare}]]`"),
            (Form::Toml, false) => format!("`[{bare}]`"),
            (Form::Json, _) => format!("`{path}`"),
        }
    }

    fn type_of(&mut self, schema: &Value) -> String {
        if let Some(title) = schema["title"].as_str()
            && let Some((title, _)) = kind::ALL.iter().find(|(known, _)| *known == title)
        {
            self.kinds.insert(title);
            return format!("[{title}](#kinds-of-values)");
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        }
        let choices = schema["anyOf"].as_array().filter(|_| schema["type"] != "object");
        if let Some(choices) = choices {
            return choices.iter().map(|choice| self.type_of(choice)).collect::<Vec<_>>().join(" or ");
        }
        match schema["type"].as_str() {
            Some("array") => format!("list of {}", plural(&self.type_of(&schema["items"]))),
            Some("object") if self.form == Form::Toml => "table".into(),
            Some("string") => "text".into(),
            Some("boolean") => "`true`, `false`".into(),
            Some(other) => other.to_owned(),
            None => "anything".into(),
        }
    }

    fn default(&self, schema: &Value) -> String {
        match (&schema["x-default"], &schema["default"]) {
            (Value::String(words), _) => words.clone(),
            (Value::Null, Value::Null) => "–".into(),
            (Value::Null, value) | (value, _) => self.literal(value),
        }
    }

    /// A value as it is written in such a document.
    fn literal(&self, value: &Value) -> String {
        let toml = |value: &Value| toml::Value::try_from(value).map(|value| value.to_string());
        match self.form {
            Form::Toml => format!("`{}`", toml(value).unwrap_or_else(|_| value.to_string())),
            Form::Json => format!("`{value}`"),
        }
    }

    fn explain_kinds(&mut self) {
        self.text += "\n## Kinds of values\n\n| | |\n|---|---|\n";
        let mut generator = SchemaSettings::draft07().into_generator();
        for (title, schema) in kind::ALL.into_iter().filter(|(title, _)| self.kinds.contains(title)) {
            let mut schema = Value::from(schema(&mut generator));
            tidy::tidy(&mut schema);
            let words = schema["description"].as_str().unwrap_or_default().to_owned();
            writeln!(self.text, "| {title} | {words} |").expect("a String takes everything");
        }
    }
}

fn properties(table: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    table.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The table that stands under a key, if one may, with its path.
fn inner_table<'a>(path: &str, schema: &'a Value) -> Option<(String, &'a Map<String, Value>)> {
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let found = [schema, &schema["then"]].into_iter().chain(choices).find(|one| one["properties"].is_object());
    if let Some(table) = found.and_then(Value::as_object) {
        return Some((path.to_owned(), table));
    }
    schema["items"].is_object().then(|| inner_table(&format!("{path}[]"), &schema["items"])).flatten()
}

fn range(schema: &Value) -> String {
    let number = |key: &str| schema[key].as_u64();
    let items = |n: u64| if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") };
    match (number("minimum"), number("maximum"), number("minItems"), number("maxItems")) {
        (Some(0), Some(most), ..) if most >= u64::from(u32::MAX) => "–".into(),
        (Some(least), Some(most), ..) => format!("{least} to {most}"),
        (_, _, Some(least), Some(most)) => format!("{least} to {}", items(most)),
        (_, _, Some(least), None) => format!("at least {}", items(least)),
        (_, _, None, Some(most)) => format!("at most {}", items(most)),
        _ => number("maxProperties").map_or_else(|| "–".into(), |most| format!("at most {}", items(most))),
    }
}

fn plural(word: &str) -> String {
    match word {
        "table" | "object" | "integer" => format!("{word}s"),
        _ => word.to_owned(),
    }
}
