use base64::Engine;
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::*;

/// A picture with detail everywhere.
fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y + x / 3) as u8]))
}

fn encode(picture: &RgbImage, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 85);
    set(&mut encoder);
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    encoder.encode(picture.as_raw(), width, height, ColorType::Rgb).unwrap();
    file
}

fn saved(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// Made by libjpeg: ten scans with successive approximation, 4:2:0, 40×24.
fn refined() -> Vec<u8> {
    base64::prelude::BASE64_STANDARD.decode(include_str!("progressive.txt").trim()).unwrap()
}

const SAMPLINGS: [SamplingFactor; 6] = [
    SamplingFactor::F_1_1,
    SamplingFactor::F_2_1,
    SamplingFactor::F_1_2,
    SamplingFactor::F_2_2,
    SamplingFactor::F_4_1,
    SamplingFactor::R_4_4_4,
];

/// JPEG files of every kind, with their names.
fn jpegs() -> Vec<(String, Vec<u8>)> {
    let picture = pattern(83, 61);
    let mut files = vec![("refined".into(), refined()), ("image".into(), saved(&picture, ImageFormat::Jpeg))];
    for sampling in SAMPLINGS {
        // The encoder's optimised tables leave out what restarts need.
        for (progressive, restart, optimise) in
            [(false, 0, false), (false, 0, true), (false, 3, false), (true, 0, true), (true, 5, false)]
        {
            let file = encode(&picture, |encoder| {
                encoder.set_sampling_factor(sampling);
                encoder.set_progressive(progressive);
                encoder.set_restart_interval(restart);
                encoder.set_optimized_huffman_tables(optimise);
            });
            files.push((format!("{sampling:?}, progressive {progressive}, restart {restart}"), file));
        }
    }
    for (kind, channels) in [(ColorType::Luma, 1), (ColorType::Ycbcr, 3), (ColorType::Cmyk, 4), (ColorType::Ycck, 4)] {
        for progressive in [false, true] {
            // The encoder gives the full samples to the last component, which CMYK files do not have.
            let sampling = if kind == ColorType::Cmyk { SamplingFactor::F_1_1 } else { SamplingFactor::F_2_2 };
            files
                .push((format!("{kind:?}, progressive {progressive}"), colours(kind, channels, sampling, progressive)));
        }
    }
    files
}

fn colours(kind: ColorType, channels: usize, sampling: SamplingFactor, progressive: bool) -> Vec<u8> {
    let samples: Vec<u8> = (0..50 * 30 * channels).map(|i| (i * 3 / 4) as u8).collect();
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 80);
    encoder.set_sampling_factor(sampling);
    encoder.set_progressive(progressive);
    encoder.encode(&samples, 50, 30, kind).unwrap();
    file
}

#[test]
fn a_jpeg_whose_first_component_has_fewer_samples_is_refused() {
    for progressive in [false, true] {
        let file = colours(ColorType::Cmyk, 4, SamplingFactor::F_2_2, progressive);
        let error = decode(&file, Exif::Apply).unwrap_err();
        assert!(error.contains("fewer samples"), "{error}");
    }
}

#[test]
fn whole_jpegs_of_every_kind_are_read() {
    for (name, file) in jpegs() {
        let (pixels, width, height) = decode(&file, Exif::Apply).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(pixels.len(), width * height * 3, "{name}");
        // What follows the picture is not read: junk, another picture, zeros.
        for rest in [&b"junk \xff\xd8 \xff\xda\0"[..], &file, &[0; 100]] {
            assert!(decode(&[&file, rest].concat(), Exif::Apply).is_ok(), "{name}");
        }
    }
}

#[test]
fn a_cut_jpeg_is_refused_wherever_it_is_cut() {
    for (name, file) in jpegs() {
        for len in (3..file.len()).step_by(if file.len() > 1500 { 13 } else { 1 }).chain([file.len() - 1]) {
            let error = decode(&file[..len], Exif::Apply).expect_err(&format!("{name} cut to {len}"));
            assert!(!error.is_empty());
        }
        // As some programs repair it: with an end marker. The last two bytes are the file's own.
        for len in (3..file.len() - 2).step_by(if file.len() > 1500 { 13 } else { 1 }).chain([file.len() - 3]) {
            let repaired = [&file[..len], b"\xff\xd9"].concat();
            assert!(decode(&repaired, Exif::Apply).is_err(), "{name} cut to {len} of {}, with end marker", file.len());
        }
    }
    // Just before the pixels, after a scan, within one.
    let file = encode(&pattern(200, 150), |_| ());
    let error = decode(&file[..file.len() * 6 / 10], Exif::Apply).unwrap_err();
    assert!(error.contains("cut short") && error.contains('%'), "{error}");
    assert!(decode(&file[..file.len() - 2], Exif::Apply).unwrap_err().contains("end marker"));
}

