//! Names of tensors without what wrappers put into them.

use std::collections::{BTreeSet, HashMap};

use crate::print::visible;
use crate::run::summary;

/// What wrappers call the module inside: `DataParallel`, `torch.compile`, FSDP, Lightning, and classes of scripts.
const WRAPPERS: [&str; 14] = [
    "module",
    "_orig_mod",
    "model",
    "_model",
    "net",
    "network",
    "backbone",
    "base_model",
    "encoder",
    "alexnet",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "trunk",
];
/// Most networks in a dict; a file may name many.
const MOST: usize = 8;
/// The first tensor of every variant.
pub(super) const FIRST: &str = "features.0.weight";

/// Tensors of one network among the names of a dict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// What precedes the names in the file, without the last dot.
    pub prefix: String,
    /// torchvision's name, and the place in the list of names.
    pub names: Vec<(String, usize)>,
}

impl Group {
    /// The group's names, then the others of the list under their own, except those that a tensor of the group has.
    pub fn and_others(self, all: &[&str]) -> Vec<(String, usize)> {
        let taken: BTreeSet<usize> = self.names.iter().map(|&(_, index)| index).collect();
        let named: BTreeSet<String> = self.names.iter().map(|(name, _)| name.clone()).collect();
        let others = (0..all.len()).filter(|index| !taken.contains(index) && !named.contains(all[*index]));
        self.names.into_iter().chain(others.map(|index| (all[index].to_owned(), index))).collect()
    }
}

/// The first `most` names, quoted: `` `a`, `b` … ``.
pub(super) fn quoted<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let some =
        names.iter().take(most).map(|name| format!("`{}`", visible(name.as_ref()))).collect::<Vec<_>>().join(", ");
    if names.len() > most { some + " …" } else { some }
}

/// That the first tensor is missing, and which there are; `place` says where.
pub(super) fn without_first<T: AsRef<str>>(names: &[T], place: &str) -> String {
    let count = summary::count(names.len(), "tensor");
    format!("it has no tensor {FIRST}; it has {count}{place}: {}", quoted(names, 4))
}

/// torchvision's name of a tensor, and what precedes it; `None` for any other.
///
/// A wrapper's name may come before it or inside of it: `module.features.0.weight`, `features.module.0.weight`.
fn split(name: &str) -> Option<(&str, String)> {
    // What follows takes the square of the length.
    if name.len() > 1024 {
        return None;
    }
    let mut start = 0;
    loop {
        let rest = &name[start..];
        let mut parts = rest.split('.');
        if let Some(part @ ("features" | "classifier")) = parts.next() {
            let kept: Vec<&str> = parts.filter(|part| !WRAPPERS.contains(part)).collect();
            if kept.len() >= 2 && kept[0].bytes().all(|byte| byte.is_ascii_digit()) {
                return Some((name[..start].trim_end_matches('.'), format!("{part}.{}", kept.join("."))));
            }
        }
        start += rest.find('.')? + 1;
    }
}

/// The networks whose names are among these, the most likely first: one without a prefix, then by the order of the
/// file, and averages and teachers last.
pub(super) fn groups(names: &[&str]) -> Vec<Group> {
    let split: Vec<_> = names.iter().map(|name| split(name)).collect();
    // Wrappers around parts of one network: `backbone.features.0.weight` beside `classifier.1.weight`.
    let bare = |prefix: &str| prefix.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
    let merged = collect(&split, &bare);
    let unique =
        |group: &Group| group.names.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == group.names.len();
    let mut groups: Vec<Group> = match merged.iter().all(unique) {
        true => merged,
        false => collect(&split, &str::to_owned),
    };
    groups.retain(|group| group.names.iter().any(|(name, _)| name == FIRST));
    groups.sort_by_key(|group| (is_average(&group.prefix), !group.prefix.is_empty()));
    groups.truncate(MOST);
    groups
}

fn collect(split: &[Option<(&str, String)>], key: &dyn Fn(&str) -> String) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, (prefix, name)) in split.iter().enumerate().filter_map(|(index, split)| Some((index, split.as_ref()?)))
    {
        let place = *places.entry(key(prefix)).or_insert_with(|| {
            groups.push(Group { prefix: (*prefix).to_owned(), names: Vec::new() });
            groups.len() - 1
        });
        groups[place].names.push((name.clone(), index));
    }
    groups
}

/// Whether a name is that of a weight of a layer, and of no batch norm's counter.
pub(super) fn is_weight(name: &str) -> bool {
    matches!(split(name), Some(("", own)) if own == name) && !name.ends_with(".num_batches_tracked")
}

/// Whether a key is that of an average of the weights, or of anything else that is taken only if there is nothing more
/// likely.
pub(super) fn is_average(key: &str) -> bool {
    key.split(['.', '_', '-']).any(|word| {
        let word = word.to_ascii_lowercase();
        matches!(
            word.as_str(),
            "ema"
                | "swa"
                | "avg"
                | "average"
                | "averaged"
                | "teacher"
                | "momentum"
                | "shadow"
                | "key"
                | "grad"
                | "grads"
                | "gradient"
                | "gradients"
                | "optim"
                | "optimizer"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<(String, Vec<String>)> {
        let plain = |group: Group| (group.prefix, group.names.into_iter().map(|(name, _)| name).collect());
        groups(names).into_iter().map(plain).collect()
    }

    #[test]
    fn wrappers_inside_and_outside_are_left_out() {
        let own = vec!["features.0.weight".to_owned(), "classifier.6.bias".to_owned()];
        for (first, last, prefix) in [
            ("features.0.weight", "classifier.6.bias", ""),
            ("module.features.0.weight", "module.classifier.6.bias", "module"),
            ("features.module.0.weight", "classifier.6.bias", ""),
            ("module._orig_mod.features.0.weight", "module._orig_mod.classifier.6.bias", "module._orig_mod"),
            ("model.features._orig_mod.module.0.weight", "model.classifier.6.bias", "model"),
            ("net.module.features.0.module.weight", "net.module.classifier.6.bias", "net.module"),
            ("backbone.features.0.weight", "classifier.6.bias", "backbone"),
            ("1.features.0.weight", "1.classifier.6.bias", "1"),
            ("student.features.0.weight", "student.classifier.6.bias", "student"),
            ("features.features.0.weight", "features.classifier.6.bias", "features"),
        ] {
            assert_eq!(found(&[first, last]), [(prefix.to_owned(), own.clone())], "{first}");
        }
    }

    #[test]
    fn one_of_several_networks_comes_first() {
        let prefixes = |names: &[&str]| found(names).into_iter().map(|(prefix, _)| prefix).collect::<Vec<_>>();
        assert_eq!(prefixes(&["ema.features.0.weight", "model.features.0.weight"]), ["model", "ema"]);
        assert_eq!(prefixes(&["ema.features.0.weight", "features.0.weight", "momentum.features.0.weight"])[0], "");
        assert_eq!(prefixes(&["model.features.0.weight", "net.features.0.weight"]), ["model", "net"]);
        assert_eq!(prefixes(&["conv1.weight", "features.weight", "features.x.weight"]), [""; 0]);
    }
}
