//! Races in global memory.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Race};

const SOURCE: &str = include_str!("race_global.cu");
const KIND: &[FindingKind] = &[Race];
const XY: &[crate::A] = &[Zeros(1024), Zeros(1024)];

#[test]
fn between_blocks() {
    check(
        SOURCE,
        &[
            case("one word written by two blocks", KIND, (2, 32), XY),
            case("a sum without an atomic", KIND, (4, 32), XY),
            case("a histogram without atomics", KIND, (2, 32), XY),
            case("another block's result in the same launch", KIND, (2, 32), XY),
            case("a stencil in place", KIND, (2, 32), XY),
            case("a word that another block has read, and its owner as well", KIND, (2, 32), XY),
            case("an atomic against a plain store", KIND, (3, 32), XY),
            case("an atomic against a plain read", KIND, (3, 32), XY),
            case("grid-stride loops that overlap", KIND, (2, 32), XY),
            case("the last block's sum without waiting", KIND, (4, 32), XY),
            case("an output index that wraps too early", KIND, (4, 32), &[Zeros(1024), Int(128)]),
            case("a vector over another block's words", KIND, (2, 32), XY),
            case("a module's variable", KIND, (2, 32), XY),
            case("a flag without an atomic", KIND, (2, 32), XY),
            case("in a function that is not inlined", KIND, (2, 32), XY),
            case("bytes written by two blocks", KIND, (2, 32), XY),
        ],
    );
}

#[test]
fn within_a_block() {
    check(
        SOURCE,
        &[
            case("warps without a barrier", KIND, (1, 64), XY),
            case("lanes without __syncwarp", KIND, (1, 32), XY),
            case("one word written by all", KIND, (1, 64), XY),
            case("a scatter with a collision", KIND, (1, 64), &[Zeros(1024), Int(61)]),
            case("an accumulator of the block", KIND, (1, 96), XY),
            case("a compaction with a plain counter", KIND, (1, 64), XY),
            case("a buffer reused in a loop", KIND, (1, 64), XY),
            case("an atomic and then a plain read", KIND, (1, 64), XY),
        ],
    );
}
