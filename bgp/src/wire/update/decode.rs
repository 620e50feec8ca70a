//! From bytes to an [`Update`]: the walk over the attributes, and what RFC 7606 does with what it finds.

use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;

use super::attribute::{self, Raw, Values};
use super::{Action, Announced, Malformed, Reach, Update, Why};
use crate::path::{Family, NextHop};
use crate::wire::nlri::{self, Field, Nlri};
use crate::wire::{Dialect, ErrorCode, Notification};

/// Of a family, from an attribute. None in the place of a next hop that is no host's.
struct Reached {
    next_hop: Option<NextHop>,
    field: Field,
}

/// What the walk over the attributes finds.
#[derive(Default)]
struct Walk {
    values: Values,
    reached: Option<Reached>,
    unreached: Option<(Option<Family>, Field)>,
    malformed: Vec<Malformed>,
    /// The bytes of the first one that is treated as withdraw, for the data of a NOTIFICATION.
    culprit: Vec<u8>,
    /// How many there are.
    count: usize,
}

/// Reads the body of an UPDATE.
///
/// # Errors
/// A NOTIFICATION, where RFC 7606 leaves nothing but a session reset.
pub(in crate::wire) fn decode(body: &[u8], dialect: &Dialect) -> Result<Update, Notification> {
    let (mut withdrawn, mut attributes, mut announced) =
        fields(body).map_err(|_| Notification::from(ErrorCode::MALFORMED_ATTRIBUTES))?;
    let add_path = dialect.add_path[Family::Ipv4].receive;
    let network = |_: ParseError| Notification::from(ErrorCode::INVALID_NETWORK_FIELD);
    let withdrawn = nlri::read(&mut withdrawn, Family::Ipv4, add_path).map_err(network)?;
    let walk = Walk::over(&mut attributes, dialect)?;
    let announced = nlri::read(&mut announced, Family::Ipv4, add_path).map_err(network)?;
    compose(walk, withdrawn, announced, body.len() == 4, dialect)
}

/// Withdrawn routes, path attributes, and NLRI.
fn fields(body: &[u8]) -> Result<(SliceReader<'_>, SliceReader<'_>, SliceReader<'_>), ParseError> {
    let mut body = SliceReader::new(body);
    let length = body.read_u16_be()?;
    let withdrawn = body.take_slice(usize::from(length))?;
    let length = body.read_u16_be()?;
    let attributes = body.take_slice(usize::from(length))?;
    Ok((withdrawn, attributes, body))
}

impl Walk {
    fn over(list: &mut SliceReader<'_>, dialect: &Dialect) -> Result<Self, Notification> {
        let mut walk = Self::default();
        let mut seen = [false; 256];
        while !list.is_empty() {
            walk.count += 1;
            let rest = list.as_slice();
            let Ok(raw) = Raw::read(list) else {
                // Nothing behind it can be found. Total Path Attribute Length says where the NLRI is (RFC 7606, section 4).
                let code = rest.get(1).copied().unwrap_or(0);
                walk.note(Malformed { attribute: code, action: Action::TreatAsWithdraw, why: Why::Overrun }, rest)?;
                break;
            };
            if std::mem::replace(&mut seen[usize::from(raw.code)], true) {
                walk.repeated(&raw)?;
            } else {
                walk.take(&raw, dialect)?;
            }
        }
        Ok(walk)
    }

    /// The first of several is the one, but for those that name routes (RFC 7606, section 3 g).
    fn repeated(&mut self, raw: &Raw<'_>) -> Result<(), Notification> {
        let action = match raw.code {
            attribute::MP_REACH | attribute::MP_UNREACH => Action::SessionReset,
            _ => Action::AttributeDiscard,
        };
        self.note(Malformed { attribute: raw.code, action, why: Why::Repeated }, &[])
    }

    fn take(&mut self, raw: &Raw<'_>, dialect: &Dialect) -> Result<(), Notification> {
        let names_routes = matches!(raw.code, attribute::MP_REACH | attribute::MP_UNREACH);
        if let Some(malformed) = raw.check(dialect) {
            self.note(malformed, raw.whole)?;
            if !names_routes {
                return Ok(());
            }
        }
        let taken = match raw.code {
            attribute::MP_REACH => self.reach(raw.value, dialect),
            attribute::MP_UNREACH => self.unreach(raw.value, dialect),
            _ => self.values.take(raw, dialect),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(why) => {
                let action = if names_routes { Action::SessionReset } else { attribute::action(raw.code) };
                self.note(Malformed { attribute: raw.code, action, why }, raw.whole)
            }
        }
    }

    /// Records what is wrong. Only a session reset is an error.
    fn note(&mut self, malformed: Malformed, raw: &[u8]) -> Result<(), Notification> {
        match malformed.action {
            Action::SessionReset => return Err(Notification::new(malformed.error(), raw.to_vec())),
            Action::TreatAsWithdraw if self.first_fatal().is_none() => self.culprit = raw.to_vec(),
            _ => {}
        }
        self.malformed.push(malformed);
        Ok(())
    }

    fn first_fatal(&self) -> Option<&Malformed> {
        self.malformed.iter().find(|malformed| malformed.action == Action::TreatAsWithdraw)
    }

