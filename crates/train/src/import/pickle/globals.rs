//! Functions and classes that a pickle refers to: known, unknown, and refused.
//!
//! Nothing is ever called, so that a class that nobody knows does no harm: what it would make is opaque. A pickle that
//! refers to a function for running code or programs, or for reaching files or the network, was written to do harm: it is
//! refused whole, and the function is named. The list is that of scanners of pickles, and wider than the modules that
//! `torch.load(weights_only=True)` never allows (sys, os, posix, nt).

use super::value::{ElementType, Error, Known};

/// Modules, with all that is in them.
const REFUSED: &str = "\
    asyncio bdb cProfile code codeop commands ctypes dill doctest ensurepip fileinput ftplib http httplib idlelib \
    importlib imp joblib linecache marshal multiprocessing nt os pdb pickle _pickle cPickle cloudpickle pip pkgutil \
    popen2 posix profile pty pydoc requests runpy shelve shutil site smtplib socket ssl subprocess sys tempfile \
    timeit trace urllib urllib2 venv webbrowser zipimport";
/// Modules that no attribute may lead to, as in `torch.serialization` with `os.system`.
const REFUSED_WITHIN: &str = "os posix nt sys subprocess builtins __builtins__ ctypes importlib";
/// Functions of modules that are harmless otherwise.
const REFUSED_FUNCTIONS: &str = "\
    numpy.load numpy.save numpy.fromfile numpy.testing._private.utils.runstring operator.attrgetter \
    operator.methodcaller io.open _io.open types.CodeType types.FunctionType threading.Thread torch.load torch.save \
    torch.compile torch.jit.load torch.jit.script torch.serialization.load torch.utils._config_module.load_config \
    torch.storage._load_from_bytes";
/// Modules of PyTorch that load, build or run.
const REFUSED_TORCH: &str =
    "torch.hub. torch.package. torch.utils.cpp_extension. torch._inductor. torch.fx. torch.multiprocessing.";
/// All of Python's own functions but these types and harmless functions.
const BUILTINS: &str = "\
    Ellipsis NotImplemented bool bytearray bytes classmethod complex dict enumerate filter float frozenset getattr \
    int list long map object property range reversed set slice staticmethod str tuple type unicode xrange zip abs \
    len max min round sorted sum print";

fn has(list: &str, word: &str) -> bool {
    list.split(' ').any(|own| own == word)
}

/// The function or class `name` of `module`.
///
/// # Errors
/// It is refused.
pub(super) fn known(module: &str, name: &str) -> Result<Known, Error> {
    let path = format!("{module}.{name}");
    let (package, within) = module.split_once('.').unwrap_or((module, ""));
    let mut inner = within.split('.').chain(name.split('.').rev().skip(1));
    let refused = match package {
        "builtins" | "__builtin__" | "__builtins__" => {
            let harmless =
                has(BUILTINS, name) || ["Error", "Exception", "Warning"].iter().any(|end| name.ends_with(end));
            !harmless
        }
        _ => has(REFUSED, package),
    };
    if refused
        || inner.any(|part| has(REFUSED_WITHIN, part))
        || has(REFUSED_FUNCTIONS, &path)
        || REFUSED_TORCH.split(' ').any(|start| path.starts_with(start))
    {
        return Err(Error::Global(path));
    }
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Known::OrderedDict,
        ("collections", "defaultdict") => Known::DefaultDict,
        ("_codecs", "encode") => Known::Encode,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("torch.autograd.variable", "Variable") => Known::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Known::RebuildFromType,
        ("torch" | "torch.cuda" | "torch.storage", _) => {
            ElementType::of_storage(name).map_or_else(|| Known::Other(path.into()), Known::Storage)
        }
        _ => Known::Other(path.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_refused_and_what_is_unknown_is_not() {
        let paths = "os.system posix.system nt.system subprocess.Popen builtins.eval __builtin__.eval builtins.exec \
                  builtins.open builtins.__import__ builtins.setattr sys.exit runpy._run_code \
                  importlib.import_module socket.socket torch.load torch.hub.load torch.jit.load pickle.loads \
                  webbrowser.open ctypes.CDLL shutil.rmtree urllib.request.urlopen asyncio.run io.open \
                  commands.getoutput torch.utils.cpp_extension.load";
        for path in paths.split(' ') {
            let (module, name) = path.rsplit_once('.').unwrap();
            assert_eq!(known(module, name), Err(Error::Global(path.into())), "{path}");
        }
        assert_eq!(
            known("torch.serialization", "os.system"),
            Err(Error::Global("torch.serialization.os.system".into()))
        );
        let paths = "argparse.Namespace types.SimpleNamespace collections.Counter numpy.dtype \
                  numpy._core.multiarray.scalar pathlib.PosixPath datetime.datetime torch.Size torch.device \
                  torch.float32 functools.partial __main__.Net builtins.set builtins.getattr enum.Enum \
                  torch.optim.lr_scheduler.StepLR __builtin__.list";
        for path in paths.split(' ') {
            let (module, name) = path.rsplit_once('.').unwrap();
            assert_eq!(known(module, name), Ok(Known::Other(path.into())), "{path}");
        }
    }
}
