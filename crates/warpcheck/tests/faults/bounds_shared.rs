//! Accesses beyond shared and local memory.

use crate::A::{Int, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, OutOfBounds, WildAddress};

const SOURCE: &str = include_str!("bounds_shared.cu");
const OUT: &[FindingKind] = &[OutOfBounds];
/// Far from everything, an address is simply wild.
const FAR: &[FindingKind] = &[OutOfBounds, WildAddress];

#[test]
fn of_shared_and_local_memory() {
    const Y: &[crate::A] = &[Zeros(256)];
    check(
        SOURCE,
        &[
            case("read above", OUT, (1, 64), Y),
            case("write above", OUT, (1, 64), Y),
            case("write below", OUT, (1, 64), Y),
            case("far away", FAR, (1, 64), Y),
            case("less dynamic memory than used", OUT, (1, 64), Y).shared(200, 256),
            case("no dynamic memory at all", OUT, (1, 64), Y).shared(0, 256),
            case("a tile without its padding", OUT, (1, 32), &[Zeros(4096)]),
            case("a vector over the end", OUT, (1, 32), &[Zeros(512)]),
            case("an atomic over the end", OUT, (1, 32), Y),
            case("through a generic pointer", OUT, (1, 32), Y),
            case("rows of a matrix for tensor cores", OUT, (1, 32), Y),
            case("an asynchronous copy's target", OUT, (1, 32), &[Zeros(512), Zeros(512)]),
            case("a local array, read", OUT, (1, 32), &[Zeros(128), Int(16)]),
            case("a local array, written", OUT, (1, 32), &[Zeros(128), Int(16)]),
        ],
    );
}
