//! The number format in which the operands of a product are packed and multiplied. Sums are f32 in each.
//!
//! The micro-kernel goes through K in steps, one element of 32 bits of A and of B each: an f32, or two bf16 of neighbouring k. So
//! a product in bf16 is one in f32 with half the steps and [`Simd::dot`] in the place of the multiply-add. Where K is odd, the
//! last step's second product is that of two zeros.
//!
//! Error bound: a bf16 has 8 bits, so rounding both operands changes a product by at most 2·2⁻⁸ + 2⁻¹⁶ of it. The product of two
//! bf16 has 16 bits and is exact in f32; the sum errs by its additions, as in f32. All levels without AMX give the same bits,
//! but that `vdpbf16ps` takes subnormal numbers, those below 2⁻¹²⁶, for zero. AMX has an order of additions of its own, and its own
//! packing, [`tiles`](super::tiles).

use super::super::simd::{Level, Simd, bf16};
use super::tile::{self, PackedA, Prefetch};
use super::{MatMut, MatRef, pack};
use alexnet_ops::Precision;

/// Instruction set and number format of products.
#[derive(Clone, Copy)]
pub struct Products {
    pub level: Level,
    /// [`Precision::Bf16`] or [`Precision::Fp32`].
    pub precision: Precision,
}

/// Evaluates an expression with `$O` as the operand of `$products`.
macro_rules! with_operand {
    ($products:expr, $O:ident => $value:expr) => {
        match ($products.level, $products.precision) {
            #[cfg(target_arch = "x86_64")]
            (Level::Amx, Precision::Bf16) => {
                type $O = super::tiles::Tiles;
                $value
            }
            (_, Precision::Bf16) => {
                type $O = Bf16;
                $value
            }
            _ => {
                type $O = Fp32;
                $value
            }
        }
    };
}

impl Products {
    /// Steps of K.
    pub fn steps(self, k: usize) -> usize {
        with_operand!(self, O => <O as Operand>::steps(k))
    }
    /// Words of 32 bits in which `n` elements are [stored](Operand::store), a multiple of 32.
    pub fn words(self, n: usize) -> usize {
        n / with_operand!(self, O => <O as Operand>::PER_WORD)
    }
    /// Whether AMX multiplies.
    pub fn uses_tiles(self) -> bool {
        self.level == Level::Amx && self.precision == Precision::Bf16
    }
    /// The rows of A that the micro-kernel reads are a multiple of this: those beyond A's exist in memory, with any contents.
    pub fn rows_read(self) -> usize {
        if self.uses_tiles() { 16 } else { 1 }
    }
}

/// A number format of operands.
///
/// # Safety
/// As for [`Simd`].
pub trait Operand: Copy {
    /// Elements of K that are packed together. K is split between blocks.
    const BLOCK: usize;
    /// Steps of a block.
    const STEPS: usize;
    /// Steps of K summed in registers before C is updated, in [`gemm`](super::gemm): at most [`MAX_KC`](super::MAX_KC).
    const KC: usize = 128;
    /// An element as it is stored between operators.
    type Stored;
    /// Elements per word of 32 bits.
    const PER_WORD: usize = 4 / size_of::<Self::Stored>();

    /// Steps of K.
    #[inline(always)]
    fn steps(k: usize) -> usize {
        k.div_ceil(Self::BLOCK) * Self::STEPS
    }

    // ---- Products ----

    /// Rows of a micro-panel of A.
    fn rows<S: Simd>() -> usize;
    /// A micro-panel of the first rows of A, or of all `m` if there are fewer.
    unsafe fn pack_a_panel<S: Simd>(a: MatRef, m: usize, k: usize, to: *mut f32);
    /// See [`pack::pack_whole_b`].
    unsafe fn pack_whole_b<S: Simd>(b: MatRef, k: usize, n: usize, to: *mut f32);
    /// A with `k` steps as [`pack_a_panel`](Self::pack_a_panel) packs it.
    fn packed<S: Simd>(start: *const f32, k: usize) -> PackedA;
    /// See [`tile::panel`].
    unsafe fn panel<S: Simd>(
        size: [usize; 3],
        a: &PackedA,
        b: *const f32,
        c: MatMut,
        prefetch: &Prefetch,
        done: usize,
    ) -> usize;
    /// See [`gemm_stream_b`](super::gemm_stream_b).
    unsafe fn stream<S: Simd>(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32);

