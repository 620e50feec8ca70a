//! The members of sets: single addresses, by the set's name. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use imbl::OrdSet;
use imbl::ordset::DiffItem;
use nftables::expr::Expression;
use nftables::schema::{Element, NfListObject};
use nftables::types::NfFamily;
use serde_json::Value;

use super::transaction::{add, delete, document};

/// As in [`super::Ruleset::members`].
pub(super) type Members = BTreeMap<String, OrdSet<IpAddr>>;

/// What leads from some members to others. Sets that hold the same are in neither part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turnover {
    come: Members,
    gone: Members,
}

impl Turnover {
    /// `before` and `after` name the same sets.
    pub(super) fn between(before: &Members, after: &Members) -> Self {
        let (mut come, mut gone) = (Members::new(), Members::new());
        let none = OrdSet::new();
        for (set, members) in after {
            for difference in before.get(set).unwrap_or(&none).diff(members) {
                let (side, member) = match difference {
                    DiffItem::Add(member) => (&mut come, member),
                    DiffItem::Remove(member) => (&mut gone, member),
                };
                side.entry(set.clone()).or_default().insert(*member);
            }
        }
        Self { come, gone }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.come.is_empty() && self.gone.is_empty()
    }

    /// Input for `nft -j -f -`.
    pub(super) fn transaction(&self, table: &str) -> String {
        let gone = elements(table, &self.gone).map(delete);
        document(gone.chain(elements(table, &self.come).map(add)).collect())
    }
}

/// The members as objects of a table, one a set that has any.
pub(super) fn elements<'m>(
    table: &'m str,
    members: &'m Members,
) -> impl Iterator<Item = NfListObject<'static>> + use<'m> {
    members.iter().filter(|(_, members)| !members.is_empty()).map(move |(set, members)| {
        let text = |member: &IpAddr| Expression::String(Cow::Owned(member.to_string()));
        NfListObject::Element(Element {
            family: NfFamily::INet,
            table: Cow::Owned(table.to_owned()),
            name: Cow::Owned(set.clone()),
            elem: Cow::Owned(members.iter().map(text).collect()),
        })
    })
}

/// Takes the members of some sets out of a listing; `None` where a set is not there or holds something else.
pub(super) fn take<'s>(listing: &mut Value, sets: impl Iterator<Item = &'s String>) -> Option<Members> {
    let mut members: Members = sets.map(|set| (set.clone(), OrdSet::new())).collect();
    let mut found = 0;
    let mut plain = true;
    let objects = listing.get_mut("nftables").and_then(Value::as_array_mut)?;
    for set in objects.iter_mut().filter_map(|object| object.get_mut("set")?.as_object_mut()) {
        let name = set.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(members) = members.get_mut(name) else { continue };
        found += 1;
        let Some(Value::Array(elements)) = set.remove("elem") else { continue };
        for element in elements {
            match element.as_str().and_then(|text| text.parse().ok()) {
                Some(member) => drop(members.insert(member)),
                None => plain = false,
            }
        }
    }
    (plain && found == members.len()).then_some(members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(entries: &[(&str, &[&str])]) -> Members {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
        entries.iter().map(|(set, texts)| ((*set).to_owned(), parsed(texts))).collect()
    }

    #[test]
    fn only_what_differs_is_deleted_and_added() {
        let before = members(&[("a", &["10.0.0.1", "10.0.0.2"]), ("b", &["fd00::1"])]);
        let after = members(&[("a", &["10.0.0.2", "10.0.0.3"]), ("b", &["fd00::1"])]);
        let text = Turnover::between(&before, &after).transaction("t");
        let document: Value = serde_json::from_str(&text).unwrap();
        let element =
            |member: &str| json!({"element": {"family": "inet", "table": "t", "name": "a", "elem": [member]}});
        assert_eq!(document["nftables"], json!([{"delete": element("10.0.0.1")}, {"add": element("10.0.0.3")}]));
        assert!(Turnover::between(&after, &after).is_empty());
    }

    #[test]
    fn members_are_read_as_they_are_shown_and_taken_out() {
        let mut listing = json!({"nftables": [
            {"set": {"name": "a", "elem": ["10.0.0.2", "10.0.0.1"]}}, {"set": {"name": "b"}}, {"set": {"name": "c", "elem": ["x"]}}
        ]});
        let names = ["a".to_owned(), "b".to_owned()];
        let taken = take(&mut listing, names.iter());
        assert_eq!(taken, Some(members(&[("a", &["10.0.0.1", "10.0.0.2"]), ("b", &[])])));
        assert_eq!(listing["nftables"][0]["set"], json!({"name": "a"}));
        assert_eq!(listing["nftables"][2]["set"]["elem"], json!(["x"]), "those of other sets stay");
    }

    #[test]
    fn a_set_that_is_gone_or_holds_more_than_addresses_is_not_ours_any_more() {
        let names = ["a".to_owned()];
        let sets = [
            json!([]),
            json!([{"set": {"name": "b"}}]),
            json!([{"set": {"name": "a", "elem": [{"elem": {"val": "10.0.0.1", "comment": "hm"}}]}}]),
        ];
        for set in sets {
            assert_eq!(take(&mut json!({"nftables": set}), names.iter()), None);
        }
    }
}
