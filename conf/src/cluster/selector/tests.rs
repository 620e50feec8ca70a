//! What a selector may say, what it means, and that it is printed as it is read.

use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn selects(selector: &str, of: &str) -> bool {
    selector.parse::<Selector>().unwrap_or_else(|error| panic!("{selector}: {error}")).matches(&labels(of))
}

#[test]
fn a_selector_holds_for_the_nodes_that_it_says() {
    for (selector, node, wanted) in [
        ("zone == 'a'", "zone=a", true),
        ("zone == 'a'", "zone=b", false),
        ("zone == 'a'", "", false),
        ("zone != \"a\"", "zone=b", true),
        ("zone != 'a'", "", true),
        ("zone in {'a', 'b'}", "zone=b", true),
        ("zone in { 'a' , \"b\" }", "zone=c", false),
        ("zone not in {'a', 'b'}", "zone=c", true),
        ("zone not in {'a', 'b'}", "zone=a", false),
        ("zone not in {'a', 'b'}", "", true),
        ("has(gpu)", "gpu=", true),
        ("has(gpu)", "", false),
        ("!has(gpu)", "", true),
        ("all()", "", true),
        ("zone == 'a' && disk != 'slow'", "zone=a,disk=fast", true),
        ("zone == 'a' && disk != 'slow'", "zone=a,disk=slow", false),
        ("zone == 'a' || zone == 'b' && has(gpu)", "zone=a", true),
        ("(zone == 'a' || zone == 'b') && has(gpu)", "zone=a", false),
        ("!(zone == 'a' || zone == 'b')", "zone=c", true),
        ("!!has(gpu)", "gpu=1", true),
        ("topology.kubernetes.io/zone=='a'", "topology.kubernetes.io/zone=a", true),
        ("  zone\t==\n'a'  ", "zone=a", true),
        ("in in {'in'} && not not in {'not'} && all == 'all' && has != 'has'", "in=in,all=all", true),
        ("zone == ''", "zone=", true),
    ] {
        assert_eq!(selects(selector, node), wanted, "{selector} of {node}");
    }
}

#[test]
fn what_is_no_selector_is_refused_with_what_is_wanted_and_where() {
    for (text, wanted, place) in [
        ("", "a label, has(…), all(), '!' or '('", "the end"),
        ("zone", "'==', '!=', 'in' or 'not in'", "the end"),
        ("zone = 'a'", "'==', '!=', 'in' or 'not in'", "character 6, \"= 'a'\""),
        ("zone == a", "a label's value in quotes", "character 9, \"a\""),
        ("zone == ", "a label's value in quotes", "the end"),
        ("zone == 'a", "a label's value with a quote at its end", "character 9, \"'a\""),
        ("zone == 'a\"", "a label's value with a quote at its end", "character 9, \"'a\\\"\""),
        ("zone == 'ä'", "a label's value of at most 256 printable ASCII characters", "character 9, \"'ä'\""),
        ("zone == 'a' zone == 'b'", "'&&', '||' or the end", "character 13, \"zone == 'b'\""),
        ("zone == 'a' and has(b)", "'&&', '||' or the end", "character 13, \"and has(b)\""),
        ("zone in ('a')", "'{'", "character 9, \"('a')\""),
        ("zone in {}", "a label's value in quotes", "character 10, \"}\""),
        ("zone in {'a' 'b'}", "',' or '}'", "character 14, \"'b'}\""),
        ("zone not 'a'", "'in'", "character 10, \"'a'\""),
        ("(has(a)", "')'", "the end"),
        ("has()", "a label's name", "character 5, \")\""),
        ("any(a)", "a label, has(…), all(), '!' or '('", "character 1, \"any(a)\""),
        ("-zone == 'a'", "a label, has(…), all(), '!' or '('", "character 1, \"-zone == 'a'\""),
        ("has(a) &&", "a label, has(…), all(), '!' or '('", "the end"),
        ("has(a) & has(b)", "'&&', '||' or the end", "character 8, \"& has(b)\""),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!((error.wanted, error.place.as_str()), (wanted, place), "{text}");
    }
}

#[test]
fn a_selector_that_nobody_could_read_is_refused() {
    let deep = |levels: usize| format!("{}has(a){}", "(".repeat(levels), ")".repeat(levels));
    assert!(deep(15).parse::<Selector>().is_ok());
    assert!(deep(16).parse::<Selector>().unwrap_err().wanted.contains("16 levels"));
    assert!("!".repeat(1000).parse::<Selector>().is_err());
    let long = vec!["has(abcdefgh)"; 64].join(" || ");
    assert!(long.len() > LONGEST && long.parse::<Selector>().unwrap_err().wanted.contains("1024 bytes"));
}

fn expressions() -> impl Strategy<Value = Expression> {
    let name = || "[ab]|not|in|has|all";
    let values = || prop::collection::vec("[xy' ]|[xy\" ]|", 1..4);
    let leaf = prop_oneof![
        Just(Expression::All),
        name().prop_map(Expression::Has),
        (name(), values()).prop_map(|(name, values)| Expression::In(name, values)),
        (name(), values()).prop_map(|(name, values)| Expression::NotIn(name, values)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let several = |inner: BoxedStrategy<Expression>| prop::collection::vec(inner, 2..4);
        prop_oneof![
            inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            several(inner.clone().boxed()).prop_map(Expression::And),
            several(inner.boxed()).prop_map(Expression::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(expression in expressions()) {
        let selector = Selector(expression);
        let text = selector.to_string();
        prop_assume!(text.len() <= LONGEST);
        prop_assert_eq!(text.parse::<Selector>().unwrap(), selector);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ab&|!()={},'\" ä]{0,40}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }
    }
}
