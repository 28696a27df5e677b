//! Dropout without a stored mask: the backward pass generates the same random numbers again.
//!
//! Philox4x32-10 with [`BLOCKS`] counters side by side, so that a vector holds one word of each. A block of four words is for
//! four adjacent elements. 20 multiplications per four elements; 8 bytes per element.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use crate::random::uniform_f32;
use crate::shape::DropoutShape;

const BLOCKS: usize = 16;
/// Elements per task.
const CHUNK: usize = 16 << 10;

/// See [`Operators::dropout`](crate::device::Operators::dropout).
pub fn run(context: &Context, s: &DropoutShape, x: &mut [f32]) {
    let (len, x) = (x.len(), SyncPtr(x.as_mut_ptr()));
    context.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        // SAFETY: each task has its own chunk.
        let x = unsafe { x.slice_mut(start, CHUNK.min(len - start)) };
        chunk(context.level, &DropoutShape { offset: s.offset + start as u64, ..*s }, x);
    });
}

dispatch! {
    fn chunk(s: &DropoutShape, x: &mut [f32]) = plain body
}
#[inline(always)]
fn body(s: &DropoutShape, x: &mut [f32]) {
    // One by one up to the start of a block of four.
    let head = (s.offset.wrapping_neg() % 4).min(x.len() as u64) as usize;
    let (before, x) = x.split_at_mut(head);
    for (i, x) in before.iter_mut().enumerate() {
        *x *= s.factor(i);
    }
    let first = (s.offset + head as u64) / 4;
    let (rate, scale) = (s.rate as f32, s.scale());
    let mut groups = x.chunks_exact_mut(4 * BLOCKS);
    let mut block = first;
    for x in &mut groups {
        let mut words = [[0u32; BLOCKS]; 4];
        let counters: [u64; BLOCKS] = std::array::from_fn(|i| block + i as u64);
        words[0] = counters.map(|counter| counter as u32);
        words[1] = counters.map(|counter| (counter >> 32) as u32);
        words[2] = [s.step; BLOCKS];
        words[3] = [s.purpose; BLOCKS];
        philox(&mut words, s.philox.seed());
        for (i, x) in x.chunks_exact_mut(4).enumerate() {
            for (j, x) in x.iter_mut().enumerate() {
                *x *= if uniform_f32(words[j][i]) < rate { 0.0 } else { scale };
            }
        }
        block += BLOCKS as u64;
    }
    let done = head + (block - first) as usize * 4;
    for (i, x) in groups.into_remainder().iter_mut().enumerate() {
        *x *= s.factor(done + i);
    }
}

/// Ten rounds on all counters; see [`crate::random::philox4x32_10`].
#[inline(always)]
fn philox(words: &mut [[u32; BLOCKS]; 4], seed: u64) {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let [w0, w1, w2, w3] = words;
        for i in 0..BLOCKS {
            let a = 0xD251_1F53u64 * u64::from(w0[i]);
            let b = 0xCD9E_8D57u64 * u64::from(w2[i]);
            w0[i] = (b >> 32) as u32 ^ w1[i] ^ key[0];
            w1[i] = b as u32;
            w2[i] = (a >> 32) as u32 ^ w3[i] ^ key[1];
            w3[i] = a as u32;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
}
