//! Shapes of operators. Letters as in cuDNN's papers: N images, C channels, H×W pixels in; K filters
//! with an R×S window; P×Q pixels out. Activations lie in memory as NHWC, weights as in PyTorch.

/// Output side of a window that slides over `input` pixels, `None` if it does not fit.
///
/// ⌊(input + 2·padding − kernel) / stride⌋ + 1, as PyTorch computes it (`ceil_mode=False`).
pub const fn output_side(input: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    match (input + 2 * padding).checked_sub(kernel) {
        Some(room) if input > 0 && kernel > 0 && stride > 0 => Some(room / stride + 1),
        _ => None,
    }
}

const fn output_side_or_zero(input: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    match output_side(input, kernel, stride, padding) {
        Some(side) => side,
        None => 0,
    }
}

/// Convolution: x (N, H, W, C) with w (K, C/groups, R, R) gives y (N, P, Q, K).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C; a multiple of `groups`.
    pub channels: usize,
    /// K; a multiple of `groups`.
    pub filters: usize,
    /// R = S, the side of the window.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Filter k sees the channels of group ⌊k·groups/K⌋ only.
    pub groups: usize,
}

impl ConvShape {
    /// P, the output's height. The window must fit (see [`output_side`]).
    pub const fn output_height(&self) -> usize {
        output_side_or_zero(self.height, self.kernel, self.stride, self.padding)
    }
    /// Q, the output's width.
    pub const fn output_width(&self) -> usize {
        output_side_or_zero(self.width, self.kernel, self.stride, self.padding)
    }
    /// Elements of x.
    pub const fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    /// Elements of y.
    pub const fn output_len(&self) -> usize {
        self.batch * self.output_height() * self.output_width() * self.filters
    }
    /// Elements of w.
    pub const fn weight_len(&self) -> usize {
        self.filters * self.window_len()
    }
    /// N·H·W.
    pub const fn input_pixels(&self) -> usize {
        self.batch * self.height * self.width
    }
    /// N·P·Q.
    pub const fn output_pixels(&self) -> usize {
        self.batch * self.output_height() * self.output_width()
    }
    /// C/groups, the channels that a filter sees. (No group counts as one, so that a check can report it.)
    pub const fn group_channels(&self) -> usize {
        self.channels / if self.groups == 0 { 1 } else { self.groups }
    }
    /// K/groups.
    pub const fn group_filters(&self) -> usize {
        self.filters / if self.groups == 0 { 1 } else { self.groups }
    }
    /// R·S·C/groups, the weights of a filter.
    pub const fn window_len(&self) -> usize {
        self.kernel * self.kernel * self.group_channels()
    }
    /// Multiply-adds of the forward pass, those with padding included.
    pub const fn multiply_adds(&self) -> u64 {
        self.output_len() as u64 * self.window_len() as u64
    }
}

/// Max pooling: x (N, H, W, C) gives y (N, P, Q, C); padding never wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPoolShape {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
    /// R = S, the side of the window; at most 16, so that a position in the window is one byte.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Padding on each side, at most half the window.
    pub padding: usize,
}

impl MaxPoolShape {
    /// P, the output's height.
    pub const fn output_height(&self) -> usize {
        output_side_or_zero(self.height, self.kernel, self.stride, self.padding)
    }
    /// Q, the output's width.
    pub const fn output_width(&self) -> usize {
        output_side_or_zero(self.width, self.kernel, self.stride, self.padding)
    }
    /// Elements of x.
    pub const fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    /// Elements of y.
    pub const fn output_len(&self) -> usize {
        self.batch * self.output_height() * self.output_width() * self.channels
    }
}

/// Adaptive average pooling: x (N, H, W, C) gives y (N, P, Q, C) for any H×W.
///
/// Output row p averages the rows ⌊p·H/P⌋ to ⌈(p+1)·H/P⌉, likewise the columns, as PyTorch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPoolShape {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
    /// P.
    pub output_height: usize,
    /// Q.
    pub output_width: usize,
}

