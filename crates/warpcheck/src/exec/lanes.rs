//! The lanes of a mask, and the pattern of their addresses.

/// The lanes of a mask.
#[inline]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros();
        mask &= mask - 1;
        Some(lane as usize)
    })
}

/// Whether the lanes' addresses lie side by side, `bytes` apart.
#[inline(always)]
pub(crate) fn consecutive(bytes: u64, address: impl Fn(usize) -> u64) -> bool {
    let mut differ = 0;
    for l in 0..32 {
        differ |= address(l).wrapping_sub(address(0)) ^ (l as u64 * bytes);
    }
    differ == 0
}
