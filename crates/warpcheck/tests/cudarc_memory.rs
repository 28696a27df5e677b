//! Memory through the unmodified cudarc: device, pinned, registered, managed, pools, shapes.

mod client;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DriverError};
use std::ffi::c_void;
use std::sync::Arc;

fn context() -> Arc<CudaContext> {
    client::driver(&[]);
    CudaContext::new(0).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, DriverError>) -> CUresult {
    result.unwrap_err().0
}

#[test]
fn bytes_go_there_and_back() {
    let stream = context().default_stream();
    let numbers: Vec<u32> = (0..100_000).collect();
    let on_device = stream.clone_htod(&numbers).unwrap();
    let copy = stream.clone_dtod(&on_device).unwrap();
    drop(on_device);
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), numbers);
    let zeros = stream.alloc_zeros::<u64>(333).unwrap();
    assert_eq!(stream.clone_dtoh(&zeros).unwrap(), vec![0; 333]);
}

#[test]
fn slices_copy_their_part() {
    let stream = context().default_stream();
    let mut target = stream.alloc_zeros::<u8>(10).unwrap();
    let source = stream.clone_htod(&[1u8, 2, 3, 4]).unwrap();
    stream.memcpy_dtod(&source.slice(1..3), &mut target.slice_mut(7..9)).unwrap();
    assert_eq!(stream.clone_dtoh(&target).unwrap(), [0, 0, 0, 0, 0, 0, 0, 2, 3, 0]);
}

#[test]
fn a_copy_that_does_not_fit_is_an_invalid_value_and_changes_nothing() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut address = 0;
    let data = [7u8; 65];
    // SAFETY: calls of the driver with pointers that live; what is wrong is what is tested.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD8_v2(address, 0, 64), CUresult::CUDA_SUCCESS);
        let from = data.as_ptr().cast::<c_void>();
        let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
        assert_eq!(sys::cuMemcpyHtoD_v2(address, from, 65), invalid);
        assert_eq!(sys::cuMemcpyHtoD_v2(address + 60, from, 5), invalid);
        assert_eq!(sys::cuMemcpyHtoD_v2(address, std::ptr::null(), 4), invalid);
        assert_eq!(sys::cuMemcpyHtoD_v2(12345, from, 4), invalid);
        // A device's address is no address of the host.
        assert_eq!(sys::cuMemcpyHtoD_v2(address, address as *const c_void, 4), invalid);
        assert_eq!(sys::cuMemcpyHtoD_v2(address, from, 0), CUresult::CUDA_SUCCESS);
        let mut back = [1u8; 64];
        let to = back.as_mut_ptr().cast::<c_void>();
        assert_eq!(sys::cuMemcpyDtoH_v2(to, address, 64), CUresult::CUDA_SUCCESS);
        assert_eq!(back, [0; 64]);
        assert_eq!(sys::cuMemFree_v2(address + 8), invalid);
        assert_eq!(sys::cuMemFree_v2(address), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFree_v2(address), invalid);
        assert_eq!(sys::cuMemcpyDtoH_v2(to, address, 64), invalid);
        assert_eq!(sys::cuMemFree_v2(0), CUresult::CUDA_SUCCESS);
    }
}

#[test]
fn a_device_has_as_much_memory_as_its_profile_and_no_more() {
    let context = context();
    let (free, total) = context.mem_get_info().unwrap();
    assert_eq!(total, context.total_mem().unwrap());
    assert!(free <= total);
    let mut address = 0;
    // SAFETY: plain calls of the driver.
    unsafe {
        let memory = CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        assert_eq!(sys::cuMemAlloc_v2(&mut address, total + 1), memory);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, usize::MAX), memory);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 0), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAlloc_v2(std::ptr::null_mut(), 4), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // Half of it twice is too much as well, with room for the other tests of this process.
    let stream = context.default_stream();
    // SAFETY: never read.
    let half = unsafe { stream.alloc::<u8>(total / 2) }.unwrap();
    assert!(context.mem_get_info().unwrap().0 <= total - total / 2);
    // SAFETY: as above.
    let error = code(unsafe { stream.alloc::<u8>(total / 2 + 4096) });
    assert_eq!(error, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    drop(half);
}

