//! What `twillctl why` says of a pod, an address or a node: how it is, what is wrong, and what to do.

pub(crate) mod ip;
pub(crate) mod node;
pub(crate) mod pod;

#[cfg(test)]
mod tests;
