//! What is taken, and what it comes to mean.

#[path = "accepted/bgp.rs"]
mod bgp;

use std::path::Path;

use serde_json::json;
use twill_conf::cluster::{ClusterConf, Given};
use twill_conf::network::{NetworkConf, Requested};
use twill_conf::node::{EtcdConf, IdentityFiles, Login, NodeLayer, Setting, TlsFiles};

fn environment(variables: &[(&str, &str)]) -> NodeLayer {
    NodeLayer::from_environment(variables.iter().copied()).expect("every variable is right")
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file =
        "node_name = 'file'\netcd = ['http://file:1']\nprefix = '/file/'\nrun_dir = '/file'\nlabels.zone = 'file'";
    let file = NodeLayer::from_toml(file).unwrap();
    let variables = environment(&[
        ("TWILLD_NODE_NAME", "environment"),
        ("TWILLD_ETCD", "http://environment:1,http://environment:2"),
        ("TWILLD_PREFIX", "/environment/"),
        ("PATH", "/bin"),
    ]);
    let mut flags = NodeLayer::default();
    flags.set(Setting::NodeName, &Setting::NodeName.flag(), "flag").unwrap();
    flags.set(Setting::Underlay, &Setting::Underlay.flag(), "eth7").unwrap();

    let conf = file.overlay(variables).overlay(flags).resolve("host").unwrap();
    assert_eq!(conf.node_name.as_str(), "flag");
    assert_eq!(conf.etcd.endpoints, ["http://environment:1", "http://environment:2"]);
    assert_eq!(conf.prefix, "/environment/");
    assert_eq!(conf.run_dir, Path::new("/file"));
    assert_eq!(conf.labels["zone"], "file");
    assert_eq!(conf.underlay.both, Some("eth7".parse().unwrap()));
    assert_eq!(conf.state_dir, Path::new("/var/lib/twill"));
    assert_eq!(conf.machine_id_file, Path::new("/etc/machine-id"));
    assert_eq!(conf.cni.plugin(), Path::new("/opt/cni/bin/twill"));
    assert_eq!(conf.cni.conf, Path::new("/etc/cni/net.d"));
    assert_eq!(conf.log, "info");
}

#[test]
fn every_setting_has_a_key_a_flag_and_a_variable_that_set_it() {
    for setting in Setting::ALL {
        let text = match setting {
            Setting::NodeName | Setting::EtcdUser => "x",
            Setting::Underlay | Setting::UnderlayIpv4 | Setting::UnderlayIpv6 => "x*",
            Setting::EtcdCa | Setting::EtcdCert | Setting::EtcdKey | Setting::EtcdPasswordFile => "/x",
            Setting::Log => "debug",
            Setting::Metrics => "[::]:9477",
            Setting::Etcd => "http://x:1",
            Setting::Prefix => "/x/",
            Setting::RunDir | Setting::StateDir | Setting::MachineIdFile | Setting::CniBinDir | Setting::CniConfDir => {
                "/x"
            }
            Setting::Labels => "a=b",
        };
        let mut by_flag = NodeLayer::default();
        by_flag.set(setting, &setting.flag(), text).unwrap();
        assert_ne!(by_flag, NodeLayer::default(), "{setting:?}");
        assert_eq!(by_flag, environment(&[(&setting.variable(), text)]), "{setting:?}");
        assert_eq!(NodeLayer::default().overlay(by_flag.clone()), by_flag, "{setting:?}");
        assert_eq!(by_flag.clone().overlay(NodeLayer::default()), by_flag, "{setting:?}");
    }
    assert_eq!((Setting::RunDir.flag(), Setting::RunDir.variable()), ("--run-dir".into(), "TWILLD_RUN_DIR".into()));
}

#[test]
fn the_host_name_stands_in_for_the_node_name_in_lower_case() {
    let layer = environment(&[("TWILLD_ETCD", "http://a:1")]);
    assert_eq!(layer.resolve("Node-1.Example").unwrap().node_name.as_str(), "node-1.example");
}

