//! When an ADD has ended, the pod is there: the first packet is not lost.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use room::{address, room};

/// Without waiting for the kernel's queues some of these pings are lost where something else keeps the kernel busy, so beside
/// them links come and go all the time.
#[test]
fn the_first_packet_after_an_add_is_answered_in_both_families_also_on_a_busy_kernel() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded, for when the other thread fails before it says stop.
            for _ in 0..500 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                room.ip("node", "link add busy0 type veth peer name busy1");
                room.ip("node", "link del busy0");
            }
        });
        for round in 0..20 {
            let result = room.add("p1", &conf).result();
            room.assert_ping("node", &address(&result, round % 2 == 0));
            room.del("p1", &conf).silent();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
