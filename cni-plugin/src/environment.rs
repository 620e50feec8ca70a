//! The parameters that a runtime passes in the environment (CNI specification 1.1.0, "Parameters").
//!
//! [`Call::parse`] gives a verb with exactly what that verb needs, checked; what a verb does not need is not looked at,
//! since libcni fills it with `dummy`. An empty variable counts as absent. [`crate::run`] calls it once.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use twill_conf::{ContainerId, IfName, id::InvalidName};
use twill_ipam::attachment::Pod;

use crate::error::Error;

mod arguments;

pub(crate) use arguments::Arguments;

/// What the runtime asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Attach a container to the network.
    Add,
    /// Undo an ADD, whatever became of it.
    Del,
    /// Say whether an attachment is as ADD left it.
    Check,
    /// Remove what is not in a list.
    Gc,
    /// Say whether an ADD could be served.
    Status,
    /// Say which versions of the specification are spoken.
    Version,
}

impl Verb {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As CNI_COMMAND spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which interface of which container is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// CNI_CONTAINERID.
    pub(crate) container: ContainerId,
    /// CNI_IFNAME.
    pub(crate) ifname: IfName,
    /// CNI_NETNS to the letter. Always there for ADD and CHECK.
    pub(crate) netns: Option<String>,
    /// CNI_NETNS_OVERRIDE: the namespace may be the plugin's own.
    pub(crate) own_netns: bool,
    /// What CNI_ARGS says.
    pub(crate) arguments: Arguments,
}

impl Target {
    /// CNI_NETNS as a path.
    pub(crate) fn netns_path(&self) -> Option<PathBuf> {
        self.netns.as_ref().map(PathBuf::from)
    }
}

/// A verb with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// A verb about one attachment.
    Attachment(Verb, Target),
    /// GC: what is not in the list on standard input is to go.
    Gc,
    /// STATUS: whether an ADD could be served.
    Status,
    /// VERSION.
    Version,
}

impl Call {
    /// Reads the environment through `lookup`. `None` where CNI_COMMAND is absent: a person started the program.
    pub(crate) fn parse(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        let environment = Variables { lookup };
        let Some(command) = environment.text("CNI_COMMAND")? else { return Ok(None) };
        let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.as_str() == command) else {
            let rule = "it must be ADD, DEL, CHECK, GC, STATUS or VERSION, in capitals".to_owned();
            return Err(Error::Variable { variable: "CNI_COMMAND", value: command, rule });
        };
        match verb {
            Verb::Version => Ok(Some(Self::Version)),
            Verb::Gc => environment.demand(&["CNI_PATH"]).map(|()| Some(Self::Gc)),
            Verb::Status => Ok(Some(Self::Status)),
            Verb::Add | Verb::Check => {
                environment.demand(&["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])?;
                let netns = Some(environment.required("CNI_NETNS")?);
                let target = Target { arguments: environment.arguments(verb)?, ..environment.target(netns)? };
                Ok(Some(Self::Attachment(verb, target)))
            }
            Verb::Del => {
                environment.demand(&["CNI_CONTAINERID", "CNI_IFNAME"])?;
                // DEL needs no namespace: whatever stands in the variable must not make it fail.
                let netns = environment.text("CNI_NETNS").unwrap_or_default();
                let target = Target { arguments: environment.arguments(verb)?, ..environment.target(netns)? };
                Ok(Some(Self::Attachment(verb, target)))
            }
        }
    }
}

/// What can be told of a request that was refused, be it for its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glimpse {
    /// CNI_COMMAND as it stands there.
    pub(crate) command: String,
    /// The verb, if it is one.
    pub(crate) verb: Option<Verb>,
    /// CNI_CONTAINERID, if it is one.
    pub(crate) container: Option<ContainerId>,
    /// CNI_IFNAME, if it is one.
    pub(crate) ifname: Option<IfName>,
    /// The pod, as CNI_ARGS names it.
    pub(crate) pod: Option<Pod>,
}

