//! Kernels through the unmodified cudarc: modules, launches, limits, graphs, threads, NVRTC.

mod client;
mod support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::ffi::{CString, c_void};
use std::sync::Arc;

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

fn context() -> Arc<CudaContext> {
    client::driver(&[]);
    CudaContext::new(0).unwrap()
}

fn module(context: &Arc<CudaContext>, ptx: &str) -> Arc<CudaModule> {
    context.load_module(Ptx::from_src(ptx)).unwrap()
}

fn shape(grid: u32, block: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 }
}

/// A module and a function by the driver's own interface, where wrong arguments can be passed.
struct Raw {
    module: sys::CUmodule,
    function: sys::CUfunction,
    _context: Arc<CudaContext>,
}

fn raw(name: &str) -> Raw {
    let context = context();
    context.bind_to_thread().unwrap();
    let text = CString::new(client::SMALL).unwrap();
    let name = CString::new(name).unwrap();
    let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the texts end with NUL.
    unsafe {
        assert_eq!(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()), OK);
        assert_eq!(sys::cuModuleGetFunction(&mut function, module, name.as_ptr()), OK);
    }
    Raw { module, function, _context: context }
}

fn launch(function: sys::CUfunction, grid: [u32; 3], block: [u32; 3], shared: u32, p: u64) -> CUresult {
    let mut p = p;
    let mut words = shared / 4;
    let mut arguments = [(&mut p as *mut u64).cast::<c_void>(), (&mut words as *mut u32).cast()];
    // SAFETY: the kernels take a pointer and a number, or only the first.
    unsafe {
        sys::cuLaunchKernel(
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            shared,
            std::ptr::null_mut(),
            arguments.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}

fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) }, OK);
    address
}

fn read(address: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: the place has four bytes.
    let answer = unsafe { sys::cuMemcpyDtoH_v2((&mut value as *mut u32).cast(), address, 4) };
    assert_eq!(answer, OK);
    value
}

#[test]
fn a_kernel_runs_through_the_safe_interface() {
    let context = context();
    let stream = context.default_stream();
    let saxpy = module(&context, client::SAXPY).load_function("saxpy").unwrap();
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let x = stream.clone_htod(&x).unwrap();
    let mut y = stream.clone_htod(&vec![1.0f32; 1000]).unwrap();
    let (a, n) = (2.0f32, 1000u32);
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
    // SAFETY: the kernel takes these arguments.
    unsafe { launch.launch(shape(8, 128)) }.unwrap();
    let expected: Vec<f32> = (0..1000).map(|i| 2.0 * i as f32 + 1.0).collect();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), expected);
}

#[test]
fn nvrtc_through_cudarc_and_pinned_and_managed_memory() {
    let context = context();
    support::nvrtc::load();
    let source = r#"
        extern "C" __global__ void add(const float* a, const float* b, float* c, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) c[i] = a[i] + b[i];
        }"#;
    let options = cudarc::nvrtc::CompileOptions {
        arch: Some("compute_80"),
        options: vec!["-lineinfo".into()],
        ..Default::default()
    };
    let ptx = cudarc::nvrtc::compile_ptx_with_opts(source, options).unwrap();
    let add = context.load_module(ptx).unwrap().load_function("add").unwrap();
    let stream = context.new_stream().unwrap();
    // SAFETY: written before they are read.
    let mut a = unsafe { context.alloc_unified::<f32>(500, true) }.unwrap();
    a.as_mut_slice().unwrap().fill(1.25);
    // SAFETY: likewise.
    let mut host = unsafe { context.alloc_pinned::<f32>(500) }.unwrap();
    host.as_mut_slice().unwrap().fill(2.5);
    let b = stream.clone_htod(&host).unwrap();
    let mut c = stream.alloc_zeros::<f32>(500).unwrap();
    let n = 500i32;
    let mut launch = stream.launch_builder(&add);
    launch.arg(&a).arg(&b).arg(&mut c).arg(&n);
    // SAFETY: the kernel takes these arguments.
    unsafe { launch.launch(shape(4, 128)) }.unwrap();
    assert_eq!(stream.clone_dtoh(&c).unwrap(), vec![3.75; 500]);
}