#[test]
fn pinned_memory_has_one_address_on_both_sides() {
    let context = context();
    let stream = context.new_stream().unwrap();
    // SAFETY: filled before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<u32>(1000) }.unwrap();
    pinned.as_mut_slice().unwrap().iter_mut().enumerate().for_each(|(i, v)| *v = i as u32);
    let on_device = stream.clone_htod(&pinned).unwrap();
    // SAFETY: as above.
    let mut back = unsafe { context.alloc_pinned::<u32>(1000) }.unwrap();
    stream.memcpy_dtoh(&on_device, &mut back).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(pinned.as_slice().unwrap(), back.as_slice().unwrap());

    let (mut host, mut device, mut flags) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemHostAlloc(&mut host, 64, 4), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemHostGetDevicePointer_v2(&mut device, host, 0), CUresult::CUDA_SUCCESS);
        assert_eq!(device, host as u64);
        assert_eq!(sys::cuMemHostGetFlags(&mut flags, host), CUresult::CUDA_SUCCESS);
        assert_eq!(flags & 4, 4);
        let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
        assert_eq!(sys::cuMemHostAlloc(&mut host.clone(), 64, 8), invalid);
        assert_eq!(sys::cuMemHostAlloc(&mut host.clone(), 0, 0), invalid);
        assert_eq!(sys::cuMemFreeHost(host), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFreeHost(host), invalid);
    }
}

#[test]
fn the_clients_own_memory_can_be_registered_once() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut memory = vec![3u8; 1 << 16];
    let (pointer, bytes) = (memory.as_mut_ptr().cast::<c_void>(), memory.len());
    let mut device = 0;
    // SAFETY: the memory outlives its registration.
    unsafe {
        assert_eq!(sys::cuMemHostRegister_v2(pointer, bytes, 0), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemHostRegister_v2(pointer, bytes, 0), CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        assert_eq!(sys::cuMemHostGetDevicePointer_v2(&mut device, pointer, 0), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD8_v2(device, 9, bytes), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemHostUnregister(pointer), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemHostUnregister(pointer), CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    }
    assert!(memory.iter().all(|byte| *byte == 9));
}

#[test]
fn managed_memory_is_written_by_the_host_and_copied_by_the_device() {
    let context = context();
    let stream = context.default_stream();
    // SAFETY: written before it is read.
    let mut managed = unsafe { context.alloc_unified::<f32>(256, true) }.unwrap();
    managed.as_mut_slice().unwrap().fill(1.5);
    managed.prefetch().unwrap();
    let copy = stream.clone_dtod(&managed).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), vec![1.5; 256]);
    stream.memset_zeros(&mut managed).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(managed.as_slice().unwrap(), vec![0.0; 256]);
}

#[test]
fn advice_about_managed_memory_is_kept_and_told() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut address = 0;
    let attribute = |kind, address, bytes| {
        let mut value = -77i32;
        // SAFETY: the place has four bytes.
        let answer = unsafe { sys::cuMemRangeGetAttribute((&mut value as *mut i32).cast(), 4, kind, address, bytes) };
        (answer, value)
    };
    use sys::CUmem_advise::*;
    use sys::CUmem_range_attribute::*;
    // SAFETY: plain calls of the driver.
    unsafe {
        let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
        assert_eq!(sys::cuMemAllocManaged(&mut address, 4096, 0), invalid);
        assert_eq!(sys::cuMemAllocManaged(&mut address, 4096, 1), CUresult::CUDA_SUCCESS);
        assert_eq!(attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, address, 4096), (CUresult::CUDA_SUCCESS, 0));
        assert_eq!(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, address, 4096).1, -2);
        let device = sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
        let ok = CUresult::CUDA_SUCCESS;
        assert_eq!(sys::cuMemAdvise_v2(address, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, device), ok);
        assert_eq!(sys::cuMemAdvise(address, 4096, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, -1), ok);
        assert_eq!(sys::cuMemPrefetchAsync(address, 4096, 0, std::ptr::null_mut()), ok);
        assert_eq!(attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, address, 4096).1, 1);
        assert_eq!(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, address, 4096).1, -1);
        assert_eq!(attribute(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, address, 4096).1, 0);
        assert_eq!(
            sys::cuMemPrefetchAsync(address, 4096, 9, std::ptr::null_mut()),
            CUresult::CUDA_ERROR_INVALID_DEVICE
        );
        assert_eq!(sys::cuMemPrefetchAsync(address, 4097, 0, std::ptr::null_mut()), invalid);
        assert_eq!(sys::cuMemFree_v2(address), ok);
        assert_eq!(sys::cuMemAdvise_v2(address, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, device), invalid);
    }
}

