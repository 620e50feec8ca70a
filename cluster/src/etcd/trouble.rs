//! What is the matter with etcd, in words that tell an operator what to look at.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use etcd_client::Error;
use rustls::{AlertDescription, CertificateError};
use tonic::{ConnectError, Status};
use twill_conf::node::EtcdConf;

use super::certificate;
use crate::store::Range;
use crate::txn::{Compare, Op, Txn};

/// How a connection ends of which the server has thought better in the middle of a handshake: tokio-rustls's words, and the
/// system's.
const BROKEN_OFF: [&str; 2] = ["tls handshake eof", "no connection: Connection reset by peer"];

/// What went wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// TLS did not come to be.
    Tls(rustls::Error),
    /// It wants TLS, and we spoke in clear.
    WantsTls,
    /// The user has no role that allows it.
    Denied,
    /// etcd has users, and we named none.
    Nobody,
    /// User or password.
    WrongPassword,
    /// We named a user, and etcd has none.
    NoUsers,
    /// The login has run out, or was made before roles changed.
    StaleLogin,
    /// The alarm NOSPACE.
    NoSpace,
    /// The member knows no leader.
    NoLeader,
    /// No answer came in this time.
    Silent(Duration),
    /// The connection broke, without a word of the server's.
    Broken(String),
    /// All else, in its own words.
    Other(String),
}

/// What was asked of etcd.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    Read(&'a Range),
    Watch(&'a Range),
    Write(&'a Txn),
    Lease,
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(status),
            Error::TransportError(error) => {
                tls_error(error).map_or_else(|| Self::Other(innermost(error)), |tls| Self::Tls(tls.clone()))
            }
            error => Self::Other(error.to_string()),
        }
    }

    fn of_status(status: &Status) -> Self {
        if let Some(tls) = tls_error(status) {
            return Self::Tls(tls.clone());
        }
        if causes(status).any(|error| error.is::<ConnectError>()) {
            return Self::Other(format!("no connection: {}", innermost(status)));
        }
        if status.message().contains("missing grpc-status trailer") {
            return Self::Broken("etcd has ended the stream, as it does when it is stopped".into());
        }
        // In etcd's words: api/v3rpc/rpctypes/error.go.
        Self::of_words(status.message()).unwrap_or_else(|| {
            let inner = innermost(status);
            let is_told = causes(status).last().is_some_and(|error| error.is::<Status>());
            let more = if is_told || status.message().contains(&inner) { String::new() } else { format!(": {inner}") };
            let words = format!("{}{more} ({:?})", status.message(), status.code());
            // What the transport itself reports has a cause; what a server says has none.
            if status.source().is_some() { Self::Broken(words) } else { Self::Other(words) }
        })
    }

    /// What etcd says in words alone when it ends a watch.
    pub(super) fn of_words(message: &str) -> Option<Self> {
        let known = [
            ("permission denied", Self::Denied),
            ("user name is empty", Self::Nobody),
            ("invalid user ID or password", Self::WrongPassword),
            ("authentication is not enabled", Self::NoUsers),
            ("invalid auth token", Self::StaleLogin),
            ("revision of auth store is old", Self::StaleLogin),
            ("database space exceeded", Self::NoSpace),
            ("etcdserver: no leader", Self::NoLeader),
        ];
        known.into_iter().find(|(words, _)| message.contains(words)).map(|(_, trouble)| trouble)
    }

    /// etcd has looked at our certificate, and did not go on.
    pub(super) fn is_refused_certificate(&self) -> bool {
        use AlertDescription as A;
        let Self::Tls(rustls::Error::AlertReceived(alert)) = self else { return false };
        matches!(
            alert,
            A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::CertificateRequired
        )
    }

    /// In words.
    pub(super) fn tell(&self, conf: &EtcdConf, prefix: &str, asked: Asked<'_>) -> String {
        match self {
            Self::Tls(error) => tell_tls(self, error, conf),
            Self::WantsTls => "etcd wants TLS at that port: name it with https://, and give etcd_ca".into(),
            Self::Denied => format!(
                "permission denied: {}, and no role of {} allows all of it (docs/etcd.md has the roles)",
                asked.needs(prefix),
                user(conf)
            ),
            Self::Nobody => "etcd wants to know who asks: give etcd_user and etcd_password_file, or in etcd_cert a \
                             certificate whose common name is a user of etcd"
                .into(),
            Self::WrongPassword => match &conf.login {
                Some(login) => format!(
                    "etcd does not take user {} with the password in {}",
                    login.user,
                    login.password_file.display()
                ),
                None => "etcd does not take this user".into(),
            },
            Self::NoUsers => {
                "etcd has no users, since its authentication is off: enable it ('etcdctl auth enable'), or take \
                              etcd_user away"
                    .into()
            }
            Self::StaleLogin => format!("etcd has forgotten the login of {}, again right after a new one", user(conf)),
            Self::NoSpace => {
                "etcd is out of space (alarm NOSPACE) and takes no writes: compact and defragment it, then \
                              'etcdctl alarm disarm' (docs/etcd.md)"
                    .into()
            }
            Self::Silent(time) => format!("no answer within {:.1} s", time.as_secs_f64()),
            Self::NoLeader => "no leader: most members of etcd are away, or this one is cut off from them".into(),
            Self::Other(words) if conf.tls.is_some() && BROKEN_OFF.iter().any(|end| words.contains(end)) => {
                format!("{words}: does etcd listen with https:// there?")
            }
            Self::Other(words) | Self::Broken(words) => words.clone(),
        }
    }
}

