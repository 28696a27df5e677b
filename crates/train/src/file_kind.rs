//! Says what kind of file some bytes are, by their first bytes: so that a wrong file is named for what it is.

use std::fs::File;
use std::io::{Read, Result};
use std::path::Path;

/// Number of bytes at the start of a file that [`FileKind::of`] looks at; with fewer it knows fewer kinds.
pub const START: usize = 4096;

/// A kind of file, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "FileKind::name describes each")]
pub enum FileKind {
    Empty,
    // Pictures that are decoded here.
    Png,
    Jpeg,
    WebP,
    Gif,
    Bmp,
    Tiff,
    // Pictures that are not.
    Heic,
    Avif,
    JpegXl,
    Jpeg2000,
    Svg,
    Ico,
    Psd,
    Raw,
    Pnm,
    Qoi,
    OpenExr,
    RadianceHdr,
    Dds,
    Dicom,
    Fits,
    // Other media and documents.
    Mp4,
    Matroska,
    Avi,
    Wave,
    Pdf,
    PostScript,
    Office,
    Html,
    Xml,
    Json,
    Text,
    // Archives and compressed files.
    Zip,
    Gzip,
    Tar,
    SevenZip,
    Rar,
    Xz,
    Bzip2,
    Zstd,
    // Weights.
    Safetensors,
    PyTorchZip,
    PyTorchLegacy,
    PyTorchTar,
    Pickle,
    NumPy,
    NumPyZip,
    Keras,
    Hdf5,
    Onnx,
    TfLite,
    SavedModel,
    CoreMl,
    Gguf,
    // Data.
    Idx,
    Mat,
    Parquet,
    Arrow,
    Sqlite,
    // Others that are met in the place of one of the above.
    GitLfs,
    AppleDouble,
    Ole,
    Executable,
    Zeros,
    Unknown,
}

/// The use of a kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Group {
    Picture,
    Media,
    Document,
    Archive,
    Weights,
    Data,
    Other,
}

use FileKind as K;

