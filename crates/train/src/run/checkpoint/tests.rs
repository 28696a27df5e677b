//! Whole, cut, flipped and foreign files.

use std::fs;
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Architecture, LayerKind, LayerSpec, Reference};

use super::*;

fn network(filters: usize) -> Network<Reference<f32>> {
    let layer = |name: &str, kind| LayerSpec { name: name.into(), kind };
    let conv = LayerKind::Conv { filters, kernel: 3, stride: 2, padding: 1, groups: 1 };
    let layers = vec![
        layer("features.0", conv),
        layer("features.1", LayerKind::Relu),
        layer("flatten", LayerKind::Flatten),
        layer("classifier.0", LayerKind::Linear { outputs: 3 }),
    ];
    let architecture = Architecture { name: "small".into(), image_size: 4, channels: 3, classes: 3, layers };
    Network::new(Arc::new(Reference::new()), architecture, 2, true).unwrap()
}

fn metadata() -> Metadata {
    Metadata {
        model: Model { variant: "cifar".into(), image_size: 32, groups: 1, dropout: 0.5, ..Model::default() },
        data: TrainedOn { name: "sample".into(), fingerprint: "0123456789abcdef".into() },
        classes: vec!["a cat".into(), "ein \"Hund\"".into(), "鳥".into()],
        config: "lr = 0.01\n".into(),
        seed: u64::MAX,
        progress: Progress {
            epoch: 3,
            step: 77,
            loss_sum: 0.1 + 0.2,
            best_accuracy: Some(1.0 / 3.0),
            ..Default::default()
        },
        preprocess: Preprocess::imagenet(32),
    }
}

fn filled() -> Network<Reference<f32>> {
    let mut network = network(4);
    network.initialise(Philox::new(1)).unwrap();
    for (i, parameter) in network.device_and_parameters().1.iter_mut().enumerate() {
        parameter.momentum.as_mut().unwrap().fill(i as f32 + 0.5);
    }
    network
}

fn tensors(network: &Network<Reference<f32>>) -> Vec<(Vec<f32>, Vec<f32>)> {
    network.parameters().iter().map(|p| (p.value.clone(), p.momentum.clone().unwrap())).collect()
}

#[test]
fn what_is_saved_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let saved = filled();
    save(&path, &saved, &metadata()).unwrap();
    let checkpoint = open(&path).unwrap();
    assert_eq!(checkpoint.metadata(), &metadata());
    let mut restored = network(4);
    checkpoint.restore(&mut restored).unwrap();
    assert_eq!(tensors(&restored), tensors(&saved));
    // The same state makes the same bytes, and leaves no other file.
    let bytes = fs::read(&path).unwrap();
    save(&path, &restored, &metadata()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn weights_alone_leave_the_momentum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let saved = filled();
    save(&path, &saved, &metadata()).unwrap();
    let mut other = network(4);
    crate::import::open(&path, None).unwrap().initialise(&mut other, false).unwrap();
    for (other, saved) in tensors(&other).into_iter().zip(tensors(&saved)) {
        assert_eq!(other.0, saved.0);
        assert!(other.1.iter().all(|&v| v == 0.0));
    }
}

/// Reads all that inference needs.
fn inference(path: &Path) -> Result<()> {
    let architecture = network(4).architecture().clone();
    let mut network = Network::new(Arc::new(Reference::<f32>::new()), architecture, 2, false)?;
    open(path)?.restore(&mut network)
}

fn verified(path: &Path) -> Result<()> {
    open(path)?.verify()
}

