//! The configurations of routers that docs/bgp.md has for the other side, run as they stand there but for the addresses.

use std::net::IpAddr;

use twill_testkit::{commands_of, file_of};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::{Bird, Gobgp, Host, bird, gobgp, with_routers};
use twill_tests::{Lab, Result};

use super::stage::*;

const DOCUMENT: &str = "bgp.md";
/// The nodes' addresses there.
const NODES: [&str; 2] = ["10.0.1.11", "10.0.1.12"];

/// A file of the document, for the nodes and the router of the lab.
fn file(lab: &Lab, name: &str, router: &str, host: &Host) -> String {
    let addresses = lab.nodes().iter().map(|node| node.addresses()[0]);
    let places = NODES.into_iter().zip(addresses).chain([(router, host.address(false))]);
    places.fold(file_of(DOCUMENT, name), |text, (written, address): (&str, IpAddr)| {
        assert!(text.contains(written), "{name} does not name {written}");
        text.replace(written, &address.to_string())
    })
}

/// Both ends have what the document says: the router the blocks of the nodes, the nodes its default route, and no error is told.
fn is_as_documented(lab: &Lab, host: &Host, known: &dyn Fn() -> Result<String>) -> Result<()> {
    for node in lab.nodes() {
        let blocks: Vec<String> = blocks_of(lab, node.name())?.iter().map(ToString::to_string).collect();
        deadline::until_some(&format!("{} knows {blocks:?}", host.name()), PATIENCE, || {
            let routes = known()?;
            Ok(if blocks.iter().all(|block| routes.contains(block)) { Ok(()) } else { Err(routes) })
        })?;
        leads_by(node, net("0.0.0.0/0"), &[host.address(false)])?;
    }
    deadline::until_some("all sessions are up", PATIENCE, || {
        let told = lab.node(1).twillctl_told(&["bgp", "peers"])?;
        Ok(if told.status == Some(0) { Ok(()) } else { Err(told.stdout + &told.stderr) })
    })
}

/// The peer of the document: the default route is taken, and the blocks are given.
fn apply(lab: &Lab, name: &str, host: &Host, asn: u32, keys: &str) -> Result<()> {
    let filters =
        "import = [{ prefixes = [\"0.0.0.0/0\"], action = \"accept\" }]\nexport = [{ action = \"accept\" }]\n";
    let peer = bare_peer(name, host.address(false), asn, &format!("{keys}{filters}"));
    lab.apply_config(&lab.config_with(&format!("{BGP}{peer}")))
}

#[test]
fn bird_with_the_documented_configuration_speaks_with_the_nodes() {
    with_routers(&bird::PROGRAMS, open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let bird = Bird::start_with(&host, &file(lab, "bird.conf", "10.0.1.253", &host))?;
        apply(lab, "tor-a1", &host, 65001, "bfd = true\nmax_prefixes = 1000\n")?;
        is_as_documented(lab, &host, &|| bird.birdc("show route"))?;
        deadline::until_some("BFD is up", PATIENCE, || {
            let told = lab.node(1).twillctl_told(&["bgp", "peers", "-o", "json"])?.stdout;
            Ok(if told.contains("\"bfd\": \"Up\"") { Ok(()) } else { Err(told) })
        })
    });
}

#[test]
fn gobgp_with_the_documented_configuration_speaks_with_the_nodes() {
    with_routers(&gobgp::PROGRAMS, open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let text = file(lab, "gobgpd.toml", "10.0.1.254", &host);
        let gobgp = Gobgp::start_with(&host, &text, NODES.len())?;
        apply(lab, "tor-a2", &host, 65002, "max_prefixes = 1000\n")?;
        for command in commands_of(DOCUMENT, "gobgp").lines() {
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            gobgp.gobgp(&words)?;
        }
        is_as_documented(lab, &host, &|| gobgp.gobgp(&["global", "rib"]))
    });
}
