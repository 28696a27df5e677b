//! Weights with torchvision's names and shapes, for 1,000 classes at 224 pixels, tuned to CIFAR-10's ten classes.

mod command;

use std::collections::BTreeMap;

use alexnet_core::random::{Philox, uniform_f32};
use command::Place;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// `torchvision.models.alexnet().state_dict()`.
const SHAPES: [(&str, &[usize]); 8] = [
    ("features.0", &[64, 3, 11, 11]),
    ("features.3", &[192, 64, 5, 5]),
    ("features.6", &[384, 192, 3, 3]),
    ("features.8", &[256, 384, 3, 3]),
    ("features.10", &[256, 256, 3, 3]),
    ("classifier.1", &[4096, 9216]),
    ("classifier.4", &[4096, 4096]),
    ("classifier.6", &[1000, 4096]),
];

/// Weights by name; activations become smaller from layer to layer.
fn weights() -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let philox = Philox::new(1);
    let mut tensors = BTreeMap::new();
    for (layer, (name, shape)) in SHAPES.into_iter().enumerate() {
        let most = (2.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        let blocks = 0..shape.iter().product::<usize>() as u64 / 4;
        let words = blocks.flat_map(|block| philox.block(200, layer as u32, block));
        let values = words.flat_map(|word| ((uniform_f32(word) * 2.0 - 1.0) * most).to_le_bytes()).collect();
        tensors.insert(format!("{name}.weight"), (shape.to_vec(), values));
        tensors.insert(format!("{name}.bias"), (vec![shape[0]], vec![0; shape[0] * 4]));
    }
    tensors
}

#[test]
fn torchvision_weights_are_tuned_at_224() {
    let place = Place::new();
    let weights = weights();
    let views: Vec<_> = weights
        .iter()
        .map(|(name, (shape, bytes))| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()))
        .collect();
    safetensors::serialize_to_file(views, None, &place.path("imagenet.safetensors")).unwrap();

    let train = "train --data sample --limit-train 4 --limit-test 2 --batch-size 2 --epochs 1 \
                 --device cpu --lr 0.001 --init imagenet.safetensors --freeze features,classifier.1 --out tuned";
    let words =
        ["imagenet.safetensors has a last layer of 1000 classes, 10 are wanted", "hint: add --replace-classifier"];
    place.fail(train, 1, &words);
    let out = place.succeed(&format!("{train} --replace-classifier"));
    assert!(out.contains("network  torchvision, images 224x224") && out.contains("1 epoch of 2 steps"), "{out}");

    let bytes = place.read("tuned/last.safetensors");
    let tuned = SafeTensors::deserialize(&bytes).unwrap();
    for (name, (shape, bytes)) in &weights {
        let tensor = tuned.tensor(name).unwrap();
        let same = tensor.data() == bytes;
        match name.rsplit_once('.').unwrap().0 {
            "classifier.6" => assert_eq!(tensor.shape(), [&[10], &shape[1..]].concat(), "{name}"),
            "classifier.4" => assert!(!same, "{name} is trained"),
            _ => assert!(same, "{name} is frozen"),
        }
    }
    // The file itself is used, with the names of its thousand classes.
    image::RgbImage::from_pixel(30, 20, image::Rgb([9, 99, 199])).save(place.path("a.png")).unwrap();
    let out = place.succeed("predict imagenet.safetensors a.png --device cpu --json");
    let prediction: serde_json::Value = serde_json::from_str(&out).unwrap();
    let best = &prediction["predictions"][0];
    let name = &alexnet_train::import::classes::imagenet()[best["index"].as_u64().unwrap() as usize];
    assert_eq!(best["class"].as_str(), Some(name.as_str()));
    let record = place.metrics("tuned").pop().unwrap();
    let loss = record["train_loss"].as_f64().unwrap();
    // Small activations and small new weights: at first no class is preferred by much.
    assert!((loss - 10f64.ln()).abs() < 0.5, "{record}");

    // With the settings that the two flags bring: the loss of a few images falls.
    let out = place.succeed(
        "train --data sample --limit-train 8 --limit-test 2 --batch-size 8 --epochs 5 --dropout 0 --device cpu --lr 0.02 \
         --init imagenet.safetensors --replace-classifier --freeze features,classifier.1 --out default",
    );
    assert!(out.contains("settings of --recipe finetune"), "{out}");
    let config = String::from_utf8(place.read("default/config.toml")).unwrap();
    for line in [
        "arch = \"torchvision\"",
        "augment = \"resized-crop,flip\"",
        "crop-scale = \"0.35,1\"",
        "balance = \"sampler\"",
        "patience = 8",
        "label-smoothing = 0.1",
        // Flags win; another --lr alone keeps the ratio.
        "lr = 0.02",
        "lr-features = 0.002",
        "epochs = 5",
    ] {
        assert!(config.lines().any(|found| found == line), "no `{line}` in {config}");
    }
    let losses: Vec<f64> = place.metrics("default").iter().map(|r| r["train_loss"].as_f64().unwrap()).collect();
    assert!(losses[4] < losses[0] - 0.2, "{losses:?}");
    // As torchvision's weights were trained: ImageNet's numbers, Resize(256), CenterCrop(224).
    let checkpoint = place.read("default/last.safetensors");
    let (_, header) = SafeTensors::read_metadata(&checkpoint).unwrap();
    let preprocess: serde_json::Value =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["preprocess"]).unwrap();
    assert_eq!((&preprocess["resize"], &preprocess["crop"]), (&256.into(), &224.into()), "{preprocess}");
    assert_eq!(preprocess["mean"], serde_json::json!([0.485, 0.456, 0.406]));
    place.fail(
        "train --recipe finetune --data sample",
        2,
        &["needs weights to start from", "hint: give them with --init FILE"],
    );
}
