//! Winograd's F(4×4, 3×3) with magnitudes in the place of all numbers: what its roundings are relative to.
#![allow(dead_code)] // Each test binary uses its part.

use alexnet_core::shape::ConvShape;

/// y, dx, dw, db.
pub type Results = [Vec<f64>; 4];

const B: [[f64; 6]; 6] = [
    [4., 0., -5., 0., 1., 0.],
    [0., -4., -4., 1., 1., 0.],
    [0., 4., -4., -1., 1., 0.],
    [0., -2., -1., 2., 1., 0.],
    [0., 2., -1., -2., 1., 0.],
    [0., 4., 0., -5., 0., 1.],
];
const G: [[f64; 3]; 6] = [
    [1. / 4., 0., 0.],
    [-1. / 6., -1. / 6., -1. / 6.],
    [-1. / 6., 1. / 6., -1. / 6.],
    [1. / 24., 1. / 12., 1. / 6.],
    [1. / 24., -1. / 12., 1. / 6.],
    [0., 0., 1.],
];
const A: [[f64; 6]; 4] =
    [[1., 1., 1., 1., 1., 0.], [0., 1., -1., 2., -2., 0.], [0., 1., 1., 4., 4., 0.], [0., 1., -1., 8., -8., 1.]];

/// L·x·Rᵀ with the magnitudes of both factors' elements, L given by `left(i, k)`.
fn both(x: &[Vec<f64>], rows: usize, left: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let n = x.len();
    let sum = |i: usize, j: usize| -> f64 {
        (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .map(|(a, b)| left(i, a).abs() * x[a][b] * left(j, b).abs())
            .sum()
    };
    (0..rows).map(|i| (0..rows).map(|j| sum(i, j)).collect()).collect()
}

/// Winograd's algorithm with magnitudes in the place of all numbers: what its roundings are relative to.
pub fn winograd_magnitudes(s: &ConvShape, x: &[f64], w: &[f64], b: &[f64], dy: &[f64]) -> Results {
    let (p_end, q_end) = (s.output_height(), s.output_width());
    let (cs, ks) = (s.channels / s.groups, s.filters / s.groups);
    let mut to = [vec![0.0; s.output_len()], vec![0.0; s.input_len()], vec![0.0; s.weight_len()], vec![0.0; s.filters]];
    let u: Vec<_> = (0..s.filters * cs)
        .map(|i| both(&(0..3).map(|r| w[i * 9 + r * 3..][..3].to_vec()).collect::<Vec<_>>(), 6, |i, k| G[i][k]))
        .collect();
    let mut du = vec![vec![vec![0.0; 6]; 6]; s.filters * cs];
    for n in 0..s.batch {
        for (p, q) in (0..p_end).step_by(4).flat_map(|p| (0..q_end).step_by(4).map(move |q| (p, q))) {
            let pixel = |i: usize, j: usize| {
                let (h, w) = ((p + i).wrapping_sub(s.padding), (q + j).wrapping_sub(s.padding));
                (h < s.height && w < s.width).then(|| ((n * s.height + h) * s.width + w) * s.channels)
            };
            let output = |i: usize, j: usize| {
                (p + i < p_end && q + j < q_end).then(|| ((n * p_end + p + i) * q_end + q + j) * s.filters)
            };
            let tile = |size: usize, at: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
                (0..size).map(|i| (0..size).map(|j| at(i, j)).collect()).collect()
            };
            let v: Vec<_> = (0..s.channels)
                .map(|c| both(&tile(6, &|i, j| pixel(i, j).map_or(0.0, |at| x[at + c])), 6, |i, k| B[i][k]))
                .collect();
            let y: Vec<_> = (0..s.filters)
                .map(|k| both(&tile(4, &|i, j| output(i, j).map_or(0.0, |at| dy[at + k])), 6, |i, k| A[k][i]))
                .collect();
            let mut m = vec![vec![vec![0.0; 6]; 6]; s.filters];
            let mut z = vec![vec![vec![0.0; 6]; 6]; s.channels];
            for (k, c) in (0..s.filters).flat_map(|k| (0..cs).map(move |c| (k, c))) {
                let channel = k / ks * cs + c;
                for (i, j) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
                    m[k][i][j] += v[channel][i][j] * u[k * cs + c][i][j];
                    z[channel][i][j] += y[k][i][j] * u[k * cs + c][i][j];
                    du[k * cs + c][i][j] += y[k][i][j] * v[channel][i][j];
                }
            }
            for (k, m) in m.iter().enumerate() {
                let out = both(m, 4, |i, k| A[i][k]);
                for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
                    output(i, j).into_iter().for_each(|at| to[0][at + k] = out[i][j] + b[k]);
                }
            }
            for (c, z) in z.iter().enumerate() {
                let out = both(z, 6, |i, k| B[k][i]);
                for (i, j) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
                    pixel(i, j).into_iter().for_each(|at| to[1][at + c] += out[i][j]);
                }
            }
        }
    }
    for (i, du) in du.iter().enumerate() {
        let out = both(du, 3, |i, k| G[k][i]);
        (0..9).for_each(|j| to[2][i * 9 + j] = out[j / 3][j % 3]);
    }
    to
}

/// The same of dx where it is computed as a convolution of dy with turned windows, padded by 2 − padding.
pub fn turned_magnitudes(s: &ConvShape, w: &[f64], dy: &[f64]) -> Vec<f64> {
    let (channels, filters) = (s.channels / s.groups, s.filters / s.groups);
    let (height, width) = (s.output_height(), s.output_width());
    let turned = ConvShape { height, width, channels: s.filters, filters: s.channels, padding: 2 - s.padding, ..*s };
    let mut windows = vec![0.0; w.len()];
    for (k, c) in (0..s.filters).flat_map(|k| (0..channels).map(move |c| (k, c))) {
        let row = (k / filters * channels + c) * filters + k % filters;
        (0..9).for_each(|tap| windows[row * 9 + 8 - tap] = w[(k * channels + c) * 9 + tap]);
    }
    let [y, ..] = winograd_magnitudes(&turned, dy, &windows, &vec![0.0; s.channels], &vec![0.0; s.input_len()]);
    y
}
