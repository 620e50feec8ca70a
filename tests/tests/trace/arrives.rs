//! Where all stands, a trace says so, names what packets go by, and a real ping agrees.

use serde_json::json;
use twill_testkit::commands_of;
use twill_tests::golden::is_golden;
use twill_tests::wire::{OUTSIDE_V4, OUTSIDE_V6};
use twill_tests::{Lab, Result, Underlay, with_lab};

use super::stage::{answers, comes_to_tell, kinds, traced};

const DIRECT: &str = "type = \"vxlan\"\ndirect = true\n";
const HOST_GW: &str = "type = \"host-gw\"\n";
const BGP: &str = "type = \"bgp\"\n[bgp]\n";

/// Between pods of two nodes and of one, in both families; the golden files' name, the objects that the way to the other node must name,
/// and what must not be among them.
fn all_arrive(lab: &Lab, name: &str, named: &[&str], unnamed: &[&str], says: &str) -> Result<()> {
    let (one, two) = (lab.node(1), lab.node(2));
    let (a, near, far) = (one.attach("a")?, one.attach("near")?, two.attach("far")?);
    for ipv6 in [false, true] {
        let (from, to) = (a.address(ipv6)?.to_string(), far.address(ipv6)?);
        // A mirror is a moment later than the pod.
        let text =
            comes_to_tell(two, &[&from, &to.to_string()], 0, &[says, "the packet arrives", "the reply arrives"])?;
        assert!(!text.contains("PROBLEM") && !text.contains("NOTE"), "{text}");
        is_golden("trace", &format!("{name}-{}", if ipv6 { "ipv6" } else { "ipv4" }), &text);
        let (status, told) = traced(two, &[&from, &to.to_string()])?;
        let path = &told["paths"][0];
        assert_eq!((status, &path["there"], &path["back"]), (Some(0), &json!("arrives"), &json!("arrives")), "{told}");
        assert_eq!((&path["legs"][0]["node"], &path["legs"][1]["node"]), (&json!("n1"), &json!("n2")), "{told}");
        let kinds = kinds(&path["legs"]);
        assert!(named.iter().all(|kind| kinds.iter().any(|known| known == kind)), "{kinds:?}\n{text}");
        assert!(unnamed.iter().all(|kind| kinds.iter().all(|known| known != kind)), "{kinds:?}\n{text}");
        // As large as it says, and no larger.
        let most = path["mtu"].as_u64().unwrap_or_default();
        assert!(answers(&a, to, most) && !answers(&a, to, most + 1), "{most}: {text}");
        let (status, _) = traced(one, &[&from, &to.to_string(), "--size", &most.to_string()])?;
        let (larger, told) = traced(one, &[&from, &to.to_string(), "--size", &(most + 1).to_string()])?;
        assert_eq!((status, larger), (Some(0), Some(1)), "{told}");

        let beside = near.address(ipv6)?;
        let (status, told) = traced(two, &[&from, &beside.to_string()])?;
        assert_eq!((status, told["paths"][0]["legs"].as_array().map(Vec::len)), (Some(0), Some(1)), "{told}");
        assert!(answers(&a, beside, 84));
    }
    Ok(())
}

#[test]
fn by_vxlan_a_trace_names_route_device_neighbour_and_entry() {
    with_lab(Lab::builder().nodes(2), |lab| {
        all_arrive(
            lab,
            "healthy-vxlan",
            &["route", "link", "neighbour", "fdb"],
            &[],
            "routed to node n2, through the tunnel",
        )
    });
}

#[test]
fn by_vxlan_over_an_ipv6_underlay_it_does_too() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V6), |lab| {
        all_arrive(
            lab,
            "healthy-vxlan-over-ipv6",
            &["route", "link", "neighbour", "fdb"],
            &[],
            "routed to node n2, through the tunnel",
        )
    });
}

#[test]
fn by_plain_routes_beside_vxlan_a_trace_names_the_route_alone() {
    with_lab(Lab::builder().nodes(2).backend(DIRECT), |lab| {
        all_arrive(
            lab,
            "healthy-direct",
            &["route"],
            &["fdb"],
            "routed to node n2, as it is, by that node's underlay address",
        )
    });
}

#[test]
fn by_host_gw_a_trace_names_the_route_alone() {
    with_lab(Lab::builder().nodes(2).backend(HOST_GW), |lab| {
        all_arrive(
            lab,
            "healthy-host-gw",
            &["route"],
            &["fdb", "link"],
            "routed to node n2, as it is, by that node's underlay address",
        )
    });
}

