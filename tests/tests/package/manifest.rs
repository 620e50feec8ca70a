//! The manifest for Kubernetes, held against the types of its API and against the programs that it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PodSpec, ServiceAccount};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;
use twill_conf::node::{CNI_BIN_DIR, CNI_CONF_DIR, MACHINE_ID_FILE, NODE_FILE, NodeLayer, RUN_DIR, STATE_DIR};
use twill_tests::binaries::Binaries;
use twill_tests::needs::{unmet, workspace};
use twill_tests::{LabError, Result};

/// The manifest's objects by kind; of each there is one.
fn objects() -> Result<BTreeMap<String, Value>> {
    let path = workspace().join("conf/samples/kubernetes/twill.yaml");
    let text = fs::read_to_string(&path).map_err(LabError::io(format!("reading {}", path.display())))?;
    let mut objects = BTreeMap::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let object = Value::deserialize(document).map_err(wrong)?;
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        assert!(objects.insert(kind.clone(), object).is_none(), "two objects of kind {kind}");
    }
    Ok(objects)
}

fn wrong(error: impl std::fmt::Display) -> LabError {
    LabError::wrong(format!("the manifest: {error}"))
}

/// Reads an object as `T`, which passes over fields that it does not know: so what it knows has to be all of it.
fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> Result<T> {
    let read = T::deserialize(object).map_err(wrong)?;
    let known = serde_json::to_value(&read).map_err(wrong)?;
    match unknown(object, &known, "") {
        None => Ok(read),
        Some(field) => Err(wrong(format!("the API has no field {field}"))),
    }
}

/// The first field of `written` that `known` does not have.
fn unknown(written: &Value, known: &Value, place: &str) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
            let place = format!("{place}.{key}");
            known.get(key).map_or_else(|| Some(place.clone()), |known| unknown(value, known, &place))
        }),
        (Value::Array(written), Value::Array(known)) if written.len() == known.len() => {
            written.iter().zip(known).enumerate().find_map(|(n, (a, b))| unknown(a, b, &format!("{place}[{n}]")))
        }
        _ if written == known => None,
        _ => Some(format!("{place}: {written}")),
    }
}

fn daemon_set() -> Result<(DaemonSet, PodSpec)> {
    let objects = objects()?;
    let set: DaemonSet = typed(&objects["DaemonSet"])?;
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).ok_or_else(|| wrong("no pods"))?;
    Ok((set, pod))
}

#[test]
fn every_object_is_of_the_api_to_its_last_field() -> Result<()> {
    let mut objects = objects()?;
    assert_eq!(
        objects.keys().map(String::as_str).collect::<Vec<_>>(),
        ["ConfigMap", "DaemonSet", "Namespace", "ServiceAccount"]
    );
    typed::<Namespace>(&objects["Namespace"])?;
    typed::<ConfigMap>(&objects["ConfigMap"])?;
    let account: ServiceAccount = typed(&objects["ServiceAccount"])?;
    assert_eq!(account.automount_service_account_token, Some(false), "nothing of Twill's needs the API server");
    typed::<DaemonSet>(&objects["DaemonSet"])?;
    // A field that there is not is found, at whatever depth.
    let set = objects.get_mut("DaemonSet").ok_or_else(|| wrong("no DaemonSet"))?;
    set["spec"]["template"]["spec"]["containers"][1]["volumeMounts"][0]["mountPathh"] = "/x".into();
    let error = typed::<DaemonSet>(set).expect_err("a field that there is not is taken").to_string();
    assert!(error.contains(".spec.template.spec.containers[1].volumeMounts[0].mountPathh"), "{error}");
    Ok(())
}

#[test]
fn the_daemon_set_runs_everywhere_first_of_all_and_in_the_nodes_network() -> Result<()> {
    let (set, pod) = daemon_set()?;
    let spec = set.spec.ok_or_else(|| wrong("no spec"))?;
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels);
    assert_eq!(spec.selector.match_labels, labels, "the set finds its pods");
    assert_eq!((pod.host_network, pod.priority_class_name.as_deref()), (Some(true), Some("system-node-critical")));
    let tolerations = pod.tolerations.clone().unwrap_or_default();
    assert!(
        tolerations.iter().any(|t| t.operator.as_deref() == Some("Exists") && t.key.is_none() && t.effect.is_none())
    );
    assert_eq!(pod.automount_service_account_token, Some(false));
    let daemon = container(&pod, "twilld")?;
    let name = daemon.env.iter().flatten().find(|variable| variable.name == "TWILLD_NODE_NAME");
    let field = name.and_then(|name| name.value_from.clone()?.field_ref).map(|field| field.field_path);
    assert_eq!(field.as_deref(), Some("spec.nodeName"));
    let version = env!("CARGO_PKG_VERSION");
    for container in &pod.containers {
        let image = container.image.as_deref().unwrap_or_default();
        assert!(image.ends_with(&format!("/twill:{version}")), "{image} is not of version {version}");
    }
    Ok(())
}

fn container<'a>(pod: &'a PodSpec, name: &str) -> Result<&'a Container> {
    pod.containers.iter().find(|container| container.name == name).ok_or_else(|| wrong(format!("no container {name}")))
}

/// Where a container has what of the node: by path on the node, the path in it.
fn host_paths(pod: &PodSpec, container: &Container) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        assert!(volume.is_some(), "{} has no volume {}", container.name, mount.name);
        if let Some(host) = volume.and_then(|volume| volume.host_path.as_ref()) {
            paths.insert(host.path.clone(), mount.mount_path.clone());
        }
    }
    paths
}

