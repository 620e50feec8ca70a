//! `twillctl bundle`: what is in the file, and what is not.

pub(crate) mod excerpt;

use std::path::PathBuf;

use serde::Serialize;

use super::untold::Untold;

/// A file that was written.
#[derive(Debug, Serialize)]
pub(crate) struct Bundle {
    pub(crate) file: PathBuf,
    /// Its length.
    pub(crate) bytes: u64,
    /// What it has.
    pub(crate) members: Vec<Member>,
    /// What could not be got, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// A file in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// Below the one directory of the bundle.
    pub(crate) path: String,
    /// What it tells.
    pub(crate) what: String,
    /// Its length.
    pub(crate) bytes: usize,
}

/// The time of day as a name of files has it, as in `20261129-172500`: UTC.
pub(crate) fn stamp(seconds: u64) -> String {
    // The days of the proleptic Gregorian calendar, from 1 March 0000, in eras of 400 years.
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", time / 3_600, time % 3_600 / 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::stamp;

    #[test]
    fn a_time_is_named_by_its_date() {
        let wanted = [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_709_251_200, "20240301-000000"),
            (1_798_761_599, "20261231-235959"),
            (4_107_542_400, "21000301-000000"),
        ];
        for (seconds, text) in wanted {
            assert_eq!(stamp(seconds), text);
        }
    }
}
