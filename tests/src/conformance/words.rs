//! The words in braces that cases use for what differs from room to room: `{netns}`, `{ip4}`, `{host}`.

use std::collections::BTreeMap;

use serde_json::Value;

/// What each word stands for.
#[derive(Debug, Clone, Default)]
pub struct Words(BTreeMap<String, String>);

impl Words {
    /// Lets a word stand for something.
    pub fn set(&mut self, word: &str, meaning: impl Into<String>) {
        self.0.insert(word.to_owned(), meaning.into());
    }

    /// The text with its words replaced. An unknown word stays as it is, and whoever reads it will complain.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (word, meaning) in &self.0 {
            filled = filled.replace(&format!("{{{word}}}"), meaning);
        }
        filled
    }

    /// The same in all texts of a value.
    pub fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill(text).into(),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), self.fill_value(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// Learns the words of an ADD's result: `{ip4}`, `{ip6}`, `{host}`, `{mac}`, with `_<pod>` behind for others than `a`.
    pub fn learn(&mut self, pod: &str, result: &Value) {
        let suffix = if pod == "a" { String::new() } else { format!("_{pod}") };
        for address in addresses(result) {
            let alone = address.split('/').next().unwrap_or_default();
            self.set(&format!("{}{suffix}", if alone.contains(':') { "ip6" } else { "ip4" }), alone);
        }
        for interface in result["interfaces"].as_array().into_iter().flatten() {
            let name = interface["name"].as_str().unwrap_or_default();
            if interface["sandbox"].as_str().unwrap_or_default().is_empty() {
                self.set(&format!("host{suffix}"), name);
            } else {
                self.set(&format!("mac{suffix}"), interface["mac"].as_str().unwrap_or_default());
            }
        }
    }
}

/// The addresses of a result of any version, with their prefix lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let by_family = ["/ip4/ip", "/ip6/ip"].into_iter().filter_map(|pointer| result.pointer(pointer));
    let listed = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    by_family.chain(listed).filter_map(|address| address.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_replaced_in_texts_at_any_depth_and_unknown_ones_stay() {
        let mut words = Words::default();
        words.set("netns", "/run/netns/a");
        let filled = words.fill_value(&json!({"a": ["{netns}", 7, {"b": "x{netns}{what}"}]}));
        assert_eq!(filled, json!({"a": ["/run/netns/a", 7, {"b": "x/run/netns/a{what}"}]}));
    }

    #[test]
    fn the_words_of_a_result_are_learnt_in_every_version() {
        let mut words = Words::default();
        words.learn("a", &json!({"ip4": {"ip": "10.0.0.2/32"}}));
        words.learn(
            "b",
            &json!({"interfaces": [{"name": "tw1"}, {"name": "eth0", "sandbox": "/x", "mac": "m"}],
            "ips": [{"address": "fd00::2/128"}]}),
        );
        assert_eq!(words.fill("{ip4} {ip6_b} {host_b} {mac_b}"), "10.0.0.2 fd00::2 tw1 m");
    }
}
