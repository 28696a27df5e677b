//! The devices' address space: allocations far apart in one reserved range.

mod allocation;
mod mapping;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::count::L2;
use thiserror::Error;

use allocation::Backing;
pub use allocation::{Allocation, AllocationInfo, Kind};
use mapping::{Mapping, PAGE};

/// Allocations lie at least this far apart, and a quarter of their own size.
const GAP: u64 = 4 << 20;
/// Number of freed allocations kept, to name them in findings.
const REMEMBERED: usize = 1 << 16;

/// No room for an allocation.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("no room for {bytes} bytes")]
pub struct OutOfMemory {
    /// The requested bytes.
    pub bytes: u64,
}

/// A host-side access that names no live memory.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AccessError {
    /// The address is in no live allocation.
    #[error("{address:#x} is in no live allocation")]
    Unknown {
        /// The address.
        address: u64,
        /// The freed allocation that it was in, if any.
        freed: Option<Box<AllocationInfo>>,
    },
    /// The range runs over the allocation's end.
    #[error("{bytes} bytes at {address:#x} run over the end of an allocation of {} bytes at {:#x}", .allocation.size, .allocation.base)]
    PastEnd {
        /// The range's first address.
        address: u64,
        /// The range's length.
        bytes: u64,
        /// The allocation.
        allocation: Box<AllocationInfo>,
    },
    /// `free` wants the first address of an allocation.
    #[error("{address:#x} is inside an allocation, not its start")]
    NotStart {
        /// The address.
        address: u64,
    },
}

/// The address space that all devices of the process share.
#[derive(Debug)]
pub struct Space {
    reserve: Option<Arc<Mapping>>,
    inner: RwLock<Inner>,
    /// The second-level cache of each device.
    l2: Mutex<HashMap<u32, L2>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    serial: u64,
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, AllocationInfo>,
    used: HashMap<u32, u64>,
    table: Option<Arc<Table>>,
}

/// A snapshot of the live allocations, sorted by address: what a launch may access.
#[derive(Debug, Default)]
pub(crate) struct Table {
    bases: Vec<u64>,
    entries: Vec<Arc<Allocation>>,
}

impl Table {
    /// A launch of this age of the race check's words begins; `keep` the age before.
    pub(crate) fn forget(&self, age: u64, keep: bool) {
        self.entries.iter().for_each(|a| a.forget(age, keep));
    }