    /// MP_REACH_NLRI (RFC 4760, section 3). Of other families it is ignored, but not as if nothing were announced.
    fn reach(&mut self, value: &[u8], dialect: &Dialect) -> Result<(), Why> {
        let mut value = SliceReader::new(value);
        let family = family(&mut value, dialect)?;
        let length = value.read_u8().map_err(|_| Why::Length)?;
        let next_hop = value.read_bytes(usize::from(length)).map_err(|_| Why::Length)?;
        let reserved = value.read_u8();
        let Some(family) = family else {
            self.reached = Some(Reached { next_hop: None, field: Field::default() });
            return Ok(());
        };
        let next_hop = nlri::read_next_hop(next_hop, family, dialect.extended_next_hop).map_err(|_| Why::Value)?;
        reserved.map_err(|_| Why::Length)?;
        let field = nlri::read(&mut value, family, dialect.add_path[family].receive).map_err(|_| Why::Network)?;
        self.reached = Some(Reached { next_hop, field });
        Ok(())
    }

    /// MP_UNREACH_NLRI (RFC 4760, section 4).
    fn unreach(&mut self, value: &[u8], dialect: &Dialect) -> Result<(), Why> {
        let mut value = SliceReader::new(value);
        let family = family(&mut value, dialect)?;
        let field = match family {
            Some(family) => nlri::read(&mut value, family, dialect.add_path[family].receive),
            None => Ok(Field::default()),
        };
        self.unreached = Some((family, field.map_err(|_| Why::Network)?));
        Ok(())
    }
}

/// The family of an attribute that names routes. None for one that has not been negotiated.
fn family(value: &mut SliceReader<'_>, dialect: &Dialect) -> Result<Option<Family>, Why> {
    let mut read = || -> Result<_, ParseError> { Ok((value.read_u16_be()?, value.read_u8()?)) };
    let (afi, safi) = read().map_err(|_| Why::Length)?;
    Ok(Family::from_wire(afi, safi).filter(|family| dialect.families[*family]))
}

/// Puts the parts together, and does with what is malformed what must be done once all is known.
fn compose(
    mut walk: Walk,
    mut withdrawn: Field,
    mut classic: Field,
    is_empty: bool,
    dialect: &Dialect,
) -> Result<Update, Notification> {
    let announces = !classic.routes.is_empty() || !classic.ignored.is_empty();
    let reaches = announces || walk.reached.is_some();
    if !dialect.families[Family::Ipv4] {
        for field in [&mut withdrawn, &mut classic] {
            let Field { routes, ignored } = field;
            ignored.append(routes);
        }
    }
    let mut update = Update { withdrawn: withdrawn.routes, ignored: withdrawn.ignored, ..Update::default() };
    let only_unreach = walk.count == 1 && withdrawn_is_empty(&update) && !reaches;
    if let Some((family, field)) = walk.unreached.take() {
        if is_nothing(&field) && only_unreach {
            update.end_of_rib = family;
        }
        update.withdrawn.extend(field.routes);
        update.ignored.extend(field.ignored);
    }
    if is_empty && dialect.families[Family::Ipv4] {
        update.end_of_rib = Some(Family::Ipv4);
    }

    let mut reach = Vec::new();
    let mut lost = Vec::new();
    let mut sort = |next_hop: Option<NextHop>, field: Field, update: &mut Update| {
        update.ignored.extend(field.ignored);
        match next_hop {
            Some(next_hop) if !field.routes.is_empty() => reach.push(Reach { next_hop, routes: field.routes }),
            _ => lost.extend(field.routes),
        }
    };
    if let Some(Reached { next_hop, field }) = walk.reached.take() {
        if next_hop.is_none() && !field.routes.is_empty() {
            let malformed =
                Malformed { attribute: attribute::MP_REACH, action: Action::TreatAsWithdraw, why: Why::Value };
            walk.note(malformed, &[])?;
        }
        sort(next_hop, field, &mut update);
    }
    let next_hop = walk.values.next_hop();
    sort(next_hop, classic, &mut update);
    for code in walk.values.missing(announces, reaches) {
        if walk.malformed.iter().all(|malformed| malformed.attribute != code) {
            walk.note(Malformed { attribute: code, action: Action::TreatAsWithdraw, why: Why::Missing }, &[code])?;
        }
    }

    let attributes = walk.values.take_attributes(dialect, &mut walk.malformed);
    if let Some(fatal) = walk.first_fatal() {
        // Its routes may be where the damage is: what cannot be named cannot be withdrawn (RFC 7606, section 5.2).
        if !reaches {
            return Err(Notification::new(fatal.error(), walk.culprit));
        }
        lost.extend(reach.drain(..).flat_map(|reach| reach.routes));
    }
    update.withdrawn.extend::<Vec<Nlri>>(lost);
    update.malformed = walk.malformed;
    if let (Some(attributes), false) = (attributes, reach.is_empty()) {
        update.announced = Some(Announced { attributes, reach });
    }
    Ok(update)
}

fn withdrawn_is_empty(update: &Update) -> bool {
    update.withdrawn.is_empty() && update.ignored.is_empty()
}

fn is_nothing(field: &Field) -> bool {
    field.routes.is_empty() && field.ignored.is_empty()
}
