//! Files as training scripts write them, made by hand: three small tensors, with all that lies around them.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use super::*;
use crate::export::pickle::Pickle;

const NAMES: [&str; 3] = ["features.0.weight", "features.0.bias", "classifier.6.bias"];

/// The values of the tensor `key`.
fn values(key: usize) -> Vec<f32> {
    (0..4).map(|i| key as f32 + i as f32 * 0.1).collect()
}

fn bytes(key: usize) -> Vec<u8> {
    values(key).into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Pairs of name and tensor, with the storages from `key` on.
fn pairs(pickle: &mut Pickle, names: &[&str], key: usize) {
    for (index, name) in names.iter().enumerate() {
        pickle.string(name).tensor(&(key + index).to_string(), &[4]);
    }
}

fn dict(pickle: &mut Pickle, names: &[&str], key: usize) {
    pickle.empty_dict().mark();
    pairs(pickle, names, key);
    pickle.set_items();
}

fn pickled(names: &[&str]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    dict(&mut pickle, names, 0);
    pickle.finish()
}

fn zipped(pickle: &[u8], storages: usize, method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut record = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("x/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    record("data.pkl", pickle);
    (0..storages).for_each(|key| record(&format!("data/{key}"), &bytes(key)));
    zip.finish().unwrap().into_inner()
}

fn stored(pickle: &[u8], storages: usize) -> Vec<u8> {
    zipped(pickle, storages, zip::CompressionMethod::Stored)
}

/// PyTorch's format before 1.6.
fn legacy(pickle: &[u8], storages: usize) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    file.extend(pickle);
    file.extend(b"\x80\x02](");
    (0..storages).for_each(|key| file.extend([b'X', 1, 0, 0, 0, b'0' + key as u8]));
    file.extend(b"e.");
    for key in 0..storages {
        file.extend(4u64.to_le_bytes());
        file.extend(bytes(key));
    }
    file
}

struct Saved(#[expect(dead_code, reason = "removes the folder")] tempfile::TempDir, PathBuf);

fn saved(bytes: &[u8]) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    std::fs::write(&path, bytes).unwrap();
    Saved(folder, path)
}

fn error(bytes: &[u8]) -> String {
    match open(&saved(bytes).1, None) {
        Err(error) => error.to_string(),
        Ok(mut weights) => {
            let errors = NAMES.map(|name| weights.read(name).err());
            errors.into_iter().flatten().next().expect("the file is taken").to_string()
        }
    }
}

#[track_caller]
fn takes(bytes: &[u8], from: usize) -> Option<String> {
    let saved = saved(bytes);
    let mut weights = open(&saved.1, None).unwrap();
    for (index, name) in NAMES.iter().enumerate() {
        assert_eq!(weights.read(name).unwrap(), values(from + index), "{name}");
    }
    weights.remark
}

#[test]
fn wrappers_in_names_are_left_out() {
    for names in [
        NAMES,
        ["features.module.0.weight", "features.module.0.bias", "classifier.6.bias"],
        ["module.features.0.weight", "module.features.0.bias", "module.classifier.6.bias"],
        ["net._orig_mod.features.0.weight", "net._orig_mod.features.0.bias", "net._orig_mod.classifier.6.bias"],
    ] {
        assert_eq!(takes(&stored(&pickled(&names), 3), 0), None);
        assert_eq!(takes(&legacy(&pickled(&names), 3), 0), None);
    }
}

#[test]
fn the_dict_whose_names_fit_is_taken_wherever_it_is() {
    for key in ["state_dict", "net", "weights", "my favourite", "ema"] {
        let mut pickle = Pickle::new();
        // {'optimizer': {…, a tensor}, KEY: …}: the old format lists the optimizer's storages, too.
        pickle.empty_dict().mark().string("optimizer");
        dict(&mut pickle, &["exp_avg"], 0);
        pickle.string("acc").int(84).string(key);
        dict(&mut pickle, &NAMES, 1);
        pickle.set_items();
        let pickle = pickle.finish();
        assert_eq!(takes(&stored(&pickle, 4), 1), None, "{key}");
        assert_eq!(takes(&legacy(&pickle, 4), 1), None, "{key}");
    }
    let mut pickle = Pickle::new();
    pickle.mark().int(7);
    dict(&mut pickle, &NAMES, 0);
    pickle.tuple();
    assert_eq!(takes(&stored(&pickle.finish(), 3), 0), None);
}

#[test]
fn of_two_networks_one_is_taken_and_the_other_is_named() {
    for (first, second, taken) in [("model_ema", "model", 3), ("state_dict", "state_dict_ema", 0), ("a", "b", 0)] {
        let mut pickle = Pickle::new();
        pickle.empty_dict().mark().string(first);
        dict(&mut pickle, &NAMES, 0);
        pickle.string(second);
        dict(&mut pickle, &NAMES, 3);
        pickle.set_items();
        let file = stored(&pickle.finish(), 6);
        let (own, other) = if taken == 0 { (first, second) } else { (second, first) };
        let remark = takes(&file, taken).unwrap();
        assert!(remark.contains(&format!("took `{own}`; `{other}` fits too and differs")), "{remark}");
        assert!(remark.contains(&format!("--key {other}")), "{remark}");
        let mut weights = open(&saved(&file).1, Some(other)).unwrap();
        assert_eq!(weights.read(NAMES[0]).unwrap(), values(3 - taken));
        let wrong = open(&saved(&file).1, Some("c")).err().unwrap().to_string();
        assert!(wrong.contains("no `c`") && wrong.contains(&format!("`{first}`")), "{wrong}");
    }
    // The same tensors under two keys.
    let mut pickle = Pickle::new();
    pickle.empty_dict().mark().string("state_dict");
    dict(&mut pickle, &NAMES, 0);
    pickle.string("state_dict_ema");
    dict(&mut pickle, &NAMES, 0);
    pickle.set_items();
    let remark = takes(&stored(&pickle.finish(), 3), 0).unwrap();
    assert!(remark.contains("has the same values"), "{remark}");
    // Two networks in one dict.
    let names = ["ema.features.0.weight", "ema.features.0.bias", "ema.classifier.6.bias"];
    let both: Vec<&str> = names.into_iter().chain(NAMES).collect();
    let remark = takes(&stored(&pickled(&both), 6), 3).unwrap();
    assert!(remark.contains("`ema` fits too"), "{remark}");
}

#[test]
fn of_two_networks_in_a_safetensors_file_one_is_taken() {
    for (order, names) in [[3, 0], [0, 3]].into_iter().zip([["ema.", "model."], ["", "teacher."]]) {
        let mut tensors = serde_json::Map::new();
        let mut data = Vec::new();
        for (key, prefix) in order.into_iter().zip(names) {
            for (index, name) in NAMES.iter().enumerate() {
                let offsets = [data.len(), data.len() + 16];
                let info = serde_json::json!({ "dtype": "F32", "shape": [4], "data_offsets": offsets });
                tensors.insert(format!("{prefix}{name}"), info);
                data.extend(bytes(key + index));
            }
        }
        let header = serde_json::Value::Object(tensors).to_string();
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        let remark = takes(&file, 0).unwrap();
        let other = if names[0] == "ema." { "ema" } else { "teacher" };
        assert!(remark.contains(&format!("`{other}` fits too and differs")), "{remark}");
        assert_eq!(open(&saved(&file).1, Some(other)).unwrap().read(NAMES[0]).unwrap(), values(3));
    }
}

#[test]
fn python_2_and_pytorch_before_0_4() {
    let text = |text: &str| [&[b'U', text.len() as u8][..], text.as_bytes()].concat();
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n](".to_vec();
    for (key, name) in NAMES.iter().enumerate() {
        pickle.extend([&b"]("[..], &text(name), b"ctorch._utils\n_rebuild_tensor\n(("].concat());
        pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&key.to_string())].concat());
        pickle.extend([text("cpu"), b"K\x04NtQK\x00(K\x04t(K\x01ttRe".to_vec()].concat());
    }
    pickle.extend(b"e\x85R.");
    assert_eq!(takes(&legacy(&pickle, 3), 0), None);
    assert_eq!(takes(&stored(&pickle, 3), 0), None);
}

