//! How old certificates are, as errors tell it.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use twill_conf::node::IdentityFiles;

/// "has expired 3 days ago", where a certificate is refused for that, or is not valid yet.
pub(super) fn age(error: &CertificateError) -> Option<String> {
    let between = |late: UnixTime, early: UnixTime| Duration::from_secs(late.as_secs().saturating_sub(early.as_secs()));
    match error {
        CertificateError::Expired => Some("has expired".into()),
        CertificateError::ExpiredContext { time, not_after } => {
            Some(format!("has expired {} ago", rough(between(*time, *not_after))))
        }
        CertificateError::NotValidYet => Some("is not valid yet".into()),
        CertificateError::NotValidYetContext { time, not_before } => {
            Some(format!("is not valid for another {}", rough(between(*not_before, *time))))
        }
        _ => None,
    }
}

/// The same of our own certificate. A verifier looks at the dates first, so it does not matter who has signed it.
pub(super) fn own_age(files: &IdentityFiles) -> Option<String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.cert).ok()?.collect::<Result<_, _>>().ok()?;
    let (own, others) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    // A verifier wants a root, of whatever kind.
    roots.add(own.clone()).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().ok()?;
    match verifier.verify_client_cert(own, others, UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(cause)) => age(&cause),
        _ => None,
    }
}

fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_roughly() {
        for (seconds, text) in [(5, "5 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (259_200, "3 days")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
