//! What the ranks of a job agree on, so that none goes another way than the others.

use alexnet_ranks::Ranks;

use super::error::Result;

/// What a rank tells the others.
pub mod flag {
    /// It was asked to stop.
    pub const STOP: u8 = 1;
    /// A checkpoint is due.
    pub const SAVE: u8 = 2;
    /// It cannot go on: an image cannot be read, or a file not be written.
    pub const FAILED: u8 = 4;
}

/// The flags of all ranks, those of this one included. All ranks call it.
///
/// # Errors
/// The ranks'.
pub fn agree(ranks: &dyn Ranks, flags: u8) -> Result<u8> {
    if ranks.size() == 1 {
        return Ok(flags);
    }
    let mut all = vec![0; ranks.size()];
    ranks.all_gather(&[flags], &mut all)?;
    Ok(all.into_iter().fold(0, |all, flags| all | flags))
}