#[test]
fn the_negative_bit_of_a_tensor_changes_the_signs() {
    let text = |text: &str| [&[b'U', text.len() as u8][..], text.as_bytes()].concat();
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n](".to_vec();
    for (key, name) in NAMES.iter().enumerate() {
        pickle.extend([&b"]("[..], &text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(("].concat());
        pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&key.to_string())].concat());
        pickle.extend(
            [text("cpu"), b"K\x04NtQK\x00(K\x04t(K\x01t\x89N}".to_vec(), text("neg"), b"\x88stRe".to_vec()].concat(),
        );
    }
    pickle.extend(b"e\x85R.");
    for file in [stored(&pickle, 3), legacy(&pickle, 3)] {
        let negated: Vec<f32> = values(0).iter().map(|value| -value).collect();
        assert_eq!(open(&saved(&file).1, None).unwrap().read(NAMES[0]).unwrap(), negated);
    }
}

#[test]
fn a_weight_that_is_no_tensor_is_named_with_what_would_make_it() {
    let mut pickle = Pickle::new();
    pickle.empty_dict().mark();
    pairs(&mut pickle, &NAMES[..2], 0);
    pickle.string(NAMES[2]).global("numpy.core.multiarray", "_reconstruct").empty_tuple().reduce();
    pickle.string("args").global("argparse", "Namespace").empty_tuple().new_object();
    pickle.set_items();
    let error = error(&stored(&pickle.finish(), 2));
    assert!(error.contains(NAMES[2]) && error.contains("`numpy.core.multiarray._reconstruct`"), "{error}");
    let mut pickle = Pickle::new();
    pickle.global("__main__", "Net").empty_tuple().new_object();
    let whole = self::error(&stored(&pickle.finish(), 0));
    assert!(whole.contains("an object of `__main__.Net`"), "{whole}");
    let named = self::error(&stored(&pickled(&["conv1.weight", "fc.bias"]), 2));
    assert!(named.contains("no tensor features.0.weight") && named.contains("`conv1.weight`"), "{named}");
}

#[test]
fn archives_that_are_damaged_are_refused() {
    let good = stored(&pickled(&NAMES), 3);
    assert_eq!(takes(&good, 0), None);
    // A bit of a tensor, which nothing but the checksum tells.
    let place = good.windows(16).position(|window| window == bytes(1)).unwrap();
    let mut bad = good.clone();
    bad[place] ^= 1;
    assert!(error(&bad).contains("`x/data/1` is refused: its checksum does not match"), "{}", error(&bad));
    // `torch.serialization.set_crc32_options(False)`: no record has one.
    let mut none = good.clone();
    for (start, at) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
        let places: Vec<usize> = (0..none.len() - 4).filter(|&place| none[place..].starts_with(start)).collect();
        places.into_iter().for_each(|place| none[place + at..place + at + 4].fill(0));
    }
    assert_eq!(takes(&none, 0), None);
    // The second tensor is where the third is.
    let mut shared = good.clone();
    let entries: Vec<usize> = (0..good.len()).filter(|&place| good[place..].starts_with(b"PK\x01\x02")).collect();
    let (second, third) = (entries[2], entries[3]);
    shared.copy_within(third + 42..third + 46, second + 42);
    assert!(error(&shared).contains("share bytes"), "{}", error(&shared));
    // Two records of one name: the third entry of the directory gets the second's name.
    let mut twice = good.clone();
    let name = b"x/data/1";
    for place in (0..good.len() - 8).filter(|&place| good[place..].starts_with(b"x/data/2")) {
        twice[place..place + 8].copy_from_slice(name);
    }
    assert!(error(&twice).contains("the same name"), "{}", error(&twice));
    for length in [good.len() - 1, good.len() - 30, good.len() / 2] {
        assert!(error(&good[..length]).contains("cut short"), "{}", error(&good[..length]));
    }
    let old = legacy(&pickled(&NAMES), 3);
    assert!(error(&old[..old.len() - 1]).contains("cut short"), "{}", error(&old[..old.len() - 1]));
}

