//! Small files that declare, or unpack to, much: a picture takes at most twice its pixels' bytes and 64 MiB, and a second on
//! the processor, or is refused within that.
#![cfg(target_os = "linux")]

mod command;
mod cost;

use std::io::{Cursor, Write};

use command::Place;
use cost::cost;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// A bomb: its name, the pixels' bytes that decoding it is allowed for, and whether it must be refused.
struct Bomb {
    name: &'static str,
    pixels: u64,
    refused: bool,
    file: Vec<u8>,
}

fn zlib(len: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), len as u64), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
}

/// A black PNG with more chunks; `channels` of `depth` bits.
fn png(side: usize, depth: u8, channels: usize, more: &[u8]) -> Vec<u8> {
    let kind = [0, 0, 4, 2, 6][channels];
    let size = (side as u32).to_be_bytes();
    let head = [&size[..], &size, &[depth, kind, 0, 0, 0]].concat();
    let pixels = zlib(side * (1 + side * channels * usize::from(depth) / 8));
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), more, &chunk(b"IDAT", &pixels), &chunk(b"IEND", b"")].concat()
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

/// A grey progressive JPEG with these sampling factors per component and as many scans of AC coefficients after that of DC.
/// All of its data are zeros: a DC of 0 takes a bit, and 15 bits end 16,384 blocks.
fn jpeg(side: u16, sampling: &[u8], scans: usize, more: &[u8]) -> Vec<u8> {
    let count = sampling.len() as u8;
    let side_bytes = side.to_be_bytes();
    let mut frame = [&[8][..], &side_bytes, &side_bytes, &[count]].concat();
    sampling.iter().zip(1..).for_each(|(hv, id): (&u8, u8)| frame.extend([id, *hv, 0]));
    let table = |class: u8, symbol: u8| {
        let mut table = vec![class, 1];
        table.extend([0; 15]);
        table.push(symbol);
        segment(0xc4, &table)
    };
    let mut quantisation = vec![0];
    quantisation.extend([1; 64]);
    let head = [&b"\xff\xd8"[..], more, &segment(0xdb, &quantisation), &segment(0xc2, &frame)].concat();
    let mut file = [head, table(0x00, 0), table(0x10, 0xe0)].concat();
    let most = |shift: u8| sampling.iter().map(|hv| usize::from(hv >> shift & 15)).max().unwrap();
    let units = usize::from(side).div_ceil(8 * most(4)) * usize::from(side).div_ceil(8 * most(0));
    let in_unit: usize = sampling.iter().map(|hv| usize::from(hv >> 4) * usize::from(hv & 15)).sum();
    let mut dc = vec![count];
    (1..=count).for_each(|id| dc.extend([id, 0]));
    dc.extend([0, 0, 0]);
    file.extend(segment(0xda, &dc));
    file.resize(file.len() + (units * in_unit).div_ceil(8), 0);
    for scan in 0..scans {
        let component = scan % sampling.len();
        file.extend(segment(0xda, &[1, component as u8 + 1, 0, 1, 63, 0]));
        let own = usize::from(sampling[component] >> 4) * usize::from(sampling[component] & 15);
        file.resize(file.len() + ((units * own).div_ceil(1 << 14) * 15).div_ceil(8), 0);
    }
    file.extend(b"\xff\xd9");
    file
}

