//! The loop on the CUDA device under warpcheck: in every precision a run that was stopped ends where the uninterrupted
//! one ends, with its steps as graphs or eagerly, its batches made on the device or on the host.

mod small;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use alexnet_core::Network;
use alexnet_core::device::Memory;
use alexnet_core::device::cuda::{Cuda, Precision};
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_kernels::nvrtc;
use alexnet_train::data::{Augment, Balance, Loader, LoaderOptions, Preprocess, TransformConfig};
use alexnet_train::run::batch_source::{BatchSource, DeviceDataset};
use alexnet_train::run::evaluate::{Classified, Protocol, evaluate};
use alexnet_train::run::metrics::Record;
use alexnet_train::run::scaling::Scaling;
use alexnet_train::run::trainer::Step;
use alexnet_train::run::{Config, Outcome, Stop, Tta, memory};
use warpcheck::harness::Harness;

use small::{State, Watch, architecture, config, dataset, records, state};

/// warpcheck, loaded as the driver for one test at a time; none with `ALEXNET_TEST_DRIVER=cuda`.
struct Driver(Option<Harness>);

fn driver() -> MutexGuard<'static, Driver> {
    static DRIVER: OnceLock<Mutex<Driver>> = OnceLock::new();
    DRIVER.get_or_init(|| Mutex::new(Driver::open())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    fn open() -> Self {
        let real = std::env::var("ALEXNET_TEST_DRIVER").is_ok_and(|value| value == "cuda");
        if nvrtc::search((!real).then_some(nvrtc::Device { sm: 70, driver: 12_090 })).is_err() {
            nvrtc::fetch().unwrap_or_else(|e| panic!("{e}"));
        }
        let harness = (!real).then(|| Harness::load().unwrap_or_else(|e| panic!("{e}")));
        drop(Cuda::new(0, Precision::Fp32).unwrap_or_else(|e| panic!("{e}")));
        if let Some(harness) = &harness {
            harness.set_options("check=all summary=0").unwrap_or_else(|e| panic!("{e}"));
        }
        Self(harness)
    }

    fn assert_clean(&self) {
        if let Some(harness) = &self.0 {
            harness.assert_clean("the run");
        }
    }
}

/// Enough steps that losses are read in between: 25, the last of an epoch short.
fn long() -> Config {
    Config { epochs: 1, batch_size: 4, accumulate: 1, ..config() }
}

fn go(path: &Path, config: &Config, precision: Precision, stop: &Stop, watch: &mut Watch) -> (Outcome, State) {
    small::go(Arc::new(Cuda::new(0, precision).unwrap()), path, config, stop, watch).unwrap()
}

fn uninterrupted(config: &Config, precision: Precision) -> (State, Vec<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (outcome, state) = go(&run, config, precision, &Stop::default(), &mut Watch::default());
    assert_eq!(outcome, Outcome::Finished);
    (state, records(&run))
}

#[test]
fn stopped_and_resumed_in_every_precision() {
    let driver = driver();
    for precision in Precision::ALL {
        let micro = Config { ema: 0.9, ..config() };
        let mixed = Config { mixup: 0.2, cutmix: 1.0, ..long() };
        // Batches of bytes from the host.
        let augment = "resized-crop,flip".parse().unwrap();
        let sent = Config { augment, rand_augment: Some("2,9".parse().unwrap()), jitter: 0.2, ..mixed.clone() };
        for (config, stops) in [(&micro, &[1, 5][..]), (&mixed, &[7]), (&sent, &[7])] {
            let (expected, expected_records) = uninterrupted(config, precision);
            let eager = uninterrupted(&Config { no_graph: true, ..config.clone() }, precision);
            assert!(eager == (expected.clone(), expected_records.clone()), "{precision:?}: the graph's bits differ");
            let scaled = expected_records[0].scaling;
            assert_eq!(scaled.is_some(), precision == Precision::Fp16);
            for &at in stops {
                let folder = tempfile::tempdir().unwrap();
                let run = folder.path().join("run");
                let stop = Stop::default();
                let mut steps = 0;
                let step = Box::new(|_: Step| {
                    steps += 1;
                    if steps == at {
                        stop.request();
                    }
                });
                let mut watch = Watch { step: Some(step), ..Watch::default() };
                assert_eq!(go(&run, config, precision, &stop, &mut watch).0, Outcome::Interrupted);
                let (_, state) = go(&run, config, precision, &Stop::default(), &mut Watch::default());
                assert!(state == expected, "{precision:?} stopped after step {at}: other weights");
                assert_eq!(records(&run), expected_records, "{precision:?} stopped after step {at}");
            }
        }
        driver.assert_clean();
    }
}

