//! Errors that every device can report, and the checks that find them.

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operator was given something that its shape does not allow, or memory ran out.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An array is shorter than the operator's shape needs.
    #[error("{operator}: {argument} has {found} elements, expected {expected}")]
    Length {
        /// Name of the operator.
        operator: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// Length found.
        found: usize,
        /// Length expected from the shape.
        expected: usize,
    },
    /// A label is not a class.
    #[error("label {label} of image {image} in the batch is not one of {classes} classes")]
    Label {
        /// The label.
        label: u32,
        /// Position in the batch.
        image: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The device has too little memory.
    #[error("out of memory: {needed} bytes needed for {purpose}")]
    OutOfMemory {
        /// Bytes asked for.
        needed: u64,
        /// What for, and how much is free where the device knows it.
        purpose: String,
    },
}

/// Checks that an argument has at least `expected` elements.
///
/// # Errors
/// [`Error::Length`].
pub fn expect_len(operator: &'static str, argument: &'static str, found: usize, expected: usize) -> Result<()> {
    if found < expected { Err(Error::Length { operator, argument, found, expected }) } else { Ok(()) }
}

/// The first `len` elements of an argument.
///
/// # Errors
/// [`Error::Length`] if there are fewer.
pub fn front<'a, T>(operator: &'static str, argument: &'static str, x: &'a [T], len: usize) -> Result<&'a [T]> {
    expect_len(operator, argument, x.len(), len)?;
    Ok(&x[..len])
}

/// As [`front`], mutable.
///
/// # Errors
/// [`Error::Length`] if there are fewer.
pub fn front_mut<'a, T>(
    operator: &'static str,
    argument: &'static str,
    x: &'a mut [T],
    len: usize,
) -> Result<&'a mut [T]> {
    expect_len(operator, argument, x.len(), len)?;
    Ok(&mut x[..len])
}

/// Checks that every label is below `classes`.
///
/// # Errors
/// [`Error::Label`] for the first that is not.
pub fn expect_labels(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(image) => Err(Error::Label { label: labels[image], image, classes }),
        None => Ok(()),
    }
}
