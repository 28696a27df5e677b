use super::*;

fn member(name: &str) -> Vec<u8> {
    let mut file = [&b"PK\x03\x04"[..], &[0; 22], &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
    file.extend(name.as_bytes());
    file
}

fn brands(brands: &str) -> Vec<u8> {
    [&(8 + brands.len() as u32).to_be_bytes()[..], b"ftyp", brands.as_bytes(), b"\0\0\0\x08free"].concat()
}

fn tar_of(name: &str, magic: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[257..257 + magic.len()].copy_from_slice(magic);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn kinds_are_told_by_their_first_bytes() {
    let bmp = |size: u8| [b"BM\x10\0\0\0\0\0\0\0\x36\0\0\0", &[size, 0, 0, 0][..]].concat();
    let table: Vec<(&[u8], FileKind)> = vec![
        (b"", K::Empty),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", K::Png),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", K::Jpeg),
        (b"RIFF\x10\0\0\0WEBPVP8 ", K::WebP),
        (b"RIFF\x10\0\0\0AVI LIST", K::Avi),
        (b"GIF89a\x01\0", K::Gif),
        (b"II*\0\x08\0\0\0", K::Tiff),
        (b"MM\0*\0\0\0\x08", K::Tiff),
        (b"II*\0\x10\0\0\0CR\x02\0", K::Raw),
        (b"\xff\x0a\xfa\x1f", K::JpegXl),
        (b"P6\n3 2\n255\n", K::Pnm),
        (b"\0\0\x01\0\x01\0\x10\x10", K::Ico),
        (b"%PDF-1.7\n", K::Pdf),
        (b"<?xml version=\"1.0\"?>\n<!-- a -->\n<svg xmlns=\"", K::Svg),
        (b"<svg width=\"3\">", K::Svg),
        (b"\n\n<!DOCTYPE html>\n<html lang=en>", K::Html),
        (b"\xef\xbb\xbf<HTML><body>", K::Html),
        (b"<?xml version=\"1.0\"?><feed>", K::Xml),
        (b"{\"error\": \"not found\"}", K::Json),
        (b"[1, 2]", K::Json),
        (b"not found\n", K::Text),
        ("grün\n".as_bytes(), K::Text),
        (b"gr\xfcn und bl\xe4ulich\n", K::Text),
        (b"\xff\xfeh\0i\0", K::Text),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", K::GitLfs),
        (b"\x1f\x8b\x08\0", K::Gzip),
        (b"7z\xbc\xaf\x27\x1c\0\x04", K::SevenZip),
        (b"PAR1\x15\x04", K::Parquet),
        (b"\x93NUMPY\x01\0", K::NumPy),
        (b"\x89HDF\r\n\x1a\n\0", K::Hdf5),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", K::PyTorchLegacy),
        (b"\x80\x02}q\0(X", K::Pickle),
        (b"\x80\x04\x95\x10", K::Pickle),
        (b"(dp1\nS'data'\np2\n", K::Pickle),
        (b"\x08\x08\x12\x07alexnet", K::Onnx),
        (b"\x08\x08\x12\0\x1a\x00", K::Onnx),
        (b"\x08\x01\x12\xab\x04\x0a\x12\x0a", K::SavedModel),
        (b"\x08\x04\x12\x5e\x0a\x1f\x0a\x05image", K::CoreMl),
        (b"\x1c\0\0\0TFL3", K::TfLite),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{}}", K::Safetensors),
        // A header of 0x580 bytes, with a pickle's first two.
        (b"\x80\x05\0\0\0\0\0\0{\"a\":{}}", K::Safetensors),
        (b"\0\0\x08\x03\0\0\xea\x60", K::Idx),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", K::Mat),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", K::AppleDouble),
        (&[0; 40], K::Zeros),
        (b"\x01\x02\x03\xff\xee", K::Unknown),
    ];
    for (bytes, kind) in table {
        assert_eq!(FileKind::of(bytes), kind, "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!((FileKind::of(&bmp(40)), FileKind::of(&bmp(99))), (K::Bmp, K::Unknown));
    for (name, kind) in [
        ("x/data.pkl", K::PyTorchZip),
        ("photos/1.jpg", K::Zip),
        ("arr_0.npy", K::NumPyZip),
        ("[Content_Types].xml", K::Office),
        ("metadata.json", K::Keras),
    ] {
        assert_eq!(FileKind::of(&member(name)), kind, "{name}");
    }
    for (text, kind) in [
        ("heic\0\0\0\0mif1heic", K::Heic),
        ("mif1\0\0\0\0mif1heic", K::Heic),
        ("mif1\0\0\0\0avifmif1", K::Avif),
        ("avif\0\0\0\0mif1", K::Avif),
        ("isom\0\0\x02\0isommp41", K::Mp4),
        ("qt  \0\0\0\0qt  ", K::Mp4),
        ("crx \0\0\0\x01crx isom", K::Raw),
    ] {
        assert_eq!(FileKind::of(&brands(text)), kind, "{text}");
    }
    for magic in [&b"ustar\0"[..], b"ustar  ", b""] {
        assert_eq!(FileKind::of(&tar_of("cifar-10/batch", magic)), K::Tar);
        assert_eq!(FileKind::of(&tar_of("storages", magic)), K::PyTorchTar);
    }
}

#[test]
fn any_start_has_a_kind() {
    // Every length of some files, and every first pair of bytes.
    for file in [member("a/data.pkl"), brands("heic\0\0\0\0mif1"), tar_of("a", b"ustar")] {
        (0..file.len()).for_each(|len| assert!(!FileKind::of(&file[..len]).name().is_empty()));
    }
    for pair in 0..=u16::MAX {
        let _ = FileKind::of(&[pair.to_be_bytes(), [0, 0xff]].concat()).group();
    }
}

#[test]
fn a_device_is_not_read() {
    #[cfg(unix)]
    assert_eq!(FileKind::of_file(Path::new("/dev/zero")).unwrap(), K::Unknown);
    assert!(FileKind::of_file(Path::new("/no/such/file")).is_err());
}
