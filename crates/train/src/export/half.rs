//! Weights in half precision: IEEE 754 binary16, rounded to nearest even.

use half::f16;

use super::{Error, Tensor};

/// The tensors as little-endian f16.
///
/// # Errors
/// [`Error::Overflow`]: a finite value beyond f16's largest, 65,504.
pub fn round(tensors: Vec<Tensor<'_>>) -> Result<Vec<Tensor<'_>>, Error> {
    tensors
        .into_iter()
        .map(|Tensor { name, shape, bytes }| {
            let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            let mut halves = Vec::with_capacity(bytes.len() / 2);
            for value in values {
                let half = f16::from_f32(value);
                if half.is_infinite() && value.is_finite() {
                    return Err(Error::Overflow { tensor: name, value });
                }
                halves.extend(half.to_le_bytes());
            }
            Ok(Tensor { name, shape, bytes: halves.into() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor { name: "a.weight".into(), shape: vec![values.len()], bytes: bytes.into() }
    }

    #[test]
    fn rounds_to_nearest_and_names_what_does_not_fit() {
        // 65,519 is the last below the middle between 65,504 and 65,536.
        let values =
            [0.0, -0.0, 1.0, 0.1, 65504.0, -65519.0, 6e-8, 1e-9, 1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11)];
        let rounded = round(vec![tensor(&values)]).unwrap().remove(0);
        assert_eq!(rounded.shape, [10]);
        let found: Vec<f32> = rounded.bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        let smallest = 2f32.powi(-24);
        assert_eq!(found, [0.0, -0.0, 1.0, 0.099_975_586, 65504.0, -65504.0, smallest, 0.0, 1.0, 1.0 + 2f32.powi(-9)]);
        for large in [65520.0, -1e9, f32::MAX] {
            let error = round(vec![tensor(&[1.0]), tensor(&[0.5, large])]).unwrap_err().to_string();
            assert!(error.contains("a.weight") && error.contains("65504"), "{error}");
        }
    }
}
