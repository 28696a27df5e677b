//! What orders accesses: barriers, fences with atomics.

use crate::exec::{Cx, memory::Resolved};

/// The order of a launch's blocks.
#[derive(Debug, Default)]
pub(crate) struct Order {}

impl Order {
    pub(crate) fn new() -> Order {
        Order::default()
    }
}

/// A fence of the scope `e`.
pub(crate) fn fence(cx: &mut Cx<'_>, scope: u32, mask: u32) {
    let _ = (cx, scope, mask);
}

/// Others' releases at these addresses happen before what follows.
pub(crate) fn acquire(cx: &mut Cx<'_>, r: &Resolved) {
    let _ = (cx, r);
}

/// What came before is ordered before others' acquires at these addresses.
pub(crate) fn release(cx: &mut Cx<'_>, r: &Resolved) {
    let _ = (cx, r);
}

/// Arrivals at a barrier in memory.
pub(crate) fn arrived(cx: &mut Cx<'_>, r: &Resolved) {
    let _ = (cx, r);
}
