//! Handles: opaque numbers that stand for the driver's objects.

use super::result::{CuResult, DriverResult};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A client's handle: pointer-sized, never dereferenced.
pub(super) type Handle = usize;

/// Locks a mutex, ignoring poison.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next number of a process-wide sequence (stream ids, context ids, buffer ids).
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The live objects of one kind, by handle. Handles are never reused.
#[derive(Debug)]
pub(super) struct Table<T> {
    objects: RwLock<HashMap<Handle, Arc<T>>>,
}

impl<T> Table<T> {
    /// An empty table.
    pub fn new() -> Self {
        Table { objects: RwLock::new(HashMap::new()) }
    }

    /// A new handle, for an object that stores its own.
    pub fn reserve() -> Handle {
        // High and odd enough not to be taken for an address of the process, and never 0, 1 or 2,
        // which stand for the default streams.
        static NEXT: AtomicU64 = AtomicU64::new(0x5047_0000_0000);
        NEXT.fetch_add(16, Ordering::Relaxed) as Handle
    }

    /// Adds an object under a reserved handle.
    pub fn enter(&self, handle: Handle, object: Arc<T>) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(handle, object);
    }

    /// Adds an object under a new handle.
    pub fn add(&self, object: T) -> Handle {
        let handle = Self::reserve();
        self.enter(handle, Arc::new(object));
        handle
    }

    /// The object of a handle.
    pub fn find(&self, handle: Handle) -> Option<Arc<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// The object of a handle; an unknown one is an invalid handle, null an invalid value.
    pub fn get(&self, handle: Handle) -> DriverResult<Arc<T>> {
        if handle == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        self.find(handle).ok_or(CuResult::INVALID_HANDLE)
    }

    /// Removes and returns the object of a handle.
    pub fn remove(&self, handle: Handle) -> DriverResult<Arc<T>> {
        if handle == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&handle).ok_or(CuResult::INVALID_HANDLE)
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.values().cloned().collect()
    }

    /// Removes and returns every object that does not satisfy the condition.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        objects.retain(|_, object| {
            let stays = keep(object);
            if !stays {
                gone.push(object.clone());
            }
            stays
        });
        gone
    }
}
