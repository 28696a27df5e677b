//! The arguments of every operator: one struct each, with the length that the shape asks of each array.
//!
//! A struct is generic over the device that owns the arrays ([`Arrays`]). Its `view` turns it into the same arguments
//! for another owner and checks the lengths on the way; this is the one place that knows them. In the names of gradients
//! `dy` is dL/dy; `accumulate` adds to dw and db instead of replacing them.

use crate::shape::{
    AugmentShape, AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape,
    LrnShape, MaxPoolShape, MixShape,
};
use crate::{Result, expect_labels, front, front_mut};

/// Who owns the arrays that an operator is given.
pub trait Arrays: Sized {
    /// Activations, parameters and their gradients.
    type Buffer: ?Sized;
    /// Bytes: the positions of max pooling, images.
    type Bytes: ?Sized;
    /// Unsigned 32-bit numbers: labels, which images of an epoch a batch has.
    type Labels: ?Sized;
}

/// Plain slices, for code on the host.
#[derive(Clone, Copy, Debug)]
pub struct Slices<T>(std::marker::PhantomData<T>);

impl<T> Arrays for Slices<T> {
    type Buffer = [T];
    type Bytes = [u8];
    type Labels = [u32];
}

/// An argument of an operator, and how many elements the shape asks for.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Name of the operator, such as `conv_forward`.
    pub operator: &'static str,
    /// Name of the argument, such as `x`.
    pub name: &'static str,
    /// Elements at least.
    pub len: usize,
}

/// The buffer of an owner of arrays.
pub type BufferOf<A> = <A as Arrays>::Buffer;
/// The bytes of an owner of arrays.
pub type BytesOf<A> = <A as Arrays>::Bytes;
/// The labels of an owner of arrays.
pub type LabelsOf<A> = <A as Arrays>::Labels;

/// Turns the arrays of `A` into those of another owner, and refuses those that do not fit: one method per kind of array.
pub trait View<A: Arrays> {
    /// The other owner.
    type To: Arrays;
    /// What is wrong with an array.
    type Error;
    /// Activations, in the precision of the device.
    fn stored<'a>(&self, argument: Argument, array: &'a BufferOf<A>) -> Result<&'a BufferOf<Self::To>, Self::Error>;
    /// Activations, if there are any.
    fn stored_option<'a>(
        &self,
        argument: Argument,
        array: Option<&'a BufferOf<A>>,
    ) -> Result<Option<&'a BufferOf<Self::To>>, Self::Error> {
        array.map(|array| self.stored(argument, array)).transpose()
    }
    /// Activations that are written.
    fn stored_mut<'a>(
        &self,
        argument: Argument,
        array: &'a mut BufferOf<A>,
    ) -> Result<&'a mut BufferOf<Self::To>, Self::Error>;
    /// Numbers that are f32 at every precision.
    fn float<'a>(&self, argument: Argument, array: &'a BufferOf<A>) -> Result<&'a BufferOf<Self::To>, Self::Error> {
        self.stored(argument, array)
    }
    /// Numbers that are f32 at every precision and are written.
    fn float_mut<'a>(
        &self,
        argument: Argument,
        array: &'a mut BufferOf<A>,
    ) -> Result<&'a mut BufferOf<Self::To>, Self::Error> {
        self.stored_mut(argument, array)
    }
    /// Bytes.
    fn bytes<'a>(&self, argument: Argument, array: &'a BytesOf<A>) -> Result<&'a BytesOf<Self::To>, Self::Error>;
    /// Bytes that are written.
    fn bytes_mut<'a>(
        &self,
        argument: Argument,
        array: &'a mut BytesOf<A>,
    ) -> Result<&'a mut BytesOf<Self::To>, Self::Error>;
    /// Labels or indices.
    fn labels<'a>(&self, argument: Argument, array: &'a LabelsOf<A>) -> Result<&'a LabelsOf<Self::To>, Self::Error>;
}

/// Views arrays that are slices as slices of exactly the length that the shape asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fronts<T>(std::marker::PhantomData<T>);