impl Asked<'_> {
    /// Which permissions it needs.
    fn needs(self, prefix: &str) -> String {
        match self {
            Self::Read(range) => format!("this reads {}", shown(prefix, range)),
            Self::Watch(range) => format!("this watches {}", shown(prefix, range)),
            Self::Lease => "this is a lease".into(),
            Self::Write(txn) => {
                let mut reads: Vec<String> = txn.when.iter().map(|compare| place(prefix, compare)).collect();
                reads.sort();
                reads.dedup();
                let writes = txn.then.iter().map(|op| match op {
                    Op::Put { key, .. } | Op::Delete { key } => format!("{prefix}{key}"),
                });
                let writes: Vec<String> = writes.collect();
                let reads = if reads.is_empty() { String::new() } else { format!("reads {} and ", reads.join(", ")) };
                format!("this {reads}writes {}", writes.join(", "))
            }
        }
    }
}

fn shown(prefix: &str, range: &Range) -> String {
    if range.end.strip_suffix('\0') == Some(&range.start) {
        return format!("{prefix}{}", range.start);
    }
    format!("{prefix}{} to {prefix}{}", range.start, range.end)
}

/// A compare reads one key, or looks for blocks.
fn place(prefix: &str, compare: &Compare) -> String {
    let key = match compare {
        Compare::Created { key, .. } | Compare::Modified { key, .. } => key,
        Compare::NoneIn { start, .. } => start,
    };
    if key.starts_with("blocks/") { format!("{prefix}blocks/") } else { format!("{prefix}{key}") }
}

fn user(conf: &EtcdConf) -> String {
    let identity = conf.tls.as_ref().and_then(|tls| tls.identity.as_ref());
    match (&conf.login, identity) {
        (Some(login), _) => format!("user {}", login.user),
        (None, Some(files)) => format!("the user that the certificate in {} names", files.cert.display()),
        (None, None) => "nobody in particular".into(),
    }
}

fn tell_tls(trouble: &Trouble, error: &rustls::Error, conf: &EtcdConf) -> String {
    let Some(files) = &conf.tls else { return format!("TLS: {error}") };
    let identity = files.identity.as_ref();
    match error {
        rustls::Error::InvalidCertificate(cause) => match cause {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("etcd's certificate is signed by none of the CAs in {}", files.ca.display())
            }
            CertificateError::NotValidForName => "etcd's certificate is for other names than this endpoint's".into(),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "etcd's certificate is not for {}, but for {}: name the endpoint as the certificate does, or renew the \
                 certificate with this name",
                expected.to_str(),
                presented_names(presented)
            ),
            cause => match certificate::age(cause) {
                Some(age) => format!("etcd's certificate {age}, or the clock of this machine is wrong"),
                None => format!("etcd's certificate cannot be trusted: {error}"),
            },
        },
        rustls::Error::InvalidMessage(_) => {
            "there is no TLS at that port: does etcd listen with https:// there?".into()
        }
        rustls::Error::AlertReceived(alert) if trouble.is_refused_certificate() => match identity {
            None => format!("etcd wants a certificate (alert {alert:?}): give etcd_cert and etcd_key"),
            Some(identity) => match certificate::own_age(identity) {
                Some(age) => format!("etcd refuses the certificate in {}, which {age}", identity.cert.display()),
                None => format!(
                    "etcd refuses the certificate in {} (alert {alert:?}): is it signed by the CA in etcd's \
                     --trusted-ca-file, for client authentication, and not revoked?",
                    identity.cert.display()
                ),
            },
        },
        error => format!("TLS: {error}"),
    }
}

/// The names in a certificate, which rustls has as in `DnsName("etcd")` and `IpAddress(10.0.0.1)`.
fn presented_names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let names: Vec<String> = presented.iter().map(bare).collect();
    if names.is_empty() { "no name at all".into() } else { names.join(", ") }
}

/// An error and what it comes from. What an I/O error wraps is among it, which [`StdError::source`] passes over.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The innermost cause says most: "Connection refused (os error 111)".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use twill_conf::node::Login;

    use super::*;

    #[test]
    fn a_denied_transaction_names_the_user_what_it_reads_and_what_it_writes() {
        let key = |key: &str| Compare::Created { key: key.into(), revision: 1 };
        let inside = Compare::NoneIn { start: "blocks/4/0a2a0000-".into(), end: "blocks/4/0a2a0040".into() };
        let put = |key: &str| Op::Put { key: key.into(), value: Vec::new(), lease: None };
        let txn = Txn {
            when: vec![key("nodes/n1"), inside, key("blocks/4/0a000000-8")],
            then: vec![put("blocks/4/0a2a0000-26"), put("addresses/n1/4/0a2a0000-26")],
        };
        let login = Some(Login { user: "n1".into(), password_file: "/p".into() });
        let conf = EtcdConf { login, ..EtcdConf::plain(vec!["http://127.0.0.1:1".into()]) };
        assert_eq!(
            Trouble::Denied.tell(&conf, "/twill/v1/", Asked::Write(&txn)),
            "permission denied: this reads /twill/v1/blocks/, /twill/v1/nodes/n1 and writes /twill/v1/blocks/4/0a2a0000-26, \
             /twill/v1/addresses/n1/4/0a2a0000-26, and no role of user n1 allows all of it (docs/etcd.md has the roles)"
        );
        let text = Trouble::Denied.tell(&conf, "/p/", Asked::Read(&Range::key("config")));
        assert!(text.starts_with("permission denied: this reads /p/config, and"), "{text}");
    }

    #[test]
    fn names_in_certificates_are_told_bare() {
        let names = [r#"DnsName("etcd-1.example")"#, "IpAddress(10.0.0.1)"].map(str::to_owned);
        assert_eq!(presented_names(&names), "etcd-1.example, 10.0.0.1");
        assert_eq!(presented_names(&[]), "no name at all");
    }
}
