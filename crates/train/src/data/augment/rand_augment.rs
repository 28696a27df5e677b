//! Number and magnitude of RandAugment's operations, which [`alexnet_core::reference::rand_augment()`] defines.

use serde::{Deserialize, Serialize};

use crate::data::error::{DataError, Result};

/// Number and magnitude of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    /// Operations per image, N.
    pub operations: u32,
    /// Magnitude M, of 30.
    pub magnitude: u32,
}

impl std::str::FromStr for RandAugment {
    type Err = DataError;

    /// `N,M`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(',').map(|(n, m)| (n.trim().parse(), m.trim().parse()));
        match numbers {
            Some((Ok(operations @ 1..=14), Ok(magnitude @ 0..=30))) => Ok(RandAugment { operations, magnitude }),
            _ => Err(DataError::Setting {
                what: "RandAugment",
                value: format!("`{text}`"),
                expected: "N,M with N from 1 to 14 and M from 0 to 30, such as 2,9",
            }),
        }
    }
}

impl std::fmt::Display for RandAugment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.operations, self.magnitude)
    }
}

impl TryFrom<String> for RandAugment {
    type Error = DataError;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RandAugment> for String {
    fn from(value: RandAugment) -> Self {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::random::{Philox, purpose};
    use alexnet_core::reference::{self, Operation};
    use alexnet_core::shape::RandAugmentStrengths;

    use super::*;
    use crate::data::augment::{MEAN, STD, TransformConfig};

    const SIDE: usize = 10;

    fn picture() -> Vec<u8> {
        let value = |x: usize, y: usize, c: usize| (x * 11 + y * 7 * (c + 1) + (x * y * 37 + c * 91) % 60) % 230 + 10;
        (0..SIDE * SIDE * 3).map(|i| value(i / 3 % SIDE, i / 3 / SIDE, i % 3) as u8).collect()
    }

    /// Whether rounding in f32 may choose another pixel: torchvision computes places so.
    fn is_near_a_tie(operation: Operation, magnitude: u32, negative: bool, i: usize) -> bool {
        let m = RandAugmentStrengths::new(magnitude, negative, SIDE).shear;
        let (x, y) = ((i / 3 % SIDE) as f64, (i / 3 / SIDE) as f64);
        let places = match operation {
            Operation::ShearX => [x + m * (y + 0.5), y],
            Operation::ShearY => [x, y + m * (x + 0.5)],
            _ => return false,
        };
        // Places are below 16 and of four roundings.
        places.iter().any(|at| ((at - at.floor()) - 0.5).abs() < 64.0 * f64::from(f32::EPSILON))
    }

    #[test]
    fn as_torchvision() {
        let fixture = include_str!("../../../tests/data/rand_augment.txt");
        let (mut cases, mut ties) = (0, 0);
        for line in fixture.lines() {
            let [name, magnitude, sign, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let operation = *Operation::ALL.iter().find(|operation| format!("{operation:?}") == name).unwrap();
            let (magnitude, negative) = (magnitude.parse().unwrap(), sign == "-1");
            let mut out = vec![0; SIDE * SIDE * 3];
            operation.apply(magnitude, negative, SIDE, &picture(), &mut out);
            for (i, found) in out.iter().enumerate() {
                let expected = u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap();
                let tie = is_near_a_tie(operation, magnitude, negative, i);
                ties += usize::from(tie);
                assert!(tie || *found == expected, "{name} {magnitude} {sign} at {i}: {found} for {expected}");
            }
            cases += 1;
        }
        assert_eq!(cases, 9 * 6 + 2 * 3 + 3);
        // Whole rows of them at a few magnitudes; nearly all places are compared.
        assert!(ties < cases * out_of_a_hundred(4), "{ties}");
    }

    fn out_of_a_hundred(percent: usize) -> usize {
        SIDE * SIDE * 3 * percent / 100
    }

    #[test]
    fn flat_and_tiny_images_are_no_trouble() {
        for size in [1, 2, 3] {
            for value in [0, 7, 255] {
                let image = vec![value; size * size * 3];
                for operation in Operation::ALL {
                    let mut out = vec![1; image.len()];
                    operation.apply(30, true, size, &image, &mut out);
                    if matches!(operation, Operation::AutoContrast | Operation::Equalize | Operation::Sharpness) {
                        assert_eq!(out, image, "{operation:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn draws_are_the_documented_words() {
        let philox = Philox::new(5);
        for index in 0..50 {
            let mut expected = picture();
            for j in 0..2u64 {
                let w = philox.block(purpose::RAND_AUGMENT, 3, index + (j << 32));
                let operation = Operation::ALL[((u64::from(w[0]) * 14) >> 32) as usize];
                let mut out = vec![0; expected.len()];
                operation.apply(9, w[1] >= 1 << 31, SIDE, &expected, &mut out);
                expected = out;
            }
            let (mut image, mut spare) = (picture(), Vec::new());
            let rand_augment = Some(RandAugment { operations: 2, magnitude: 9 });
            let transforms = TransformConfig { rand_augment, ..TransformConfig::NONE };
            let shape = transforms.shape(philox, 3, SIDE, 1, [MEAN, STD]);
            reference::rand_augment(&shape, index, &mut image, &mut spare);
            assert_eq!(image, expected);
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["2,9", "1,0", "14,30"] {
            assert_eq!(text.parse::<RandAugment>().unwrap().to_string(), text);
        }
        for text in ["", "2", "0,9", "15,9", "2,31", "2,9,1", "a,b"] {
            let error = text.parse::<RandAugment>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("RandAugment is `{text}`, expected N,M with")), "{error}");
        }
    }
}
