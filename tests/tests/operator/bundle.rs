//! `twillctl bundle` of living daemons: what is in it, and that nothing secret is.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use twill_tests::golden::is_golden;
use twill_tests::process::{command, run_on_host};
use twill_tests::{Lab, LabError, Result, with_lab};

use super::status::comes_to_tell;

/// What stands wherever something secret might.
const PLANTED: &str = "PLANTED-s3cret";

/// All files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(LabError::io(format!("listing {}", directory.display())))?.flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// A private key without its first and last line: what is secret of it.
fn key(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).map_err(LabError::io(format!("reading {}", file.display())))?;
    let line = text.lines().find(|line| !line.starts_with('-')).unwrap_or_default();
    assert!(line.len() > 40, "{text}");
    Ok(line.to_owned())
}

#[test]
fn a_bundle_of_living_daemons_lists_what_it_has_and_has_no_password_no_key_and_no_identity() {
    let bgp = "type = \"vxlan\"\n[bgp]\n";
    with_lab(Lab::builder().nodes(2).secured().backend(bgp), |lab| {
        let one = lab.node(1);
        one.create_pod("a")?.add_as("shop", "till-0")?;
        // The password with which the daemons sign their sessions, and words of another version in a record.
        let password = lab.directory().join("password");
        fs::write(&password, format!("{PLANTED}\n")).map_err(LabError::io("writing a password"))?;
        lab.apply_config(&format!("{}password_file = \"{}\"\n", lab.cluster_config(), password.display()))?;
        comes_to_tell(one, &["bgp", "peers"], 0, "2 of 2 sessions up")?;
        let (name, mut record) = lab.etcd().nodes()?.pop().expect("there are nodes");
        record["secret"] = json!(PLANTED);
        lab.etcd().put(&format!("nodes/{name}"), &record.to_string())?;
        comes_to_tell(one, &["status", "--wait", "1m"], 0, "no problems\n")?;

        let file = lab.directory().join("bundle.tar.gz");
        let told = one.twillctl_told(&["bundle", &file.to_string_lossy(), "--timeout", "60"])?;
        assert_eq!(told.status, Some(0), "{told:?}");
        is_golden("operator", "bundle", &told.stdout);

        let tree = lab.directory().join("unpacked");
        fs::create_dir_all(&tree).map_err(LabError::io("making a directory"))?;
        run_on_host(command(&["tar", "-xzf", &file.to_string_lossy(), "-C", &tree.to_string_lossy()]))?;
        let mut secrets = vec![PLANTED.to_owned(), key(&one.directory().join("n1.key"))?];
        let security = lab.etcd().security().expect("etcd is secured");
        secrets.push(key(&security.directory().join("root.key"))?);
        for (_, record) in lab.etcd().nodes()? {
            secrets.extend(["machine_id", "nonce"].map(|field| record[field].as_str().unwrap_or_default().to_owned()));
        }
        assert!(secrets.iter().all(|secret| secret.len() > 8), "{secrets:?}");
        let members = files(&tree)?;
        assert!(members.len() > 10, "{members:?}");
        for member in members {
            let text = fs::read_to_string(&member).map_err(LabError::io(format!("reading {}", member.display())))?;
            let found = secrets.iter().find(|secret| text.contains(*secret));
            assert!(found.is_none(), "{} has {found:?}:\n{text}", member.display());
        }
        Ok(())
    });
}
