//! `alexnet export` and `import`, and training from someone's weights: what comes and goes, bit for bit.

mod command;

use command::{Place, SHORT, tensors};
use safetensors::SafeTensors;

/// The tensors of a file whose names begin so, each with its bytes.
fn named(place: &Place, file: &str, start: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = place.read(file);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with(start))
        .map(|(name, tensor)| (name, tensor.data().to_vec()))
        .collect();
    found.sort();
    found
}

#[test]
fn what_goes_out_comes_back_bit_for_bit() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1 --out run"));
    let out = place.succeed("export run -o a.onnx");
    assert!(
        out.starts_with("wrote a.onnx: cifar, 89 MiB, input float (N, 3, 32, 32), normalised, output logits"),
        "{out}"
    );
    place.succeed("export run -o a.pth");
    place.succeed("export run --format safetensors -o a.weights");
    place.succeed("export run/best.safetensors -o a.pt --softmax --with-preprocess");
    let own = named(&place, "run/best.safetensors", "");
    let own: Vec<_> = own.into_iter().filter(|(name, _)| !name.starts_with("momentum.")).collect();
    assert!(named(&place, "a.weights", "") == own);

    // The class names travel along.
    let out = place.succeed("import a.weights -o b.safetensors");
    assert!(out.contains("cifar, images 32x32, 10 classes, 23,272,266 parameters"), "{out}");
    place.succeed("import a.pth -o c.safetensors");
    assert!(tensors(&place.path("b.safetensors")) == tensors(&place.path("c.safetensors")));
    assert!(named(&place, "b.safetensors", "") == own);
    for file in ["b", "c"] {
        place.succeed(&format!("export {file}.safetensors -o {file}.pth"));
        assert!(place.read(&format!("{file}.pth")) == place.read("a.pth"));
        place.succeed(&format!("export {file}.safetensors -o {file}.onnx"));
        assert!(place.read(&format!("{file}.onnx")) == place.read("a.onnx"));
    }
    let eval = |model: &str| place.succeed(&format!("eval {model} --data sample --json --device cpu"));
    assert_eq!(eval("c.safetensors"), eval("run"));

    // Nothing is written over unasked, and nothing else is left in the folder.
    place.fail("export run -o a.onnx", 1, &["a.onnx already exists", "--force"]);
    place.fail("import a.pth -o b.safetensors", 1, &["b.safetensors already exists", "--force"]);
    place.succeed("export run -o a.onnx --force");
    place.succeed("import a.pth -o b.safetensors --force");
    assert!(place.names(".").iter().all(|name| !name.starts_with('.')), "{:?}", place.names("."));

    place.fail("export run -o x.bin", 2, &["x.bin has no extension that names a format", "hint: add --format"]);
    place.fail("export run -o x.pth --softmax", 2, &["--softmax and --with-preprocess need", "hint: "]);
    place.fail(
        "import a.onnx -o x.safetensors",
        1,
        &["a.onnx is not a checkpoint: it is an ONNX model", "hint: an exported model is not read back"],
    );
    place.fail("import a.pt -o x.safetensors", 1, &["a.pt: ", "TorchScript", "hint: save the weights alone"]);
    place.fail(
        "import a.pth -o x.safetensors --arch original",
        1,
        &["a.pth does not hold a known AlexNet", "hint: name the --arch"],
    );
    assert!(!place.path("x.safetensors").exists());
}

