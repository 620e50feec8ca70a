//! The package as an operator has it: installed on a clean Debian 12, where the daemon serves a pod, upgraded under traffic, removed
//! and purged; its units, with what they allow the daemon; what the daemon tells systemd; the image and the manifest.

mod booted;
mod contents;
mod debian;
mod hardening;
mod image;
mod install;
mod manifest;
mod notify;
mod units;