#[test]
fn the_end_of_a_thumbnail_is_not_that_of_the_picture() {
    let thumbnail = encode(&pattern(16, 12), |_| ());
    let exif = [&exif(6)[..], &thumbnail].concat();
    let file = encode(&pattern(64, 48), |encoder| encoder.add_exif_metadata(&exif).unwrap());
    assert_eq!(decode(&file, Exif::Apply).map(|(_, width, height)| (width, height)), Ok((48, 64)));
    for tenth in 1..10 {
        assert!(decode(&file[..file.len() * tenth / 10], Exif::Apply).is_err(), "{tenth}");
    }
    // An MPO file, cut within its second picture, still has its first.
    let multi = [&file[..], &file[..]].concat();
    assert!(decode(&multi[..multi.len() - 100], Exif::Apply).is_ok());
}

#[test]
fn an_overwritten_middle_is_seen() {
    let mut missed = Vec::new();
    let mut tried = 0;
    for (name, file) in jpegs() {
        for tenth in 5..9 {
            for (what, byte) in [("zeros", 0), ("ones", 0xff), ("U", 0x55)] {
                let mut damaged = file.clone();
                let at = file.len() * tenth / 10;
                let len = (file.len() / 12).max(24);
                damaged[at..at + len].fill(byte);
                tried += 1;
                if decode(&damaged, Exif::Apply).is_ok() {
                    missed.push(format!("{name}: {what} at {tenth}/10"));
                }
            }
        }
    }
    // What happens to be valid codes for as many blocks cannot be seen.
    assert!(missed.len() * 20 <= tried, "{} of {tried}: {missed:#?}", missed.len());
}

#[test]
fn a_frame_of_a_film_without_huffman_tables_is_read() {
    let file = encode(&pattern(48, 32), |encoder| encoder.set_optimized_huffman_tables(false));
    // Segments up to the scan, without the tables.
    let (mut bare, mut at) = (b"\xff\xd8\xff\xe0\0\x10AVI1\0\0\0\0\0\0\0\0\0\0".to_vec(), 2);
    while file[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if !matches!(file[at + 1], 0xc4 | 0xe0) {
            bare.extend(&file[at..end]);
        }
        at = end;
    }
    bare.extend(&file[at..]);
    assert!(bare.len() < file.len() - 300);
    assert_eq!(decode(&bare, Exif::Apply), decode(&file, Exif::Apply));
    assert!(decode(&bare[..bare.len() * 2 / 3], Exif::Apply).is_err());
}

#[test]
fn padding_before_a_marker_is_no_damage() {
    let file = encode(&pattern(40, 40), |_| ());
    let (data, end) = file.split_at(file.len() - 2);
    for padding in [&[0xff, 0xff][..], &[0; 200], b"\x01\x02"] {
        assert!(decode(&[data, padding, end].concat(), Exif::Apply).is_ok());
    }
    let left = [data, &[0x35; 60], end].concat();
    assert!(decode(&left, Exif::Apply).unwrap_err().contains("left over"));
}

/// EXIF data with an orientation, big endian.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], b"\0\0\0\0\0\0"].concat()
}

/// A chunk with its checksum.
fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
}

