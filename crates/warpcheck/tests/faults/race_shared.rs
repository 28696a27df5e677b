//! Races in shared memory.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Race};

const SOURCE: &str = include_str!("race_shared.cu");
const KIND: &[FindingKind] = &[Race];
const Y: &[crate::A] = &[Zeros(512)];

#[test]
fn between_warps() {
    check(
        SOURCE,
        &[
            case("a neighbour read without a barrier", KIND, (1, 64), Y),
            case("one word written by two warps", KIND, (1, 64), Y),
            case("the first barrier of a reduction left out", KIND, (1, 128), Y),
            case("a tile overwritten while it is read", KIND, (1, 64), &[Zeros(1024), Zeros(256)]),
            case("the next broadcast before the last was read", KIND, (1, 96), Y),
            case("an atomic against a plain read", KIND, (1, 64), Y),
            case("an atomic against a plain write", KIND, (1, 64), Y),
            case("a plain increment", KIND, (1, 64), Y),
            case("bins of a histogram", KIND, (1, 64), Y),
            case("a barrier before the write instead of after", KIND, (1, 64), Y),
            case("a scan in place", KIND, (1, 64), Y),
            case("a transpose without a barrier", KIND, (1, 0), &[Zeros(1024), Zeros(1024)]).block(16, 16),
            case("a barrier of half the block", KIND, (1, 128), Y),
            case("bytes of one word, overlapping", KIND, (1, 64), Y),
            case("a word over another's bytes", KIND, (1, 64), Y),
            case("dynamic memory used twice", KIND, (1, 64), Y).shared(256, 256),
            case("vectors against words", KIND, (1, 64), Y),
            case("a barrier that only even rounds have", KIND, (1, 64), &[Zeros(256), Int(4)]),
            case("an asynchronous copy against its reader", KIND, (1, 64), &[Zeros(1024), Zeros(1024)]),
            case("a reduction without its barrier", KIND, (1, 128), Y),
            case("a value broadcast without a barrier", KIND, (1, 64), Y),
        ],
    );
}

#[test]
fn within_a_warp() {
    check(
        SOURCE,
        &[
            case("lanes without __syncwarp", KIND, (1, 32), Y),
            case("a warp's reduction without __syncwarp", KIND, (1, 32), Y),
            case("two lanes write one word", KIND, (1, 32), Y),
            case("branches of one warp", KIND, (1, 32), Y),
            case("a mask that leaves the writer out", KIND, (1, 32), Y),
        ],
    );
}