#[test]
fn by_bgp_a_trace_says_that_the_route_was_learned() {
    with_lab(Lab::builder().nodes(2).backend(BGP), |lab| {
        all_arrive(lab, "healthy-bgp", &["route"], &["fdb", "link"], "routed to node n2, as BGP has learned it")
    });
}

#[test]
fn ends_are_named_by_pod_container_node_and_address_and_the_outside_is_told_with_its_masquerading() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.create_pod("a")?, two.create_pod("b")?);
        a.add_as("shop", "till-0")?;
        b.add_as("shop", "till-1")?;
        let both = comes_to_tell(two, &["shop/till-0", "shop/till-1"], 0, &["pod shop/till-1"])?;
        assert_eq!(both.matches("the packet arrives").count(), 2, "one of each family:\n{both}");
        comes_to_tell(one, &[&a.container(), "shop/till-1"], 0, &["the reply arrives"])?;
        let node = comes_to_tell(one, &["n1", "shop/till-1"], 0, &["the node itself sends it", "the reply arrives"])?;
        assert_eq!(node.matches("the packet arrives").count(), 2, "{node}");
        let to_node = comes_to_tell(two, &["shop/till-0", "n2"], 0, &["delivered to the node itself"])?;
        let source = one.addresses()[0];
        assert!(to_node.contains(&format!("it takes the node's address: {} becomes ", a.address(false)?)), "{to_node}");
        for outside in [OUTSIDE_V4.to_string(), OUTSIDE_V6.to_string()] {
            let told = comes_to_tell(two, &["shop/till-0", &outside], 0, &["the packet leaves the cluster"])?;
            assert!(outside.contains(':') || told.contains(&format!("becomes {source}")), "{told}");
            assert!(answers(&a, outside.parse().expect("an address"), 84));
        }
        let variables = [("POD", "shop/till-0"), ("OTHER", "shop/till-1"), ("NODE", "n2")];
        let shown = two.run_script(&commands_of("trace.md", "look"), &variables)?;
        assert!(shown.matches("the packet arrives").count() >= 6, "{shown}");

        let unknown = two.twillctl_told(&["trace", "shop/till-9", "shop/till-1"])?;
        assert_eq!(unknown.status, Some(1), "{unknown:?}");
        assert!(unknown.stderr.contains("there is no pod shop/till-9"), "{unknown:?}");
        let nowhere = two.twillctl_told(&["trace", "192.0.2.77", "shop/till-1"])?;
        assert!(nowhere.stderr.contains("name the node that it is on with --node"), "{nowhere:?}");
        let asked = two.twillctl_told(&["trace", "192.0.2.77", "shop/till-1", "--node", "n1"])?;
        assert_eq!(asked.status, Some(1), "{asked:?}");
        assert!(asked.stdout.contains("no attached pod of this node has 192.0.2.77"), "{asked:?}");
        Ok(())
    });
}

#[test]
fn a_published_port_of_a_node_is_told_to_lead_to_its_pod() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (server, client) = (one.create_pod("server")?, two.attach("client")?);
        let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        server.add_asking(Some(&ports))?;
        for ipv6 in [false, true] {
            let (from, pod) = (client.address(ipv6)?.to_string(), server.address(ipv6)?);
            let node = one.addresses().iter().find(|address| address.is_ipv6() == ipv6).expect("it has both");
            let to = if ipv6 { format!("[{node}]:8080") } else { format!("{node}:8080") };
            let turned = format!(
                "the node's tcp port 8080 is published: it is turned to {}",
                std::net::SocketAddr::new(pod, 80)
            );
            let text = comes_to_tell(two, &[&from, &to], 0, &[&turned, "delivered to the pod", "the reply arrives"])?;
            assert!(text.contains("it takes the node's address"), "n1 is behind the tunnel:\n{text}");
            let other = to.replace("8080", "8081");
            let text = comes_to_tell(two, &[&from, &other], 0, &["delivered to the node itself"])?;
            assert!(!text.contains("is published"), "{text}");
            let tunnel = to.replace("8080", "4789/udp");
            comes_to_tell(two, &[&from, &tunnel], 1, &["PROBLEM node n2", "pods may not speak VXLAN to nodes"])?;
        }
        Ok(())
    });
}
