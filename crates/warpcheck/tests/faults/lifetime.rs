//! Freed, null, read-only and wild addresses.

use crate::A::{Address, Freed, Holds, Or, Zeros};
use crate::{case, check};
use warpcheck::finding::FindingKind::{self, Null, OutOfBounds, ReadOnly, UseAfterFree, WildAddress};

const SOURCE: &str = include_str!("lifetime.cu");
const FREED: &[FindingKind] = &[UseAfterFree];
const NULL: &[FindingKind] = &[Null];

#[test]
fn freed_memory() {
    const X: crate::A = Or(&Freed(256), &Zeros(256));
    check(
        SOURCE,
        &[
            case("read: freed memory", FREED, (1, 64), &[X, Zeros(256)]),
            case("written: freed memory", FREED, (1, 64), &[X]),
            case("added to", FREED, (1, 64), &[X]),
            case("one of two buffers", FREED, (2, 32), &[Zeros(256), X, Zeros(256)]),
            case("through a pointer in memory", FREED, (1, 32), &[X, Holds(0)]),
            case("as vectors", FREED, (1, 16), &[X, Zeros(256)]),
            case("by one lane only", FREED, (1, 64), &[X, Zeros(256)]),
        ],
    );
}

#[test]
fn null_pointers() {
    const P: crate::A = Or(&Address(0), &Zeros(256));
    check(
        SOURCE,
        &[
            case("read: null pointers", NULL, (1, 32), &[P, Zeros(128)]),
            case("written: null pointers", NULL, (1, 32), &[P]),
            case("a member", NULL, (1, 1), &[P, Zeros(8)]),
            case("an atomic", NULL, (1, 32), &[P]),
            case("at the end of a list", NULL, (1, 1), &[Zeros(16), Holds(0), Zeros(4)]),
            case("behind a check that is the wrong way round", NULL, (1, 32), &[P, Zeros(128)]),
        ],
    );
}

#[test]
fn read_only_memory() {
    check(
        SOURCE,
        &[
            case("a constant", &[ReadOnly], (1, 8), &[Zeros(64)]),
            case("an atomic on a constant", &[ReadOnly], (1, 8), &[Zeros(64)]),
        ],
    );
}

#[test]
fn wild_pointers() {
    const WILD: &[FindingKind] = &[WildAddress, OutOfBounds];
    check(
        SOURCE,
        &[
            case("a small integer", &[Null, WildAddress], (1, 1), &[Or(&Address(0x1234), &Zeros(4))]),
            case("an address of nothing", WILD, (1, 1), &[Or(&Address(0xdead_beef_0000), &Zeros(4))]),
            case("not even canonical", WILD, (1, 1), &[Or(&Address(0xabcd_ef01_2345_6780), &Zeros(4)), Zeros(4)]),
            case("data taken for a pointer", WILD, (1, 32), &[Zeros(256), Zeros(128)]),
        ],
    );
}
