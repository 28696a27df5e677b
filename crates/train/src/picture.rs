//! Small pictures for web pages: PNG as data URLs, first-layer filters, activations.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ExtendedColorType, ImageEncoder};

/// An RGBA picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 4]>,
}

impl Picture {
    /// A transparent picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0; 4]; width * height] }
    }

    /// From a square RGB image, (`image_size`, `image_size`, 3).
    pub fn from_rgb(image_size: usize, rgb: &[u8]) -> Self {
        let pixels = rgb.as_chunks::<3>().0.iter().map(|&[r, g, b]| [r, g, b, 255]).collect();
        Self { width: image_size, height: image_size, pixels }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Fills the square of `side` pixels with its top left corner at (x, y).
    pub(crate) fn square(&mut self, x: usize, y: usize, side: usize, colour: [u8; 4]) {
        for row in y..y + side {
            self.pixels[row * self.width + x..][..side].fill(colour);
        }
    }

    /// As a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut file);
        let (width, height) = (self.width as u32, self.height as u32);
        // Writing to memory fails only for an empty picture, which no caller makes.
        let written = encoder.write_image(self.pixels.as_flattened(), width, height, ExtendedColorType::Rgba8);
        if written.is_err() { Vec::new() } else { file }
    }

    /// As a `data:` URL.
    pub fn url(&self) -> String {
        format!("data:image/png;base64,{}", BASE64_STANDARD.encode(self.png()))
    }
}

/// Number of columns for `count` tiles: about twice the number of rows, and full rows if possible nearby.
fn columns(count: usize) -> usize {
    let wide = (1..=count.max(1)).find(|columns| columns * columns >= 2 * count).unwrap_or(1);
    (wide..2 * wide).find(|&columns| count.is_multiple_of(columns)).unwrap_or(wide)
}

/// Draws `count` tiles of `side`×`side` values, each value as a square of `scale` pixels, with `gap` pixels between
/// tiles.
fn mosaic(
    count: usize,
    side: usize,
    scale: usize,
    gap: usize,
    colour: impl Fn(usize, usize, usize) -> [u8; 4],
) -> Picture {
    let columns = columns(count);
    let step = side * scale + gap;
    let mut picture = Picture::new(columns * step - gap.min(step), count.div_ceil(columns) * step - gap.min(step));
    for tile in 0..count {
        let (left, top) = (tile % columns * step, tile / columns * step);
        for y in 0..side {
            for x in 0..side {
                picture.square(left + x * scale, top + y * scale, scale, colour(tile, y, x));
            }
        }
    }
    picture
}

/// First-layer filters (filters, 3, side, side) as colours. Each filter is scaled to its own range, 0 to 255.
pub fn filters(weights: &[f32], count: usize, side: usize) -> Picture {
    let tile = 3 * side * side;
    let ranges: Vec<(f32, f32)> = weights.chunks_exact(tile.max(1)).map(range).collect();
    let scale = 24_usize.div_ceil(side.max(1));
    mosaic(count, side, scale, 3, |filter, y, x| {
        let value =
            |channel: usize| byte(weights[filter * tile + channel * side * side + y * side + x], ranges[filter]);
        [value(0), value(1), value(2), 255]
    })
}

/// The channels of one image's activations (side, side, channels) as greys from 0 to the layer's largest value. The grey
/// is the square root of the ratio, since most activations are far below the largest.
pub fn activations(values: &[f32], side: usize, channels: usize) -> Picture {
    let (_, most) = range(values);
    let scale = 32_usize.div_ceil(side.max(1));
    mosaic(channels, side, scale, 2, |channel, y, x| {
        let share = values[(y * side + x) * channels + channel] / most;
        let grey = byte(share.max(0.0).sqrt(), (0.0, if most > 0.0 { 1.0 } else { 0.0 }));
        [grey, grey, grey, 255]
    })
}

fn range(values: &[f32]) -> (f32, f32) {
    let finite = values.iter().copied().filter(|value| value.is_finite());
    finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

fn byte(value: f32, (least, most): (f32, f32)) -> u8 {
    // A constant has no range: middle grey. `as` converts NaN to 0.
    if most > least { ((value - least) / (most - least) * 255.0).round().clamp(0.0, 255.0) as u8 } else { 127 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_lie_in_rows_with_their_own_range() {
        let weights: Vec<f32> = (0..3 * 27).map(|i| i as f32 % 27.0).collect();
        let picture = filters(&weights, 3, 3);
        // Three columns of 3 × 8 pixels and a gap of 3.
        assert_eq!((picture.width(), picture.height()), (3 * 27 - 3, 24));
        assert_eq!(
            picture.pixels[0],
            [0, (9.0_f32 / 26.0 * 255.0).round() as u8, (18.0_f32 / 26.0 * 255.0).round() as u8, 255]
        );
        assert_eq!(picture.pixels[23 + 23 * picture.width()][2], 255);
        assert_eq!(picture.pixels[24], [0; 4]);
        let decoded = image::load_from_memory(&picture.png()).unwrap().into_rgba8();
        assert_eq!(decoded.as_raw(), picture.pixels.as_flattened());
        assert!(picture.url().starts_with("data:image/png;base64,iVBORw0KGgo"));
    }

    #[test]
    fn values_that_are_no_numbers_are_black() {
        let picture = activations(&[f32::NAN, 1.0, 0.0, 2.0], 2, 1);
        assert_eq!((picture.pixels[0][0], picture.pixels[16][0], picture.pixels[32 * 31 + 31][0]), (0, 180, 255));
        assert_eq!(activations(&[0.0; 4], 2, 1).pixels[0][0], 127, "no range: the middle");
    }
}
