//! The exchange of gradients between ranks, which are threads here, each with kernels of its own: the same bits as the sums and the
//! update on one GPU, through the stand-in for NCCL and through the host.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use alexnet_core::Sgd;
use alexnet_core::device::cuda::Precision;
use alexnet_kernels::nccl::Nccl;
use alexnet_kernels::{Array, Copies, Kernels, Number, ParameterGroup, Parameters, Peers, Scaler, Slices, Updated};
use alexnet_ranks::Ranks;

use crate::support::{gpu, numbers, stand_in};

/// Elements of the parameters: divided with and without a rest, owned by one rank, not trained.
const LENS: [usize; 6] = [8 * 1024, 3, 9_001, 0, 1_500, 20_006];

/// The slices of such parameters: a part as long as every rank's, the last rank's with the rest, or all of a small parameter.
fn slices(lens: &[usize], size: usize) -> Vec<Vec<Range<usize>>> {
    let slice = |index: usize, len: usize, rank: usize| {
        let chunk = len / size / 4 * 4;
        match chunk < 1024 {
            true if index % size == rank => 0..len,
            true => 0..0,
            false if rank + 1 == size => rank * chunk..len,
            false => rank * chunk..(rank + 1) * chunk,
        }
    };
    lens.iter().enumerate().map(|(index, &len)| (0..size).map(|rank| slice(index, len, rank)).collect()).collect()
}

/// Numbers of many magnitudes, so that the order of a sum shows in its bits.
fn scattered(seed: u64, len: usize) -> Vec<f32> {
    let exponents = numbers(seed + 1000, len, Precision::Fp32);
    numbers(seed, len, Precision::Fp32).iter().zip(exponents).map(|(x, e)| x * (8.0 * e).exp2()).collect()
}

fn gradient(rank: usize, index: usize, step: usize) -> Vec<f32> {
    scattered((100 * step + 10 * index + rank) as u64, LENS[index])
}

/// The tree over ranks, by its definition.
fn tree(gradients: &[Option<Vec<f32>>]) -> Option<Vec<f32>> {
    let [one] = gradients else {
        let (left, right) = gradients.split_at(gradients.len() / 2);
        return match (tree(left), tree(right)) {
            (Some(left), Some(right)) => Some(left.iter().zip(right).map(|(x, y)| x + y).collect()),
            (left, right) => left.or(right),
        };
    };
    one.clone()
}

const SGD: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: false, decay_all: false };

/// What a rank trains.
struct Rank {
    kernels: Arc<Kernels>,
    w: Vec<Array>,
    g: Vec<Array>,
    v: Vec<Array>,
    copies: Vec<Option<Array>>,
    optimizer: Array,
    scaler: Array,
}

impl Rank {
    fn new(precision: Precision) -> Rank {
        let kernels = Arc::new(Kernels::new(0, precision).unwrap());
        let arrays = || LENS.map(|len| kernels.zeros(Number::F32, len).unwrap()).into();
        let (w, g, v): (Vec<Array>, _, _) = (arrays(), arrays(), arrays());
        let copy = |(index, len)| (index != 1).then(|| kernels.zeros(kernels.storage(), len).unwrap());
        let half = precision != Precision::Fp32;
        let copies = LENS.into_iter().enumerate().map(|at| if half { copy(at) } else { None }).collect();
        let (mut optimizer, mut scaler) =
            (kernels.zeros(Number::F32, 4).unwrap(), kernels.zeros(Number::F32, 4).unwrap());
        kernels.write_sgd(&SGD, &mut optimizer).unwrap();
        let scale = if precision == Precision::Fp16 { 4.0 } else { 1.0 };
        kernels.write_scaler(&Scaler { scale, ..Scaler::default() }, &mut scaler).unwrap();
        let mut rank = Rank { kernels, w, g, v, copies, optimizer, scaler };
        for (index, w) in rank.w.iter_mut().enumerate() {
            rank.kernels.write(&scattered(7 + index as u64, LENS[index]), w).unwrap();
        }
        rank
    }

