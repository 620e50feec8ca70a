//! From text to an expression, by recursive descent.

use super::{Expression, InvalidSelector, LONGEST};
use crate::label;

/// So deep may parentheses and negations be nested: what an operator can still read, and the stack holds.
const DEEPEST: usize = 16;

const FACTOR: &str = "a label, has(…), all(), '!' or '('";
const OPERATOR: &str = "'==', '!=', 'in' or 'not in'";
const QUOTED: &str = "a label's value in quotes";
const CLOSED: &str = "a label's value with a quote at its end";
const VALUE: &str = "a label's value of at most 256 printable ASCII characters";
const LABEL: &str = "a label's name";

/// Reads all of `text`.
pub(super) fn selector(text: &str) -> Result<Expression, InvalidSelector> {
    let mut reader = Reader { text, rest: text, depth: 0 };
    if text.len() > LONGEST {
        return reader.wants("a text of at most 1024 bytes");
    }
    let expression = reader.expression()?;
    if reader.rest.is_empty() { Ok(expression) } else { reader.wants("'&&', '||' or the end") }
}

struct Reader<'a> {
    text: &'a str,
    /// What is not read yet. No white space stands before it, but for the very beginning.
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn expression(&mut self) -> Result<Expression, InvalidSelector> {
        self.joined("||", Self::term, Expression::Or)
    }

    fn term(&mut self) -> Result<Expression, InvalidSelector> {
        self.joined("&&", Self::factor, Expression::And)
    }

    /// One part, or several with an operator between them.
    fn joined(
        &mut self,
        operator: &str,
        part: fn(&mut Self) -> Result<Expression, InvalidSelector>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, InvalidSelector> {
        let mut parts = vec![part(self)?];
        while self.take(operator) {
            parts.push(part(self)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { join(parts) })
    }

    fn factor(&mut self) -> Result<Expression, InvalidSelector> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.wants("no more than 16 levels of '!' and '('");
        }
        let factor = if self.take("!") {
            Expression::Not(Box::new(self.factor()?))
        } else if self.take("(") {
            let inner = self.expression()?;
            self.need(")", "')'")?;
            inner
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(factor)
    }

    /// What begins with a word.
    fn word(&mut self) -> Result<Expression, InvalidSelector> {
        let before = self.rest;
        let word = self.name(FACTOR)?;
        if self.take("(") {
            let expression = match word.as_str() {
                "all" => Expression::All,
                "has" => Expression::Has(self.name(LABEL)?),
                _ => {
                    self.rest = before;
                    return self.wants(FACTOR);
                }
            };
            self.need(")", "')'")?;
            return Ok(expression);
        }
        if self.take("==") {
            return Ok(Expression::In(word, vec![self.value()?]));
        }
        if self.take("!=") {
            return Ok(Expression::NotIn(word, vec![self.value()?]));
        }
        let not = self.take_word("not");
        if !self.take_word("in") {
            return self.wants(if not { "'in'" } else { OPERATOR });
        }
        let values = self.values()?;
        Ok(if not { Expression::NotIn(word, values) } else { Expression::In(word, values) })
    }

    fn values(&mut self) -> Result<Vec<String>, InvalidSelector> {
        self.need("{", "'{'")?;
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        self.need("}", "',' or '}'")?;
        Ok(values)
    }

    fn name(&mut self, wanted: &'static str) -> Result<String, InvalidSelector> {
        self.skip(0);
        let end = self.rest.bytes().position(|byte| !label::is_of_name(byte)).unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        if !label::is_name(name) {
            return self.wants(wanted);
        }
        self.skip(end);
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<String, InvalidSelector> {
        let Some(quote) = self.rest.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
            return self.wants(QUOTED);
        };
        let Some((value, _)) = self.rest[1..].split_once(quote) else { return self.wants(CLOSED) };
        if !label::is_value(value) {
            return self.wants(VALUE);
        }
        self.skip(value.len() + 2);
        Ok(value.to_owned())
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip(0);
        let found = self.rest.starts_with(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    /// As [`take`](Self::take), where no longer word stands there.
    fn take_word(&mut self, word: &str) -> bool {
        let ends = self.rest.strip_prefix(word).is_some_and(|rest| !rest.bytes().next().is_some_and(label::is_of_name));
        ends && self.take(word)
    }

    fn need(&mut self, token: &str, wanted: &'static str) -> Result<(), InvalidSelector> {
        if self.take(token) { Ok(()) } else { self.wants(wanted) }
    }

    /// Passes over so many bytes, and the white space after them.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    fn wants<T>(&self, wanted: &'static str) -> Result<T, InvalidSelector> {
        let place = match self.rest {
            "" => "the end".to_owned(),
            rest => {
                let before = &self.text[..self.text.len() - rest.len()];
                format!("character {}, {:?}", before.chars().count() + 1, crate::section::shorten(rest))
            }
        };
        Err(InvalidSelector { wanted, place })
    }
}
