//! Addresses that are no multiple of the access's size.

use crate::A::{Int, Or, Shift, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Misaligned};

const SOURCE: &str = include_str!("misaligned.cu");
const KIND: &[FindingKind] = &[Misaligned];

#[test]
fn of_every_size_and_space() {
    check(
        SOURCE,
        &[
            case("a short at an odd address", KIND, (1, 16), &[Zeros(64)]),
            case("a word at half a word", KIND, (1, 16), &[Zeros(80)]),
            case("a word at an odd address, read", KIND, (1, 16), &[Zeros(80), Zeros(64)]),
            case("eight bytes at four", KIND, (1, 16), &[Zeros(160)]),
            case("a double at two", KIND, (1, 16), &[Zeros(160), Zeros(128)]),
            case("a pair of words at four", KIND, (1, 16), &[Zeros(160), Zeros(128)]),
            case("sixteen bytes at eight", KIND, (1, 16), &[Zeros(320), Zeros(256)]),
            case("sixteen bytes at four, written", KIND, (1, 16), &[Zeros(320)]),
            case("rows of an odd number of words as vectors", KIND, (1, 4), &[Zeros(1024), Int(5)]),
            case("an atomic at two", KIND, (1, 16), &[Zeros(80)]),
            case("a wide atomic at four", KIND, (1, 16), &[Zeros(160)]),
            case("a pointer that the host shifted", KIND, (1, 16), &[Zeros(80), Or(&Shift(0, 2), &Shift(0, 4))]),
            case("shared memory, a word", KIND, (1, 16), &[Zeros(64)]),
            case("shared memory, sixteen bytes", KIND, (1, 16), &[Zeros(256)]),
            case("dynamic shared memory after a byte", KIND, (1, 16), &[Zeros(128)]).shared(256, 256),
            case("local memory", KIND, (1, 16), &[Zeros(64), Int(1)]),
            case("rows of a matrix for tensor cores", KIND, (1, 32), &[Zeros(128)]),
            case("an asynchronous copy", KIND, (1, 32), &[Zeros(1024), Zeros(512)]),
        ],
    );
}
