//! The back ends side by side, by `twillctl bench`.

use std::path::PathBuf;

use super::Screen;
use crate::bench::backends::{Backend, Plan, compare, switch};
use crate::{Lab, Result};

/// Short, for it is one round: what it shows is how to measure.
const PLAN: Plan = Plan { repeat: 1, seconds: 1, streams: 4 };
/// It outlives the lab.
const PLOT: &str = "twill-demo-backends.svg";

/// Switches the cluster to each back end, measures, and draws; it ends with the back end that it began with.
pub(super) fn back_ends(lab: &Lab, screen: &mut Screen) -> Result<()> {
    screen.step("vxlan, host-gw and bgp in turn, between n1 and n2: twillctl config apply, twillctl bench");
    let compared = compare(lab, &Backend::ALL, PLAN)?;
    switch(lab, &lab.cluster_config())?;
    screen.quote(&compared.columns());
    let plot: PathBuf = std::env::temp_dir().join(PLOT);
    compared.write(&plot, None)?;
    screen.note(&format!("plot: {}", plot.display()));
    let drawn = std::fs::metadata(&plot).is_ok_and(|file| file.len() > 0);
    screen.ask("all back ends are measured and drawn", compared.measured.len() == Backend::ALL.len() && drawn);
    Ok(())
}
