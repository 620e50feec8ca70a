//! What failed on this node of late, and what is attached, as far as it was asked for.

use twill_cluster::inquiry::Reply;
use twill_cluster::inquiry::attempts::{AttachmentRecord, AttemptRecord, History, Sought};
use twill_ipam::attachment::Pod;
use twill_ipam::store::Attempt;
use twill_ipam::{Attachment, BootTime, Key, State};

use crate::store::NodeStore;

/// Looks into the node store.
pub(super) fn look(store: &NodeStore, sought: &Sought) -> Reply {
    let read = store.with(|store| Ok::<_, twill_ipam::Error>((store.attempts()?, store.attachments()?)));
    let (attempts, attachments) = match read {
        Ok(read) => read,
        Err(error) => return Reply::Failed { cause: error.to_string() },
    };
    let now = BootTime::now();
    let attempts = attempts.into_iter().filter(|attempt| is_met(sought, attempt.pod.as_ref(), attempt.key.as_ref()));
    let attached = attachments.iter().filter(|row| is_met(sought, row.pod.as_ref(), row.key.as_ref()));
    let history = History::fill(
        attempts.map(|attempt| of_attempt(attempt, now)).collect(),
        attached.map(|row| of_attachment(row, now)).collect(),
    );
    Reply::Attempts(history)
}

fn is_met(sought: &Sought, pod: Option<&Pod>, key: Option<&Key>) -> bool {
    let container = key.map(|key| key.container.to_string());
    let network = key.map(|key| key.network.to_string());
    sought.is_met(pod.map(name).as_deref(), container.as_deref(), network.as_deref())
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

fn of_attempt(attempt: Attempt, now: BootTime) -> AttemptRecord {
    let key = attempt.key.as_ref();
    AttemptRecord {
        age_seconds: now.since(attempt.at).as_secs(),
        pod: attempt.pod.as_ref().map(name),
        container: key.map(|key| key.container.to_string()),
        network: key.map(|key| key.network.to_string()),
        interface: key.map(|key| key.ifname.to_string()),
        verb: attempt.verb,
        step: attempt.step,
        cause: attempt.cause,
        code: attempt.code,
    }
}

fn of_attachment(row: &Attachment, now: BootTime) -> AttachmentRecord {
    let key = row.key.as_ref();
    let state = match row.state {
        State::Reserved => "reserved",
        State::Attached => "attached",
        State::Deleting => "deleting",
    };
    AttachmentRecord {
        age_seconds: now.since(row.created).as_secs(),
        state: state.to_owned(),
        pod: row.pod.as_ref().map(name),
        container: key.map(|key| key.container.to_string()),
        network: key.map(|key| key.network.to_string()),
        interface: key.map(|key| key.ifname.to_string()),
        host_interface: row.hash.host_ifname(),
        addresses: row.addresses.iter().map(|(ip, _)| *ip).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn what_was_asked_for_is_told_and_what_else_the_store_has_is_not() {
        let Some(node) = Fixture::new() else { return };
        let row = node.attach("c1", 8080);
        let attempt = |pod: &str| Attempt {
            at: BootTime::now(),
            verb: "ADD".into(),
            key: row.key.clone(),
            pod: Some(Pod { namespace: "shop".into(), name: pod.into() }),
            step: "reserving an address".into(),
            cause: "no free IPv4 address".into(),
            code: 100,
            took: Duration::from_millis(7),
        };
        node.store.with(|store| ["a", "b"].iter().try_for_each(|pod| store.record_attempt(&attempt(pod)))).unwrap();
        let told = |sought: Sought| match look(&node.store, &sought) {
            Reply::Attempts(history) => history,
            other => panic!("{other:?}"),
        };
        let of_pod = told(Sought { pod: Some("shop/b".into()), ..Sought::default() });
        assert_eq!((of_pod.attempts.len(), of_pod.attachments.len(), of_pod.attempts[0].code), (1, 0, 100));
        let of_container = told(Sought { container: Some("c1".into()), ..Sought::default() });
        assert_eq!((of_container.attempts.len(), of_container.attachments[0].state.as_str()), (2, "attached"));
        assert_eq!(of_container.attachments[0].addresses.len(), 1);
        assert_eq!(told(Sought { network: Some("other".into()), ..Sought::default() }), History::default());
    }
}
