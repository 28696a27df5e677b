//! What the tests share: NVRTC, and a machine to launch kernels on.
#![allow(dead_code, unused_imports, unused_macros)] // Each test binary uses its part.

#[macro_use]
pub mod gpu;
pub mod nvrtc;

pub use gpu::{Arg, Buffer, Gpu};
pub use nvrtc::compile;

/// SplitMix64: numbers for the tests, the same at every run.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.draw() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