impl Glimpse {
    /// Reads what can be read.
    pub(crate) fn of(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let environment = Variables { lookup };
        let command = environment.present("CNI_COMMAND").unwrap_or_default().to_string_lossy().into_owned();
        Self {
            verb: Verb::ALL.into_iter().find(|verb| verb.as_str() == command),
            command,
            container: environment.name("CNI_CONTAINERID").ok(),
            ifname: environment.name("CNI_IFNAME").ok(),
            // As for a DEL, which asks for nothing and so cannot fail here.
            pod: environment.arguments(Verb::Del).ok().and_then(|arguments| arguments.pod),
        }
    }
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn present(&self, variable: &str) -> Option<OsString> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    /// A variable's text. Results repeat it in JSON, which cannot hold other bytes than UTF-8.
    fn text(&self, variable: &'static str) -> Result<Option<String>, Error> {
        let Some(value) = self.present(variable) else { return Ok(None) };
        value.into_string().map(Some).map_err(|value| Error::Variable {
            variable,
            value: value.to_string_lossy().into_owned(),
            rule: "it must be UTF-8".to_owned(),
        })
    }

    /// Names everything that is missing, at once.
    fn demand(&self, variables: &[&'static str]) -> Result<(), Error> {
        let missing: Vec<_> = variables.iter().copied().filter(|name| self.present(name).is_none()).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::MissingVariables(missing)) }
    }

    fn required(&self, variable: &'static str) -> Result<String, Error> {
        self.text(variable)?.ok_or_else(|| Error::MissingVariables(vec![variable]))
    }

    fn name<T: std::str::FromStr<Err = InvalidName>>(&self, variable: &'static str) -> Result<T, Error> {
        let value = self.required(variable)?;
        value.parse().map_err(|error: InvalidName| Error::Variable { variable, value, rule: error.rule.to_owned() })
    }

    /// CNI_ARGS as far as it can be read, and with what is asked for in it where the verb is ADD: others must not fail
    /// for it.
    fn arguments(&self, verb: Verb) -> Result<Arguments, Error> {
        let Some(args) = self.present("CNI_ARGS") else { return Ok(Arguments::default()) };
        Arguments::read(&args.to_string_lossy(), verb)
    }

    fn target(&self, netns: Option<String>) -> Result<Target, Error> {
        Ok(Target {
            container: self.name("CNI_CONTAINERID")?,
            ifname: self.name("CNI_IFNAME")?,
            netns,
            own_netns: self.present("CNI_NETNS_OVERRIDE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true")),
            arguments: Arguments::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn parse(variables: &[(&str, &str)]) -> Result<Option<Call>, Error> {
        Call::parse(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn message(variables: &[(&str, &str)]) -> String {
        let error = parse(variables).unwrap_err();
        assert_eq!(error.code(), 4);
        error.to_string()
    }

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/p"), ("CNI_IFNAME", "eth0")];

    fn add_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        ADD.into_iter().filter(|(key, _)| *key != name).chain([(name, value)]).collect()
    }

    #[test]
    fn without_a_command_nothing_is_asked() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&[("CNI_COMMAND", "")]).unwrap(), None);
    }

    #[test]
    fn all_missing_variables_stand_in_one_message() {
        let text = message(&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "")]);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(message(&[("CNI_COMMAND", "GC")]).contains("CNI_PATH"));
    }

    #[test]
    fn verbs_are_case_sensitive() {
        assert!(message(&[("CNI_COMMAND", "add")]).contains("\"add\""));
    }

    #[test]
    fn version_looks_at_nothing_else() {
        let dummies =
            [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "/"), ("CNI_IFNAME", "a b"), ("CNI_NETNS", "dummy")];
        assert_eq!(parse(&dummies).unwrap(), Some(Call::Version));
    }

    #[test]
    fn a_del_needs_no_namespace() {
        let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        let Some(Call::Attachment(Verb::Del, target)) = parse(&del).unwrap() else { panic!("not a DEL") };
        assert_eq!(target.netns, None);
        assert!(
            message(&[("CNI_COMMAND", "CHECK"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")])
                .contains("CNI_NETNS")
        );
    }

    #[test]
    fn names_are_checked_with_their_rule() {
        for bad in ["-c", "a/b", ".hidden", "ä"] {
            assert!(message(&add_with("CNI_CONTAINERID", bad)).contains(bad));
        }
        for bad in ["sixteen-letters-", ".", "..", "a/b", "a:b", "a b", "eth%d"] {
            assert!(message(&add_with("CNI_IFNAME", bad)).contains(bad));
        }
        let long: &'static str = Box::leak("c".repeat(4000).into_boxed_str());
        assert!(parse(&add_with("CNI_CONTAINERID", long)).unwrap().is_some());
    }

    #[test]
    fn bytes_that_json_cannot_hold_are_refused_but_never_by_a_del() {
        let lookup = |verb: &'static str| {
            move |name: &str| match name {
                "CNI_COMMAND" => Some(verb.into()),
                "CNI_CONTAINERID" | "CNI_IFNAME" => Some("x".into()),
                "CNI_NETNS" | "CNI_ARGS" => Some(OsString::from_vec(vec![b'/', 0xff])),
                _ => None,
            }
        };
        assert_eq!(Call::parse(lookup("ADD")).unwrap_err().code(), 4);
        assert!(Call::parse(lookup("DEL")).is_ok());
    }

    #[test]
    fn the_pod_is_read_from_the_arguments_leniently() {
        let read = |args: &'static str| match parse(&add_with("CNI_ARGS", args)).unwrap() {
            Some(Call::Attachment(_, target)) => {
                target.arguments.pod.map(|pod| format!("{}/{}", pod.namespace, pod.name))
            }
            _ => panic!("not an ADD"),
        };
        assert_eq!(read("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till-0").as_deref(), Some("shop/till-0"));
        assert_eq!(read("IP=10.0.0.1;;=;K8S_POD_NAME"), None);
    }

    #[test]
    fn gc_needs_a_path_and_status_nothing_and_neither_looks_at_what_names_an_attachment() {
        let dummies = [("CNI_CONTAINERID", "/"), ("CNI_IFNAME", "a b"), ("CNI_NETNS", "dummy"), ("CNI_PATH", "/x")];
        for (verb, call) in [("GC", Call::Gc), ("STATUS", Call::Status)] {
            let variables: Vec<_> = dummies.into_iter().chain([("CNI_COMMAND", verb)]).collect();
            assert_eq!(parse(&variables).unwrap(), Some(call));
        }
        assert_eq!(parse(&[("CNI_COMMAND", "STATUS")]).unwrap(), Some(Call::Status));
        assert!(message(&[("CNI_COMMAND", "GC"), ("CNI_PATH", "")]).contains("CNI_PATH"));
    }

    #[test]
    fn of_a_refused_environment_what_is_right_is_known() {
        let variables = add_with("CNI_IFNAME", "a/b");
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let glimpse = Glimpse::of(lookup);
        assert_eq!((glimpse.verb, glimpse.container.unwrap().as_str()), (Some(Verb::Add), "c1"));
        assert_eq!((glimpse.ifname, glimpse.pod), (None, None));
        let unknown = Glimpse::of(|name| (name == "CNI_COMMAND").then(|| "add".into()));
        assert_eq!((unknown.verb, unknown.command.as_str()), (None, "add"));
    }

    #[test]
    fn the_own_namespace_is_allowed_by_one_and_true() {
        let read = |value: &'static str| match parse(&add_with("CNI_NETNS_OVERRIDE", value)).unwrap() {
            Some(Call::Attachment(_, target)) => target.own_netns,
            _ => panic!("not an ADD"),
        };
        assert_eq!(["1", "true", "True", "0", "yes", ""].map(read), [true, true, true, false, false, false]);
    }
}
