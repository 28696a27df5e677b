//! Pictures that cannot be decoded and are left out (`--skip-broken`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::DataError;

/// The broken pictures found so far, with the reasons. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct BrokenPictures(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl BrokenPictures {
    /// Notes the picture that `error` is about. Gives the error back if it is not about a single picture: a network
    /// drive that is gone does not make all its pictures broken.
    ///
    /// # Errors
    /// `error`.
    pub fn add(&self, error: DataError) -> Result<(), DataError> {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        let (path, reason) = match error {
            DataError::Decode { path, reason } => (path, reason),
            DataError::Io(error) if matches!(error.source.kind(), NotFound | PermissionDenied) => {
                (error.path.clone(), error.source.to_string())
            }
            error => return Err(error),
        };
        self.list().insert(path, reason);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One line per picture, by path: the path, a tab, the reason.
    pub fn lines(&self) -> Vec<String> {
        let one_line = |text: &str| text.replace(['\n', '\t'], " ");
        self.list()
            .iter()
            .map(|(path, reason)| format!("{}\t{}", one_line(&path.to_string_lossy()), one_line(reason)))
            .collect()
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<PathBuf, String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