impl<T> Fronts<T> {
    /// The view.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T, A: Arrays> View<A> for Fronts<T>
where
    A::Buffer: AsRef<[T]> + AsMut<[T]>,
    A::Bytes: AsRef<[u8]> + AsMut<[u8]>,
    A::Labels: AsRef<[u32]>,
{
    type To = Slices<T>;
    type Error = crate::Error;
    fn stored<'a>(&self, a: Argument, array: &'a A::Buffer) -> Result<&'a [T]> {
        front(a.operator, a.name, array.as_ref(), a.len)
    }
    fn stored_mut<'a>(&self, a: Argument, array: &'a mut A::Buffer) -> Result<&'a mut [T]> {
        front_mut(a.operator, a.name, array.as_mut(), a.len)
    }
    fn bytes<'a>(&self, a: Argument, array: &'a A::Bytes) -> Result<&'a [u8]> {
        front(a.operator, a.name, array.as_ref(), a.len)
    }
    fn bytes_mut<'a>(&self, a: Argument, array: &'a mut A::Bytes) -> Result<&'a mut [u8]> {
        front_mut(a.operator, a.name, array.as_mut(), a.len)
    }
    fn labels<'a>(&self, a: Argument, array: &'a A::Labels) -> Result<&'a [u32]> {
        front(a.operator, a.name, array.as_ref(), a.len)
    }
}