#[test]
fn an_update_that_is_left_out_is_told_and_counted() {
    let driver = driver();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // dL/dlogits of up to 1/4 times this is infinite in half precision, and times a quarter of it no more.
    let scaling = Scaling { loss_scale: 2f32.powi(19), good_steps: 5, skipped_steps: 0 };
    let mut watch = Watch { scaling: Some(scaling), ..Watch::default() };
    go(&run, &long(), Precision::Fp16, &Stop::default(), &mut watch);
    let record = &records(&run)[0];
    let Scaling { loss_scale, skipped_steps, .. } = record.scaling.unwrap();
    assert!(skipped_steps >= 1 && loss_scale == 2f32.powi(19 - skipped_steps as i32), "{record:?}");
    assert!(watch.notes[0].contains("left out, a gradient was infinite or NaN; the loss is now scaled by "));
    assert!(watch.notes[0].starts_with("step 1: 1 update left out"), "{:?}", watch.notes);
    driver.assert_clean();
}

/// The bits of the logits for the batch that is loaded, in training.
fn logits_of(network: &mut Network<Cuda>, n: usize) -> Vec<u32> {
    network.step(&MicroBatch::whole(Philox::new(1), 0, n, 0.0), None).unwrap();
    let mut logits = vec![0.0; n * 10];
    network.read_logits(&mut logits).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn batches_made_on_the_device_are_the_hosts_bit_for_bit() {
    let driver = driver();
    let plain = Config { augment: Augment::NONE, ..long() };
    let all = Config { augment: "crop,flip,cutout".parse().unwrap(), mixup: 0.2, cutmix: 1.0, ..long() };
    let rand_augment = Some("2,15".parse().unwrap());
    let crop = Config { augment: "resized-crop,flip".parse().unwrap(), ..long() };
    for (config, precision) in [
        (plain.clone(), Precision::Fp32),
        (Config { augment: "crop".parse().unwrap(), cutmix: 1.0, ..plain.clone() }, Precision::Fp32),
        (Config { augment: "flip".parse().unwrap(), jitter: 0.3, ..plain }, Precision::Fp32),
        (all.clone(), Precision::Fp32),
        (Config { jitter: 0.4, balance: Balance::Sampler, ..all.clone() }, Precision::Fp16),
        (Config { jitter: 1.0, cutmix: 0.0, ..all.clone() }, Precision::Bf16),
        (Config { jitter: 0.4, rand_augment, ..all.clone() }, Precision::Fp32),
        (Config { rand_augment, balance: Balance::Sampler, ..all }, Precision::Fp16),
        (Config { rand_augment, ..crop.clone() }, Precision::Fp32),
        (crop, Precision::Tf32),
    ] {
        let preprocess = match precision {
            Precision::Fp32 => Preprocess::CIFAR10,
            _ => Preprocess { resize: None, ..Preprocess::imagenet(32) },
        };
        let dataset = dataset(&config);
        let device = Arc::new(Cuda::new(0, precision).unwrap());
        // A learning rate of 0 and no dropout: the logits tell the images.
        let networks = [(), (), ()].map(|()| {
            let mut network = Network::new(device.clone(), architecture(), config.batch_size, true).unwrap();
            network.initialise(Philox::new(1)).unwrap();
            network
        });
        let [mut ours, mut bytes, mut hosts] = networks;
        let (transforms, split) = (config.transforms(), &dataset.train);
        let resident = DeviceDataset::new(&ours, split, transforms, &preprocess).unwrap();
        assert_eq!(resident.is_none(), transforms.on_host(), "images of the right size");
        let (epoch, first) = (3, 2);
        let shards = config.shards_of_steps().unwrap();
        let source = |network, dataset| {
            BatchSource::train(network, &config, preprocess, split, dataset, shards, (epoch, first)).unwrap()
        };
        let (mut made, mut sent) = (source(&ours, resident.as_ref()), source(&bytes, None));
        let loader = Loader::new(
            split,
            LoaderOptions {
                batch_size: config.batch_size,
                image_size: 32,
                preprocess,
                shuffle: true,
                balanced: config.balance == Balance::Sampler,
                transforms,
                seed: config.seed,
                epoch,
                numbers: first * config.accumulate..usize::MAX,
                threads: 2,
                ..LoaderOptions::default()
            },
        );
        for batch in loader.unwrap() {
            let batch = batch.unwrap();
            hosts.load(batch.images(), batch.labels()).unwrap();
            if let Some(mix) = config.mix_config().draw(&Philox::new(config.seed), epoch, batch.index as u32, 32) {
                hosts.mix(mix, batch.labels()).unwrap();
            }
            let expected = logits_of(&mut hosts, batch.count);
            for (source, network) in [(&mut made, &mut ours), (&mut sent, &mut bytes)] {
                assert_eq!(source.advance().unwrap(), batch.count);
                assert_eq!(source.labels(), batch.labels());
                source.load(network).unwrap();
                assert!(logits_of(network, batch.count) == expected, "{transforms:?} {precision:?}");
            }
        }
        assert_eq!([&mut made, &mut sent].map(|source| source.advance().unwrap()), [0, 0]);
        let metrics = hosts.metrics().unwrap();
        assert_eq!([ours.metrics().unwrap(), bytes.metrics().unwrap()], [metrics, metrics]);
    }
    driver.assert_clean();
}

#[test]
fn an_evaluation_on_the_device_is_the_hosts() {
    let driver = driver();
    let dataset = dataset(&long());
    let preprocess = Preprocess { resize: None, ..Preprocess::imagenet(32) };
    let protocol = Protocol { preprocess, threads: 1, ..Protocol::default() };
    for precision in [Precision::Fp32, Precision::Fp16] {
        let device = Arc::new(Cuda::new(0, precision).unwrap());
        // Batches of 16, 16 and 8: the second is captured, and the graph is launched for it.
        let mut network = Network::new(device, architecture(), 16, false).unwrap();
        network.initialise(Philox::new(1)).unwrap();
        network.use_cuda_graph(true);
        let resident = DeviceDataset::new(&network, &dataset.test, TransformConfig::NONE, &preprocess).unwrap();
        assert!(resident.is_some());
        let [ours, sent] = [resident.as_ref(), None].map(|resident| {
            let (mut logits, stop) = (Vec::new(), Stop::default());
            let mut seen = |batch: Classified<'_>| logits.extend(batch.logits.iter().map(|x| x.to_bits()));
            let found = evaluate(&mut network, &dataset.test, resident, protocol, &stop, &mut seen);
            (found.unwrap().unwrap(), logits)
        });
        assert!(ours == sent, "{precision:?}");
        let mut expected = Vec::new();
        let options = LoaderOptions { batch_size: 16, image_size: 32, preprocess, ..LoaderOptions::default() };
        for batch in Loader::new(&dataset.test, options).unwrap().map(Result::unwrap) {
            network.predict(batch.images()).unwrap();
            let mut logits = vec![0.0; batch.count * 10];
            network.read_logits(&mut logits).unwrap();
            expected.extend(logits.into_iter().map(f32::to_bits));
        }
        assert!(ours.1 == expected, "{precision:?}");
        assert_eq!((ours.0.images, network.captured_graphs()), (40, 2));
        // Further views are made on the host.
        let dataset = (&dataset.test, resident.as_ref());
        let mirror = Protocol { tta: Tta::Mirror, ..protocol };
        let mirrored = evaluate(&mut network, dataset.0, dataset.1, mirror, &Stop::default(), &mut |_| ());
        assert_ne!(mirrored.unwrap().unwrap().loss, ours.0.loss);
    }
    driver.assert_clean();
}

#[test]
fn the_plan_counts_the_buffers_of_images() {
    let driver = driver();
    let device = Cuda::new(0, Precision::Fp16).unwrap();
    let (plan, _) = memory::fits(
        &device,
        &architecture(),
        7,
        memory::Use::Training { average: false, shards: 1, together: 1, sums: 0 },
    )
    .unwrap();
    let layers = architecture().memory(7, device.storage(), true).unwrap().activations;
    assert_eq!(plan.activations - layers, 2 * 7 * 32 * 32 * 3);
    driver.assert_clean();
}

#[test]
fn losses_are_read_once_in_a_while() {
    let driver = driver();
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let mut watch = Watch { step: Some(Box::new(|step: Step| seen.push(step.loss))), ..Watch::default() };
    let config = Config { log_every: 20, ..long() };
    go(&folder.path().join("run"), &config, Precision::Fp32, &Stop::default(), &mut watch);
    drop(watch);
    seen.dedup();
    // At the first step, before and at the logged one, and at the end: of 25 steps, 4.
    assert_eq!(seen.len(), 4, "{seen:?}");
    driver.assert_clean();
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let _driver = driver();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let config = Config { lr: 1e30, warmup: 0.0, ..long() };
    let device = Arc::new(Cuda::new(0, Precision::Fp32).unwrap());
    let error = small::go(device, &run, &config, &Stop::default(), &mut Watch::default()).unwrap_err();
    assert!(error.to_string().starts_with("the loss became "), "{error}");
    // What is kept is good.
    let mut network = Network::new(Arc::new(Cuda::new(0, Precision::Fp32).unwrap()), architecture(), 1, true).unwrap();
    alexnet_train::run::checkpoint::open(&run.join("last.safetensors")).unwrap().restore(&mut network).unwrap();
    assert!(state(&network).iter().all(|(w, v)| w.iter().chain(v).all(|&bits| f32::from_bits(bits).is_finite())));
    assert!(network.device().name().starts_with("cuda:0"));
}

#[test]
fn a_run_in_half_precision_goes_on_in_another_and_on_the_cpu() {
    let driver = driver();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let config = config();
    let epochs = |epochs| Config { epochs, ..config.clone() };
    go(&run, &epochs(1), Precision::Fp16, &Stop::default(), &mut Watch::default());
    let cpu = Arc::new(alexnet_core::Cpu::new(1).unwrap());
    small::go(cpu, &run, &epochs(2), &Stop::default(), &mut Watch::default()).unwrap();
    go(&run, &epochs(3), Precision::Bf16, &Stop::default(), &mut Watch::default());
    let records = records(&run);
    assert_eq!(
        records.iter().map(|r| (r.epoch, r.scaling.is_some())).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, false)]
    );
    driver.assert_clean();
}