/// Kinds that begin with fixed bytes: where, and which.
const MAGIC: &[(FileKind, usize, &[u8])] = &[
    (K::Png, 0, b"\x89PNG\r\n\x1a\n"),
    (K::Jpeg, 0, b"\xff\xd8\xff"),
    (K::WebP, 8, b"WEBP"),
    (K::Avi, 8, b"AVI "),
    (K::Wave, 8, b"WAVE"),
    (K::Gif, 0, b"GIF87a"),
    (K::Gif, 0, b"GIF89a"),
    // Before TIFF, whose structure these raw formats have.
    (K::Raw, 0, b"II*\0\x10\0\0\0CR"),
    (K::Raw, 0, b"IIRO"),
    (K::Raw, 0, b"IIU\0"),
    (K::Raw, 0, b"FUJIFILMCCD-RAW"),
    (K::Tiff, 0, b"II*\0"),
    (K::Tiff, 0, b"MM\0*"),
    (K::Tiff, 0, b"II+\0"),
    (K::Tiff, 0, b"MM\0+"),
    (K::JpegXl, 0, b"\0\0\0\x0cJXL "),
    (K::JpegXl, 0, b"\xff\x0a"),
    (K::Jpeg2000, 0, b"\0\0\0\x0cjP  "),
    (K::Jpeg2000, 0, b"\xff\x4f\xff\x51"),
    (K::Psd, 0, b"8BPS"),
    (K::Qoi, 0, b"qoif"),
    (K::OpenExr, 0, b"\x76\x2f\x31\x01"),
    (K::RadianceHdr, 0, b"#?RADIANCE"),
    (K::Dds, 0, b"DDS "),
    (K::Dicom, 128, b"DICM"),
    (K::Fits, 0, b"SIMPLE  ="),
    (K::Matroska, 0, b"\x1a\x45\xdf\xa3"),
    (K::Pdf, 0, b"%PDF"),
    (K::PostScript, 0, b"%!PS"),
    (K::Gzip, 0, b"\x1f\x8b"),
    (K::SevenZip, 0, b"7z\xbc\xaf\x27\x1c"),
    (K::Rar, 0, b"Rar!\x1a\x07"),
    (K::Xz, 0, b"\xfd7zXZ\0"),
    (K::Bzip2, 0, b"BZh"),
    (K::Zstd, 0, b"\x28\xb5\x2f\xfd"),
    (K::PyTorchLegacy, 2, b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
    (K::NumPy, 0, b"\x93NUMPY"),
    (K::Hdf5, 0, b"\x89HDF\r\n\x1a\n"),
    (K::TfLite, 4, b"TFL3"),
    (K::Gguf, 0, b"GGUF"),
    (K::Mat, 0, b"MATLAB 5.0 MAT-file"),
    (K::Parquet, 0, b"PAR1"),
    (K::Arrow, 0, b"ARROW1"),
    (K::Sqlite, 0, b"SQLite format 3\0"),
    (K::GitLfs, 0, b"version https://git-lfs.github.com/spec/"),
    (K::AppleDouble, 0, b"\0\x05\x16\x07"),
    (K::Ole, 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    (K::Executable, 0, b"\x7fELF"),
];

impl FileKind {
    /// The kind of a file that begins with `start`: [`START`] bytes, or all of a shorter file.
    pub fn of(start: &[u8]) -> Self {
        if start.is_empty() {
            return K::Empty;
        }
        let found = MAGIC.iter().find(|(_, at, bytes)| start.get(*at..).is_some_and(|rest| rest.starts_with(bytes)));
        match found {
            // Three formats share RIFF.
            Some((K::WebP | K::Avi | K::Wave, ..)) if !start.starts_with(b"RIFF") => {}
            Some(&(kind, ..)) => return kind,
            None => {}
        }
        if start.get(4..8) == Some(b"ftyp") {
            return base_media(start);
        }
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            return zip(start);
        }
        if start.get(257..262) == Some(b"ustar") {
            return tar(start);
        }
        let text = text(start);
        if let Some(text) = &text
            && let Some(kind) = markup(text)
        {
            return kind;
        }
        match start {
            [b'P', b'1'..=b'7', blank, ..] if blank.is_ascii_whitespace() => K::Pnm,
            [b'B', b'M', ..] if is_bmp(start) => K::Bmp,
            [0, 0, 1, 0, 1..=64, 0, ..] => K::Ico,
            // Magic number: two zeros, an element type, the number of dimensions.
            [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=4, ..] => K::Idx,
            // Before pickles, whose first bytes a header's length may have.
            _ if is_safetensors(start) => K::Safetensors,
            [0x80, 2..=5, ..] => K::Pickle,
            [b'(' | b'}' | b']', b'd' | b'l' | b'p' | b'i' | b'q', ..] if start.len() > 8 => K::Pickle,
            // A version, then a message: of a SavedModel (schema 1: its graph), of Core ML (its description). ONNX has the
            // producer's name there.
            [0x08, 1, 0x12, rest @ ..] if !begins_with_text(rest) => K::SavedModel,
            [0x08, 1..=16, 0x12, rest @ ..] if !begins_with_text(rest) => K::CoreMl,
            // ir_version, then the tag of a field of a ModelProto.
            [0x08, 1..=16, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => K::Onnx,
            _ if start.len() >= 512 && tar_header(start) => tar(start),
            _ if text.is_some() => K::Text,
            _ if start.iter().all(|&byte| byte == 0) => K::Zeros,
            _ => K::Unknown,
        }
    }

    /// The kind of a file by its contents; of a pipe or device nothing is read and it is [`FileKind::Unknown`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Ok(K::Unknown);
        }
        let mut start = Vec::with_capacity(START);
        File::open(path)?.take(START as u64).read_to_end(&mut start)?;
        Ok(Self::of(&start))
    }

    /// With an article: `a JPEG picture`, `an HTML page`.
    pub const fn name(self) -> &'static str {
        match self {
            K::Empty => "an empty file",
            K::Png => "a PNG picture",
            K::Jpeg => "a JPEG picture",
            K::WebP => "a WebP picture",
            K::Gif => "a GIF picture",
            K::Bmp => "a BMP picture",
            K::Tiff => "a TIFF picture",
            K::Heic => "a HEIC picture",
            K::Avif => "an AVIF picture",
            K::JpegXl => "a JPEG XL picture",
            K::Jpeg2000 => "a JPEG 2000 picture",
            K::Svg => "an SVG drawing",
            K::Ico => "a Windows icon",
            K::Psd => "a Photoshop document",
            K::Raw => "a camera's raw picture",
            K::Pnm => "a PNM picture",
            K::Qoi => "a QOI picture",
            K::OpenExr => "an OpenEXR picture",
            K::RadianceHdr => "a Radiance HDR picture",
            K::Dds => "a DDS texture",
            K::Dicom => "a DICOM picture",
            K::Fits => "a FITS picture",
            K::Mp4 => "an MP4 or QuickTime video",
            K::Matroska => "a Matroska or WebM video",
            K::Avi => "an AVI video",
            K::Wave => "a WAVE sound",
            K::Pdf => "a PDF document",
            K::PostScript => "a PostScript document",
            K::Office => "an Office document",
            K::Html => "an HTML page",
            K::Xml => "an XML file",
            K::Json => "a JSON file",
            K::Text => "a text file",
            K::Zip => "a zip archive",
            K::Gzip => "a gzip archive",
            K::Tar => "a tar archive",
            K::SevenZip => "a 7z archive",
            K::Rar => "a RAR archive",
            K::Xz => "an xz archive",
            K::Bzip2 => "a bzip2 archive",
            K::Zstd => "a Zstandard archive",
            K::Safetensors => "a safetensors file",
            K::PyTorchZip => "a PyTorch file",
            K::PyTorchLegacy => "a PyTorch file in the format before 1.6",
            K::PyTorchTar => "a PyTorch file in the tar format before 0.1.10",
            K::Pickle => "a pickle",
            K::NumPy => "a NumPy array",
            K::NumPyZip => "a NumPy archive",
            K::Keras => "a Keras model",
            K::Hdf5 => "an HDF5 file (Keras)",
            K::Onnx => "an ONNX model",
            K::TfLite => "a TensorFlow Lite model",
            K::SavedModel => "a TensorFlow SavedModel",
            K::CoreMl => "a Core ML model",
            K::Gguf => "a GGUF model",
            K::Idx => "an idx file (MNIST)",
            K::Mat => "a MATLAB file",
            K::Parquet => "a Parquet file",
            K::Arrow => "an Arrow file",
            K::Sqlite => "an SQLite database",
            K::GitLfs => "a Git LFS pointer, not the file itself",
            K::AppleDouble => "a macOS metadata file (._NAME), not the file itself",
            K::Ole => "an old Office document or Thumbs.db",
            K::Executable => "a program",
            K::Zeros => "a file of zeros",
            K::Unknown => "of an unknown kind",
        }
    }

    /// What the kind is used for.
    pub const fn group(self) -> Group {
        match self {
            K::Png | K::Jpeg | K::WebP | K::Gif | K::Bmp | K::Tiff => Group::Picture,
            K::Heic | K::Avif | K::JpegXl | K::Jpeg2000 | K::Svg | K::Ico | K::Psd | K::Raw | K::Pnm | K::Qoi => {
                Group::Picture
            }
            K::OpenExr | K::RadianceHdr | K::Dds | K::Dicom | K::Fits => Group::Picture,
            K::Mp4 | K::Matroska | K::Avi | K::Wave => Group::Media,
            K::Pdf | K::PostScript | K::Office | K::Html | K::Xml | K::Json | K::Text => Group::Document,
            K::Zip | K::Gzip | K::Tar | K::SevenZip | K::Rar | K::Xz | K::Bzip2 | K::Zstd => Group::Archive,
            K::Safetensors | K::PyTorchZip | K::PyTorchLegacy | K::PyTorchTar | K::Pickle => Group::Weights,
            K::NumPy | K::NumPyZip | K::Keras | K::Hdf5 | K::Onnx | K::TfLite => Group::Weights,
            K::SavedModel | K::CoreMl | K::Gguf => Group::Weights,
            K::Idx | K::Mat | K::Parquet | K::Arrow | K::Sqlite => Group::Data,
            K::Empty | K::GitLfs | K::AppleDouble | K::Ole | K::Executable | K::Zeros | K::Unknown => Group::Other,
        }
    }
}

