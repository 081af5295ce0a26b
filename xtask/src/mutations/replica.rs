//! Rules of replica.

use super::Mutation;

pub const MUTATIONS: &[Mutation] = &[];
