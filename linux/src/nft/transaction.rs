//! A ruleset as the text that nft reads: one transaction, in a form that is the same for the same ruleset.

use std::borrow::Cow;

use nftables::schema::{NfCmd, NfListObject, NfObject, Nftables, Table};
use nftables::types::NfFamily;
use serde_json::{Value, json};

use super::{Ruleset, fingerprint, members};

impl Ruleset {
    /// The transaction that makes the table anew, whether it is there or not: input for `nft -j -f -`.
    pub fn transaction(&self) -> String {
        let mut commands = self.frame();
        commands.extend(members::elements(&self.table, &self.members).map(add));
        document(commands)
    }

    /// What tells this frame from others: of the transaction without the members.
    pub(super) fn frame_fingerprint(&self) -> String {
        fingerprint(document(self.frame()).as_bytes())
    }

    fn frame(&self) -> Vec<NfObject<'static>> {
        let anew = [add(table(&self.table)), delete(table(&self.table)), add(table(&self.table))];
        anew.into_iter().chain(self.objects.iter().cloned().map(add)).collect()
    }
}

/// The transaction that removes a table. Adding comes first: deleting one that somebody deleted meanwhile is an error.
pub(super) fn removal(name: &str) -> String {
    document(vec![add(table(name)), delete(table(name))])
}

fn table(name: &str) -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: Cow::Owned(name.to_owned()), handle: None })
}

pub(super) fn add(object: NfListObject<'static>) -> NfObject<'static> {
    NfObject::CmdObject(NfCmd::Add(object))
}

pub(super) fn delete(object: NfListObject<'static>) -> NfObject<'static> {
    NfObject::CmdObject(NfCmd::Delete(object))
}

pub(super) fn document(objects: Vec<NfObject<'static>>) -> String {
    let objects = Nftables { objects: Cow::Owned(objects) };
    let mut document = serde_json::to_value(objects).expect("the schema's types have string keys");
    canonicalise(&mut document);
    document.to_string()
}

/// Mends what the `nftables` crate makes of some values: a statement without parameters becomes `"notrack"`, where nft wants
/// `{"notrack": null}`; and flags come from a hash set, in another order each time.
fn canonicalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(statements)) = fields.get_mut("expr") {
                for statement in statements {
                    if let Value::String(name) = statement {
                        *statement = json!({ name.as_str(): null });
                    }
                }
            }
            if let Some(Value::Array(flags)) = fields.get_mut("flags") {
                flags.sort_by_cached_key(Value::to_string);
            }
            fields.values_mut().for_each(canonicalise);
        }
        Value::Array(values) => values.iter_mut().for_each(canonicalise),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use nftables::expr::{Expression, Fib, FibFlag, FibResult, NamedExpression};
    use nftables::schema::Rule;
    use nftables::stmt::{Match, Operator, Statement};

    fn ruleset() -> Ruleset {
        let fib = Fib { result: FibResult::Oif, flags: [FibFlag::Saddr, FibFlag::Iif].into() };
        let missing = Match {
            left: Expression::Named(NamedExpression::Fib(fib)),
            right: Expression::Boolean(false),
            op: Operator::EQ,
        };
        let rule = Rule {
            family: NfFamily::INet,
            table: "t".into(),
            chain: "c".into(),
            expr: Cow::Owned(vec![Statement::Match(missing), Statement::Notrack]),
            ..Rule::default()
        };
        Ruleset { table: "t".into(), objects: vec![NfListObject::Rule(rule)], members: BTreeMap::default() }
    }

    #[test]
    fn a_statement_without_parameters_is_an_object_as_nft_wants_it() {
        assert!(ruleset().transaction().contains(r#"{"notrack":null}"#), "{}", ruleset().transaction());
    }

    #[test]
    fn the_same_ruleset_has_the_same_text_each_time() {
        let first = ruleset().transaction();
        assert!(first.contains(r#"["iif","saddr"]"#), "{first}");
        assert!((0..32).all(|_| ruleset().transaction() == first));
    }
}