impl std::fmt::Display for FileKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// ISO base media: a box `ftyp` with the major brand, a version, and the compatible brands.
fn base_media(start: &[u8]) -> FileKind {
    let len = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
    let brands = &start[8..len.clamp(8, start.len()).min(256)];
    let has = |wanted: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| wanted.iter().any(|&want| brand == want));
    if has(&[b"avif", b"avis"]) {
        K::Avif
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        K::Heic
    } else if has(&[b"crx "]) {
        K::Raw
    } else {
        K::Mp4
    }
}

/// Zip by the name of the first member.
fn zip(start: &[u8]) -> FileKind {
    let len = start.get(26..28).map_or(0, |len| usize::from(u16::from_le_bytes([len[0], len[1]])));
    let name = String::from_utf8_lossy(start.get(30..).map_or(&[], |rest| &rest[..len.min(rest.len())])).into_owned();
    let (_, last) = name.rsplit_once('/').unwrap_or(("", &name));
    match last {
        "data.pkl" | "byteorder" | "serialization_id" | ".format_version" | "version" => K::PyTorchZip,
        "[Content_Types].xml" | "mimetype" => K::Office,
        "metadata.json" | "config.json" if !name.contains('/') => K::Keras,
        _ if last.ends_with(".npy") => K::NumPyZip,
        _ => K::Zip,
    }
}