#[test]
fn a_launch_that_cannot_be_is_refused_with_its_code() {
    let few = raw("few_threads");
    let store = raw("store");
    let p = allocate(4);
    let one = [1, 1, 1];
    assert_eq!(launch(store.function, [0, 1, 1], one, 0, p), INVALID);
    assert_eq!(launch(store.function, one, [1, 0, 1], 0, p), INVALID);
    assert_eq!(launch(store.function, one, [1025, 1, 1], 0, p), INVALID);
    assert_eq!(launch(store.function, one, [32, 33, 1], 0, p), INVALID);
    assert_eq!(launch(store.function, one, [1, 1, 65], 0, p), INVALID);
    assert_eq!(launch(store.function, [1, 65536, 1], one, 0, p), INVALID);
    assert_eq!(launch(store.function, [1 << 31, 1, 1], one, 0, p), INVALID);
    assert_eq!(launch(store.function, one, one, 49153, p), INVALID);
    assert_eq!(launch(few.function, one, [65, 1, 1], 0, p), INVALID);
    assert_eq!(launch(few.function, one, [64, 1, 1], 0, p), OK);
    let stranger = 0x1000 as sys::CUfunction;
    let handle = CUresult::CUDA_ERROR_INVALID_HANDLE;
    assert_eq!(launch(std::ptr::null_mut(), one, one, 0, p), handle);
    assert_eq!(launch(stranger, one, one, 0, p), handle);
    let null = std::ptr::null_mut();
    // SAFETY: null for the arguments of a kernel that takes some.
    let none = unsafe { sys::cuLaunchKernel(store.function, 1, 1, 1, 1, 1, 1, 0, null, null.cast(), null.cast()) };
    assert_eq!(none, INVALID);
    assert_eq!(launch(store.function, one, one, 0, p), OK);
    assert_eq!(read(p), 1, "the context is as good as before");
}

#[test]
fn parameters_can_come_as_one_block() {
    let store = raw("store");
    let mut p = allocate(4);
    let mut size = 8usize;
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(1),
        (&mut p as *mut u64).cast(),
        std::ptr::without_provenance_mut(2),
        (&mut size as *mut usize).cast(),
        std::ptr::null_mut(),
    ];
    let null = std::ptr::null_mut();
    // SAFETY: the block holds the kernel's pointer.
    let answer =
        unsafe { sys::cuLaunchKernel(store.function, 1, 1, 1, 1, 1, 1, 0, null, null.cast(), extra.as_mut_ptr()) };
    assert_eq!(answer, OK);
    assert_eq!(read(p), 1);
}

#[test]
fn dynamic_shared_memory_beyond_48_kib_is_for_those_who_ask() {
    let dynamic = raw("dynamic");
    use sys::CUfunction_attribute::*;
    let p = allocate(4);
    let run = |bytes| launch(dynamic.function, [1; 3], [1; 3], bytes, p);
    let sum = |bytes: u32| (0..bytes / 4).sum::<u32>();
    assert_eq!(run(4096), OK);
    assert_eq!(read(p), sum(4096));
    assert_eq!(run(64 << 10), INVALID);
    let set = |bytes| {
        // SAFETY: a plain call of the driver.
        unsafe { sys::cuFuncSetAttribute(dynamic.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes) }
    };
    assert_eq!(set((163 << 10) + 1), INVALID);
    assert_eq!(set(-1), INVALID);
    assert_eq!(set(163 << 10), OK);
    assert_eq!(run(163 << 10), OK);
    assert_eq!(read(p), sum(163 << 10));
    assert_eq!(set(8192), OK);
    assert_eq!(run(8196), INVALID);
}

