//! Idioms of libcu++, CUB, cooperative groups, CUTLASS and PyTorch: right kernels that must stay clean, each beside a wrong one.

use crate::A::Zeros;
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, BarrierAfterExit, Race, SyncMask, Uninitialised};

const SOURCE: &str = include_str!("idioms.cu");
const KIND: &[FindingKind] = &[Race];
const XY: &[crate::A] = &[Zeros(1024), Zeros(1024)];

#[test]
fn barriers_in_memory() {
    check(
        SOURCE,
        &[
            case("lanes of a warp meet at a memory barrier", KIND, (1, 64), XY),
            case("half of a warp arrives and the other half waits", KIND, (1, 32), XY),
            case("a ring of stages between a producer and consumers", KIND, (1, 96), XY),
            case("asynchronous copies that arrive at a memory barrier", KIND, (1, 64), XY),
            case("stages of asynchronous copies, counted by groups", KIND, (1, 64), XY),
        ],
    );
}

#[test]
fn flags_in_a_block() {
    check(
        SOURCE,
        &[
            case("a flag between warps, released and acquired", KIND, (1, 64), XY),
            case("a flag in global memory for the own block", KIND, (1, 64), XY),
            case("a volatile flag and a fence", KIND, (1, 64), XY),
            case("an atomic flag and a fence before the data instead of after", KIND, (1, 64), XY),
            case("a flag for what the whole warp has written", KIND, (1, 64), XY),
            case("a flag that one lane waits for", KIND, (1, 64), XY),
            case("a latch", KIND, (1, 64), XY),
            case("a counter in the shared memory that is kept for libraries", KIND, (1, 64), XY),
        ],
    );
}

#[test]
fn locks() {
    check(
        SOURCE,
        &[
            case("a semaphore", KIND, (1, 64), XY),
            case("a spin lock between warps", KIND, (1, 64), XY),
            case("a spin lock in shared memory", KIND, (1, 96), XY),
            case("a lock for each lane of a warp", KIND, (1, 32), XY),
            case("a lock that all lanes spin on", KIND, (1, 4), XY),
        ],
    );
}

#[test]
fn between_blocks() {
    check(
        SOURCE,
        &[
            case("the last block after a fence, a barrier and an atomic", KIND, (4, 64), XY),
            case("the last block after a barrier, a fence and an atomic", KIND, (4, 64), XY),
            case("the last block by acquire and release", KIND, (4, 64), XY),
            case("a prefix that each block waits for", KIND, (4, 32), XY),
            case("a barrier of the grid by hand", KIND, (4, 32), XY),
        ],
    );
}

#[test]
fn the_same_value_by_many() {
    check(
        SOURCE,
        &[
            case("one value stored by all", KIND, (1, 64), XY),
            case("a result that all lanes of a warp store", KIND, (1, 64), XY),
            case("a flag that any thread raises", KIND, (1, 64), XY),
        ],
    );
}

#[test]
fn threads_that_leave() {
    const PAST: &[FindingKind] = &[BarrierAfterExit];
    check(
        SOURCE,
        &[
            case("threads that leave before a barrier", PAST, (1, 64), XY),
            case("threads that leave a loop with a barrier", PAST, (1, 64), XY),
            case("lanes that leave before a vote", &[SyncMask], (1, 64), XY),
            case("lanes that leave before their warp's barrier", KIND, (1, 64), XY),
        ],
    );
}

#[test]
fn unused_components() {
    let name = "a vector of which one component is not used";
    check(SOURCE, &[case(name, &[Uninitialised], (1, 32), XY)]);
}

#[test]
fn within_a_warp() {
    check(
        SOURCE,
        &[
            case("a tile of eight lanes", KIND, (1, 64), XY),
            case("a shuffle after a fence", KIND, (1, 32), XY),
            case("a warp's reduction written for lockstep", KIND, (1, 64), XY),
            case("an atomic beside a volatile read", KIND, (1, 64), XY),
            case("a look before an atomic", KIND, (1, 64), XY),
            case("storage of a block's reduction used again", KIND, (1, 64), XY),
        ],
    );
}
