//! `twilld` speaks BGP: among the nodes, and with routers of other makes.

mod mesh;
mod stage;