impl AvgPoolShape {
    /// Elements of x.
    pub const fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    /// Elements of y.
    pub const fn output_len(&self) -> usize {
        self.batch * self.output_height * self.output_width * self.channels
    }
    /// The input rows (or columns) that output `index` of `outputs` averages over `inputs`.
    pub const fn window(index: usize, inputs: usize, outputs: usize) -> std::ops::Range<usize> {
        index * inputs / outputs..((index + 1) * inputs).div_ceil(outputs)
    }
}

/// Local response normalisation across channels, as `torch.nn.LocalResponseNorm` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnShape {
    /// N·H·W.
    pub pixels: usize,
    /// C.
    pub channels: usize,
    /// Channels in the window: from c − size/2 to c + (size − 1)/2.
    pub size: usize,
    /// α; divided by `size` in the formula.
    pub alpha: f64,
    /// β.
    pub beta: f64,
    /// k.
    pub k: f64,
}

impl LrnShape {
    /// Elements of x and of y.
    pub const fn len(&self) -> usize {
        self.pixels * self.channels
    }
    /// Whether x has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The channels whose squares count for channel `c`.
    pub const fn window(&self, c: usize) -> std::ops::Range<usize> {
        let end = c + (self.size - 1) / 2 + 1;
        c.saturating_sub(self.size / 2)..if end < self.channels { end } else { self.channels }
    }
}

/// Batch normalisation of each channel, as `torch.nn.BatchNorm2d` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormShape {
    /// N·H·W.
    pub rows: usize,
    /// C.
    pub channels: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
    /// Share of the batch's statistics in the new running ones; a batch of one row leaves them as they are.
    pub momentum: f64,
}

impl BatchNormShape {
    /// Elements of x and of y.
    pub const fn len(&self) -> usize {
        self.rows * self.channels
    }
    /// Whether x has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// rows/(rows − 1), which makes a biased variance unbiased.
    pub const fn unbiased(&self) -> f64 {
        if self.rows > 1 { self.rows as f64 / (self.rows - 1) as f64 } else { 1.0 }
    }
    /// The share by which this batch moves the running statistics: none for one row, which has no variance.
    pub const fn share(&self) -> f64 {
        if self.rows > 1 { self.momentum } else { 0.0 }
    }
}

/// Reordering between an image (N, H, W, C) and a row (N, C·H·W) in PyTorch's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlattenShape {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
}

impl FlattenShape {
    /// Elements on either side.
    pub const fn len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    /// Whether x has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Fully connected layer: x (N, I) with w (O, I) gives y (N, O) = x·wᵀ + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// N.
    pub batch: usize,
    /// I.
    pub inputs: usize,
    /// O.
    pub outputs: usize,
}

impl LinearShape {
    /// Elements of x.
    pub const fn input_len(&self) -> usize {
        self.batch * self.inputs
    }
    /// Elements of y.
    pub const fn output_len(&self) -> usize {
        self.batch * self.outputs
    }
    /// Elements of w.
    pub const fn weight_len(&self) -> usize {
        self.inputs * self.outputs
    }
    /// Multiply-adds of the forward pass.
    pub const fn multiply_adds(&self) -> u64 {
        self.weight_len() as u64 * self.batch as u64
    }
}

/// Softmax cross-entropy over logits (N, K), K classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossShape {
    /// N.
    pub batch: usize,
    /// K.
    pub classes: usize,
    /// ε: the target is 1 − ε + ε/K for the label and ε/K for the others.
    pub smoothing: f64,
    /// What the gradient is divided by: the images whose mean is the loss, which is N without
    /// gradient accumulation and more with it.
    pub divisor: usize,
}

/// How a batch is mixed: image n with image N − 1 − n. The middle one of an odd number stays as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// MixUp: x\[n\] becomes λ·x\[n\] + (1 − λ)·x\[N−1−n\], with 1 − λ rounded to f32.
    Blend {
        /// λ.
        weight: f32,
    },
    /// CutMix: x\[n\] becomes x\[N−1−n\] within a box of pixels; what of it lies outside the image does not count.
    Paste {
        /// First column.
        left: usize,
        /// First row.
        top: usize,
        /// The column after the last.
        right: usize,
        /// The row after the last.
        bottom: usize,
    },
}

