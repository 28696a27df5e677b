//! Entry points: all of the API is there, what is not supported says so, and looking up by name.

mod client;

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::{CStr, CString, c_int, c_void};
use std::process::Command;

const OK: CUresult = CUresult::CUDA_SUCCESS;

#[test]
fn every_entry_point_of_cuda_12_9_is_exported() {
    let driver = client::driver(&[]);
    let names = include_str!("entry_points.txt");
    assert!(names.lines().count() > 440);
    let missing: Vec<&str> = names.lines().filter(|name| !driver.has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn codes_have_names_and_texts() {
    client::driver(&[]);
    let name = |code| {
        let mut text = std::ptr::null();
        // SAFETY: the text is static.
        unsafe {
            assert_eq!(sys::cuGetErrorName(code, &mut text), OK);
            CStr::from_ptr(text).to_str().unwrap()
        }
    };
    assert_eq!(name(OK), "CUDA_SUCCESS");
    assert_eq!(name(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS), "CUDA_ERROR_ILLEGAL_ADDRESS");
    let driver_error = cudarc::driver::DriverError(CUresult::CUDA_ERROR_NOT_FOUND);
    assert_eq!(driver_error.error_string().unwrap(), c"named symbol not found");
}

#[test]
fn every_code_that_cudarc_knows_has_its_name() {
    client::driver(&[]);
    // SAFETY: numbers are passed as the enum is; the names are static or null.
    let name = |code: u32| unsafe {
        let lookup: unsafe extern "C" fn(u32, *mut *const std::ffi::c_char) -> CUresult =
            std::mem::transmute(address("cuGetErrorName", 12090).unwrap());
        let mut text = std::ptr::null();
        let answer = lookup(code, &mut text);
        assert_eq!(answer == OK, !text.is_null());
        (answer == OK).then(|| CStr::from_ptr(text).to_str().unwrap())
    };
    assert_eq!((0..1000).filter(|code| name(*code).is_some()).count(), 100);
    assert_eq!(name(999), Some("CUDA_ERROR_UNKNOWN"));
    assert_eq!(name(12), None);
}

fn address(name: &str, version: c_int) -> Result<*mut c_void, CUresult> {
    let name = CString::new(name).unwrap();
    let mut address = std::ptr::null_mut();
    // SAFETY: the text ends with NUL; no status is asked for.
    match unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, version, 0, std::ptr::null_mut()) } {
        OK => Ok(address),
        error => Err(error),
    }
}

#[test]
fn functions_are_found_by_name_and_version() {
    client::driver(&[]);
    let context = CudaContext::new(0).unwrap();
    context.bind_to_thread().unwrap();
    // SAFETY: the function has this type from CUDA 3.2 on.
    let allocate: unsafe extern "C" fn(*mut u64, usize) -> CUresult =
        unsafe { std::mem::transmute(address("cuMemAlloc", 12090).unwrap()) };
    let mut pointer = 0;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(allocate(&mut pointer, 64), OK);
        assert_eq!(sys::cuMemFree_v2(pointer), OK);
    }
    let versions = |name| (address(name, 11040).unwrap(), address(name, 12090).unwrap());
    for name in ["cuGraphInstantiate", "cuStreamGetCaptureInfo", "cuMemAdvise", "cuCtxCreate"] {
        let (old, new) = versions(name);
        assert_ne!(old, new, "{name}");
    }
    let (old, new) = versions("cuLaunchKernel");
    assert_eq!(old, new);
    // Who was built for CUDA 11 has a shorter structure for the answer.
    for name in ["cuGraphKernelNodeGetParams", "cuGraphExecUpdate"] {
        assert!(address(name, 11040).is_err() && address(name, 12000).is_ok(), "{name}");
    }
    assert_eq!(address("cuNoSuchThing", 12090), Err(CUresult::CUDA_ERROR_NOT_FOUND));
    assert_eq!(address("malloc", 12090), Err(CUresult::CUDA_ERROR_NOT_FOUND));
    let mut status = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS;
    let mut place = std::ptr::null_mut();
    // SAFETY: plain calls of the driver.
    unsafe {
        let answer = sys::cuGetProcAddress_v2(c"cuStreamGetCaptureInfo".as_ptr(), &mut place, 11000, 0, &mut status);
        assert_eq!(answer, OK);
    }
    assert_eq!(status, sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    assert!(place.is_null());
}

