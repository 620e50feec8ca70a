//! What Rust's types say of a document and its writer does not: an absent key is absent, never `null`; widths of integers are
//! ranges.

use serde_json::{Value, json};

/// Makes a generated schema one of the document as it is written, at every depth.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            keys.values_mut().for_each(tidy);
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    keys.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(words)) = keys.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::String(description)) = keys.get_mut("description") {
                *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            width(keys);
            one_of_one(keys);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// `uint32` is no format that an editor knows, and says what a maximum says.
fn width(keys: &mut serde_json::Map<String, Value>) {
    let most = match keys.get("format").and_then(Value::as_str) {
        Some("uint8") => json!(u8::MAX),
        Some("uint16") => json!(u16::MAX),
        Some("uint32") => json!(u32::MAX),
        // The parsers' own limit for numbers of this width.
        Some("uint64") => json!(i64::MAX),
        _ => return,
    };
    keys.remove("format");
    keys.entry("maximum").or_insert(most);
}

/// What is this or `null` is this.
fn one_of_one(keys: &mut serde_json::Map<String, Value>) {
    let Some(Value::Array(choices)) = keys.get_mut("anyOf") else { return };
    choices.retain(|choice| *choice != json!({ "type": "null" }));
    let [Value::Object(only)] = choices.as_slice() else { return };
    let only = only.clone();
    keys.remove("anyOf");
    for (key, value) in only {
        keys.entry(key).or_insert(value);
    }
}