#[test]
fn functions_tell_their_attributes() {
    let big = raw("big_shared");
    let few = raw("few_threads");
    use sys::CUfunction_attribute::*;
    let attribute = |function, kind| {
        let mut value = -1;
        // SAFETY: a plain call of the driver.
        let answer = unsafe { sys::cuFuncGetAttribute(&mut value, kind, function) };
        (answer, value)
    };
    assert_eq!(attribute(big.function, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), (OK, 49152));
    assert_eq!(attribute(big.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES), (OK, 0));
    assert_eq!(attribute(big.function, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), (OK, 1024));
    assert_eq!(attribute(few.function, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), (OK, 64));
    assert_eq!(attribute(few.function, CU_FUNC_ATTRIBUTE_PTX_VERSION), (OK, 70));
    assert_eq!(attribute(few.function, CU_FUNC_ATTRIBUTE_BINARY_VERSION), (OK, 80));
    let (answer, registers) = attribute(big.function, CU_FUNC_ATTRIBUTE_NUM_REGS);
    assert!(answer == OK && (1..=255).contains(&registers), "{registers}");
    let (mut offset, mut size, mut module) = (9, 9, std::ptr::null_mut());
    let dynamic = raw("dynamic");
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuFuncGetParamInfo(dynamic.function, 1, &mut offset, &mut size), OK);
        assert_eq!((offset, size), (8, 4));
        assert_eq!(sys::cuFuncGetParamInfo(dynamic.function, 2, &mut offset, &mut size), INVALID);
        assert_eq!(sys::cuFuncGetModule(&mut module, dynamic.function), OK);
        assert_eq!(module, dynamic.module);
        let prefer = sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_L1;
        assert_eq!(sys::cuFuncSetCacheConfig(dynamic.function, prefer), OK);
    }
}

/// A kernel of this many registers that are live at once, with more directives.
fn crowded(registers: usize, directives: &str) -> String {
    let each = |text: &dyn Fn(usize) -> String| (1..=registers).map(text).collect::<String>();
    let loads = each(&|k| format!("ld.volatile.global.u32 %r{k}, [%rd2+{}];\n", 4 * k));
    let sums = each(&|k| format!("add.u32 %r0, %r0, %r{k};\n"));
    format!(
        ".version 8.0\n.target sm_70\n.address_size 64\n.visible .entry crowded(.param .u64 p)\n{directives}\n{{\n\
         .reg .b32 %r<{}>;\n.reg .b64 %rd<3>;\nld.param.u64 %rd1, [p];\ncvta.to.global.u64 %rd2, %rd1;\n{loads}\
         mov.u32 %r0, 0;\n{sums}st.volatile.global.u32 [%rd2], %r0;\nret;\n}}\n",
        registers + 1
    )
}

#[test]
fn registers_are_an_estimate_for_which_no_launch_is_refused() {
    use sys::CUfunction_attribute::*;
    let context = context();
    let stream = context.default_stream();
    let mut data = stream.alloc_zeros::<u32>(256).unwrap();
    let mut check = |directives: &str, threads: u32, registers: i32, blocks: u32| {
        let crowded = module(&context, &crowded(100, directives)).load_function("crowded").unwrap();
        assert_eq!(crowded.get_attribute(CU_FUNC_ATTRIBUTE_NUM_REGS).unwrap(), registers, "{directives}");
        let most = crowded.get_attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK).unwrap();
        assert_eq!(most, threads as i32, "{directives}");
        assert_eq!(crowded.occupancy_max_active_blocks_per_multiprocessor(threads, 0, None).unwrap(), blocks);
        let mut launch = stream.launch_builder(&crowded);
        launch.arg(&mut data);
        // SAFETY: the kernel takes a pointer to 101 numbers.
        unsafe { launch.launch(shape(1, threads)) }.unwrap();
        stream.synchronize().unwrap();
    };
    // A sum, a pointer of two registers, a hundred numbers, and two more.
    check("", 1024, 105, 1);
    check(".maxntid 1024, 1, 1", 1024, 64, 1);
    check(".maxntid 512, 1, 1 .minnctapersm 2", 512, 64, 2);
    check(".maxntid 256, 1, 1 .minnctapersm 8", 256, 32, 8);
    check(".maxnreg 40", 1024, 40, 1);
    check(".reqntid 128, 1, 1", 128, 105, 4);
}

