//! What a folder of pictures holds beside pictures, counted by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::print::visible;
use crate::run::summary::count;

/// Kinds that are listed; the others are added up.
const LISTED: usize = 6;

/// Files that are not read, counted by kind, and folders. Displayed as `60 files: 40 .heic (…), 20 .txt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    kinds: BTreeMap<String, usize>,
    folders: Vec<String>,
}

impl PassedOver {
    /// Counts a file by its extension.
    pub fn add(&mut self, file: &Path) {
        let kind = match file.extension() {
            Some(extension) => format!(".{}", extension.to_string_lossy().to_lowercase()),
            None => "without extension".into(),
        };
        self.add_kind(&kind);
    }

    /// Counts something of `kind`.
    pub fn add_kind(&mut self, kind: &str) {
        *self.kinds.entry(kind.into()).or_default() += 1;
    }

    /// Notes a folder that is not read.
    pub fn add_folder(&mut self, name: &str) {
        self.folders.push(name.into());
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
        self.folders.extend_from_slice(&other.folders);
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.kinds.values().sum()
    }

    /// Whether nothing was passed over.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.folders.is_empty()
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.kinds.is_empty() {
            parts.push(format!("{}: {}", count(self.files(), "file"), self.listed()));
        }
        if !self.folders.is_empty() {
            let named = self.folders.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if self.folders.len() > LISTED { ", …" } else { "" };
            parts.push(format!("{}: {named}{more}", count(self.folders.len(), "folder")));
        }
        f.write_str(&visible(&parts.join("; ")))
    }
}

impl PassedOver {
    /// The kinds: those with advice first, then the most frequent.
    fn listed(&self) -> String {
        let mut kinds: Vec<(&String, &usize)> = self.kinds.iter().collect();
        kinds.sort_by_key(|&(kind, &count)| (advice(kind).is_none(), std::cmp::Reverse(count), kind));
        let rest: usize = kinds.iter().skip(LISTED).map(|(_, count)| **count).sum();
        let text = |(kind, count): &(&String, &usize)| match advice(kind) {
            Some(advice) => format!("{count} {kind} ({advice})"),
            None => format!("{count} {kind}"),
        };
        let mut parts: Vec<String> = kinds.iter().take(LISTED).map(text).collect();
        if rest > 0 {
            parts.push(format!("{rest} of other kinds"));
        }
        parts.join(", ")
    }
}

/// What to do with files of a kind that hold pictures.
fn advice(kind: &str) -> Option<&'static str> {
    Some(match kind {
        ".heic" | ".heif" => "convert them to JPEG, for example: magick mogrify -format jpg *.heic",
        ".avif" => "convert them to PNG, for example: magick mogrify -format png *.avif",
        ".zip" | ".tar" | ".gz" | ".tgz" | ".rar" | ".7z" => "unpack them",
        _ => return None,
    })
}

/// Whether a file of this name holds pictures that cannot be read: one that is counted wherever it lies.
pub(super) fn holds_pictures(name: &Path) -> bool {
    let extension = name.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "heic" | "heif" | "avif")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_by_kind_with_advice_first() {
        let mut passed = PassedOver::default();
        assert!(passed.is_empty());
        for name in ["a.TXT", "b.txt", "c.txt", "IMG_1.HEIC", "IMG_2.heic", "Makefile"] {
            passed.add(Path::new(name));
        }
        assert_eq!(
            passed.to_string(),
            "6 files: 2 .heic (convert them to JPEG, for example: magick mogrify -format jpg *.heic), 3 .txt, \
             1 without extension"
        );
        let mut one = PassedOver::default();
        one.add(Path::new("x.avif"));
        assert!(one.to_string().starts_with("1 file: 1 .avif (convert them to PNG"), "{one}");
        for i in 0..9 {
            one.add(Path::new(&format!("x.k{i}")));
        }
        one.add_folder("raw/");
        assert!(one.to_string().ends_with("1 .k4, 4 of other kinds; 1 folder: raw/"), "{one}");
    }
}
