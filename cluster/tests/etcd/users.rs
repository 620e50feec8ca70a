//! Users and roles: what a node may do, what it is told where it may not, and logins that etcd forgets.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use twill_cluster::inquiry::client::Client;
use twill_cluster::inquiry::desk::Desk;
use twill_cluster::inquiry::{self, AnswerRecord, Ask, Reply};
use twill_cluster::mirror::{self, Mirror};
use twill_cluster::record::Content;
use twill_cluster::store::{Event, Range, Store, StoreError};
use twill_cluster::txn::{Compare, Op, Outcome, Txn};
use twill_cluster::{Census, EtcdStore};
use twill_conf::NodeName;
use twill_conf::node::{EtcdConf, Login};
use twill_ipam::BootTime;
use twill_testkit::certificates::replace;

use crate::server::Server;
use crate::{join, keys, next, put_config, puts, snapshot};

const ROOT: &str = "--user=root:of all";

/// An etcd on loopback with users: root, and n1 with the role of a node.
struct WithUsers {
    server: Server,
    dir: TempDir,
}

impl WithUsers {
    async fn start(words: &[&str]) -> Option<Self> {
        let mut server = Server::start_with(words).await?;
        let dir = tempfile::tempdir().unwrap();
        put_config(&server.store()).await;
        let certificate = twill_testkit::commands_of("etcd.md", "a node by certificate");
        let role: String =
            certificate.lines().filter(|line| line.contains(" role ")).map(|line| format!("{line}\n")).collect();
        server.run_shell("the role of a node", &role, dir.path(), &[("NODE", "n1")]);
        server.run_document("a node by password", dir.path(), &[("NODE", "n1"), ("PASSWORD", "secret of n1")]);
        server.etcdctl(&["user", "add", "root:of all"]);
        server.etcdctl(&["user", "grant-role", "root", "root"]);
        server.etcdctl(&["auth", "enable"]);
        replace(&dir.path().join("root"), "of all\n");
        replace(&dir.path().join("n1"), "secret of n1\nwhat stands below is no matter");
        let url = server.url().to_owned();
        *server.conf() = Some(conf(&url, "root", &dir.path().join("root")));
        Some(Self { server, dir })
    }

    fn store(&self, user: &str, file: &str) -> EtcdStore {
        EtcdStore::open(&conf(self.server.url(), user, &self.dir.path().join(file)), "/twill/v1/").unwrap()
    }
}

fn conf(url: &str, user: &str, password_file: &Path) -> EtcdConf {
    let login = Some(Login { user: user.into(), password_file: password_file.into() });
    EtcdConf { endpoints: vec![url.into()], tls: None, login }
}

async fn writes(store: &EtcdStore, key: &str) -> bool {
    matches!(store.commit(&puts(&[key])).await, Ok(Outcome::Done(_)))
}

#[tokio::test]
async fn the_role_of_a_node_suffices_for_a_node_and_for_nothing_else() {
    let Some(etcd) = WithUsers::start(&[]).await else { return };
    let store = etcd.store("n1", "n1");
    let block = join(store.clone(), "n1".into()).await;
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    assert!(store.renew(lease).await.unwrap());
    assert!(writes(&store, "alive/n1").await && store.read(&Range::key("alive/n1")).await.is_ok());
    assert!(writes(&store, "addresses/n1/4/0a2a0000-26").await, "the mirror of {block}");

    assert!(writes(&store, "answers/n1/a-1").await);
    assert!(store.read(&twill_cluster::inquiry::requests_to(&"n1".parse().unwrap())).await.is_ok());
    let requests = ["requests/n1/a-1", "requests/n2/a-1", "answers/n2/a-1"];
    let others = ["nodes/n10", "nodes/n2", "config", "alive/n2", "addresses/n2/4/0a2a0000-26"];
    for key in others.into_iter().chain(requests) {
        let denied = store.commit(&puts(&[key])).await.unwrap_err();
        assert!(matches!(denied, StoreError::Unavailable { .. }), "{denied:?}");
        let words = format!("permission denied: this writes /twill/v1/{key}, and no role of user n1 allows");
        assert!(denied.to_string().contains(&words), "{denied}");
    }
    let denied = store.read(&Range::prefix("alive/")).await.unwrap_err().to_string();
    assert!(denied.contains("this reads /twill/v1/alive/ to /twill/v1/alive0"), "{denied}");
    let mut events = store.watch(Range { start: "addresses/".into(), end: "blocks0".into() });
    let Event::Lost(denied) = next(&mut events).await else { panic!("a watch that is denied says so") };
    assert!(denied.contains("permission denied"), "{denied}");
}