#[test]
fn occupancy_follows_the_profile() {
    let context = context();
    let small = module(&context, client::SMALL);
    let big: CudaFunction = small.load_function("big_shared").unwrap();
    let store: CudaFunction = small.load_function("store").unwrap();
    // 48 KiB and the system's kilobyte, three times in an A100's 164 KiB.
    assert_eq!(big.occupancy_max_active_blocks_per_multiprocessor(128, 0, None).unwrap(), 3);
    assert_eq!(store.occupancy_max_active_blocks_per_multiprocessor(1024, 0, None).unwrap(), 2);
    assert_eq!(store.occupancy_max_active_blocks_per_multiprocessor(32, 0, None).unwrap(), 32);
    extern "C" fn none(_: std::ffi::c_int) -> usize {
        0
    }
    let (grid, block) = store.occupancy_max_potential_block_size(none, 0, 0, None).unwrap();
    assert_eq!((grid * block, block), (108 * 2048, 1024));
    assert_eq!(store.occupancy_available_dynamic_smem_per_block(4, 128).unwrap(), 40 << 10);
}

#[test]
fn globals_are_found_written_and_read_by_kernels() {
    let raw = raw("read_table");
    let p = allocate(4);
    let (mut address, mut bytes) = (0, 0);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, raw.module, c"table".as_ptr()), OK);
        assert_eq!(bytes, 16);
        assert_eq!(read(address + 8), 3);
        assert_eq!(launch(raw.function, [1; 3], [1; 3], 0, p), OK);
        assert_eq!(read(p), 3 + 7);
        assert_eq!(sys::cuMemsetD32_v2(address + 8, 100, 1), OK);
        assert_eq!(launch(raw.function, [1; 3], [1; 3], 0, p), OK);
        assert_eq!(read(p), 100 + 7);
        assert_eq!(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, raw.module, c"limit".as_ptr()), OK);
        assert_eq!((bytes, read(address)), (4, 7));
        let answer = sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, raw.module, c"no".as_ptr());
        assert_eq!(answer, CUresult::CUDA_ERROR_NOT_FOUND);
        assert_eq!(sys::cuMemFree_v2(address), INVALID, "a variable is not freed");
    }
}