#[test]
fn half_precision_goes_out_and_comes_back() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1 --out run"));
    let out = place.succeed("export run -o a.safetensors --half");
    assert!(out.starts_with("wrote a.safetensors: cifar, 44 MiB, 16 tensors of fp16"), "{out}");
    let out = place.succeed("export run -o a.onnx --half");
    assert!(out.contains("cifar, 44 MiB, input float (N, 3, 32, 32)") && out.contains("layers fp16"), "{out}");
    place.succeed("export run -o a.pth --half");
    let logits = |model: &str| -> Vec<f64> {
        // Logits up to a constant per picture, from all probabilities.
        let out = place.succeed(&format!("predict {model} pictures --json --top 10 --device cpu"));
        let mut all = Vec::new();
        for line in out.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut row = [0.0; 10];
            for prediction in object["predictions"].as_array().unwrap() {
                row[prediction["index"].as_u64().unwrap() as usize] = prediction["probability"].as_f64().unwrap().ln();
            }
            let mean = row.iter().sum::<f64>() / 10.0;
            all.extend(row.map(|logit| logit - mean));
        }
        all
    };
    std::fs::create_dir(place.path("pictures")).unwrap();
    for n in 0..8u8 {
        let pixel = |x: u32, y: u32| image::Rgb([x as u8 * (n + 1), y as u8 * 7, n * 30]);
        image::RgbImage::from_fn(32, 32, pixel).save(place.path(&format!("pictures/{n}.png"))).unwrap();
    }
    let expected = logits("run");
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    for file in ["a.safetensors", "a.pth"] {
        place.succeed(&format!("import {file} -o {file}.back.safetensors --classes cifar10"));
        let found = logits(&format!("{file}.back.safetensors"));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(found.len() == 80 && worst > 0.0 && worst <= 1e-2 * largest, "{file}: {worst} of {largest}");
    }
    // Out again in fp16, the values are the same: rounding them changes nothing.
    place.succeed("export a.safetensors.back.safetensors -o b.safetensors --half");
    assert!(named(&place, "b.safetensors", "") == named(&place, "a.safetensors", ""));
    for format in ["pt", "pt2"] {
        place.fail(
            &format!("export run -o a.{format} --half"),
            2,
            &["--half needs --format onnx, pytorch or", "hint: "],
        );
    }

    // A weight beyond fp16 is named, not made infinite.
    place.succeed("export run -o plain.safetensors");
    let mut bytes = place.read("plain.safetensors");
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = 8 + header + text["features.3.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&70000f32.to_le_bytes());
    std::fs::write(place.path("large.safetensors"), &bytes).unwrap();
    place.succeed("import large.safetensors -o wide.safetensors --classes cifar10");
    for file in ["c.safetensors", "c.onnx", "c.pth"] {
        let words = ["features.3.bias has the value 70000, and fp16 ends at 65504", "hint: export in fp32"];
        place.fail(&format!("export wide.safetensors -o {file} --half"), 1, &words);
        assert!(!place.path(file).exists());
    }
}

#[test]
fn a_pt2_archive_has_what_torch_asks_for() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --batch-norm --out run"));
    let out = place.succeed("export run -o a.pt2 --softmax --with-preprocess");
    assert!(out.starts_with("wrote a.pt2: cifar, 89 MiB, input uint8 (N, 32, 32, 3), output probabilities"), "{out}");
    let mut archive = zip::ZipArchive::new(std::fs::File::open(place.path("a.pt2")).unwrap()).unwrap();
    let mut read = |name: &str| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name(&format!("alexnet/{name}")).unwrap(), &mut bytes).unwrap();
        bytes
    };
    assert_eq!((read("archive_format"), read("archive_version")), (b"pt2".into(), b"0".into()));
    let weights: serde_json::Value = serde_json::from_slice(&read("data/weights/model_weights_config.json")).unwrap();
    let model: serde_json::Value = serde_json::from_slice(&read("models/model.json")).unwrap();
    let graph = &model["graph_module"]["graph"];
    // Every weight has its file, of its length; every value that a node uses is there.
    let config = weights["config"].as_object().unwrap();
    assert_eq!(config.len(), 18, "16 parameters, mean and std; no batch norm");
    for (name, own) in config {
        let sides = own["tensor_meta"]["sizes"].as_array().unwrap();
        let len: u64 = sides.iter().map(|side| side["as_int"].as_u64().unwrap()).product();
        let file = own["path_name"].as_str().unwrap();
        assert_eq!(read(&format!("data/weights/{file}")).len() as u64, 4 * len, "{name}");
    }
    let values = graph["tensor_values"].as_object().unwrap();
    for node in graph["nodes"].as_array().unwrap() {
        for argument in node["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| &input["arg"])
            .chain(node["outputs"].as_array().unwrap())
        {
            if let Some(name) = argument["as_tensor"]["name"].as_str() {
                assert!(values.contains_key(name), "{name} of {node}");
            }
        }
    }
    assert!(
        values["input"]["dtype"] == 1
            && graph["nodes"].as_array().unwrap().last().unwrap()["target"] == "torch.ops.aten.softmax.int"
    );
}