/// The file without the checksum of what inference needs, as older versions wrote it.
fn without_inference_checksum(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    header["__metadata__"].as_object_mut().unwrap().shift_remove(INFERENCE_CHECKSUM).unwrap();
    let header = header.to_string();
    let header = format!("{header:0$}", header.len().next_multiple_of(8));
    bytes.splice(..end, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    fs::write(path, &bytes).unwrap();
    sign(path, CHECKSUM);
}

/// Sets a checksum to what it now is, by the definition in docs/formats.md.
fn sign(path: &Path, key: &str) {
    let mut bytes = fs::read(path).unwrap();
    let place = |bytes: &[u8], key: &str| {
        let key = format!("\"{key}\":\"");
        8 + bytes[8..].windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len()
    };
    let at = place(&bytes, key);
    let mut zeroed = bytes.clone();
    zeroed[at..at + 64].fill(b'0');
    if key == INFERENCE_CHECKSUM {
        let other = place(&bytes, CHECKSUM);
        zeroed[other..other + 64].fill(b'0');
        // Neither average nor running statistics here: parameters first, then as many momenta.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        zeroed.truncate(header + (bytes.len() - header) / 2);
    }
    bytes[at..at + 64].copy_from_slice(hex(&Sha256::digest(&zeroed)).as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn checksums_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let good = fs::read(&path).unwrap();
    sign(&path, INFERENCE_CHECKSUM);
    sign(&path, CHECKSUM);
    assert!(fs::read(&path).unwrap() == good);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let new = fs::read(&path).unwrap();
    without_inference_checksum(&path);
    let old = fs::read(&path).unwrap();
    for good in [&new, &old] {
        fs::write(&path, good).unwrap();
        inference(&path).and_then(|()| verified(&path)).unwrap();
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let momentum = header + (good.len() - header) / 2;
        for i in 0..good.len() {
            let mut bytes = good.clone();
            bytes[i] ^= 1 << (i % 8);
            fs::write(&path, &bytes).unwrap();
            // Without that checksum inference reads the whole file.
            assert!(good == &old || verified(&path).is_err(), "byte {i} of {}", good.len());
            // Momentum is not read for inference, and so not judged, nor is the checksum of the whole file.
            let unread = good == &new && i >= momentum;
            let checksum = good[8..].windows(12).position(|window| window == b"\"checksum\":\"").unwrap() + 20;
            let unjudged = good == &new && (checksum..checksum + 64).contains(&i);
            if unread {
                inference(&path).unwrap();
            } else if !unjudged {
                assert!(inference(&path).is_err(), "byte {i} of {}", good.len());
            }
        }
    }
    for length in (0..new.len()).step_by(13) {
        fs::write(&path, &new[..length]).unwrap();
        // A few bytes are too few to be told from other kinds of files.
        let kind = |error: &Error| matches!(error, Error::WrongKind { .. }) && length < 16;
        let error = open(&path).err().unwrap_or_else(|| panic!("cut at {length}"));
        assert!(matches!(error, Error::Malformed { .. }) || kind(&error), "cut at {length}: {error}");
    }
}

#[test]
fn a_file_that_changes_after_it_was_opened_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let good = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut other = good.clone();
    other[header + 3] ^= 1;
    for (changed, says) in
        [(&other[..], "its checksum does not match"), (&good[..header + 20], "it was cut short while")]
    {
        fs::write(&path, &good).unwrap();
        let checkpoint = open(&path).unwrap();
        // In place, as `cp` does; a run replaces the file, and the open one stays whole.
        fs::write(&path, changed).unwrap();
        let error = checkpoint.restore(&mut network(4)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    fs::write(&path, &good).unwrap();
    let checkpoint = open(&path).unwrap();
    save(&path, &network(8), &metadata()).unwrap();
    checkpoint.restore(&mut network(4)).unwrap();
}

#[test]
fn an_empty_checksum_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let good = fs::read(&path).unwrap();
    let start = 8 + good[8..].windows(12).position(|window| window == b"\"checksum\":\"").unwrap() + 12;
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let spaces = [b' '; NO_CHECKSUM.len()];
    // The header is as long as before, and so the tensors lie where they did.
    let bytes = [&good[..start], &good[start + spaces.len()..header], &spaces, &good[header..]].concat();
    fs::write(&path, bytes).unwrap();
    assert!(matches!(verified(&path), Err(Error::Damaged { .. })));
    assert!(matches!(inference(&path), Err(Error::Damaged { .. })));
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut diverged = filled();
    diverged.device_and_parameters().1[0].value[5] = f32::NAN;
    assert!(matches!(save(&path, &diverged, &metadata()), Err(Error::NotFinite { .. })) && !path.exists());
    // Another program may have written such a file.
    save(&path, &filled(), &metadata()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let first = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[first + 5 * size_of::<f32>()..][..size_of::<f32>()].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = crate::import::open(&path, None).unwrap().initialise(&mut network(4), false).unwrap_err().to_string();
    assert!(error.starts_with("tensor features.0.weight of ") && error.ends_with("has the value NaN"), "{error}");
}

/// Sets value number `index` of the tensors, and the file's checksum to what it then is.
fn with_value(path: &Path, index: usize, value: f32) -> Result<()> {
    let mut bytes = fs::read(path).unwrap();
    let first = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[first + index * size_of::<f32>()..][..size_of::<f32>()].copy_from_slice(&value.to_le_bytes());
    fs::write(path, bytes).unwrap();
    sign(path, CHECKSUM);
    verified(path)
}

#[test]
fn a_whole_checkpoint_with_values_that_are_no_numbers_names_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let layer = |name: &str, kind| LayerSpec { name: name.into(), kind };
    let layers = vec![
        layer("norm", LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 }),
        layer("flatten", LayerKind::Flatten),
        layer("last", LayerKind::Linear { outputs: 3 }),
    ];
    let architecture = Architecture { name: "small".into(), image_size: 2, channels: 3, classes: 3, layers };
    let mut network = Network::new(Arc::new(Reference::new()), architecture, 2, true).unwrap();
    network.initialise(Philox::new(1)).unwrap();
    // Weight, bias, running mean and variance of three channels; 36 weights and 3 biases; momentum of all but the running ones.
    for (index, value, says) in [
        (11, 0.0, None),
        (9, -0.25, Some("tensor `norm.running_var` has the value -0.25")),
        (8, f32::NEG_INFINITY, Some("tensor `norm.running_mean` has the value -inf")),
        (12, f32::NAN, Some("tensor `last.weight` has the value NaN")),
        (50, f32::INFINITY, Some("tensor `last.bias` has the value inf")),
        (51, f32::NAN, None),
    ] {
        save(&path, &network, &metadata()).unwrap();
        let error = with_value(&path, index, value).err().map(|error| error.to_string());
        match (&error, says) {
            (Some(error), Some(says)) => assert!(error.contains(says), "{error}"),
            (None, None) => {}
            _ => panic!("{index}: {error:?}, {says:?}"),
        }
    }
}

#[test]
fn a_declared_length_beyond_the_file_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    for length in [u64::MAX, 1 << 40, 99_000_000] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}      ");
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(&path), Err(Error::Malformed { .. })));
    }
}