#[test]
fn images_that_are_none_are_refused_and_the_log_names_the_line() {
    let context = context();
    context.bind_to_thread().unwrap();
    let load = |text: &str| {
        let mut module = std::ptr::null_mut();
        let text = CString::new(text).unwrap();
        // SAFETY: the text ends with NUL.
        unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) }
    };
    assert_eq!(load("no PTX at all"), CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!(load(""), CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!(load("\x7fELF and machine code"), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    let newer = client::SAXPY.replace("sm_70", "sm_90");
    assert_eq!(load(&newer), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    let wrong = client::SAXPY.replace("mul.wide.u32", "mul.wild.u32");
    let line = wrong.lines().position(|line| line.contains("mul.wild")).unwrap() + 1;
    let text = CString::new(wrong).unwrap();
    let mut log = [0u8; 200];
    let mut keys = [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: the text ends with NUL; the log has the size given.
    let answer = unsafe {
        sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, keys.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_PTX);
    let log = std::ffi::CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
    assert!(log.contains(&format!("line {line}")), "{log}");
    let mut function = std::ptr::null_mut();
    // SAFETY: plain calls of the driver.
    unsafe {
        let small = raw("store");
        let answer = sys::cuModuleGetFunction(&mut function, small.module, c"nothing".as_ptr());
        assert_eq!(answer, CUresult::CUDA_ERROR_NOT_FOUND);
        assert_eq!(sys::cuModuleUnload(small.module), OK);
        assert_eq!(sys::cuModuleUnload(small.module), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(launch(small.function, [1; 3], [1; 3], 0, 0), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuModuleLoad(&mut module, c"/no/such/file".as_ptr()), CUresult::CUDA_ERROR_FILE_NOT_FOUND);
    }
}

#[test]
fn a_fat_binary_is_loaded_by_its_ptx() {
    let context = context();
    context.bind_to_thread().unwrap();
    let ptx = client::SMALL.as_bytes();
    let mut entry = Vec::new();
    entry.extend(1u16.to_le_bytes()); // kind: PTX
    entry.extend(0x101u16.to_le_bytes());
    entry.extend(64u32.to_le_bytes());
    entry.extend((ptx.len() as u64 + 1).to_le_bytes());
    entry.resize(28, 0);
    entry.extend(70u32.to_le_bytes());
    entry.resize(64, 0);
    let mut fat = Vec::new();
    fat.extend(0xba55_ed50u32.to_le_bytes());
    fat.extend(1u16.to_le_bytes());
    fat.extend(16u16.to_le_bytes());
    fat.extend(((entry.len() + ptx.len() + 1) as u64).to_le_bytes());
    fat.extend(&entry);
    fat.extend(ptx);
    fat.push(0);
    let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the header says how long the image is.
    unsafe {
        assert_eq!(sys::cuModuleLoadFatBinary(&mut module, fat.as_ptr().cast()), OK);
        assert_eq!(sys::cuModuleGetFunction(&mut function, module, c"store".as_ptr()), OK);
        fat[16] = 2; // machine code instead
        let answer = sys::cuModuleLoadData(&mut module, fat.as_ptr().cast());
        assert_eq!(answer, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    }
    let p = allocate(4);
    assert_eq!(launch(function, [1; 3], [1; 3], 0, p), OK);
    assert_eq!(read(p), 1);
}

/// Made by CUDA 13's `fatbinary --create FILE --compress-mode=speed` (and `size`) `--image3=kind=ptx,sm=70,file=store.ptx -64`, where
/// `store` writes four nines.
#[test]
fn compressed_fat_binaries_are_read() {
    let context = context();
    context.bind_to_thread().unwrap();
    for image in [&include_bytes!("fatbin/lz4.fatbin")[..], include_bytes!("fatbin/zstd.fatbin")] {
        let (mut module, mut function, mut values) = (std::ptr::null_mut(), std::ptr::null_mut(), [0u32; 4]);
        let p = allocate(16);
        // SAFETY: the header says how long the image is; the place has 16 bytes.
        unsafe {
            assert_eq!(sys::cuModuleLoadData(&mut module, image.as_ptr().cast()), OK);
            assert_eq!(sys::cuModuleGetFunction(&mut function, module, c"store".as_ptr()), OK);
            assert_eq!(launch(function, [1; 3], [1; 3], 0, p), OK);
            assert_eq!(sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), p, 16), OK);
        }
        assert_eq!(values, [9; 4]);
        // A part of it overwritten.
        let mut broken = image.to_vec();
        let end = broken.len().min(0x60 + 40);
        broken[0x62..end].fill(0xff);
        // SAFETY: as above.
        let answer = unsafe { sys::cuModuleLoadData(&mut module, broken.as_ptr().cast()) };
        assert!([CUresult::CUDA_ERROR_INVALID_IMAGE, CUresult::CUDA_ERROR_INVALID_PTX].contains(&answer), "{answer:?}");
    }
}

#[test]
fn libraries_give_kernels_functions_and_globals() {
    let context = context();
    context.bind_to_thread().unwrap();
    let text = CString::new(client::SMALL).unwrap();
    let (mut library, mut kernel, mut function) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    let mut count = 0;
    let p = allocate(4);
    // SAFETY: the text ends with NUL; no options are given.
    unsafe {
        let (image, no) = (text.as_ptr().cast(), std::ptr::null_mut::<*mut c_void>());
        assert_eq!(sys::cuLibraryLoadData(&mut library, image, no.cast(), no, 0, no.cast(), no, 0), OK);
        assert_eq!(sys::cuLibraryGetKernelCount(&mut count, library), OK);
        assert_eq!(count, 6);
        assert_eq!(sys::cuLibraryGetKernel(&mut kernel, library, c"store".as_ptr()), OK);
        let missing = sys::cuLibraryGetKernel(&mut kernel.clone(), library, c"no".as_ptr());
        assert_eq!(missing, CUresult::CUDA_ERROR_NOT_FOUND);
        assert_eq!(sys::cuKernelGetFunction(&mut function, kernel), OK);
        assert_eq!(launch(function, [1; 3], [1; 3], 0, p), OK);
        assert_eq!(read(p), 1);
        // A kernel is taken where a function is wanted.
        assert_eq!(sys::cuMemsetD32_v2(p, 0, 1), OK);
        assert_eq!(launch(kernel.cast(), [1; 3], [1; 3], 0, p), OK);
        assert_eq!(read(p), 1);
        let (mut address, mut bytes) = (0, 0);
        assert_eq!(sys::cuLibraryGetGlobal(&mut address, &mut bytes, library, c"table".as_ptr()), OK);
        assert_eq!((bytes, read(address)), (16, 1));
        assert_eq!(sys::cuLibraryUnload(library), OK);
        assert_eq!(launch(function, [1; 3], [1; 3], 0, p), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn launch_attributes_are_hints_or_refused() {
    let store = raw("store");
    let mut p = allocate(4);
    let mut arguments = [(&mut p as *mut u64).cast::<c_void>()];
    use sys::CUlaunchAttributeID::*;
    let mut launch = |id, value: [u32; 3]| {
        // SAFETY: all zero is a valid attribute, which is filled below.
        let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        attribute.id = id;
        attribute.value.clusterDim =
            sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: value[0], y: value[1], z: value[2] };
        let config = sys::CUlaunchConfig {
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 1,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: std::ptr::null_mut(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        // SAFETY: the kernel takes a pointer.
        unsafe { sys::cuLaunchKernelEx(&config, store.function, arguments.as_mut_ptr(), std::ptr::null_mut()) }
    };
    assert_eq!(launch(CU_LAUNCH_ATTRIBUTE_PRIORITY, [0, 0, 0]), OK);
    assert_eq!(launch(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, [1, 1, 1]), OK);
    let no = CUresult::CUDA_ERROR_NOT_SUPPORTED;
    assert_eq!(launch(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, [2, 1, 1]), no);
    assert_eq!(launch(CU_LAUNCH_ATTRIBUTE_COOPERATIVE, [1, 0, 0]), no);
    assert_eq!(read(p), 1);
    let null = std::ptr::null_mut();
    // SAFETY: the kernel takes a pointer.
    let answer =
        unsafe { sys::cuLaunchCooperativeKernel(store.function, 1, 1, 1, 1, 1, 1, 0, null, arguments.as_mut_ptr()) };
    assert_eq!(answer, no);
}

#[test]
fn kernels_are_captured_replayed_and_changed() {
    let context = context();
    // SAFETY: one stream.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let saxpy = module(&context, client::SAXPY).load_function("saxpy").unwrap();
    let x = stream.clone_htod(&vec![1.0f32; 64]).unwrap();
    let mut y = stream.clone_htod(&vec![0.0f32; 64]).unwrap();
    let (a, n) = (1.0f32, 64u32);
    stream.synchronize().unwrap();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    for _ in 0..3 {
        let mut launch = stream.launch_builder(&saxpy);
        launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
        // SAFETY: the kernel takes these arguments.
        unsafe { launch.launch(shape(1, 64)) }.unwrap();
    }
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![0.0; 64]);
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![6.0; 64]);
    // SAFETY: the parameters are those of the graph's nodes, with one number changed.
    unsafe {
        let mut count = 3;
        let mut nodes = [std::ptr::null_mut(); 3];
        assert_eq!(sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &mut count), OK);
        let mut params: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
        assert_eq!(sys::cuGraphKernelNodeGetParams_v2(nodes[0], &mut params), OK);
        assert_eq!((params.gridDimX, params.blockDimX), (1, 64));
        let mut changed = 10.0f32;
        let mut arguments: Vec<*mut c_void> = (0..4).map(|i| *params.kernelParams.add(i)).collect();
        assert_eq!(*arguments[3].cast::<u32>(), 64);
        arguments[2] = (&mut changed as *mut f32).cast();
        params.kernelParams = arguments.as_mut_ptr();
        assert_eq!(sys::cuGraphExecKernelNodeSetParams_v2(graph.cu_graph_exec(), nodes[0], &params), OK);
    }
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![18.0; 64]);
}

#[test]
fn threads_launch_on_streams_of_their_own() {
    let context = context();
    let saxpy = module(&context, client::SAXPY).load_function("saxpy").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (context, saxpy) = (context.clone(), saxpy.clone());
            scope.spawn(move || {
                let stream = context.new_stream().unwrap();
                let x = stream.clone_htod(&vec![thread as f32; 300]).unwrap();
                let mut y = stream.clone_htod(&vec![0.0f32; 300]).unwrap();
                let (a, n) = (1.0f32, 300u32);
                for _ in 0..20 {
                    let mut launch = stream.launch_builder(&saxpy);
                    launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
                    // SAFETY: the kernel takes these arguments.
                    unsafe { launch.launch(shape(3, 128)) }.unwrap();
                }
                assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![20.0 * thread as f32; 300]);
            });
        }
    });
}
