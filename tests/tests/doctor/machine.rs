//! Machines that are no good from the start: each daemon says of its own what is the matter.

use std::net::UdpSocket;

use twill_tests::{Lab, LabError, with_lab};

use super::stage::{comes_to_tell, start, start_behind};

/// As in a container that may not change settings of the kernel.
const READ_ONLY: &str = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys";
/// As on a machine without nftables: what is there is no program.
const WITHOUT_NFT: &str = "for nft in /usr/sbin/nft /sbin/nft /usr/bin/nft /usr/local/sbin/nft; do
    if [ -e $nft ]; then mount --bind /dev/null $nft; fi
done";

#[test]
fn each_machine_says_what_stands_in_its_way() {
    with_lab(Lab::builder().nodes(4).asleep(), |lab| {
        let [device, port, locked, bare] = [1, 2, 3, 4].map(|number| lab.node(number));
        let other = "link add other type vxlan id 7777 dstport 4789 nolearning\nlink set other up\n";
        device.namespace().ip_batch(other)?;
        start(device)?;

        let holder = port.namespace().enter(|| UdpSocket::bind("0.0.0.0:4789"))?;
        let _holder = holder.map_err(LabError::io("taking the port"))?;
        start(port)?;

        for (path, value) in
            [("net/ipv4/ip_forward", "0"), ("net/ipv6/conf/all/forwarding", "0"), ("net/ipv4/conf/eth0/rp_filter", "1")]
        {
            locked.namespace().set_sysctl(path, value)?;
        }
        start_behind(locked, READ_ONLY)?;
        start_behind(bare, WITHOUT_NFT)?;

        comes_to_tell(device, "node n1", "device other: it has VNI 7777 on UDP port 4789", "ip link delete other")?;
        comes_to_tell(device, "node n2", &format!("(process {}) has it", std::process::id()), "give it another port")?;
        comes_to_tell(device, "node n3", "forwarding of IPv4 is off on eth0", "net.ipv4.conf.eth0.forwarding=1")?;
        comes_to_tell(device, "node n3", "forwarding of IPv6 is off", "/proc/sys cannot be written")?;
        comes_to_tell(device, "node n3", "rp_filter is strict (1) on eth0", "net.ipv4.conf.eth0.rp_filter=2")?;
        comes_to_tell(device, "node n4", "it cannot be run, so there is no firewall", "install the package nftables")?;
        Ok(())
    });
}
