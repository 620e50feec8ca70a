//! `twillctl status`.

use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::status::Status;

pub(super) async fn status(place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let picture = access::picture(&store).await?;
    let alive = access::alive(&store).await?;
    Ok(Report::Status(Status::new(&picture, &alive)))
}