    /// The allocation that holds `address`.
    pub(crate) fn find(&self, address: u64) -> Option<&Arc<Allocation>> {
        let at = self.bases.partition_point(|&b| b <= address).checked_sub(1)?;
        let entry = &self.entries[at];
        (address < entry.end()).then_some(entry)
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

impl Space {
    /// An empty space; reserves a large range of addresses and no memory.
    pub fn new() -> Space {
        let reserve = [42, 40, 38, 36].into_iter().find_map(|log| Mapping::reserve(1usize << log)).map(Arc::new);
        Space { reserve, inner: RwLock::default(), l2: Mutex::default() }
    }

    /// Gives access to the second-level cache of a device.
    pub(crate) fn with_l2<T>(&self, device: u32, f: impl FnOnce(&mut L2) -> T) -> T {
        f(self.l2.lock().unwrap_or_else(|e| e.into_inner()).entry(device).or_default())
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(|e| e.into_inner())
    }

    /// Memory of `kind` for `device`, aligned to at least 512 bytes; `label` names it in findings.
    pub fn allocate(&self, kind: Kind, device: u32, bytes: u64, align: u64, label: &str) -> Result<u64, OutOfMemory> {
        let full = OutOfMemory { bytes };
        let reserve = self.reserve.as_ref().ok_or_else(|| full.clone())?;
        let room = reserve.bytes() as u64;
        if bytes > room / 4 || align > room / 4 {
            return Err(full);
        }
        let align = align.max(PAGE as u64).next_power_of_two();
        let size = bytes.max(1).next_multiple_of(PAGE as u64);
        let mut inner = self.write_lock();
        let offset = inner.place(reserve.start() as u64, room, size, align).ok_or_else(|| full.clone())?;
        let base = reserve.start() as u64 + offset;
        let shared = matches!(kind, Kind::Managed | Kind::Pinned);
        let (backing, host) = if shared {
            if !reserve.open(offset as usize, size as usize) {
                return Err(full);
            }
            let window = Backing::Window { reserve: reserve.clone(), offset: offset as usize, bytes: size as usize };
            (window, base as *mut u8)
        } else {
            let own = Mapping::new(size as usize).ok_or_else(|| full.clone())?;
            let host = own.start();
            (Backing::Own(own), host)
        };
        let written = if shared { None } else { Some(Mapping::new((size / 8) as usize).ok_or(full)?) };
        inner.insert(Allocation {
            base,
            size: bytes,
            kind,
            device,
            label: label.to_owned(),
            serial: 0,
            host,
            written,
            shadow: Default::default(),
            age: Default::default(),
            backing,
        });
        Ok(base)
    }

    /// Makes memory that the process owns visible to devices, at its own address.
    ///
    /// # Safety
    /// `[address, address + bytes)` must stay readable and writable until it is freed here.
    pub unsafe fn register(&self, address: u64, bytes: u64, label: &str) -> Result<(), OutOfMemory> {
        let mut inner = self.write_lock();
        let end = address.checked_add(bytes).ok_or(OutOfMemory { bytes })?;
        let overlaps = inner.live.range(..end).next_back().is_some_and(|(_, a)| a.end() > address);
        if overlaps || address == 0 || bytes == 0 {
            return Err(OutOfMemory { bytes });
        }
        inner.insert(Allocation {
            base: address,
            size: bytes,
            kind: Kind::Registered,
            device: 0,
            label: label.to_owned(),
            serial: 0,
            host: address as *mut u8,
            written: None,
            shadow: Default::default(),
            age: Default::default(),
            backing: Backing::Foreign,
        });
        Ok(())
    }

    /// Frees the allocation that starts at `address`.
    pub fn free(&self, address: u64) -> Result<(), AccessError> {
        let mut inner = self.write_lock();
        let Some(gone) = inner.live.remove(&address) else {
            return Err(match inner.holder(address) {
                Some(_) => AccessError::NotStart { address },
                None => inner.unknown(address),
            });
        };
        inner.table = None;
        if let Some(used) = inner.used.get_mut(&gone.device) {
            *used = used.saturating_sub(charged(&gone));
        }
        if inner.freed.len() >= REMEMBERED
            && let Some(oldest) = inner.freed.values().min_by_key(|i| i.serial).map(|i| i.base)
        {
            inner.freed.remove(&oldest);
        }
        if gone.kind != Kind::Registered {
            inner.freed.insert(address, gone.info(true));
        }
        Ok(())
    }

    /// The allocation, live or freed, that holds `address`.
    pub fn lookup(&self, address: u64) -> Option<AllocationInfo> {
        let inner = self.read_lock();
        if let Some(a) = inner.holder(address) {
            return Some(a.info(false));
        }
        inner.buried(address).cloned()
    }

    /// The live or freed allocation nearest to `address`, for messages about a stray access.
    pub fn nearest(&self, address: u64) -> Option<AllocationInfo> {
        let inner = self.read_lock();
        let before = inner.live.range(..=address).next_back().map(|(_, a)| a.info(false));
        let after = inner.live.range(address..).next().map(|(_, a)| a.info(false));
        let distance = |i: &AllocationInfo| {
            if i.base > address { i.base - address } else { address - (i.base + i.size).min(address) }
        };
        before.into_iter().chain(after).min_by_key(distance)
    }

    fn range(&self, address: u64, bytes: u64) -> Result<Arc<Allocation>, AccessError> {
        let inner = self.read_lock();
        let holder = inner.holder(address).or_else(|| inner.live.get(&address));
        let Some(a) = holder else {
            return Err(inner.unknown(address));
        };
        if bytes > a.end() - address {
            return Err(AccessError::PastEnd { address, bytes, allocation: Box::new(a.info(false)) });
        }
        Ok(a.clone())
    }

    /// Copies device memory to the host.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), AccessError> {
        if out.is_empty() {
            return Ok(());
        }
        let a = self.range(address, out.len() as u64)?;
        // SAFETY: the range lies inside `a`, which is held; `out` is the caller's own.
        unsafe { std::ptr::copy(a.at(address), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies host memory to the device.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), AccessError> {
        if data.is_empty() {
            return Ok(());
        }
        let a = self.range(address, data.len() as u64)?;
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy(data.as_ptr(), a.at(address), data.len()) };
        a.mark(address - a.base, data.len() as u64);
        Ok(())
    }

    /// Writes `pattern` of `width` (1, 2 or 4) bytes `count` times.
    pub fn fill(&self, address: u64, pattern: u32, width: u32, count: u64) -> Result<(), AccessError> {
        if count == 0 {
            return Ok(());
        }
        let width = width.clamp(1, 4);
        let bytes = count.saturating_mul(u64::from(width));
        let a = self.range(address, bytes)?;
        let start = a.at(address);
        // SAFETY: the range lies inside `a`; writes are unaligned.
        unsafe {
            match width {
                1 => std::ptr::write_bytes(start, pattern as u8, count as usize),
                2 => (0..count as usize).for_each(|i| start.cast::<u16>().add(i).write_unaligned(pattern as u16)),
                _ => (0..count as usize).for_each(|i| start.cast::<u32>().add(i).write_unaligned(pattern)),
            }
        }
        a.mark(address - a.base, bytes);
        Ok(())
    }

    /// Copies within the space, with the marks of written bytes.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), AccessError> {
        if bytes == 0 {
            return Ok(());
        }
        let source = self.range(from, bytes)?;
        let target = self.range(to, bytes)?;
        // SAFETY: both ranges lie inside held allocations; `copy` allows overlap.
        unsafe { std::ptr::copy(source.at(from), target.at(to), bytes as usize) };
        target.copy_marks(to - target.base, &source, from - source.base, bytes);
        Ok(())
    }

    /// Marks a range as written.
    pub fn mark_written(&self, address: u64, bytes: u64) -> Result<(), AccessError> {
        let a = self.range(address, bytes)?;
        a.mark(address - a.base, bytes);
        Ok(())
    }

    /// All live allocations, by address.
    pub fn live(&self) -> Vec<AllocationInfo> {
        self.read_lock().live.values().map(|a| a.info(false)).collect()
    }

    /// Bytes of `device`'s memory in use.
    pub fn used(&self, device: u32) -> u64 {
        self.read_lock().used.get(&device).copied().unwrap_or(0)
    }

    /// The allocations that a launch starting now may access.
    pub(crate) fn table(&self) -> Arc<Table> {
        if let Some(table) = &self.read_lock().table {
            return table.clone();
        }
        let mut inner = self.write_lock();
        let table = Arc::new(Table {
            bases: inner.live.keys().copied().collect(),
            entries: inner.live.values().cloned().collect(),
        });
        inner.table = Some(table.clone());
        table
    }
}

/// The device memory that an allocation occupies, in bytes.
fn charged(a: &Allocation) -> u64 {
    match a.kind {
        Kind::Device | Kind::Managed | Kind::Global | Kind::Const => a.size,
        Kind::Pinned | Kind::Registered => 0,
    }
}

impl Inner {
    fn holder(&self, address: u64) -> Option<&Arc<Allocation>> {
        let (_, a) = self.live.range(..=address).next_back()?;
        (address < a.end()).then_some(a)
    }

