//! Text that others wrote, made fit to be shown: on one line, of bounded length, and without what a terminal obeys rather than shows.
//!
//! What a node answers is whatever somebody wrote below its key. `flatten` is run over all of an answer before it is taken apart, so
//! that no kind of answer and no field of one is forgotten; types that are bounded more narrowly cut with [`line`].

use serde_json::Value;

/// No text of an answer is longer, in bytes.
pub(crate) const LONGEST: usize = 2048;
/// What stands at the end of a text that was cut.
const CUT: &str = "…";

/// Whether a terminal does something at this character, or shows others elsewhere for it: controls, ends of lines, and what turns
/// the direction of text (UAX #9).
pub fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// The text on one line and in no more than so many bytes; for each character that is obeyed stands a space.
pub(crate) fn line(text: &str, longest: usize) -> String {
    let mut line = text.to_owned();
    cut(&mut line, longest);
    line
}

/// Makes a [`line`] of it.
pub(crate) fn cut(text: &mut String, longest: usize) {
    if text.contains(is_obeyed) {
        *text = text.replace(is_obeyed, " ");
    }
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
}

/// Makes lines of all texts in it, keys among them.
pub(crate) fn flatten(value: &mut Value) {
    match value {
        Value::String(text) => cut(text, LONGEST),
        Value::Array(items) => items.iter_mut().for_each(flatten),
        Value::Object(fields) => {
            fields.values_mut().for_each(flatten);
            if fields.keys().any(|key| key.len() > LONGEST || key.contains(is_obeyed)) {
                *fields = std::mem::take(fields).into_iter().map(|(key, value)| (line(&key, LONGEST), value)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nothing_that_is_obeyed_and_says_where_it_was_cut() {
        assert_eq!(line("a\u{1b}[2J\nb\u{9b}\u{202e}\u{2028}", 99), "a [2J b   ");
        assert_eq!(line("Zürich", 7), "Zürich");
        assert_eq!(line("Zürich", 6), "Zü…");
        assert_eq!(line("ü", 1), CUT, "no half of a character");
    }

    #[test]
    fn keys_are_flattened_too() {
        let mut value = serde_json::json!({ "a\n": ["\r", { "b": "\u{7}" }], "c": 1 });
        flatten(&mut value);
        assert_eq!(value, serde_json::json!({ "a ": [" ", { "b": " " }], "c": 1 }));
    }
}
