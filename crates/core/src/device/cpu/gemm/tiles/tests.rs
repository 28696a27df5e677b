//! The products against `tdpbf16ps` in plain Rust, bit for bit.

use super::super::operand::{Operand, Products};
use super::super::{BUFFER, MatMut, MatRef, gemm};
use super::*;
use crate::device::cpu::simd::{Level, bf16};
use alexnet_ops::Precision;

/// Numbers of either sign and magnitudes from 2⁻⁸ to 1.
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let word =
        |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    (0..len).map(|i| f32::from_bits(word(i) & 0x83ff_ffff | 0x3b80_0000)).collect()
}

/// An element of the product of a row and a column, as the head of the file says.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let rounded = |x: f32| f32::from_bits(bf16::round(x) << 16);
    let mut sum = 0.0f32;
    for (a, b) in a.chunks(32).zip(b.chunks(32)) {
        let mut parity = [0.0f32; 2];
        for (k, (&a, &b)) in a.iter().zip(b).enumerate() {
            parity[k % 2] = rounded(a).mul_add(rounded(b), parity[k % 2]);
        }
        sum += parity[0] + parity[1];
    }
    sum
}

#[test]
fn products_are_those_of_the_instruction() {
    if !Level::Amx.is_available() {
        eprintln!("not tested: this machine has no AMX");
        return;
    }
    let products = Products { level: Level::Amx, precision: Precision::Bf16 };
    let mut buffer = vec![f32::NAN; BUFFER];
    for (m, n, k) in [(1, 1, 1), (16, 32, 32), (17, 33, 31), (5, 70, 97), (40, 16, 64), (33, 49, 700), (64, 64, 1100)] {
        let (a, b) = (numbers(2, m * k), numbers(3, n * k));
        let old = numbers(4, m * n);
        // K between two updates of C.
        let runs = Tiles::steps(k).div_ceil(Tiles::KC);
        let run = k.div_ceil(32).div_ceil(runs) * 32;
        for (a_row_major, b_row_major, accumulate) in [(true, true, false), (true, false, true), (false, true, true)] {
            let at = |row_major, [i, j]: [usize; 2], [height, width]: [usize; 2]| {
                if row_major { i * width + j } else { j * height + i }
            };
            let row = |i: usize| (0..k).map(|p| a[at(a_row_major, [i, p], [m, k])]).collect::<Vec<_>>();
            let column = |j: usize| (0..k).map(|p| b[at(b_row_major, [p, j], [k, n])]).collect::<Vec<_>>();
            let mut c = old.clone();
            let a = MatRef { start: a.as_ptr(), stride: if a_row_major { k } else { m }, row_major: a_row_major };
            let b = MatRef { start: b.as_ptr(), stride: if b_row_major { n } else { k }, row_major: b_row_major };
            // SAFETY: the matrices and the buffer have these sizes.
            unsafe {
                let c = MatMut { start: c.as_mut_ptr(), stride: n, accumulate };
                gemm(products, [m, n, k], a, b, c, buffer.as_mut_ptr());
            }
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let (row, column) = (row(i), column(j));
                let mut expected = if accumulate { Some(old[i * n + j]) } else { None };
                for (row, column) in row.chunks(run).zip(column.chunks(run)) {
                    let sum = product(row, column);
                    expected = Some(expected.map_or(sum, |before| before + sum));
                }
                let found = c[i * n + j];
                assert_eq!(Some(found.to_bits()), expected.map(f32::to_bits), "{m} {n} {k} ({i}, {j})");
            }
        }
    }
}