#[test]
fn pointers_tell_what_they_are() {
    let context = context();
    context.bind_to_thread().unwrap();
    use sys::CUpointer_attribute::*;
    let attribute = |kind, address| {
        let mut value = 0u64;
        // SAFETY: no attribute is longer than eight bytes.
        let answer = unsafe { sys::cuPointerGetAttribute((&mut value as *mut u64).cast(), kind, address) };
        (answer, value)
    };
    let ok = |value| (CUresult::CUDA_SUCCESS, value);
    let (mut device, mut managed, mut host) = (0, 0, std::ptr::null_mut());
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut device, 100), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemAllocManaged(&mut managed, 100, 1), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemHostAlloc(&mut host, 100, 0), CUresult::CUDA_SUCCESS);
    }
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device + 50), ok(2));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host as u64), ok(1));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_IS_MANAGED, device), ok(0));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_IS_MANAGED, managed), ok(1));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_HOST_POINTER, managed + 1), ok(managed + 1));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_HOST_POINTER, device).0, CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, device + 50), ok(device));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_RANGE_SIZE, device + 50), ok(100));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_CONTEXT, device), ok(context.cu_ctx() as u64));
    assert_eq!(attribute(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 16).0, CUresult::CUDA_ERROR_INVALID_VALUE);
    let (mut base, mut size) = (0, 0);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut size, device + 99), CUresult::CUDA_SUCCESS);
        assert_eq!((base, size), (device, 100));
        assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut size, 16), CUresult::CUDA_ERROR_NOT_FOUND);
        let mut kinds = [CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_RANGE_SIZE];
        let (mut kind, mut size) = (0u32, 0u64);
        let mut places = [(&mut kind as *mut u32).cast(), (&mut size as *mut u64).cast::<c_void>()];
        let answer = sys::cuPointerGetAttributes(2, kinds.as_mut_ptr(), places.as_mut_ptr(), device);
        assert_eq!((answer, kind, size), (CUresult::CUDA_SUCCESS, 2, 100));
        assert_eq!(sys::cuMemFree_v2(device), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFree_v2(managed), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFreeHost(host), CUresult::CUDA_SUCCESS);
    }
}

#[test]
fn rectangles_and_boxes_keep_their_rows() {
    let context = context();
    context.bind_to_thread().unwrap();
    let (mut address, mut pitch) = (0, 0);
    let source: Vec<u8> = (0..60).collect();
    let mut back = vec![0u8; 6 * 4];
    // SAFETY: the rectangles lie within what was allocated.
    unsafe {
        let answer = sys::cuMemAllocPitch_v2(&mut address, &mut pitch, 10, 6, 4);
        assert_eq!((answer, pitch), (CUresult::CUDA_SUCCESS, 512));
        let mut copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            srcHost: source.as_ptr().cast(),
            srcDevice: 0,
            srcArray: std::ptr::null_mut(),
            srcPitch: 10,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: std::ptr::null_mut(),
            dstDevice: address,
            dstArray: std::ptr::null_mut(),
            dstPitch: pitch,
            WidthInBytes: 10,
            Height: 6,
        };
        assert_eq!(sys::cuMemcpy2D_v2(&copy), CUresult::CUDA_SUCCESS);
        // A row and its pitch: the rows do not overlap.
        copy.dstPitch = 9;
        assert_eq!(sys::cuMemcpy2D_v2(&copy), CUresult::CUDA_ERROR_INVALID_VALUE);
        copy.dstPitch = pitch;
        copy.Height = 7;
        assert_eq!(sys::cuMemcpy2D_v2(&copy), CUresult::CUDA_ERROR_INVALID_VALUE);

        assert_eq!(sys::cuMemsetD2D8_v2(address + 2 * pitch as u64 + 3, pitch, 99, 2, 2), CUresult::CUDA_SUCCESS);
        let copy = sys::CUDA_MEMCPY3D {
            srcXInBytes: 2,
            srcY: 0,
            srcZ: 0,
            srcLOD: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: std::ptr::null(),
            srcDevice: address,
            srcArray: std::ptr::null_mut(),
            reserved0: std::ptr::null_mut(),
            srcPitch: pitch,
            srcHeight: 2,
            dstXInBytes: 0,
            dstY: 0,
            dstZ: 0,
            dstLOD: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            dstHost: back.as_mut_ptr().cast(),
            dstDevice: 0,
            dstArray: std::ptr::null_mut(),
            reserved1: std::ptr::null_mut(),
            dstPitch: 0,
            dstHeight: 0,
            WidthInBytes: 4,
            Height: 2,
            Depth: 3,
        };
        assert_eq!(sys::cuMemcpy3D_v2(&copy), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFree_v2(address), CUresult::CUDA_SUCCESS);
    }
    let mut expected: Vec<u8> = (0..6).flat_map(|row| (2..6).map(move |x| row * 10 + x)).collect();
    for at in [9, 10, 13, 14] {
        expected[at] = 99;
    }
    assert_eq!(back, expected);
}

