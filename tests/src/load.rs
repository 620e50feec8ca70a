//! Pods that come and go while something else happens: the plugin called as by a runtime, and a ledger of who has which
//! address, by which it comes out if one is ever given twice.
//!
//! A pod has its addresses from the moment on that its ADD succeeds until its DEL is called. What ADD may answer under
//! which fault is for the test to say; a DEL always succeeds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::cni::{Answer, Call, Verb};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::pod::{IFNAME, addresses_of};
use crate::{Lab, LabError, Result};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: String,
    /// The pod, by its container ID.
    pub container: String,
}

/// Who has which address now, in the whole cluster.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    live: BTreeMap<IpAddr, Holder>,
    fresh: Vec<(IpAddr, Holder)>,
}

impl Ledger {
    /// An ADD has given these addresses. The error names the other holder where one of them has one.
    fn enter(&self, holder: &Holder, addresses: &[IpAddr]) -> Result<()> {
        let mut books = self.lock();
        for ip in addresses {
            books.fresh.push((*ip, holder.clone()));
            if let Some(other) = books.live.insert(*ip, holder.clone()) {
                return Err(LabError::wrong(format!("{ip} was given to {holder:?} while {other:?} had it")));
            }
        }
        Ok(())
    }

    /// A DEL is about to be called.
    fn strike(&self, addresses: &[IpAddr]) {
        let mut books = self.lock();
        for ip in addresses {
            books.live.remove(ip);
        }
    }

    /// The addresses that pods have.
    pub fn live(&self) -> BTreeMap<IpAddr, Holder> {
        self.lock().live.clone()
    }

    /// What was given since this was asked last, whoever has it now.
    pub fn fresh(&self) -> Vec<(IpAddr, Holder)> {
        std::mem::take(&mut self.lock().fresh)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls the plugin of a lab's nodes, each time for a container of its own.
#[derive(Debug)]
pub struct Load {
    /// What it has given.
    pub ledger: Ledger,
    plugin_of: fn(&Node) -> PathBuf,
    number: AtomicUsize,
    pairs: AtomicUsize,
}

/// A pod that the load has attached.
#[derive(Debug)]
pub struct Attached<'a> {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    node: &'a Node,
    namespace: &'a Namespace,
    container: String,
    result: Value,
}

impl Load {
    /// A load that has not begun.
    pub fn on(_lab: &Lab) -> Self {
        Self::by(|node| node.binaries().plugin())
    }

    /// The same where each node has a plugin of its own, which may be replaced meanwhile.
    pub fn by(plugin_of: fn(&Node) -> PathBuf) -> Self {
        let (number, pairs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { ledger: Ledger::default(), plugin_of, number, pairs }
    }

    /// ADD; `Err` within is the plugin's refusal, after the DEL by which a runtime answers it.
    pub fn add<'a>(
        &self,
        node: &'a Node,
        namespace: &'a Namespace,
    ) -> Result<std::result::Result<Attached<'a>, Answer>> {
        let container = format!("load{}", self.number.fetch_add(1, Ordering::Relaxed));
        let mut pod = Attached { addresses: Vec::new(), node, namespace, container, result: Value::Null };
        let answer = self.call(&pod, Verb::Add)?;
        if !answer.success {
            self.call(&pod, Verb::Del)?.expect_success()?;
            return Ok(Err(answer));
        }
        let given = addresses_of(&answer.output).map_err(LabError::Wrong)?;
        pod.addresses = given.iter().map(|network| network.ip()).collect();
        pod.result = answer.output;
        let holder = Holder { node: node.name().into(), container: pod.container.clone() };
        self.ledger.enter(&holder, &pod.addresses)?;
        Ok(Ok(pod))
    }

    /// CHECK.
    pub fn check(&self, pod: &Attached<'_>) -> Result<()> {
        self.call(pod, Verb::Check)?.expect_success().map(drop)
    }

    /// DEL, which ends a pair.
    pub fn del(&self, pod: Attached<'_>) -> Result<()> {
        self.ledger.strike(&pod.addresses);
        self.call(&pod, Verb::Del)?.expect_success()?;
        self.pairs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many pairs of ADD and DEL there were.
    pub fn pairs(&self) -> usize {
        self.pairs.load(Ordering::Relaxed)
    }

    fn call(&self, pod: &Attached<'_>, verb: Verb) -> Result<Answer> {
        let previous = (!pod.result.is_null()).then_some(&pod.result);
        let input = pod.node.network().plugin_input(previous);
        let (container, netns) = (pod.container.as_str(), pod.namespace.path());
        let plugin = (self.plugin_of)(pod.node);
        let call = Call { plugin: &plugin, verb, container, netns, ifname: IFNAME, input: &input };
        call.run_in(pod.node.namespace())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_given_while_somebody_has_it_is_an_error_and_afterwards_is_not() {
        let ledger = Ledger::default();
        let holder = |container: &str| Holder { node: "n1".into(), container: container.into() };
        let ip: IpAddr = "10.42.0.3".parse().unwrap();
        ledger.enter(&holder("a"), &[ip]).unwrap();
        assert!(ledger.enter(&holder("b"), &[ip]).unwrap_err().to_string().contains("10.42.0.3"));
        ledger.strike(&[ip]);
        ledger.enter(&holder("c"), &[ip]).unwrap();
        assert_eq!(ledger.live()[&ip], holder("c"));
        assert_eq!((ledger.fresh().len(), ledger.fresh().len()), (3, 0));
    }
}
