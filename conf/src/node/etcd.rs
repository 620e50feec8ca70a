//! How etcd is reached: endpoints, TLS, and a user. The parts are checked one by one where they are read, and together here.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{NodeLayer, Setting};
use crate::Error;

/// How etcd is reached. The files are named only: whoever connects reads them, and again when they were replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConf {
    /// URLs with scheme, host and port and without path, at least one; all of them `https` where there is TLS, else all `http`.
    pub endpoints: Vec<String>,
    /// The files of TLS.
    pub tls: Option<TlsFiles>,
    /// Who this is, where a certificate does not say it.
    pub login: Option<Login>,
}

/// The files of TLS, PEM, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates of the CAs that may have signed etcd's.
    pub ca: PathBuf,
    /// What this program shows to etcd.
    pub identity: Option<IdentityFiles>,
}

/// A certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, with intermediate ones after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The file with the password, on one line.
    pub password_file: PathBuf,
}

impl EtcdConf {
    /// etcd without TLS and without a user.
    pub fn plain(endpoints: Vec<String>) -> Self {
        Self { endpoints, tls: None, login: None }
    }
}

impl NodeLayer {
    /// How etcd is reached, as this layer and those below it say; `None` where no endpoint is named.
    pub fn etcd_conf(&self) -> Result<Option<EtcdConf>, Error> {
        let Some(endpoints) = self.etcd.clone().filter(|etcd| !etcd.is_empty()) else { return Ok(None) };
        let tls = self.tls_files(&endpoints)?;
        let login = self.login(&endpoints)?;
        Ok(Some(EtcdConf { endpoints, tls, login }))
    }

    /// Takes away what is said of TLS and of a user.
    pub fn without_credentials(self) -> Self {
        Self { etcd_ca: None, etcd_cert: None, etcd_key: None, etcd_user: None, etcd_password_file: None, ..self }
    }

    fn tls_files(&self, endpoints: &[String]) -> Result<Option<TlsFiles>, Error> {
        let pair = both(Setting::EtcdCert, &self.etcd_cert, Setting::EtcdKey, &self.etcd_key)?;
        let identity = pair.map(|(cert, key)| IdentityFiles { cert, key });
        let said = if identity.is_some() { Setting::EtcdCert } else { Setting::EtcdCa };
        let wants = self.etcd_ca.is_some() || identity.is_some();
        let (plain, secure): (Vec<_>, Vec<_>) = endpoints.iter().partition(|url| url.starts_with("http://"));
        match (plain.first(), secure.first()) {
            (Some(url), _) if wants => {
                let right = format!("a URL that begins with https://, since {} is given: TLS is for all", said.names());
                Err(Error::value(Setting::Etcd.names(), url, right))
            }
            (Some(url), Some(other)) => {
                let right = format!("a URL that begins with https://, as {other} does: TLS is for all, or for none");
                Err(Error::value(Setting::Etcd.names(), url, right))
            }
            (_, Some(url)) => {
                let right = format!(
                    "the file with the certificate of the CA that signed etcd's, since {url} begins with https://; for a \
                     public CA name the system's, as in /etc/ssl/certs/ca-certificates.crt"
                );
                let ca = self.etcd_ca.clone().ok_or_else(|| Error::missing(Setting::EtcdCa.names(), right))?;
                Ok(Some(TlsFiles { ca, identity }))
            }
            (_, None) => Ok(None),
        }
    }

    fn login(&self, endpoints: &[String]) -> Result<Option<Login>, Error> {
        let both = both(Setting::EtcdUser, &self.etcd_user, Setting::EtcdPasswordFile, &self.etcd_password_file)?;
        let Some((user, password_file)) = both else { return Ok(None) };
        if let Some(url) = endpoints.iter().find(|url| url.starts_with("http://") && !is_loopback(url)) {
            let right =
                "a URL that begins with https://, since the password of etcd_user would cross the network in clear";
            return Err(Error::value(Setting::Etcd.names(), url, right));
        }
        Ok(Some(Login { user, password_file }))
    }
}

/// Two settings that have a meaning together only.
fn both<A: Clone, B: Clone>(
    first: Setting,
    a: &Option<A>,
    second: Setting,
    b: &Option<B>,
) -> Result<Option<(A, B)>, Error> {
    let lone = |there: Setting, missing: Setting| {
        let right = format!("{} is given, and is of no use without it", there.names());
        Err(Error::missing(missing.names(), right))
    };
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a.clone(), b.clone()))),
        (Some(_), None) => lone(first, second),
        (None, Some(_)) => lone(second, first),
        (None, None) => Ok(None),
    }
}

fn is_loopback(url: &str) -> bool {
    let host = url.trim_start_matches("http://").rsplit_once(':').map_or("", |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
