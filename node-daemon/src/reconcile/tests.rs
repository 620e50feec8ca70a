//! What is told of what shall stand, and when.

use twill_linux::MacAddr;

use super::*;
use crate::metrics::Metrics;
use crate::metrics::health::Pulses;

#[test]
fn what_is_wanted_is_told_with_what_it_was_reckoned_by_however_the_pass_goes_on() {
    let troubles = Troubles::default();
    let handles = Metrics::new(&troubles).1;
    let (wanted, seen) = watch::channel(None);
    let findings = Findings {
        underlays: watch::channel(None).0,
        reckoning: Arc::default(),
        standings: watch::channel(None).0,
        wanted,
        troubles,
        passes: handles.passes,
        convergence: handles.convergence,
        pulse: Pulses::default().passes,
    };
    let underlay = Underlay { ipv4: None, ipv6: None };
    let local = |name: &str| Local::bare(name.parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 1]), underlay.clone());
    for revision in 1..3 {
        let view = Arc::new(View { revision, ..View::default() });
        let made = findings.reckon(&view, local("n1"), &Learned::default());
        let told: Wanted = seen.borrow().clone().expect("it is told at once");
        assert!(Arc::ptr_eq(&told.view, &view) && Arc::ptr_eq(&told.desired, &made.desired));
        assert!(Arc::ptr_eq(&told.local, &made.local) && !told.tried.load(Ordering::Relaxed));
        findings.tried();
        assert!(told.tried.load(Ordering::Relaxed));
    }
}
