//! What the plans of whole networks leave idle, that they depend on no more than they may, and that the model of the machine is that of
//! the kernels.

use alexnet_ops::Precision;
use alexnet_ops::shape::{ConvShape, LinearShape};

use super::*;
use crate::nvrtc::{self, Code, Nvrtc, Target};
use crate::{Unit, conv, defines, linear};

/// Multiprocessors, compute capability and shared memory per multiprocessor.
const A100: (usize, u32, usize) = (108, 80, 164 << 10);
const H100: (usize, u32, usize) = (132, 90, 228 << 10);
/// Others on which kernels run: T4, V100, A6000, RTX 4090, L40S, B200, RTX 5090.
const OTHERS: [(usize, u32, usize); 7] = [
    (40, 75, 64 << 10),
    (80, 70, 96 << 10),
    (84, 86, 100 << 10),
    (128, 89, 100 << 10),
    (142, 89, 100 << 10),
    (148, 100, 228 << 10),
    (170, 120, 100 << 10),
];
const TENSOR: [Number; 3] = [Number::F16, Number::Bf16, Number::Tf32];

/// A kernel per tile with its launch bounds and its shared memory.
const TILES: &str = r#"
#include "prelude.cuh"
#include "tile.cuh"
#if TENSOR
KERNEL void BOUNDS(128, 4) large(u32* to) { *to = shared_address(Tile<128, 4>::memory()); }
KERNEL void BOUNDS(64, 4) small(u32* to) { *to = shared_address(Tile<64, 4>::memory()); }
#endif
"#;

fn machine((multiprocessors, sm, shared): (usize, u32, usize), number: Number) -> Machine {
    Machine { multiprocessors, sm, shared, number }
}

/// The products of a training step of `cifar`, by name, with their plans and how many products a sum has.
fn cifar(batch: usize, machine: &Machine) -> Vec<(String, Plan, usize)> {
    let mut plans = Vec::new();
    // Side, channels, filters, stride; windows of 3×3.
    let convolutions = [(32, 3, 64, 2), (8, 64, 192, 1), (4, 192, 384, 1), (4, 384, 256, 1), (4, 256, 256, 1)];
    for (layer, (side, channels, filters, stride)) in convolutions.into_iter().enumerate() {
        let (height, width) = (side, side);
        let s = ConvShape { batch, height, width, channels, filters, kernel: 3, stride, padding: 1, groups: 1 };
        plans.push((format!("convolution {layer} forward"), conv::forward(&s, machine), 9 * channels));
        if layer > 0 {
            plans.push((format!("convolution {layer} data"), conv::backward_data(&s, machine), 9 * filters));
        }
        plans.push((format!("convolution {layer} weight"), conv::backward_weight(&s, machine), s.output_pixels()));
    }
    for (layer, (inputs, outputs)) in [(1024, 4096), (4096, 4096), (4096, 10)].into_iter().enumerate() {
        let s = LinearShape { batch, inputs, outputs };
        let products = [linear::forward(&s), linear::backward_data(&s), linear::backward_weight(&s)];
        for (gemm, direction) in products.into_iter().zip(["forward", "data", "weight"]) {
            plans.push((format!("linear {layer} {direction}"), gemm.plan(machine), gemm.k));
        }
    }
    plans
}

/// Blocks that multiply, without those that sum the gradient of a bias.
fn blocks(plan: &Plan, name: &str) -> usize {
    let bias = usize::from(name.ends_with("weight"));
    plan.tiles[0] * (plan.tiles[1] - bias) * plan.chunks
}

#[test]
fn no_product_with_work_to_split_leaves_a_tenth_of_the_multiprocessors_idle() {
    let mut idle = Vec::new();
    for device in [A100, H100] {
        for number in TENSOR {
            for batch in [128, 256, 512] {
                let plans = cifar(batch, &machine(device, number));
                assert_eq!(plans.len(), 23);
                for (name, plan, k) in plans {
                    let share = blocks(&plan, &name) as f64 / device.0 as f64;
                    eprintln!("{number:?} {} {batch}: {name}: {share:.2}, {plan:?} of {k}", device.0);
                    if share < 0.9 {
                        idle.push(format!("{number:?} {} {batch}: {name}: {share:.2}, {plan:?} of {k}", device.0));
                    }
                }
            }
        }
    }
    assert!(idle.is_empty(), "{}:\n{}", idle.len(), idle.join("\n"));
}

#[test]
fn plans_in_fp32_do_not_depend_on_the_device() {
    for batch in [1, 7, 32, 128, 512] {
        let expected = cifar(batch, &machine(A100, Number::F32));
        for device in OTHERS.into_iter().chain([H100]) {
            assert_eq!(cifar(batch, &machine(device, Number::F32)), expected, "{device:?}");
        }
    }
    let [one, other] = [A100, H100].map(|device| cifar(128, &machine(device, Number::F16)));
    assert_ne!(one, other, "in half they do");
}

/// The number after `word` in PTX, if it is there.
fn number(ptx: &str, word: &str) -> Option<usize> {
    let rest = ptx.split(word).nth(1)?.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

#[test]
fn resident_blocks_are_those_of_the_launch_bounds() {
    let folder = nvrtc::fetch().unwrap_or_else(|e| panic!("{e}"));
    let compiler = Nvrtc::load(&folder.join("libnvrtc.so.12")).unwrap();
    let unit = Unit { name: "tiles", source: TILES, hash: "" };
    for device in [A100, H100].into_iter().chain(OTHERS) {
        for precision in [Precision::Fp16, Precision::Bf16, Precision::Tf32] {
            let machine = machine(device, precision.storage());
            let target = Target { code: Code::Ptx, sm: machine.sm };
            let options = Nvrtc::options(target, &defines(precision));
            let ptx = compiler.compile(&unit, target, &options).unwrap_or_else(|e| panic!("{e}")).image;
            let ptx = String::from_utf8(ptx).unwrap();
            assert_eq!(ptx.contains(".entry"), machine.tensor(), "{machine:?}");
            for (kernel, tile) in
                [("large", Tile::Large), ("small", Tile::Small)].into_iter().filter(|_| machine.tensor())
            {
                let kernel = ptx.split(".entry ").find(|text| text.starts_with(kernel)).unwrap();
                let read = |word| number(kernel, word).unwrap_or_else(|| panic!("{word} in {kernel}"));
                assert_eq!(read(".maxntid"), tile.threads(true) as usize, "{machine:?} {tile:?}");
                // Its array of shared memory is `.shared .align 128 .b8 NAME[BYTES]`, and the driver takes 1 KiB.
                let shared = number(kernel.split(".shared .align 128").nth(1).unwrap(), "[").unwrap() + 1024;
                let resident = read(".minnctapersm").min(machine.shared / shared).max(1);
                assert_eq!(machine.resident(tile), resident, "{machine:?} {tile:?}");
            }
        }
    }
}