#[test]
fn the_containers_have_of_the_node_what_the_programs_use_by_default() -> Result<()> {
    if let Some(why) = unmet() {
        twill_tests::needs::say_skipped(&why);
        return Ok(());
    }
    let (_, pod) = daemon_set()?;
    let (daemon, install) = (container(&pod, "twilld")?, container(&pod, "install")?);
    let of_daemon = host_paths(&pod, daemon);
    for path in [RUN_DIR, STATE_DIR, MACHINE_ID_FILE, "/run/netns", CNI_BIN_DIR, CNI_CONF_DIR] {
        assert_eq!(of_daemon.get(path).map(String::as_str), Some(path), "{of_daemon:?}");
    }
    // What trials attach their pods by, and what the doctor looks at.
    for path in [CNI_BIN_DIR, CNI_CONF_DIR] {
        let mount = daemon.volume_mounts.iter().flatten().find(|mount| mount.mount_path == path);
        assert_eq!(mount.and_then(|mount| mount.read_only), Some(true), "{path}");
    }
    // The root of the image cannot be written, and programs that the daemon starts want a place for what they write for a while.
    let scratch = daemon.volume_mounts.iter().flatten().find(|mount| mount.mount_path == "/tmp");
    let volume = pod.volumes.iter().flatten().find(|volume| scratch.is_some_and(|mount| mount.name == volume.name));
    assert!(volume.is_some_and(|volume| volume.empty_dir.is_some()), "{:?}", pod.volumes);
    let of_install = host_paths(&pod, install);
    assert_eq!(of_install.get(RUN_DIR).map(String::as_str), Some(RUN_DIR));
    let help = help(&["install".to_owned()])?;
    for path in [CNI_BIN_DIR, CNI_CONF_DIR] {
        assert!(help.contains(&format!("[default: as the daemon's, {path}]")), "{help}");
        assert_eq!(of_install.get(path).map(String::as_str), Some(path), "{of_install:?}");
    }
    let netns = daemon.volume_mounts.iter().flatten().find(|mount| mount.mount_path == "/run/netns");
    let propagation = netns.and_then(|mount| mount.mount_propagation.as_deref());
    assert_eq!(propagation, Some("HostToContainer"), "a pod that comes later would not be seen");
    Ok(())
}

/// What the daemon's own parser says to these words, with `--help` behind them: help, where it accepts the words.
fn help(words: &[String]) -> Result<String> {
    let mut command = Command::new(Binaries::ready()?.daemon());
    command.args(words).arg("--help");
    let output = command.output().map_err(LabError::io("running twilld"))?;
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_programs_accept_what_the_manifest_says_to_them() -> Result<()> {
    if let Some(why) = unmet() {
        twill_tests::needs::say_skipped(&why);
        return Ok(());
    }
    let (_, pod) = daemon_set()?;
    for container in &pod.containers {
        let words = [container.command.clone(), container.args.clone()].into_iter().flatten().flatten();
        let words: Vec<String> = words.collect();
        let (program, rest) = words.split_first().ok_or_else(|| wrong("a container without a command"))?;
        assert_eq!(program, "twilld");
        help(rest)?;
        let variables = container.env.iter().flatten().map(|variable| (variable.name.clone(), "n1".to_owned()));
        NodeLayer::from_environment(variables).map_err(wrong)?;
    }
    assert!(help(&["install".to_owned(), "--stays".to_owned()]).is_err(), "a flag that there is not is accepted");
    Ok(())
}

#[test]
fn the_configuration_is_read_where_it_is_mounted_and_agrees_with_the_probes_and_the_secret() -> Result<()> {
    let (_, pod) = daemon_set()?;
    let daemon = container(&pod, "twilld")?;
    let map: ConfigMap = typed(&objects()?["ConfigMap"])?;
    let (file, text) = map.data.into_iter().flatten().next().ok_or_else(|| wrong("an empty ConfigMap"))?;
    let mount_of = |volume: &str| {
        let mounts = daemon.volume_mounts.iter().flatten();
        mounts.clone().find(|mount| mount.name == volume).map(|mount| mount.mount_path.clone()).unwrap_or_default()
    };
    assert_eq!(Path::new(&mount_of("config")).join(file), Path::new(NODE_FILE));

    let scratch = tempfile::tempdir().map_err(LabError::io("making a directory"))?;
    let path = scratch.path().join("twilld.toml");
    fs::write(&path, &text).map_err(LabError::io("writing the configuration"))?;
    let layer = NodeLayer::from_file(Some(&path)).map_err(wrong)?;
    let metrics = layer.metrics.ok_or_else(|| wrong("no metrics, which the probes ask"))?;
    for (probe, page) in [(&daemon.liveness_probe, "/healthz"), (&daemon.readiness_probe, "/readyz")] {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).ok_or_else(|| wrong("no probe"))?;
        let port = serde_json::to_value(&get.port).map_err(wrong)?;
        assert_eq!(get.path.as_deref(), Some(page));
        assert_eq!((get.host.clone(), port), (Some(metrics.ip().to_string()), Value::from(metrics.port())));
    }
    // Of the secret's files, which are those of a `kubernetes.io/tls` secret and the CA, each that is named is in it.
    let secret = mount_of("etcd");
    let named = text.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix('"'));
    let files: Vec<_> = named.filter(|value| value.starts_with('/')).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&format!("{secret}/")).unwrap_or_default();
        assert!(["ca.crt", "tls.crt", "tls.key"].contains(&name), "{file} is not in the secret, which is at {secret}");
    }
    Ok(())
}