    // ---- Stored micro-panels: two vectors of columns, room for `capacity` rows ----

    /// Stores LANES elements; see [`Simd::store_bf16`].
    unsafe fn store<S: Simd>(p: *mut Self::Stored, v: S::V);
    /// Columns of a group, of which `n` are stored, that a product reads beyond these: whoever stores writes zeros there.
    fn zeros(n: usize) -> std::ops::Range<usize>;
    /// A whose rows are the stored ones.
    fn rows_of<S: Simd>(start: *const f32, capacity: usize) -> PackedA;
    /// A micro-panel of B whose k are `rows` stored rows of one micro-panel: packed into `to`, or `from` where a row is a step.
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32;
    /// A micro-panel of B, `size` \[n, k\], whose k are the columns of one stored micro-panel and whose columns are its rows, of which
    /// the first is at `from`.
    unsafe fn pack_rows<S: Simd>(from: *const f32, size: [usize; 2], to: *mut f32);
    /// A, `size` \[m, k\], whose rows are the stored columns and whose k are the stored rows; packed into `to` unless a row is a
    /// step.
    unsafe fn columns_of<S: Simd>(from: *const f32, capacity: usize, size: [usize; 2], to: *mut f32) -> PackedA;
    /// Prefetches what a tile after the present one reads of such an A, which lies in memory as it was stored.
    fn ahead<S: Simd>(a: &PackedA) -> Prefetch;
}

/// A number format that vectors multiply.
///
/// # Safety
/// As for [`Simd`].
pub trait Element: Copy {
    /// Elements of K per step.
    const PER_STEP: usize;

    /// See [`Operand::Stored`].
    type Stored;

    /// c plus a step's products.
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V;
    /// One step of the `left` elements of K from `at(0)` on.
    fn step(left: usize, at: impl Fn(usize) -> f32) -> f32;
    /// One step for LANES adjacent floats, `stride` from those of the next k.
    unsafe fn across<S: Simd>(p: *const f32, stride: usize) -> S::V;
    /// Stores LANES elements; see [`Simd::store_bf16`].
    unsafe fn store<S: Simd>(p: *mut Self::Stored, v: S::V);
    /// A micro-panel of steps from one of `rows` stored rows, each the elements of one k, two vectors wide: pairs them in `to`,
    /// or returns `from` where a row is a step.
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32;
    /// LANES steps for LANES rows of floats adjacent along K, stored as [`Simd::transpose`] does.
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}