    fn group(index: usize) -> ParameterGroup {
        ParameterGroup { decays: index.is_multiple_of(2), rate: 1.0 + index as f32 }
    }

    fn write(&mut self, index: usize, gradient: &[f32]) {
        self.kernels.write(gradient, &mut self.g[index]).unwrap();
    }

    /// The update on one GPU.
    fn update_alone(&mut self) {
        let mut table = Parameters::default();
        let arrays = self.w.iter_mut().zip(&self.g).zip(self.v.iter_mut()).zip(self.copies.iter_mut());
        for (index, (((w, g), v), copy)) in arrays.enumerate() {
            table.push(LENS[index], Self::group(index), w, g, v, copy.as_mut()).unwrap();
        }
        self.kernels.sgd(&table, &self.optimizer, &self.scaler).unwrap();
    }

    /// The last parameters beside other work, the rest, the update, the weights.
    fn update(&mut self, peers: &mut Peers, present: &[bool], beside: bool) {
        let tests = self.kernels.precision() == Precision::Fp16;
        let slices = slices(&LENS, peers.size());
        let gradients = |range: Range<usize>| range.map(|index| (&self.g[index], slices[index].clone()));
        let mut first = LENS.len();
        if beside {
            first = 4;
            let before = peers.parts_len(slices[..first].iter().map(|slices| &slices[..])).unwrap();
            let (mut worked, last) = (false, gradients(first..LENS.len()));
            self.kernels.exchange(peers, present, before, last, || worked = true).unwrap();
            assert!(worked);
        }
        self.kernels.exchange(peers, present, 0, gradients(0..first), || ()).unwrap();
        let mut own = Slices::default();
        let arrays = self.w.iter_mut().zip(&mut self.g).zip(self.v.iter_mut()).zip(self.copies.iter_mut());
        for (index, (((w, g), v), copy)) in arrays.enumerate() {
            let parameter = Updated { group: Self::group(index), w, v, copy: copy.as_mut() };
            own.push(peers, &slices[index], g, parameter).unwrap();
        }
        let Rank { kernels, optimizer, scaler, .. } = self;
        kernels.exchange_update(peers, &own, present, optimizer, scaler, tests).unwrap();
        kernels.gather(peers, self.w.iter_mut().zip(slices.clone())).unwrap();
        let mut copies = Copies::default();
        for ((w, copy), slices) in self.w.iter().zip(&mut self.copies).zip(&slices) {
            if let Some(copy) = copy {
                copies.push(peers, slices, w, copy).unwrap();
            }
        }
        kernels.exchange_copy(&copies).unwrap();
        if tests {
            kernels.sgd_rescale(scaler, 2000).unwrap();
        }
    }

    fn gather_momentum(&mut self, peers: &mut Peers) {
        let slices = slices(&LENS, peers.size());
        self.kernels.gather(peers, self.v.iter_mut().zip(slices)).unwrap();
    }

    /// All bits: weights, momentum, copies, the loss scaling.
    fn bits(&self) -> Vec<Vec<u32>> {
        let read = |array: &Array| read(&self.kernels, array);
        let arrays = self.w.iter().chain(&self.v).chain(self.copies.iter().flatten()).chain([&self.scaler]);
        arrays.map(read).collect()
    }
}