/// A WebP file in the extended format: the picture, then EXIF.
fn webp_with_exif(picture: &RgbImage, exif: &[u8]) -> Vec<u8> {
    let plain = saved(picture, ImageFormat::WebP);
    let size = |n: u32| (n - 1).to_le_bytes();
    let mut body = b"WEBPVP8X\x0a\0\0\0\x08\0\0\0".to_vec();
    body.extend(&size(picture.width())[..3]);
    body.extend(&size(picture.height())[..3]);
    body.extend(&plain[12..]);
    body.extend([b"EXIF", &(exif.len() as u32).to_le_bytes()[..], exif].concat());
    body.extend(vec![0; exif.len() % 2]);
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// An uncompressed TIFF of one strip, with an orientation.
fn tiff_with(picture: &RgbImage, orientation: u16) -> Vec<u8> {
    let pixels = picture.as_raw();
    let mut file = [b"II*\0", &(8 + pixels.len() as u32).to_le_bytes()[..], pixels].concat();
    let entries = [
        (256, 3, 1, picture.width()),
        (257, 3, 1, picture.height()),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, u32::from(orientation)),
        (277, 3, 1, 3),
        (278, 3, 1, picture.height()),
        (279, 4, 1, pixels.len() as u32),
    ];
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend([&(tag as u16).to_le_bytes()[..], &(kind as u16).to_le_bytes()].concat());
        file.extend([(count as u32).to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn a_list_of_a_tiff_directory_lies_within_the_file() {
    let mut file = tiff_with(&pattern(8, 4), 1);
    assert!(decode(&file, Exif::Apply).is_ok());
    let directory = 8 + 8 * 4 * 3;
    let count = directory + 2 + 4 * 12 + 4;
    assert_eq!(file[count - 4..count - 2], 262_u16.to_le_bytes());
    file[count..count + 4].copy_from_slice(&3_538_945_u32.to_le_bytes());
    let error = decode(&file, Exif::Apply).unwrap_err();
    assert!(error.contains("directory"), "{error}");
    // A BigTIFF, whose counts have 8 bytes.
    let mut file = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x06\x01\x03\0".to_vec();
    file.extend([(1_u64 << 40).to_le_bytes(), [16, 0, 0, 0, 0, 0, 0, 0]].concat());
    file.extend([0; 100]);
    let error = decode(&file, Exif::Apply).unwrap_err();
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn a_tiff_with_a_palette_is_read_in_both_byte_orders() {
    for little in [true, false] {
        let n16 = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let n32 = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        // 16×8 indices, the palette, the directory.
        let mut file = [if little { &b"II"[..] } else { b"MM" }, &n16(42), &n32(8 + 128 + 1536)].concat();
        file.extend((0..128).map(|i| i * 2));
        for channel in [1, 3, 7_u16] {
            (0..256).for_each(|i| file.extend(n16((i * channel % 256) << 8 | 0x55)));
        }
        let entries = [
            (256, 3, 1, 16),
            (257, 3, 1, 8),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 3),
            (273, 4, 1, 8),
            (277, 3, 1, 1),
            (278, 3, 1, 8),
            (279, 4, 1, 128),
            (320, 3, 768, 8 + 128),
        ];
        file.extend(n16(entries.len() as u16));
        for (tag, kind, count, value) in entries {
            file.extend([n16(tag), n16(kind)].concat());
            file.extend(n32(count));
            if kind == 3 && count == 1 {
                file.extend([n16(value as u16), [0, 0]].concat())
            } else {
                file.extend(n32(value))
            }
        }
        file.extend([0; 4]);
        let (pixels, width, height) = decode(&file, Exif::Apply).unwrap();
        assert_eq!((width, height), (16, 8));
        assert_eq!(pixels[5 * 3..][..3], [10, 30, 70], "index 10");
        assert_eq!(pixels[127 * 3..][..3], [254, (254 * 3 % 256) as u8, (254 * 7 % 256) as u8]);
        for len in 1..file.len() - 4 {
            assert!(decode(&file[..len], Exif::Apply).is_err(), "{len}");
        }
    }
}

/// The pixels of `picture` as a camera stores them with this orientation: the inverse of what a viewer does.
fn stored(picture: &RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        2 => flip_horizontal(picture),
        3 => rotate180(picture),
        4 => flip_vertical(picture),
        5 => flip_horizontal(&rotate90(picture)),
        6 => rotate270(picture),
        7 => flip_horizontal(&rotate270(picture)),
        8 => rotate90(picture),
        _ => picture.clone(),
    }
}

#[test]
fn every_orientation_is_applied_in_every_format() {
    let upright = pattern(24, 16);
    for orientation in 1..=8 {
        let picture = stored(&upright, orientation);
        let png = saved(&picture, ImageFormat::Png);
        let with_exif = |data: &[u8]| [&png[..33], &png_chunk(b"eXIf", data), &png[33..]].concat();
        let prefixed = [b"Exif\0\0", &exif(orientation)[..]].concat();
        for (name, file) in [
            ("png", with_exif(&exif(orientation))),
            ("png, prefixed", with_exif(&prefixed)),
            (
                "png, at the end",
                [&png[..png.len() - 12], &png_chunk(b"eXIf", &prefixed), &png[png.len() - 12..]].concat(),
            ),
            ("webp", webp_with_exif(&picture, &exif(orientation))),
            ("webp, prefixed", webp_with_exif(&picture, &prefixed)),
            ("tiff", tiff_with(&picture, orientation.into())),
        ] {
            let (pixels, width, height) = decode(&file, Exif::Apply).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((width, height), (24, 16), "{name} {orientation}");
            assert_eq!(&pixels, upright.as_raw(), "{name} {orientation}");
            let (pixels, width, height) = decode(&file, Exif::Ignore).unwrap();
            assert_eq!((width as u32, height as u32), picture.dimensions(), "{name} {orientation}");
            assert_eq!(&pixels, picture.as_raw(), "{name} {orientation}");
        }
        let jpeg = encode(&picture, |encoder| {
            encoder.set_quality(100);
            encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
            encoder.add_exif_metadata(&exif(orientation)).unwrap();
        });
        let (pixels, width, height) = decode(&jpeg, Exif::Apply).unwrap();
        assert_eq!((width, height), (24, 16));
        let far = pixels.iter().zip(upright.as_raw()).filter(|(a, b)| a.abs_diff(**b) > 12).count();
        assert!(far < 40, "{orientation}: {far} of {}", pixels.len());
    }
    // Metadata that cannot be read turn nothing.
    for bad in [&b""[..], b"MM\0*", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", &exif(9), &exif(0)] {
        let file = encode(&upright, |encoder| encoder.add_exif_metadata(bad).unwrap());
        assert_eq!(decode(&file, Exif::Apply).map(|(_, width, height)| (width, height)), Ok((24, 16)));
    }
}

#[test]
fn files_of_all_formats_are_read_and_refused_when_cut() {
    let picture = pattern(37, 29);
    let gif = {
        let mut file = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
        encoder.encode(picture.as_raw(), 37, 29, image::ExtendedColorType::Rgb8).unwrap();
        drop(encoder);
        file
    };
    let animated = {
        let mut file = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
        let frames = [pattern(37, 29), pattern(37, 29)]
            .map(|frame| image::Frame::new(DynamicImage::ImageRgb8(frame).into_rgba8()));
        encoder.encode_frames(frames).unwrap();
        drop(encoder);
        file
    };
    let exact = |format| (saved(&picture, format), 0);
    for (name, (file, most)) in [
        ("png", exact(ImageFormat::Png)),
        ("webp", exact(ImageFormat::WebP)),
        ("webp, extended", (webp_with_exif(&picture, &exif(1)), 0)),
        ("bmp", exact(ImageFormat::Bmp)),
        ("tiff", exact(ImageFormat::Tiff)),
        ("tiff, directory last", (tiff_with(&picture, 1), 0)),
        // A palette of 256 colours.
        ("gif", (gif, 60)),
        ("gif, animated", (animated, 60)),
    ] {
        let (pixels, width, height) = decode(&file, Exif::Apply).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((width, height), (37, 29), "{name}");
        let far = pixels.iter().zip(picture.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far <= Some(most), "{name}: {far:?}");
        assert!(decode(&[&file, &b"trailing junk"[..]].concat(), Exif::Apply).is_ok(), "{name} with junk");
        for len in 1..file.len() {
            let Err(error) = decode(&file[..len], Exif::Apply) else { panic!("{name} cut to {len} of {}", file.len()) };
            assert!(!error.contains('{') && !error.is_empty(), "{name}: {error}");
        }
    }
}

#[test]
fn a_wrong_checksum_is_told_in_words() {
    let mut file = saved(&pattern(30, 20), ImageFormat::Png);
    let at = file.len() - 20;
    file[at] ^= 0x10;
    let error = decode(&file, Exif::Apply).unwrap_err();
    assert_eq!(error, "the file is damaged: a checksum is wrong");
}

#[test]
fn alpha_is_dropped_and_sixteen_bits_are_rounded() {
    let rgba = image::RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8 * 20, y as u8 * 30, 99, (x * y) as u8]));
    let expected = DynamicImage::ImageRgba8(rgba.clone()).into_rgb8().into_raw();
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp] {
        let mut file = Cursor::new(Vec::new());
        rgba.write_to(&mut file, format).unwrap();
        assert_eq!(decode(file.get_ref(), Exif::Apply).map(|(pixels, ..)| pixels), Ok(expected.clone()), "{format:?}");
    }
    let deep: image::ImageBuffer<image::Rgb<u16>, _> =
        image::ImageBuffer::from_fn(9, 7, |x, y| image::Rgb([x as u16 * 257 * 20, y as u16 * 257, 65535]));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let mut file = Cursor::new(Vec::new());
        DynamicImage::ImageRgb16(deep.clone()).write_to(&mut file, format).unwrap();
        let (pixels, ..) = decode(file.get_ref(), Exif::Apply).unwrap();
        assert_eq!((pixels[3], pixels[5], pixels[27 * 3 + 1]), (20, 255, 3), "{format:?}");
    }
}

