//! Where the cluster is: flags over `TWILL_…` variables over the daemon's file over the defaults.

use std::path::PathBuf;

use twill_conf::node::{self, NodeLayer};

use crate::arguments::PlaceFlags;
use crate::error::Error;

/// The endpoints of etcd, the prefix of its keys, and the run directory of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// URLs; `None` where nobody said.
    pub(crate) etcd: Option<Vec<String>>,
    /// Begins and ends with '/'.
    pub(crate) prefix: String,
    /// Absolute.
    pub(crate) run_dir: PathBuf,
}

impl Place {
    /// Reads the flags, the environment and, only where something is still open, the daemon's file by `file`.
    pub(crate) fn find(
        flags: &PlaceFlags,
        environment: impl Fn(&str) -> Option<String>,
        file: impl FnOnce() -> Result<NodeLayer, twill_conf::Error>,
    ) -> Result<Self, Error> {
        let told = |flag: &Option<String>, name: &'static str, variable: &'static str| match flag {
            Some(text) => Some((name, text.clone())),
            None => environment(variable).filter(|text| !text.is_empty()).map(|text| (variable, text)),
        };
        let etcd = told(&flags.etcd, "--etcd", "TWILL_ETCD");
        let prefix = told(&flags.prefix, "--prefix", "TWILL_PREFIX");
        let run_dir = told(&flags.run_dir, "--run-dir", "TWILL_RUN_DIR");
        let complete = etcd.is_some() && prefix.is_some() && run_dir.is_some();
        let layer = if complete { NodeLayer::default() } else { file().map_err(Error::Usage)? };
        let etcd = etcd.map(|(key, text)| node::parse_endpoints(key, &text)).transpose().map_err(Error::Usage)?;
        let prefix = prefix.map(|(key, text)| node::parse_prefix(key, &text)).transpose().map_err(Error::Usage)?;
        let run_dir = run_dir.map(|(key, text)| node::parse_run_dir(key, &text)).transpose().map_err(Error::Usage)?;
        Ok(Self {
            etcd: etcd.or(layer.etcd),
            prefix: prefix.or(layer.prefix).unwrap_or_else(|| node::ETCD_PREFIX.into()),
            run_dir: run_dir.or(layer.run_dir).unwrap_or_else(|| node::RUN_DIR.into()),
        })
    }

    /// The endpoints, for a command that cannot do without.
    pub(crate) fn endpoints(&self) -> Result<&[String], Error> {
        let right = "at least one URL: --etcd http://10.0.0.1:2379, TWILL_ETCD, or etcd in the daemon's file";
        self.etcd.as_deref().ok_or_else(|| Error::Usage(twill_conf::Error::missing("--etcd", right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(etcd: Option<&str>) -> PlaceFlags {
        PlaceFlags { etcd: etcd.map(str::to_owned), ..PlaceFlags::default() }
    }

    #[test]
    fn flags_win_over_variables_over_the_daemons_file_over_the_defaults() {
        let environment = |name: &str| match name {
            "TWILL_ETCD" => Some("http://variable:1".to_owned()),
            "TWILL_PREFIX" => Some("/variable/".to_owned()),
            "TWILL_RUN_DIR" => Some(String::new()),
            _ => None,
        };
        let file = || NodeLayer::from_toml("etcd = ['http://file:1']\nprefix = '/file/'\nrun_dir = '/file'");
        let place = Place::find(&flags(Some("http://flag:1")), environment, file).unwrap();
        let wanted =
            Place { etcd: Some(vec!["http://flag:1".into()]), prefix: "/variable/".into(), run_dir: "/file".into() };
        assert_eq!(place, wanted);

        let place = Place::find(&flags(None), |_| None, || Ok(NodeLayer::default())).unwrap();
        assert_eq!(place, Place { etcd: None, prefix: "/twill/v1/".into(), run_dir: "/run/twill".into() });
        let missing = place.endpoints().unwrap_err().to_string();
        assert!(missing.starts_with("--etcd: missing: at least one URL"), "{missing}");
    }

    #[test]
    fn the_daemons_file_is_not_read_where_nothing_is_open() {
        let flags =
            PlaceFlags { etcd: Some("http://a:1".into()), prefix: Some("/p/".into()), run_dir: Some("/r".into()) };
        Place::find(&flags, |_| None, || panic!("it was read")).unwrap();
    }

    #[test]
    fn a_wrong_value_is_refused_under_the_name_that_its_writer_knows() {
        let by_flag = Place::find(&flags(Some("etcd:1")), |_| None, || Ok(NodeLayer::default())).unwrap_err();
        assert!(by_flag.to_string().starts_with("--etcd: \"etcd:1\" is not valid: a URL"), "{by_flag}");
        let variable = |name: &str| (name == "TWILL_PREFIX").then(|| "x".to_owned());
        let by_variable = Place::find(&flags(None), variable, || Ok(NodeLayer::default())).unwrap_err();
        assert!(by_variable.to_string().starts_with("TWILL_PREFIX: \"x\" is not valid"), "{by_variable}");
    }
}