#[tokio::test]
async fn a_node_answers_an_operator_with_its_role_and_mirrors_what_it_gave_out() {
    let Some(etcd) = WithUsers::start(&[]).await else { return };
    let me: NodeName = "n1".parse().unwrap();
    let (node, operator) = (etcd.store("n1", "n1"), etcd.store("root", "root"));
    let block = join(node.clone(), "n1".into()).await;
    // Who shows no sign of life is not asked.
    assert!(writes(&node, "alive/n1").await);
    let served = tokio::spawn({
        let (node, me) = (node.clone(), me.clone());
        async move {
            let mut desk = Desk::new(&me);
            let mut events = node.watch(inquiry::requests_to(&me));
            loop {
                desk.hear(events.recv().await.unwrap());
                while let Some(letter) = desk.next(BootTime::now()) {
                    let Ok(request) = inquiry::read_ask(&letter.value) else { panic!("{letter:?}") };
                    assert_eq!(request.ask, Ask::Drain { on: true });
                    let reply = AnswerRecord { version: "7".into(), reply: Reply::Drain { on: true } };
                    let lease = Some(node.grant(Duration::from_secs(60)).await.unwrap());
                    let (key, value) = (inquiry::answer_key(&me, &letter.id), serde_json::to_vec(&reply).unwrap());
                    let stands =
                        Compare::Modified { key: inquiry::request_key(&me, &letter.id), revision: letter.revision };
                    let txn = Txn { when: vec![stands], then: vec![Op::Put { key, value, lease }] };
                    assert!(matches!(node.commit(&txn).await, Ok(Outcome::Done(_))));
                }
            }
        }
    });
    let mut client = Client::new("00ff".into(), "a test".into(), Duration::from_secs(20));
    let answer = client.ask_one(&operator, &me, Ask::Drain { on: true }).await;
    assert_eq!(answer, Ok(Reply::Drain { on: true }));
    served.abort();
    for range in ["requests/", "answers/"] {
        assert_eq!(operator.read(&Range::prefix(range)).await.unwrap().entries, [], "nothing is left in {range}");
    }

    let census = Census::read(&operator).await.unwrap();
    let mut mirror = Mirror::new(me.clone(), "run".into());
    mirror.step(mirror::Input::Epoch(Some(census.view.nodes[&me].created)), BootTime::default());
    mirror.step(mirror::Input::View(Arc::new(census.view)), BootTime::default());
    let given = Content { cools_until: Some(7), ..Content::default() };
    let mut input = mirror::Input::Contents([(block, given.clone())].into());
    // The first write of a run waits a second at most; then a read and a write.
    for now in [2, 3, 4] {
        let outputs = mirror.step(input.clone(), BootTime(Duration::from_secs(now)));
        let Some(mirror::Output::Order(order)) = outputs.first() else { break };
        input = mirror::Input::Answer(order.perform(&node).await, Duration::ZERO);
    }
    assert!(matches!(input, mirror::Input::Answer(mirror::Answer::Written(_), _)), "{input:?}");
    assert_eq!(Census::read(&operator).await.unwrap().content(block), Some(&given));
}

