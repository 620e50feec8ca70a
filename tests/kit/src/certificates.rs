//! Certificates of a test's own CA, for TLS to and from etcd.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A CA.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// A CA of this name.
    pub fn new(name: &str) -> Self {
        let mut params = params(&[], DAY);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, key()).expect("the parameters are right"))
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's, for these names and addresses, without a common name. It is for clients too, since a member of etcd
    /// calls itself.
    pub fn server(&self, names: &[&str]) -> Pair {
        self.sign(params(names, DAY))
    }

    /// A client's, whose common name etcd takes as a user's.
    pub fn client(&self, user: &str) -> Pair {
        let mut params = params(&[], DAY);
        params.distinguished_name.push(DnType::CommonName, user);
        self.sign(params)
    }

    /// As [`client`](Self::client), expired an hour ago.
    pub fn expired_client(&self, user: &str) -> Pair {
        let mut params = params(&[], Duration::ZERO);
        params.not_after = (SystemTime::now() - Duration::from_secs(3660)).into();
        params.distinguished_name.push(DnType::CommonName, user);
        self.sign(params)
    }

    /// As [`server`](Self::server), expired an hour ago.
    pub fn expired_server(&self, names: &[&str]) -> Pair {
        let mut params = params(names, Duration::ZERO);
        params.not_after = (SystemTime::now() - Duration::from_secs(3660)).into();
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = key();
        let cert = params.signed_by(&key, &self.0).expect("the parameters are right");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes both as a renewal does, each by a rename: `<name>.crt` and `<name>.key`. Returns the paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        replace(&cert, &self.cert);
        replace(&key, &self.key);
        (cert, key)
    }
}

/// Puts a new file in the place of one that may be there.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).expect("the directory can be written");
}

fn params(names: &[&str], valid: Duration) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names and addresses");
    params.distinguished_name = DistinguishedName::new();
    // Most of their time is over, by a clear margin, so that whoever warns of an end in time warns of theirs.
    params.not_before = (SystemTime::now() - 5 * DAY).into();
    params.not_after = (SystemTime::now() + valid).into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key of the default kind")
}
