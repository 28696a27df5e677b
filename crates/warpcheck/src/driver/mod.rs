//! The CUDA driver API: `extern "C"` functions, one file a chapter of NVIDIA's reference.
//!
//! **How work runs.** A stream is a queue. An operation whose stream is idle and whose
//! dependencies are done runs at once, on the calling thread, before the call returns; so a
//! program without host functions runs in its submission order and the same way every time.
//! An operation that has to wait (behind a host function, behind another thread's kernel, behind
//! an event of such a stream) is queued and run by the stream's own thread, so that a host
//! function may wait for the thread that submitted it, and queries answer `NOT_READY` until it
//! is done. All of CUDA's orderings hold: within a stream, by events, and between the legacy
//! stream and blocking ones. A kernel's fault appears where the real driver shows it, at the
//! next call that waits or asks, and sticks from then on; with `CUDA_LAUNCH_BLOCKING=1` at the launch itself.
//!
//! Handles are numbers looked up in tables and never followed, so a stale or made-up handle is
//! an error code and not a crash.

mod attribute;
mod capture;
mod clock;
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
