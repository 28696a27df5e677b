//! The functions of an MPI library that are used, and its constants: three binary interfaces are known.
//!
//! A handle (communicator, data type, …) is an `int` for MPICH and its kin, a pointer for Open MPI and in MPI 5's interface.
//! It is passed as a word here: of one that is passed in a register or in a slot of the stack the callee reads the lower half
//! if its type is `int`. A request is kept in a word that is zero at first, of which MPICH writes the lower half.

use std::error::Error as _;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

/// A handle of MPI.
pub type Handle = usize;
/// A request, in memory.
pub type Request = u64;
/// A status: room for the largest, which is that of MPI 5 with 32 bytes.
pub type Status = [u64; 8];

/// Who made a library; its own launcher is the one that it can connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Open MPI.
    OpenMpi,
    /// MPICH, and what is made from it: Intel MPI, MVAPICH, Cray MPICH.
    Mpich,
}

impl Family {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
        }
    }
}

/// A loaded library; unloaded when it is dropped.
#[derive(Debug)]
pub struct Loaded {
    /// What the pointers point into.
    _library: Library,
    /// Who made it.
    pub family: Family,
    /// Name and version, such as `MPICH 5.0.2`.
    pub version: String,
    /// The levels of `MPI_Init_thread` from which calls may come from any thread, one at a time.
    pub serialized: c_int,
    /// `MPI_COMM_WORLD`.
    pub world: Handle,
    /// `MPI_BYTE`.
    pub byte: Handle,
    /// `MPI_ERRORS_RETURN`.
    pub errors_return: Handle,
    pub init_thread: unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int,
    pub set_errhandler: unsafe extern "C" fn(Handle, Handle) -> c_int,
    pub rank: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    pub size: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    pub isend: unsafe extern "C" fn(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Request) -> c_int,
    pub irecv: unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Request) -> c_int,
    pub test: unsafe extern "C" fn(*mut Request, *mut c_int, *mut Status) -> c_int,
    pub get_count: unsafe extern "C" fn(*const Status, Handle, *mut c_int) -> c_int,
    pub error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    pub abort: unsafe extern "C" fn(Handle, c_int) -> c_int,
    pub finalize: unsafe extern "C" fn() -> c_int,
}

/// The loader's own words.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Longest text that a library writes: `MPI_MAX_LIBRARY_VERSION_STRING` and `MPI_MAX_ERROR_STRING` are at most 8192.
const LONGEST: usize = 16_384;

/// The text that `write` writes.
fn text(write: impl FnOnce(*mut c_char, *mut c_int) -> c_int) -> Option<String> {
    let (mut text, mut len) = (vec![0u8; LONGEST], 0);
    if write(text.as_mut_ptr().cast(), &mut len) != 0 {
        return None;
    }
    text.truncate(usize::try_from(len).unwrap_or(0));
    Some(String::from_utf8_lossy(&text).trim_end_matches(['\0', '\n']).to_owned())
}

/// `MPICH 5.0.2` of `MPICH Version:      5.0.2\nMPICH Release date: …`, `Open MPI 5.0.11` of `Open MPI v5.0.11, package: …`.
fn short(version: &str) -> String {
    let line = version.lines().next().unwrap_or_default().split(',').next().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "Version:").collect();
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let words = words.iter().map(|word| word.strip_prefix('v').filter(|rest| number(rest)).unwrap_or(word));
    words.collect::<Vec<_>>().join(" ")
}

