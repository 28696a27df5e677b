//! What the tests with cudarc share: the driver put in place, its harness functions, small kernels.
#![allow(dead_code)] // Each test binary uses its part.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use cudarc::driver::sys::CUresult;
use libloading::Library;

/// The cdylib. Cargo builds it along with the rlib that the tests link, beside the test binary.
pub fn library_path() -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    let folder = test.parent().expect("it lies in target/<profile>/deps");
    folder.join("libwarpcheck.so")
}

/// Puts the driver in place, once a process: cudarc's `dlopen("libcuda.so")` finds the library
/// that is loaded already under that SONAME. The environment is that of the first call.
pub fn driver(environment: &[(&str, &str)]) -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        for (name, value) in environment {
            // SAFETY: this happens once, before the driver or any other thread reads variables.
            unsafe { std::env::set_var(name, value) };
        }
        let path = library_path();
        // SAFETY: the library's initialisers do nothing; it stays loaded until the process ends.
        let library = unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // SAFETY: it opens the library that is loaded already.
        assert!(unsafe { cudarc::driver::sys::is_culib_present() }, "cudarc finds libcuda.so");
        Driver { library }
    })
}

/// The driver's own functions, besides CUDA's.
pub struct Driver {
    library: Library,
}

type TextFunction = unsafe extern "C" fn(*const c_char) -> CUresult;
type JsonFunction = unsafe extern "C" fn(*mut *mut c_char) -> CUresult;

impl Driver {
    /// A symbol of the library.
    pub fn has(&self, name: &str) -> bool {
        // SAFETY: only the presence is asked for.
        unsafe { self.library.get::<*const ()>(name.as_bytes()) }.is_ok()
    }

    /// Sets options, as `check=none count=1`.
    pub fn set_options(&self, text: &str) -> CUresult {
        let text = CString::new(text).unwrap();
        // SAFETY: the function has this type; the text ends with NUL.
        unsafe { self.library.get::<TextFunction>(b"warpcheck_set_options").unwrap()(text.as_ptr()) }
    }

    /// Forgets findings and counters.
    pub fn reset(&self) {
        // SAFETY: the function has this type.
        let reset = unsafe { self.library.get::<unsafe extern "C" fn() -> CUresult>(b"warpcheck_reset") };
        // SAFETY: as above.
        assert_eq!(unsafe { reset.unwrap()() }, CUresult::CUDA_SUCCESS);
    }

    /// How many findings there are.
    pub fn findings(&self) -> u64 {
        let mut count = 0;
        // SAFETY: the function has this type and writes the number.
        let answer = unsafe {
            self.library.get::<unsafe extern "C" fn(*mut u64) -> CUresult>(b"warpcheck_findings_count").unwrap()(
                &mut count,
            )
        };
        assert_eq!(answer, CUresult::CUDA_SUCCESS);
        count
    }

    /// What a function ending in `_json` says.
    pub fn json(&self, function: &str) -> serde_json::Value {
        let mut text = std::ptr::null_mut();
        // SAFETY: the functions have these types; the text is copied before it is freed.
        unsafe {
            let get = self.library.get::<JsonFunction>(function.as_bytes()).unwrap();
            assert_eq!(get(&mut text), CUresult::CUDA_SUCCESS);
            let value = serde_json::from_str(CStr::from_ptr(text).to_str().unwrap()).unwrap();
            self.library.get::<unsafe extern "C" fn(*mut c_char) -> CUresult>(b"warpcheck_free").unwrap()(text);
            value
        }
    }
}

/// `y[i] = a * x[i] + y[i]`, with a guard.
pub const SAXPY: &str = r#"
.version 8.0
.target sm_70
.address_size 64
.visible .entry saxpy(
    .param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f2, %f1, %f3;
    st.global.f32 [%rd7], %f4;
DONE:
    ret;
}
"#;

/// Kernels for errors and limits: `store` writes 1 to a pointer, `big_shared` has 48 KiB of shared
/// memory, `dynamic` sums its dynamic shared memory, `few_threads` may have 64 threads, `spin`
/// never ends, `table` and `limit` are variables.
pub const SMALL: &str = r#"
.version 8.0
.target sm_70
.address_size 64
.visible .global .align 4 .b8 table[16] = {1,0,0,0, 2,0,0,0, 3,0,0,0, 4,0,0,0};
.visible .const .align 4 .u32 limit = 7;
.extern .shared .align 16 .b8 dynamic_memory[];

.visible .entry store(.param .u64 p)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 1;
    st.global.u32 [%rd2], %r1;
    ret;
}

.visible .entry big_shared(.param .u64 p)
{
    .shared .align 4 .b8 block[49152];
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 5;
    st.shared.u32 [block], %r1;
    ld.shared.u32 %r2, [block];
    st.global.u32 [%rd2], %r2;
    ret;
}

.visible .entry dynamic(.param .u64 p, .param .u32 words)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [words];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r2, 0;
    mov.u32 %r3, dynamic_memory;
    mov.u32 %r4, 0;
LOOP:
    st.shared.u32 [%r3], %r2;
    ld.shared.u32 %r5, [%r3];
    add.u32 %r4, %r4, %r5;
    add.u32 %r3, %r3, 4;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r1;
    @%p1 bra LOOP;
    st.global.u32 [%rd2], %r4;
    ret;
}

.visible .entry few_threads(.param .u64 p)
.maxntid 64, 1, 1
{
    ret;
}

.visible .entry spin()
{
LOOP:
    bra LOOP;
}

.visible .entry read_table(.param .u64 p)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [table+8];
    ld.const.u32 %r2, [limit];
    add.u32 %r3, %r1, %r2;
    st.global.u32 [%rd2], %r3;
    ret;
}
"#;
