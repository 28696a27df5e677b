//! Checks that the parts of a PNG, GIF, WebP or TIFF file lie within the file, before a decoder believes their lengths:
//! a decoder may stop at the first picture, and takes memory for what a part declares.

/// What ends too early, as text.
type Check = Result<(), String>;

fn cut(part: &str) -> String {
    format!("the file is cut short: {part}")
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize)
}

fn le16(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2).map(|n| usize::from(u16::from_le_bytes([n[0], n[1]])))
}

/// All chunks up to IEND, also those of an animation's later frames.
pub(super) fn png(bytes: &[u8]) -> Check {
    let mut at = 8;
    loop {
        let Some([a, b, c, d, name @ ..]) = bytes.get(at..at + 8) else {
            return Err(cut("it has no end chunk (IEND)"));
        };
        at = at.saturating_add(12 + u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if at > bytes.len() {
            return Err(cut(&format!("it ends within a chunk ({})", name.escape_ascii())));
        }
        if name == b"IEND" {
            return Ok(());
        }
    }
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
    let be24 = |at: usize| {
        body.get(at..at + 3).map_or(0, |n| usize::from(n[0]) | usize::from(n[1]) << 8 | usize::from(n[2]) << 16)
    };
    let canvas = body.starts_with(b"VP8X").then(|| (be24(12) + 1, be24(15) + 1));
    chunks(body, canvas)
}

fn chunks(mut body: &[u8], canvas: Option<(usize, usize)>) -> Check {
    while body.len() >= 8 {
        let length = le32(body, 4).unwrap_or_default();
        let (name, rest) = (&body[..4], &body[8..]);
        let Some(chunk) = rest.get(..length) else {
            return Err(cut(&format!("it ends within a chunk ({})", name.escape_ascii())));
        };
        let size = match name {
            b"VP8 " => le16(chunk, 6).zip(le16(chunk, 8)).map(|(wide, high)| (wide & 0x3fff, high & 0x3fff)),
            b"VP8L" => le32(chunk, 1).map(|n| ((n & 0x3fff) + 1, ((n >> 14) & 0x3fff) + 1)),
            b"ANMF" => {
                chunks(chunk.get(16..).unwrap_or_default(), canvas)?;
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

/// The strips or tiles of the first picture, and the directory that lists them, lie within the file. Of BigTIFF files only
/// the decoder checks.
pub(super) fn tiff(bytes: &[u8]) -> Check {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, len: usize| {
        let digits = bytes.get(at..at.checked_add(len)?)?;
        let add = |sum: usize, &byte: &u8| sum << 8 | usize::from(byte);
        Some(if little { digits.iter().rev().fold(0, add) } else { digits.iter().fold(0, add) })
    };
    if number(2, 2) != Some(42) {
        return Ok(());
    }
    let end = || cut("it ends within its directory");
    let first = number(4, 4).ok_or_else(end)?;
    let entries = number(first, 2).ok_or_else(end)?;
    let (mut offsets, mut lengths) = (None, None);
    for entry in (0..entries).map(|entry| first + 2 + 12 * entry) {
        let tag = number(entry, 2).ok_or_else(end)?;
        let (kind, count) = (number(entry + 2, 2).ok_or_else(end)?, number(entry + 4, 4).ok_or_else(end)?);
        let size = match kind {
            3 => 2,
            4 => 4,
            _ => 0,
        };
        let inside = size * count <= 4;
        let place = if inside { entry + 8 } else { number(entry + 8, 4).ok_or_else(end)? };
        let list = (place, size, count);
        match tag {
            // StripOffsets or TileOffsets, StripByteCounts or TileByteCounts.
            273 | 324 => offsets = Some(list),
            279 | 325 => lengths = Some(list),
            _ => {}
        }
    }
    let (Some(offsets), Some(lengths)) = (offsets, lengths) else { return Ok(()) };
    let item = |(place, size, _): (usize, usize, usize), index: usize| {
        if size == 0 { Some(0) } else { number(place.checked_add(index * size)?, size) }
    };
    for index in 0..offsets.2.min(lengths.2) {
        let (from, len) = (item(offsets, index).ok_or_else(end)?, item(lengths, index).ok_or_else(end)?);
        if from.saturating_add(len) > bytes.len() {
            return Err(cut("it ends within its pixels"));
        }
    }
    Ok(())
}