/// Images (N, S, S, C) that are [mixed](Mix).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixShape {
    /// N.
    pub batch: usize,
    /// S.
    pub side: usize,
    /// C.
    pub channels: usize,
    /// MixUp or CutMix.
    pub mix: Mix,
}

impl MixShape {
    /// Elements of an image.
    pub const fn image(&self) -> usize {
        self.side * self.side * self.channels
    }
    /// Elements of x.
    pub const fn len(&self) -> usize {
        self.batch * self.image()
    }
    /// Whether x has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The box of a [`Mix::Paste`] within the image: first column and row, width, height.
    pub fn pasted(&self, [left, top, right, bottom]: [usize; 4]) -> [usize; 4] {
        let [left, top, right, bottom] = [left, top, right, bottom].map(|edge| edge.min(self.side));
        [left, top, right.saturating_sub(left), bottom.saturating_sub(top)]
    }
    /// The share of an image that stays its own: λ, or 1 − the box's share of the pixels.
    pub fn weight(&self) -> f32 {
        match self.mix {
            Mix::Blend { weight } => weight,
            Mix::Paste { left, top, right, bottom } => {
                let [_, _, width, height] = self.pasted([left, top, right, bottom]);
                (1.0 - (width * height) as f64 / (self.side * self.side) as f64) as f32
            }
        }
    }
}

/// One dropout mask: element i of the array is kept where the uniform number of element `offset + i` is ≥ rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutShape {
    /// Elements of the array.
    pub len: usize,
    /// The share that is set to zero, in [0, 1); the others are divided by 1 − rate.
    pub rate: f64,
    /// Generator of the run.
    pub philox: crate::random::Philox,
    /// The layer's purpose, see [`crate::random::purpose::dropout`].
    pub purpose: u32,
    /// The optimiser's step.
    pub step: u32,
    /// Elements of the same step that came before (earlier micro-batches).
    pub offset: u64,
}

impl DropoutShape {
    /// The factor of element `i`: 0 or 1/(1 − rate), decided in f32 so that every device agrees.
    #[inline]
    pub fn factor(&self, i: usize) -> f32 {
        let word = self.philox.word(self.purpose, self.step, self.offset + i as u64);
        if crate::random::uniform_f32(word) < self.rate as f32 { 0.0 } else { self.scale() }
    }
    /// 1/(1 − rate) in f32.
    #[inline]
    pub fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }
}

/// An image of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Its index in the data set.
    pub index: u32,
    /// How often it came before in the epoch, in a balanced one.
    pub repeat: u32,
}

impl Draw {
    /// The image at `index`, for the first time.
    pub const fn of(index: usize) -> Self {
        Self { index: index as u32, repeat: 0 }
    }
    /// What counts its random numbers: each time it is drawn it is transformed in another way. Bits 32 to 39 are left to
    /// the attempts and operations of one transformation.
    pub const fn element(self) -> u64 {
        self.index as u64 | (self.repeat as u64) << 40
    }
}

/// Augmentation of a batch of images in bytes; `reference::augment` of alexnet-core defines it bit for bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentShape {
    /// N, images in the batch.
    pub batch: usize,
    /// Images in the data set that the batch is drawn from; `None` if there are no others than the batch's own, in order.
    pub dataset: Option<usize>,
    /// S, the side of an image.
    pub side: usize,
    /// Black pixels on each side that a random crop may reach into.
    pub padding: usize,
    /// Generator of the run.
    pub philox: crate::random::Philox,
    /// The epoch.
    pub epoch: u32,
    /// Mirror at random.
    pub flip: bool,
    /// Operations of RandAugment after crop and flip; 0: none.
    pub operations: u32,
    /// Their magnitude, of [`MAGNITUDES`](RandAugmentStrengths::MAGNITUDES).
    pub magnitude: u32,
    /// Strength of the colour jitter.
    pub jitter: f32,
    /// Side of the square that is taken out.
    pub cutout: usize,
    /// Mean per channel.
    pub mean: [f32; 3],
    /// Standard deviation per channel.
    pub std: [f32; 3],
}

