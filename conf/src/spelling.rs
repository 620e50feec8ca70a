//! "Did you mean": the known word nearest to one that is not known.

/// The one of `known` that somebody who wrote `word` most likely meant; `None` where none is near.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = plain(word);
    known
        .iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5 && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Without case and separators, so that `nodeName`, `node-name` and `node_name` are one word.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// How many letters must be inserted, left out, replaced or swapped with their neighbour (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["name", "cidr", "block", "masquerade"];
        for (word, meant) in [("blok", "block"), ("nmae", "name"), ("CIDR", "cidr"), ("masqerade", "masquerade")] {
            assert_eq!(nearest(word, &known), Some(meant), "{word}");
        }
    }

    #[test]
    fn another_word_is_not_taken_for_a_known_one() {
        for word in ["gateway", "x", "", "type"] {
            assert_eq!(nearest(word, &["name", "cidr", "block"]), None, "{word}");
        }
    }

    #[test]
    fn other_separators_are_the_same_word() {
        assert_eq!(nearest("nodeName", &["node_name", "etcd"]), Some("node_name"));
        assert_eq!(nearest("run-dir", &["runDir"]), Some("runDir"));
    }
}
