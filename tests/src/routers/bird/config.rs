//! BIRD's configuration file, made of settings.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::routers::settings::{BFD_INTERVAL, BFD_MULTIPLIER};
use crate::routers::{Announcement, Family, Neighbour, Settings};
use crate::{LabError, Result};

/// What goes out is neither of the links nor of the kernel. A metric that is not set here stays inside (RFC 4271, section 5.1.4).
fn export(settings: &Settings) -> String {
    let own = settings.announced.iter().filter_map(|own| Some((own.prefix, own.med?)));
    let metrics: String = own.map(|(prefix, med)| format!("if net = {prefix} then bgp_med = {med}; ")).collect();
    format!("filter {{ if source !~ [RTS_STATIC, RTS_BGP] then reject; {metrics}accept; }}")
}

/// The name of the protocol of a neighbour.
pub(super) fn protocol(address: IpAddr) -> String {
    let word = address.to_string();
    format!("peer_{}", word.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}

/// The file.
pub(super) fn text(settings: &Settings) -> Result<String> {
    let mut text = format!("router id {};\nlog stderr all;\nprotocol device {{ }}\n", settings.router_id);
    text += "protocol direct { ipv4; ipv6; }\n";
    for family in Family::ALL {
        if settings.kernel {
            kernel(settings, family, &mut text);
        }
        let own: Vec<_> = settings.announced.iter().filter(|announced| announced.family() == family).collect();
        if !own.is_empty() {
            statics(family, &own, &mut text);
        }
    }
    if settings.neighbours.iter().any(|neighbour| neighbour.bfd) {
        let timing = format!("interval {BFD_INTERVAL} ms; multiplier {BFD_MULTIPLIER};");
        text += &format!("protocol bfd {{ interface \"*\" {{ {timing} }}; multihop {{ {timing} }}; }}\n");
    }
    for neighbour in &settings.neighbours {
        bgp(settings, neighbour, &mut text)?;
    }
    Ok(text)
}

/// Into the kernel goes what was learned; and it stays there over a graceful restart.
fn kernel(settings: &Settings, family: Family, text: &mut String) {
    let mut words = format!("{family} {{ import none; export where source = RTS_BGP; }};");
    if let Some(limit) = settings.multipath {
        words += &format!(" merge paths yes limit {limit};");
    }
    if settings.restart.is_some() {
        words += " persist yes; graceful restart yes;";
    }
    push(text, &format!("protocol kernel kernel_{family} {{ {words} }}"));
}

fn statics(family: Family, own: &[&Announcement], text: &mut String) {
    push(text, &format!("protocol static static_{family} {{\n    {family};"));
    for Announcement { prefix, communities, large_communities, .. } in own {
        let mut words = Vec::new();
        words.extend(communities.iter().map(|(system, value)| format!("bgp_community.add(({system},{value}));")));
        words.extend(large_communities.iter().map(|[a, b, c]| format!("bgp_large_community.add(({a},{b},{c}));")));
        let block = if words.is_empty() { String::new() } else { format!(" {{ {} }}", words.join(" ")) };
        push(text, &format!("    route {prefix} blackhole{block};"));
    }
    push(text, "}");
}

fn bgp(settings: &Settings, neighbour: &Neighbour, text: &mut String) -> Result<()> {
    let is_internal = neighbour.asn == settings.asn;
    if neighbour.client && !is_internal {
        let Neighbour { address, asn, .. } = neighbour;
        return Err(LabError::wrong(format!("neighbour {address} of AS {asn} cannot be a client: it is external")));
    }
    push(text, &format!("protocol bgp {} {{", protocol(neighbour.address)));
    push(text, &format!("    local as {};\n    neighbor {} as {};", settings.asn, neighbour.address, neighbour.asn));
    push(
        text,
        &format!("    hold time {};\n    connect delay time 1;\n    error wait time 1, 2;", neighbour.hold_time),
    );
    push(text, "    connect retry time 5;");
    match neighbour.multihop {
        Some(hops) => push(text, &format!("    multihop {hops};")),
        None => push(text, "    direct;"),
    }
    match settings.restart {
        Some(time) => push(text, &format!("    graceful restart on;\n    graceful restart time {time};")),
        None if settings.aware => push(text, "    graceful restart aware;"),
        None => push(text, "    graceful restart off;"),
    }
    if let Some(password) = &neighbour.password {
        push(text, &format!("    password \"{password}\";"));
    }
    if neighbour.client {
        push(text, "    rr client;");
        if let Some(cluster) = settings.cluster {
            push(text, &format!("    rr cluster id {cluster};"));
        }
    }
    // Otherwise a neighbour whose BFD ends with its control plane loses its routes, which were to be kept.
    let bfd = if settings.restart.is_some() { "bfd graceful;" } else { "bfd on;" };
    for (is_wanted, words) in
        [(neighbour.bfd, bfd), (neighbour.passive, "passive on;"), (neighbour.ttl_security, "ttl security on;")]
    {
        if is_wanted {
            push(text, &format!("    {words}"));
        }
    }
    for family in &neighbour.families {
        let mut words = format!("import all; export {};", export(settings));
        for (is_wanted, more) in [
            (neighbour.next_hop_self, " next hop self;"),
            (neighbour.extended_next_hop && *family == Family::Ipv4, " extended next hop on;"),
            (neighbour.add_path, " add paths on;"),
        ] {
            words += if is_wanted { more } else { "" };
        }
        push(text, &format!("    {family} {{ {words} }};"));
    }
    push(text, "}");
    Ok(())
}

fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn settings() -> Settings {
        Settings::new(65001, Ipv4Addr::new(10, 0, 0, 1))
    }

    #[test]
    fn what_is_not_asked_for_is_not_in_the_file() {
        let neighbour = Neighbour::new("192.168.77.11".parse().unwrap(), 64512);
        let text = text(&settings().with(neighbour)).unwrap();
        for word in ["kernel", "static static", "bfd", "password", "rr client", "extended", "merge", "persist"] {
            assert!(!text.contains(word), "{word}:\n{text}");
        }
        assert!(text.contains("    neighbor 192.168.77.11 as 64512;\n"), "{text}");
    }

    #[test]
    fn all_that_can_be_asked_for_is() {
        let neighbour = Neighbour {
            families: Family::ALL.to_vec(),
            password: Some("secret".into()),
            client: true,
            extended_next_hop: true,
            bfd: true,
            ..Neighbour::new("fd00:77::11".parse().unwrap(), 65001)
        };
        let announcement = Announcement {
            communities: vec![(65001, 7)],
            med: Some(5),
            ..Announcement::new("198.51.100.0/24".parse().unwrap())
        };
        let settings = Settings { kernel: true, multipath: Some(4), restart: Some(60), ..settings() };
        let text = text(&settings.with(neighbour).announcing(announcement)).unwrap();
        for line in [
            "protocol kernel kernel_ipv4 { ipv4 { import none; export where source = RTS_BGP; }; merge paths yes limit 4; \
             persist yes; graceful restart yes; }",
            "    route 198.51.100.0/24 blackhole { bgp_community.add((65001,7)); };",
            "protocol bgp peer_fd00_77__11 {",
            "    password \"secret\";",
            "    rr client;",
            "    bfd graceful;",
            "    graceful restart time 60;",
            "    ipv6 { import all; export filter { if source !~ [RTS_STATIC, RTS_BGP] then reject; if net = 198.51.100.0/24 \
             then bgp_med = 5; accept; }; };",
        ] {
            assert!(text.lines().any(|each| each == line), "{line}:\n{text}");
        }
        assert!(text.contains("extended next hop on"), "{text}");
    }

    #[test]
    fn graceful_restart_is_that_of_both_sides_that_of_neighbours_alone_or_none() {
        let neighbour = Neighbour::new("192.168.77.11".parse().unwrap(), 64512);
        for (restart, aware, word) in [(Some(60), false, "on"), (None, true, "aware"), (None, false, "off")] {
            let text = text(&Settings { restart, aware, ..settings() }.with(neighbour.clone())).unwrap();
            assert!(text.contains(&format!("    graceful restart {word};\n")), "{text}");
        }
    }

    #[test]
    fn an_external_neighbour_is_no_client() {
        let neighbour = Neighbour { client: true, ..Neighbour::new("192.168.77.11".parse().unwrap(), 64512) };
        let error = text(&settings().with(neighbour)).unwrap_err().to_string();
        assert_eq!(error, "neighbour 192.168.77.11 of AS 64512 cannot be a client: it is external");
    }
}
