//! What is shown to etcd and what etcd is measured by: the files of TLS and of the password, and what they held last.
//!
//! The files are looked at before each request, by their metadata, and read again where that has changed; so what somebody
//! renews on the disk is used from the next request on, for which a new connection is made. What cannot be read or does not
//! fit together – a certificate that was replaced a moment before its key – does not take the place of what is in use.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::TlsOptions;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tonic::transport::{Certificate, Identity};
use twill_conf::node::{EtcdConf, IdentityFiles};

/// None of these files is longer, in bytes; the system's bundle of CAs has a quarter of it.
const LONGEST_FILE: u64 = 1 << 20;

/// The contents of the files at one moment.
pub(super) struct Credentials {
    /// Counts the contents that were read.
    pub(super) version: u64,
    /// For a connection.
    pub(super) tls: Option<TlsOptions>,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

/// A file that cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}: {cause}", path.display())]
pub(super) struct BadFile {
    key: &'static str,
    path: PathBuf,
    cause: String,
}

/// The files, and what they held last.
pub(super) struct Vault {
    conf: EtcdConf,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    stamps: Vec<Stamp>,
    credentials: Option<Arc<Credentials>>,
    /// What was said last of files that cannot replace those in use.
    complaint: Option<BadFile>,
}

/// By which a file that was replaced or rewritten is told from what it was: device, inode, size, times of the content and
/// of the metadata; `None`: it is not there.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

impl Vault {
    /// Reads nothing yet.
    pub(super) fn new(conf: &EtcdConf) -> Self {
        Self { conf: conf.clone(), held: Mutex::default() }
    }

    /// What the files hold now; where they cannot serve, what they held before that.
    pub(super) fn open(&self) -> Result<Arc<Credentials>, BadFile> {
        let stamps: Vec<Stamp> = self.files().map(stamp).collect();
        let mut held = self.lock();
        if let Some(credentials) = held.credentials.clone().filter(|_| held.stamps == stamps) {
            return Ok(credentials);
        }
        let version = held.credentials.as_ref().map_or(1, |credentials| credentials.version + 1);
        match (read(&self.conf, version), held.credentials.clone()) {
            (Ok(credentials), before) => {
                if before.is_some() {
                    tracing::info!("the files for etcd were renewed: new connections are made with what they hold now");
                }
                let credentials = Arc::new(credentials);
                *held = Held { stamps, credentials: Some(credentials.clone()), complaint: None };
                Ok(credentials)
            }
            (Err(bad), Some(before)) => {
                if held.complaint.as_ref() != Some(&bad) {
                    tracing::warn!("{bad}; what was read before is used on");
                    held.complaint = Some(bad);
                }
                Ok(before)
            }
            (Err(bad), None) => Err(bad),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.conf.tls.as_ref();
        let identity = tls.and_then(|tls| tls.identity.as_ref());
        let paths = [
            tls.map(|tls| &tls.ca),
            identity.map(|identity| &identity.cert),
            identity.map(|identity| &identity.key),
            self.conf.login.as_ref().map(|login| &login.password_file),
        ];
        paths.into_iter().flatten().map(PathBuf::as_path)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(file: &Path) -> Stamp {
    let found = std::fs::metadata(file).ok()?;
    let (changed, touched) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Some((found.dev(), found.ino(), found.size(), changed, touched))
}

fn read(conf: &EtcdConf, version: u64) -> Result<Credentials, BadFile> {
    let mut options = None;
    if let Some(files) = &conf.tls {
        let ca = content("etcd_ca", &files.ca)?;
        certificates("etcd_ca", &files.ca, &ca)?;
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(files) = &files.identity {
            tls = tls.identity(identity(files)?);
        }
        options = Some(tls);
    }
    let login = match &conf.login {
        Some(login) => Some((login.user.clone(), password(&login.password_file)?)),
        None => None,
    };
    Ok(Credentials { version, tls: options, login })
}

fn content(key: &'static str, path: &Path) -> Result<Vec<u8>, BadFile> {
    let bad = |cause: String| BadFile { key, path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| bad(error.to_string()))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(bad(format!("it is longer than {} KiB", LONGEST_FILE >> 10)));
    }
    Ok(bytes)
}

fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let bad = |cause: String| BadFile { key, path: path.to_owned(), cause };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad("there is no certificate in it (PEM, BEGIN CERTIFICATE)".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(format!("not PEM: {error}"))),
    }
}

/// A certificate and its key, which fit together.
fn identity(files: &IdentityFiles) -> Result<Identity, BadFile> {
    let (cert, key) = (content("etcd_cert", &files.cert)?, content("etcd_key", &files.key)?);
    let chain = certificates("etcd_cert", &files.cert, &cert)?;
    let bad = |cause: String| BadFile { key: "etcd_key", path: files.key.clone(), cause };
    let private = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| bad("there is no private key in it (PEM, BEGIN … PRIVATE KEY, not encrypted)".into()))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            bad(format!("it is not the key of the certificate in {}", files.cert.display()))
        }
        error => bad(format!("it cannot be used with {}: {error}", files.cert.display())),
    })?;
    Ok(Identity::from_pem(cert, key))
}

/// The first line of a file. What stands there is in no error.
fn password(path: &Path) -> Result<String, BadFile> {
    let bad = |cause: &str| BadFile { key: "etcd_password_file", path: path.to_owned(), cause: cause.into() };
    let text = String::from_utf8(content("etcd_password_file", path)?).map_err(|_| bad("it is not UTF-8"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(bad("its first line is empty, where the password should stand")),
    }
}
