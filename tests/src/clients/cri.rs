//! A small client of the Container Runtime Interface: what a kubelet asks containerd for about a pod's sandbox.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::{LabError, Result};

/// The messages, of `proto/cri.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::runtime_service_client::RuntimeServiceClient;

/// Longer than a sandbox takes to come or to go.
const LONGEST: Duration = Duration::from_secs(60);

/// A connection to a runtime. Each call is one that a kubelet makes.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
}

/// What a pod asks for; the rest is as a kubelet fills it in.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// The pod's name.
    pub name: String,
    /// The pod's unique ID.
    pub uid: String,
    /// How often the sandbox was made before.
    pub attempt: u32,
    /// Published ports.
    pub ports: Vec<v1::PortMapping>,
    /// Annotations, among them those about bandwidth.
    pub annotations: Vec<(&'static str, String)>,
    /// The name servers.
    pub dns: Option<v1::DnsConfig>,
    /// Where its cgroups go.
    pub cgroup: String,
}

impl Sandbox {
    fn config(&self) -> v1::PodSandboxConfig {
        let metadata = v1::PodSandboxMetadata {
            name: self.name.clone(),
            uid: self.uid.clone(),
            namespace: "default".into(),
            attempt: self.attempt,
        };
        v1::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: self.name.clone(),
            dns_config: self.dns.clone(),
            port_mappings: self.ports.clone(),
            annotations: self.annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: self.cgroup.clone() }),
            ..v1::PodSandboxConfig::default()
        }
    }
}

impl Cri {
    /// Connects to a runtime's socket.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(LabError::io("starting a runtime for gRPC"))?;
        let wrong = |what: &str, error: tonic::transport::Error| LabError::wrong(format!("{what}: {error:?}"));
        let place = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(place.clone()).map_err(|e| wrong(&place, e))?.timeout(LONGEST);
        let channel = runtime.block_on(endpoint.connect()).map_err(|e| wrong(&place, e))?;
        Ok(Self { runtime, client: RuntimeServiceClient::new(channel) })
    }

    fn wait<T>(
        &mut self,
        what: &str,
        call: impl AsyncFnOnce(&mut RuntimeServiceClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T> {
        let answered = self.runtime.block_on(call(&mut self.client));
        answered
            .map(tonic::Response::into_inner)
            .map_err(|status| LabError::wrong(format!("{what}: {:?}: {}", status.code(), status.message())))
    }

    /// The runtime's name and version.
    pub fn version(&mut self) -> Result<v1::VersionResponse> {
        self.wait("Version", async |client| client.version(v1::VersionRequest::default()).await)
    }

    /// Whether the runtime has a network; if not, its own words for it.
    pub fn network_ready(&mut self) -> Result<Result<(), String>> {
        let status = self.wait("Status", async |client| client.status(v1::StatusRequest::default()).await)?;
        let conditions = status.status.map(|status| status.conditions).unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
        let found = found.ok_or_else(|| LabError::wrong("the runtime tells nothing about NetworkReady"))?;
        Ok(if found.status { Ok(()) } else { Err(found.message) })
    }

    /// Makes a sandbox; its ID.
    pub fn run(&mut self, sandbox: &Sandbox) -> Result<String> {
        let request = v1::RunPodSandboxRequest { config: Some(sandbox.config()) };
        let answer = self.wait("RunPodSandbox", async |client| client.run_pod_sandbox(request).await)?;
        Ok(answer.pod_sandbox_id)
    }

    /// What the runtime knows of a sandbox, with its addresses.
    pub fn status(&mut self, id: &str) -> Result<v1::PodSandboxStatus> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let answer = self.wait("PodSandboxStatus", async |client| client.pod_sandbox_status(request).await)?;
        answer.status.ok_or_else(|| LabError::wrong(format!("the sandbox {id} has no status")))
    }

    /// Ends a sandbox and its network.
    pub fn stop(&mut self, id: &str) -> Result<()> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.wait("StopPodSandbox", async |client| client.stop_pod_sandbox(request).await).map(drop)
    }

    /// Forgets a sandbox.
    pub fn remove(&mut self, id: &str) -> Result<()> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.wait("RemovePodSandbox", async |client| client.remove_pod_sandbox(request).await).map(drop)
    }
}
