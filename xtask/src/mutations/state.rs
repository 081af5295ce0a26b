//! Rules of state.

use super::Mutation;

pub const MUTATIONS: &[Mutation] = &[];
