//! Bytes of any length between the ranks of a training, at its start and in its epochs.

use alexnet_ranks::{Ranks, Result};

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
    use std::thread;

    use alexnet_ranks::{Local, Single, local};

    use super::*;

    fn on_all<T: Send>(size: usize, body: impl Fn(&Local) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let body = &body;
            let threads: Vec<_> = local(size).into_iter().map(|ranks| scope.spawn(move || body(&ranks))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn texts_of_any_length_are_gathered_and_shared() {
        let texts: Vec<Vec<u8>> = ["", "a", "longer"].map(|text| text.as_bytes().to_vec()).into();
        let all = on_all(3, |ranks| gather(ranks, &texts[ranks.rank()]).unwrap());
        assert_eq!(all, vec![texts.clone(); 3]);
        let shared = on_all(3, |ranks| share(ranks, texts[2 - ranks.rank()].clone()).unwrap());
        assert_eq!(shared, vec![texts[2].clone(); 3]);
        assert_eq!(gather(&Single, b"x").unwrap(), [b"x"]);
        assert_eq!(share(&Single, b"x".to_vec()).unwrap(), b"x");
    }
}
