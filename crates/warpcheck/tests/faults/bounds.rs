//! Accesses beyond allocations, shared and local memory.

use crate::A::{Int, Or, Shift, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, OutOfBounds, WildAddress};

const SOURCE: &str = include_str!("bounds.cu");
const OUT: &[FindingKind] = &[OutOfBounds];
/// Far from everything, an address is simply wild.
const FAR: &[FindingKind] = &[OutOfBounds, WildAddress];

#[test]
fn of_global_memory() {
    const XY: &[crate::A] = &[Zeros(256), Zeros(256)];
    check(
        SOURCE,
        &[
            case("read above", OUT, (1, 64), XY),
            case("write above", OUT, (1, 64), XY),
            case("read below", OUT, (1, 64), XY),
            case("write below", OUT, (1, 64), XY),
            case("far above", FAR, (1, 64), XY),
            case("far below", FAR, (1, 64), XY),
            case("far beyond 32 bits", FAR, (1, 64), XY),
            case("one turn too many", OUT, (1, 1), &[Zeros(256), Zeros(256), Int(64)]),
            case("unguarded tail of the grid", OUT, (3, 32), &[Zeros(320), Int(80)]),
            case("guard with the wrong sign", OUT, (3, 32), &[Zeros(320), Int(80)]),
            case("rows for columns", OUT, (1, 32), &[Zeros(4 * 8 * 20)]),
            case("a vector over the end", OUT, (1, 16), &[Zeros(16 * 16 - 4), Zeros(16 * 16)]),
            case("a double over the end", OUT, (1, 16), &[Zeros(8 * 16 - 4)]),
            case("a byte over the end", OUT, (1, 32), &[Zeros(61)]),
            case("a short over the end", OUT, (1, 32), &[Zeros(62), Zeros(64)]),
            case("an atomic over the end", OUT, (1, 32), &[Zeros(40)]),
            case("a compare-and-swap below", OUT, (1, 32), &[Zeros(128)]),
            case("a negative index by overflow", FAR, (1, 32), &[Zeros(128), Int(50_000)]),
            case("an unsigned index below zero", FAR, (1, 32), &[Zeros(128)]),
            case("a member of a structure", OUT, (1, 10), &[Zeros(12 * 10 - 4), Zeros(40)]),
            case("through a pointer in memory", OUT, (1, 32), &[Zeros(128), crate::A::Holds(0)]),
            case("a stencil without its edge", OUT, (2, 32), XY),
            case("in a function that is not inlined", OUT, (1, 64), XY),
            case("one thread of the last block", OUT, (4, 16), XY),
            case("in a divergent branch", OUT, (1, 32), XY),
            case("a module's array", OUT, (1, 32), &[Zeros(128)]),
            case("a constant array", OUT, (1, 32), &[Zeros(128), Int(8)]),
            case("a pointer that starts inside", OUT, (1, 32), &[Zeros(256), Shift(0, 132)]),
            case("a buffer that is too small", OUT, (1, 64), &[Or(&Zeros(252), &Zeros(256))]),
            case("an asynchronous copy's source", OUT, (1, 32), &[Zeros(512), Zeros(512)]),
        ],
    );
}
