//! Who is asked, what answers, and what does not.

use super::*;

const WORD: [u8; 8] = *b"whatever";

#[test]
fn who_has_no_way_there_takes_nobody_elses_answer_for_its_own() {
    let Some(namespaces) = twill_testkit::Namespaces::claim() else { return };
    namespaces.add("node");
    let name = namespaces.name("node");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["route", "add", "unreachable", "192.0.2.0/24"],
        &["route", "add", "unreachable", "2001:db8::/64"],
    ] {
        let status = std::process::Command::new("ip").args(["-n", &name]).args(words).status().unwrap();
        assert!(status.success(), "{words:?}");
    }
    let pairs = [("127.0.0.1", "192.0.2.9"), ("::1", "2001:db8::9")];
    let questions: Vec<_> = pairs
        .into_iter()
        .flat_map(|(near, nowhere)| [near, nowhere])
        .map(|to| Question { to: to.parse().unwrap(), how: How::Ping(100) })
        .collect();
    let node = crate::NetNs::open(&namespaces.path("node")).unwrap();
    let heard = node.run(|| answers(&questions, WORD, 2, Duration::from_millis(200)).unwrap()).unwrap();
    assert_eq!(heard.iter().map(|heard| heard.answer().is_some()).collect::<Vec<_>>(), [true, false, true, false]);
    for unreachable in [heard[1], heard[3]] {
        assert_eq!(unreachable, Outcome::NoWay(libc::EHOSTUNREACH), "it is told why");
    }
    let nowhere = [questions[1]];
    let began = Instant::now();
    let heard = node.run(|| answers(&nowhere, WORD, 3, Duration::from_secs(60)).unwrap()).unwrap();
    assert!(heard[0].no_way().is_some(), "{heard:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "nothing is waited for that was not sent");
}

#[test]
fn a_request_has_the_size_that_is_asked_for_and_a_right_checksum() {
    for (ipv6, size) in [(false, 1450), (true, 1450), (false, 64), (true, 64), (false, 1)] {
        let request = echo_request(ipv6, size, WORD, 1);
        assert_eq!(request.len(), (size as usize).saturating_sub(header(ipv6)).max(16), "{ipv6} {size}");
        assert!(ipv6 || checksum(&request) == 0, "{size}");
    }
}

#[test]
fn only_the_reply_to_our_own_request_is_an_answer() {
    let mut reply = echo_request(true, 100, WORD, 1);
    assert!(!is_echo_reply(true, 100, WORD, &reply), "the request itself");
    reply[0] = 129;
    assert!(is_echo_reply(true, 100, WORD, &reply));
    assert!(!is_echo_reply(true, 100, *b"anothers", &reply));
    assert!(!is_echo_reply(true, 101, WORD, &reply), "a part of it");
    reply[0] = 0;
    let with_header = [&[0x45; 20][..], &reply[..]].concat();
    assert!(is_echo_reply(false, 80, WORD, &with_header));
    for short in 0..with_header.len() {
        assert!(!is_echo_reply(false, 80, WORD, &with_header[..short]));
    }
}

/// Runs a command in a namespace.
#[track_caller]
fn run(namespaces: &twill_testkit::Namespaces, name: &str, words: &str) {
    let mut command = std::process::Command::new("ip");
    let status = command.args(["netns", "exec", &namespaces.name(name)]).args(words.split(' ')).status().unwrap();
    assert!(status.success(), "{words}");
}

/// A node, a router, and addresses behind the router of which the last byte is 9. Nobody has these.
fn node_and_router() -> Option<twill_testkit::Namespaces> {
    let namespaces = twill_testkit::Namespaces::claim().filter(|_| twill_testkit::has_program("nft"))?;
    namespaces.add("node");
    namespaces.add("router");
    run(&namespaces, "node", &format!("ip link add near type veth peer name far netns {}", namespaces.name("router")));
    for (name, words) in [
        ("node", "link set near up"),
        ("router", "link set far up"),
        ("router", "link add behind type veth peer name end"),
        ("router", "link set end up"),
        ("router", "link set behind up"),
        ("node", "address add 192.0.2.1/24 dev near"),
        ("node", "address add 2001:db8:1::1/64 dev near nodad"),
        ("router", "address add 192.0.2.254/24 dev far"),
        ("router", "address add 2001:db8:1::fe/64 dev far nodad"),
        ("router", "address add 198.51.100.254/24 dev behind"),
        ("router", "address add 2001:db8:2::fe/64 dev behind nodad"),
        ("node", "route add default via 192.0.2.254"),
        ("node", "route add default via 2001:db8:1::fe"),
    ] {
        run(&namespaces, name, &format!("ip {words}"));
    }
    for forwarding in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        run(&namespaces, "router", &format!("sysctl -qw {forwarding}"));
    }
    Some(namespaces)
}

/// What becomes of such a question to each of these, asked by the node.
fn asked(namespaces: &twill_testkit::Namespaces, addresses: &[&str], hows: &[How]) -> Vec<Outcome> {
    let to = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    let questions: Vec<Question> = to.flat_map(|to| hows.iter().map(move |how| Question { to, how: *how })).collect();
    let node = crate::NetNs::open(&namespaces.path("node")).unwrap();
    node.run(|| answers(&questions, WORD, 3, Duration::from_millis(300)).unwrap()).unwrap()
}

