//! What an operator sees: whether a cluster is well, why a pod, an address or a node is as it is, and what each fault looks like.

mod bundle;
mod confinement;
mod follow;
mod shape;
mod shown;
mod status;
mod why;