fn read(kernels: &Kernels, array: &Array) -> Vec<u32> {
    let mut x = vec![0.0; array.len()];
    match array.number() {
        Number::F16 => kernels.read_widened::<half::f16>(array, 0, &mut x).unwrap(),
        Number::Bf16 => kernels.read_widened::<half::bf16>(array, 0, &mut x).unwrap(),
        _ => kernels.read(array, &mut x).unwrap(),
    }
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs `body` on every rank.
fn on_all<T: Send>(size: usize, body: impl Fn(usize, Arc<dyn Ranks>) -> T + Sync) -> Vec<T> {
    alexnet_ranks::on_all(size, |ranks| body(ranks.rank(), Arc::new(ranks)))
}

/// Which ranks have images in a step.
fn present(size: usize, step: usize) -> Vec<bool> {
    // All but some in the middle, all, only the last.
    (0..size).map(|rank| [rank % 4 != 1 || size == 1, true, rank + 1 == size][step % 3]).collect()
}

const STEPS: usize = 4;
/// The step in which, with loss scaling, one rank has a gradient that is infinite.
const SKIPPED: usize = 2;

fn gradients(size: usize, index: usize, step: usize, precision: Precision) -> Vec<Option<Vec<f32>>> {
    let mut all: Vec<_> = (0..size)
        .zip(present(size, step))
        .map(|(rank, present)| present.then(|| gradient(rank, index, step)))
        .collect();
    // In the slice of another rank, where there is one.
    if let (Precision::Fp16, SKIPPED, 5, Some(Some(last))) = (precision, step, index, all.last_mut()) {
        last[0] = f32::INFINITY;
    }
    all
}

/// The same steps on one GPU, with sums from the host.
fn expected(size: usize, precision: Precision) -> Vec<Vec<u32>> {
    let mut rank = Rank::new(precision);
    for step in 0..STEPS {
        let mut finite = true;
        for index in (0..LENS.len()).filter(|&index| LENS[index] > 0) {
            let sum = tree(&gradients(size, index, step, precision)).unwrap();
            finite &= sum.iter().all(|x| x.is_finite());
            rank.write(index, &sum);
        }
        if finite {
            rank.update_alone();
        }
        if precision == Precision::Fp16 {
            let mut scaler = rank.kernels.read_scaler(&rank.scaler).unwrap();
            match finite {
                true => scaler.good_steps += 1,
                false => scaler = Scaler { scale: scaler.scale / 2.0, good_steps: 0, skipped: scaler.skipped + 1 },
            }
            rank.kernels.write_scaler(&scaler, &mut rank.scaler).unwrap();
        }
    }
    rank.bits()
}

fn same_bits_as_on_one_gpu(precision: Precision, sizes: &[usize]) {
    let gpu = gpu();
    for &size in sizes {
        let expected = expected(size, precision);
        for nccl in [None, Some(stand_in())] {
            for graph in [false, true] {
                if graph && nccl.is_none() {
                    continue;
                }
                let found = on_all(size, |own, ranks| {
                    let mut rank = Rank::new(precision);
                    let mut peers = rank.kernels.connect(nccl, ranks, slices(&LENS, size)).unwrap();
                    assert_eq!((peers.rank(), peers.size(), peers.captures()), (own, size, nccl.is_some()));
                    for step in 0..STEPS {
                        let present = present(size, step);
                        for index in (0..LENS.len()).filter(|&index| LENS[index] > 0) {
                            // A rank without images has the gradient of an earlier step.
                            if let Some(gradient) = &gradients(size, index, step, precision)[own] {
                                rank.write(index, gradient);
                            }
                        }
                        if !graph || step == 0 {
                            rank.update(&mut peers, &present, step % 2 == 1);
                            continue;
                        }
                        // Every step a graph of its own, launched once.
                        let kernels = rank.kernels.clone();
                        let mut captured =
                            kernels.capture(|| rank.update(&mut peers, &present, step % 2 == 1)).unwrap();
                        // SAFETY: its arrays exist.
                        unsafe { kernels.launch_graph(&mut captured) }.unwrap();
                        kernels.synchronize().unwrap();
                    }
                    rank.gather_momentum(&mut peers);
                    rank.bits()
                });
                for (own, found) in found.iter().enumerate() {
                    assert!(*found == expected, "rank {own} of {size}, {precision:?}, {nccl:?}, graph: {graph}");
                }
                gpu.assert_clean("exchange");
            }
        }
    }
}

#[test]
fn same_bits_as_on_one_gpu_in_fp32() {
    same_bits_as_on_one_gpu(Precision::Fp32, &[1, 2, 4, 8]);
}

/// By the kernels for more ranks than eight.
#[test]
fn same_bits_as_on_one_gpu_on_sixteen() {
    same_bits_as_on_one_gpu(Precision::Fp32, &[16]);
    same_bits_as_on_one_gpu(Precision::Fp16, &[16]);
}

#[test]
fn same_bits_as_on_one_gpu_in_fp16_with_a_skipped_step() {
    same_bits_as_on_one_gpu(Precision::Fp16, &[1, 2, 4]);
}

#[test]
fn same_bits_as_on_one_gpu_in_bf16() {
    same_bits_as_on_one_gpu(Precision::Bf16, &[2]);
}

#[test]
fn arrays_of_any_type_come_from_their_owners() {
    let gpu = gpu();
    for nccl in [None, Some(stand_in())] {
        on_all(4, |own, ranks| {
            let kernels = Kernels::new(0, Precision::Fp32).unwrap();
            let mut peers = kernels.connect(nccl, ranks, slices(&[4096], 4)).unwrap();
            let mut arrays: Vec<Array> = (0..3).map(|_| kernels.zeros(Number::F64, 2).unwrap()).collect();
            for (index, array) in arrays.iter_mut().enumerate() {
                kernels.write(&[own as f64, index as f64], array).unwrap();
            }
            let all = |owner: usize| (0..4).map(move |rank| if rank == owner { 0..2 } else { 0..0 }).collect();
            let owned = arrays.iter_mut().enumerate().map(|(index, array)| (array, all(3 - index)));
            kernels.gather(&mut peers, owned).unwrap();
            for (index, array) in arrays.iter().enumerate() {
                let mut found = [9.0; 2];
                kernels.read(array, &mut found).unwrap();
                assert_eq!(found, [3.0 - index as f64, index as f64]);
            }
        });
    }
    gpu.assert_clean("gather");
}

#[test]
fn totals_are_added_in_their_order() {
    let gpu = gpu();
    let kernels = gpu.device(Precision::Fp32).kernels();
    // More than a launch takes; their sum depends on the order.
    let values: Vec<[f64; 2]> = (0..70).map(|i| [1e16 / f64::from(1 + i % 7), 1.0 + f64::from(i) * 1e-3]).collect();
    let array = |value: [f64; 2]| {
        let mut array = kernels.zeros(Number::F64, 2).unwrap();
        kernels.write(&value, &mut array).unwrap();
        array
    };
    let (from, mut to) = (values.iter().copied().map(array).collect::<Vec<_>>(), array([0.5, 0.25]));
    kernels.total_sum(&from, &mut to).unwrap();
    kernels.total_sum([], &mut to).unwrap();
    let expected = values.iter().fold([0.5, 0.25], |sum, x| [sum[0] + x[0], sum[1] + x[1]]);
    let mut found = [0.0; 2];
    kernels.read(&to, &mut found).unwrap();
    assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits));
    gpu.assert_clean("total_sum");
}

