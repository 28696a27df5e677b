//! Which dict of a PyTorch file holds the weights.
//!
//! Any dict may: the file's value itself, or one inside of it, of whatever name, whose tensors have the names of an
//! AlexNet. If several do, the first of this order is taken: the value itself, the usual keys (`state_dict`,
//! `model_state_dict`, `model`, `net` …), others in the order of the file, and last averages (`state_dict_ema`, `model_ema`, `ema` …).

use std::collections::HashSet;
use std::rc::Rc;

use super::names::{groups, is_average, without_first};
use super::pickle::{Pickle, Tensor, Value};

/// Deepest dict that is looked at.
const DEEPEST: usize = 8;
/// Keys of weights in training scripts, the most usual first.
const USUAL: [&str; 8] =
    ["state_dict", "model_state_dict", "model", "net", "weights", "model_state", "network", "module"];

/// A weight, or what cannot be one.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A tensor.
    Tensor(Rc<Tensor>),
    /// Something made by a function or class that is not known, by its name.
    Opaque(Rc<str>),
}

impl Entry {
    pub fn tensor(&self) -> Option<&Rc<Tensor>> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }
}

/// Weights of one network in the file.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The keys that lead to it and the prefix of its names, with dots; empty for the file's value itself.
    pub label: String,
    /// torchvision's names, then the dict's other tensors under their own.
    pub entries: Vec<(String, Entry)>,
    /// Number of entries with torchvision's names.
    named: usize,
    rank: (bool, usize),
}

/// The weights of a file, and others in it that fit too; `key` is the label of those to take.
///
/// # Errors
/// What the file holds in place of weights.
pub(super) fn choose(pickle: &Pickle, key: Option<&str>) -> Result<(Candidate, Vec<Candidate>), String> {
    let mut search = Search { pickle, seen: HashSet::new(), found: Vec::new(), largest: None };
    search.look(&pickle.root, "", 0);
    let Search { mut found, largest, .. } = search;
    // Stable: otherwise in the order of the file.
    found.sort_by_key(|candidate| candidate.rank);
    if let Some(key) = key {
        let labels = found.iter().map(|candidate| format!("`{}`", candidate.label)).collect::<Vec<_>>().join(", ");
        let index = found.iter().position(|candidate| candidate.label == key);
        let index =
            index.ok_or_else(|| format!("no `{key}` in it has the names of an AlexNet; these have: {labels}"))?;
        return Ok((found.swap_remove(index), Vec::new()));
    }
    if found.is_empty() {
        return Err(instead(pickle, largest));
    }
    let chosen = found.remove(0);
    let shapes = |candidate: &Candidate| {
        let named = &candidate.entries[..candidate.named];
        let mut shapes: Vec<_> =
            named.iter().filter_map(|(name, entry)| Some((name.clone(), entry.tensor()?.shape.clone()))).collect();
        shapes.sort();
        shapes
    };
    let own = shapes(&chosen);
    found.retain(|candidate| shapes(candidate) == own);
    Ok((chosen, found))
}

struct Search<'a> {
    pickle: &'a Pickle,
    /// Dicts, lists and tuples that were visited: one may hold itself.
    seen: HashSet<(u8, usize)>,
    found: Vec<Candidate>,
    /// The dict with the most tensors, with its label.
    largest: Option<(String, Vec<Rc<str>>)>,
}

impl Search<'_> {
    fn look(&mut self, value: &Value, label: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let within = |key: &str| if label.is_empty() { key.to_owned() } else { format!("{label}.{key}") };
        match value {
            Value::Dict(dict) if self.seen.insert((0, *dict)) => {
                self.tensors(*dict, label);
                for (key, value) in &self.pickle.dicts[*dict] {
                    self.look(value, &within(key), depth + 1);
                }
            }
            Value::List(list) if self.seen.insert((1, *list)) => {
                for (index, value) in self.pickle.lists[*list].iter().enumerate() {
                    self.look(value, &within(&index.to_string()), depth + 1);
                }
            }
            Value::Tuple(values, _) if self.seen.insert((2, Rc::as_ptr(values) as usize)) => {
                for (index, value) in values.iter().enumerate() {
                    self.look(value, &within(&index.to_string()), depth + 1);
                }
            }
            _ => (),
        }
    }

    /// Adds the networks among the tensors of a dict.
    fn tensors(&mut self, dict: usize, label: &str) {
        let entry = |value: &Value| match value {
            Value::Tensor(tensor) => Some(Entry::Tensor(Rc::clone(tensor))),
            Value::Object(object) => Some(Entry::Opaque(Rc::clone(&self.pickle.objects[*object].global))),
            _ => None,
        };
        // Of two values of a key the last counts, as in Python.
        let (mut seen, mut entries) = (HashSet::new(), Vec::new());
        for (key, value) in self.pickle.dicts[dict].iter().rev() {
            if seen.insert(key)
                && let Some(entry) = entry(value)
            {
                entries.push((Rc::clone(key), entry));
            }
        }
        entries.reverse();
        let tensors: Vec<_> =
            entries.iter().filter(|(_, e)| e.tensor().is_some()).map(|(key, _)| Rc::clone(key)).collect();
        if !tensors.is_empty() && self.largest.as_ref().is_none_or(|(_, largest)| tensors.len() > largest.len()) {
            self.largest = Some((label.to_owned(), tensors));
        }
        let names: Vec<&str> = entries.iter().map(|(key, _)| &**key).collect();
        for group in groups(&names) {
            let label =
                [label, &group.prefix].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
            let named = group.names.len();
            // An opaque value counts only where a weight should be.
            let is_kept =
                |(place, (_, index)): &(usize, (String, usize))| *place < named || entries[*index].1.tensor().is_some();
            let own = group.and_others(&names).into_iter().enumerate().filter(is_kept);
            let own = own.map(|(_, (name, index))| (name, entries[index].1.clone())).collect();
            let usual = label.split('.').next().and_then(|key| USUAL.iter().position(|usual| *usual == key));
            let place = if label.is_empty() { 0 } else { usual.map_or(USUAL.len() + 1, |place| place + 1) };
            let rank = (is_average(&label), place);
            self.found.push(Candidate { label, entries: own, named, rank });
        }
    }
}

/// What a file without an AlexNet's weights holds.
fn instead(pickle: &Pickle, largest: Option<(String, Vec<Rc<str>>)>) -> String {
    if let Some((label, names)) = largest {
        let place = if label.is_empty() { String::new() } else { format!(" in `{label}`") };
        return without_first(&names, &place);
    }
    match &pickle.root {
        Value::Object(object) => {
            format!("it holds an object of `{}`: a whole model, not its weights", pickle.objects[*object].global)
        }
        Value::Dict(_) => "it has no tensors".into(),
        Value::Tensor(_) => "it holds a single tensor".into(),
        _ => "its value is no dict".into(),
    }
}
