//! `twillctl config`: init, validate, show, diff, apply, edit.
//!
//! What a configuration would bring about is found in one place, [`replacement`], for those who only ask and for those who write.

mod draft;
mod edit;
mod editor;
mod replacement;

use std::io::{Read as _, Write as _};
use std::path::Path;

use twill_cluster::store::Store;
use twill_conf::cluster::ClusterConf;

use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::config::{Made, Shown, Valid};
use crate::report::problems::fault;
use replacement::Prospect;

pub(super) use edit::edit;
pub(super) use replacement::How;

pub(super) fn init(file: Option<&Path>) -> Result<Report, Error> {
    if let Some(path) = file {
        let error = |cause| Error::File { what: "make", path: path.to_owned(), cause };
        let mut file = std::fs::File::create_new(path).map_err(error)?;
        file.write_all(ClusterConf::SAMPLE.as_bytes()).map_err(error)?;
    }
    Ok(Report::Made(Made { file: file.map(Path::to_owned), toml: ClusterConf::SAMPLE.to_owned() }))
}

pub(super) fn validate(file: &Path) -> Result<Report, Error> {
    let (document, conf) = read(file)?;
    Ok(Report::Valid(Valid::new(document, &conf)))
}

pub(super) async fn show(place: &Place) -> Result<Report, Error> {
    standing(&access::connect(place)?, place).await.map(Report::Shown)
}

/// What stands in etcd, where it can be read.
async fn standing(store: &impl Store, place: &Place) -> Result<Shown, Error> {
    let picture = access::picture(store).await?;
    let key = format!("{}{}", place.prefix, twill_cluster::key::CONFIG);
    let Some(entry) = picture.config else { return Err(Error::NoConfiguration { key }) };
    match ClusterConf::from_json(&entry.value) {
        Ok(config) => {
            let unknown = crate::report::config::changes(Some(&entry.value), &config);
            Ok(Shown { revision: entry.modified, config, unknown })
        }
        Err(cause) => {
            let remedy = fault(twill_cluster::key::CONFIG, "").fix;
            Err(Error::Unreadable { key, cause: cause.to_string(), remedy })
        }
    }
}

pub(super) async fn diff(file: &Path, place: &Place) -> Result<Report, Error> {
    let (document, conf) = read(file)?;
    let prospect = Prospect::look(&access::connect(place)?, &conf).await?;
    Ok(Report::Compared(prospect.outlook(document, &conf, false)))
}

/// Writes it, or with `dry` does all else.
pub(super) async fn apply(file: &Path, how: How, dry: bool, place: &Place) -> Result<Report, Error> {
    let (document, conf) = read(file)?;
    let store = access::connect(place)?;
    if !dry {
        return replacement::replace(&store, &conf, how).await.map(Report::Applied);
    }
    let prospect = Prospect::look(&store, &conf).await?;
    prospect.stands_at(how.expected)?;
    Ok(Report::Rehearsed(prospect.outlook(document, &conf, how.force)))
}

/// Reads a file, or standard input for "-". The first of the pair is its name.
fn read(file: &Path) -> Result<(String, ClusterConf), Error> {
    let error = |cause| Error::File { what: "read", path: file.to_owned(), cause };
    let (document, text) = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map_err(error)?;
        ("standard input".to_owned(), text)
    } else {
        (file.display().to_string(), std::fs::read_to_string(file).map_err(error)?)
    };
    match ClusterConf::from_toml(&text) {
        Ok(conf) => Ok((document, conf)),
        Err(error) => Err(Error::Configuration { document, error }),
    }
}

#[cfg(test)]
mod tests;