#[test]
fn fills_have_their_width_and_alignment() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut address = 0;
    let mut back = [0u16; 8];
    // SAFETY: plain calls of the driver.
    unsafe {
        let (ok, invalid) = (CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 16), ok);
        assert_eq!(sys::cuMemsetD32_v2(address, 0x0102_0304, 4), ok);
        assert_eq!(sys::cuMemsetD16_v2(address + 2, 0xabcd, 1), ok);
        assert_eq!(sys::cuMemsetD8_v2(address + 15, 0xff, 1), ok);
        assert_eq!(sys::cuMemsetD32_v2(address + 2, 0, 1), invalid);
        assert_eq!(sys::cuMemsetD16_v2(address + 1, 0, 1), invalid);
        assert_eq!(sys::cuMemsetD32_v2(address, 0, 5), invalid);
        assert_eq!(sys::cuMemsetD8_v2(0, 0, 5), invalid);
        assert_eq!(sys::cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), address, 16), ok);
        assert_eq!(sys::cuMemFree_v2(address), ok);
    }
    assert_eq!(back, [0x0304, 0xabcd, 0x0304, 0x0102, 0x0304, 0x0102, 0x0304, 0xff02]);
}

#[test]
fn pools_count_what_they_give() {
    let context = context();
    let stream = context.new_stream().unwrap();
    context.bind_to_thread().unwrap();
    // SAFETY: plain calls of the driver; the properties are those of a pool on device 0.
    unsafe {
        let (ok, invalid) = (CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_INVALID_VALUE);
        let properties = sys::CUmemPoolProps {
            allocType: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            handleTypes: sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
            location: sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: 0 },
            win32SecurityAttributes: std::ptr::null_mut(),
            maxSize: 0,
            usage: 0,
            reserved: [0; 54],
        };
        let mut pool = std::ptr::null_mut();
        assert_eq!(sys::cuMemPoolCreate(&mut pool, &properties), ok);
        let used = |attribute| {
            let mut value = 0u64;
            let place = (&mut value as *mut u64).cast();
            assert_eq!(sys::cuMemPoolGetAttribute(pool, attribute, place), ok);
            value
        };
        use sys::CUmemPool_attribute::*;
        let (mut a, mut b) = (0, 0);
        assert_eq!(sys::cuMemAllocFromPoolAsync(&mut a, 1000, pool, stream.cu_stream()), ok);
        assert_eq!(sys::cuMemAllocFromPoolAsync(&mut b, 500, pool, stream.cu_stream()), ok);
        assert_eq!(used(CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 1500);
        assert_eq!(sys::cuMemFreeAsync(a, stream.cu_stream()), ok);
        assert_eq!(sys::cuMemFreeAsync(a, stream.cu_stream()), invalid);
        stream.synchronize().unwrap();
        assert_eq!(used(CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 500);
        assert_eq!(used(CU_MEMPOOL_ATTR_USED_MEM_HIGH), 1500);
        let mut threshold = u64::MAX;
        let place = (&mut threshold as *mut u64).cast();
        assert_eq!(sys::cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, place), ok);
        assert_eq!(used(CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), u64::MAX);
        assert_eq!(sys::cuMemFree_v2(b), ok);
        assert_eq!(sys::cuMemPoolTrimTo(pool, 0), ok);
        assert_eq!(sys::cuMemPoolDestroy(pool), ok);
        assert_eq!(sys::cuMemPoolDestroy(pool), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let mut default = std::ptr::null_mut();
        assert_eq!(sys::cuDeviceGetDefaultMemPool(&mut default, 0), ok);
        assert_eq!(sys::cuMemPoolDestroy(default), invalid);
    }
}
