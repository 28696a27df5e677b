//! Files of weights: safetensors, PyTorch's archives, pickles.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use alexnet_core::{Architecture, LayerKind, LayerSpec};
use alexnet_train::data::Preprocess;
use alexnet_train::export::{self, Tensor};
use alexnet_train::import::{self, recognise};
use alexnet_train::run::classifier::architecture_of;
use alexnet_train::run::model::Model;
use alexnet_train::run::{Config, checkpoint};
use alexnet_train::serve::title;
use sha2::{Digest, Sha256};

use super::with_file;

/// Shapes and values by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<u32>)>;

/// What `import` and every command that takes weights do with a file. `None` if it is refused.
fn read(path: &Path) -> Option<Tensors> {
    let mut weights = import::open(path, None).ok()?;
    // To try every size of images takes ten milliseconds: not for each file.
    let names = weights.shapes().iter().map(|(name, _)| name.len()).sum::<usize>();
    let image = (!names.is_multiple_of(64)).then_some(32);
    let _ = recognise::recognise(&weights, recognise::Known { image, ..Default::default() });
    let _ = import::preprocess(&weights, &Model::default(), None);
    for key in ["architecture", "classes", "preprocess", "config"] {
        let _ = weights.note(key);
    }
    let mut tensors = Tensors::new();
    for (name, shape) in weights.shapes() {
        let values = weights.read(&name).ok()?;
        assert_eq!(Some(values.len()), shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side)), "{name}");
        tensors.insert(name, (shape, values.into_iter().map(f32::to_bits).collect()));
    }
    Some(tensors)
}

/// What is read, then exported and read again is the same.
fn read_and_export(input: &[u8]) {
    let Some(tensors) = with_file(input, read) else { return };
    // Of names with prefixes one group is taken, and its prefix is gone: other names may then be the first group.
    if !tensors.keys().all(|name| name.starts_with("features.") || name.starts_with("classifier.")) {
        return;
    }
    let layers = vec![LayerSpec { name: "features.0".into(), kind: LayerKind::Relu }];
    let architecture = Architecture { name: "small".into(), image_size: 3, channels: 3, classes: 2, layers };
    let parameters = tensors.iter().map(|(name, (shape, values))| Tensor {
        name: name.clone(),
        shape: shape.clone(),
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into(),
    });
    let parameters = parameters.collect();
    let model =
        export::Model { architecture: &architecture, classes: &[], preprocess: Preprocess::default(), parameters };
    let files = [
        export::safetensors::to_bytes(&model, &Model::default()),
        export::pytorch::to_bytes(&model).expect("memory can be written"),
    ];
    for file in files {
        // Without names of an AlexNet a file of tensors is no network's.
        let Some(again) = with_file(&file, read) else { continue };
        assert_eq!(again, tensors, "what is exported is read as something else");
    }
}

/// A safetensors file. A checksum in it is set right, since no mutation would hit it.
pub fn safetensors(input: &[u8]) -> usize {
    let mut file = input.to_vec();
    set_checksum(&mut file);
    with_file(&file, |path| {
        let Ok(checkpoint) = checkpoint::open(path) else { return };
        let (metadata, _) = (checkpoint.metadata(), checkpoint.verify());
        let _ = title(metadata);
        let _ = (Config::tta_of_run(&metadata.config), Config::exif_of_run(&metadata.config));
        let _ = Config::of_run(&metadata.config, path);
        if let Ok(architecture) = architecture_of(metadata, path) {
            let fitting = architecture.parameters().expect("a traced architecture has parameters");
            let _ = checkpoint.fits(&architecture).and_then(|()| checkpoint.parameters(&fitting));
        }
    });
    read_and_export(&file);
    0
}

/// Writes the SHA-256 of the file into its header, if that has a place for it.
fn set_checksum(file: &mut [u8]) {
    const KEY: &[u8] = b"\"checksum\":\"";
    let header = file.first_chunk().map_or(0, |len| u64::from_le_bytes(*len)).min(file.len() as u64) as usize;
    let Some(start) = file[..header].windows(KEY.len()).position(|window| window == KEY) else { return };
    let place = start + KEY.len()..start + KEY.len() + 64;
    let Some(sum) = file.get_mut(place.clone()) else { return };
    sum.fill(b'0');
    let sum: String = Sha256::digest(&*file).iter().map(|byte| format!("{byte:02x}")).collect();
    file[place].copy_from_slice(sum.as_bytes());
}

/// A file of `torch.save`, of either format.
pub fn pytorch(input: &[u8]) -> usize {
    read_and_export(input);
    0
}

/// The pickle of a state dict, alone and in an archive with four storages.
pub fn pickle(input: &[u8]) -> usize {
    if let Ok(pickle) = import::pickle::read(input) {
        assert!(pickle.len <= input.len());
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storage = [0x3f; 256];
    let records = [("x/data.pkl", input), ("x/data/0", &storage[..]), ("x/data/1", &storage[..108])];
    for (name, bytes) in records {
        zip.start_file(name, options).and_then(|()| Ok(zip.write_all(bytes)?)).expect("memory can be written");
    }
    read_and_export(&zip.finish().expect("memory can be written").into_inner());
    0
}
