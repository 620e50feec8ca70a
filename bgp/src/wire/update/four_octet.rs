//! AS numbers of four bytes beside peers that write two (RFC 6793).

use std::net::Ipv4Addr;

use crate::path::{AS_TRANS, AsPath, Asn, Attributes, Segment};

/// What a message has for numbers that do not fit.
#[derive(Default)]
pub(super) struct Old {
    /// AS4_PATH.
    pub path: Option<AsPath>,
    /// AS4_AGGREGATOR.
    pub aggregator: Option<(Asn, Ipv4Addr)>,
}

/// AS4_PATH is longer than AS_PATH: it belongs to another route, and is ignored.
pub(super) struct TooLong;

/// Puts the real numbers in the place of [`AS_TRANS`] (RFC 6793, section 4.2.3).
///
/// # Errors
/// When AS4_PATH cannot belong to this AS_PATH. The attributes are whole all the same.
pub(super) fn merge(attributes: &mut Attributes, old: Old) -> Result<(), TooLong> {
    if let Some(aggregator) = old.aggregator {
        match attributes.aggregator {
            Some((AS_TRANS, _)) => attributes.aggregator = Some(aggregator),
            // A speaker that knows nothing of these has aggregated since: both tell of what was before.
            Some(_) => return Ok(()),
            None => {}
        }
    }
    let Some(AsPath(real)) = old.path else { return Ok(()) };
    let real = AsPath(real);
    let mut extra = attributes.as_path.length().checked_sub(real.length()).ok_or(TooLong)?;
    let mut merged = Vec::new();
    for segment in &attributes.as_path.0 {
        match segment {
            Segment::ConfederationSequence(_) | Segment::ConfederationSet(_) => merged.push(segment.clone()),
            _ if extra == 0 => break,
            Segment::Set(_) => {
                merged.push(segment.clone());
                extra -= 1;
            }
            Segment::Sequence(systems) => {
                let count = systems.len().min(extra);
                merged.push(Segment::Sequence(systems[..count].to_vec()));
                extra -= count;
            }
        }
    }
    for segment in real.0 {
        match (merged.last_mut(), segment) {
            (Some(Segment::Sequence(before)), Segment::Sequence(after)) if before.len() + after.len() <= 255 => {
                before.extend(after);
            }
            (_, segment) => merged.push(segment),
        }
    }
    attributes.as_path = AsPath(merged);
    Ok(())
}

/// What a peer of two bytes must be told beside its attributes (RFC 6793, section 4.2.2).
pub(super) fn beside(attributes: &Attributes) -> Old {
    let fits = |system: Asn| u16::try_from(system.0).is_ok();
    let mut old = Old::default();
    if !attributes.as_path.systems().all(fits) {
        let mut path = attributes.as_path.clone();
        path.0.retain(|each| matches!(each, Segment::Sequence(_) | Segment::Set(_)));
        old.path = (!path.0.is_empty()).then_some(path);
    }
    old.aggregator = attributes.aggregator.filter(|(system, _)| !fits(*system));
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Origin;

    fn merged(path: &[Segment], real: &[Segment]) -> (String, bool) {
        let mut attributes = Attributes::new(Origin::Igp);
        attributes.as_path = AsPath(path.to_vec());
        let old = Old { path: Some(AsPath(real.to_vec())), aggregator: None };
        let fits = merge(&mut attributes, old).is_ok();
        (attributes.as_path.to_string(), fits)
    }

    fn sequence(systems: &[u32]) -> Segment {
        Segment::Sequence(systems.iter().copied().map(Asn).collect())
    }

    #[test]
    fn systems_before_the_first_old_speaker_keep_their_numbers() {
        let path = [sequence(&[1, 2, 23456, 3])];
        assert_eq!(merged(&path, &[sequence(&[70000, 3])]), ("1 2 70000 3".into(), true));
        let confederation = [Segment::ConfederationSequence(vec![Asn(9)]), sequence(&[23456])];
        assert_eq!(merged(&confederation, &[sequence(&[70000])]), ("(9) 70000".into(), true));
        let set = [Segment::Set(vec![Asn(4), Asn(5)]), sequence(&[23456])];
        assert_eq!(merged(&set, &[sequence(&[70000])]), ("{4 5} 70000".into(), true));
    }

    #[test]
    fn a_longer_path_beside_it_is_of_another_route() {
        assert_eq!(merged(&[sequence(&[1])], &[sequence(&[70000, 3])]), ("1".into(), false));
    }

    #[test]
    fn an_old_speaker_that_aggregated_makes_the_rest_stale() {
        let mut attributes = Attributes::new(Origin::Igp);
        attributes.as_path = AsPath(vec![sequence(&[1, 23456])]);
        attributes.aggregator = Some((Asn(1), Ipv4Addr::new(10, 0, 0, 1)));
        let before = attributes.clone();
        let path = Some(AsPath(vec![sequence(&[70000])]));
        let old = Old { path, aggregator: Some((Asn(70000), Ipv4Addr::new(10, 0, 0, 2))) };
        assert!(merge(&mut attributes, old).is_ok());
        assert_eq!(attributes, before);
    }
}