// Each function relies on the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<E: Element> Operand for E {
    const BLOCK: usize = E::PER_STEP;
    const STEPS: usize = 1;
    type Stored = <E as Element>::Stored;

    #[inline(always)]
    fn rows<S: Simd>() -> usize {
        S::ROWS
    }
    #[inline(always)]
    unsafe fn pack_a_panel<S: Simd>(a: MatRef, m: usize, k: usize, to: *mut f32) {
        unsafe { pack::pack_a_panel::<S, E>(a, m, k, to) }
    }
    #[inline(always)]
    unsafe fn pack_whole_b<S: Simd>(b: MatRef, k: usize, n: usize, to: *mut f32) {
        unsafe { pack::pack_whole_b::<S, E>(b, k, n, to) }
    }
    #[inline(always)]
    fn packed<S: Simd>(start: *const f32, k: usize) -> PackedA {
        PackedA::new::<S>(start, k)
    }
    #[inline(always)]
    unsafe fn panel<S: Simd>(
        size: [usize; 3],
        a: &PackedA,
        b: *const f32,
        c: MatMut,
        prefetch: &Prefetch,
        done: usize,
    ) -> usize {
        unsafe { tile::panel::<S, E>(size, a, b, c, prefetch, done) }
    }
    #[inline(always)]
    unsafe fn stream<S: Simd>(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32) {
        unsafe { super::stream::<S, E, MatRef>(size, a, b, c, buffer) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut <E as Element>::Stored, v: S::V) {
        unsafe { <E as Element>::store::<S>(p, v) }
    }
    #[inline(always)]
    fn zeros(n: usize) -> std::ops::Range<usize> {
        n..n
    }
    #[inline(always)]
    fn rows_of<S: Simd>(start: *const f32, capacity: usize) -> PackedA {
        let width = 2 * S::LANES / E::PER_STEP;
        let jump = (capacity * width).saturating_sub(width);
        PackedA { start, row_major: true, rows: usize::MAX, panel_stride: 0, column_stride: 1, jump }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32 {
        unsafe { <E as Element>::pair_rows::<S>(from, rows, to) }
    }
    #[inline(always)]
    unsafe fn pack_rows<S: Simd>(from: *const f32, [n, k]: [usize; 2], to: *mut f32) {
        let stride = 2 * S::LANES / E::PER_STEP;
        unsafe {
            // Steps are transposed as they are stored.
            let from = MatRef { start: from, stride, row_major: false };
            pack::pack_whole_b::<S, Fp32>(from, Self::steps(k), n, to);
        }
    }
    #[inline(always)]
    unsafe fn columns_of<S: Simd>(from: *const f32, capacity: usize, [m, rows]: [usize; 2], to: *mut f32) -> PackedA {
        let (width, steps) = (2 * S::LANES, Self::steps(rows));
        let (mut start, mut panel_stride) = (from, capacity * width);
        if E::PER_STEP > 1 {
            for c in (0..m).step_by(width) {
                unsafe {
                    <E as Element>::pair_rows::<S>(from.add(c / E::PER_STEP * capacity), rows, to.add(c * steps))
                };
            }
            (start, panel_stride) = (to, steps * width);
        }
        PackedA { start, row_major: false, rows: width, panel_stride, column_stride: width, jump: 0 }
    }
    #[inline(always)]
    fn ahead<S: Simd>(a: &PackedA) -> Prefetch {
        // Of rows those of the next tile, of columns the next micro-panel: a cache line per step.
        let (step, second) = (16, 0);
        if a.row_major {
            let width = 2 * S::LANES / E::PER_STEP;
            let (tile_stride, jump) = (S::ROWS * width, (a.jump + width).wrapping_sub(width * step));
            return Prefetch {
                start: a.start.wrapping_add(tile_stride),
                tiles: usize::MAX,
                tile_stride,
                step,
                jump,
                second,
            };
        }
        let tile_stride = a.panel_stride / a.rows.div_ceil(S::ROWS);
        let start = a.start.wrapping_add(a.panel_stride);
        Prefetch { start, tiles: usize::MAX, tile_stride, step, jump: 0, second }
    }
}

/// f32.
#[derive(Clone, Copy)]
pub struct Fp32;

// Each function relies on the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Element for Fp32 {
    const PER_STEP: usize = 1;
    type Stored = f32;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::fma(a, b, c) }
    }
    #[inline(always)]
    fn step(_left: usize, at: impl Fn(usize) -> f32) -> f32 {
        at(0)
    }
    #[inline(always)]
    unsafe fn across<S: Simd>(p: *const f32, _stride: usize) -> S::V {
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, _rows: usize, _to: *mut f32) -> *const f32 {
        from
    }
    #[inline(always)]
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe { S::transpose(from, stride, to, to_stride) }
    }
}

/// Two bf16, of k in the lower half of the element and of k + 1 in the upper one.
#[derive(Clone, Copy)]
pub struct Bf16;

// Each function relies on the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Element for Bf16 {
    const PER_STEP: usize = 2;
    type Stored = u16;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::dot(a, b, c) }
    }
    #[inline(always)]
    fn step(left: usize, at: impl Fn(usize) -> f32) -> f32 {
        bf16::pair(at(0), if left > 1 { at(1) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn across<S: Simd>(p: *const f32, stride: usize) -> S::V {
        unsafe { S::pair(S::load(p), S::load(p.add(stride))) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut u16, v: S::V) {
        unsafe { S::store_bf16(p, v) }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32 {
        const ZEROS: [u16; 32] = [0; 32];
        let (from, width) = (from.cast::<u16>(), 2 * S::LANES);
        unsafe {
            for row in (0..rows).step_by(2) {
                let low = from.add(row * width);
                let high = if row + 1 < rows { low.add(width) } else { ZEROS.as_ptr() };
                let [first, second] = S::interleave(low, high);
                S::store(to.add(row / 2 * width), first);
                S::store(to.add(row / 2 * width + S::LANES), second);
            }
        }
        to
    }
    #[inline(always)]
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // LANES is at most 16.
        let mut rows = [0.0f32; 256];
        unsafe {
            for i in 0..S::LANES {
                S::store(rows.as_mut_ptr().add(i * S::LANES), S::neighbours(from.add(i * stride)));
            }
            S::transpose(rows.as_ptr(), S::LANES, to, to_stride);
        }
    }
}
