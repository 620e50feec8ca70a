//! What `twillctl ipam attempts` prints.

use super::table::{age, number, or_dash, parts, table};
use crate::report::attempts::{Attempt, Attempts};

pub(super) fn attempts(attempts: &Attempts) -> String {
    let Some(attempts) = &attempts.attempts else {
        return "no node store here: nothing was attached since this machine booted\n".to_owned();
    };
    let row = |attempt: &Attempt| {
        [
            age(attempt.age_seconds),
            attempt.verb.clone(),
            or_dash(attempt.pod.as_ref()),
            or_dash(attempt.container.as_ref()),
            or_dash(attempt.network.as_ref()),
            or_dash(attempt.interface.as_ref()),
            attempt.code.to_string(),
            format!("{:.1} ms", attempt.milliseconds),
            attempt.step.clone(),
            attempt.cause.clone(),
        ]
    };
    let heading = ["AGE", "VERB", "POD", "CONTAINER", "NETWORK", "INTERFACE", "CODE", "TOOK", "STEP", "CAUSE"];
    let count = format!("{} kept on this node, newest first\n", number(attempts.len(), "failure"));
    parts([count, table(heading, attempts.iter().map(row))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_a_row_and_what_is_not_known_a_dash() {
        let attempt = |pod: Option<&str>| Attempt {
            age_seconds: 12,
            verb: "ADD".into(),
            pod: pod.map(str::to_owned),
            container: pod.map(|_| "c1".into()),
            network: pod.map(|_| "net".into()),
            interface: pod.map(|_| "eth0".into()),
            step: "opening the namespace".into(),
            cause: "CNI_NETNS; gone".into(),
            code: 102,
            milliseconds: 0.84,
        };
        let text = attempts(&Attempts { attempts: Some(vec![attempt(Some("shop/till")), attempt(None)]) });
        let wanted = "2 failures kept on this node, newest first

AGE  VERB  POD        CONTAINER  NETWORK  INTERFACE  CODE  TOOK    STEP                   CAUSE
12s  ADD   shop/till  c1         net      eth0       102   0.8 ms  opening the namespace  CNI_NETNS; gone
12s  ADD   -          -          -        -          102   0.8 ms  opening the namespace  CNI_NETNS; gone
";
        assert_eq!(text, wanted);
        assert_eq!(attempts(&Attempts { attempts: Some(vec![]) }), "0 failures kept on this node, newest first\n");
    }
}
