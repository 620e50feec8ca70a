//! Router advertisements on a machine that begins to forward.
//!
//! When `net/ipv6/conf/all/forwarding` is set, the kernel takes from every interface the default routes that it learned from
//! advertisements, unless its `accept_ra` is 2: it listens although the machine forwards (`addrconf_forward_change` in
//! net/ipv6/addrconf.c, `rt6_purge_dflt_routers` in net/ipv6/route.c; Documentation/networking/ip-sysctl.rst, accept_ra). Those
//! routes are not ours, on whatever interface, so whoever has the machine forward calls [`keep`] before.

use std::io::ErrorKind;
use std::{fs, io};

use crate::Error;

/// The setting by which a machine forwards IPv6, below /proc/sys.
pub const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

const DIRECTORY: &str = "net/ipv6/conf";

/// Has every interface that listens to router advertisements listen while the machine forwards. For the namespace of the calling
/// thread. An interface that goes meanwhile is left out.
pub fn keep() -> Result<(), Error> {
    let refused = |path: &str, value: &str| {
        let (path, value) = (path.to_owned(), value.to_owned());
        move |cause| Error::Sysctl { path, value, cause }
    };
    for entry in fs::read_dir(absolute(DIRECTORY)).map_err(refused(DIRECTORY, ""))? {
        let name = entry.map_err(refused(DIRECTORY, ""))?.file_name().to_string_lossy().into_owned();
        let path = format!("{DIRECTORY}/{name}/accept_ra");
        if !matches!(name.as_str(), "all" | "default" | "lo") {
            listen(&path).map_err(refused(&path, "2"))?;
        }
    }
    Ok(())
}

fn listen(path: &str) -> io::Result<()> {
    let there = |done: io::Result<bool>| match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        done => done,
    };
    if there(fs::read_to_string(absolute(path)).map(|value| value.trim() == "1"))? {
        there(fs::write(absolute(path), "2").map(|()| true))?;
    }
    Ok(())
}

fn absolute(path: &str) -> String {
    format!("/proc/sys/{path}")
}