#[test]
fn what_was_not_connected() {
    let _gpu = gpu();
    on_all(1, |_, ranks| {
        let kernels = Kernels::new(0, Precision::Fp32).unwrap();
        let mut peers = kernels.connect(None, ranks, slices(&[4096], 1)).unwrap();
        let mut array = kernels.zeros(Number::F32, 4095).unwrap();
        let error = |result: Result<(), alexnet_kernels::Error>| result.unwrap_err().to_string();
        let alone = |slice: Range<usize>| Vec::from_iter([slice]);
        for (slices, words) in [
            (alone(0..4096), "4095 elements"),
            (vec![0..2, 2..4], "not one per rank"),
            (alone(2..8), "multiple of four"),
        ] {
            let sent = error(kernels.exchange(&mut peers, &[true], 0, [(&array, slices.clone())], || ()));
            assert!(sent.starts_with("exchange: ") && sent.contains(words), "{sent}");
            let gathered = error(kernels.gather(&mut peers, [(&mut array, slices)]));
            assert!(gathered.starts_with("gather: ") && gathered.contains(words), "{gathered}");
        }
        assert!(error(kernels.exchange(&mut peers, &[], 0, [], || ())).contains("present has 0 elements"));
        let (optimizer, mut scaler) = (kernels.zeros(Number::F32, 4).unwrap(), kernels.zeros(Number::F32, 4).unwrap());
        let updated = kernels.exchange_update(&mut peers, &Slices::default(), &[], &optimizer, &mut scaler, false);
        assert_eq!(error(updated), "exchange: present has 0 elements, expected 1");
    });
    // More than the inbox holds.
    let errors = on_all(2, |_, ranks| {
        let kernels = Kernels::new(0, Precision::Fp32).unwrap();
        let mut peers = kernels.connect(None, ranks, slices(&[64], 2)).unwrap();
        let array = kernels.zeros(Number::F32, 64).unwrap();
        kernels.exchange(&mut peers, &[true; 2], 64, [(&array, vec![0..32, 32..64])], || ()).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.starts_with("exchange: inbox has ")), "{errors:?}");
}

