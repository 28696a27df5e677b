//! What a device's second-level cache holds between launches: the pages that launches touched last.

use std::collections::{BTreeMap, HashMap};

/// Bytes of a page. Whole pages come and go, which is coarser than the hardware's lines and enough for arrays.
pub(crate) const PAGE: usize = 4096;
/// Share of the cache that holds what is read again: at 28 of an A100's 40 MB, and 36 of an H100's 50, its bandwidth begins to fall
/// (gpu-benches, gpu-l2-cache).
const SHARE: f64 = 0.7;

/// A page of an allocation: the allocation's serial number and the page's.
type Page = (u64, usize);

/// The pages that a device's cache holds, the least recently used of which goes first.
#[derive(Debug, Default)]
pub(crate) struct L2 {
    at: HashMap<Page, u64>,
    order: BTreeMap<u64, Page>,
    next: u64,
}

impl L2 {
    /// Whether the page is there.
    pub(crate) fn holds(&self, page: Page) -> bool {
        self.at.contains_key(&page)
    }

    /// A launch touches a page, in a cache of so many bytes.
    pub(crate) fn touch(&mut self, page: Page, bytes: u32) {
        if let Some(before) = self.at.insert(page, self.next) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, page);
        self.next += 1;
        while self.order.len() as f64 > f64::from(bytes) * SHARE / PAGE as f64 {
            let Some((_, gone)) = self.order.pop_first() else { break };
            self.at.remove(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_page_goes_first() {
        let mut l2 = L2::default();
        // Room for seven pages.
        let bytes = 10 * PAGE as u32;
        (0..7).for_each(|page| l2.touch((1, page), bytes));
        l2.touch((1, 0), bytes);
        assert!((0..7).all(|page| l2.holds((1, page))) && !l2.holds((2, 0)));
        l2.touch((2, 0), bytes);
        assert!(l2.holds((2, 0)) && l2.holds((1, 0)) && !l2.holds((1, 1)));
        assert_eq!((l2.at.len(), l2.order.len()), (7, 7));
        // What is streamed through leaves nothing of before.
        (0..20).for_each(|page| l2.touch((3, page), bytes));
        assert!((13..20).all(|page| l2.holds((3, page))) && !l2.holds((3, 12)) && !l2.holds((2, 0)));
    }
}
