//! The structures of the driver API, laid out as `cuda.h` has them.

use super::table::Handle;
use std::ffi::{c_int, c_uint};

/// `CUuuid`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Uuid(pub [u8; 16]);

/// `CUdevprop`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct DeviceProperties {
    pub max_threads_per_block: c_int,
    pub max_threads_dim: [c_int; 3],
    pub max_grid_size: [c_int; 3],
    pub shared_mem_per_block: c_int,
    pub total_constant_memory: c_int,
    pub simd_width: c_int,
    pub mem_pitch: c_int,
    pub regs_per_block: c_int,
    pub clock_rate: c_int,
    pub texture_align: c_int,
}

/// `CUmemLocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Location {
    pub kind: c_uint,
    pub id: c_int,
}

/// `CUmemPoolProps`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PoolProperties {
    pub allocation: c_uint,
    pub handles: c_uint,
    pub location: Location,
    pub security: usize,
    pub max_size: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}

/// `CUmemAccessDesc`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AccessDescriptor {
    pub location: Location,
    pub flags: c_uint,
}

/// One side of a copy in `CUDA_MEMCPY2D`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Side2D {
    pub x_bytes: usize,
    pub y: usize,
    pub memory: c_uint,
    pub host: usize,
    pub device: u64,
    pub array: Handle,
    pub pitch: usize,
}

/// `CUDA_MEMCPY2D`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Copy2D {
    pub from: Side2D,
    pub to: Side2D,
    pub width_bytes: usize,
    pub height: usize,
}

/// One side of a copy in `CUDA_MEMCPY3D` (and its peer form, where `reserved` is the context).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Side3D {
    pub x_bytes: usize,
    pub y: usize,
    pub z: usize,
    pub lod: usize,
    pub memory: c_uint,
    pub host: usize,
    pub device: u64,
    pub array: Handle,
    pub reserved: usize,
    pub pitch: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Copy3D {
    pub from: Side3D,
    pub to: Side3D,
    pub width_bytes: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUlaunchAttribute`; the value is read by its first words.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub pad: [u8; 4],
    pub value: [u32; 16],
}

/// `CUlaunchConfig`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: Handle,
    pub attributes: *const LaunchAttribute,
    pub count: c_uint,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`; version 1 ends before `kernel`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct KernelNode {
    pub function: Handle,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub parameters: *const *const u8,
    pub extra: *const usize,
    pub kernel: Handle,
    pub context: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct FillNode {
    pub address: u64,
    pub pitch: usize,
    pub value: c_uint,
    pub element: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HostNode {
    pub function: Option<unsafe extern "C" fn(*mut std::ffi::c_void)>,
    pub data: usize,
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct InstantiateParameters {
    pub flags: u64,
    pub upload_stream: Handle,
    pub error_node: Handle,
    pub result: c_uint,
}

/// `CUgraphExecUpdateResultInfo`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UpdateResult {
    pub result: c_uint,
    pub error_node: Handle,
    pub error_from_node: Handle,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS_v1`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AllocationNode {
    pub pool: PoolProperties,
    pub access: *const AccessDescriptor,
    pub access_count: usize,
    pub bytes: usize,
    pub address: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys;
    use std::mem::size_of;

    #[test]
    fn the_layouts_are_those_of_cuda_h() {
        assert_eq!(size_of::<DeviceProperties>(), size_of::<sys::CUdevprop>());
        assert_eq!(size_of::<PoolProperties>(), size_of::<sys::CUmemPoolProps>());
        assert_eq!(size_of::<AccessDescriptor>(), size_of::<sys::CUmemAccessDesc>());
        assert_eq!(size_of::<Copy2D>(), size_of::<sys::CUDA_MEMCPY2D>());
        assert_eq!(size_of::<Copy3D>(), size_of::<sys::CUDA_MEMCPY3D>());
        assert_eq!(size_of::<Copy3D>(), size_of::<sys::CUDA_MEMCPY3D_PEER>());
        assert_eq!(size_of::<LaunchAttribute>(), size_of::<sys::CUlaunchAttribute>());
        assert_eq!(size_of::<LaunchConfig>(), size_of::<sys::CUlaunchConfig>());
        assert_eq!(size_of::<KernelNode>(), size_of::<sys::CUDA_KERNEL_NODE_PARAMS_v2>());
        assert_eq!(size_of::<FillNode>(), size_of::<sys::CUDA_MEMSET_NODE_PARAMS>());
        assert_eq!(size_of::<HostNode>(), size_of::<sys::CUDA_HOST_NODE_PARAMS>());
        assert_eq!(size_of::<InstantiateParameters>(), size_of::<sys::CUDA_GRAPH_INSTANTIATE_PARAMS>());
        assert_eq!(size_of::<UpdateResult>(), size_of::<sys::CUgraphExecUpdateResultInfo>());
        assert_eq!(size_of::<AllocationNode>(), size_of::<sys::CUDA_MEM_ALLOC_NODE_PARAMS_v1>());
    }
}
