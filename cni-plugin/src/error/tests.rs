//! What errors look like to a runtime.

use super::*;
use std::io::ErrorKind;
use twill_attach::Error as Attach;
use twill_linux::IfName;

fn missing_namespace() -> Error {
    let cause = std::io::Error::from_raw_os_error(nix::libc::ENOENT);
    Error::namespace(twill_linux::Error::Namespace { path: "/run/netns/gone".into(), cause })
}

#[test]
fn an_error_is_one_document_with_code_message_and_cause() {
    let document = missing_namespace().document(Some(Verb::Add), Version::V0_4_0);
    assert_eq!(document["cniVersion"], "0.4.0");
    assert_eq!(document["code"], 102);
    let details = document["details"].as_str().unwrap();
    assert!(details.contains("/run/netns/gone") && details.contains("No such file"), "{details}");
}

#[test]
fn a_failed_del_never_sounds_like_something_that_was_gone() {
    let error = Error::store("marking")(twill_ipam::Error::Io {
        what: "opening",
        path: "/run/Not Found".into(),
        cause: std::io::Error::new(ErrorKind::NotFound, "No such file or directory, NOT FOUND"),
    });
    let text = error.document(Some(Verb::Del), Version::NEWEST).to_string().to_lowercase();
    assert!(!text.contains("not found") && !text.contains("no such file or directory"), "{text}");
    assert!(text.contains("absent") && text.contains("opening"), "{text}");
    assert!(error.document(Some(Verb::Add), Version::NEWEST).to_string().contains("No such file"));
}

/// Every kind of error that a DEL can give, with what Go clients look for wherever a text can come from outside.
fn of_a_del() -> Vec<Error> {
    use twill_conf::Error as Conf;
    use twill_ipam::Error as Ipam;
    use twill_linux::Error as Linux;
    let evil = || "NOT FOUND, no such file or directory".to_owned();
    let enoent = || std::io::Error::new(ErrorKind::NotFound, evil());
    let kernel = |source| Error::kernel("removing")(source);
    let store = |source| Error::store("waiting")(source);
    let errno = nix::errno::Errno::ENOENT;
    vec![
        Error::MissingVariables(vec!["CNI_CONTAINERID", "CNI_IFNAME"]),
        Error::Variable { variable: "CNI_CONTAINERID", value: evil(), rule: evil() },
        Error::Input(enoent()),
        Error::UnsupportedVersion(evil()),
        Error::Configuration(Conf::Syntax { what: "the configuration".into(), cause: evil() }),
        Error::Configuration(Conf::value("name", evil(), evil())),
        Error::Configuration(Conf::Kind { key: evil(), found: evil(), expected: evil() }),
        Error::Configuration(Conf::missing("name", evil())),
        store(Ipam::Busy),
        store(Ipam::Io { what: "opening", path: evil().into(), cause: enoent() }),
        kernel(Linux::Refused { attempt: evil(), errno, message: Some(evil()) }),
        kernel(Linux::Transport { what: "receive", cause: enoent() }),
        kernel(Linux::Namespace { path: evil().into(), cause: enoent() }),
        kernel(Linux::NoDevice { attempt: evil(), device: evil() }),
        kernel(Linux::Nft { what: "apply", detail: evil(), kind: std::io::ErrorKind::Other }),
        kernel(Linux::Sysctl { path: evil(), value: evil(), cause: enoent() }),
        Error::namespace(Linux::Namespace { path: evil().into(), cause: enoent() }),
        Attach::ForeignDevice { step: "removing", name: IfName::new("tw0").unwrap(), why: evil() }.into(),
    ]
}

#[test]
fn no_error_of_a_del_is_taken_for_success_by_a_go_client() {
    let phrases = ["not found", "no such file or directory"];
    let sounds = |text: &str| phrases.iter().any(|phrase| text.to_lowercase().contains(phrase));
    let mut rewritten = 0;
    for error in of_a_del() {
        let document = error.document(Some(Verb::Del), Version::NEWEST);
        assert!(!sounds(&document.to_string()), "{document}");
        // As libcni puts them together.
        let joined = format!("{}; {}", document["msg"], document["details"]);
        assert!(!sounds(&joined), "{joined}");
        rewritten += usize::from(sounds(&error.document(Some(Verb::Add), Version::NEWEST).to_string()));
    }
    assert!(rewritten >= 14, "the test has lost its teeth: {rewritten}");
}

#[test]
fn a_status_tells_all_that_is_wrong_and_by_its_code_whether_pods_suffer() {
    let trouble = |what: &str, remedy| Trouble { what: what.to_owned(), remedy };
    let wrong = vec![trouble("a", Some("do x")), trouble("b", None), trouble("c", Some("do x"))];
    let error = |limited| Error::Unavailable { network: "net".parse().unwrap(), wrong: wrong.clone(), limited };
    assert_eq!((error(false).code(), error(true).code()), (50, 51));
    let document = error(false).document(Some(Verb::Status), Version::NEWEST);
    assert_eq!(document["msg"], "network net is not ready on this node: a; b; c");
    assert_eq!(document["details"], "do x");
}

#[test]
fn what_could_not_be_undone_is_told_and_keeps_the_code() {
    let Error::Attachment(source) = missing_namespace() else { panic!("it is one of an attachment") };
    let left = Box::new(Attach::store("releasing")(twill_ipam::Error::Busy));
    let error = Error::from(Attach::NotUndone { source: Box::new(source), left });
    assert_eq!(error.code(), 102);
    let document = error.document(Some(Verb::Add), Version::NEWEST);
    assert!(document["details"].as_str().unwrap().contains("undoing failed: releasing"), "{document}");
    assert!(document["details"].as_str().unwrap().contains("/run/netns/gone"), "{document}");
}

#[test]
fn running_out_is_told_from_waiting() {
    let pools = |exhausted: bool| exhausted.then(|| "default".parse().unwrap()).into_iter().collect();
    let full =
        |exhausted| twill_ipam::Error::NoFreeAddress { family: "IPv4", used: 2, total: 2, exhausted: pools(exhausted) };
    let exhausted = Error::from(Attach::Exhausted { source: full(true), remedy: "add a subnet" });
    assert_eq!(exhausted.code(), 100);
    assert_eq!(exhausted.document(None, Version::NEWEST)["details"], "add a subnet");
    assert_eq!(Error::store("reserving")(full(false)).code(), 11);
    assert_eq!(Error::store("reserving")(twill_ipam::Error::NotReady).code(), 11);
}
