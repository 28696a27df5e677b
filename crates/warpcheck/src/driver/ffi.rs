//! The C boundary: declaration of driver functions, and wrappers for the client's pointers.
//!
//! Every exported function is declared with `api!`, which stops panics at the boundary,
//! rejects calls before `cuInit`, and finds the current context for functions that need one.

use super::context::{self, Context};
use super::result::{CuResult, DriverResult};
use super::state::{self, Driver};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Declares functions of the driver API. In brackets are the names under which the body
/// gets what it needs: nothing, the driver (after `cuInit`), or also the current context.
macro_rules! api {
    ($($(#[$meta:meta])* fn $name:ident[$($need:ident),*]($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        ///
        /// As in the CUDA driver API: pointers are valid for what the function reads or writes.
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::driver::result::CuResult {
            $crate::driver::ffi::api!(@ $name [$($need),*] $body)
        }
    )*};
    (@ $name:ident [] $body:block) => {
        $crate::driver::ffi::anytime(stringify!($name), || $body)
    };
    (@ $name:ident [$driver:ident] $body:block) => {
        $crate::driver::ffi::ready(stringify!($name), |$driver| $body)
    };
    (@ $name:ident [$driver:ident, $context:ident] $body:block) => {
        $crate::driver::ffi::in_context(stringify!($name), |$driver, $context| $body)
    };
}
pub(super) use api;

thread_local! {
    /// Set while a client's host function runs: it must not call the driver.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Runs a client's callback; driver calls in it return an error.
pub(super) fn calling_back<T>(callback: impl FnOnce() -> T) -> T {
    IN_HOST_FUNCTION.with(|flag| flag.set(true));
    let value = callback();
    IN_HOST_FUNCTION.with(|flag| flag.set(false));
    value
}

/// A function that works at any time, even before `cuInit`.
pub(super) fn anytime(name: &str, body: impl FnOnce() -> DriverResult) -> CuResult {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(answer) => answer.into(),
        Err(cause) => {
            let text = cause
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| cause.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            eprintln!("warpcheck: internal error in {name}: {text} (this is a bug of warpcheck)");
            CuResult::UNKNOWN
        }
    }
}

/// A function that needs `cuInit` to have been called.
pub(super) fn ready(name: &str, body: impl FnOnce(&'static Driver) -> DriverResult) -> CuResult {
    anytime(name, || {
        if IN_HOST_FUNCTION.with(Cell::get) {
            return Err(CuResult::NOT_PERMITTED);
        }
        body(state::driver()?)
    })
}

/// A function that works on the current context, which must not have failed.
pub(super) fn in_context(name: &str, body: impl FnOnce(&'static Driver, &Arc<Context>) -> DriverResult) -> CuResult {
    ready(name, |driver| {
        let context = context::current(driver)?;
        context.check_error()?;
        body(driver, &context)
    })
}

/// An output pointer of the client; may be null.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// A null pointer.
    pub(super) const fn nowhere() -> Self {
        Out(std::ptr::null_mut())
    }

    /// A pointer that the client passed as a number.
    pub(super) fn from_address(address: usize) -> Self {
        Out(address as *mut T)
    }

    /// Stores the value; null is an invalid argument.
    pub(super) fn set(self, value: T) -> DriverResult {
        if self.0.is_null() {
            return Err(CuResult::INVALID_VALUE);
        }
        self.set_if(value);
        Ok(())
    }

    /// Stores the value if the client wants it.
    pub(super) fn set_if(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: an `Out` is made by the client alone, who promises room for a `T` there.
            unsafe { self.0.write_unaligned(value) }
        }
    }

    /// Whether the client wants the value.
    pub(super) fn wanted(self) -> bool {
        !self.0.is_null()
    }

    /// An error if the pointer is null.
    pub(super) fn required(self) -> DriverResult {
        if self.wanted() { Ok(()) } else { Err(CuResult::INVALID_VALUE) }
    }

    /// The current value (for in-out parameters).
    pub(super) fn get(self) -> DriverResult<T>
    where
        T: Copy,
    {
        self.required()?;
        // SAFETY: an `Out` is made by the client alone; a two-way parameter holds a `T`.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The pointer to element `index`.
    pub(super) fn at(self, index: usize) -> Out<T> {
        Out(self.0.wrapping_add(index))
    }

    /// Stores at most `room` values; returns how many.
    pub(super) fn set_list(self, values: &[T], room: usize) -> usize
    where
        T: Copy,
    {
        let count = values.len().min(room);
        for (index, value) in values[..count].iter().enumerate() {
            self.at(index).set_if(*value);
        }
        count
    }
}

/// Values that the client passes by pointer; may be null.
#[derive(Debug)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// Values whose address the client passed as a number.
    pub(super) fn from_address(address: usize) -> Self {
        In(address as *const T)
    }

    /// The value; null is an invalid argument.
    pub(super) fn get(self) -> DriverResult<T> {
        self.at(0)
    }

    /// The value `index` elements further; null is an invalid argument.
    pub(super) fn at(self, index: usize) -> DriverResult<T> {
        if self.0.is_null() {
            return Err(CuResult::INVALID_VALUE);
        }
        // SAFETY: an `In` is made by the client alone, who promises that many elements.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// `count` values; null is an invalid argument unless there are none.
    pub(super) fn list(self, count: usize) -> DriverResult<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }

    /// Whether nothing is passed.
    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }
}

/// A string that the client passes; may be null.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The string; null is an invalid argument.
    pub(super) fn get(self) -> DriverResult<String> {
        if self.0.is_null() {
            return Err(CuResult::INVALID_VALUE);
        }
        // SAFETY: a `Text` is made by the client alone, who promises a string that ends.
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}
