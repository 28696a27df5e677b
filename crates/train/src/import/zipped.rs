//! The records of a zip archive, each checked before it is believed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::Crc;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::pytorch::Error;

/// Bytes that a record may take beyond what its compressed bytes give reason for.
const LEAST: u64 = 16 << 20;
/// Weights are hardly compressed; a bomb is by 1032.
const RATIO: u64 = 20;

/// Most records: what a directory without the zip64 extension can declare. PyTorch writes one per tensor.
const MOST_RECORDS: u64 = u16::MAX as u64;
/// The end of a file in which the end of its directory is.
const TAIL: u64 = (1 << 16) + 128;

/// The most records that a zip64 directory declares; 0 if there is none.
fn declared(file: &mut BufReader<File>) -> Result<u64, Error> {
    let number =
        |bytes: &[u8], at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |n| u64::from_le_bytes(*n));
    let len = file.seek(SeekFrom::End(0))?;
    let (mut tail, mut most) = (Vec::new(), 0);
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    file.by_ref().take(TAIL).read_to_end(&mut tail)?;
    for at in (0..tail.len()).filter(|&at| tail[at..].starts_with(b"PK\x06\x07")) {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(number(&tail, at + 8)))?;
        file.by_ref().take(40).read_to_end(&mut end)?;
        if end.starts_with(b"PK\x06\x06") {
            most = most.max(number(&end, 32));
        }
    }
    Ok(most)
}

/// Where the entry of the directory after that at `at` begins, if there is an entry at `at`.
fn next_entry(file: &mut BufReader<File>, at: u64) -> Result<Option<u64>, Error> {
    let mut entry = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.by_ref().take(46).read_to_end(&mut entry)?;
    let number =
        |place: usize| entry.get(place..place + 2).map_or(0, |two| u64::from(u16::from_le_bytes([two[0], two[1]])));
    // Name, extra field and comment follow.
    Ok(entry.starts_with(b"PK\x01\x02").then(|| at + 46 + number(28) + number(30) + number(32)))
}

/// An open archive.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// `torch.serialization.set_crc32_options(False)` writes 0 for every checksum.
    checksums: bool,
}

impl Archive {
    /// Opens an archive whose records do not share bytes.
    pub fn open(mut file: BufReader<File>) -> Result<Self, Error> {
        let damaged = |reason: &str| Error::Damaged(reason.into());
        // Before memory is taken for each.
        let records = declared(&mut file)?;
        if records > MOST_RECORDS {
            return Err(damaged(&format!("the archive has {records} records, the limit is {MOST_RECORDS}")));
        }
        // Nothing precedes the archive. To search for its start goes wrong with a first entry of the directory as long as
        // the records that PyTorch writes after the directory: for files with names of 21 letters.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipArchive::with_config(config, file).map_err(|error| match error {
            ZipError::InvalidArchive(_) => damaged(
                "the archive's directory, at the end of the file, is missing or damaged: the file was cut short",
            ),
            other => other.into(),
        })?;
        if zip.has_overlapping_entries()? {
            return Err(damaged("two records of the archive share bytes, which PyTorch's never do"));
        }
        // Of two records of one name a reader takes the first, another the last.
        let (records, mut at) = (zip.len(), zip.central_directory_start());
        let mut file = zip.into_inner();
        for _ in 0..records {
            at = next_entry(&mut file, at)?.unwrap_or(at);
        }
        if next_entry(&mut file, at)?.is_some() {
            return Err(damaged("two records of the archive have the same name, which PyTorch's never have"));
        }
        let mut zip = ZipArchive::with_config(config, file)?;
        let mut checksums = false;
        for index in 0..zip.len() {
            let record = zip.by_index_raw(index)?;
            checksums |= record.crc32() != 0;
        }
        Ok(Self { zip, checksums })
    }

    /// The names of its records.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        self.zip.file_names().map(|name| Ok(name?.into_owned())).collect()
    }

    /// Reads a record of up to `most` bytes, which PyTorch stores as they are; one that another program compressed is
    /// inflated, within bounds.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        let refuse = |reason| Error::Record { name: name.into(), reason };
        let Some(index) = self.zip.index_for_name(name) else { return Err(refuse("it is missing")) };
        let record = self.zip.by_index_raw(index)?;
        let (declared, packed, method) = (record.size(), record.compressed_size(), record.compression());
        if record.encrypted() {
            return Err(refuse("it is encrypted"));
        }
        if declared > most {
            return Err(refuse("it is too large"));
        }
        let checksum = record.crc32();
        // The declared size is only a bound: memory grows with the bytes read.
        let mut bytes = Vec::new();
        match method {
            CompressionMethod::Stored => {
                record.take(declared).read_to_end(&mut bytes)?;
            }
            CompressionMethod::DEFLATE if declared <= packed.saturating_mul(RATIO).saturating_add(LEAST) => {
                let inflated = flate2::read::DeflateDecoder::new(record).take(declared + 1).read_to_end(&mut bytes);
                inflated.map_err(|_| refuse("its compressed bytes are damaged"))?;
            }
            CompressionMethod::DEFLATE => return Err(refuse("it is compressed more than weights can be")),
            _ => return Err(refuse("it is compressed by a method that is not read; write it again with torch.save")),
        }
        if bytes.len() as u64 != declared {
            return Err(refuse("its length is not the one that the archive says"));
        }
        if self.checksums {
            let mut crc = Crc::new();
            crc.update(&bytes);
            if crc.sum() != checksum {
                return Err(refuse("its checksum does not match its bytes: the file is damaged"));
            }
        }
        Ok(bytes)
    }
}
