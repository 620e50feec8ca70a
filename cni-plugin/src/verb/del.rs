//! DEL: the request as [`course::del`](twill_attach::course::del) wants it.

use twill_attach::Linux;
use twill_attach::course::del::{Unwanted, del as detach};

use crate::error::Error;
use crate::request::Request;

/// Detaches the container.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let netns = request.target.netns_path();
    let unwanted = Unwanted { run_dir: request.run_dir(), hash: request.hash, netns: netns.as_deref() };
    Ok(detach(&mut Linux::of_call(), &unwanted)?)
}