impl AugmentShape {
    /// Images of the batch's own that are only divided by 255: no augmentation, mean 0 and standard deviation 1.
    pub const fn plain(batch: usize, side: usize, philox: crate::random::Philox) -> Self {
        AugmentShape {
            batch,
            dataset: None,
            side,
            padding: 0,
            philox,
            epoch: 0,
            flip: false,
            operations: 0,
            magnitude: 0,
            jitter: 0.0,
            cutout: 0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }
    /// Bytes of the data set or of the batch's own images.
    pub fn images_len(&self) -> usize {
        self.dataset.unwrap_or(self.batch) * self.image_len()
    }
    /// Elements of an image.
    pub const fn image_len(&self) -> usize {
        self.side * self.side * 3
    }
    /// The smallest factor of the colour jitter, and how far the largest lies above it: a factor is uniform in
    /// \[max(0, 1 − jitter), 1 + jitter). Without jitter \[1, 0\].
    pub fn jitter_range(&self) -> [f32; 2] {
        jitter_range(self.jitter)
    }
}

/// How far RandAugment's operations go at a magnitude, with its sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandAugmentStrengths {
    /// Of a shear.
    pub shear: f64,
    /// Of a translation, in whole pixels.
    pub translation: f64,
    /// Of the angle of a rotation.
    pub sin: f64,
    /// Of the angle of a rotation.
    pub cos: f64,
    /// Weight of a pixel in a blend.
    pub own: f32,
    /// Weight of what it is blended with.
    pub other: f32,
    /// Lower bits that posterize clears.
    pub cleared: u32,
    /// Least value that solarize inverts.
    pub threshold: f32,
}

impl RandAugmentStrengths {
    /// The largest magnitude.
    pub const MAGNITUDES: u32 = 30;

    /// For images of side `side`.
    pub fn new(magnitude: u32, negative: bool, side: usize) -> Self {
        let of = |most: f32| if negative { -spaced(most, magnitude) } else { spaced(most, magnitude) };
        let (sin, cos) = f64::from(of(30.0)).to_radians().sin_cos();
        let blend = f64::from(of(0.9));
        Self {
            shear: f64::from(of(0.3)),
            translation: f64::from(of((150.0 / 331.0 * side as f64) as f32)).trunc(),
            sin,
            cos,
            own: (1.0 + blend) as f32,
            other: -blend as f32,
            cleared: (magnitude as f32 / 7.5).round() as u32,
            threshold: 255.0 - 8.5 * magnitude as f32,
        }
    }
}

/// Number `i` of 31 evenly from 0 to `most`, as `torch.linspace` computes it: the upper half from the end, and rounded once.
fn spaced(most: f32, i: u32) -> f32 {
    let steps = |count: u32| f64::from(most / 30.0) * f64::from(count);
    (if i < 15 { steps(i) } else { f64::from(most) - steps(RandAugmentStrengths::MAGNITUDES.saturating_sub(i)) }) as f32
}

/// See [`AugmentShape::jitter_range`].
pub fn jitter_range(strength: f32) -> [f32; 2] {
    let low = (1.0 - strength).max(0.0);
    [low, if strength > 0.0 { 1.0 + strength - low } else { 0.0 }]
}

/// What one layer runs: an operator with its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Convolution.
    Conv(ConvShape),
    /// ReLU, in place.
    Relu {
        /// Elements.
        len: usize,
    },
    /// Max pooling.
    MaxPool(MaxPoolShape),
    /// Adaptive average pooling.
    AvgPool(AvgPoolShape),
    /// Local response normalisation.
    Lrn(LrnShape),
    /// Batch normalisation.
    BatchNorm(BatchNormShape),
    /// The end of a shortcut, in place.
    Add {
        /// Elements.
        len: usize,
    },
    /// Dropout, in place; its mask depends on the step.
    Dropout {
        /// Share set to zero.
        rate: f64,
    },
    /// Reordering to rows.
    Flatten(FlattenShape),
    /// Fully connected layer.
    Linear(LinearShape),
}
