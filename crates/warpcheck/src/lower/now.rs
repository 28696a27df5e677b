//! The instruction being lowered.

use super::{
    Error, FunctionState, Result, Ty,
    flatten::{Flat, Opnd},
};

/// An instruction being lowered.
pub(crate) struct Now<'c, 'a> {
    pub(crate) f: &'c FunctionState<'a>,
    pub(crate) flat: &'c Flat<'a>,
}

impl<'c, 'a> Now<'c, 'a> {
    pub(crate) fn op(&self, k: usize) -> Result<&'c Opnd<'a>> {
        self.flat.operands.get(k).ok_or_else(|| self.error("an operand is missing"))
    }

    pub(crate) fn count(&self) -> usize {
        self.flat.operands.len()
    }

    pub(crate) fn has(&self, modifier: &str) -> bool {
        self.flat.instr.mods.contains(&modifier)
    }

    pub(crate) fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::new(self.flat.instr.line, format!("`{}`: {what}", self.flat.instr.full()))
    }

    /// All types among the modifiers, in order.
    pub(crate) fn types(&self) -> impl Iterator<Item = Ty> + 'c {
        self.flat.instr.mods.iter().filter_map(|m| Ty::parse(m))
    }

    pub(crate) fn ty(&self) -> Result<Ty> {
        self.types().last().ok_or_else(|| self.error("there is no type"))
    }

    pub(crate) fn unsupported(&self) -> Error {
        self.lacking("this form is not supported")
    }

    /// An error about what CUDA has and this driver has not.
    pub(crate) fn lacking(&self, what: impl std::fmt::Display) -> Error {
        Error { unsupported: true, ..self.error(what) }
    }

    /// An error if the target lacks the instruction.
    pub(crate) fn needs(&self, sm: u32, have: u32) -> Result<()> {
        if have < sm {
            let mut e = self.error(format!("needs sm_{sm} or newer, the target is sm_{have}"));
            e.unsupported_target = true;
            return Err(e);
        }
        Ok(())
    }
}