#[test]
fn the_export_table_is_refused_as_nvrtc_needs_it() {
    client::driver(&[]);
    let mut table = std::ptr::dangling::<c_void>();
    let id = sys::CUuuid { bytes: [7; 16] };
    // SAFETY: plain calls of the driver.
    let answer = unsafe { sys::cuGetExportTable(&mut table, &id) };
    assert_ne!(answer, OK);
    assert!(table.is_null());
}

/// Runs one of the ignored tests of this binary, which are clients in processes of their own.
fn client(name: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{text}");
    (output.status.success(), text)
}

#[test]
#[ignore = "a client: run by other tests"]
fn calls_unsupported_functions() {
    client::driver(&[]);
    CudaContext::new(0).unwrap();
    let unsupported = CUresult::CUDA_ERROR_NOT_SUPPORTED;
    for _ in 0..3 {
        // SAFETY: the functions touch nothing.
        unsafe {
            let answer = sys::cuMemAddressReserve(&mut 0, 0, 0, 0, 0);
            assert_eq!(answer, unsupported);
            assert_eq!(sys::cuTexRefCreate(std::ptr::null_mut()), unsupported);
        }
    }
}

#[test]
fn an_unsupported_function_says_its_name_once() {
    let (success, text) = client("calls_unsupported_functions", &[]);
    assert!(success, "{text}");
    for name in ["cuMemAddressReserve", "cuTexRefCreate"] {
        assert_eq!(text.matches(name).count(), 1, "{text}");
    }
}

#[test]
#[ignore = "a client: run by other tests"]
fn calls_before_init() {
    client::driver(&[]);
    let mut count = 0;
    let early = CUresult::CUDA_ERROR_NOT_INITIALIZED;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuDeviceGetCount(&mut count), early);
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 4), early);
        assert_eq!(sys::cuTexRefCreate(std::ptr::null_mut()), early);
        assert_eq!(sys::cuDriverGetVersion(&mut count), OK);
        assert_eq!(sys::cuInit(0), OK);
        assert_eq!(sys::cuDeviceGetCount(&mut count), OK);
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 4), CUresult::CUDA_ERROR_INVALID_CONTEXT);
    }
}

#[test]
fn nothing_works_before_init() {
    let (success, text) = client("calls_before_init", &[]);
    assert!(success, "{text}");
}

#[test]
#[ignore = "a client: run by other tests"]
fn says_what_init_answers() {
    client::driver(&[]);
    // SAFETY: a plain call of the driver.
    eprintln!("cuInit: {:?}", unsafe { sys::cuInit(0) });
}

#[test]
fn a_wrong_variable_is_said_and_never_ignored() {
    for (name, value, part) in [
        ("WARPCHECK_CHECK", "mem,rice", "there is no check \"rice\""),
        ("WARPCHECK_COUNT", "many", "WARPCHECK_COUNT=\"many\""),
        ("WARPCHECK_PROFILE", "voodoo2", "no device profile \"voodoo2\""),
        ("WARPCHECK_DEVICES", "-1", "WARPCHECK_DEVICES=\"-1\""),
    ] {
        let (_, text) = client("says_what_init_answers", &[(name, value)]);
        assert!(text.contains(part) && text.contains("CUDA_ERROR_INVALID_VALUE"), "{text}");
    }
    let (_, text) = client("says_what_init_answers", &[("WARPCHECK_CHEKC", "all")]);
    assert!(text.contains("no environment variable WARPCHECK_CHEKC"), "{text}");
    assert!(text.contains("CUDA_SUCCESS"), "{text}");
    let (_, text) = client("says_what_init_answers", &[("WARPCHECK_DEVICES", "0")]);
    assert!(text.contains("CUDA_ERROR_NO_DEVICE"), "{text}");
}

#[test]
fn a_harness_sets_options_and_is_told_of_mistakes() {
    let driver = client::driver(&[]);
    CudaContext::new(0).unwrap();
    assert_eq!(driver.set_options("check=mem;count=1"), OK);
    assert_eq!(driver.set_options("check=everything"), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(driver.set_options("profile=t4"), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(driver.set_options("check=all count=0"), OK);
    driver.reset();
    assert_eq!(driver.findings(), 0);
    let report = driver.json("warpcheck_report_json");
    assert_eq!(report["version"], 1);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(driver.json("warpcheck_counters_json"), serde_json::json!([]));
}
