//! `twilld` speaks BGP: among the nodes, and with routers of other makes.

mod apart;
mod ecmp;
mod mesh;
mod nexthops;
mod reflection;
mod restart;
mod stage;
mod tors;