#[test]
fn a_network_is_tuned_to_other_classes() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    place.succeed("export run -o ten.pth");
    // Two classes of the embedded images, as folders.
    for (split, count) in [("train", 12), ("val", 4)] {
        for class in ["dark", "light"] {
            let folder = place.path(&format!("data/{split}/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let value = if class == "dark" { number * 5 } else { 255 - number * 5 };
                image::RgbImage::from_pixel(32, 32, image::Rgb([value; 3]))
                    .save(folder.join(format!("{number}.png")))
                    .unwrap();
            }
        }
    }
    // The settings are named: those of `finetune`, which the flags would bring, depend on the number of epochs.
    let train = "train --recipe tutorial --data data --batch-size 8 --device cpu --lr 0.02 \
                 --dropout 0 --augment none --epochs 4 --init ten.pth";
    place.fail(train, 1, &["ten.pth has a last layer of 10 classes, 2 are wanted", "hint: add --replace-classifier"]);
    place.succeed(&format!("{train} --replace-classifier --freeze features --out tuned"));
    let features = named(&place, "run/last.safetensors", "features.");
    assert!(features.len() == 10 && named(&place, "tuned/last.safetensors", "features.") == features);
    assert!(
        named(&place, "tuned/last.safetensors", "classifier.1.")
            != named(&place, "run/last.safetensors", "classifier.1.")
    );
    assert_eq!(named(&place, "tuned/last.safetensors", "classifier.6.bias")[0].1.len(), 8);
    assert!(named(&place, "tuned/last.safetensors", "momentum.features.").is_empty());
    let last = place.metrics("tuned").pop().unwrap();
    assert_eq!(last["val_acc"], 1.0, "black and white are told apart: {last}");
    assert!(place.succeed("predict tuned data/val/dark/0.png --device cpu").starts_with("dark"));

    // Stopped after two epochs and gone on with, it ends bit for bit where it ended.
    place.succeed(&format!("{train} --replace-classifier --freeze features --out half --epochs 2"));
    place.succeed("train --resume half --epochs 4");
    assert!(tensors(&place.path("half/last.safetensors")) == tensors(&place.path("tuned/last.safetensors")));
    place.fail("train --resume half --epochs 5 --freeze classifier", 2, &["--freeze", "contradicts the run"]);

    // The same by import: a checkpoint with a new last layer.
    place.fail("import ten.pth -o x.safetensors --classes cat,dog", 1, &["10 classes, 2 are wanted"]);
    place.succeed("import ten.pth -o x.safetensors --classes cat,dog --replace-classifier");
    let out = place.succeed("predict x.safetensors data/val/dark/0.png --device cpu");
    assert!(out.contains("cat") && out.contains("dog"), "{out}");
    place.fail("import ten.pth -o y.safetensors --classes cat,,dog", 2, &["--classes is `cat,,dog`"]);

    place.succeed(&format!("{SHORT} --epochs 0 --config tuned/config.toml --data sample --freeze none --out free"));
    assert!(!String::from_utf8(place.read("free/config.toml")).unwrap().contains("freeze"));
    place.fail(&format!("{SHORT} --freeze featurs"), 2, &["--freeze featurs: no layer", "hint: "]);
    for tensor in ["features.0.weight", "features.0,features.3.bias"] {
        place.fail(&format!("{SHORT} --freeze {tensor}"), 2, &["no layer with weights has this name"]);
    }
    place.fail(&format!("{SHORT} --freeze features,classifier"), 2, &["leaves nothing to train"]);
    place.fail(&format!("{SHORT} --replace-classifier"), 2, &["--replace-classifier needs weights", "--init"]);
}

