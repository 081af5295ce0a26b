//! Disks: which of their operations fail, which promises they break, and what a start must make of it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`plan`] | what the seed decides |
//! | [`apache`] | directories as another server leaves them |
//! | [`fuse`] | a disk that loses power at any operation of any phase |
//! | [`trust`] | who kept his promises; how many may break them; when another disk may take a place |
//! | [`hang`] | disks that do nothing |
//! | [`loaded`] | what a start must find |
//! | [`rot`] | damage to files |

pub mod apache;
pub mod fuse;
pub mod hang;
pub mod loaded;
pub mod plan;
pub mod rot;
pub mod trust;

pub use fuse::{Aims, FuseDisk, Phase};
pub use plan::DiskPlan;
pub use trust::Trust;
