//! `twilld` speaks BGP: among the nodes, and with routers of other makes.

mod apart;
mod bfd;
mod changes;
mod documented;
mod ecmp;
mod faults;
mod graceful;
mod malformed;
mod many;
mod mesh;
mod nexthops;
mod notifications;
mod outages;
mod paths;
mod reflection;
mod report;
mod restart;
mod stage;
mod storm;
mod tors;
