//! From when to when the certificates are valid that have to do with etcd.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use twill_conf::node::TlsFiles;
use x509_parser::pem::Pem;

use super::Told;

/// No more is read of a file, in bytes: the system's own store of CAs has 200 KiB.
const MOST: u64 = 1 << 20;

/// A certificate in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The file.
    pub file: PathBuf,
    /// What it is for: "the node's own", "the CA's".
    pub role: &'static str,
    /// Of those in the file, as early as one is, and as late as all are.
    pub validity: Told<Validity>,
}

/// In seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first one that it is valid in.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

pub(super) fn look(files: &TlsFiles) -> Vec<Certificate> {
    let own = files.identity.as_ref().map(|identity| (&identity.cert, "the node's own", Pick::First));
    // Of several CAs one that is valid will do.
    let all = [Some((&files.ca, "the CA's", Pick::Latest)), own];
    let certificate = |(file, role, pick): (&PathBuf, &'static str, Pick)| Certificate {
        file: file.clone(),
        role,
        validity: validity(file, pick),
    };
    all.into_iter().flatten().map(certificate).collect()
}

/// Which of the certificates in a file counts.
#[derive(Debug, Clone, Copy)]
enum Pick {
    First,
    Latest,
}

fn validity(file: &Path, pick: Pick) -> Told<Validity> {
    let failed = |cause: &dyn std::fmt::Display| format!("{}: {cause}", file.display());
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(|cause| failed(&cause))?;
    opened.take(MOST).read_to_end(&mut bytes).map_err(|cause| failed(&cause))?;
    let mut all = Vec::new();
    for block in Pem::iter_from_buffer(&bytes).flatten().filter(|block| block.label == "CERTIFICATE") {
        let certificate = block.parse_x509().map_err(|cause| failed(&cause))?;
        let validity = certificate.validity();
        all.push(Validity { from: validity.not_before.timestamp(), to: validity.not_after.timestamp() });
    }
    let picked = match pick {
        Pick::First => all.first().copied(),
        Pick::Latest => all.into_iter().max_by_key(|validity| validity.to),
    };
    picked.ok_or_else(|| failed(&"there is no certificate in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_read_and_what_is_none_is_told_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("n1.crt");
        let mut wanted = rcgen::CertificateParams::new(vec!["n1".to_owned()]).unwrap();
        (wanted.not_before, wanted.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        let made = wanted.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        fs::write(&file, made.pem()).unwrap();
        let from = 1_577_836_800;
        assert_eq!(validity(&file, Pick::First), Ok(Validity { from, to: from + 366 * 86_400 }));
        fs::write(&file, "nothing").unwrap();
        assert!(validity(&file, Pick::Latest).unwrap_err().ends_with("n1.crt: there is no certificate in it"));
    }
}