/// How many logins etcd has refused, by its own count.
async fn refused_logins(url: &str) -> u32 {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let wanted = r#"grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Authenticate""#;
    let line = text.lines().find(|line| line.starts_with(wanted)).expect("etcd counts them");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_user_that_etcd_does_not_take_is_told_without_the_password_until_the_file_is_right() {
    let Some(etcd) = WithUsers::start(&[]).await else { return };
    replace(&etcd.dir.path().join("late"), "not the secret\n");
    let store = etcd.store("n1", "late");
    for _ in 0..3 {
        let began = Instant::now();
        let refused = store.commit(&puts(&["nodes/n1"])).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
        let words =
            format!("etcd does not take user n1 with the password in {}", etcd.dir.path().join("late").display());
        assert!(refused.to_string().contains(&words) && !format!("{refused:?}").contains("secret"), "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert!(!format!("{store:?}").contains("secret"));
    assert_eq!(refused_logins(etcd.server.url()).await, 1, "a refused password is not tried over and over");
    replace(&etcd.dir.path().join("late"), "secret of n1");
    assert!(writes(&store, "nodes/n1").await, "the new password is used at once");

    // Changed in the file first, under a login that stands.
    replace(&etcd.dir.path().join("late"), "the next secret");
    assert!(writes(&store, "nodes/n1").await, "the login goes on that stands");
}

#[tokio::test]
async fn etcd_with_users_wants_one_and_etcd_without_wants_none() {
    let Some(etcd) = WithUsers::start(&[]).await else { return };
    let nobody = EtcdStore::connect(&[etcd.server.url().to_owned()], "/twill/v1/").unwrap();
    let told = nobody.read(&Range::watched()).await.unwrap_err().to_string();
    assert!(told.contains("etcd wants to know who asks: give etcd_user"), "{told}");
    etcd.server.etcdctl(&[ROOT, "auth", "disable"]);
    let told = etcd.store("n1", "n1").read(&Range::watched()).await.unwrap_err().to_string();
    assert!(told.contains("etcd has no users, since its authentication is off"), "{told}");
    replace(&etcd.dir.path().join("empty"), "\n");
    let told = etcd.store("n1", "empty").read(&Range::watched()).await.unwrap_err().to_string();
    assert!(told.contains("its first line is empty"), "{told}");
}

/// A way to etcd that can be cut without etcd's knowing.
async fn cuttable(server: &Server) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = server.url().trim_start_matches("http://").to_owned();
    let (switch, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let (target, mut is_open) = (target.clone(), is_open.clone());
            tokio::spawn(async move {
                let mut there = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = is_open.wait_for(|is_open| !is_open) => {}
                    _ = copy_bidirectional(&mut here, &mut there) => {}
                }
            });
        }
    });
    (url, switch)
}

#[tokio::test]
async fn a_login_that_has_run_out_is_renewed_by_the_watch_and_by_requests() {
    let Some(etcd) = WithUsers::start(&["--auth-token-ttl=1"]).await else { return };
    let (url, switch) = cuttable(&etcd.server).await;
    let store = EtcdStore::open(&conf(&url, "n1", &etcd.dir.path().join("n1")), "/twill/v1/").unwrap();
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    for round in 0..2 {
        switch.send_replace(false);
        assert!(matches!(next(&mut events).await, Event::Lost(_)));
        // Nothing tells when etcd forgets a login that nobody uses: after its time, and a second at most.
        tokio::time::sleep(Duration::from_secs(3)).await;
        switch.send_replace(true);
        // Nothing but the watch speaks to it at first.
        let back = next(&mut events).await;
        assert!(matches!(back, Event::Delta(_)), "{back:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(writes(&store, "nodes/n1").await, "round {round}");
        while !matches!(next(&mut events).await, Event::Delta(delta) if keys(&delta) == ["nodes/n1"]) {}
    }
}

#[tokio::test]
async fn signed_tokens_that_run_out_or_are_older_than_the_roles_are_renewed() {
    if !twill_testkit::has_program("openssl") {
        return;
    }
    let keys_dir = tempfile::tempdir().unwrap();
    let (private, public) = (keys_dir.path().join("jwt.key"), keys_dir.path().join("jwt.pub"));
    let openssl = |words: &[&str]| assert!(Command::new("openssl").args(words).output().unwrap().status.success());
    openssl(&["genrsa", "-out", &private.display().to_string(), "2048"]);
    openssl(&["rsa", "-in", &private.display().to_string(), "-pubout", "-out", &public.display().to_string()]);
    let token = format!(
        "--auth-token=jwt,pub-key={},priv-key={},sign-method=RS256,ttl=2s",
        public.display(),
        private.display()
    );
    let Some(etcd) = WithUsers::start(&[&token]).await else { return };
    let store = etcd.store("n1", "n1");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert!(writes(&store, "nodes/n1").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for role in ["one", "two"] {
        etcd.server.etcdctl(&[ROOT, "role", "add", role]);
        assert!(writes(&store, "nodes/n1").await, "after role {role} came");
    }
}
