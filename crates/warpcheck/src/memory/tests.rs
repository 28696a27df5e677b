use super::*;

#[test]
fn bytes_come_back_and_ranges_are_checked() {
    let space = Space::new();
    let a = space.allocate(Kind::Device, 0, 1000, 256, "a").unwrap();
    assert_eq!(a % 512, 0);
    space.write(a + 10, &[1, 2, 3]).unwrap();
    let mut out = [0; 3];
    space.read(a + 10, &mut out).unwrap();
    assert_eq!(out, [1, 2, 3]);
    assert!(matches!(space.write(a + 999, &[0, 0]), Err(AccessError::PastEnd { .. })));
    assert!(matches!(space.read(a + 1000, &mut out), Err(AccessError::Unknown { .. })));
    assert_eq!(space.used(0), 1000);
}

#[test]
fn marks_follow_writes_and_copies() {
    let space = Space::new();
    let a = space.allocate(Kind::Device, 0, 4096, 1, "a").unwrap();
    let b = space.allocate(Kind::Device, 0, 4096, 1, "b").unwrap();
    space.fill(a + 100, 7, 4, 50).unwrap();
    let table = space.table();
    let (x, y) = (table.find(a).unwrap(), table.find(b).unwrap());
    assert_eq!(x.unwritten(100, 200), None);
    assert_eq!(x.unwritten(99, 2), Some(99));
    assert_eq!(x.unwritten(290, 20), Some(300));
    space.copy(b, a, 200).unwrap();
    assert_eq!(y.unwritten(0, 1), Some(0));
    assert_eq!(y.unwritten(100, 100), None);
    assert_eq!(y.unwritten(100, 101), Some(200));
}

#[test]
fn freed_ranges_are_remembered_and_not_handed_out_again() {
    let space = Space::new();
    let a = space.allocate(Kind::Device, 1, 64, 1, "a").unwrap();
    space.free(a).unwrap();
    let b = space.allocate(Kind::Device, 1, 64, 1, "b").unwrap();
    assert!(b - a >= GAP);
    let gone = space.lookup(a + 63).unwrap();
    assert!(gone.freed && gone.label == "a");
    assert!(matches!(space.free(a), Err(AccessError::Unknown { freed: Some(_), .. })));
    assert!(matches!(space.free(b + 1), Err(AccessError::NotStart { .. })));
    assert_eq!(space.live().len(), 1);
    assert_eq!(space.used(1), 64);
}

#[test]
fn managed_memory_lies_at_its_own_address() {
    let space = Space::new();
    let a = space.allocate(Kind::Managed, 0, 64, 1, "a").unwrap();
    // SAFETY: managed memory is open to the host.
    unsafe { (a as *mut u32).write(77) };
    let mut out = [0; 4];
    space.read(a, &mut out).unwrap();
    assert_eq!(u32::from_le_bytes(out), 77);
}

#[test]
fn addresses_are_used_again_only_when_fresh_ones_run_out() {
    let mut inner = Inner::default();
    let room = GAP * 4;
    let first = inner.place(0, room, 4096, 4096).unwrap();
    let second = inner.place(0, room, 4096, 4096).unwrap();
    assert!(second > first);
    while inner.next + 2 * GAP + 4096 <= room {
        inner.place(0, room, 4096, 4096).unwrap();
    }
    assert_eq!(inner.place(0, room, 4096, 4096), Some(GAP));
}

#[test]
fn hopeless_sizes_are_refused() {
    let space = Space::new();
    assert!(space.allocate(Kind::Device, 0, u64::MAX, 1, "x").is_err());
    assert!(space.allocate(Kind::Device, 0, 8, 1 << 60, "x").is_err());
}