#[test]
fn a_firewall_that_refuses_in_the_place_of_the_target_is_no_answer_of_it() {
    let Some(namespaces) = node_and_router() else { return };
    let rule = "nft table inet t { chain c { type filter hook forward priority 0; udp dport 33434 reject with icmpx type \
                port-unreachable; }; }";
    run(&namespaces, "router", rule);
    let addresses = ["192.0.2.254", "2001:db8:1::fe", "198.51.100.9", "2001:db8:2::9"];
    let outcomes = asked(&namespaces, &addresses, &[How::Refusal]);
    assert!(outcomes[..2].iter().all(|outcome| outcome.answer().is_some()), "the router's own: {outcomes:?}");
    assert_eq!(outcomes[2..], [Outcome::Silence, Outcome::Silence], "the router's, of others' addresses");
}

#[test]
fn what_a_firewall_of_the_asking_machine_drops_was_never_put_and_so_it_is_told() {
    let Some(namespaces) = node_and_router() else { return };
    let hows = [How::Ping(100), How::Ping(1400), How::Refusal, How::Word { size: 100, port: 7 }];
    let rule = "nft table inet t { chain c { type filter hook output priority 0; ip daddr 198.51.100.9 drop; ip6 daddr \
                2001:db8:2::9 drop; }; }";
    run(&namespaces, "node", rule);
    let began = Instant::now();
    let outcomes = asked(&namespaces, &["198.51.100.9", "2001:db8:2::9"], &hows);
    assert_eq!(outcomes, [Outcome::Unsent(libc::EPERM); 8]);
    assert_eq!((outcomes[0].unsent(), outcomes[0].no_way()), (Some(libc::EPERM), None));
    assert!(began.elapsed() < Duration::from_secs(30), "nothing is waited for that was not sent");
    let others = asked(&namespaces, &["198.51.100.8", "192.0.2.254"], &hows[..3]);
    assert_eq!(others[..3], [Outcome::Silence; 3], "sent, and not answered");
    assert!(others[3..].iter().all(|outcome| outcome.answer().is_some()), "{others:?}");
    // One that is rejected there is refused by this machine's own address.
    run(&namespaces, "node", "nft flush chain inet t c");
    run(&namespaces, "node", "nft add rule inet t c udp dport 33434 reject with icmpx type port-unreachable");
    let rejected = asked(&namespaces, &["192.0.2.254", "2001:db8:1::fe"], &[How::Refusal]);
    assert_eq!(rejected, [Outcome::Unsent(libc::EPERM); 2]);
}

#[test]
fn a_packet_too_large_for_its_interface_is_not_answered_and_says_nothing_of_the_way() {
    let Some(namespaces) = node_and_router() else { return };
    let outcomes = asked(&namespaces, &["192.0.2.254", "2001:db8:1::fe"], &[How::Ping(1501), How::Ping(1500)]);
    assert_eq!((outcomes[0], outcomes[2]), (Outcome::Silence, Outcome::Silence));
    assert!(outcomes[1].answer().is_some() && outcomes[3].answer().is_some(), "{outcomes:?}");
}

#[test]
fn each_type_of_a_route_that_refuses_is_no_way() {
    let Some(namespaces) = node_and_router() else { return };
    for (kind, errno) in [("unreachable", libc::EHOSTUNREACH), ("prohibit", libc::EACCES), ("blackhole", libc::EINVAL)]
    {
        for net in ["198.51.100.0/24", "2001:db8:2::/64"] {
            run(&namespaces, "node", &format!("ip route replace {kind} {net} metric 5"));
        }
        let outcomes = asked(&namespaces, &["198.51.100.9", "2001:db8:2::9"], &[How::Ping(100), How::Refusal]);
        assert_eq!(outcomes, [Outcome::NoWay(errno); 4], "{kind}");
        for net in ["198.51.100.0/24", "2001:db8:2::/64"] {
            run(&namespaces, "node", &format!("ip route del {kind} {net} metric 5"));
        }
    }
    run(&namespaces, "node", "ip route del default");
    run(&namespaces, "node", "ip -6 route del default");
    let outcomes = asked(&namespaces, &["198.51.100.9", "2001:db8:2::9"], &[How::Ping(100)]);
    assert_eq!(outcomes, [Outcome::NoWay(libc::ENETUNREACH); 2]);
}

#[test]
fn whoever_sends_without_end_is_not_listened_to_after_the_deadline() {
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let how = How::Word { size: 100, port: far.local_addr().unwrap().port() };
    let mut open = [Asking::open(Question { to: [127, 0, 0, 1].into(), how }, WORD).unwrap()];
    open[0].send(0);
    let mut buffer = vec![0; LONGEST];
    let (_, asker) = far.recv_from(&mut buffer).unwrap();
    for _ in 0..3 * AT_ONCE {
        far.send_to(b"nobody's word", asker).unwrap();
    }
    listen(&mut open, Instant::now(), &mut buffer).unwrap();
    assert_eq!(open[0].outcome(), Outcome::Silence);
    let left = std::iter::from_fn(|| open[0].socket.recv(&mut buffer).ok()).count();
    assert_eq!(left, 2 * AT_ONCE, "a part of it was taken, and the rest was not waited for");
}
