//! Waiting for a condition: poll, with a deadline, and say in the end what was seen instead.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{LabError, Result};

/// Long enough for everything in a lab, also while a machine with two cores compiles beside it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks until `look` is true.
pub fn until(what: &str, patience: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until_some(what, patience, || if look()? { Ok(Ok(())) } else { Ok(Err("it is not so")) })
}

/// Looks until `look` yields a value; `Err` says what it saw instead. An error of the look itself ends the waiting only
/// when the time is over, since what is looked at may just be starting.
pub fn until_some<T, S: Debug>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Result<T, S>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = match look() {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => format!("{seen:?}"),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= patience {
            return Err(LabError::Timeout { what: what.into(), waited: patience, last });
        }
        sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_late_is_awaited() {
        let mut looks = 0;
        until("the third look", PATIENCE, || {
            looks += 1;
            Ok(looks == 3)
        })
        .unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn the_error_says_what_was_seen_instead() {
        let seen: Result<(), _> = until_some("four", Duration::ZERO, || Ok(Err::<(), _>(5)));
        assert_eq!(seen.unwrap_err().to_string(), "after 0ns still not: four; last seen: 5");
    }
}
