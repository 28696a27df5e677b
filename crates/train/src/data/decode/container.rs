//! Checks that the parts of a PNG, GIF, WebP or TIFF file lie within the file, before a decoder believes their lengths:
//! a decoder may stop at the first picture, and takes memory for what a part declares.

use std::io::{Cursor, Read};

use image::ImageDecoder;
use image::codecs::jpeg::JpegDecoder;

use super::cut;

/// What ends too early, as text.
type Check = Result<(), String>;

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize)
}

fn le16(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2).map(|n| usize::from(u16::from_le_bytes([n[0], n[1]])))
}

/// Most bytes of a PNG's colour profiles, which the decoder inflates; those of printers have up to 3 MiB.
const MOST_PROFILE: u64 = 8 << 20;
/// Most texts of a PNG: the decoder keeps each.
const MOST_TEXTS: usize = 4096;

/// All chunks up to IEND, also those of an animation's later frames. Returns the EXIF data, which may come after the
/// pixels.
pub(super) fn png(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let (mut at, mut exif, mut profile, mut texts) = (8, None, 0, 0);
    loop {
        let Some([a, b, c, d, name @ ..]) = bytes.get(at..at + 8) else {
            return Err(cut("it has no end chunk (IEND)"));
        };
        let data = at + 8;
        at = at.saturating_add(12 + u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if at > bytes.len() {
            return Err(cut(&format!("it ends within a chunk ({})", name.escape_ascii())));
        }
        match name {
            b"eXIf" => exif = bytes.get(data..at - 4),
            b"IEND" => return Ok(exif),
            b"iCCP" => {
                // A name that ends with 0, and the method of compression.
                let packed = bytes[data..at - 4].splitn(2, |&byte| byte == 0).nth(1).and_then(|rest| rest.get(1..));
                let inflated = flate2::read::ZlibDecoder::new(packed.unwrap_or_default()).take(MOST_PROFILE + 1);
                // One that is damaged is the decoder's to judge: what could be inflated has been counted.
                profile += count(inflated);
            }
            b"tEXt" | b"zTXt" | b"iTXt" => texts += 1,
            _ => {}
        }
        if profile > MOST_PROFILE {
            return Err(format!("its colour profile has more than {} MiB: remove it", MOST_PROFILE >> 20));
        }
        if texts > MOST_TEXTS {
            return Err(format!("it has more than {MOST_TEXTS} texts: remove them"));
        }
    }
}

/// The number of bytes up to the end or the first error.
fn count(mut data: impl Read) -> u64 {
    let (mut buffer, mut count) = ([0; 1 << 14], 0);
    while let Ok(read @ 1..) = data.read(&mut buffer) {
        count += read as u64;
    }
    count
}

/// Bits per pixel as stored: of a palette the index.
pub(super) fn png_bits(bytes: &[u8]) -> u64 {
    let (depth, channels) = match bytes.get(24..26) {
        Some(&[depth, kind]) => (depth, [1, 0, 3, 1, 2, 0, 4].get(usize::from(kind)).copied().unwrap_or(4)),
        _ => (8, 4),
    };
    u64::from(depth) * channels
}

/// All blocks up to the trailer, and frames that are not much larger than the picture.
pub(super) fn gif(bytes: &[u8]) -> Check {
    /// Pixels that a frame may always have.
    const SMALL: usize = 1 << 22;
    let colours = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let end = || cut("it has no trailer");
    let mut at = 13 + colours(*bytes.get(10).ok_or_else(end)?);
    loop {
        match *bytes.get(at).ok_or_else(end)? {
            0x3b => return Ok(()),
            0x21 => at += 2,
            0x2c => {
                let area = |at| Some(le16(bytes, at)? * le16(bytes, at + 2)?);
                let (frame, picture) = (area(at + 5).ok_or_else(end)?, area(6).ok_or_else(end)?);
                if frame > picture.max(SMALL) {
                    return Err(format!("the file is damaged: a frame of {frame} pixels in a picture of {picture}"));
                }
                at += 11 + colours(*bytes.get(at + 9).ok_or_else(end)?);
            }
            // Padding between blocks.
            0 => {
                at += 1;
                continue;
            }
            _ => return Err("the file is damaged: a block is of no known kind".into()),
        }
        loop {
            let length = usize::from(*bytes.get(at).ok_or_else(end)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// All chunks within the file, and pictures that are no larger than the canvas.
pub(super) fn webp(bytes: &[u8]) -> Check {
    let size = le32(bytes, 4).ok_or_else(|| cut("it has no header"))?;
    let Some(body) = bytes.get(12..).and_then(|body| body.get(..size.saturating_sub(4))) else {
        return Err(cut(&format!("it has {} of {} bytes", bytes.len(), size.saturating_add(8))));
    };
    let le24 = |at: usize| {
        body.get(at..at + 3).map_or(0, |n| usize::from(n[0]) | usize::from(n[1]) << 8 | usize::from(n[2]) << 16)
    };
    let canvas = body.starts_with(b"VP8X").then(|| (le24(12) + 1, le24(15) + 1));
    chunks(body, canvas, false)
}

/// The chunks of a file, or of a frame of an animation, in which there are no frames.
fn chunks(mut body: &[u8], canvas: Option<(usize, usize)>, in_frame: bool) -> Check {
    while body.len() >= 8 {
        let length = le32(body, 4).unwrap_or_default();
        let (name, rest) = (&body[..4], &body[8..]);
        let Some(chunk) = rest.get(..length) else {
            return Err(cut(&format!("it ends within a chunk ({})", name.escape_ascii())));
        };
        let size = match name {
            b"VP8 " => le16(chunk, 6).zip(le16(chunk, 8)).map(|(wide, high)| (wide & 0x3fff, high & 0x3fff)),
            b"VP8L" => le32(chunk, 1).map(|n| ((n & 0x3fff) + 1, ((n >> 14) & 0x3fff) + 1)),
            b"ANMF" if in_frame => return Err("the file is damaged: a frame within a frame".into()),
            b"ANMF" => {
                chunks(chunk.get(16..).unwrap_or_default(), canvas, true)?;
                None
            }
            _ => None,
        };
        if let (Some(size), Some(canvas)) = (size, canvas)
            && (size.0 > canvas.0 || size.1 > canvas.1)
        {
            return Err(format!(
                "the file is damaged: a picture of {}×{} pixels in one of {}×{}",
                size.0, size.1, canvas.0, canvas.1
            ));
        }
        body = rest.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    Ok(())
}

/// The first directory of a TIFF or BigTIFF file.
struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
    /// BigTIFF: offsets and counts have 8 bytes.
    big: bool,
}

/// An entry of a directory: a list of numbers.
#[derive(Clone, Copy)]
struct Entry {
    tag: usize,
    /// Where its numbers are, and bytes of each: 0 for unknown types.
    place: usize,
    size: usize,
    count: usize,
}

impl Tiff<'_> {
    fn number(&self, at: usize, len: usize) -> Option<usize> {
        let digits = self.bytes.get(at..at.checked_add(len)?)?;
        let add = |sum: usize, &byte: &u8| sum << 8 | usize::from(byte);
        Some(if self.little { digits.iter().rev().fold(0, add) } else { digits.iter().fold(0, add) })
    }

    fn entries(&self) -> Option<Vec<Entry>> {
        // Bytes of an offset, of the number of entries, and of an entry.
        let (wide, counted, entry_len) = if self.big { (8, 8, 20) } else { (4, 2, 12) };
        let first = self.number(wide, wide)?;
        let entries = first.checked_add(counted)?;
        let entry = |index: usize| {
            let at = index.checked_mul(entry_len)?.checked_add(entries)?;
            let size: usize = match self.number(at + 2, 2)? {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16..=18 => 8,
                _ => 0,
            };
            let count = self.number(at + 4, wide)?;
            let value = at + 4 + wide;
            let place = if size.checked_mul(count)? <= wide { value } else { self.number(value, wide)? };
            Some(Entry { tag: self.number(at, 2)?, place, size, count })
        };
        (0..self.number(first, counted)?).map(entry).collect()
    }

    fn item(&self, list: Entry, index: usize) -> Option<usize> {
        if list.size == 0 { Some(0) } else { self.number(list.place.checked_add(index * list.size)?, list.size) }
    }
}

/// `None` without a TIFF's first bytes.
fn directory(bytes: &[u8]) -> Option<Tiff<'_>> {
    let tiff = Tiff { bytes, little: bytes.starts_with(b"II"), big: false };
    let version = tiff.number(2, 2)?;
    matches!(version, 42 | 43).then_some(Tiff { big: version == 43, ..tiff })
}

/// Most numbers of an entry that describes pixels: the decoder takes 32 bytes for each.
const MOST_NUMBERS: usize = 1 << 20;

/// The strips or tiles of the first picture, and the directory that lists them, lie within the file.
pub(super) fn tiff(bytes: &[u8]) -> Check {
    let Some(tiff) = directory(bytes) else { return Ok(()) };
    let end = || cut("it ends within its directory");
    let entries = tiff.entries().ok_or_else(end)?;
    for entry in &entries {
        // The decoder takes memory for a list before it reads it.
        let list_end = entry.size.checked_mul(entry.count).and_then(|len| entry.place.checked_add(len));
        if list_end.is_none_or(|end| entry.size > 0 && end > bytes.len()) {
            return Err(end());
        }
        if entry.tag < 400 && entry.count > MOST_NUMBERS {
            return Err(format!("its directory has {} numbers for tag {}", entry.count, entry.tag));
        }
    }
    let list = |tags: [usize; 2]| entries.iter().rfind(|entry| tags.contains(&entry.tag)).copied();
    // StripOffsets or TileOffsets, StripByteCounts or TileByteCounts.
    let (Some(offsets), Some(lengths)) = (list([273, 324]), list([279, 325])) else { return Ok(()) };
    let mut strips = Vec::new();
    for index in 0..offsets.count.min(lengths.count) {
        let from = tiff.item(offsets, index).ok_or_else(end)?;
        let len = tiff.item(lengths, index).ok_or_else(end)?;
        let strip = from.checked_add(len).and_then(|to| bytes.get(from..to));
        strips.push(strip.ok_or_else(|| cut("it ends within its pixels"))?);
    }
    let value = |tag| entries.iter().rfind(|entry| entry.tag == tag).and_then(|&entry| tiff.item(entry, 0));
    if value(259) != Some(7) {
        return Ok(());
    }
    if strips.iter().map(|strip| strip.len()).sum::<usize>() > bytes.len() {
        return Err("its strips overlap".into());
    }
    let side = |image, tile| value(image).max(value(tile)).unwrap_or(0);
    let tables = entries.iter().rfind(|entry| entry.tag == 347);
    let tables = tables.and_then(|tables| bytes.get(tables.place..)?.get(..tables.size * tables.count));
    frames(&strips, tables, [side(256, 322), side(257, 323)], value(277).unwrap_or(1))
}

/// The JPEGs in a TIFF have frames of `width` by `height` and of `samples` at the most: the decoder takes memory for what a frame
/// says. `tables` are put before each strip.
fn frames(strips: &[&[u8]], tables: Option<&[u8]>, [width, height]: [usize; 2], samples: usize) -> Check {
    let mut rest = tables.and_then(|tables| tables.strip_prefix(b"\xff\xd8")).unwrap_or_default();
    // Quantisation, Huffman tables, restarts, remarks.
    while let [0xff, 0xdb | 0xc4 | 0xdd | 0xe0..=0xef | 0xfe, high, low, ..] = *rest {
        rest = rest.get(2 + usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
    }
    if !matches!(rest, [] | [0xff, 0xd9, ..]) {
        return Err("its JPEG tables hold more than tables".into());
    }
    for strip in strips {
        let frame =
            JpegDecoder::new(Cursor::new(strip)).map_err(|error| format!("a JPEG in it cannot be read: {error}"))?;
        let ((wide, high), channels) = (frame.dimensions(), usize::from(frame.color_type().channel_count()));
        if wide as usize > width || high as usize > height || channels > samples {
            return Err(format!(
                "a JPEG in it is {wide}×{high} with {channels} channels, more than its {width}×{height} with {samples}"
            ));
        }
    }
    Ok(())
}

/// The file with its indices declared as grey, and the colour of each, if it has a palette of 8 bits: the decoder does not
/// read these.
pub(super) fn tiff_palette(bytes: &[u8]) -> Option<(Vec<u8>, Vec<[u8; 3]>)> {
    let tiff = directory(bytes)?;
    let entries = tiff.entries()?;
    let find = |tag| entries.iter().find(|entry| entry.tag == tag).copied();
    let (photometric, depth, map) = (find(262)?, find(258)?, find(320)?);
    if tiff.item(photometric, 0)? != 3 || tiff.item(depth, 0)? != 8 || map.count != 3 * 256 || map.size != 2 {
        return None;
    }
    // 16 bits of each: all reds, all greens, all blues.
    let colours: Option<Vec<[u8; 3]>> = (0..256)
        .map(|index| {
            let channel = |channel: usize| Some((tiff.item(map, 256 * channel + index)? >> 8) as u8);
            Some([channel(0)?, channel(1)?, channel(2)?])
        })
        .collect();
    let mut grey = bytes.to_vec();
    let low = photometric.place + if tiff.little { 0 } else { photometric.size.max(1) - 1 };
    *grey.get_mut(low)? = 1;
    Some((grey, colours?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jpegs_in_a_tiff_are_no_larger_than_it_says() {
        let corpus = |name: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/picture");
            std::fs::read(folder.join(name)).unwrap()
        };
        // One with tables of its own, beside the strips.
        let file = corpus("jpeg.tif");
        tiff(&file).unwrap();
        crate::data::decode::decode_as(image::ImageFormat::Tiff, &file, crate::data::decode::Exif::Apply).unwrap();
        let error = tiff(&corpus("regression-frame-in-strip.tif")).unwrap_err();
        assert!(error.starts_with("a JPEG in it is 4352×6144 with 3 channels, more than its 24×17 with 3"), "{error}");

        let strip = &file[8..];
        let fits = |tables: &[u8]| frames(&[strip], Some(tables), [1 << 16; 2], 3);
        assert_eq!(fits(b"\xff\xd8\xff\xdb\0\x03x\xff\xd9"), Ok(()));
        let frame = fits(b"\xff\xd8\xff\xdb\0\x03x\xff\xc0\0\x11\x08\xff\xff\xff\xff");
        assert_eq!(frame, Err("its JPEG tables hold more than tables".into()));
    }
}
