//! GC: the request as [`course::gc`](twill_attach::course::gc) wants it, and what is left as one error.

use twill_attach::Linux;
use twill_attach::course::gc::{Collected, gc as collect};
use twill_ipam::BootTime;
use twill_ipam::sweep::Collection;

use crate::error::Error;
use crate::request::network::Gc;

/// Removes what is not valid. [`Error::Incomplete`] names all that is left.
pub(crate) fn gc(request: &Gc, began: BootTime) -> Result<(), Error> {
    let collection = Collection { network: &request.conf.name, valid: &request.valid, began };
    let Collected { of, left } = collect(&mut Linux::of_call(), request.run_dir(), &collection)?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::Incomplete { network: request.conf.name.clone(), of, left })
}