/// A PNG whose rows are all zeros.
fn blank(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::High);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(vec![7, 8, 9, 1, 1, 1]);
    }
    let bits = depth as usize * colour.samples();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; (width as usize * bits).div_ceil(8) * height as usize]).unwrap();
    drop(writer);
    file
}

#[test]
fn blank_pages_and_masks_are_no_bombs() {
    use png::{BitDepth, ColorType};
    for (width, height, colour, depth) in [
        (2480, 3508, ColorType::Grayscale, BitDepth::One),
        (9000, 9000, ColorType::Grayscale, BitDepth::One),
        (1024, 1024, ColorType::Indexed, BitDepth::Eight),
        (1600, 1200, ColorType::Indexed, BitDepth::One),
        (5000, 4000, ColorType::Indexed, BitDepth::Two),
        (5000, 5000, ColorType::Grayscale, BitDepth::Eight),
        (4000, 4000, ColorType::Rgb, BitDepth::Eight),
    ] {
        let file = blank(width, height, colour, depth);
        let (pixels, ..) =
            decode(&file, Exif::Apply).unwrap_or_else(|error| panic!("{width}×{height} {colour:?} {depth:?}: {error}"));
        let expected = if colour == ColorType::Indexed { [7, 8, 9] } else { [0; 3] };
        assert!(pixels.as_chunks::<3>().0.iter().all(|&pixel| pixel == expected));
    }
}

