//! All pairs, both families, small and full-size.

use super::Screen;
use crate::Result;
use crate::pod::Pod;

/// Pings every pod from every other, and prints who answered whom.
pub(super) fn pings(pods: &[Pod], screen: &mut Screen) -> Result<()> {
    for ipv6 in [false, true] {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        screen.step(&format!(
            "all pairs over {family}: a small and a full-size packet, neither fragmented ('+' answered)"
        ));
        let names: Vec<String> = pods.iter().map(|pod| format!("{:>5}", pod.name())).collect();
        screen.note(&format!("{:<8}{}", "from", names.join("")));
        for from in pods {
            let mut line = format!("{:<8}", from.name());
            for to in pods {
                if std::ptr::eq(from, to) {
                    line += "    .";
                    continue;
                }
                let answered = from.ping_small_and_full(to.address(ipv6)?);
                line += if answered.is_ok() { "    +" } else { "    -" };
                screen.ask(&format!("{family} ping from {} to {}", from.name(), to.name()), answered.is_ok());
            }
            screen.note(&line);
        }
    }
    Ok(())
}
