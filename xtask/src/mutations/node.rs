//! Rules of node.

use super::Mutation;

pub const MUTATIONS: &[Mutation] = &[];