#[test]
fn the_limit_that_is_exceeded_is_named() {
    let header = |width: u32, height: u32, depth: u8, kind: u8| {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let chunk = png_chunk(b"IHDR", &[&size[..], &[depth, kind, 0, 0, 0]].concat());
        [b"\x89PNG\r\n\x1a\n", &chunk[..], &png_chunk(b"IDAT", &[0; 40]), &png_chunk(b"IEND", b"")].concat()
    };
    let error = |file: &[u8]| decode(file, Exif::Apply).unwrap_err();
    let side = error(&header(40_000, 2, 8, 2));
    assert!(side.contains("width is 40000") && side.contains("32768"), "{side}");
    let memory = error(&header(20_000, 20_000, 8, 2));
    assert!(memory.contains("1144 MiB") && memory.contains("limit is 256 MiB"), "{memory}");
    let ratio = error(&header(9_000, 9_000, 8, 2));
    assert!(ratio.contains("9000×9000") && ratio.contains("too many for a file of"), "{ratio}");
}

#[test]
fn a_file_that_is_no_picture_is_named_for_what_it_is() {
    for (bytes, words) in [
        (&b""[..], &["empty"][..]),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", &["HEIC", "Most Compatible", "heif-convert"]),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", &["AVIF", "avifdec"]),
        (b"\0\0\0\x18ftypisom\0\0\x02\0isommp41", &["MP4", "ffmpeg"]),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", &["SVG"]),
        (b"%PDF-1.4\n", &["PDF"]),
        (b"<!doctype html><title>404</title>", &["HTML", "download"]),
        (b"version https://git-lfs.github.com/spec/v1\noid", &["Git LFS", "git lfs pull"]),
        (b"no picture", &["text file"]),
        (b"PK\x03\x04\x14\0\0\0\0\0", &["zip archive", "unpack"]),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", &["PyTorch", "comes first"]),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{}}       ", &["safetensors", "comes first"]),
        (&[0; 64], &["zeros"]),
        (&[1, 2, 3, 200, 0, 9], &["neither PNG nor JPEG"]),
    ] {
        let error = decode(bytes, Exif::Apply).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