impl Loaded {
    /// Loads the library at `path`, or by name where it has no folder, without starting MPI.
    ///
    /// # Errors
    /// It cannot be loaded, or is no MPI library: the reason.
    pub fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: runs the initialisers of an MPI library, or of the file that the user named. Local at first: another
        // library that is tried later must not find its symbols.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| reason(&e))?;
        let address = |name: &str| {
            // SAFETY: the address alone is taken.
            unsafe { library.get::<*mut c_void>(name.as_bytes()) }.ok().map(|symbol| symbol.into_raw() as usize)
        };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of MPI 3.1, with handles as this module's head says.
                *unsafe { library.get($name) }
                    .map_err(|_| format!("it is no MPI library: it has no {}", String::from_utf8_lossy($name)))?
            };
        }
        let get_version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int = function!(b"MPI_Get_library_version");
        // SAFETY: the text has room, and the function may be called before MPI starts.
        let version = text(|text, len| unsafe { get_version(text, len) }).ok_or("MPI_Get_library_version failed")?;
        let family = if version.starts_with("Open MPI") { Family::OpenMpi } else { Family::Mpich };
        // Both libraries of MPICH 5 have the function, and only one has its interface.
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let (world, byte, errors_return, serialized) =
            if file.contains("_abi") && address("MPI_Abi_get_version").is_some() {
                // mpi.h of MPI 5.0, appendix A.
                (0x101, 0x247, 0x143, 2048)
            } else if let Some(world) = address("ompi_mpi_comm_world") {
                let missing = "it has no ompi_mpi_byte or ompi_mpi_errors_return";
                let (byte, errors) = (address("ompi_mpi_byte"), address("ompi_mpi_errors_return"));
                (world, byte.ok_or(missing)?, errors.ok_or(missing)?, 2)
            } else if family == Family::Mpich {
                // mpi.h of MPICH, fixed by the MPICH ABI compatibility initiative.
                (0x4400_0000, 0x4c00_010d, 0x5400_0001, 2)
            } else {
                return Err(format!("{} with an interface that is not known", short(&version)));
            };
        Ok(Self {
            family,
            version: short(&version),
            serialized,
            world,
            byte,
            errors_return,
            init_thread: function!(b"MPI_Init_thread"),
            set_errhandler: function!(b"MPI_Comm_set_errhandler"),
            rank: function!(b"MPI_Comm_rank"),
            size: function!(b"MPI_Comm_size"),
            isend: function!(b"MPI_Isend"),
            irecv: function!(b"MPI_Irecv"),
            test: function!(b"MPI_Test"),
            get_count: function!(b"MPI_Get_count"),
            error_string: function!(b"MPI_Error_string"),
            abort: function!(b"MPI_Abort"),
            finalize: function!(b"MPI_Finalize"),
            _library: library,
        })
    }

    /// Makes its symbols visible to what it loads: plug-ins of Open MPI before version 5 look them up. It stays loaded.
    ///
    /// # Errors
    /// The loader's.
    pub fn make_global(&self, path: &Path) -> Result<(), String> {
        // SAFETY: the library is loaded already.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| reason(&e))?;
        // Its threads and handlers run to the end of the process.
        std::mem::forget(library);
        Ok(())
    }

    /// The text of an error code.
    pub fn text_of(&self, code: c_int) -> String {
        // SAFETY: the text has room.
        let text = text(|text, len| unsafe { (self.error_string)(code, text, len) });
        text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| format!("MPI error {code}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_short() {
        let mpich = "MPICH Version:      5.0.2\nMPICH Release date: x\nMPICH ABI:          17:0:5";
        assert_eq!(short(mpich), "MPICH 5.0.2");
        assert_eq!(short("Open MPI v5.0.11, package: Open MPI x@y Distribution, ident: 5.0.11"), "Open MPI 5.0.11");
        assert_eq!(short("Intel(R) MPI Library 2021.10 for Linux* OS\n"), "Intel(R) MPI Library 2021.10 for Linux* OS");
        assert_eq!(short("MVAPICH Version:      4.0"), "MVAPICH 4.0");
        assert_eq!(short(""), "");
    }

    #[test]
    fn what_is_no_mpi_library_says_why() {
        let error = Loaded::load(Path::new("libc.so.6")).unwrap_err();
        assert_eq!(error, "it is no MPI library: it has no MPI_Get_library_version");
        let error = Loaded::load(Path::new("/nowhere/libmpi.so.40")).unwrap_err();
        assert!(error.contains("/nowhere/libmpi.so.40"), "{error}");
    }
}
