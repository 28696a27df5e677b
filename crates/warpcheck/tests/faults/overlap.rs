//! Programmatic dependent launch: accesses that `griddepcontrol.wait` does not order after the launches before.

use crate::A::{Int, Zeros};
use crate::{Case, case, check};
use warpcheck::finding::FindingKind::{self, Race};

const SOURCE: &str = include_str!("overlap.cu");
const KIND: &[FindingKind] = &[Race];
const XYW: &[crate::A] = &[Zeros(1024), Zeros(1024), Zeros(1024)];

fn pair(name: &'static str) -> Case {
    case(name, KIND, (2, 64), XYW).hopper()
}

#[test]
fn of_the_launch_before() {
    check(
        SOURCE,
        &[
            pair("a result is read without a wait"),
            pair("a result is read before the wait"),
            pair("an operand is overwritten without a wait"),
            pair("an operand is changed in place without a wait"),
            pair("a result is written again without a wait"),
            pair("the wrong array is prefetched"),
            pair("a prefetch by cp.async"),
            pair("a launch that does not let its dependents start"),
            pair("a plain read of a counter"),
            pair("other bytes of a word"),
            case("only some threads wait", KIND, (2, 64), &[Zeros(1024), Zeros(1024), Int(100)]).hopper(),
        ],
    );
}

#[test]
fn one_thread_waits_for_others() {
    check(
        SOURCE,
        &[pair("a thread waits for its block"), pair("a lane waits for its warp"), pair("a warp waits for its block")],
    );
}

#[test]
fn of_a_launch_further_back() {
    check(
        SOURCE,
        &[
            pair("the launch between does not wait"),
            pair("the launch between lets its dependents start too early"),
            pair("the launch between has read it too"),
        ],
    );
}

/// The shadow words distinguish 15 launches; a pair must be found wherever it falls among them.
#[test]
fn of_any_number() {
    let cases = || [pair("a result is read without a wait"), pair("an operand is changed in place without a wait")];
    let many: Vec<Case> = (0..16).flat_map(|_| cases()).collect();
    check(SOURCE, &many);
}