#[test]
fn another_network_names_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let error = open(&path).unwrap().restore(&mut network(8)).unwrap_err().to_string();
    assert!(error.contains("features.0.weight") && error.contains("[4, 3, 3, 3]"), "{error}");
}

#[test]
fn a_network_of_another_shape_is_refused_before_it_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &filled(), &metadata()).unwrap();
    let checkpoint = open(&path).unwrap();
    checkpoint.fits(network(4).architecture()).unwrap();
    let error = checkpoint.fits(network(8).architecture()).unwrap_err().to_string();
    assert!(error.contains("features.0.weight") && error.contains("[8, 3, 3, 3]"), "{error}");
}

#[test]
fn names_of_classes_and_settings_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let classes = Metadata { classes: vec!["x".repeat(70_000)], ..metadata() };
    let config = Metadata { config: "#".repeat(2 << 20), ..metadata() };
    for (metadata, words) in [(classes, "the limit is 1024"), (config, "the limit is 1048576")] {
        save(&path, &filled(), &metadata).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("last.safetensors");
    let error = save(&path, &filled(), &metadata()).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("missing"), "{error}");
    // A folder stands where the checkpoint belongs: the rename fails, the temporary file goes.
    let path = folder.path().join("last.safetensors");
    fs::create_dir(&path).unwrap();
    assert!(save(&path, &filled(), &metadata()).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
