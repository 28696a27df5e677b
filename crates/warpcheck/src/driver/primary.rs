//! The primary context of a device, which the runtime API and most libraries share.

use super::context::{Context, checked_flags};
use super::ffi::{Out, api};
use super::result::CuResult;
use super::table::{Handle, lock};
use std::ffi::{c_int, c_uint};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A device's primary context and its reference count.
#[derive(Debug, Default)]
pub(super) struct Primary {
    context: Option<Arc<Context>>,
    count: u32,
    flags: u32,
}

api! {
    /// Retains the primary context; the first call creates it.
    fn cuDevicePrimaryCtxRetain[driver](out: Out<Handle>, device: c_int) {
        out.required()?;
        let device = driver.device(device)?;
        let mut primary = lock(&device.primary);
        let flags = primary.flags;
        let context = primary
            .context
            .get_or_insert_with(|| Context::create(driver, device.ordinal, true, flags))
            .handle;
        primary.count += 1;
        out.set(context)
    }

    /// Releases the primary context; the last release destroys it.
    fn cuDevicePrimaryCtxRelease_v2[driver](device: c_int) {
        let device = driver.device(device)?;
        let mut primary = lock(&device.primary);
        if primary.count == 0 {
            return Err(CuResult::INVALID_CONTEXT);
        }
        primary.count -= 1;
        let gone = if primary.count == 0 { primary.context.take() } else { None };
        drop(primary);
        if let Some(context) = gone {
            context.destroy(driver);
        }
        Ok(())
    }

    /// Destroys the primary context, whatever its reference count.
    fn cuDevicePrimaryCtxReset_v2[driver](device: c_int) {
        let device = driver.device(device)?;
        let gone = {
            let mut primary = lock(&device.primary);
            primary.count = 0;
            primary.context.take()
        };
        if let Some(context) = gone {
            context.destroy(driver);
        }
        Ok(())
    }

    /// Sets the flags of the primary context.
    fn cuDevicePrimaryCtxSetFlags_v2[driver](device: c_int, flags: c_uint) {
        let device = driver.device(device)?;
        let mut primary = lock(&device.primary);
        primary.flags = checked_flags(flags)?;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The flags of the primary context and whether there is one.
    fn cuDevicePrimaryCtxGetState[driver](
        device: c_int, flags: Out<c_uint>, active: Out<c_int>,
    ) {
        let device = driver.device(device)?;
        let primary = lock(&device.primary);
        flags.set_if(primary.flags);
        active.set_if(c_int::from(primary.context.is_some()));
        Ok(())
    }
}