/// A GIF of one colour, whose frames have these sides: LZW codes of ever longer runs.
fn gif(side: u16, frames: &[u16]) -> Vec<u8> {
    let sides = |side: u16| [side.to_le_bytes(), side.to_le_bytes()].concat();
    let mut file = [&b"GIF89a"[..], &sides(side), &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat();
    for &frame in frames {
        file.extend([&[0x2c, 0, 0, 0, 0][..], &sides(frame), &[0, 8]].concat());
        let (mut data, mut buffer, mut bits) = (Vec::new(), 0_u64, 0);
        let mut put = |code: usize, width: u32| {
            buffer |= (code as u64) << bits;
            bits += width;
            while bits >= 8 {
                data.push(buffer as u8);
                (buffer, bits) = (buffer >> 8, bits - 8);
            }
        };
        put(256, 9);
        put(0, 9);
        let (mut left, mut next, mut width) = (usize::from(frame).pow(2) - 1, 258, 9);
        while left > 0 {
            // The code that this very code defines is a pixel longer than the last.
            let code = next.min(4095);
            let length = (code - 256).min(left);
            // The last run is given pixel by pixel, since it must not be too long.
            let whole = code - 256 == length;
            put(if whole { code } else { 0 }, width);
            left -= if whole { length } else { 1 };
            if next < 4096 {
                next += 1;
                width = if next >= 1 << width && width < 12 { width + 1 } else { width };
            }
        }
        put(257, width);
        put(0, 8);
        for block in data.chunks(255) {
            file.push(block.len() as u8);
            file.extend(block);
        }
        file.push(0);
    }
    file.push(0x3b);
    file
}

/// A TIFF with these entries (tag, type, values) of 32 bits, and data behind the directory, where `DATA` points.
fn tiff(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let mut file = [&b"II*\0\x08\0\0\0"[..], &(entries.len() as u16).to_le_bytes()].concat();
    let end = (8 + 2 + 12 * entries.len() + 4) as u32;
    for &(tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count, if value == DATA { end } else { value }].map(u32::to_le_bytes).concat());
    }
    file.extend([0; 4]);
    file.extend(data);
    file
}

const DATA: u32 = u32::MAX;