/// One struct per operator: `Struct = name { switches } { arrays }`.
///
/// An array is given as its kind, which is a method of [`View`], and its least length in terms of the switches.
macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident = $operator:ident
        { $($switch:ident: $type:ty),* } { $($array:ident: $kind:ident[$len:expr]),* }
    )*) => {$(
        $(#[$doc])*
        pub struct $name<'a, A: Arrays> {
            $(#[doc = arguments!(@doc $switch)] pub $switch: $type,)*
            $(
                #[doc = concat!("Kind `", stringify!($kind), "`, at least `", stringify!($len), "` elements.")]
                pub $array: arguments!(@type 'a, A, $kind),
            )*
        }

        impl<'a, A: Arrays> $name<'a, A> {
            /// Name of the operator.
            pub const NAME: &'static str = stringify!($operator);

            /// The same arguments for another owner of the arrays; this checks the lengths.
            ///
            /// # Errors
            /// An array that is too short, or that `view` refuses.
            pub fn view<V: View<A>>(self, view: &V) -> Result<$name<'a, V::To>, V::Error> {
                let Self { $($switch,)* $($array),* } = self;
                $(
                    let argument = Argument { operator: stringify!($operator), name: stringify!($array), len: $len };
                    let $array = view.$kind(argument, $array)?;
                )*
                Ok($name { $($switch,)* $($array),* })
            }
        }
    )*};
    // The same, and the list of them as the macro `$list`.
    ($d:tt $list:ident: $(
        $(#[$doc:meta])* $name:ident = $operator:ident $switches:tt $arrays:tt
    )*) => {
        arguments! { $($(#[$doc])* $name = $operator $switches $arrays)* }

        /// Calls the macro `$then` with `method(Arguments);` for each operator that every device has.
        #[macro_export]
        macro_rules! $list {
            ($d then:ident) => { $d then! { $($operator($name);)* } };
        }
    };
    (@type $a:lifetime, $owner:ident, stored) => { &$a $owner::Buffer };
    (@type $a:lifetime, $owner:ident, stored_option) => { Option<&$a $owner::Buffer> };
    (@type $a:lifetime, $owner:ident, stored_mut) => { &$a mut $owner::Buffer };
    (@type $a:lifetime, $owner:ident, float) => { &$a $owner::Buffer };
    (@type $a:lifetime, $owner:ident, float_mut) => { &$a mut $owner::Buffer };
    (@type $a:lifetime, $owner:ident, bytes) => { &$a $owner::Bytes };
    (@type $a:lifetime, $owner:ident, bytes_mut) => { &$a mut $owner::Bytes };
    (@type $a:lifetime, $owner:ident, labels) => { &$a $owner::Labels };
    (@doc shape) => { "Shape." };
    (@doc len) => { "The operator works on so many elements, from the first." };
    (@doc relu) => { "Whether ReLU follows." };
    (@doc dropout) => { "Whether dropout follows, of the output's length." };
    (@doc masks) => { "Whether x is the output of a ReLU, whose backward pass follows: dx = 0 where x ≤ 0." };
    (@doc accumulate) => { "Whether dw and db are added to what is there." };
    (@doc test) => { "Whether a device that scales the loss leaves the step out if dw or db is not finite; not with `accumulate`." };
}

arguments! {
    /// [`ConvBackwardWeight`] and [`ConvBackwardData`] in one, with the same results.
    ConvBackward = conv_backward { shape: &'a ConvShape, accumulate: bool, test: bool, masks: bool } {
        x: stored[shape.input_len()], w: stored[shape.weight_len()], dy: stored[shape.output_len()],
        dw: float_mut[shape.weight_len()], db: float_mut[shape.filters], dx: stored_mut[shape.input_len()]
    }
}

arguments! { $ for_each_operator:
    /// y = x ⋆ w + b, then max(y, 0) if `relu`.
    ///
    /// y\[n,p,q,k\] = b\[k\] + Σ over c, r, s of x\[n, p·stride + r − padding, q·stride + s − padding, c\] · w\[k,c,r,s\].
    ConvForward = conv_forward { shape: &'a ConvShape, relu: bool } {
        x: stored[shape.input_len()], w: stored[shape.weight_len()], b: float[shape.filters],
        y: stored_mut[shape.output_len()]
    }
    /// dx\[n,h,w,c\] = Σ over k, r, s of dy\[n,p,q,k\] · w\[k,c,r,s\] where (p, q) and (r, s) meet (h, w); 0 where `mask`,
    /// the x that a ReLU put out, is ≤ 0: its backward pass.
    ConvBackwardData = conv_backward_data { shape: &'a ConvShape } {
        dy: stored[shape.output_len()], w: stored[shape.weight_len()], mask: stored_option[shape.input_len()],
        dx: stored_mut[shape.input_len()]
    }
    /// dw\[k,c,r,s\] = Σ over n, p, q of dy\[n,p,q,k\] · x\[n, p·stride + r − padding, …, c\]; db\[k\] = Σ dy\[n,p,q,k\].
    ConvBackwardWeight = conv_backward_weight { shape: &'a ConvShape, accumulate: bool, test: bool } {
        x: stored[shape.input_len()], dy: stored[shape.output_len()],
        dw: float_mut[shape.weight_len()], db: float_mut[shape.filters]
    }
    /// x = max(x, 0).
    ReluForward = relu_forward { len: usize } { x: stored_mut[len] }
    /// dy = 0 where y ≤ 0; y is the output of the forward pass.
    ReluBackward = relu_backward { len: usize } { y: stored[len], dy: stored_mut[len] }
    /// y = y + x, then max(y, 0) if `relu`: the end of a shortcut, and the sum of its gradients.
    Add = add { len: usize, relu: bool } { x: stored[len], y: stored_mut[len] }
    /// y = the largest x in each window; `argmax` = its position r·R + s in the window, the first of equals in row order.
    /// A NaN counts as the largest, as in PyTorch.
    MaxPoolForward = maxpool_forward { shape: &'a MaxPoolShape } {
        x: stored[shape.input_len()], y: stored_mut[shape.output_len()], argmax: bytes_mut[shape.output_len()]
    }
    /// dx = Σ of the dy whose window's largest element x was; written as a gather, zeros included. dy counts as 0 where
    /// `mask`, the output y, is ≤ 0: the backward pass of a ReLU before the pool, which passes gradients to the largest only.
    MaxPoolBackward = maxpool_backward { shape: &'a MaxPoolShape } {
        dy: stored[shape.output_len()], argmax: bytes[shape.output_len()], mask: stored_option[shape.output_len()],
        dx: stored_mut[shape.input_len()]
    }
    /// y = the mean of x over each window of [`AvgPoolShape::window`].
    AvgPoolForward = avgpool_forward { shape: &'a AvgPoolShape } {
        x: stored[shape.input_len()], y: stored_mut[shape.output_len()]
    }
    /// dx = Σ of dy / window size over the windows that hold x.
    AvgPoolBackward = avgpool_backward { shape: &'a AvgPoolShape } {
        dy: stored[shape.output_len()], dx: stored_mut[shape.input_len()]
    }
    /// y = x · (k + α/size · Σ x²)^−β over the window of channels.
    LrnForward = lrn_forward { shape: &'a LrnShape } { x: stored[shape.len()], y: stored_mut[shape.len()] }
    /// dx\[c\] = dy\[c\]·s\[c\]^−β − 2αβ/size · x\[c\] · Σ over c' whose window holds c of dy\[c'\]·x\[c'\]·s\[c'\]^(−β−1),
    /// where s = k + α/size · Σ x².
    LrnBackward = lrn_backward { shape: &'a LrnShape } {
        x: stored[shape.len()], dy: stored[shape.len()], dx: stored_mut[shape.len()]
    }
    /// y = w·(x − μ)/√(σ²+ε) + b with the mean μ and the biased variance σ² of each channel's rows, then max(y, 0) if
    /// `relu`. `statistics` (2, C) = μ and 1/√(σ²+ε), for the backward pass; the running mean and variance move by
    /// `momentum` towards μ and the unbiased variance, and with a momentum of 1 become these.
    BatchNormForward = batchnorm_forward { shape: &'a BatchNormShape, relu: bool } {
        x: stored[shape.len()], w: float[shape.channels], b: float[shape.channels],
        running_mean: float_mut[shape.channels], running_variance: float_mut[shape.channels],
        statistics: float_mut[2 * shape.channels], y: stored_mut[shape.len()]
    }
    /// With x̂ = (x − μ)/√(σ²+ε): dw = Σ dy·x̂; db = Σ dy; dx = w/√(σ²+ε) · (dy − mean(dy) − x̂·mean(dy·x̂)).
    BatchNormBackward = batchnorm_backward { shape: &'a BatchNormShape, accumulate: bool } {
        x: stored[shape.len()], dy: stored[shape.len()], w: float[shape.channels],
        statistics: float[2 * shape.channels], dw: float_mut[shape.channels], db: float_mut[shape.channels],
        dx: stored_mut[shape.len()]
    }
    /// `moments` (2, C) = the mean and the biased variance of each channel's rows: what parts of a batch contribute to the statistics
    /// of the whole.
    BatchNormMoments = batchnorm_moments { shape: &'a BatchNormShape } {
        x: stored[shape.len()], moments: float_mut[2 * shape.channels]
    }
    /// The sums of [`BatchNormBackward`] over the rows that are given, with `statistics` that may be those of more rows: dw = Σ dy·x̂;
    /// db = Σ dy.
    BatchNormBackwardWeight = batchnorm_backward_weight { shape: &'a BatchNormShape, accumulate: bool } {
        x: stored[shape.len()], dy: stored[shape.len()], statistics: float[2 * shape.channels],
        dw: float_mut[shape.channels], db: float_mut[shape.channels]
    }
    /// dx = w/√(σ²+ε) · (dy − m − (x − μ)·s), with `statistics` μ and 1/√(σ²+ε), and `factors` (2, C) m = mean(dy) and
    /// s = mean(dy·x̂)/√(σ²+ε), all over the rows of the whole batch: the dx of [`BatchNormBackward`].
    BatchNormBackwardData = batchnorm_backward_data { shape: &'a BatchNormShape } {
        x: stored[shape.len()], dy: stored[shape.len()], w: float[shape.channels],
        statistics: float[2 * shape.channels], factors: float[2 * shape.channels], dx: stored_mut[shape.len()]
    }
    /// y = w·(x − mean)/√(variance+ε) + b with statistics that are given, then max(y, 0) if `relu`.
    BatchNormInference = batchnorm_inference { shape: &'a BatchNormShape, relu: bool } {
        x: stored[shape.len()], w: float[shape.channels], b: float[shape.channels], mean: float[shape.channels],
        variance: float[shape.channels], y: stored_mut[shape.len()]
    }
    /// dx = dy·w/√(variance+ε): the backward pass of a layer that is frozen, whose statistics are given.
    BatchNormInferenceBackward = batchnorm_inference_backward { shape: &'a BatchNormShape } {
        dy: stored[shape.len()], w: float[shape.channels], variance: float[shape.channels],
        dx: stored_mut[shape.len()]
    }
    /// x = x · factor, see [`DropoutShape::factor`]; the backward pass is the same operator on dy.
    Dropout = dropout { shape: &'a DropoutShape } { x: stored_mut[shape.len] }
    /// y (N, C·H·W) = x (N, H, W, C) reordered.
    FlattenForward = flatten_forward { shape: &'a FlattenShape } { x: stored[shape.len()], y: stored_mut[shape.len()] }
    /// dx (N, H, W, C) = dy (N, C·H·W) reordered.
    FlattenBackward = flatten_backward { shape: &'a FlattenShape } {
        dy: stored[shape.len()], dx: stored_mut[shape.len()]
    }
    /// y = x·wᵀ + b, then max(y, 0) if `relu`, then [`Dropout`] if `dropout`.
    LinearForward = linear_forward { shape: &'a LinearShape, relu: bool, dropout: Option<&'a DropoutShape> } {
        x: stored[shape.input_len()], w: stored[shape.weight_len()], b: float[shape.outputs],
        y: stored_mut[shape.output_len()]
    }
    /// dx = dy·w, then [`Dropout`] if `dropout`, then 0 where `mask` is ≤ 0: the backward passes of a ReLU, which put out
    /// `mask`, and the dropout after it.
    LinearBackwardData = linear_backward_data { shape: &'a LinearShape, dropout: Option<&'a DropoutShape> } {
        dy: stored[shape.output_len()], w: stored[shape.weight_len()], mask: stored_option[shape.input_len()],
        dx: stored_mut[shape.input_len()]
    }
    /// dw = dyᵀ·x; db = Σ over n of dy.
    LinearBackwardWeight = linear_backward_weight { shape: &'a LinearShape, accumulate: bool } {
        x: stored[shape.input_len()], dy: stored[shape.output_len()],
        dw: float_mut[shape.weight_len()], db: float_mut[shape.outputs]
    }
    /// Mixes the images x of a batch in pairs, see [`Mix`](crate::shape::Mix).
    MixPairs = mix { shape: &'a MixShape } { x: stored_mut[shape.len()] }
    /// Transformed and normalised batches: out (N, S, S, 3) from those of `images` (·, S, S, 3) that `draws` (N, 2) names,
    /// each a [`Draw`](crate::shape::Draw)'s index and repeat, or from the batch's own images.
    Augment = augment { shape: &'a AugmentShape } {
        images: bytes[shape.images_len()], draws: labels[2 * shape.batch],
        out: stored_mut[shape.batch * shape.image_len()]
    }
}

/// `losses`\[n\] = −Σ target·ln softmax(logits\[n\]); `correct`\[n\] = 1 if the first largest logit is the label's, else 0;
/// `dlogits` = (softmax − target) / divisor, if asked for.
///
/// With `class_weights` w each class's term has its weight: `losses`\[n\] = −Σ w·target·ln softmax, `dlogits` = (softmax·Σ
/// w·target − w·target) / divisor. This is PyTorch's `CrossEntropyLoss(weight=w, reduction="none")` for targets that are
/// probabilities, and for class indices; PyTorch's mean over class indices divides by Σ w\[label\] instead of the divisor.
///
/// With `second` labels and their λ, the first number of an array, the target is λ times that of the labels and 1 − λ
/// times that of the second ones; `correct` counts the label with the larger share, the first of equals.
pub struct SoftmaxCrossEntropy<'a, A: Arrays> {
    /// Shape.
    pub shape: &'a LossShape,
    /// (N, K).
    pub logits: &'a A::Buffer,
    /// (N), each below K.
    pub labels: &'a A::Labels,
    /// The labels of the images that were mixed in, and λ.
    pub second: Option<(&'a A::Labels, &'a A::Buffer)>,
    /// (K), one weight per class; all 1 if `None`.
    pub class_weights: Option<&'a A::Buffer>,
    /// (N).
    pub losses: &'a mut A::Buffer,
    /// (N).
    pub correct: &'a mut A::Buffer,
    /// (N, K).
    pub dlogits: Option<&'a mut A::Buffer>,
}

impl<'a, A: Arrays> SoftmaxCrossEntropy<'a, A> {
    /// Name of the operator.
    pub const NAME: &'static str = "softmax_cross_entropy";

    /// The same arguments for another owner of the arrays; this checks the lengths, not the labels.
    ///
    /// # Errors
    /// An array that is too short, or that `view` refuses.
    pub fn view<V: View<A>>(self, view: &V) -> Result<SoftmaxCrossEntropy<'a, V::To>, V::Error> {
        let argument = |name, len| Argument { operator: Self::NAME, name, len };
        let (batch, all) = (self.shape.batch, self.shape.batch * self.shape.classes);
        let second = match self.second {
            Some((labels, weight)) => Some((
                view.labels(argument("second labels", batch), labels)?,
                view.float(argument("weight", 1), weight)?,
            )),
            None => None,
        };
        Ok(SoftmaxCrossEntropy {
            shape: self.shape,
            logits: view.stored(argument("logits", all), self.logits)?,
            labels: view.labels(argument("labels", batch), self.labels)?,
            second,
            class_weights: self
                .class_weights
                .map(|weights| view.float(argument("class weights", self.shape.classes), weights))
                .transpose()?,
            losses: view.float_mut(argument("losses", batch), self.losses)?,
            correct: view.float_mut(argument("correct", batch), self.correct)?,
            dlogits: self.dlogits.map(|dlogits| view.stored_mut(argument("dlogits", all), dlogits)).transpose()?,
        })
    }
}

impl<T> SoftmaxCrossEntropy<'_, Slices<T>> {
    /// Checks that every label is a class.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_labels(&self) -> Result<()> {
        let (batch, classes) = (self.shape.batch, self.shape.classes);
        expect_labels(&self.labels[..batch], classes)?;
        self.second.map_or(Ok(()), |(labels, _)| expect_labels(&labels[..batch], classes))
    }
}
