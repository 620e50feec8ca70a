//! What is refused, and in which words: an operator must be able to act on each of them without the manual.

mod refused {
    pub(crate) mod bgp;
    pub(crate) mod cluster;
    pub(crate) mod network;
    pub(crate) mod node;
}

/// Compares every row and shows all that differ, not the first only.
pub(crate) fn compare<'a>(rows: impl IntoIterator<Item = (&'a str, String, &'a str)>) {
    let mut wrong = String::new();
    for (input, found, wanted) in rows {
        if found != wanted {
            wrong += &format!("input:  {input}\nfound:  {found}\nwanted: {wanted}\n\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