/// A BMP of runs of 255 pixels.
fn bmp(side: u32) -> Vec<u8> {
    let mut runs = Vec::new();
    for _ in 0..side {
        let mut left = side;
        while left > 0 {
            let run = left.min(255);
            runs.extend([run as u8, 0]);
            left -= run;
        }
        runs.extend([0, 0]);
    }
    runs.extend([0, 1]);
    let mut file = [&b"BM"[..], &(1078 + runs.len() as u32).to_le_bytes(), &[0; 4], &1078_u32.to_le_bytes()].concat();
    file.extend([&40_u32.to_le_bytes()[..], &side.to_le_bytes(), &side.to_le_bytes(), &[1, 0, 8, 0]].concat());
    file.extend([1, runs.len() as u32, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
    file.resize(1078, 0);
    file.extend(runs);
    file
}

fn riff(body: &[u8]) -> Vec<u8> {
    [&b"RIFF"[..], &(body.len() as u32 + 4).to_le_bytes(), b"WEBP", body].concat()
}

/// Frames within frames.
fn nested_webp(depth: u32) -> Vec<u8> {
    let mut body = b"VP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0".to_vec();
    for level in 0..depth {
        body.extend([&b"ANMF"[..], &(24 * (depth - level) - 8).to_le_bytes(), &[0; 16]].concat());
    }
    riff(&body)
}

fn webp(side: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image::RgbImage::new(side, side).write_to(&mut file, image::ImageFormat::WebP).unwrap();
    file.into_inner()
}

fn bombs() -> Vec<Bomb> {
    let bomb = |name, pixels: u64, refused, file| Bomb { name, pixels, refused, file };
    let profile = [b"x\0\0", &zlib(1 << 30)[..]].concat();
    let text = [b"x\0\0", &zlib(1 << 28)[..]].concat();
    let strip = |side: u32, bits: u32, compression: u32, data: &[u8]| {
        let entries = [
            (256, 4, 1, side),
            (257, 4, 1, side),
            (258, 3, 1, bits),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (273, 4, 1, DATA),
            (277, 3, 1, 1),
            (278, 4, 1, side),
            (279, 4, 1, data.len() as u32),
        ];
        tiff(&entries, data)
    };
    let tile = [
        (256, 4, 1, 16),
        (257, 4, 1, 16),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (322, 4, 1, 30_000),
        (323, 4, 1, 30_000),
        (324, 4, 1, DATA),
        (325, 4, 1, 1 << 16),
    ];
    let tables = segment(0xc4, &[&[0, 1][..], &[0; 15], &[0]].concat().repeat(3_000));
    vec![
        bomb("rgba16.png", 0, true, png(8_000, 16, 4, b"")),
        bomb("rgba16-5000.png", 200_000_000, false, png(5_000, 16, 4, b"")),
        bomb("rgb.png", 0, true, png(13_000, 8, 3, b"")),
        bomb("rgb-9000.png", 243_000_000, false, png(9_000, 8, 3, b"")),
        bomb("bits.png", 3 * 9_000 * 9_000, false, png(9_000, 1, 1, b"")),
        bomb("profile.png", 48, true, png(4, 8, 3, &chunk(b"iCCP", &profile))),
        bomb(
            "profiles.png",
            48,
            true,
            png(4, 8, 3, &chunk(b"iCCP", &[b"x\0\0", &zlib(1 << 20)[..]].concat()).repeat(500)),
        ),
        bomb("text.png", 48, false, png(4, 8, 3, &chunk(b"zTXt", &text))),
        bomb("texts.png", 48, true, png(4, 8, 3, &chunk(b"tEXt", b"a\0").repeat(1_000_000))),
        bomb("large.jpg", 0, true, jpeg(12_000, &[0x11; 3], 3, b"")),
        bomb("coefficients.jpg", 0, true, jpeg(8_000, &[0x11; 3], 3, b"")),
        bomb("progressive.jpg", 3 * 8_000 * 8_000, false, jpeg(8_000, &[0x22, 0x11, 0x11], 9, b"")),
        bomb("scans.jpg", 0, true, jpeg(8_000, &[0x11], 95, b"")),
        bomb("scans-3000.jpg", 3 * 3_000 * 3_000, false, jpeg(3_000, &[0x11], 95, b"")),
        bomb("tables.jpg", 0, true, jpeg(64, &[0x11], 1, &tables.repeat(100))),
        bomb("segments.jpg", 0, true, jpeg(64, &[0x11], 1, &segment(0xe2, b"ICC_PROFILE\0\x01\x01").repeat(500_000))),
        bomb("large.gif", 4 * 8_000 * 8_000, false, gif(8_000, &[8_000])),
        bomb("larger.gif", 0, true, gif(20_000, &[20_000])),
        bomb("frame.gif", 0, true, gif(60_000, &[1])),
        bomb("frames.gif", 4 * 16 * 16, false, gif(16, &[16; 50_000])),
        bomb("frames.webp", 0, true, nested_webp(800_000)),
        bomb("colour.webp", 3 * 4_000 * 4_000, false, webp(4_000)),
        bomb("colour-6000.webp", 3 * 6_000 * 6_000, false, webp(6_000)),
        bomb("runs.bmp", 3 * 8_000 * 8_000, false, bmp(8_000)),
        bomb("runs-20000.bmp", 0, true, bmp(20_000)),
        bomb("grey16.tiff", 3 * 8_000 * 8_000, false, strip(8_000, 16, 8, &zlib(2 * 8_000 * 8_000))),
        bomb("grey16-16000.tiff", 0, true, strip(16_000, 16, 8, &zlib(2 * 16_000 * 16_000))),
        bomb("tile.tiff", 3 * 16 * 16, false, tiff(&tile, &zlib(30_000 * 30_000)[..1 << 16])),
        bomb("profile.tiff", 0, true, {
            let file = strip(16, 8, 1, &[0; 256]);
            // A colour profile of 4 GB in place of the rows per strip.
            let at = 10 + 12 * 7;
            [&file[..at], &34_675_u16.to_le_bytes(), &7_u16.to_le_bytes(), &[0xff; 8], &file[at + 12..]].concat()
        }),
    ]
}

#[test]
fn a_picture_costs_what_it_shows() {
    let place = Place::new();
    cost::run(&place);
    let write = |name: &str, bytes: &[u8]| std::fs::File::create(place.path(name)).unwrap().write_all(bytes).unwrap();
    write("small.png", &png(16, 8, 3, b""));
    let base = cost(&place, "predict r small.png --device cpu");
    assert_eq!(base.code, 0, "{base:?}");
    let mut faults = Vec::new();
    for Bomb { name, pixels, refused, file } in bombs() {
        write(name, &file);
        let found = cost(&place, &format!("predict r {name} --device cpu"));
        let (mib, seconds) = (found.mib.saturating_sub(base.mib), found.seconds - base.seconds);
        let most = ((2 * pixels) >> 20) + 64;
        println!(
            "{name}: {} bytes, {mib} of {most} MiB, {seconds:.2} s, code {} {}",
            file.len(),
            found.code,
            found.error
        );
        // A debug build takes longer.
        let slow = seconds > 1.0 && !cfg!(debug_assertions);
        if mib > most || slow || found.code != i32::from(refused) || found.error.contains("panicked") {
            faults.push(format!("{name}: {mib} of {most} MiB, {seconds:.2} s, {found:?}"));
        }
        std::fs::remove_file(place.path(name)).unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
