//! Entry points by name, as the runtime and other clients look them up, and error codes by name.

use super::ffi::{In, Out, Text, api};
use super::result::{CuResult, DriverResult};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Once, OnceLock};

/// Names with several versions, chosen by the version that the client was built for:
/// the name, the first version of CUDA, what it is exported as. Newest first.
const VERSIONS: [(&str, c_int, &str); 31] = [
    ("cuCtxCreate", 12050, "cuCtxCreate_v4"),
    ("cuCtxCreate", 11040, "cuCtxCreate_v3"),
    ("cuCtxCreate", 3020, "cuCtxCreate_v2"),
    ("cuStreamGetCaptureInfo", 12030, "cuStreamGetCaptureInfo_v3"),
    ("cuStreamGetCaptureInfo", 11030, "cuStreamGetCaptureInfo_v2"),
    ("cuStreamBeginCapture", 10010, "cuStreamBeginCapture_v2"),
    ("cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"),
    ("cuStreamGetCtx", 9020, "cuStreamGetCtx"),
    ("cuStreamUpdateCaptureDependencies", 12030, "cuStreamUpdateCaptureDependencies_v2"),
    ("cuStreamUpdateCaptureDependencies", 11030, "cuStreamUpdateCaptureDependencies"),
    ("cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"),
    ("cuGraphInstantiate", 11000, "cuGraphInstantiate_v2"),
    // Their older forms take shorter structures.
    ("cuGraphAddKernelNode", 12000, "cuGraphAddKernelNode_v2"),
    ("cuGraphKernelNodeGetParams", 12000, "cuGraphKernelNodeGetParams_v2"),
    ("cuGraphKernelNodeSetParams", 12000, "cuGraphKernelNodeSetParams_v2"),
    ("cuGraphExecKernelNodeSetParams", 12000, "cuGraphExecKernelNodeSetParams_v2"),
    ("cuGraphExecUpdate", 12000, "cuGraphExecUpdate_v2"),
    ("cuGraphGetEdges", 12030, "cuGraphGetEdges_v2"),
    ("cuGraphGetEdges", 10000, "cuGraphGetEdges"),
    ("cuGraphNodeGetDependencies", 12030, "cuGraphNodeGetDependencies_v2"),
    ("cuGraphNodeGetDependencies", 10000, "cuGraphNodeGetDependencies"),
    ("cuGraphNodeGetDependentNodes", 12030, "cuGraphNodeGetDependentNodes_v2"),
    ("cuGraphNodeGetDependentNodes", 10000, "cuGraphNodeGetDependentNodes"),
    ("cuGraphAddDependencies", 12030, "cuGraphAddDependencies_v2"),
    ("cuGraphAddDependencies", 10000, "cuGraphAddDependencies"),
    ("cuGraphRemoveDependencies", 12030, "cuGraphRemoveDependencies_v2"),
    ("cuGraphRemoveDependencies", 10000, "cuGraphRemoveDependencies"),
    ("cuMemPrefetchAsync", 12020, "cuMemPrefetchAsync_v2"),
    ("cuMemPrefetchAsync", 8000, "cuMemPrefetchAsync"),
    ("cuMemAdvise", 12020, "cuMemAdvise_v2"),
    ("cuMemAdvise", 8000, "cuMemAdvise"),
];

const FOUND: c_int = 0;
const NOT_FOUND: c_int = 1;
const TOO_OLD: c_int = 2;

/// The library that this code is in, for looking up its symbols.
fn own_library() -> usize {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let here = own_library as *const c_void;
        // SAFETY: `dladdr` fills the structure, which may be all zero before; the name that it
        // gives lives as long as the library, and the library is loaded already.
        unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(here, &mut info) == 0 || info.dli_fname.is_null() {
                return 0;
            }
            libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD) as usize
        }
    })
}

fn symbol(name: &str) -> Option<*mut c_void> {
    let library = own_library();
    let name = CString::new(name).ok()?;
    if library == 0 {
        return None;
    }
    // SAFETY: the library's handle is never closed.
    let address = unsafe { libc::dlsym(library as *mut c_void, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The newest entry point that a client of this version can know.
fn find(name: &str, version: c_int) -> Result<*mut c_void, c_int> {
    let mut forms = VERSIONS.iter().filter(|(known, ..)| *known == name).peekable();
    if forms.peek().is_some() {
        let form = forms.find(|(_, since, _)| *since <= version).ok_or(TOO_OLD)?;
        return symbol(form.2).ok_or(NOT_FOUND);
    }
    let newest = symbol(&format!("{name}_v2")).or_else(|| symbol(name));
    newest.filter(|_| name.starts_with("cu")).ok_or(NOT_FOUND)
}

fn look_up(name: Text, out: Out<*mut c_void>, version: c_int, flags: u64) -> DriverResult<c_int> {
    out.required()?;
    // Legacy or per-thread default stream: the legacy one orders at least as much.
    if flags > 2 {
        return Err(CuResult::INVALID_VALUE);
    }
    Ok(match find(&name.get()?, version) {
        Ok(address) => {
            out.set_if(address);
            FOUND
        }
        Err(status) => {
            out.set_if(std::ptr::null_mut());
            status
        }
    })
}

/// The table that the CUDA runtime asks for first.
const RUNTIME_TABLE: [u8; 16] =
    [0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9];

fn answer_text(found: Option<&'static CStr>, text: Out<*const c_char>) -> DriverResult {
    text.set(found.map_or(std::ptr::null(), CStr::as_ptr))?;
    found.map(|_| ()).ok_or(CuResult::INVALID_VALUE)
}

api! {
    /// The entry point of a name for a version of CUDA.
    fn cuGetProcAddress_v2[](
        name: Text, out: Out<*mut c_void>, version: c_int, flags: u64, status: Out<c_int>,
    ) {
        let found = look_up(name, out, version, flags)?;
        status.set_if(found);
        // With a status pointer the call succeeds and stores it; without one it returns the error.
        if found == FOUND || status.wanted() { Ok(()) } else { Err(CuResult::NOT_FOUND) }
    }

    /// The entry point of a name for a version of CUDA.
    fn cuGetProcAddress[](name: Text, out: Out<*mut c_void>, version: c_int, flags: u64) {
        match look_up(name, out, version, flags)? {
            FOUND => Ok(()),
            _ => Err(CuResult::NOT_FOUND),
        }
    }

    /// Tables of internal functions: there are none. NVRTC asks for one and works without it.
    fn cuGetExportTable[](out: Out<*const c_void>, id: In<u8>) {
        out.set_if(std::ptr::null());
        if (0..RUNTIME_TABLE.len()).all(|k| id.at(k).is_ok_and(|byte| byte == RUNTIME_TABLE[k])) {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                eprintln!(
                    "warpcheck: the CUDA runtime (libcudart, and cuBLAS and its like with it) asks for NVIDIA's private functions; \
                     only programs that use the driver API by itself can run here"
                );
            });
        }
        Err(CuResult::NOT_FOUND)
    }

    /// Starts a profiler: no effect, counters do not depend on it.
    fn cuProfilerStart[_driver, _context]() {
        Ok(())
    }

    /// Stops a profiler.
    fn cuProfilerStop[_driver, _context]() {
        Ok(())
    }

    /// The C name of a code.
    fn cuGetErrorName[](error: u32, text: Out<*const c_char>) {
        answer_text(CuResult(error).name(), text)
    }

    /// The description of a code.
    fn cuGetErrorString[](error: u32, text: Out<*const c_char>) {
        answer_text(CuResult(error).text(), text)
    }
}
