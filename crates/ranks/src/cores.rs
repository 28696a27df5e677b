//! How the ranks of a machine share its cores.

use crate::Ranks;
use crate::error::Result;

/// Cores that a mask can hold.
const CORES: usize = 1024;
/// Bytes of a machine's name in a message.
const HOST: usize = 256;

/// What a rank tells of its cores.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    host: [u8; HOST],
    /// The cores that it may run on, a bit each.
    mask: [u8; CORES / 8],
}

impl Place {
    fn own() -> Self {
        let (mut host, mut mask) = ([0; HOST], [0; CORES / 8]);
        host.iter_mut().zip(crate::host().bytes()).for_each(|(to, byte)| *to = byte);
        allowed().into_iter().filter(|core| *core < CORES).for_each(|core| mask[core / 8] |= 1 << (core % 8));
        Self { host, mask }
    }

    fn cores(&self) -> impl Iterator<Item = usize> {
        (0..CORES).filter(|core| self.mask[core / 8] >> (core % 8) & 1 == 1)
    }
}

/// The cores that this thread may run on.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).ok();
    set.map_or_else(Vec::new, |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    (0..available()).collect()
}

/// The cores that the system grants: those of the mask, or fewer where a container has a quota.
fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The cores for this rank, at least 1: of each core that it may run on, its share among the ranks of this machine that may run on
/// it too. So a rank that its launcher has bound to cores of its own gets all of these, and others get equal parts.
///
/// # Errors
/// A rank ended or did not answer.
pub fn cores(ranks: &dyn Ranks) -> Result<usize> {
    if ranks.size() == 1 {
        return Ok(available());
    }
    let own = Place::own();
    let message = [&own.host[..], &own.mask[..]].concat();
    let mut all = vec![0; message.len() * ranks.size()];
    ranks.all_gather(&message, &mut all)?;
    let places: Vec<Place> = all
        .chunks_exact(message.len())
        .filter_map(|one| Some(Place { host: one[..HOST].try_into().ok()?, mask: one[HOST..].try_into().ok()? }))
        .collect();
    Ok(share(&own, &places, available()))
}

/// Of a rank at `own`, among all; `granted` are the cores that the system grants it.
fn share(own: &Place, all: &[Place], granted: usize) -> usize {
    let here: Vec<&Place> = all.iter().filter(|place| place.host == own.host).collect();
    let sharers = |core: usize| here.iter().filter(|place| place.mask[core / 8] >> (core % 8) & 1 == 1).count();
    let (known, sum) =
        own.cores().fold((0, 0.0), |(known, sum), core| (known + 1, sum + 1.0 / sharers(core).max(1) as f64));
    // 1/3 + 1/3 + 1/3 is a core.
    let share = (sum + 1e-9) as usize;
    // A quota is for the container, and so for all ranks in it.
    let quota = if known == 0 || granted < known { granted / here.len().max(1) } else { usize::MAX };
    let share = if known == 0 { usize::MAX } else { share };
    share.min(quota).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: u8, cores: std::ops::Range<usize>) -> Place {
        let mut place = Place { host: [host; HOST], mask: [0; CORES / 8] };
        cores.for_each(|core| place.mask[core / 8] |= 1 << (core % 8));
        place
    }

    #[test]
    fn bound_ranks_keep_their_cores_and_others_share() {
        let shares = |places: &[Place], granted: usize| -> Vec<usize> {
            places.iter().map(|own| share(own, places, granted)).collect()
        };
        // Nobody is bound: four ranks on 8 cores, three on 8, four on two.
        assert_eq!(shares(&[0; 4].map(|_| place(1, 0..8)), 8), [2; 4]);
        assert_eq!(shares(&[0; 3].map(|_| place(1, 0..8)), 8), [2; 3]);
        assert_eq!(shares(&[0; 3].map(|_| place(1, 0..3)), 3), [1; 3]);
        assert_eq!(shares(&[0; 4].map(|_| place(1, 0..2)), 2), [1; 4]);
        // Each is bound to its own.
        assert_eq!(shares(&[place(1, 0..2), place(1, 2..4)], 2), [2, 2]);
        // On two machines.
        assert_eq!(shares(&[place(1, 0..8), place(1, 0..8), place(2, 0..4)], 8), [4, 4, 4]);
        // A container with a quota of four of 64 cores.
        assert_eq!(shares(&[0; 2].map(|_| place(1, 0..64)), 4), [2, 2]);
        // A machine that does not tell.
        assert_eq!(shares(&[0; 2].map(|_| place(1, 0..0)), 8), [4, 4]);
    }

    #[test]
    fn this_machine_has_cores() {
        assert_eq!(cores(&crate::Single).unwrap(), available());
        let place = Place::own();
        assert!(place.cores().count() >= available() && place.host[0] == crate::host().bytes().next().unwrap_or(0));
    }
}