#[test]
fn empty_variables_and_those_of_a_service_of_our_name_are_passed_over() {
    let layer = environment(&[
        ("TWILLD_NODE_NAME", ""),
        ("TWILLD_CONFIG", "/etc/x"),
        ("TWILLD_PORT", "tcp://10.96.0.7:9100"),
        ("TWILLD_PORT_9100_TCP_ADDR", "10.96.0.7"),
        ("TWILLD_SERVICE_HOST", "10.96.0.7"),
    ]);
    assert_eq!(layer, NodeLayer::default());
}

#[test]
fn a_file_that_is_named_must_be_there_and_is_named_in_its_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("twilld.toml");
    let missing = NodeLayer::from_file(Some(&path)).unwrap_err().to_string();
    assert!(missing.starts_with(&format!("{}: No such file", path.display())), "{missing}");

    std::fs::write(&path, "log = 5").unwrap();
    let wrong = NodeLayer::from_file(Some(&path)).unwrap_err().to_string();
    assert_eq!(wrong, format!("{}: log: the integer 5 is not valid: a string", path.display()));

    std::fs::write(&path, "log = 'debug'").unwrap();
    assert_eq!(NodeLayer::from_file(Some(&path)).unwrap().log.as_deref(), Some("debug"));
}

#[test]
fn a_network_configuration_of_a_name_alone_has_the_defaults() {
    let conf = NetworkConf::from_json(br#"{"name":"n"}"#).unwrap();
    assert_eq!((conf.cni_version.as_str(), conf.name.as_str()), ("0.1.0", "n"));
    assert_eq!(conf.run_dir, Path::new("/run/twill"));
    assert!(conf.subnets.is_empty() && conf.pools.is_empty() && conf.mtu.is_none() && conf.prev_result.is_none());
}

#[test]
fn everything_that_a_runtime_sends_and_that_asks_for_nothing_is_taken() {
    let result = json!({"cniVersion": "1.0.0", "ips": []});
    let conf = json!({
        "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "n", "type": "twill", "runDir": "/run/other",
        "pools": ["a", "b"], "mtu": 1400, "spoofCheck": true, "hostEndFilter": true, "prevResult": result, "ipam": {}, "dns": {"nameservers": []}, "ipMasq": false,
        "capabilities": {"portMappings": false}, "routes": [],
        "runtimeConfig": {"portMappings": [], "mac": "", "ips": [""], "dns": {}, "bandwidth": {"ingressRate": 0},
            "aliases": {"n": ["web"]}, "cgroupPath": "/pod", "io.kubernetes.cri.pod-annotations": {"a": "b"}, "x": 1},
        "args": {"cni": {"labels": [{"key": "a", "value": "b"}], "ips": []}}, "disableCheck": false, "disableGC": true,
        "loadOnlyInlinedPlugins": false, "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}],
        "cni.dev/attachments": null,
    });
    let conf = NetworkConf::from_json(conf.to_string().as_bytes()).unwrap();
    assert_eq!(conf.run_dir, Path::new("/run/other"));
    assert_eq!(conf.pools.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((conf.mtu, conf.prev_result), (Some(1400), Some(result)));
    assert_eq!((conf.requested, conf.routes, conf.dns), (Requested::default(), vec![], None));
}

#[test]
fn pods_are_held_to_their_own_addresses_unless_their_network_says_otherwise() {
    let spoof_check = |json: &[u8]| NetworkConf::from_json(json).unwrap().spoof_check;
    assert!(spoof_check(br#"{"name":"n"}"#));
    assert!(!spoof_check(br#"{"name":"n","spoofCheck":false}"#));
    let filter = |json: &[u8]| NetworkConf::from_json(json).unwrap().host_end_filter;
    assert!(!filter(br#"{"name":"n"}"#) && filter(br#"{"name":"n","hostEndFilter":true}"#));
}

#[test]
fn several_subnets_of_a_family_are_taken() {
    let json = br#"{"name":"n","subnets":["10.0.0.0/24","10.0.1.0/24","fd00::/64","fd00:0:0:1::/64"],"mtu":1280}"#;
    assert_eq!(NetworkConf::from_json(json).unwrap().subnets.len(), 4);
}

#[test]
fn a_delete_needs_the_identity_alone() {
    let json = br#"{"name":"n","cniVersion":"0.4.0","runDir":"/run/other","subnets":"rubbish","mtu":-1,"pools":7,
                    "ipam":{"type":"x"},"unknown":1,"prevResult":"rubbish","args":5}"#;
    assert!(NetworkConf::from_json(json).is_err());
    let conf = NetworkConf::for_delete(json).unwrap();
    assert_eq!((conf.name.as_str(), conf.cni_version.as_str()), ("n", "0.4.0"));
    assert_eq!(conf.run_dir, Path::new("/run/other"));
    assert!(conf.subnets.is_empty() && conf.prev_result.is_none());
    assert!(NetworkConf::for_delete(br#"{"cniVersion":"0.4.0"}"#).is_err(), "without a name nobody knows whose it is");
}

#[test]
fn the_version_for_an_error_is_found_in_a_refused_document() {
    assert_eq!(NetworkConf::version_of(br#"{"cniVersion":"0.4.0","subnets":5}"#).unwrap().as_deref(), Some("0.4.0"));
    for none in ["{}", r#"{"cniVersion":""}"#, r#"{"cniVersion":null}"#] {
        assert_eq!(NetworkConf::version_of(none.as_bytes()).unwrap(), None);
    }
    assert!(NetworkConf::version_of(br#"{"cniVersion":1}"#).is_err());
    assert!(NetworkConf::version_of(b"{").is_err());
}

#[test]
fn tls_and_a_user_are_taken_from_wherever_each_part_is_named() {
    let file =
        "etcd = ['https://a:1', 'https://[fd00::1]:2']\netcd_ca = '/ca'\netcd_user = 'n1'\netcd_password_file = '/p'";
    let variables = environment(&[("TWILLD_ETCD_CERT", "/c"), ("TWILLD_ETCD_KEY", "/k")]);
    let conf = NodeLayer::from_toml(file).unwrap().overlay(variables).resolve("h").unwrap();
    let wanted = EtcdConf {
        endpoints: vec!["https://a:1".into(), "https://[fd00::1]:2".into()],
        tls: Some(TlsFiles { ca: "/ca".into(), identity: Some(IdentityFiles { cert: "/c".into(), key: "/k".into() }) }),
        login: Some(Login { user: "n1".into(), password_file: "/p".into() }),
    };
    assert_eq!(conf.etcd, wanted);
    let loopback = "etcd = ['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost:1']\netcd_user = 'u'\netcd_password_file = '/p'";
    assert!(NodeLayer::from_toml(loopback).unwrap().resolve("h").unwrap().etcd.login.is_some());
}

#[test]
fn a_pool_is_for_the_nodes_that_its_selector_says_and_for_all_without_one() {
    let toml = "[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\nnodes = \"zone == 'a'\"\n\
                [[pool]]\nname = 'b'\ncidr = '10.43.0.0/16'\n\
                [[pool]]\nname = 'c'\ncidr = '10.44.0.0/16'\nnodes = \"zone == 'a'\"\ndisabled = true";
    let conf = ClusterConf::from_toml(toml).unwrap();
    let given = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        conf.pools.iter().map(|pool| pool.given(&labels)).collect::<Vec<_>>()
    };
    assert_eq!(given(&[("zone", "a")]), [Given::Default, Given::Default, Given::Nobody]);
    assert_eq!(given(&[]), [Given::Named, Given::Default, Given::Nobody]);
}

#[test]
fn a_configuration_without_the_newer_keys_is_the_same_bytes_as_before_they_came() {
    let old = r#"{"pool":[{"name":"a","cidr":"10.42.0.0/16","block":26,"masquerade":true}],"backend":{"type":"vxlan","vni":7777,"port":4789}}"#;
    let conf = ClusterConf::from_json(old.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(conf.to_json()).unwrap(), old);
}
