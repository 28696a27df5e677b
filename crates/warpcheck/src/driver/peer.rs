//! Peers: devices that access each other's memory. All devices share one address space.

use super::context;
use super::ffi::{Out, api};
use super::result::CuResult;
use super::table::{Handle, lock};
use std::ffi::{c_int, c_uint};

api! {
    /// Whether a device can touch another's memory.
    fn cuDeviceCanAccessPeer[driver](out: Out<c_int>, device: c_int, peer: c_int) {
        out.required()?;
        driver.device(device)?;
        driver.device(peer)?;
        out.set(c_int::from(device != peer))
    }

    /// An attribute of the link between two devices.
    fn cuDeviceGetP2PAttribute[driver](
        out: Out<c_int>, attribute: c_uint, from: c_int, to: c_int,
    ) {
        out.required()?;
        driver.device(from)?;
        driver.device(to)?;
        if from == to {
            return Err(CuResult::INVALID_DEVICE);
        }
        out.set(match attribute {
            1 => 0,
            2 | 3 => 1,
            4 => 0,
            _ => return Err(CuResult::INVALID_VALUE),
        })
    }

    /// Gives the current context access to the memory of another.
    fn cuCtxEnablePeerAccess[driver, context](peer: Handle, flags: c_uint) {
        if flags != 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        if peer == 0 {
            return Err(CuResult::INVALID_CONTEXT);
        }
        let other = context::named(driver, peer)?;
        if other.handle == context.handle {
            return Err(CuResult::INVALID_CONTEXT);
        }
        if other.device == context.device {
            return Err(CuResult::PEER_ACCESS_UNSUPPORTED);
        }
        if !lock(&context.peers).insert(peer) {
            return Err(CuResult::PEER_ACCESS_ALREADY_ENABLED);
        }
        Ok(())
    }

    /// Revokes the access that `cuCtxEnablePeerAccess` gave.
    fn cuCtxDisablePeerAccess[driver, context](peer: Handle) {
        if peer == 0 || driver.contexts.find(peer).is_none() {
            return Err(CuResult::INVALID_CONTEXT);
        }
        if !lock(&context.peers).remove(&peer) {
            return Err(CuResult::PEER_ACCESS_NOT_ENABLED);
        }
        Ok(())
    }
}
