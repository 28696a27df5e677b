//! Reads of memory that nobody wrote.

use crate::A::{Int, Or, Partly, Raw, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Uninitialised};

const SOURCE: &str = include_str!("init.cu");
const KIND: &[FindingKind] = &[Uninitialised];

#[test]
fn global_memory() {
    const X: crate::A = Or(&Raw(256), &Zeros(256));
    check(
        SOURCE,
        &[
            case("a whole buffer", KIND, (1, 64), &[X, Zeros(256)]),
            case("the second half", KIND, (1, 64), &[Or(&Partly(256, 128), &Zeros(256)), Zeros(256)]),
            case("the last byte", KIND, (1, 64), &[Or(&Partly(64, 63), &Zeros(64)), Zeros(64)]),
            case("the last bytes of a vector", KIND, (1, 16), &[Or(&Partly(256, 248), &Zeros(256)), Zeros(64)]),
            case("half of a double", KIND, (1, 1), &[Or(&Partly(8, 4), &Zeros(8)), Zeros(8)]),
            case("an accumulator", KIND, (1, 64), &[X]),
            case("bins of a histogram", KIND, (2, 32), &[X]),
            case("what only even threads wrote", KIND, (1, 64), &[Raw(256), Zeros(256)]),
            case("a count before it is set", KIND, (1, 32), &[X, Zeros(128)]),
            case("what the last thread should have written", KIND, (1, 32), &[Raw(256), Zeros(128), Int(31)]),
            case("in a function that is not inlined", KIND, (1, 32), &[X, Zeros(128)]),
            case("the operand of a branch", KIND, (1, 32), &[X, Zeros(128)]),
        ],
    );
}

#[test]
fn shared_memory() {
    check(
        SOURCE,
        &[
            case("never written", KIND, (1, 32), &[Zeros(128)]),
            case("written by the first warp only", KIND, (1, 64), &[Zeros(256)]),
            case("a reduction of more than was stored", KIND, (1, 48), &[Zeros(4)]),
            case("a tile's edge that the guard left out", KIND, (1, 64), &[Zeros(256), Zeros(256), Int(60)]),
            case("the other stage of a double buffer", KIND, (1, 32), &[Zeros(128)]),
            case("dynamic memory", KIND, (1, 32), &[Zeros(128)]).shared(256, 256),
            case("a counter", KIND, (1, 64), &[Zeros(4)]),
            case("bytes between shorts", KIND, (1, 32), &[Zeros(128)]),
            case("rows of a matrix for tensor cores", KIND, (1, 32), &[Zeros(128)]),
        ],
    );
}

#[test]
fn local_memory() {
    check(
        SOURCE,
        &[
            case("an array's end", KIND, (1, 32), &[Zeros(128), Int(12)]),
            case("an element that only some threads set", KIND, (1, 32), &[Zeros(128), Int(4)]),
            case("a result that a function did not fill in", KIND, (1, 32), &[Zeros(128), Int(3)]),
        ],
    );
}
