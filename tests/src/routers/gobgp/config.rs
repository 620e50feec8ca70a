//! GoBGP's configuration file, made of settings.

use serde_json::{Map, Value, json};

use crate::routers::{Family, Neighbour, Settings};
use crate::{LabError, Result};

/// The file, as TOML.
pub(super) fn text(settings: &Settings) -> Result<String> {
    if settings.kernel {
        return Err(LabError::wrong("GoBGP puts no routes into the kernel: leave `kernel` out, or use BIRD"));
    }
    let neighbours = settings.neighbours.iter().map(|neighbour| self::neighbour(settings, neighbour));
    let mut file = json!({
        "global": { "config": { "as": settings.asn, "router-id": settings.router_id } },
        "neighbors": neighbours.collect::<Result<Vec<_>>>()?,
    });
    if settings.multipath.is_some() {
        file["global"]["use-multiple-paths"] = json!({ "config": { "enabled": true } });
    }
    toml::to_string(&file).map_err(|error| LabError::wrong(format!("GoBGP's configuration is no TOML: {error}")))
}

fn neighbour(settings: &Settings, neighbour: &Neighbour) -> Result<Value> {
    let Neighbour { address, asn, .. } = neighbour;
    let is_internal = *asn == settings.asn;
    if neighbour.bfd {
        return Err(LabError::wrong(format!(
            "GoBGP has no BFD for its neighbour {address}: leave it out, or use BIRD"
        )));
    }
    if neighbour.client && !is_internal {
        return Err(LabError::wrong(format!("neighbour {address} of AS {asn} cannot be a client: it is external")));
    }
    if neighbour.next_hop_self {
        let instead = "leave `next_hop_self` out, or use BIRD";
        return Err(LabError::wrong(format!("GoBGP needs a policy for the next hops of {address}: {instead}")));
    }
    // It always offers extended next hops (RFC 8950).
    let mut config = json!({ "neighbor-address": address, "peer-as": asn });
    if let Some(password) = &neighbour.password {
        config["auth-password"] = json!(password);
    }
    let families = neighbour.families.iter().map(|family| self::family(settings, neighbour, *family));
    let timers = json!({
        "connect-retry": 5, "hold-time": neighbour.hold_time, "keepalive-interval": (neighbour.hold_time / 3).max(1),
        "idle-hold-time-after-reset": 1,
    });
    let mut all = Map::new();
    all.insert("config".into(), config);
    all.insert("timers".into(), json!({ "config": timers }));
    all.insert("afi-safis".into(), Value::Array(families.collect()));
    let mut more = |is_wanted: bool, name: &str, config: Value| {
        if is_wanted {
            all.insert(name.to_owned(), json!({ "config": config }));
        }
    };
    more(neighbour.passive, "transport", json!({ "passive-mode": true }));
    let hops = neighbour.multihop.unwrap_or_default();
    more(neighbour.multihop.is_some(), "ebgp-multihop", json!({ "enabled": true, "multihop-ttl": hops }));
    more(neighbour.ttl_security, "ttl-security", json!({ "enabled": true, "ttl-min": 255 }));
    let cluster = settings.cluster.unwrap_or(settings.router_id);
    let reflector = json!({ "route-reflector-client": true, "route-reflector-cluster-id": cluster });
    more(neighbour.client, "route-reflector", reflector);
    let time = settings.restart.unwrap_or_default();
    more(settings.restart.is_some(), "graceful-restart", json!({ "enabled": true, "restart-time": time }));
    Ok(Value::Object(all))
}

fn family(settings: &Settings, neighbour: &Neighbour, family: Family) -> Value {
    let mut all = json!({ "config": { "afi-safi-name": format!("{family}-unicast") } });
    if settings.restart.is_some() {
        all["mp-graceful-restart"] = json!({ "config": { "enabled": true } });
    }
    if neighbour.add_path {
        all["add-paths"] = json!({ "config": { "receive": true, "send-max": 8 } });
    }
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn settings() -> Settings {
        Settings::new(65002, Ipv4Addr::new(10, 0, 0, 2))
    }

    #[test]
    fn all_that_can_be_asked_for_is_in_the_file() {
        let neighbour = Neighbour {
            password: Some("secret".into()),
            client: true,
            passive: true,
            ..Neighbour::new("192.168.77.11".parse().unwrap(), 65002)
        };
        let settings = Settings { restart: Some(60), multipath: Some(2), ..settings() };
        let text = text(&settings.with(neighbour)).unwrap();
        for line in [
            "router-id = \"10.0.0.2\"",
            "neighbor-address = \"192.168.77.11\"",
            "auth-password = \"secret\"",
            "route-reflector-client = true",
            "passive-mode = true",
            "restart-time = 60",
            "afi-safi-name = \"ipv4-unicast\"",
            "[global.use-multiple-paths.config]",
        ] {
            assert!(text.lines().any(|each| each == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn what_it_cannot_do_is_an_error_that_says_so() {
        let address = "192.168.77.11".parse().unwrap();
        let of = |neighbour: Neighbour| text(&settings().with(neighbour)).unwrap_err().to_string();
        assert!(of(Neighbour { bfd: true, ..Neighbour::new(address, 1) }).contains("no BFD"));
        assert!(of(Neighbour { client: true, ..Neighbour::new(address, 1) }).contains("external"));
        assert!(of(Neighbour { next_hop_self: true, ..Neighbour::new(address, 1) }).contains("policy"));
        let error = text(&Settings { kernel: true, ..settings() }).unwrap_err().to_string();
        assert!(error.contains("kernel"), "{error}");
    }
}