    fn buried(&self, address: u64) -> Option<&AllocationInfo> {
        let (_, i) = self.freed.range(..=address).next_back()?;
        (address < i.base + i.size).then_some(i)
    }

    fn unknown(&self, address: u64) -> AccessError {
        AccessError::Unknown { address, freed: self.buried(address).cloned().map(Box::new) }
    }

    fn insert(&mut self, mut a: Allocation) {
        self.serial += 1;
        a.serial = self.serial;
        self.table = None;
        *self.used.entry(a.device).or_default() += charged(&a);
        // A range that lives again is no longer a freed one.
        let stale: Vec<u64> = self
            .freed
            .range(..a.base + a.size.max(1))
            .rev()
            .take_while(|(_, i)| i.base + i.size.max(1) > a.base)
            .map(|(&b, _)| b)
            .collect();
        for base in stale {
            self.freed.remove(&base);
        }
        self.live.insert(a.base, Arc::new(a));
    }

    /// An offset for `size` bytes: fresh while there is fresh room, else the first hole between live allocations.
    fn place(&mut self, start: u64, room: u64, size: u64, align: u64) -> Option<u64> {
        let gap = GAP.max(size / 4).next_multiple_of(PAGE as u64);
        let fit = |from: u64| (start + from).next_multiple_of(align) - start;
        let at = fit(self.next + gap);
        if at + size + gap <= room {
            self.next = at + size;
            return Some(at);
        }
        let mut from = GAP;
        for a in self.live.range(start..start + room).map(|(_, a)| a) {
            let at = fit(from);
            if start + at + size + GAP <= a.base {
                return Some(at);
            }
            from = a.end().next_multiple_of(PAGE as u64) - start + GAP;
        }
        let at = fit(from);
        (at + size + GAP <= room).then_some(at)
    }
}

#[cfg(test)]
mod tests;
