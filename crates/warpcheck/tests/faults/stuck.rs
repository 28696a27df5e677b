//! Launches that never end, and those that stop themselves.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Assert, BarrierMismatch, Budget, Deadlock, Trap};

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
