//! TLS: what is taken, what is refused and how that is told, and certificates that are renewed on the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twill_cluster::EtcdStore;
use twill_cluster::store::{Event, Range, Store};
use twill_cluster::txn::Outcome;
use twill_conf::node::{EtcdConf, IdentityFiles, TlsFiles};
use twill_testkit::certificates::{Authority, Pair, replace};

use crate::server::Server;
use crate::{keys, next, puts, snapshot};

/// A server with TLS that wants certificates, and the directory of all files.
struct Secure {
    server: Server,
    authority: Authority,
    dir: TempDir,
}

impl Secure {
    async fn start() -> Option<Self> {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("the CA"));
        let ca = dir.path().join("ca.crt");
        replace(&ca, &authority.pem());
        authority.server(&["127.0.0.1"]).write(dir.path(), "server");
        let files = files(dir.path(), "ca.crt", Some(("root", authority.client("root"))));
        let words = words(dir.path());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let server = Server::start_secure(&words, files).await?;
        Some(Self { server, authority, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A store with the CA in this file and this certificate.
    fn store(&self, ca: &str, identity: Option<(&str, Pair)>) -> EtcdStore {
        self.store_at(self.server.url(), ca, identity)
    }

    fn store_at(&self, url: &str, ca: &str, identity: Option<(&str, Pair)>) -> EtcdStore {
        let tls = Some(files(self.dir.path(), ca, identity));
        EtcdStore::open(&EtcdConf { endpoints: vec![url.into()], tls, login: None }, "/twill/v1/").unwrap()
    }
}

fn words(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let (cert, key, ca) = (path("server.crt"), path("server.key"), path("ca.crt"));
    [&["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca][..]]
        .concat()
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

fn files(dir: &Path, ca: &str, identity: Option<(&str, Pair)>) -> TlsFiles {
    let identity = identity.map(|(name, pair)| pair.write(dir, name));
    TlsFiles { ca: dir.join(ca), identity: identity.map(|(cert, key)| IdentityFiles { cert, key }) }
}

/// A transaction and a read are refused with these words, which does not take long.
async fn refused(store: &EtcdStore, words: &str) {
    let began = Instant::now();
    let written = store.commit(&puts(&["nodes/never"])).await.unwrap_err().to_string();
    let read = store.read(&Range::watched()).await.unwrap_err().to_string();
    for text in [&written, &read] {
        assert!(text.contains(words), "{text}\n  lacks: {words}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}: {read}", began.elapsed());
}

#[tokio::test]
async fn with_a_certificate_everything_goes_as_without_tls() {
    let Some(secure) = Secure::start().await else { return };
    let store = secure.store("ca.crt", Some(("n1", secure.authority.client("n1"))));
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    assert!(matches!(store.commit(&puts(&["nodes/a"])).await, Ok(Outcome::Done(_))));
    let Event::Delta(delta) = next(&mut events).await else { panic!("a delta") };
    assert_eq!(keys(&delta), ["nodes/a"]);
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    assert!(store.renew(lease).await.unwrap());
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_with_its_file() {
    let Some(secure) = Secure::start().await else { return };
    let good = || Some(("n1", secure.authority.client("n1")));
    let foreign = Authority::new("another CA");
    replace(&secure.path("foreign.crt"), &foreign.pem());
    let path = |name: &str| secure.path(name).display().to_string();
    let address = secure.server.url().trim_start_matches("https://").to_owned();
    let by_name = secure.server.url().replace("127.0.0.1", "localhost");

    let cases = [
        (
            secure.store("foreign.crt", good()),
            format!("etcd's certificate is signed by none of the CAs in {}", path("foreign.crt")),
        ),
        (
            secure.store_at(&by_name, "ca.crt", good()),
            "etcd's certificate is not for localhost, but for 127.0.0.1".to_owned(),
        ),
        (secure.store("ca.crt", None), "give etcd_cert and etcd_key".to_owned()),
        (
            secure.store("ca.crt", Some(("stranger", foreign.client("n1")))),
            format!("etcd refuses the certificate in {} (alert", path("stranger.crt")),
        ),
        (
            secure.store("ca.crt", Some(("old", secure.authority.expired_client("n1")))),
            format!("etcd refuses the certificate in {}, which has expired 61 min ago", path("old.crt")),
        ),
        (secure.store("missing.crt", good()), format!("etcd_ca {}: No such file", path("missing.crt"))),
        (
            EtcdStore::connect(&[format!("http://{address}")], "/twill/v1/").unwrap(),
            "etcd wants TLS at that port: name it with https://".to_owned(),
        ),
    ];
    for (store, words) in cases {
        refused(&store, &words).await;
    }
}

#[tokio::test]
async fn an_expired_certificate_of_etcd_and_a_port_without_tls_are_told() {
    let Some(mut secure) = Secure::start().await else { return };
    let store = secure.store("ca.crt", Some(("n1", secure.authority.client("n1"))));
    // etcd reads its certificate anew at each handshake; its own health check is not ours to wait for.
    secure.authority.expired_server(&["127.0.0.1"]).write(secure.dir.path(), "server");
    refused(&store, "etcd's certificate has expired 61 min ago, or the clock").await;

    secure.server.kill();
    let Some(plain) = Server::start().await else { return };
    let store = secure.store_at(&plain.url().replace("http://", "https://"), "ca.crt", None);
    refused(&store, "does etcd listen with https:// there?").await;
}

#[tokio::test]
async fn files_that_cannot_serve_are_told_and_do_not_take_the_place_of_what_is_in_use() {
    let Some(secure) = Secure::start().await else { return };
    let path = |name: &str| secure.path(name).display().to_string();
    let store = secure.store("ca.crt", Some(("n1", secure.authority.client("n1"))));
    let writes = async || matches!(store.commit(&puts(&["nodes/a"])).await, Ok(Outcome::Done(_)));
    assert!(writes().await);
    let (cert, key) = (secure.path("n1.crt"), secure.path("n1.key"));
    for (file, text, words) in [
        (&cert, "", format!("etcd_cert {}: there is no certificate in it", path("n1.crt"))),
        (&key, "rubbish", format!("etcd_key {}: there is no private key in it", path("n1.key"))),
        (
            &key,
            &secure.authority.client("n1").key,
            format!("etcd_key {}: it is not the key of the certificate in {}", path("n1.key"), path("n1.crt")),
        ),
    ] {
        let before = std::fs::read_to_string(file).unwrap();
        replace(file, text);
        assert!(writes().await, "what was read before is used on: {words}");
        let identity = Some(IdentityFiles { cert: cert.clone(), key: key.clone() });
        let tls = Some(TlsFiles { ca: secure.path("ca.crt"), identity });
        let conf = EtcdConf { endpoints: vec![secure.server.url().into()], tls, login: None };
        refused(&EtcdStore::open(&conf, "/twill/v1/").unwrap(), &words).await;
        replace(file, &before);
    }
}

#[tokio::test]
async fn certificates_that_are_renewed_while_it_runs_are_used_from_the_next_connection_on() {
    let Some(mut secure) = Secure::start().await else { return };
    let store = secure.store("ca.crt", Some(("n1", secure.authority.client("n1"))));
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    // Two renewals by another CA each: with what it had before, nothing would get through.
    for round in ["one", "two"] {
        let authority = Authority::new(round);
        secure.server.kill();
        assert!(matches!(next(&mut events).await, Event::Lost(_)));
        replace(&secure.path("ca.crt"), &authority.pem());
        authority.server(&["127.0.0.1"]).write(secure.dir.path(), "server");
        authority.client("root").write(secure.dir.path(), "root");
        secure.server.run().await;
        // Not renewed yet, it is refused, and told why; the watch meets the same.
        refused(&store, "etcd refuses the certificate in").await;
        authority.client("n1").write(secure.dir.path(), "n1");
        let key = format!("nodes/{round}");
        assert!(matches!(store.commit(&puts(&[&key])).await, Ok(Outcome::Done(_))));
        let mut seen = Vec::new();
        while seen.is_empty() {
            match next(&mut events).await {
                Event::Delta(delta) => seen = keys(&delta),
                Event::Lost(cause) => panic!("told twice: {cause}"),
                other => panic!("nothing was missed: {other:?}"),
            }
        }
        assert_eq!(seen, [key]);
    }
}

#[tokio::test]
async fn the_certificates_that_the_document_makes_are_taken() {
    if !twill_testkit::has_program("openssl") {
        return;
    }
    let Some(plain) = Server::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    plain.run_document("certificates", dir.path(), &[("NAMES", "IP:127.0.0.1,DNS:etcd-1.example"), ("NODE", "n1")]);
    drop(plain);
    let path = |name: &str| dir.path().join(name);
    for ending in ["crt", "key"] {
        std::fs::rename(path(&format!("etcd.{ending}")), path(&format!("server.{ending}"))).unwrap();
    }
    let identity = Some(IdentityFiles { cert: path("n1.crt"), key: path("n1.key") });
    let words = words(dir.path());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let files = TlsFiles { ca: path("ca.crt"), identity };
    let server = Server::start_secure(&words, files).await.expect("etcd is installed");
    assert!(matches!(server.store().commit(&puts(&["nodes/n1"])).await, Ok(Outcome::Done(_))));
}
