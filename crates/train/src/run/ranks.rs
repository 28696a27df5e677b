//! What the ranks of a training tell each other, so that none goes another way than the others.

use alexnet_ranks::{Ranks, Result};

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

/// Bytes of any length of every rank, in their order.
///
/// # Errors
/// A rank ended or did not answer.
pub fn gather(ranks: &dyn Ranks, own: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut lens = vec![0; 8 * ranks.size()];
    ranks.all_gather(&(own.len() as u64).to_le_bytes(), &mut lens)?;
    let lens: Vec<usize> = lens.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes) as usize).collect();
    let most = lens.iter().copied().max().unwrap_or(0);
    let mut padded = own.to_vec();
    padded.resize(most, 0);
    let mut all = vec![0; most * ranks.size()];
    ranks.all_gather(&padded, &mut all)?;
    Ok(lens.iter().enumerate().map(|(rank, len)| all[rank * most..][..*len].to_vec()).collect())
}

/// Bytes of any length of rank 0, on every rank; what the others give is not looked at.
///
/// # Errors
/// As [`gather`].
pub fn share(ranks: &dyn Ranks, own: Vec<u8>) -> Result<Vec<u8>> {
    let mut len = (own.len() as u64).to_le_bytes();
    ranks.broadcast(0, &mut len)?;
    let mut bytes = own;
    if ranks.rank() > 0 {
        bytes = vec![0; u64::from_le_bytes(len) as usize];
    }
    ranks.broadcast(0, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use alexnet_ranks::{Single, on_all};

    use super::*;

    #[test]
    fn texts_of_any_length_are_gathered_and_shared() {
        let texts: Vec<Vec<u8>> = ["", "a", "longer"].map(|text| text.as_bytes().to_vec()).into();
        let all = on_all(3, |ranks| gather(&ranks, &texts[ranks.rank()]).unwrap());
        assert_eq!(all, vec![texts.clone(); 3]);
        let shared = on_all(3, |ranks| share(&ranks, texts[2 - ranks.rank()].clone()).unwrap());
        assert_eq!(shared, vec![texts[2].clone(); 3]);
        assert_eq!(gather(&Single, b"x").unwrap(), [b"x"]);
        assert_eq!(share(&Single, b"x".to_vec()).unwrap(), b"x");
    }

    #[test]
    fn flags_of_one_rank_are_those_of_all() {
        let flags = on_all(4, |ranks| agree(&ranks, [0, flag::SAVE, 0, flag::STOP][ranks.rank()]).unwrap());
        assert_eq!(flags, [flag::SAVE | flag::STOP; 4]);
        assert_eq!(agree(&Single, flag::FAILED).unwrap(), flag::FAILED);
    }
}
