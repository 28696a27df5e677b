//! The order in which the kernels keep a convolution's weights and their gradients.

use std::ops::Range;

use alexnet_ops::Number;
use alexnet_ops::shape::ConvShape;

/// Bytes per memory sector.
const SECTOR: usize = 32;

/// (K, R, L): for each filter and row of its window R·C/G elements, channels innermost, then zeros up to L.
///
/// L is R·C/G, or, where C/G elements are not whole packs of 16 bytes, the next whole number of sectors, as long as that is less
/// than twice as many. PyTorch's order is (K, C/G, R, R).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLayout {
    filters: usize,
    channels: usize,
    kernel: usize,
    row: usize,
}

impl FilterLayout {
    /// Of `filters` filters with `channels` channels each and windows of side `kernel`, for products of this type.
    pub fn new([filters, channels, kernel]: [usize; 3], number: Number) -> Self {
        let size = number.size();
        let length = kernel * channels;
        let padded = length.next_multiple_of(SECTOR / size);
        let pads = !(channels * size).is_multiple_of(16) && (filters * size).is_multiple_of(16) && padded <= 2 * length;
        Self { filters, channels, kernel, row: if pads { padded } else { length } }
    }
    /// Of a convolution.
    pub fn of(conv: &ConvShape, number: Number) -> Self {
        Self::new([conv.filters, conv.group_channels(), conv.kernel], number)
    }
    /// Elements per row of a window, L.
    pub const fn row(&self) -> usize {
        self.row
    }
    /// Elements per filter, R·L.
    pub const fn window(&self) -> usize {
        self.kernel * self.row
    }
    /// Elements of all filters.
    pub const fn len(&self) -> usize {
        self.filters * self.window()
    }
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether L exceeds R·C/G.
    pub const fn is_padded(&self) -> bool {
        self.row > self.kernel * self.channels
    }
    /// Elements in PyTorch's order, without padding.
    pub const fn dense_len(&self) -> usize {
        self.filters * self.channels * self.kernel * self.kernel
    }
    /// The places of the whole filters that the elements in `range` of PyTorch's order are of.
    pub fn filters_of(&self, range: Range<usize>) -> Range<usize> {
        let dense = (self.channels * self.kernel * self.kernel).max(1);
        range.start / dense * self.window()..range.end.div_ceil(dense) * self.window()
    }
    /// Where element `index` of PyTorch's order is.
    pub const fn position(&self, index: usize) -> usize {
        let (tap, rest) = (index % (self.kernel * self.kernel), index / (self.kernel * self.kernel));
        let (c, k) = (rest % self.channels, rest / self.channels);
        let (r, s) = (tap / self.kernel, tap % self.kernel);
        (k * self.kernel + r) * self.row + s * self.channels + c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_its_place() {
        for (shape, number, row) in [
            ([64, 3, 3], Number::F32, 16),
            ([64, 3, 11], Number::F16, 48),
            ([64, 3, 11], Number::F32, 40),
            ([5, 3, 3], Number::F32, 9), // filters in no whole packs
            ([8, 1, 1], Number::F32, 1), // more zeros than elements
            ([6, 8, 3], Number::F16, 24),
        ] {
            let layout = FilterLayout::new(shape, number);
            assert_eq!(layout.row(), row, "{shape:?}");
            let mut places: Vec<_> = (0..layout.dense_len()).map(|i| layout.position(i)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), layout.dense_len());
            let used = |place: &usize| *place < layout.len() && place % row < shape[1] * shape[2];
            assert!(places.iter().all(used), "{shape:?}");
        }
        let layout = FilterLayout::new([64, 3, 3], Number::F32);
        assert_eq!(layout.filters_of(26..54), 0..2 * 48);
        assert_eq!(layout.filters_of(27..55), 48..3 * 48);
        // Filter 2, channel 1, row 2, column 0.
        assert_eq!(layout.position(((2 * 3 + 1) * 3 + 2) * 3), (2 * 3 + 2) * 16 + 1);
    }
}
