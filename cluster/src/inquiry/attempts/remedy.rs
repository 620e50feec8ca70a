//! What to do about an ADD, DEL or GC that failed, by the code that the runtime was told and the step that failed.
//!
//! Codes are fixed, words may differ from version to version. So words only choose the advice among those of one code.

use twill_conf::NodeName;

/// What to do about it: the CNI code, and what the runtime was told.
pub fn remedy(node: &NodeName, code: u32, cause: &str) -> String {
    let says = |words: &str| cause.contains(words);
    match code {
        1 => "set cniVersion in the network's list to one that the plugin speaks: the cause names them".to_owned(),
        2 | 6 | 7 => format!(
            "correct the network's configuration on {node} (/etc/cni/net.d, or what the pod asks for by annotations): the cause \
             names field, value and what would be right"
        ),
        4 => "the runtime calls the plugin wrongly: look at its version and configuration".to_owned(),
        5 if says("run directory") || says("node store") => format!(
            "look at the run directory on {node}: has its file system room, can it be written, is the plugin as new as twilld?"
        ),
        5 => format!("look at the disk of {node}, and at the log of its runtime"),
        11 if says("another process") => "another call for this pod was at work; the runtime tries again by itself".to_owned(),
        11 => format!(
            "the runtime tries again by itself; if that goes on, look whether twilld runs on {node} and reaches etcd: \
             'twillctl why node {node}'"
        ),
        100 if says("being drained") => {
            format!("'twillctl node drain {node} --undo' lets it serve again; or have the pod placed on another node")
        }
        100 if says("no pool") => {
            "change \"nodes\" or \"disabled\" of a pool, the labels of the node, or the pools that the network names".to_owned()
        }
        100 => "add a pool of this family, remove pods, or delete nodes that are gone: 'twillctl status' shows the pools".to_owned(),
        101 => "this interface is attached already: a DEL must come first; restart the pod".to_owned(),
        102 => "the pod's network namespace was gone: it ended while it was made, or the runtime lost it; restart the pod".to_owned(),
        103 => "ask for another address, or free this one: 'twillctl why ip ADDRESS' says who has it".to_owned(),
        105 => format!("the kernel of {node} refused a step, or somebody has deleted what was made: 'twillctl doctor --node {node}' looks at both"),
        106 => "the runtime tries again by itself; the log of its node has what was left".to_owned(),
        107 => "another pod has published this port on the node: give one of them another host port, or have them placed apart".to_owned(),
        _ => format!("look at the log of the runtime on {node}"),
    }
}

#[cfg(test)]
mod tests {
    fn remedy(code: u32, cause: &str) -> String {
        super::remedy(&"n1".parse().unwrap(), code, cause)
    }

    #[test]
    fn each_code_of_the_plugin_has_advice_of_its_own() {
        let codes = [1, 4, 7, 11, 100, 101, 102, 103, 105, 106, 107];
        let all: std::collections::BTreeSet<_> = codes.iter().map(|code| remedy(*code, "x")).collect();
        assert_eq!(all.len(), codes.len());
        assert!(!all.contains(&remedy(999, "x")), "an unknown one is for the log");
    }

    #[test]
    fn words_choose_among_the_advice_of_one_code() {
        let drained = twill_ipam::Error::Draining { node: "n1".to_owned() }.to_string();
        assert!(remedy(100, &drained).contains("twillctl node drain n1 --undo"));
        let no_pool = twill_ipam::Error::NoPool("a is disabled".to_owned()).to_string();
        assert!(remedy(100, &no_pool).contains("\"disabled\""));
        assert!(remedy(100, "no free IPv4 address on this node").contains("add a pool"));
        let busy = twill_ipam::Error::Busy.to_string();
        assert!(remedy(11, &busy).starts_with("another call"));
        assert!(remedy(11, &twill_ipam::Error::NotReady.to_string()).contains("twillctl why node n1"));
    }
}