#[test]
fn an_archive_that_was_packed_again_is_read() {
    let pickle = pickled(&NAMES);
    let mut packed = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // The crate compresses nothing here: what a packer would write is put in by hand.
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let deflate = |bytes: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut records = vec![("x/data.pkl".to_owned(), pickle)];
    records.extend((0..3).map(|key| (format!("x/data/{key}"), bytes(key))));
    for (name, bytes) in &records {
        packed.start_file(name, options).unwrap();
        packed.write_all(&deflate(bytes)).unwrap();
    }
    let mut packed = packed.finish().unwrap().into_inner();
    // Method, checksum and size of each record as a packer states them.
    for (start, method, crc) in [(b"PK\x03\x04", 8, 14), (b"PK\x01\x02", 10, 16)] {
        let places: Vec<usize> = (0..packed.len() - 4).filter(|&at| packed[at..].starts_with(start)).collect();
        assert_eq!(places.len(), records.len());
        for (place, (_, bytes)) in places.into_iter().zip(&records) {
            let mut sum = flate2::Crc::new();
            sum.update(bytes);
            packed[place + method] = 8;
            packed[place + crc..place + crc + 4].copy_from_slice(&sum.sum().to_le_bytes());
            packed[place + crc + 8..place + crc + 12].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    assert_eq!(takes(&packed, 0), None);
}
