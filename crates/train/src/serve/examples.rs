//! Pictures that a visitor of the page can try.

use std::path::Path;

use hyper::body::Bytes;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use serde_json::{Value, json};

use crate::data::decode::Exif;
use crate::data::passed_over::PassedOver;
use crate::data::{DataError, cifar, decode, folder, sample};

/// Most examples that are offered.
const MOST: usize = 12;
/// Longest side in pixels; larger pictures are shrunk, so that the page loads quickly.
const LONGEST: u32 = 512;

/// A picture, ready to be sent.
pub struct Example {
    name: String,
    /// Its media type.
    pub(super) kind: &'static str,
    pub(super) bytes: Bytes,
}

/// Pictures that a visitor of the page can try.
#[derive(Default)]
pub struct Examples(Vec<Example>);

impl Examples {
    /// Pictures of a folder and those below it, spread over their order by name, and what else is there.
    ///
    /// # Errors
    /// The folder cannot be read; one of the pictures cannot be decoded.
    pub fn from_folder(path: &Path, exif: Exif) -> Result<(Self, PassedOver), DataError> {
        let mut passed = PassedOver::default();
        let names = folder::pictures(path, &mut passed)?;
        let read = |name: &std::ffi::OsStr| {
            let file = path.join(name);
            let (pixels, width, height) = decode::decode_original(&file, exif)?;
            let fail = || DataError::Decode { path: file.clone(), reason: "it is empty".into() };
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let picture = RgbImage::from_raw(width as u32, height as u32, pixels);
            picture.and_then(|picture| Example::new(name, &picture)).ok_or_else(fail)
        };
        let count = names.len().min(MOST);
        let chosen = (0..count).map(|i| read(&names[i * names.len() / count]));
        let examples = chosen.collect::<Result<Vec<_>, _>>()?;
        Ok((Self(examples), passed))
    }

    /// One picture per class of the embedded sample if the network's `classes` are CIFAR-10's, else none.
    ///
    /// # Errors
    /// None with an intact binary.
    pub fn of_classes(classes: &[String]) -> Result<Self, DataError> {
        if classes != cifar::CLASSES {
            return Ok(Self::default());
        }
        let test = sample::open()?.test;
        let side = cifar::SIZE as u32;
        let mut scratch = Vec::new();
        let mut examples = Vec::new();
        for (class, name) in cifar::CLASSES.iter().enumerate() {
            let Some(index) = test.labels().iter().position(|&label| label as usize == class) else { continue };
            let pixels = test.image(index, cifar::SIZE, &mut scratch)?.to_vec();
            examples.extend(
                RgbImage::from_raw(side, side, pixels).and_then(|picture| Example::new((*name).into(), &picture)),
            );
        }
        Ok(Self(examples))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Example> {
        self.0.get(index)
    }

    /// Their names and addresses.
    pub(super) fn describe(&self) -> Value {
        let one =
            |(index, example): (usize, &Example)| json!({ "name": example.name, "url": format!("/examples/{index}") });
        self.0.iter().enumerate().map(one).collect()
    }
}

impl Example {
    /// Small pictures as PNG, others shrunk and as JPEG.
    fn new(name: String, picture: &RgbImage) -> Option<Self> {
        let (width, height) = picture.dimensions();
        let longest = width.max(height);
        let mut bytes = Vec::new();
        let (kind, written) = if longest <= LONGEST {
            ("image/png", encode(image::codecs::png::PngEncoder::new(&mut bytes), picture))
        } else {
            let part = |side: u32| (u64::from(side) * u64::from(LONGEST) / u64::from(longest)).max(1) as u32;
            let small = image::imageops::thumbnail(picture, part(width), part(height));
            ("image/jpeg", encode(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 88), &small))
        };
        written.ok().map(|()| Self { name, kind, bytes: bytes.into() })
    }
}

fn encode(encoder: impl ImageEncoder, picture: &RgbImage) -> image::ImageResult<()> {
    encoder.write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
}
