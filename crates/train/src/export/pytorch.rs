//! PyTorch's zip archives: a state dict for `torch.load(weights_only=True)`.

use std::io::{Cursor, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::pickle::Pickle;
use super::{Model, Tensor};

/// The folder of all records in the archive; PyTorch accepts any name.
const FOLDER: &str = "alexnet";

/// An archive under construction. PyTorch stores records uncompressed, each aligned to 64 bytes.
pub(super) struct Archive<W: Write + Seek>(ZipWriter<W>);

impl<W: Write + Seek> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self(ZipWriter::new(out))
    }

    pub(super) fn record(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let large = bytes.len() >= u32::MAX as usize;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .with_alignment(64)
            .large_file(large);
        self.0.start_file(format!("{FOLDER}/{name}"), options)?;
        self.0.write_all(bytes)
    }

    /// Writes the tensors' bytes as `data/0`, `data/1`, …, and the records that every archive has.
    pub(super) fn finish(mut self, tensors: &[Tensor<'_>], version: &str) -> std::io::Result<W> {
        for (key, tensor) in tensors.iter().enumerate() {
            self.record(&format!("data/{key}"), &tensor.bytes)?;
        }
        self.record("byteorder", b"little")?;
        self.record("version", format!("{version}\n").as_bytes())?;
        Ok(self.0.finish()?)
    }
}

/// The bytes of a `.pth` file: an `OrderedDict` from name to tensor. The class names and the preprocessing are in records of
/// their own, which PyTorch passes over and [`crate::import`] reads.
///
/// # Errors
/// The archive cannot be written.
pub fn to_bytes(model: &Model<'_>) -> std::io::Result<Vec<u8>> {
    let mut pickle = Pickle::new();
    pickle.global("collections", "OrderedDict").empty_tuple().reduce().mark();
    for (key, tensor) in model.parameters.iter().enumerate() {
        pickle.string(&tensor.name).stored_tensor(tensor.storage(), &key.to_string(), &tensor.shape);
    }
    pickle.set_items();
    let mut archive = Archive::new(Cursor::new(Vec::new()));
    archive.record("data.pkl", &pickle.finish())?;
    archive.record("extra/classes.json", serde_json::json!(model.classes).to_string().as_bytes())?;
    archive.record("extra/preprocess.json", model.preprocess_json().as_bytes())?;
    Ok(archive.finish(&model.parameters, "3")?.into_inner())
}
