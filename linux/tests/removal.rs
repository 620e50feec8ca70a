//! Removing a device: gone when the call returns, without the kernel's grace periods, and made anew at once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::time::{Duration, Instant};

use lab::{Namespace, mac, name};
use nix::errno::Errno;
use twill_linux::Netlink;
use twill_linux::table::link::{self, Device, Veth, VethEnd};

const HOST: &str = "tw0123456789abc";

fn veth() -> Veth {
    Veth {
        host: VethEnd { name: name(HOST), mac: mac("ee:ee:ee:ee:ee:ee"), index: 0 },
        peer: VethEnd { name: name("eth0"), mac: mac("02:00:00:00:00:05"), index: 0 },
        mtu: 1450,
        alias: None,
        ipv4: Vec::new(),
        sources: None,
    }
}

fn make(host: &mut Netlink, pod: &Namespace) -> Device {
    let pair = veth().make(host, &pod.open()).unwrap().pair;
    Device { index: pair.host, name: name(HOST) }
}

#[test]
fn a_removed_pair_is_gone_from_both_namespaces_and_can_be_made_again_at_once() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut host = node.netlink();
    for _ in 0..20 {
        let device = make(&mut host, &pod);
        node.ip("route add 10.42.0.5/32 dev tw0123456789abc metric 7777");
        assert!(link::remove(&mut host, device).unwrap());
        assert_eq!(link::by_name(&mut host, &name(HOST)).unwrap(), None);
        assert_eq!(link::by_name(&mut pod.netlink(), &name("eth0")).unwrap(), None);
        assert_eq!(node.ip("route show 10.42.0.5/32"), "");
    }
}

#[test]
fn what_is_gone_already_is_no_error() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut host = node.netlink();
    let device = make(&mut host, &pod);
    node.ip("link del tw0123456789abc");
    // Whether it is found to be gone, or the kernel says so: either is told as success.
    link::remove(&mut host, device).unwrap();
    assert_eq!(link::by_index(&mut host, device.index).unwrap(), None);
}

#[test]
fn a_device_that_cannot_be_deleted_is_an_error_with_the_kernels_words() {
    let Some(node) = Namespace::new() else { return };
    let mut host = node.netlink();
    let index = link::by_name(&mut host, &name("lo")).unwrap().unwrap().index;
    let error = link::remove(&mut host, Device { index, name: name("lo") }).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
    assert!(error.to_string().contains("delete link lo"), "{error}");
}

#[test]
fn an_errand_brings_the_answer_that_the_kernel_gave() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut host = node.netlink();
    let device = make(&mut host, &pod);
    let answer = |request| {
        let errand = node.netlink().leave(&request).unwrap();
        errand.answer(Duration::from_secs(5)).unwrap().expect("it takes milliseconds")
    };
    answer(link::delete(device)).unwrap();
    assert_eq!(answer(link::delete(device)).unwrap_err().errno(), Some(Errno::ENODEV));
    assert_eq!(link::by_index(&mut host, device.index).unwrap(), None);
}

#[test]
fn who_removes_many_leaves_no_zombies_behind() {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else { return };
    let mut host = node.netlink();
    for _ in 0..3 {
        let device = make(&mut host, &pod);
        link::remove(&mut host, device).unwrap();
    }
    // The children that have ended by now are reaped by the next removal; other tests may have begun some since.
    let deadline = Instant::now() + Duration::from_secs(5);
    let zombies = || {
        let own = std::process::id().to_string();
        let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
        let of_ours = |stat: &String| {
            let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
            (fields.next(), fields.next()) == (Some("Z"), Some(&*own))
        };
        std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(stat).filter(of_ours).count()
    };
    loop {
        let device = make(&mut host, &pod);
        link::remove(&mut host, device).unwrap();
        if zombies() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{} zombies", zombies());
        std::thread::sleep(Duration::from_millis(50));
    }
}
