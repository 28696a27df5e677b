//! TensorBoard event files: scalars only.
//!
//! A file is a sequence of records: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data. The data
//! is the protocol buffer `tensorflow.Event`: 1 wall_time (double), 2 step (int64), 3 file_version (string) in the first
//! event, 5 summary (message) in the others. A summary holds 1 value (message): 1 tag (string), 2 simple_value (float).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::protobuf::Message;

/// An open event file.
pub struct Writer {
    out: BufWriter<File>,
}

impl Writer {
    /// Creates an event file in `folder`, named after `unix_seconds` as TensorBoard expects. TensorBoard reads all event
    /// files of a folder as one run, so a resumed run adds a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &Path, unix_seconds: f64) -> io::Result<Self> {
        // The process id distinguishes two runs started in the same second.
        let name = format!("events.out.tfevents.{:010}.{}", unix_seconds as u64, std::process::id());
        let file = File::options().create(true).append(true).open(folder.join(name))?;
        let mut writer = Self { out: BufWriter::new(file) };
        let event = Message::new().double(1, unix_seconds).bytes(3, "brain.Event:2");
        writer.record(event.as_bytes())?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes one point of the scalar `tag`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32, unix_seconds: f64) -> io::Result<()> {
        let point = Message::new().bytes(1, tag).float(2, value);
        let summary = Message::new().message(1, &point);
        let event = Message::new().double(1, unix_seconds).int(2, step as i64).message(5, &summary);
        self.record(event.as_bytes())
    }

    /// Flushes the buffer to the operating system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        for part in [&length, &masked_crc(&length)[..], data, &masked_crc(data)[..]] {
            self.out.write_all(part)?;
        }
        Ok(())
    }
}

/// TensorFlow's rotated CRC, so that a file of CRCs does not look like its own checksum.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_tensorboard_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path(), 1.5).unwrap();
        writer.scalar("loss", 300, 0.25, 2.5).unwrap();
        writer.flush().unwrap();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(file).unwrap();
        // The same two events, written by TensorFlow's RecordWriter.
        let expected = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
                        1b000000000000001a0d9e1309000000000000044010ac022a0d0a0b0a046c6f7373150000803e205d3896";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
