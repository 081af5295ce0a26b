//! Rules of storage.

use super::Mutation;

pub const MUTATIONS: &[Mutation] = &[];
