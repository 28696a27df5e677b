use super::*;
use alexnet_core::random::purpose;
use alexnet_core::reference::{jitter_factors, sample, transform};
use proptest::prelude::*;

const ALL: TransformConfig =
    TransformConfig { padding: 4, flip: true, jitter: 0.5, cutout: 16, ..TransformConfig::NONE };

fn draw(philox: &Philox, epoch: u32, index: u64, side: usize, transforms: &TransformConfig) -> SampledTransform {
    sample(&transforms.shape(*philox, epoch, side, 1, [MEAN, STD]), index)
}

#[test]
fn draws_are_the_documented_words() {
    let (philox, index) = (Philox::new(42), (1 << 33) | 7);
    let [word, colour, centre] =
        [purpose::AUGMENT, purpose::JITTER, purpose::CUTOUT].map(|purpose| philox.block(purpose, 3, index));
    let below = |word: u32, n: u64| ((u64::from(word) * n) >> 32) as i32;
    let expected = SampledTransform {
        right: below(word[0], 9) - 4,
        down: below(word[1], 9) - 4,
        flip: word[2] >= 1 << 31,
        jitter: Some([0, 1, 2].map(|i| 0.5 + (colour[i] >> 8) as f32 / (1 << 24) as f32)),
        cutout: Some([below(centre[0], 32) - 8, below(centre[1], 32) - 8, 16]),
    };
    assert_eq!(draw(&philox, 3, index, 32, &ALL), expected);
    assert_eq!(draw(&philox, 3, index, 32, &TransformConfig::NONE), SampledTransform::default());
    // Switching one off does not change the random numbers of the others.
    let some = TransformConfig { flip: false, jitter: 0.0, ..ALL };
    assert_eq!(draw(&philox, 3, index, 32, &some), SampledTransform { flip: false, jitter: None, ..expected });
}

#[test]
fn draws_are_uniform() {
    let philox = Philox::new(1);
    let (mut shifts, mut centres, mut flips, n) = ([[0i32; 9]; 2], [[0i32; 9]; 2], 0, 9000);
    for index in 0..n {
        let draw = draw(&philox, 0, index, 9, &ALL);
        shifts[0][(draw.right + 4) as usize] += 1;
        shifts[1][(draw.down + 4) as usize] += 1;
        let [left, top, _] = draw.cutout.unwrap();
        centres[0][(left + 8) as usize] += 1;
        centres[1][(top + 8) as usize] += 1;
        flips += i32::from(draw.flip);
    }
    // Five standard deviations of a binomial.
    let five = |p: f64| (5.0 * (n as f64 * p * (1.0 - p)).sqrt()) as i32;
    for counts in [shifts, centres] {
        assert!(counts.as_flattened().iter().all(|count| (count - 1000).abs() < five(1.0 / 9.0)), "{counts:?}");
    }
    assert!((flips - 4500).abs() < five(0.5), "{flips}");
}

#[test]
fn normalised_as_torchvision() {
    // torchvision: ToTensor, then Normalize, on the bytes 0, 128, 255, as hexadecimal of the f32 bits.
    let table = Normalize::default();
    for (c, mean, std) in [(0, 0.4914, 0.2023), (1, 0.4822, 0.1994), (2, 0.4465, 0.2010)] {
        for value in [0u8, 1, 128, 255] {
            let exact = (f64::from(value) / 255.0 - mean) / std;
            assert!((f64::from(table.table()[c][usize::from(value)]) - exact).abs() < 1e-6);
        }
    }
}

#[test]
fn words_round_trip() {
    for text in ["none", "crop", "flip", "crop,flip", "cutout", "crop,flip,cutout"] {
        assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
    }
    assert_eq!("flip, crop".parse::<Augment>().unwrap(), Augment::DEFAULT);
    let error = "crop,flop".parse::<Augment>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "augmentation is `crop,flop`, expected none, or some of crop,resized-crop,flip,cutout"
    );
}

#[test]
fn jittered_where_it_was_put() {
    // A pixel of one colour everywhere is its own contrast's mean but for the black border.
    let size = 4;
    let pixels = [200u8, 100, 50].repeat(size * size);
    let draw = SampledTransform {
        right: 1,
        flip: true,
        jitter: Some([1.0, 0.0, 1.0]),
        cutout: Some([3, -1, 2]),
        ..SampledTransform::default()
    };
    let mut out = vec![f32::NAN; pixels.len()];
    Normalize::default().apply(&pixels, size, &draw, &mut out);
    // All grey at three quarters of the pixel's.
    let grey = (0.2989 * 200.0 + 0.587 * 100.0 + 0.114 * 50.0) / 255.0 * 0.75;
    for (i, pixel) in out.chunks(3).enumerate() {
        for c in 0..3 {
            let expected = if i == 3 { 0.0 } else { (grey - MEAN[c]) / STD[c] };
            assert!((pixel[c] - expected).abs() < 1e-5, "{i} {c}: {} for {expected}", pixel[c]);
        }
    }
}

proptest! {
    #[test]
    fn applied_as_defined(
        size in 1usize..40, right: i32, down: i32, flip: bool, seed in 0u8..255, square: Option<(i32, i32, u8)>,
        colour: Option<[u32; 4]>,
    ) {
        let pixels: Vec<u8> = (0..size * size * 3).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed)).collect();
        // Including shifts beyond the image.
        let most = size as i32 + 2;
        let cutout = square.map(|(x, y, side)| {
            let side = i32::from(side % 50) + 1;
            let first = |centre: i32| centre.rem_euclid(size as i32) - side / 2;
            [first(x), first(y), side]
        });
        let jitter = colour.map(|words| jitter_factors(words, 0.7));
        let draw = SampledTransform { right: right % most, down: down % most, flip, cutout, jitter };
        let mut out = vec![f32::NAN; pixels.len()];
        Normalize::default().apply(&pixels, size, &draw, &mut out);
        let mut defined = out.clone();
        transform(&pixels, size, &draw, [MEAN, STD], &mut defined);
        prop_assert_eq!(out, defined);
    }
}
