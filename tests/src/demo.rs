//! The demonstration: a cluster in namespaces, shown step by step, with a verdict.
//!
//! It looks at the cluster as an operator would, by `twillctl` and by what pods can do, and counts every question that got no answer;
//! the verdict is that count.

mod cluster;
mod diagnosis;
mod faults;
mod screen;
mod speed;

use std::time::Instant;

use crate::binaries::Binaries;
use crate::node::Node;
use crate::{Lab, Result, cleanup, pod::Pod};
pub use screen::Screen;

/// The name of the lab, where it is kept.
const NAME: &str = "demo";
/// The pods of each node.
const PODS: [char; 2] = ['a', 'b'];

/// Runs the whole demonstration. With `keep` the lab stays afterwards. `true` if everything answered.
pub fn run(keep: bool) -> Result<bool> {
    if keep {
        cleanup::expect_free(NAME)?;
    }
    Binaries::ready_visibly()?;
    let started = Instant::now();
    let mut screen = Screen::default();
    screen.step("etcd, three nodes, and a daemon on each");
    let mut builder = Lab::builder().nodes(3);
    if keep {
        builder = builder.name(NAME);
    }
    let lab = builder.build()?;
    screen.note(&format!("etcd at {}, namespaces {}-*", lab.etcd().endpoints(), lab.prefix()));
    screen.note(&format!("every node knows every other after {:.1} s", started.elapsed().as_secs_f64()));

    let pods = cluster::pods(&lab, &mut screen)?;
    cluster::tables(&lab, &pods, &mut screen)?;
    cluster::way(&lab, &pods, &mut screen)?;
    cluster::tested(&lab, &mut screen)?;
    diagnosis::examined(&lab, &mut screen)?;
    diagnosis::refused(&lab, &mut screen)?;
    diagnosis::closed(&lab, &pods, &mut screen)?;
    faults::daemon_killed(&lab, &pods, &mut screen)?;
    faults::route_deleted(&lab, &pods, &mut screen)?;
    speed::back_ends(&lab, &mut screen)?;

    if keep {
        let prefix = lab.prefix().to_owned();
        lab.keep()?;
        screen.note(&format!("the lab stays: hack/lab enter --name {prefix} n1"));
        screen.note(&format!("to remove it:   hack/lab down --name {prefix}"));
    }
    Ok(screen.verdict(started.elapsed()))
}

/// The first pods of two different nodes.
fn two_pods<'a>(lab: &'a Lab, pods: &'a [Pod]) -> (&'a Node, &'a Pod, &'a Node, &'a Pod) {
    let (here, there) = (lab.node(1), lab.node(2));
    let first = |node: &Node| pods.iter().find(|pod| pod.node() == node.name()).expect("every node has pods");
    (here, first(here), there, first(there))
}
