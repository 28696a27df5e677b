//! Launches that never end, and those that stop themselves.

use crate::A::{Int, Zeros};
use crate::support::{Gpu, compile};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Assert, BarrierMismatch, Budget, Deadlock, Trap};
use warpcheck::launch::{Fault, LaunchOptions};

const SOURCE: &str = include_str!("stuck.cu");
const ENDLESS: &[FindingKind] = &[Budget];
const Y: &[crate::A] = &[Zeros(512), Int(3)];

#[test]
fn endless_loops() {
    check(
        SOURCE,
        &[
            case("a loop without an end", ENDLESS, (1, 32), Y),
            case("a flag that nobody sets", ENDLESS, (1, 32), Y),
            case("an index that stands still", ENDLESS, (1, 32), Y),
            case("a loop in one lane", ENDLESS, (2, 64), Y),
            case("a wait for a block that never comes", ENDLESS, (2, 32), Y),
            case("a lock that is never released", ENDLESS, (3, 32), Y),
            case("a ping without a pong", ENDLESS, (1, 64), Y),
            case("a memory barrier that waits for too many", ENDLESS, (1, 32), Y),
            case("a loop without an end around a barrier", ENDLESS, (1, 64), Y),
        ],
    );
}

/// With the budget that a launch has by default, only sooner.
#[test]
fn endless_loops_end_without_a_budget_of_ones_own() {
    let gpu = Gpu::new();
    let source = r#"
        __device__ int lock;
        extern "C" __global__ void spin(int* y) {
            if (threadIdx.x == 0) {
                while (atomicCAS(&lock, 0, 1)) { }
                y[0] += 1;
            }
        }
        extern "C" __global__ void flag(int* y) {
            __shared__ volatile int s;
            if (threadIdx.x == 0) s = 0;
            __syncthreads();
            if (threadIdx.x >= 32) while (s == 0) { }
            y[0] = 1;
        }
        extern "C" __global__ void loop(int* y) {
            int i = y[0];
            while (i != -1) i = i * 3 % 7;
            y[0] = i;
        }"#;
    let module = gpu.load(&compile(source, 80, &[]));
    let y = gpu.zeros(4096);
    let options = LaunchOptions { seconds: 1, ..LaunchOptions::checked() };
    for (kernel, grid, block, text) in [
        ("spin", 40, 64, "all threads that run wait"),
        ("flag", 1, 256, "all threads that run wait"),
        ("loop", 4, 64, "WARPCHECK_BUDGET"),
    ] {
        let outcome = gpu.launch(&module, kernel, ([grid, 1, 1], [block, 1, 1], 0), args![y], &options);
        assert_eq!(outcome.error, Some(Fault::LaunchTimeout), "{kernel}");
        let found: Vec<_> = outcome.findings.iter().map(|f| (f.kind, f.message.as_str())).collect();
        let told = |(kind, message): &(FindingKind, &str)| *kind == Budget && message.contains(text);
        assert!(found.len() == 1 && told(&found[0]), "{kernel}: {found:?}");
    }
}

#[test]
fn waiting_in_a_circle() {
    const CIRCLE: &[FindingKind] = &[Deadlock, BarrierMismatch];
    check(
        SOURCE,
        &[
            case("two barriers in opposite order", CIRCLE, (1, 64), Y),
            case("halves of a warp at two barriers", &[Deadlock, FindingKind::SyncMask], (1, 32), Y),
        ],
    );
}

#[test]
fn assertions_and_traps() {
    check(SOURCE, &[case("an assertion", &[Assert], (2, 32), Y), case("a trap", &[Trap], (1, 64), Y)]);
}
