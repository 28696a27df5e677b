//! Barriers that not everybody reaches, or that are not the same for all.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, BarrierAfterExit, BarrierDivergence, BarrierMismatch, Deadlock, SyncMask};

const SOURCE: &str = include_str!("barrier.cu");
/// Where the others have exited by then, that is what is told.
const DIVERGENT: &[FindingKind] = &[BarrierDivergence, BarrierAfterExit];
const EXITED: &[FindingKind] = &[BarrierAfterExit];
const MISMATCH: &[FindingKind] = &[BarrierMismatch];
const MASK: &[FindingKind] = &[SyncMask];
const Y: &[crate::A] = &[Zeros(512), Int(3)];

#[test]
fn in_divergent_code() {
    check(
        SOURCE,
        &[
            case("half of a warp", DIVERGENT, (1, 32), Y),
            case("every other lane of two warps", DIVERGENT, (1, 64), Y).strict(),
            case("both sides of a branch", &[BarrierDivergence], (1, 32), Y),
            case("a loop of different length in each lane", DIVERGENT, (1, 32), Y),
            case("a lane that leaves the loop early", DIVERGENT, (1, 32), Y),
            case("a switch", DIVERGENT, (1, 32), Y).strict(),
            case("in a function that is not inlined", DIVERGENT, (1, 32), Y).strict(),
            case("a barrier that counts", DIVERGENT, (1, 32), Y).strict(),
        ],
    );
}

#[test]
fn that_some_have_left_behind() {
    check(
        SOURCE,
        &[
            case("a warp that returned early", EXITED, (1, 64), Y).strict(),
            case("fewer rounds in the last warp", EXITED, (1, 96), Y).strict(),
            case("a barrier for one warp only", EXITED, (1, 64), Y).strict(),
            case("a tail that returns before the tile's barrier", EXITED, (2, 64), &[Zeros(512), Int(96)]).strict(),
            case("a named barrier that waits for too many", &[Deadlock, BarrierAfterExit], (1, 64), Y),
        ],
    );
}

#[test]
fn that_are_not_the_same() {
    check(
        SOURCE,
        &[
            case("a count that is no multiple of a warp", MISMATCH, (1, 64), Y),
            case("two names", MISMATCH, (1, 64), Y),
            case("two counts", MISMATCH, (1, 96), Y),
            case("all threads against some", MISMATCH, (1, 96), Y),
        ],
    );
}

#[test]
fn of_a_warp_with_wrong_masks() {
    const LOCKED: &[FindingKind] = &[SyncMask, Deadlock];
    check(
        SOURCE,
        &[
            case("a vote that leaves its caller out", MASK, (1, 32), Y),
            case("a shuffle with lanes that have left", MASK, (1, 32), Y).strict(),
            case("a shuffle in one branch for all", LOCKED, (1, 32), Y).strict(),
            case("a barrier of a warp whose lanes have left", MASK, (1, 32), Y).strict(),
            case("a barrier of a warp in one branch", LOCKED, (1, 32), Y).strict(),
            case("different masks at one vote", LOCKED, (1, 32), Y),
            case("a match for lanes that never come", MASK, (1, 32), Y).strict(),
        ],
    );
}
