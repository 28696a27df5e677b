//! The CUDA driver API: `extern "C"` functions, one file per chapter of NVIDIA's reference.
//!
//! **How work runs.** A stream is a queue. If its stream is idle and its
//! dependencies are done, an operation runs on the calling thread before the call returns: a
//! program without host functions is deterministic and runs in submission order.
//! An operation that has to wait (for a host function, for another thread's kernel, for
//! an event of such a stream) is queued and run by the stream's own thread, so that a host
//! function may wait for the thread that submitted it, and queries return `NOT_READY` until it
//! is done. All of CUDA's orderings hold: within a stream, by events, and between the legacy
//! stream and blocking ones. A kernel's fault is returned where the real driver returns it, by the
//! next call that waits or queries and by all later ones; with `CUDA_LAUNCH_BLOCKING=1` by the launch itself.
//!
//! Handles are keys of tables and never dereferenced, so a stale or invalid handle gives
//! an error code, not a crash.

mod attribute;
mod capture;
mod clock;
mod compressed;
mod context;
pub mod control;
mod copy;
mod copy_shape;
mod device;
mod entry;
mod event;
mod ffi;
mod fill;
mod function;
mod graph;
mod graph_exec;
mod graph_node;
mod host_memory;
mod launch;
mod library;
mod managed;
mod memory;
mod module;
mod occupancy;
mod ownership;
mod peer;
mod pointer;
mod pool;
mod primary;
mod queue;
pub mod result;
mod state;
mod stream;
mod structs;
mod table;
mod unsupported;
mod work;

#[doc(hidden)]
pub use module::ptx_of_file;