fn tar(start: &[u8]) -> FileKind {
    let name: Vec<u8> = start.iter().copied().take(100).take_while(|&byte| byte != 0).collect();
    if [&b"storages"[..], b"tensors", b"pickle", b"sys_info"].contains(&&*name) { K::PyTorchTar } else { K::Tar }
}

/// Whether the checksum of a tar header is right; those before 1988 have no other mark.
fn tar_header(start: &[u8]) -> bool {
    let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(start[at]) }).sum();
    let digits = String::from_utf8_lossy(&start[148..156]);
    start[0] != 0 && u32::from_str_radix(digits.trim_matches([' ', '\0']), 8).is_ok_and(|stored| stored == sum)
}

/// The size of the second header is one of those that exist.
fn is_bmp(start: &[u8]) -> bool {
    matches!(start.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) || start.len() < 18
}

/// Whether the field of a protobuf message, from its length on, is text.
fn begins_with_text(field: &[u8]) -> bool {
    match field {
        // Longer than any program's name.
        [] => false,
        [len, ..] if *len >= 128 => false,
        [len, rest @ ..] => {
            let text = &rest[..rest.len().min((*len).into())];
            text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
        }
    }
}

/// The length of a JSON object, then the object.
fn is_safetensors(start: &[u8]) -> bool {
    let len = start.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    (2..1 << 32).contains(&len) && start.get(8) == Some(&b'{')
}

/// The bytes as text, if they are: UTF-8, perhaps cut within a character, UTF-16 or Latin 1, without control characters.
fn text(start: &[u8]) -> Option<String> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if let [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] = start
        && rest.len() > 1
    {
        let big = start[0] == 0xfe;
        let unit = |pair: &[u8]| if big { [pair[1], pair[0]] } else { [pair[0], pair[1]] };
        let units: Vec<u16> = rest.chunks_exact(2).map(|pair| u16::from_le_bytes(unit(pair))).collect();
        let text = String::from_utf16_lossy(&units);
        return text.chars().all(|c| !c.is_control() || c.is_whitespace()).then_some(text);
    }
    let binary = |&&byte: &&u8| (byte < 32 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)) || byte == 127;
    if start.iter().find(binary).is_some() {
        return None;
    }
    let ascii = start.iter().filter(|byte| byte.is_ascii()).count();
    match std::str::from_utf8(start) {
        Ok(text) => Some(text.into()),
        Err(error) if error.error_len().is_none() || ascii * 10 > start.len() * 7 => {
            Some(String::from_utf8_lossy(start).into_owned())
        }
        Err(_) => None,
    }
}

fn markup(text: &str) -> Option<FileKind> {
    let text = text.trim_start();
    let lower = text.chars().take(2048).collect::<String>().to_lowercase();
    Some(match lower.as_bytes() {
        // A prologue and comments may come before the first element.
        [b'<', ..] if lower.contains("<svg") && !lower.contains("<html") => K::Svg,
        [b'<', ..] if lower.contains("<html") || lower.starts_with("<!doctype html") || lower.contains("<head") => {
            K::Html
        }
        [b'<', b'?' | b'!', ..] => K::Xml,
        [b'{', ..] if lower[1..].trim_start().starts_with(['"', '}']) => K::Json,
        [b'[', ..] if lower[1..].trim_start().starts_with(['{', '[', '"', ']', '-']) => K::Json,
        [b'[', ..] if lower[1..].trim_start().starts_with(|c: char| c.is_ascii_digit()) => K::Json,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
