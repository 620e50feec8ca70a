//! `twillctl trace`: it tells the way of a packet as packets really go, and names what is in their way.

mod arrives;
mod faults;
mod stage;
