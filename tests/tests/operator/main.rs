//! What an operator sees: whether a cluster is well, why a pod, an address or a node is as it is, and what each fault looks like.

mod confinement;
mod follow;
mod status;
mod why;