#[test]
fn convolutions_start_as_a_whitening_and_as_identities() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out plain"));
    place.succeed(&format!("{SHORT} --epochs 0 --whiten --identity --out start"));
    let weights = |run: &str, of: &str| named(&place, &format!("{run}/last.safetensors"), of);
    for layer in ["features.0.weight", "features.3.weight", "features.6.weight"] {
        assert!(weights("plain", layer) != weights("start", layer), "{layer}");
    }
    for rest in ["features.0.bias", "classifier."] {
        assert!(weights("plain", rest) == weights("start", rest), "{rest}");
    }
    // The first convolution may stay what it is; a run that goes on does not start again.
    place.succeed(&format!("{SHORT} --epochs 1 --whiten --freeze features.0 --out run"));
    place.succeed("train --resume run --epochs 2");
    assert!(weights("run", "features.0.") == weights("start", "features.0."));
    assert!(weights("run", "features.3.weight") != weights("plain", "features.3.weight"));
    let mistake = ["--whiten cannot be used with --init", "hint: "];
    place.fail(&format!("{SHORT} --whiten --init plain/last.safetensors"), 2, &mistake);
}

#[test]
fn batch_norms_go_out_and_come_back() {
    let place = Place::new();
    for (flags, named_as, count) in [
        ("--arch modern", "modern", "3,376,586"),
        ("--batch-norm", "cifar", "23,290,954"),
        ("--batch-norm --residual --accumulate 2", "cifar", "23,290,954"),
    ] {
        let out = place.succeed(&format!("{SHORT} {flags} --epochs 1 --out run"));
        assert!(out.contains("features.1") && out.contains("batch norm") && out.contains(count), "{out}");
        let own = named(&place, "run/best.safetensors", "");
        let statistics = own.iter().filter(|(name, _)| name.contains("running_"));
        assert_eq!(statistics.clone().count(), 14);
        let of_layer = |name: &str| name.starts_with("features.") || name.starts_with("classifier.");
        assert!(statistics.clone().all(|(name, _)| of_layer(name)), "no momentum of statistics");
        // They have moved from 0 and 1.
        let started = |value: f32| value.to_le_bytes().repeat(64);
        for (name, start) in [("features.1.running_mean", 0.0), ("features.1.running_var", 1.0)] {
            assert!(own.iter().any(|(own, bytes)| own == name && *bytes != started(start)), "{name}");
        }
        place.succeed("export run -o a.pth --force");
        // PyTorch's file does not tell of shortcuts; this program's does.
        let residual = if flags.contains("--residual") { "--residual" } else { "" };
        let out = place.succeed(&format!("import a.pth -o b.safetensors --classes cifar10 --force {residual}"));
        place.succeed("export run -o a.weights --format safetensors --force");
        place.succeed("import a.weights -o c.safetensors --force");
        assert!(out.contains(&format!("{named_as}, images 32x32, 10 classes, {count} parameters")), "{out}");
        let kept: Vec<_> = own.into_iter().filter(|(name, _)| !name.starts_with("momentum.")).collect();
        assert!(named(&place, "b.safetensors", "") == kept);
        let eval = |model: &str| place.succeed(&format!("eval {model} --data sample --json --device cpu"));
        assert_eq!(eval("b.safetensors"), eval("run"));
        assert_eq!(eval("c.safetensors"), eval("run"));
        for name in ["a.onnx", "a.pt"] {
            place.succeed(&format!("export run -o {name} --force"));
            let bytes = place.read(name);
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(holds("features") && !holds("running_mean"), "{name}: the batch norms are folded");
        }
        std::fs::remove_dir_all(place.path("run")).unwrap();
    }
}
