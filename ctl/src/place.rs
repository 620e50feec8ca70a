//! Where the cluster is: flags over `TWILL_…` variables over the daemon's file over the defaults.

use std::path::PathBuf;
use std::time::Duration;

use twill_cluster::etcd::Limits;
use twill_conf::node::{self, EtcdConf, NodeLayer, Setting};

use crate::arguments::PlaceFlags;
use crate::error::Error;

/// How long the answer of a node is waited for by most commands.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How etcd is reached, the prefix of its keys, and the run directory of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `None` where nobody said.
    pub(crate) etcd: Option<EtcdConf>,
    /// Begins and ends with '/'.
    pub(crate) prefix: String,
    /// Absolute.
    pub(crate) run_dir: PathBuf,
    /// How long each answer is waited for, of nodes and of etcd, where that was said.
    pub(crate) timeout: Option<Duration>,
}

impl Place {
    /// Reads the flags, the environment and, only where something is still open, the daemon's file by `file`.
    ///
    /// Who names an endpoint with `http://` does not mean the TLS and the user that the file has for other endpoints.
    pub(crate) fn find(
        flags: &PlaceFlags,
        environment: impl Fn(&str) -> Option<String>,
        file: impl FnOnce() -> Result<NodeLayer, twill_conf::Error>,
    ) -> Result<Self, Error> {
        let mut said = NodeLayer::default();
        for (setting, flag) in flags.settings() {
            let variable = format!("TWILL_{}", setting.key().to_ascii_uppercase());
            let told = match flag {
                Some(text) => Some((setting.flag(), text.clone())),
                None => environment(&variable).filter(|text| !text.is_empty()).map(|text| (variable, text)),
            };
            if let Some((shown_as, text)) = told {
                let text = if is_file(setting) { from_here(text) } else { text };
                said.set(setting, &shown_as, &text).map_err(Error::Usage)?;
            }
        }
        let is_plain = said.etcd.iter().flatten().any(|url| url.starts_with("http://"));
        let knows_etcd = is_plain || (said.etcd.is_some() && said.etcd_ca.is_some());
        let complete = knows_etcd && said.prefix.is_some() && said.run_dir.is_some();
        let below = if complete { NodeLayer::default() } else { file().map_err(Error::Usage)? };
        let below = if is_plain { below.without_credentials() } else { below };
        let layer = below.overlay(said);
        Ok(Self {
            etcd: layer.etcd_conf().map_err(Error::Usage)?,
            prefix: layer.prefix.unwrap_or_else(|| node::ETCD_PREFIX.into()),
            run_dir: layer.run_dir.unwrap_or_else(|| node::RUN_DIR.into()),
            timeout: None,
        })
    }

    /// How long the answer of a node is waited for: `usual`, where nothing else was said.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }

    /// How long requests to etcd may take.
    pub(crate) fn limits(&self) -> Limits {
        self.timeout.map_or_else(Limits::default, Limits::of)
    }

    /// How etcd is reached, for a command that cannot do without.
    pub(crate) fn etcd(&self) -> Result<&EtcdConf, Error> {
        let right = "at least one URL: --etcd http://10.0.0.1:2379, TWILL_ETCD, or etcd in the daemon's file";
        self.etcd.as_ref().ok_or_else(|| Error::Usage(twill_conf::Error::missing("--etcd", right)))
    }
}

fn is_file(setting: Setting) -> bool {
    matches!(setting, Setting::EtcdCa | Setting::EtcdCert | Setting::EtcdKey | Setting::EtcdPasswordFile)
}

/// A file that is named on the command line may be named as it is seen from here.
fn from_here(path: String) -> String {
    std::path::absolute(&path).ok().and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(path)
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
        let etcd = Some(EtcdConf::plain(vec!["http://flag:1".into()]));
        let wanted = Place { etcd, prefix: "/variable/".into(), run_dir: "/file".into(), timeout: None };
        assert_eq!(place, wanted);

        let place = Place::find(&flags(None), |_| None, || Ok(NodeLayer::default())).unwrap();
        assert_eq!(
            place,
            Place { etcd: None, prefix: "/twill/v1/".into(), run_dir: "/run/twill".into(), timeout: None }
        );
        let missing = place.etcd().unwrap_err().to_string();
        assert!(missing.starts_with("--etcd: missing: at least one URL"), "{missing}");
    }

    #[test]
    fn the_daemons_file_is_not_read_where_nothing_is_open() {
        let flags = PlaceFlags { prefix: Some("/p/".into()), run_dir: Some("/r".into()), ..flags(Some("http://a:1")) };
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

    #[test]
    fn tls_and_user_of_the_daemons_file_go_with_its_endpoints_and_with_others_of_tls() {
        let file = || {
            NodeLayer::from_toml("etcd = ['https://a:1']\netcd_ca = '/ca'\netcd_user = 'u'\netcd_password_file = '/p'")
        };
        let by_file = Place::find(&flags(None), |_| None, file).unwrap().etcd.unwrap();
        let member = Place::find(&flags(Some("https://b:1")), |_| None, file).unwrap().etcd.unwrap();
        assert!(by_file.tls.is_some() && by_file.login.is_some());
        assert_eq!((member.tls, member.login), (by_file.tls, by_file.login));
        let plain = Place::find(&flags(Some("http://b:1")), |_| None, file).unwrap().etcd.unwrap();
        assert_eq!(plain, EtcdConf::plain(vec!["http://b:1".into()]));
    }

    #[test]
    fn a_file_is_named_as_it_is_seen_from_here() {
        let flags = PlaceFlags { etcd_ca: Some("ca.crt".into()), ..flags(Some("https://a:1")) };
        let tls = Place::find(&flags, |_| None, || Ok(NodeLayer::default())).unwrap().etcd.unwrap().tls.unwrap();
        assert_eq!(tls.ca, std::env::current_dir().unwrap().join("ca.crt"));
    }
}