/// Two ranks of which the second stops taking part.
fn left_alone(nccl: Option<&'static Nccl>, ends: bool, timeout: Duration) -> (String, Duration) {
    let met = Barrier::new(2);
    let results = on_all(2, |own, ranks| {
        let kernels = Kernels::new(0, Precision::Fp32).unwrap();
        let mut peers = kernels.connect(nccl, ranks.clone(), slices(&[8192], 2)).unwrap();
        let g = kernels.zeros(Number::F32, 8192).unwrap();
        let gradient = || [(&g, vec![0..4096, 4096..8192])];
        let send = |peers: &mut Peers| kernels.exchange(peers, &[true; 2], 0, gradient(), || ());
        send(&mut peers).unwrap();
        kernels.synchronize().unwrap();
        ranks.set_timeout(timeout);
        if own == 1 {
            if !ends {
                met.wait();
            }
            return None;
        }
        let begun = Instant::now();
        let failed = send(&mut peers);
        let mut read = [0.0f32; 1];
        let failed = failed.and_then(|()| kernels.read(&g, &mut read));
        let result = (failed.unwrap_err().to_string(), begun.elapsed());
        // Nothing that came later is trusted.
        assert!(kernels.read(&g, &mut read).is_err() && kernels.synchronize().is_err());
        if !ends {
            met.wait();
        }
        Some(result)
    });
    results.into_iter().flatten().next().unwrap()
}

#[test]
fn a_rank_that_ends_or_hangs_is_an_error_in_time() {
    let _gpu = gpu();
    let (error, time) = left_alone(Some(stand_in()), true, Duration::from_secs(100));
    let text = "remote process exited or there was a network error (NCCL_DEBUG=WARN says more)";
    assert_eq!(error, format!("NCCL 2.28.0: ncclCommGetAsyncError: {text}"));
    assert!(time < Duration::from_secs(20), "{time:?}");
    let (error, time) = left_alone(Some(stand_in()), false, Duration::from_secs(2));
    let text = "no step was completed for 2 s: another rank hangs or has ended (NCCL_DEBUG=INFO says more)";
    assert_eq!(error, format!("NCCL 2.28.0: wait: {text}"));
    assert!((2.0..20.0).contains(&time.as_secs_f64()), "{time:?}");
    let (error, _) = left_alone(None, true, Duration::from_secs(100));
    assert_eq!(error, "exchange: rank 1 has ended");
}

#[test]
fn ranks_that_do_not_connect_or_differ() {
    let _gpu = gpu();
    let errors = on_all(2, |own, ranks| {
        let kernels = Kernels::new(0, Precision::Fp32).unwrap();
        let nccl = (own == 0).then(stand_in);
        kernels.connect(nccl, ranks, slices(&[64], 2)).unwrap_err().to_string()
    });
    let text = "rank 0 has 2.28.0, rank 1 has none; all ranks need the same version, or none (ALEXNET_NCCL=off)";
    assert_eq!(errors, [0, 1].map(|_| format!("NCCL: ncclGetVersion: {text}")));
}

#[test]
fn the_library_is_found_by_its_file_alone() {
    let file = PathBuf::from("/nowhere/libnccl.so.2");
    assert_eq!(
        Nccl::load(&file).unwrap_err().to_string(),
        "/nowhere/libnccl.so.2: No such file or directory (os error 2)"
    );
    assert_eq!(stand_in().version(), "2.28.0");
}
